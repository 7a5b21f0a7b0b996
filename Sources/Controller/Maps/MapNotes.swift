import CLinux
import CSession
import Glibc
package import Loader
package import Runtime

/// What other ubpfruns need to know of a session's maps, in a memory file of the controller's that no target has: the types
/// of keys and values, and which maps are frozen.
///
/// Words of 32 bits: magic, version, number of maps, bytes of BTF; for each map the types of key and value, whether it is frozen,
/// whether it is of the object; then the object's BTF.
@safe
package struct MapNotes: ~Copyable {
    static let fileName = "ubpf-maps"
    private static let magic: UInt32 = 0x7562_706d
    private static let version: UInt32 = 1
    private static let headerWords = 4
    private static let mapWords = 4

    private let base: UnsafeMutableRawPointer
    private let size: Int
    private let file: Descriptor
    package let count: Int

    /// What to note of one map.
    package struct Entry {
        package var keyType: UInt32
        package var valueType: UInt32
        package var isOfObject: Bool
    }

    /// Notes for maps with these numbers in the session.
    package static func make(_ entries: [Entry], _ btf: BTF?) throws(Failure) -> MapNotes {
        let bytes = btf?.bytes ?? []
        let size = 4 * (headerWords + mapWords * entries.count) + bytes.count
        let file = try Descriptor(unsafe clinux_memfd(fileName, UInt64(size)), "memfd_create")
        let notes = try map(file, size: size, count: entries.count)
        let words = [magic, version, UInt32(entries.count), UInt32(bytes.count)]
        for (index, word) in words.enumerated() { unsafe notes.word(index).pointee = word }
        for (index, entry) in entries.enumerated() {
            unsafe notes.word(index, 0).pointee = entry.keyType
            unsafe notes.word(index, 1).pointee = entry.valueType
            unsafe notes.word(index, 3).pointee = entry.isOfObject ? 1 : 0
        }
        let start = 4 * (headerWords + mapWords * entries.count)
        unsafe bytes.withUnsafeBytes { from in
            if let source = from.baseAddress {
                unsafe notes.base.advanced(by: start).copyMemory(from: source, byteCount: from.count)
            }
        }
        return notes
    }

    /// Another process's notes; `limit` is the number of maps in its session.
    static func open(_ file: consuming Descriptor, limit: Int) throws(Failure) -> MapNotes {
        var information = stat()
        guard unsafe fstat(file.number, &information) == 0, information.st_size >= 4 * headerWords,
            information.st_size < 1 << 30
        else { throw Failure.damagedSession("its notes on maps are cut off") }
        let notes = try map(file, size: Int(information.st_size), count: limit)
        var words: [UInt32] = []
        for index in 0..<headerWords { words.append(unsafe notes.word(index).pointee) }
        let room = 4 * (headerWords + mapWords * limit) + Int(words[3])
        guard words[0] == magic, words[1] == version, words[2] == UInt32(limit), room <= notes.size else {
            throw Failure.damagedSession("its notes on maps are of another version")
        }
        return notes
    }

    private init(_ base: UnsafeMutableRawPointer, _ file: consuming Descriptor, size: Int, count: Int) {
        unsafe self.base = unsafe base
        self.size = size
        self.file = file
        self.count = count
    }

    private static func map(_ file: consuming Descriptor, size: Int, count: Int) throws(Failure) -> MapNotes {
        guard let base = unsafe mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.number, 0),
            unsafe base != MAP_FAILED
        else { throw Failure.socketFailed("mapping the notes on maps", errno: clinux_errno()) }
        return unsafe MapNotes(base, file, size: size, count: count)
    }

    deinit { unsafe munmap(base, size) }

    private func word(_ index: Int) -> UnsafeMutablePointer<UInt32> {
        unsafe base.assumingMemoryBound(to: UInt32.self) + index
    }

    private func word(_ map: Int, _ field: Int) -> UnsafeMutablePointer<UInt32> {
        unsafe word(Self.headerWords + Self.mapWords * map + field)
    }

    /// What is noted of a map.
    package func entry(_ map: Int) -> Entry {
        unsafe Entry(
            keyType: word(map, 0).pointee,
            valueType: word(map, 1).pointee,
            isOfObject: word(map, 3).pointee != 0
        )
    }

    /// The object's types; nil where it has none.
    package var btf: BTF? {
        let start = 4 * (Self.headerWords + Self.mapWords * count)
        let length = unsafe Int(word(3).pointee)
        guard length > 0, start + length <= size else { return nil }
        return try? BTF(unsafe [UInt8](UnsafeRawBufferPointer(start: base + start, count: length)), name: "session")
    }

    /// The map as user space has it.
    package func user(_ map: MapView) -> UserMap { unsafe UserMap(map, frozen: word(map.index, 2)) }
}
