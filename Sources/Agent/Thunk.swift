import CPatch
import CRuntime
import CSession

/// Memory for thunks near the code that they serve; writable until `finish`, then read-execute, never both.
///
/// Starts with the addresses of the two common trampolines, for the thunks' `jmp *` and `call *`.
@safe
struct ThunkArena {
    let base: UnsafeMutablePointer<UInt8>
    let size: UInt64
    var used: UInt64

    static let headerSize: UInt64 = 16

    /// Claims free memory within reach of `address`.
    init?(near address: UInt64, size: UInt64) {
        let whole = (size &+ Self.headerSize &+ 4095) & ~4095
        // Other threads' new mappings take the same places: each time one came first, the next look finds another.
        var attempts = 32
        while true {
            let place = cpatch_find_gap(address, whole)
            guard place != 0, attempts > 0 else { return nil }
            attempts -= 1
            guard let base = unsafe cpatch_allocate(whole, place) else { continue }
            unsafe self.base = base
            break
        }
        self.size = whole
        self.used = Self.headerSize
        var header = CodeWriter(at: start)
        header.quad(cpatch_enter_function_address())
        header.quad(cpatch_enter_instruction_address())
    }

    var start: UInt64 { unsafe UInt64(UInt(bitPattern: base)) }

    /// Whether `bytes` more fit and `address` is in reach of all of the arena.
    func serves(_ address: UInt64, bytes: UInt64) -> Bool {
        let distance = start > address ? start &- address : address &- start
        return distance < 0x7000_0000 && bytes <= size &- used
    }

    /// Makes the thunks executable; 0 or an errno value.
    func finish() -> Int32 { unsafe -cpatch_protect(base, size, 1) }

    func release() { unsafe cpatch_release(base, size) }
}

/// Writes code bytes at an absolute address.
struct CodeWriter {
    var address: UInt64

    init(at address: UInt64) { self.address = address }

    mutating func byte(_ value: UInt8) {
        if let place = unsafe UnsafeMutablePointer<UInt8>(bitPattern: UInt(address)) { unsafe place.pointee = value }
        address &+= 1
    }

    mutating func long(_ value: UInt32) {
        byte(UInt8(truncatingIfNeeded: value))
        byte(UInt8(truncatingIfNeeded: value >> 8))
        byte(UInt8(truncatingIfNeeded: value >> 16))
        byte(UInt8(truncatingIfNeeded: value >> 24))
    }

    mutating func quad(_ value: UInt64) {
        long(UInt32(truncatingIfNeeded: value))
        long(UInt32(truncatingIfNeeded: value >> 32))
    }

    /// A 4-byte displacement, last in its instruction, that reaches `target`.
    mutating func displacement(to target: UInt64) throws(AgentError) {
        guard let value = rel32(from: address &+ 4, to: target) else { throw AgentError(.unreachable) }
        long(value)
    }
}

/// The displacement from the end of an instruction to `target`, or nil when 32 bits do not hold it.
func rel32(from end: UInt64, to target: UInt64) -> UInt32? {
    let distance = Int64(bitPattern: target &- end)
    guard let value = Int32(exactly: distance) else { return nil }
    return UInt32(bitPattern: value)
}

/// Most bytes of a thunk apart from its relocated window.
let thunkOverhead: UInt64 = 48

/// Writes the thunk and the relocated window of `site` into `arena`; fills `patched.thunk` and `patched.relocated`.
func writeThunk(
    _ site: UnsafePointer<csession_site>,
    index: UInt32,
    code: UnsafePointer<UInt8>,
    fixups: UnsafePointer<csession_fixup>,
    into arena: inout ThunkArena,
    _ patched: UnsafeMutablePointer<cpatch_site>
) throws(AgentError) {
    var writer = CodeWriter(at: arena.start &+ arena.used)
    unsafe patched.pointee.thunk = writer.address
    if unsafe site.pointee.flags & CSESSION_SITE_FUNCTION.rawValue != 0 {
        writer.byte(0x68)  // push $index
        writer.long(index)
        writer.byte(0xff)  // jmp *enter_function(%rip)
        writer.byte(0x25)
        try writer.displacement(to: arena.start)
        while writer.address & 15 != 0 { writer.byte(0xcc) }
    } else {
        writer.long(0x2464_8d48)  // lea -128(%rsp), %rsp
        writer.byte(0x80)
        writer.byte(0x68)  // push $index
        writer.long(index)
        writer.byte(0xff)  // call *enter_instruction(%rip)
        writer.byte(0x15)
        try writer.displacement(to: arena.start &+ 8)
        writer.long(0x24a4_8d48)  // lea 136(%rsp), %rsp: leaves flags alone, as add would not
        writer.long(136)
    }
    let relocated = writer.address
    unsafe patched.pointee.relocated = relocated
    let size = unsafe site.pointee.code_size
    for offset in 0..<Int(size) { unsafe writer.byte(code[Int(site.pointee.code_offset) + offset]) }
    writer.byte(0xe9)  // jmp resume
    try unsafe writer.displacement(to: site.pointee.resume)
    while writer.address & 15 != 0 { writer.byte(0xcc) }
    for number in 0..<Int(unsafe site.pointee.fixup_count) {
        let fixup = unsafe fixups[Int(site.pointee.first_fixup) + number]
        guard UInt64(fixup.field) + 4 <= UInt64(size), fixup.end <= size, fixup.field < fixup.end else {
            throw AgentError(.fixup)
        }
        guard let value = rel32(from: relocated &+ UInt64(fixup.end), to: fixup.target) else {
            throw AgentError(.unreachable)
        }
        var field = CodeWriter(at: relocated &+ UInt64(fixup.field))
        field.long(value)
    }
    arena.used = writer.address &- arena.start
}
