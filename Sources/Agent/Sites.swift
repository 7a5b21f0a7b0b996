import CPatch
import CRuntime
import CSession
import Runtime

/// The table of every place that was ever patched, with its thunks; it only grows.
///
/// A second session on a function, and the next one after a detach, find its site and thunk here.
enum SiteTable {
    /// Finds or makes the sites of a plan and notes their numbers in its links.
    ///
    /// Nothing is patched yet.
    static func resolve(_ plan: PlanView, _ record: UnsafeMutablePointer<cpatch_plan>) throws(AgentError) {
        try prepare()
        let process = unsafe cpatch_this_process()
        let count = unsafe plan.header.pointee.site_count
        let before = unsafe process.pointee.site_count
        var arenas = try ArenaList()
        defer { arenas.forget() }
        do throws(AgentError) {
            for index in 0..<count {
                do throws(AgentError) {
                    let site = unsafe plan.site(Int(index))
                    let link = unsafe cpatch_plan_link(record, index)
                    if let known = try unsafe find(site) {
                        unsafe link.pointee.site = known
                    } else {
                        unsafe link.pointee.site = try unsafe make(site, of: plan, index, &arenas)
                    }
                } catch {
                    throw AgentError(error.kind, site: index, code: error.code)
                }
            }
            try arenas.finish()
        } catch {
            // Nothing leads to the new thunks: they go back, and their sites are forgotten.
            forget(from: before)
            arenas.release()
            throw error
        }
    }

    private static func prepare() throws(AgentError) {
        let process = unsafe cpatch_this_process()
        if unsafe process.pointee.sites != nil { return }
        let bytes = unsafe UInt64(CPATCH_SITES) * UInt64(MemoryLayout<cpatch_site>.stride)
        guard let memory = unsafe cpatch_allocate(bytes, 0) else { throw AgentError(.mapping) }
        unsafe process.pointee.sites = UnsafeMutableRawPointer(memory).assumingMemoryBound(to: cpatch_site.self)
    }

    /// The newest site at a plan's address, if it was made for the same bytes.
    private static func find(_ site: UnsafePointer<csession_site>) throws(AgentError) -> UInt32? {
        let process = unsafe cpatch_this_process()
        guard let sites = unsafe process.pointee.sites else { return nil }
        let index = unsafe cpatch_site_index(site.pointee.address)
        guard index != UInt32.max else { return nil }
        let known = unsafe sites + Int(index)
        let window = unsafe site.pointee.window
        let saved = unsafe UnsafeRawPointer(known) + Int(CPATCH_SAVED_OFFSET)
        let original = unsafe UnsafeRawPointer(site) + Int(CPATCH_ORIGINAL_OFFSET)
        // Another library may begin with the same bytes there.
        let isAlike =
            unsafe known.pointee.flags == site.pointee.siteFlags && known.pointee.island == site.pointee.island
        let isSame =
            unsafe isAlike && known.pointee.window == window && known.pointee.tactic == site.pointee.tactic
            && cruntime_compare(saved, original, UInt64(window)) == 0
        if isSame { return index }
        // Another library lies there now, or a plan of another make. The first is fine once the old patch is gone.
        let isPatched = unsafe known.pointee.patched == CPATCH_PATCHED.rawValue && isOurs(known)
        if isPatched { throw AgentError(.changed) }
        return nil
    }

    /// Whether a patched site's code still is what was written there.
    static func isOurs(_ site: UnsafePointer<cpatch_site>) -> Bool {
        var bytes: UInt64 = 0
        let size = unsafe site.pointee.changedBytes
        let failed = unsafe cruntime_read(&bytes, site.pointee.address, UInt64(size))
        return failed == 0 && bytes == (unsafe site.pointee.patchedBytes)
    }

    /// Makes the next site: checks its bytes, writes its thunk.
    private static func make(
        _ site: UnsafePointer<csession_site>,
        of plan: PlanView,
        _ index: UInt32,
        _ arenas: inout ArenaList
    ) throws(AgentError) -> UInt32 {
        let process = unsafe cpatch_this_process()
        let number = unsafe process.pointee.site_count
        guard let sites = unsafe process.pointee.sites, number < UInt32(CPATCH_SITES) else {
            throw AgentError(.memory)
        }
        try unsafe checkOriginal(site)
        let fresh = unsafe sites + Int(number)
        unsafe fresh.pointee = cpatch_site()
        unsafe fresh.pointee.address = unsafe site.pointee.address
        unsafe fresh.pointee.flags = unsafe site.pointee.siteFlags
        unsafe fresh.pointee.island = unsafe site.pointee.island
        unsafe fresh.pointee.tactic = unsafe site.pointee.tactic
        unsafe fresh.pointee.window = unsafe site.pointee.window
        let saved = UnsafeMutableRawPointer(fresh)
        unsafe cruntime_copy(
            saved + Int(CPATCH_SAVED_OFFSET),
            UnsafeRawPointer(site) + Int(CPATCH_ORIGINAL_OFFSET),
            16
        )
        let isIsland = unsafe site.pointee.tactic == CSESSION_TACTIC_ISLAND.rawValue
        if isIsland, unsafe cruntime_read(saved + Int(CPATCH_SAVED_ISLAND_OFFSET), site.pointee.island, 5) != 0 {
            throw AgentError(.fixup)
        }
        try arenas.withArena(for: index, of: plan) { arena throws(AgentError) in
            try unsafe writeThunk(
                site,
                index: number,
                code: plan.code,
                fixups: plan.fixup(0),
                into: &arena,
                fresh
            )
        }
        unsafe fresh.pointee.landing = unsafe fresh.pointee.thunk
        unsafe process.pointee.site_count = number + 1
        guard cpatch_site_insert(number) == 0 else {
            unsafe process.pointee.site_count = number
            throw AgentError(.mapping)
        }
        return number
    }

    /// Takes back the sites from `first` on, newest first.
    private static func forget(from first: UInt32) {
        let process = unsafe cpatch_this_process()
        while unsafe process.pointee.site_count > first {
            unsafe process.pointee.site_count -= 1
            cpatch_site_remove(unsafe process.pointee.site_count)
        }
    }

    /// Refuses a site whose bytes in memory are not the planned ones, or whose plan makes no sense.
    private static func checkOriginal(_ site: UnsafePointer<csession_site>) throws(AgentError) {
        let window = unsafe site.pointee.window
        guard let tactic = unsafe SiteTactic(rawValue: site.pointee.tactic) else { throw AgentError(.session) }
        guard window >= tactic.changedBytes, window <= 16 else { throw AgentError(.fixup) }
        // A return address is only known at a function's first instruction.
        let isFunction = unsafe site.pointee.flags & CSESSION_SITE_FUNCTION.rawValue != 0
        guard unsafe isFunction || site.pointee.return_count == 0 else { throw AgentError(.fixup) }
        var found: (UInt64, UInt64) = (0, 0)
        let differs = unsafe withUnsafeMutableBytes(of: &found) { raw in
            guard let base = raw.baseAddress else { return true }
            guard unsafe cruntime_read(base, site.pointee.address, UInt64(window)) == 0 else { return true }
            let original = unsafe UnsafeRawPointer(site) + Int(CPATCH_ORIGINAL_OFFSET)
            return unsafe cruntime_compare(base, original, UInt64(window)) != 0
        }
        if differs { throw AgentError(.changed) }
    }
}

/// How a site's bytes change; values of `enum csession_tactic`.
enum SiteTactic: UInt32 {
    case jump = 0
    case island = 1
    case window = 2
    case trap = 3

    /// Bytes that are written at the site.
    var changedBytes: UInt32 {
        switch self {
        case .jump, .window: 5
        case .island: 2
        case .trap: 1
        }
    }
}

extension csession_site {
    /// What a place in the code keeps; the rest is the plan's.
    var siteFlags: UInt32 { flags & CSESSION_SITE_FUNCTION.rawValue }
}

extension cpatch_site {
    var changedBytes: UInt32 { unsafe SiteTactic(rawValue: tactic)?.changedBytes ?? 5 }

    /// What a patched site's first bytes are, low byte first.
    var patchedBytes: UInt64 {
        switch unsafe SiteTactic(rawValue: tactic) ?? .jump {
        case .jump, .window: unsafe 0xe9 | UInt64(UInt32(truncatingIfNeeded: landing &- (address &+ 5))) << 8
        case .island: unsafe 0xeb | UInt64(UInt8(truncatingIfNeeded: island &- (address &+ 2))) << 8
        case .trap: 0xcc
        }
    }
}

/// The arenas of one plan: one for each group of sites within 2 GB.
///
/// In memory of its own: libraries are probed on threads of the program, which must not allocate.
@safe
struct ArenaList {
    private let arenas: UnsafeMutablePointer<ThunkArena>
    private var count = 0

    private static let size: UInt64 = 4096

    init() throws(AgentError) {
        guard let memory = unsafe cpatch_allocate(Self.size, 0) else { throw AgentError(.mapping) }
        unsafe arenas = UnsafeMutableRawPointer(memory).assumingMemoryBound(to: ThunkArena.self)
    }

    /// Runs `body` with an arena that reaches site `index` of `plan` and has room for it.
    mutating func withArena(
        for index: UInt32,
        of plan: PlanView,
        _ body: (inout ThunkArena) throws(AgentError) -> Void
    ) throws(AgentError) {
        let site = unsafe plan.site(Int(index))
        let address = unsafe site.pointee.address
        let need = unsafe UInt64(site.pointee.code_size) + thunkOverhead
        var chosen = 0
        while chosen < count, unsafe !arenas[chosen].serves(address, bytes: need) { chosen += 1 }
        if chosen == count {
            // Room for all sites still to come in this neighbourhood.
            var size: UInt64 = 0
            for later in Int(index)..<Int(unsafe plan.header.pointee.site_count) {
                let other = unsafe plan.site(later).pointee
                let distance = other.address > address ? other.address &- address : address &- other.address
                if distance < 0x1000_0000 { size += UInt64(other.code_size) + thunkOverhead }
            }
            guard chosen < Int(Self.size) / MemoryLayout<ThunkArena>.stride,
                let arena = ThunkArena(near: address, size: size)
            else { throw AgentError(.memory) }
            unsafe (arenas + chosen).initialize(to: arena)
            count += 1
        }
        try body(&(unsafe arenas[chosen]))
    }

    /// Makes all of them executable.
    func finish() throws(AgentError) {
        for index in 0..<count {
            let failed = unsafe arenas[index].finish()
            guard failed == 0 else { throw AgentError(.protection, code: failed) }
        }
    }

    /// Unmaps them.
    func release() { for index in 0..<count { unsafe arenas[index].release() } }

    /// Ends the list; the arenas stay.
    func forget() { unsafe cpatch_release(arenas, Self.size) }
}
