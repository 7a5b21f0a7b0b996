import Glibc
import ISA
import Testing

@testable import Kernel
@testable import Loader

private let root = Comment("the kernel's bpf(2) is for root here")

@Suite struct KernelProgramTests {
    @Test(.enabled(if: geteuid() == 0, root))
    func aProgramRuns() throws {
        let program = try KernelProgram(
            [Instruction(.mov64Imm, dst: .r0, imm: 42), Instruction(.exit)],
            type: .socketFilter
        )
        let run = try program.run(packet: [UInt8](repeating: 0, count: 64), count: 10)
        #expect(run.result == 42)
    }

    @Test(.enabled(if: geteuid() == 0, root))
    func contextComesBack() throws {
        // *(u32 *)(r1 + 4) = 7; r0 = 3
        let program = try KernelProgram(
            [
                Instruction(.store32Imm, dst: .r1, offset: 4, imm: 7), Instruction(.mov64Imm, dst: .r0, imm: 3),
                Instruction(.exit),
            ],
            type: .syscall,
            flags: 1 << 4
        )
        let run = try program.run(context: [1, 0, 0, 0, 0, 0, 0, 0])
        #expect(run.result == 3)
        #expect(run.context == [1, 0, 0, 0, 7, 0, 0, 0])
    }

    @Test(.enabled(if: geteuid() == 0, root))
    func aRefusalSaysWhy() throws {
        do throws(KernelError) {
            _ = try KernelProgram([Instruction(.exit)], type: .socketFilter)
            Issue.record("r0 was never written")
        } catch {
            #expect(error.errno == EACCES)
            #expect(error.log.contains("R0 !read_ok"))
        }
    }

    @Test(.enabled(if: geteuid() != 0, "only says something without privileges"))
    func withoutPrivileges() {
        do throws(KernelError) {
            _ = try KernelProgram([Instruction(.mov64Imm), Instruction(.exit)], type: .kprobe)
            Issue.record("an unprivileged program was loaded")
        } catch {
            #expect(error.errno == EPERM)
            #expect(error.call == "bpf(PROG_LOAD)")
        }
    }
}

@Suite struct KernelMapTests {
    @Test(.enabled(if: geteuid() == 0, root))
    func roundTrip() throws {
        let map = try KernelMap(type: .hash, keySize: 8, valueSize: 4, maxEntries: 2)
        let key: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]
        #expect(try map.lookup(key) == nil)
        #expect(map.update(key, [9, 0, 0, 0]) == 0)
        #expect(try map.lookup(key) == [9, 0, 0, 0])
        #expect(map.update(key, [9, 0, 0, 0], flags: 1) == -Int64(EEXIST))
        #expect(try map.nextKey(nil) == key)
        #expect(try map.nextKey(key) == nil)
        #expect(map.delete(key) == 0)
        #expect(map.delete(key) == -Int64(ENOENT))
        try map.freeze()
        #expect(map.update(key, [1, 0, 0, 0]) == -Int64(EPERM))
    }

    /// All at once and one by one give the same, whatever the number of elements and of CPUs.
    @Test(
        .enabled(if: geteuid() == 0, root),
        arguments: [MapType.hash, .lruHash, .array, .perCPUHash, .perCPUArray, .lpmTrie]
    )
    func allEntries(type: MapType) throws {
        for count in [0, 1, 4096, 9000] {
            let map = try KernelMap(
                type: type,
                keySize: type == .lpmTrie ? 8 : 4,
                valueSize: 8,
                maxEntries: 10_000,
                flags: type == .lpmTrie ? 1 : 0
            )
            for index in 0..<count {
                let number = (0..<4).map { UInt8(truncatingIfNeeded: index >> (8 * $0)) }
                let key = type == .lpmTrie ? [32, 0, 0, 0] + number : number
                #expect(map.update(key, [UInt8](repeating: UInt8(index % 251), count: map.valueSize)) == 0)
            }
            var one: [[UInt8]: [UInt8]] = [:]
            var key = try map.nextKey(nil)
            while let present = key {
                one[present] = try map.lookup(present)
                key = try map.nextKey(present)
            }
            let all = try #require(try map.allEntries(limit: 10_000))
            #expect(all.count == one.count)
            #expect(one.count == (type == .array || type == .perCPUArray ? 10_000 : count))
            #expect(all.allSatisfy { one[$0.key] == $0.value })
        }
        // Values of a megabyte: a call takes a few of them.
        let large = try KernelMap(type: .hash, keySize: 4, valueSize: 1 << 20, maxEntries: 12, flags: 1)
        for index in 0..<12 {
            #expect(large.update([UInt8(index), 0, 0, 0], [UInt8](repeating: 7, count: 1 << 20)) == 0)
        }
        #expect(try large.allEntries(limit: 12)?.count == 12)
        let ring = try KernelMap(type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: 4096)
        #expect(try ring.allEntries(limit: 1) == nil)
    }

    @Test(
        .enabled(if: geteuid() == 0, root),
        .enabled(if: access(KernelMap.pinDirectory, W_OK) == 0, "no BPF filesystem is mounted")
    )
    func pinnedMapsOutliveTheirMakers() throws {
        let path = "\(KernelMap.pinDirectory)/ubpf_test_\(getpid())"
        defer { unlink(path) }
        var spec = MapSpec(
            name: "m",
            type: .hash,
            keySize: 4,
            valueSize: 8,
            maxEntries: 10,
            flags: 0,
            contents: nil,
            isReadOnly: false,
            variables: []
        )
        if try KernelMap.pinned(path, as: spec) != nil { Issue.record("\(path) is there") }
        do {
            let map = try KernelMap(type: .hash, keySize: 4, valueSize: 8, maxEntries: 10)
            #expect(map.update([1, 0, 0, 0], [7, 0, 0, 0, 0, 0, 0, 0]) == 0)
            try map.pin(path)
            #expect(throws: KernelError.self) { try map.pin(path) }
        }
        let pinned = try KernelMap.pinned(path, as: spec)
        let again = try pinned?.lookup([1, 0, 0, 0])
        #expect(again == [7, 0, 0, 0, 0, 0, 0, 0])
        spec.valueSize = 16
        #expect { _ = try KernelMap.pinned(path, as: spec) } throws: {
            ($0 as? KernelError)?.description.contains("another kind of map is pinned at \(path)") == true
        }
    }

    @Test func whatNoKernelMakes() {
        #expect(throws: KernelError.self) { _ = try KernelMap(type: .hash, keySize: 0, valueSize: 0, maxEntries: 0) }
    }
}

/// Attached programs, and what they send; getppid(2) is called by nobody else in this process, one at a time.
@Suite(.serialized, .enabled(if: geteuid() == 0, root)) struct KernelLinkTests {
    /// Writes 42 to a ring buffer at each hit, where the caller is this process.
    private func ringWriter(_ map: borrowing KernelMap) -> [Instruction] {
        [
            Instruction(.callHelper, imm: 14), Instruction(.rsh64Imm, dst: .r0, imm: 32),
            Instruction(.jumpNotEqual64Imm, dst: .r0, offset: 8, imm: Int64(getpid())),
            Instruction(.store64Imm, dst: .r10, offset: -8, imm: 42),
            Instruction(.loadMap, dst: .r1, imm: Int64(map.descriptor)),
            Instruction(.mov64Reg, dst: .r2, src: .r10), Instruction(.add64Imm, dst: .r2, imm: -8),
            Instruction(.mov64Imm, dst: .r3, imm: 8), Instruction(.mov64Imm, dst: .r4, imm: 0),
            Instruction(.callHelper, imm: 130), Instruction(.mov64Imm, dst: .r0, imm: 0), Instruction(.exit),
        ]
    }

    @Test func aTracepointFillsARing() throws {
        let map = try KernelMap(type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: 4096)
        var ring = try KernelRing.open(map.descriptor, size: 4096)
        let program = try KernelProgram(ringWriter(map), type: .tracepoint)
        let files = try TraceFiles()
        let found = files.identifier("syscalls/sys_enter_getppid")
        let identifier = try #require(found)
        do {
            let link = try KernelLink.tracepoint(program, identifier: identifier)
            // More than the ring holds at once, so that it wraps.
            for _ in 0..<1000 {
                _ = getppid()
                #expect(ring.next() == [42, 0, 0, 0, 0, 0, 0, 0])
            }
            #expect(ring.next() == nil)
            _ = consume link
        }
        _ = getppid()
        #expect(ring.next() == nil, "the link was closed")
    }

    @Test func aPerfBufferWraps() throws {
        let map = try KernelMap(type: .perfEventArray, keySize: 4, valueSize: 4, maxEntries: possibleCPUs)
        let number = { (value: Int32) in (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * Int32($0))) } }
        // perf_event_output(ctx, map, BPF_F_CURRENT_CPU, fp - 8, 8)
        let program = try KernelProgram(
            [
                Instruction(.mov64Reg, dst: .r6, src: .r1), Instruction(.callHelper, imm: 14),
                Instruction(.rsh64Imm, dst: .r0, imm: 32),
                Instruction(.jumpNotEqual64Imm, dst: .r0, offset: 10, imm: Int64(getpid())),
                Instruction(.store64Imm, dst: .r10, offset: -8, imm: 7),
                Instruction(.mov64Reg, dst: .r1, src: .r6),
                Instruction(.loadMap, dst: .r2, imm: Int64(map.descriptor)),
                Instruction(.loadImm64, dst: .r3, imm: 0xffff_ffff),
                Instruction(.mov64Reg, dst: .r4, src: .r10), Instruction(.add64Imm, dst: .r4, imm: -8),
                Instruction(.mov64Imm, dst: .r5, imm: 8), Instruction(.callHelper, imm: 25),
                Instruction(.mov64Imm, dst: .r0, imm: 0), Instruction(.exit),
            ],
            type: .tracepoint
        )
        var buffers: [Buffer] = []
        for cpu in 0..<Int32(possibleCPUs) {
            guard let buffer = try Buffer(cpu) else { continue }
            #expect(map.update(number(cpu), number(buffer.buffer.descriptor)) == 0)
            buffers.append(buffer)
        }
        let next = { () -> PerfBuffer.Record? in
            for buffer in buffers { if let record = buffer.buffer.next() { return record } }
            return nil
        }
        let files = try TraceFiles()
        let found = files.identifier("syscalls/sys_enter_getppid")
        let link = try KernelLink.tracepoint(program, identifier: try #require(found))
        // More than a page holds, so that it wraps.
        for _ in 0..<2000 {
            _ = getppid()
            guard case .sample(let bytes) = next() else {
                Issue.record("no sample")
                return
            }
            #expect(bytes.prefix(8) == [7, 0, 0, 0, 0, 0, 0, 0])
        }
        // Nobody reads: the kernel says how many were lost, with the next one on that CPU.
        for _ in 0..<5000 { _ = getppid() }
        var lost: UInt64 = 0
        for _ in 0..<100_000 where lost == 0 {
            _ = getppid()
            while let record = next() { if case .lost(let count) = record { lost += count } }
        }
        #expect(lost > 500)
        _ = consume link
    }

    private final class Buffer {
        var buffer: PerfBuffer

        init?(_ cpu: Int32) throws(KernelError) {
            guard let opened = try PerfBuffer.open(cpu: cpu, pages: 1) else { return nil }
            buffer = opened
        }
    }

    @Test func whatIsMissingIsSaid() throws {
        let program = try KernelProgram(
            [Instruction(.mov64Imm, dst: .r0, imm: 0), Instruction(.exit)],
            type: .rawTracepoint
        )
        do throws(KernelError) {
            _ = try KernelLink.rawTracepoint(program, name: "no_such_tracepoint")
            Issue.record("attached to nothing")
        } catch {
            #expect(error.errno == ENOENT)
            #expect(error.call == "bpf(RAW_TRACEPOINT_OPEN)")
        }
        let files = try TraceFiles()
        let missing = ["syscalls/sys_enter_nothing", "../events/syscalls/sys_enter_read"].map { files.identifier($0) }
        #expect(missing == [nil, nil])
    }

    @Test func theTraceInstanceGoesWithItsOwner() throws {
        let files = try TraceFiles()
        let name = "\(files.path)/instances/ubpfrun-\(getpid())"
        // What a controller that was killed left.
        let stale = "\(files.path)/instances/ubpfrun-2147483000"
        #expect(unsafe mkdir(stale, 0o700) == 0)
        do {
            var instance = try TraceInstance.make()
            #expect(unsafe access(name, F_OK) == 0)
            #expect(unsafe access(stale, F_OK) != 0)
            _ = instance.lines()
        }
        #expect(unsafe access(name, F_OK) != 0)
    }
}

@Suite struct TraceLineTests {
    @Test(arguments: [
        (
            "            bash-123     [001] ...11  12.5: bpf_trace_printk: hello: you", "bash", Int32(123), "hello: you"
        ),
        ("   my-tool v2-77 [000] d..31 1.0: bpf_trace_printk: x", "my-tool v2", 77, "x"),
        ("  <idle>-0       [001] d..2. 3.1: bpf_trace_printk: ", "<idle>", 0, ""),
        ("CPU:1 [LOST 12 EVENTS]", "", 0, "CPU:1 [LOST 12 EVENTS]"),
    ])
    func lines(_ line: String, _ comm: String, _ thread: Int32, _ text: String) {
        #expect(TraceInstance.parse(line) == TraceInstance.Line(comm: comm, thread: thread, text: text))
    }
}

@Suite struct KernelSymbolTests {
    private static let text = """
        ffffffff81000000 T _text
        ffffffff81000000 T _stext
        ffffffff81000100 t vfs_read
        ffffffff81000180 d some_data
        ffffffff81000200 W vfs_write
        ffffffffc0001000 t virtnet_poll\t[virtio_net]
        ffffffffc0002000 t bpf_prog_6deef7357e7b4530_on_exit\t[bpf]

        """

    @Test(
        arguments: [
            (0xffff_ffff_8100_0000, "_text+0"), (0xffff_ffff_8100_01ff, "vfs_read+255"),
            (0xffff_ffff_8100_0200, "vfs_write+0"),
            (0xffff_ffff_c000_1010, "virtnet_poll+16 virtio_net"),
        ] as [(UInt64, String)]
    )
    func namesOfAddresses(_ address: UInt64, _ wanted: String) throws {
        let symbol = try #require(KernelSymbols(Array(Self.text.utf8)).symbol(at: address))
        #expect("\(symbol.name)+\(symbol.offset)" + (symbol.module.map { " \($0)" } ?? "") == wanted)
    }

    @Test func whatHasNoName() {
        let symbols = KernelSymbols(Array(Self.text.utf8))
        #expect(symbols.symbol(at: 0x1000) == nil)
        #expect(symbols.functions { $0.hasPrefix("vfs_") || $0.hasPrefix("bpf_prog") } == ["vfs_read", "vfs_write"])
        // Without privileges all addresses are 0.
        #expect(KernelSymbols(Array("0000000000000000 T _text\n".utf8)).isEmpty)
        #expect(KernelSymbols([]).symbol(at: 1) == nil)
        #expect(KernelSymbols(Array("ffffffff81000000".utf8)).isEmpty)
    }

    @Test(.enabled(if: geteuid() == 0, root))
    func theRunningKernel() throws {
        let found = KernelSymbols.shared.functions { $0 == "vfs_read" || $0 == "do_sys_openat2" }
        #expect(Set(found) == ["vfs_read", "do_sys_openat2"])
    }
}

/// Attaching that not every kernel can do: what it says it can, it does.
@Suite(.enabled(if: geteuid() == 0, root)) struct KernelFeatureTests {
    private func counter(_ map: borrowing KernelMap, attachType: UInt32, type: ProgramType) throws -> KernelProgram {
        try KernelProgram(
            [
                Instruction(.store32Imm, dst: .r10, offset: -4, imm: 0),
                Instruction(.loadMap, dst: .r1, imm: Int64(map.descriptor)),
                Instruction(.mov64Reg, dst: .r2, src: .r10), Instruction(.add64Imm, dst: .r2, imm: -4),
                Instruction(.callHelper, imm: 1), Instruction(.jumpEqual64Imm, dst: .r0, offset: 2, imm: 0),
                Instruction(.mov64Imm, dst: .r1, imm: 1), Instruction(.atomicAdd64, dst: .r0, src: .r1),
                Instruction(.mov64Imm, dst: .r0, imm: 0), Instruction(.exit),
            ],
            type: type,
            attachType: attachType
        )
    }

    @Test func samplesOfACPU() throws {
        let map = try KernelMap(type: .array, keySize: 4, valueSize: 8, maxEntries: 1)
        let program = try counter(map, attachType: 0, type: .perfEvent)
        // Counters of cycles may be missing; the clock is not.
        do throws(KernelError) { _ = try KernelLink.sampling(program, cpu: 0, frequency: 99, by: .cycles) } catch {
            #expect([ENOENT, EOPNOTSUPP, ENODEV].contains(error.errno), "\(error)")
        }
        var links: [LinkHolder] = []
        for cpu in 0..<Int32(possibleCPUs) {
            if let link = try? KernelLink.sampling(program, cpu: cpu, frequency: 999, by: .cpuClock) {
                links.append(LinkHolder(link))
            }
        }
        #expect(!links.isEmpty)
        var spun: UInt64 = 0
        let end = time(nil) + 2
        while time(nil) < end { spun &+= 1 }
        let value = try map.lookup([0, 0, 0, 0])
        #expect(try #require(value).contains { $0 != 0 }, "spun \(spun) times")
    }

    private final class LinkHolder {
        let link: KernelLink
        init(_ link: consuming KernelLink) { self.link = link }
    }

    @Test func manyPlacesOfAFile() throws {
        switch KernelFeatures.uprobeMulti {
        case .no: return
        case .unknown(let why): Issue.record("\(why)")
        case .yes:
            let map = try KernelMap(type: .array, keySize: 4, valueSize: 8, maxEntries: 1)
            let program = try counter(map, attachType: AttachType.uprobeMulti, type: .kprobe)
            #expect(throws: KernelError.self) {
                _ = try KernelLink.uprobes(
                    program,
                    path: "/nonexistent",
                    places: [.init(offset: 0)],
                    isReturn: false,
                    pid: nil
                )
            }
        }
    }

    @Test func manyFunctionsOfTheKernel() throws {
        switch KernelFeatures.kprobeMulti {
        case .no: return
        case .unknown(let why): Issue.record("\(why)")
        case .yes:
            let map = try KernelMap(type: .array, keySize: 4, valueSize: 8, maxEntries: 1)
            let program = try counter(map, attachType: AttachType.kprobeMulti, type: .kprobe)
            let link = try KernelLink.kprobes(program, functions: ["__x64_sys_getpgid"], isReturn: false)
            _ = getpgid(0)
            _ = consume link
            let value = try map.lookup([0, 0, 0, 0])
            #expect(value?.first != 0)
        }
    }
}
