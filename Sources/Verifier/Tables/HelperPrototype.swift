import ISA

/// What a helper asks of its arguments and what it gives back (Linux `struct bpf_func_proto`).
struct HelperPrototype {
    /// r1 to r5; `.unused` from the first that the helper does not read.
    let arguments: InlineArray<5, Argument>
    let result: Result
    /// Needs a licence compatible with the GPL.
    let isGPLOnly: Bool
    /// Pointers into the packet are void afterwards.
    let changesPacket: Bool
    /// Only for programs that may wait.
    let maySleep: Bool

    /// What an argument must be. No payload holds references: this is read for every call on every path.
    enum Argument: Equatable {
        case unused
        /// Any initialised register; pointers too.
        case anything
        /// A map (`loadMap`, or one found in a map of maps).
        case map
        /// Initialised memory of the map's key or value size; the map is the argument before.
        case mapKey
        case mapValue
        /// Memory of the map's value size that the helper fills.
        case mapValueOut
        /// Memory whose size is the next argument; `isOut`: the helper fills it; else it must be initialised.
        case memory(isOut: Bool, isNullable: Bool)
        /// Memory of a size that the helper knows.
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
        /// A pointer to an object of the kernel, NULL too.
        case kernelObject(KernelObject, isNullable: Bool)
        /// A constant number, 0 unless a helper says more.
        case constant
    }

    enum DynptrUse { case uninitialized, any, ring }

    /// Objects of the kernel that programs hold pointers to, without looking inside.
    enum KernelObject { case task, socket, tcpSocket, requestSocket, cgroup, file, other }

    /// What r0 holds afterwards.
    enum Result: Equatable {
        /// Any number.
        case scalar
        /// 0 or a negative error, or within these bounds (Linux: where it refines the result).
        case range(Int64, Int64)
        case void
        /// NULL, or a value of the map in r1 (a map, for a map of maps).
        case mapValueOrNull
        /// NULL, or memory of `allocationSize` bytes that must be released.
        case ringRecordOrNull
        /// NULL, or the memory of a dynptr of the constant size in r3.
        case dynptrMemoryOrNull
        case kernelObject(KernelObject, isNullable: Bool, isReference: Bool)
        /// At most the size passed in the argument with this number (1 to 5), or a negative error.
        case atMostSize(argument: Int32)
    }
}
