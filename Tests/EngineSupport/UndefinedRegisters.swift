internal import CRuntime
internal import ISA
internal import JIT
internal import Runtime
internal import UBPFVM

// Programs that read registers which nobody wrote: checked code may give them what it likes, but nothing of the process that runs it.

/// What a program that reads undefined registers finds out about the process, as a message; nil where it finds nothing.
///
/// The program is compiled and run twice: with its code elsewhere, another depth of the native stack and another pattern in every
/// machine register. If all of that is hidden, both runs do the same.
package func compareUndefined(seed: UInt64, minimising seconds: Double = 5) throws -> String? {
    let (program, units) = WildProgram.make(seed: seed, readsUndefined: true)
    let hasPacket = seed & 1 == 0
    guard let difference = try undefinedDifference(program, hasPacket) else { return nil }
    let smaller = Minimiser.minimise(program, units: units, seconds: seconds) {
        (try? undefinedDifference($0, hasPacket)) != nil
    }
    let message = (try? undefinedDifference(smaller, hasPacket)) ?? difference
    return "\(message)\nThe whole program: \(difference)"
}

/// What a program could tell somebody.
private struct Traces: Equatable {
    var result: UInt64 = 0
    var trap: Trap?
    var packet: [UInt8] = []
    var stack: [UInt64] = []
}

private func undefinedDifference(_ program: [Instruction], _ hasPacket: Bool) throws -> String? {
    let linked = try link(program, mapCount: 0) { _, _ in nil }
    var options = CompileOptions(.checked)
    options.hasPacket = hasPacket
    let first = try CompiledPrograms.compile(linked, options)
    let second = try CompiledPrograms.compile(linked, options)
    var runner = ProgramRunner(packet: [UInt8](repeating: 0, count: 64))
    runner.budget = 5_000
    let here = try traces(&runner, hostileCaller(first.entry(), pattern: 0x7b01_0203_0405_0607, depth: 8))
    let there = try traces(&runner, hostileCaller(second.entry(), pattern: 0x35a9_b8c7_d6e5_f4f3, depth: 4104))
    withExtendedLifetime((first.size, second.size)) {}
    if here == there { return nil }
    return "runs with other registers, code and native stack differ:\n\(here)\n\(there)\n\(listing(program))"
}

private func traces(_ runner: inout ProgramRunner, _ code: borrowing ExecutableMemory) throws -> Traces {
    let entry = code.address
    var traces = Traces()
    runner.packetBytes = (0..<64).map { UInt8($0 * 3) }
    do throws(Trap) {
        traces.result = try runner.runAny { context, r1, r2 in
            let result = cruntime_run(entry, context, r1, r2)
            endRun(context)
            let (low, high) = (context.pointee.stack_low, context.pointee.stack_high)
            traces.stack = stride(from: low, to: high, by: 8).compactMap {
                UnsafePointer<UInt64>(bitPattern: UInt($0))?.pointee
            }
            return result
        }
    } catch {
        traces.trap = error
    }
    traces.packet = runner.packetBytes
    return traces
}

/// A C function that calls another one with a pattern in all registers that are not its arguments, `depth` bytes further down the
/// stack (8 more than a multiple of 16).
private func hostileCaller(_ entry: UInt64, pattern: UInt64, depth: Int32) throws(CodeError) -> ExecutableMemory {
    var assembler = Assembler(try CodeBuffer.map(capacity: 4096))
    let saved: [GPR] = [.rbx, .rbp, .r12, .r13, .r14, .r15]
    for register in saved { assembler.push(register) }
    assembler.alu(.sub, .rsp, depth)
    for register in saved + [.rax, .rcx, .r8, .r9, .r10] { assembler.mov(register, pattern) }
    assembler.mov(.r11, entry)
    assembler.call(.r11)
    assembler.alu(.sub, .rsp, -depth)
    for register in saved.reversed() { assembler.pop(register) }
    assembler.ret()
    return try assembler.finalize()
}
