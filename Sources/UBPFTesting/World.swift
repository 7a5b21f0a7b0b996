/// Everything that a program can learn of the world around it, the same in each run: time, thread, CPU, stacks, memory.
///
///     vm.world.pid = 42
///     vm.world.memory.place(text: "/etc/passwd", at: 0x7f00_0000_1000)
///     vm.world.advance(by: .milliseconds(5))
public struct World: Sendable {
    /// What every clock helper answers, in nanoseconds.
    public var clock: UInt64 = 1_000_000_000
    /// Added to the clock after each time it was read.
    public var clockStep: UInt64 = 0
    /// Process id (`bpf_get_current_pid_tgid() >> 32`).
    public var pid: UInt32 = 1000
    /// Thread id; setting ``pid`` leaves it alone.
    public var tid: UInt32 = 1000
    /// User id.
    public var uid: UInt32 = 1000
    /// Group id.
    public var gid: UInt32 = 1000
    /// Name of the thread; the kernel keeps 15 bytes.
    public var comm = "test"
    /// What `bpf_get_smp_processor_id()` answers; per-CPU maps use it modulo the ``VM``'s CPUs.
    public var cpu: UInt32 = 0
    /// State of `bpf_get_prandom_u32()`; never 0.
    public var random: UInt64 = 0x2545_f491_4f6c_dd1d
    /// What `bpf_get_attach_cookie()` answers.
    public var cookie: UInt64 = 0
    /// Ids of the control groups that the process is in, from the root of the hierarchy on; the last one is its own.
    public var controlGroups: [UInt64] = [1]
    /// Return addresses of the user stack, innermost first; empty: there is none (`-EFAULT`).
    public var stack: [UInt64] = []
    /// Return addresses of the kernel stack.
    public var kernelStack: [UInt64] = []
    /// What `bpf_probe_read*()` finds at addresses.
    public var memory = Memory()

    /// A world with one process, 1000, at one second after boot.
    public init() {}

    /// A world with one thread of a process.
    public init(pid: UInt32, tid: UInt32? = nil, clock: UInt64 = 1_000_000_000) {
        self.pid = pid
        self.tid = tid ?? pid
        self.clock = clock
    }

    /// Moves the clock.
    public mutating func advance(by duration: Duration) {
        let parts = duration.components
        let nanoseconds = parts.seconds * 1_000_000_000 + parts.attoseconds / 1_000_000_000
        clock = clock &+ UInt64(bitPattern: nanoseconds)
    }
}

/// Memory of a ``World``: regions with contents at any addresses.
///
/// What lies in none cannot be read (`-EFAULT`).
public struct Memory: Sendable {
    private var regions: [(address: UInt64, bytes: [UInt8])] = []
    /// Whether addresses in no region are read in the test's own process, for tests that pass real pointers.
    public var followsTestPointers = false

    /// No memory.
    public init() {}

    /// Puts bytes at an address; a later region hides an earlier one.
    public mutating func place(_ bytes: [UInt8], at address: UInt64) {
        if let index = regions.firstIndex(where: { $0.address == address }) { regions.remove(at: index) }
        regions.insert((address, bytes), at: 0)
    }

    /// Puts a string with its NUL at an address.
    public mutating func place(text: String, at address: UInt64) { place(Array(text.utf8) + [0], at: address) }

    /// Puts little-endian 64-bit words at an address.
    public mutating func place(words: [UInt64], at address: UInt64) {
        place(words.flatMap { littleEndian($0) }, at: address)
    }

    /// `count` bytes at an address; nil where one of them is in no region.
    public func bytes(at address: UInt64, count: Int) -> [UInt8]? {
        var result: [UInt8] = []
        result.reserveCapacity(count)
        while result.count < count {
            guard let part = piece(at: address &+ UInt64(result.count)) else { return nil }
            result += part.prefix(count - result.count)
        }
        return result
    }

    /// What a region has from an address to its end; nil where there is none.
    func piece(at address: UInt64) -> ArraySlice<UInt8>? {
        for region in regions where address >= region.address {
            let offset = address - region.address
            if offset < UInt64(region.bytes.count) { return region.bytes[Int(offset)...] }
        }
        return nil
    }

    /// Overwrites bytes of one region; false where they are not all in it (`bpf_probe_write_user`).
    mutating func overwrite(_ bytes: [UInt8], at address: UInt64) -> Bool {
        for index in regions.indices where address >= regions[index].address {
            let offset = address - regions[index].address
            guard offset < UInt64(regions[index].bytes.count) else { continue }
            guard Int(offset) + bytes.count <= regions[index].bytes.count else { return false }
            regions[index].bytes.replaceSubrange(Int(offset)..<Int(offset) + bytes.count, with: bytes)
            return true
        }
        return false
    }
}
