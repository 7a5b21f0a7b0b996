import ISA

/// What maps have in common that may stand for one another inside a map of maps (Linux `bpf_map_meta_equal`,
/// `array_map_meta_equal`).
struct MapShape: Equatable {
    var type: MapType
    var keySize: UInt32
    var valueSize: UInt32
    var flags: UInt32
    var record: UInt64
    /// Of arrays, unless BPF_F_INNER_MAP says that it does not matter: programs are verified with the template's.
    ///
    /// The kernel asks it of ARRAY only. Its verifier, too, takes a lookup with a constant index that the template of a
    /// PERCPU_ARRAY has for one that finds something.
    var entries: UInt32

    init(_ map: MapParameters) {
        type = map.type
        keySize = map.keySize
        valueSize = map.valueSize
        flags = map.flags
        record = map.record
        let matters = (type == .array || type == .perCPUArray) && flags & MapFlag.innerMap == 0
        entries = matters ? map.maxEntries : 0
    }
}

/// The shapes of a session's maps, numbered from 1.
struct MapShapes {
    private var known: [MapShape] = []

    mutating func number(_ map: MapParameters) -> UInt32 {
        let shape = MapShape(map)
        if let index = known.firstIndex(of: shape) { return UInt32(index + 1) }
        known.append(shape)
        return UInt32(known.count)
    }
}
