package import CSession

/// A map of a mapped session: its descriptor and the segments that its offsets count from.
@safe
package struct MapView {
    package let descriptor: UnsafePointer<csession_map>
    package let index: Int
    package let session: SessionView

    @_noLocks
    package init(_ session: SessionView, _ index: Int) {
        unsafe self.descriptor = unsafe session.map(index)
        self.index = index
        self.session = session
    }

    /// Nil only in an image that was not validated.
    package var family: MapFamily? {
        @_noLocks get { unsafe MapFamily(number: descriptor.pointee.type) }
    }

    package var keySize: UInt64 {
        @_noLocks get { unsafe UInt64(descriptor.pointee.key_size) }
    }

    package var valueSize: UInt64 {
        @_noLocks get { unsafe UInt64(descriptor.pointee.value_size) }
    }

    package var maxEntries: UInt32 {
        @_noLocks get { unsafe descriptor.pointee.max_entries }
    }

    /// One slot's value for each CPU.
    package var isPerCPU: Bool {
        @_noLocks get {
            switch unsafe descriptor.pointee.type {
            // BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_LRU_PERCPU_HASH
            case 5, 6, 10: true
            default: false
            }
        }
    }

    /// The values lie in the sealed image, or programs were promised that they do not change.
    package var isReadOnly: Bool {
        @_noLocks get {
            unsafe descriptor.pointee.storage != CSESSION_STORAGE_SHARED.rawValue
        }
    }

    /// The map's private part.
    @_noLocks @inline(__always)
    func meta(_ offset: UInt64) -> UnsafeMutableRawPointer {
        unsafe UnsafeMutableRawPointer(session.shared + Int(descriptor.pointee.meta_offset &+ offset))
    }

    /// A 32-bit word of the private part.
    @_noLocks @inline(__always)
    func word(_ offset: UInt64) -> UnsafeMutablePointer<UInt32> {
        unsafe meta(offset).assumingMemoryBound(to: UInt32.self)
    }

    /// A 64-bit word of the private part.
    @_noLocks @inline(__always)
    func quad(_ offset: UInt64) -> UnsafeMutablePointer<UInt64> {
        unsafe meta(offset).assumingMemoryBound(to: UInt64.self)
    }

    /// Byte `offset` of the values.
    @_noLocks @inline(__always)
    func values(_ offset: UInt64) -> UnsafeMutableRawPointer {
        let at = unsafe Int(descriptor.pointee.values_offset &+ offset)
        if unsafe descriptor.pointee.storage == CSESSION_STORAGE_SHARED.rawValue {
            return unsafe UnsafeMutableRawPointer(session.shared + at)
        }
        // Frozen values: every writer refuses them (`isReadOnly`), and the pages are mapped read-only.
        return unsafe UnsafeMutableRawPointer(mutating: session.image + at)
    }
}
