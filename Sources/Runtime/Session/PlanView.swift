package import CSession

/// A plan as one process has it mapped.
@safe
package struct PlanView {
    package let base: UnsafePointer<UInt8>

    /// A view of a mapped plan; call `validate` first on one that came from elsewhere.
    package init(_ base: UnsafePointer<UInt8>) { unsafe self.base = unsafe base }

    package var header: UnsafePointer<csession_plan> {
        unsafe UnsafeRawPointer(base).assumingMemoryBound(to: csession_plan.self)
    }

    package func site(_ index: Int) -> UnsafePointer<csession_site> {
        unsafe table(header.pointee.sites_offset).assumingMemoryBound(to: csession_site.self) + index
    }

    package func probe(_ index: Int) -> UnsafePointer<csession_probe> {
        unsafe table(header.pointee.probes_offset).assumingMemoryBound(to: csession_probe.self) + index
    }

    package func fixup(_ index: Int) -> UnsafePointer<csession_fixup> {
        unsafe table(header.pointee.fixups_offset).assumingMemoryBound(to: csession_fixup.self) + index
    }

    package var cgroups: UnsafePointer<UInt64> {
        unsafe table(header.pointee.cgroups_offset).assumingMemoryBound(to: UInt64.self)
    }

    /// The relocated windows' first byte.
    package var code: UnsafePointer<UInt8> { unsafe base + Int(header.pointee.code.offset) }

    private func table(_ offset: UInt64) -> UnsafeRawPointer { unsafe UnsafeRawPointer(base + Int(offset)) }

    /// Refuses what is not a whole plan for `session`; every offset that is used later is checked here.
    @_optimize(size)
    package func validate(size: Int, session: SessionView) throws(SessionDamage) {
        guard size >= MemoryLayout<csession_plan>.size else { throw SessionDamage(.plan, .tooShort, UInt64(size)) }
        let header = unsafe self.header.pointee
        let image = unsafe session.header.pointee
        guard header.magic == CSESSION_PLAN_MAGIC, header.version == CSESSION_VERSION else {
            throw SessionDamage(.plan, .noMagic)
        }
        guard header.session_id == image.session_id else { throw SessionDamage(.plan, .otherSession) }
        guard header.size <= UInt64(size) else { throw SessionDamage(.plan, .cutOff, UInt64(size), header.size) }
        // No array: this also runs where nothing may be allocated.
        try check(header.sites_offset, header.site_count, MemoryLayout<csession_site>.stride, header.size)
        try check(header.probes_offset, header.probe_count, MemoryLayout<csession_probe>.stride, header.size)
        try check(header.fixups_offset, header.fixup_count, MemoryLayout<csession_fixup>.stride, header.size)
        try check(header.cgroups_offset, header.cgroup_count, 8, header.size)
        guard fits(header.code.offset, header.code.size, 1, in: header.size) else {
            throw SessionDamage(.plan, .table, header.code.offset, header.size)
        }
        guard UInt64(header.first_statistic) + UInt64(header.probe_count) <= UInt64(image.statistics_capacity) else {
            throw SessionDamage(.plan, .statistics)
        }
        for index in 0..<Int(header.site_count) {
            let it = unsafe site(index).pointee
            let probes = UInt64(it.first_probe) + UInt64(it.entry_count) + UInt64(it.return_count)
            guard UInt64(it.code_offset) + UInt64(it.code_size) <= header.code.size,
                UInt64(it.first_fixup) + UInt64(it.fixup_count) <= UInt64(header.fixup_count),
                probes <= UInt64(header.probe_count)
            else { throw SessionDamage(.plan, .site, UInt64(index)) }
        }
        for index in 0..<Int(header.probe_count) {
            let it = unsafe probe(index).pointee
            guard it.program < image.program_count, it.site < header.site_count else {
                throw SessionDamage(.plan, .probe, UInt64(index))
            }
        }
    }

    private func check(_ offset: UInt64, _ count: UInt32, _ stride: Int, _ size: UInt64) throws(SessionDamage) {
        guard fits(offset, UInt64(count), UInt64(stride), in: size) else {
            throw SessionDamage(.plan, .table, offset, size)
        }
    }
}
