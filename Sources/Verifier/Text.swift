import ISA

// How errors name things.

extension Walk {
    /// What a register holds, as the end of "r1 is …".
    func describe(_ value: RegisterState) -> String {
        let text: String
        switch value.kind {
        case .none: return "without a value"
        case .scalar: return describe(value.scalar)
        case .context: text = "the context"
        case .map: return "the map '\(maps[Int(value.map)].name)'"
        case .mapValue: text = "a pointer to a value of '\(maps[Int(value.map)].name)'"
        case .mapKey: text = "a pointer to a key of '\(maps[Int(value.map)].name)'"
        case .stack: text = "a pointer to the stack"
        case .packet: text = "a pointer into the packet"
        case .packetMeta: text = "a pointer to the packet's metadata"
        case .packetEnd: return "the end of the packet"
        case .memory: text = "a pointer to \(value.size) bytes"
        case .function: return "a function"
        case .object: text = "a pointer to an object of the kernel"
        case .dynptr: return "a dynptr"
        case .iterator: return "an iterator"
        }
        return text + (value.isNullable ? " or NULL" : "")
    }

    /// The object that a pointer points into.
    func object(_ value: RegisterState) -> String {
        switch value.kind {
        case .mapValue: "a value of '\(maps[Int(value.map)].name)'"
        case .mapKey: "a key of '\(maps[Int(value.map)].name)'"
        case .memory: "memory of \(value.size) bytes"
        case .stack: "the stack"
        case .context: "the context"
        case .packet, .packetEnd: "the packet"
        case .packetMeta: "the packet's metadata"
        case .none, .scalar, .map, .function, .object, .dynptr, .iterator: describe(value)
        }
    }

    func describe(_ scalar: Scalar) -> String {
        if let constant = scalar.constant { return "\(Int64(bitPattern: constant))" }
        if scalar.smin > Int64.min || scalar.smax < Int64.max {
            return "a number from \(scalar.smin) to \(scalar.smax)"
        }
        if scalar.umin > 0 || scalar.umax < UInt64.max { return "a number from \(scalar.umin) to \(scalar.umax)" }
        return "a number of which nothing is known"
    }
}

extension RegisterState {
    /// What Linux calls it (kernel/bpf/verifier.c, `reg_type_str`).
    var kernelType: String {
        let name =
            switch kind {
            case .none: "?"
            case .scalar: "scalar"
            case .context: "ctx"
            case .map: "map_ptr"
            case .mapValue: "map_value"
            case .mapKey: "map_key"
            case .stack: "fp"
            case .packet: "pkt"
            case .packetMeta: "pkt_meta"
            case .packetEnd: "pkt_end"
            case .memory: isReadOnly ? "rdonly_mem" : reference != 0 ? "ringbuf_mem" : "mem"
            case .function: "func"
            case .object: "ptr_"
            case .dynptr: "dynptr_ptr"
            case .iterator: "iter_num"
            }
        return isNullable ? name + "_or_null" : name
    }
}

/// `a hash`, `an array`.
func article(_ name: String) -> String {
    "aeiou".contains(name.first ?? " ") ? "an \(name)" : "a \(name)"
}
