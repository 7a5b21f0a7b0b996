import Foundation
import Testing

/// Children in other PID namespaces share the session's maps with their parents.
@Suite(
    .enabled(if: Files.shared != nil, "dist/ has not been built: make build"),
    .enabled(if: geteuid() == 0, "PID namespaces are made by root")
)
struct NamespaceTests {
    private static let program = """
        #include "vmlinux.h"
        #include <bpf/bpf_helpers.h>
        char LICENSE[] SEC("license") = "GPL";
        struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int);
            __type(value, long); } threads SEC(".maps");
        SEC("uprobe/TARGET:answer")
        int probe(struct pt_regs *ctx)
        {
            long *calls = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), 0, 1);
            if (calls) ++*calls;
            return 0;
        }
        """

    /// One child that is the first process of a namespace, and one that is put into the same one.
    private static let target = """
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <sched.h>
        #include <signal.h>
        #include <stdio.h>
        #include <sys/wait.h>
        #include <unistd.h>
        __attribute__((noinline)) int answer(int x) { __asm__ volatile("" ::: "memory"); return x + 1; }
        static pid_t child(int *output) {
            pid_t pid = fork();
            if (pid != 0) return pid;
            answer(2);
            write(output[1], "c", 1);
            for (;;) pause();
        }
        int main(void) {
            int output[2];
            char byte, path[64];
            if (pipe(output) != 0) return 1;
            answer(1);
            int own = open("/proc/self/ns/pid", O_RDONLY);
            if (unshare(CLONE_NEWPID) != 0) return 1;
            pid_t first = child(output);
            read(output[0], &byte, 1);
            snprintf(path, sizeof path, "/proc/%d/ns/pid", first);
            if (setns(own, CLONE_NEWPID) != 0 || setns(open(path, O_RDONLY), CLONE_NEWPID) != 0) return 1;
            pid_t second = child(output);
            read(output[0], &byte, 1);
            printf("%d %d\\n", first, second);
            fflush(stdout);
            getchar();
            return kill(second, 9) + kill(first, 9) + 7;
        }
        """

    /// A thread is known by its number and a mark of its namespace, so the two children are others than anybody here.
    @Test func childrenOfOtherNamespacesAreMarked() throws {
        let files = try #require(Files.shared)
        let directory = NSTemporaryDirectory() + "/ubpf-namespaces-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try Self.target.write(toFile: directory + "/target.c", atomically: true, encoding: .utf8)
        try Self.program.replacing("TARGET", with: directory + "/target")
            .write(toFile: directory + "/x.bpf.c", atomically: true, encoding: .utf8)
        let compiled = try files.run(
            ["gcc", "-O1", directory + "/target.c", "-o", directory + "/target"],
            program: "/usr/bin/env"
        )
        try #require(compiled.status == 0, "\(compiled.errors)")
        let process = Process()
        let (input, output) = (Pipe(), Pipe())
        process.executableURL = URL(fileURLWithPath: files.program)
        process.arguments = [directory + "/x.bpf.c", "-q", "--follow-fork", "--", directory + "/target"]
        (process.standardInput, process.standardOutput) = (input, output)
        try process.run()
        defer {
            try? input.fileHandleForWriting.close()
            process.waitUntilExit()
        }
        let said = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
        #expect(said.split(separator: " ").count == 2, "\(said)")
        let dump = try files.run(["map", "dump", "threads", "-p", "\(process.processIdentifier)"])
        let keys = dump.output.split(separator: "\n").compactMap { Int64($0.split(separator: ":")[0]) }
            .map { UInt32(truncatingIfNeeded: $0) }
        // The first and the second process of the namespace, and the parent.
        let groups = Dictionary(grouping: keys) { $0 >> 22 }.values.sorted { $0.count < $1.count }
        #expect(groups.map(\.count) == [1, 2], "\(dump.output)\(dump.errors)")
        #expect(Set(groups.last?.map { $0 & 0x3f_ffff } ?? []) == [1, 2])
    }
}
