import CForkFixtures
import CPatch
import CRuntime
import CSession
import Foundation
import Testing

/// What the agent builds on, in this process: memory near code, writes to code, slots, thread states.
@Suite(.serialized) struct PatchPrimitivesTests {
    @Test func gapsAreFreeAndNear() throws {
        for symbol in ["malloc", "getpid"] {
            let address = UInt64(UInt(bitPattern: try #require(dlsym(dlopen(nil, RTLD_NOW), symbol))))
            let place = cpatch_find_gap(address, 8192)
            #expect(place != 0)
            #expect(place % 4096 == 0)
            #expect(max(place, address) - min(place, address) < 1 << 31)
            let memory = try #require(cpatch_allocate(8192, place))
            #expect(UInt64(UInt(bitPattern: memory)) == place)
            // What is taken now is not found again, and not overwritten.
            #expect(cpatch_allocate(8192, place) == nil)
            #expect(cpatch_find_gap(address, 8192) != place)
            cpatch_release(memory, 8192)
        }
    }

    @Test func codeIsWrittenWithoutChangingItsPage() throws {
        let page = try #require(cpatch_allocate(4096, 0))
        page[0] = 0xc3
        #expect(cpatch_protect(page, 4096, 1) == 0)
        let address = UInt64(UInt(bitPattern: page))
        let bytes: [UInt8] = [0xb8, 42, 0, 0, 0, 0xc3]  // mov $42, %eax; ret
        #expect(cpatch_write_code(address, bytes, UInt64(bytes.count)) == 0)
        let function = unsafeBitCast(page, to: (@convention(c) () -> Int32).self)
        #expect(function() == 42)
        #expect(permissions(at: address) == "r-xp")
        #expect(cpatch_write_code(8, bytes, 6) != 0)
        cpatch_release(page, 4096)
    }

    /// The permissions of the mapping around an address; Foundation does not read all of a file of /proc.
    private func permissions(at address: UInt64) -> String? {
        guard let file = fopen("/proc/self/maps", "r") else { return nil }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 4096)
        while fgets(&line, Int32(line.count), file) != nil {
            let fields = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).split(
                separator: " "
            )
            let ends = fields.first?.split(separator: "-").compactMap { UInt64($0, radix: 16) } ?? []
            if ends.count == 2, ends[0] <= address, address < ends[1] { return String(fields[1]) }
        }
        return nil
    }

    @Test func threadsAreCounted() {
        let before = cpatch_thread_count()
        #expect(before >= 1)
        let (started, end) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let thread = Thread {
            started.signal()
            end.wait()
        }
        thread.start()
        started.wait()
        #expect(cpatch_thread_count() > before - 1)
        end.signal()
    }

    @Test func stubAddressesAreRecognized() {
        #expect(cpatch_slot_for_stub(0x1000) == 0)
        #expect(cruntime_resolve_stub(0x1234) == 0x1234)
    }

    @Test func forkedChildrenSeeAnEmptyPage() throws {
        let present = try #require(cpatch_presence())
        #expect(present.pointee == 1)
    }

    /// A child that was forked in the middle of a change must not wait for ever for a thread that it has not.
    @Test func aForkedChildGetsTheLock() {
        cpatch_lock()
        let child = fork_run({ _ in cpatch_lock() }, nil)
        let status = fork_kill(child, 300_000)
        cpatch_unlock()
        #expect(status == 0, "the child still waits")
    }

    @Test func messagesPassWithDescriptors() throws {
        var pair: [Int32] = [0, 0]
        #expect(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &pair) == 0)
        defer { pair.forEach { close($0) } }
        var message = csession_message()
        message.kind = CSESSION_HELLO.rawValue
        message.pid = 77
        #expect(cpatch_send(pair[0], &message) == 0)
        var received = csession_message()
        var descriptors = [Int32](repeating: 0, count: Int(CPATCH_DESCRIPTORS))
        #expect(cpatch_receive(pair[1], &received, &descriptors) == 0)
        #expect(received.kind == CSESSION_HELLO.rawValue)
        #expect(received.pid == 77)
        #expect(descriptors == [Int32](repeating: -1, count: descriptors.count))
        shutdown(pair[0], Int32(SHUT_RDWR))
        #expect(cpatch_receive(pair[1], &received, &descriptors) == -EPIPE)
    }
}
