internal import CLinux
internal import Glibc
internal import Symbols

/// The memory that is mapped into the target: code, the shared block, thread-local storage and stack of the first thread, and the
/// worker's stack.
///
///     code (r-x) | block | dtv | static TLS | thread control block | first stack | guard | worker's stack
struct BlockImage {
    /// Bytes from the code's end to the end of the thread control block's known part, with addresses relative to the mapping.
    private(set) var bytes: [UInt8]
    let codeSize: UInt64
    let size: UInt64
    private let vector: UInt64
    private let vectorCount: Int
    /// The thread pointer.
    private let thread: UInt64
    private let stackTop: UInt64
    private let storage: [StaticStorage]
    private(set) var block = clinux_inject_block()

    static let threadBlock: UInt64 = 8192
    private static let firstStack: UInt64 = 64 << 10
    private static let workerStack: UInt64 = 1 << 20

    private static func pages(_ size: UInt64) -> UInt64 { (size &+ 4095) & ~4095 }

    init(_ plan: InjectionPlan, memory: RemoteMemory) {
        var size: UInt64 = 0
        _ = unsafe clinux_inject_code(&size)
        codeSize = Self.pages(size)
        vector = codeSize &+ Self.pages(UInt64(MemoryLayout<clinux_inject_block>.size))
        // Room for modules that other threads load meanwhile: a vector that is too small would be given to realloc.
        vectorCount = max(plan.storage.map(\.index).max() ?? 0, plan.maps.modules.count) + 256
        let deepest = plan.storage.map(\.offset).max() ?? 0
        thread = Self.pages(vector &+ UInt64(vectorCount + 2) * 16 &+ deepest &+ 64)
        stackTop = thread &+ Self.threadBlock &+ Self.firstStack
        let guardPage = stackTop
        let stack = guardPage &+ 4096
        let stackSize = Self.workerStack &+ Self.pages(deepest)
        self.size = stack &+ stackSize
        storage = plan.storage
        bytes = [UInt8](repeating: 0, count: Int(thread &+ 128 &- codeSize))

        for module in plan.storage where module.fileSize > 0 {
            let start = Int(thread &- module.offset &- codeSize)
            _ = unsafe bytes.withUnsafeMutableBytes { all in
                unsafe memory.read(
                    module.image,
                    into: UnsafeMutableRawBufferPointer(rebasing: all[start..<start + Int(module.fileSize)])
                )
            }
        }
        block.size = self.size
        block.thread = thread
        block.guard = guardPage
        block.stack = stack
        block.stack_size = stackSize
        // A fault of the thread's own, or a probe that traps, must find its handler; libc's own signals (32, 33) concern only its threads.
        let faults = Self.bits(SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS)
        block.first_mask = ~faults
        block.worker_mask = ~(faults | Self.bits(32, 33))
        block.attr_init = plan.functions.attributesInit
        block.attr_setstack = plan.functions.attributesSetStack
        block.attr_setdetachstate = plan.functions.attributesSetDetachState
        block.create = plan.functions.create
        block.keys = plan.functions.keys
        block.getspecific = plan.functions.getSpecific
        block.setspecific = plan.functions.setSpecific
        block.dlopen = plan.functions.open
        block.dlsym = plan.functions.symbol
        block.dlclose = plan.functions.close
        block.dlerror = plan.functions.error
        block.worker = clinux_inject_worker_entry()
        block.handover = plan.handover.distance
        block.handover_size = plan.handover.size
        block.first_socket = 100
        block.helper = -1
        block.given = -1
        block.kept = -1
        block.file = -1
    }

    private static func bits(_ signals: Int32...) -> UInt64 { signals.reduce(0) { $0 | 1 << UInt64($1 - 1) } }

    /// Says what to load and how.
    mutating func setLibrary(path: String, flags: UInt32, wantsFile: Bool, patience: UInt32) {
        Self.set(&block.path, path)
        Self.set(&block.serve_name, "ubpf_serve")
        Self.set(&block.reap_name, "ubpf_reap")
        block.dlopen_flags = flags
        block.wants_file = wantsFile ? 1 : 0
        block.patience = patience
    }

    private static func set<Field>(_ field: inout Field, _ text: String) {
        unsafe withUnsafeMutableBytes(of: &field) { bytes in
            let count = min(text.utf8.count, bytes.count - 1)
            unsafe bytes.copyBytes(from: text.utf8.prefix(count))
            unsafe bytes[count] = 0
        }
    }

    /// What is known only once a thread is stopped and the memory is mapped.
    struct Place {
        var base: UInt64
        /// The first eight words of the borrowed thread's control block.
        var controlBlock: [UInt64]
        /// Generation of its vector of blocks.
        var generation: UInt64
        var threadIDOffset: UInt64
        var rseq: clinux_rseq?
        var threadPointer: UInt64
    }

    /// Puts the real addresses in.
    mutating func relocate(_ place: Place) {
        let base = place.base
        block.base = base
        for path in [
            \clinux_inject_block.thread, \.guard, \.stack, \.worker,
        ] {
            block[keyPath: path] &+= base
        }
        block.tid_offset = place.threadIDOffset
        if let rseq = place.rseq {
            let offset = rseq.address &- place.threadPointer
            // Above the thread pointer it lies in libc's part of the control block; below, in static storage.
            if offset < Self.threadBlock &- 64 || 0 &- offset < thread &- vector {
                block.rseq_offset = offset
                block.rseq_size = rseq.size
                block.rseq_signature = rseq.signature
            }
        }
        unsafe bytes.withUnsafeMutableBytes { all in
            unsafe withUnsafeBytes(of: block) { unsafe all.copyMemory(from: $0) }
            func put(_ offset: UInt64, _ value: UInt64) {
                unsafe all.storeBytes(of: value, toByteOffset: Int(offset &- codeSize), as: UInt64.self)
            }
            // dtv[-1] is the capacity, dtv[0] the generation; unallocated entries are ~0 (glibc, sysdeps/generic/dl-dtv.h).
            put(vector, UInt64(vectorCount))
            put(vector &+ 16, place.generation)
            for index in 1...vectorCount { put(vector &+ 16 &+ UInt64(index) * 16, ~0) }
            for module in storage where module.index > 0 && module.index <= vectorCount {
                put(vector &+ 16 &+ UInt64(module.index) * 16, base &+ thread &- module.offset)
            }
            // tcbhead_t (glibc, sysdeps/x86_64/nptl/tls.h): tcb, dtv, self, multiple_threads, sysinfo, stack and pointer guard.
            put(thread, base &+ thread)
            put(thread &+ 8, base &+ vector &+ 16)
            put(thread &+ 16, base &+ thread)
            put(thread &+ 24, 1)
            put(thread &+ 32, place.controlBlock[4])
            put(thread &+ 40, place.controlBlock[5])
            put(thread &+ 48, place.controlBlock[6])
        }
    }

    /// Arguments of clone(2) for the first thread.
    func cloneArguments(base: UInt64) -> (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) {
        let helper = MemoryLayout<clinux_inject_block>.offset(of: \.helper) ?? 0
        return (clinux_inject_clone_flags(), base &+ stackTop, 0, base &+ codeSize &+ UInt64(helper), base &+ thread, 0)
    }
}
