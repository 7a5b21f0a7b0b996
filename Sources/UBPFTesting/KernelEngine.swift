import CLinux
import CRuntime
import Glibc
import ISA
import Kernel
import Loader
import Runtime

/// The running kernel as an engine (`BPF_PROG_TEST_RUN`).
///
/// Maps and programs are made in the kernel when a program of the object first runs there. Before each run the maps that it uses
/// get what the session's hold, after it the session's get what it left, so that a test sees and sets them as with every engine.
final class KernelEngine {
    private let spec: ObjectSpec
    private let session: LoadedSession
    private var maps: [Int: KernelMapCopy] = [:]
    private var programs: [Int: Loaded] = [:]
    /// Arrays of programs that have theirs.
    private var filled: Set<Int> = []
    private var events: [Int: KernelEvents] = [:]

    private final class Loaded {
        let program: KernelProgram
        init(_ program: consuming KernelProgram) { self.program = program }
    }

    private final class LoadedTypes {
        let btf: KernelBTF
        init(_ btf: consuming KernelBTF) { self.btf = btf }
    }

    private var types: LoadedTypes?

    /// Whether this process may load programs.
    static var isAvailable: Bool { geteuid() == 0 }

    init(_ spec: ObjectSpec, _ session: LoadedSession) throws(TestingError) {
        guard Self.isAvailable else { throw .needsRoot }
        self.spec = spec
        self.session = session
    }

    // MARK: Running

    /// Runs a program on a packet, the words of a raw tracepoint or plain memory.
    func run(_ program: Program, _ input: Context, _ vm: VM) throws(TestingError) -> Program.Outcome {
        guard vm.execution.mocks.isEmpty, vm.execution.faults.isEmpty else {
            throw .notForKernel(program.name, "its helpers are its own, and mocks and faults do not reach them")
        }
        if case .packet(let bytes, _) = input.kind, bytes.count < 14, program.spec.type != .socketFilter {
            throw .notForKernel(program.name, "it takes no packets of fewer than 14 bytes")
        }
        let loaded = try load(program.index)
        let affinity = Affinity()
        defer { affinity.restore() }
        for map in maps.values { try map.fill(session, cpu: affinity.cpu, slot: slot(vm)) }
        // What others left there.
        for ring in events.values { _ = ring.records() }
        let outcome = try run(loaded, program, input, vm)
        for map in maps.values { try map.fetch(session, cpu: affinity.cpu, slot: slot(vm)) }
        for (index, ring) in events {
            for record in ring.records() { unsafe vm.execution.take(record, map: index, session.context) }
        }
        return outcome
    }

    private func slot(_ vm: VM) -> Int { Int(vm.world.cpu) % session.session.cpuCount }

    private func run(_ loaded: Loaded, _ program: Program, _ input: Context, _ vm: VM) throws(TestingError)
        -> Program.Outcome
    {
        switch (input.kind, program.spec.type) {
        case (.packet(let bytes, let fields), .xdp):
            if fields != [:] { throw .notForKernel(program.name, "it sets the fields of xdp_md itself") }
            let range = littleEndian(UInt32(0)) + littleEndian(UInt32(bytes.count))
            let context = range + [UInt8](repeating: 0, count: 16)
            let (result, packet, left) = try ask(program) { () throws(KernelError) in
                try loaded.program.run(packet: bytes, context: context)
            }
            // Metadata comes first.
            let start: UInt32 = integer(left)
            return outcome(result, Array(packet.dropFirst(Int(start))), nil)
        case (.packet(let bytes, let fields), .socketFilter), (.packet(let bytes, let fields), .schedCls),
            (.packet(let bytes, let fields), .schedAct):
            if case .fields(let given) = fields,
                let own = given.keys.sorted().first(where: { !Self.fields.contains($0) })
            {
                throw .notForKernel(program.name, "it sets the field \(own) of __sk_buff itself")
            }
            // Socket filters are run behind an Ethernet header, which is not theirs.
            let header = program.spec.type == .socketFilter ? 14 : 0
            let `protocol` = bytes.count < 14 ? [0, 0] : bytes[12..<14]
            let frame = header == 0 ? bytes : [UInt8](repeating: 0, count: 12) + `protocol` + bytes
            let context = try vm.fields(fields)
            let (result, packet, left) = try ask(program) { () throws(KernelError) in
                try loaded.program.run(packet: frame, context: context)
            }
            return outcome(result, Array(packet.dropFirst(header)), vm.decode(left, "__sk_buff"))
        case (.readOnly(let bytes), .rawTracepoint):
            let (result, _) = try ask(program) { () throws(KernelError) in try loaded.program.run(context: bytes) }
            return outcome(result, [], nil)
        case (.writable(let bytes), .syscall):
            let (result, memory) = try ask(program) { () throws(KernelError) in try loaded.program.run(context: bytes) }
            return outcome(result, memory, nil)
        default: throw .kernelType(program.spec)
        }
    }

    /// Fields of `__sk_buff` that it takes (net/bpf/test_run.c, `convert___skb_to_skb`).
    private static let fields: Set<String> = [
        "mark", "priority", "ingress_ifindex", "ifindex", "cb", "tstamp", "wire_len", "gso_segs", "gso_size",
        "hwtstamp",
    ]

    private func ask<Result>(
        _ program: Program,
        _ body: () throws(KernelError) -> Result
    ) throws(TestingError) -> Result {
        do throws(KernelError) { return try body() } catch {
            // About its input, like IP packets without all of their header; the program was taken.
            if error.errno == EINVAL { throw .notForKernel(program.name, "it does not take this input (\(error))") }
            throw .kernel(program.name, error)
        }
    }

    private func outcome(_ result: UInt32, _ context: [UInt8], _ fields: Value?) -> Program.Outcome {
        Program.Outcome(result: UInt64(result), context: context, fields: fields, instructions: 0, calls: [])
    }

    // MARK: Loading

    /// The program of a session's index, with its maps and the programs that it may go over to.
    private func load(_ index: Int) throws(TestingError) -> Loaded {
        if let known = programs[index] { return known }
        let program = session.relocated[index]
        switch program.type {
        case .socketFilter, .schedCls, .schedAct, .xdp, .rawTracepoint, .syscall: break
        default: throw .kernelType(program)
        }
        var instructions = program.instructions
        let callsBack = instructions.contains { if case .loadFunction = $0.opcode { true } else { false } }
        let types = callsBack ? try functionTypes(program) : nil
        var arrays: [Int] = []
        for place in instructions.indices {
            switch instructions[place].opcode {
            case .loadMap, .loadMapValue:
                let number = Int(instructions[place].imm & 0xffff_ffff)
                let map = try map(number)
                if spec.maps[number].type == .programArray, !filled.contains(number) { arrays.append(number) }
                instructions[place].imm = instructions[place].imm & ~0xffff_ffff | Int64(map.map.descriptor)
            default: break
            }
        }
        let loaded: Loaded
        do throws(KernelError) {
            loaded = Loaded(
                try KernelProgram(
                    instructions,
                    type: program.type,
                    flags: program.isSleepable || program.type == .syscall ? KernelProgram.sleepable : 0,
                    license: spec.license,
                    attachType: program.attachType,
                    name: program.name,
                    externs: spec.externs.map(\.name),
                    functions: types
                )
            )
        } catch { throw .kernel("the kernel refuses \(program.name)", error) }
        programs[index] = loaded
        do throws(TestingError) {
            // Before its programs are loaded, which may use it, too.
            for array in arrays where filled.insert(array).inserted { try fill(array) }
        } catch {
            // A program whose tail calls lead nowhere is none to be remembered.
            programs[index] = nil
            filled.subtract(arrays)
            throw error
        }
        return loaded
    }

    /// What the kernel wants to know of programs with callbacks.
    private func functionTypes(_ program: ProgramSpec) throws(TestingError) -> FunctionTypes? {
        if let types { return FunctionTypes(program, types: types.btf.descriptor) }
        guard let own = spec.btf else { return nil }
        do throws(KernelError) {
            let loaded = LoadedTypes(try KernelBTF(own))
            types = loaded
            return FunctionTypes(program, types: loaded.btf.descriptor)
        } catch { throw .kernel("types", error) }
    }

    private func map(_ index: Int) throws(TestingError) -> KernelMapCopy {
        if let known = maps[index] { return known }
        let map = try KernelMapCopy(spec.maps[index], index)
        maps[index] = map
        switch spec.maps[index].type {
        case .ringBuffer, .perfEventArray: events[index] = try KernelEvents(map.map, spec.maps[index])
        default: break
        }
        return map
    }

    /// Puts the object's programs into an array of them.
    private func fill(_ array: Int) throws(TestingError) {
        guard let map = maps[array] else { return }
        for element in spec.maps[array].initialElements {
            guard case .program(let name) = element.value,
                let number = spec.programs.firstIndex(where: { $0.name == name })
            else { continue }
            let program = try load(try session.program(number))
            let key = littleEndian(UInt32(element.index))
            let status = map.map.update(key, littleEndian(program.program.descriptor))
            if status != 0 { throw .operation("element \(element.index)", spec.maps[array].name, status) }
        }
    }
}

/// This thread on the CPU where it is, until it may go anywhere again.
private struct Affinity {
    private let before: [UInt8]
    private let isKnown: Bool
    let cpu: Int

    init() {
        var mask = [UInt8](repeating: 0, count: 128)
        let got = Self.call(204, &mask)
        before = mask
        let cpu = Int(cruntime_cpu())
        self.cpu = cpu
        // A mask of the kernel's own may be larger: then the thread stays free.
        isKnown = got > 0 && cpu < 1024
        guard isKnown else { return }
        var own = [UInt8](repeating: 0, count: 128)
        own[cpu / 8] = 1 << UInt8(cpu % 8)
        _ = Self.call(203, &own)
    }

    func restore() {
        guard isKnown else { return }
        var mask = before
        _ = Self.call(203, &mask)
    }

    /// sched_setaffinity and sched_getaffinity.
    private static func call(_ number: Int64, _ mask: inout [UInt8]) -> Int64 {
        let size = Int64(mask.count)
        return unsafe mask.withUnsafeMutableBytes { mask in
            clinux_syscall(number, 0, size, Int64(Int(bitPattern: mask.baseAddress)), 0, 0, 0)
        }
    }
}
