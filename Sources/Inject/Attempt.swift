internal import CLinux
internal import Glibc
internal import Symbols

/// One try to load the library.
///
/// Everything that it needs is made before the target is stopped.
struct Attempt {
    private let plan: InjectionPlan
    private let memory: RemoteMemory
    private let started: UInt64
    private let deadline: UInt64
    private var image: BlockImage
    private var content: [UInt8] = []
    private var isResident = false
    /// Threads that can be borrowed, the best first, with their ids as they see them themselves.
    private var candidates: [(tid: Int32, own: Int32)] = []
    private var states = ""
    private var ignoresTraps = false

    private var base: UInt64 = 0
    private var stopped: UInt64 = 0
    private var socket: Int32 = -1
    private var error: InjectError?
    /// The loader refused the library.
    private(set) var wasNotLoaded = false

    init(plan: InjectionPlan, started: UInt64, deadline: UInt64) {
        self.plan = plan
        self.started = started
        self.deadline = deadline
        memory = RemoteMemory(thread: plan.reader)
        image = BlockImage(plan, memory: memory)
    }

    mutating func setLibrary(path: String, flags: UInt32, isResident: Bool = false, content: [UInt8] = []) {
        let internalFlag: UInt32 = plan.functions.isInternal ? 0x8000_0000 : 0
        image.setLibrary(path: path, flags: flags | internalFlag, wantsFile: !content.isEmpty, patience: 2000)
        self.isResident = isResident
        self.content = content
    }

    /// Does it, in a process of its own where the kernel lets that one trace: so a SIGKILL for ubpfrun cannot come in between.
    mutating func run() -> Result<Injected, InjectError> {
        let threads = TargetThread.all(of: plan.pid)
        states = String(threads.map(\.state))
        candidates = threads.compactMap { thread in
            thread.rank.map { (rank: $0, tid: thread.tid) }
        }.sorted { $0.rank < $1.rank }.prefix(8).map { [plan] in ($0.tid, ownNumber($0.tid, of: plan.pid)) }

        ignoresTraps = TargetStatus.read(pid: plan.reader)?.ignores(SIGTRAP) ?? true

        shielded { perform() }
        if let error { return .failure(error) }
        return .success(
            Injected(
                pid: plan.pid,
                socket: socket,
                stoppedNanoseconds: stopped,
                totalNanoseconds: clinux_now() - started,
                wasResident: isResident,
                memory: base..<base + image.size,
                reader: plan.reader
            )
        )
    }

    private mutating func perform() {
        do throws(InjectError) {
            try begin()
            try converse()
        } catch {
            self.error = error
            if socket >= 0 { _ = close(socket) }
            socket = -1
        }
    }

    // MARK: - The borrowed thread

    private mutating func begin() throws(InjectError) {
        guard !candidates.isEmpty else { throw .noThread(plan.pid, states: states) }
        try askFilters()
        for (index, candidate) in candidates.enumerated() {
            let isLast = index == candidates.count - 1
            // Most of the time for the last one; a thread that does not stop at once may be about to sleep in the kernel.
            let limit = isLast ? deadline : min(deadline, clinux_now() + 500_000_000)
            do throws(BorrowFailure) {
                return try start(on: candidate.tid, own: candidate.own, limit: limit)
            } catch {
                switch error {
                case .stopped: throw .stopped(plan.pid)
                case .ended where isLast: throw .ended(plan.pid)
                case .timeout where isLast: throw .noThread(plan.pid, states: states)
                case .ended, .timeout: continue
                case .filtered(let call): throw .filtered(plan.pid, reason: "its seccomp filter forbids \(call)")
                case .systemCall(let name, let code):
                    throw .failed(plan.pid, "\(name) failed in it", reason: errorText(code))
                }
            }
        }
    }

    /// Every thread meets probes, and makes calls of ours then.
    private func askFilters() throws(InjectError) {
        for thread in TargetThread.all(of: plan.pid) where thread.isAlive {
            guard TargetStatus.read(pid: thread.tid)?.seccomp == 2 else { continue }
            do throws(BorrowFailure) {
                var tracee = Tracee(process: plan.pid, tid: thread.tid, deadline: clinux_now() + 200_000_000)
                defer { tracee.release() }
                try tracee.request(suspendSeccomp: false)
                try tracee.awaitStop(acceptsGroupStop: true)
                try askFilter(of: thread.tid)
            } catch {
                switch error {
                case .ended: continue
                case .timeout, .stopped: throw .noThread(plan.pid, states: states)
                case .filtered(let call): throw .filtered(plan.pid, reason: "its seccomp filter forbids \(call)")
                case .systemCall(let name, let code):
                    throw .failed(plan.pid, "\(name) failed in it", reason: errorText(code))
                }
            }
        }
    }

    /// Whether the filters of a stopped thread let pass what is needed.
    private func askFilter(of tid: Int32) throws(BorrowFailure) {
        guard TargetStatus.read(pid: tid)?.seccomp == 2 else { return }
        switch SeccompFilter.all(of: tid) {
        case .failure(let failure): throw failure
        case .success(let filters):
            if let call = SeccompFilter.obstacle(filters, SeccompFilter.Call.needed) { throw .filtered(call) }
        }
    }

    /// Maps the block and starts the first thread; the borrowed one is given back on every way out.
    private mutating func start(on tid: Int32, own: Int32, limit: UInt64) throws(BorrowFailure) {
        var thread = try BorrowedThread(
            process: plan.pid,
            tid: tid,
            deadline: limit,
            ignoresTraps: ignoresTraps,
            suspendSeccomp: false
        )
        try askFilter(of: tid)
        // While this thread stands, no other can call exec; what was learnt before must be about this program.
        guard TargetStatus.imageMark(plan.reader) == plan.mark else { throw .ended }
        let pointer = thread.tracee.registers.fs_base
        guard let control = memory.words(pointer, count: 8), control[0] == pointer, control[2] == pointer,
            let idOffset = threadIDOffset(pointer, own: own)
        else { throw .systemCall("finding a thread's control block", EINVAL) }
        let generation = memory.load(control[1], as: UInt64.self) ?? 0

        let mapped = try thread.tracee.call(
            9,  // mmap
            (
                0, image.size, UInt64(PROT_READ | PROT_WRITE),
                UInt64(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE), ~0, 0
            ),
            at: plan.systemCall
        )
        guard mapped > 0 else { throw .systemCall("mmap", Int32(clamping: mapped)) }
        let base = UInt64(mapped)
        var mayRun = false
        do throws(BorrowFailure) {
            image.relocate(
                BlockImage.Place(
                    base: base,
                    controlBlock: control,
                    generation: generation,
                    threadIDOffset: idOffset,
                    rseq: thread.tracee.restartableSequences(),
                    threadPointer: pointer
                )
            )
            try fill(base)
            let protected = try thread.tracee.call(
                10,  // mprotect
                (base, image.codeSize, UInt64(PROT_READ | PROT_EXEC), 0, 0, 0),
                at: plan.systemCall
            )
            guard protected == 0 else { throw .systemCall("mprotect", Int32(clamping: protected)) }
            // Unless the call is known to have failed, a thread may use the block.
            mayRun = true
            let child = try thread.tracee.call(
                56,  // clone
                image.cloneArguments(base: base),
                at: base + clinux_inject_entry(),
                block: base + image.codeSize
            )
            mayRun = child > 0
            guard child > 0 else { throw .systemCall("clone", Int32(clamping: child)) }
        } catch {
            if !mayRun {
                _ = try? thread.tracee.call(11, (base, image.size, 0, 0, 0, 0), at: plan.systemCall)  // munmap
            }
            throw error
        }
        thread.tracee.release()
        stopped = thread.tracee.stoppedNanoseconds
        self.base = base
    }

    private func fill(_ base: UInt64) throws(BorrowFailure) {
        var size: UInt64 = 0
        let code = unsafe clinux_inject_code(&size)
        var failed = unsafe memory.write(base, UnsafeRawBufferPointer(start: code, count: Int(size)))
        if failed == 0 {
            failed = unsafe image.bytes.withUnsafeBytes { unsafe memory.write(base + image.codeSize, $0) }
        }
        if failed < 0 { throw .systemCall("writing its memory", failed) }
    }

    /// Where libc keeps a thread's id: 0x2d0 in every known version for x86-64 (struct pthread, nptl/descr.h).
    private func threadIDOffset(_ pointer: UInt64, own: Int32) -> UInt64? {
        let usual: UInt64 = 0x2D0
        if memory.load(pointer + usual, as: Int32.self) == own { return usual }
        var found: [UInt64] = []
        for offset in stride(from: UInt64(0x40), to: 0x700, by: 4)
        where memory.load(pointer + offset, as: Int32.self) == own { found.append(offset) }
        return found.count == 1 ? found[0] : nil
    }

    // MARK: - The new threads

    private var shared: UInt64 { base + image.codeSize }

    private func field<Value: BitwiseCopyable>(_ path: KeyPath<clinux_inject_block, Value>) -> Value? {
        guard let offset = MemoryLayout<clinux_inject_block>.offset(of: path) else { return nil }
        return memory.load(shared + UInt64(offset), as: Value.self)
    }

    /// Waits until the state is no longer `state`; the new one.
    private func settled(after state: clinux_inject_state) throws(InjectError) -> clinux_inject_state {
        var pause: UInt64 = 20_000
        while true {
            guard let now = field(\.state) else { throw .ended(plan.pid) }
            if now != Int32(bitPattern: state.rawValue) { return clinux_inject_state(rawValue: UInt32(now)) }
            if clinux_now() > deadline { return state }
            clinux_sleep(pause)
            if pause < 500_000 { pause += pause / 4 }
        }
    }

    private mutating func converse() throws(InjectError) {
        guard try settled(after: clinux_inject_begun) == clinux_inject_sockets else { throw giveUp() }
        guard let given = field(\.given) else { throw .ended(plan.pid) }
        socket = clinux_take_descriptor(plan.pid, plan.reader, given)
        guard socket >= 0 else {
            throw giveUp(.failed(plan.pid, "pidfd_getfd failed", reason: errorText(socket)))
        }
        if !content.isEmpty { try fillFile() }
        var go: UInt8 = 1
        let sent = unsafe clinux_send(socket, &go, 1, nil, 0)
        guard sent == 0 else { throw giveUp(.failed(plan.pid, "its socket does not answer", reason: errorText(sent))) }
        let state = try settled(after: clinux_inject_sockets)
        if state == clinux_inject_serving || state == clinux_inject_ended { return }
        throw giveUp()
    }

    /// Writes the library into the target's memory file, and tells the loader its name.
    private mutating func fillFile() throws(InjectError) {
        guard let number = field(\.file), let offset = MemoryLayout<clinux_inject_block>.offset(of: \.path) else {
            throw .ended(plan.pid)
        }
        let file = clinux_take_descriptor(plan.pid, plan.reader, number)
        guard file >= 0 else { throw giveUp(.failed(plan.pid, "pidfd_getfd failed", reason: errorText(file))) }
        defer { _ = close(file) }
        let count = content.count
        guard unsafe content.withUnsafeBytes({ unsafe write(file, $0.baseAddress, count) }) == count else {
            throw giveUp(.failed(plan.pid, "no room for the library", reason: errorText(clinux_errno())))
        }
        let name = Array("/proc/self/fd/\(number)\0".utf8)
        let failed = unsafe name.withUnsafeBytes { unsafe memory.write(shared + UInt64(offset), $0) }
        if failed != 0 { throw .ended(plan.pid) }
    }

    /// Ends a conversation that did not begin: closes our end, waits for the threads' end and unmaps what is left.
    private mutating func giveUp(_ cause: InjectError? = nil) -> InjectError {
        if socket >= 0 { _ = close(socket) }
        socket = -1
        let failure = cause ?? failureOfThreads()
        let end = clinux_now() + 3_000_000_000
        while let helper = field(\.helper), let workers = field(\.workers), let state = field(\.state),
            clinux_now() < end
        {
            if helper == 0, workers == 0, state >= 10 {
                unmap()
                return failure
            }
            clinux_sleep(200_000)
        }
        return failure
    }

    private mutating func failureOfThreads() -> InjectError {
        guard let state = field(\.state), let code = field(\.error) else { return .ended(plan.pid) }
        let reason = code == 0 ? "" : errorText(code)
        switch clinux_inject_state(rawValue: UInt32(state)) {
        case clinux_inject_no_sockets: return .failed(plan.pid, "no sockets in it", reason: reason)
        case clinux_inject_no_file: return .failed(plan.pid, "no memory file in it", reason: reason)
        case clinux_inject_no_thread: return .failed(plan.pid, "pthread_create failed in it", reason: reason)
        case clinux_inject_not_loaded:
            wasNotLoaded = true
            let offset = MemoryLayout<clinux_inject_block>.offset(of: \.text) ?? 0
            let text = memory.string(shared + UInt64(offset), limit: 256) ?? ""
            return .failed(plan.pid, "its loader refuses the library", reason: text)
        case clinux_inject_no_function:
            return .failed(plan.pid, "the libubpf.so in it is of another version", reason: "it has no ubpf_serve")
        default:
            return .failed(
                plan.pid,
                "it did not answer in time",
                reason: "its loader may be busy, or the machine; what was started in it ends by itself"
            )
        }
    }

    /// Unmaps the block by a borrowed thread, where no thread of ours is left to do it.
    private func unmap() {
        for candidate in candidates {
            guard
                var thread = try? BorrowedThread(
                    process: plan.pid,
                    tid: candidate.tid,
                    deadline: clinux_now() + 500_000_000,
                    ignoresTraps: ignoresTraps,
                    suspendSeccomp: false
                )
            else { continue }
            guard TargetStatus.imageMark(plan.reader) == plan.mark else { return }
            _ = try? thread.tracee.call(11, (base, image.size, 0, 0, 0, 0), at: plan.systemCall)
            thread.tracee.release()
            return
        }
    }
}
