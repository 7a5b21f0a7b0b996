import CRuntime
import CSession
import EngineSupport
import Foundation
import ISA
import Runtime
import Testing
import UBPFVM

/// `bpf_get_current_task` and reads of fields of tasks, on every engine.
@Suite(EngineTrait(SessionEngine.allCases)) struct TaskProgramTests {
    /// As some kernel might have it.
    private static let layout = csession_task(
        pid: 1480,
        tgid: 1484,
        comm: 1976,
        real_parent: 1496,
        parent: 1504,
        group_leader: 1544,
        start_time: 1712,
        start_boottime: 1720,
        exit_code: 1316,
        unused: (0, 0, 0)
    )

    /// Follows pointers from the current task, then reads a number of `size` bytes.
    private func read(_ path: [UInt16], _ size: Int64, _ helper: Helper = .probeReadKernel) throws -> UInt64 {
        let fixture = try SessionFixture()
        fixture.task = Self.layout
        var text: [Statement] = [.call(.getCurrentTask), .mov64(.r6, .r0)]
        for (index, field) in path.enumerated() {
            text += [
                .store64(.r10, -8, 0), .mov64(.r1, .r10), .add64(.r1, -8),
                .mov64(.r2, index == path.count - 1 ? size : 8), .mov64(.r3, .r6), .add64(.r3, Int64(field)),
                .call(helper), .jumpNotEqual(.r0, 0, to: "end"), .load64(.r6, .r10, -8),
            ]
        }
        try fixture.add(text + [.mov64(.r0, .r6), .label("end"), .exit])
        _ = fixture.open()
        fixture.processID = UInt64(getpid())
        return try fixture.run()
    }

    @Test func numbers() throws {
        let tid = UInt64(cruntime_tid())
        #expect(try read([1480], 4) == tid)
        #expect(try read([1484], 4) == UInt64(getpid()))
        #expect(try read([1484], 4, .probeRead) == UInt64(getpid()))
        #expect(try read([1316], 4) == 0)
        #expect(try read([1544, 1480], 4) == UInt64(getpid()))
        #expect(try read([1496, 1484], 4) == UInt64(getppid()))
        #expect(try read([1504, 1480], 4) == UInt64(getppid()))
    }

    /// The parent's parent, as /proc says.
    @Test func ancestors() throws {
        let status = try String(contentsOfFile: "/proc/\(getppid())/stat", encoding: .utf8)
        let fields = status[status.index(after: try #require(status.lastIndex(of: ")")))...].split(separator: " ")
        #expect(try read([1496, 1496, 1480], 4) == UInt64(fields[1]))
        let ticks = try #require(UInt64(fields[19]))
        #expect(try read([1496, 1712], 8) == ticks * 10_000_000)
    }

    @Test func startTime() throws {
        let start = try read([1712], 8)
        #expect(start > 0 && start < cruntime_boottime_ns())
        #expect(try read([1720], 8) == start)
        // A thread starts after its process.
        #expect(try read([1544, 1712], 8) <= start)
    }

    /// Two fields at once, a part of none, outside, user reads.
    @Test func badReads() throws {
        let fault = UInt64(bitPattern: -14)
        #expect(try read([1480], 8) == fault)
        #expect(try read([1478], 4) == fault)
        #expect(try read([16], 8) == fault)
        #expect(try read([1496, 16], 8) == fault)
        #expect(try read([1480], 4, .probeReadUser) == fault)
        #expect(try read([1481], 1) == UInt64(cruntime_tid()) >> 8 & 0xff)
    }

    @Test func names() throws {
        for (helper, length) in [(Helper.probeReadKernel, 0 as UInt64), (.probeReadKernelStr, 8)] {
            let fixture = try SessionFixture()
            fixture.task = Self.layout
            try fixture.add([
                .call(.getCurrentTaskBtf), .store64(.r10, -16, -1), .store64(.r10, -8, -1), .mov64(.r1, .r10),
                .add64(.r1, -16), .mov64(.r2, 16), .mov64(.r3, .r0), .add64(.r3, 1976), .call(helper),
                .load64(.r1, .r10, -16), .mov64(.r2, .r0), .mov64(.r0, .r1), .jumpEqual(.r2, Int64(length), to: "end"),
                .mov64(.r0, .r2), .label("end"), .exit,
            ])
            var before = cruntime_comm()
            cruntime_get_comm(&before)
            // PR_SET_NAME
            _ = "seven77".withCString { cruntime_syscall(157, 15, Int64(Int(bitPattern: $0)), 0, 0, 0, 0) }
            defer {
                _ = withUnsafeBytes(of: &before) {
                    cruntime_syscall(157, 15, Int64(Int(bitPattern: $0.baseAddress)), 0, 0, 0, 0)
                }
            }
            #expect(try fixture.run() == 0x0037_376e_6576_6573)
        }
    }
}
