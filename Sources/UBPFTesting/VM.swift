import CRuntime
import ISA
import Loader
import Runtime
import UBPFVM

/// A loaded object: its maps in this process's memory, and its programs ready to run, without root.
///
/// Programs run on the interpreter that also runs inside probed processes, with every memory access checked. All that they
/// learn of their surroundings is in ``world``, so that each run gives the same.
///
///     let vm = try VM(BPFObject(path: "malloccount.bpf.o"))
///     vm.world.pid = 7
///     try vm.run("on_malloc", .uprobe(64))
///     #expect(try vm.map("totals")[7]?["bytes"] == 64)
public final class VM {
    /// The object that was loaded.
    public let object: BPFObject
    /// Instructions that one run may execute.
    public var budget: UInt64 = 1 << 26
    let session: LoadedSession
    let execution: Execution
    let memories: [ContextMemory]
    private(set) var counters: CoverageCounters?
    private var compiled: Compiled?
    private var kernel: KernelEngine?
    private let kernelTypes: KernelTypes

    /// Makes the maps, verifies and links the programs.
    ///
    /// A program that cannot run, or that the verifier refuses, is reported when it is used, so that an object's other
    /// programs can be tested. Memory accesses are checked as programs run in any case; programs of types that the verifier
    /// does not know rely on that alone.
    ///
    /// - Parameters:
    ///   - object: the object, with its options set.
    ///   - verifies: false lets programs run that the verifier refuses, to see what they do.
    ///   - cpus: values that per-CPU maps have for each key.
    ///   - types: what CO-RE relocations are resolved against.
    public init(
        _ object: BPFObject,
        verifies: Bool = true,
        cpus: Int = 1,
        types: KernelTypes = .own
    ) throws(TestingError) {
        self.object = object
        kernelTypes = types
        session = try LoadedSession(object.spec, verifies: verifies, cpus: max(1, cpus), types: types)
        execution = Execution(maps: object.maps)
        var memories: [ContextMemory] = []
        for _ in 0..<LoadedSession.depthLimit { memories.append(try ContextMemory()) }
        self.memories = memories
        if let run = EngineRun.current { try use(run.engine) }
    }

    /// What programs can learn of their surroundings.
    public var world: World {
        get { execution.world }
        set { execution.world = newValue }
    }

    /// What runs programs; the interpreter at first.
    public private(set) var engine = Engine.interpreter

    /// Changes what runs programs; throws where they cannot be compiled.
    public func use(_ engine: Engine) throws(TestingError) {
        let (code, kernel): (Compiled?, KernelEngine?)
        switch engine {
        case .interpreter: (code, kernel) = (nil, nil)
        case .checkedJIT: (code, kernel) = (try Compiled(session.linked, session.session, isChecked: true), nil)
        case .jit: (code, kernel) = (try Compiled(session.linked, session.session, isChecked: false), nil)
        case .kernel: (code, kernel) = (nil, try KernelEngine(object.spec, session))
        }
        (compiled, self.kernel) = (code, kernel)
        self.engine = engine
    }

    /// A fresh start: maps and variables as the object has them, a new world, no mocks and faults.
    ///
    /// Coverage stays.
    public func reset(_ world: World = World()) {
        session.reset()
        execution.reset()
        execution.world = world
    }

    // MARK: Running

    /// A program by its name; throws where it cannot run in user space, with the reason.
    public func program(_ name: String) throws(TestingError) -> Program {
        guard let index = object.spec.programs.firstIndex(where: { $0.name == name }) else {
            throw .noProgram(name, object.programs)
        }
        return Program(name: name, index: try session.program(index), spec: object.spec.programs[index], vm: self)
    }

    /// Runs a program; throws a ``TestingError`` where it cannot run, a ``Trap`` where it did wrong.
    @discardableResult
    public func run(_ program: String, _ context: Context = .uprobe()) throws -> Program.Outcome {
        try self.program(program).run(context)
    }

    func execute(
        _ program: Program,
        _ input: Context,
        _ watcher: (any RunWatcher)? = nil
    ) throws -> Program.Outcome {
        // A run inside another one is part of that one.
        guard let run = EngineRun.current, execution.depth == 0 else {
            return try execute(program, input, watcher, isInterpreted: false)
        }
        return try compared(program, run) { try execute(program, input, watcher, isInterpreted: $0) }
    }

    private func execute(
        _ program: Program,
        _ input: Context,
        _ watcher: (any RunWatcher)?,
        isInterpreted: Bool
    ) throws -> Program.Outcome {
        if let kernel, !isInterpreted { return try kernel.run(program, input, self) }
        let compiled = isInterpreted ? nil : compiled
        if compiled != nil, case .jit = engine, PointerReads.concern(program.spec.type) {
            throw TestingError.unverified(program.name)
        }
        let depth = execution.depth
        guard depth < LoadedSession.depthLimit else { throw TestingError.expectation("runs are nested too deep") }
        let memory = memories[depth]
        var context = unsafe session.context
        let distance = UInt64(depth * LoadedSession.stackSize)
        unsafe (context.stack_low, context.stack_high) = (context.stack_low + distance, context.stack_high + distance)
        unsafe context.cpu_slot =
            Int32(execution.world.cpu % UInt32(session.session.cpuCount)) | LoadedSession.sharedSlot
        unsafe context.program = UInt32(program.index)
        unsafe context.budget = budget
        let (r1, r2, packet) = unsafe try prepare(input, program, memory, &context)
        let view = session.session
        let count = unsafe Int32(view.program(program.index).pointee.instruction_count)
        let code = unsafe view.instructions(program.index)
        let (result, after, calls, last) = unsafe execution.run(context, packet: packet) { context in
            if let compiled { return unsafe compiled.run(context, program: program.index, r1: r1, r2: r2) }
            let wanted = unsafe watcher?.observer() ?? counters?.observer()
            let reads =
                unsafe PointerReads.concern(program.spec.type)
                ? PointerReads(execution, session.linked, wanted) : nil
            guard var observer = unsafe reads?.observer() ?? wanted else {
                return unsafe Interpreter.run(context, code, count, r1: r1, r2: r2)
            }
            return withExtendedLifetime(reads) {
                unsafe withUnsafeMutablePointer(to: &observer) { observer in
                    unsafe context.pointee.observer = unsafe observer
                    let result = unsafe Interpreter.run(context, code, count, r1: r1, r2: r2)
                    unsafe context.pointee.observer = nil
                    unsafe context.pointee.budget = unsafe observer.pointee.budget
                    return result
                }
            }
        }
        if let trap = unsafe UBPFVM.Trap(after.trap),
            let explained = session.explain(trap, program: Int(unsafe after.program))
        {
            throw explained
        }
        let left = unsafe last?.data ?? after.packet_low..<after.packet_high
        return Program.Outcome(
            result: result,
            context: left.isEmpty ? [] : memory.bytes(left),
            fields: last.flatMap { fields(of: $0, memory) },
            instructions: unsafe budget - after.budget,
            calls: calls
        )
    }

    /// Puts a program's input where it finds it; r1 and r2.
    private func prepare(
        _ input: Context,
        _ program: Program,
        _ memory: ContextMemory,
        _ context: inout cruntime_context
    ) throws -> (r1: UInt64, r2: UInt64, packet: PacketWindow?) {
        switch input.kind {
        case .registers(let registers): unsafe put(registers, [], memory, &context)
        case .usdt(let arguments, let registers):
            try placeUSDT(arguments, registers)
            unsafe put(registers, [], memory, &context)
        case .perfEvent(let registers, let period, let address):
            unsafe put(registers, littleEndian(period) + littleEndian(address), memory, &context)
        case .typed(let type, let fields):
            unsafe memory.put(context: try record(type, fields), into: &context)
        case .readOnly(let bytes): unsafe memory.put(context: bytes, into: &context)
        case .writable(let bytes):
            unsafe memory.put(packet: bytes, into: &context)
            return (memory.packetAddress, UInt64(bytes.count), nil)
        case .packet(let bytes, let fields):
            guard bytes.count <= ContextMemory.packetLimit else {
                throw TestingError.tooLong("a packet", bytes.count, ContextMemory.packetLimit)
            }
            let packet = memory.packetWindow(bytes.count, program.spec.type)
            let head = try PacketContext.bytes(
                fields,
                packet: packet,
                protocol: bytes.count < 14 ? nil : Array(bytes[12..<14]),
                types: object.types
            )
            unsafe memory.put(context: head, into: &context, isWritable: program.spec.type != .xdp)
            unsafe memory.put(packet: bytes, into: &context)
            return unsafe (context.context_low, 0, packet)
        }
        return unsafe (context.context_low, 0, nil)
    }

    /// A `__sk_buff` with nothing but these fields.
    func fields(_ fields: Value) throws(TestingError) -> [UInt8] {
        guard let types = object.types, let id = types.id(ofStruct: "__sk_buff") else {
            if fields != [:] { throw .noType("__sk_buff") }
            return [UInt8](repeating: 0, count: 192)
        }
        return try types.encode(fields, id, "__sk_buff")
    }

    /// Bytes as a struct of the object; nil where it does not know it.
    func decode(_ bytes: [UInt8], _ type: String) -> Value? {
        guard let types = object.types, let id = types.id(ofStruct: type) else { return nil }
        return types.decode(bytes[...], id)
    }

    /// The context of a packet as the program left it; nil where the object does not know its type.
    private func fields(of packet: PacketWindow, _ memory: ContextMemory) -> Value? {
        decode(memory.context(packet.type == .xdp ? 24 : 192), PacketContext.name(packet.type))
    }

    /// A record by the kernel that the programs are for, where it knows the struct; else by the object.
    private func record(_ type: String, _ fields: Value) throws(TestingError) -> [UInt8] {
        for types in [kernelTypes.types, object.types] {
            if let types, let id = types.id(named: type) { return try types.encode(fields, id, type) }
        }
        throw .noType(type)
    }

    private func put(
        _ registers: ProbeRegisters,
        _ more: [UInt8],
        _ memory: ContextMemory,
        _ context: inout cruntime_context
    ) {
        let bytes = unsafe withUnsafeBytes(of: registers.native) { unsafe [UInt8]($0) }
        unsafe memory.put(context: bytes + more, into: &context)
        unsafe context.regs = unsafe memory.registers
        unsafe context.function_ip = registers.instructionPointer
    }

    /// What libbpf's usdt.bpf.h finds its arguments by: one specification, of constants.
    private func placeUSDT(_ arguments: [UInt64], _ registers: ProbeRegisters) throws(TestingError) {
        let constants = arguments.map { Value.fields(["val_off": .integer(Int128($0)), "arg_type": 0]) }
        let specs = try map("__bpf_usdt_specs")
        let number = Int128(bitPattern: UInt128(execution.world.cookie))
        try specs.set(["args": .list(constants), "arg_cnt": .integer(Int128(arguments.count))], at: .integer(number))
        if object.maps.contains("__bpf_usdt_ip_to_spec_id") {
            try map("__bpf_usdt_ip_to_spec_id").set(
                .integer(number),
                at: .integer(Int128(registers.instructionPointer))
            )
        }
    }

    // MARK: Results

    /// A map by its name.
    public func map(_ name: String) throws(TestingError) -> MapHandle {
        guard let index = object.spec.maps.firstIndex(where: { $0.name == name }), let view = session.view(of: index)
        else { throw .noMap(name, object.maps) }
        return MapHandle(spec: object.spec.maps[index], view: view, session: session, types: object.types)
    }

    /// The current value of an integer variable of `.rodata`, `.data` or `.bss`.
    public func value(of variable: String) throws(TestingError) -> Int64 {
        let found = try object.find(variable).variable
        guard found.size <= 8 else { throw .notAnInteger(variable, size: found.size) }
        let word = try bytes(of: variable).enumerated().reduce(UInt64(0)) {
            $0 | UInt64($1.element) << UInt64(8 * $1.offset)
        }
        let unused = UInt64(64 - 8 * found.size)
        let isSigned = found.kind == .signed || found.kind == .character
        return isSigned ? Int64(bitPattern: word << unused) >> Int64(unused) : Int64(bitPattern: word)
    }

    /// The current value of a variable, by its type.
    public func variable(_ name: String) throws(TestingError) -> Value {
        let found = try object.find(name).variable
        let bytes = try bytes(of: name)
        guard let types = object.types, found.type != 0 else { return .bytes(bytes) }
        return types.decode(bytes[...], found.type)
    }

    /// Sets a variable of `.data` or `.bss`, by its type.
    public func set(_ name: String, to value: Value) throws(TestingError) {
        let (map, found) = try object.find(name)
        guard let types = object.types, found.type != 0 else { throw .noType(name) }
        let handle = try self.map(object.spec.maps[map].name)
        var all = try handle.value(forKey: [0, 0, 0, 0]) ?? []
        let bytes = try types.encode(value, found.type, name)
        all.replaceSubrange(found.offset..<found.offset + bytes.count, with: bytes)
        try handle.set(all, forKey: [0, 0, 0, 0])
    }

    /// The current bytes of a variable of `.rodata`, `.data` or `.bss`.
    public func bytes(of variable: String) throws(TestingError) -> [UInt8] {
        let (map, found) = try object.find(variable)
        let all = try self.map(object.spec.maps[map].name).value(forKey: [0, 0, 0, 0]) ?? []
        return Array(all[found.offset..<found.offset + found.size])
    }

    /// Lines printed with `bpf_printk()` since the last call.
    public func printedLines() -> [String] { session.printedLines() }

    /// Puts a value of one of the object's types into the world's memory, like a `task_struct` for `BPF_CORE_READ`.
    public func place(_ value: Value, as type: String, at address: UInt64) throws(TestingError) {
        execution.world.memory.place(try bytes(of: value, as: type), at: address)
    }

    /// A value's bytes by one of the object's types.
    public func bytes(of value: Value, as type: String) throws(TestingError) -> [UInt8] {
        guard let types = object.types, let id = types.id(named: type) else { throw .noType(type) }
        return try types.encode(value, id, type)
    }

    // MARK: Mocks and faults

    /// Replaces a helper, by its name with or without `bpf_`.
    public func mock(_ helper: String, _ answer: @escaping Mock) throws(TestingError) {
        execution.mocks[try replaceable(helper)] = answer
    }

    /// Makes a helper fail: its `call`-th call from now on, or all of them where that is nil.
    ///
    /// - Parameters:
    ///   - helper: its name, with or without `bpf_`.
    ///   - map: only calls that work on this map.
    ///   - call: which of the calls that are meant, from 1.
    ///   - errno: what it returns, negative; null where it returns a pointer.
    public func fail(_ helper: String, map: String? = nil, call: Int? = nil, with errno: Errno) throws(TestingError) {
        var index: Int?
        if let map {
            index = object.maps.firstIndex(of: map)
            if index == nil { throw .noMap(map, object.maps) }
        }
        execution.faults.append(Fault(helper: try replaceable(helper), map: index, nth: call, errno: errno))
    }

    /// How often a helper was called since the last reset.
    public func calls(of helper: String) throws(TestingError) -> Int { execution.counts[Int(try number(helper))] }

    /// The number of a helper, but those that run programs: the engines do that themselves.
    private func replaceable(_ helper: String) throws(TestingError) -> UInt32 {
        let number = try number(helper)
        // bpf_tail_call, bpf_for_each_map_elem, bpf_loop, bpf_user_ringbuf_drain
        if [12, 164, 181, 209].contains(number) { throw .runsPrograms(helper) }
        return number
    }

    private func number(_ helper: String) throws(TestingError) -> UInt32 {
        guard let number = HelperFacts.number(helper), number < 256 else { throw .noHelper(helper) }
        return number
    }

    // MARK: Coverage

    /// Whether runs of the interpreter are counted; each instruction then takes longer.
    public var countsCoverage: Bool {
        get { counters != nil }
        set { counters = newValue ? counters ?? CoverageCounters(session.linked) : nil }
    }

    /// What runs reached since counting began; empty where it is off.
    public var coverage: Coverage {
        var coverage = Coverage()
        guard let counters else { return coverage }
        for (index, program) in session.relocated.enumerated() {
            coverage.add(
                program,
                session.linked[index],
                counts: counters.counts(index),
                taken: counters.taken(index)
            )
        }
        return coverage
    }
}
