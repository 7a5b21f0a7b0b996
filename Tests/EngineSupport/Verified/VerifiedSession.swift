internal import CRuntime
package import ISA
internal import Runtime
internal import UBPFVM
package import Verifier

/// A program in a session with the maps of `VerifiedMap`, and what the verifier says of it.
package enum VerifiedSession {
    static let maps = VerifiedMap.allCases.map { map in
        MapParameters(
            name: "\(map)",
            type: map == .hash ? .hash : .array,
            keySize: UInt32(map.keySize),
            valueSize: UInt32(map.valueSize),
            maxEntries: UInt32(map.maxEntries)
        )
    }

    package static func subject(
        _ program: [Instruction],
        platform: Subject.Platform = .userspace,
        type: ProgramType = .kprobe
    ) -> Subject {
        let slots = SlotMap(program)
        var starts: Set<Int> = [0]
        for (index, instruction) in program.enumerated() {
            switch instruction.flow {
            case .call(let distance), .reference(let distance):
                if let start = slots.instruction(at: slots.slots[index] + 1 + distance) { starts.insert(start) }
            case .next, .jump, .exit: break
            }
        }
        var subject = Subject(
            instructions: program,
            functions: starts.sorted().map { FunctionFacts(name: "f\($0)", start: $0) },
            maps: VerifiedMap.allCases.map {
                MapFacts(
                    name: "\($0)",
                    type: $0 == .hash ? .hash : .array,
                    keySize: $0.keySize,
                    valueSize: $0.valueSize,
                    maxEntries: $0.maxEntries
                )
            },
            type: type
        )
        subject.platform = platform
        // What these programs take is far less.
        subject.limit = 100_000
        return subject
    }

    /// Inputs of edges, small numbers and random words.
    static func inputs(seed: UInt64, count: Int) -> [[UInt64]] {
        var random = SeededGenerator(seed: ~seed)
        return (0..<count).map { _ in
            (0..<8).map { _ in
                switch Int.random(in: 0..<4, using: &random) {
                case 0: random.next()
                case 1: OpcodeCase.edges[Int.random(in: 0..<OpcodeCase.edges.count, using: &random)]
                case 2: UInt64.random(in: 0...70, using: &random)
                default: UInt64.random(in: 0...8, using: &random)
                }
            }
        }
    }

    /// What is wrong with the verdict on a program of any origin; a few inputs and steps.
    package static func fault(ofUntrusted program: [Instruction]) -> String? {
        var subject = subject(program)
        subject.limit = 20_000
        let recorder = Recorder(limit: 64)
        guard (try? verify(subject, recorder: recorder)) != nil else { return nil }
        // Helpers that do something to this process are left alone.
        let isHarmless = program.allSatisfy { instruction in
            instruction.opcode != .callHelper || [1, 2, 3, 5, 7, 14, 15, 16, 181].contains(instruction.imm)
        }
        guard isHarmless else { return nil }
        let inputs = inputs(seed: UInt64(program.count), count: 2)
        return (try? fault(program, inputs, .vm, recorders: [recorder], budget: 20_000)) ?? nil
    }

    /// Runs a program once for each input, 64 bytes, on an engine; the first fault.
    ///
    /// - Parameter recorders: whose states the interpreter's runs must lie in.
    static func fault(
        _ program: [Instruction],
        _ inputs: [[UInt64]],
        _ engine: SessionEngine,
        recorders: [Recorder] = [],
        budget: UInt64 = 1 << 22
    ) throws -> String? {
        let fixture = try SessionFixture(maps: maps, on: engine)
        fixture.contextSize = 168
        fixture.budget = budget
        // What no path leads to is not verified; the linker looks at it too.
        do { try fixture.add(program) } catch is LinkError { return nil }
        let view = fixture.open()
        let hash = MapView(view, Int(VerifiedMap.hash.index))
        for key in [UInt64(0), 2, 5] {
            _ = hash.update([key], [UInt64](repeating: key, count: 4), flags: 0, tid: 1, slot: -1)
        }
        let words = MapView(view, Int(VerifiedMap.words.index))
        for input in inputs {
            input.withUnsafeBytes { bytes in
                if let base = bytes.baseAddress {
                    words.lookup([UInt32(0)], slot: 0)?.copyMemory(from: base, byteCount: bytes.count)
                }
            }
            do throws(Trap) {
                guard engine == .vm else {
                    _ = try fixture.run(r1: fixture.contextAddress)
                    continue
                }
                let observer = SoundnessObserver(program, recorders, fixture, view)
                _ = try fixture.run(r1: fixture.contextAddress, observer: observer)
            } catch {
                // Nobody promises that what a program may repeat at will ends soon.
                if error.kind == .budget, budget < 1 << 20 { continue }
                if error.kind == .budget, program.contains(where: { $0.opcode == .mayGoto || $0.opcode == .callHelper })
                {
                    continue
                }
                let what = (error.kind == .stopped ? lastFault : nil) ?? error.description(in: program)
                return "\(engine.rawValue), inputs \(input): \(what)"
            }
        }
        return nil
    }

    nonisolated(unsafe) fileprivate static var lastFault: String?
}

/// Watches a run of an accepted program: every access must lie inside one object, and every register where the verifier
/// says that it may be.
private final class SoundnessObserver: ExecutionObserver {
    private let program: [Instruction]
    private let recorders: [Recorder]
    private let view: SessionView
    private let context: UInt64
    private var frames: [Machine.Frame] = []
    private var last = 0
    /// Where values start; those of elements that were deleted stay, as pointers to them do.
    private var values: [[UInt64]]

    init(_ program: [Instruction], _ recorders: [Recorder], _ fixture: SessionFixture, _ view: SessionView) {
        self.program = program
        self.recorders = recorders
        self.view = view
        context = fixture.contextAddress
        values = VerifiedMap.allCases.map { _ in [] }
        VerifiedSession.lastFault = nil
        findValues()
    }

    private func findValues() {
        for map in VerifiedMap.allCases {
            let here = MapView(view, Int(map.index))
            var cursor = MapCursor()
            while cursor.advance(here, slot: 0) {
                guard let value = cursor.value else { continue }
                let address = UInt64(UInt(bitPattern: value))
                if !values[Int(map.index)].contains(address) { values[Int(map.index)].append(address) }
            }
        }
    }

    func willExecute(_ step: ExecutionStep) -> Bool {
        if program[last].opcode == .callHelper { findValues() }
        update(step)
        last = step.instruction
        let machine = Machine(
            frames: frames,
            context: context,
            word: { UnsafePointer<UInt64>(bitPattern: UInt($0))?.pointee ?? 0 },
            values: { self.values[$0] }
        )
        var fault = accessFault(step)
        for recorder in recorders where fault == nil { fault = recorder.mismatch(at: step.instruction, machine) }
        if let fault {
            VerifiedSession.lastFault =
                "instruction \(step.instruction) (\(Disassembler().text(program[step.instruction]))): \(fault)"
        }
        return fault == nil
    }

    /// Frames by what r10 is: a callee's is lower.
    private func update(_ step: ExecutionStep) {
        while frames.count > 1, frames[frames.count - 1].registers[10] < step.registers[10] { frames.removeLast() }
        if frames.isEmpty || frames[frames.count - 1].registers[10] > step.registers[10] {
            let isCallback = program[last].opcode == .callHelper
            frames.append(
                Machine.Frame(callSite: frames.isEmpty ? -1 : last, isCallback: isCallback, registers: step.registers)
            )
        }
        frames[frames.count - 1].registers = step.registers
    }

    /// What an instruction reads or writes must lie inside one frame, one value, or the context.
    private func accessFault(_ step: ExecutionStep) -> String? {
        let instruction = program[step.instruction]
        let (base, bytes): (Register, Int)
        switch instruction.opcode.shape {
        case .load(let size, _): (base, bytes) = (instruction.src, size.bytes)
        case .atomic(.loadAcquire, let size): (base, bytes) = (instruction.src, size.bytes)
        case .store(let size, _), .atomic(_, let size): (base, bytes) = (instruction.dst, size.bytes)
        case .call(.helper): return helperFault(step, instruction)
        default: return nil
        }
        let start = step.registers[Int(base.rawValue)] &+ UInt64(bitPattern: Int64(instruction.offset))
        return isInside(start, bytes) ? nil : "accesses \(bytes) bytes that lie in no object of the program"
    }

    private func isInside(_ start: UInt64, _ bytes: Int) -> Bool {
        let end = start &+ UInt64(bytes)
        if end < start { return false }
        if frames.contains(where: { start >= $0.registers[10] - 512 && end <= $0.registers[10] }) { return true }
        if start >= context, end <= context + 168 { return true }
        return VerifiedMap.allCases.contains { map in
            values[Int(map.index)].contains { start >= $0 && end <= $0 + UInt64(map.valueSize) }
        }
    }

    /// Keys, values and buffers of helpers, where the map is the one that was loaded just before.
    private func helperFault(_ step: ExecutionStep, _ instruction: Instruction) -> String? {
        let registers = step.registers
        var areas: [(UInt64, Int)] = []
        switch instruction.imm {
        case 1, 2, 3:
            let load = program[..<step.instruction].suffix(3).last { $0.opcode == .loadMap && $0.dst == .r1 }
            guard let map = load.flatMap({ VerifiedMap(rawValue: $0.imm) }) else { return nil }
            areas.append((registers[2], map.keySize))
            if instruction.imm == 2 { areas.append((registers[3], map.valueSize)) }
        case 16: areas.append((registers[1], Int(truncatingIfNeeded: registers[2])))
        default: return nil
        }
        for (start, bytes) in areas where bytes > 0 && !isInside(start, bytes) {
            return "gives a helper \(bytes) bytes that lie in no object of the program"
        }
        return nil
    }
}
