import CRuntime

/// Errors, negated as helpers return them (include/uapi/asm-generic/errno-base.h, errno.h).
enum Failure {
    static var notPermitted: Int64 { @_noLocks get { -1 } }
    static var noEntry: Int64 { @_noLocks get { -2 } }
    static var tooBig: Int64 { @_noLocks get { -7 } }
    static var badDescriptor: Int64 { @_noLocks get { -9 } }
    static var again: Int64 { @_noLocks get { -11 } }
    static var noMemory: Int64 { @_noLocks get { -12 } }
    static var fault: Int64 { @_noLocks get { -14 } }
    static var busy: Int64 { @_noLocks get { -16 } }
    static var exists: Int64 { @_noLocks get { -17 } }
    static var invalid: Int64 { @_noLocks get { -22 } }
    static var noSpace: Int64 { @_noLocks get { -28 } }
    static var range: Int64 { @_noLocks get { -34 } }
    static var notSupported: Int64 { @_noLocks get { -95 } }
}

/// Flags of an update (`BPF_ANY`, `BPF_NOEXIST`, `BPF_EXIST`, `BPF_F_LOCK`).
package enum UpdateFlag {
    package static var any: UInt64 { @_noLocks get { 0 } }
    package static var noExist: UInt64 { @_noLocks get { 1 } }
    package static var exist: UInt64 { @_noLocks get { 2 } }
    /// Together with another one: the value is copied under its own `struct bpf_spin_lock`.
    package static var lock: UInt64 { @_noLocks get { 4 } }
}

/// Copies `size` bytes to an 8-aligned place by whole words; the last word is padded with zeros.
///
/// Word stores, so that a reader of an aligned 8-byte field never sees half of it.
@_noLocks
func storeWords(_ to: UnsafeMutableRawPointer, _ from: UnsafeRawPointer, _ size: UInt64) {
    let words = unsafe to.assumingMemoryBound(to: UInt64.self)
    let whole = Int(size >> 3)
    var index = 0
    while index < whole {
        unsafe words[index] = unsafe cruntime_peek64(from.advanced(by: index &* 8))
        index &+= 1
    }
    if size & 7 != 0 { unsafe words[whole] = unsafe cruntime_peek_tail(from.advanced(by: whole &* 8), size & 7) }
}

/// Whether the padded words at `stored` hold the `size` bytes at `key`.
@_noLocks @inline(__always)
func equalWords(_ stored: UnsafeRawPointer, _ key: UnsafeRawPointer, _ size: UInt64) -> Bool {
    let words = unsafe stored.assumingMemoryBound(to: UInt64.self)
    let whole = Int(size >> 3)
    var index = 0
    while index < whole {
        if unsafe words[index] != cruntime_peek64(key.advanced(by: index &* 8)) { return false }
        index &+= 1
    }
    return unsafe size & 7 == 0 || words[whole] == cruntime_peek_tail(key.advanced(by: whole &* 8), size & 7)
}

/// A 64-bit hash of `size` bytes: each word is folded in by a 128-bit product, as wyhash does.
@_noLocks @inline(__always)
func hashWords(_ key: UnsafeRawPointer, _ size: UInt64, seed: UInt64) -> UInt64 {
    var hash = seed ^ (size &* 0xa076_1d64_78bd_642f)
    let whole = Int(size >> 3)
    var index = 0
    while index < whole {
        hash = fold(hash ^ (unsafe cruntime_peek64(key.advanced(by: index &* 8))), 0xe703_7ed1_a0b4_28db)
        index &+= 1
    }
    if size & 7 != 0 {
        hash = fold(hash ^ (unsafe cruntime_peek_tail(key.advanced(by: whole &* 8), size & 7)), 0x8ebc_6af0_9c88_c6e3)
    }
    // One more round: the first product alone leaves low words' low bits weak.
    return fold(hash ^ 0x5899_65cc_7537_4cc3, 0x1d8e_4e27_c47d_124f)
}

@_noLocks @inline(__always)
private func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = a.multipliedFullWidth(by: b)
    return product.high ^ product.low
}
