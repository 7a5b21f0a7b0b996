import CPatch
import CRuntime

/// Jumps of 5 bytes at addresses that a site's own jump can name with traps in its displacement.
///
/// Where an instruction starts inside the bytes of a `jmp rel32`, the displacement's byte there must be a trap
/// (`cpatch_is_trap`): a thread that stood there when the jump was written then goes on in the copy. Only some addresses
/// have such displacements, so the jump goes to an island there, and from it to the thunk. (LiteInst calls it
/// instruction punning.) Pages are read-execute from the first use on, shared by sites, and never unmapped.
@safe
struct IslandPool {
    /// One record for each page: its address, and a bit for each byte in use.
    private let records: UnsafeMutableRawPointer
    private var count = 0

    private static let pageSize: UInt64 = 4096
    private static let recordSize = 8 + 4096 / 8
    private static let capacity = 4096
    private static let jumpSize: UInt64 = 5

    init?() {
        guard let memory = unsafe cpatch_allocate(UInt64(Self.recordSize * Self.capacity), 0) else { return nil }
        unsafe records = UnsafeMutableRawPointer(memory)
    }

    /// Pages in use.
    var pageCount: Int { count }

    /// Writes a jump to `thunk` where the site's jump can reach it; its address.
    ///
    /// `boundaries` has bit n set for each instruction that starts n bytes behind `site`, n in 1...4.
    mutating func place(site: UInt64, boundaries: UInt32, thunk: UInt64) throws(AgentError) -> UInt64 {
        let want = Wanted(from: site &+ Self.jumpSize, boundaries: boundaries, thunk: thunk)
        var index = count
        while index > 0 {
            index -= 1
            if let island = findRoom(index, want), write(island, thunk, page: index) { return island }
        }
        return try placeOnNewPage(want)
    }

    private func page(_ index: Int) -> UInt64 {
        unsafe records.load(fromByteOffset: index * Self.recordSize, as: UInt64.self)
    }

    private func isUsed(_ index: Int, _ offset: UInt64) -> Bool {
        let byte = unsafe records.load(fromByteOffset: index * Self.recordSize + 8 + Int(offset / 8), as: UInt8.self)
        return byte >> UInt8(offset % 8) & 1 != 0
    }

    private func findRoom(_ index: Int, _ want: Wanted) -> UInt64? {
        let start = page(index)
        let last = start &+ Self.pageSize &- Self.jumpSize
        // Most pages are ruled out by the upper half of the displacement, of which a page has one or two.
        guard want.mayFit(start) || want.mayFit(last) else { return nil }
        var island = start
        while island <= last {
            guard want.fits(island) else {
                island = want.next(after: island)
                continue
            }
            var used: UInt64 = 0
            while used < Self.jumpSize, !isUsed(index, island &- start &+ used) { used += 1 }
            if used == Self.jumpSize { return island }
            island &+= 1
        }
        return nil
    }

    private func write(_ island: UInt64, _ thunk: UInt64, page index: Int) -> Bool {
        guard let displacement = rel32(from: island &+ Self.jumpSize, to: thunk) else { return false }
        var jump = 0xe9 | UInt64(displacement) << 8
        let failed = unsafe withUnsafeBytes(of: &jump) { raw in
            guard let bytes = raw.baseAddress else { return Int32(-22) }
            return unsafe cpatch_write_live(island, bytes.assumingMemoryBound(to: UInt8.self), Self.jumpSize)
        }
        guard failed == 0 else { return false }
        markUsed(island, index)
        return true
    }

    private func markUsed(_ island: UInt64, _ index: Int) {
        for number in 0..<Self.jumpSize {
            let offset = island &- page(index) &+ number
            let place = unsafe records + (index * Self.recordSize + 8 + Int(offset / 8))
            let byte = unsafe place.load(as: UInt8.self)
            unsafe place.storeBytes(of: byte | 1 << UInt8(offset % 8), as: UInt8.self)
        }
    }

    /// Claims the first free page that holds a fitting address.
    private mutating func placeOnNewPage(_ want: Wanted) throws(AgentError) -> UInt64 {
        let distance = want.from > want.thunk ? want.from &- want.thunk : want.thunk &- want.from
        guard count < Self.capacity, distance < 1 << 32 else { throw AgentError(.memory) }
        guard let free = FreeRanges() else { throw AgentError(.memory) }
        defer { free.release() }
        var attempts = 64
        // Below first: what lies above a program is its heap, and that grows.
        for step in 0..<256 {
            let top = UInt64(step < 128 ? 255 - step : step - 128)
            guard want.allows(top, byte: 3) else { continue }
            for third in 0..<UInt64(256) where want.allows(third, byte: 2) {
                for second in 0..<UInt64(256) where want.allows(second, byte: 1) {
                    // Without a trap in it the byte below chooses places on a page; the first will do.
                    if !want.isTrap(byte: 1), second & 15 != 0 { continue }
                    let base = top << 24 | third << 16 | second << 8
                    let start = want.address(base)
                    guard rel32(from: start, to: want.thunk) != nil, free.contains(start & ~(Self.pageSize - 1)) else {
                        continue
                    }
                    if let island = claim(want, base) { return island }
                    // Memory may be used up, or a mapping be newer than the list.
                    attempts -= 1
                    guard attempts > 0 else { throw AgentError(.memory) }
                }
            }
        }
        throw AgentError(.memory)
    }

    /// The first fitting address among 256, on a fresh page; nil where there is none.
    private mutating func claim(_ want: Wanted, _ base: UInt64) -> UInt64? {
        for first in 0..<UInt64(256) {
            let island = want.address(base | first)
            let start = island & ~(Self.pageSize - 1)
            guard want.fits(island), island &- start <= Self.pageSize - Self.jumpSize,
                let displacement = rel32(from: island &+ Self.jumpSize, to: want.thunk)
            else { continue }
            guard let memory = unsafe cpatch_allocate(Self.pageSize, start) else { return nil }
            var writer = CodeWriter(at: island)
            writer.byte(0xe9)
            writer.long(displacement)
            guard unsafe cpatch_protect(memory, Self.pageSize, 1) == 0 else {
                unsafe cpatch_release(memory, Self.pageSize)
                return nil
            }
            unsafe records.storeBytes(of: start, toByteOffset: count * Self.recordSize, as: UInt64.self)
            count += 1
            markUsed(island, count - 1)
            return island
        }
        return nil
    }
}

/// What an island's address must be like.
private struct Wanted {
    /// The end of the site's jump, from which displacements count.
    let from: UInt64
    let boundaries: UInt32
    let thunk: UInt64

    /// Whether the displacement's byte stands where an instruction starts.
    func isTrap(byte: UInt32) -> Bool { boundaries >> (byte + 1) & 1 != 0 }

    func allows(_ value: UInt64, byte: UInt32) -> Bool {
        !isTrap(byte: byte) || cpatch_is_trap(UInt8(truncatingIfNeeded: value)) != 0
    }

    func address(_ displacement: UInt64) -> UInt64 {
        from &+ UInt64(bitPattern: Int64(Int32(truncatingIfNeeded: displacement)))
    }

    /// Whether the upper two bytes of the displacement can be right.
    func mayFit(_ address: UInt64) -> Bool {
        guard let displacement = rel32(from: from, to: address) else { return false }
        return allows(UInt64(displacement >> 24), byte: 3) && allows(UInt64(displacement >> 16), byte: 2)
    }

    func fits(_ address: UInt64) -> Bool {
        guard let displacement = rel32(from: from, to: address), rel32(from: address &+ 5, to: thunk) != nil else {
            return false
        }
        var byte: UInt32 = 0
        while byte < 4, allows(UInt64(displacement >> (8 * byte)), byte: byte) { byte += 1 }
        return byte == 4
    }

    /// The next address worth a look after one that does not fit.
    func next(after address: UInt64) -> UInt64 {
        guard let displacement = rel32(from: from, to: address) else { return address &+ 1 }
        // With a wrong second byte, so are all that share it.
        return allows(UInt64(displacement >> 8), byte: 1) ? address &+ 1 : address &+ UInt64(256 - displacement & 255)
    }
}

/// Where nothing is mapped, and nothing will grow to.
@safe
private struct FreeRanges {
    private let memory: UnsafeMutablePointer<UInt64>
    private static let limit = 65536
    private static var bytes: UInt64 { UInt64((limit + 1) * 16) }

    /// Reads the mappings; nil when there are too many.
    init?() {
        guard let bytes = unsafe cpatch_allocate(Self.bytes, 0) else { return nil }
        unsafe memory = UnsafeMutableRawPointer(bytes).assumingMemoryBound(to: UInt64.self)
        // memory[0]: ranges; memory[1]: where the next one starts.
        unsafe memory[1] = 1 << 16
        let complete = unsafe cpatch_each_mapping(noteFree, memory)
        guard complete != 0, unsafe memory[0] < 65535 else {
            release()
            return nil
        }
    }

    func contains(_ page: UInt64) -> Bool {
        var low = 0
        var high = unsafe Int(memory[0])
        while low < high {
            let middle = (low + high) / 2
            if unsafe memory[3 + middle * 2] <= page { low = middle + 1 } else { high = middle }
        }
        guard unsafe low < Int(memory[0]) else { return false }
        return unsafe memory[2 + low * 2] <= page && page &+ 4096 <= memory[3 + low * 2]
    }

    func release() { unsafe cpatch_release(memory, Self.bytes) }
}

/// Notes what is free below a mapping; 0 when there are too many ranges.
private func noteFree(_ mapping: UnsafePointer<cpatch_mapping>, _ data: UnsafeMutableRawPointer?) -> Int32 {
    guard let data = unsafe data else { return 0 }
    let memory = unsafe data.assumingMemoryBound(to: UInt64.self)
    let mapping = unsafe mapping.pointee
    let count = unsafe memory[0]
    guard count < 65535 else { return 0 }
    let page: UInt64 = 4096
    let low = unsafe memory[1]
    // A page on both sides stays free; below the stack, which grows, far more than any limit that is usual.
    let room: UInt64 = mapping.is_stack == 0 ? page : 8 << 30
    if mapping.start > room, mapping.start &- room > low &+ page {
        unsafe memory[Int(2 + count * 2)] = low &+ page
        unsafe memory[Int(3 + count * 2)] = mapping.start &- room
        unsafe memory[0] = count + 1
    }
    // Above the heap there is a gigabyte for it.
    unsafe memory[1] = mapping.end &+ (mapping.is_heap != 0 ? 1 << 30 : 0)
    return 1
}
