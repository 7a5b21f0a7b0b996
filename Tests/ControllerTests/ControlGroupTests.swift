import Foundation
import Testing

@testable import Controller

/// A group of version 2 with another one inside, for as long as a test runs.
private final class Groups {
    /// Where version 2 is mounted and may be written to; nil where it is not.
    static let place: String? = {
        guard geteuid() == 0, let text = try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8) else {
            return nil
        }
        return ControlGroups.mounts(text).first { $0.root == "/" && access($0.place, W_OK) == 0 }?.place
    }()

    let outer: String
    let inner: String

    init() throws {
        outer = try #require(Self.place) + "/ubpf-\(UUID().uuidString)"
        inner = outer + "/a b"
        try FileManager.default.createDirectory(atPath: inner, withIntermediateDirectories: true)
    }

    deinit {
        // Members that have just ended leave in a moment.
        for path in [inner, outer] { for _ in 0..<200 where rmdir(path) != 0 && errno == EBUSY { usleep(10_000) } }
    }

    /// The number that the kernel has for a group.
    static func id(_ path: String) throws -> UInt64 {
        let values = try FileManager.default.attributesOfItem(atPath: path)
        return try #require(values[.systemFileNumber] as? UInt64)
    }
}

/// Programs that ask for the control group of their process.
@Suite(
    .enabled(if: Files.shared != nil, "dist/ has not been built: make build"),
    .enabled(if: Groups.place != nil, "needs root, and a hierarchy of version 2 that may be written to")
)
struct ControlGroupTests {
    private let directory: String
    private let groups: Groups

    private static let program = """
        #include "vmlinux.h"
        #include <bpf/bpf_helpers.h>
        char LICENSE[] SEC("license") = "GPL";
        struct { __uint(type, BPF_MAP_TYPE_CGROUP_ARRAY); __uint(max_entries, 3); __uint(key_size, 4);
            __uint(value_size, 4); } groups SEC(".maps");
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
        struct event { __u64 id, ancestors[4]; long under[4]; };
        struct event *unused;
        SEC("uprobe/TARGET:answer")
        int probe(struct pt_regs *ctx)
        {
            struct event e = {bpf_get_current_cgroup_id()};
            for (int i = 0; i < 4; i++) e.ancestors[i] = bpf_get_current_ancestor_cgroup_id(i == 3 ? -1 : i);
            for (int i = 0; i < 4; i++) e.under[i] = bpf_current_task_under_cgroup(&groups, i);
            bpf_ringbuf_output(&events, &e, sizeof e, 0);
            return 0;
        }
        """

    /// Given a group's file, a child moves itself there, and then executes itself.
    private static let target = """
        #include <stdio.h>
        #include <sys/wait.h>
        #include <unistd.h>
        __attribute__((noinline)) int answer(int x) { __asm__ volatile("" ::: "memory"); return x + 1; }
        int main(int count, char **words) {
            answer(1);
            if (count == 1) return 0;
            if (fork() != 0) return wait(NULL) < 0;
            FILE *file = fopen(words[1], "w");
            if (file == NULL || fprintf(file, "0") < 0 || fclose(file) != 0) return 1;
            answer(2);
            return execl(words[0], words[0], (char *)NULL);
        }
        """

    init() throws {
        groups = try Groups()
        directory = NSTemporaryDirectory() + "/ubpf-groups-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try Self.target.write(toFile: directory + "/target.c", atomically: true, encoding: .utf8)
        try Self.program.replacing("TARGET", with: directory + "/target")
            .write(toFile: directory + "/x.bpf.c", atomically: true, encoding: .utf8)
        let built = try #require(Files.shared).run(
            ["gcc", "-O1", directory + "/target.c", "-o", directory + "/target"],
            program: "/usr/bin/env"
        )
        try #require(built.status == 0)
    }

    /// Runs a command in a group; what it said, by lines, without the addresses of time and process.
    private func run(in group: String, _ words: [String]) throws -> (lines: [String], errors: String, status: Int32) {
        let script = #"echo 0 > "$1/cgroup.procs" && shift && exec "$@""#
        let result = try #require(Files.shared).run(["-c", script, "sh", group] + words, program: "/bin/sh")
        let lines = result.output.split(separator: "\n").compactMap { line -> String? in
            line.range(of: "\"id\"").map { String(line[$0.lowerBound...]) }
        }
        return (lines, result.errors, result.status)
    }

    private func ubpfrun(_ options: [String], _ words: [String] = []) throws -> [String] {
        [try #require(Files.shared).program, directory + "/x.bpf.c", "-q", "-j"] + options
            + ["--", directory + "/target"] + words
    }

    private func expected(_ path: String, _ under: [Int]) throws -> String {
        let (root, outer, inner) = try (
            Groups.id(#require(Groups.place)), Groups.id(groups.outer), Groups.id(groups.inner)
        )
        let own = path == groups.inner ? inner : outer
        let ancestors = [root, outer, path == groups.inner ? inner : 0, 0].map { "\($0)" }.joined(separator: ",")
        return
            "\"id\":\(own),\"ancestors\":[\(ancestors)],\"under\":[\(under.map { "\($0)" }.joined(separator: ","))]}}}"
    }

    /// The same numbers in a process and in the kernel, which is asked by the same program.
    @Test(arguments: ["user", "kernel"]) func idsAreTheKernels(_ backend: String) throws {
        let sets = ["--set", "groups[0]=\(groups.outer)", "--set", "groups[2]=\(groups.inner)", "--backend", backend]
        // Elements: a group around the process, none, the process's own or one that it is not in, and none that there is.
        for (path, under) in [(groups.inner, [1, -11, 1, -7]), (groups.outer, [1, -11, 0, -7])] {
            let result = try run(in: path, ubpfrun(sets))
            #expect(result.lines == [try expected(path, under)], "\(result.errors)")
            #expect(result.status == 0)
        }
    }

    /// A child has its parent's group, wherever it goes, until it executes a program; and a program that begins by itself.
    @Test func childrenAndPrograms() throws {
        let words = try ubpfrun(["--follow-fork", "--follow-exec"], [groups.outer + "/cgroup.procs"])
        let result = try run(in: groups.inner, words)
        let inner = try expected(groups.inner, [-11, -11, -11, -7])
        #expect(result.lines == [inner, inner, try expected(groups.outer, [-11, -11, -11, -7])], "\(result.errors)")
        let library = try #require(Files.shared).program.replacing("bin/ubpfrun", with: "lib/libubpf.so")
        let alone = try run(
            in: groups.outer,
            [
                "/usr/bin/env", "LD_PRELOAD=\(library)", "UBPF_PROG=\(directory)/x.bpf.c", "UBPF_ARGS=-j",
                directory + "/target",
            ]
        )
        // The helper may write after its program has ended.
        #expect(alone.status == 0)
        #expect(alone.lines == [try expected(groups.outer, [-11, -11, -11, -7])], "\(alone.errors)")
    }

    /// The root has its number without a directory; other groups, and the root of a namespace, need one.
    @Test(.enabled(if: ControlGroups.isInFirstNamespace, "the root of a cgroup namespace is not the root of all"))
    func groupsWithoutADirectory() throws {
        let place = try #require(Groups.place)
        let words = try ubpfrun([])
        func hidden(_ options: [String], _ script: String) -> [String] {
            ["/usr/bin/unshare"] + options + ["/bin/sh", "-c", script + #" && exec "$@""#, "sh"] + words
        }
        let none = "\"under\":[-11,-11,-11,-7]}}}"
        let root = try run(in: place, hidden(["-m"], "umount '\(place)'"))
        #expect(root.lines == ["\"id\":1,\"ancestors\":[1,0,0,0]," + none], "\(root.errors)")
        for command in [hidden(["-m"], "umount '\(place)'"), hidden(["-C", "-m"], "true")] {
            let result = try run(in: groups.inner, command)
            #expect(result.status == 66 && result.lines == [], "\(result.lines)")
            #expect(result.errors.contains("error[U204]: the control group '/"), "\(result.errors)")
        }
        // In a namespace with a mount of its own levels begin at its root.
        let own = try run(
            in: groups.inner,
            hidden(["-C", "-m"], "umount '\(place)' && mount -t cgroup2 none '\(place)'")
        )
        let id = try Groups.id(groups.inner)
        #expect(own.lines == ["\"id\":\(id),\"ancestors\":[\(id),0,0,0]," + none], "\(own.errors)")
    }

    @Test func elementsOfARunningSession() throws {
        let files = try #require(Files.shared)
        let worker = try Worker(files)
        defer { worker.end() }
        let text = Self.program.replacing("TARGET:answer", with: "work:lose")
        try text.write(toFile: directory + "/live.bpf.c", atomically: true, encoding: .utf8)
        try "\(worker.pid)".write(toFile: groups.inner + "/cgroup.procs", atomically: false, encoding: .utf8)
        let session = try Session(files, [directory + "/live.bpf.c", "-q", "-j", "-p", "\(worker.pid)"])
        func map(_ words: String...) throws -> (output: String, errors: String, status: Int32) {
            try files.run(["map"] + words + ["-p", "\(worker.pid)"])
        }
        #expect(try map("update", "groups", "0", groups.outer).status == 0)
        #expect(try map("update", "groups", "1", groups.inner).status == 0)
        #expect(try map("update", "groups", "3", groups.inner).errors.contains("Argument list too long"))
        for path in ["/proc", groups.inner + "/cgroup.procs", "/no/such"] {
            #expect(try map("update", "groups", "2", path).errors.hasPrefix("error[U002]"), "\(path)")
        }
        #expect(try map("lookup", "groups", "0").errors.contains("Operation not supported"))
        worker.lose(1)
        #expect(try map("delete", "groups", "1").status == 0)
        #expect(try map("delete", "groups", "1").errors.contains("No such file"))
        worker.lose(1)
        let lines = session.interrupt().split(separator: "\n").filter { $0.contains("\"id\"") }
        let wanted = try [[1, 1, -11, -7], [1, -11, -11, -7]].map { try expected(groups.inner, $0) }
        #expect(lines.count == 2)
        for (line, end) in zip(lines, wanted) { #expect(line.hasSuffix(end)) }
    }

    @Test func whatIsNoGroup() throws {
        let cases = [
            ("groups[0]=/proc", "error[U002]: '/proc' is no value for an element of map 'groups'"),
            ("groups[3]=\(groups.outer)", "error[U002]: '3' is no value for --set groups[INDEX]"),
            ("group[0]=\(groups.outer)", "error[U002]: the object has no variable 'group[0]'"),
        ]
        for (set, message) in cases {
            let result = try run(in: groups.outer, ubpfrun(["--set", set]))
            #expect(result.status == 64 && result.errors.hasPrefix(message), "\(result.errors)")
        }
    }
}

/// Where groups lie, by lines of mountinfo.
@Suite struct ControlGroupPlaceTests {
    @Test func mounts() {
        let text = """
            30 23 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
            31 23 0:27 / /sys/fs/cgroup\\040two rw,nosuid shared:10 master:3 - cgroup2 cgroup2 rw,nsdelegate
            32 23 0:27 /a/b /mnt rw - cgroup2 none rw
            """
        let whole = ControlGroups.Mount(root: "/", place: "/sys/fs/cgroup two")
        let part = ControlGroups.Mount(root: "/a/b", place: "/mnt")
        #expect(ControlGroups.mounts(text) == [whole, part])
        #expect(ControlGroups.directory("/a/b/c", in: whole) == "/sys/fs/cgroup two/a/b/c")
        #expect(ControlGroups.directory("/a/b/c", in: part) == "/mnt/c")
        #expect(ControlGroups.directory("/a/b", in: part) == "/mnt")
        for outside in ["/a", "/a/bc", "/"] { #expect(ControlGroups.directory(outside, in: part) == nil) }
    }

    @Test func ids() throws {
        #expect(ControlGroups.id(of: "/proc") == nil)
        #expect(ControlGroups.id(of: "/no/such") == nil)
        // Every process is in one, be it the root.
        let ids = try ControlGroups.ids(of: getpid())
        #expect(!ids.isEmpty && ids.last != 0)
    }
}
