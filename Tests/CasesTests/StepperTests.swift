import Controller
import Foundation
import Testing

@testable import Cases

/// `ubpfrun step` on the guide's example.
@Suite struct StepperTests {
    private let workshop: Workshop

    init() throws {
        workshop = try Workshop()
        for block in CookbookTests.blocks { try workshop.write(block.text, block.name) }
    }

    private func timeline(_ file: String, _ words: String...) throws -> Timeline {
        try StepSession.timeline(workshop.path(file), words, Installation(binaries: workshop.path("bin")))
    }

    /// What each of the commands shows.
    private func talk(_ timeline: Timeline, _ commands: String...) -> [String?] {
        var stepper = Stepper(timeline)
        return [stepper.start] + commands.map { stepper.perform($0) }
    }

    @Test func aLineAndBack() throws {
        let shown = talk(try timeline("opens.bpftest", "second open"), "s", "s", "back", "b", "b", "")
        #expect(shown[0]?.hasPrefix("line 13: run on_open(0x1000)\nopens.bpf.c:27  int BPF_UPROBE(on_open") == true)
        #expect(shown[1]?.contains("opens.bpf.c:29  __u32 pid = bpf_get_current_pid_tgid() >> 32;") == true)
        #expect(shown[1]?.contains("-> get_current_pid_tgid() = ") == true)
        #expect(shown[2]?.hasPrefix("opens.bpf.c:30  ") == true)
        #expect(shown[3] == shown[1])
        #expect(shown[4] == shown[0]?.split(separator: "\n").dropFirst().joined(separator: "\n"))
        #expect(shown[5] == "this is the start\n" + (shown[0] ?? ""))
        #expect(shown[6] == shown[5])
    }

    @Test func instructionsAndRegisters() throws {
        let shown = talk(try timeline("opens.bpftest", "second open"), "i", "bi", "r")
        #expect(shown[1]?.contains("  on_open 1: call bpf_get_current_pid_tgid#14") == true)
        #expect(
            shown[2] == "opens.bpf.c:27  int BPF_UPROBE(on_open, const char *path)\n  on_open 0: r6 = *(u64 *)(r1 +112)"
        )
        let registers = shown[3]?.split(separator: "\n") ?? []
        #expect(registers.count == 11)
        #expect(registers[1] == "r1  ctx +0")
        #expect(registers[10] == "r10 fp")
    }

    @Test func whatChangesAMap() throws {
        let timeline = try timeline("opens.bpftest", "second open")
        let shown = talk(timeline, "br map calls", "c", "m", "c", "m", "r", "c", "m", "rc", "d map calls", "br")
        #expect(shown[1] == "map calls: 2 in this case")
        #expect(shown[2]?.contains("-> map_update_elem(calls) = 0") == true)
        #expect(shown[3] == "all maps are empty or zero")
        // The second run adds through the pointer that the lookup gave.
        #expect(shown[4]?.hasPrefix("line 14: run on_open(0x1000)\n") == true)
        #expect(shown[4]?.contains("atomic64_fetch_add((u64 *)(r0 +0)") == true)
        #expect(shown[5] == "calls[42] = 1")
        #expect(shown[6]?.contains("value of calls +0") == true)
        #expect(shown[7] == "  returns 0")
        #expect(shown[8] == "calls[42] = 2")
        #expect(shown[9] == shown[4]?.split(separator: "\n").dropFirst().joined(separator: "\n"))
        #expect(shown[10] == "1 deleted")
        #expect(shown[11] == "no breakpoints")
    }

    @Test func linesAndHelpers() throws {
        let shown = talk(
            try timeline("opens.bpftest", "a full ring"),
            "br 38",
            "br call bpf_ringbuf_reserve",
            "c",
            "c",
            "w",
            "l",
            "c",
            "c"
        )
        #expect(shown[1] == "line 38: 1 in this case")
        #expect(shown[2] == "call ringbuf_reserve: 1 in this case")
        #expect(shown[3]?.contains("-> ringbuf_reserve(events) = 0 (injected)") == true)
        #expect(shown[4]?.hasPrefix("opens.bpf.c:38  if (!event)") == true)
        #expect(shown[5]?.hasPrefix("> line ") == true && shown[5]?.hasSuffix("instructions, returns 2") == true)
        #expect(shown[6]?.contains("\n> 38  \tif (!event)") == true)
        #expect(shown[7] == "  returns 2")
        #expect(shown[8] == "this is the end of the case")
    }

    @Test func aCallOfAnObject() throws {
        let shown = talk(try timeline("opens.bpf.c", "on_open", "0x1000"), "c")
        #expect(shown[1] == "  returns 3")
    }

    /// What is kept of a long run ends in its middle: nothing after that is shown as if it were before.
    @Test func theRestOfALongRunIsNotThere() throws {
        try workshop.write(
            """
            #include "vmlinux.h"
            #include <bpf/bpf_helpers.h>
            #include <bpf/bpf_tracing.h>
            char LICENSE[] SEC("license") = "GPL";
            struct {
            	__uint(type, BPF_MAP_TYPE_HASH);
            	__uint(max_entries, 4);
            	__type(key, __u64);
            	__type(value, __u64);
            } ends SEC(".maps");
            volatile __u64 hits;
            SEC("uprobe") int BPF_UPROBE(spin, __u64 turns)
            {
            	__u64 one = 1;
            	for (__u64 turn = 0; turn < turns; turn++)
            		hits++;
            	bpf_map_update_elem(&ends, &one, &one, 0);
            	return 5;
            }
            """,
            "spin.bpf.c"
        )
        let long = try timeline("spin.bpf.c", "spin", "100000")
        let trace = long.runs[0].trace
        #expect(!trace.isComplete && trace.points.count == 200_000)
        let shown = talk(long, "br map ends", "br call map_update_elem", "br 16", "w", "d", "c", "m", "b", "m")
        #expect(shown[1] == "map ends: 0 in this case")
        #expect(shown[2] == "call map_update_elem: 0 in this case")
        #expect(shown[3]?.hasPrefix("line 16: ") == true && shown[3]?.hasPrefix("line 16: 0 ") == false)
        #expect(shown[4]?.contains("200000 instructions, (the run goes on; 200000 instructions are kept)") == true)
        #expect(shown[6]?.contains("the run goes on") == true)
        // Before the next addition, then before the one that is kept last.
        let kept = try #require(Int(shown[7]?.dropFirst("hits = ".count) ?? ""), "\(shown)")
        #expect(shown[7]?.hasPrefix("hits = ") == true && kept == 39_999, "\(shown)")
        let whole = try timeline("spin.bpf.c", "spin", "10")
        #expect(whole.runs[0].trace.isComplete)
        #expect(talk(whole, "br map ends")[1] == "map ends: 1 in this case")
    }

    @Test func aTrapEndsTheRun() throws {
        try workshop.write(
            """
            #include "vmlinux.h"
            #include <bpf/bpf_helpers.h>
            char LICENSE[] SEC("license") = "GPL";
            SEC("uprobe") int wild(struct pt_regs *ctx)
            {
            	return *(int *)ctx->di;
            }
            """,
            "wild.bpf.c"
        )
        let shown = talk(try timeline("wild.bpf.c", "wild", "0x1000"), "c")
        #expect(shown[1]?.contains("wild.bpf.c:6") == true, "\(shown)")
    }

    @Test func expectationsAreShownAtTheEnd() throws {
        try workshop.write("object opens.bpf.c\ncase wrong\nrun on_open(0)\nreturns 7\n", "wrong.bpftest")
        let shown = talk(try timeline("wrong.bpftest", "wrong"), "c", "c")
        #expect(shown[2]?.contains("wrong.bpftest:4: returns 7\n  found 3") == true)
    }

    @Test func whatIsNoCommand() throws {
        let shown = talk(try timeline("opens.bpftest", "second open"), "zz", "br x y", "h", "q")
        #expect(shown[1] == "no command 'zz'; help lists them")
        #expect(shown[2]?.hasPrefix("break LINE") == true)
        for word in StepWord.allCases { #expect(shown[3]?.contains("\(word.rawValue): \(word.meaning)") == true) }
        #expect(shown[4] == .some(nil))
        #expect(Set(StepWord.allCases.map(\.short)).count == StepWord.allCases.count)
    }

    @Test(arguments: [
        (["opens.bpftest", "full"], "'full' is in the names of 2 cases"),
        (["opens.bpftest", "nothing like it"], "no case has 'nothing like it' in its name"),
        (["opens.bpf.c", "on_opn", "1"], "no program on_opn; there are: on_open"),
        (["opens.bpf.c", "on_open", "0xzz"], "expected an argument, found '0xzz)'"),
        (["missing.bpftest", "x"], "no case file"),
        (["missing.bpf.o", "x"], "no file and no tool"),
    ])
    func whatCannotBeWalkedThrough(_ words: [String], _ says: String) throws {
        do {
            _ = try StepSession.timeline(
                workshop.path(words[0]),
                Array(words.dropFirst()),
                Installation(binaries: workshop.path("bin"))
            )
            Issue.record("it was accepted")
        } catch { #expect(error.what.contains(says), "\(error)") }
    }
}
