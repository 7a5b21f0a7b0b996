internal import CRuntime
public import CUBPF
internal import ISA

// The functions of include/ubpf.h, which the compiler compares these with.

/// UBPF_VERSION of the header that this library was built with.
@c @implementation
public func ubpf_version() -> UInt32 { UBPF_VERSION }

/// A new VM, or NULL.
@c @implementation
public func ubpf_vm_create() -> OpaquePointer? { unsafe Machine.create()?.handle }

/// Frees a VM and its code.
@c @implementation
public func ubpf_vm_destroy(_ vm: OpaquePointer?) { unsafe Machine(vm)?.destroy() }

/// Why the last call failed; stopped runs of compiled code count as calls.
@c @implementation
public func ubpf_vm_error(_ vm: OpaquePointer?) -> UnsafePointer<CChar>? {
    guard let machine = unsafe Machine(vm) else {
        return unsafe UnsafeRawPointer(EmbeddingError.noVM.utf8Start).assumingMemoryBound(to: CChar.self)
    }
    if let trap = unsafe StoppedRuns.take(&machine.state.pointee.stops) {
        machine.setText(.stopped(trap, in: unsafe machine.state.pointee.program.instructions))
    }
    return unsafe machine.text
}

/// Makes a helper callable.
@c @implementation
public func ubpf_vm_register(_ vm: OpaquePointer?, _ id: UInt32, _ helper: ubpf_helper?) -> Int32 {
    unsafe perform(vm) { machine throws(EmbeddingError) in
        guard id < CRUNTIME_USER_HELPERS else { throw .helperNumber(id) }
        guard let helper else { throw .noHelper }
        machine.setHelper(id, unsafe UInt64(UInt(bitPattern: unsafeBitCast(helper, to: UnsafeRawPointer.self))))
    }
}

/// Sets the additional block of memory.
@c @implementation
public func ubpf_vm_allow(_ vm: OpaquePointer?, _ memory: UnsafeMutableRawPointer?, _ size: Int) -> Int32 {
    unsafe perform(vm) { machine throws(EmbeddingError) in
        let block = try unsafe CallerMemory(memory, size)
        if unsafe machine.state.pointee.isCompiled { throw .isCompiled }
        unsafe machine.state.pointee.allowed = (block.low, block.high)
    }
}

/// Sets the limit of a checked run.
@c @implementation
public func ubpf_vm_set_budget(_ vm: OpaquePointer?, _ instructions: UInt64) -> Int32 {
    unsafe perform(vm) { machine throws(EmbeddingError) in
        if unsafe machine.state.pointee.isCompiled { throw .isCompiled }
        unsafe machine.state.pointee.budget = VirtualMachine.limit(instructions)
    }
}

/// Loads encoded instructions.
@c @implementation
public func ubpf_vm_load(_ vm: OpaquePointer?, _ instructions: UnsafeRawPointer?, _ size: Int) -> Int32 {
    unsafe perform(vm) { machine throws(EmbeddingError) in
        guard (0...largestProgram).contains(size) else { throw .tooLarge(largestProgram) }
        guard let bytes = unsafe bytes(instructions, size) else { throw .noInstructions }
        try machine.load(bytes: bytes)
    }
}

/// Loads a function or section of an object.
@c @implementation
public func ubpf_vm_load_elf(
    _ vm: OpaquePointer?,
    _ object: UnsafeRawPointer?,
    _ size: Int,
    _ name: UnsafePointer<CChar>?
) -> Int32 {
    unsafe perform(vm) { machine throws(EmbeddingError) in
        guard (0...largestObject).contains(size) else { throw .tooLarge(largestObject) }
        guard let bytes = unsafe bytes(object, size) else { throw .noObject }
        try machine.load(try readProgram(bytes, name: unsafe string(name)))
    }
}

/// Interprets the program.
@c @implementation
public func ubpf_vm_run(
    _ vm: OpaquePointer?,
    _ memory: UnsafeMutableRawPointer?,
    _ size: Int,
    _ result: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    unsafe perform(vm) { machine throws(EmbeddingError) in
        let value = try machine.run(try unsafe CallerMemory(memory, size))
        unsafe result?.pointee = value
    }
}

/// Compiles the program.
@c @implementation
public func ubpf_vm_compile(_ vm: OpaquePointer?, _ mode: ubpf_mode) -> ubpf_function? {
    var function: ubpf_function?
    _ = unsafe perform(vm) { machine throws(EmbeddingError) in
        guard mode == UBPF_CHECKED || mode == UBPF_UNCHECKED else { throw .unknownMode(mode.rawValue) }
        unsafe function = try unsafe machine.compile(isChecked: mode == UBPF_CHECKED)
    }
    return unsafe function
}

/// Instructions of the last interpreted run.
@c @implementation
public func ubpf_vm_executed(_ vm: OpaquePointer?) -> UInt64 {
    guard let machine = unsafe Machine(vm) else { return 0 }
    return unsafe machine.state.pointee.executed
}

/// Runs of checked code that were stopped.
@c @implementation
public func ubpf_vm_traps(_ vm: OpaquePointer?) -> UInt64 {
    guard let machine = unsafe Machine(vm) else { return 0 }
    return unsafe StoppedRuns.count(&machine.state.pointee.stops)
}

/// The machine code.
@c @implementation
public func ubpf_vm_code(_ vm: OpaquePointer?, _ size: UnsafeMutablePointer<Int>?) -> UnsafeRawPointer? {
    let code = unsafe Machine(vm)?.code
    unsafe size?.pointee = code?.size ?? 0
    return unsafe UnsafeRawPointer(bitPattern: UInt(code?.address ?? 0))
}

/// Bytes of instructions, and of an object, that are copied before anything is known of them; a size that went wrong in the
/// caller (-1, say) must not end the process.
private let (largestProgram, largestObject) = (16 << 20, 256 << 20)

/// Calls `body` with the VM, and makes an error a text and -1.
private func perform(_ vm: OpaquePointer?, _ body: (Machine) throws(EmbeddingError) -> Void) -> Int32 {
    guard let machine = unsafe Machine(vm) else { return -1 }
    _ = unsafe StoppedRuns.take(&machine.state.pointee.stops)
    machine.clearText()
    do {
        try body(machine)
        return 0
    } catch {
        machine.setText(error)
        return -1
    }
}

/// A copy of a caller's bytes: what was checked must not change afterwards.
private func bytes(_ start: UnsafeRawPointer?, _ size: Int) -> [UInt8]? {
    guard size != 0 else { return [] }
    guard let start = unsafe start else { return nil }
    return unsafe [UInt8](UnsafeRawBufferPointer(start: start, count: size))
}

/// A C string without its NUL.
private func string(_ start: UnsafePointer<CChar>?) -> [UInt8]? {
    guard let start = unsafe start else { return nil }
    var bytes: [UInt8] = []
    var next = unsafe start
    while unsafe next.pointee != 0 {
        bytes.append(UInt8(bitPattern: unsafe next.pointee))
        unsafe next += 1
    }
    return bytes
}
