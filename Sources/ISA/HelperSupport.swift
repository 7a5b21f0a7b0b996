/// Whether a helper exists in this runtime.
package enum HelperSupport: Equatable, Sendable {
    case implemented
    case refused(HelperRefusal)
}

/// Why a helper does not exist in this runtime.
package enum HelperRefusal: Equatable, Sendable {
    case task
    case interferes
    case counters
    case network
    case kernel
    case notYet

    /// The reason as the end of a sentence.
    package var reason: String {
        switch self {
        case .task: "it reads the kernel's task_struct, which a program in userspace cannot reach"
        case .interferes: "it changes what the traced program does, which this runtime never allows"
        case .counters: "it reads counters that the kernel keeps for its own programs"
        case .network: "it works on packets or sockets inside the kernel"
        case .kernel: "it needs an object that exists only inside the kernel"
        case .notYet: "it is not implemented"
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
            .mapLookupPercpuElem:
            .implemented
        case .getCurrentTask, .currentTaskUnderCgroup, .getTaskStack, .getCurrentTaskBtf,
            .taskPtRegs, .findVma, .copyFromUserTask:
            .refused(.task)
        case .probeWriteUser, .overrideReturn, .sendSignal, .sendSignalThread, .setRetval:
            .refused(.interferes)
        case .perfEventRead, .perfEventReadValue, .perfProgReadValue, .readBranchRecords, .getBranchSnapshot:
            .refused(.counters)
        case .skbStoreBytes, .l3CsumReplace, .l4CsumReplace, .cloneRedirect, .getCgroupClassid, .skbVlanPush,
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
        case .getCurrentCgroupId, .getLocalStorage, .sysctlGetName, .sysctlGetCurrentValue,
            .sysctlGetNewValue, .sysctlSetNewValue, .getCurrentAncestorCgroupId, .seqPrintf,
            .seqWrite, .inodeStorageGet, .inodeStorageDelete, .dPath, .seqPrintfBtf, .perCpuPtr, .thisCpuPtr,
            .taskStorageGet, .taskStorageDelete, .bprmOptsSet, .imaInodeHash, .sysBpf, .btfFindByNameKind,
            .sysClose, .kallsymsLookupName, .getRetval, .imaFileHash, .cgrpStorageGet, .cgrpStorageDelete:
            .refused(.kernel)
        case .spinLock, .spinUnlock, .snprintfBtf, .timerInit, .timerSetCallback, .timerStart, .timerCancel,
            .getFuncArg, .getFuncRet,
            .getFuncArgCnt, .kptrXchg, .dynptrFromMem, .ringbufReserveDynptr,
            .ringbufSubmitDynptr, .ringbufDiscardDynptr, .dynptrRead, .dynptrWrite, .dynptrData,
            .userRingbufDrain:
            .refused(.notYet)
        }
    }
}
