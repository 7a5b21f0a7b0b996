import CRuntime

// Open-coded iterators over numbers (Linux kernel/bpf/bpf_iter.c, `struct bpf_iter_num_kern`): eight bytes of the program's
// stack, where the number at hand comes first and the end second. Wrong or used up, both are 0, which gives no more numbers.

/// Numbers of one iterator at most (`BPF_MAX_LOOPS`).
private var maximumNumbers: Int64 { @_noLocks get { 8 << 20 } }

/// `int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end)`.
@_noLocks
func numberIteratorNew(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ place: UInt64,
    _ start: Int32,
    _ end: Int32
) -> Int64 {
    guard let iterator = unsafe writable(context, place, 8) else { return 0 }
    let count = Int64(end) - Int64(start)
    // EINVAL, E2BIG
    let result: Int64 = count < 0 ? -22 : count > maximumNumbers ? -7 : 0
    // Programs may start in front of the first number, so what lies there does not matter.
    unsafe iterator.storeBytes(of: result == 0 ? start &- 1 : 0, as: Int32.self)
    unsafe iterator.storeBytes(of: result == 0 ? end : 0, toByteOffset: 4, as: Int32.self)
    return result
}

/// `int *bpf_iter_num_next(struct bpf_iter_num *it)`: where the next number is, or NULL.
@_noLocks
func numberIteratorNext(_ context: UnsafeMutablePointer<cruntime_context>, _ place: UInt64) -> Int64 {
    guard let iterator = unsafe writable(context, place, 8) else { return 0 }
    let next = unsafe iterator.loadUnaligned(as: Int32.self) &+ 1
    guard unsafe next < iterator.loadUnaligned(fromByteOffset: 4, as: Int32.self) else {
        unsafe iterator.storeBytes(of: 0, as: UInt64.self)
        return 0
    }
    unsafe iterator.storeBytes(of: next, as: Int32.self)
    return Int64(bitPattern: place)
}

/// `void bpf_iter_num_destroy(struct bpf_iter_num *it)`.
@_noLocks
func numberIteratorDestroy(_ context: UnsafeMutablePointer<cruntime_context>, _ place: UInt64) -> Int64 {
    guard let iterator = unsafe writable(context, place, 8) else { return 0 }
    unsafe iterator.storeBytes(of: 0, as: UInt64.self)
    return 0
}
