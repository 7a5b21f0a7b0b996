import Testing

@testable import ISA

@Suite struct TableTests {
    @Test(
        arguments: [
            ("uprobe", .kprobe, .uprobe(path: nil, symbol: nil, offset: 0, isReturn: false, isSleepable: false)),
            (
                "uretprobe//bin/bash:readline", .kprobe,
                .uprobe(path: "/bin/bash", symbol: "readline", offset: 0, isReturn: true, isSleepable: false)
            ),
            (
                "uprobe.s/libc.so.6:malloc+0x10", .kprobe,
                .uprobe(path: "libc.so.6", symbol: "malloc", offset: 16, isReturn: false, isSleepable: true)
            ),
            (
                "uprobe/a.out:pthread_create@GLIBC_2.34+12", .kprobe,
                .uprobe(
                    path: "a.out",
                    symbol: "pthread_create@GLIBC_2.34",
                    offset: 12,
                    isReturn: false,
                    isSleepable: false
                )
            ),
            ("usdt", .kprobe, .usdt(path: nil, provider: nil, name: nil)),
            (
                "usdt/libjvm.so:hotspot:gc__begin", .kprobe,
                .usdt(path: "libjvm.so", provider: "hotspot", name: "gc__begin")
            ),
            ("kprobe/do_unlinkat", .kprobe, .kernel(hook: "kprobe", target: "do_unlinkat")),
            ("kretprobe", .kprobe, .kernel(hook: "kretprobe", target: "")),
            ("tp/syscalls/sys_enter_write", .tracepoint, .kernel(hook: "tp", target: "syscalls/sys_enter_write")),
            ("tracepoint/sched/sched_switch", .tracepoint, .kernel(hook: "tracepoint", target: "sched/sched_switch")),
            ("raw_tp/sched_switch", .rawTracepoint, .kernel(hook: "raw_tp", target: "sched_switch")),
            ("raw_tp.w/x", .rawTracepointWritable, .kernel(hook: "raw_tp.w", target: "x")),
            ("tp_btf/irq_handler_entry", .tracing, .kernel(hook: "tp_btf", target: "irq_handler_entry")),
            ("fentry/tcp_rcv_established", .tracing, .kernel(hook: "fentry", target: "tcp_rcv_established")),
            ("iter/task", .tracing, .kernel(hook: "iter", target: "task")),
            ("lsm.s/bprm_committed_creds", .lsm, .kernel(hook: "lsm.s", target: "bprm_committed_creds")),
            ("perf_event", .perfEvent, .none(hook: "perf_event")),
            ("xdp", .xdp, .none(hook: "xdp")),
            ("xdp.frags/devmap", .xdp, .none(hook: "xdp.frags/devmap")),
            ("tc", .schedCls, .none(hook: "tc")),
            ("socket", .socketFilter, .none(hook: "socket")),
            ("syscall", .syscall, .none(hook: "syscall")),
            ("cgroup/connect4", .cgroupSockAddr, .none(hook: "cgroup/connect4")),
        ] as [(String, ProgramType, AttachSpec)]
    )
    func section(_ name: String, _ type: ProgramType, _ attach: AttachSpec) throws {
        let section = try SectionName.parse(name)
        #expect(section.type == type)
        #expect(section.attach == attach)
        #expect(section.isAutoloaded)
        #expect(try SectionName.parse("?" + name).isAutoloaded == false)
        #expect(try SectionName.parse("?" + name).attach == attach)
    }

    @Test(
        arguments: [
            ("", .unknown), ("?", .unknown), (".text", .unknown), ("uprobes", .unknown), ("xdp_prog", .unknown),
            ("xdp/eth0", .unknown), ("socket1", .unknown), ("maps", .unknown),
            ("uprobe//bin/bash:", .malformed(form: .uprobe)),
            ("uprobe/:readline", .malformed(form: .uprobe)), ("uprobe/a:b+", .malformed(form: .uprobe)),
            ("uprobe/a:b+x", .malformed(form: .uprobe)), ("usdt/a:b", .malformed(form: .usdt)),
            ("usdt/a::c", .malformed(form: .usdt)),
        ] as [(String, SectionNameError)]
    )
    func badSection(_ name: String, _ error: SectionNameError) {
        #expect(throws: error) { try SectionName.parse(name) }
    }

    /// Attach types that the kernel demands, from `enum bpf_attach_type`.
    @Test(
        arguments: [
            ("tp_btf/x", 23), ("fentry/x", 24), ("fexit/x", 25), ("fmod_ret/x", 26), ("lsm/x", 27), ("iter/x", 28),
            ("uprobe.multi/a:b", 48), ("kprobe.multi/x", 42), ("xdp", 37), ("uprobe/a:b", 0),
        ] as [(String, UInt32)]
    )
    func attachType(_ name: String, _ number: UInt32) throws {
        #expect(try SectionName.parse(name).attachType == number)
    }

    @Test func sectionPrefixesAreUnique() {
        #expect(Set(sectionRules.map(\.prefix)).count == sectionRules.count)
        #expect(sectionRules.count == 116)
    }

    @Test(
        arguments: [
            (.mapLookupElem, 1, "bpf_map_lookup_elem"), (.tailCall, 12, "bpf_tail_call"),
            (.getStackid, 27, "bpf_get_stackid"), (.probeReadUserStr, 114, "bpf_probe_read_user_str"),
            (.ringbufReserve, 131, "bpf_ringbuf_reserve"), (.getAttachCookie, 174, "bpf_get_attach_cookie"),
            (.loop, 181, "bpf_loop"), (.ktimeGetTaiNs, 208, "bpf_ktime_get_tai_ns"),
            (.cgrpStorageDelete, 211, "bpf_cgrp_storage_delete"),
        ] as [(Helper, UInt32, String)]
    )
    func helper(_ helper: Helper, _ number: UInt32, _ name: String) {
        #expect(helper.rawValue == number)
        #expect(helper.name == name)
    }

    @Test func helpersAreNumberedWithoutGaps() {
        #expect(Helper.allCases.map(\.rawValue) == Array(1...214))
        #expect(Helper.allCases.filter(\.isKernelFunction).map(\.rawValue) == [212, 213, 214])
        #expect(Set(Helper.allCases.map(\.name)).count == 214)
    }

    @Test func refusedHelpersSayWhy() {
        #expect(Helper.timerInit.support == .refused(.timers))
        #expect(Helper.probeWriteUser.support == .optional(.write))
        #expect(Helper.taskPtRegs.support == .refused(.registers))
        #expect(Helper.mapUpdateElem.support == .implemented)
    }

    @Test func typesHaveTheKernelsNumbersAndNames() {
        #expect(MapType.perCPUArray.rawValue == 6 && MapType.perCPUArray.name == "percpu_array")
        #expect(MapType.ringBuffer.rawValue == 27 && MapType.ringBuffer.name == "ringbuf")
        #expect(MapType.arena.rawValue == 33 && MapType.arena.name == "arena")
        #expect(ProgramType.tracing.rawValue == 26 && ProgramType.tracing.name == "tracing")
        #expect(ProgramType.netfilter.rawValue == 32 && ProgramType.netfilter.name == "netfilter")
        #expect(Set(MapType.allCases.map(\.name)).count == MapType.allCases.count)
        #expect(Set(ProgramType.allCases.map(\.name)).count == ProgramType.allCases.count)
    }
}
