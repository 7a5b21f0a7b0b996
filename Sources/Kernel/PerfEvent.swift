import CLinux

/// perf_event_open(2).
enum PerfEvent {
    static let hardware: UInt32 = 0
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
