import Foundation
import Testing

private let source = """
    #include "vmlinux.h"
    #include <bpf/bpf_helpers.h>
    extern int not_for_kernels __attribute__((weak, section(".ksyms")));
    struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 8); __type(key, int); __type(value, long); }
        numbers SEC(".maps");
    struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, 1); __type(key, int); __type(value, long); }
        tasks SEC(".maps");
    struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
    struct event { long sum, rounds, kept; };
    struct event *unused;
    static long add(void *map, int *key, long *value, struct event *e) { e->sum += *value; return 0; }
    static long round(unsigned index, struct event *e) { e->rounds += index; return index == 4; }
    __attribute__((noinline)) long twice(long value) { return 2 * value; }
    SEC("tp/sched/sched_process_exit") int on_exit(void *c) {
        struct event e = {};
        for (int i = 0; i < 8; i++) {
            int key = i;
            long value = twice(i);
            bpf_map_update_elem(&numbers, &key, &value, 0);
        }
        bpf_for_each_map_elem(&numbers, add, &e, 0);
        bpf_loop(10, round, &e, 0);
        long *kept = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, 1);
        if (kept) e.kept = ++*kept;
        bpf_ringbuf_output(&events, &e, sizeof e, 0);
        return 0;
    }
    char LICENSE[] SEC("license") = "GPL";

    """

private let special = """
    #include "vmlinux.h"
    #include <bpf/bpf_helpers.h>
    struct element { struct bpf_spin_lock lock; struct bpf_timer timer; long count; };
    struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, struct element); }
        elements SEC(".maps");
    static int ring(void *map, int *key, struct element *e) { return 0; }
    SEC("tc") int on_packet(struct __sk_buff *skb) {
        int key = 0;
        struct element *e = bpf_map_lookup_elem(&elements, &key);
        if (!e) return 0;
        bpf_spin_lock(&e->lock);
        e->count++;
        bpf_spin_unlock(&e->lock);
        bpf_timer_init(&e->timer, &elements, 1);
        bpf_timer_set_callback(&e->timer, ring);
        return 0;
    }
    char LICENSE[] SEC("license") = "GPL";

    """

/// Maps that the kernel does not take with such types, and a function that it may not verify for all arguments.
private let particular = """
    #include "vmlinux.h"
    #include <bpf/bpf_helpers.h>
    enum which { ONE, TWO };
    struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, enum which); __type(value, long); }
        by_enum SEC(".maps");
    struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 2); __uint(key_size, 4); __type(value, long); }
        by_size SEC(".maps");
    struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(max_entries, 2); __uint(map_flags, 1); __type(key, u64); __type(value, long); }
        by_prefix SEC(".maps");
    struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, long); } first SEC(".maps");
    struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 1); __type(key, int); __array(values, struct inner); }
        outer SEC(".maps") = {.values = {&first}};
    __attribute__((weak, noinline, visibility("hidden"))) int store(long *where) { *where = 7; return 0; }
    SEC("tp/sched/sched_process_exit") int on_exit(void *c) {
        int key = 0;
        u64 prefix = 0;
        long value = 0;
        store(&value);
        bpf_map_update_elem(&by_enum, &key, &value, 0);
        bpf_map_update_elem(&by_size, &key, &value, 0);
        bpf_map_update_elem(&by_prefix, &prefix, &value, 0);
        return bpf_map_lookup_elem(&outer, &key) != 0;
    }
    char LICENSE[] SEC("license") = "GPL";

    """

/// Programs that the kernel takes only with the object's types.
@Suite(
    .enabled(if: Files.shared != nil, "dist/ has not been built: make build"),
    .enabled(if: geteuid() == 0, "programs in the kernel are for root here")
)
struct KernelTypesTests {
    private func write(_ name: String, _ text: String) throws -> String {
        let path = try #require(Files.shared).directory + "/\(name).bpf.c"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return path
    }

    @Test func callbacksGlobalFunctionsAndStorage() throws {
        let files = try #require(Files.shared)
        let result = try files.run([try write("callbacks", source), "-j", "-q", "--", "true"])
        try #require(result.status == 0, "\(result.errors)")
        let lines = result.output.split(separator: "\n").filter { $0.contains("\"type\":\"record\"") }
        #expect(!lines.isEmpty)
        // 2 * (0 + … + 7); 0 + … + 4; the first look at a thread that ends.
        #expect(lines.allSatisfy { $0.contains(#""fields":{"sum":56,"rounds":10,"kept":1}"#) }, "\(lines)")
    }

    @Test func typesThatTheKernelRefuses() throws {
        let files = try #require(Files.shared)
        let result = try files.run([try write("particular", particular), "-j", "-q", "--", "true"])
        try #require(result.status == 0, "\(result.errors)")
        for name in ["by_enum", "by_size", "by_prefix"] {
            #expect(result.output.contains(#""name":"\#(name)","entries":[{"key":"#), "\(name): \(result.output)")
        }
        #expect(!result.output.contains(#""value":0}"#))
    }

    @Test func spinLocksAndTimersCanBeAskedFor() throws {
        let files = try #require(Files.shared)
        let result = try files.run(["check", "--kernel", try write("special", special)])
        #expect(result.output.contains("kernel: accepted"), "\(result.output)\(result.errors)")
    }

    /// The second run goes on where the first ended.
    @Test(.enabled(if: access("/sys/fs/bpf", W_OK) == 0, "no BPF filesystem is mounted"))
    func pinnedMaps() throws {
        let files = try #require(Files.shared)
        let name = "ubpf_pin_\(getpid())"
        defer { unlink("/sys/fs/bpf/\(name)") }
        func source(entries: Int) -> String {
            """
            #include "vmlinux.h"
            #include <bpf/bpf_helpers.h>
            struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, \(entries)); __type(key, int); __type(value, long);
                __uint(pinning, 1); } \(name) SEC(".maps");
            SEC("tp/sched/sched_process_exit") int on_exit(void *c) {
                int key = 0;
                long one = 1, *v = bpf_map_lookup_elem(&\(name), &key);
                if (v) __sync_fetch_and_add(v, 1); else bpf_map_update_elem(&\(name), &key, &one, 0);
                return 0;
            }
            char LICENSE[] SEC("license") = "GPL";

            """
        }
        func count() throws -> Int {
            let result = try files.run([try write("pinned", source(entries: 8)), "-j", "-q", "--", "true"])
            let found = result.output.firstMatch(of: /"key":0,"value":([0-9]+)/)
            return try #require(found.flatMap { Int($0.1) }, "\(result.output)\(result.errors)")
        }
        let first = try count()
        #expect(first >= 1)
        #expect(try count() > first)
        let other = try files.run([try write("pinned", source(entries: 9)), "--", "true"])
        #expect(other.errors.contains("another kind of map is pinned at /sys/fs/bpf/\(name)"), "\(other.errors)")
        #expect(other.errors.contains("help: rm /sys/fs/bpf/\(name), if nobody needs it any more"))
        #expect(other.status == 69)
        // Asking the kernel leaves nothing, and does not take what is there.
        let asked = try files.run(["check", "--kernel", try write("pinned", source(entries: 9))])
        #expect(asked.output.contains("kernel: accepted"), "\(asked.output)")
        unlink("/sys/fs/bpf/\(name)")
        #expect(try files.run(["check", "--kernel", try write("pinned", source(entries: 8))]).status == 0)
        #expect(access("/sys/fs/bpf/\(name)", F_OK) != 0)
        // Nor does a run that fails.
        let wrong = source(entries: 8).replacing("int key = 0;", with: "int key = *(volatile int *)bpf_ktime_get_ns();")
        #expect(try files.run([try write("pinned", wrong), "--", "true"]).status != 0)
        #expect(access("/sys/fs/bpf/\(name)", F_OK) != 0)
    }
}
