import CRuntime
import CSession
import Synchronization

/// The row for `pc` (the address itself, already adjusted for return addresses), from the thread's cache where it is.
@_noLocks
func unwindRow(_ pc: UInt64, _ context: UnsafeMutablePointer<cruntime_context>) -> UnwindRow {
    guard let cache = unsafe context.pointee.rows else { return unsafe computeRow(pc, context) }
    let index = Int((pc &* 0x9e37_79b9_7f4a_7c15) >> 52)  // 12 bits: cacheCapacity entries
    let entry = unsafe cache.assumingMemoryBound(to: UnwindRow.self) + index
    // User addresses have 47 bits. Rows of an older epoch (StackMemo) are of no use.
    var key = pc
    if let memo = unsafe StackMemo(context) { key |= unsafe memo.header.pointee.epoch << StackKey.epochShift }
    if unsafe entry.pointee.pc == key { return unsafe entry.pointee }
    var row = unsafe computeRow(pc, context)
    // The entry's owner is this thread, and a signal handler's probes are refused while one runs. A handler may leave for
    // good, though: the entry means nothing while it is half written.
    unsafe entry.pointee.pc = 0
    cruntime_barrier()
    row.pc = 0
    unsafe entry.pointee = row
    cruntime_barrier()
    unsafe entry.pointee.pc = key
    return row
}

@_noLocks
private func computeRow(_ pc: UInt64, _ context: UnsafeMutablePointer<cruntime_context>) -> UnwindRow {
    var row = UnwindRow(pc: pc)
    var module = unsafe cruntime_module(start: 0, end: 0, bias: 0, eh_frame_hdr: nil, path: nil)
    guard unsafe cruntime_find_module(pc, &module) != 0 else { return row }
    if let shared = unsafe context.pointee.shared, let image = unsafe context.pointee.image {
        unsafe recordModule(module, image: image, shared: shared)
    }
    guard let rules = unsafe findUnwindRules(pc, module: module) else { return row }
    row.isSignalFrame = rules.isSignalFrame
    if case .undefined = rules.returnAddress.kind {
        row.kind = .outermost
        return row
    }
    row.kind = .complex
    guard unsafe rules.cfaExpression == nil, !rules.isSignalFrame, case .offset = rules.returnAddress.kind,
        rules.returnAddress.offset == -8, let cfaOffset = Int32(exactly: rules.cfaOffset)
    else { return row }
    switch rules.rbp.kind {
    case .same: break
    case .offset:
        guard let rbpOffset = Int16(exactly: rules.rbp.offset), rbpOffset != 0 else { return row }
        row.rbpOffset = rbpOffset
    case .undefined, .valueOffset, .expression, .valueExpression: return row
    }
    row.cfaOffset = cfaOffset
    if rules.cfaRegister == DwarfRegister.rsp {
        row.kind = .fromStackPointer
    } else if rules.cfaRegister == DwarfRegister.rbp {
        row.kind = .fromFramePointer
    }
    return row
}

/// Notes a module in the session the first time an unwind meets it, so that its addresses can be named after exit.
@_noLocks
private func recordModule(_ module: cruntime_module, image: UnsafePointer<UInt8>, shared: UnsafeMutablePointer<UInt8>) {
    let header = unsafe UnsafeRawPointer(image).assumingMemoryBound(to: csession_image.self)
    let table = unsafe UnsafeMutableRawPointer(shared + Int(header.pointee.modules_offset)).assumingMemoryBound(
        to: csession_module.self
    )
    let capacity = unsafe header.pointee.modules_capacity
    let counter = unsafe UnsafeMutableRawPointer(shared + moduleCountOffset).assumingMemoryBound(
        to: Atomic<UInt32>.self
    )
    let known = unsafe min(counter.pointee.load(ordering: .acquiring), capacity)
    let length = unsafe pathLength(module.path)
    var index: UInt32 = 0
    while index < known {
        let entry = unsafe table + Int(index)
        if unsafe entry.pointee.start == module.start, unsafe entry.pointee.end == module.end,
            unsafe samePath(entry, module.path, length)
        {
            return
        }
        index += 1
    }
    let claimed = unsafe counter.pointee.add(1, ordering: .relaxed).oldValue
    guard claimed < capacity else {
        unsafe counter.pointee.store(capacity, ordering: .relaxed)
        return
    }
    let entry = unsafe table + Int(claimed)
    unsafe entry.pointee.start = module.start
    unsafe entry.pointee.bias = module.bias
    if length > 0, let path = unsafe module.path {
        unsafe cruntime_copy(pathStart(entry), path, UInt64(length))
    }
    let end = unsafe UnsafeMutableRawPointer(entry).advanced(by: 8).assumingMemoryBound(to: Atomic<UInt64>.self)
    unsafe end.pointee.store(module.end, ordering: .releasing)
}

/// Offset of `csession_shared.module_count`: after the magic, the size, the owner's 64 aligned bytes and two words.
private var moduleCountOffset: Int { @_noLocks get { 64 + 64 + 8 } }

@_noLocks
private func pathStart(_ entry: UnsafeMutablePointer<csession_module>) -> UnsafeMutableRawPointer {
    unsafe UnsafeMutableRawPointer(entry) + 24
}

/// Bytes of `path` that fit an entry beside its NUL.
@_noLocks
private func pathLength(_ path: UnsafePointer<CChar>?) -> Int {
    guard let path = unsafe path else { return 0 }
    var length = 0
    while length < 487, unsafe path[length] != 0 { length += 1 }
    return length
}

@_noLocks
private func samePath(_ entry: UnsafeMutablePointer<csession_module>, _ path: UnsafePointer<CChar>?, _ length: Int)
    -> Bool
{
    let stored = unsafe pathStart(entry).assumingMemoryBound(to: CChar.self)
    guard unsafe stored[length] == 0 else { return false }
    guard length > 0, let path = unsafe path else { return true }
    return unsafe cruntime_compare(stored, path, UInt64(length)) == 0
}
