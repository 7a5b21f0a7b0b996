/// Writes x86-64 machine code into a buffer.
///
/// Nothing fails while code is written: a full buffer, unbound labels and distances out of reach are reported by
/// `finalize()`.
package struct Assembler: ~Copyable {
    package private(set) var buffer: CodeBuffer
    /// Offset of each label; -1 until bound.
    private var labels: [Int32] = []
    private var fixups: [Fixup] = []

    /// A displacement that waits for its label.
    private struct Fixup {
        let label: Int32
        let field: Int32
        let size: Int32
        /// Where the instruction ends, from which the displacement counts.
        let end: Int32
    }

    package init(_ buffer: consuming CodeBuffer) { self.buffer = buffer }

    /// A label to be bound later.
    package mutating func makeLabel() -> Label {
        labels.append(-1)
        return Label(index: labels.count - 1)
    }

    /// Puts a label at the current place.
    package mutating func bind(_ label: Label) { labels[label.index] = Int32(truncatingIfNeeded: buffer.count) }

    /// The offset of a label from the start of the code; nil until it is bound.
    package mutating func offset(of label: Label) -> Int? { labels[label.index] < 0 ? nil : Int(labels[label.index]) }

    /// Appends data, for instance a pointer that code refers to by a label.
    package mutating func data(_ value: UInt64) { buffer.append(Int64(bitPattern: value), size: 8) }

    /// Appends the address of a label that is bound already.
    package mutating func data(addressOf label: Label) {
        data(buffer.address &+ UInt64(offset(of: label) ?? 0))
    }

    /// Resolves labels and makes the code executable.
    package consuming func finalize() throws(CodeError) -> ExecutableMemory {
        try resolve()
        return try buffer.finalize()
    }

    /// Writes every displacement; all labels must be bound.
    package mutating func resolve() throws(CodeError) {
        for fixup in fixups {
            let target = labels[Int(fixup.label)]
            guard target >= 0 else { throw .unboundLabel(index: Int(fixup.label)) }
            let distance = Int64(target) - Int64(fixup.end)
            let reach = Int64(1) << Int64(8 * fixup.size - 1)
            guard distance >= -reach, distance < reach else {
                throw .tooFar(offset: Int(fixup.field), bytes: Int(fixup.size))
            }
            buffer.patch(distance, at: Int(fixup.field), size: Int(fixup.size))
        }
        fixups = []
    }

    // MARK: - Encoding

    /// A register or memory operand.
    enum Target {
        case none
        case register(GPR)
        case memory(Address)
    }

    /// Writes an instruction: prefix, REX, opcode, ModRM, SIB, displacement, immediate.
    ///
    /// - Parameters:
    ///   - isWide: REX.W, which makes an operation 64 bits wide.
    ///   - isByte: `register`, or a register as `target`, is its low byte.
    @inline(never)
    mutating func emit(
        _ encoding: FormEncoding,
        isWide: Bool = false,
        isByte: Bool = false,
        register: GPR? = nil,
        target: Target = .none,
        immediate: Int64 = 0
    ) {
        var prefix: UInt8 = isWide ? 0x48 : 0
        var bits: UInt8 = 0
        if let register {
            bits = register.low
            // REX.R extends ModRM's register, REX.B the one in the opcode.
            if register.isExtended { if case .inOpcode = encoding.fields { prefix |= 0x41 } else { prefix |= 0x44 } }
            if isByte, register.needsPrefixAsByte { prefix |= 0x40 }
        }
        switch target {
        case .register(let base):
            if base.isExtended { prefix |= 0x41 }
            if isByte, base.needsPrefixAsByte { prefix |= 0x40 }
        case .memory(.base(let base, _)): if base.isExtended { prefix |= 0x41 }
        case .memory(.indexed(let base, let index, _, _)):
            if base.isExtended { prefix |= 0x41 }
            if index.isExtended { prefix |= 0x42 }
        case .memory(.scaled(let index, _, _)): if index.isExtended { prefix |= 0x42 }
        case .none, .memory(.label): break
        }
        // Prefixes, opcode and ModRM of a register make one number, which is appended at once.
        var head: Int64 = 0
        var bits8: Int64 = 0
        if encoding.prefix != .none {
            head = Int64(encoding.prefix.rawValue)
            bits8 = 8
        }
        if prefix != 0 {
            head |= Int64(prefix) << bits8
            bits8 += 8
        }
        if case .two = encoding.map {
            head |= 0x0f << bits8
            bits8 += 8
        }
        let field: UInt8
        switch encoding.fields {
        case .none, .register: (head, field) = (head | Int64(encoding.opcode) << bits8, bits)
        case .inOpcode: (head, field) = (head | Int64(encoding.opcode | bits) << bits8, 0)
        case .digit(let digit): (head, field) = (head | Int64(encoding.opcode) << bits8, digit)
        }
        bits8 += 8
        if case .register(let register) = target {
            head |= Int64(0xc0 | field << 3 | register.low) << bits8
            bits8 += 8
        }
        buffer.append(head, size: Int(bits8 >> 3))
        if case .memory(let address) = target { modRM(field, address, trailing: encoding.immediate) }
        if encoding.immediate != 0 { buffer.append(immediate, size: encoding.immediate) }
    }

    /// Writes a three-operand instruction with a VEX prefix of three bytes and registers only.
    @inline(never)
    mutating func emitVEX(
        _ encoding: FormEncoding,
        isWide: Bool,
        register: GPR,
        third: GPR?,
        target: GPR,
        immediate: Int64 = 0
    ) {
        let (map, implied): (UInt8, UInt8) =
            switch encoding.map {
            case .vex38(let implied): (2, implied)
            case .vex3a(let implied): (3, implied)
            case .one, .two: (1, 0)
            }
        buffer.append(0xc4)
        // R, X and B are inverted; X is unused.
        buffer.append((register.isExtended ? 0 : 0x80) | 0x40 | (target.isExtended ? 0 : 0x20) | map)
        buffer.append((isWide ? 0x80 : 0) | (~(third?.rawValue ?? 0) & 15) << 3 | implied)
        buffer.append(encoding.opcode)
        buffer.append(0xc0 | register.low << 3 | target.low)
        buffer.append(immediate, size: encoding.immediate)
    }

    /// ModRM, SIB and displacement; `trailing` bytes of the instruction follow.
    private mutating func modRM(_ field: UInt8, _ address: Address, trailing: Int) {
        let middle = Int64(field << 3)
        switch address {
        case .label(let label):
            buffer.append(0x05 | middle, size: 1)
            reference(label, size: 4, trailing: trailing)
        case .base(let base, let displacement):
            // rsp and r12 mean that a SIB byte follows.
            let mode = displacementMode(base, displacement)
            let hasSIB = base.low == GPR.rsp.low
            let head = Int64(mode << 6 | base.low) | middle | (hasSIB ? 0x2400 : 0)
            append(head, hasSIB ? 2 : 1, mode, displacement)
        case .indexed(let base, let index, let scale, let displacement):
            let mode = displacementMode(base, displacement)
            let sib = Int64(scale << 6 | index.low << 3 | base.low)
            append(Int64(mode << 6 | 4) | middle | sib << 8, 2, mode, displacement)
        case .scaled(let index, let scale, let displacement):
            append(4 | middle | Int64(scale << 6 | index.low << 3 | 5) << 8, 2, 2, displacement)
        }
    }

    /// Appends `size` bytes and a displacement of the mode's size.
    private mutating func append(_ head: Int64, _ size: Int, _ mode: UInt8, _ displacement: Int32) {
        let bytes = mode == 0 ? 0 : mode == 1 ? 1 : 4
        buffer.append(head | Int64(displacement) << Int64(8 * size), size: size + bytes)
    }

    /// The top two bits of ModRM: no displacement, one byte or four; rbp and r13 cannot go without.
    private mutating func displacementMode(_ base: GPR, _ displacement: Int32) -> UInt8 {
        if displacement == 0, base.low != GPR.rbp.low { return 0 }
        return displacement >= -128 && displacement <= 127 ? 1 : 2
    }

    /// Leaves room for the distance to a label.
    private mutating func reference(_ label: Label, size: Int, trailing: Int = 0) {
        let field = Int32(truncatingIfNeeded: buffer.count)
        let bytes = Int32(truncatingIfNeeded: size)
        fixups.append(
            Fixup(
                label: Int32(truncatingIfNeeded: label.index),
                field: field,
                size: bytes,
                end: field + bytes + Int32(truncatingIfNeeded: trailing)
            )
        )
        buffer.append(0, size: size)
    }

    /// An instruction that is an opcode and a distance.
    mutating func branch(_ encoding: FormEncoding, _ label: Label) {
        if case .two = encoding.map { buffer.append(0x0f) }
        buffer.append(encoding.opcode)
        reference(label, size: encoding.immediate)
    }

    /// Appends bytes that are no instruction of the table.
    mutating func bytes(_ values: UInt8...) {
        for value in values { buffer.append(value) }
    }
}
