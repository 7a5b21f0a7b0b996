internal import CRuntime
internal import CSession
internal import ISA
internal import JIT
internal import Runtime
internal import UBPFVM

/// What runs an accepted program.
enum RunEngine: String, CaseIterable {
    case interpreter = "the interpreter"
    case checked = "the checked JIT"
    case unchecked = "the unchecked JIT"
}

/// What the engines made of a program.
struct Runs {
    var interpreted: UInt32?
    var compiled: UInt32?
    var reason: Verdict.Reason?
}

/// Runs a verified program on one engine after the other, the checked ones first: what they refuse never runs unchecked.
///
/// A program that returns another value where its memory lies elsewhere and its stack is not zero returns an address or
/// what somebody else left behind, as the kernel lets privileged users do; there is nothing to compare with then.
///
/// - Parameter began: hears of each engine before it runs; false skips it and those behind it.
func execute(_ instructions: [Instruction], _ record: Record, began: (RunEngine) -> Bool) -> Runs {
    let fake = FakeContext(record.type, input: record.input)
    guard let image = sessionImage(instructions, record), let memory = RunMemory(image, fake, stackByte: 0),
        let elsewhere = RunMemory(image, fake, stackByte: 0xa5)
    else { return Runs() }
    var runs = Runs()
    let isRepeatable = isRepeatable(instructions)
    var isUndefined = false
    for engine in RunEngine.allCases {
        guard began(engine), let result = memory.run(engine) else { break }
        let value: UInt32
        switch result {
        case .failure(let trap):
            runs.reason = reason(for: trap, of: engine, in: instructions, memory.contextPage)
            return runs
        case .success(let r0): value = UInt32(truncatingIfNeeded: r0)
        }
        switch engine {
        case .interpreter:
            runs.interpreted = value
            isUndefined = isRepeatable && elsewhere.run(engine) != result
        case .checked: break
        case .unchecked: runs.compiled = value
        }
        if isRepeatable, let interpreted = runs.interpreted, interpreted != value {
            let message = "the interpreter returns \(interpreted), \(engine.rawValue) \(value)"
            runs.reason = Verdict.Reason(kind: "engines-differ", message: message)
            return runs
        }
    }
    if isUndefined {
        let message = "what the program returns depends on where its memory lies or on stack that it never wrote"
        return Runs(reason: Verdict.Reason(kind: "undefined", message: message))
    }
    return runs
}

/// Nil for what only says that the program asks for something that is not here, or takes too long.
private func reason(
    for trap: Trap,
    of engine: RunEngine,
    in instructions: [Instruction],
    _ contextPage: ClosedRange<UInt64>
) -> Verdict.Reason? {
    switch trap.kind {
    case .none, .budget, .unknownHelper, .unsupported, .wrongMapType, .stopped, .lockHeld: return nil
    case .badRead, .badWrite, .badArgument:
        if contextPage.contains(trap.value) { return nil }
    case .misaligned, .callDepth, .badJump: break
    }
    let slots = SlotMap(instructions).slots
    let slot = slots.indices.contains(trap.instruction) ? slots[trap.instruction] : nil
    return Verdict.Reason(
        kind: "trap",
        slot: slot,
        message: "\(engine.rawValue): \(trap.description(in: instructions))"
    )
}

/// Whether two runs must return the same: neither time nor the budget of an engine decide.
private func isRepeatable(_ instructions: [Instruction]) -> Bool {
    instructions.allSatisfy { instruction in
        if instruction.opcode == .mayGoto { return false }
        guard instruction.opcode == .callHelper, let number = UInt32(exactly: instruction.imm) else { return true }
        switch Helper(rawValue: number) {
        case .ktimeGetNs, .ktimeGetBootNs, .ktimeGetCoarseNs, .ktimeGetTaiNs, .getSmpProcessorId: return false
        default: return true
        }
    }
}

/// The program in a session with its maps; nil where this runtime lacks a map or cannot link it.
private func sessionImage(_ instructions: [Instruction], _ record: Record) -> SessionImage? {
    var builder = SessionBuilder(cpuCount: 1, probeCapacity: 1, perfRingSize: 4096, seed: 1)
    let used = Set(instructions.compactMap(\.mapIndex))
    for (index, map) in record.maps.enumerated() {
        // Those that are not used only take their places.
        let parameters =
            (used.contains(index) ? map.flatMap(MapParameters.init) : nil)
            ?? MapParameters(name: "", type: .array, keySize: 4, valueSize: 4, maxEntries: 1)
        if used.contains(index), MapParameters(map) == nil { return nil }
        guard (try? builder.addMap(parameters)) != nil else { return nil }
    }
    if instructions.contains(where: { $0.opcode == .callHelper && $0.imm == Int64(Helper.tracePrintk.rawValue) }) {
        guard (try? builder.addLogRing()) != nil else { return nil }
    }
    builder.layoutMaps()
    let linked = try? link(instructions, mapCount: record.maps.count) { map, offset in
        let place = builder.valueLocation(map: map, offset: UInt64(offset))
        return SegmentOffset(storage: Int(place.storage), offset: place.offset)
    }
    guard let linked else { return nil }
    _ = builder.addProgram(name: "program", type: record.type, instructions: linked)
    return builder.finish(ownerPid: cruntime_tid(), ownerTid: cruntime_tid())
}

extension MapParameters {
    fileprivate init?(_ map: RecordMap?) {
        guard let map, let type = MapType(rawValue: map.type) else { return nil }
        self.init(
            name: map.name,
            type: type,
            keySize: UInt32(map.keySize),
            valueSize: UInt32(map.valueSize),
            maxEntries: UInt32(map.maxEntries),
            flags: map.flags,
            contents: type == .array ? map.data : nil,
            isFrozen: map.isFrozen
        )
    }
}

extension RunMemory {
    /// Nil where the engine cannot run the program.
    fileprivate func run(_ engine: RunEngine) -> Result<UInt64, Trap>? {
        let count = unsafe Int(session.program(0).pointee.instruction_count)
        let code = unsafe UnsafeBufferPointer(start: session.instructions(0), count: count)
        let mode: CompileOptions.Mode
        switch engine {
        case .interpreter:
            return unsafe run { context, r1 in
                unsafe Interpreter.run(context, session.instructions(0), Int32(count), r1: r1, r2: 0)
            }
        case .checked: mode = .checked
        case .unchecked: mode = .unchecked
        }
        guard let compiled = unsafe try? CompiledPrograms.compile([code], CompileOptions(mode, session: session)) else {
            return nil
        }
        let entry = compiled.entry()
        let result = unsafe run { context, r1 in
            let result = unsafe cruntime_run(entry, context, r1, 0)
            unsafe endRun(context)
            return result
        }
        return result
    }
}
