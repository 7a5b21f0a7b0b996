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

    /// Makes all the changes or none.
    func apply(threads: UInt32) throws(AgentError) {
        var place = UInt32.max
        let failed = unsafe cpatch_change_code(changes, count, threads, &place)
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
        change.size = unsafe site.pointee.changedBytes
        let patched = unsafe site.pointee.patchedBytes
        let original = unsafe site.pointee.originalBytes
        unsafe withUnsafeMutableBytes(of: &change.from) {
            unsafe $0.storeBytes(of: installs ? original : patched, as: UInt64.self)
        }
        unsafe withUnsafeMutableBytes(of: &change.to) {
            unsafe $0.storeBytes(of: installs ? patched : original, as: UInt64.self)
        }
        // Who comes while the first byte is a trap goes where the finished code will lead.
        change.entry = unsafe installs ? site.pointee.thunk : site.pointee.relocated
        // Without an island the jump was written while there was no other thread: nobody can stand inside.
        let hasIsland = unsafe site.pointee.landing != site.pointee.thunk
        change.boundary_count = unsafe hasIsland ? site.pointee.boundary_count : 0
        let relocated = unsafe site.pointee.relocated
        let offsets = unsafe site.pointee.boundary_offset
        let copies = unsafe site.pointee.boundary_copy
        change.boundary.0 = cpatch_boundary(copy: relocated &+ UInt64(copies.0), offset: offsets.0, reserved: 0)
        change.boundary.1 = cpatch_boundary(copy: relocated &+ UInt64(copies.1), offset: offsets.1, reserved: 0)
        change.boundary.2 = cpatch_boundary(copy: relocated &+ UInt64(copies.2), offset: offsets.2, reserved: 0)
        change.boundary.3 = cpatch_boundary(copy: relocated &+ UInt64(copies.3), offset: offsets.3, reserved: 0)
        unsafe changes[Int(count)] = change
        unsafe sites[Int(count)] = number
        count += 1
    }
}

/// Patches those of a plan's sites that are not patched yet; all or none.
func patch(_ plan: UnsafeMutablePointer<cpatch_plan>, of conversation: Conversation) throws(AgentError) {
    let process = unsafe cpatch_this_process()
    guard let sites = unsafe process.pointee.sites else { return }
    let threads = cpatch_thread_count()
    guard threads != 0 else { throw AgentError(.proc) }
    let linkCount = unsafe plan.pointee.link_count
    var list = try ChangeList(capacity: linkCount)
    defer { list.release() }
    for index in 0..<linkCount {
        let number = unsafe cpatch_plan_link(plan, index).pointee.site
        let site = unsafe sites + Int(number)
        if unsafe site.pointee.patched == CPATCH_PATCHED.rawValue, unsafe SiteTable.isOurs(site) { continue }
        do throws(AgentError) {
            try unsafe prepareLanding(site, isLive: threads > 1)
        } catch {
            throw AgentError(error.kind, site: index, code: error.code)
        }
        unsafe list.append(number, site, installs: true)
    }
    if list.count == 0 { return }
    do throws(AgentError) {
        let hold = threads == 1 ? .unneeded : conversation.hold()
        if case .refused = hold { throw AgentError(.threads) }
        defer { conversation.release(hold) }
        try list.apply(threads: threads)
    } catch {
        var place = AgentError.noSite
        for index in 0..<linkCount where unsafe cpatch_plan_link(plan, index).pointee.site == error.site {
            place = index
        }
        throw AgentError(error.kind, site: place, code: error.code)
    }
    for index in 0..<Int(list.count) {
        unsafe sites[Int(list.sites[index])].patched = CPATCH_PATCHED.rawValue
    }
}

/// Where jumps into windows lead that others may be running; used under the agent's lock.
private nonisolated(unsafe) var islands: IslandPool?

/// Makes sure that what the patched bytes will jump to exists.
private func prepareLanding(_ site: UnsafeMutablePointer<cpatch_site>, isLive: Bool) throws(AgentError) {
    guard let tactic = unsafe SiteTactic(rawValue: site.pointee.tactic) else { throw AgentError(.session) }
    switch tactic {
    case .jump, .trap:
        break
    case .window:
        // Alone, no thread can stand on an instruction inside the window. Others may: the bytes must trap there.
        guard unsafe isLive && site.pointee.boundary_count > 0 && site.pointee.landing == site.pointee.thunk else {
            break
        }
        var boundaries: UInt32 = 0
        let offsets = unsafe site.pointee.boundary_offset
        let count = unsafe site.pointee.boundary_count
        boundaries |= 1 << offsets.0
        if count > 1 { boundaries |= 1 << offsets.1 }
        if count > 2 { boundaries |= 1 << offsets.2 }
        if count > 3 { boundaries |= 1 << offsets.3 }
        if unsafe islands == nil { unsafe islands = IslandPool() }
        guard
            let place = try unsafe islands?.place(
                site: site.pointee.address,
                boundaries: boundaries,
                thunk: site.pointee.thunk
            )
        else { throw AgentError(.mapping) }
        unsafe site.pointee.landing = place
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
    guard unsafe tactic == .trap || rel32(from: site.pointee.address &+ 5, to: site.pointee.landing) != nil else {
        throw AgentError(.unreachable)
    }
}

/// Puts the original bytes back at sites that no session has probes on; how many.
///
/// Sites that stay patched, as nobody could hold a thread that our traps would kill, are found by `restoreOrphans`.
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
    guard list.count > 0 else { return 0 }
    let hold = conversation.hold()
    if case .refused = hold { return 0 }
    // Every thread that can run has to have its turn; on a busy machine that takes a while.
    defer {
        conversation.release(hold)
        _ = cpatch_release_traps(3000)
    }
    let threads = max(cpatch_thread_count(), 2)
    var place = UInt32.max
    if unsafe cpatch_change_code(list.changes, list.count, threads, &place) == 0 {
        for index in 0..<Int(list.count) {
            unsafe sites[Int(list.sites[index])].patched = CPATCH_ORIGINAL.rawValue
        }
        return list.count
    }
    // One by one then: what cannot be changed stays, and does nothing.
    var restored: UInt32 = 0
    for index in 0..<Int(list.count)
    where unsafe cpatch_change_code(list.changes + index, 1, threads, &place) == 0 {
        unsafe sites[Int(list.sites[index])].patched = CPATCH_ORIGINAL.rawValue
        restored += 1
    }
    return restored
}

extension cpatch_site {
    /// The original bytes that a patch changes, low byte first.
    var originalBytes: UInt64 {
        let mask = unsafe changedBytes == 8 ? UInt64.max : (1 << UInt64(changedBytes * 8)) - 1
        return unsafe withUnsafeBytes(of: saved) { unsafe $0.loadUnaligned(as: UInt64.self) } & mask
    }
}
