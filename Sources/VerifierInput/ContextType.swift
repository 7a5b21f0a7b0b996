internal import ISA

extension ProgramType {
    /// Names of the struct that r1 points to at a program's start; empty where it is none (Linux
    /// include/linux/bpf_types.h, third argument of `BPF_PROG_TYPE`).
    ///
    /// A pointer to such a struct in a global function's prototype means the program's context.
    var contextStructs: [String] {
        switch self {
        case .socketFilter, .schedCls, .schedAct, .cgroupSKB, .lwtIn, .lwtOut, .lwtXmit, .lwtSeg6local, .skSKB,
            .flowDissector:
            ["__sk_buff"]
        case .xdp: ["xdp_md"]
        case .cgroupSock: ["bpf_sock"]
        case .cgroupSockAddr: ["bpf_sock_addr"]
        case .sockOps: ["bpf_sock_ops"]
        case .skMsg: ["sk_msg_md"]
        // The alias of x86-64 and what it stands for.
        case .kprobe: ["bpf_user_pt_regs_t", "pt_regs"]
        case .perfEvent: ["bpf_perf_event_data"]
        case .rawTracepoint, .rawTracepointWritable: ["bpf_raw_tracepoint_args"]
        case .cgroupDevice: ["bpf_cgroup_dev_ctx"]
        case .cgroupSysctl: ["bpf_sysctl"]
        case .cgroupSockopt: ["bpf_sockopt"]
        case .skReusePort: ["sk_reuseport_md"]
        case .skLookup: ["bpf_sk_lookup"]
        case .netfilter: ["bpf_nf_ctx"]
        case .unspecified, .tracepoint, .lircMode2, .tracing, .structOps, .extension_, .lsm, .syscall: []
        }
    }
}
