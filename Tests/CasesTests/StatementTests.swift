import Glibc
import Testing

@testable import Cases

/// Statements of case files on programs whose own objects do not say enough.
@Suite struct StatementTests {
    private let workshop: Workshop

    init() throws {
        workshop = try Workshop()
        try workshop.write(
            """
            struct sent {
            	__u32 number;
            	char text[12];
            };
            """,
            "sent.h"
        )
        try workshop.write(
            """
            #include "vmlinux.h"
            #include <bpf/bpf_helpers.h>
            #include "sent.h"
            char LICENSE[] SEC("license") = "GPL";
            struct long_record {
            	__u32 size;
            	__u8 rest[60];
            };
            const struct long_record *unused __attribute__((unused));
            struct flexible {
            	__u64 count;
            	__u64 items[];
            };
            const struct flexible *unused_too __attribute__((unused));
            struct answer {
            	__u32 a, b;
            };
            const struct answer *unused_answer __attribute__((unused));
            struct {
            	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
            	__uint(key_size, 4);
            	__uint(value_size, 4);
            } events SEC(".maps");
            static long (*ask)(void *ctx, void *answer, int size, __u32 flags) = (void *)69;
            SEC("xdp_of_my_loader") int lookup(struct xdp_md *ctx)
            {
            	struct answer answer = {};
            	long status = ask(ctx, &answer, sizeof(answer), 0);
            	return status ? status : answer.a + answer.b;
            }
            SEC("tc") int marks(struct __sk_buff *skb)
            {
            	skb->mark = skb->len + 1;
            	return 0;
            }
            SEC("uprobe") int sends(struct pt_regs *ctx)
            {
            	struct sent sent = { 7, "text" };
            	__u32 size = 4;
            	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &sent, sizeof(sent));
            	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &size, sizeof(size));
            	return 0;
            }
            struct {
            	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
            	__uint(max_entries, 2);
            	__uint(key_size, 4);
            	__uint(value_size, 4);
            } groups SEC(".maps");
            SEC("uprobe") int grouped(struct pt_regs *ctx)
            {
            	return bpf_current_task_under_cgroup(&groups, 1) * 1000 + bpf_get_current_cgroup_id();
            }
            SEC("tracepoint/any/any") int third(struct flexible *record)
            {
            	return record->items[2];
            }
            """,
            "x.bpf.c"
        )
    }

    private func run(_ cases: String) throws -> (code: Int32, report: String) {
        try workshop.write("object x.bpf.c\nsection lookup = xdp\ncpus 2\n" + cases, "x.bpftest")
        return try workshop.run([workshop.path("x.bpftest")])
    }

    @Test func theyDoWhatTheySay() throws {
        let (code, report) = try run(
            """
            case a section that only its loader understands, and a mock that answers by a pointer
              verifies lookup
              mock fib_lookup returns 0 writes 2 = struct answer { a: 40, b: 2 }
              run lookup packet=hex:00
              returns 42
              mock fib_lookup returns 3 writes 2 = hex:01
              run lookup packet=hex:00
              returns 3
            case control groups
              map groups[1] = 20
              run grouped()
              returns 1
              control-groups 1 20 35
              run grouped()
              returns 1035
            case what a program leaves in its context
              run marks packet=hex:000102030405060708090a0b0c0d0e0f
              ctx == { mark: 17, len: 16, protocol: 0x0d0c }
            case a struct of a header, and a record that is shorter than its struct
              cpu 1
              run sends()
              event events as sent.h:sent == { number: 7, text: "text" }
              event events == none
              run sends()
              event events as long_record == { size: 7 }
              event events as long_record == { size: 4, rest: "" }
            case an array that has no size
              run third record=flexible { items: [1, 2, 3] }
              returns 3
              run third record=flexible { items: [1, 2] }
              traps badRead
            """
        )
        #expect(code == 0, "\(report)")
    }

    @Test(.enabled(if: geteuid() == 0, "the kernel runs programs for root only"))
    func theKernelIsAnEngine() throws {
        try workshop.write(
            "object x.bpf.c\ncase marked\nrun marks packet=hex:000102030405060708090a0b0c0d0e0f1011\nctx == { mark: 19 }\n"
                + "case short\nrun marks packet=hex:00\n",
            "k.bpftest"
        )
        let (code, report) = try workshop.run([workshop.path("k.bpftest")]) { $0.engine = .kernel }
        #expect(code == 1)
        #expect(report.contains("ok   marked"), "\(report)")
        #expect(report.contains("FAIL short") && report.contains("fewer than 14 bytes"), "\(report)")
    }

    @Test(arguments: [
        ("mock fib_lookup returns 0 writes 9 = hex:00", "a helper has arguments 1 to 5"),
        ("ctx = 5", "expected '=='"),
        ("section lookup", "expected '='"),
    ])
    func whatIsWrongIsTold(_ line: String, _ says: String) throws {
        switch Parser.parse("object x.bpf.c\ncase a\n\(line)\n", path: "x.bpftest") {
        case .success: Issue.record("accepted")
        case .failure(let errors): #expect("\(errors.all)".contains(says), "\(errors.all)")
        }
    }

    @Test(arguments: [
        ("run marks packet=hex:000102030405060708090a0b0c0d0e0f\n  ctx == { mark: 16 }", "mark: 17"),
        ("run sends()\n  ctx == { mark: 16 }", "no xdp_md or __sk_buff"),
        ("section marks = nonsense\n  run sends()", "no kind of program has a section 'nonsense'"),
        ("run sends()\n  event events as none.h:sent == none", "no header"),
        ("run sends()\n  event events as sent.h:other == none", "other"),
    ])
    func whatIsNotSoIsTold(_ lines: String, _ says: String) throws {
        let (code, report) = try run("case a\n  \(lines)\n")
        #expect(code == 1)
        #expect(report.contains(says), "\(report)")
    }
}
