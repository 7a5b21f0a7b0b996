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
