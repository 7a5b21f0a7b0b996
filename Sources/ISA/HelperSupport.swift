/// Whether a helper exists in this runtime.
package enum HelperSupport: Equatable, Sendable {
    case implemented
    /// For those who ask for it by an option.
    case optional(HelperPermission)
    case refused(HelperRefusal)
}

/// What programs may do to the process that they run in where the user allows it.
package enum HelperPermission: CaseIterable, Sendable {
    case write
    case override

    /// What it lets a program do, as the end of a sentence.
    package var meaning: String {
        switch self {
        case .write: "it writes to the memory of the process"
        case .override: "it lets the function at hand return without having run"
        }
    }

    /// The option of `ubpfrun` that allows it.
    package var option: String {
        switch self {
        case .write: "--allow-write"
        case .override: "--allow-override"
        }
    }
}

/// Why a helper does not exist in this runtime.
package enum HelperRefusal: Equatable, Sendable {
    case task
    case registers
    case traffic
    case interferes
    case counters
    case network
    case kernel
    case branches
    case timers
    case trampolines

    /// The reason as the end of a sentence.
    package var reason: String {
        switch self {
        case .task: "it hands out a mapping of a task, which only the kernel can hold still"
        case .registers: "it gives the registers of a task, which are the program's context here"
        case .traffic:
            "it asks for a class of network packets, which groups of version 1 (net_cls) give them in the kernel"
        case .interferes: "it changes what the traced program does, which this runtime never allows"
        case .counters: "it reads a perf event, and a perf event array here is one buffer for records"
        case .network: "it works on packets or sockets inside the kernel"
        case .kernel: "it needs an object that exists only inside the kernel"
        case .timers: "nothing could call it back: this runtime has no thread of its own in a process"
        case .branches: "it reads the branches that the processor has noted, which only the kernel can"
        case .trampolines: "only programs on functions of the kernel have it (fentry, fexit)"
        }
    }
}

extension Helper {
    /// Whether the helper exists in this runtime.
    package var support: HelperSupport {
        switch self {
        case .ktimeGetNs, .getPrandomU32, .getSmpProcessorId, .getCurrentPidTgid, .getCurrentUidGid, .ktimeGetBootNs,
            .ktimeGetCoarseNs, .ktimeGetTaiNs, .getFuncIp, .getAttachCookie, .mapLookupElem, .mapDeleteElem,
            .tracePrintk, .getCurrentComm, .ringbufSubmit, .ringbufDiscard, .ringbufQuery, .probeRead, .tailCall,
            .getStackid, .probeReadStr, .probeReadUser, .probeReadKernel, .probeReadUserStr, .probeReadKernelStr,
            .ringbufReserve, .strncmp, .mapUpdateElem, .getStack, .ringbufOutput, .forEachMapElem, .loop,
            .perfEventOutput, .getNumaNodeId, .jiffies64, .strtol, .strtoul, .copyFromUser, .snprintf, .traceVprintk,
            .getNsCurrentPidTgid, .iterNumNew, .iterNumNext, .iterNumDestroy, .mapPushElem, .mapPopElem, .mapPeekElem,
            .mapLookupPercpuElem, .taskStorageGet, .taskStorageDelete, .getCurrentTask, .getCurrentTaskBtf, .spinLock,
            .spinUnlock, .sendSignal,
            .sendSignalThread, .dynptrFromMem,
            .ringbufReserveDynptr, .ringbufSubmitDynptr, .ringbufDiscardDynptr, .dynptrRead, .dynptrWrite, .dynptrData,
            .userRingbufDrain, .currentTaskUnderCgroup, .getCurrentCgroupId, .getCurrentAncestorCgroupId, .getTaskStack,
            .copyFromUserTask:
            .implemented
        case .probeWriteUser: .optional(.write)
        case .overrideReturn: .optional(.override)
        case .getCgroupClassid: .refused(.traffic)
        case .findVma: .refused(.task)
        case .taskPtRegs: .refused(.registers)
        case .setRetval:
            .refused(.interferes)
        case .perfEventRead, .perfEventReadValue, .perfProgReadValue: .refused(.counters)
        case .readBranchRecords, .getBranchSnapshot: .refused(.branches)
        case .skbStoreBytes, .l3CsumReplace, .l4CsumReplace, .cloneRedirect, .skbVlanPush,
            .skbVlanPop, .skbGetTunnelKey, .skbSetTunnelKey, .redirect, .getRouteRealm, .skbLoadBytes,
            .csumDiff, .skbGetTunnelOpt, .skbSetTunnelOpt, .skbChangeProto, .skbChangeType, .skbUnderCgroup,
            .getHashRecalc, .skbChangeTail, .skbPullData, .csumUpdate, .setHashInvalid, .skbChangeHead,
            .xdpAdjustHead, .getSocketCookie, .getSocketUid, .setHash, .setsockopt, .skbAdjustRoom,
            .redirectMap, .skRedirectMap, .sockMapUpdate, .xdpAdjustMeta, .getsockopt, .sockOpsCbFlagsSet,
            .msgRedirectMap, .msgApplyBytes, .msgCorkBytes, .msgPullData, .bind, .xdpAdjustTail,
            .skbGetXfrmState, .skbLoadBytesRelative, .fibLookup, .sockHashUpdate, .msgRedirectHash,
            .skRedirectHash, .lwtPushEncap, .lwtSeg6StoreBytes, .lwtSeg6AdjustSrh, .lwtSeg6Action, .rcRepeat,
            .rcKeydown, .skbCgroupId, .skSelectReuseport, .skbAncestorCgroupId, .skLookupTcp, .skLookupUdp,
            .skRelease, .msgPushData, .msgPopData, .rcPointerRel, .skFullsock, .tcpSock, .skbEcnSetCe,
            .getListenerSock, .skcLookupTcp, .tcpCheckSyncookie, .skStorageGet, .skStorageDelete,
            .tcpGenSyncookie, .skbOutput, .tcpSendAck, .xdpOutput, .getNetnsCookie, .skAssign, .skCgroupId,
            .skAncestorCgroupId, .csumLevel, .skcToTcp6Sock, .skcToTcpSock, .skcToTcpTimewaitSock,
            .skcToTcpRequestSock, .skcToUdp6Sock, .loadHdrOpt, .storeHdrOpt, .reserveHdrOpt, .skbCgroupClassid,
            .redirectNeigh, .redirectPeer, .sockFromFile, .checkMtu, .skcToUnixSock, .xdpGetBuffLen,
            .xdpLoadBytes, .xdpStoreBytes, .skbSetTstamp, .skcToMptcpSock, .tcpRawGenSyncookieIpv4,
            .tcpRawGenSyncookieIpv6, .tcpRawCheckSyncookieIpv4, .tcpRawCheckSyncookieIpv6:
            .refused(.network)
        case .getLocalStorage, .sysctlGetName, .sysctlGetCurrentValue,
            .sysctlGetNewValue, .sysctlSetNewValue, .seqPrintf, .snprintfBtf, .kptrXchg,
            .seqWrite, .inodeStorageGet, .inodeStorageDelete, .dPath, .seqPrintfBtf, .perCpuPtr, .thisCpuPtr,
            .bprmOptsSet, .imaInodeHash, .sysBpf, .btfFindByNameKind,
            .sysClose, .kallsymsLookupName, .getRetval, .imaFileHash, .cgrpStorageGet, .cgrpStorageDelete:
            .refused(.kernel)
        case .timerInit, .timerSetCallback, .timerStart, .timerCancel: .refused(.timers)
        case .getFuncArg, .getFuncRet, .getFuncArgCnt:
            .refused(.trampolines)
        }
    }
}

/// The fields of `struct task_struct` that programs in a process can read, by their names in the kernel.
package enum TaskField: String, CaseIterable, Sendable {
    case pid, tgid, comm
    case realParent = "real_parent"
    case parent
    case groupLeader = "group_leader"
    case startTime = "start_time"
    case startBoottime = "start_boottime"
    case exitCode = "exit_code"
}
