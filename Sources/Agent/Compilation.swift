import CPatch
import CRuntime
import CSession
import ISA
import JIT
import Runtime

/// Compiles the session's programs; the table of their code, or nil where the interpreter has to run them.
///
/// The table and the code stay for the life of the process: a thread may be in them whenever the session ends.
func compilePrograms(_ view: SessionView) -> UnsafePointer<UInt64>? {
    let count = unsafe Int(view.header.pointee.program_count)
    var programs: [UnsafeBufferPointer<LinkedInstruction>] = unsafe []
    for index in 0..<count {
        let length = unsafe Int(view.program(index).pointee.instruction_count)
        unsafe programs.append(UnsafeBufferPointer(start: view.instructions(index), count: length))
    }
    do throws(CodeError) {
        let options = CompileOptions(.checked, session: view)
        let entries = unsafe try CompiledPrograms.compile(programs, options).leak()
        guard let table = unsafe cpatch_allocate(UInt64(max(count, 1) * 8 + 4095) & ~4095, 0) else { return nil }
        let words = unsafe UnsafeMutableRawPointer(table).bindMemory(to: UInt64.self, capacity: count)
        for index in 0..<count { unsafe words[index] = entries[index] }
        return unsafe UnsafePointer(words)
    } catch {
        // No executable memory (a hardened target), or a program that cannot be compiled: it is interpreted.
        return nil
    }
}
