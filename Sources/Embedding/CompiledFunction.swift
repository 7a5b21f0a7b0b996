internal import CRuntime
internal import CUBPF
internal import ISA
internal import JIT
internal import UBPFVM

/// A compiled program as a C function.
///
/// C calls a few instructions that add what the code needs, and go on in `cruntime_enter_checked` or
/// `cruntime_enter_unchecked`.
struct CompiledFunction: ~Copyable {
    private let code: CodePages
    /// Where C's call arrives; empty where the code is a C function itself.
    private let thunk: CodePages
    private let start: UInt64

    private init(_ code: consuming CodePages, _ thunk: consuming CodePages, start: UInt64) {
        self.code = code
        self.thunk = thunk
        self.start = start
    }

    /// Compiles a program of `vm`, which outlives the function.
    static func make(_ program: Program, isChecked: Bool, vm: Machine) throws(EmbeddingError) -> CompiledFunction {
        do throws(CodeError) {
            var options = CompileOptions(isChecked ? .checked : .unchecked)
            unsafe options.externals = unsafe vm.helpers
            options.hasPacket = true
            options.isStandalone = !isChecked
            let compiled = try CompiledPrograms.compile(program.plain, options)
            let (entry, address, size) = (compiled.entry(), compiled.address, compiled.size)
            let isFunction = compiled.isStandalone
            _ = compiled.leak()
            let code = CodePages(address: address, size: size)
            if isFunction { return CompiledFunction(code, CodePages(address: 0, size: 0), start: entry) }
            let thunk = try makeThunk(vm, entry, isChecked: isChecked)
            let start = thunk.address
            return CompiledFunction(code, thunk, start: start)
        } catch {
            throw .program(error)
        }
    }

    /// (memory, size) becomes (memory, size, vm, code, body); helpers are where the VM is.
    private static func makeThunk(_ vm: Machine, _ code: UInt64, isChecked: Bool) throws(CodeError) -> CodePages {
        var assembler = Assembler(try CodeBuffer.map(capacity: 4096))
        assembler.mov(.rdx, unsafe UInt64(UInt(bitPattern: vm.helpers)))
        assembler.mov(.rcx, code)
        if isChecked {
            assembler.mov(.r8, unsafe UInt64(UInt(bitPattern: unsafeBitCast(enterChecked, to: UnsafeRawPointer.self))))
            let entry:
                @convention(c) (
                    UnsafeMutableRawPointer?, Int, UnsafeMutableRawPointer, UInt64, @escaping cruntime_body
                ) -> UInt64 = unsafe cruntime_enter_checked
            assembler.mov(.rax, unsafe UInt64(UInt(bitPattern: unsafeBitCast(entry, to: UnsafeRawPointer.self))))
        } else {
            let entry: @convention(c) (UnsafeMutableRawPointer?, Int, UnsafePointer<UInt64>, UInt64) -> UInt64 =
                unsafe cruntime_enter_unchecked
            assembler.mov(.rax, unsafe UInt64(UInt(bitPattern: unsafeBitCast(entry, to: UnsafeRawPointer.self))))
        }
        assembler.jump(.rax)
        let memory = try assembler.finalize()
        let size = memory.count
        return CodePages(address: memory.leak().address, size: size)
    }

    var function: ubpf_function? { unsafe unsafeBitCast(UInt(start), to: ubpf_function?.self) }

    var address: UInt64 { code.address }
    var size: Int { code.size }
}

/// Pages of code, which go back at the end.
///
/// `ExecutableMemory` would do, but Embedded Swift cannot end the life of another module's non-copyable type.
private struct CodePages: ~Copyable {
    let address: UInt64
    let size: Int

    // munmap
    deinit {
        if size != 0 { _ = cruntime_syscall(11, Int64(bitPattern: address), Int64((size + 4095) & ~4095), 0, 0, 0, 0) }
    }
}
