import ISA

// Calls of helpers: what they ask for, and what they leave (Linux: `check_helper_call`, `check_func_arg`).

extension Walk {
    /// What the arguments of the call at hand told.
    struct HelperCall {
        let helper: Helper
        let prototype: HelperPrototype
        var map: Int32 = -1
        /// Size for `allocationSize`.
        var size: UInt64 = 0
        /// The reference in an argument that the helper releases or passes on.
        var reference: UInt32 = 0
        /// A dynptr's stack slot and what it is of.
        var dynptr: RegisterState?
    }

    mutating func callHelper(_ instruction: Instruction) throws(VerifierError) -> Int? {
        let (helper, prototype) = try find(instruction)
        if helper != .spinUnlock, !helper.isKernelFunction, state.lock != 0 {
            throw fail(.lock, "\(helper.name) cannot be called while a lock is held")
        }
        var call = HelperCall(helper: helper, prototype: prototype)
        try checkArguments(&call)
        try checkMap(&call)
        try checkSpecial(&call)
        if prototype.releasesArgument { try release(call) }
        if helper == .timerSetCallback { try setTimer() }
        if isCallingBack(instruction) { try callBack(helper, prototype, call.map) }
        state.frames[state.depth].rounds = 0
        state.frames[state.depth].activation = 0
        let arguments = state.frames[state.depth].registers
        clobber()
        try setResult(call, arguments)
        if helper == .iterNumNext { try takeNumber(call) }
        if prototype.changesPacket { forgetPackets() }
        return pc + 1
    }

    private func find(_ instruction: Instruction) throws(VerifierError) -> (Helper, HelperPrototype) {
        if instruction.imm == Helper.poisoned || instruction.imm == poisonedExtern {
            throw fail(.unresolvedRelocation, "this code was disabled when the program was relocated")
        }
        if instruction.imm == Helper.poisonedField {
            let fields = TaskField.allCases.map(\.rawValue).joined(separator: ", ")
            throw fail(
                .unresolvedRelocation,
                "it reads a field of task_struct that there is none of in userspace; there are \(fields)"
            )
        }
        guard let helper = Helper(calledBy: instruction) else {
            throw fail(.unknownHelper, "there is no helper \(instruction.imm) in Linux 6.18")
        }
        if subject.platform == .userspace {
            switch helper.support {
            case .implemented: break
            case .optional(let permission):
                if subject.permissions.contains(permission) { break }
                throw fail(
                    .unavailableHelper,
                    "\(helper.name) is for those who allow it: \(permission.meaning); \(permission.option)"
                )
            case .refused(let refusal):
                throw fail(.unavailableHelper, "\(helper.name) cannot run in userspace: \(refusal.reason)")
            }
        }
        guard let prototype = HelperPrototype.of(helper, for: subject.type) else {
            throw fail(.unavailableHelper, "programs of type \(subject.type.name) cannot call \(helper.name)")
        }
        if prototype.maySleep, !subject.isSleepable {
            throw fail(.unavailableHelper, "\(helper.name) may wait; programs that call it must be sleepable")
        }
        let (isSleepable, platform, permissions) = (subject.isSleepable, subject.platform, subject.permissions)
        guard mayCall(helper, subject.type, isSleepable: isSleepable, on: platform, permissions: permissions) else {
            throw fail(.unavailableHelper, "programs of type \(subject.type.name) cannot call \(helper.name)")
        }
        if prototype.isGPLOnly, !subject.isGPL {
            throw fail(.gplOnly, "\(helper.name) is for programs with a licence compatible with the GPL only")
        }
        return (helper, prototype)
    }

    // MARK: - Arguments

    private mutating func checkArguments(_ call: inout HelperCall) throws(VerifierError) {
        for index in 0..<5 {
            let argument = call.prototype.arguments[index]
            if case .unused = argument { return }
            guard let register = Register(rawValue: UInt8(index + 1)) else { return }
            let value = try read(register)
            switch argument {
            case .unused: return
            case .anything:
                if subject.strictLeaks, value.isPointer { throw mismatch(call, index, "a number", value) }
            case .map:
                guard value.kind == .map, !value.isNullable else { throw mismatch(call, index, "a map", value) }
                call.map = value.map
            case .mapKey:
                try checkExact(call, value, register, maps[Int(call.map)].keySize)
            case .mapValue where maps[Int(call.map)].holdsSockets:
                guard value.kind == .object, !value.isNullable, let given = objects[Int(value.size)],
                    HelperPrototype.KernelObject.anySocket.takes(given)
                else { throw mismatch(call, index, "a socket", value) }
            case .mapValue: try checkExact(call, value, register, maps[Int(call.map)].valueSize)
            case .mapValueOrNull:
                if value.isNull { continue }
                try checkExact(call, value, register, maps[Int(call.map)].valueSize)
            case .mapValueOut:
                // A bloom filter is asked whether it has the value.
                let isOut = maps[Int(call.map)].type != .bloomFilter
                try checkExact(call, value, register, maps[Int(call.map)].valueSize, isOut: isOut)
            case .memory(let isOut, let isNullable):
                try checkSized(call, index, value, isOut: isOut, isUpdate: false, isNullable)
            case .updatedMemory(let isNullable):
                try checkSized(call, index, value, isOut: false, isUpdate: true, isNullable)
            case .fixedMemory(let bytes, let isOut, let isNullable):
                if isNullable, value.isNull { continue }
                if isOut { try checkAlignment(value, register, 0, Int(bytes), isStrict: true) }
                try checkExact(call, value, register, Int(bytes), isOut: isOut)
            case .size:
                // Checked with the memory.
                guard value.isScalar else { throw mismatch(call, index, "a size", value) }
            case .allocationSize:
                guard let size = value.constant, size <= 0x3fff_ffff else {
                    throw mismatch(call, index, "a constant size", value)
                }
                call.size = size
            case .ringRecord:
                guard value.kind == .memory, !value.isNullable, value.constantOffset == 0,
                    state.references.contains(where: { $0.id == value.reference && $0.kind == .ringRecord })
                else {
                    throw mismatch(call, index, "the start of a record that bpf_ringbuf_reserve() gave", value)
                }
                call.reference = value.reference
            case .context, .contextOrNull:
                if case .contextOrNull = argument, value.isNull { continue }
                guard value.kind == .context, value.constantOffset == 0 else {
                    throw mismatch(call, index, "the program's context", value)
                }
            case .constantString: try checkString(call, index, value)
            case .callback:
                guard value.kind == .function else { throw mismatch(call, index, "a function of the program", value) }
            case .callbackContext:
                guard value.isNull || value.kind == .stack else {
                    throw mismatch(call, index, "a pointer to the stack or NULL", value)
                }
            case .spinLock:
                try checkSpecialField(
                    call,
                    index,
                    value,
                    maps.indices.contains(Int(value.map)) ? maps[Int(value.map)].spinLock : nil,
                    "struct bpf_spin_lock"
                )
            case .timer:
                try checkSpecialField(
                    call,
                    index,
                    value,
                    maps.indices.contains(Int(value.map)) ? maps[Int(value.map)].timer : nil,
                    "struct bpf_timer"
                )
            case .dynptr(let use): try checkDynptr(&call, index, value, use)
            case .iterator(let isNew): try checkIterator(&call, index, value, isNew: isNew)
            case .number: guard value.isScalar else { throw mismatch(call, index, "a number", value) }
            case .kernelObject(let object, let isNullable):
                if isNullable, value.isNull { continue }
                guard value.kind == .object, isNullable || !value.isNullable, let given = objects[Int(value.size)],
                    object.takes(given)
                else { throw mismatch(call, index, "a pointer to an object of the kernel", value) }
                call.reference = value.reference
            case .constant:
                guard value.constant != nil else { throw mismatch(call, index, "a constant", value) }
            case .unsupported:
                throw fail(.unsupported, "\(call.helper.name) works on objects that exist only in the kernel")
            }
        }
    }

    /// Memory of a size that the helper knows.
    private mutating func checkExact(
        _ call: HelperCall,
        _ pointer: RegisterState,
        _ register: Register,
        _ size: Int,
        isOut: Bool = false
    ) throws(VerifierError) {
        let sizes = UInt64(size)...UInt64(size)
        let packetAllowed = call.prototype.takesPacket
        try checkHelperMemory(pointer, register, sizes, isOut: isOut, packetAllowed: packetAllowed)
    }

    private func mismatch(
        _ call: HelperCall,
        _ index: Int,
        _ expected: String,
        _ value: RegisterState
    ) -> VerifierError {
        fail(
            .argument,
            "argument \(index + 1) of \(call.helper.name) must be \(expected), but r\(index + 1) is \(describe(value))",
            Register(rawValue: UInt8(index + 1))
        )
    }

    /// Memory whose size stands in the next argument.
    private mutating func checkSized(
        _ call: HelperCall,
        _ index: Int,
        _ pointer: RegisterState,
        isOut: Bool,
        isUpdate: Bool,
        _ isNullable: Bool
    ) throws(VerifierError) {
        guard let register = Register(rawValue: UInt8(index + 1)), let next = Register(rawValue: UInt8(index + 2))
        else { return }
        let size = try read(next)
        guard size.isScalar else { throw mismatch(call, index + 1, "a size", size) }
        var zeroAllowed = false
        if case .size(let allowed) = call.prototype.arguments[index + 1] { zeroAllowed = allowed }
        if size.scalar.smin < 0 {
            throw fail(
                .argumentSize,
                "the size of argument \(index + 1) of \(call.helper.name), r\(index + 2), may be negative; mask it (&= const) or compare it",
                next,
                .size(.negative)
            )
        }
        if size.scalar.umin == 0, !zeroAllowed {
            throw fail(
                .argumentSize,
                "the size of argument \(index + 1) of \(call.helper.name), r\(index + 2), may be 0",
                next,
                .size(.zero)
            )
        }
        if size.scalar.umax >= 1 << 29 {
            throw fail(
                .argumentSize,
                "the size of argument \(index + 1) of \(call.helper.name), r\(index + 2), has no upper bound; compare it or mask it",
                next,
                .size(.unbounded)
            )
        }
        // NULL has no bytes.
        if isNullable, pointer.isNull, size.scalar.umax == 0 { return }
        try checkHelperMemory(
            pointer,
            register,
            size.scalar.umin...size.scalar.umax,
            isOut: isOut,
            isUpdate: isUpdate,
            packetAllowed: call.prototype.takesPacket
        )
    }

    /// Memory that a helper reads (`isOut` false), fills, or both (`isUpdate`); up to the upper size.
    mutating func checkHelperMemory(
        _ pointer: RegisterState,
        _ register: Register,
        _ sizes: ClosedRange<UInt64>,
        isOut: Bool,
        isUpdate: Bool = false,
        packetAllowed: Bool
    ) throws(VerifierError) {
        if pointer.isNullable {
            throw fail(.nullPointer, "r\(register.rawValue) is \(describe(pointer)) and may be NULL here", register)
        }
        let size = Int(sizes.upperBound)
        let kind: AccessKind = isOut || isUpdate ? .write : .read
        switch pointer.kind {
        case .stack:
            if size == 0 { return }
            try accessStack(
                pointer,
                register,
                size,
                isOut: isOut,
                isUpdate: isUpdate,
                isExact: sizes.lowerBound == sizes.upperBound
            )
        case .mapValue:
            try checkMapValue(pointer, register, 0, size, .read == kind ? .read : .write)
            if isUpdate { try checkMapValue(pointer, register, 0, size, .read) }
        case .packet, .packetMeta:
            guard packetAllowed else {
                throw fail(
                    .argument,
                    "r\(register.rawValue) is \(describe(pointer)), which this helper cannot take",
                    register
                )
            }
            try checkMemory(pointer, register, 0, size, kind)
        case .mapKey, .memory: try checkMemory(pointer, register, 0, size, kind)
        case .context:
            throw fail(
                .argument,
                "r\(register.rawValue) is \(describe(pointer)), which helpers take as context only",
                register
            )
        case .none, .scalar, .map, .packetEnd, .function, .object, .dynptr, .iterator:
            let what = pointer.isScalar ? "a number" : describe(pointer)
            throw fail(
                .argument,
                "r\(register.rawValue) is \(what), where the helper needs a pointer to memory of the program",
                register
            )
        }
    }

    private mutating func checkString(
        _ call: HelperCall,
        _ index: Int,
        _ value: RegisterState
    ) throws(VerifierError) {
        guard value.kind == .mapValue, !value.isNullable, maps.indices.contains(Int(value.map)),
            let start = value.constantOffset,
            maps[Int(value.map)].isFrozen, maps[Int(value.map)].isReadOnly
        else { throw mismatch(call, index, "a constant string", value) }
        guard let contents = maps[Int(value.map)].contents, start >= 0, start < contents.count,
            contents[Int(start)...].contains(0)
        else { throw mismatch(call, index, "a string that ends with a zero", value) }
    }

    // MARK: - Results

    private mutating func setResult(
        _ call: HelperCall,
        _ arguments: InlineArray<11, RegisterState>
    ) throws(VerifierError) {
        var result: RegisterState
        switch call.prototype.result {
        case .scalar: result = .unknown
        case .range(let low, let high): result = .scalar(.signedRange(low...high))
        case .void: return
        case .mapValueOrNull, .mapValue:
            guard call.map >= 0 else { throw fail(.argument, "\(call.helper.name) needs a map") }
            if maps[Int(call.map)].holdsMaps, maps[Int(call.map)].inner.isEmpty {
                throw fail(.mapType, "nothing is known of the maps in '\(maps[Int(call.map)].name)'")
            }
            result = RegisterState(.mapValue)
            result.map = call.map
            result.isNullable = call.prototype.result == .mapValueOrNull
            if result.isNullable || maps[Int(call.map)].spinLock != nil { result.id = makeID() }
            if isConstantLookup(call, arguments) {
                decide()
                result.isNullable = false
                if maps[Int(call.map)].spinLock == nil { result.id = 0 }
            }
            if let object = maps[Int(call.map)].foundObject { result = found(object) }
        case .ringRecordOrNull:
            result = RegisterState(.memory)
            result.size = UInt32(call.size)
            result.isNullable = true
            result.reference = hold(.ringRecord)
            result.id = result.reference
        case .iteratorElement:
            result = RegisterState(.memory)
            result.size = 4
            result.isReadOnly = true
            // Void when the iterator is.
            result.reference = call.reference
        case .dynptrMemoryOrNull:
            result = RegisterState(.memory)
            // Void when the dynptr is.
            result.map = Int32(bitPattern: call.dynptr?.id ?? 0)
            result.size = UInt32(call.size)
            result.isNullable = true
            result.id = makeID()
            result.reference = call.dynptr?.reference ?? 0
            result.isReadOnly = call.dynptr?.isReadOnly ?? false
        case .kernelObject(let object, let isNullable, let isReference):
            result = RegisterState(.object)
            result.size = UInt32(objects.firstIndex(of: object) ?? 0)
            result.isNullable = isNullable
            result.id = makeID()
            if isReference {
                result.reference = hold(.object)
                result.id = result.reference
            } else if call.prototype.castsArgument {
                result.reference = call.reference
            }
        case .atMostSize(let argument):
            let size = arguments[Int(argument)].scalar
            let high = Int64(clamping: size.umax)
            result = .scalar(.signedRange(-4095...max(high, 0)))
        }
        write(.r0, result)
    }

    /// What a lookup finds in a map whose values programs do not see; sockets that others may free are held.
    private mutating func found(_ object: HelperPrototype.KernelObject) -> RegisterState {
        var result = kernelObject(object)
        result.isNullable = true
        result.id = makeID()
        if object == .socket {
            result.reference = hold(.object)
            result.id = result.reference
        }
        return result
    }

    /// An array's element at a constant index that exists is never NULL (Linux 6.15: `get_constant_map_key`).
    private func isConstantLookup(_ call: HelperCall, _ arguments: InlineArray<11, RegisterState>) -> Bool {
        guard maps[Int(call.map)].flags & MapFacts.innerMapFlag == 0, call.helper == .mapLookupElem,
            maps[Int(call.map)].type == .array || maps[Int(call.map)].type == .perCPUArray
        else {
            return false
        }
        let key = arguments[2]
        guard key.kind == .stack, let offset = key.constantOffset, offset & 7 == 0 || offset & 3 == 0 else {
            return false
        }
        let index = Int((-offset - 1) >> 3)
        guard index < state.frames[Int(key.frame)].stack.count else { return false }
        let slot = state.frames[Int(key.frame)].stack[index]
        var value: UInt64?
        if offset & 7 == 0, slot[0] == .spilled, slot.spilledSize >= 4 {
            value = slot.spilled.constant.map { $0 & 0xffff_ffff }
        }
        let first = Int(offset & 7)
        if (first..<first + 4).allSatisfy({ slot[$0] == .zero }) { value = 0 }
        guard let value else { return false }
        return value < UInt64(maps[Int(call.map)].maxEntries)
    }

    /// Pointers into the packet are void: the packet may lie elsewhere now.
    mutating func forgetPackets() {
        forEachValue { value in
            switch value.kind {
            case .packet, .packetMeta, .packetEnd: value = .unknown
            case .none, .scalar, .context, .map, .mapValue, .mapKey, .stack, .memory, .function, .object, .dynptr,
                .iterator:
                break
            }
        }
    }

    // MARK: - References

    mutating func hold(_ kind: Reference.Kind) -> UInt32 {
        let id = makeID()
        state.references.append(Reference(id: id, instruction: Int32(pc), kind: kind))
        return id
    }

    /// The reference is not held any more.
    mutating func forget(_ reference: UInt32) { state.references.removeAll { $0.id == reference } }

    private mutating func release(_ call: HelperCall) throws(VerifierError) {
        let reference = call.reference != 0 ? call.reference : call.dynptr?.reference ?? 0
        guard reference != 0, state.references.contains(where: { $0.id == reference }) else {
            throw fail(.notOwned, "\(call.helper.name) gives back something that this program does not hold")
        }
        forget(reference)
        // What was a pointer is a number without meaning; nobody may learn which.
        let rest: RegisterState = subject.strictLeaks ? .none : .unknown
        forEachValue { value in
            if value.reference == reference, value.kind != .dynptr, value.kind != .iterator { value = rest }
        }
        forgetSlots(reference)
    }
}

/// Kinds of kernel objects by the number that registers carry.
let objects: [HelperPrototype.KernelObject?] = [
    nil, .task, .socket, .socketCommon, .tcpSocket, .requestSocket, .btfSocket, .anySocket, .cgroup, .file, .xdpSocket,
    .flowKeys, .other,
]

/// What libbpf writes over a call of a kernel function that does not exist.
private let poisonedExtern: Int64 = 2_001_000_000
