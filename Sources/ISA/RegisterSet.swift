/// A set of registers, one bit each.
package struct RegisterSet: Equatable, Sendable {
    package var bits: UInt16

    package init(bits: UInt16 = 0) { self.bits = bits }
    package init(_ register: Register) { bits = 1 << UInt16(register.rawValue) }

    package static var none: RegisterSet { RegisterSet() }
    /// r1 to r5, which carry arguments and do not survive a call.
    package static var arguments: RegisterSet { RegisterSet(bits: 0b11_1110) }

    package func contains(_ register: Register) -> Bool { bits >> UInt16(register.rawValue) & 1 != 0 }
    package func union(_ other: RegisterSet) -> RegisterSet { RegisterSet(bits: bits | other.bits) }
    package func intersection(_ other: RegisterSet) -> RegisterSet { RegisterSet(bits: bits & other.bits) }
    package func subtracting(_ other: RegisterSet) -> RegisterSet { RegisterSet(bits: bits & ~other.bits) }

    /// The lowest register of the set.
    package var first: Register? { Register(rawValue: UInt8(bits.trailingZeroBitCount)) }
}

extension Instruction {
    /// Registers that must hold a value; the arguments of calls are not among them, since their count is not encoded.
    package var reads: RegisterSet {
        let encoding = opcode.encoding
        var result = RegisterSet.none
        if encoding.dst.reads { result = result.union(RegisterSet(dst)) }
        if encoding.src.reads { result = result.union(RegisterSet(src)) }
        switch opcode.shape {
        case .atomic(.compareExchange, _), .exit: result = result.union(RegisterSet(.r0))
        case .packet: result = result.union(RegisterSet(.r6))
        default: break
        }
        return result
    }

    /// Registers that hold a new value afterwards.
    package var writes: RegisterSet {
        let encoding = opcode.encoding
        var result = RegisterSet.none
        if encoding.dst.writes { result = result.union(RegisterSet(dst)) }
        if encoding.src.writes { result = result.union(RegisterSet(src)) }
        switch opcode.shape {
        case .atomic(.compareExchange, _), .packet, .call: result = result.union(RegisterSet(.r0))
        default: break
        }
        return result
    }

    /// Registers that hold nothing afterwards.
    package var clobbers: RegisterSet {
        switch opcode.shape {
        case .packet, .call: .arguments
        default: .none
        }
    }
}
