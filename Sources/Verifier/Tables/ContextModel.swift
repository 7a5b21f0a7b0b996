import ISA

/// What a program may read and write in its context (Linux `bpf_verifier_ops.is_valid_access`).
struct ContextModel: Sendable {
    /// Name of the structure, for instance `__sk_buff`.
    let name: String
    private let fields: [ContextField]
    private let type: ProgramTypes
    /// XDP programs of a device map see the interface that the packet goes out through.
    private let isDeviceMap: Bool

    /// What an access gives; sign-extending loads may only be of scalars.
    enum Access: Equatable, Sendable {
        case scalar
        case packet
        case packetEnd
        case packetMeta
        /// A pointer to a `struct bpf_flow_keys`, 56 bytes that may be written.
        case flowKeys
        /// A pointer to a raw tracepoint's writable buffer, whose size is checked when the program is attached.
        case tracepointBuffer
        case kernelObject(HelperPrototype.KernelObject, isNullable: Bool)
    }

    /// The model of a program type; nil: a type that this verifier does not know.
    static func of(_ type: ProgramType, attachType: UInt32 = 0) -> ContextModel? {
        let (name, fields): (String, [ContextField]) =
            switch type {
            case .kprobe: ("pt_regs", ContextField.registers)
            case .perfEvent: ("bpf_perf_event_data", ContextField.perfEvent)
            case .tracepoint: ("trace event", ContextField.tracepoint)
            case .rawTracepoint: ("bpf_raw_tracepoint_args", ContextField.rawTracepoint)
            case .rawTracepointWritable: ("bpf_raw_tracepoint_args", ContextField.rawTracepointWritable)
            case .xdp: ("xdp_md", ContextField.xdp)
            case .syscall: ("context", ContextField.syscall)
            case .socketFilter, .schedCls, .schedAct, .cgroupSKB, .skSKB, .lwtIn, .lwtOut, .lwtXmit, .lwtSeg6local,
                .flowDissector:
                ("__sk_buff", ContextField.socketBuffer)
            case .unspecified, .cgroupSock, .sockOps, .cgroupDevice, .skMsg, .cgroupSockAddr, .lircMode2, .skReusePort,
                .cgroupSysctl, .cgroupSockopt, .tracing, .structOps, .extension_, .lsm, .skLookup, .netfilter:
                ("", [])
            }
        guard !fields.isEmpty else { return nil }
        return ContextModel(
            name: name,
            fields: fields,
            type: ProgramTypes(type),
            isDeviceMap: attachType == AttachType.devmap
        )
    }

    /// What an access of `size` bytes gives; nil: it is refused.
    func access(offset: Int, size: Int, isWrite: Bool) -> Access? {
        guard offset % size == 0, let field = field(at: offset), offset + size <= field.end else { return nil }
        guard (isWrite ? field.writers : field.readers).contains(type) else { return nil }
        if field.onlyDeviceMap, !isDeviceMap { return nil }
        switch field.grain {
        case .any: return field.access
        case .whole: return size == field.elementSize ? field.access : nil
        // Stores must be of the whole field, loads may be of any part.
        case .part: return !isWrite || size == field.elementSize ? field.access : nil
        }
    }

    /// What lies at an offset, for messages: `__sk_buff.mark`, `pt_regs.di`; nil: nothing that has a name.
    func fieldName(at offset: Int) -> String? {
        guard let field = field(at: offset) else { return nil }
        let path = name + "." + field.name
        guard field.size > field.elementSize else { return path }
        return path + "[\((offset - field.offset) / field.elementSize)]"
    }

    private func field(at offset: Int) -> ContextField? {
        fields.first { $0.offset <= offset && offset < $0.end }
    }
}

/// A field of a context structure.
struct ContextField: Sendable {
    let name: String
    let offset: Int
    /// Of all elements, for an array.
    let size: Int
    let elementSize: Int
    let grain: Grain
    let access: ContextModel.Access
    let readers: ProgramTypes
    let writers: ProgramTypes
    var onlyDeviceMap = false

    var end: Int { offset + size }

    /// The sizes that accesses may have; all are aligned.
    enum Grain {
        /// Any, across elements too.
        case any
        /// The whole element.
        case whole
        /// Loads of a part, stores of the whole element.
        case part
    }

    init(
        _ name: String,
        at offset: Int,
        size: Int = 4,
        of elementSize: Int? = nil,
        _ grain: Grain = .part,
        _ access: ContextModel.Access = .scalar,
        read readers: ProgramTypes,
        write writers: ProgramTypes = []
    ) {
        self.name = name
        self.offset = offset
        self.size = size
        self.elementSize = elementSize ?? size
        self.grain = grain
        self.access = access
        self.readers = readers
        self.writers = writers
    }
}
