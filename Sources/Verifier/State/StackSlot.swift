/// Eight bytes of a stack frame.
struct StackSlot: Equatable {
    /// What is known of each byte; byte 0 has the lowest address.
    var bytes: UInt64 = 0
    /// The register that was stored, where bytes are `.spilled`; its lower part if only those bytes are.
    var spilled = RegisterState.none

    enum Byte: UInt8 {
        /// Never written in this frame.
        case invalid
        /// Part of `spilled`.
        case spilled
        /// Written with something unknown.
        case misc
        case zero
        /// Part of a dynptr; `spilled` says which.
        case dynptr
        /// Part of an iterator; `spilled` has its reference.
        case iterator
    }

    subscript(index: Int) -> Byte {
        get { Byte(rawValue: UInt8(truncatingIfNeeded: bytes >> UInt64(8 * index))) ?? .invalid }
        set {
            let shift = UInt64(8 * index)
            bytes = bytes & ~(0xff << shift) | UInt64(newValue.rawValue) << shift
        }
    }

    /// All bytes are of this kind.
    func isAll(_ byte: Byte) -> Bool { bytes == Self.repeated(byte) }

    /// A byte is zero here that may be another there.
    func hasZero(notIn other: StackSlot) -> Bool { (0..<8).contains { self[$0] == .zero && other[$0] != .zero } }

    mutating func fill(_ byte: Byte) {
        bytes = Self.repeated(byte)
        spilled = .none
    }

    /// A whole register was stored here.
    var holdsRegister: Bool { isAll(.spilled) }

    /// Bytes of the stored register that are left: 8, 4, 2, 1, or 0.
    var spilledSize: Int {
        // A narrow spill fills the lowest bytes.
        var count = 0
        while count < 8, self[count] == .spilled { count += 1 }
        return count
    }

    /// A scalar that stands for the whole slot, where its bytes are numbers: what 8 bytes read would give.
    var scalar: RegisterState? {
        if holdsRegister { return spilled.isScalar ? spilled : nil }
        if isAll(.zero) { return .constant(0) }
        for index in 0..<8 {
            switch self[index] {
            case .misc, .zero, .invalid: continue
            case .spilled, .dynptr, .iterator: return nil
            }
        }
        return .unknown
    }

    static func repeated(_ byte: Byte) -> UInt64 { UInt64(byte.rawValue) &* 0x0101_0101_0101_0101 }
}
