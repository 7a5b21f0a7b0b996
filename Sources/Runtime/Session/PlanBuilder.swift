import CSession

/// Lays out a plan: the sites of one target and the probes on them.
package struct PlanBuilder {
    /// Where this plan's probes start to count; may be a range that another target counts in already.
    package var firstStatistic: Int
    /// For the sites of a module that may go: a number that no other plan of the target has, and the module's load bias.
    package var module: (number: UInt32, bias: UInt64) = (0, 0)
    /// Ids of the control groups that the target is in, from the root on; empty where no program asks.
    package var cgroups: [UInt64] = []
    private let capacity: Int
    private var sites: [csession_site] = []
    private var probes: [csession_probe] = []
    private var fixups: [csession_fixup] = []
    private var code: [UInt8] = []

    /// A plan whose probes count from `firstStatistic` on, of `capacity` that the session has.
    package init(firstStatistic: Int = 0, capacity: Int = SessionBuilder.probeCapacity) {
        self.firstStatistic = firstStatistic
        self.capacity = capacity
    }

    package var siteCount: Int { sites.count }
    package var probeCount: Int { probes.count }

    /// Adds a site with its probes and returns its index; probes are numbered in the order they are added.
    package mutating func addSite(_ site: SiteParameters) throws(SessionError) -> Int {
        if firstStatistic + probes.count + site.entries.count + site.returns.count > capacity {
            throw .tooManyProbes(capacity)
        }
        var it = csession_site()
        it.address = site.address
        it.island = site.island
        it.resume = site.resume
        it.window = site.window
        it.tactic = site.tactic.rawValue
        it.flags = site.isFunction ? CSESSION_SITE_FUNCTION.rawValue : 0
        if site.isLoader { it.flags |= CSESSION_SITE_LOADER.rawValue }
        it.code_offset = UInt32(code.count)
        it.code_size = UInt32(site.code.count)
        it.first_fixup = UInt32(fixups.count)
        it.fixup_count = UInt32(site.fixups.count)
        it.first_probe = UInt32(probes.count)
        it.entry_count = UInt32(site.entries.count)
        it.return_count = UInt32(site.returns.count)
        it.counter = site.counter
        unsafe withUnsafeMutableBytes(of: &it.original) { unsafe $0.copyBytes(from: site.original.prefix(16)) }
        code.append(contentsOf: site.code)
        while code.count % 16 != 0 { code.append(0xcc) }
        fixups.append(contentsOf: site.fixups)
        for probe in site.entries + site.returns {
            probes.append(
                csession_probe(program: UInt32(probe.program), site: UInt32(sites.count), cookie: probe.cookie)
            )
        }
        sites.append(it)
        return sites.count - 1
    }

    /// The bytes of the plan for the session `identifier`.
    package func finish(session identifier: UInt64) -> [UInt8] {
        var end = UInt64(MemoryLayout<csession_plan>.stride)
        var header = csession_plan()
        header.magic = CSESSION_PLAN_MAGIC
        header.version = CSESSION_VERSION
        header.first_statistic = UInt32(firstStatistic)
        header.session_id = identifier
        header.number = module.number
        header.module_bias = module.bias
        header.site_count = UInt32(sites.count)
        header.probe_count = UInt32(probes.count)
        header.fixup_count = UInt32(fixups.count)
        header.sites_offset = reserve(&end, size(of: sites))
        header.probes_offset = reserve(&end, size(of: probes))
        header.fixups_offset = reserve(&end, size(of: fixups))
        header.code = csession_range(offset: reserve(&end, UInt64(code.count)), size: UInt64(code.count))
        header.cgroups_offset = reserve(&end, size(of: cgroups))
        header.cgroup_count = UInt32(cgroups.count)
        header.size = end
        var bytes = [UInt8](repeating: 0, count: Int(end))
        place([header], at: 0, in: &bytes)
        place(sites, at: header.sites_offset, in: &bytes)
        place(probes, at: header.probes_offset, in: &bytes)
        place(fixups, at: header.fixups_offset, in: &bytes)
        place(code, at: header.code.offset, in: &bytes)
        place(cgroups, at: header.cgroups_offset, in: &bytes)
        return bytes
    }
}
