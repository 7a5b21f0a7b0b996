import ISA
import Testing

@testable import Verifier

/// A program with iterators, and the rule that it breaks; nil for accepted.
private struct Case: CustomTestStringConvertible, Sendable {
    var name: String
    var program: [Statement]
    var expected: Rule?
    /// Where the kernel's verdict is another one: why.
    var difference: String?

    init(_ name: String, _ program: [Statement], _ expected: Rule? = nil, difference: String? = nil) {
        self.name = name
        self.program = program
        self.expected = expected
        self.difference = difference
    }

    var testDescription: String { name }
}

private func make(_ offset: Int64 = -8, _ start: Int64 = 0, _ end: Int64 = 10) -> [Statement] {
    [.mov64(.r1, .r10), .add64(.r1, offset), .mov64(.r2, start), .mov64(.r3, end), .call(.iterNumNew)]
}

private func next(_ offset: Int64 = -8) -> [Statement] {
    [.mov64(.r1, .r10), .add64(.r1, offset), .call(.iterNumNext)]
}

private func destroy(_ offset: Int64 = -8) -> [Statement] {
    [.mov64(.r1, .r10), .add64(.r1, offset), .call(.iterNumDestroy)]
}

/// `bpf_for`: the number is in r0 where the body starts.
private func loop(_ name: String, _ body: [Statement], _ offset: Int64 = -8) -> [Statement] {
    make(offset) + [.label(name)] + next(offset) + [.jumpEqual(.r0, 0, to: name + " end"), .load32(.r0, .r0)] + body
        + [.jump(to: name), .label(name + " end")] + destroy(offset)
}

/// The iterator at r6 is destroyed and made anew.
private let again: [Statement] = [
    .mov64(.r1, .r6), .call(.iterNumDestroy), .mov64(.r1, .r6), .mov64(.r2, 0), .mov64(.r3, 10), .call(.iterNumNew),
]

private let end: [Statement] = [.mov64(.r0, 0), .exit]

/// 32 bytes from r10-64 on, and a number from 0 to 15 that indexes them, in r7.
private let array: [Statement] =
    stride(from: Int32(-64), to: -32, by: 8).map { .store64(.r10, $0, 0) }

private let accepted: [Case] = [
    Case("nothing but made and destroyed", make() + destroy() + end),
    Case("loop", loop("a", []) + end),
    Case("unrolled", make() + next() + next() + next() + destroy() + end),
    Case(
        "next once it was drained",
        make() + next() + [.jumpNotEqual(.r0, 0, to: "out")] + next() + next() + [.label("out")] + destroy() + end
    ),
    Case("a counter that nothing needs", [.mov64(.r6, 0)] + loop("a", [.add64(.r6, 1)]) + [.mov64(.r0, .r6), .exit]),
    Case(
        "a counter that bounds an access",
        array + [.mov64(.r6, 0)]
            + loop(
                "a",
                [
                    .jumpGreaterEqual(.r6, 32, to: "skip"), .mov64(.r1, .r10), .add64(.r1, -64), .add64(.r1, .r6),
                    .store8(.r1, 0, 1), .label("skip"), .add64(.r6, 1),
                ]
            ) + end,
        nil,
        difference: "Linux 6.18 counts until it gives up"
    ),
    Case(
        "a counter that ends the loop",
        array + [.mov64(.r6, 0)]
            + loop(
                "a",
                [
                    .jumpGreaterEqual(.r6, 32, to: "a end"), .mov64(.r1, .r10), .add64(.r1, -64), .add64(.r1, .r6),
                    .store8(.r1, 0, 1), .add64(.r6, 1),
                ]
            ) + end
    ),
    Case(
        "the number bounds an access",
        array
            + loop(
                "a",
                [
                    .jumpGreaterEqual(.r0, 32, to: "a"), .mov64(.r1, .r10), .add64(.r1, -64), .add64(.r1, .r0),
                    .store8(.r1, 0, 1),
                ]
            ) + end
    ),
    Case("nested", loop("a", loop("b", loop("c", [], -24), -16)) + end),
    Case("one after the other, in one place", loop("a", []) + loop("b", []) + end),
    Case("left early", loop("a", [.jumpEqual(.r0, 3, to: "a end")]) + end),
    Case(
        "in a function",
        [.call("f"), .call("f"), .exit, .function("f")] + loop("a", []) + end
    ),
    Case(
        "a function takes the numbers of its caller's",
        make() + [
            .mov64(.r1, .r10), .add64(.r1, -8), .call("f"), .jumpEqual(.r0, 0, to: "out"), .label("out"),
        ] + destroy() + end + [
            .function("f"), .mov64(.r6, .r1), .label("a"), .mov64(.r1, .r6), .call(.iterNumNext),
            .jumpNotEqual(.r0, 0, to: "a"),
            .exit,
        ]
    ),
    Case(
        "a function makes its caller's, another destroys it",
        [.mov64(.r1, .r10), .add64(.r1, -8), .call("make")] + next() + [
            .mov64(.r1, .r10), .add64(.r1, -8), .call("end"),
        ] + end + [
            .function("make"), .mov64(.r2, 0), .mov64(.r3, 5), .call(.iterNumNew), .exit,
            .function("end"), .call(.iterNumDestroy), .mov64(.r0, 0), .exit,
        ]
    ),
    Case(
        "any numbers",
        [.load64(.r2, .r1), .load64(.r3, .r1, 8), .mov64(.r1, .r10), .add64(.r1, -8), .call(.iterNumNew)] + destroy()
            + end
    ),
    Case("over a slot that held data", [.store64(.r10, -8, .r1)] + loop("a", []) + end),
    Case("the slot is free afterwards", make() + destroy() + [.store64(.r10, -8, 5), .load64(.r0, .r10, -8), .exit]),
    Case("drained in the inner loop", make(-16) + loop("a", next(-16)) + destroy(-16) + end),
    Case(
        "a pointer to the number on the stack",
        make() + next() + [
            .jumpEqual(.r0, 0, to: "out"), .store64(.r10, -16, .r0), .load64(.r1, .r10, -16), .load32(.r6, .r1),
            .label("out"),
        ] + destroy() + end
    ),
    Case(
        "parts of the number",
        make() + next() + [.jumpEqual(.r0, 0, to: "out"), .load8(.r1, .r0), .load16(.r2, .r0, 2), .label("out")]
            + destroy() + end
    ),
    Case(
        "what the function found",
        [.mov64(.r6, 0)] + loop("a", [.add64(.r6, .r0)]) + [.jumpGreater(.r6, 100, to: "b"), .label("b")] + end
    ),
]

private let refused: [Case] = [
    Case("not destroyed", make() + end, .unreleased),
    Case(
        "not destroyed on one path",
        make() + next() + [.jumpEqual(.r0, 0, to: "out")] + destroy() + [.label("out")] + end,
        .unreleased
    ),
    Case("left in a function", [.call("f"), .exit, .function("f")] + make() + end, .unreleased),
    Case("destroyed twice", make() + destroy() + destroy() + end, .argument),
    Case("next after destroy", make() + destroy() + next() + end, .argument),
    Case("next of nothing", next() + end, .argument),
    Case("destroy of nothing", destroy() + end, .argument),
    Case("next of data", [.store64(.r10, -8, 0)] + next() + end, .argument),
    Case("made twice", make() + make() + destroy() + end, .argument),
    Case("not aligned", make(-12) + destroy(-12) + end, .argument),
    Case("above the frame", make(0) + destroy(0) + end, .argument),
    Case("below the frame", make(-520) + destroy(-520) + end, .argument),
    Case("in the middle", make(-16) + next(-12) + destroy(-16) + end, .argument),
    Case("not on the stack", [.mov64(.r2, 0), .mov64(.r3, 1), .call(.iterNumNew)] + end, .argument),
    Case(
        "at a variable offset",
        [
            .load64(.r4, .r1), .and64(.r4, 8), .mov64(.r1, .r10), .add64(.r1, -16), .add64(.r1, .r4), .mov64(.r2, 0),
            .mov64(.r3, 1), .call(.iterNumNew),
        ] + end,
        .argument
    ),
    Case(
        "a pointer for a number",
        [.mov64(.r2, .r1), .mov64(.r1, .r10), .add64(.r1, -8), .mov64(.r3, 1), .call(.iterNumNew)] + destroy() + end,
        .argument
    ),
    Case(
        "no end",
        [.mov64(.r1, .r10), .add64(.r1, -8), .mov64(.r2, 0), .call(.iterNumNew)] + destroy() + end,
        .uninitialized
    ),
    Case("read", make() + [.load64(.r0, .r10, -8)] + destroy() + end, .corruptedPointer),
    Case("read in part", make() + [.load8(.r0, .r10, -3)] + destroy() + end, .corruptedPointer),
    Case("written", make() + [.store64(.r10, -8, 0)] + destroy() + end, .corruptedPointer),
    Case("written in part", make() + [.store8(.r10, -1, 0)] + destroy() + end, .corruptedPointer),
    Case(
        "written at a variable offset",
        [.load64(.r6, .r1), .and64(.r6, 15)] + make() + [.add64(.r6, .r10), .store8(.r6, -16, 1)] + destroy() + end,
        .corruptedPointer
    ),
    Case(
        "read at a variable offset",
        [.load64(.r6, .r1), .and64(.r6, 15), .store64(.r10, -16, 0)] + make() + [
            .add64(.r6, .r10), .load8(.r0, .r6, -16),
        ] + destroy() + end,
        .corruptedPointer
    ),
    Case(
        "read by a helper",
        make() + [.mov64(.r1, .r10), .add64(.r1, -8), .mov64(.r2, 8), .call(.tracePrintk)] + destroy() + end,
        .corruptedPointer
    ),
    Case(
        "written by a helper",
        make() + [.mov64(.r1, .r10), .add64(.r1, -16), .mov64(.r2, 16), .call(.getCurrentComm)] + destroy() + end,
        .corruptedPointer
    ),
    Case(
        "written atomically",
        make() + [.mov64(.r1, 1), .atomic(.atomicAdd64, .r10, -8, .r1)] + destroy() + end,
        .corruptedPointer
    ),
    Case("the number may be missing", make() + next() + [.load32(.r6, .r0)] + destroy() + end, .notAPointer),
    Case(
        "the number is written",
        make() + next() + [.jumpEqual(.r0, 0, to: "out"), .store32(.r0, 0, 5), .label("out")] + destroy() + end,
        .readOnly
    ),
    Case(
        "behind the number",
        make() + next() + [.jumpEqual(.r0, 0, to: "out"), .load32(.r6, .r0, 4), .label("out")] + destroy() + end,
        .outOfBounds
    ),
    Case(
        "the number after destroy",
        make() + next() + [.mov64(.r6, .r0), .jumpEqual(.r0, 0, to: "out")] + destroy() + [
            .load32(.r0, .r6), .exit, .label("out"),
        ] + destroy() + end,
        .notAPointer
    ),
    Case("tail call", make() + [.exit], .unreleased),
    Case("endless once drained", make() + [.label("a")] + next() + [.jump(to: "a")], .endlessLoop),
    Case(
        "made anew in every round",
        [.label("a")] + make() + next() + destroy() + [.jump(to: "a")],
        .tooComplex,
        difference: "Linux 6.18 takes it for rounds of one iterator"
    ),
    Case(
        "made anew after a number, with a number",
        make() + [.label("a")] + next() + [.jumpEqual(.r0, 0, to: "out")] + destroy() + make() + next()
            + [.jumpNotEqual(.r0, 0, to: "a"), .label("out")] + destroy() + end,
        .tooComplex,
        difference: "Linux 6.18 takes it for rounds of one iterator"
    ),
    Case(
        "two made anew in turn",
        make() + [.label("a")] + make(-16) + next(-16) + destroy() + make() + next() + destroy(-16) + [.jump(to: "a")],
        .tooComplex
    ),
    Case("endless inside a loop", loop("a", [.label("b"), .jumpEqual(.r0, 3, to: "b")]) + end, .endlessLoop),
    // Two circles, each with an end, that have none together: one takes numbers and calls anew, the other uses up rounds of
    // that call and makes the iterator anew.
    Case(
        "made anew in the rounds of a function",
        loop("a", [.mov64(.r1, .r10), .add64(.r1, -8), .call("f")]) + end + [
            .function("f"), .mov64(.r6, .r1), .label("f again"), .mayGoto(to: "f end"),
        ] + again + [.jump(to: "f again"), .label("f end"), .mov64(.r0, 0), .exit],
        .tooComplex,
        difference: "Linux 6.18 takes it for rounds of one call"
    ),
    Case(
        "made anew by a callback",
        loop(
            "a",
            [
                .mov64(.r1, 5), .loadFunction(.r2, "f"), .mov64(.r3, .r10), .add64(.r3, -8), .mov64(.r4, 0),
                .call(.loop),
            ]
        ) + end + [.function("f"), .mov64(.r6, .r2)] + again + [.mov64(.r0, 0), .exit],
        .tooComplex
    ),
    Case(
        "an index that grows",
        array + [.mov64(.r6, 0)]
            + loop("a", [.mov64(.r1, .r10), .add64(.r1, -64), .add64(.r1, .r6), .store8(.r1, 0, 1), .add64(.r6, 1)])
            + end,
        .corruptedPointer
    ),
    Case(
        "an index that grows in the outer loop",
        array + [.mov64(.r6, 0)]
            + loop(
                "a",
                loop("b", [.mov64(.r1, .r10), .add64(.r1, -64), .add64(.r1, .r6), .store8(.r1, 0, 1)], -16) + [
                    .add64(.r6, 1)
                ]
            ) + end,
        .pointerArithmetic
    ),
    // Linux selftests, progs/iters.c: what the first rounds say is not so in later ones.
    Case(
        "wrong from the second round on",
        array + [.mov64(.r6, 0), .mov64(.r7, 0)]
            + loop(
                "a",
                [
                    .mov64(.r1, .r10), .add64(.r1, -64), .add64(.r1, .r6), .store8(.r1, 0, 1), .mov64(.r6, .r7),
                    .mov64(.r7, 1000),
                ]
            ) + end,
        .stackBounds
    ),
    Case(
        "wrong in one way through the body",
        [.load64(.r8, .r1)] + array + [.mov64(.r6, 0), .mov64(.r7, -32)]
            + loop(
                "a",
                [
                    .jumpEqual(.r8, 1, to: "use"), .jumpEqual(.r8, 2, to: "set"), .mov64(.r7, .r6), .jump(to: "a"),
                    .label("set"), .mov64(.r6, -1000), .jump(to: "a"),
                    .label("use"), .mov64(.r1, .r10), .add64(.r1, .r7), .store8(.r1, 0, 1), .call(.getPrandomU32),
                    .mov64(.r8, .r0),
                ]
            ) + end,
        .pointerArithmetic
    ),
]

/// `BPF_LOG_STATS`: the log of all steps of a loop has no end.
private let statistics: UInt32 = 4

@Suite struct IteratorTests {
    private func subject(_ test: Case, prunes: Bool = true) throws -> Subject {
        let program = try Assembly(test.program)
        var subject = Subject(
            instructions: program.instructions,
            functions: program.functions.map { FunctionFacts(name: "f\($0)", start: $0) },
            maps: [],
            type: .kprobe
        )
        subject.prunes = prunes
        return subject
    }

    @Test(arguments: accepted + refused)
    fileprivate func verdicts(_ test: Case) throws {
        let subject = try subject(test)
        do throws(VerifierError) {
            _ = try verify(subject)
            #expect(test.expected == nil)
        } catch {
            #expect(error.rule == test.expected, "\(error)")
        }
    }

    /// Programs without a licence under the GPL have no kernel functions.
    @Test func licence() throws {
        var subject = try subject(accepted[0])
        subject.isGPL = false
        #expect(throws: VerifierError.self) { try verify(subject) }
    }

    /// A kernel function is none of the helpers, and the other way round.
    @Test(arguments: [(Opcode.callHelper, Int64(213)), (.callKernelFunction, 5), (.callKernelFunction, -1)])
    func numbersAreApart(_ opcode: Opcode, _ number: Int64) throws {
        let subject = Subject(
            instructions: [Instruction(opcode, imm: number), Instruction(.exit)],
            functions: [FunctionFacts(name: "f", start: 0)],
            maps: [],
            type: .kprobe
        )
        let error = #expect(throws: VerifierError.self) { try verify(subject) }
        #expect(error?.rule == (opcode == .callHelper ? .unknownHelper : .unsupported))
    }

    @Test(.enabled(if: KernelVerifier.isOracle, KernelVerifier.reason), arguments: accepted + refused)
    fileprivate func kernel(_ test: Case) throws {
        let answer = KernelVerifier.ask(try Assembly(test.program).instructions, .kprobe, logLevel: statistics)
        let isSame = (answer.status == 0) == (test.expected == nil)
        #expect(isSame == (test.difference == nil), "\(answer.status) \(answer.log)")
    }
}
