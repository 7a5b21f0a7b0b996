import ISA

// The shapes with one operand.

extension Scalar {
    /// The low half, zero-extended: what every 32-bit operation leaves.
    var truncated32: Scalar {
        if whole.unsigned.max <= 0xffff_ffff { return self }
        return Scalar(bits: bits.cast(4), whole: Bounds(zeroExtending: low), low: low).normalized()
    }

    /// The low `size` bits with zeros above, as a load or a store of that size sees them.
    func zeroExtended(from size: Size) -> Scalar {
        switch size {
        case .b64: return self
        case .b32: return truncated32
        case .b8, .b16:
            if whole.unsigned.max >> UInt64(size.bits) == 0 { return self }
            let shift = Scalar.constant(UInt64(64 - size.bits))
            return apply(.rsh, .w64, apply(.lsh, .w64, self, shift), shift)
        }
    }

    /// The low `size` bits with copies of their sign above.
    func signExtended(from size: Size) -> Scalar {
        switch size {
        case .b64: return self
        case .b32:
            let sign = low.flipped
            return Scalar(
                bits: bits.shiftedLeft(32).shiftedRightSigned(32),
                whole: Bounds(
                    smin: Int64((sign.min ^ UInt32.sign).signed),
                    smax: Int64((sign.max ^ UInt32.sign).signed)
                ),
                low: low
            )
            .normalized()
        case .b8, .b16:
            let shift = Scalar.constant(UInt64(64 - size.bits))
            return apply(.arsh, .w64, apply(.lsh, .w64, self, shift), shift)
        }
    }

    /// `dst = (s8|s16|s32)src`; in 32 bits with a zero upper half.
    func signExtended(_ width: Width, from size: Size) -> Scalar {
        let extended = signExtended(from: size)
        return width == .w64 ? extended : extended.truncated32
    }

    /// `dst = -dst`.
    func negated(_ width: Width) -> Scalar { apply(.sub, width, .constant(0), self) }

    /// `dst` with its low `size` bits put in order, on a little-endian machine (RFC 9669 section 4.2).
    func ordered(_ order: ByteOrder, _ size: Size) -> Scalar {
        switch order {
        case .little: zeroExtended(from: size)
        case .big, .swap: byteSwapped(size)
        }
    }

    /// The low `size` bits with their bytes reversed, zeros above.
    func byteSwapped(_ size: Size) -> Scalar {
        let unused = 64 - size.bits
        let swapped = Tnum(value: bits.value.byteSwapped, mask: bits.mask.byteSwapped)
        return .bits(swapped.shiftedRight(unused))
    }
}
