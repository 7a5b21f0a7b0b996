import CLinux
import Glibc
import Runtime
import Symbols

/// Control groups (version 2) as the kernel numbers them: by the inode numbers of their directories (fs/kernfs/dir.c).
package enum ControlGroups {
    /// The groups that a process is in, from the root of the hierarchy on; 0 for those whose directories nobody here can see.
    ///
    /// In a cgroup namespace the hierarchy begins at the namespace's own root.
    package static func ids(of pid: Int32) throws(Failure) -> [UInt64] {
        // A first thread that has ended stays in its group when the others are moved.
        let file = threadNumbers(pid).lazy.map { "/proc/\(pid)/task/\($0)" }.first { thread in
            guard case .success(let bytes) = readFile(thread + "/stat") else { return false }
            let state = String(decoding: bytes, as: UTF8.self).split(separator: ")").last?.dropFirst().first
            return state != "Z" && state != "X"
        }
        guard case .success(let bytes) = readFile((file ?? "/proc/\(pid)") + "/cgroup") else {
            throw Failure(
                .noProcess,
                "the control group of process \(pid) cannot be read: \(errorText(clinux_errno()))"
            )
        }
        // Where version 2 was never mounted, every process is in its root (cgroups(7)).
        let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("0::") }
        let path = line.map { String($0.dropFirst(3)) } ?? "/"
        guard let groups = groups(path, mounts()) else { throw .unknownControlGroup(pid, path) }
        return groups
    }

    /// The id of the control group with this directory; nil for any other file.
    package static func id(of path: String) -> UInt64? {
        let id = (try? withDirectory(path, for: "") { controlGroup(of: $0) }) ?? 0
        return id == 0 ? nil : id
    }

    /// Opens a group's directory for an element of a map.
    static func withDirectory<Result>(
        _ path: String,
        for map: String,
        _ body: (_ descriptor: Int32) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let file = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if file < 0 { throw .noControlGroup(path, map) }
        defer { close(file) }
        return try body(file)
    }

    struct Mount: Equatable {
        /// What of the hierarchy is mounted.
        var root: String
        var place: String
    }

    /// The ids of a group's ancestors and its own; nil where its own cannot be had.
    private static func groups(_ path: String, _ mounts: [Mount]) -> [UInt64]? {
        let names = path.split(separator: "/")
        let paths = (0...names.count).map { "/" + names.prefix($0).joined(separator: "/") }
        // The number of the hierarchy's root, wherever it is mounted (fs/kernfs/dir.c, `kernfs_create_root`).
        let root: UInt64 = isInFirstNamespace ? 1 : 0
        let ids = paths.map { path in
            mounts.lazy.compactMap { directory(path, in: $0) }.compactMap { id(of: $0) }.first
                ?? (path == "/" ? root : 0)
        }
        return ids.last == 0 ? nil : ids
    }

    /// Whether paths begin at the hierarchy's root (include/linux/proc_ns.h, `PROC_CGROUP_INIT_INO`).
    static var isInFirstNamespace: Bool {
        var status = stat()
        // Kernels without such namespaces have no such file.
        return unsafe stat("/proc/self/ns/cgroup", &status) != 0 || status.st_ino == 0xefff_fffb
    }

    /// Where a mount has a group.
    static func directory(_ group: String, in mount: Mount) -> String? {
        if mount.root == "/" { return mount.place + group }
        guard group == mount.root || group.hasPrefix(mount.root + "/") else { return nil }
        return mount.place + group.dropFirst(mount.root.count)
    }

    private static func mounts() -> [Mount] {
        guard case .success(let bytes) = readFile("/proc/self/mountinfo") else { return [] }
        return mounts(String(decoding: bytes, as: UTF8.self))
    }

    /// Those of version 2 among the lines of mountinfo (proc_pid_mountinfo(5)).
    static func mounts(_ text: String) -> [Mount] {
        text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard let dash = words.firstIndex(of: "-"), dash + 1 < words.count, words[dash + 1] == "cgroup2" else {
                return nil
            }
            return Mount(root: unescaped(words[3]), place: unescaped(words[4]))
        }
    }

    /// `\\040` is a space, and so on.
    private static func unescaped(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3,
                let code = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                bytes.append(code)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension Failure {
    static func noControlGroup(_ path: String, _ map: String) -> Failure {
        .badOption(
            "an element of map '\(map)'",
            value: path,
            expects: "the directory of a control group of version 2, as /sys/fs/cgroup/user.slice"
        )
    }

    /// A program asks for the group of a process, which is where nobody here can look.
    static func unknownControlGroup(_ pid: Int32, _ path: String) -> Failure {
        Failure(
            .fileMissing,
            "the control group '\(path)' of process \(pid) has no directory here",
            why: "a program asks for its id, which is the directory's inode number",
            help: "mount cgroup2, or run ubpfrun where that group can be seen"
        )
    }
}
