import Foundation
import Testing

/// Whole runs of the built ubpfrun on small programs.
@Suite(.enabled(if: Files.shared != nil, "dist/ has not been built: make build"))
struct RunTests {
    private func files() throws -> Files { try #require(Files.shared) }

    private func records(_ text: String) throws -> [[String: Any]] {
        try text.split(separator: "\n").map { line in
            try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any], "\(line)")
        }
    }

    @Test(arguments: [("exit 7", 7), ("kill -9 $$", 137), ("true", 0)])
    func theCommandsOwnExitCode(_ script: String, _ status: Int32) throws {
        let result = try files().run(["memleak", "-q", "-o", "/dev/null", "--", "sh", "-c", script])
        #expect(result.status == status)
        #expect(result.errors == "")
        #expect(result.output == "")
    }

    @Test func exactLeaksAsRecords() throws {
        let files = try files()
        let result = try files.run(["memleak", "-f", "json", "--", files.directory + "/leak"])
        #expect(result.status == 3)
        let records = try records(result.output)
        #expect(records.map { $0["type"] as? String } == ["meta", "attached_probes", "leak", "total", "stats"])
        let leak = try #require(records[2]["data"] as? [String: Any])
        #expect(leak["bytes"] as? Int == 4800)
        #expect(leak["count"] as? Int == 100)
        let stack = try #require(leak["stack"] as? [[String: Any]])
        #expect(stack.prefix(2).map { $0["sym"] as? String } == ["lose", "main"])
        #expect(stack.first?["line"] as? Int == 3)
        #expect((stack.first?["addr"] as? String)?.hasPrefix("0x") == true)
    }

    @Test func withoutTypingUbpfrun() throws {
        let files = try files()
        let library = files.program.replacing("bin/ubpfrun", with: "lib/libubpf.so")
        let result = try files.run(
            [],
            ["UBPF_PROG": "memleak", "UBPF_ARGS": "-f json -q", "LD_PRELOAD": library],
            program: files.directory + "/leak"
        )
        #expect(result.status == 3)
        let leak = try #require(
            try records(result.output).first { $0["type"] as? String == "leak" }?["data"] as? [String: Any]
        )
        #expect(leak["bytes"] as? Int == 4800)
    }

    @Test func theEnvironmentIsTheCallers() throws {
        let result = try files().run(["memleak", "-q", "-o", "/dev/null", "--", "env"], ["UBPF_FORMAT": "text"])
        #expect(!result.output.contains("UBPF_"))
        #expect(!result.output.contains("libubpf"))
        #expect(result.output.contains("PATH="))
    }

    @Test func aFullMapIsSaid() throws {
        let files = try files()
        let result = try files.run(["memleak", "--set", "allocs.max_entries=10", "--", files.directory + "/leak"])
        #expect(result.errors.contains("warning[U502]: map 'allocs' is full (10): 90 allocations not recorded"))
        #expect(result.output.contains("480 bytes in 10 allocations"))
    }

    /// `Process.waitUntilExit` also waits for descendants that inherited its descriptors.
    private func waitForEnd(_ process: Process) {
        let path = "/proc/\(process.processIdentifier)/stat"
        for _ in 0..<1000 {
            guard let text = try? String(contentsOfFile: path, encoding: .utf8), !text.contains(") Z ") else { return }
            usleep(10_000)
        }
    }

    @Test func aSecondSignalEndsWithoutOne() throws {
        let files = try files()
        let result = try files.run(["memleak", "--", "sleep", "3"]) { process in
            usleep(500_000)
            kill(process.processIdentifier, SIGINT)
            usleep(50_000)
            kill(process.processIdentifier, SIGINT)
        }
        #expect(result.status == 0)
        #expect(result.output == "")
    }

    @Test func intervalsAndCount() throws {
        // The program goes on and keeps our pipe open; ubpfrun itself must not.
        let began = Date()
        var took = 0.0
        let result = try files().run(["malloccount", "-i", "0.2", "-n", "2", "--", "sleep", "3"]) { process in
            waitForEnd(process)
            took = Date().timeIntervalSince(began)
        }
        #expect(result.status == 0)
        #expect(took > 0.3 && took < 2.5)
    }

    @Test(arguments: [SIGINT, SIGTERM])
    func aSignalEndsWithAReport(_ signal: Int32) throws {
        let files = try files()
        let began = Date()
        var took = 0.0
        let result = try files.run(["memleak", "--", "sleep", "4"]) { process in
            usleep(500_000)
            kill(process.processIdentifier, signal)
            waitForEnd(process)
            took = Date().timeIntervalSince(began)
        }
        #expect(result.status == 0)
        #expect(result.output.contains("leaked "))
        #expect(took < 3.5)
    }

    @Test func outputToAFile() throws {
        let files = try files()
        let path = files.directory + "/report-%p"
        let result = try files.run(["memleak", "-o", path, "--", "echo", "hello"])
        #expect(result.output == "hello\n")
        let made = try FileManager.default.contentsOfDirectory(atPath: files.directory).filter {
            $0.hasPrefix("report-")
        }
        #expect(made.count == 1)
        let report = try String(contentsOfFile: files.directory + "/" + (made.first ?? ""), encoding: .utf8)
        #expect(report.hasPrefix("leaked "))
    }

    /// A report that cannot be written is an error of ours; the program runs to its end all the same.
    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/dev/full"), "there is no /dev/full"))
    func outputThatFails() throws {
        let files = try files()
        let mark = files.directory + "/ran-to-its-end"
        let result = try files.run([
            "malloccount", "-i", "0.1", "-o", "/dev/full", "--", "sh", "-c", "sleep 1; touch \(mark)",
        ])
        #expect(result.status == 77)
        #expect(result.errors.contains("error[U601]: cannot write /dev/full: No space left on device"))
        #expect(FileManager.default.fileExists(atPath: mark))
    }

    /// Relocations to a kernel's types; the values themselves are compared with libbpf's by `make test-vm`.
    @Test func inspectCore() throws {
        let files = try files()
        let own = try files.run(["inspect", "execsnoop", "--core"])
        try #require(own.status == 0, "\(own.errors)")
        #expect(own.output.contains(/byte_off +task_struct.real_parent +[0-9]+ -> [0-9]+  execsnoop.bpf.c:[0-9]+/))
        let json = try files.run(["inspect", "execsnoop", "--core", "-j"])
        let object = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
        let entries = try #require(object["core_relocations"] as? [[String: Any]])
        #expect(entries.contains { $0["subject"] as? String == "task_struct.real_parent" && $0["value"] != nil })
        let none = try files.run(["inspect", files.directory + "/own.bpf.c", "--core"])
        #expect(none.output == "own.bpf.c: no CO-RE relocations\n", "\(none.errors)")
    }

    @Test func inspectDisasmDoctor() throws {
        let files = try files()
        let inspection = try files.run(["inspect", "memleak", "-j"])
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(inspection.output.utf8)) as? [String: Any]
        )
        #expect(object["recipe"] as? String == "memleak")
        #expect((object["options"] as? [[String: Any]])?.contains { $0["flag"] as? String == "--min-size" } == true)
        let listing = try files.run(["disasm", "malloccount"])
        #expect(listing.status == 0)
        #expect(listing.output.contains("call bpf_map_lookup_elem#1"))
        #expect(listing.output.contains("exit"))
        let doctor = try files.run(["doctor"])
        #expect(doctor.status == 0)
        #expect(doctor.output.contains("libubpf.so"))
        let help = try files.run(["memleak", "--help"])
        #expect(help.output.contains("--min-size <value>"))
    }
}
