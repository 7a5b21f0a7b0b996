import CPatch
import CRuntime
import CSession
import ISA
import JIT
import Runtime

/// Compiles a session's programs and notes their addresses; where that fails, the interpreter runs them.
func compilePrograms(_ view: SessionView, into session: UnsafeMutablePointer<cpatch_session>) {
    let count = unsafe Int(view.header.pointee.program_count)
    var programs: [UnsafeBufferPointer<LinkedInstruction>] = unsafe []
    for index in 0..<count {
        let length = unsafe Int(view.program(index).pointee.instruction_count)
        unsafe programs.append(UnsafeBufferPointer(start: view.instructions(index), count: length))
    }
    do throws(CodeError) {
        let options = CompileOptions(.checked, session: view)
        let size = UInt64(max(count, 1) * 9 + 4095) & ~4095
        guard let table = unsafe cpatch_allocate(size, 0) else { return }
        let compiled: CompiledPrograms
        do throws(CodeError) {
            compiled = unsafe try CompiledPrograms.compile(programs, options)
        } catch {
            unsafe cpatch_release(table, size)
            throw error
        }
        let calls = compiled.callsRuntime
        let (entries, address, length) = compiled.leak()
        let words = unsafe UnsafeMutableRawPointer(table).bindMemory(to: UInt64.self, capacity: count)
        let needs = unsafe table + count * 8
        for index in 0..<count {
            unsafe words[index] = entries[index]
            if calls[index] { unsafe needs[index] = UInt8(truncatingIfNeeded: CPATCH_NEED_CALLS.rawValue) }
            if calls[index], unsafe mayWalk(programs[index]) {
                unsafe needs[index] |= UInt8(truncatingIfNeeded: CPATCH_NEED_WALK.rawValue)
            }
        }
        unsafe session.pointee.code = unsafe UnsafePointer(words)
        unsafe session.pointee.needs = unsafe UnsafePointer(needs)
        unsafe session.pointee.code_table_size = size
        unsafe session.pointee.code_address = address
        unsafe session.pointee.code_size = length
    } catch {
        // No executable memory (a hardened target), or a program that cannot be compiled: it is interpreted.
    }
}

/// Whether a program may look at its thread's stack, itself or by a program that it goes over to.
private func mayWalk(_ program: UnsafeBufferPointer<LinkedInstruction>) -> Bool {
    for index in program.indices {
        if case .callRegister = unsafe program[index].opcode { return true }
        guard case .callHelper = unsafe program[index].opcode else { continue }
        switch unsafe program[index].imm {
        // bpf_tail_call, bpf_get_stackid, bpf_get_stack; reads, which are fast there
        case 12, 27, 67, 4, 45, 112...115, 141, 148, 191: return true
        default: break
        }
    }
    return false
}
