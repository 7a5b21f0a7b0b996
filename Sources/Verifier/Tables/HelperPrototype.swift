import ISA

/// What a helper asks of its arguments and what it gives back (Linux `struct bpf_func_proto`).
struct HelperPrototype {
    /// r1 to r5; `.unused` from the first that the helper does not read.
    let arguments: InlineArray<5, Argument>
    let result: Result
    private let traits: Traits

    /// Needs a licence compatible with the GPL.
    var isGPLOnly: Bool { traits.contains(.gplOnly) }
    /// Pointers into the packet are void afterwards.
    var changesPacket: Bool { traits.contains(.changesPacket) }
    /// Only for programs that may wait.
    var maySleep: Bool { traits.contains(.sleeps) }
    /// Memory, keys and values may lie in the packet (Linux `pkt_access`).
    var takesPacket: Bool { traits.contains(.takesPacket) }
    /// The reference that the argument 1 holds ends here; without one the call is refused.
    var releasesArgument: Bool { traits.contains(.releases) }
    /// The result is the argument 1 in another form: releasing either voids both.
    var castsArgument: Bool { traits.contains(.casts) }

    /// Arguments read.
    var count: Int {
        var count = 0
        while count < 5, arguments[count] != .unused { count += 1 }
        return count
    }

    init(
        _ result: Result,
        _ first: Argument = .unused,
        _ second: Argument = .unused,
        _ third: Argument = .unused,
        _ fourth: Argument = .unused,
        _ fifth: Argument = .unused,
        traits: Traits = []
    ) {
        arguments = [first, second, third, fourth, fifth]
        self.result = result
        self.traits = traits
    }

    struct Traits: OptionSet {
        let rawValue: UInt8

        static let gplOnly = Traits(rawValue: 1)
        static let changesPacket = Traits(rawValue: 2)
        static let sleeps = Traits(rawValue: 4)
        static let takesPacket = Traits(rawValue: 8)
        static let releases = Traits(rawValue: 16)
        static let casts = Traits(rawValue: 32)
    }

    /// What an argument must be.
    ///
    /// No payload holds references: this is read for every call on every path.
    enum Argument: Equatable {
        case unused
        /// Any initialised register; pointers too.
        case anything
        /// A map (`loadMap`, or one found in a map of maps).
        case map
        /// Initialised memory of the map's key or value size; the map is the last one before.
        case mapKey
        case mapValue
        /// The same, or NULL.
        case mapValueOrNull
        /// Memory of the map's value size that the helper fills.
        case mapValueOut
        /// Memory whose size is the next argument; `isOut`: the helper fills it; else it must be initialised.
        case memory(isOut: Bool, isNullable: Bool)
        /// Memory whose size is the next argument; the helper reads it and writes it.
        case updatedMemory(isNullable: Bool)
        /// Memory of a size that the helper knows; `isOut`: the helper writes it, and it must be aligned to its size.
        case fixedMemory(bytes: Int32, isOut: Bool, isNullable: Bool)
        /// Size of the memory in the argument before.
        case size(zeroAllowed: Bool)
        /// A constant size of memory that the helper makes (`bpf_ringbuf_reserve`).
        case allocationSize
        /// Memory from `bpf_ringbuf_reserve`, at its start; the reference ends here.
        case ringRecord
        case context
        case contextOrNull
        /// A zero-terminated string in a frozen map.
        case constantString
        /// A function of the program.
        case callback
        /// Passed on to the callback: a pointer to the stack, or NULL.
        case callbackContext
        case spinLock
        case timer
        case dynptr(DynptrUse)
        /// An iterator on the stack; `isNew`: eight bytes that become one.
        case iterator(isNew: Bool)
        /// Any number; no pointers.
        case number
        /// A pointer to an object of the kernel; `isNullable`: NULL too, and results that were not compared with it.
        case kernelObject(KernelObject, isNullable: Bool)
        /// A constant number, 0 unless a helper says more.
        case constant
        /// Something that is not checkable here (a kernel pointer in a map, a variable of the kernel): refuse the call.
        case unsupported
    }

    enum DynptrUse { case uninitialized, any, ring }

    /// What r0 holds afterwards.
    enum Result: Equatable {
        /// Any number.
        case scalar
        /// Within these bounds (Linux: where it refines the result).
        case range(Int64, Int64)
        case void
        /// NULL, or a value of the map in r1 (a map, for a map of maps).
        case mapValueOrNull
        /// A value of the map in r1.
        case mapValue
        /// NULL, or memory of `allocationSize` bytes that must be released.
        case ringRecordOrNull
        /// NULL, or the number at hand of the iterator in r1: 4 bytes to read, as long as the iterator lasts.
        case iteratorElement
        /// NULL, or the memory of a dynptr of the constant size in r3.
        case dynptrMemoryOrNull
        case kernelObject(KernelObject, isNullable: Bool, isReference: Bool)
        /// At most the size passed in the argument with this number (1 to 5), or a negative error down to -4095.
        case atMostSize(argument: Int32)
    }
}

extension HelperPrototype {
    /// Objects of the kernel that programs hold pointers to, without looking inside.
    enum KernelObject {
        case task
        /// A full socket (Linux PTR_TO_SOCKET), a socket of any state, a TCP socket.
        case socket
        case socketCommon
        case tcpSocket
        /// The kernel's own structures, from `bpf_skc_to_…`.
        case requestSocket
        case btfSocket
        /// In arguments only: any of the sockets above.
        case anySocket
        case cgroup
        case file
        /// A socket of AF_XDP: what a lookup in their map finds.
        case xdpSocket
        /// What a flow dissector fills.
        case flowKeys
        case other

        /// Whether a helper that asks for this takes a pointer to `given` (Linux `compatible_reg_types`).
        func takes(_ given: KernelObject) -> Bool {
            switch self {
            case .socketCommon: given == .socketCommon || given == .socket || given == .tcpSocket
            case .anySocket:
                switch given {
                case .socket, .socketCommon, .tcpSocket, .xdpSocket, .requestSocket, .btfSocket, .anySocket: true
                case .task, .cgroup, .file, .flowKeys, .other: false
                }
            case .task, .socket, .tcpSocket, .requestSocket, .btfSocket, .cgroup, .file: given == self
            // No helper asks for these.
            case .xdpSocket, .flowKeys, .other: false
            }
        }
    }
}
