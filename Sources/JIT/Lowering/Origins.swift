internal import ISA

/// The range that an address most likely lies in: a guess that only decides what checked code looks at first.
enum Origin: UInt32 {
    case unknown, stack, context, guest
}

/// A guess for each register, made by looking over the program once in the order of its instructions.
struct Origins {
    /// Two bits a register.
    private var bits: UInt32 = 0

    /// At a program's first instruction.
    static func atEntry(isProgram: Bool) -> Origins {
        var origins = Origins()
        origins[10] = .stack
        if isProgram { origins[1] = .context }
        return origins
    }

    subscript(_ register: Int) -> Origin {
        get { Origin(rawValue: bits >> UInt32(2 * register) & 3) ?? .unknown }
        set {
            let shift = UInt32(2 * register)
            bits = bits & ~(3 << shift) | newValue.rawValue << shift
        }
    }

    /// What another way to the same place knows.
    mutating func merge(_ other: Origins) {
        for register in 0..<10 where self[register] == .unknown { self[register] = other[register] }
    }

    /// After an instruction.
    mutating func apply(_ instruction: LinkedInstruction) {
        let (dst, src) = (Int(instruction.dst), Int(instruction.src))
        switch instruction.opcode.shape {
        case .arithmetic(.mov, .w64, .reg): self[dst] = self[src]
        // An index plus a pointer is a pointer, in either order.
        case .arithmetic(.add, .w64, .reg): if self[dst] == .unknown { self[dst] = self[src] }
        case .arithmetic(.add, .w64, .imm), .arithmetic(.sub, .w64, .imm), .arithmetic(.sub, .w64, .reg): break
        case .arithmetic, .negate, .signExtend, .byteOrder, .load, .atomic(.loadAcquire, _): self[dst] = .unknown
        case .wide(.mapValue), .wide(.mapValueByIndex): self[dst] = .guest
        case .wide: self[dst] = .unknown
        // The number of an iterator lies in it.
        case .call(.helper) where instruction.imm == 213: self[0] = .stack
        // Map values and ring records.
        case .call: self[0] = .guest
        case .packet, .store, .atomic, .jump, .conditionalJump, .mayGoto, .exit: break
        }
    }
}
