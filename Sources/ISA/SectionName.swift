/// What the name of a program's section says, as libbpf 1.x reads it.
package struct SectionName: Equatable, Sendable {
    package var type: ProgramType
    package var attach: AttachSpec
    /// The kernel's `expected_attach_type` for the program.
    package var attachType: UInt32
    package var isSleepable: Bool
    /// False for `?uprobe/…`, which libbpf loads only on demand.
    package var isAutoloaded: Bool
}

/// Why a section name is none of a program.
package enum SectionNameError: Error, Equatable, Sendable {
    case unknown
    /// The prefix is known, the rest is not in `form`.
    case malformed(form: StaticForm)

    /// How a section name has to look.
    package enum StaticForm: Equatable, Sendable {
        case uprobe, usdt

        package var text: String {
            switch self {
            case .uprobe: "uprobe/PATH:SYMBOL[+OFFSET]"
            case .usdt: "usdt/PATH:PROVIDER:NAME"
            }
        }
    }
}

/// One section prefix of libbpf.
struct SectionRule: Sendable {
    enum Hook: Equatable, Sendable {
        case uprobe(isReturn: Bool)
        case usdt
        /// Takes `/target`.
        case kernel
        /// Takes nothing behind the name.
        case none
    }

    var prefix: String
    var type: ProgramType
    var hook: Hook
    var attachType: UInt32
    var isSleepable: Bool

    init(
        _ prefix: String,
        _ type: ProgramType,
        _ hook: Hook,
        attachType: UInt32 = 0,
        isSleepable: Bool = false
    ) {
        self.prefix = prefix
        self.type = type
        self.hook = hook
        self.attachType = attachType
        self.isSleepable = isSleepable
    }

    /// What stands behind the prefix and its slash; nil for another prefix.
    func rest(of name: Substring) -> Substring? {
        let head = prefix.utf8
        let all = name.utf8
        guard all.starts(with: head) else { return nil }
        let rest = name[all.index(all.startIndex, offsetBy: head.count)...]
        if rest.isEmpty { return rest }
        guard hook != .none, rest.utf8.first == 0x2f else { return nil }
        return rest.dropFirst()
    }
}

extension SectionName {
    /// Reads a section name; a leading `?` (no autoload) is allowed.
    package static func parse(_ name: String) throws(SectionNameError) -> SectionName {
        var text = name[...]
        let isAutoloaded = text.utf8.first != 0x3f
        if !isAutoloaded { text = text.dropFirst() }
        for rule in sectionRules {
            guard let rest = rule.rest(of: text) else { continue }
            return SectionName(
                type: rule.type,
                attach: try attachSpec(rule, rest),
                attachType: rule.attachType,
                isSleepable: rule.isSleepable,
                isAutoloaded: isAutoloaded
            )
        }
        throw .unknown
    }
}

private func attachSpec(_ rule: SectionRule, _ rest: Substring) throws(SectionNameError) -> AttachSpec {
    switch rule.hook {
    case .none: return .none(hook: rule.prefix)
    case .kernel: return .kernel(hook: rule.prefix, target: String(rest))
    case .uprobe(let isReturn):
        let isSleepable = rule.isSleepable
        if rest.isEmpty {
            return .uprobe(path: nil, symbol: nil, offset: 0, isReturn: isReturn, isSleepable: isSleepable)
        }
        // Without a colon it is a symbol alone, as in bcc's `uretprobe/readline`; libbpf leaves those to the loader.
        let colon = rest.utf8.firstIndex(of: 0x3a)
        let path = colon.map { rest[..<$0] }
        var symbol = colon.map { rest[rest.utf8.index(after: $0)...] } ?? rest
        var offset: UInt64 = 0
        if let plus = symbol.utf8.lastIndex(of: 0x2b) {
            guard let number = number(symbol[symbol.utf8.index(after: plus)...]) else {
                throw .malformed(form: .uprobe)
            }
            offset = number
            symbol = symbol[..<plus]
        }
        if path?.isEmpty == true || symbol.isEmpty { throw .malformed(form: .uprobe) }
        return .uprobe(
            path: path.map(String.init),
            symbol: String(symbol),
            offset: offset,
            isReturn: isReturn,
            isSleepable: isSleepable
        )
    case .usdt:
        if rest.isEmpty { return .usdt(path: nil, provider: nil, name: nil) }
        let parts = rest.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 3, !parts.contains(where: { $0.isEmpty }) else { throw .malformed(form: .usdt) }
        return .usdt(path: String(parts[0]), provider: String(parts[1]), name: String(parts[2]))
    }
}

/// A decimal or `0x` number, as `%li` reads it.
private func number(_ text: Substring) -> UInt64? {
    text.utf8.starts(with: "0x".utf8) ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text, radix: 10)
}

/// The one table of section prefixes: `section_defs` in libbpf's src/libbpf.c, in its order (1.7).
///
/// `uprobe.multi` counts as `uprobe` with a pattern for a symbol; `uprobe.session` runs at entry and return and is left to
/// the kernel.
let sectionRules: [SectionRule] = [
    SectionRule("socket", .socketFilter, .none),
    SectionRule("sk_reuseport/migrate", .skReusePort, .none, attachType: 40),
    SectionRule("sk_reuseport", .skReusePort, .none, attachType: 39),
    SectionRule("kprobe", .kprobe, .kernel),
    SectionRule("uprobe", .kprobe, .uprobe(isReturn: false)),
    SectionRule("uprobe.s", .kprobe, .uprobe(isReturn: false), isSleepable: true),
    SectionRule("kretprobe", .kprobe, .kernel),
    SectionRule("uretprobe", .kprobe, .uprobe(isReturn: true)),
    SectionRule("uretprobe.s", .kprobe, .uprobe(isReturn: true), isSleepable: true),
    SectionRule("kprobe.multi", .kprobe, .kernel, attachType: 42),
    SectionRule("kretprobe.multi", .kprobe, .kernel, attachType: 42),
    SectionRule("kprobe.session", .kprobe, .kernel, attachType: 56),
    SectionRule("uprobe.multi", .kprobe, .uprobe(isReturn: false), attachType: 48),
    SectionRule("uretprobe.multi", .kprobe, .uprobe(isReturn: true), attachType: 48),
    SectionRule("uprobe.session", .kprobe, .kernel, attachType: 57),
    SectionRule("uprobe.multi.s", .kprobe, .uprobe(isReturn: false), attachType: 48, isSleepable: true),
    SectionRule("uretprobe.multi.s", .kprobe, .uprobe(isReturn: true), attachType: 48, isSleepable: true),
    SectionRule("uprobe.session.s", .kprobe, .kernel, attachType: 57, isSleepable: true),
    SectionRule("ksyscall", .kprobe, .kernel),
    SectionRule("kretsyscall", .kprobe, .kernel),
    SectionRule("usdt", .kprobe, .usdt),
    SectionRule("usdt.s", .kprobe, .usdt, isSleepable: true),
    SectionRule("tc/ingress", .schedCls, .none, attachType: 46),
    SectionRule("tc/egress", .schedCls, .none, attachType: 47),
    SectionRule("tcx/ingress", .schedCls, .none, attachType: 46),
    SectionRule("tcx/egress", .schedCls, .none, attachType: 47),
    SectionRule("tc", .schedCls, .none),
    SectionRule("classifier", .schedCls, .none),
    SectionRule("action", .schedAct, .none),
    SectionRule("netkit/primary", .schedCls, .none, attachType: 54),
    SectionRule("netkit/peer", .schedCls, .none, attachType: 55),
    SectionRule("tracepoint", .tracepoint, .kernel),
    SectionRule("tp", .tracepoint, .kernel),
    SectionRule("tracepoint.s", .tracepoint, .kernel, isSleepable: true),
    SectionRule("tp.s", .tracepoint, .kernel, isSleepable: true),
    SectionRule("raw_tracepoint", .rawTracepoint, .kernel),
    SectionRule("raw_tp", .rawTracepoint, .kernel),
    SectionRule("raw_tracepoint.s", .rawTracepoint, .kernel, isSleepable: true),
    SectionRule("raw_tp.s", .rawTracepoint, .kernel, isSleepable: true),
    SectionRule("raw_tracepoint.w", .rawTracepointWritable, .kernel),
    SectionRule("raw_tp.w", .rawTracepointWritable, .kernel),
    SectionRule("tp_btf", .tracing, .kernel, attachType: 23),
    SectionRule("tp_btf.s", .tracing, .kernel, attachType: 23, isSleepable: true),
    SectionRule("fentry", .tracing, .kernel, attachType: 24),
    SectionRule("fmod_ret", .tracing, .kernel, attachType: 26),
    SectionRule("fexit", .tracing, .kernel, attachType: 25),
    SectionRule("fentry.s", .tracing, .kernel, attachType: 24, isSleepable: true),
    SectionRule("fmod_ret.s", .tracing, .kernel, attachType: 26, isSleepable: true),
    SectionRule("fexit.s", .tracing, .kernel, attachType: 25, isSleepable: true),
    SectionRule("fsession", .tracing, .kernel, attachType: 58),
    SectionRule("fsession.s", .tracing, .kernel, attachType: 58, isSleepable: true),
    SectionRule("fsession.multi", .tracing, .kernel, attachType: 61),
    SectionRule("fsession.multi.s", .tracing, .kernel, attachType: 61, isSleepable: true),
    SectionRule("fentry.multi", .tracing, .kernel, attachType: 59),
    SectionRule("fexit.multi", .tracing, .kernel, attachType: 60),
    SectionRule("fentry.multi.s", .tracing, .kernel, attachType: 59, isSleepable: true),
    SectionRule("fexit.multi.s", .tracing, .kernel, attachType: 60, isSleepable: true),
    SectionRule("freplace", .extension_, .kernel),
    SectionRule("lsm", .lsm, .kernel, attachType: 27),
    SectionRule("lsm.s", .lsm, .kernel, attachType: 27, isSleepable: true),
    SectionRule("lsm_cgroup", .lsm, .kernel, attachType: 43),
    SectionRule("iter", .tracing, .kernel, attachType: 28),
    SectionRule("iter.s", .tracing, .kernel, attachType: 28, isSleepable: true),
    SectionRule("syscall", .syscall, .none, isSleepable: true),
    SectionRule("xdp.frags/devmap", .xdp, .none, attachType: 33),
    SectionRule("xdp/devmap", .xdp, .none, attachType: 33),
    SectionRule("xdp.frags/cpumap", .xdp, .none, attachType: 35),
    SectionRule("xdp/cpumap", .xdp, .none, attachType: 35),
    SectionRule("xdp.frags", .xdp, .none, attachType: 37),
    SectionRule("xdp", .xdp, .none, attachType: 37),
    SectionRule("perf_event", .perfEvent, .none),
    SectionRule("lwt_in", .lwtIn, .none),
    SectionRule("lwt_out", .lwtOut, .none),
    SectionRule("lwt_xmit", .lwtXmit, .none),
    SectionRule("lwt_seg6local", .lwtSeg6local, .none),
    SectionRule("sockops", .sockOps, .none, attachType: 3),
    SectionRule("sk_skb/stream_parser", .skSKB, .none, attachType: 4),
    SectionRule("sk_skb/stream_verdict", .skSKB, .none, attachType: 5),
    SectionRule("sk_skb/verdict", .skSKB, .none, attachType: 38),
    SectionRule("sk_skb", .skSKB, .none),
    SectionRule("sk_msg", .skMsg, .none, attachType: 7),
    SectionRule("lirc_mode2", .lircMode2, .none, attachType: 16),
    SectionRule("flow_dissector", .flowDissector, .none, attachType: 17),
    SectionRule("cgroup_skb/ingress", .cgroupSKB, .none),
    SectionRule("cgroup_skb/egress", .cgroupSKB, .none, attachType: 1),
    SectionRule("cgroup/skb", .cgroupSKB, .none),
    SectionRule("cgroup/sock_create", .cgroupSock, .none, attachType: 2),
    SectionRule("cgroup/sock_release", .cgroupSock, .none, attachType: 34),
    SectionRule("cgroup/sock", .cgroupSock, .none, attachType: 2),
    SectionRule("cgroup/post_bind4", .cgroupSock, .none, attachType: 12),
    SectionRule("cgroup/post_bind6", .cgroupSock, .none, attachType: 13),
    SectionRule("cgroup/bind4", .cgroupSockAddr, .none, attachType: 8),
    SectionRule("cgroup/bind6", .cgroupSockAddr, .none, attachType: 9),
    SectionRule("cgroup/connect4", .cgroupSockAddr, .none, attachType: 10),
    SectionRule("cgroup/connect6", .cgroupSockAddr, .none, attachType: 11),
    SectionRule("cgroup/connect_unix", .cgroupSockAddr, .none, attachType: 49),
    SectionRule("cgroup/sendmsg4", .cgroupSockAddr, .none, attachType: 14),
    SectionRule("cgroup/sendmsg6", .cgroupSockAddr, .none, attachType: 15),
    SectionRule("cgroup/sendmsg_unix", .cgroupSockAddr, .none, attachType: 50),
    SectionRule("cgroup/recvmsg4", .cgroupSockAddr, .none, attachType: 19),
    SectionRule("cgroup/recvmsg6", .cgroupSockAddr, .none, attachType: 20),
    SectionRule("cgroup/recvmsg_unix", .cgroupSockAddr, .none, attachType: 51),
    SectionRule("cgroup/getpeername4", .cgroupSockAddr, .none, attachType: 29),
    SectionRule("cgroup/getpeername6", .cgroupSockAddr, .none, attachType: 30),
    SectionRule("cgroup/getpeername_unix", .cgroupSockAddr, .none, attachType: 52),
    SectionRule("cgroup/getsockname4", .cgroupSockAddr, .none, attachType: 31),
    SectionRule("cgroup/getsockname6", .cgroupSockAddr, .none, attachType: 32),
    SectionRule("cgroup/getsockname_unix", .cgroupSockAddr, .none, attachType: 53),
    SectionRule("cgroup/sysctl", .cgroupSysctl, .none, attachType: 18),
    SectionRule("cgroup/getsockopt", .cgroupSockopt, .none, attachType: 21),
    SectionRule("cgroup/setsockopt", .cgroupSockopt, .none, attachType: 22),
    SectionRule("cgroup/dev", .cgroupDevice, .none, attachType: 6),
    SectionRule("struct_ops", .structOps, .kernel),
    SectionRule("struct_ops.s", .structOps, .kernel, isSleepable: true),
    SectionRule("sk_lookup", .skLookup, .none, attachType: 36),
    SectionRule("netfilter", .netfilter, .none, attachType: 45),
]
