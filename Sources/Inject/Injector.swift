internal import CLinux
internal import Glibc
internal import Symbols

/// Loads the library into a running process: see Documentation/Attaching.md for the protocol.
package struct Injector: Sendable {
    package let plan: InjectionPlan
    /// How long to wait in all.
    package var patience: UInt64 = 5_000_000_000

    package init(_ plan: InjectionPlan) { self.plan = plan }

    /// Learns all that is needed and refuses what cannot be done; the process is not touched.
    package static func inspect(pid: Int32) throws(InjectError) -> InjectionPlan {
        let reader = try Preconditions.check(pid)
        return try InjectionPlan(pid: pid, reader: reader)
    }

    /// How the library gets into the target.
    private enum Delivery {
        /// The loader has it, by this name.
        case resident(String)
        /// The target sees the same file under the same path.
        case path(String)
        /// A memory file that we fill.
        case file(name: String, bytes: [UInt8])
    }

    /// Loads the library and lets it serve a socket.
    package func inject(libraryPath: String) throws(InjectError) -> Injected {
        let started = clinux_now()
        for delivery in try deliveries(libraryPath) {
            var attempt = Attempt(plan: plan, started: started, deadline: started + patience)
            // RTLD_NOW, and RTLD_NOLOAD for what is there.
            switch delivery {
            case .resident(let name): attempt.setLibrary(path: name, flags: 2 | 4, isResident: true)
            case .path(let path): attempt.setLibrary(path: path, flags: 2)
            case .file(let name, let bytes): attempt.setLibrary(path: name, flags: 2, content: bytes)
            }
            let result = attempt.run()
            switch result {
            case .success(let injected): return injected
            case .failure(let failure):
                // The target's user may not read the path that we see; its memory is always readable to it.
                if case .path = delivery, attempt.wasNotLoaded { continue }
                throw failure
            }
        }
        throw .unseenLibrary(plan.pid, libraryPath)
    }

    private func deliveries(_ libraryPath: String) throws(InjectError) -> [Delivery] {
        guard let resolved = unsafe realpath(libraryPath, nil) else {
            throw .libraryMissing(plan.pid, libraryPath, reason: errorText(clinux_errno()))
        }
        defer { unsafe free(resolved) }
        let path = unsafe String(cString: resolved)
        if let name = plan.resident(of: path) { return [.resident(name)] }
        var ways: [Delivery] = []
        if path.utf8.count < Int(clinux_inject_path.rawValue), isSameFile("/proc/\(plan.reader)/root\(path)", path) {
            ways.append(.path(path))
        }
        if unsafe access("/proc/\(plan.reader)/root/proc/self", F_OK) == 0 {
            let name = path.split(separator: "/").last.map(String.init) ?? "libubpf.so"
            ways.append(.file(name: name, bytes: try contents(path)))
        }
        return ways
    }

    private func contents(_ path: String) throws(InjectError) -> [UInt8] {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw .libraryMissing(plan.pid, path, reason: errorText(clinux_errno())) }
        defer { _ = close(file) }
        var status = stat()
        guard unsafe fstat(file, &status) == 0 else {
            throw .libraryMissing(plan.pid, path, reason: errorText(clinux_errno()))
        }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        let count = bytes.count
        guard unsafe bytes.withUnsafeMutableBytes({ unsafe read(file, $0.baseAddress, count) }) == count else {
            throw .libraryMissing(plan.pid, path, reason: "it changed while it was read")
        }
        return bytes
    }
}
