import CRuntime
import CSession
import ISA
import Loader
import Runtime

/// A run as it went, instruction by instruction.
///
///     let trace = try vm.trace("on_open", .uprobe(0x1000))
///     for point in trace.points { print(point.line ?? 0, trace.text(of: point)) }
public struct Trace: Sendable {
    /// The moment before one instruction is executed.
    public struct Point: Equatable, Sendable {
        /// Index of the program that runs, as tail calls change it, among the VM's runnable programs.
        let program: Int
        /// Index of the instruction in the program.
        public let instruction: Int
        /// r0 to r10.
        public let registers: [UInt64]
        /// Helper calls made before.
        let calls: Int
    }

    /// How the run ended.
    public enum End: Sendable {
        /// With a return value.
        case returned(Program.Outcome)
        /// With a mistake.
        case trapped(Trap)
    }

    /// Every instruction that was executed, in order; at most ``limit``.
    public let points: [Point]
    /// How it ended.
    public let end: End
    /// The helper calls, in order.
    public let calls: [HelperCall]
    let programs: [ProgramSpec]
    let places: TracePlaces
    /// Whether all of the run is here.
    public let isComplete: Bool
    /// Of each program, index of the line that each instruction comes from; -1 where none is known.
    private let lines: [[Int]]

    init(
        _ recorder: TraceRecorder,
        end: End,
        calls: [HelperCall],
        programs: [ProgramSpec],
        places: TracePlaces
    ) {
        points = recorder.points
        isComplete = recorder.isComplete
        self.end = end
        self.calls = calls
        self.programs = programs
        self.places = places
        lines = programs.map { program in
            var lines = [Int](repeating: -1, count: program.instructions.count)
            for (index, line) in program.lines.enumerated() where lines.indices.contains(line.instruction) {
                lines[line.instruction] = index
            }
            for index in lines.indices.dropFirst() where lines[index] < 0 { lines[index] = lines[index - 1] }
            return lines
        }
    }

    /// Points that are kept; what a run does after that is not seen.
    public static let limit = 200_000

    /// Name of the program at a point.
    public func program(at point: Point) -> String { programs[point.program].name }

    /// Where a point comes from in the source, where the object has line information.
    public func source(of point: Point) -> (file: String, line: Int, text: String)? {
        let index = lines[point.program][point.instruction]
        if index < 0 { return nil }
        let line = programs[point.program].lines[index]
        return (line.file, line.line, line.text)
    }

    /// The instruction, as the kernel's tools write it.
    public func text(of point: Point) -> String {
        let code = programs[point.program].instructions
        let names = places.maps.map(\.name)
        let disassembler = Disassembler { names.indices.contains(Int($0)) ? names[Int($0)] : nil }
        return code.indices.contains(point.instruction) ? disassembler.text(code[point.instruction]) : "?"
    }

    /// What a register's value is, like `fp-8`, `map calls`, `value of calls +0`, `ctx +112`; nil for numbers.
    public func meaning(of register: Int, at point: Point) -> String? {
        places.meaning(of: point.registers[register], framePointer: point.registers[10])
    }

    /// The helper call that the instruction at an index of ``points`` makes.
    public func call(at index: Int) -> HelperCall? {
        let before = points[index].calls
        // Calls that were made after what is kept are those of other instructions.
        if index + 1 == points.count, !isComplete, helper(at: index) == nil { return nil }
        let after = index + 1 < points.count ? points[index + 1].calls : calls.count
        return after > before && calls.indices.contains(before) ? calls[before] : nil
    }

    /// Name without `bpf_` of the helper that the instruction at an index of ``points`` calls, also of those that run programs.
    public func helper(at index: Int) -> String? {
        let point = points[index]
        let code = programs[point.program].instructions
        guard code.indices.contains(point.instruction) else { return nil }
        let instruction = code[point.instruction]
        guard case .callHelper = instruction.opcode else { return nil }
        return HelperFacts.name(UInt32(truncatingIfNeeded: instruction.imm))
    }

    /// The map that the instruction at an index of ``points`` changes: by a helper, or by a store to one of its values.
    public func mapWritten(at index: Int) -> String? {
        if let call = call(at: index) { return Self.readers.contains(call.helper) ? nil : call.map }
        let point = points[index]
        let code = programs[point.program].instructions
        guard code.indices.contains(point.instruction) else { return nil }
        let instruction = code[point.instruction]
        switch instruction.opcode.shape {
        case .store, .atomic:
            let address =
                point.registers[Int(instruction.dst.rawValue)] &+ UInt64(bitPattern: Int64(instruction.offset))
            return places.map(at: address)?.name
        case .arithmetic, .negate, .signExtend, .byteOrder, .wide, .packet, .load, .jump, .conditionalJump, .mayGoto,
            .call, .exit:
            return nil
        }
    }

    /// Helpers that name a map and leave it as it is.
    private static let readers: Set<String> = [
        "map_lookup_elem", "map_lookup_percpu_elem", "map_peek_elem", "for_each_map_elem", "ringbuf_query", "tail_call",
    ]
}

/// What a run's memory is called.
struct TracePlaces: Sendable {
    struct Map: Sendable {
        let name: String
        let values: Range<UInt64>
        let stride: UInt64
    }

    let maps: [Map]
    let stack: Range<UInt64>
    let context: Range<UInt64>
    let packet: Range<UInt64>

    func map(at address: UInt64) -> Map? { maps.first { $0.values.contains(address) } }

    func meaning(of value: UInt64, framePointer: UInt64) -> String? {
        if let index = ISA.MapHandle.index(value), maps.indices.contains(index) { return "map \(maps[index].name)" }
        if let map = map(at: value) {
            let offset = map.stride == 0 ? 0 : (value - map.values.lowerBound) % map.stride
            return "value of \(map.name) +\(offset)"
        }
        if stack.contains(value) || value == framePointer {
            if value > framePointer { return "a caller's stack" }
            return value == framePointer ? "fp" : "fp-\(framePointer - value)"
        }
        if context.contains(value) { return "ctx +\(value - context.lowerBound)" }
        if packet.contains(value) || value == packet.upperBound && !packet.isEmpty {
            return "packet +\(value - packet.lowerBound)"
        }
        return nil
    }
}

/// Somebody who watches one run of the interpreter.
protocol RunWatcher: AnyObject {
    /// An observer for the run; this object must outlive it.
    func observer() -> cruntime_observer
}

/// Keeps the points of a run.
@safe
final class TraceRecorder: RunWatcher {
    private let execution: Execution
    private(set) var points: [Trace.Point] = []
    /// Whether the run had no more instructions than are kept.
    private(set) var isComplete = true

    init(_ execution: Execution) { self.execution = execution }

    func observer() -> cruntime_observer {
        unsafe cruntime_observer(
            step: { user, context, instruction, registers in
                guard let user = unsafe user else { return 1 }
                let recorder = unsafe Unmanaged<TraceRecorder>.fromOpaque(user).takeUnretainedValue()
                if recorder.points.count < Trace.limit {
                    let point = unsafe Trace.Point(
                        program: Int(context.pointee.program),
                        instruction: Int(instruction),
                        registers: Array(UnsafeBufferPointer(start: registers, count: 11)),
                        calls: recorder.execution.calls.count
                    )
                    recorder.points.append(point)
                } else {
                    recorder.isComplete = false
                }
                return 1
            },
            user: Unmanaged.passUnretained(self).toOpaque(),
            budget: 0
        )
    }
}

extension VM {
    /// Runs a program on the interpreter and keeps what it did; throws a ``TestingError`` where it cannot run.
    public func trace(_ program: String, _ context: Context = .uprobe()) throws -> Trace {
        guard engine == .interpreter else { throw TestingError.compile("only interpreted runs can be traced") }
        let recorder = TraceRecorder(execution)
        let end: Trace.End
        do {
            end = .returned(try execute(try self.program(program), context, recorder))
        } catch let trap as Trap {
            end = .trapped(trap)
        }
        return Trace(
            recorder,
            end: end,
            calls: execution.calls,
            programs: session.relocated,
            places: places()
        )
    }

    /// What a run that is not inside another one has where.
    private func places() -> TracePlaces {
        let memory = memories[0]
        let low = unsafe session.context.stack_low
        return TracePlaces(
            maps: object.spec.maps.indices.map { index in
                session.view(of: index)?.place(name: object.spec.maps[index].name)
                    ?? TracePlaces.Map(name: object.spec.maps[index].name, values: 0..<0, stride: 0)
            },
            stack: low..<low + UInt64(LoadedSession.stackSize),
            context: memory.contextAddress..<memory.packetAddress,
            packet: memory.packetAddress..<memory.packetAddress + UInt64(ContextMemory.packetLimit)
        )
    }
}

extension MapView {
    /// Where its values lie in this process.
    fileprivate func place(name: String) -> TracePlaces.Map {
        let descriptor = unsafe self.descriptor.pointee
        let isShared = descriptor.storage == CSESSION_STORAGE_SHARED.rawValue
        let base = unsafe isShared ? UInt(bitPattern: session.shared) : UInt(bitPattern: session.image)
        let start = UInt64(base) + descriptor.values_offset
        return TracePlaces.Map(
            name: name,
            values: start..<start + descriptor.values_size,
            stride: UInt64(descriptor.value_stride)
        )
    }
}
