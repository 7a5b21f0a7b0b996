import CPatch
import CRuntime
import CSession
import Runtime

/// Changes of code that are made together, in memory of their own.
@safe
private struct ChangeList {
    let changes: UnsafeMutablePointer<cpatch_change>
    let sites: UnsafeMutablePointer<UInt32>
    private let memory: UnsafeMutablePointer<UInt8>
    private let size: UInt64
    var count: UInt32 = 0

    init(capacity: UInt32) throws(AgentError) {
        let stride = MemoryLayout<cpatch_change>.stride + MemoryLayout<UInt32>.stride
        size = (UInt64(max(capacity, 1)) * UInt64(stride) + 4095) & ~4095
        guard let memory = unsafe cpatch_allocate(size, 0) else { throw AgentError(.mapping) }
        unsafe self.memory = unsafe memory
        unsafe changes = UnsafeMutableRawPointer(memory).assumingMemoryBound(to: cpatch_change.self)
        unsafe sites = UnsafeMutableRawPointer(changes + Int(max(capacity, 1))).assumingMemoryBound(to: UInt32.self)
    }

    func release() { unsafe cpatch_release(memory, size) }

    /// Makes all the changes or none; `quiet` says that no other thread runs.
    func apply(quiet: Bool) throws(AgentError) {
        var place = UInt32.max
        let failed = unsafe cpatch_change_code(changes, count, quiet ? 1 : 0, &place)
        guard failed != 0 else { return }
        let site = unsafe place < count ? sites[Int(place)] : AgentError.noSite
        switch -failed {
        // EBUSY, ESTALE: a breakpoint, or somebody changed the code since it was looked at.
        case 16, 116: throw AgentError(.changed, site: site, code: -failed)
        // EACCES
        case 13: throw AgentError(.liveWrite, site: site, code: -failed)
        default: throw AgentError(.write, site: site, code: -failed)
        }
    }

    /// Adds the change of a site from its original to its patched bytes, or back.
    mutating func append(_ number: UInt32, _ site: UnsafePointer<cpatch_site>, installs: Bool) {
        var change = cpatch_change()
        change.address = unsafe site.pointee.address
        change.size = unsafe site.pointee.writtenBytes
        let patched = unsafe site.pointee.patchedBytes
        let original = unsafe site.pointee.originalBytes
        unsafe withUnsafeMutableBytes(of: &change.from) {
            unsafe $0.storeBytes(of: installs ? original : patched, as: UInt64.self)
        }
        unsafe withUnsafeMutableBytes(of: &change.to) {
            unsafe $0.storeBytes(of: installs ? patched : original, as: UInt64.self)
        }
        if unsafe site.pointee.tactic == CSESSION_TACTIC_TRAP.rawValue {
            change.entry = unsafe installs ? site.pointee.thunk : site.pointee.relocated
        }
        unsafe changes[Int(count)] = change
        unsafe sites[Int(count)] = number
        count += 1
    }

    /// The changes of more than a byte, for which no other thread may run, or all others.
    func part(wide: Bool) throws(AgentError) -> ChangeList {
        var part = try ChangeList(capacity: count)
        for index in 0..<Int(count) where unsafe (changes[index].size > 1) == wide {
            unsafe part.changes[Int(part.count)] = changes[index]
            unsafe part.sites[Int(part.count)] = sites[index]
            part.count += 1
        }
        return part
    }

    /// Notes what became of the sites.
    func note(_ state: cpatch_patched, in table: UnsafeMutablePointer<cpatch_site>) {
        for index in 0..<Int(count) { unsafe table[Int(sites[index])].patched = state.rawValue }
    }
}

/// Patches those of a plan's sites that are not patched yet; all or none.
///
/// `isFresh`: no thread can be in their module yet.
func patch(
    _ plan: UnsafeMutablePointer<cpatch_plan>,
    of conversation: Conversation,
    isFresh: Bool = false
) throws(AgentError) {
    let process = unsafe cpatch_this_process()
    guard let sites = unsafe process.pointee.sites else { return }
    let threads = isFresh ? 1 : cpatch_thread_count()
    guard threads != 0 else { throw AgentError(.proc) }
    let linkCount = unsafe plan.pointee.link_count
    var list = try ChangeList(capacity: linkCount)
    defer { list.release() }
    var isWide = false
    unsafe islands?.look()
    for index in 0..<linkCount {
        let number = unsafe cpatch_plan_link(plan, index).pointee.site
        let site = unsafe sites + Int(number)
        if unsafe site.pointee.patched == CPATCH_PATCHED.rawValue, unsafe SiteTable.isOurs(site) { continue }
        do throws(AgentError) {
            try unsafe checkNeighbours(site, in: sites)
            try unsafe prepareLanding(site)
        } catch {
            throw AgentError(error.kind, site: index, code: error.code)
        }
        unsafe list.append(number, site, installs: true)
        isWide = unsafe isWide || site.pointee.writtenBytes > 1
    }
    if list.count == 0 { return }
    do throws(AgentError) {
        let hold = threads > 1 && isWide ? conversation.hold() : .unneeded
        if case .refused = hold { throw AgentError(.threads) }
        defer { conversation.release(hold) }
        try list.apply(quiet: threads == 1 || isWide)
    } catch {
        var place = AgentError.noSite
        for index in 0..<linkCount where unsafe cpatch_plan_link(plan, index).pointee.site == error.site {
            place = index
        }
        throw AgentError(error.kind, site: place, code: error.code)
    }
    unsafe list.note(CPATCH_PATCHED, in: sites)
}

/// Jumps at the places that functions' own bytes name; used under the agent's lock.
private nonisolated(unsafe) var islands: IslandPool?

/// Refuses a site that would share bytes with another one, or whose bytes somebody changed since its record was made.
///
/// A jump that is made by its first byte alone looks unchanged behind it: to write there would lead it elsewhere. The planner
/// keeps the sites of one session apart, but knows nothing of other sessions'.
private func checkNeighbours(
    _ site: UnsafeMutablePointer<cpatch_site>,
    in sites: UnsafeMutablePointer<cpatch_site>
) throws(AgentError) {
    var bytes: UInt64 = 0
    let address = unsafe site.pointee.address
    guard unsafe cruntime_read(&bytes, address, UInt64(site.pointee.changedBytes)) == 0,
        unsafe bytes == site.pointee.originalBytes
    else { throw AgentError(.changed) }
    for distance in 1..<UInt64(SiteTactic.jump.changedBytes) {
        let index = cpatch_site_index(address &- distance)
        guard index != UInt32.max else { continue }
        let other = unsafe sites + Int(index)
        if unsafe other.pointee.patched == CPATCH_PATCHED.rawValue,
            unsafe UInt64(other.pointee.changedBytes) > distance,
            unsafe SiteTable.isOurs(other)
        {
            throw AgentError(.changed)
        }
    }
    guard unsafe site.pointee.tactic == CSESSION_TACTIC_ISLAND.rawValue else { return }
    // Another site's island in the same padding: somebody may still be on the way through, even if its site is no longer patched.
    for index in 0..<Int(unsafe cpatch_this_process().pointee.site_count) {
        let other = unsafe sites + index
        guard unsafe other != site, unsafe other.pointee.tactic == CSESSION_TACTIC_ISLAND.rawValue else { continue }
        let island = unsafe other.pointee.island
        let distance = unsafe Int64(bitPattern: island &- site.pointee.island)
        guard distance > -5, distance < 5 else { continue }
        var jump: UInt64 = 0
        let displacement = unsafe rel32(from: island &+ 5, to: other.pointee.thunk) ?? 0
        if unsafe cruntime_read(&jump, island, 5) == 0, jump == 0xe9 | UInt64(displacement) << 8 {
            throw AgentError(.changed)
        }
    }
}

/// Makes sure that what the patched bytes will jump to exists.
private func prepareLanding(_ site: UnsafeMutablePointer<cpatch_site>) throws(AgentError) {
    guard let tactic = unsafe SiteTactic(rawValue: site.pointee.tactic) else { throw AgentError(.session) }
    switch tactic {
    case .trap:
        return
    case .jump, .window:
        // With a jump's first byte alone the other four, which stay, are its displacement.
        guard unsafe site.pointee.landing == site.pointee.thunk else { break }
        let displacement = unsafe Int32(truncatingIfNeeded: site.pointee.originalBytes >> 8)
        let place = unsafe site.pointee.address &+ 5 &+ UInt64(bitPattern: Int64(displacement))
        if unsafe islands == nil { unsafe islands = IslandPool() }
        if unsafe islands?.place(at: place, thunk: site.pointee.thunk) == true {
            unsafe site.pointee.landing = place
        }
    case .island:
        let island = unsafe site.pointee.island
        guard unsafe Int8(exactly: Int64(bitPattern: island &- (site.pointee.address &+ 2))) != nil else {
            throw AgentError(.fixup)
        }
        // Dead bytes: nobody is there, and nobody comes before the site itself is changed.
        guard let displacement = unsafe rel32(from: island &+ 5, to: site.pointee.thunk) else {
            throw AgentError(.unreachable)
        }
        var bytes = 0xe9 | UInt64(displacement) << 8
        let failed = unsafe withUnsafeBytes(of: &bytes) { raw in
            guard let base = raw.baseAddress else { return Int32(-22) }
            return unsafe cpatch_write_code(island, base.assumingMemoryBound(to: UInt8.self), 5)
        }
        guard failed == 0 else { throw AgentError(.write, code: -failed) }
    }
    guard unsafe rel32(from: site.pointee.address &+ 5, to: site.pointee.landing) != nil else {
        throw AgentError(.unreachable)
    }
}

/// Puts the original bytes back at sites that no session has probes on; how many.
///
/// Sites that stay patched, as the other threads could not be stopped, are found by `restoreOrphans`.
/// A site whose code somebody else changed meanwhile is left as it is: their copy of our jump may be in use, and leads
/// through a thunk that does nothing more. So is one whose module is gone.
func restore(_ numbers: UnsafePointer<UInt32>, _ count: UInt32, of conversation: Conversation) -> UInt32 {
    let process = unsafe cpatch_this_process()
    guard let sites = unsafe process.pointee.sites, var list = try? ChangeList(capacity: count) else { return 0 }
    defer { list.release() }
    for index in 0..<Int(count) {
        let site = unsafe sites + Int(numbers[index])
        guard unsafe site.pointee.links == nil, unsafe site.pointee.patched == CPATCH_PATCHED.rawValue else { continue }
        if unsafe SiteTable.isOurs(site) {
            unsafe list.append(numbers[index], site, installs: false)
        } else {
            unsafe site.pointee.patched = CPATCH_FOREIGN.rawValue
        }
    }
    guard list.count > 0, let bytes = try? list.part(wide: false) else { return 0 }
    defer { bytes.release() }
    var restored = unsafe restoreAll(bytes, sites, quiet: false)
    if let wide = try? list.part(wide: true) {
        defer { wide.release() }
        let hold = wide.count == 0 || cpatch_thread_count() == 1 ? .unneeded : conversation.hold()
        if case .refused = hold {} else { restored += unsafe restoreAll(wide, sites, quiet: true) }
        conversation.release(hold)
    }
    // Every thread that can run has to have its turn; on a busy machine that takes a while.
    _ = cpatch_release_traps(3000)
    return restored
}

/// Makes changes back to the original bytes, all together or, where that fails, those that are possible; how many.
private func restoreAll(_ list: ChangeList, _ sites: UnsafeMutablePointer<cpatch_site>, quiet: Bool) -> UInt32 {
    if (try? list.apply(quiet: quiet)) != nil {
        unsafe list.note(CPATCH_ORIGINAL, in: sites)
        return list.count
    }
    var restored: UInt32 = 0
    var place = UInt32.max
    for index in 0..<Int(list.count)
    where unsafe cpatch_change_code(list.changes + index, 1, quiet ? 1 : 0, &place) == 0 {
        unsafe sites[Int(list.sites[index])].patched = CPATCH_ORIGINAL.rawValue
        restored += 1
    }
    return restored
}

/// Notes that a site's code is gone with its module; whatever lies there now stays as it is.
func forgetChange(of site: UnsafeMutablePointer<cpatch_site>) {
    guard unsafe site.pointee.patched == CPATCH_PATCHED.rawValue else { return }
    unsafe site.pointee.patched = CPATCH_ORIGINAL.rawValue
}

extension cpatch_site {
    /// The original bytes that a patch changes, low byte first.
    var originalBytes: UInt64 {
        let mask = unsafe (UInt64(1) << UInt64(changedBytes * 8)) - 1
        return unsafe withUnsafeBytes(of: saved) { unsafe $0.loadUnaligned(as: UInt64.self) } & mask
    }

    /// How many of the changed bytes differ: one where a jump leads where the bytes behind it always led.
    var writtenBytes: UInt32 {
        unsafe (patchedBytes ^ originalBytes) >> 8 == 0 ? 1 : changedBytes
    }
}
