import ISA

extension ContextField {
    /// `struct __sk_buff`: include/uapi/linux/bpf.h, and net/core/filter.c for who may do what.
    static let socketBuffer: [ContextField] = {
        let all = ProgramTypes.socketBuffer
        let addresses: ProgramTypes = [.cgroupSKB, .skSKB]
        let markers: ProgramTypes = [.classifier, .cgroupSKB, .lightweightTunnel]
        let packets: ProgramTypes = [.classifier, .cgroupSKB, .skSKB, .lightweightTunnel, .flowDissector]
        let times: ProgramTypes = [.classifier, .cgroupSKB]
        return [
            ContextField("len", at: 0, read: all),
            ContextField("pkt_type", at: 4, read: all),
            ContextField("mark", at: 8, read: all.subtracting(.skSKB), write: markers),
            ContextField("queue_mapping", at: 12, read: all, write: .classifier),
            ContextField("protocol", at: 16, read: all),
            ContextField("vlan_present", at: 20, read: all),
            ContextField("vlan_tci", at: 24, read: all),
            ContextField("vlan_proto", at: 28, read: all),
            ContextField("priority", at: 32, read: all, write: [markers, .skSKB]),
            ContextField("ingress_ifindex", at: 36, read: all),
            ContextField("ifindex", at: 40, read: all),
            ContextField("tc_index", at: 44, read: all, write: [.classifier, .skSKB]),
            ContextField("cb", at: 48, size: 20, of: 4, .any, read: all, write: all.subtracting(.skSKB)),
            ContextField("hash", at: 68, read: all),
            ContextField("tc_classid", at: 72, read: .classifier, write: .classifier),
            ContextField("data", at: 76, .whole, .packet, read: packets),
            ContextField("data_end", at: 80, .whole, .packetEnd, read: packets),
            ContextField("napi_id", at: 84, read: all),
            ContextField("family", at: 88, read: addresses),
            ContextField("remote_ip4", at: 92, .whole, read: addresses),
            ContextField("local_ip4", at: 96, .whole, read: addresses),
            ContextField("remote_ip6", at: 100, size: 16, of: 4, .whole, read: addresses),
            ContextField("local_ip6", at: 116, size: 16, of: 4, .whole, read: addresses),
            ContextField("remote_port", at: 132, read: addresses),
            ContextField("local_port", at: 136, read: addresses),
            ContextField("data_meta", at: 140, .whole, .packetMeta, read: .classifier),
            ContextField("flow_keys", at: 144, size: 8, .whole, .flowKeys, read: .flowDissector),
            ContextField("tstamp", at: 152, size: 8, .whole, read: times, write: times),
            ContextField("wire_len", at: 160, read: .classifier),
            ContextField("gso_segs", at: 164, read: all),
            ContextField(
                "sk",
                at: 168,
                size: 8,
                .whole,
                .kernelObject(.socketCommon, isNullable: true),
                read: all
            ),
            ContextField("gso_size", at: 176, read: all),
            ContextField("tstamp_type", at: 180, size: 1, .whole, read: .classifier),
            ContextField("hwtstamp", at: 184, size: 8, .whole, read: times),
        ]
    }()

    /// `struct xdp_md`: include/uapi/linux/bpf.h; net/core/filter.c, `xdp_is_valid_access`.
    static let xdp: [ContextField] = {
        var egress = ContextField("egress_ifindex", at: 20, .whole, read: .xdp)
        egress.onlyDeviceMap = true
        return [
            ContextField("data", at: 0, .whole, .packet, read: .xdp),
            ContextField("data_end", at: 4, .whole, .packetEnd, read: .xdp),
            ContextField("data_meta", at: 8, .whole, .packetMeta, read: .xdp),
            ContextField("ingress_ifindex", at: 12, .whole, read: .xdp),
            ContextField("rx_queue_index", at: 16, .whole, read: .xdp),
            egress,
        ]
    }()

    /// `struct pt_regs` of x86-64: arch/x86/include/asm/ptrace.h.
    private static let registerNames = [
        "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di", "orig_ax", "ip",
        "cs", "flags", "sp", "ss",
    ]

    /// kernel/trace/bpf_trace.c, `kprobe_prog_is_valid_access`.
    static let registers: [ContextField] = registerNames.enumerated().map { index, name in
        ContextField(name, at: 8 * index, size: 8, .any, read: .kprobe)
    }

    /// kernel/trace/bpf_trace.c, `pe_prog_is_valid_access`: registers only as a whole.
    static let perfEvent: [ContextField] =
        registerNames.enumerated().map { index, name in
            ContextField("regs." + name, at: 8 * index, size: 8, .whole, read: .perfEvent)
        } + [
            ContextField("sample_period", at: 168, size: 8, read: .perfEvent),
            ContextField("addr", at: 176, size: 8, read: .perfEvent),
        ]

    /// The record of a trace event, after a pointer that is the kernel's own, up to PERF_MAX_TRACE_SIZE.
    static let tracepoint: [ContextField] = [
        ContextField("record", at: 8, size: 8184, .any, read: ProgramTypes(.tracepoint))
    ]

    /// The arguments of a raw tracepoint: include/linux/btf.h, MAX_BPF_FUNC_ARGS.
    static let rawTracepoint: [ContextField] = [
        ContextField("args", at: 0, size: 96, of: 8, .any, read: ProgramTypes(.rawTracepoint))
    ]

    /// Whatever the caller gives (Linux kernel/bpf/syscall.c, `syscall_prog_is_valid_access`).
    static let syscall: [ContextField] = [
        ContextField(
            "bytes",
            at: 0,
            size: 65535,
            of: 1,
            .any,
            read: ProgramTypes(.syscall),
            write: ProgramTypes(.syscall)
        )
    ]

    static let rawTracepointWritable: [ContextField] = [
        ContextField("buffer", at: 0, size: 8, .whole, .tracepointBuffer, read: ProgramTypes(.rawTracepointWritable)),
        ContextField("args", at: 8, size: 88, of: 8, .any, read: ProgramTypes(.rawTracepointWritable)),
    ]
}
