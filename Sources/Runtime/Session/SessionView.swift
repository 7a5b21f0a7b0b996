package import CRuntime
package import CSession
package import ISA

/// A session as one process has it mapped; typed access to both segments.
@safe
package struct SessionView {
    package let image: UnsafePointer<UInt8>
    package let shared: UnsafeMutablePointer<UInt8>

    /// A view of mapped segments; call `validate` first on segments that came from elsewhere.
    @_noLocks
    package init(image: UnsafePointer<UInt8>, shared: UnsafeMutablePointer<UInt8>) {
        unsafe self.image = unsafe image
        unsafe self.shared = unsafe shared
    }

    /// The session that a context belongs to; nil where it has none.
    @_noLocks
    package init?(_ context: UnsafeMutablePointer<cruntime_context>) {
        guard let image = unsafe context.pointee.image, let shared = unsafe context.pointee.shared else { return nil }
        unsafe self.init(image: image, shared: shared)
    }

    package var header: UnsafePointer<csession_image> {
        @_noLocks get { unsafe UnsafeRawPointer(image).assumingMemoryBound(to: csession_image.self) }
    }

    package var sharedHeader: UnsafeMutablePointer<csession_shared> {
        @_noLocks get { unsafe UnsafeMutableRawPointer(shared).assumingMemoryBound(to: csession_shared.self) }
    }

    /// Slots of per-CPU values.
    package var cpuCount: Int {
        @_noLocks get { unsafe Int(header.pointee.cpu_count) }
    }

    @_noLocks
    package func map(_ index: Int) -> UnsafePointer<csession_map> {
        unsafe table(header.pointee.maps_offset).assumingMemoryBound(to: csession_map.self) + index
    }

    @_noLocks
    package func program(_ index: Int) -> UnsafePointer<csession_program> {
        unsafe table(header.pointee.programs_offset).assumingMemoryBound(to: csession_program.self) + index
    }

    /// A program's first instruction.
    @_noLocks
    package func instructions(_ program: Int) -> UnsafePointer<LinkedInstruction> {
        unsafe table(header.pointee.instructions_offset).assumingMemoryBound(to: LinkedInstruction.self)
            + Int(self.program(program).pointee.first_instruction)
    }

    /// A probe's counters in the shard that everybody uses.
    @_noLocks
    package func statistics(_ probe: Int) -> UnsafeMutablePointer<csession_statistics> {
        unsafe sharedTable(header.pointee.statistics_offset).assumingMemoryBound(to: csession_statistics.self) + probe
    }

    /// What all threads have counted for a probe; of last traps, any thread's.
    package func counters(_ probe: Int) -> csession_statistics {
        let capacity = unsafe Int(header.pointee.statistics_capacity)
        var sum = csession_statistics()
        for shard in 0..<Int(unsafe header.pointee.statistic_shards) {
            let counted = unsafe statistics(shard * capacity + probe).pointee
            sum.hits += counted.hits
            sum.missed += counted.missed
            sum.traps += counted.traps
            if counted.last_trap != 0 { sum.last_trap = counted.last_trap }
        }
        return sum
    }

    @_noLocks
    package func module(_ index: Int) -> UnsafeMutablePointer<csession_module> {
        unsafe sharedTable(header.pointee.modules_offset).assumingMemoryBound(to: csession_module.self) + index
    }

    /// The map of a handle that a program holds; nil for anything that is not the handle of a map of this session.
    @_noLocks
    package func map(handle: UInt64) -> MapView? {
        guard let index = MapHandle.index(handle), index < Int(unsafe header.pointee.map_count) else { return nil }
        return MapView(self, index)
    }

    @_noLocks @inline(__always)
    private func table(_ offset: UInt64) -> UnsafeRawPointer {
        unsafe UnsafeRawPointer(image + Int(offset))
    }

    @_noLocks @inline(__always)
    private func sharedTable(_ offset: UInt64) -> UnsafeMutableRawPointer {
        unsafe UnsafeMutableRawPointer(shared + Int(offset))
    }
}

/// Gives a context the session of `view`: the segments and the memory that its programs may touch.
@_noLocks
package func prepareContext(_ context: UnsafeMutablePointer<cruntime_context>, _ view: SessionView) {
    let header = unsafe view.header
    let shared = unsafe UInt64(UInt(bitPattern: view.shared))
    let image = unsafe UInt64(UInt(bitPattern: view.image))
    unsafe context.pointee.image = unsafe view.image
    unsafe context.pointee.shared = unsafe view.shared
    unsafe context.pointee.guest_low = unsafe shared &+ header.pointee.guest.offset
    unsafe context.pointee.guest_high = unsafe context.pointee.guest_low &+ header.pointee.guest.size
    unsafe context.pointee.keys_low = unsafe shared &+ header.pointee.keys.offset
    unsafe context.pointee.keys_high = unsafe context.pointee.keys_low &+ header.pointee.keys.size
    unsafe context.pointee.rodata_low = unsafe image &+ header.pointee.rodata.offset
    unsafe context.pointee.rodata_high = unsafe context.pointee.rodata_low &+ header.pointee.rodata.size
    unsafe context.pointee.cpu_slot = -1
    unsafe abandonRun(context)
    // What was found out for another session: its modules are not listed in this one, its maps are gone.
    if let memo = unsafe StackMemo(context) { memo.forgetAll() }
}
