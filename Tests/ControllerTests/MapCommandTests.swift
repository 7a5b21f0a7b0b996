import Foundation
import Testing

/// `ubpfrun map` on a session that runs.
@Suite(.enabled(if: Files.shared != nil, "dist/ has not been built: make build"))
struct MapCommandTests {
    private static let source = """
        #include <vmlinux.h>
        #include <bpf/bpf_helpers.h>
        char LICENSE[] SEC("license") = "GPL";
        enum color { RED, GREEN = 5 };
        struct key { __u32 pid; char tag[8]; };
        struct thing { __s64 total; enum color color; bool on; char comm[12]; __u16 list[3]; };
        struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 2); __type(key, struct key);
            __type(value, struct thing); } things SEC(".maps");
        struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, __u32);
            __type(value, __u64); } counts SEC(".maps");
        struct { __uint(type, BPF_MAP_TYPE_STACK); __uint(max_entries, 3); __uint(key_size, 0);
            __type(value, __s32); } pile SEC(".maps");
        struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);
            __type(value, __u32); } one SEC(".maps"), two SEC(".maps");
        struct { __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(max_entries, 4); __type(key, __u32);
            __array(values, struct inner); } outer SEC(".maps") = { .values = { &one } };
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
        __u32 step = 3;
        char tag[8] = "abc";
        SEC("uprobe/work:lose")
        int on_lose(struct pt_regs *ctx)
        {
            __u32 zero = 0;
            struct key key = { .pid = 1 };
            __builtin_memcpy(key.tag, tag, 8);
            __u64 *count = bpf_map_lookup_elem(&counts, &zero);
            if (count) *count += step;
            struct thing *thing = bpf_map_lookup_elem(&things, &key);
            if (thing) thing->total++;
            bpf_map_push_elem(&pile, &step, 0);
            void *inner = bpf_map_lookup_elem(&outer, &zero);
            __u32 *value = inner ? bpf_map_lookup_elem(inner, &zero) : NULL;
            if (value) (*value)++;
            if (step == 1000) bpf_ringbuf_output(&ring, &zero, 4, 0);
            return 0;
        }
        """

    private struct Live {
        let files: Files
        let worker: Worker
        let session: Session

        /// Output of a command that succeeds.
        func map(_ arguments: String...) throws -> String {
            let result = try files.run(["map"] + arguments + ["-p", "\(worker.pid)"])
            #expect(result.status == 0, "\(arguments): \(result.errors)")
            #expect(result.errors == "", "\(arguments)")
            return result.output
        }

        /// The first line of an error, which comes alone.
        func refusal(_ arguments: String...) throws -> String {
            let result = try files.run(["map"] + arguments + ["-p", "\(worker.pid)"])
            #expect(result.status != 0 && result.output == "")
            return String(result.errors.split(separator: "\n").first ?? "")
        }
    }

    private func live(_ name: String) throws -> Live {
        let files = try #require(Files.shared)
        let path = files.directory + "/\(name).bpf.c"
        try Self.source.write(toFile: path, atomically: true, encoding: .utf8)
        let worker = try Worker(files)
        return Live(files: files, worker: worker, session: try Session(files, [path, "-q", "-p", "\(worker.pid)"]))
    }

    @Test func elementsAreWrittenAndReadAsTheirTypesSay() throws {
        let live = try live("typed")
        defer { live.worker.end() }
        let key = #"{"pid": 1, "tag": "abc"}"#
        #expect(
            try live.refusal("lookup", "things", key).hasPrefix("error[U521]: lookup on map 'things': No such file")
        )
        let value = #"{"total": -5, "color": "GREEN", "on": true, "comm": "sh", "list": [1, 2]}"#
        #expect(try live.map("update", "things", key, value, "--noexist") == "")
        #expect(try live.refusal("update", "things", key, value, "--noexist").contains("File exists"))
        live.worker.lose(1)
        let text = "{pid: 1, tag: abc}: {total: -4, color: GREEN, on: true, comm: sh, list: [1, 2, 0]}\n"
        #expect(try live.map("dump", "things") == text)
        #expect(try live.map("lookup", "things", "hex:01000000 6162630000000000") == text)
        let data =
            #"{"map":"things","key":{"pid":1,"tag":"abc"},"value":{"total":-4,"color":"GREEN","on":true,"comm":"sh","list":[1,2,0]}}"#
        #expect(try live.map("dump", "things", "-j") == #"{"type":"entry","data":"# + data + "}\n")
        #expect(try live.map("delete", "things", key) == "")
        #expect(try live.map("dump", "things") == "")
        for pid in 8...9 { _ = try live.map("update", "things", #"{"pid": \#(pid)}"#, "{}") }
        #expect(try live.refusal("update", "things", #"{"pid": 7}"#, "{}").contains("Argument list too long"))
        #expect(try live.map("freeze", "things") == "")
        #expect(try live.refusal("delete", "things", #"{"pid": 8}"#).contains("Operation not permitted"))
        #expect(
            try live.map("list").split(separator: "\n").filter { $0.hasSuffix("frozen  128") || $0.contains("frozen") }
                .count == 1
        )
        #expect(try live.refusal("update", "things", "7", "{}").hasPrefix("error[U002]: '7' is no key of map 'things'"))
        #expect(try live.refusal("update", "things", #"{"pit": 7}"#, "{}").hasPrefix("error[U002]"))
        #expect(try live.refusal("dump", "thinks").hasPrefix("error[U520]: the session has no map 'thinks'"))
        live.session.kill()
        #expect(try live.refusal("list").hasPrefix("error[U109]"))
    }

    @Test func variablesAndMapsInsideAndWithoutKeys() throws {
        let live = try live("variables")
        defer { live.worker.end() }
        #expect(try live.map("lookup", ".data", "0") == "0: {step: 3, tag: abc}\n")
        #expect(try live.map("update", ".data", "0", #"{"step": 10}"#) == "")
        #expect(try live.map("lookup", ".data", "0") == "0: {step: 10, tag: abc}\n")
        live.worker.lose(1)
        let counts = try live.map("lookup", "counts", "0", "-j")
        #expect(counts.contains(#""sum":10}"#), "\(counts)")
        #expect(try live.map("update", "counts", "1", "0x10") == "")
        let cpus = Int(sysconf(Int32(_SC_NPROCESSORS_CONF)))
        #expect(try live.map("lookup", "counts", "1").contains("(sum \(16 * cpus))"))
        #expect(try live.map("lookup", "pile") == "10\n")
        #expect(try live.map("update", "pile", "-7") == "")
        #expect(try live.map("delete", "pile") == "-7\n")
        #expect(try live.map("delete", "pile") == "10\n")
        #expect(try live.refusal("delete", "pile").contains("there is no such element") == false)
        #expect(try live.map("dump", "outer") == "0: one\n")
        #expect(try live.map("lookup", "one", "0") == "0: 1\n")
        #expect(try live.map("update", "outer", "0", "two") == "")
        live.worker.lose(1)
        #expect(try live.map("lookup", "two", "0") == "0: 1\n")
        #expect(try live.refusal("update", "outer", "1", "counts").contains("Invalid argument"))
        #expect(try live.refusal("dump", "ring").hasPrefix("error[U521]"))
        #expect(try live.refusal("update", "counts", "2", "1").contains("Argument list too long"))
        live.session.terminate()
        #expect(try live.files.run(["map", "list", "-p", "\(live.worker.pid)"]).status == 66)
    }
}
