import ISA

/// What a program may return; nil: anything (Linux `check_return_code`).
func returnRange(_ type: ProgramType, attachType: UInt32) -> ClosedRange<Int64>? {
    switch type {
    case .cgroupSKB: attachType == AttachType.cgroupEgress ? 0...3 : 0...1
    case .cgroupSock, .sockOps, .cgroupDevice, .cgroupSysctl, .cgroupSockopt, .skLookup, .netfilter: 0...1
    case .kprobe: attachType == AttachType.kprobeSession || attachType == AttachType.uprobeSession ? 0...1 : nil
    case .unspecified, .socketFilter, .schedCls, .schedAct, .tracepoint, .xdp, .perfEvent, .lwtIn, .lwtOut, .lwtXmit,
        .skSKB, .skMsg, .rawTracepoint, .cgroupSockAddr, .lwtSeg6local, .lircMode2, .skReusePort, .flowDissector,
        .rawTracepointWritable, .tracing, .structOps, .extension_, .lsm, .syscall:
        nil
    }
}

/// The values of `enum bpf_attach_type` that rules here depend on.
enum AttachType {
    static let cgroupEgress: UInt32 = 1
    static let devmap: UInt32 = 33
    static let kprobeSession: UInt32 = 56
    static let uprobeSession: UInt32 = 57
}
