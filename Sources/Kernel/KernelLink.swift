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

    /// On the sampling of one CPU, `frequency` times a second of CPU time.
    package static func sampling(
        _ program: borrowing KernelProgram,
        cpu: Int32,
        frequency: UInt64
    ) throws(KernelError) -> KernelLink {
        try on(try PerfEvent.open(type: PerfEvent.software, config: 0, frequency: frequency, cpu: cpu), program)
    }

    /// On a function of a file, in one process or in all.
    package static func uprobe(
        _ program: borrowing KernelProgram,
        path: String,
        offset: UInt64,
        isReturn: Bool,
        pid: Int32?
    ) throws(KernelError) -> KernelLink {
        guard let type = PerfEvent.dynamicType("uprobe") else {
            throw KernelError(call: "open(/sys/bus/event_source/devices/uprobe/type)", errno: ENOENT)
        }
        let event = try PerfEvent.open(
            type: type,
            config: isReturn ? 1 : 0,
            name: path,
            offset: offset,
            pid: pid ?? -1,
            cpu: pid == nil ? 0 : -1
        )
        return try on(event, program)
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
        KernelLink(link: try create(program, target: 0, attachType: 28), event: -1)
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

    private static func on(_ event: Int32, _ program: borrowing KernelProgram) throws(KernelError) -> KernelLink {
        do throws(KernelError) {
            // BPF_PERF_EVENT
            let link = try create(program, target: UInt32(event), attachType: 41)
            let result = KernelLink(link: link, event: event)
            try PerfEvent.enable(event)
            return result
        } catch {
            _ = close(event)
            throw error
        }
    }

    private static func create(
        _ program: borrowing KernelProgram,
        target: UInt32,
        attachType: UInt32
    ) throws(KernelError) -> Int32 {
        var attributes = BPF.Attributes(size: 64)
        attributes.put(UInt32(program.descriptor), at: 0)
        attributes.put(target, at: 4)
        attributes.put(attachType, at: 8)
        let result = BPF.call(.linkCreate, &attributes)
        guard result >= 0 else { throw KernelError(call: "bpf(LINK_CREATE)", errno: Int32(-result)) }
        return Int32(result)
    }
}

/// perf_event_open(2).
enum PerfEvent {
    static let software: UInt32 = 1
    static let tracepoint: UInt32 = 2
    /// `PERF_COUNT_SW_BPF_OUTPUT`: what `bpf_perf_event_output` writes to.
    static let programOutput: UInt64 = 10

    /// The type that the kernel gave to uprobes or kprobes; nil where it has none.
    static func dynamicType(_ name: String) -> UInt32? {
        guard let file = FileText.read("/sys/bus/event_source/devices/\(name)/type") else { return nil }
        return UInt32(file.prefix { $0.isNumber })
    }

    /// Opens an event; `name` and `offset` are config1 and config2 of probes.
    static func open(
        type: UInt32,
        config: UInt64,
        frequency: UInt64 = 0,
        sampleType: UInt64 = 0,
        name: String? = nil,
        offset: UInt64 = 0,
        pid: Int32 = -1,
        cpu: Int32 = 0
    ) throws(KernelError) -> Int32 {
        // struct perf_event_attr, PERF_ATTR_SIZE_VER7.
        var attributes = BPF.Attributes(size: 128)
        attributes.put(type, at: 0)
        attributes.put(UInt32(128), at: 4)
        attributes.put(config, at: 8)
        attributes.put(frequency > 0 ? frequency : 1, at: 16)
        attributes.put(sampleType, at: 24)
        // Bit 10: sample_freq instead of sample_period.
        attributes.put(frequency > 0 ? UInt64(1) << 10 : 0, at: 40)
        attributes.put(UInt32(1), at: 48)
        attributes.put(offset, at: 64)
        let bytes = (name.map { Array($0.utf8) } ?? []) + [0]
        let result = unsafe bytes.withUnsafeBytes { raw -> Int64 in
            unsafe attributes.put(name == nil ? nil : raw.baseAddress, at: 56)
            // PERF_FLAG_FD_CLOEXEC
            return attributes.withAddress { clinux_syscall(298, $0, Int64(pid), Int64(cpu), -1, 8, 0) }
        }
        guard result >= 0 else { throw KernelError(call: "perf_event_open", errno: Int32(-result)) }
        return Int32(result)
    }

    /// PERF_EVENT_IOC_ENABLE.
    static func enable(_ event: Int32) throws(KernelError) {
        let result = clinux_syscall(16, Int64(event), 0x2400, 0, 0, 0, 0)
        guard result >= 0 else { throw KernelError(call: "ioctl(PERF_EVENT_IOC_ENABLE)", errno: Int32(-result)) }
    }
}
