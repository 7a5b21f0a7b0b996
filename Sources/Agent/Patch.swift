import CPatch
import CRuntime
import CSession
import Runtime

/// Arenas that one session may need: one for each group of modules within 2 GB.
private let arenaLimit = 64

/// Patches every site of the session or none; the number of sites.
///
/// Only while the process has one thread: then no other thread can be inside the bytes that change.
func patchSites(_ view: SessionView) throws(AgentError) -> UInt32 {
    let process = unsafe cpatch_this_process()
    let count = unsafe view.header.pointee.site_count
    guard count > 0 else { return 0 }
    switch cpatch_thread_count() {
    case 0: throw AgentError(.proc)
    case 1: break
    default: throw AgentError(.threads)
    }
    let bytes = UInt64(count) * UInt64(MemoryLayout<cpatch_site>.stride)
    guard let memory = unsafe cpatch_allocate(bytes, 0) else { throw AgentError(.mapping) }
    let sites = unsafe UnsafeMutableRawPointer(memory).assumingMemoryBound(to: cpatch_site.self)
    let arenaBytes = UInt64(arenaLimit * MemoryLayout<ThunkArena>.stride)
    guard let arenaMemory = unsafe cpatch_allocate(arenaBytes, 0) else {
        unsafe cpatch_release(memory, bytes)
        throw AgentError(.mapping)
    }
    defer { unsafe cpatch_release(arenaMemory, arenaBytes) }
    let arenas = unsafe UnsafeMutableRawPointer(arenaMemory).assumingMemoryBound(to: ThunkArena.self)
    var arenaCount = 0
    do throws(AgentError) {
        for index in 0..<count {
            do throws(AgentError) {
                try unsafe plan(view, index, count, sites, arenas, &arenaCount)
            } catch {
                throw AgentError(error.kind, site: index, code: error.code)
            }
        }
        for index in 0..<arenaCount {
            let failed = unsafe arenas[index].finish()
            guard failed == 0 else { throw AgentError(.protection, code: failed) }
        }
        unsafe process.pointee.site_count = count
        unsafe process.pointee.sites = UnsafePointer(sites)
        for index in 0..<count {
            do throws(AgentError) {
                try unsafe apply(view.site(Int(index)), sites + Int(index))
            } catch {
                throw AgentError(error.kind, site: index, code: error.code)
            }
        }
    } catch {
        for index in 0..<Int(count) { unsafe undo(view.site(index), sites + index) }
        for index in 0..<arenaCount { unsafe arenas[index].release() }
        unsafe cpatch_release(memory, bytes)
        throw error
    }
    // Nothing changes the table from here on; a stray store of the program must not either.
    _ = unsafe cpatch_protect(memory, bytes, 0)
    return count
}

/// Checks one site's bytes and writes its thunk.
private func plan(
    _ view: SessionView,
    _ index: UInt32,
    _ count: UInt32,
    _ sites: UnsafeMutablePointer<cpatch_site>,
    _ arenas: UnsafeMutablePointer<ThunkArena>,
    _ arenaCount: inout Int
) throws(AgentError) {
    let site = unsafe view.site(Int(index))
    let patched = unsafe sites + Int(index)
    unsafe patched.pointee.address = unsafe site.pointee.address
    unsafe patched.pointee.first_probe = unsafe site.pointee.first_probe
    unsafe patched.pointee.entry_count = unsafe site.pointee.entry_count
    unsafe patched.pointee.return_count = unsafe site.pointee.return_count
    unsafe patched.pointee.flags = unsafe site.pointee.flags
    try unsafe checkOriginal(site)
    let address = unsafe site.pointee.address
    let need = unsafe UInt64(site.pointee.code_size) + thunkOverhead
    var chosen = 0
    while chosen < arenaCount, unsafe !arenas[chosen].serves(address, bytes: need) { chosen += 1 }
    if chosen == arenaCount {
        guard arenaCount < arenaLimit else { throw AgentError(.memory) }
        // Room for all sites still to come in this neighbourhood.
        var size: UInt64 = 0
        for later in Int(index)..<Int(count) {
            let other = unsafe view.site(later).pointee
            let distance = other.address > address ? other.address &- address : address &- other.address
            if distance < 0x1000_0000 { size += UInt64(other.code_size) + thunkOverhead }
        }
        guard let arena = ThunkArena(near: address, size: size) else { throw AgentError(.memory) }
        unsafe (arenas + chosen).initialize(to: arena)
        arenaCount += 1
    }
    try unsafe writeThunk(
        site,
        index: index,
        code: view.code,
        fixups: view.fixup(0),
        into: &arenas[chosen],
        patched
    )
}

/// Refuses a site whose bytes in memory are not the planned ones, or whose plan makes no sense.
private func checkOriginal(_ site: UnsafePointer<csession_site>) throws(AgentError) {
    let window = unsafe site.pointee.window
    let minimum: UInt32 = unsafe site.pointee.tactic == CSESSION_TACTIC_ISLAND.rawValue ? 2 : 5
    guard window >= minimum, window <= 16 else { throw AgentError(.fixup) }
    // A return address is only known at a function's first instruction.
    let isFunction = unsafe site.pointee.flags & CSESSION_SITE_FUNCTION.rawValue != 0
    guard unsafe isFunction || site.pointee.return_count == 0 else { throw AgentError(.fixup) }
    var found: (UInt64, UInt64) = (0, 0)
    let differs = unsafe withUnsafeMutableBytes(of: &found) { raw in
        guard let base = raw.baseAddress else { return true }
        guard unsafe cruntime_read(base, site.pointee.address, UInt64(window)) == 0 else { return true }
        let original = unsafe UnsafeRawPointer(site) + originalOffset
        return unsafe cruntime_compare(base, original, UInt64(window)) != 0
    }
    if differs { throw AgentError(.changed) }
}

/// Changes one site's code.
private func apply(
    _ site: UnsafePointer<csession_site>,
    _ patched: UnsafeMutablePointer<cpatch_site>
) throws(AgentError) {
    // Again, now that other sites may have been patched over it.
    try unsafe checkOriginal(site)
    let address = unsafe site.pointee.address
    let thunk = unsafe patched.pointee.thunk
    let saved = UnsafeMutableRawPointer(patched)
    guard unsafe cruntime_read(saved + savedOffset, address, UInt64(site.pointee.window)) == 0 else {
        throw AgentError(.changed)
    }
    if unsafe site.pointee.tactic == CSESSION_TACTIC_ISLAND.rawValue {
        let island = unsafe site.pointee.island
        guard let near = Int8(exactly: Int64(bitPattern: island &- (address &+ 2))),
            unsafe cruntime_read(saved + savedIslandOffset, island, 5) == 0
        else { throw AgentError(.fixup) }
        unsafe patched.pointee.patched = 1
        try write(jump(from: island, to: thunk), 5, at: island)
        unsafe patched.pointee.patched = 2
        try write(0xeb | UInt64(UInt8(bitPattern: near)) << 8, 2, at: address)
    } else {
        unsafe patched.pointee.patched = 2
        try write(jump(from: address, to: thunk), 5, at: address)
    }
}

/// Puts one site's bytes back.
private func undo(_ site: UnsafePointer<csession_site>, _ patched: UnsafeMutablePointer<cpatch_site>) {
    let saved = UnsafeRawPointer(patched)
    let island = unsafe site.pointee.tactic == CSESSION_TACTIC_ISLAND.rawValue
    if unsafe patched.pointee.patched == 2 {
        let bytes = unsafe (saved + savedOffset).assumingMemoryBound(to: UInt8.self)
        _ = unsafe cpatch_write_code(site.pointee.address, bytes, island ? 2 : 5)
    }
    if unsafe island && patched.pointee.patched >= 1 {
        let bytes = unsafe (saved + savedIslandOffset).assumingMemoryBound(to: UInt8.self)
        _ = unsafe cpatch_write_code(site.pointee.island, bytes, 5)
    }
    unsafe patched.pointee.patched = 0
}

/// `jmp rel32` as the low five bytes.
private func jump(from address: UInt64, to target: UInt64) throws(AgentError) -> UInt64 {
    guard let displacement = rel32(from: address &+ 5, to: target) else { throw AgentError(.unreachable) }
    return 0xe9 | UInt64(displacement) << 8
}

private func write(_ value: UInt64, _ count: UInt64, at address: UInt64) throws(AgentError) {
    var bytes = value
    let failed = unsafe withUnsafeBytes(of: &bytes) { raw in
        guard let base = raw.baseAddress else { return Int32(-22) }
        return unsafe cpatch_write_code(address, base.assumingMemoryBound(to: UInt8.self), count)
    }
    guard failed == 0 else { throw AgentError(.write, code: -failed) }
}

private var savedOffset: Int { Int(CPATCH_SAVED_OFFSET) }
private var savedIslandOffset: Int { Int(CPATCH_SAVED_ISLAND_OFFSET) }
private var originalOffset: Int { Int(CPATCH_ORIGINAL_OFFSET) }
