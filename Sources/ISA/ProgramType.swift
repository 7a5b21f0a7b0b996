/// Program types, with the kernel's numbers (`enum bpf_prog_type`).
package enum ProgramType: UInt32, CaseIterable, Sendable {
    case unspecified, socketFilter, kprobe, schedCls, schedAct, tracepoint, xdp, perfEvent, cgroupSKB, cgroupSock
    case lwtIn, lwtOut, lwtXmit, sockOps, skSKB, cgroupDevice, skMsg, rawTracepoint, cgroupSockAddr, lwtSeg6local
    case lircMode2, skReusePort, flowDissector, cgroupSysctl, rawTracepointWritable, cgroupSockopt, tracing
    case structOps, extension_, lsm, skLookup, syscall, netfilter
}
