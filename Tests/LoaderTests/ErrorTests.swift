import Testing

@testable import Loader

/// One test for each way in which an object can be wrong; damaged files are in `DamageTests`.
@Suite struct ErrorTests {
    private func refusal(_ bytes: [UInt8]) -> LoaderError? {
        do throws(LoaderError) {
            _ = try loadObject(bytes: bytes, name: "x.bpf.o")
            return nil
        } catch {
            return error
        }
    }

    private func refusal(_ text: String) throws -> LoaderError? {
        try refusal(Fixture.compile(text: includes + text))
    }

    /// Changes the bytes of a section, which is found in the file by its content.
    private func patched(_ object: [UInt8], _ section: String, _ change: (inout [UInt8]) -> Void) throws -> [UInt8] {
        let content = try #require(try ELFFile(object, name: "x").section(named: section)?.bytes)
        let range = try #require(object.firstRange(of: content))
        var new = content
        change(&new)
        return Array(object[..<range.lowerBound]) + new + Array(object[range.upperBound...])
    }

    private let includes = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"

    @Test func mapsWithoutBTF() throws {
        let error = try #require(try refusal(Fixture.object("maps", .current, ["-g0"])))
        #expect(error.kind == .noBTF)
        #expect(error.code == "U301")
        #expect(error.help.contains("clang -g"))
    }

    @Test func damagedBTF() throws {
        let object = try Fixture.object("maps")
        #expect(try refusal(patched(object, ".BTF") { $0[0] = 0 })?.kind == .badBTF)
        #expect(try refusal(patched(object, ".BTF.ext") { $0[0] = 0 })?.kind == .badBTF)
    }

    @Test func legacyMaps() throws {
        let error = try #require(try refusal(Fixture.object("legacy")))
        #expect(error.kind == .legacyMaps)
        #expect(error.help.contains(".maps"))
    }

    @Test(
        arguments: [
            ("__uint(type, 99);", LoaderError.Kind.unknownMapType),
            ("__uint(max_entries, 1);", .badMap),
            ("__uint(type, 1); __uint(surprise, 1);", .badMap),
            ("__uint(type, 1); __type(key, int); __uint(key_size, 8);", .badMap),
            ("__uint(type, 1); int key;", .badMap),
            ("__uint(type, 1); __type(value, struct never);", .badMap),
        ]
    )
    func badMaps(attributes: String, kind: LoaderError.Kind) throws {
        #expect(try refusal("struct { \(attributes) } m SEC(\".maps\");")?.kind == kind)
    }

    @Test func relocationsThatMakeNoSense() throws {
        let object = try Fixture.object("plain")
        let inside = try refusal(patched(object, ".reluprobe") { $0[0] += 4 })
        #expect(inside?.kind == .badRelocation)
        let symbol = try refusal(patched(object, ".reluprobe") { $0[15] = 0x7f })
        #expect(symbol?.kind == .badRelocation)
        let type = try refusal(patched(object, ".reluprobe") { $0[8] = 3 })
        #expect(type?.kind == .unsupportedRelocation)
    }

    @Test func codeWithoutFunctions() throws {
        #expect(try refusal("asm(\".section uprobe,\\\"ax\\\"\\nexit\\n\");")?.kind == .noFunctions)
    }

    @Test func equalNames() throws {
        let object = try Fixture.object("link")
        let bytes = try patched(object, ".strtab") { strings in
            let range = strings.firstRange(of: Array("\0second\0".utf8))
            if let range { strings.replaceSubrange(range, with: Array("\0fourth\0".utf8)) }
        }
        let error = try #require(refusal(bytes))
        #expect(error.kind == .duplicateName)
        #expect(error.place.contains("fourth"))
    }

    @Test func unknownInstructions() throws {
        let object = try Fixture.object("plain")
        #expect(try refusal(patched(object, "uprobe") { $0[0] = 0xff })?.kind == .badInstruction)
    }

    /// Pointers into arenas are cast between address spaces.
    @Test func arenas() throws {
        let text = """
            int __attribute__((address_space(1))) *list;
            SEC("uprobe") int a(void *ctx)
            {
                if (!list) return 1;
                return *list;
            }
            """
        let error = try #require(try refusal(includes + text))
        #expect(error.kind == .arenaPointer)
        #expect(error.code == "U322" && error.place.contains(" in a") && error.help.contains("BPF_F_MMAPABLE"))
    }

    /// A program that cannot run says so and does not keep the others from running.
    @Test func problemsOfOneProgram() throws {
        let text = """
            extern int missing(int x);
            SEC("nonsense") int a(void *ctx) { return 0; }
            SEC("uprobe") int b(void *ctx) { return missing(1); }
            SEC("uprobe") int c(void *ctx) { return 0; }
            """
        let spec = try loadObject(bytes: Fixture.compile(text: includes + text), name: "x.o")
        let problems = Dictionary(uniqueKeysWithValues: spec.programs.map { ($0.name, $0.problems.map(\.kind)) })
        #expect(problems == ["a": [.badSectionName], "b": [.unresolvedSymbol], "c": []])
    }

    @Test func objectsOfOtherMachines() throws {
        let native = try Fixture.compile(text: "int x;", [])
        let error = try #require(refusal(native))
        #expect(error.kind == .otherMachine)
        #expect(error.code == "U302")
        #expect(error.message == "x.bpf.o is an x86-64 object, not BPF")
        #expect(try refusal(Fixture.compile(text: "int x;", ["-target", "bpfeb"]))?.kind == .bigEndian)
    }

    @Test(arguments: ["/nonexistent/x.bpf.o", "/proc"])
    func unreadable(path: String) {
        #expect { try loadObject(path: path) } throws: { ($0 as? LoaderError)?.code == "U300" }
    }

    @Test func everyErrorHasACodeAndAForm() throws {
        for kind in LoaderError.Kind.allCases {
            let error = LoaderError(kind: kind, place: "here", message: "what", why: "because", help: "do this")
            #expect(error.description == "error[\(error.code)]: what\n  --> here\nwhy: because\nhelp: do this")
            #expect(error.code.hasPrefix("U3"))
        }
    }
}
