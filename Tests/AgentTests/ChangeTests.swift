import CPatch
import CRuntime
import Foundation
import Testing

/// `cpatch_change_code` in this process: what it refuses, what it leaves, what a trap leads to.
@Suite(.serialized) struct ChangeTests {
    private typealias Function = @convention(c) () -> Int32

    /// A page of code: `mov $value, %eax; ret` at 0 and at 64.
    private func page() throws -> UnsafeMutablePointer<UInt8> {
        let page = try #require(cpatch_allocate(4096, 0))
        for (start, value) in [(0, UInt8(1)), (64, 2)] {
            for (index, byte) in [0xb8, value, 0, 0, 0, 0xc3].enumerated() { page[start + index] = byte }
        }
        try #require(cpatch_protect(page, 4096, 1) == 0)
        return page
    }

    /// A page of nops that nothing can force a write into: a shared mapping of a file that was open for reading.
    private func unwritable() throws -> UnsafeMutableRawPointer {
        let path = NSTemporaryDirectory() + "/ubpf-" + UUID().uuidString
        try Data([UInt8](repeating: 0x90, count: 4096)).write(to: URL(fileURLWithPath: path))
        defer { unlink(path) }
        let file = open(path, O_RDONLY)
        defer { close(file) }
        return try #require(mmap(nil, 4096, PROT_READ, MAP_SHARED, file, 0))
    }

    private func address(_ page: UnsafeMutablePointer<UInt8>) -> UInt64 { UInt64(UInt(bitPattern: page)) }

    /// `mov $from, %eax` to `mov $to, %eax` where the code says so.
    private func change(_ address: UInt64, _ from: [UInt8], _ to: [UInt8], entry: UInt64 = 0) -> cpatch_change {
        var change = cpatch_change()
        change.address = address
        change.entry = entry
        change.size = UInt32(to.count)
        withUnsafeMutableBytes(of: &change.from) { $0.copyBytes(from: from) }
        withUnsafeMutableBytes(of: &change.to) { $0.copyBytes(from: to) }
        return change
    }

    @Test(arguments: [UInt32(1), 2]) func allPlacesChange(_ threads: UInt32) throws {
        let code = try page()
        defer { cpatch_release(code, 4096) }
        let changes = [
            change(address(code), [0xb8, 1, 0, 0, 0], [0xb8, 7, 0, 0, 0], entry: address(code)),
            change(address(code) + 64, [0xb8, 2, 0, 0, 0], [0xb8, 8, 0, 0, 0], entry: address(code)),
        ]
        var failed: UInt32 = 0
        #expect(cpatch_change_code(changes, 2, threads, &failed) == 0)
        #expect(unsafeBitCast(code, to: Function.self)() == 7)
        #expect(unsafeBitCast(code + 64, to: Function.self)() == 8)
        #expect(cpatch_trapping_sites() == 0)
        #expect(cpatch_release_traps(5000) == 0)
    }

    @Test func otherBytesAreLeftAlone() throws {
        let code = try page()
        defer { cpatch_release(code, 4096) }
        let good = change(address(code), [0xb8, 1, 0, 0, 0], [0xb8, 7, 0, 0, 0], entry: address(code))
        var breakpoint: UInt8 = 0xcc
        #expect(cpatch_write_code(address(code) + 128, &breakpoint, 1) == 0)
        let bad: [(cpatch_change, Int32)] = [
            (change(address(code) + 64, [0xb8, 9, 0, 0, 0], [0xb8, 8, 0, 0, 0]), -ESTALE),
            (change(address(code) + 128, [0x90], [0xcc]), -EBUSY),
            (change(address(code) + 64, [0xb8, 2, 0], [0xb8, 3, 0]), -EINVAL),
            (change(8, [0xb8], [0xcc]), -ESTALE),
        ]
        for (other, expected) in bad {
            var failed: UInt32 = 9
            #expect(cpatch_change_code([good, other], 2, 2, &failed) == expected)
            #expect(failed == 1)
            #expect(unsafeBitCast(code, to: Function.self)() == 1)
        }
        // An instruction inside needs a trap there, before or after, when other threads run.
        var inside = change(address(code) + 64, [0xb8, 2, 0, 0, 0], [0xe9, 2, 0, 0, 0], entry: address(code))
        inside.boundary_count = 1
        inside.boundary.0 = cpatch_boundary(copy: address(code), offset: 2, reserved: 0)
        var failed: UInt32 = 9
        #expect(cpatch_change_code([inside], 1, 2, &failed) == -EINVAL)
        inside.to.2 = 0x06
        inside.boundary.0.offset = 5
        #expect(cpatch_change_code([inside], 1, 2, &failed) == -EINVAL)
    }

    /// A place that cannot be written, found out in the middle: the others are put back.
    @Test func aFailureInTheMiddleIsUndone() throws {
        let code = try page()
        defer { cpatch_release(code, 4096) }
        let shared = try unwritable()
        defer { munmap(shared, 4096) }
        let changes = [
            change(address(code), [0xb8, 1, 0, 0, 0], [0xb8, 7, 0, 0, 0], entry: address(code)),
            change(UInt64(UInt(bitPattern: shared)), [0x90], [0xcc]),
        ]
        for threads in [UInt32(1), 2] {
            var failed: UInt32 = 9
            #expect(cpatch_change_code(changes, 2, threads, &failed) == -EACCES)
            #expect(failed == 1)
            #expect(unsafeBitCast(code, to: Function.self)() == 1)
        }
        #expect(cpatch_release_traps(5000) == 0)
    }

    @Test func aBreakpointLeadsToItsEntry() throws {
        let code = try page()
        defer { cpatch_release(code, 4096) }
        var before = sigaction()
        sigaction(SIGTRAP, nil, &before)
        var failed: UInt32 = 0
        let install = change(address(code), [0xb8], [0xcc], entry: address(code) + 64)
        #expect(cpatch_change_code([install], 1, 2, &failed) == 0)
        #expect(cpatch_trapping_sites() == 1)
        #expect(cpatch_release_traps(0) == -EBUSY)
        #expect(unsafeBitCast(code, to: Function.self)() == 2)
        // The program's own handler on top of ours: ours is put back over it, and taken away from there.
        var own = sigaction()
        own.__sigaction_handler.sa_handler = { _ in }
        sigaction(SIGTRAP, &own, nil)
        #expect(cpatch_keep_traps() == 0)
        #expect(unsafeBitCast(code, to: Function.self)() == 2)
        let remove = change(address(code), [0xcc], [0xb8], entry: address(code))
        #expect(cpatch_change_code([remove], 1, 2, &failed) == 0)
        #expect(unsafeBitCast(code, to: Function.self)() == 1)
        #expect(cpatch_release_traps(5000) == 0)
        var after = sigaction()
        sigaction(SIGTRAP, &before, &after)
        #expect(after.__sigaction_handler.sa_handler != nil)
    }

    /// A breakpoint that could not be taken back leads where it did.
    @Test func aFailedRemovalLeavesTheEntry() throws {
        let code = try page()
        defer { cpatch_release(code, 4096) }
        var failed: UInt32 = 0
        let install = change(address(code), [0xb8], [0xcc], entry: address(code) + 64)
        #expect(cpatch_change_code([install], 1, 2, &failed) == 0)
        let remove = change(address(code), [0xcc], [0xb8], entry: address(code))
        let shared = try unwritable()
        defer { munmap(shared, 4096) }
        let bad = change(UInt64(UInt(bitPattern: shared)), [0x90], [0xcc])
        #expect(cpatch_change_code([remove, bad], 2, 2, &failed) == -EACCES)
        #expect(unsafeBitCast(code, to: Function.self)() == 2)
        #expect(cpatch_trapping_sites() == 1)
        #expect(cpatch_change_code([remove], 1, 2, &failed) == 0)
        #expect(unsafeBitCast(code, to: Function.self)() == 1)
        #expect(cpatch_release_traps(5000) == 0)
    }

    @Test func threadsThatBlockSignalsAreListed() throws {
        var none = sigset_t()
        sigemptyset(&none)
        let before = cpatch_threads_that_block(1 << UInt64(SIGTRAP - 1), nil, 0)
        try #require(before >= 0)
        let (started, end) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        nonisolated(unsafe) var tid: Int32 = 0
        let thread = Thread {
            var all = sigset_t()
            sigfillset(&all)
            pthread_sigmask(SIG_BLOCK, &all, nil)
            tid = Int32(cruntime_tid())
            started.signal()
            end.wait()
        }
        thread.start()
        started.wait()
        var tids = [Int32](repeating: 0, count: 1024)
        let found = cpatch_threads_that_block(1 << UInt64(SIGTRAP - 1), &tids, UInt32(tids.count))
        #expect(found >= 1)
        #expect(tids.prefix(Int(found)).contains(tid))
        // SIGKILL cannot be blocked.
        #expect(cpatch_threads_that_block(1 << UInt64(SIGKILL - 1), nil, 0) == 0)
        end.signal()
    }
}
