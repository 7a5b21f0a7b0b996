import Loader
import Testing

@testable import Controller
@testable import Symbols

/// Values, tables and histograms without a kernel.
@Suite struct TypedOutputTests {
    @Test func histogramsAreDrawnAsByBpftrace() {
        let histogram = Log2Histogram(slots: [0, 1, 4, 0, 2, 0, 0, 0, 0, 0, 1, 0])
        #expect(histogram.buckets.map(\.min) == [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])
        #expect(histogram.buckets.map(\.count) == [1, 4, 0, 2, 0, 0, 0, 0, 0, 1])
        #expect(histogram.buckets[0].max == 3)
        #expect(
            histogram.lines[0] == "[2, 4)                  1 |@@@@@@@@@@@@@                                       |"
        )
        #expect(histogram.lines[1] == "[4, 8)                  4 |" + String(repeating: "@", count: 52) + "|")
        #expect(histogram.lines[9].hasPrefix("[1K, 2K)                1 |@@@@@@@@@@@@@ "))
    }

    @Test func endsOfHistograms() {
        #expect(Log2Histogram(slots: []).lines.isEmpty)
        #expect(Log2Histogram(slots: [0, 0]).lines.isEmpty)
        #expect(Log2Histogram(slots: [3]).buckets == [Log2Histogram.Bucket(min: 0, max: 1, count: 3)])
        var slots = [UInt64](repeating: 0, count: 64)
        slots[63] = 1
        #expect(Log2Histogram(slots: slots).buckets == [Log2Histogram.Bucket(min: 1 << 63, max: .max, count: 1)])
    }

    @Test(arguments: [
        ("plain", "plain"), ("a\nb", "a\\nb"), ("\u{1b}[2J", "\\x1b[2J"), ("tab\there", "tab\\there"), ("é", "é"),
    ])
    func controlCharactersDoNotReachTheTerminal(_ text: String, _ shown: String) {
        #expect(printable(text) == shown)
        #expect(TypedValue.text(text).text == shown)
    }

    @Test func oneLineForAnyValue() {
        let value = TypedValue.record([
            TypedValue.Field(name: "pid", value: .unsigned(7)), TypedValue.Field(name: "delta", value: .signed(-1)),
            TypedValue.Field(name: "comm", value: .text("sh")), TypedValue.Field(name: "ip", value: .address(0x1f)),
            TypedValue.Field(name: "list", value: .list([.flag(true), .unsigned(2)])),
        ])
        #expect(value.text == "{pid: 7, delta: -1, comm: sh, ip: 0x1f, list: [true, 2]}")
        #expect(value["pid"] == .unsigned(7))
        #expect(value["list"]?.numbers == nil)
    }

    @Test(arguments: [
        ("do_unlinkat", "syscalls/sys_enter_unlinkat"), ("__x64_sys_openat", "syscalls/sys_enter_openat"),
        ("tcp_v4_connect", "sock/inet_sock_set_state"), ("tcp_rcv_established", "tcp/tcp_probe"),
    ])
    func substitutesForFunctions(_ function: String, _ tracepoint: String) {
        #expect(KernelSubstitutes.tracepoint(for: function) { _ in true } == tracepoint)
        #expect(KernelSubstitutes.tracepoint(for: function) { _ in false } == nil)
    }

    @Test(
        arguments: [
            ([127, 0, 0, 1], nil, "127.0.0.1"), ([10, 0, 0, 7] + [UInt8](repeating: 9, count: 12), 2, "10.0.0.7"),
            ([UInt8](repeating: 0, count: 15) + [1], 10, "::1"), ([UInt8](repeating: 0, count: 16), 0, "any"),
            ([0x20, 1, 0x0d, 0xb8] + [UInt8](repeating: 0, count: 11) + [5], nil, "2001:db8::5"),
        ] as [([UInt8], UInt64?, String)]
    )
    func addresses(_ bytes: [UInt8], _ family: UInt64?, _ text: String) {
        #expect(TaggedView.address(bytes, family: family) == text)
    }

    @Test func whatIsNoAddress() {
        #expect(TaggedView.address([1, 2, 3], family: nil) == nil)
    }

    @Test(
        arguments: [
            ("hide", .hide), ("be", .bigEndian), ("ip4", .address), ("time:us", .time(nanoseconds: 1000)),
            ("stack:user", .stack(.user)), ("stack:", nil), ("", nil),
        ] as [(String, MemberTag?)]
    )
    func tagsOfMembers(_ text: String, _ tag: MemberTag?) { #expect(MemberTag(text) == tag) }

    @Test func timesOfDay() {
        let now = TypedValue.time(monotonicNanoseconds())
        #expect(now.text.count == 12)
        #expect(now.text.hasPrefix(clockText()) || now.text > clockText())
    }

    @Test func stacksStandBelow() {
        let frame = Frame(address: 0x10, function: "vfs_read", offset: 4, module: "kernel")
        let value = TypedValue.record([
            TypedValue.Field(name: "pid", value: .unsigned(7)),
            TypedValue.Field(name: "kernel", value: .stack([.frame(number: 0, frame)])),
            TypedValue.Field(name: "user", value: .stack([])),
        ])
        #expect(value.text == "{pid: 7}")
        #expect(value.stackLines == ["    kernel:", "      #0 vfs_read+0x4 [kernel]"])
    }

    // MARK: Static probes

    @Test func argumentsOfStaticProbes() throws {
        let probe = StaticProbe(
            provider: "p",
            name: "n",
            address: 1,
            semaphore: 0,
            arguments: "8@%rdi -4@$-5 1@%sil 2@-16(%rbp) 4@(%r12)"
        )
        let bytes = try StaticProbeArguments(probe, size: 208).bytes
        let argument = { (index: Int) in Array(bytes[16 * index..<16 * index + 16]) }
        #expect(bytes.count == 208 && bytes[200] == 5)
        #expect(argument(0) == [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 112, 0, 0, 0])
        #expect(argument(1) == [251, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 1, 32])
        #expect(argument(2) == [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 104, 0, 0, 56])
        #expect(argument(3) == [240, 255, 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 32, 0, 0, 48])
        #expect(argument(4) == [0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 24, 0, 0, 32])
    }

    @Test(arguments: ["8@%xmm0", "9@%rdi", "%rdi", "8@8(%rax,%rbx,4)", "8@$x"])
    func argumentsThatAreNotUnderstood(_ text: String) {
        let probe = StaticProbe(provider: "p", name: "n", address: 1, semaphore: 0, arguments: text)
        #expect(throws: Failure.self) { _ = try StaticProbeArguments(probe, size: 208) }
    }
}
