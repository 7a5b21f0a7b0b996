internal import CRuntime
internal import CSession
internal import Glibc
internal import Runtime
internal import UBPFVM

/// A session of one program in this process's memory, at the same addresses and with the same contents for each run.
@safe
struct RunMemory: ~Copyable {
    let session: SessionView
    private let image: SessionImage
    private let base: UnsafeMutableRawPointer
    private let size: Int
    /// Where what programs may change begins.
    private let shared: UnsafeMutableRawPointer
    private let context: UnsafeMutablePointer<cruntime_context>
    private let fake: FakeContext
    /// What programs find on the stack, which the kernel does not clear.
    private let stackByte: UInt8

    private static var page: Int { 4096 }
    private static var stackSize: Int { Int(Interpreter.maximumFrames * Interpreter.frameSize) }
    /// Larger sessions than this are not run.
    private static var sizeLimit: Int { 4 << 30 }

    /// Nil where the system has no room.
    init?(_ image: SessionImage, _ fake: FakeContext, stackByte: UInt8) {
        let imageSize = (image.bytes.count + Self.page - 1) & ~(Self.page - 1)
        let sharedSize = (image.sharedSize + Self.page - 1) & ~(Self.page - 1)
        let size = imageSize + sharedSize + Self.stackSize + Self.page
        guard size <= Self.sizeLimit else { return nil }
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let base = unsafe mmap(nil, size, PROT_READ | PROT_WRITE, flags, -1, 0), unsafe base != MAP_FAILED else {
            return nil
        }
        unsafe base.copyMemory(from: image.bytes, byteCount: image.bytes.count)
        // Frozen values must not change, whoever writes.
        unsafe mprotect(base, imageSize, PROT_READ)
        unsafe self.base = unsafe base
        self.size = size
        self.image = image
        unsafe shared = unsafe base + imageSize
        session = unsafe SessionView(
            image: UnsafePointer(base.assumingMemoryBound(to: UInt8.self)),
            shared: shared.assumingMemoryBound(to: UInt8.self)
        )
        unsafe context = .allocate(capacity: 1)
        self.fake = fake
        self.stackByte = stackByte
    }

    deinit {
        unsafe munmap(base, size)
        unsafe context.deallocate()
    }

    /// The page that r1 points to; what is not in the fake context is refused by the checked engines.
    var contextPage: ClosedRange<UInt64> {
        let start = unsafe UInt64(UInt(bitPattern: base)) + UInt64(size - Self.page)
        return start...start + UInt64(Self.page)
    }

    /// Runs the program from the same state as every time; `body` gets r1 and gives r0.
    func run(_ body: (UnsafeMutablePointer<cruntime_context>, UInt64) -> UInt64) -> Result<UInt64, Trap> {
        let sharedOffset = unsafe shared - base
        unsafe madvise(shared, size - sharedOffset, MADV_DONTNEED)
        unsafe image.initializeShared(shared)
        if stackByte != 0 {
            unsafe memset(base + (size - Self.page - Self.stackSize), Int32(stackByte), Self.stackSize)
        }
        unsafe context.initialize(to: cruntime_context())
        unsafe prepareContext(context, session)
        unsafe context.pointee.stack_high = contextPage.lowerBound
        unsafe context.pointee.stack_low = contextPage.lowerBound - UInt64(Self.stackSize)
        if fake.size > 0 {
            unsafe (base + (size - Self.page)).copyMemory(from: fake.bytes, byteCount: fake.bytes.count)
            unsafe context.pointee.context_low = contextPage.lowerBound
            unsafe context.pointee.context_high = contextPage.lowerBound + UInt64(fake.size)
            unsafe context.pointee.context_writable = fake.isWritable ? 1 : 0
        }
        unsafe context.pointee.cpu_slot = -1
        unsafe context.pointee.random = 0x2545_f491_4f6c_dd1d
        unsafe context.pointee.pid_tgid = UInt64(cruntime_tid()) << 32 | UInt64(cruntime_tid())
        unsafe context.pointee.budget = Self.budget
        unsafe context.pointee.trap.instruction = UInt32.max
        unsafe prepareWindows(context)
        let result = unsafe body(context, contextPage.lowerBound)
        return unsafe Trap(context).map { .failure($0) } ?? .success(result)
    }

    /// Instructions that one run may execute.
    private static var budget: UInt64 { 1 << 23 }
}
