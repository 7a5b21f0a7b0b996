internal import Synchronization

/// Atomic operations on addresses that were checked for access and alignment.
///
/// The ordering is that of Linux: full for operations that return the old value, none for those that do not
/// (Documentation/atomic_t.txt); acquire and release where the instruction says so.
extension GuestWindow {
    @_noLocks @inline(__always)
    func add32(_ address: UInt64, _ operand: UInt32) {
        _ = unsafe cell32(address).pointee.wrappingAdd(operand, ordering: .relaxed)
    }
    @_noLocks @inline(__always)
    func fetchAdd32(_ address: UInt64, _ operand: UInt32) -> UInt32 {
        unsafe cell32(address).pointee.wrappingAdd(operand, ordering: .sequentiallyConsistent).oldValue
    }
    @_noLocks @inline(__always)
    func or32(_ address: UInt64, _ operand: UInt32) {
        _ = unsafe cell32(address).pointee.bitwiseOr(operand, ordering: .relaxed)
    }
    @_noLocks @inline(__always)
    func fetchOr32(_ address: UInt64, _ operand: UInt32) -> UInt32 {
        unsafe cell32(address).pointee.bitwiseOr(operand, ordering: .sequentiallyConsistent).oldValue
    }
    @_noLocks @inline(__always)
    func and32(_ address: UInt64, _ operand: UInt32) {
        _ = unsafe cell32(address).pointee.bitwiseAnd(operand, ordering: .relaxed)
    }
    @_noLocks @inline(__always)
    func fetchAnd32(_ address: UInt64, _ operand: UInt32) -> UInt32 {
        unsafe cell32(address).pointee.bitwiseAnd(operand, ordering: .sequentiallyConsistent).oldValue
    }
    @_noLocks @inline(__always)
    func xor32(_ address: UInt64, _ operand: UInt32) {
        _ = unsafe cell32(address).pointee.bitwiseXor(operand, ordering: .relaxed)
    }
    @_noLocks @inline(__always)
    func fetchXor32(_ address: UInt64, _ operand: UInt32) -> UInt32 {
        unsafe cell32(address).pointee.bitwiseXor(operand, ordering: .sequentiallyConsistent).oldValue
    }
    @_noLocks @inline(__always)
    func exchange32(_ address: UInt64, _ value: UInt32) -> UInt32 {
        unsafe cell32(address).pointee.exchange(value, ordering: .sequentiallyConsistent)
    }
    @_noLocks @inline(__always)
    func compareExchange32(_ address: UInt64, _ expected: UInt32, _ desired: UInt32) -> UInt32 {
        unsafe cell32(address).pointee.compareExchange(
            expected: expected,
            desired: desired,
            ordering: .sequentiallyConsistent
        ).original
    }

    @_noLocks @inline(__always)
    func add64(_ address: UInt64, _ operand: UInt64) {
        _ = unsafe cell64(address).pointee.wrappingAdd(operand, ordering: .relaxed)
    }
    @_noLocks @inline(__always)
    func fetchAdd64(_ address: UInt64, _ operand: UInt64) -> UInt64 {
        unsafe cell64(address).pointee.wrappingAdd(operand, ordering: .sequentiallyConsistent).oldValue
    }
    @_noLocks @inline(__always)
    func or64(_ address: UInt64, _ operand: UInt64) {
        _ = unsafe cell64(address).pointee.bitwiseOr(operand, ordering: .relaxed)
    }
    @_noLocks @inline(__always)
    func fetchOr64(_ address: UInt64, _ operand: UInt64) -> UInt64 {
        unsafe cell64(address).pointee.bitwiseOr(operand, ordering: .sequentiallyConsistent).oldValue
    }
    @_noLocks @inline(__always)
    func and64(_ address: UInt64, _ operand: UInt64) {
        _ = unsafe cell64(address).pointee.bitwiseAnd(operand, ordering: .relaxed)
    }
    @_noLocks @inline(__always)
    func fetchAnd64(_ address: UInt64, _ operand: UInt64) -> UInt64 {
        unsafe cell64(address).pointee.bitwiseAnd(operand, ordering: .sequentiallyConsistent).oldValue
    }
    @_noLocks @inline(__always)
    func xor64(_ address: UInt64, _ operand: UInt64) {
        _ = unsafe cell64(address).pointee.bitwiseXor(operand, ordering: .relaxed)
    }
    @_noLocks @inline(__always)
    func fetchXor64(_ address: UInt64, _ operand: UInt64) -> UInt64 {
        unsafe cell64(address).pointee.bitwiseXor(operand, ordering: .sequentiallyConsistent).oldValue
    }
    @_noLocks @inline(__always)
    func exchange64(_ address: UInt64, _ value: UInt64) -> UInt64 {
        unsafe cell64(address).pointee.exchange(value, ordering: .sequentiallyConsistent)
    }
    @_noLocks @inline(__always)
    func compareExchange64(_ address: UInt64, _ expected: UInt64, _ desired: UInt64) -> UInt64 {
        unsafe cell64(address).pointee.compareExchange(
            expected: expected,
            desired: desired,
            ordering: .sequentiallyConsistent
        ).original
    }

    @_noLocks @inline(__always)
    func loadAcquire8(_ address: UInt64) -> UInt8 { unsafe cell8(address).pointee.load(ordering: .acquiring) }
    @_noLocks @inline(__always)
    func storeRelease8(_ address: UInt64, _ value: UInt8) {
        unsafe cell8(address).pointee.store(value, ordering: .releasing)
    }
    @_noLocks @inline(__always)
    func loadAcquire16(_ address: UInt64) -> UInt16 { unsafe cell16(address).pointee.load(ordering: .acquiring) }
    @_noLocks @inline(__always)
    func storeRelease16(_ address: UInt64, _ value: UInt16) {
        unsafe cell16(address).pointee.store(value, ordering: .releasing)
    }
    @_noLocks @inline(__always)
    func loadAcquire32(_ address: UInt64) -> UInt32 { unsafe cell32(address).pointee.load(ordering: .acquiring) }
    @_noLocks @inline(__always)
    func storeRelease32(_ address: UInt64, _ value: UInt32) {
        unsafe cell32(address).pointee.store(value, ordering: .releasing)
    }
    @_noLocks @inline(__always)
    func loadAcquire64(_ address: UInt64) -> UInt64 { unsafe cell64(address).pointee.load(ordering: .acquiring) }
    @_noLocks @inline(__always)
    func storeRelease64(_ address: UInt64, _ value: UInt64) {
        unsafe cell64(address).pointee.store(value, ordering: .releasing)
    }
}

@_noLocks @inline(__always)
private func cell8(_ address: UInt64) -> UnsafeMutablePointer<Atomic<UInt8>> {
    unsafe UnsafeMutablePointer<Atomic<UInt8>>(bitPattern: UInt(address)).unsafelyUnwrapped
}
@_noLocks @inline(__always)
private func cell16(_ address: UInt64) -> UnsafeMutablePointer<Atomic<UInt16>> {
    unsafe UnsafeMutablePointer<Atomic<UInt16>>(bitPattern: UInt(address)).unsafelyUnwrapped
}
@_noLocks @inline(__always)
private func cell32(_ address: UInt64) -> UnsafeMutablePointer<Atomic<UInt32>> {
    unsafe UnsafeMutablePointer<Atomic<UInt32>>(bitPattern: UInt(address)).unsafelyUnwrapped
}
@_noLocks @inline(__always)
private func cell64(_ address: UInt64) -> UnsafeMutablePointer<Atomic<UInt64>> {
    unsafe UnsafeMutablePointer<Atomic<UInt64>>(bitPattern: UInt(address)).unsafelyUnwrapped
}
