import ISA

// Arithmetic on numbers and pointers (Linux: kernel/bpf/verifier.c, `check_alu_op`, `adjust_ptr_min_max_vals`).

/// Offsets of pointers stay below this (Linux `BPF_MAX_VAR_OFF`).
let maximumOffset: Int64 = 1 << 29

extension Walk {
    mutating func arithmetic(
        _ instruction: Instruction,
        _ op: Operator,
        _ width: Width,
        _ operand: Operand
    ) throws(VerifierError) {
        let source: RegisterState
        switch operand {
        case .imm: source = .constant(UInt64(bitPattern: instruction.imm))
        case .reg: source = try read(instruction.src)
        }
        if op == .mov {
            try move(instruction, width, operand, source)
            return
        }
        switch (op, operand) {
        case (.div, .imm), (.sdiv, .imm), (.mod, .imm), (.smod, .imm):
            if instruction.imm == 0 { throw fail(.division, "division by zero") }
        case (.lsh, .imm), (.rsh, .imm), (.arsh, .imm):
            let bits: Int64 = width == .w64 ? 64 : 32
            if !(0..<bits).contains(instruction.imm) {
                throw fail(.badOperation, "a shift by \(instruction.imm) of a number of \(bits) bits")
            }
        default: break
        }
        let destination = try read(instruction.dst)
        switch (destination.isPointer, source.isPointer) {
        case (false, false):
            var result = RegisterState.scalar(apply(op, width, destination.scalar, source.scalar))
            keepLink(destination, source, op, width, &result)
            write(instruction.dst, result)
        case (true, true):
            // Only a difference of addresses makes sense, and only where it may be known.
            guard op == .sub, !subject.strictLeaks else {
                throw fail(
                    .pointerArithmetic,
                    "r\(instruction.dst.rawValue) is \(describe(destination)) and r\(instruction.src.rawValue) "
                        + "\(describe(source)); two pointers can be subtracted, nothing else",
                    instruction.dst
                )
            }
            let difference = RegisterState.unknown
            write(instruction.dst, width == .w64 ? difference : .scalar(difference.scalar.truncated32))
        case (true, false):
            write(instruction.dst, try move(destination, instruction.dst, op, width, by: source.scalar))
        case (false, true):
            if op == .sub, width == .w32, !subject.strictLeaks {
                write(instruction.dst, .scalar(Scalar.unknown.truncated32))
                return
            }
            guard op == .add else {
                throw fail(
                    .pointerArithmetic,
                    "r\(instruction.src.rawValue) is \(describe(source)); only a number can be added to it, and nothing else be done",
                    instruction.src
                )
            }
            write(instruction.dst, try move(source, instruction.src, op, width, by: destination.scalar))
        }
    }

    /// `dst = operand`.
    private mutating func move(
        _ instruction: Instruction,
        _ width: Width,
        _ operand: Operand,
        _ source: RegisterState
    ) throws(VerifierError) {
        guard operand == .reg else {
            write(instruction.dst, width == .w64 ? source : .scalar(source.scalar.truncated32))
            return
        }
        var source = source
        if width == .w32 {
            try refuseLeak(source, instruction.src)
            guard source.isScalar else {
                write(instruction.dst, .scalar(Scalar.unknown.truncated32))
                return
            }
            // The upper half goes; the same value only if there was none.
            let fits = source.scalar.umax <= UInt64(UInt32.max)
            if fits { link(&source, instruction.src) }
            source.scalar = source.scalar.truncated32
            if !fits { (source.id, source.delta, source.wraps) = (0, 0, false) }
            write(instruction.dst, source)
            return
        }
        link(&source, instruction.src)
        write(instruction.dst, source)
    }

    /// Copies of a number share an id, so that what is learnt of one is learnt of all.
    private mutating func link(_ source: inout RegisterState, _ register: Register) {
        guard source.isScalar, source.scalar.constant == nil else { return }
        if isAlone(source) {
            source.id = makeID()
            source.delta = 0
            source.wraps = false
            write(register, source)
        }
    }

    /// Nothing is linked to a number, so that a new link says as much; of a half that was linked once, more.
    mutating func isAlone(_ value: RegisterState) -> Bool {
        guard value.wraps else { return value.id == 0 }
        matcher.count(state)
        return matcher.isSingle(value)
    }

    /// `r2 = r1; r2 += 4` leaves r2 linked to r1, and `w2 = w1; w2 += 4` its low half.
    private func keepLink(
        _ destination: RegisterState,
        _ source: RegisterState,
        _ op: Operator,
        _ width: Width,
        _ result: inout RegisterState
    ) {
        guard destination.id != 0, width == .w32 || !destination.wraps, op == .add || op == .sub,
            let addend = source.scalar.constant, result.scalar.constant == nil
        else { return }
        // Exact however often it wraps round.
        let delta = op == .add ? destination.delta &+ addend : destination.delta &- addend
        result.id = destination.id
        result.wraps = width == .w32
        result.delta = result.wraps ? UInt64(UInt32(low: delta)) : delta
    }

    // MARK: - Pointers

    /// A pointer plus or minus a number.
    private mutating func move(
        _ pointer: RegisterState,
        _ register: Register,
        _ op: Operator,
        _ width: Width,
        by amount: Scalar
    ) throws(VerifierError) -> RegisterState {
        let name = "r\(register.rawValue)"
        if width == .w32 {
            if op == .sub, !subject.strictLeaks { return .scalar(Scalar.unknown.truncated32) }
            throw fail(
                .pointerArithmetic,
                "\(name) is \(describe(pointer)); 32-bit arithmetic would cut its address",
                register
            )
        }
        if pointer.isNullable {
            throw fail(
                .nullPointer,
                "\(name) is \(describe(pointer)); it must be compared with NULL before it is moved",
                register
            )
        }
        switch op {
        case .add, .sub: break
        case .and, .or, .xor, .mul, .div, .sdiv, .mod, .smod, .lsh, .rsh, .arsh, .mov:
            throw fail(
                .pointerArithmetic,
                "\(name) is \(describe(pointer)); only numbers can be added to or subtracted from it",
                register
            )
        }
        decideMove()
        let isZero = amount.constant == 0
        switch pointer.kind {
        case .context, .mapValue, .mapKey, .stack, .packet, .packetMeta, .memory: break
        case .map where isZero, .function where isZero: break
        case .object where amount.constant != nil && objects[Int(pointer.size)] == .flowKeys: break
        case .object where !isSocket(pointer):
            throw fail(.unsupported, "\(name) is \(describe(pointer)); following it needs the kernel's types", register)
        case .none, .scalar, .map, .packetEnd, .function, .object, .dynptr, .iterator:
            throw fail(.pointerArithmetic, "\(name) is \(describe(pointer)), which cannot be moved", register)
        }
        if op == .sub, pointer.kind == .stack {
            throw fail(
                .pointerArithmetic,
                "\(name) is \(describe(pointer)); add a negative number instead of subtracting",
                register
            )
        }
        try checkOffset(amount, pointer, register)
        var result = pointer
        if let constant = amount.constant.map({ Int64(bitPattern: $0) }),
            let offset = Int32(
                exactly: op == .add ? Int64(pointer.offset) + constant : Int64(pointer.offset) - constant
            )
        {
            // The checks of the packet stay valid: they count from the variable part.
            result.offset = offset
        } else {
            result.scalar = apply(op, .w64, pointer.scalar, amount)
            if pointer.kind == .packet || pointer.kind == .packetMeta {
                result.id = makeID()
                result.range = 0
            }
        }
        try checkOffset(result.scalar, result, register)
        if abs(Int64(result.offset)) >= maximumOffset {
            throw fail(
                .pointerArithmetic,
                "\(name) would point \(result.offset) bytes from the start of \(object(pointer))",
                register
            )
        }
        if subject.strictLeaks { try checkStrictMove(result, register) }
        return result
    }

    /// A number that is added to a pointer must have bounds that cannot wrap round.
    private func checkOffset(_ amount: Scalar, _ pointer: RegisterState, _ register: Register) throws(VerifierError) {
        let name = "r\(register.rawValue)"
        if let constant = amount.constant {
            let value = Int64(bitPattern: constant)
            if value >= maximumOffset || value <= -maximumOffset {
                throw fail(
                    .pointerArithmetic,
                    "\(name) is \(describe(pointer)); an offset of \(value) is out of any bounds",
                    register
                )
            }
            return
        }
        if amount.smin == Int64.min {
            throw fail(
                .pointerArithmetic,
                "\(name) is \(describe(pointer)), but nothing is known of the least number added to it",
                register
            )
        }
        if amount.smin >= maximumOffset || amount.smin <= -maximumOffset {
            throw fail(
                .pointerArithmetic,
                "\(name) is \(describe(pointer)); an offset of \(amount.smin) is out of any bounds",
                register
            )
        }
    }

    /// Without privileges a pointer must stay inside its object, whether it is used or not.
    private func checkStrictMove(_ pointer: RegisterState, _ register: Register) throws(VerifierError) {
        let name = "r\(register.rawValue)"
        switch pointer.kind {
        case .mapValue: try checkRange(pointer, 0, 1, maps[Int(pointer.map)].valueSize, register)
        case .stack:
            guard let offset = pointer.constantOffset else {
                throw fail(.leak, "\(name) is \(describe(pointer)) with a variable offset", register)
            }
            if offset >= 0 || offset < Int64(-frameSize) {
                throw fail(.leak, "\(name) would point \(offset) bytes from r10, outside the frame", register)
            }
        case .none, .scalar, .context, .map, .mapKey, .packet, .packetMeta, .packetEnd, .memory, .function, .object,
            .dynptr, .iterator:
            break
        }
    }
}
