import EngineSupport
import Glibc
import ISA
import Testing

/// Texts to numbers as the kernel does it, digit by digit.
@Suite struct NumberTextTests {
    /// The context: 48 bytes of text, its length, the base; then the result and what was read.
    private static func program(_ helper: Helper) throws -> [Instruction] {
        var code: [Statement] = [.mov64(.r6, .r1)]
        for word in 0..<6 {
            let from = Int32(word * 8)
            code.append(.load64(.r2, .r6, from))
            code.append(.store64(.r10, from - 64, .r2))
        }
        let call: [Statement] = [
            .store64(.r10, -8, 77), .load32(.r2, .r6, 48), .mov64(.r1, .r10), .add64(.r1, -64),
            .jumpGreater(.r2, 48, to: "out"), .jumpEqual(.r2, 0, to: "out"), .load32(.r3, .r6, 52), .mov64(.r4, .r10),
            .add64(.r4, -8), .call(helper), .store64(.r6, 56, .r0), .load64(.r2, .r10, -8), .store64(.r6, 64, .r2),
            .label("out"), .mov64(.r0, 0), .exit,
        ]
        code += call
        return try Assembly(code).instructions
    }

    private static let texts = [
        "0", "7", "-1", "42 rest", "  +5", " \t\n\u{b}\u{c}\r12", "x", "", "-", "--1", "0x", "0x1f", "0X1Fz", "-0x10",
        "017",
        "08", "0x8000000000000000", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
        "-9223372036854775809", "18446744073709551615", "18446744073709551616", "0xffffffffffffffff",
        "0x1ffffffffffffffff", "01777777777777777777777", "02000000000000000000000", "abc",
        "00000000000000000000000000001",
        "123456789012345678901234567890", "0xg", "-0", "9", "1a", "\u{7f}1", "12\u{0}34",
    ]

    private static let contexts: [[UInt8]] = texts.flatMap { text in
        [0, 8, 10, 16, 2, 36, 33].flatMap { (base: UInt8) in
            [text.utf8.count + 1, 48, max(1, text.utf8.count), 1, 3].map { length in
                var context = Array(text.utf8) + [UInt8](repeating: 0, count: 72 - text.utf8.count)
                context[48] = UInt8(length)
                context[52] = base
                return context
            }
        }
    }

    private func compare<First: Engine, Second: Engine>(_: First.Type, _: Second.Type, _ helper: Helper) throws {
        let program = try Self.program(helper)
        let (first, second) = (try First(program), try Second(program))
        for context in Self.contexts {
            let (expected, result) = (try first.run(context), try second.run(context))
            #expect(expected == result, "\(First.name), \(Second.name): \(context)")
        }
    }

    @Test(.enabled(if: geteuid() == 0, "the kernel runs programs for root only"), arguments: [Helper.strtol, .strtoul])
    func theKernelAgrees(_ helper: Helper) throws { try compare(KernelEngine.self, VMEngine.self, helper) }
}
