/// An instruction ready to run: jumps and calls name instructions, maps are handles or segment offsets; 16 bytes.
///
/// Position-independent, so it can lie in a session's sealed image and run at any address. The fields mean:
///
/// | opcode | `target` | `imm` |
/// |---|---|---|
/// | memory accesses | byte offset | immediate or atomic operand |
/// | jumps | index of the destination instruction in the program | immediate |
/// | `callLocal` | index of the callee's first instruction | |
/// | `callHelper` | | its number (`Helper`, kernel functions too); for the interpreter bit 32 is set in that of an embedder's |
/// | `loadMap` | | a `MapHandle` |
/// | `loadMapValue` | 0: offset in shared, 1: offset in image | the offset |
/// | `loadFunction` | index of the function's first instruction | a `FunctionHandle` |
package struct LinkedInstruction: Sendable {
    package var opcode: Opcode
    package var dst: UInt8
    package var src: UInt8
    /// A call, or a handle made by `loadFunction`, ends here; the entry counts as called.
    package var startsFunction = false
    package var target: Int32
    package var imm: Int64

    package init(_ opcode: Opcode, dst: UInt8 = 0, src: UInt8 = 0, target: Int32 = 0, imm: Int64 = 0) {
        self.opcode = opcode
        self.dst = dst
        self.src = src
        self.target = target
        self.imm = imm
    }
}

/// What a program holds as `struct bpf_map *`: a tagged index that is no address, so that following it is a trap.
package enum MapHandle {
    private static var tag: UInt64 { @_noLocks get { 0xb4b0_0000_0000_0000 } }

    @_noLocks
    package static func make(_ index: Int) -> UInt64 { tag | UInt64(index) }

    /// The map's index, or nil for any other number.
    @_noLocks
    package static func index(_ handle: UInt64) -> Int? {
        handle >> 32 == tag >> 32 ? Int(handle & 0xffff_ffff) : nil
    }
}

/// What a program holds as a pointer to one of its functions (`BPF_PSEUDO_FUNC`).
package enum FunctionHandle {
    private static var tag: UInt64 { @_noLocks get { 0xb4f0_0000_0000_0000 } }

    @_noLocks
    package static func make(_ index: Int) -> UInt64 { tag | UInt64(index) }

    /// Index of the function's first instruction, or nil for any other number.
    @_noLocks
    package static func index(_ handle: UInt64) -> Int? {
        handle >> 32 == tag >> 32 ? Int(handle & 0xffff_ffff) : nil
    }
}
