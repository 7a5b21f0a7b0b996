import Glibc
import ISA
import Testing

@testable import Verifier

/// Facts of the tables that need no kernel to ask.
@Suite struct TableTests {
    @Test func everyHelperOfThisRuntimeHasAPrototype() {
        for helper in Helper.allCases where helper.support == .implemented {
            #expect(HelperPrototype.of(helper) != nil, "\(helper.name)")
        }
    }

    @Test func everyRowIsFoundAtItsNumber() {
        let rows = HelperPrototype.baseHelpers + HelperPrototype.tracingHelpers + HelperPrototype.networkHelpers
        #expect(Set(rows.map(\.helper)).count == rows.count)
        for row in rows {
            let found = HelperPrototype.of(row.helper)
            #expect(found?.result == row.prototype.result && found?.count == row.prototype.count, "\(row.helper.name)")
        }
        #expect(HelperPrototype.of(.sysBpf) == nil)
    }

    @Test(
        arguments: [
            (.ktimeGetNs, 0), (.getFuncIp, 1), (.ringbufSubmit, 2), (.probeReadUserStr, 3), (.mapUpdateElem, 4),
            (.perfEventOutput, 5),
        ] as [(Helper, Int)]
    )
    func arguments(_ helper: Helper, _ count: Int) { #expect(HelperPrototype.of(helper)?.count == count) }

    /// A size follows the memory that it is of, and a map comes before its keys and values.
    @Test func argumentsFitTogether() {
        for helper in Helper.allCases {
            guard let prototype = HelperPrototype.of(helper) else { continue }
            var hasMap = false
            for index in 0..<prototype.count {
                switch prototype.arguments[index] {
                case .memory, .updatedMemory:
                    guard index < 4, case .size = prototype.arguments[index + 1] else {
                        Issue.record("\(helper.name): memory without a size")
                        continue
                    }
                case .map: hasMap = true
                case .mapKey, .mapValue, .mapValueOut, .mapValueOrNull: #expect(hasMap, "\(helper.name)")
                case .unused: Issue.record("\(helper.name): a gap")
                default: break
                }
            }
            if case .atMostSize(let argument) = prototype.result {
                let size = prototype.arguments[Int(argument) - 1]
                #expect(size == .size(zeroAllowed: true), "\(helper.name)")
            }
        }
    }

    @Test func processorsAreThoseOfThisMachine() {
        #expect(HelperPrototype.lastProcessor + 1 >= Int64(sysconf(Int32(_SC_NPROCESSORS_CONF))))
        #expect(HelperPrototype.lastProcessor < 8192)
        #expect(HelperPrototype.of(.getSmpProcessorId)?.result == .range(0, HelperPrototype.lastProcessor))
    }

    @Test func processesCallWhatTheRuntimeHas() {
        #expect(mayCall(.ktimeGetCoarseNs, .kprobe, isSleepable: false, on: .userspace))
        #expect(!mayCall(.ktimeGetCoarseNs, .kprobe, isSleepable: false))
        #expect(!mayCall(.taskPtRegs, .kprobe, isSleepable: false, on: .userspace))
        #expect(mayCall(.getCurrentTask, .kprobe, isSleepable: false))
        #expect(!mayCall(.copyFromUser, .kprobe, isSleepable: false))
        #expect(mayCall(.copyFromUser, .kprobe, isSleepable: true))
        #expect(!mayCall(.mapLookupElem, .lsm, isSleepable: false))
        for type in ProgramType.allCases {
            #expect(!mayCall(.probeWriteUser, type, isSleepable: true))
            #expect(!mayCall(.overrideReturn, type, isSleepable: true))
            #expect(!mayCall(.probeWriteUser, type, isSleepable: true, on: .userspace))
            #expect(mayCall(.probeWriteUser, type, isSleepable: true, on: .userspace, permissions: [.write]))
            #expect(!mayCall(.overrideReturn, type, isSleepable: true, on: .userspace, permissions: [.write]))
        }
    }

    @Test func mapsAndHelpers() {
        #expect(isCompatible(.mapLookupElem, .hash) && isCompatible(.mapLookupElem, .hashOfMaps))
        #expect(!isCompatible(.mapUpdateElem, .hashOfMaps) && !isCompatible(.mapLookupElem, .ringBuffer))
        #expect(isCompatible(.tailCall, .programArray) && !isCompatible(.tailCall, .array))
        #expect(isCompatible(.mapPeekElem, .bloomFilter) && !isCompatible(.mapPopElem, .bloomFilter))
        #expect(isCompatible(.forEachMapElem, .lruPerCPUHash) && !isCompatible(.forEachMapElem, .lpmTrie))
        #expect(isCompatible(.taskStorageGet, .taskStorage) && !isCompatible(.taskStorageGet, .hash))
        #expect(!isCompatible(.mapLookupElem, .arena))
    }

    /// In the kernel; in a process no probe waits for itself.
    @Test func locksAndTimersAreNotForProbes() {
        var locked = MapFacts(name: "m", type: .hash, keySize: 4, valueSize: 8, maxEntries: 1)
        var timed = locked
        locked.spinLock = 0
        timed.timer = 0
        #expect(!mayUse(locked, .kprobe, isSleepable: false) && !mayUse(locked, .socketFilter, isSleepable: false))
        #expect(!mayUse(timed, .tracepoint, isSleepable: false) && mayUse(timed, .socketFilter, isSleepable: false))
        #expect(mayUse(locked, .xdp, isSleepable: false))
        #expect(mayUse(locked, .kprobe, isSleepable: false, on: .userspace))
        #expect(!mayUse(timed, .kprobe, isSleepable: false, on: .userspace))
    }

    @Test func objects() {
        typealias KernelObject = HelperPrototype.KernelObject
        #expect(KernelObject.socketCommon.takes(.tcpSocket) && KernelObject.socketCommon.takes(.socket))
        #expect(!KernelObject.socketCommon.takes(.requestSocket) && KernelObject.anySocket.takes(.requestSocket))
        #expect(
            KernelObject.task.takes(.task) && !KernelObject.task.takes(.cgroup) && !KernelObject.other.takes(.other)
        )
    }

    @Test(
        arguments: [
            (.schedCls, 8, "__sk_buff.mark"), (.socketFilter, 49, "__sk_buff.cb[0]"),
            (.socketFilter, 64, "__sk_buff.cb[4]"), (.cgroupSKB, 112, "__sk_buff.remote_ip6[3]"),
            (.schedCls, 182, nil), (.kprobe, 112, "pt_regs.di"), (.kprobe, 160, "pt_regs.ss"), (.kprobe, 168, nil),
            (.perfEvent, 0, "bpf_perf_event_data.regs.r15"), (.perfEvent, 171, "bpf_perf_event_data.sample_period"),
            (.xdp, 20, "xdp_md.egress_ifindex"), (.rawTracepoint, 17, "bpf_raw_tracepoint_args.args[2]"),
            (.xdp, -1, nil),
        ] as [(ProgramType, Int, String?)]
    )
    func fieldNames(_ type: ProgramType, _ offset: Int, _ name: String?) throws {
        #expect(try #require(ContextModel.of(type)).fieldName(at: offset) == name)
    }

    @Test func contexts() throws {
        let classifier = try #require(ContextModel.of(.schedCls))
        #expect(classifier.access(offset: 76, size: 4, isWrite: false) == .packet)
        #expect(classifier.access(offset: 76, size: 2, isWrite: false) == nil)
        #expect(classifier.access(offset: 140, size: 4, isWrite: false) == .packetMeta)
        #expect(classifier.access(offset: 10, size: 2, isWrite: false) == .scalar)
        #expect(classifier.access(offset: 10, size: 2, isWrite: true) == nil)
        #expect(classifier.access(offset: 8, size: 4, isWrite: true) == .scalar)
        #expect(
            classifier.access(offset: 168, size: 8, isWrite: false) == .kernelObject(.socketCommon, isNullable: true)
        )
        let filter = try #require(ContextModel.of(.socketFilter))
        #expect(filter.access(offset: 76, size: 4, isWrite: false) == nil)
        let uprobe = try #require(ContextModel.of(.kprobe))
        #expect(uprobe.access(offset: 160, size: 8, isWrite: false) == .scalar)
        #expect(uprobe.access(offset: 168, size: 8, isWrite: false) == nil)
        #expect(uprobe.access(offset: 4, size: 8, isWrite: false) == nil)
        #expect(uprobe.access(offset: 112, size: 8, isWrite: true) == nil)
        #expect(ContextModel.of(.lsm) == nil && ContextModel.of(.unspecified) == nil)
    }

    /// Fields lie one after the other, so that an offset has one name.
    @Test func fieldsDoNotOverlap() {
        let structures = [
            ContextField.socketBuffer, ContextField.xdp, ContextField.registers, ContextField.perfEvent,
            ContextField.tracepoint, ContextField.rawTracepoint, ContextField.rawTracepointWritable,
        ]
        for fields in structures {
            for (field, next) in zip(fields, fields.dropFirst()) { #expect(field.end <= next.offset, "\(next.name)") }
            for field in fields { #expect(field.size % field.elementSize == 0, "\(field.name)") }
        }
    }

    @Test func results() {
        #expect(returnRange(.cgroupSKB, attachType: 0) == 0...1)
        #expect(returnRange(.cgroupSKB, attachType: AttachType.cgroupEgress) == 0...3)
        #expect(returnRange(.kprobe, attachType: 0) == nil)
        #expect(returnRange(.kprobe, attachType: AttachType.uprobeSession) == 0...1)
        #expect(returnRange(.xdp, attachType: 0) == nil)
    }
}
