import ISA

/// Whether a program may call a helper.
///
/// In a process: what `Helper.support` says, and what its user allows. In the kernel: what Linux 6.18 offers programs of that type
/// (`bpf_verifier_ops.get_func_proto`; how they are attached makes no difference), where it allows nobody to write to
/// user memory or to replace return values.
/// Helpers that may wait are only for programs that may, too.
func mayCall(
    _ helper: Helper,
    _ type: ProgramType,
    isSleepable: Bool,
    on platform: Subject.Platform = .kernel,
    permissions: Set<HelperPermission> = []
) -> Bool {
    switch platform {
    case .userspace:
        switch helper.support {
        case .implemented: true
        case .optional(let permission): permissions.contains(permission)
        case .refused: false
        }
    case .kernel:
        ProgramTypes.calling[Int(helper.rawValue)].contains(ProgramTypes(type))
            && (isSleepable || HelperPrototype.of(helper)?.maySleep == false)
    }
}

/// A set of program types.
struct ProgramTypes: OptionSet {
    let rawValue: UInt64

    init(rawValue: UInt64) { self.rawValue = rawValue }
    init(_ type: ProgramType) { rawValue = 1 << UInt64(type.rawValue) }

    static let socketFilter = ProgramTypes(.socketFilter)
    static let kprobe = ProgramTypes(.kprobe)
    static let perfEvent = ProgramTypes(.perfEvent)
    static let xdp = ProgramTypes(.xdp)
    static let cgroupSKB = ProgramTypes(.cgroupSKB)
    static let skSKB = ProgramTypes(.skSKB)
    static let flowDissector = ProgramTypes(.flowDissector)
    static let lwtIn = ProgramTypes(.lwtIn)
    static let lwtXmit = ProgramTypes(.lwtXmit)
    static let lwtSeg6local = ProgramTypes(.lwtSeg6local)
    static let classifier: ProgramTypes = [ProgramTypes(.schedCls), ProgramTypes(.schedAct)]
    static let lightweightTunnel: ProgramTypes = [lwtIn, ProgramTypes(.lwtOut), lwtXmit, lwtSeg6local]
    static let tracing: ProgramTypes = [
        kprobe, ProgramTypes(.tracepoint), ProgramTypes(.rawTracepoint), ProgramTypes(.rawTracepointWritable),
        perfEvent,
    ]
    /// Those with a `struct __sk_buff` that holds a packet.
    static let socketBuffer: ProgramTypes = [socketFilter, classifier, cgroupSKB, skSKB, lightweightTunnel]
    static let packet: ProgramTypes = [socketBuffer, flowDissector, xdp]
    /// Those that this verifier knows.
    static let known: ProgramTypes = [packet, tracing]
}

extension ProgramTypes {
    /// The types that may call a helper, by its number.
    static let calling: [ProgramTypes] = {
        var table = [ProgramTypes](repeating: [], count: 1 + Helper.allCases.count)
        for row in HelperPrototype.baseHelpers { table[Int(row.helper.rawValue)] = known }
        for (types, helpers) in offers { for helper in helpers { table[Int(helper.rawValue)] = types } }
        return table
    }()

    /// Who may call what is not for all.
    private static let offers: [(ProgramTypes, [Helper])] = [
        (tracing, [.probeRead, .probeReadStr, .getStackid, .getStack, .getAttachCookie]),
        (kprobe, [.getFuncIp]),
        (perfEvent, [.perfProgReadValue, .readBranchRecords]),
        (
            packet,
            [
                .ktimeGetCoarseNs, .skcToTcp6Sock, .skcToTcpSock, .skcToTcpTimewaitSock, .skcToTcpRequestSock,
                .skcToUdp6Sock, .skcToUnixSock, .skcToMptcpSock,
            ]
        ),
        ([tracing, socketBuffer, xdp], [.perfEventOutput]),
        ([socketBuffer, flowDissector], [.skbLoadBytes]),
        ([socketFilter, classifier, cgroupSKB, skSKB], [.getSocketCookie, .getSocketUid]),
        ([socketFilter, classifier, cgroupSKB], [.skbLoadBytesRelative, .getNetnsCookie]),
        (
            [classifier, cgroupSKB],
            [
                .skbCgroupId, .skbAncestorCgroupId, .skFullsock, .tcpSock, .skbEcnSetCe, .getListenerSock,
                .skStorageGet, .skStorageDelete,
            ]
        ),
        (cgroupSKB, [.getLocalStorage, .skCgroupId, .skAncestorCgroupId]),
        ([classifier, xdp, cgroupSKB, skSKB], [.skLookupTcp, .skLookupUdp, .skcLookupTcp, .skRelease]),
        (skSKB, [.skRedirectMap, .skRedirectHash]),
        ([classifier, skSKB], [.skbAdjustRoom]),
        ([classifier, lwtXmit, skSKB], [.skbStoreBytes, .skbChangeTail, .skbChangeHead]),
        ([classifier, lightweightTunnel, skSKB], [.skbPullData]),
        ([classifier, lightweightTunnel], [.getRouteRealm, .skbUnderCgroup, .getHashRecalc]),
        ([classifier, lightweightTunnel, xdp], [.csumDiff]),
        (
            [classifier, lwtXmit],
            [
                .l3CsumReplace, .l4CsumReplace, .cloneRedirect, .skbGetTunnelKey, .skbSetTunnelKey, .skbGetTunnelOpt,
                .skbSetTunnelOpt, .csumUpdate, .setHashInvalid, .csumLevel,
            ]
        ),
        ([classifier, lwtXmit, xdp], [.redirect]),
        (
            classifier,
            [
                .skbVlanPush, .skbVlanPop, .skbChangeProto, .skbChangeType, .setHash, .skbGetXfrmState, .skAssign,
                .skbCgroupClassid, .redirectNeigh, .redirectPeer, .skbSetTstamp,
            ]
        ),
        (
            [classifier, xdp],
            [
                .fibLookup, .tcpCheckSyncookie, .tcpGenSyncookie, .checkMtu, .tcpRawGenSyncookieIpv4,
                .tcpRawGenSyncookieIpv6, .tcpRawCheckSyncookieIpv4, .tcpRawCheckSyncookieIpv6,
            ]
        ),
        (
            xdp,
            [
                .xdpAdjustHead, .xdpAdjustMeta, .xdpAdjustTail, .xdpGetBuffLen, .xdpLoadBytes, .xdpStoreBytes,
                .redirectMap,
            ]
        ),
        ([lwtIn, lwtXmit], [.lwtPushEncap]),
        (lwtSeg6local, [.lwtSeg6StoreBytes, .lwtSeg6AdjustSrh, .lwtSeg6Action]),
    ]
}
