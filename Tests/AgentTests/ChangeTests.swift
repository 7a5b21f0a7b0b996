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

    @Test func allPlacesChange() throws {
        let code = try page()
        defer { cpatch_release(code, 4096) }
        let changes = [
            change(address(code), [0xb8, 1, 0, 0, 0], [0xb8, 7, 0, 0, 0]),
            change(address(code) + 64, [0xb8, 2, 0, 0, 0], [0xb8, 8, 0, 0, 0]),
        ]
        var failed: UInt32 = 0
        #expect(cpatch_change_code(changes, 2, 1, &failed) == 0)
        #expect(unsafeBitCast(code, to: Function.self)() == 7)
        #expect(unsafeBitCast(code + 64, to: Function.self)() == 8)
        #expect(cpatch_trapping_sites() == 0)
        #expect(cpatch_release_traps(5000) == 0)
    }

    @Test func otherBytesAreLeftAlone() throws {
        let code = try page()
        defer { cpatch_release(code, 4096) }
        let good = change(address(code), [0xb8, 1, 0, 0, 0], [0xb8, 7, 0, 0, 0])
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
            #expect(cpatch_change_code([good, other], 2, 1, &failed) == expected)
            #expect(failed == 1)
            #expect(unsafeBitCast(code, to: Function.self)() == 1)
        }
        // More than a byte while others may run.
        var failed: UInt32 = 9
        #expect(cpatch_change_code([good], 1, 0, &failed) == -EINVAL)
        #expect(unsafeBitCast(code, to: Function.self)() == 1)
    }

    /// A place that cannot be written, found out in the middle: the others are put back.
    @Test func aFailureInTheMiddleIsUndone() throws {
        let code = try page()
        defer { cpatch_release(code, 4096) }
        let shared = try unwritable()
        defer { munmap(shared, 4096) }
        let changes = [
            change(address(code), [0xb8, 1, 0, 0, 0], [0xb8, 7, 0, 0, 0]),
            change(UInt64(UInt(bitPattern: shared)), [0x90], [0xcc]),
        ]
        var failed: UInt32 = 9
        #expect(cpatch_change_code(changes, 2, 1, &failed) == -EACCES)
        #expect(failed == 1)
        #expect(unsafeBitCast(code, to: Function.self)() == 1)
        #expect(cpatch_release_traps(5000) == 0)
    }

    @Test func aBreakpointLeadsToItsEntry() throws {
        let code = try page()
        defer { cpatch_release(code, 4096) }
        var before = sigaction()
        sigaction(SIGTRAP, nil, &before)
        var failed: UInt32 = 0
        let install = change(address(code), [0xb8], [0xcc], entry: address(code) + 64)
        #expect(cpatch_change_code([install], 1, 0, &failed) == 0)
        #expect(cpatch_trapping_sites() == 1)
        #expect(cpatch_release_traps(0) == -EBUSY)
        #expect(unsafeBitCast(code, to: Function.self)() == 2)
        // The program's own handler on top of ours: the next breakpoint puts ours back over it.
        var own = sigaction()
        own.__sigaction_handler.sa_handler = { _ in }
        sigaction(SIGTRAP, &own, nil)
        let another = change(address(code) + 64, [0xb8], [0xcc], entry: address(code) + 64)
        let back = change(address(code) + 64, [0xcc], [0xb8], entry: address(code) + 64)
        #expect(cpatch_change_code([another], 1, 0, &failed) == 0)
        #expect(cpatch_change_code([back], 1, 0, &failed) == 0)
        #expect(unsafeBitCast(code, to: Function.self)() == 2)
        let remove = change(address(code), [0xcc], [0xb8], entry: address(code))
        #expect(cpatch_change_code([remove], 1, 0, &failed) == 0)
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
        #expect(cpatch_change_code([install], 1, 0, &failed) == 0)
        let remove = change(address(code), [0xcc], [0xb8], entry: address(code))
        let shared = try unwritable()
        defer { munmap(shared, 4096) }
        let bad = change(UInt64(UInt(bitPattern: shared)), [0x90], [0xcc])
        #expect(cpatch_change_code([remove, bad], 2, 0, &failed) == -EACCES)
        #expect(unsafeBitCast(code, to: Function.self)() == 2)
        #expect(cpatch_trapping_sites() == 1)
        #expect(cpatch_change_code([remove], 1, 0, &failed) == 0)
        #expect(unsafeBitCast(code, to: Function.self)() == 1)
        #expect(cpatch_release_traps(5000) == 0)
    }
}
