import ISA
import Testing

@testable import Verifier

/// Copies of a number that a 32-bit addition moved: `i >= 1 && i < 64` as compilers write it.
struct LinkedHalfTests {
    /// r6 is a number of 32 bits; in the end it is an index into 64 bytes of stack.
    private static func indexed(_ code: [Statement], wide: Bool = false) -> [Statement] {
        let load: Statement = wide ? .load64(.r6, .r1) : .load32(.r6, .r1)
        return [load] + code + [
            .mov64(.r2, .r10), .add64(.r2, .r6), .store8(.r2, -64, 1), .label("end"), .mov64(.r0, 0), .exit,
        ]
    }

    /// What is accepted, here and by Linux.
    private static let programs: [(name: String, isAccepted: Bool, code: [Statement])] = [
        ("one to 63", true, indexed([.mov32(.r1, .r6), .add32(.r1, -1), .jumpGreater(.r1, 62, to: "end")])),
        ("zero to 64", false, indexed([.mov32(.r1, .r6), .add32(.r1, -1), .jumpGreater(.r1, 63, to: "end")])),
        (
            "two moves", true,
            indexed([.mov32(.r1, .r6), .add32(.r1, -9), .add32(.r1, 4), .jumpGreater(.r1, 58, to: "end")])
        ),
        ("wraps below", false, indexed([.mov32(.r1, .r6), .add32(.r1, 1), .jumpGreater(.r1, 62, to: "end")])),
        (
            "then moved by 64 bits", false,
            indexed([.mov32(.r1, .r6), .add32(.r1, -1), .add64(.r1, 1), .jumpGreater(.r1, 62, to: "end")])
        ),
        (
            "far away and back", true,
            indexed([
                .mov32(.r1, .r6), .add32(.r1, 0x7fff_ffff), .sub32(.r1, -0x8000_0000), .jumpGreater(.r1, 62, to: "end"),
            ])
        ),
        (
            "far away, where paths meet", true,
            indexed(
                [
                    .load64(.r7, .r1, 8), .mov64(.r9, 0), .mov64(.r6, .r6), .add32(.r6, -0x7fff_ffff),
                    .jumpEqual(.r7, 0, to: "first"), .label("first"), .jumpEqual(.r7, 1, to: "second"),
                    .label("second"),
                ] + Array(repeating: .add64(.r9, 0), count: 4) + [
                    .mov32(.r5, .r6), .sub32(.r5, 2), .jumpGreater(.r5, 60, to: "end"),
                ]
            )
        ),
        (
            "alone, then moved by 64 bits", true,
            indexed([
                .mov64(.r2, .r6), .add32(.r6, 7), .mov64(.r2, 0), .mov64(.r1, .r6), .add64(.r1, -1),
                .jumpGreater(.r1, 62, to: "end"),
            ])
        ),
        (
            "of a number of 64 bits", false,
            indexed([.mov32(.r1, .r6), .add32(.r1, -1), .jumpGreater(.r1, 62, to: "end")], wide: true)
        ),
        (
            "equal halves, other numbers", false,
            indexed(
                [
                    .mov64(.r1, .r6), .add32(.r1, -1), .mov64(.r3, .r6), .add64(.r3, -1),
                    .jumpGreater(.r1, 62, to: "end"),
                    .mov64(.r6, .r3), .add64(.r6, 1),
                ],
                wide: true
            )
        ),
    ]

    @Test(arguments: programs.map(\.name)) func verdicts(_ name: String) throws {
        let program = try #require(Self.programs.first { $0.name == name })
        let assembly = try Assembly(program.code)
        var subject = Subject(
            instructions: assembly.instructions,
            functions: [FunctionFacts(name: "f", start: 0)],
            maps: [],
            type: .kprobe
        )
        subject.platform = .kernel
        for prunes in [true, false] {
            subject.prunes = prunes
            #expect(((try? verify(subject)) != nil) == program.isAccepted, "pruning: \(prunes)")
        }
    }

    @Test(.enabled(if: KernelVerifier.isOracle, KernelVerifier.reason), arguments: programs.map(\.name))
    func kernel(_ name: String) throws {
        let program = try #require(Self.programs.first { $0.name == name })
        let answer = KernelVerifier.ask(try Assembly(program.code).instructions, .kprobe)
        // What Linux knows less of is no matter here: it must not know more.
        if !program.isAccepted { #expect(answer.status != 0, Comment(rawValue: answer.log)) }
    }
}
