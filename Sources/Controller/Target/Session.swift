import CLinux
import CSession
import Glibc
package import Loader
package import Runtime

/// A session's two memory files as the controller holds them, and the lock that keeps its probes alive.
///
/// The thread that makes it must live as long: when it ends, the kernel marks the lock, and every probe goes inert.
@safe
package struct Session: ~Copyable {
    package let view: SessionView
    private let image: Descriptor
    private let shared: Descriptor
    /// For other ubpfruns, which find it among this one's descriptors.
    private let notes: MapNotes
    private let imageSize: Int
    private let sharedSize: Int

    private init(
        view: SessionView,
        image: consuming Descriptor,
        shared: consuming Descriptor,
        notes: consuming MapNotes,
        sizes: (Int, Int)
    ) {
        self.view = view
        self.notes = notes
        self.image = image
        self.shared = shared
        imageSize = sizes.0
        sharedSize = sizes.1
    }

    /// Builds, seals, maps and locks a session whose programs and sites are complete.
    ///
    /// `notes` has an entry for each map, and what their types are of.
    package static func make(
        _ builder: consuming SessionBuilder,
        flags: UInt32 = 0,
        notes: (entries: [MapNotes.Entry], btf: BTF?)
    ) throws(Failure) -> Session {
        var builder = builder
        let content = builder.finish(ownerPid: UInt32(getpid()), ownerTid: UInt32(clinux_thread()), flags: flags)
        let memory = machineMemory()
        guard content.sharedSize + content.bytes.count <= memory else {
            throw Failure.sessionOverMemory(content.sharedSize + content.bytes.count, memory: memory)
        }
        let image = try sealed("ubpf-image", content.bytes)
        let shared = try Descriptor(unsafe clinux_memfd("ubpf-shared", UInt64(content.sharedSize)), "memfd_create")
        let resizable = clinux_seal(shared.number, 0)
        guard resizable == 0 else { throw Failure.socketFailed("sealing the session", errno: -resizable) }
        // MAP_PRIVATE: before Linux 6.7 a write-sealed file cannot be mapped shared, not even read-only.
        guard let imageBase = unsafe mapped(image.number, content.bytes.count, PROT_READ, MAP_PRIVATE) else {
            throw Failure.sessionTooLarge(content.bytes.count, errno: clinux_errno())
        }
        guard let sharedBase = unsafe mapped(shared.number, content.sharedSize, PROT_READ | PROT_WRITE, MAP_SHARED)
        else {
            let error = clinux_errno()
            unsafe munmap(imageBase, content.bytes.count)
            throw Failure.sessionTooLarge(content.sharedSize, errno: error)
        }
        unsafe content.initializeShared(sharedBase)
        let view = unsafe SessionView(
            image: UnsafePointer(imageBase.assumingMemoryBound(to: UInt8.self)),
            shared: sharedBase.assumingMemoryBound(to: UInt8.self)
        )
        try view.mapArrays { $0 }
        // For tests of the memo of stacks: each stack that it gives is compared with a walk.
        if unsafe getenv("UBPF_CROSSCHECK_STACKS") != nil { unsafe view.sharedHeader.pointee.stack_crosscheck = 1 }
        let locked = unsafe clinux_owner_lock(owner(of: view))
        guard locked == 0 else { throw Failure.socketFailed("locking the session", errno: -locked) }
        return Session(
            view: view,
            image: image,
            shared: shared,
            notes: try MapNotes.make(notes.entries, notes.btf),
            sizes: (content.bytes.count, content.sharedSize)
        )
    }

    deinit {
        // The word becomes 0 while the memory is still shared with the target: its probes go inert.
        _ = unsafe clinux_owner_unlock(Self.owner(of: view))
        unsafe munmap(UnsafeMutableRawPointer(mutating: view.image), imageSize)
        unsafe munmap(view.shared, sharedSize)
    }

    /// A target's plan, as a sealed file.
    package func plan(_ builder: PlanBuilder) throws(Failure) -> Descriptor {
        let capacity = unsafe Int(view.header.pointee.statistics_capacity)
        guard builder.firstStatistic + builder.probeCount <= capacity else {
            throw Failure(SessionError.tooManyProbes(capacity))
        }
        return try Self.sealed("ubpf-plan", builder.finish(session: identifier))
    }

    /// Lets go of the lock: from here on the probes of every target do nothing.
    package func end() { _ = unsafe clinux_owner_unlock(Self.owner(of: view)) }

    /// What an agent knows the session by.
    package var identifier: UInt64 { unsafe view.header.pointee.session_id }

    /// Image, shared segment and plan, as `CSESSION_SESSION` promises.
    package func descriptors(with plan: borrowing Descriptor) -> [Int32] {
        [image.number, shared.number, plan.number] + view.kernelArrays.map(\.descriptor)
    }

    /// A memory file with `bytes` that nobody can change any more.
    private static func sealed(_ name: String, _ bytes: [UInt8]) throws(Failure) -> Descriptor {
        let file = try Descriptor(unsafe clinux_memfd(name, 0), "memfd_create")
        let written = unsafe bytes.withUnsafeBytes { unsafe writeBytes(file.number, $0) }
        guard written == 0 else { throw Failure.socketFailed("writing the session", errno: written) }
        let failed = clinux_seal(file.number, 1)
        guard failed == 0 else { throw Failure.socketFailed("sealing the session", errno: -failed) }
        return file
    }

    private static func owner(of view: SessionView) -> UnsafeMutableRawPointer {
        // The offset of a stored property always exists.
        unsafe UnsafeMutableRawPointer(view.shared) + (MemoryLayout<csession_shared>.offset(of: \.owner) ?? 0)
    }
}

extension SessionView {
    /// Arrays whose values are memory of the kernel's, and the descriptors of its maps in the process that made the session.
    var kernelArrays: [(map: Int, descriptor: Int32)] {
        (0..<Int(unsafe header.pointee.map_count)).compactMap { index in
            let number = unsafe map(index).pointee.kernel
            return number == 0 ? nil : (index, Int32(bitPattern: number &- 1))
        }
    }

    /// Puts that memory where their values are; `descriptor` turns a descriptor into one of this process.
    func mapArrays(_ descriptor: (Int32) -> Int32) throws(Failure) {
        for array in kernelArrays {
            let map = unsafe map(array.map).pointee
            let place = unsafe shared + Int(map.values_offset)
            let file = descriptor(array.descriptor)
            defer { if file >= 0, file != array.descriptor { _ = close(file) } }
            let flags = MAP_SHARED | MAP_FIXED
            let base = unsafe mmap(place, Int(map.values_size), PROT_READ | PROT_WRITE, flags, file, 0)
            guard unsafe base != MAP_FAILED else {
                throw Failure.sessionTooLarge(Int(map.values_size), errno: clinux_errno())
            }
        }
    }
}

private func mapped(_ descriptor: Int32, _ size: Int, _ protection: Int32, _ flags: Int32) -> UnsafeMutableRawPointer? {
    let base = unsafe mmap(nil, size, protection, flags, descriptor, 0)
    return unsafe base == MAP_FAILED ? nil : base
}

/// Memory and swap of the machine, in bytes; no limit where the kernel does not say.
private func machineMemory() -> Int {
    guard case .success(let bytes) = readFile("/proc/meminfo") else { return Int.max }
    var total = 0
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
        let words = line.split(separator: " ")
        guard words.first == "MemTotal:" || words.first == "SwapTotal:", words.count > 1 else { continue }
        total += (Int(words[1]) ?? 0) << 10
    }
    return total == 0 ? Int.max : total
}

/// Writes everything; 0 or an errno value.
private func writeBytes(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int32 {
    var done = 0
    while done < bytes.count {
        let written = unsafe write(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done)
        if written < 0 {
            let error = clinux_errno()
            if error == EINTR { continue }
            return error
        }
        done += written
    }
    return 0
}
