/// What an instruction does, with operand kinds and widths folded in; one case per distinct behaviour.
///
/// Names read `<operation><width><operand kind>`. Source: RFC 9669 and Linux `include/uapi/linux/bpf.h`.
package enum Opcode: UInt8, CaseIterable, Sendable {
    // MARK: Arithmetic, 64 bits (class ALU64)
    case add64Imm, add64Reg
    case sub64Imm, sub64Reg
    case mul64Imm, mul64Reg
    case div64Imm, div64Reg
    case or64Imm, or64Reg
    case and64Imm, and64Reg
    case lsh64Imm, lsh64Reg
    case rsh64Imm, rsh64Reg
    case mod64Imm, mod64Reg
    case xor64Imm, xor64Reg
    case mov64Imm, mov64Reg
    case arsh64Imm, arsh64Reg
    case sdiv64Imm, sdiv64Reg
    case smod64Imm, smod64Reg
    case neg64
    /// `dst = (s8|s16|s32)src`, sign-extended to 64 bits (v4).
    case movsx64From8, movsx64From16, movsx64From32

    // MARK: Arithmetic, 32 bits (class ALU); the upper half of dst becomes zero
    case add32Imm, add32Reg
    case sub32Imm, sub32Reg
    case mul32Imm, mul32Reg
    case div32Imm, div32Reg
    case or32Imm, or32Reg
    case and32Imm, and32Reg
    case lsh32Imm, lsh32Reg
    case rsh32Imm, rsh32Reg
    case mod32Imm, mod32Reg
    case xor32Imm, xor32Reg
    case mov32Imm, mov32Reg
    case arsh32Imm, arsh32Reg
    case sdiv32Imm, sdiv32Reg
    case smod32Imm, smod32Reg
    case neg32
    case movsx32From8, movsx32From16

    // MARK: Byte order
    case le16, le32, le64, be16, be32, be64
    /// Unconditional swap (class ALU64, v4).
    case bswap16, bswap32, bswap64

    // MARK: 64-bit immediates; two slots in the encoding (RFC 9669 section 5.4)
    case loadImm64
    /// `imm` is a map descriptor (low half); src 1.
    case loadMap
    /// Address of a map's first value plus the upper half of `imm`; src 2.
    case loadMapValue
    /// `imm` is a BTF type id of a kernel variable; src 3.
    case loadVariable
    /// `imm` is a slot offset to a subprogram, relative to this instruction's second slot as in Linux; src 4.
    case loadFunction
    /// As `loadMap` and `loadMapValue`, by index into an array of descriptors; src 5 and 6.
    case loadMapByIndex, loadMapValueByIndex

    // MARK: Legacy packet access (RFC 9669 section 5.5, deprecated)
    case loadAbs8, loadAbs16, loadAbs32
    case loadInd8, loadInd16, loadInd32

    // MARK: Loads and stores
    case load8, load16, load32, load64
    /// Sign-extending loads (v4).
    case loadSigned8, loadSigned16, loadSigned32
    case store8Imm, store16Imm, store32Imm, store64Imm
    case store8Reg, store16Reg, store32Reg, store64Reg

    // MARK: Atomics
    case atomicAdd32, atomicOr32, atomicAnd32, atomicXor32
    case atomicAdd64, atomicOr64, atomicAnd64, atomicXor64
    case atomicFetchAdd32, atomicFetchOr32, atomicFetchAnd32, atomicFetchXor32
    case atomicFetchAdd64, atomicFetchOr64, atomicFetchAnd64, atomicFetchXor64
    case atomicExchange32, atomicExchange64
    case atomicCompareExchange32, atomicCompareExchange64
    /// Requires kernel 6.15.
    case loadAcquire8, loadAcquire16, loadAcquire32, loadAcquire64
    case storeRelease8, storeRelease16, storeRelease32, storeRelease64

    // MARK: Jumps; `offset` counts slots from the next instruction
    case jump
    /// `gotol`: a jump whose distance comes from imm (v4); decoded into `offset`.
    case jumpLong
    case jumpEqual64Imm, jumpEqual64Reg, jumpEqual32Imm, jumpEqual32Reg
    case jumpGreater64Imm, jumpGreater64Reg, jumpGreater32Imm, jumpGreater32Reg
    case jumpGreaterEqual64Imm, jumpGreaterEqual64Reg, jumpGreaterEqual32Imm, jumpGreaterEqual32Reg
    case jumpSet64Imm, jumpSet64Reg, jumpSet32Imm, jumpSet32Reg
    case jumpNotEqual64Imm, jumpNotEqual64Reg, jumpNotEqual32Imm, jumpNotEqual32Reg
    case jumpSignedGreater64Imm, jumpSignedGreater64Reg, jumpSignedGreater32Imm, jumpSignedGreater32Reg
    case jumpSignedGreaterEqual64Imm, jumpSignedGreaterEqual64Reg, jumpSignedGreaterEqual32Imm,
        jumpSignedGreaterEqual32Reg
    case jumpLess64Imm, jumpLess64Reg, jumpLess32Imm, jumpLess32Reg
    case jumpLessEqual64Imm, jumpLessEqual64Reg, jumpLessEqual32Imm, jumpLessEqual32Reg
    case jumpSignedLess64Imm, jumpSignedLess64Reg, jumpSignedLess32Imm, jumpSignedLess32Reg
    case jumpSignedLessEqual64Imm, jumpSignedLessEqual64Reg, jumpSignedLessEqual32Imm, jumpSignedLessEqual32Reg
    /// `may_goto`: takes the jump once a run-time budget is used up. Requires kernel 6.9.
    case mayGoto

    // MARK: Calls
    /// Helper function `imm`.
    case callHelper
    /// Subprogram at `imm` slots from the next instruction.
    case callLocal
    /// Kernel function with BTF id `imm`.
    case callKernelFunction
    /// `callx`: helper or function whose number or address is in dst, as LLVM emits it.
    case callRegister
    case exit
}
