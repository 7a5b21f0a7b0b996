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
    package func offset(of label: Label) -> Int? { labels[label.index] < 0 ? nil : Int(labels[label.index]) }

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
        if encoding.prefix != .none { buffer.append(encoding.prefix.rawValue) }
        if prefix != 0 { buffer.append(prefix) }
        if case .two = encoding.map { buffer.append(0x0f) }
        switch encoding.fields {
        case .none: buffer.append(encoding.opcode)
        case .inOpcode: buffer.append(encoding.opcode | bits)
        case .register:
            buffer.append(encoding.opcode)
            modRM(bits, target, trailing: encoding.immediate)
        case .digit(let digit):
            buffer.append(encoding.opcode)
            modRM(digit, target, trailing: encoding.immediate)
        }
        buffer.append(immediate, size: encoding.immediate)
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
    private mutating func modRM(_ field: UInt8, _ target: Target, trailing: Int) {
        let middle = field << 3
        switch target {
        case .none: break
        case .register(let register): buffer.append(0xc0 | middle | register.low)
        case .memory(.label(let label)):
            buffer.append(0x05 | middle)
            reference(label, size: 4, trailing: trailing)
        case .memory(.base(let base, let displacement)):
            // rsp and r12 mean that a SIB byte follows.
            let mode = displacementMode(base, displacement)
            buffer.append(mode << 6 | middle | base.low)
            if base.low == GPR.rsp.low { buffer.append(0x24) }
            buffer.append(Int64(displacement), size: mode == 0 ? 0 : mode == 1 ? 1 : 4)
        case .memory(.indexed(let base, let index, let scale, let displacement)):
            let mode = displacementMode(base, displacement)
            buffer.append(mode << 6 | middle | 4)
            buffer.append(scale << 6 | index.low << 3 | base.low)
            buffer.append(Int64(displacement), size: mode == 0 ? 0 : mode == 1 ? 1 : 4)
        case .memory(.scaled(let index, let scale, let displacement)):
            buffer.append(middle | 4)
            buffer.append(scale << 6 | index.low << 3 | 5)
            buffer.append(Int64(displacement), size: 4)
        }
    }

    /// The top two bits of ModRM: no displacement, one byte or four; rbp and r13 cannot go without.
    private func displacementMode(_ base: GPR, _ displacement: Int32) -> UInt8 {
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
