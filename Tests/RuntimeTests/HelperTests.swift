import CRuntime
import Foundation
import ISA
import Testing

@testable import Runtime

/// Helpers as programs call them: numbers, pointers into the BPF stack, handles.
@Suite struct HelperTests {
    private func fixture(logs: Bool = false) throws -> MapFixture {
        try MapFixture(
            [
                hashMap(entries: 4),
                MapParameters(name: "s", type: .stackTrace, keySize: 4, valueSize: 127 * 8, maxEntries: 64),
                MapParameters(name: "r", type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: 4096),
            ],
            logs: logs
        )
    }

    @Test func mapsThroughHelpers() throws {
        try fixture().context { context in
            let key = context.pointee.stack_low
            let value = key + 8
            let handle = MapHandle.make(0)
            let memory = try #require(UnsafeMutablePointer<UInt64>(bitPattern: UInt(key)))
            memory[0] = 77
            memory[1] = 5
            #expect(callHelper(context, 1, handle, key, 0, 0, 0) == 0)
            #expect(callHelper(context, 2, handle, key, value, 0, 0) == 0)
            let found = callHelper(context, 1, handle, key, 0, 0, 0)
            #expect(found >= context.pointee.guest_low && found < context.pointee.guest_high)
            #expect(UnsafePointer<UInt64>(bitPattern: UInt(found))?.pointee == 5)
            #expect(Int64(bitPattern: callHelper(context, 2, handle, key, value, 1, 0)) == Errno.exists)
            #expect(callHelper(context, 3, handle, key, 0, 0, 0) == 0)
            #expect(Int64(bitPattern: callHelper(context, 3, handle, key, 0, 0, 0)) == Errno.noEntry)
            #expect(context.pointee.trap.kind == 0)
        }
    }

    /// What a program may not do stops it.
    @Test(
        arguments: [
            (1 as UInt32, [0x1234, 0]), (1, [MapHandle.make(9), 0]), (1, [MapHandle.make(0), 0x1000]),
            (1, [MapHandle.make(2), 0]), (4, [0x1000, 8, 0]), (16, [0x1000, 16]), (27, [0, MapHandle.make(0), 256]),
            (131, [MapHandle.make(0), 8, 0]), (132, [0x1000, 0]), (6, [0x1000, 4]),
        ] as [(UInt32, [UInt64])]
    )
    func misuseTraps(_ helper: UInt32, _ arguments: [UInt64]) throws {
        try fixture().context { context in
            let words = arguments + [UInt64](repeating: 0, count: 5 - arguments.count)
            // A second argument of 0 that stands for a key is a good address, so that only the first is wrong.
            let second = helper == 1 && words[1] == 0 ? context.pointee.stack_low : words[1]
            _ = callHelper(context, helper, words[0], second, words[2], words[3], words[4])
            #expect(context.pointee.trap.kind != 0)
        }
    }

    @Test func probeReads() throws {
        try fixture().context { context in
            let destination = context.pointee.stack_low
            let memory = try #require(UnsafeMutablePointer<UInt8>(bitPattern: UInt(destination)))
            var text = Array("hello\0more".utf8)
            let source = text.withUnsafeMutableBytes { UInt64(UInt(bitPattern: $0.baseAddress)) }
            #expect(callHelper(context, 112, destination, 5, source, 0, 0) == 0)
            #expect((0..<5).map { memory[$0] } == Array("hello".utf8))
            #expect(callHelper(context, 114, destination, 64, source, 0, 0) == 6)
            #expect(callHelper(context, 114, destination, 3, source, 0, 0) == 3)
            #expect(memory[2] == 0)
            // Bad addresses: -EFAULT and zeroes, no signal.
            for bad in [0, 0x10, 0xffff_8000_0000_0000, 0x7fff_ffff_f000] as [UInt64] {
                for index in 0..<16 { memory[index] = 0xee }
                for helper in [4, 112, 113, 45, 114, 115] as [UInt32] {
                    #expect(Int64(bitPattern: callHelper(context, helper, destination, 16, bad, 0, 0)) == -14)
                }
                #expect((0..<16).allSatisfy { memory[$0] == 0 })
            }
            #expect(context.pointee.trap.kind == 0)
            withExtendedLifetime(text) {}
        }
    }

    @Test func aStringThatEndsAtAnUnmappedPage() throws {
        let page = try #require(mmap(nil, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
        defer { munmap(page, 8192) }
        mprotect(page + 4096, 4096, PROT_NONE)
        memcpy(page + 4090, "ends!", 6)
        try fixture().context { context in
            let source = UInt64(UInt(bitPattern: page + 4090))
            #expect(callHelper(context, 114, context.pointee.stack_low, 256, source, 0, 0) == 6)
            #expect(Int64(bitPattern: callHelper(context, 112, context.pointee.stack_low, 16, source, 0, 0)) == -14)
        }
    }

    @Test func identity() throws {
        try fixture().context { context in
            context.pointee.uid_gid = UInt64(getgid()) << 32 | UInt64(getuid())
            #expect(callHelper(context, 14, 0, 0, 0, 0, 0) >> 32 == UInt64(getpid()))
            #expect(callHelper(context, 15, 0, 0, 0, 0, 0) == UInt64(getgid()) << 32 | UInt64(getuid()))
            let before = callHelper(context, 5, 0, 0, 0, 0, 0)
            #expect(callHelper(context, 5, 0, 0, 0, 0, 0) >= before)
            let comm = context.pointee.stack_low
            #expect(callHelper(context, 16, comm, 16, 0, 0, 0) == 0)
            let memory = try #require(UnsafePointer<CChar>(bitPattern: UInt(comm)))
            #expect(!String(cString: memory).isEmpty)
            let numbers = Set((0..<100).map { _ in callHelper(context, 7, 0, 0, 0, 0, 0) })
            #expect(numbers.count > 95)
            #expect(numbers.allSatisfy { $0 < 1 << 32 })
        }
    }

    @Test(
        arguments: [
            ("n=%d", [UInt64(bitPattern: -5)], "n=-5"), ("%u %x", [42, 255], "42 ff"), ("%ld|%lx", [7, 16], "7|10"),
            ("%llu%%", [UInt64.max], "18446744073709551615%"), ("%c%c", [65, 66], "AB"), ("plain", [], "plain"),
        ] as [(String, [UInt64], String)]
    )
    func printing(_ format: String, _ arguments: [UInt64], _ expected: String) throws {
        let fixture = try fixture(logs: true)
        try fixture.context { context in
            let address = context.pointee.stack_low
            let memory = try #require(UnsafeMutablePointer<UInt8>(bitPattern: UInt(address)))
            for (index, byte) in (Array(format.utf8) + [0]).enumerated() { memory[index] = byte }
            let words = arguments + [0, 0, 0]
            let status = callHelper(context, 6, address, UInt64(format.utf8.count + 1), words[0], words[1], words[2])
            #expect(Int64(bitPattern: status) == Int64(expected.utf8.count))
            var consumer = RingConsumer(fixture.map(3))
            let next = consumer.next()
            let record = try #require(next)
            #expect(String(decoding: record[LogRecord.headerSize...], as: UTF8.self) == expected)
        }
    }

    /// `bpf_snprintf` into every size of buffer, and `bpf_trace_vprintk`, with an array of arguments.
    @Test(
        arguments: [
            (
                "%d %u %x %llx %c|%5d|%05d", [UInt64(bitPattern: -1), 7, 255, UInt64.max, 65, 42, 42],
                "-1 7 ff ffffffffffffffff A|   42|00042"
            ),
            ("no arguments", [], "no arguments"), ("%%", [], "%"), ("extra %d", [1, 2, 3], "extra 1"), ("", [], ""),
        ] as [(String, [UInt64], String)]
    )
    func printingOfLists(_ format: String, _ arguments: [UInt64], _ expected: String) throws {
        let fixture = try fixture(logs: true)
        try fixture.context { context in
            let base = context.pointee.stack_low
            let memory = try #require(UnsafeMutablePointer<UInt8>(bitPattern: UInt(base)))
            let words = try #require(UnsafeMutablePointer<UInt64>(bitPattern: UInt(base + 128)))
            for (index, byte) in (Array(format.utf8) + [0]).enumerated() { memory[index] = byte }
            for (index, word) in arguments.enumerated() { words[index] = word }
            let bytes = UInt64(arguments.count * 8)
            let list = arguments.isEmpty ? 0 : base + 128
            for size in [0, 1, 2, expected.utf8.count, expected.utf8.count + 1, 64] {
                for index in 0..<96 { memory[256 + index] = 0xee }
                let status = callHelper(context, 165, base + 256, UInt64(size), base, list, bytes)
                #expect(Int64(bitPattern: status) == Int64(expected.utf8.count + 1))
                let written = (0..<96).map { memory[256 + $0] }.prefix { $0 != 0xee }
                #expect(Array(written) == (size == 0 ? [] : Array(expected.utf8.prefix(size - 1)) + [0]))
            }
            let status = callHelper(context, 177, base, UInt64(format.utf8.count + 1), list, bytes, 0)
            #expect(Int64(bitPattern: status) == Int64(expected.utf8.count))
            var consumer = RingConsumer(fixture.map(3))
            let next = consumer.next()
            #expect(String(decoding: try #require(next)[LogRecord.headerSize...], as: UTF8.self) == expected)
            #expect(context.pointee.trap.kind == 0)
        }
    }

    @Test func listsThatMakeNoSense() throws {
        try fixture(logs: true).context { context in
            let base = context.pointee.stack_low
            let memory = try #require(UnsafeMutablePointer<UInt8>(bitPattern: UInt(base)))
            for (index, byte) in Array("%d\0".utf8).enumerated() { memory[index] = byte }
            let sizes: [(UInt64, UInt64)] = [(base + 128, 0), (0, 8), (base + 128, 7), (base + 128, 104)]
            for (list, size) in sizes {
                #expect(Int64(bitPattern: callHelper(context, 165, base + 256, 8, base, list, size)) == Errno.invalid)
                #expect(Int64(bitPattern: callHelper(context, 177, base, 3, list, size, 0)) == Errno.invalid)
            }
            #expect(context.pointee.trap.kind == 0)
        }
    }

    /// What is at an address: IPv4 addresses and strings with the kernel's names for them.
    @Test func printingOfMemory() throws {
        let fixture = try fixture(logs: true)
        try fixture.context { context in
            let base = context.pointee.stack_low
            let memory = try #require(UnsafeMutablePointer<UInt8>(bitPattern: UInt(base)))
            let words = try #require(UnsafeMutablePointer<UInt64>(bitPattern: UInt(base + 128)))
            for (index, byte) in Array("%pI4 %pi4 %s %pks %pus %px %pI4\0".utf8).enumerated() { memory[index] = byte }
            for (index, byte) in ([10, 0, 200, 1] + Array("name\0".utf8)).enumerated() { memory[64 + index] = byte }
            for (index, word) in [base + 64, base + 64, base + 68, base + 68, base + 68, 0xabc, 16].enumerated() {
                words[index] = word
            }
            let length = callHelper(context, 165, base + 256, 200, base, base + 128, 56)
            let text = (0..<Int(length) - 1).map { memory[256 + $0] }
            let expected = "10.0.200.1 010.000.200.001 name name name 0000000000000abc (efault)"
            #expect(String(decoding: text, as: UTF8.self) == expected)
        }
    }

    @Test func placesOfTheProcess() throws {
        try fixture().context { context in
            let base = context.pointee.stack_low
            let words = try #require(UnsafeMutablePointer<UInt32>(bitPattern: UInt(base)))
            var status = stat()
            try #require(stat("/proc/self/ns/pid", &status) == 0)
            let (device, inode) = (UInt64(status.st_dev), UInt64(status.st_ino))
            #expect(callHelper(context, 120, device, inode, base, 8, 0) == 0)
            #expect(words[1] == UInt32(getpid()) && words[0] != 0)
            for (device, inode, size) in [(device, inode + 1, 8), (device + 1, inode, 8), (device, inode, 4)]
                as [(UInt64, UInt64, UInt64)]
            {
                words[0] = 9
                #expect(Int64(bitPattern: callHelper(context, 120, device, inode, base, size, 0)) == Errno.invalid)
                #expect(words[0] == 0)
            }
            var node: UInt32 = 99
            #expect(
                cruntime_syscall(309, 0, Int64(Int(bitPattern: withUnsafeMutablePointer(to: &node) { $0 })), 0, 0, 0, 0)
                    == 0
            )
            #expect(callHelper(context, 42, 0, 0, 0, 0, 0) == UInt64(node))
            let jiffies = callHelper(context, 118, 0, 0, 0, 0, 0)
            let now = callHelper(context, 5, 0, 0, 0, 0, 0) / 4_000_000
            #expect(now >= jiffies && now - jiffies < 250)
        }
    }

    @Test func badFormats() throws {
        try fixture(logs: true).context { context in
            let address = context.pointee.stack_low
            let memory = try #require(UnsafeMutablePointer<UInt8>(bitPattern: UInt(address)))
            for format in ["%", "%q", "%5", "%ll"] {
                for (index, byte) in (Array(format.utf8) + [0]).enumerated() { memory[index] = byte }
                let status = callHelper(context, 6, address, UInt64(format.utf8.count + 1), 0, 0, 0)
                #expect(Int64(bitPattern: status) == Errno.invalid, "\(format)")
            }
            #expect(context.pointee.trap.kind == 0)
        }
    }

    @Test func ringReservationsOfARun() throws {
        let fixture = try fixture()
        fixture.context { context in
            let ring = MapHandle.make(2)
            let record = callHelper(context, 131, ring, 16, 0, 0, 0)
            #expect(record != 0)
            _ = callHelper(context, 132, record, 0, 0, 0, 0)
            var consumer = RingConsumer(fixture.map(2))
            #expect(consumer.next()?.count == 16)
            // A program that ends without submitting leaves nothing that blocks the ring.
            #expect(callHelper(context, 131, ring, 16, 0, 0, 0) != 0)
            endRun(context)
            #expect(consumer.next() == nil)
            let after = callHelper(context, 131, ring, 24, 0, 0, 0)
            _ = callHelper(context, 132, after, 0, 0, 0, 0)
            #expect(consumer.next()?.count == 24)
            // Giving back what was not reserved is a misuse.
            _ = callHelper(context, 132, after, 0, 0, 0, 0)
            #expect(context.pointee.trap.kind != 0)
        }
    }

    @Test func stackIds() throws {
        try fixture().context { context in
            var regs = cruntime_regs()
            regs.rip = 0x1234
            withUnsafeMutablePointer(to: &regs) { pointer in
                context.pointee.regs = pointer
                context.pointee.function_ip = 0x1234
                let map = MapHandle.make(1)
                let id = callHelper(context, 27, 0, map, 256, 0, 0)
                #expect(id < 64)
                #expect(callHelper(context, 27, 0, map, 256, 0, 0) == id)
                // A kernel stack was asked for.
                #expect(Int64(bitPattern: callHelper(context, 27, 0, map, 0, 0, 0)) == -14)
                #expect(Int64(bitPattern: callHelper(context, 27, 0, map, 1 << 20, 0, 0)) == Errno.invalid)
            }
        }
    }
}
