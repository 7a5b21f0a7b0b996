import CLinux
import CSession
import Glibc
package import Runtime
import Symbols

/// A session of another ubpfrun, or of this one, opened to look at its maps and change them.
@safe
package struct LiveSession: ~Copyable {
    /// The ubpfrun that it belongs to.
    package let owner: Int32
    package let view: SessionView
    package let notes: MapNotes
    private let image: Segment
    private let shared: Segment

    /// A mapped memory file.
    @safe
    private struct Segment: ~Copyable {
        let base: UnsafeMutableRawPointer
        let size: Int

        private init(_ base: UnsafeMutableRawPointer, _ size: Int) {
            unsafe self.base = unsafe base
            self.size = size
        }

        static func map(_ file: borrowing Descriptor, isWritable: Bool) throws(Failure) -> Segment {
            var information = stat()
            guard unsafe fstat(file.number, &information) == 0, information.st_size > 0 else {
                throw Failure.damagedSession("a segment is empty")
            }
            let size = Int(information.st_size)
            let (access, kind) = isWritable ? (PROT_READ | PROT_WRITE, MAP_SHARED) : (PROT_READ, MAP_PRIVATE)
            guard let base = unsafe mmap(nil, size, access, kind, file.number, 0), unsafe base != MAP_FAILED else {
                throw Failure.sessionTooLarge(size, errno: clinux_errno())
            }
            return unsafe Segment(base, size)
        }

        deinit { unsafe munmap(base, size) }
    }

    /// Where a process has a session's files: descriptors of image, shared segment and notes.
    struct Place {
        var owner: Int32
        var descriptors: (image: Int32, shared: Int32, notes: Int32)
        /// Of the shared segment, as in `/proc/PID/maps`.
        var inode: UInt64
    }

    private init(
        _ owner: Int32,
        _ view: SessionView,
        _ notes: consuming MapNotes,
        _ image: consuming Segment,
        _ shared: consuming Segment
    ) {
        self.owner = owner
        self.view = view
        self.notes = notes
        self.image = image
        self.shared = shared
    }

    static func open(_ place: Place) throws(Failure) -> LiveSession {
        let image = try Segment.map(open(place.owner, place.descriptors.image, O_RDONLY), isWritable: false)
        let shared = try Segment.map(open(place.owner, place.descriptors.shared, O_RDWR), isWritable: true)
        let view = unsafe SessionView(
            image: UnsafePointer(image.base.assumingMemoryBound(to: UInt8.self)),
            shared: shared.base.assumingMemoryBound(to: UInt8.self)
        )
        do { try view.validate(imageSize: image.size, sharedSize: shared.size) } catch {
            let error = SessionError(error)
            throw Failure.damagedSession("\(error.subject): \(error.message)")
        }
        if !view.kernelArrays.isEmpty {
            let process = try Descriptor(clinux_pidfd(place.owner), "pidfd_open")
            // pidfd_getfd(2)
            try view.mapArrays {
                Self.kernelMap(Int32(clinux_syscall(438, Int64(process.number), Int64($0), 0, 0, 0, 0)))
            }
            _ = consume process
        }
        let file = try open(place.owner, place.descriptors.notes, O_RDWR)
        let notes = try MapNotes.open(file, limit: unsafe Int(view.header.pointee.map_count))
        return LiveSession(place.owner, view, notes, image, shared)
    }

    /// A descriptor if it is a kernel's map, and nothing that a hostile process may shorten; else -1.
    private static func kernelMap(_ descriptor: Int32) -> Int32 {
        if descriptor < 0 { return -1 }
        var name = [CChar](repeating: 0, count: 64)
        let length = unsafe readlink("/proc/self/fd/\(descriptor)", &name, name.count - 1)
        let path = String(decoding: name.prefix(max(0, length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        if path == "anon_inode:bpf-map" { return descriptor }
        _ = close(descriptor)
        return -1
    }

    private static func open(_ pid: Int32, _ descriptor: Int32, _ mode: Int32) throws(Failure) -> Descriptor {
        let file = unsafe Glibc.open("/proc/\(pid)/fd/\(descriptor)", mode | O_CLOEXEC)
        if file < 0 { throw Failure.sessionClosed(pid, errno: clinux_errno()) }
        return Descriptor(adopting: file)
    }

    // MARK: Finding

    /// The sessions of a process, which may be a ubpfrun or one of its targets; of all that may be looked at where it is nil.
    static func places(of pid: Int32?) throws(Failure) -> [Place] {
        guard let pid else { return processes().flatMap { (try? owned(by: $0).get()) ?? [] } }
        let own: [Place]
        switch owned(by: pid) {
        case .success(let places): own = places
        case .failure(let error):
            throw error.number == ENOENT
                ? Failure.noSessionProcess(pid) : Failure.sessionHidden(pid, errno: error.number)
        }
        if !own.isEmpty { return own }
        let inodes = mapped(by: pid)
        if inodes.isEmpty { return [] }
        let found = processes().flatMap { (try? owned(by: $0).get()) ?? [] }.filter { inodes.contains($0.inode) }
        if found.isEmpty { throw Failure.sessionEnded(pid) }
        return found
    }

    /// Sessions whose files a process has open.
    private static func owned(by pid: Int32) -> Result<[Place], ErrnoError> {
        switch entries("/proc/\(pid)/fd") {
        case .failure(let error): return .failure(error)
        case .success(let names):
            var numbers: [String: [Int32]] = [:]
            for number in names.compactMap({ Int32($0) }).sorted() {
                guard let target = link("/proc/\(pid)/fd/\(number)"), target.hasPrefix("/memfd:ubpf-") else { continue }
                numbers[String(target.dropFirst(7).prefix { $0 != " " }), default: []].append(number)
            }
            let (images, shared) = (numbers["ubpf-image"] ?? [], numbers["ubpf-shared"] ?? [])
            let notes = numbers[MapNotes.fileName] ?? []
            // A session's files are made in one order, so their numbers are in one order.
            return .success(
                zip(zip(images, shared), notes).map { pair, notes in
                    Place(
                        owner: pid,
                        descriptors: (pair.0, pair.1, notes),
                        inode: inode("/proc/\(pid)/fd/\(pair.1)")
                    )
                }
            )
        }
    }

    /// Inodes of the shared segments that a process has mapped.
    private static func mapped(by pid: Int32) -> Set<UInt64> {
        let mappings = try? ProcessMaps.readMappings(pid: pid, with: "/memfd:ubpf-shared")
        return Set((mappings ?? []).filter { $0.path.hasPrefix("/memfd:ubpf-shared") }.map(\.inode))
    }

    private static func processes() -> [Int32] {
        guard case .success(let names) = entries("/proc") else { return [] }
        return names.compactMap { Int32($0) }.sorted()
    }

    private static func entries(_ path: String) -> Result<[String], ErrnoError> {
        guard let directory = unsafe opendir(path) else { return .failure(ErrnoError(number: clinux_errno())) }
        defer { unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            names.append(
                unsafe withUnsafeBytes(of: entry.pointee.d_name) {
                    unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                }
            )
        }
        return .success(names)
    }

    private static func link(_ path: String) -> String? {
        unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
            guard let base = buffer.baseAddress, case let count = unsafe readlink(path, base, 255), count > 0 else {
                return nil
            }
            unsafe base[count] = 0
            return unsafe String(cString: base)
        }
    }

    private static func inode(_ path: String) -> UInt64 {
        let file = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return 0 }
        let descriptor = Descriptor(adopting: file)
        var information = Glibc.stat()
        return unsafe fstat(descriptor.number, &information) == 0 ? UInt64(information.st_ino) : 0
    }
}
