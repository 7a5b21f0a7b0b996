package import CRuntime
package import CSession
package import ISA
internal import JIT
package import Runtime
package import UBPFVM

/// The engines that can run programs of a session.
package enum SessionEngine: String, CaseIterable, Sendable {
    case vm, jit, checkedJIT

    /// The engine that the running test is to use.
    @TaskLocal package static var current = SessionEngine.vm
}

/// A session in this process's memory, with programs that run on `SessionEngine.current`.
package final class SessionFixture {
    private var builder = SessionBuilder(cpuCount: 2, probeCapacity: 1, perfRingSize: 4096, seed: 1)
    private var image: UnsafeMutableRawPointer?
    private var shared: UnsafeMutableRawPointer?
    private let stack = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 16)
    private let context = UnsafeMutablePointer<cruntime_context>.allocate(capacity: 1)
    package var budget: UInt64 = 1 << 20
    /// `enum csession_flag`; set before the session is opened.
    package var flags: UInt32 = 0
    /// Offsets of fields of tasks; set before the session is opened.
    package var task: csession_task {
        get { builder.task }
        set { builder.task = newValue }
    }
    /// Bytes of zeros that a program may read as its context.
    package var contextSize = 0
    private let groups = UnsafeMutablePointer<UInt64>.allocate(capacity: 8)
    private let contextMemory = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 16)
    package var contextAddress: UInt64 { UInt64(UInt(bitPattern: contextMemory)) }
    /// Where the packet of a run lies; empty without one.
    package private(set) var packet: Range<UInt64> = 0..<0
    private var code: CompiledPrograms?
    private let engine: SessionEngine

    package init(maps: [MapParameters] = [], on engine: SessionEngine = .current) throws {
        self.engine = engine
        context.initialize(to: cruntime_context())
        for map in maps { _ = try builder.addMap(map) }
        builder.layoutMaps()
        mapCount = maps.count
    }

    private let mapCount: Int

    deinit {
        image?.deallocate()
        shared?.deallocate()
        stack.deallocate()
        contextMemory.deallocate()
        groups.deallocate()
        context.deallocate()
    }

    /// Links and adds a program.
    @discardableResult
    package func add(_ statements: [Statement]) throws -> Int { try add(Assembly(statements).instructions) }

    /// Links and adds a program.
    @discardableResult
    package func add(_ program: [Instruction]) throws -> Int {
        let linked = try link(program, mapCount: mapCount) { map, offset in
            let place = self.builder.valueLocation(map: map, offset: UInt64(offset))
            return SegmentOffset(storage: Int(place.storage), offset: place.offset)
        }
        return builder.addProgram(name: "test", type: .kprobe, instructions: linked)
    }

    /// Lays out the session; no programs can be added afterwards.
    package func open() -> SessionView {
        if let image, let shared {
            return SessionView(
                image: image.assumingMemoryBound(to: UInt8.self),
                shared: shared.assumingMemoryBound(to: UInt8.self)
            )
        }
        let built = builder.finish(ownerPid: 1, ownerTid: 1, flags: flags)
        let image = UnsafeMutableRawPointer.allocate(byteCount: built.bytes.count, alignment: 64)
        let shared = UnsafeMutableRawPointer.allocate(byteCount: built.sharedSize, alignment: 64)
        image.copyMemory(from: built.bytes, byteCount: built.bytes.count)
        shared.initializeMemory(as: UInt8.self, repeating: 0, count: built.sharedSize)
        built.initializeShared(shared)
        (self.image, self.shared) = (image, shared)
        let view = SessionView(
            image: image.assumingMemoryBound(to: UInt8.self),
            shared: shared.assumingMemoryBound(to: UInt8.self)
        )
        prepareContext(context, view)
        context.pointee.stack_low = UInt64(UInt(bitPattern: stack))
        context.pointee.stack_high = context.pointee.stack_low + 4096
        contextMemory.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
        if contextSize > 0 {
            context.pointee.context_low = contextAddress
            context.pointee.context_high = contextAddress + UInt64(contextSize)
        }
        prepareWindows(context)
        context.pointee.cpu_slot = -1
        context.pointee.pid_tgid = UInt64(cruntime_tid())
        return view
    }

    /// The process that programs see themselves in.
    package var processID: UInt64 {
        get { context.pointee.pid_tgid >> 32 }
        set { context.pointee.pid_tgid = newValue << 32 | context.pointee.pid_tgid & 0xffff_ffff }
    }

    /// Has programs run as another thread.
    package func setThread(id: UInt32, token: UInt64) {
        _ = open()
        context.pointee.pid_tgid = UInt64(id)
        context.pointee.thread_token = token
    }

    /// The control groups that programs see their process in, from the root on; at most eight.
    package func setControlGroups(_ ids: [UInt64]) {
        groups.initialize(from: ids, count: min(ids.count, 8))
        context.pointee.cgroups = UnsafePointer(groups)
        context.pointee.cgroup_count = UInt64(min(ids.count, 8))
    }

    /// Gives programs a packet, and a `struct xdp_md` that says where it is.
    package func setPacket(_ range: Range<UInt64>) {
        packet = range
        let words = contextMemory.assumingMemoryBound(to: UInt32.self)
        words[0] = UInt32(truncatingIfNeeded: range.lowerBound)
        words[1] = UInt32(truncatingIfNeeded: range.upperBound)
        words[2] = words[0]
        context.pointee.packet_low = range.lowerBound
        context.pointee.packet_high = range.upperBound
        prepareWindows(context)
    }

    /// Runs a program of the session on a stack of zeros.
    ///
    /// - Parameter observer: watches each instruction of the interpreter.
    package func run(
        _ program: Int = 0,
        r1: UInt64 = 0,
        observer: (any ExecutionObserver)? = nil
    ) throws(Trap) -> UInt64 {
        let view = open()
        stack.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
        context.pointee.budget = budget
        context.pointee.program = UInt32(program)
        let result: UInt64
        if engine == .vm {
            let count = Int32(view.program(program).pointee.instruction_count)
            let interpreted = { [context] in
                Interpreter.run(context, view.instructions(program), count, r1: r1, r2: 0)
            }
            if let observer { result = withObserver(observer, context, interpreted) } else { result = interpreted() }
        } else {
            context.pointee.trap = cruntime_trap(kind: 0, instruction: UInt32.max, value: 0)
            context.pointee.tail_calls = 0
            result = cruntime_run(entry(program, view), context, r1, 0)
            endRun(context)
        }
        if let trap = Trap(context) { throw trap }
        return result
    }

    /// The machine code of a program; compiled when first asked for.
    private func entry(_ program: Int, _ view: SessionView) -> UInt64 {
        if code == nil {
            let programs = (0..<Int(view.header.pointee.program_count)).map { index in
                UnsafeBufferPointer(
                    start: view.instructions(index),
                    count: Int(view.program(index).pointee.instruction_count)
                )
            }
            let mode: CompileOptions.Mode = engine == .jit ? .unchecked : .checked
            do {
                code = try CompiledPrograms.compile(programs, CompileOptions(mode, session: view))
            } catch {
                preconditionFailure(error.description)
            }
        }
        return code?.entry(program) ?? 0
    }

    /// What the last run left in the context.
    package var lastContext: cruntime_context { context.pointee }

    /// All frames' stacks as the last run left them.
    package var stackWords: [UInt64] {
        (0..<512).map { stack.load(fromByteOffset: 8 * $0, as: UInt64.self) }
    }

    /// Whether a value points into what programs may read, which is less than the session: not where its tables are.
    package func isGuest(_ value: UInt64) -> Bool {
        let ranges = [
            (context.pointee.stack_low, context.pointee.stack_high),
            (context.pointee.guest_low, context.pointee.guest_high),
            (context.pointee.rodata_low, context.pointee.rodata_high),
            (context.pointee.context_low, context.pointee.context_high),
            (context.pointee.keys_low, context.pointee.keys_high),
        ]
        return ranges.contains { $0.0 <= value && value < $0.1 } || value == context.pointee.stack_high
    }
}

/// Runs statements without a session on `SessionEngine.current`.
package func run(_ statements: [Statement], packet: [UInt8] = [], budget: UInt64 = 1 << 20) throws -> UInt64 {
    var runner = ProgramRunner(packet: packet)
    runner.budget = budget
    let program = try Assembly(statements).instructions
    switch SessionEngine.current {
    case .vm: return try runner.run(program)
    case .jit, .checkedJIT:
        var options = CompileOptions(SessionEngine.current == .jit ? .unchecked : .checked)
        options.hasPacket = true
        let compiled = try CompiledPrograms.compile(link(program, mapCount: 0) { _, _ in nil }, options)
        do {
            return try runner.run(compiled)
        } catch {
            throw RunError.trap(error)
        }
    }
}

/// The trap that statements end in; nil where they reach their `exit`.
package func trap(_ statements: [Statement], packet: [UInt8] = [], budget: UInt64 = 1 << 20) throws -> Trap? {
    do {
        _ = try run(statements, packet: packet, budget: budget)
        return nil
    } catch RunError.trap(let trap) {
        return trap
    }
}
