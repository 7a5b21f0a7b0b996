package import ISA

/// A program to verify, with everything that the verdict depends on.
package struct Subject: Sendable {
    /// The program and the functions that it calls, contiguous.
    ///
    /// `loadMap` and `loadMapValue` name maps by index into `maps`.
    package var instructions: [Instruction]
    /// By rising start; the program itself first.
    package var functions: [FunctionFacts]
    package var maps: [MapFacts]
    package var type: ProgramType
    /// `enum bpf_attach_type`, where the rules of a program type depend on it.
    package var attachType: UInt32 = 0
    /// May wait (`SEC("uprobe.s/…")`, BPF_F_SLEEPABLE).
    package var isSleepable = false
    /// The licence is compatible with the GPL, which some helpers ask for.
    package var isGPL = true
    package var alignment = Alignment.natural
    package var platform = Platform.userspace
    /// Programs must not give away addresses: the kernel's rules for users without privileges.
    package var strictLeaks = false
    /// What the user lets programs do to their process.
    package var permissions: Set<HelperPermission> = []
    /// Instructions that are walked at most, over all paths (Linux `BPF_COMPLEXITY_LIMIT_INSNS`).
    package var limit = 1_000_000
    /// Paths end where what follows was walked already; false to compare the verdicts.
    package var prunes = true

    package init(instructions: [Instruction], functions: [FunctionFacts], maps: [MapFacts], type: ProgramType) {
        self.instructions = instructions
        self.functions = functions
        self.maps = maps
        self.type = type
    }

    /// Where programs will run, which decides what helpers there are.
    package enum Platform: Sendable {
        /// In a process: what `Helper.support` says.
        case userspace
        /// Linux 6.18.
        case kernel
    }

    /// Accesses that are not a multiple of their size.
    package enum Alignment: Sendable {
        /// Allowed to memory and packets, refused on the stack and in the context: Linux on x86-64.
        case natural
        /// Refused everywhere (`BPF_F_STRICT_ALIGNMENT`).
        case strict
        /// Allowed (`BPF_F_ANY_ALIGNMENT`; the same as `natural` on x86-64).
        case any
    }
}

/// A function as its caller sees it.
package struct FunctionFacts: Equatable, Sendable {
    package var name: String
    /// Index of its first instruction.
    package var start: Int
    /// What a global function promises for any argument of these kinds; nil for static functions, which are verified for
    /// each call.
    package var contract: Contract?

    package init(name: String, start: Int, contract: Contract? = nil) {
        self.name = name
        self.start = start
        self.contract = contract
    }

    /// A global function's parameters, from its BTF type (Linux kernel/bpf/btf.c, `btf_prepare_func_args`).
    package struct Contract: Equatable, Sendable {
        package var parameters: [Parameter]
        package var returnsVoid = false

        package init(parameters: [Parameter], returnsVoid: Bool = false) {
            self.parameters = parameters
            self.returnsVoid = returnsVoid
        }
    }

    package enum Parameter: Equatable, Sendable {
        case scalar
        case context
        /// A pointer to this many bytes, readable and writable.
        case memory(size: Int, isNullable: Bool)
        /// Not checkable: a function with one is refused when it is called.
        case unsupported
    }
}

/// What matters of a map.
package struct MapFacts: Equatable, Sendable {
    package var name: String
    package var type: MapType
    package var keySize: Int
    package var valueSize: Int
    package var maxEntries: Int
    /// `BPF_F_…`; `readOnlyFlag` and `writeOnlyFlag` matter.
    package var flags: UInt32 = 0
    /// Programs may not write values (`BPF_F_RDONLY_PROG`), or not read them (`BPF_F_WRONLY_PROG`).
    package static let (readOnlyFlag, writeOnlyFlag) = (UInt32(0x80), UInt32(0x100))

    /// Maps inside a map of maps may have another number of entries (`BPF_F_INNER_MAP`).
    static let innerMapFlag: UInt32 = 0x1000

    /// Values of device maps are the kernel's own memory (Linux kernel/bpf/devmap.c, `__dev_map_alloc_node`).
    var isReadOnly: Bool { flags & Self.readOnlyFlag != 0 || type == .devMap || type == .devMapHash }
    /// Its values are sockets, which only helpers put there.
    var holdsSockets: Bool { type == .sockMap || type == .sockHash }
    /// What a lookup finds instead of a value (Linux kernel/bpf/verifier.c, `mark_ptr_not_null_reg`).
    var foundObject: HelperPrototype.KernelObject? { holdsSockets ? .socket : type == .xskMap ? .xdpSocket : nil }
    /// Its values are maps.
    var holdsMaps: Bool { type == .arrayOfMaps || type == .hashOfMaps }
    var isWriteOnly: Bool { flags & Self.writeOnlyFlag != 0 }

    /// Cannot change any more: `contents` are constants.
    package var isFrozen = false
    /// The only value of a global data section, where it is known.
    package var contents: [UInt8]?
    /// Facts of the maps inside a map of maps: one or none.
    package var inner: [MapFacts] = []
    /// Offsets of special fields in the value (`struct bpf_spin_lock`, `struct bpf_timer`), from BTF.
    package var spinLock: Int?
    package var timer: Int?

    package init(name: String, type: MapType, keySize: Int, valueSize: Int, maxEntries: Int, flags: UInt32 = 0) {
        self.name = name
        self.type = type
        self.keySize = keySize
        self.valueSize = valueSize
        self.maxEntries = maxEntries
        self.flags = flags
    }
}

/// What verifying a program took.
package struct Statistics: Equatable, Sendable {
    /// Instructions walked, over all paths.
    package var processed = 0
    /// States kept for pruning, at the end and at most at one instruction.
    package var states = 0
    package var peakStates = 0
    /// Bytes of stack of the deepest chain of calls.
    package var stackDepth = 0

    package init() {}
}
