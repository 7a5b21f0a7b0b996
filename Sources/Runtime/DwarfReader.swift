/// Reads DWARF's variable-length and encoded values from mapped memory, never past `end`.
///
/// A read past the end gives 0 and leaves the reader at the end, so that callers loop on `isAtEnd` alone.
@safe struct DwarfReader {
    private(set) var at: UnsafePointer<UInt8>
    let end: UnsafePointer<UInt8>

    @_noLocks init(_ at: UnsafePointer<UInt8>, end: UnsafePointer<UInt8>) {
        unsafe self.at = at
        unsafe self.end = end
    }

    @_noLocks init(_ at: UnsafePointer<UInt8>, count: Int) {
        unsafe self.init(at, end: at + count)
    }

    var isAtEnd: Bool { @_noLocks get { unsafe at >= end } }

    var address: UInt64 { @_noLocks get { unsafe UInt64(UInt(bitPattern: at)) } }

    @_noLocks mutating func byte() -> UInt8 {
        guard !isAtEnd else { return 0 }
        let value = unsafe at.pointee
        unsafe at += 1
        return value
    }

    @_noLocks mutating func fixed(_ size: Int) -> UInt64 {
        guard unsafe end - at >= size else {
            unsafe at = end
            return 0
        }
        var value: UInt64 = 0
        var index = size - 1
        while index >= 0 {
            value = unsafe value << 8 | UInt64(at[index])
            index -= 1
        }
        unsafe at += size
        return value
    }

    @_noLocks mutating func signedFixed(_ size: Int) -> Int64 {
        let shift = UInt64(64 - 8 * size)
        return Int64(bitPattern: fixed(size) &<< shift) &>> Int64(shift)
    }

    @_noLocks mutating func uleb() -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let next = byte()
            if shift < 64 { value |= UInt64(next & 0x7f) &<< shift }
            shift += 7
            if next & 0x80 == 0 || isAtEnd { return value }
        }
    }

    @_noLocks mutating func sleb() -> Int64 {
        var value: Int64 = 0
        var shift: Int64 = 0
        while true {
            let next = byte()
            if shift < 64 { value |= Int64(next & 0x7f) &<< shift }
            shift += 7
            if next & 0x80 == 0 || isAtEnd {
                if next & 0x40 != 0 && shift < 64 { value |= -1 &<< shift }
                return value
            }
        }
    }

    @_noLocks mutating func skip(_ count: UInt64) {
        let left = unsafe UInt64(end - at)
        unsafe at += Int(count < left ? count : left)
    }

    /// A pointer in one of the DW_EH_PE encodings (LSB core specification, section 10.5.1); `base` is for data-relative ones.
    @_noLocks mutating func encoded(_ encoding: UInt8, base: UInt64 = 0) -> UInt64 {
        if encoding == 0xff { return 0 }
        let start = address
        let value: Int64
        switch encoding & 0x0f {
        case 0x01: value = Int64(bitPattern: uleb())
        case 0x02: value = Int64(fixed(2))
        case 0x03: value = Int64(fixed(4))
        case 0x09: value = sleb()
        case 0x0a: value = signedFixed(2)
        case 0x0b: value = signedFixed(4)
        default: value = Int64(bitPattern: fixed(8))
        }
        switch encoding & 0x70 {
        case 0x10: return start &+ UInt64(bitPattern: value)
        case 0x30: return base &+ UInt64(bitPattern: value)
        default: return UInt64(bitPattern: value)
        }
    }
}
