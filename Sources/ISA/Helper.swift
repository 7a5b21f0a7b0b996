/// Helper functions of Linux, with the kernel's numbers.
///
/// Source: `___BPF_FUNC_MAPPER` in include/uapi/linux/bpf.h; the list is frozen there at 211. `support` says which exist
/// in this runtime. Numbers above are ours: kernel functions (kfuncs) that this runtime has, which programs call with
/// `callKernelFunction`.
package enum Helper: UInt32, CaseIterable, Sendable {
    case mapLookupElem = 1
    case mapUpdateElem
    case mapDeleteElem
    case probeRead
    case ktimeGetNs
    case tracePrintk
    case getPrandomU32
    case getSmpProcessorId
    case skbStoreBytes
    case l3CsumReplace
    case l4CsumReplace
    case tailCall
    case cloneRedirect
    case getCurrentPidTgid
    case getCurrentUidGid
    case getCurrentComm
    case getCgroupClassid
    case skbVlanPush
    case skbVlanPop
    case skbGetTunnelKey
    case skbSetTunnelKey
    case perfEventRead
    case redirect
    case getRouteRealm
    case perfEventOutput
    case skbLoadBytes
    case getStackid
    case csumDiff
    case skbGetTunnelOpt
    case skbSetTunnelOpt
    case skbChangeProto
    case skbChangeType
    case skbUnderCgroup
    case getHashRecalc
    case getCurrentTask
    case probeWriteUser
    case currentTaskUnderCgroup
    case skbChangeTail
    case skbPullData
    case csumUpdate
    case setHashInvalid
    case getNumaNodeId
    case skbChangeHead
    case xdpAdjustHead
    case probeReadStr
    case getSocketCookie
    case getSocketUid
    case setHash
    case setsockopt
    case skbAdjustRoom
    case redirectMap
    case skRedirectMap
    case sockMapUpdate
    case xdpAdjustMeta
    case perfEventReadValue
    case perfProgReadValue
    case getsockopt
    case overrideReturn
    case sockOpsCbFlagsSet
    case msgRedirectMap
    case msgApplyBytes
    case msgCorkBytes
    case msgPullData
    case bind
    case xdpAdjustTail
    case skbGetXfrmState
    case getStack
    case skbLoadBytesRelative
    case fibLookup
    case sockHashUpdate
    case msgRedirectHash
    case skRedirectHash
    case lwtPushEncap
    case lwtSeg6StoreBytes
    case lwtSeg6AdjustSrh
    case lwtSeg6Action
    case rcRepeat
    case rcKeydown
    case skbCgroupId
    case getCurrentCgroupId
    case getLocalStorage
    case skSelectReuseport
    case skbAncestorCgroupId
    case skLookupTcp
    case skLookupUdp
    case skRelease
    case mapPushElem
    case mapPopElem
    case mapPeekElem
    case msgPushData
    case msgPopData
    case rcPointerRel
    case spinLock
    case spinUnlock
    case skFullsock
    case tcpSock
    case skbEcnSetCe
    case getListenerSock
    case skcLookupTcp
    case tcpCheckSyncookie
    case sysctlGetName
    case sysctlGetCurrentValue
    case sysctlGetNewValue
    case sysctlSetNewValue
    case strtol
    case strtoul
    case skStorageGet
    case skStorageDelete
    case sendSignal
    case tcpGenSyncookie
    case skbOutput
    case probeReadUser
    case probeReadKernel
    case probeReadUserStr
    case probeReadKernelStr
    case tcpSendAck
    case sendSignalThread
    case jiffies64
    case readBranchRecords
    case getNsCurrentPidTgid
    case xdpOutput
    case getNetnsCookie
    case getCurrentAncestorCgroupId
    case skAssign
    case ktimeGetBootNs
    case seqPrintf
    case seqWrite
    case skCgroupId
    case skAncestorCgroupId
    case ringbufOutput
    case ringbufReserve
    case ringbufSubmit
    case ringbufDiscard
    case ringbufQuery
    case csumLevel
    case skcToTcp6Sock
    case skcToTcpSock
    case skcToTcpTimewaitSock
    case skcToTcpRequestSock
    case skcToUdp6Sock
    case getTaskStack
    case loadHdrOpt
    case storeHdrOpt
    case reserveHdrOpt
    case inodeStorageGet
    case inodeStorageDelete
    case dPath
    case copyFromUser
    case snprintfBtf
    case seqPrintfBtf
    case skbCgroupClassid
    case redirectNeigh
    case perCpuPtr
    case thisCpuPtr
    case redirectPeer
    case taskStorageGet
    case taskStorageDelete
    case getCurrentTaskBtf
    case bprmOptsSet
    case ktimeGetCoarseNs
    case imaInodeHash
    case sockFromFile
    case checkMtu
    case forEachMapElem
    case snprintf
    case sysBpf
    case btfFindByNameKind
    case sysClose
    case timerInit
    case timerSetCallback
    case timerStart
    case timerCancel
    case getFuncIp
    case getAttachCookie
    case taskPtRegs
    case getBranchSnapshot
    case traceVprintk
    case skcToUnixSock
    case kallsymsLookupName
    case findVma
    case loop
    case strncmp
    case getFuncArg
    case getFuncRet
    case getFuncArgCnt
    case getRetval
    case setRetval
    case xdpGetBuffLen
    case xdpLoadBytes
    case xdpStoreBytes
    case copyFromUserTask
    case skbSetTstamp
    case imaFileHash
    case kptrXchg
    case mapLookupPercpuElem
    case skcToMptcpSock
    case dynptrFromMem
    case ringbufReserveDynptr
    case ringbufSubmitDynptr
    case ringbufDiscardDynptr
    case dynptrRead
    case dynptrWrite
    case dynptrData
    case tcpRawGenSyncookieIpv4
    case tcpRawGenSyncookieIpv6
    case tcpRawCheckSyncookieIpv4
    case tcpRawCheckSyncookieIpv6
    case ktimeGetTaiNs
    case userRingbufDrain
    case cgrpStorageGet
    case cgrpStorageDelete
    /// `bpf_iter_num_new(it, start, end)`: libbpf's `bpf_for` and `bpf_repeat` (Linux kernel/bpf/bpf_iter.c).
    case iterNumNew
    case iterNumNext
    case iterNumDestroy
}

extension Helper {
    /// Name in C, for instance `bpf_map_lookup_elem`.
    package var name: String {
        switch self {
        case .mapLookupElem: "bpf_map_lookup_elem"
        case .mapUpdateElem: "bpf_map_update_elem"
        case .mapDeleteElem: "bpf_map_delete_elem"
        case .probeRead: "bpf_probe_read"
        case .ktimeGetNs: "bpf_ktime_get_ns"
        case .tracePrintk: "bpf_trace_printk"
        case .getPrandomU32: "bpf_get_prandom_u32"
        case .getSmpProcessorId: "bpf_get_smp_processor_id"
        case .skbStoreBytes: "bpf_skb_store_bytes"
        case .l3CsumReplace: "bpf_l3_csum_replace"
        case .l4CsumReplace: "bpf_l4_csum_replace"
        case .tailCall: "bpf_tail_call"
        case .cloneRedirect: "bpf_clone_redirect"
        case .getCurrentPidTgid: "bpf_get_current_pid_tgid"
        case .getCurrentUidGid: "bpf_get_current_uid_gid"
        case .getCurrentComm: "bpf_get_current_comm"
        case .getCgroupClassid: "bpf_get_cgroup_classid"
        case .skbVlanPush: "bpf_skb_vlan_push"
        case .skbVlanPop: "bpf_skb_vlan_pop"
        case .skbGetTunnelKey: "bpf_skb_get_tunnel_key"
        case .skbSetTunnelKey: "bpf_skb_set_tunnel_key"
        case .perfEventRead: "bpf_perf_event_read"
        case .redirect: "bpf_redirect"
        case .getRouteRealm: "bpf_get_route_realm"
        case .perfEventOutput: "bpf_perf_event_output"
        case .skbLoadBytes: "bpf_skb_load_bytes"
        case .getStackid: "bpf_get_stackid"
        case .csumDiff: "bpf_csum_diff"
        case .skbGetTunnelOpt: "bpf_skb_get_tunnel_opt"
        case .skbSetTunnelOpt: "bpf_skb_set_tunnel_opt"
        case .skbChangeProto: "bpf_skb_change_proto"
        case .skbChangeType: "bpf_skb_change_type"
        case .skbUnderCgroup: "bpf_skb_under_cgroup"
        case .getHashRecalc: "bpf_get_hash_recalc"
        case .getCurrentTask: "bpf_get_current_task"
        case .probeWriteUser: "bpf_probe_write_user"
        case .currentTaskUnderCgroup: "bpf_current_task_under_cgroup"
        case .skbChangeTail: "bpf_skb_change_tail"
        case .skbPullData: "bpf_skb_pull_data"
        case .csumUpdate: "bpf_csum_update"
        case .setHashInvalid: "bpf_set_hash_invalid"
        case .getNumaNodeId: "bpf_get_numa_node_id"
        case .skbChangeHead: "bpf_skb_change_head"
        case .xdpAdjustHead: "bpf_xdp_adjust_head"
        case .probeReadStr: "bpf_probe_read_str"
        case .getSocketCookie: "bpf_get_socket_cookie"
        case .getSocketUid: "bpf_get_socket_uid"
        case .setHash: "bpf_set_hash"
        case .setsockopt: "bpf_setsockopt"
        case .skbAdjustRoom: "bpf_skb_adjust_room"
        case .redirectMap: "bpf_redirect_map"
        case .skRedirectMap: "bpf_sk_redirect_map"
        case .sockMapUpdate: "bpf_sock_map_update"
        case .xdpAdjustMeta: "bpf_xdp_adjust_meta"
        case .perfEventReadValue: "bpf_perf_event_read_value"
        case .perfProgReadValue: "bpf_perf_prog_read_value"
        case .getsockopt: "bpf_getsockopt"
        case .overrideReturn: "bpf_override_return"
        case .sockOpsCbFlagsSet: "bpf_sock_ops_cb_flags_set"
        case .msgRedirectMap: "bpf_msg_redirect_map"
        case .msgApplyBytes: "bpf_msg_apply_bytes"
        case .msgCorkBytes: "bpf_msg_cork_bytes"
        case .msgPullData: "bpf_msg_pull_data"
        case .bind: "bpf_bind"
        case .xdpAdjustTail: "bpf_xdp_adjust_tail"
        case .skbGetXfrmState: "bpf_skb_get_xfrm_state"
        case .getStack: "bpf_get_stack"
        case .skbLoadBytesRelative: "bpf_skb_load_bytes_relative"
        case .fibLookup: "bpf_fib_lookup"
        case .sockHashUpdate: "bpf_sock_hash_update"
        case .msgRedirectHash: "bpf_msg_redirect_hash"
        case .skRedirectHash: "bpf_sk_redirect_hash"
        case .lwtPushEncap: "bpf_lwt_push_encap"
        case .lwtSeg6StoreBytes: "bpf_lwt_seg6_store_bytes"
        case .lwtSeg6AdjustSrh: "bpf_lwt_seg6_adjust_srh"
        case .lwtSeg6Action: "bpf_lwt_seg6_action"
        case .rcRepeat: "bpf_rc_repeat"
        case .rcKeydown: "bpf_rc_keydown"
        case .skbCgroupId: "bpf_skb_cgroup_id"
        case .getCurrentCgroupId: "bpf_get_current_cgroup_id"
        case .getLocalStorage: "bpf_get_local_storage"
        case .skSelectReuseport: "bpf_sk_select_reuseport"
        case .skbAncestorCgroupId: "bpf_skb_ancestor_cgroup_id"
        case .skLookupTcp: "bpf_sk_lookup_tcp"
        case .skLookupUdp: "bpf_sk_lookup_udp"
        case .skRelease: "bpf_sk_release"
        case .mapPushElem: "bpf_map_push_elem"
        case .mapPopElem: "bpf_map_pop_elem"
        case .mapPeekElem: "bpf_map_peek_elem"
        case .msgPushData: "bpf_msg_push_data"
        case .msgPopData: "bpf_msg_pop_data"
        case .rcPointerRel: "bpf_rc_pointer_rel"
        case .spinLock: "bpf_spin_lock"
        case .spinUnlock: "bpf_spin_unlock"
        case .skFullsock: "bpf_sk_fullsock"
        case .tcpSock: "bpf_tcp_sock"
        case .skbEcnSetCe: "bpf_skb_ecn_set_ce"
        case .getListenerSock: "bpf_get_listener_sock"
        case .skcLookupTcp: "bpf_skc_lookup_tcp"
        case .tcpCheckSyncookie: "bpf_tcp_check_syncookie"
        case .sysctlGetName: "bpf_sysctl_get_name"
        case .sysctlGetCurrentValue: "bpf_sysctl_get_current_value"
        case .sysctlGetNewValue: "bpf_sysctl_get_new_value"
        case .sysctlSetNewValue: "bpf_sysctl_set_new_value"
        case .strtol: "bpf_strtol"
        case .strtoul: "bpf_strtoul"
        case .skStorageGet: "bpf_sk_storage_get"
        case .skStorageDelete: "bpf_sk_storage_delete"
        case .sendSignal: "bpf_send_signal"
        case .tcpGenSyncookie: "bpf_tcp_gen_syncookie"
        case .skbOutput: "bpf_skb_output"
        case .probeReadUser: "bpf_probe_read_user"
        case .probeReadKernel: "bpf_probe_read_kernel"
        case .probeReadUserStr: "bpf_probe_read_user_str"
        case .probeReadKernelStr: "bpf_probe_read_kernel_str"
        case .tcpSendAck: "bpf_tcp_send_ack"
        case .sendSignalThread: "bpf_send_signal_thread"
        case .jiffies64: "bpf_jiffies64"
        case .readBranchRecords: "bpf_read_branch_records"
        case .getNsCurrentPidTgid: "bpf_get_ns_current_pid_tgid"
        case .xdpOutput: "bpf_xdp_output"
        case .getNetnsCookie: "bpf_get_netns_cookie"
        case .getCurrentAncestorCgroupId: "bpf_get_current_ancestor_cgroup_id"
        case .skAssign: "bpf_sk_assign"
        case .ktimeGetBootNs: "bpf_ktime_get_boot_ns"
        case .seqPrintf: "bpf_seq_printf"
        case .seqWrite: "bpf_seq_write"
        case .skCgroupId: "bpf_sk_cgroup_id"
        case .skAncestorCgroupId: "bpf_sk_ancestor_cgroup_id"
        case .ringbufOutput: "bpf_ringbuf_output"
        case .ringbufReserve: "bpf_ringbuf_reserve"
        case .ringbufSubmit: "bpf_ringbuf_submit"
        case .ringbufDiscard: "bpf_ringbuf_discard"
        case .ringbufQuery: "bpf_ringbuf_query"
        case .csumLevel: "bpf_csum_level"
        case .skcToTcp6Sock: "bpf_skc_to_tcp6_sock"
        case .skcToTcpSock: "bpf_skc_to_tcp_sock"
        case .skcToTcpTimewaitSock: "bpf_skc_to_tcp_timewait_sock"
        case .skcToTcpRequestSock: "bpf_skc_to_tcp_request_sock"
        case .skcToUdp6Sock: "bpf_skc_to_udp6_sock"
        case .getTaskStack: "bpf_get_task_stack"
        case .loadHdrOpt: "bpf_load_hdr_opt"
        case .storeHdrOpt: "bpf_store_hdr_opt"
        case .reserveHdrOpt: "bpf_reserve_hdr_opt"
        case .inodeStorageGet: "bpf_inode_storage_get"
        case .inodeStorageDelete: "bpf_inode_storage_delete"
        case .dPath: "bpf_d_path"
        case .copyFromUser: "bpf_copy_from_user"
        case .snprintfBtf: "bpf_snprintf_btf"
        case .seqPrintfBtf: "bpf_seq_printf_btf"
        case .skbCgroupClassid: "bpf_skb_cgroup_classid"
        case .redirectNeigh: "bpf_redirect_neigh"
        case .perCpuPtr: "bpf_per_cpu_ptr"
        case .thisCpuPtr: "bpf_this_cpu_ptr"
        case .redirectPeer: "bpf_redirect_peer"
        case .taskStorageGet: "bpf_task_storage_get"
        case .taskStorageDelete: "bpf_task_storage_delete"
        case .getCurrentTaskBtf: "bpf_get_current_task_btf"
        case .bprmOptsSet: "bpf_bprm_opts_set"
        case .ktimeGetCoarseNs: "bpf_ktime_get_coarse_ns"
        case .imaInodeHash: "bpf_ima_inode_hash"
        case .sockFromFile: "bpf_sock_from_file"
        case .checkMtu: "bpf_check_mtu"
        case .forEachMapElem: "bpf_for_each_map_elem"
        case .snprintf: "bpf_snprintf"
        case .sysBpf: "bpf_sys_bpf"
        case .btfFindByNameKind: "bpf_btf_find_by_name_kind"
        case .sysClose: "bpf_sys_close"
        case .timerInit: "bpf_timer_init"
        case .timerSetCallback: "bpf_timer_set_callback"
        case .timerStart: "bpf_timer_start"
        case .timerCancel: "bpf_timer_cancel"
        case .getFuncIp: "bpf_get_func_ip"
        case .getAttachCookie: "bpf_get_attach_cookie"
        case .taskPtRegs: "bpf_task_pt_regs"
        case .getBranchSnapshot: "bpf_get_branch_snapshot"
        case .traceVprintk: "bpf_trace_vprintk"
        case .skcToUnixSock: "bpf_skc_to_unix_sock"
        case .kallsymsLookupName: "bpf_kallsyms_lookup_name"
        case .findVma: "bpf_find_vma"
        case .loop: "bpf_loop"
        case .strncmp: "bpf_strncmp"
        case .getFuncArg: "bpf_get_func_arg"
        case .getFuncRet: "bpf_get_func_ret"
        case .getFuncArgCnt: "bpf_get_func_arg_cnt"
        case .getRetval: "bpf_get_retval"
        case .setRetval: "bpf_set_retval"
        case .xdpGetBuffLen: "bpf_xdp_get_buff_len"
        case .xdpLoadBytes: "bpf_xdp_load_bytes"
        case .xdpStoreBytes: "bpf_xdp_store_bytes"
        case .copyFromUserTask: "bpf_copy_from_user_task"
        case .skbSetTstamp: "bpf_skb_set_tstamp"
        case .imaFileHash: "bpf_ima_file_hash"
        case .kptrXchg: "bpf_kptr_xchg"
        case .mapLookupPercpuElem: "bpf_map_lookup_percpu_elem"
        case .skcToMptcpSock: "bpf_skc_to_mptcp_sock"
        case .dynptrFromMem: "bpf_dynptr_from_mem"
        case .ringbufReserveDynptr: "bpf_ringbuf_reserve_dynptr"
        case .ringbufSubmitDynptr: "bpf_ringbuf_submit_dynptr"
        case .ringbufDiscardDynptr: "bpf_ringbuf_discard_dynptr"
        case .dynptrRead: "bpf_dynptr_read"
        case .dynptrWrite: "bpf_dynptr_write"
        case .dynptrData: "bpf_dynptr_data"
        case .tcpRawGenSyncookieIpv4: "bpf_tcp_raw_gen_syncookie_ipv4"
        case .tcpRawGenSyncookieIpv6: "bpf_tcp_raw_gen_syncookie_ipv6"
        case .tcpRawCheckSyncookieIpv4: "bpf_tcp_raw_check_syncookie_ipv4"
        case .tcpRawCheckSyncookieIpv6: "bpf_tcp_raw_check_syncookie_ipv6"
        case .ktimeGetTaiNs: "bpf_ktime_get_tai_ns"
        case .userRingbufDrain: "bpf_user_ringbuf_drain"
        case .cgrpStorageGet: "bpf_cgrp_storage_get"
        case .cgrpStorageDelete: "bpf_cgrp_storage_delete"
        case .iterNumNew: "bpf_iter_num_new"
        case .iterNumNext: "bpf_iter_num_next"
        case .iterNumDestroy: "bpf_iter_num_destroy"
        }
    }
}

extension Helper {
    /// A kernel function; in Linux its number is a BTF type id, which differs from kernel to kernel.
    package var isKernelFunction: Bool { rawValue > Helper.cgrpStorageDelete.rawValue }

    /// What an instruction calls; nil where it calls none, or one that there is not.
    package init?(calledBy instruction: Instruction) {
        guard let number = UInt32(exactly: instruction.imm), let helper = Helper(rawValue: number) else { return nil }
        switch instruction.opcode {
        case .callHelper: if helper.isKernelFunction { return nil }
        case .callKernelFunction: if !helper.isKernelFunction { return nil }
        default: return nil
        }
        self = helper
    }

    /// The number that libbpf writes over an instruction whose relocation cannot be resolved (`bpf_core_poison_insn`); logs show
    /// it as 195896080, and people know it.
    package static var poisoned: Int64 { 0xbad2310 }

    /// The same where the field is one of the kernel's objects that this runtime does not have.
    package static var poisonedField: Int64 { 0xbad2311 }
}
