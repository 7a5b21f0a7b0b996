import CPatch
import CRuntime

/// Jumps at given addresses, on pages of their own.
///
/// Where a function's second to fifth byte, read as the displacement of a jump over its first five, name a free place, a jump
/// to the thunk is put there. Then one byte makes and unmakes the function's own jump, whatever other threads are doing.
/// (LiteInst calls it instruction punning.) Pages are read-execute from the first use on, shared by sites, and never unmapped.
@safe
struct IslandPool {
    /// One record for each page: its address, and a bit for each byte in use.
    private let records: UnsafeMutableRawPointer
    private var count = 0
    private var surroundings = Surroundings()

    private static let pageSize: UInt64 = 4096
    private static let recordSize = 8 + 4096 / 8
    /// So much memory at most; sites beyond are patched while the process stands still.
    private static let capacity = 1024

    init?() {
        guard let memory = unsafe cpatch_allocate(UInt64(Self.recordSize * Self.capacity), 0) else { return nil }
        unsafe records = UnsafeMutableRawPointer(memory)
    }

    /// Pages in use.
    var pageCount: Int { count }

    /// Forgets where the heap and the stack were.
    mutating func look() { surroundings = Surroundings() }

    /// Writes a jump to `thunk` at `island`; false where that place is not to be had.
    mutating func place(at island: UInt64, thunk: UInt64) -> Bool {
        // jmp rel32, or jmp *0(%rip) and the address behind it.
        let near = rel32(from: island &+ 5, to: thunk)
        let size: UInt64 = near == nil ? 14 : 5
        guard claim(island), claim(island &+ size &- 1) else { return false }
        for byte in island..<island &+ size where isUsed(byte) { return false }
        var bytes: (UInt64, UInt64) = (0x25ff | thunk << 48, thunk >> 16)
        if let near { bytes.0 = 0xe9 | UInt64(near) << 8 }
        let failed = unsafe withUnsafeBytes(of: &bytes) { raw in
            guard let base = raw.baseAddress else { return Int32(-22) }
            return unsafe cruntime_write_live(island, base.assumingMemoryBound(to: UInt8.self), size)
        }
        guard failed == 0 else { return false }
        for byte in island..<island &+ size { mark(byte) }
        return true
    }

    private func page(_ index: Int) -> UInt64 {
        unsafe records.load(fromByteOffset: index * Self.recordSize, as: UInt64.self)
    }

    /// The record of an address's page.
    private func index(of address: UInt64) -> Int? {
        var index = 0
        while index < count, page(index) != address & ~(Self.pageSize - 1) { index += 1 }
        return index < count ? index : nil
    }

    /// Makes sure that the page of an address is one of the pool's.
    private mutating func claim(_ address: UInt64) -> Bool {
        if index(of: address) != nil { return true }
        let start = address & ~(Self.pageSize - 1)
        guard count < Self.capacity, surroundings.allow(start) else { return false }
        guard let memory = unsafe cpatch_allocate(Self.pageSize, start) else { return false }
        guard unsafe cpatch_protect(memory, Self.pageSize, 1) == 0 else {
            unsafe cpatch_release(memory, Self.pageSize)
            return false
        }
        unsafe records.storeBytes(of: start, toByteOffset: count * Self.recordSize, as: UInt64.self)
        count += 1
        return true
    }

    private func bits(of address: UInt64) -> UnsafeMutablePointer<UInt8>? {
        guard let index = index(of: address) else { return nil }
        let offset = Int(address & (Self.pageSize - 1)) / 8
        return unsafe (records + (index * Self.recordSize + 8 + offset)).assumingMemoryBound(to: UInt8.self)
    }

    private func isUsed(_ address: UInt64) -> Bool {
        guard let bits = unsafe bits(of: address) else { return true }
        return unsafe bits.pointee >> UInt8(address & 7) & 1 != 0
    }

    private func mark(_ address: UInt64) {
        guard let bits = unsafe bits(of: address) else { return }
        unsafe bits.pointee |= 1 << UInt8(address & 7)
    }
}

/// Where memory may yet grow to.
@safe
private struct Surroundings {
    /// The end of the heap and the start of the stack; 0 before they were looked for.
    private var heapEnd: UInt64 = 0
    private var stackStart: UInt64 = 0
    private static let stackRoom: UInt64 = 1 << 30
    /// Less than below the stack, as malloc goes on with mmap(2) where brk(2) ends.
    ///
    /// Heaps lie up to a gigabyte above an executable, and the pushes that most functions begin with (41 57 41 56 41) lead just beyond.
    private static let heapRoom: UInt64 = 128 << 20

    /// Whether a page leaves room above the heap and below the stack, and is no address of the kernel's.
    mutating func allow(_ page: UInt64) -> Bool {
        if stackStart == 0 {
            var ends: (UInt64, UInt64) = (0, 1 << 47)
            let complete = unsafe withUnsafeMutablePointer(to: &ends) { unsafe cpatch_each_mapping(noteEnds, $0) }
            guard complete != 0 else { return false }
            (heapEnd, stackStart) = ends
        }
        let isAboveHeap = page >= heapEnd && page &- heapEnd < Self.heapRoom
        return page >= 1 << 16 && page < stackStart &- Self.stackRoom && !isAboveHeap
    }
}

/// Notes where the heap ends and the stack starts.
private func noteEnds(_ mapping: UnsafePointer<cpatch_mapping>, _ data: UnsafeMutableRawPointer?) -> Int32 {
    guard let data = unsafe data else { return 0 }
    let ends = unsafe data.assumingMemoryBound(to: (UInt64, UInt64).self)
    if unsafe mapping.pointee.is_heap != 0 { unsafe ends.pointee.0 = mapping.pointee.end }
    if unsafe mapping.pointee.is_stack != 0 { unsafe ends.pointee.1 = mapping.pointee.start }
    return 1
}
