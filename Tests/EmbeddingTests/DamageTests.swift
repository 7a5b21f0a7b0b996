import Glibc
import ISA
import Testing
import UBPFVM

@testable import Embedding

/// Objects that are cut or changed: an error or a program, never a crash.
@Suite struct DamageTests {
    /// `UBPF_FUZZ_ROUNDS` asks for more.
    static let rounds = getenv("UBPF_FUZZ_ROUNDS").flatMap { Int(String(cString: $0)) } ?? 100_000
    static let names: [[UInt8]?] = [nil, Array("calls".utf8), Array("same".utf8), Array("global".utf8)]

    private static func objects() throws -> [[UInt8]] {
        let compiler = try #require(Fixture.compilers.first)
        return try Fixture.allCases.map { try $0.object(compiler) }
    }

    /// Loads, and runs what loads; whether it was accepted.
    private static func exercise(_ object: [UInt8], _ name: [UInt8]?) -> Bool {
        do throws(EmbeddingError) {
            let program = try Program(readProgram(object, name: name)) { $0 == 7 }
            var runner = ProgramRunner(packet: [1, 2, 3])
            runner.budget = 200
            _ = try? runner.run(program.linked)
            return true
        } catch {
            #expect(!error.message.isEmpty && !error.message.contains("\n"))
            return false
        }
    }

    @Test func truncatedAnywhere() throws {
        for object in try Self.objects() {
            for length in 0..<object.count {
                // The section header table ends the file, so every prefix lacks some of it.
                #expect(!Self.exercise(Array(object[..<length]), nil), "accepted \(length) of \(object.count) bytes")
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
        for round in 0..<Self.rounds {
            var bytes = objects[round % objects.count]
            for _ in 0...random(4) {
                let at = random(4) == 0 ? random(64) : random(bytes.count)
                switch random(4) {
                case 0: bytes[at] = UInt8(random(256))
                case 1: bytes[at] = interesting[random(interesting.count)]
                case 2: for index in at..<min(at + 8, bytes.count) { bytes[index] = interesting[random(5)] }
                default: bytes[at] ^= 1 << UInt8(random(8))
                }
            }
            if Self.exercise(bytes, Self.names[random(Self.names.count)]) { accepted += 1 }
        }
        // Both must happen, or the mutations do not reach what they are for.
        #expect(accepted > Self.rounds / 100)
        #expect(accepted < Self.rounds * 99 / 100)
    }
}
