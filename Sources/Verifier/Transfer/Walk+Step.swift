import ISA

extension Walk {
    /// Walks one instruction; where the path goes on, or nil where it ends.
    mutating func step() throws(VerifierError) -> Int? {
        let instruction = layout.instructions[pc]
        switch shapes[pc] {
        case .arithmetic(let op, let width, let operand): try arithmetic(instruction, op, width, operand)
        case .negate(let width):
            let value = try read(instruction.dst)
            try refuseLeak(value, instruction.dst)
            write(instruction.dst, value.isScalar ? .scalar(value.scalar.negated(width)) : .unknown)
        case .signExtend(let width, let size):
            let value = try read(instruction.src)
            try refuseLeak(value, instruction.src)
            let extended = value.isScalar ? value.scalar.signExtended(width, from: size) : Scalar.unknown
            write(instruction.dst, .scalar(value.isScalar ? extended : extended.signExtended(width, from: size)))
        case .byteOrder(let order, let size):
            let value = try read(instruction.dst)
            try refuseLeak(value, instruction.dst)
            write(instruction.dst, .scalar((value.isScalar ? value.scalar : .unknown).ordered(order, size)))
        case .wide(let kind): try loadWide(instruction, kind)
        case .packet(let size, let indirect): try loadPacket(instruction, size, indirect)
        case .load(let size, let signed): try load(instruction, size, signed)
        case .store(let size, let operand): try store(instruction, size, operand)
        case .atomic(let operation, let size): try atomic(instruction, operation, size)
        case .jump:
            let target = Int(layout.targets[pc])
            trail.go(from: pc, to: target)
            countJump()
            return target
        case .conditionalJump(let comparison, let width, let operand):
            countJump()
            return try branch(instruction, comparison, width, operand)
        case .mayGoto:
            countJump()
            // The loop may be left at any round; how many there are is limited at run time.
            try fork(state, at: Int(layout.targets[pc]))
            state.rounds += 1
            state.frames[state.depth].gotoRounds += 1
        case .call(let kind):
            countJump()
            return try call(instruction, kind)
        case .exit:
            countJump()
            return try leave()
        }
        return pc + 1
    }

    // MARK: - Registers

    /// What a register holds; it must hold something.
    func read(_ register: Register) throws(VerifierError) -> RegisterState {
        let value = state.frames[state.depth].registers[Int(register.rawValue)]
        if value.kind == .none { throw uninitialized(register) }
        return value
    }

    func uninitialized(_ register: Register) -> VerifierError {
        switch layout.instructions[pc].opcode {
        case .exit where register == .r0:
            fail(.uninitialized, "r0 has no value here, but it is what the program returns", .r0)
        default: fail(.uninitialized, "r\(register.rawValue) has no value on this path", register)
        }
    }

    mutating func write(_ register: Register, _ value: RegisterState) {
        state.frames[state.depth].registers[Int(register.rawValue)] = value
    }

    /// The program may not turn an address into a number that it can give away.
    func refuseLeak(_ value: RegisterState, _ register: Register) throws(VerifierError) {
        guard subject.strictLeaks, value.isPointer else { return }
        throw fail(
            .leak,
            "r\(register.rawValue) is \(describe(value)); arithmetic would turn its address into a number",
            register
        )
    }

    func stackPointer(_ frame: Int) -> RegisterState {
        var pointer = RegisterState(.stack)
        pointer.frame = UInt8(frame)
        return pointer
    }

    // MARK: - Two-slot instructions

    private mutating func loadWide(_ instruction: Instruction, _ kind: WideKind) throws(VerifierError) {
        switch kind {
        case .value: write(instruction.dst, .constant(UInt64(bitPattern: instruction.imm)))
        case .map:
            var pointer = RegisterState(.map)
            pointer.map = Int32(try mapIndex(instruction))
            write(instruction.dst, pointer)
        case .mapValue:
            let index = try mapIndex(instruction)
            let map = maps[index]
            let offset = Int64(instruction.imm >> 32) & 0xffff_ffff
            guard map.type == .array, map.maxEntries == 1 else {
                throw fail(
                    .mapType,
                    "'\(map.name)' is \(article(map.type.name)); only an array with one value has a fixed address"
                )
            }
            guard offset < map.valueSize else {
                throw fail(
                    .outOfBounds,
                    "offset \(offset) lies outside the value of '\(map.name)', which has \(map.valueSize) bytes"
                )
            }
            guard offset < maximumOffset else {
                throw fail(.pointerArithmetic, "an offset of \(offset) into '\(map.name)' is out of any bounds")
            }
            var pointer = RegisterState(.mapValue)
            pointer.map = Int32(index)
            pointer.offset = Int32(offset)
            write(instruction.dst, pointer)
        case .function:
            var pointer = RegisterState(.function)
            pointer.size = UInt32(layout.callee(of: pc))
            write(instruction.dst, pointer)
        case .variable: throw fail(.unsupported, "a variable of the kernel cannot be reached")
        case .mapByIndex, .mapValueByIndex:
            throw fail(.unsupported, "a map reference by index into the loader's descriptors cannot be followed")
        }
    }

    private func mapIndex(_ instruction: Instruction) throws(VerifierError) -> Int {
        let index = Int(UInt32(truncatingIfNeeded: instruction.imm))
        guard index < subject.maps.count else { throw fail(.mapType, "there is no map \(index)") }
        guard mayUse(maps[index], subject.type, isSleepable: subject.isSleepable, on: subject.platform) else {
            let map = maps[index]
            let what =
                map.spinLock != nil
                ? "with a bpf_spin_lock" : map.timer != nil ? "with a bpf_timer" : "of type \(map.type.name)"
            throw fail(.mapType, "\(subject.type.name) programs cannot use '\(map.name)', a map \(what)")
        }
        return index
    }

    /// `ldabs`, `ldind`: r6 must be the context; ends the program with 0 where the packet is too short.
    private mutating func loadPacket(_ instruction: Instruction, _ size: Size, _ indirect: Bool) throws(VerifierError) {
        switch subject.type {
        case .socketFilter, .schedCls, .schedAct: break
        default: throw fail(.badOperation, "programs of type \(subject.type.name) have no packet to read from")
        }
        if subject.platform == .userspace {
            throw fail(.unsupported, "a legacy packet access cannot run in userspace")
        }
        guard state.references.isEmpty else {
            throw fail(
                .unreleased,
                "the access ends the program if the packet is too short, but \(held()) must be released"
            )
        }
        let value = try read(.r6)
        guard value.kind == .context, value.constantOffset == 0 else {
            throw fail(.context, "r6 must be the context, but is \(describe(value))", .r6)
        }
        if indirect {
            let index = try read(instruction.src)
            try refuseLeak(index, instruction.src)
        }
        // The function returns 0 if the packet is too short.
        if state.depth > 0 {
            let saved = (state, writes, trail.tip)
            write(.r0, .constant(0))
            if let next = try leave() { try fork(state, at: next) }
            (state, writes, trail.tip) = saved
        }
        for register in [Register.r1, .r2, .r3, .r4, .r5] { write(register, .none) }
        write(.r0, .scalar(Scalar.unknown.zeroExtended(from: size)))
    }
}
