package import CRuntime
package import ISA
internal import Runtime

/// Runs programs on the interpreter without a session: a stack, optional packet memory, no maps.
@safe
package struct ProgramRunner: ~Copyable {
    private let context: UnsafeMutablePointer<cruntime_context>
    private let stack: UnsafeMutableRawPointer
    private let packet: UnsafeMutableRawPointer
    private let packetSize: Int

    /// Instructions that one run may execute.
    package var budget: UInt64 = 1 << 24
    /// Instructions that the last run executed.
    package private(set) var executed: UInt64 = 0

    private static var stackSize: Int { Int(Interpreter.maximumFrames * Interpreter.frameSize) }

    /// A runner whose programs may read and write a copy of `packet`.
    package init(packet bytes: [UInt8] = []) {
        unsafe context = .allocate(capacity: 1)
        unsafe stack = .allocate(byteCount: Self.stackSize, alignment: 16)
        unsafe packet = .allocate(byteCount: max(bytes.count, 1), alignment: 16)
        packetSize = bytes.count
        unsafe context.initialize(to: cruntime_context())
        for (index, byte) in bytes.enumerated() {
            unsafe packet.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
        }
        unsafe context.pointee.stack_low = UInt64(UInt(bitPattern: stack))
        unsafe context.pointee.stack_high = context.pointee.stack_low + UInt64(Self.stackSize)
        unsafe context.pointee.packet_low = UInt64(UInt(bitPattern: packet))
        unsafe context.pointee.packet_high = context.pointee.packet_low + UInt64(packetSize)
        unsafe context.pointee.cpu_slot = -1
        unsafe prepareWindows(context)
    }

    deinit {
        unsafe packet.deallocate()
        unsafe stack.deallocate()
        unsafe context.deallocate()
    }

    /// Address of the packet's first byte, 0 where it is empty.
    package var packetAddress: UInt64 { packetSize == 0 ? 0 : unsafe context.pointee.packet_low }

    /// The packet as programs left it; setting it keeps its size.
    package var packetBytes: [UInt8] {
        get {
            var bytes: [UInt8] = []
            for index in 0..<packetSize { bytes.append(unsafe packet.load(fromByteOffset: index, as: UInt8.self)) }
            return bytes
        }
        set {
            for index in 0..<min(packetSize, newValue.count) {
                unsafe packet.storeBytes(of: newValue[index], toByteOffset: index, as: UInt8.self)
            }
        }
    }

    /// Runs a linked program with a zeroed stack and returns r0; r1 and r2 are the packet's address and size unless given.
    package mutating func run(
        _ program: [LinkedInstruction],
        r1: UInt64? = nil,
        r2: UInt64? = nil
    ) throws(Trap) -> UInt64 {
        unsafe try runAny(r1: r1, r2: r2) { context, first, second in
            unsafe program.withUnsafeBufferPointer { code -> UInt64 in
                guard let start = code.baseAddress else { return 0 }
                return unsafe Interpreter.run(context, start, Int32(code.count), r1: first, r2: second)
            }
        }
    }

    /// Runs anything with a zeroed stack and a fresh budget, as `run` does; the way for other engines.
    package mutating func runAny(
        r1: UInt64? = nil,
        r2: UInt64? = nil,
        _ body: (UnsafeMutablePointer<cruntime_context>, UInt64, UInt64) -> UInt64
    ) throws(Trap) -> UInt64 {
        unsafe cruntime_zero(stack, UInt64(Self.stackSize))
        unsafe context.pointee.budget = budget
        unsafe context.pointee.trap.kind = 0
        unsafe context.pointee.trap.instruction = UInt32.max
        unsafe context.pointee.tail_calls = 0
        let result = unsafe body(context, r1 ?? packetAddress, r2 ?? UInt64(packetSize))
        executed = unsafe budget &- context.pointee.budget
        if let trap = unsafe Trap(context) { throw trap }
        return result
    }

    /// Links and runs a program without maps.
    package mutating func run(
        _ program: [Instruction],
        r1: UInt64? = nil,
        r2: UInt64? = nil
    ) throws(RunError) -> UInt64 {
        let linked: [LinkedInstruction]
        do {
            linked = try link(program, mapCount: 0) { _, _ in nil }
        } catch {
            throw .link(error)
        }
        do {
            return try run(linked, r1: r1, r2: r2)
        } catch {
            throw .trap(error)
        }
    }
}

/// Why a program did not reach its `exit`.
package enum RunError: Error, Equatable, Sendable {
    case link(LinkError)
    case trap(Trap)
}
