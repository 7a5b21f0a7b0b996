import ISA

// Calls of functions and helpers, and returns (Linux: `check_func_call`, `check_helper_call`, `prepare_func_exit`).

extension Walk {
    mutating func call(_ instruction: Instruction, _ kind: CallKind) throws(VerifierError) -> Int? {
        switch kind {
        case .local: return try callFunction(instruction)
        case .helper: return try callHelper(instruction)
        case .kernelFunction:
            if Helper(calledBy: instruction) != nil { return try callHelper(instruction) }
            throw fail(
                .unsupported,
                "a kernel function (kfunc) cannot run in userspace, but those of bpf_for() and bpf_repeat()"
            )
        case .register: throw fail(.unsupported, "an indirect call cannot be verified")
        }
    }

    /// Registers that no call keeps.
    mutating func clobber() {
        for register in 0...5 { state.frames[state.depth].registers[register] = .none }
    }

    // MARK: - Functions of the program

    private mutating func callFunction(_ instruction: Instruction) throws(VerifierError) -> Int? {
        let callee = layout.callee(of: pc)
        if state.lock != 0, subject.functions[callee].contract != nil {
            throw fail(.lock, "a global function cannot be called while a lock is held")
        }
        guard let contract = subject.functions[callee].contract else {
            try enter(callee, isCallback: false)
            for register in 1...5 {
                state.frames[state.depth].registers[register] = state.frames[state.depth - 1].registers[register]
            }
            trail.go(from: pc, to: layout.functions[callee])
            return layout.functions[callee]
        }
        try checkContract(contract, callee)
        clobber()
        if !contract.returnsVoid { write(.r0, .unknown) }
        if packetChangers.contains(callee) { forgetPackets() }
        return pc + 1
    }

    /// A global function was verified for any arguments that follow its contract.
    private mutating func checkContract(
        _ contract: FunctionFacts.Contract,
        _ callee: Int
    ) throws(VerifierError) {
        let name = subject.functions[callee].name
        if contract.returnsVoid {
            throw fail(
                .functionContract,
                "'\(name)' is a global function that returns nothing; global functions return numbers"
            )
        }
        for (index, parameter) in contract.parameters.enumerated() {
            guard index < 5, let register = Register(rawValue: UInt8(index + 1)) else { break }
            let value = try read(register)
            let isGood: Bool
            switch parameter {
            case .scalar: isGood = value.isScalar
            case .context: isGood = value.kind == .context && value.constantOffset == 0
            case .memory(let size, let isNullable):
                if isNullable, value.isNull { continue }
                var pointer = value
                if isNullable { pointer.isNullable = false }
                // A parameter does not become void when the packet moves.
                try checkHelperMemory(
                    pointer,
                    register,
                    0...UInt64(size),
                    isOut: false,
                    isUpdate: true,
                    packetAllowed: !packetChangers.contains(callee)
                )
                isGood = true
            case .unsupported:
                throw fail(.functionContract, "'\(name)' takes an argument of a type that cannot be checked")
            }
            if !isGood {
                throw fail(
                    .functionContract,
                    "argument \(index + 1) of '\(name)' is \(parameter.text), but r\(index + 1) is \(describe(value))",
                    register
                )
            }
        }
    }

    /// A new frame for a function.
    private mutating func enter(_ function: Int, isCallback: Bool) throws(VerifierError) {
        guard state.frames.count < maximumFrames else {
            let what = "the call makes \(state.frames.count + 1) nested frames; at most \(maximumFrames) are allowed"
            throw fail(.callsTooDeep, what)
        }
        var frame = Frame(function: function, callSite: pc)
        frame.isCallback = isCallback
        frame.identity = makeID()
        frame[.framePointer] = stackPointer(state.frames.count)
        state.frames.append(frame)
        // Nothing that was there before can be read.
        writes[state.depth] = .max
    }

    // MARK: - Returns

    mutating func leave() throws(VerifierError) -> Int? {
        guard state.depth > 0 else {
            try checkEnd()
            return nil
        }
        let frame = state.frames[state.depth]
        let result = frame[.r0]
        if result.kind == .stack, Int(result.frame) == state.depth {
            throw fail(.corruptedPointer, "a pointer to this function's stack would outlive the function")
        }
        let site = frame.callSite
        if frame.isCallback {
            try checkCallbackResult(frame)
            let depth = UInt8(state.depth)
            state.frames.removeLast()
            forgetDynptr(depth)
            // The helper may call it again, or be done: its call is walked again.
            trail.go(from: pc, to: site)
            return site
        }
        state.frames.removeLast()
        clobber()
        write(.r0, result)
        trail.go(from: pc, to: site + 1)
        return site + 1
    }

    private func checkCallbackResult(_ frame: Frame) throws(VerifierError) {
        let result = frame[.r0]
        guard result.kind != .none else { throw uninitialized(.r0) }
        guard result.isScalar, result.scalar.smin >= frame.results.lowerBound,
            result.scalar.smax <= frame.results.upperBound
        else {
            throw fail(
                .callback,
                "a callback returns \(frame.results.lowerBound) to \(frame.results.upperBound), but r0 is \(describe(result))",
                .r0,
                .result(frame.results)
            )
        }
    }

    /// What must hold where the program or a global function ends.
    private func checkEnd() throws(VerifierError) {
        guard state.references.isEmpty else {
            throw fail(.unreleased, "the program ends here, but \(held())")
        }
        if state.frames[0].isAsync {
            try checkCallbackResult(state.frames[0])
            return
        }
        if function != 0 {
            guard subject.functions[function].contract?.returnsVoid != true else { return }
            let result = try read(.r0)
            guard result.isScalar else {
                throw fail(.returnValue, "a global function returns a number, but r0 is \(describe(result))", .r0)
            }
            return
        }
        let result = try read(.r0)
        if subject.strictLeaks, result.isPointer {
            throw fail(.leak, "r0 is \(describe(result)); returning it gives its address away", .r0)
        }
        guard let range = returnRange else { return }
        guard result.isScalar, result.scalar.smin >= range.lowerBound, result.scalar.smax <= range.upperBound else {
            throw fail(
                .returnValue,
                "programs of type \(subject.type.name) return \(range.lowerBound) to \(range.upperBound), but r0 is \(describe(result))",
                .r0,
                .result(range)
            )
        }
    }

    /// What has not been released.
    func held() -> String {
        guard let reference = state.references.last else { return "nothing is held" }
        let slot = layout.error(.unreleased, at: Int(reference.instruction), "").slot
        return switch reference.kind {
        case .ringRecord: "the ring record reserved at insn \(slot) was neither submitted nor discarded"
        case .ringDynptr: "the dynptr reserved at insn \(slot) was neither submitted nor discarded"
        case .object: "the reference taken at insn \(slot) was not released"
        case .spinLock: "the lock taken at insn \(slot) is still held"
        case .iterator: "the iterator made at insn \(slot) was not destroyed"
        }
    }

    // MARK: - Callbacks

    /// `bpf_timer_set_callback(timer, function)`: the function is walked on its own, with the timer's map, a key and a value.
    mutating func setTimer() throws(VerifierError) {
        let map = state.frames[state.depth].registers[1].map
        var frame = Frame(function: Int(state.frames[state.depth].registers[2].size), callSite: -1)
        frame.isAsync = true
        frame.results = 0...0
        frame[.framePointer] = stackPointer(0)
        for (register, kind) in [(Register.r1, RegisterState.Kind.map), (.r2, .mapKey), (.r3, .mapValue)] {
            frame[register] = RegisterState(kind)
            frame[register].map = map
        }
        try forkAsync(frame)
    }

    /// A helper calls a function of the program any number of times: one more call waits, in a frame of its own.
    mutating func callBack(
        _ helper: Helper,
        _ prototype: HelperPrototype,
        _ map: Int32
    ) throws(VerifierError) {
        guard let position = (1...5).first(where: { prototype.arguments[$0 - 1] == .callback }) else { return }
        let callee = Int(state.frames[state.depth].registers[position].size)
        let caller = state.frames[state.depth]
        // bpf_loop(0, …) calls nothing; more rounds than it was asked for are not walked.
        let rounds = caller.registers[1].isScalar ? caller.registers[1].scalar : .unknown
        let limit = rounds.truncated32.umax
        if helper == .loop, caller.rounds >= limit { return }
        callbacks.insert(CallGraph.Callback(caller: caller.function, callee: callee, helper: helper, instruction: pc))
        let saved = (state, writes, trail.tip)
        state.rounds += 1
        state.frames[state.depth].rounds += 1
        try enter(callee, isCallback: true)
        var arguments = [RegisterState](repeating: .none, count: 5)
        switch helper {
        case .loop:
            arguments[0] = .scalar(.range(0...limit - 1))
            arguments[1] = caller.registers[3]
        case .forEachMapElem:
            arguments[0] = caller.registers[1]
            arguments[1] = RegisterState(.mapKey)
            arguments[1].map = map
            arguments[2] = RegisterState(.mapValue)
            arguments[2].map = map
            if maps[Int(map)].spinLock != nil { arguments[2].id = makeID() }
            arguments[3] = caller.registers[3]
        case .userRingbufDrain:
            arguments[0] = RegisterState(.dynptr)
            arguments[0].frame = UInt8(state.depth)
            arguments[1] = caller.registers[3]
        case .findVma:
            arguments[0] = RegisterState(.object)
            arguments[1] = RegisterState(.object)
            arguments[2] = caller.registers[4]
        default: break
        }
        for index in 0..<5 { state.frames[state.depth].registers[index + 1] = arguments[index] }
        trail.go(from: pc, to: layout.functions[callee])
        try fork(state, at: layout.functions[callee])
        (state, writes, trail.tip) = saved
    }
}

extension FunctionFacts.Parameter {
    fileprivate var text: String {
        switch self {
        case .scalar: "a number"
        case .context: "the context"
        case .memory(let size, let isNullable): "a pointer to \(size) bytes\(isNullable ? " or NULL" : "")"
        case .unsupported: "of a type that cannot be checked"
        }
    }
}
