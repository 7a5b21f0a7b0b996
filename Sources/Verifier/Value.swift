import ISA

/// What is known of a register on every path to an instruction.
enum Value: Equatable {
    /// Nothing was written on some path.
    case none
    /// An argument register that on some path still holds what the caller left there.
    case incoming
    case any
    case constant(Int64)
    /// The frame pointer plus a constant.
    case frame(Int64)

    /// What is known where two paths meet.
    func joined(_ other: Value) -> Value {
        if self == other { return self }
        switch (self, other) {
        case (.none, _), (_, .none): return .none
        case (.incoming, _), (_, .incoming): return .incoming
        case (.any, _), (.constant, _), (.frame, _): return .any
        }
    }
}

/// The registers at one instruction.
struct Registers: Equatable {
    private var values: InlineArray<11, Value>

    init(_ value: Value) { values = InlineArray(repeating: value) }

    subscript(register: Register) -> Value {
        get { values[Int(register.rawValue)] }
        set { values[Int(register.rawValue)] = newValue }
    }

    static func == (left: Registers, right: Registers) -> Bool {
        for index in 0..<11 where left.values[index] != right.values[index] { return false }
        return true
    }

    /// Takes in another path; true if that changed anything.
    mutating func join(_ other: Registers) -> Bool {
        var changed = false
        for index in 0..<11 {
            let joined = values[index].joined(other.values[index])
            if joined != values[index] {
                values[index] = joined
                changed = true
            }
        }
        return changed
    }
}

/// `a op b`, where constants decide it; nil where it is not worth following.
func fold(_ op: Operator, _ width: Width, _ a: Value, _ b: Value) -> Value {
    if op == .mov, width == .w64 { return b == .incoming ? .any : b }
    if case .frame(let offset) = a, case .constant(let delta) = b, width == .w64 {
        // Offsets far outside the frame are refused at the access; keep the sum from wrapping.
        switch op {
        case .add where abs(offset) < 1 << 40 && abs(delta) < 1 << 40: return .frame(offset + delta)
        case .sub where abs(offset) < 1 << 40 && abs(delta) < 1 << 40: return .frame(offset - delta)
        default: return .any
        }
    }
    guard case .constant(let right) = b else { return .any }
    var left: Int64 = 0
    if op != .mov {
        guard case .constant(let value) = a else { return .any }
        left = value
    }
    let result: Int64
    let shift = right & (width == .w64 ? 63 : 31)
    switch op {
    case .mov: result = right
    case .add: result = left &+ right
    case .sub: result = left &- right
    case .mul: result = left &* right
    case .or: result = left | right
    case .and: result = left & right
    case .xor: result = left ^ right
    case .lsh: result = left << shift
    case .rsh:
        let unsigned = width == .w64 ? UInt64(bitPattern: left) : UInt64(UInt32(truncatingIfNeeded: left))
        result = Int64(bitPattern: unsigned >> UInt64(shift))
    case .arsh: result = (width == .w64 ? left : Int64(Int32(truncatingIfNeeded: left))) >> shift
    case .div, .sdiv, .mod, .smod: return .any
    }
    return .constant(width == .w64 ? result : Int64(UInt32(truncatingIfNeeded: result)))
}

/// Whether a comparison of constants holds (RFC 9669 section 4.3); nil where the operands are not known.
func decide(_ comparison: Comparison, _ width: Width, _ a: Value, _ b: Value) -> Bool? {
    guard case .constant(let x) = a, case .constant(let y) = b else { return nil }
    let left = width == .w64 ? x : Int64(Int32(truncatingIfNeeded: x))
    let right = width == .w64 ? y : Int64(Int32(truncatingIfNeeded: y))
    // Sign extension keeps the order of unsigned 32-bit numbers.
    let (unsignedLeft, unsignedRight) = (UInt64(bitPattern: left), UInt64(bitPattern: right))
    return switch comparison {
    case .equal: left == right
    case .notEqual: left != right
    case .set: left & right != 0
    case .greater: unsignedLeft > unsignedRight
    case .greaterEqual: unsignedLeft >= unsignedRight
    case .less: unsignedLeft < unsignedRight
    case .lessEqual: unsignedLeft <= unsignedRight
    case .signedGreater: left > right
    case .signedGreaterEqual: left >= right
    case .signedLess: left < right
    case .signedLessEqual: left <= right
    }
}
