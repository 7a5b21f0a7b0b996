internal import CRuntime
internal import ISA
internal import Runtime
internal import UBPFVM

/// What a VM of the C API is, besides its helpers and its error text.
struct VirtualMachine: ~Copyable {
    var program = Program()
    /// The block that programs may touch in addition to their memory.
    var allowed: (low: UInt64, high: UInt64) = (0, 0)
    /// Instructions of a checked run.
    var budget: UInt64 = 1 << 24
    /// Instructions of the last interpreted run.
    var executed: UInt64 = 0
    /// The program as code, in each mode once; the functions stay until the program goes.
    var checked: CompiledFunction?
    var unchecked: CompiledFunction?
    /// Which of them was asked for last.
    var lastIsChecked = true
    /// Runs of compiled code that were stopped; counted by any thread.
    var stops = StoppedRuns()

    /// The budget that stands for a caller's number, 0 for none; compiled code counts it as a signed number.
    static func limit(_ instructions: UInt64) -> UInt64 {
        instructions == 0 ? UInt64(Int64.max) : min(instructions, UInt64(Int64.max))
    }

    var isCompiled: Bool {
        switch (checked == nil, unchecked == nil) {
        case (true, true): false
        case (false, _), (_, false): true
        }
    }
}

/// A VM behind the pointer that C holds: one page of its own, so that a use after the end is a fault and not a riddle.
///
/// Helpers and error text have fixed places in it, which programs and callers keep pointers to.
@safe
struct Machine {
    private let page: UnsafeMutableRawPointer

    private static var pageSize: Int { 4096 }
    private static var textOffset: Int { Int(CRUNTIME_USER_HELPERS) * 8 }
    private static var textSize: Int { 256 }
    static var stateOffset: Int { textOffset + textSize }

    /// A VM without a program; nil where there is no memory.
    static func create() -> Machine? {
        // mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); errors are -4095 to -1.
        let address = cruntime_syscall(9, 0, Int64(pageSize), 3, 0x22, -1, 0)
        guard address > 0, let page = unsafe UnsafeMutableRawPointer(bitPattern: Int(address)) else { return nil }
        let machine = unsafe Machine(page: page)
        unsafe machine.state.initialize(to: VirtualMachine())
        return machine
    }

    private init(page: UnsafeMutableRawPointer) { unsafe self.page = unsafe page }

    init?(_ handle: OpaquePointer?) {
        guard let handle = unsafe handle else { return nil }
        unsafe page = UnsafeMutableRawPointer(handle)
    }

    /// Gives back everything; the machine must not be used any more.
    func destroy() {
        unsafe state.deinitialize(count: 1)
        // munmap
        _ = unsafe cruntime_syscall(11, Int64(Int(bitPattern: page)), Int64(Self.pageSize), 0, 0, 0, 0)
    }

    var handle: OpaquePointer { unsafe OpaquePointer(page) }

    var state: UnsafeMutablePointer<VirtualMachine> {
        unsafe (page + Self.stateOffset).assumingMemoryBound(to: VirtualMachine.self)
    }

    // MARK: Helpers

    /// Addresses of helpers by number, for `cruntime_context.user_helpers`.
    var helpers: UnsafePointer<UInt64> { unsafe UnsafePointer(page.assumingMemoryBound(to: UInt64.self)) }

    func hasHelper(_ number: Int64) -> Bool {
        (0..<Int64(CRUNTIME_USER_HELPERS)).contains(number) && (unsafe helpers[Int(number)]) != 0
    }

    func setHelper(_ number: UInt32, _ address: UInt64) {
        unsafe page.storeBytes(of: address, toByteOffset: Int(number) * 8, as: UInt64.self)
    }

    // MARK: Error text

    /// The text of the last failure, NUL-terminated.
    var text: UnsafePointer<CChar> {
        unsafe UnsafePointer((page + Self.textOffset).assumingMemoryBound(to: CChar.self))
    }

    func clearText() { unsafe page.storeBytes(of: 0, toByteOffset: Self.textOffset, as: UInt8.self) }

    /// Keeps what fits.
    func setText(_ error: EmbeddingError) {
        var length = 0
        for byte in error.message.utf8 where length < Self.textSize - 1 {
            unsafe page.storeBytes(of: byte, toByteOffset: Self.textOffset + length, as: UInt8.self)
            length += 1
        }
        unsafe page.storeBytes(of: 0, toByteOffset: Self.textOffset + length, as: UInt8.self)
    }
}
