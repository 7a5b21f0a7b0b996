package import ISA
package import Verifier

/// Programs that verifiers have accepted, ours among them, and must not; what they get wrong shows on the second path.
package struct KnownMistake: Sendable, CustomStringConvertible {
    package let name: String
    package let program: [Statement]
    package let rule: Rule
    package var description: String { name }

    /// nil where the program is refused as it should be.
    package func fault() throws -> String? {
        let program = try Assembly(program).instructions
        do throws(VerifierError) {
            _ = try verify(VerifiedSession.subject(VerifiedCase(program)))
            return "'\(name)' is accepted\n\(listing(program))"
        } catch {
            return error.rule == rule ? nil : "'\(name)' is refused for another reason: \(error)"
        }
    }

    /// r8 is `wrong` on the path that is walked later; then a point where paths are compared.
    private static func paths(_ right: [Statement], _ wrong: [Statement]) -> [Statement] {
        [
            .mov64(.r6, .r1), .load64(.r7, .r6), .mov64(.r9, 0), .loadMapValue(.r2, 0, 0), .load64(.r7, .r2),
            .jumpEqual(.r7, 1, to: "wrong"),
        ] + right + [.jump(to: "same"), .label("wrong")] + wrong + [.label("same")] + padding("same")
    }

    private static func padding(_ name: String) -> [Statement] {
        [
            .jumpEqual(.r7, 2, to: "\(name)1"), .label("\(name)1"), .jumpEqual(.r7, 3, to: "\(name)2"),
            .label("\(name)2"),
        ]
            + Array(repeating: .add64(.r9, 0), count: 8)
            + [
                .jumpEqual(.r7, 4, to: "\(name)3"), .label("\(name)3"), .jumpEqual(.r7, 5, to: "\(name)4"),
                .label("\(name)4"),
            ]
    }

    /// An access of the inputs at r8.
    private static let use: [Statement] = [.loadMapValue(.r2, 0, 0), .add64(.r2, .r8), .load8(.r0, .r2), .exit]

    private static let numbers = paths([.mov64(.r8, 0)], [.mov64(.r8, 1000)])

    package static let all: [KnownMistake] = [
        KnownMistake(name: "a number that is an offset", program: numbers + use, rule: .outOfBounds),
        KnownMistake(
            name: "a number behind a store to the neighbouring slot",
            program: numbers + [.store64(.r10, -8, .r8), .store64(.r10, -16, 0), .load64(.r8, .r10, -8)] + use,
            rule: .outOfBounds
        ),
        KnownMistake(
            name: "a number that an atomic operation fetches",
            program: numbers + [
                .store64(.r10, -8, .r8), .mov64(.r8, 0), .atomic(.atomicFetchAdd64, .r10, -8, .r8),
            ] + use,
            rule: .outOfBounds
        ),
        KnownMistake(
            name: "a number that a comparison with exchange fetches",
            program: numbers + [
                .store64(.r10, -8, .r8), .mov64(.r0, 0), .atomic(.atomicCompareExchange64, .r10, -8, .r9),
                .mov64(.r8, .r0),
            ] + use,
            rule: .outOfBounds
        ),
        KnownMistake(
            name: "a number of the caller behind a store of the function",
            program: numbers + [
                .store64(.r10, -8, .r8), .mov64(.r1, .r10), .add64(.r1, -8), .call("f"), .mov64(.r8, .r0),
            ] + use + [
                .function("f"), .store64(.r10, -8, .r1), .load64(.r2, .r10, -8), .load64(.r0, .r2), .exit,
            ],
            rule: .outOfBounds
        ),
        KnownMistake(
            name: "zero bytes of a slot beside unknown ones",
            program: paths([.store32(.r10, -8, 0)], [.store32(.r10, -4, .r7)]) + [.load32(.r8, .r10, -8)] + use,
            rule: .outOfBounds
        ),
        KnownMistake(
            name: "a constant key that names no element",
            program: numbers + [
                .store64(.r10, -8, .r8), .mov64(.r2, .r10), .add64(.r2, -8), .loadMap(.r1, 1), .call(.mapLookupElem),
                .load8(.r0, .r0), .exit,
            ],
            rule: .nullPointer
        ),
        KnownMistake(
            name: "a constant key in the upper half of a slot",
            program: numbers + [
                .store32(.r10, -4, .r8), .mov64(.r2, .r10), .add64(.r2, -4), .loadMap(.r1, 1), .call(.mapLookupElem),
                .load8(.r0, .r0), .exit,
            ],
            rule: .nullPointer
        ),
        KnownMistake(
            name: "the argument of a callback's second round",
            program: paths(
                [
                    .store64(.r10, -8, 1), .store64(.r10, -24, 0), .mov64(.r3, .r10), .add64(.r3, -24),
                ],
                [
                    .store64(.r10, -8, 0), .store64(.r10, -24, 1), .mov64(.r3, .r10), .add64(.r3, -8),
                ]
            ) + [
                .mov64(.r1, 2), .loadFunction(.r2, "round"), .mov64(.r4, 0), .call(.loop), .mov64(.r0, 0), .exit,
                .function("round"), .load64(.r3, .r2, 0), .jumpNotEqual(.r3, 0, to: "second"), .store64(.r2, 0, 1),
                .mov64(.r2, 0), .mov64(.r7, .r1), .mov64(.r1, 0), .mov64(.r9, 0),
            ] + padding("round") + [
                .mov64(.r0, 0), .exit, .label("second"), .store64(.r2, 16, 0), .mov64(.r0, 0), .exit,
            ],
            rule: .stackBounds
        ),
        KnownMistake(
            name: "a number that moves a pointer which nothing uses",
            program: [
                .mov64(.r6, .r1), .call("f"), .loadMapValue(.r2, 0, 0), .add64(.r2, .r0), .mov64(.r0, 0), .exit,
                .function("f"), .loadMap(.r2, Int32(VerifiedMap.programs.index)), .mov64(.r3, 0), .call(.tailCall),
                .mov64(.r0, 22), .exit,
            ],
            rule: .pointerArithmetic
        ),
        KnownMistake(
            name: "an address as the number of rounds",
            program: [
                .mov64(.r1, .r10), .loadFunction(.r2, "round"), .mov64(.r3, .r10), .mov64(.r4, 0), .call(.loop),
                .mov64(.r0, 0), .exit, .function("round"), .store64(.r2, 0, 1), .mov64(.r0, 0), .exit,
            ],
            rule: .stackBounds
        ),
        KnownMistake(
            name: "an endless loop around a callback",
            program: [
                .store64(.r10, -8, 0), .label("again"), .mov64(.r1, 1), .loadFunction(.r2, "round"), .mov64(.r3, .r10),
                .add64(.r3, -8), .mov64(.r4, 0), .call(.loop), .load64(.r6, .r10, -8), .jumpEqual(.r6, 0, to: "end"),
                .store64(.r10, -8, 0), .mov64(.r6, 0), .jump(to: "again"), .label("end"), .mov64(.r0, 0), .exit,
                .function("round"), .store64(.r2, 0, 1), .mov64(.r0, 0), .exit,
            ],
            rule: .endlessLoop
        ),
        KnownMistake(
            name: "an endless loop around an exit of may_goto",
            program: [
                .label("again"), .mayGoto(to: "on"), .mov64(.r0, 0), .exit, .label("on"), .mov64(.r1, 1),
                .loadFunction(.r2, "round"), .mov64(.r3, 0), .mov64(.r4, 0), .call(.loop), .jump(to: "again"),
                .function("round"), .mov64(.r0, 0), .exit,
            ],
            rule: .endlessLoop
        ),
        KnownMistake(
            name: "an endless loop that joins a round of may_goto",
            program: [
                .mov64(.r9, 0), .load64(.r7, .r1), .label("again"), .mayGoto(to: "on"), .jump(to: "on"), .label("on"),
            ] + padding("on") + [.jumpNotEqual(.r7, 77, to: "again"), .mov64(.r0, 0), .exit],
            rule: .endlessLoop
        ),
        KnownMistake(
            name: "an endless loop around a function with may_goto",
            program: [
                .label("again"), .call("f"), .jumpEqual(.r0, 0, to: "again"), .exit,
                .function("f"), .mayGoto(to: "end"), .mov64(.r0, 0), .exit, .label("end"), .mov64(.r0, 1), .exit,
            ],
            rule: .endlessLoop
        ),
        KnownMistake(
            name: "a callback that a function is given",
            program: [
                .loadFunction(.r1, "round"), .call("f"), .mov64(.r0, 0), .exit,
                .function("f"), .store64(.r10, -256, 1), .mov64(.r2, .r1), .mov64(.r1, 1), .mov64(.r3, 0),
                .mov64(.r4, 0),
                .call(.loop), .mov64(.r0, 0), .exit,
                .function("round"), .store64(.r10, -320, 1), .mov64(.r0, 0), .exit,
            ],
            rule: .stackTooDeep
        ),
        KnownMistake(
            name: "a ninth frame for the key of an array",
            program: [.call("f1"), .exit]
                + (1...5).flatMap { [.function("f\($0)"), .call("f\($0 + 1)"), .exit] }
                + [
                    .function("f6"), .loadMap(.r1, 0), .loadFunction(.r2, "each"), .mov64(.r3, 0), .mov64(.r4, 0),
                    .call(.forEachMapElem), .exit, .function("each"), .mov64(.r0, 0), .exit,
                ],
            rule: .callsTooDeep
        ),
    ]
}
