internal import CRuntime
internal import ISA
internal import Runtime

/// Turns linked programs into machine code, one instruction after the other.
///
/// Its methods are mutating even where they only look: for one that is not, the compiler of Swift 6.3 copies the whole state, which
/// took a third of the time.
///
/// Registers while BPF code runs:
///
/// | machine | holds |
/// |---|---|
/// | rax, rdi, rsi, rdx, rcx, r8 | r0 to r5 |
/// | rbx, r13, r14, r15 | r6 to r9 |
/// | rbp | r10, the end of the frame's 512 bytes of BPF stack |
/// | r12 | the `cruntime_context` |
/// | r9 | checked code: instructions left in the budget |
/// | r10, r11 | nothing for longer than an instruction |
@safe
struct Lowering: ~Copyable {
    var asm: Assembler
    let options: CompileOptions
    var shared: SharedCode

    // Of the program that is compiled now.
    var code: UnsafeBufferPointer<LinkedInstruction>
    var layout: ProgramLayout
    var function: ProgramLayout.Function
    /// The instruction that is compiled now.
    var index = 0
    let values = ValueTable()
    /// Registers whose values wait, one bit each.
    var pending: UInt16 = 0
    /// Machine registers whose upper halves are zero, one bit each.
    var zeroUpper: UInt16 = 0
    /// Whether the program calls a function of ours or of an embedder's.
    var callsRuntime = false
    /// Code that hardly ever runs, behind the program.
    var stubs: [Stub] = []

    /// Where each register most likely points.
    var origins = Origins()
    let isChecked: Bool

    init(
        _ assembler: consuming Assembler,
        _ options: CompileOptions,
        _ shared: SharedCode,
        _ code: UnsafeBufferPointer<LinkedInstruction>,
        _ layout: ProgramLayout,
        _ function: ProgramLayout.Function
    ) {
        asm = assembler
        self.options = options
        self.shared = shared
        unsafe self.code = unsafe code
        self.layout = layout
        self.function = function
        isChecked = options.isChecked
    }

    /// Ends the lowering.
    consuming func takeAssembler() -> Assembler { asm }

    /// Whether a register's value is needed after an instruction that does not jump.
    mutating func isLiveAfter(_ register: Int) -> Bool { layout.live[index + 1] >> UInt16(register) & 1 != 0 }

    /// Compiles all functions of the program.
    mutating func lowerProgram() throws(CodeError) {
        for function in layout.functions {
            self.function = function
            // Also what a trap at the function's entry names.
            index = function.start
            asm.align(16)
            asm.bind(function.label)
            try prologue()
            while index < function.end {
                if let label = layout.labels[index] { startBlock(label) }
                if isChecked { chargeBudget() }
                drop(notIn: layout.live[index])
                let instruction = unsafe code[index]
                try lower(instruction)
                if isChecked { origins.apply(instruction) }
                index += 1
            }
        }
        try writeStubs()
        shared.writeLookup(layout.functions, &asm)
    }

    /// A place where jumps end: registers hold what the program thinks they do, and nothing is known about them.
    private mutating func startBlock(_ label: Label) {
        flush(layout.live[index])
        zeroUpper = 0
        if isChecked { origins.merge(layout.origins[index]) }
        if layout.loops[index] { asm.align(16) }
        asm.bind(label)
    }

    private mutating func lower(_ instruction: LinkedInstruction) throws(CodeError) {
        switch instruction.opcode.shape {
        case .arithmetic(let operation, let width, let operand):
            let machineWidth: OperandWidth = width == .w64 ? .w64 : .w32
            switch operand {
            case .imm: arithmetic(operation, machineWidth, instruction.dst, immediate: instruction.imm)
            case .reg: arithmetic(operation, machineWidth, instruction.dst, register: instruction.src)
            }
        case .negate(let width):
            let own = update(Int(instruction.dst))
            asm.unary(.neg, own, width == .w64 ? .w64 : .w32)
            defined(Int(instruction.dst), zeroUpper: width == .w32)
        case .signExtend(let width, let size): signExtend(instruction, width == .w64 ? .w64 : .w32, size)
        case .byteOrder(let order, let size): byteOrder(instruction, order, size)
        case .wide(let kind): try wide(instruction, kind)
        case .packet, .call(.kernelFunction): unsupported(instruction.imm)
        case .load(let size, signed: let isSigned): load(instruction, AccessSize(size), isSigned: isSigned)
        case .store(let size, .imm): store(instruction, AccessSize(size), immediate: instruction.imm)
        case .store(let size, .reg): store(instruction, AccessSize(size))
        case .atomic(let operation, let size): atomic(instruction, operation, AccessSize(size))
        case .jump: jump(to: Int(instruction.target))
        case .conditionalJump(let comparison, let width, let operand):
            conditionalJump(instruction, comparison, width == .w64 ? .w64 : .w32, operand)
        case .mayGoto: mayGoto(instruction)
        case .call(.helper): try helperCall(instruction)
        case .call(.local): localCall(instruction)
        case .call(.register): try registerCall(instruction)
        case .exit: exit()
        }
    }

    private mutating func wide(_ instruction: LinkedInstruction, _ kind: WideKind) throws(CodeError) {
        switch kind {
        case .value, .map, .function, .mapByIndex: set(Int(instruction.dst), .constant(instruction.imm))
        case .mapValue, .mapValueByIndex:
            guard let session = options.session else { throw .noSession(instruction: index) }
            let base =
                instruction.target == 0
                ? unsafe UInt64(UInt(bitPattern: session.shared)) : unsafe UInt64(UInt(bitPattern: session.image))
            set(Int(instruction.dst), .constant(Int64(bitPattern: base) &+ instruction.imm))
        case .variable: unsupported(instruction.imm)
        }
    }
}

extension AccessSize {
    init(_ size: Size) {
        switch size {
        case .b8: self = .b8
        case .b16: self = .b16
        case .b32: self = .b32
        case .b64: self = .b64
        }
    }

    var bytes: Int32 {
        switch self {
        case .b8: 1
        case .b16: 2
        case .b32: 4
        case .b64: 8
        }
    }
}
