internal import Symbols

/// One entry of the dynamic loader's list (`struct link_map`, <link.h>).
struct LoadedObject: Sendable {
    /// Of the structure in the target.
    var address: UInt64
    var bias: UInt64
    var name: String
}

/// What the dynamic loader of a process says about itself.
struct LoadedObjects: Sendable {
    var objects: [LoadedObject] = []
    /// The loader is not at work: `r_state` is RT_CONSISTENT, which it first becomes when the program's own libraries are ready.
    var isConsistent = true

    init() {}

    /// Follows DT_DEBUG of the executable to the loader's list.
    init(_ memory: RemoteMemory, executable: LoadedModule, layout: LoaderLayout) {
        guard let dynamic = layout.dynamic,
            let entries = memory.words(executable.bias &+ dynamic.lowerBound, count: dynamic.count / 16 * 2)
        else { return }
        let debugTag: UInt64 = 21  // DT_DEBUG
        guard let tag = stride(from: 0, to: entries.count, by: 2).first(where: { entries[$0] == debugTag }) else {
            return
        }
        // struct r_debug: version, the first link_map, the address of a function, the state.
        let debug = entries[tag + 1]
        isConsistent = debug != 0 && memory.load(debug &+ 24, as: Int32.self) == 0
        guard isConsistent, var next = memory.load(debug &+ 8, as: UInt64.self) else { return }
        while next != 0, objects.count < 4096 {
            // l_addr, l_name, l_ld, l_next, l_prev.
            guard let words = memory.words(next, count: 5) else { return }
            objects.append(LoadedObject(address: next, bias: words[0], name: memory.string(words[1]) ?? ""))
            next = words[3]
        }
    }

    func object(bias: UInt64) -> LoadedObject? { objects.first { $0.bias == bias } }
}

/// A module whose thread-local variables have a fixed place below every thread pointer.
struct StaticStorage: Sendable {
    /// Of the initial values in the target's memory, which has them relocated.
    var image: UInt64
    var fileSize: UInt64
    var memorySize: UInt64
    /// The block starts so far below the thread pointer.
    var offset: UInt64
    /// Index in the thread's vector of blocks (dtv); 0 where it is not known.
    var index: Int
}

extension StaticStorage {
    /// The static storage of a module, or nil when it has none or allocates it lazily.
    init?(
        _ storage: LoaderLayout.ThreadStorage,
        bias: UInt64,
        isExecutable: Bool,
        object: LoadedObject?,
        memory: RemoteMemory
    ) {
        image = bias &+ storage.address
        fileSize = storage.fileSize
        memorySize = storage.memorySize
        if let object, let found = Self.fields(storage, image: image, object: object, memory: memory) {
            guard let found = found.place else { return nil }
            offset = found.offset
            index = found.index
        } else if let slot = storage.offsetSlot, let value = memory.load(bias &+ slot.address, as: UInt64.self),
            value != 0
        {
            offset = slot.target &- value
            index = 0
        } else if isExecutable {
            // x86-64 psABI, thread-local storage variant II: the executable's block ends at the thread pointer.
            offset = (storage.memorySize &+ storage.alignment &- 1) & ~(storage.alignment &- 1)
            index = 1
        } else {
            return nil
        }
        guard offset >= storage.memorySize, offset < 1 << 20 else { return nil }
    }

    private struct Fields {
        /// nil: the module's storage is not static.
        var place: (offset: UInt64, index: Int)?
    }

    /// The place and the number of a module's storage, from the loader's private structure.
    ///
    /// `l_tls_offset` and `l_tls_modid` are found by the four fields in front of them, which are known:
    /// l_tls_initimage, l_tls_initimage_size, l_tls_blocksize, l_tls_align, then l_tls_firstbyte_offset (glibc, include/link.h). Their
    /// distance from its start differs between versions.
    private static func fields(
        _ storage: LoaderLayout.ThreadStorage,
        image: UInt64,
        object: LoadedObject,
        memory: RemoteMemory
    ) -> Fields? {
        let count = 192
        guard let words = memory.words(object.address, count: count) else { return nil }
        for start in 0..<count - 6
        where words[start] == image && words[start + 1] == storage.fileSize
            && words[start + 2] == storage.memorySize && words[start + 3] == storage.alignment
        {
            let offset = words[start + 5]
            // NO_TLS_OFFSET is 0 and FORCED_DYNAMIC_TLS_OFFSET -1 on x86-64 (glibc, sysdeps/generic/ldsodefs.h).
            guard offset != 0, Int64(bitPattern: offset) > 0 else { return Fields(place: nil) }
            return Fields(place: (offset, Int(clamping: words[start + 6])))
        }
        return nil
    }
}
