import Glibc
import ISA

extension HelperPrototype {
    /// The prototype of a helper that Linux 6.18 offers to some program type that this verifier knows.
    static func of(_ helper: Helper) -> HelperPrototype? { table[Int(helper.rawValue)] }

    /// The prototype of a helper as programs of a type see it.
    ///
    /// `bpf_get_cgroup_classid` is of the packet's socket in some and of the current task in others, and perf events
    /// ask for no licence for stacks.
    static func of(_ helper: Helper, for type: ProgramType) -> HelperPrototype? {
        switch (helper, type) {
        case (.getCgroupClassid, .schedCls), (.getCgroupClassid, .schedAct), (.getCgroupClassid, .lwtIn),
            (.getCgroupClassid, .lwtOut), (.getCgroupClassid, .lwtXmit), (.getCgroupClassid, .lwtSeg6local):
            of(.skbCgroupClassid)
        case (.getStackid, .perfEvent): HelperPrototype(.scalar, .context, .map, .anything)
        default: of(helper)
        }
    }

    /// By the helper's number.
    private static let table: [HelperPrototype?] = {
        var table = [HelperPrototype?](repeating: nil, count: 1 + Helper.allCases.count)
        for row in baseHelpers + tracingHelpers + networkHelpers { table[Int(row.helper.rawValue)] = row.prototype }
        return table
    }()

    struct Row {
        let helper: Helper
        let prototype: HelperPrototype

        init(
            _ helper: Helper,
            _ result: Result,
            _ first: Argument = .unused,
            _ second: Argument = .unused,
            _ third: Argument = .unused,
            _ fourth: Argument = .unused,
            _ fifth: Argument = .unused,
            traits: Traits = []
        ) {
            self.helper = helper
            prototype = HelperPrototype(result, first, second, third, fourth, fifth, traits: traits)
        }
    }

    /// The highest number that a processor of this machine can have.
    ///
    /// Processors may be plugged in later, so those that are there now are no bound.
    static let lastProcessor: Int64 = {
        let file = unsafe open("/sys/devices/system/cpu/possible", O_RDONLY | O_CLOEXEC)
        // NR_CPUS of an x86-64 kernel is 8192 at most.
        guard file >= 0 else { return 8191 }
        defer { _ = close(file) }
        var text = [UInt8](repeating: 0, count: 4096)
        let count = unsafe read(file, &text, text.count)
        let last = text.prefix(max(0, count)).split { $0 < 0x30 || $0 > 0x39 }.last
        return last.flatMap { Int64(String(decoding: $0, as: UTF8.self)) } ?? 8191
    }()
}

extension HelperPrototype.Argument {
    static var input: Self { .memory(isOut: false, isNullable: false) }
    static var inputOrNull: Self { .memory(isOut: false, isNullable: true) }
    static var output: Self { .memory(isOut: true, isNullable: false) }
    static var updated: Self { .updatedMemory(isNullable: false) }
    static var updatedOrNull: Self { .updatedMemory(isNullable: true) }
    static var size: Self { .size(zeroAllowed: false) }
    static var sizeOrZero: Self { .size(zeroAllowed: true) }

    static func fixed(_ bytes: Int32, isOut: Bool) -> Self {
        .fixedMemory(bytes: bytes, isOut: isOut, isNullable: false)
    }
    static func object(_ object: HelperPrototype.KernelObject) -> Self { .kernelObject(object, isNullable: false) }
    static func objectOrNull(_ object: HelperPrototype.KernelObject) -> Self { .kernelObject(object, isNullable: true) }
}

extension HelperPrototype.Result {
    static func found(_ object: HelperPrototype.KernelObject) -> Self {
        .kernelObject(object, isNullable: true, isReference: false)
    }

    static func acquired(_ object: HelperPrototype.KernelObject) -> Self {
        .kernelObject(object, isNullable: true, isReference: true)
    }
}
