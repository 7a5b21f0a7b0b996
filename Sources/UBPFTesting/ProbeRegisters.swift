import CRuntime

/// The registers of a probed thread, which uprobe programs see as `struct pt_regs`.
public struct ProbeRegisters: Equatable, Sendable {
    /// Arguments of the probed function, first to sixth: rdi, rsi, rdx, rcx, r8, r9.
    public var arguments: [UInt64]
    /// The returned value in a return probe (rax).
    public var result: UInt64
    /// Address of the probed instruction (rip).
    public var instructionPointer: UInt64
    /// The stack pointer (rsp).
    public var stackPointer: UInt64

    /// Registers of a call with up to six arguments; missing ones are 0.
    public init(
        arguments: [UInt64] = [],
        result: UInt64 = 0,
        instructionPointer: UInt64 = 0,
        stackPointer: UInt64 = 0
    ) {
        self.arguments = arguments
        self.result = result
        self.instructionPointer = instructionPointer
        self.stackPointer = stackPointer
    }

    var native: cruntime_regs {
        var native = cruntime_regs()
        let argument = { (index: Int) in index < arguments.count ? arguments[index] : 0 }
        native.rdi = argument(0)
        native.rsi = argument(1)
        native.rdx = argument(2)
        native.rcx = argument(3)
        native.r8 = argument(4)
        native.r9 = argument(5)
        native.rax = result
        native.rip = instructionPointer
        native.rsp = stackPointer
        return native
    }
}

/// Who a program believes to be run by.
public struct Caller: Equatable, Sendable {
    /// Process id (`bpf_get_current_pid_tgid() >> 32`).
    public var pid: UInt32
    /// Thread id.
    public var tid: UInt32
    /// User id.
    public var uid: UInt32
    /// Group id.
    public var gid: UInt32
    /// What `bpf_get_attach_cookie()` answers.
    public var cookie: UInt64

    /// The thread with `tid`, by default the process's first.
    public init(pid: UInt32 = 1000, tid: UInt32? = nil, uid: UInt32 = 1000, gid: UInt32 = 1000, cookie: UInt64 = 0) {
        self.pid = pid
        self.tid = tid ?? pid
        self.uid = uid
        self.gid = gid
        self.cookie = cookie
    }
}
