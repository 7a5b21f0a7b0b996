internal import ISA

/// Memory that stands for the context of a program in a test run (`BPF_PROG_TEST_RUN`).
struct FakeContext {
    /// What is at its start; the rest is zero.
    var bytes: [UInt8] = []
    /// Bytes that programs may reach; the rest traps, and none where there is no such memory.
    var size = 0
    var isWritable = false

    /// The context for a type of program.
    ///
    /// Registers and arguments of events are zero. Of packets there is what describes them, but no pointer.
    init(_ type: ProgramType, input: [UInt8]) {
        switch type {
        case .kprobe, .tracepoint, .perfEvent, .rawTracepoint, .rawTracepointWritable, .syscall: size = 4096
        case .socketFilter, .cgroupSKB, .lwtIn, .lwtOut, .lwtXmit:
            describe(input, hasLinkHeader: false)
            // These programs cannot ask for the pointers behind.
            if type == .socketFilter, size > 0 { size = 4096 }
        case .schedCls, .schedAct: describe(input, hasLinkHeader: true)
        case .unspecified, .xdp, .cgroupSock, .sockOps, .skSKB, .cgroupDevice, .skMsg, .cgroupSockAddr, .lwtSeg6local,
            .lircMode2, .skReusePort, .flowDissector, .cgroupSysctl, .cgroupSockopt, .tracing, .structOps, .extension_,
            .lsm, .skLookup, .netfilter:
            break
        }
    }

    /// A `struct __sk_buff` up to `data`, as `bpf_prog_test_run_skb` (net/bpf/test_run.c) makes it on the loopback device.
    private mutating func describe(_ packet: [UInt8], hasLinkHeader: Bool) {
        guard packet.count >= Self.linkHeader else { return }
        var words = [UInt32](repeating: 0, count: 19)
        words[0] = UInt32(packet.count - (hasLinkHeader ? 0 : Self.linkHeader))
        words[1] = Self.packetType(packet)
        words[4] = Self.networkProtocol(packet)
        // ifindex: the loopback device.
        words[10] = 1
        bytes = words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(8 * $0)) } }
        size = bytes.count
        isWritable = true
    }

    /// Bytes of an Ethernet header.
    private static var linkHeader: Int { 14 }

    /// `eth_type_trans` (net/ethernet/eth.c) on a device whose addresses are zero: PACKET_HOST, _MULTICAST, _OTHERHOST.
    private static func packetType(_ packet: [UInt8]) -> UInt32 {
        let destination = packet[..<6]
        if destination.allSatisfy({ $0 == 0 }) { return 0 }
        return destination[0] & 1 != 0 ? 2 : 3
    }

    /// The protocol, in the order of the network: a length there means ETH_P_802_2, or ETH_P_802_3 for Novell's frames.
    private static func networkProtocol(_ packet: [UInt8]) -> UInt32 {
        let type = UInt32(packet[12]) << 8 | UInt32(packet[13])
        if type >= 0x600 { return UInt32(packet[13]) << 8 | UInt32(packet[12]) }
        let isNovell = packet.count >= 16 && packet[14] == 0xff && packet[15] == 0xff
        return isNovell ? 0x0100 : 0x0400
    }
}
