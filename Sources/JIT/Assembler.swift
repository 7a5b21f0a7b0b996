/// Writes x86-64 machine code into a buffer.
///
/// Nothing fails while code is written: a full buffer, unbound labels and distances out of reach are reported by
/// `finalize()`.
package struct Assembler: ~Copyable {
    package private(set) var buffer: CodeBuffer
    /// Offset of each label; -1 until bound.
    private var labels: [Int] = []
    private var fixups: [Fixup] = []

    /// A displacement that waits for its label.
    private struct Fixup {
        let label: Int
        let field: Int
        let size: Int
        /// Where the instruction ends, from which the displacement counts.
        let end: Int
    }

    package init(_ buffer: consuming CodeBuffer) { self.buffer = buffer }

    /// A label to be bound later.
    package mutating func makeLabel() -> Label {
        labels.append(-1)
        return Label(index: labels.count - 1)
    }

    /// Puts a label at the current place.
    package mutating func bind(_ label: Label) { labels[label.index] = buffer.count }

    /// Appends data, for instance a pointer that code refers to by a label.
    package mutating func data(_ value: UInt64) { buffer.append(Int64(bitPattern: value), size: 8) }

    /// Resolves labels and makes the code executable.
    package consuming func finalize() throws(CodeError) -> ExecutableMemory {
        try resolve()
        return try buffer.finalize()
    }

    /// Writes every displacement; all labels must be bound.
    package mutating func resolve() throws(CodeError) {
        for fixup in fixups {
            let target = labels[fixup.label]
            guard target >= 0 else { throw .unboundLabel(index: fixup.label) }
            let distance = Int64(target - fixup.end)
            let reach = Int64(1) << Int64(8 * fixup.size - 1)
            guard distance >= -reach, distance < reach else { throw .tooFar(offset: fixup.field, bytes: fixup.size) }
            buffer.patch(distance, at: fixup.field, size: fixup.size)
        }
        fixups = []
    }

    // MARK: - Encoding

    /// A register or memory operand.
    private enum Target {
        case none
        case register(GPR)
        case memory(Address)
    }

    /// Writes an instruction: REX prefix, opcode, ModRM, SIB, displacement, immediate.
    ///
    /// - Parameter isWide: REX.W, which makes an operation 64 bits wide.
    private mutating func emit(
        _ form: Form,
        isWide: Bool = false,
        register: GPR? = nil,
        target: Target = .none,
        immediate: Int64 = 0
    ) {
        let encoding = form.encoding
        var prefix: UInt8 = isWide ? 0x48 : 0
        if let register, register.isExtended {
            // REX.R extends ModRM's register, REX.B the one in the opcode.
            if case .inOpcode = encoding.fields { prefix |= 0x41 } else { prefix |= 0x44 }
        }
        switch target {
        case .register(let base), .memory(.base(let base, _)): if base.isExtended { prefix |= 0x41 }
        case .none, .memory(.label): break
        }
        if prefix != 0 { buffer.append(prefix) }
        if encoding.isTwoByte { buffer.append(0x0f) }
        switch encoding.fields {
        case .none: buffer.append(encoding.opcode)
        case .inOpcode: buffer.append(encoding.opcode | (register?.low ?? 0))
        case .register:
            buffer.append(encoding.opcode)
            modRM(register?.low ?? 0, target, trailing: encoding.immediate)
        case .digit(let digit):
            buffer.append(encoding.opcode)
            modRM(digit, target, trailing: encoding.immediate)
        }
        buffer.append(immediate, size: encoding.immediate)
    }

    /// ModRM, SIB and displacement; `trailing` bytes of the instruction follow.
    private mutating func modRM(_ field: UInt8, _ target: Target, trailing: Int) {
        let middle = field << 3
        switch target {
        case .none: break
        case .register(let register): buffer.append(0xc0 | middle | register.low)
        case .memory(.label(let label)):
            buffer.append(0x05 | middle)
            reference(label, size: 4, trailing: trailing)
        case .memory(.base(let base, let displacement)):
            // rbp and r13 without displacement mean rip; rsp and r12 mean that a SIB byte follows.
            let mode: UInt8 =
                displacement == 0 && base.low != GPR.rbp.low
                ? 0 : Int32(Int8.min)...Int32(Int8.max) ~= displacement ? 1 : 2
            buffer.append(mode << 6 | middle | base.low)
            if base.low == GPR.rsp.low { buffer.append(0x24) }
            buffer.append(Int64(displacement), size: mode == 0 ? 0 : mode == 1 ? 1 : 4)
        }
    }

    /// Leaves room for the distance to a label.
    private mutating func reference(_ label: Label, size: Int, trailing: Int = 0) {
        fixups.append(
            Fixup(label: label.index, field: buffer.count, size: size, end: buffer.count + size + trailing)
        )
        buffer.append(0, size: size)
    }

    /// An instruction that is an opcode and a distance.
    private mutating func branch(_ form: Form, _ label: Label) {
        let encoding = form.encoding
        if encoding.isTwoByte { buffer.append(0x0f) }
        buffer.append(encoding.opcode)
        reference(label, size: encoding.immediate)
    }
}

// MARK: - Instructions

extension Assembler {
    package mutating func push(_ register: GPR) { emit(.push, register: register) }
    /// Pushes a sign-extended immediate.
    package mutating func push(_ immediate: Int32) { emit(.pushImmediate, immediate: Int64(immediate)) }
    package mutating func pop(_ register: GPR) { emit(.pop, register: register) }

    /// `mov dst, immediate` in the shortest form.
    package mutating func mov(_ dst: GPR, _ immediate: UInt64) {
        if immediate <= UInt64(UInt32.max) {
            emit(.moveImmediate32, register: dst, immediate: Int64(immediate))
        } else if let short = Int32(exactly: Int64(bitPattern: immediate)) {
            emit(.moveSignExtended, isWide: true, target: .register(dst), immediate: Int64(short))
        } else {
            emit(.moveImmediate64, isWide: true, register: dst, immediate: Int64(bitPattern: immediate))
        }
    }
    package mutating func mov(_ dst: GPR, _ src: GPR, _ width: OperandWidth = .w64) {
        emit(.move, isWide: width == .w64, register: src, target: .register(dst))
    }
    package mutating func load(_ dst: GPR, _ address: Address, _ width: OperandWidth = .w64) {
        emit(.load, isWide: width == .w64, register: dst, target: .memory(address))
    }
    package mutating func store(_ address: Address, _ src: GPR, _ width: OperandWidth = .w64) {
        emit(.store, isWide: width == .w64, register: src, target: .memory(address))
    }
    package mutating func lea(_ dst: GPR, _ address: Address) {
        emit(.lea, isWide: true, register: dst, target: .memory(address))
    }

    package mutating func alu(_ operation: ALUOperation, _ dst: GPR, _ src: GPR, _ width: OperandWidth = .w64) {
        emit(.alu(operation), isWide: width == .w64, register: src, target: .register(dst))
    }
    /// Arithmetic with a sign-extended immediate.
    package mutating func alu(
        _ operation: ALUOperation,
        _ dst: GPR,
        _ immediate: Int32,
        _ width: OperandWidth = .w64
    ) {
        let form: Form = Int8(exactly: immediate) == nil ? .aluImmediate32(operation) : .aluImmediate8(operation)
        emit(form, isWide: width == .w64, target: .register(dst), immediate: Int64(immediate))
    }
    package mutating func shift(
        _ operation: ShiftOperation,
        _ dst: GPR,
        _ count: UInt8,
        _ width: OperandWidth = .w64
    ) {
        emit(.shift(operation), isWide: width == .w64, target: .register(dst), immediate: Int64(count))
    }
    package mutating func test(_ a: GPR, _ b: GPR, _ width: OperandWidth = .w64) {
        emit(.test, isWide: width == .w64, register: b, target: .register(a))
    }

    package mutating func jump(_ label: Label) { branch(.jump, label) }
    /// A jump of two bytes; the label must be near.
    package mutating func jumpShort(_ label: Label) { branch(.jumpShort, label) }
    package mutating func jump(_ condition: Condition, _ label: Label) { branch(.jumpIf(condition), label) }
    /// A jump to the address that a memory word holds.
    package mutating func jump(_ address: Address) { emit(.jumpIndirect, target: .memory(address)) }
    package mutating func jump(_ register: GPR) { emit(.jumpIndirect, target: .register(register)) }
    package mutating func call(_ label: Label) { branch(.call, label) }
    /// A call of the address that a memory word holds.
    package mutating func call(_ address: Address) { emit(.callIndirect, target: .memory(address)) }
    package mutating func call(_ register: GPR) { emit(.callIndirect, target: .register(register)) }
    package mutating func ret() { emit(.ret) }
    package mutating func ud2() { emit(.ud2) }

    /// A jump to an absolute address, which must be within 2 GiB of the code.
    package mutating func jump(absolute target: UInt64) throws(CodeError) { try direct(.jump, target) }
    /// A call of an absolute address, which must be within 2 GiB of the code.
    package mutating func call(absolute target: UInt64) throws(CodeError) { try direct(.call, target) }

    private mutating func direct(_ form: Form, _ target: UInt64) throws(CodeError) {
        let end = buffer.address &+ UInt64(buffer.count + 5)
        guard let distance = Int32(exactly: Int64(bitPattern: target &- end)) else {
            throw .tooFar(offset: buffer.count, bytes: 4)
        }
        emit(form, immediate: Int64(distance))
    }

    /// `count` bytes that do nothing, in the instructions that the Intel SDM recommends (volume 2, NOP).
    package mutating func nop(_ count: Int = 1) {
        var rest = count
        while rest > 0 {
            let length = min(rest, 9)
            switch length {
            case 1: bytes(0x90)
            case 2: bytes(0x66, 0x90)
            case 3: bytes(0x0f, 0x1f, 0x00)
            case 4: bytes(0x0f, 0x1f, 0x40, 0x00)
            case 5: bytes(0x0f, 0x1f, 0x44, 0x00, 0x00)
            case 6: bytes(0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00)
            case 7: bytes(0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00)
            case 8: bytes(0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00)
            default: bytes(0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00)
            }
            rest -= length
        }
    }

    private mutating func bytes(_ values: UInt8...) {
        for value in values { buffer.append(value) }
    }
}
