// Division as BPF defines it: no operand traps (RFC 9669 section 4.1).

/// The quotient; 0 where the divisor is 0.
@_noLocks @inline(__always)
func divide(_ a: UInt64, _ b: UInt64) -> UInt64 { b == 0 ? 0 : a / b }

/// The quotient of 32-bit operands; 0 where the divisor is 0.
@_noLocks @inline(__always)
func divide(_ a: UInt32, _ b: UInt32) -> UInt32 { b == 0 ? 0 : a / b }

/// The remainder; the dividend where the divisor is 0.
@_noLocks @inline(__always)
func remainder(_ a: UInt64, _ b: UInt64) -> UInt64 { b == 0 ? a : a % b }

/// The remainder of 32-bit operands; the dividend where the divisor is 0.
@_noLocks @inline(__always)
func remainder(_ a: UInt32, _ b: UInt32) -> UInt32 { b == 0 ? a : a % b }

/// The quotient rounded towards zero; 0 where the divisor is 0, the minimum for minimum / -1.
@_noLocks @inline(__always)
func divide(_ a: Int64, _ b: Int64) -> Int64 { b == 0 ? 0 : b == -1 ? 0 &- a : a / b }

/// The quotient of 32-bit operands, by the same rules.
@_noLocks @inline(__always)
func divide(_ a: Int32, _ b: Int32) -> Int32 { b == 0 ? 0 : b == -1 ? 0 &- a : a / b }

/// The remainder with the dividend's sign; the dividend where the divisor is 0, 0 where it is -1.
@_noLocks @inline(__always)
func remainder(_ a: Int64, _ b: Int64) -> Int64 { b == 0 ? a : b == -1 ? 0 : a % b }

/// The remainder of 32-bit operands, by the same rules.
@_noLocks @inline(__always)
func remainder(_ a: Int32, _ b: Int32) -> Int32 { b == 0 ? a : b == -1 ? 0 : a % b }
