import ISA

// Advice for situations that are known well; elsewhere the rule's own.

extension DiagnosisBuilder {
    var suggestion: String {
        let general = error.rule.text.suggestion
        switch error.rule {
        case .nullPointer: return nullPointer ?? general
        case .notAPointer: return notAPointer ?? general
        case .outOfBounds: return outOfBounds ?? general
        case .contextAccess: return contextAccess ?? general
        case .packetBounds:
            guard case .packet(let bytes) = error.detail, bytes > 0 else { return general }
            return "if (data + \(bytes) > data_end) return …; before the access"
        case .uninitialized: return uninitialized ?? general
        case .argument: return argument ?? general
        case .argumentSize: return argumentSize ?? general
        case .pointerArithmetic: return pointerArithmetic ?? general
        case .unavailableHelper, .unknownHelper: return otherHelper ?? general
        case .gplOnly: return general
        case .unreleased: return unreleased ?? general
        case .returnValue, .callback:
            guard case .result(let range) = error.detail else { return general }
            return range.count == 1
                ? "return \(range.lowerBound)" : "return a number from \(range.lowerBound) to \(range.upperBound)"
        case .readOnly: return readOnly ?? general
        case .mapType: return mapType ?? general
        case .tooComplex, .endlessLoop: return general
        case .empty, .controlFlow, .unreachable, .recursion, .callsTooDeep, .stackTooDeep, .uninitializedStack,
            .framePointer, .stackBounds, .misaligned, .writeOnly, .corruptedPointer, .specialField,
            .pointerComparison, .division, .badOperation, .notOwned, .context, .leak, .lock, .functionContract,
            .unsupported,
            .unresolvedRelocation, .programType:
            return general
        }
    }

    private var register: String { error.register.map { "r\($0.rawValue)" } ?? "it" }

    /// The helper that made the register's value.
    private var maker: Helper? {
        steps.first { $0.kind == .called }.flatMap { helper(subject.instructions[$0.instruction]) }
    }

    /// The variable that a call's result is assigned to, where the line says so and nothing else.
    private var variable: String? {
        guard let first = steps.first(where: { $0.kind == .called }), let source = source(first.instruction),
            source.column > 1, let name = assigned(Array(source.text).prefix(source.column - 1))
        else { return nil }
        return name
    }

    /// `v` of `long *v = `.
    private func assigned(_ text: ArraySlice<Character>) -> String? {
        var rest = text
        func isSpace(_ character: Character?) -> Bool { character == " " || character == "\t" }
        while isSpace(rest.last) { rest.removeLast() }
        guard rest.popLast() == "=" else { return nil }
        while isSpace(rest.last) { rest.removeLast() }
        var name = ""
        while let last = rest.last, last.isLetter || last.isNumber || last == "_" {
            name = String(last) + name
            rest.removeLast()
        }
        // A member or element is more than a name.
        guard let first = name.first, !first.isNumber, rest.last != ".", rest.last != ">", rest.last != "]" else {
            return nil
        }
        return name
    }

    private var nullPointer: String? {
        let name = variable ?? "pointer"
        switch maker {
        case .mapLookupElem?: return "if (!\(name)) return 0;   // the key may be absent"
        case .ringbufReserve?: return "if (!\(name)) return 0;   // the ring may be full"
        default: return "if (!\(name)) return 0;"
        }
    }

    private var notAPointer: String? {
        if let first = steps.first, case .load = subject.instructions[first.instruction].opcode.shape {
            return "\(register) is an address of the traced process, or a number: read it with\n"
                + "bpf_probe_read_user(&copy, sizeof copy, pointer)"
        }
        return afterRelease
    }

    /// What was a pointer until it was given back.
    private var afterRelease: String? {
        guard let release, let helper = helper(subject.instructions[release]) else { return nil }
        return "\(position(release)) gave it back; nothing may be done with it after \(helper.name)()"
    }

    private var outOfBounds: String? {
        guard case .bounds(let offsets, let size, let limit) = error.detail else { return nil }
        if size > limit { return "the object has \(limit) bytes, too few for an access of \(size)" }
        if offsets.lowerBound == offsets.upperBound {
            return "the last place for \(size) byte\(size == 1 ? "" : "s") is offset \(limit - size)"
        }
        if offsets.lowerBound < 0 {
            return "make the index unsigned, or refuse negative ones: if (i < 0) return 0;"
        }
        // The number itself is seldom what the source compares: an index is scaled.
        return size == 1
            ? "compare the index with the size: if (i >= \(limit)) return 0;   or mask it: i &= \(mask(limit))"
            : "compare the index before it is used: offset + \(size) must not exceed \(limit) bytes, if (i >= \(limit / size)) return 0;"
    }

    /// The greatest all-ones number below the limit.
    private func mask(_ limit: Int) -> String {
        var mask = 1
        while mask * 2 <= limit { mask *= 2 }
        return "0x" + String(mask - 1, radix: 16)
    }

    private var contextAccess: String? {
        guard case .context(let offset, let size, let isWrite) = error.detail,
            let model = ContextModel.of(subject.type, attachType: subject.attachType)
        else { return "read a field by name; the context has no variable offsets" }
        let type = subject.type.name
        guard let place = Int(exactly: offset), place >= 0, let field = model.fieldName(at: place) else {
            let near = (1...64).lazy.compactMap { distance -> String? in
                [offset - Int64(distance), offset + Int64(distance)].lazy.compactMap { place in
                    place >= 0 ? Int(exactly: place).flatMap(model.fieldName) : nil
                }.first
            }.first
            return "offset \(offset) is no field of \(model.name)" + (near.map { "; the nearest is \($0)" } ?? "")
        }
        if isWrite { return "\(field) cannot be written by \(type) programs" }
        let sizes = [1, 2, 4, 8].filter { model.access(offset: place, size: $0, isWrite: false) != nil }
        if sizes.isEmpty { return "\(field) cannot be read by \(type) programs, or not from its middle" }
        return "\(field) is read \(sizes.map(String.init).joined(separator: " or ")) bytes at a time, not \(size)"
    }

    private var uninitialized: String? {
        if let last = steps.last, last.kind == .lost {
            return "keep what is needed after a call in a variable of its own (r6 to r9); calls use up r1 to r5"
        }
        if instruction?.opcode == .exit {
            return "return a value on every path, or give the variable one where it is declared"
        }
        let isArgument = error.register.map { (2...5).contains($0.rawValue) } ?? false
        if isArgument, helper != nil {
            return
                "\(helper?.name ?? "the helper") takes more arguments than were given; declare it with <bpf/bpf_helpers.h>"
        }
        if steps.isEmpty, isArgument {
            return "a program has one argument, the context (r1); give the variable a value where it is declared"
        }
        return nil
    }

    private var argument: String? {
        if let afterRelease { return afterRelease }
        guard let helper, let register = error.register, (1...5).contains(register.rawValue) else { return nil }
        let argument = HelperPrototype.of(helper, for: subject.type)?.arguments[Int(register.rawValue) - 1]
        switch argument {
        case .map?: return "pass the address of a map: \(helper.name)(&map, …)"
        case .mapKey?: return "copy the key to a variable and pass its address: \(helper.name)(&map, &key, …)"
        case .mapValue?, .mapValueOrNull?: return "copy the value to a variable and pass its address"
        case .context?, .contextOrNull?: return "pass the program's own context (its first argument), unchanged"
        case .ringRecord?:
            return "pass the pointer that bpf_ringbuf_reserve() gave, not one moved or copied from memory"
        case .allocationSize?, .constant?: return "the number must be a constant, such as sizeof(*event)"
        case .constantString?: return "use a string literal, which lies in .rodata"
        case .dynptr?: return "make it with bpf_ringbuf_reserve_dynptr() first; one that was given back is void"
        case .iterator(isNew: true)?: return "give each loop an iterator of its own: a local `struct bpf_iter_num it`"
        case .iterator(isNew: false)?: return "make it with bpf_iter_num_new() first, on every path; or use bpf_for()"
        case .callback?: return "pass a static function of the program"
        case .number?: return "pass a number; pointers are no limits of a loop"
        case .unused?, .anything?, .mapValueOut?, .memory?, .updatedMemory?, .fixedMemory?, .size?, .callbackContext?,
            .spinLock?, .timer?, .kernelObject?, .unsupported?, nil:
            return nil
        }
    }

    private var argumentSize: String? {
        guard case .size(let problem) = error.detail else { return nil }
        switch problem {
        case .negative: return "make \(register) unsigned, or: if (n < 0) return 0;   a mask works too: n &= 0xff"
        case .zero: return "if (n == 0) return 0;   this helper takes no empty buffers"
        case .unbounded: return "if (n > sizeof buffer) n = sizeof buffer;   with an unsigned n"
        }
    }

    private var pointerArithmetic: String? {
        guard let instruction else { return nil }
        if error.kernelType == "map_ptr" {
            return "a map has no bytes of its own: look a value up with bpf_map_lookup_elem()"
        }
        switch instruction.opcode.shape {
        case .arithmetic(.add, .w64, .reg), .arithmetic(.sub, .w64, .reg):
            return
                "the number added has no lower bound: make it unsigned, compare it (if (i < 0 || i >= N) return 0;), "
                + "or mask it (i &= N - 1)"
        case .arithmetic(_, .w32, _): return "compute addresses in 64 bits: use long or pointers, not int"
        default:
            return "use only + and - with bounded numbers on pointers; copy the value to a number for anything else"
        }
    }

    private var otherHelper: String? {
        switch helper {
        case .taskPtRegs?: return "the context of the program is the struct pt_regs of this thread"
        case .probeWriteUser?, .overrideReturn?:
            guard let helper, case .optional(let permission) = helper.support else { return nil }
            return "run with \(permission.option) if the program is to change what the process does; or observe only"
        default: return nil
        }
    }

    private var unreleased: String? {
        guard let origin = error.origin else { return nil }
        let place = position(origin)
        switch helper(subject.instructions[origin]) {
        case .ringbufReserve?:
            return
                "bpf_ringbuf_discard(record, 0); before this end of the path: the record of \(place) blocks the ring until then"
        case .ringbufReserveDynptr?:
            return "bpf_ringbuf_discard_dynptr(&ptr, 0); also where the reservation of \(place) failed"
        case .spinLock?: return "bpf_spin_unlock() of the lock taken at \(place), on every path"
        case .iterNumNew?: return "bpf_iter_num_destroy(&it); on every path; bpf_for() does so by itself"
        default: return "release what \(place) took, on every path"
        }
    }

    private var readOnly: String? {
        guard let value = error.value, value.contains(".rodata") else { return nil }
        return "take `const` from the variable, so that it lies in .data"
    }

    private var mapType: String? {
        switch helper {
        case .mapLookupElem?, .mapUpdateElem?, .mapDeleteElem?:
            return "ring buffers are written with bpf_ringbuf_output() or bpf_ringbuf_reserve(), perf buffers with "
                + "bpf_perf_event_output(), stack traces with bpf_get_stackid()"
        default: return nil
        }
    }
}
