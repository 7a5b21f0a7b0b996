import Glibc
import Testing

@testable import Loader

/// Files that are cut, changed or no objects at all: an error or a spec, never a crash, never a hang.
@Suite struct DamageTests {
    /// Mutations of `mutations()`; `UBPF_FUZZ_ROUNDS` asks for more.
    static let rounds = getenv("UBPF_FUZZ_ROUNDS").flatMap { Int(String(cString: $0)) } ?? 200_000

    private static func objects() throws -> [[UInt8]] {
        let compiler = try #require(Compiler.installed.first)
        return try Fixture.names.map { try Fixture.object($0, compiler) }
    }

    /// What loading leads to, with CO-RE against the built-in types where the object loads.
    private static func exercise(_ bytes: [UInt8]) -> LoaderError? {
        do throws(LoaderError) {
            let spec = try loadObject(bytes: bytes, name: "x.o")
            if let local = spec.btf {
                for program in spec.programs { _ = try program.relocated(local: local, target: BTF.builtin) }
            }
            return nil
        } catch {
            return error
        }
    }

    @Test func truncatedAnywhere() throws {
        for object in try Self.objects() {
            for length in 0..<object.count {
                let error = Self.exercise(Array(object[..<length]))
                // The section header table ends the file, so every prefix lacks some of it.
                #expect(error != nil, "accepted \(length) of \(object.count) bytes")
            }
        }
    }

    @Test func mutations() throws {
        let objects = try Self.objects()
        var state: UInt64 = 0x9e37_79b9_7f4a_7c15
        func random(_ limit: Int) -> Int {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state % UInt64(limit))
        }
        let interesting: [UInt8] = [0, 1, 0x7f, 0x80, 0xff]
        var accepted = 0
        var refused = 0
        for round in 0..<Self.rounds {
            var bytes = objects[round % objects.count]
            for _ in 0...random(6) {
                let at = random(4) == 0 ? random(min(64, bytes.count)) : random(bytes.count)
                switch random(4) {
                case 0: bytes[at] = UInt8(random(256))
                case 1: bytes[at] = interesting[random(interesting.count)]
                case 2: for index in at..<min(at + 8, bytes.count) { bytes[index] = interesting[random(5)] }
                default: bytes[at] ^= 1 << UInt8(random(8))
                }
            }
            if Self.exercise(bytes) == nil { accepted += 1 } else { refused += 1 }
        }
        #expect(accepted + refused == Self.rounds)
        // Both must happen, or the mutations do not reach what they are for.
        #expect(accepted > Self.rounds / 100)
        #expect(refused > Self.rounds / 100)
    }

    @Test(
        arguments: [
            ("", LoaderError.Kind.notELF), ("\u{7f}ELF", .truncated), ("hello world\n", .notELF),
            ("#include <linux/bpf.h>\n", .notELF),
        ]
    )
    func notAnObject(_ text: String, _ kind: LoaderError.Kind) {
        #expect(Self.exercise(Array(text.utf8))?.kind == kind)
    }

    @Test func headersOfOtherFiles() throws {
        let object = try #require(try Self.objects().first)
        func error(_ change: (inout [UInt8]) -> Void) -> LoaderError.Kind? {
            var bytes = object
            change(&bytes)
            return Self.exercise(bytes)?.kind
        }
        #expect(error { $0[18] = 62 } == .otherMachine)
        #expect(
            error {
                $0[5] = 2
                $0[18] = 0
                $0[19] = 247
            } == .bigEndian
        )
        #expect(error { $0[4] = 1 } == .notELF64)
        #expect(error { $0[16] = 2 } == .notRelocatable)
        #expect(error { _ in } == nil)
    }

    @Test func missingFile() {
        #expect(throws: LoaderError.self) { try loadObject(path: "/nonexistent/x.bpf.o") }
    }
}
