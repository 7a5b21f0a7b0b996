import ISA
import Testing

@testable import Verifier

/// A program and what the verifier says about it; nil for accepted.
private struct Case: CustomTestStringConvertible, Sendable {
    var name: String
    var program: [Statement]
    var expected: Rule?
    var at: Int

    init(_ name: String, _ program: [Statement], _ expected: Rule? = nil, at: Int = 0) {
        self.name = name
        self.program = program
        self.expected = expected
        self.at = at
    }

    var testDescription: String { name }
}

/// Functions that call the next one, `count` frames in all.
private func chain(_ count: Int) -> [Statement] {
    var result: [Statement] = []
    for index in 0..<count {
        result.append(.function("f\(index)"))
        if index + 1 < count { result.append(.call("f\(index + 1)")) }
        result += [.mov64(.r0, 0), .exit]
    }
    return result
}

private let accepted: [Case] = [
    Case("smallest", [.mov64(.r0, 0), .exit]),
    Case("back edge", [.mov64(.r0, 0), .label("a"), .add64(.r0, 1), .jumpLess(.r0, 9, to: "a"), .exit]),
    Case("whole frame", [.store64(.r10, -512, 0), .store8(.r10, -1, 0), .mov64(.r0, 0), .exit]),
    Case(
        "copy of the frame pointer",
        [.mov64(.r2, .r10), .add64(.r2, -512), .store64(.r2, 0, 1), .mov64(.r0, 0), .exit]
    ),
    Case("saved register", [.mov64(.r6, .r1), .call(.ktimeGetNs), .load64(.r0, .r6), .exit]),
    Case(
        "both paths write",
        [
            .load64(.r2, .r1), .jumpEqual(.r2, 0, to: "a"), .mov64(.r0, 1), .jump(to: "b"), .label("a"), .mov64(.r0, 2),
            .label("b"), .exit,
        ]
    ),
    Case("eight frames", chain(8)),
    Case(
        "function with arguments",
        [.mov64(.r2, 3), .call("f"), .exit, .function("f"), .mov64(.r0, .r1), .add64(.r0, .r2), .exit]
    ),
    Case("void function", [.call("f"), .mov64(.r0, 0), .exit, .function("f"), .store64(.r10, -8, 1), .exit]),
    Case(
        "callback",
        [
            .mov64(.r1, 3), .loadFunction(.r2, "f"), .mov64(.r3, 0), .mov64(.r4, 0), .call(.loop), .exit,
            .function("f"), .mov64(.r0, .r1), .and64(.r0, 1), .exit,
        ]
    ),
    Case(
        "poison behind a false guard",
        [
            .mov64(.r0, 0), .mov64(.r2, 0), .jumpEqual(.r2, 0, to: "end"), .op(.callHelper, imm: 0xbad2310),
            .label("end"), .exit,
        ]
    ),
    Case(
        "poison behind a computed guard",
        [
            .mov64(.r0, 0), .mov32(.r2, 5), .and32(.r2, 2), .lsh64(.r2, 32), .rsh64(.r2, 32),
            .jumpNotEqual32(.r2, 0, to: "dead"), .exit, .label("dead"), .op(.callHelper, imm: 0xbad2310), .exit,
        ]
    ),
    Case("may_goto", [.mov64(.r0, 0), .label("a"), .mayGoto(to: "end"), .jump(to: "a"), .label("end"), .exit]),
    Case(
        "compare and exchange",
        [
            .store64(.r10, -8, 0), .mov64(.r0, 0), .mov64(.r2, 1), .atomic(.atomicCompareExchange64, .r10, -8, .r2),
            .exit,
        ]
    ),
]

private let refused: [Case] = [
    Case("empty", [], .empty),
    Case("falls off the end", [.mov64(.r0, 0)], .controlFlow),
    Case("jump out", [.jump(by: 1), .exit], .controlFlow),
    Case(
        "jump into an immediate",
        [.jump(by: 1), .loadImm64(.r0, 0), .exit],
        .controlFlow
    ),
    Case("unreachable", [.mov64(.r0, 0), .exit, .mov64(.r0, 1), .exit], .unreachable, at: 2),
    Case("function never called", [.mov64(.r0, 0), .exit, .function("f"), .exit], .unreachable, at: 2),
    Case("calls itself", [.function("main"), .call("main"), .exit], .recursion),
    Case(
        "calls in a circle",
        [.call("f"), .exit, .function("f"), .call("g"), .exit, .function("g"), .call("f"), .exit],
        .recursion,
        at: 4
    ),
    Case(
        "callback that loops over itself",
        [
            .mov64(.r1, 1), .loadFunction(.r2, "f"), .mov64(.r3, 0), .mov64(.r4, 0), .call(.loop), .exit,
            .function("f"), .mov64(.r1, 1), .loadFunction(.r2, "f"), .mov64(.r3, 0), .mov64(.r4, 0), .call(.loop),
            .mov64(.r0, 0), .exit,
        ],
        .recursion,
        at: 7
    ),
    Case(
        "number that matters only behind a loop",
        [
            .mov64(.r6, 0), .label("head"), .mayGoto(to: "end"), .call(.getPrandomU32), .mov64(.r6, 1),
            .jumpGreater(.r0, 5, to: "more"), .mov64(.r6, 0), .label("more"), .mov64(.r7, 1), .mov64(.r7, 1),
            .mov64(.r7, 1), .mov64(.r7, 1), .jumpEqual(.r7, 9, to: "head"), .mov64(.r7, 1), .mov64(.r7, 1),
            .jumpEqual(.r7, 9, to: "head"), .mov64(.r7, 1), .mov64(.r7, 1), .jumpEqual(.r7, 9, to: "head"),
            .mov64(.r7, 1), .jump(to: "head"), .label("end"), .mov64(.r0, 0), .jumpEqual(.r6, 0, to: "out"),
            .load64(.r0, .r10, 0), .label("out"), .exit,
        ],
        .stackBounds,
        at: 21
    ),
    Case("nine frames", chain(9), .callsTooDeep, at: 21),
    Case("below the frame", [.store8(.r10, -513, 0), .exit], .stackBounds),
    Case("across the top", [.store64(.r10, -4, 0), .exit], .misaligned),
    Case("above the frame", [.load8(.r0, .r10, 0), .exit], .stackBounds),
    Case(
        "atomic below the frame",
        [.mov64(.r2, 1), .atomic(.atomicAdd64, .r10, -520, .r2), .mov64(.r0, 0), .exit],
        .stackBounds,
        at: 1
    ),
    Case("endless loop", [.label("a"), .jump(to: "a")], .endlessLoop),
    Case(
        "moved frame pointer",
        [.mov64(.r2, .r10), .add64(.r2, -512), .load64(.r0, .r2, -8), .exit],
        .stackBounds,
        at: 2
    ),
    Case("write to r10", [.op(.add64Imm, dst: .r10, imm: 1), .mov64(.r0, 0), .exit], .framePointer),
    Case(
        "exchange into r10",
        [.op(.atomicExchange64, dst: .r1, src: .r10), .mov64(.r0, 0), .exit],
        .framePointer
    ),
    Case("no result", [.exit], .uninitialized),
    Case("never written", [.mov64(.r0, .r7), .exit], .uninitialized),
    Case("r2 is no argument", [.mov64(.r0, .r2), .exit], .uninitialized),
    Case("lost in a call", [.call(.ktimeGetNs), .mov64(.r0, .r1), .exit], .uninitialized, at: 1),
    Case(
        "written on one path",
        [.load64(.r2, .r1), .jumpEqual(.r2, 0, to: "a"), .mov64(.r0, 1), .label("a"), .exit],
        .uninitialized,
        at: 3
    ),
    Case(
        "written at the end of a loop",
        [.mov64(.r0, 0), .label("a"), .add64(.r0, .r3), .mov64(.r3, 1), .jumpLess(.r0, 5, to: "a"), .exit],
        .uninitialized,
        at: 1
    ),
    Case("helper's argument", [.mov64(.r0, 0), .call(.mapLookupElem), .exit], .argument, at: 1),
    Case(
        "function's argument",
        [.call("f"), .exit, .function("f"), .mov64(.r0, .r3), .exit],
        .uninitialized,
        at: 2
    ),
    Case(
        "argument of a function behind a function",
        [.call("f"), .exit, .function("f"), .call("g"), .exit, .function("g"), .mov64(.r0, .r2), .exit],
        .uninitialized,
        at: 4
    ),
    Case(
        "result of a void function",
        [.call("f"), .exit, .function("f"), .store64(.r10, -8, 1), .exit],
        .uninitialized,
        at: 1
    ),
    Case(
        "r6 of the caller",
        [.mov64(.r6, 1), .call("f"), .exit, .function("f"), .mov64(.r0, .r6), .exit],
        .uninitialized,
        at: 3
    ),
    Case(
        "stack at any offset that is not negative",
        [
            .load64(.r3, .r1, 112), .rsh64(.r3, 1), .add64(.r3, .r10), .load8(.r0, .r3), .exit,
        ],
        .stackBounds,
        at: 3
    ),
    Case("unknown helper", [.op(.callHelper, imm: 212), .exit], .unknownHelper),
    Case("helper 0", [.op(.callHelper, imm: 0), .exit], .unknownHelper),
    Case("negative helper", [.op(.callHelper, imm: -1), .exit], .unknownHelper),
    Case("refused helper", [.call(.taskPtRegs), .exit], .unavailableHelper),
    Case("helper that nobody allowed", [.call(.overrideReturn), .exit], .unavailableHelper),
    Case("field that is not there", [.op(.callHelper, imm: 0xbad2311), .exit], .unresolvedRelocation),
    Case("poison", [.op(.callHelper, imm: 0xbad2310), .exit], .unresolvedRelocation),
    Case("packet access", [.mov64(.r6, .r1), .op(.loadAbs8), .exit], .badOperation, at: 1),
    Case("kernel function", [.op(.callKernelFunction, imm: 5), .exit], .unsupported),
    Case("indirect call", [.callRegister(.r1), .exit], .unsupported),
    Case("kernel variable", [.op(.loadVariable, imm: 5), .exit], .unsupported),
    Case("map by index", [.op(.loadMapByIndex), .exit], .unsupported),
]

/// A uprobe program without maps.
private func subject(_ instructions: [Instruction], _ functions: [Int]) -> Subject {
    Subject(
        instructions: instructions,
        functions: functions.map { FunctionFacts(name: "f\($0)", start: $0) },
        maps: [],
        type: .kprobe
    )
}

@Suite struct CheckTests {
    @Test(arguments: accepted)
    fileprivate func accepts(_ test: Case) throws {
        let program = try Assembly(test.program)
        _ = try verify(subject(program.instructions, program.functions))
    }

    @Test(arguments: refused)
    fileprivate func refuses(_ test: Case) throws {
        let program = try Assembly(test.program)
        let error = #expect(throws: VerifierError.self) {
            try verify(subject(program.instructions, program.functions))
        }
        #expect(error?.rule == test.expected)
        #expect(error?.instruction == test.at)
    }

    @Test func errorsNamePlaceAndInstruction() throws {
        let program = try Assembly([.mov64(.r6, .r1), .call(.taskPtRegs), .exit])
        let error = #expect(throws: VerifierError.self) { try verify(subject(program.instructions, [0])) }
        #expect(
            error?.description
                == "insn 1 (call bpf_task_pt_regs#175): bpf_task_pt_regs cannot run in userspace: "
                + "it gives the registers of a task, which are the program's context here"
        )
    }

    @Test(arguments: [[], [1], [0, 0], [0, 2], [0, -1]])
    func damagedFunctionLists(_ functions: [Int]) throws {
        let program = try Assembly([.mov64(.r0, 0), .exit])
        let error = #expect(throws: VerifierError.self) {
            try verify(subject(program.instructions, functions))
        }
        #expect(error?.rule == .controlFlow)
    }

    /// Whatever the program, the check ends with an answer, and the same one twice.
    @Test func randomPrograms() throws {
        var random = SplitMix(seed: 11)
        var good = 0
        for _ in 0..<20_000 {
            // With values everywhere a part of them is accepted.
            var program = Register.allCases.dropLast().map { Instruction(.mov64Imm, dst: $0, imm: 1) }
            let count = Int.random(in: 2...12, using: &random)
            for _ in 0..<count {
                let opcode = Opcode.allCases.randomElement(using: &random) ?? .exit
                program.append(
                    Instruction(
                        opcode,
                        dst: Register.allCases.randomElement(using: &random) ?? .r0,
                        src: Register.allCases.randomElement(using: &random) ?? .r0,
                        offset: Int32.random(in: -4...4, using: &random),
                        imm: Int64.random(in: -4...20, using: &random)
                    )
                )
            }
            program.append(Instruction(.exit))
            let functions = random.next() & 1 == 0 ? [0] : [0, 10 + count / 2]
            let first = outcome(program, functions)
            #expect(first == outcome(program, functions))
            if first == nil { good += 1 }
        }
        #expect(good > 0)
    }

    /// Another program, which a function went over to, may have moved the packet; what a function is given of it stays.
    @Test(arguments: [Helper.tailCall, .xdpAdjustHead, .ktimeGetNs])
    func globalFunctionsMovePackets(_ helper: Helper) throws {
        let start: [Statement] = [
            .mov64(.r6, .r1), .load32(.r7, .r6, 0), .load32(.r8, .r6, 4), .mov64(.r2, .r7), .add64(.r2, 8),
            .jumpGreater(.r2, .r8, to: "end"), .mov64(.r1, .r6),
        ]
        let function: [Statement] = [
            .function("f"), .loadMap(.r2, 0), .mov64(.r3, 0), .call(helper), .mov64(.r0, 0), .exit,
        ]
        let end: [Statement] = [.label("end"), .mov64(.r0, 0), .exit]
        func rule(_ program: [Statement], _ second: FunctionFacts.Parameter) throws -> Rule? {
            let program = try Assembly(start + program + end + function)
            var subject = subject(program.instructions, program.functions)
            subject.functions[1].contract = FunctionFacts.Contract(parameters: [.context, second])
            subject.maps = [MapFacts(name: "m", type: .programArray, keySize: 4, valueSize: 4, maxEntries: 1)]
            (subject.type, subject.platform) = (.xdp, .kernel)
            do { _ = try verify(subject) } catch { return error.rule }
            return nil
        }
        let moves = helper != .ktimeGetNs
        #expect(try rule([.mov64(.r2, 0), .call("f"), .load8(.r0, .r7)], .scalar) == (moves ? .notAPointer : nil))
        let memory = FunctionFacts.Parameter.memory(size: 8, isNullable: false)
        #expect(try rule([.mov64(.r2, .r7), .call("f")], memory) == (moves ? .argument : nil))
    }

    /// A sixth parameter would be r6, which is whatever the caller keeps there.
    @Test(arguments: [6, 12])
    func parametersThatNobodyPasses(_ count: Int) throws {
        let program = try Assembly([
            .mov64(.r2, 0), .mov64(.r3, 0), .mov64(.r4, 0), .mov64(.r5, 0), .mov64(.r6, 1), .call("f"), .exit,
            .function("f"), .load64(.r0, .r6), .exit,
        ])
        var subject = subject(program.instructions, program.functions)
        var parameters = [FunctionFacts.Parameter.context] + Array(repeating: .scalar, count: 4)
        parameters += Array(repeating: .memory(size: 8, isNullable: false), count: count - 5)
        subject.functions[1].contract = FunctionFacts.Contract(parameters: parameters)
        let error = #expect(throws: VerifierError.self) { try verify(subject) }
        #expect(error?.rule == .functionContract)
    }

    /// A function that only a timer seems to be given may be called at once, and then calls itself.
    @Test func recursionThroughCallbackAndGlobalFunction() throws {
        let program = try Assembly([
            .call("f"), .exit,
            .function("f"), .mov64(.r6, 0), .loadFunction(.r2, "round"), .jumpEqual(.r6, 0, to: "now"),
            .call(.timerSetCallback), .label("now"), .mov64(.r1, 1), .mov64(.r3, 0), .mov64(.r4, 0), .call(.loop),
            .mov64(.r0, 0), .exit,
            .function("round"), .call("f"), .mov64(.r0, 0), .exit,
        ])
        var subject = subject(program.instructions, program.functions)
        subject.functions[1].contract = FunctionFacts.Contract(parameters: [])
        let error = #expect(throws: VerifierError.self) { try verify(subject) }
        #expect(error?.rule == .recursion)
    }

    @Test func mapsOfUnknownMaps() throws {
        let program = try Assembly([
            .store32(.r10, -4, 0), .mov64(.r2, .r10), .add64(.r2, -4), .loadMap(.r1, 0), .call(.mapLookupElem),
            .jumpEqual(.r0, 0, to: "end"), .store32(.r0, 0, 7), .label("end"), .mov64(.r0, 0), .exit,
        ])
        var subject = subject(program.instructions, program.functions)
        subject.maps = [MapFacts(name: "m", type: .arrayOfMaps, keySize: 4, valueSize: 4, maxEntries: 1)]
        let error = #expect(throws: VerifierError.self) { try verify(subject) }
        #expect(error?.rule == .mapType)
    }

    private func outcome(_ program: [Instruction], _ functions: [Int]) -> VerifierError? {
        do {
            var subject = subject(program, functions)
            subject.limit = 2000
            _ = try verify(subject)
            return nil
        } catch {
            return error
        }
    }
}

/// Random numbers with a fixed seed (SplitMix64).
private struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
