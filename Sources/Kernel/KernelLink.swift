import CLinux
import Glibc

/// Where a program is attached, until its end: the kernel detaches it when the descriptors close, whatever becomes of us.
package struct KernelLink: ~Copyable {
    /// The link, if the kernel made one.
    private let link: Int32
    /// The perf event that it is on.
    private let event: Int32

    private init(link: Int32, event: Int32) {
        self.link = link
        self.event = event
    }

    deinit {
        if link >= 0 { _ = close(link) }
        if event >= 0 { _ = close(event) }
    }

    /// On a tracepoint, by the number that tracefs has for it.
    package static func tracepoint(
        _ program: borrowing KernelProgram,
        identifier: UInt64
    ) throws(KernelError) -> KernelLink {
        try on(try PerfEvent.open(type: PerfEvent.tracepoint, config: identifier), program)
    }

    /// What makes the CPUs take samples.
    package enum Clock: CaseIterable, Sendable {
        /// CPU cycles, by a counter of the CPU; virtual machines often have none.
        case cycles
        /// The kernel's timer.
        case cpuClock

        package var name: String {
            switch self {
            case .cycles: "cycles"
            case .cpuClock: "cpu-clock"
            }
        }
    }

    /// On the sampling of one CPU, `frequency` times a second of CPU time.
    package static func sampling(
        _ program: borrowing KernelProgram,
        cpu: Int32,
        frequency: UInt64,
        by clock: Clock
    ) throws(KernelError) -> KernelLink {
        let type: UInt32 =
            switch clock {
            case .cycles: PerfEvent.hardware
            case .cpuClock: PerfEvent.software
            }
        // PERF_COUNT_HW_CPU_CYCLES, PERF_COUNT_SW_CPU_CLOCK
        return try on(try PerfEvent.open(type: type, config: 0, frequency: frequency, cpu: cpu), program)
    }

    /// On a place of a file, in one process or in all.
    package static func uprobe(
        _ program: borrowing KernelProgram,
        path: String,
        place: FilePlace,
        isReturn: Bool,
        pid: Int32?
    ) throws(KernelError) -> KernelLink {
        guard let type = PerfEvent.dynamicType("uprobe") else {
            throw KernelError(call: "open(/sys/bus/event_source/devices/uprobe/type)", errno: ENOENT)
        }
        let event = try PerfEvent.open(
            type: type,
            // The counter of a static probe is in the high half (perf_event_open(2), ref_ctr_offset).
            config: (isReturn ? 1 : 0) | place.counter << 32,
            name: path,
            offset: place.offset,
            pid: pid ?? -1,
            cpu: pid == nil ? 0 : -1
        )
        return try on(event, program, cookie: place.cookie)
    }

    /// One place in a file that a program is to be on.
    package struct FilePlace: Equatable, Sendable {
        package var offset: UInt64
        /// Where in the file the counter of a static probe is, which the kernel counts up; 0 for none.
        package var counter: UInt64
        /// What `bpf_get_attach_cookie` gives.
        package var cookie: UInt64

        package init(offset: UInt64, counter: UInt64 = 0, cookie: UInt64 = 0) {
            self.offset = offset
            self.counter = counter
            self.cookie = cookie
        }
    }

    /// On many places of a file at once.
    ///
    /// Requires kernel 6.6, and a program that was loaded for it (`AttachType.uprobeMulti`).
    package static func uprobes(
        _ program: borrowing KernelProgram,
        path: String,
        places: [FilePlace],
        isReturn: Bool,
        pid: Int32?
    ) throws(KernelError) -> KernelLink {
        let offsets = places.map(\.offset)
        let counters = places.map(\.counter)
        let cookies = places.map(\.cookie)
        let bytes = Array(path.utf8) + [0]
        let link = try create(program, target: 0, attachType: AttachType.uprobeMulti, size: 64) { attributes, send in
            unsafe bytes.withUnsafeBytes { path in
                unsafe offsets.withUnsafeBytes { offsets in
                    unsafe counters.withUnsafeBytes { counters in
                        unsafe cookies.withUnsafeBytes { cookies in
                            unsafe attributes.put(path.baseAddress, at: 16)
                            unsafe attributes.put(offsets.baseAddress, at: 24)
                            unsafe attributes.put(counters.baseAddress, at: 32)
                            unsafe attributes.put(cookies.baseAddress, at: 40)
                            attributes.put(UInt32(places.count), at: 48)
                            // BPF_F_UPROBE_MULTI_RETURN
                            attributes.put(UInt32(isReturn ? 1 : 0), at: 52)
                            attributes.put(UInt32(bitPattern: pid ?? 0), at: 56)
                            return send(&attributes)
                        }
                    }
                }
            }
        }
        return KernelLink(link: link, event: -1)
    }

    /// On many functions of the kernel at once; EINVAL where one of them is none that can be traced.
    ///
    /// Requires kernel 5.18 with fprobe, and a program that was loaded for it (`AttachType.kprobeMulti`).
    package static func kprobes(
        _ program: borrowing KernelProgram,
        functions: [String],
        isReturn: Bool
    ) throws(KernelError) -> KernelLink {
        var text: [UInt8] = []
        var starts: [Int] = []
        for function in functions {
            starts.append(text.count)
            text += Array(function.utf8) + [0]
        }
        let link = try create(program, target: 0, attachType: AttachType.kprobeMulti, size: 48) { attributes, send in
            unsafe text.withUnsafeBytes { text in
                let base = UInt64(UInt(bitPattern: text.baseAddress))
                let addresses = starts.map { base + UInt64($0) }
                return unsafe addresses.withUnsafeBytes { addresses in
                    // BPF_F_KPROBE_MULTI_RETURN
                    attributes.put(UInt32(isReturn ? 1 : 0), at: 16)
                    attributes.put(UInt32(functions.count), at: 20)
                    unsafe attributes.put(addresses.baseAddress, at: 24)
                    return send(&attributes)
                }
            }
        }
        return KernelLink(link: link, event: -1)
    }

    /// On a function of the kernel; ENOENT of `open` where the kernel has no kprobes.
    package static func kprobe(
        _ program: borrowing KernelProgram,
        function: String,
        offset: UInt64,
        isReturn: Bool
    ) throws(KernelError) -> KernelLink {
        guard let type = PerfEvent.dynamicType("kprobe") else {
            throw KernelError(call: "open(/sys/bus/event_source/devices/kprobe/type)", errno: ENOENT)
        }
        let event = try PerfEvent.open(type: type, config: isReturn ? 1 : 0, name: function, offset: offset)
        return try on(event, program)
    }

    /// On a raw tracepoint by name; without one (`tp_btf`, `fentry`, `fexit`) on what the program was loaded for.
    package static func rawTracepoint(
        _ program: borrowing KernelProgram,
        name: String?
    ) throws(KernelError) -> KernelLink {
        var attributes = BPF.Attributes(size: 16)
        attributes.put(UInt32(program.descriptor), at: 8)
        let bytes = (name.map { Array($0.utf8) } ?? []) + [0]
        let result = unsafe bytes.withUnsafeBytes { raw in
            unsafe attributes.put(name == nil ? nil : raw.baseAddress, at: 0)
            return BPF.call(.rawTracepointOpen, &attributes)
        }
        guard result >= 0 else { throw KernelError(call: "bpf(RAW_TRACEPOINT_OPEN)", errno: Int32(-result)) }
        return KernelLink(link: Int32(result), event: -1)
    }

    /// An iterator over objects of the kernel; `read` runs it.
    package static func iterator(_ program: borrowing KernelProgram) throws(KernelError) -> KernelLink {
        KernelLink(link: try create(program, target: 0, attachType: AttachType.iterator), event: -1)
    }

    /// Runs an iterator once; what the program printed.
    package borrowing func read() throws(KernelError) -> String {
        var attributes = BPF.Attributes(size: 8)
        attributes.put(UInt32(link), at: 0)
        let result = BPF.call(.iteratorCreate, &attributes)
        guard result >= 0 else { throw KernelError(call: "bpf(ITER_CREATE)", errno: Int32(-result)) }
        defer { _ = close(Int32(result)) }
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let size = chunk.count
            let count = unsafe chunk.withUnsafeMutableBytes { unsafe Glibc.read(Int32(result), $0.baseAddress, size) }
            if count < 0, clinux_errno() == EINTR || clinux_errno() == EAGAIN { continue }
            guard count >= 0 else { throw KernelError(call: "read of an iterator", errno: clinux_errno()) }
            if count == 0 { return String(decoding: text, as: UTF8.self) }
            text += chunk[..<count]
        }
    }

    private static func on(
        _ event: Int32,
        _ program: borrowing KernelProgram,
        cookie: UInt64 = 0
    ) throws(KernelError) -> KernelLink {
        let link: Int32
        do throws(KernelError) {
            link = try create(program, target: UInt32(event), attachType: AttachType.perfEvent) {
                attributes,
                send in
                attributes.put(cookie, at: 16)
                return send(&attributes)
            }
        } catch {
            _ = close(event)
            throw error
        }
        // From here on it closes both.
        let result = KernelLink(link: link, event: event)
        try PerfEvent.enable(event)
        return result
    }

    /// Makes a link; `fill` puts in what is special to its kind, then sends it.
    private static func create(
        _ program: borrowing KernelProgram,
        target: UInt32,
        attachType: UInt32,
        size: Int = 64,
        _ fill: (inout BPF.Attributes, _ send: (inout BPF.Attributes) -> Int64) -> Int64 = { $1(&$0) }
    ) throws(KernelError) -> Int32 {
        var attributes = BPF.Attributes(size: size)
        attributes.put(UInt32(program.descriptor), at: 0)
        attributes.put(target, at: 4)
        attributes.put(attachType, at: 8)
        let result = fill(&attributes) { BPF.call(.linkCreate, &$0) }
        guard result >= 0 else { throw KernelError(call: "bpf(LINK_CREATE)", errno: Int32(-result)) }
        return Int32(result)
    }
}

/// How programs are attached (`enum bpf_attach_type`), where programs must be loaded for it or links name it.
package enum AttachType {
    package static let iterator: UInt32 = 28
    package static let perfEvent: UInt32 = 41
    package static let kprobeMulti: UInt32 = 42
    package static let uprobeMulti: UInt32 = 48
}
