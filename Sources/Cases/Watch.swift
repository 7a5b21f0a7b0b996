import Glibc

/// The case files, sources, headers and objects in some directories, as they are at one moment.
struct Watch: Equatable {
    private var files: [String: Version] = [:]

    /// What changes when a file is written or replaced.
    private struct Version: Equatable {
        let inode: UInt
        let size: Int
        let seconds: Int
        let nanoseconds: Int
    }

    /// Reports lie beside them too, and are no reason to run again.
    private static let endings = [".bpftest", ".c", ".h", ".o"]

    /// Only their own files, not those of directories inside; what cannot be read has none.
    init(directories: Set<String>) {
        for directory in directories {
            guard let stream = unsafe opendir(directory) else { continue }
            defer { unsafe closedir(stream) }
            while let entry = unsafe readdir(stream) {
                let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { tuple in
                    unsafe tuple.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
                }
                guard Self.endings.contains(where: name.hasSuffix) else { continue }
                let path = directory + "/" + name
                var status = stat()
                guard unsafe stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
                files[path] = Version(
                    inode: status.st_ino,
                    size: status.st_size,
                    seconds: status.st_mtim.tv_sec,
                    nanoseconds: status.st_mtim.tv_nsec
                )
            }
        }
    }

    /// Returns once a file of these directories is another than here.
    func awaitChange(in directories: Set<String>) {
        while Watch(directories: directories) == self { usleep(200_000) }
        // Who writes one file often writes several.
        usleep(100_000)
    }
}
