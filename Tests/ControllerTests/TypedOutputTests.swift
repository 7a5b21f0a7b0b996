import Loader
import Testing

@testable import Controller

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
}
