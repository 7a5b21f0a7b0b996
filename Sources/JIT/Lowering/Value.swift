/// What a BPF register holds while its machine register does not say it yet.
///
/// Moves, additions, constants and shifts wait here until something needs their result, which then often takes it into an
/// addressing mode, an immediate or a rotation, or finds that nobody wants it any more.
enum Value: Equatable {
    /// The machine register says it.
    case inRegister
    case constant(Int64)
    /// A sum of registers and a constant, in 64 bits.
    case sum(Sum)
    /// The low half of a register, zero-extended.
    case low32(GPR)
    /// A register shifted left or right (logically) by a constant; with 32 bits, its low half, zero-extended.
    case shifted(GPR, isLeft: Bool, UInt8, OperandWidth)

    /// `base + (index << scale) + displacement`, what an addressing mode computes.
    struct Sum: Equatable {
        var base: GPR?
        var index: GPR?
        var scale: UInt8 = 0
        var displacement: Int32 = 0

        /// The register that this is a plain copy of.
        var copied: GPR? { index == nil && displacement == 0 ? base : nil }

        /// As an operand; nil for a constant alone.
        var address: Address? {
            switch (base, index) {
            case (let base?, nil): .base(base, displacement)
            case (let base?, let index?): .indexed(base, index, scale: scale, displacement)
            case (nil, let index?): .scaled(index, scale: scale, displacement)
            case (nil, nil): nil
            }
        }

        /// The sum of two, where an addressing mode can hold it.
        func adding(_ other: Sum) -> Sum? {
            let (displacement, overflow) = self.displacement.addingReportingOverflow(other.displacement)
            if overflow { return nil }
            var result = self
            result.displacement = displacement
            if let index = other.index {
                if result.index == nil {
                    (result.index, result.scale) = (index, other.scale)
                } else if result.base == nil, other.scale == 0 {
                    result.base = index
                } else {
                    return nil
                }
            }
            if let base = other.base {
                if result.base == nil {
                    result.base = base
                } else if result.index == nil {
                    (result.index, result.scale) = (base, 0)
                } else {
                    return nil
                }
            }
            return result
        }
    }

    /// A copy of a register.
    static func copy(_ register: GPR) -> Value { .sum(Sum(base: register)) }

    /// Whether this changes when `register` is written.
    func refers(to register: GPR) -> Bool {
        switch self {
        case .inRegister, .constant: false
        case .sum(let sum): sum.base == register || sum.index == register
        case .low32(let source), .shifted(let source, _, _, _): source == register
        }
    }

    /// Whether this depends on no register but `register`.
    func refers(onlyTo register: GPR) -> Bool {
        switch self {
        case .inRegister, .constant: true
        case .sum(let sum): (sum.base ?? register) == register && (sum.index ?? register) == register
        case .low32(let source), .shifted(let source, _, _, _): source == register
        }
    }
}

/// The values of the eleven registers.
///
/// Behind a pointer: an inline array in the compiler's state would be copied whole for each look at one element.
@safe
struct ValueTable: ~Copyable {
    private let base: UnsafeMutablePointer<Value>

    init() {
        unsafe base = .allocate(capacity: 16)
        unsafe base.initialize(repeating: .inRegister, count: 16)
    }

    deinit { unsafe base.deallocate() }

    subscript(_ register: Int) -> Value {
        get { unsafe base[register & 15] }
        nonmutating set { unsafe base[register & 15] = newValue }
    }

    func clear() { for register in 0..<11 { self[register] = .inRegister } }
}
