import ISA

/// What is known of a register, or of a register that was stored on the stack, on the path being walked.
///
/// A pointer is an object, a constant offset into it, and `scalar`, the variable part of the offset.
struct RegisterState: Equatable {
    var kind: Kind
    /// May be NULL; nothing but a comparison with 0 may be done with it.
    var isNullable = false
    /// Memory that programs must not write.
    var isReadOnly = false
    /// Linked scalars: this one is the low half of the common value plus `delta` only, made by 32-bit additions.
    var wraps = false
    /// `.stack`: the frame that it points into; `.dynptr`: that of the callback that was given it.
    var frame: UInt8 = 0
    /// `.packet`, `.packetMeta`: bytes behind the variable offset that were compared with the end.
    var range: UInt16 = 0
    /// `.map`, `.mapValue`, `.mapKey`: index into the maps of the walk.
    var map: Int32 = -1
    /// Constant part of a pointer's offset.
    var offset: Int32 = 0
    /// `.memory`: its bytes; `.function`: index of the function; `.object`: which.
    var size: UInt32 = 0
    /// What has the same id is the same value: scalars up to `delta`, nullable pointers, packet pointers up to their
    /// constant offset; 0 for nothing.
    var id: UInt32 = 0
    /// The reference that has to be released, or that this pointer was made from; 0 for none.
    var reference: UInt32 = 0
    /// Linked scalars: this one is the common value plus this, modulo 2^64; where it wraps, below 2^32.
    var delta: UInt64 = 0
    var scalar: Scalar

    enum Kind: UInt8 {
        /// Nothing was written on this path.
        case none
        case scalar
        case context
        /// `struct bpf_map *`
        case map
        case mapValue
        /// The key of `bpf_for_each_map_elem`.
        case mapKey
        case stack
        case packet
        case packetMeta
        case packetEnd
        /// Memory of a known size: records of rings, arguments of global functions.
        case memory
        case function
        /// An object of the kernel.
        case object
        /// A dynptr that a callback was given.
        case dynptr
        /// An iterator, on the stack only.
        case iterator
    }

    init(_ kind: Kind, _ scalar: Scalar = .constant(0)) {
        self.kind = kind
        self.scalar = scalar
    }

    static var none: RegisterState { RegisterState(.none) }
    static var unknown: RegisterState { RegisterState(.scalar, .unknown) }
    static func constant(_ value: UInt64) -> RegisterState { RegisterState(.scalar, .constant(value)) }
    static func scalar(_ scalar: Scalar) -> RegisterState { RegisterState(.scalar, scalar) }

    var isScalar: Bool { kind == .scalar }
    var isPointer: Bool { kind != .scalar && kind != .none }

    /// The number that a scalar certainly is.
    var constant: UInt64? { kind == .scalar ? scalar.constant : nil }
    var isNull: Bool { constant == 0 }

    /// A pointer that cannot be NULL.
    var isNonNull: Bool {
        guard !isNullable else { return false }
        return switch kind {
        case .context, .map, .mapValue, .mapKey, .stack, .packet, .packetMeta, .packetEnd, .memory, .function, .dynptr,
            .iterator:
            true
        case .object: reference != 0 || objects[Int(size)] == .xdpSocket
        case .none, .scalar: false
        }
    }

    /// Least and greatest offset from the start of the object, without the size of an access.
    var offsets: ClosedRange<Int64> {
        let fixed = Int64(offset)
        let low = scalar.smin.addingReportingOverflow(fixed)
        let high = scalar.smax.addingReportingOverflow(fixed)
        return (low.overflow ? Int64.min : low.partialValue)...(high.overflow ? Int64.max : high.partialValue)
    }

    /// Offset from the start of the object where it is the same on every run.
    var constantOffset: Int64? {
        scalar.constant.map { Int64(bitPattern: $0) &+ Int64(offset) }
    }
}
