import ISA

// Loads, stores and atomic operations, by what the pointer points to (Linux: `check_mem_access`).

/// What an instruction or a helper does with memory.
enum AccessKind { case read, write }

extension Walk {
    mutating func load(_ instruction: Instruction, _ size: Size, _ signed: Bool) throws(VerifierError) {
        let pointer = try read(instruction.src)
        let value = try load(pointer, instruction.src, Int64(instruction.offset), size, signed)
        write(instruction.dst, value)
    }

    private mutating func load(
        _ pointer: RegisterState,
        _ register: Register,
        _ offset: Int64,
        _ size: Size,
        _ signed: Bool
    ) throws(VerifierError) -> RegisterState {
        try checkUsable(pointer, register)
        try checkAlignment(pointer, register, offset, size.bytes)
        let unknown = Scalar.unknown
        var result = RegisterState.scalar(signed ? unknown.signExtended(from: size) : unknown.zeroExtended(from: size))
        switch pointer.kind {
        case .stack:
            if register != .framePointer { decide() }
            return try loadStack(pointer, register, offset, size, signed)
        case .context:
            let access = try checkContext(pointer, register, offset, size, isWrite: false)
            switch access {
            case .scalar: break
            case .packet: result = RegisterState(.packet)
            case .packetEnd: result = RegisterState(.packetEnd)
            case .packetMeta: result = RegisterState(.packetMeta)
            case .flowKeys:
                result = kernelObject(.flowKeys)
            case .tracepointBuffer:
                // Its size is known, and checked, when the program is attached.
                result = RegisterState(.memory)
                result.size = 1 << 20
            case .kernelObject(let object, let isNullable):
                result = kernelObject(object)
                result.isNullable = isNullable
                if isNullable { result.id = makeID() }
            }
            if signed, !result.isScalar { throw fail(.contextAccess, "a pointer cannot be loaded with sign extension") }
        case .mapValue:
            try checkMapValue(pointer, register, offset, size.bytes, .read)
            if let constant = constant(pointer, offset, size) {
                let value = Scalar.constant(constant)
                result = .scalar(signed ? value.signExtended(from: size) : value)
            }
        case .mapKey, .memory, .packet, .packetMeta, .object:
            try checkMemory(pointer, register, offset, size.bytes, .read)
        case .none, .scalar, .map, .packetEnd, .function, .dynptr, .iterator: throw notAccessible(pointer, register)
        }
        return result
    }

    mutating func store(_ instruction: Instruction, _ size: Size, _ operand: Operand) throws(VerifierError) {
        let pointer = try read(instruction.dst)
        let value: RegisterState
        switch operand {
        case .imm: value = .constant(UInt64(bitPattern: instruction.imm))
        case .reg: value = try read(instruction.src)
        }
        try store(
            pointer,
            instruction.dst,
            Int64(instruction.offset),
            size,
            value,
            operand == .reg ? instruction.src : nil
        )
    }

    private mutating func store(
        _ pointer: RegisterState,
        _ register: Register,
        _ offset: Int64,
        _ size: Size,
        _ value: RegisterState,
        _ source: Register?
    ) throws(VerifierError) {
        try checkUsable(pointer, register)
        try checkAlignment(pointer, register, offset, size.bytes)
        if pointer.kind == .stack {
            if register != .framePointer { decide() }
            try storeStack(pointer, register, offset, size, value, source)
            return
        }
        if subject.strictLeaks, value.isPointer {
            throw fail(.leak, "\(describe(value)) would be stored where others can read it")
        }
        switch pointer.kind {
        case .context:
            if case .scalar = try checkContext(pointer, register, offset, size, isWrite: true) { return }
            throw fail(.contextAccess, "pointers in the context cannot be written")
        case .mapValue: try checkMapValue(pointer, register, offset, size.bytes, .write)
        case .mapKey, .memory, .packet, .packetMeta, .object:
            try checkMemory(pointer, register, offset, size.bytes, .write)
        case .none, .scalar, .map, .packetEnd, .function, .dynptr, .iterator, .stack:
            throw notAccessible(pointer, register)
        }
    }

    mutating func atomic(_ instruction: Instruction, _ operation: AtomicOperator, _ size: Size) throws(VerifierError) {
        if case .loadAcquire = operation {
            let pointer = try read(instruction.src)
            try checkAtomic(pointer, instruction.src)
            try checkAlignment(pointer, instruction.src, Int64(instruction.offset), size.bytes, isStrict: true)
            write(instruction.dst, try load(pointer, instruction.src, Int64(instruction.offset), size, false))
            return
        }
        let value = try read(instruction.src)
        let pointer = try read(instruction.dst)
        let offset = Int64(instruction.offset)
        if case .storeRelease = operation {
            try checkAtomic(pointer, instruction.dst)
            try checkAlignment(pointer, instruction.dst, offset, size.bytes, isStrict: true)
            try store(pointer, instruction.dst, offset, size, value, instruction.src)
            return
        }
        if case .compareExchange = operation {
            let expected = try read(.r0)
            if subject.strictLeaks, expected.isPointer { throw fail(.leak, "r0 is \(describe(expected))") }
        }
        if subject.strictLeaks, value.isPointer {
            throw fail(.leak, "r\(instruction.src.rawValue) is \(describe(value))")
        }
        try checkAtomic(pointer, instruction.dst)
        try checkAlignment(pointer, instruction.dst, offset, size.bytes, isStrict: true)
        let before = try load(pointer, instruction.dst, offset, size, false)
        try store(pointer, instruction.dst, offset, size, .unknown, nil)
        switch operation {
        case .add, .or, .and, .xor, .loadAcquire, .storeRelease: break
        case .fetchAdd, .fetchOr, .fetchAnd, .fetchXor, .exchange: write(instruction.src, before)
        case .compareExchange: write(.r0, before)
        }
    }

    private func checkAtomic(_ pointer: RegisterState, _ register: Register) throws(VerifierError) {
        switch pointer.kind {
        // Accesses of sockets are rewritten, which atomic ones are not.
        case .context, .packet, .packetMeta, .object:
            throw fail(
                .badOperation,
                "r\(register.rawValue) is \(describe(pointer)), where atomic operations do not work",
                register
            )
        case .none, .scalar, .map, .mapValue, .mapKey, .stack, .packetEnd, .memory, .function, .dynptr, .iterator: break
        }
    }

    // MARK: - Checks

    /// Whether anything can be read or written through a register.
    func checkUsable(_ pointer: RegisterState, _ register: Register) throws(VerifierError) {
        if pointer.isNullable {
            throw fail(.nullPointer, "r\(register.rawValue) is \(describe(pointer)) and may be NULL here", register)
        }
        if !pointer.isPointer { throw notAccessible(pointer, register) }
    }

    func notAccessible(_ pointer: RegisterState, _ register: Register) -> VerifierError {
        if pointer.kind == .map, subject.platform == .kernel {
            return fail(.unsupported, "reading the kernel's own fields of a map needs the kernel's types")
        }
        let what = pointer.isScalar ? "a number" : describe(pointer)
        return fail(
            .notAPointer,
            "r\(register.rawValue) is \(what), which does not point to memory of the program",
            register
        )
    }

    func checkAlignment(
        _ pointer: RegisterState,
        _ register: Register,
        _ offset: Int64,
        _ size: Int,
        isStrict isAtomic: Bool = false
    ) throws(VerifierError) {
        guard size > 1 else { return }
        var isStrict = isAtomic || subject.alignment == .strict
        var extra: Int64 = 0
        switch pointer.kind {
        case .stack: isStrict = true
        // The packet starts 2 bytes off, so that the IP header is aligned (NET_IP_ALIGN).
        case .packet, .packetMeta: extra = 2
        case .none, .scalar, .context, .map, .mapValue, .mapKey, .packetEnd, .memory, .function, .object, .dynptr,
            .iterator:
            break
        }
        guard isStrict else { return }
        let start = Tnum.constant(UInt64(bitPattern: Int64(pointer.offset) + offset + extra))
        let address = pointer.scalar.bits.add(start)
        guard (address.value | address.mask) & UInt64(size - 1) == 0 else {
            throw fail(
                .misaligned,
                "access of \(size) bytes at offset \(Int64(pointer.offset) + offset) of \(object(pointer)) is not aligned",
                register
            )
        }
    }

    /// The field of the context that an access touches.
    private func checkContext(
        _ pointer: RegisterState,
        _ register: Register,
        _ offset: Int64,
        _ size: Size,
        isWrite: Bool
    ) throws(VerifierError) -> ContextModel.Access {
        guard let start = pointer.constantOffset else {
            throw fail(
                .contextAccess,
                "r\(register.rawValue) is \(describe(pointer)) at a variable offset; fields of the context have constant ones",
                register
            )
        }
        let place = start + offset
        guard place >= 0, let small = Int(exactly: place),
            let access = context.access(offset: small, size: size.bytes, isWrite: isWrite)
        else {
            throw fail(
                .contextAccess,
                "\(isWrite ? "write" : "read") of \(size.bytes) byte\(size.bytes == 1 ? "" : "s") at offset \(place) of the context of a "
                    + "\(subject.type.name) program, which is not allowed there",
                register,
                .context(offset: place, size: size.bytes, isWrite: isWrite)
            )
        }
        return access
    }

    /// Bounds, permissions and special fields of a map value.
    func checkMapValue(
        _ pointer: RegisterState,
        _ register: Register,
        _ offset: Int64,
        _ size: Int,
        _ kind: AccessKind
    ) throws(VerifierError) {
        let map = maps[Int(pointer.map)]
        switch kind {
        case .read:
            if map.isWriteOnly { throw fail(.writeOnly, "programs may not read '\(map.name)' (BPF_F_WRONLY_PROG)") }
        case .write:
            if map.isReadOnly || pointer.isReadOnly {
                throw fail(.readOnly, "programs may not write '\(map.name)', which is read-only", register)
            }
        }
        try checkRange(pointer, offset, size, map.valueSize, register)
        for (field, bytes, name) in [(map.spinLock, 4, "bpf_spin_lock"), (map.timer, 16, "bpf_timer")] {
            guard let field else { continue }
            let range = pointer.offsets
            let first = range.lowerBound + offset
            let last = range.upperBound + offset + Int64(size)
            if first < Int64(field + bytes), last > Int64(field) {
                throw fail(.specialField, "the access touches the \(name) of '\(map.name)', which only its helpers may")
            }
        }
    }

    /// Bounds of everything else that has bytes.
    func checkMemory(
        _ pointer: RegisterState,
        _ register: Register,
        _ offset: Int64,
        _ size: Int,
        _ kind: AccessKind
    ) throws(VerifierError) {
        let name = "r\(register.rawValue)"
        switch pointer.kind {
        case .mapKey:
            if kind == .write { throw fail(.readOnly, "\(name) is \(describe(pointer)), which is read-only", register) }
            try checkRange(pointer, offset, size, maps[Int(pointer.map)].keySize, register)
        case .memory:
            if kind == .write, pointer.isReadOnly {
                throw fail(.readOnly, "\(name) is \(describe(pointer)), which is read-only", register)
            }
            try checkRange(pointer, offset, size, Int(pointer.size), register)
        case .packet, .packetMeta:
            if kind == .write, !mayWritePacket {
                throw fail(.readOnly, "programs of type \(subject.type.name) may not write the packet")
            }
            if subject.strictLeaks, kind == .write { throw fail(.readOnly, "the packet is read-only") }
            try checkPacket(pointer, register, offset, size)
        case .object:
            if let object = objects[Int(pointer.size)], isSocket(object) {
                try checkSocket(object, pointer, register, offset, size, kind)
                return
            }
            if objects[Int(pointer.size)] == .flowKeys {
                try checkRange(pointer, offset, size, flowKeysSize, register)
                return
            }
            throw fail(
                .unsupported,
                "\(name) is \(describe(pointer)); reading its fields needs the kernel's types",
                register
            )
        case .none, .scalar, .context, .map, .mapValue, .stack, .packetEnd, .function, .dynptr, .iterator:
            throw notAccessible(pointer, register)
        }
    }

    /// `size` bytes at every offset that the pointer may have lie inside `limit` bytes.
    func checkRange(
        _ pointer: RegisterState,
        _ offset: Int64,
        _ size: Int,
        _ limit: Int,
        _ register: Register
    ) throws(VerifierError) {
        let name = "r\(register.rawValue)"
        let range = pointer.offsets
        let (first, underflow) = range.lowerBound.addingReportingOverflow(offset)
        let (last, overflow) = range.upperBound.addingReportingOverflow(offset)
        if first < 0 || underflow || overflow {
            throw fail(
                .outOfBounds,
                "\(name) points into \(object(pointer)), \(limit) bytes; the access of \(size) may start at offset \(first), before it",
                register,
                .bounds(offsets: first...max(first, last), size: size, limit: limit)
            )
        }
        let (end, beyond) = last.addingReportingOverflow(Int64(size))
        if beyond || end > Int64(limit) {
            throw fail(
                .outOfBounds,
                "\(name) points into \(object(pointer)), \(limit) bytes; the access of \(size) at offset "
                    + (first == last ? "\(first)" : "\(first) to \(last)") + " goes beyond its end",
                register,
                .bounds(offsets: first...last, size: size, limit: limit)
            )
        }
    }

    func kernelObject(_ object: HelperPrototype.KernelObject) -> RegisterState {
        var result = RegisterState(.object)
        result.size = UInt32(objects.firstIndex(of: object) ?? 0)
        return result
    }

    /// One of the objects whose fields are known, see `maySocketRead`.
    func isSocket(_ pointer: RegisterState) -> Bool { objects[Int(pointer.size)].map(isSocket) ?? false }

    private func isSocket(_ object: HelperPrototype.KernelObject) -> Bool {
        switch object {
        case .socket, .socketCommon, .tcpSocket, .xdpSocket: true
        case .task, .requestSocket, .btfSocket, .anySocket, .cgroup, .file, .flowKeys, .other: false
        }
    }

    private func checkSocket(
        _ object: HelperPrototype.KernelObject,
        _ pointer: RegisterState,
        _ register: Register,
        _ offset: Int64,
        _ size: Int,
        _ kind: AccessKind
    ) throws(VerifierError) {
        if kind == .write { throw fail(.readOnly, "r\(register.rawValue) is a socket, which is read-only", register) }
        guard let start = pointer.constantOffset, let place = Int(exactly: start + offset),
            maySocketRead(object, offset: place, size: size)
        else {
            throw fail(
                .outOfBounds,
                "r\(register.rawValue) is a socket, which has no field of \(size) bytes at offset \(offset)",
                register
            )
        }
    }

    /// Linux: net/core/filter.c, `may_access_direct_pkt_data`.
    private var mayWritePacket: Bool {
        switch subject.type {
        case .schedCls, .schedAct, .xdp, .lwtXmit, .skSKB, .skMsg: true
        default: false
        }
    }

    private func checkPacket(
        _ pointer: RegisterState,
        _ register: Register,
        _ offset: Int64,
        _ size: Int
    ) throws(VerifierError) {
        let name = "r\(register.rawValue)"
        let place = Int64(pointer.offset) + offset
        guard pointer.scalar.smin >= 0 else {
            throw fail(.packetBounds, "\(name) is \(describe(pointer)); the offset may be negative", register)
        }
        guard place >= 0, place + Int64(size) <= Int64(pointer.range) else {
            throw fail(
                .packetBounds,
                "\(name) is \(describe(pointer)); the access of \(size) at offset \(place) is not covered: "
                    + "\(pointer.range) bytes were compared with the end of the packet",
                register,
                .packet(bytes: place + Int64(size))
            )
        }
    }

    /// The number that a frozen map holds there.
    private func constant(_ pointer: RegisterState, _ offset: Int64, _ size: Size) -> UInt64? {
        let map = maps[Int(pointer.map)]
        guard map.isFrozen, map.isReadOnly, let contents = map.contents, let start = pointer.constantOffset else {
            return nil
        }
        let first = Int(start + offset)
        guard first >= 0, first + size.bytes <= contents.count else { return nil }
        var value: UInt64 = 0
        for index in (0..<size.bytes).reversed() { value = value << 8 | UInt64(contents[first + index]) }
        return value
    }

    /// The map that a value of this one stands for; maps of maps only.
    mutating func innerMap(_ map: Int32) -> Int32? {
        guard maps[Int(map)].holdsMaps, let inner = maps[Int(map)].inner.first else { return nil }
        if let known = maps.firstIndex(of: inner), known >= subject.maps.count { return Int32(known) }
        maps.append(inner)
        return Int32(maps.count - 1)
    }
}

/// Bytes of a `struct bpf_flow_keys`.
private let flowKeysSize = 56
