/// Program types, with the kernel's numbers (`enum bpf_prog_type`).
package enum ProgramType: UInt32, CaseIterable, Sendable {
    case unspecified, socketFilter, kprobe, schedCls, schedAct, tracepoint, xdp, perfEvent, cgroupSKB, cgroupSock
    case lwtIn, lwtOut, lwtXmit, sockOps, skSKB, cgroupDevice, skMsg, rawTracepoint, cgroupSockAddr, lwtSeg6local
    case lircMode2, skReusePort, flowDissector, cgroupSysctl, rawTracepointWritable, cgroupSockopt, tracing
    case structOps, extension_, lsm, skLookup, syscall, netfilter
}

extension ProgramType {
    /// Name as bpftool prints it, for instance `raw_tracepoint`.
    package var name: String {
        switch self {
        case .unspecified: "unspec"
        case .socketFilter: "socket_filter"
        case .kprobe: "kprobe"
        case .schedCls: "sched_cls"
        case .schedAct: "sched_act"
        case .tracepoint: "tracepoint"
        case .xdp: "xdp"
        case .perfEvent: "perf_event"
        case .cgroupSKB: "cgroup_skb"
        case .cgroupSock: "cgroup_sock"
        case .lwtIn: "lwt_in"
        case .lwtOut: "lwt_out"
        case .lwtXmit: "lwt_xmit"
        case .sockOps: "sock_ops"
        case .skSKB: "sk_skb"
        case .cgroupDevice: "cgroup_device"
        case .skMsg: "sk_msg"
        case .rawTracepoint: "raw_tracepoint"
        case .cgroupSockAddr: "cgroup_sock_addr"
        case .lwtSeg6local: "lwt_seg6local"
        case .lircMode2: "lirc_mode2"
        case .skReusePort: "sk_reuseport"
        case .flowDissector: "flow_dissector"
        case .cgroupSysctl: "cgroup_sysctl"
        case .rawTracepointWritable: "raw_tracepoint_writable"
        case .cgroupSockopt: "cgroup_sockopt"
        case .tracing: "tracing"
        case .structOps: "struct_ops"
        case .extension_: "ext"
        case .lsm: "lsm"
        case .skLookup: "sk_lookup"
        case .syscall: "syscall"
        case .netfilter: "netfilter"
        }
    }
}
