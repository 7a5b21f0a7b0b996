internal import CRuntime
internal import ISA
internal import JIT
package import Runtime
internal import UBPFVM

/// Random programs that no verifier would accept: wild addresses, endless loops, deep recursion, calls of anything.
///
/// Made of groups of instructions; jumps go to the start of a group of the same function, so that no register is read that a
/// call left undefined, unless that is what is wanted.
package struct WildProgram {
    private var random: SeededGenerator
    /// Groups of each function, the program's own first.
    private var functions: [[[Instruction]]] = []
    private var jumps: [(function: Int, group: Int, index: Int, to: Int)] = []
    private var calls: [(function: Int, group: Int, index: Int, to: Int)] = []
    /// Handles of functions, or of what lies `beside` their first instruction.
    private var handles: [(function: Int, group: Int, index: Int, to: Int, beside: Int)] = []
    /// Whether the program may be called like its functions.
    private var recurses = false
    private static let functionCount = 3

    /// Whether registers are read that hold what the engine likes: what calls and callers leave in them.
    private let readsUndefined: Bool

    /// A program, and the parts of it that can be left out.
    static func make(seed: UInt64, readsUndefined: Bool = false) -> (code: [Instruction], units: [Range<Int>]) {
        var program = WildProgram(random: SeededGenerator(seed: seed), readsUndefined: readsUndefined)
        program.recurses = Bool.random(using: &program.random)
        for index in 0..<functionCount { program.addFunction(index) }
        let (code, starts) = program.assembled()
        var units: [Range<Int>] = []
        // A function's first group and its `exit` stay.
        for groups in starts {
            for (start, end) in zip(groups, groups.dropFirst()).dropFirst() { units.append(start..<end) }
        }
        return (code, units)
    }

    private mutating func pick<T>(_ values: [T]) -> T { values[Int.random(in: 0..<values.count, using: &random)] }

    private mutating func register() -> Register { pick([.r0, .r1, .r2, .r3, .r4, .r5, .r6, .r7, .r8, .r9]) }

    private mutating func addFunction(_ index: Int) {
        var groups: [[Instruction]] = []
        var start: [Instruction] = []
        for register in [Register.r0, .r3, .r4, .r5, .r7, .r8, .r9] {
            // Both engines begin a program with zeros, and a function with its arguments, but not what else a function finds.
            let isArgument = register.rawValue >= 3 && register.rawValue <= 5
            let isDefined = index == 0 && !recurses || isArgument || readsUndefined
            if isDefined, Int.random(in: 0..<4, using: &random) != 0 { continue }
            start.append(Instruction(.mov64Imm, dst: register, imm: immediate()))
        }
        start.append(
            index == 0 ? Instruction(.mov64Reg, dst: .r6, src: .r1) : Instruction(.mov64Reg, dst: .r6, src: .r2)
        )
        groups.append(start)
        let count = Int.random(in: 4...20, using: &random)
        for group in 1...count { groups.append(makeGroup(index, group, count)) }
        groups.append([Instruction(.exit)])
        functions.append(groups)
    }

    private mutating func immediate() -> Int64 {
        Bool.random(using: &random) ? Int64.random(in: -64...64, using: &random) : pick(OpcodeCase.immediates)
    }

    private mutating func makeGroup(_ function: Int, _ group: Int, _ count: Int) -> [Instruction] {
        switch Int.random(in: 0..<16, using: &random) {
        case 0...4: return [arithmetic()]
        case 5...9: return [access()]
        case 10: return pointer()
        case 11...12:
            jumps.append((function, group, 0, Int.random(in: 1...(count + 1), using: &random)))
            let opcode = pick(Opcode.allCases.filter { if case .conditionalJump = $0.shape { true } else { false } })
            var jump = Instruction(opcode, dst: register())
            if case .conditionalJump(_, _, .reg) = opcode.shape {
                jump.src = register()
            } else {
                jump.imm = immediate()
            }
            return [jump]
        case 13: return call(function, group)
        default: return [arithmetic(), access()]
        }
    }

    private mutating func arithmetic() -> Instruction {
        let opcode = pick(
            Opcode.allCases.filter {
                switch $0.shape {
                case .arithmetic, .negate, .signExtend, .byteOrder: true
                default: false
                }
            }
        )
        var instruction = Instruction(opcode, dst: register())
        switch opcode.shape {
        case .arithmetic(_, _, .imm): instruction.imm = immediate()
        case .arithmetic, .signExtend: instruction.src = register()
        default: break
        }
        return instruction
    }

    /// A load, store or atomic operation through anything, often near an end of the stack or the packet.
    private mutating func access() -> Instruction {
        let opcode = pick(
            Opcode.allCases.filter {
                switch $0.shape {
                case .load, .store, .atomic: true
                default: false
                }
            }
        )
        let base: Register = pick([.r10, .r10, .r6, .r6, .r6, register()])
        let offset = pick([0, 1, -8, -16, -505, -512, -513, -1024, -4096, -4097, 8, 24, 56, 57, 63, 64, 32767, -32768])
        switch opcode.shape {
        case .load, .atomic(.loadAcquire, _):
            return Instruction(opcode, dst: register(), src: base, offset: Int32(offset))
        case .store(_, .imm): return Instruction(opcode, dst: base, offset: Int32(offset), imm: immediate())
        default: return Instruction(opcode, dst: base, src: register(), offset: Int32(offset))
        }
    }

    /// An address in the stack or the packet, or beside it, in a register.
    private mutating func pointer() -> [Instruction] {
        let to = register()
        return [
            Instruction(.mov64Reg, dst: to, src: pick([.r10, .r6])),
            Bool.random(using: &random)
                ? Instruction(.add64Imm, dst: to, imm: Int64.random(in: -600...80, using: &random))
                : Instruction(.add64Reg, dst: to, src: register()),
        ]
    }

    private mutating func call(_ function: Int, _ group: Int) -> [Instruction] {
        var code: [Instruction] = []
        switch Int.random(in: 0..<7, using: &random) {
        case 0...2:
            calls.append((function, group, 1, Int.random(in: 1..<Self.functionCount, using: &random)))
            code = [Instruction(.mov64Reg, dst: .r2, src: .r6), Instruction(.callLocal)]
        case 3:
            // A helper that there is, and ones that there are not.
            code = [Instruction(.mov64Imm, dst: .r2, imm: 3), Instruction(.callHelper, imm: pick([14, 999, 0, -1]))]
        case 4:
            let target = pick([Int64(bitPattern: FunctionHandle.make(100_000)), 12, 14, 164, 181, 99_999, -1, 1 << 40])
            code = [Instruction(.loadImm64, dst: .r2, imm: target), Instruction(.callRegister, dst: .r2)]
        default:
            // What no call or reference goes to is no function, and neither is the middle of one.
            let to = Int.random(in: (recurses ? 0 : 1)..<Self.functionCount, using: &random)
            handles.append((function, group, 0, to, pick([0, 0, 0, 0, 1, 2, -1])))
            code = [
                Instruction(.loadImm64, dst: .r9), Instruction(.mov64Reg, dst: to == 0 ? .r1 : .r2, src: .r6),
                Instruction(.callRegister, dst: .r9),
            ]
        }
        for register in [Register.r1, .r2, .r3, .r4, .r5] where !readsUndefined || Bool.random(using: &random) {
            code.append(Instruction(.mov64Imm, dst: register, imm: immediate()))
        }
        return code
    }

    /// The code, and where each function's groups start in it.
    private func assembled() -> (code: [Instruction], starts: [[Int]]) {
        var starts: [[Int]] = []
        var code: [Instruction] = []
        for groups in functions {
            starts.append(
                groups.map { group in
                    defer { code += group }
                    return code.count
                }
            )
        }
        func slots(_ from: Int, _ to: Int) -> Int {
            from <= to ? code[from..<to].reduce(0) { $0 + $1.slots } : -code[to..<from].reduce(0) { $0 + $1.slots }
        }
        for jump in jumps {
            let at = starts[jump.function][jump.group] + jump.index
            code[at].offset = Int32(slots(at + 1, starts[jump.function][jump.to]))
        }
        for call in calls {
            let at = starts[call.function][call.group] + call.index
            code[at].imm = Int64(slots(at + 1, starts[call.to][0]))
        }
        for handle in handles {
            let at = starts[handle.function][handle.group] + handle.index
            code[at].imm = Int64(
                bitPattern: FunctionHandle.make(max(starts[handle.to][0] + handle.beside, recurses ? 0 : 1))
            )
        }
        return (code, starts)
    }
}

/// How a wild program ended.
private enum Ending: Equatable {
    case result(UInt64)
    case trap(Trap)
    /// Engines count differently, so the place differs.
    case budget

    var kind: TrapKind {
        switch self {
        case .result: .none
        case .trap(let trap): trap.kind
        case .budget: .budget
        }
    }
}

/// What the interpreter and checked code disagree about, as a message, nil where they agree; and how the run ended.
package func compareWild(seed: UInt64, minimising seconds: Double = 5) throws -> (
    difference: String?, ending: TrapKind
) {
    let (program, units) = WildProgram.make(seed: seed)
    let hasPacket = seed & 1 == 0
    let (difference, ending) = try compareWild(program, hasPacket)
    guard let difference else { return (nil, ending) }
    let smaller = Minimiser.minimise(program, units: units, seconds: seconds) {
        (try? compareWild($0, hasPacket))?.difference != nil
    }
    let message = (try? compareWild(smaller, hasPacket))?.difference ?? difference
    return ("\(message)\nThe whole program: \(difference)", ending)
}

private func compareWild(_ program: [Instruction], _ hasPacket: Bool) throws -> (difference: String?, ending: TrapKind)
{
    let linked = try link(program, mapCount: 0) { _, _ in nil }
    var options = CompileOptions(.checked)
    options.hasPacket = hasPacket
    let compiled = try CompiledPrograms.compile(linked, options)
    let packet = (0..<64).map { UInt8($0 * 3) }
    // One runner for both, so that addresses are the same.
    var runner = ProgramRunner(packet: packet)
    runner.budget = 5_000
    let interpreted = { (context: UnsafeMutablePointer<cruntime_context>, r1: UInt64, r2: UInt64) in
        linked.withUnsafeBufferPointer { code -> UInt64 in
            guard let start = code.baseAddress else { return 0 }
            return Interpreter.run(context, start, Int32(code.count), r1: r1, r2: r2)
        }
    }
    let entry = compiled.entry()
    let run = { (context: UnsafeMutablePointer<cruntime_context>, r1: UInt64, r2: UInt64) in
        let result = cruntime_run(entry, context, r1, r2)
        endRun(context)
        return result
    }
    defer { withExtendedLifetime(compiled.size) {} }
    let (expected, expectedBytes) = ending(&runner, interpreted)
    let executed = runner.executed
    runner.packetBytes = packet
    let (actual, actualBytes) = ending(&runner, run)
    let charged = runner.executed
    if expected == .budget || actual == .budget {
        if expected == actual { return (nil, .budget) }
        // What the interpreter finishes, checked code does.
        if case .result = expected { return ("stopped by its budget: \(listing(program))", .budget) }
        // One of them may come to the end, or to a trap, with what the other one counts as too much.
        runner.packetBytes = packet
        runner.budget = 1_000_000
        let (again, _) = ending(&runner, expected == .budget ? interpreted : run)
        let other = expected == .budget ? actual : expected
        let text = "one ended by its budget, the other: \(other), then \(again)\n\(listing(program))"
        return (again == other ? nil : text, other.kind)
    }
    // Checked code counts what it executes, or a part of it where ways part; and no trap is before what is charged with it.
    let isFair = executed <= 10 * charged && (charged <= executed || expected.kind != .none)
    if expected == actual, expectedBytes == actualBytes, isFair { return (nil, expected.kind) }
    let places = zip(expectedBytes, actualBytes).enumerated().filter { $0.element.0 != $0.element.1 }.map(\.offset)
    let text = """
        interpreter: \(expected)
        checked code: \(actual)
        executed \(executed), charged \(charged)
        different bytes of the packet and of the stack behind it: \(places)
        \(listing(program))
        """
    return (text, expected.kind)
}

/// How a run ends, and the packet and all stacks as it leaves them.
private func ending(
    _ runner: inout ProgramRunner,
    _ run: (UnsafeMutablePointer<cruntime_context>, UInt64, UInt64) -> UInt64
) -> (Ending, [UInt8]) {
    var stack: [UInt8] = []
    let ending: Ending
    do throws(Trap) {
        let result = try runner.runAny { context, r1, r2 in
            let result = run(context, r1, r2)
            let (low, high) = (context.pointee.stack_low, context.pointee.stack_high)
            stack = Array(
                UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: UInt(low)), count: Int(high - low))
            )
            return result
        }
        ending = .result(result)
    } catch {
        ending = error.kind == .budget ? .budget : .trap(error)
    }
    return (ending, runner.packetBytes + stack)
}
