internal import ISA

/// The registers of one frame, behind a pointer that the frame's function owns.
///
/// Indices come from linked instructions, which hold 0 to 10 only; there is no check here.
@safe
struct Registers {
    private let base: UnsafeMutablePointer<UInt64>

    @_noLocks @inline(__always)
    init(_ base: UnsafeMutablePointer<UInt64>) { unsafe self.base = unsafe base }

    /// r0 to r10, for observers.
    @inline(__always)
    var pointer: UnsafePointer<UInt64> { @_noLocks get { unsafe UnsafePointer(base) } }

    /// All 64 bits.
    @inline(__always)
    subscript(_ index: Int) -> UInt64 {
        @_noLocks get { unsafe base[index] }
        @_noLocks nonmutating set { unsafe base[index] = newValue }
    }

    /// Clears all but r1 and r10, as a program begins that a tail call goes to.
    @_noLocks @inline(never)
    func enterProgram() {
        unsafe base[0] = 0
        for index in 2...9 { unsafe base[index] = 0 }
    }

    /// The lower half; writing it clears the upper half, as every 32-bit operation does (RFC 9669 section 4.1).
    @inline(__always)
    subscript(low index: Int) -> UInt32 {
        @_noLocks get { UInt32(truncatingIfNeeded: unsafe base[index]) }
        @_noLocks nonmutating set { unsafe base[index] = UInt64(newValue) }
    }

    /// All 64 bits, as a signed number.
    @inline(__always)
    subscript(signed index: Int) -> Int64 {
        @_noLocks get { Int64(bitPattern: unsafe base[index]) }
        @_noLocks nonmutating set { unsafe base[index] = UInt64(bitPattern: newValue) }
    }

    /// The lower half, as a signed number; writing it clears the upper half.
    @inline(__always)
    subscript(signedLow index: Int) -> Int32 {
        @_noLocks get { Int32(truncatingIfNeeded: unsafe base[index]) }
        @_noLocks nonmutating set { unsafe base[index] = UInt64(UInt32(bitPattern: newValue)) }
    }
}

/// A place in a program: the instruction that is executed, or the next one.
@safe
struct Cursor {
    fileprivate var pointer: UnsafePointer<LinkedInstruction>

    /// Goes on to the next instruction in memory.
    @_noLocks @inline(__always)
    mutating func advance() { unsafe pointer += 1 }

    /// Goes back to the instruction before.
    @_noLocks @inline(__always)
    mutating func retreat() { unsafe pointer -= 1 }

    @inline(__always)
    var opcode: Opcode { @_noLocks get { unsafe pointer.pointee.opcode } }
    @inline(__always)
    var dst: Int { @_noLocks get { Int(unsafe pointer.pointee.dst) } }
    @inline(__always)
    var src: Int { @_noLocks get { Int(unsafe pointer.pointee.src) } }
    @inline(__always)
    var target: Int { @_noLocks get { Int(unsafe pointer.pointee.target) } }
    /// The byte offset of a memory access.
    @inline(__always)
    var displacement: UInt64 { @_noLocks get { UInt64(bitPattern: Int64(unsafe pointer.pointee.target)) } }
    @inline(__always)
    var imm: UInt64 { @_noLocks get { UInt64(bitPattern: unsafe pointer.pointee.imm) } }
    @inline(__always)
    var signedImm: Int64 { @_noLocks get { unsafe pointer.pointee.imm } }
    @inline(__always)
    var imm32: UInt32 { @_noLocks get { UInt32(truncatingIfNeeded: unsafe pointer.pointee.imm) } }
    @inline(__always)
    var signedImm32: Int32 { @_noLocks get { Int32(truncatingIfNeeded: unsafe pointer.pointee.imm) } }
}

/// The instructions of a program.
@safe
struct Code {
    private let base: UnsafePointer<LinkedInstruction>

    @_noLocks @inline(__always)
    init(_ base: UnsafePointer<LinkedInstruction>) { unsafe self.base = unsafe base }

    @inline(__always)
    subscript(_ index: Int) -> Cursor { @_noLocks get { unsafe Cursor(pointer: base + index) } }

    /// Where an instruction is.
    @_noLocks @inline(__always)
    func index(_ cursor: Cursor) -> Int { unsafe cursor.pointer - base }
}
