internal import CRuntime
package import ISA
package import Runtime

/// How programs are compiled.
@safe
package struct CompileOptions {
    package enum Mode: Sendable {
        /// Memory accesses, call depth and the budget are checked in code; a violation is a trap in the context.
        case checked
        /// Nothing is checked: only for programs that a verifier accepted.
        case unchecked
    }

    package var mode: Mode
    package var features: CPUFeatures
    /// The session whose maps programs use; nil for programs without maps.
    package var session: SessionView?
    /// 256 addresses of functions that replace our helpers, 0 where there is none.
    package var externals: UnsafePointer<UInt64>?
    /// Whether r1 points to packet memory instead of the program's context; only a guess that makes checks fast.
    package var hasPacket = false
    /// Whether entries of unchecked code may be plain C functions: `uint64_t (uint64_t r1, uint64_t r2)`.
    package var isStandalone = false
    /// Whether the depth of calls is checked even where nothing else is: a function may go over to another program, which
    /// then has what is left of the stack, and was verified as if it had all of it.
    var checksDepth = false
    /// Off in another try, where a distance was estimated too short.
    var allowsShortJumps = true
    /// Bytes of code that an instruction may take on average; more in another try.
    var room = 192

    package init(_ mode: Mode, features: CPUFeatures = .current, session: SessionView? = nil) {
        self.mode = mode
        self.features = features
        self.session = session
        unsafe self.externals = nil
    }

    var isChecked: Bool {
        switch mode {
        case .checked: true
        case .unchecked: false
        }
    }
}

/// What generated code may use beyond the base of x86-64.
package struct CPUFeatures: Sendable {
    package var hasBMI2: Bool

    package init(hasBMI2: Bool) { self.hasBMI2 = hasBMI2 }

    /// Of the CPU that this runs on.
    package static var current: CPUFeatures {
        CPUFeatures(hasBMI2: cruntime_cpu_features() & UInt32(CRUNTIME_CPU_BMI2) != 0)
    }
}

/// Machine code of the programs of a session.
package struct CompiledPrograms: ~Copyable {
    private let memory: ExecutableMemory
    private let entries: [Int]
    /// Whether entries need no context: they make room for a stack, and run without `endRun`.
    package let isStandalone: Bool
    /// Whether each program calls anything outside the generated code, which itself uses no vector registers.
    package let callsRuntime: [Bool]

    /// Compiles programs together, so that tail calls find each other.
    ///
    /// - Parameter programs: linked programs; those of a session in its order.
    package static func compile(
        _ programs: [UnsafeBufferPointer<LinkedInstruction>],
        _ options: CompileOptions
    ) throws(CodeError) -> CompiledPrograms {
        var options = options
        while true {
            do throws(CodeError) {
                return unsafe try compileOnce(programs, options)
            } catch {
                switch error {
                case .tooFar(_, bytes: 1) where options.allowsShortJumps: options.allowsShortJumps = false
                case .full where options.room < 1 << 16: options.room *= 8
                case .full, .tooFar, .unboundLabel, .crossesFunctions, .noSession, .system: throw error
                }
            }
        }
    }

    /// Compiles one program.
    package static func compile(
        _ program: [LinkedInstruction],
        _ options: CompileOptions
    ) throws(CodeError) -> CompiledPrograms {
        var result: CompiledPrograms?
        var failure: CodeError?
        unsafe program.withUnsafeBufferPointer { code in
            do throws(CodeError) { result = unsafe try compile([code], options) } catch { failure = error }
        }
        if let failure { throw failure }
        guard let result = result.take() else { throw .full(capacity: 0) }
        return result
    }

    /// Whether a function, not the program itself, makes a tail call.
    private static func nestsTailCalls(_ program: UnsafeBufferPointer<LinkedInstruction>) -> Bool {
        var isFunction = false
        for index in program.indices {
            if unsafe index > 0 && program[index].startsFunction { isFunction = true }
            guard isFunction, case .callHelper = unsafe program[index].opcode else { continue }
            if unsafe program[index].imm == 12 { return true }
        }
        return false
    }

    private static func compileOnce(
        _ programs: [UnsafeBufferPointer<LinkedInstruction>],
        _ options: CompileOptions
    ) throws(CodeError) -> CompiledPrograms {
        let count = unsafe programs.reduce(0) { $0 + $1.count }
        // What is not written is given back.
        let buffer = try CodeBuffer.map(capacity: 8192 + count * options.room)
        var assembler = Assembler(buffer)
        var shared = SharedCode(&assembler)
        let isChecked = options.isChecked
        var options = options
        let nests = unsafe programs.contains { unsafe nestsTailCalls($0) }
        options.checksDepth = isChecked || nests
        var bodies: [Label] = []
        var calls: [Bool] = []
        for index in unsafe programs.indices {
            let program = unsafe programs[index]
            let layout = unsafe try ProgramLayout(program, &assembler, isChecked: isChecked)
            guard let first = layout.functions.first else { throw .crossesFunctions(instruction: 0) }
            bodies.append(first.label)
            var lowering = unsafe Lowering(assembler, options, shared, program, layout, first)
            try lowering.lowerProgram()
            shared = lowering.shared
            calls.append(lowering.callsRuntime)
            assembler = lowering.takeAssembler()
        }
        var entries: [Int] = []
        let canLeave = isChecked || shared.canLeave
        for body in bodies {
            assembler.align(16)
            entries.append(assembler.buffer.count)
            if options.isStandalone, !canLeave {
                writeStandaloneEntry(body, &assembler)
            } else {
                writeEntry(body, isChecked: isChecked, canLeave: canLeave, &assembler)
            }
        }
        shared.write(&assembler)
        writeLeave(shared.leave, isChecked: isChecked, &assembler)
        assembler.align(8)
        assembler.bind(shared.programs)
        for body in bodies { assembler.data(addressOf: body) }
        return CompiledPrograms(
            memory: try assembler.finalize(),
            entries: entries,
            isStandalone: options.isStandalone && !canLeave,
            callsRuntime: calls
        )
    }

    /// Address of a program's `uint64_t (struct cruntime_context *, uint64_t r1, uint64_t r2)`.
    package func entry(_ program: Int = 0) -> UInt64 { memory.address + UInt64(entries[program]) }

    /// Address of the first byte of code.
    package var address: UInt64 { memory.address }
    /// Bytes of code and its tables.
    package var size: Int { memory.count }

    /// Gives the code away: its mapping, and the address of each program's entry.
    package consuming func leak() -> (entries: [UInt64], address: UInt64, size: UInt64) {
        let offsets = entries
        let (start, size) = memory.leak()
        return (offsets.map { start + UInt64($0) }, start, size)
    }
}
