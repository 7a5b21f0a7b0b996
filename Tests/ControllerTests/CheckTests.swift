import Foundation
import Testing

@testable import Controller
@testable import Verifier

/// `ubpfrun check` and `explain`, and what a refused program does to a run.
@Suite(.enabled(if: Files.shared != nil, "dist/ has not been built: make build"))
struct CheckTests {
    private func files() throws -> Files { try #require(Files.shared) }

    private func check(_ arguments: String...) throws -> (output: String, errors: String, status: Int32) {
        let files = try files()
        return try files.run(["check"] + arguments.map { $0.replacing("@", with: files.directory) })
    }

    private func object(_ text: String) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }

    @Test func aLineForEachProgram() throws {
        let result = try check("@/mixed.bpf.c")
        #expect(result.status == 65)
        #expect(result.errors == "")
        #expect(result.output.contains("on_malloc  REJECTED  [V012]"))
        #expect(result.output.contains("good       accepted  "))
        #expect(result.output.contains("elsewhere  not checked: programs of type lsm cannot be verified here"))
        #expect(result.output.hasSuffix("mixed.bpf.c: 2 accepted, 1 rejected, 1 not checked\n"))
        for part in [
            "error[V012]: pointer may be NULL: Memory safety\n", "mixed.bpf.c:11:8   in on_malloc, insn 7\n",
            "10 |     long *v = bpf_map_lookup_elem(&counts, &key);\n",
            "   |               ---------------------------------- r0 was made here: a pointer to a value of 'counts' or NULL\n",
            "11 |     *v += 1;\n   |        ^ r0 is", "Suggestion: if (!v) return 0;",
        ] {
            #expect(result.output.contains(part), "\(part) in \(result.output)")
        }
    }

    @Test func onlyTheProgramsThatAreNamed() throws {
        let good = try check("@/mixed.bpf.c", "--prog", "good", "--prog", "elsewhere")
        #expect(good.status == 0)
        #expect(good.output.hasSuffix("1 accepted, 0 rejected, 1 not checked\n"))
        let unknown = try check("@/mixed.bpf.c", "--prog", "goood")
        #expect(unknown.status == 64)
        #expect(unknown.errors.contains("error[U220]") && unknown.errors.contains("did you mean 'good'?"))
        #expect(try check("memleak").status == 0)
        #expect(try check("@/mixed.bpf.c", "-f", "xml").errors.contains("text, json or sarif"))
    }

    @Test func strictLeaks() throws {
        #expect(try check("@/mixed.bpf.c", "--prog", "leaks").status == 0)
        let strict = try check("@/mixed.bpf.c", "--prog", "leaks", "--strict-leaks")
        #expect(strict.status == 65)
        #expect(strict.output.contains("[\(Rule.leak.code)]"))
    }

    @Test func theWalk() throws {
        let result = try check("@/mixed.bpf.c", "--prog", "good", "-v")
        #expect(
            result.output.contains("6: call bpf_map_lookup_elem#1  ; r0 = a pointer to a value of 'counts' or NULL")
        )
        #expect(result.output.contains("the path ends"))
        #expect(result.output.split(separator: "\n").count(where: { $0.contains("path, frame 0:") }) == 2)
    }

    @Test func asJSON() throws {
        let result = try check("@/mixed.bpf.c", "--format", "json")
        #expect(result.status == 65)
        let root = try object(result.output)
        #expect(root["schema"] as? Int == 1)
        #expect(
            [root["accepted"], root["rejected"], root["not_checked"]].map { $0 as? Int } == [2, 1, 1]
        )
        let programs = try #require(root["programs"] as? [[String: Any]])
        #expect(programs.map { $0["name"] as? String } == ["on_malloc", "good", "leaks", "elsewhere"])
        #expect(programs.map { $0["verdict"] as? String } == ["rejected", "accepted", "accepted", "not checked"])
        for program in programs { #expect(program["usec"] is Int && program["section"] is String) }
        #expect((programs[1]["processed"] as? Int ?? 0) > 5)
        #expect(programs[1]["states"] is Int && programs[1]["stack"] as? Int == 16)
        let error = try #require(programs[0]["error"] as? [String: Any])
        #expect(error["code"] as? String == "V012")
        #expect(error["category"] as? String == "Memory safety")
        #expect(error["kernel_says"] as? String == "R0 invalid mem access 'map_value_or_null'")
        let primary = try #require(error["primary"] as? [String: Any])
        #expect(primary["line"] as? Int == 11 && primary["column"] as? Int == 8 && primary["insn"] as? Int == 7)
        #expect((error["secondary"] as? [[String: Any]])?.first?["line"] as? Int == 10)
    }

    /// Fields that SARIF 2.1.0 requires, and what refers to what.
    @Test func asSARIF() throws {
        let result = try check("@/mixed.bpf.c", "--format", "sarif")
        let root = try object(result.output)
        #expect(root["version"] as? String == "2.1.0")
        let run = try #require((root["runs"] as? [[String: Any]])?.first)
        let driver = try #require((run["tool"] as? [String: Any])?["driver"] as? [String: Any])
        #expect(driver["name"] as? String == "ubpfrun")
        let rules = try #require(driver["rules"] as? [[String: Any]])
        let ids = rules.compactMap { $0["id"] as? String }
        #expect(ids.count == Rule.allCases.count && Set(ids).count == ids.count)
        for rule in rules {
            for text in ["shortDescription", "fullDescription", "help"] {
                #expect((rule[text] as? [String: Any])?["text"] is String)
            }
        }
        let results = try #require(run["results"] as? [[String: Any]])
        #expect(results.count == 1)
        for result in results {
            let index = try #require(result["ruleIndex"] as? Int)
            #expect(result["ruleId"] as? String == ids[index])
            #expect(result["level"] as? String == "error")
            #expect((result["message"] as? [String: Any])?["text"] is String)
            let locations = try #require(result["locations"] as? [[String: Any]])
            let related = try #require(result["relatedLocations"] as? [[String: Any]])
            for location in locations + related {
                let place = try #require(location["physicalLocation"] as? [String: Any])
                let uri = try #require((place["artifactLocation"] as? [String: Any])?["uri"] as? String)
                #expect(URL(string: uri)?.lastPathComponent == "mixed.bpf.c")
                let region = try #require(place["region"] as? [String: Any])
                #expect((region["startLine"] as? Int ?? 0) >= 1 && (region["startColumn"] as? Int ?? 0) >= 1)
            }
            for location in related { #expect((location["message"] as? [String: Any])?["text"] is String) }
        }
    }

    @Test(.enabled(if: geteuid() == 0, "loading programs takes root"))
    func besideTheKernel() throws {
        let result = try check("@/mixed.bpf.c", "--kernel")
        #expect(result.output.contains("kernel: rejected: R0 invalid mem access 'map_value_or_null'\n"))
        #expect(result.output.contains("kernel: accepted\n"))
        #expect(!result.output.contains("differs"))
        let helper = try check("@/helper.bpf.c", "--kernel")
        #expect(helper.output.contains("error[U303]"))
    }

    @Test(.enabled(if: geteuid() != 0, "root may ask the kernel"))
    func theKernelNeedsRoot() throws {
        let result = try check("@/mixed.bpf.c", "--kernel")
        #expect(result.status == 77)
        #expect(result.errors.contains("error[U101]: --kernel needs root"))
    }

    @Test func explain() throws {
        let rule = try files().run(["explain", "v012"])
        #expect(rule.status == 0)
        #expect(rule.output.hasPrefix("V012: pointer may be NULL (Memory safety)\n"))
        #expect(try files().run(["explain", "U303"]).output.contains("exit code 65"))
        let unknown = try files().run(["explain", "W1"])
        #expect(unknown.status == 64)
        #expect(unknown.errors.contains("error[U002]: there is no code 'W1'"))
    }

    // MARK: - Runs

    @Test func aRefusedProgramDoesNotRun() throws {
        let files = try files()
        let result = try files.run([files.directory + "/refused.bpf.c", "--", files.directory + "/leak"])
        #expect(result.status == 65)
        #expect(result.output == "")
        #expect(result.errors.hasPrefix("error[V012]: pointer may be NULL: Memory safety\n"))
        #expect(result.errors.contains("Suggestion: if (!v) return 0;"))
        let json = try files.run([files.directory + "/refused.bpf.c", "-j", "--", files.directory + "/leak"])
        let record = try object(json.output)
        #expect(record["type"] as? String == "error")
        #expect((record["data"] as? [String: Any])?["rule"] as? String == "V012")
    }

    /// It runs as checked code, which says so and stops it where it goes wrong.
    @Test(arguments: [(["--no-verify"], [:]), ([], ["UBPF_NO_VERIFY": "1"])])
    func withoutVerifier(_ options: [String], _ environment: [String: String]) throws {
        let files = try files()
        let result = try files.run(
            [files.directory + "/refused.bpf.c"] + options + ["--", files.directory + "/leak"],
            environment
        )
        #expect(result.status == 3)
        #expect(result.errors.contains("warning[U323]: --no-verify: 1 program would have been refused"))
        #expect(result.errors.contains("'on_malloc': [V012]"))
        #expect(result.errors.contains("warning[U505]: program 'on_malloc' was stopped"))
    }

    @Test func structuralRulesHoldWithoutVerifier() throws {
        let files = try files()
        let result = try files.run([files.directory + "/helper.bpf.c", "--no-verify", "--", files.directory + "/leak"])
        #expect(result.status == 65)
        #expect(result.errors.contains("error[U303]"))
        let good = try files.run(["malloccount", "--no-verify", "--", files.directory + "/leak"])
        #expect(good.status == 3)
        #expect(good.errors.contains("the verifier would have accepted every program"))
    }
}
