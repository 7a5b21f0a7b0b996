package import CRuntime
package import ISA
internal import Runtime

/// Runs programs of linked instructions.
///
/// One Swift function with one exhaustive switch over pre-decoded 16-byte instructions; the interpreter trusts what
/// `link` guarantees (registers, jump targets, no way past the end) and checks everything that depends on run-time
/// values: addresses, budget, call depth, handles. A violation ends the run with a trap in the context.
package enum Interpreter {
    /// Frames of bpf-to-bpf calls, the program's own included (Linux `MAX_CALL_FRAMES`).
    package static var maximumFrames: UInt64 { @_noLocks get { 8 } }
    /// Bytes of stack of one frame (Linux `MAX_BPF_STACK`).
    package static var frameSize: UInt64 { @_noLocks get { 512 } }
    /// Tail calls that one run may take (Linux `MAX_TAIL_CALL_CNT`).
    package static var maximumTailCalls: UInt32 { @_noLocks get { 33 } }
    /// Times that one frame passes `may_goto` (Linux `BPF_MAX_LOOPS`).
    package static var mayGotoLimit: UInt32 { @_noLocks get { 8 << 20 } }

    /// Runs a program from its first instruction and returns r0; after a trap the result is 0 and
    /// `context.trap.kind` is not.
    ///
    /// The instructions must come from `link`; `context` must have a stack of eight frames.
    @_noLocks
    package static func run(
        _ context: UnsafeMutablePointer<cruntime_context>,
        _ program: UnsafePointer<LinkedInstruction>,
        _ count: Int32,
        r1: UInt64,
        r2: UInt64
    ) -> UInt64 {
        unsafe context.pointee.trap.kind = 0
        unsafe context.pointee.trap.instruction = UInt32.max
        unsafe context.pointee.tail_calls = 0
        unsafe beginBudget(context)
        let activation = unsafe Activation(context: context, program: program, count: count)
        let result = execute(activation, entry: 0, frame: 0, r1, r2, 0, 0, 0)
        unsafe endRun(context)
        return result
    }
}

/// What all frames of a program have in common.
@safe
struct Activation {
    let context: UnsafeMutablePointer<cruntime_context>
    var program: UnsafePointer<LinkedInstruction>
    var count: Int32
}

/// Runs one frame until its `exit`; calls are calls of this function, which is what saves r6 to r9 and r10.
@_noLocks @inline(never)
func execute(
    _ activation: Activation,
    entry: Int32,
    frame: UInt64,
    _ r1: UInt64,
    _ r2: UInt64,
    _ r3: UInt64,
    _ r4: UInt64,
    _ r5: UInt64
) -> UInt64 {
    var registers = InlineArray<11, UInt64>(repeating: 0)
    registers[1] = r1
    registers[2] = r2
    registers[3] = r3
    registers[4] = r4
    registers[5] = r5
    registers[10] = unsafe activation.context.pointee.stack_high &- frame &* Interpreter.frameSize
    return unsafe interpret(activation, entry: entry, frame: frame, &registers)
}

@_noLocks @inline(__always)
private func interpret(
    _ caller: Activation,
    entry: Int32,
    frame: UInt64,
    _ storage: UnsafeMutablePointer<InlineArray<11, UInt64>>
) -> UInt64 {
    let context = unsafe caller.context
    var activation = caller
    var program = unsafe Code(activation.program)
    let r = unsafe Registers(UnsafeMutableRawPointer(storage).assumingMemoryBound(to: UInt64.self))
    let memory = unsafe GuestWindow(context)
    var budget = unsafe context.pointee.budget
    var pc = program[Int(entry)]
    var trap = TrapKind.none
    var value: UInt64 = 0
    var mayGotoLeft = Interpreter.mayGotoLimit

    // Again and again only for an observer, for whom the budget ends at every instruction.
    watch: while true {
        run: while true {
            let i = pc
            pc.advance()
            guard budget != 0 else { (trap, value) = (.budget, 0); break run }
            budget &-= 1
            switch i.opcode {
            // MARK: Arithmetic, 64 bits
            case .add64Imm: r[i.dst] = r[i.dst] &+ i.imm
            case .add64Reg: r[i.dst] = r[i.dst] &+ r[i.src]
            case .sub64Imm: r[i.dst] = r[i.dst] &- i.imm
            case .sub64Reg: r[i.dst] = r[i.dst] &- r[i.src]
            case .mul64Imm: r[i.dst] = r[i.dst] &* i.imm
            case .mul64Reg: r[i.dst] = r[i.dst] &* r[i.src]
            case .div64Imm: r[i.dst] = divide(r[i.dst], i.imm)
            case .div64Reg: r[i.dst] = divide(r[i.dst], r[i.src])
            case .or64Imm: r[i.dst] = r[i.dst] | i.imm
            case .or64Reg: r[i.dst] = r[i.dst] | r[i.src]
            case .and64Imm: r[i.dst] = r[i.dst] & i.imm
            case .and64Reg: r[i.dst] = r[i.dst] & r[i.src]
            case .lsh64Imm: r[i.dst] = r[i.dst] &<< i.imm
            case .lsh64Reg: r[i.dst] = r[i.dst] &<< r[i.src]
            case .rsh64Imm: r[i.dst] = r[i.dst] &>> i.imm
            case .rsh64Reg: r[i.dst] = r[i.dst] &>> r[i.src]
            case .mod64Imm: r[i.dst] = remainder(r[i.dst], i.imm)
            case .mod64Reg: r[i.dst] = remainder(r[i.dst], r[i.src])
            case .xor64Imm: r[i.dst] = r[i.dst] ^ i.imm
            case .xor64Reg: r[i.dst] = r[i.dst] ^ r[i.src]
            case .mov64Imm: r[i.dst] = i.imm
            case .mov64Reg: r[i.dst] = r[i.src]
            case .arsh64Imm: r[signed: i.dst] = r[signed: i.dst] &>> i.signedImm
            case .arsh64Reg: r[signed: i.dst] = r[signed: i.dst] &>> r[signed: i.src]
            case .sdiv64Imm: r[signed: i.dst] = divide(r[signed: i.dst], i.signedImm)
            case .sdiv64Reg: r[signed: i.dst] = divide(r[signed: i.dst], r[signed: i.src])
            case .smod64Imm: r[signed: i.dst] = remainder(r[signed: i.dst], i.signedImm)
            case .smod64Reg: r[signed: i.dst] = remainder(r[signed: i.dst], r[signed: i.src])
            case .neg64: r[i.dst] = 0 &- r[i.dst]
            case .movsx64From8: r[signed: i.dst] = Int64(Int8(truncatingIfNeeded: r[i.src]))
            case .movsx64From16: r[signed: i.dst] = Int64(Int16(truncatingIfNeeded: r[i.src]))
            case .movsx64From32: r[signed: i.dst] = Int64(Int32(truncatingIfNeeded: r[i.src]))

            // MARK: Arithmetic, 32 bits
            case .add32Imm: r[low: i.dst] = r[low: i.dst] &+ i.imm32
            case .add32Reg: r[low: i.dst] = r[low: i.dst] &+ r[low: i.src]
            case .sub32Imm: r[low: i.dst] = r[low: i.dst] &- i.imm32
            case .sub32Reg: r[low: i.dst] = r[low: i.dst] &- r[low: i.src]
            case .mul32Imm: r[low: i.dst] = r[low: i.dst] &* i.imm32
            case .mul32Reg: r[low: i.dst] = r[low: i.dst] &* r[low: i.src]
            case .div32Imm: r[low: i.dst] = divide(r[low: i.dst], i.imm32)
            case .div32Reg: r[low: i.dst] = divide(r[low: i.dst], r[low: i.src])
            case .or32Imm: r[low: i.dst] = r[low: i.dst] | i.imm32
            case .or32Reg: r[low: i.dst] = r[low: i.dst] | r[low: i.src]
            case .and32Imm: r[low: i.dst] = r[low: i.dst] & i.imm32
            case .and32Reg: r[low: i.dst] = r[low: i.dst] & r[low: i.src]
            case .lsh32Imm: r[low: i.dst] = r[low: i.dst] &<< i.imm32
            case .lsh32Reg: r[low: i.dst] = r[low: i.dst] &<< r[low: i.src]
            case .rsh32Imm: r[low: i.dst] = r[low: i.dst] &>> i.imm32
            case .rsh32Reg: r[low: i.dst] = r[low: i.dst] &>> r[low: i.src]
            case .mod32Imm: r[low: i.dst] = remainder(r[low: i.dst], i.imm32)
            case .mod32Reg: r[low: i.dst] = remainder(r[low: i.dst], r[low: i.src])
            case .xor32Imm: r[low: i.dst] = r[low: i.dst] ^ i.imm32
            case .xor32Reg: r[low: i.dst] = r[low: i.dst] ^ r[low: i.src]
            case .mov32Imm: r[low: i.dst] = i.imm32
            case .mov32Reg: r[low: i.dst] = r[low: i.src]
            case .arsh32Imm: r[signedLow: i.dst] = r[signedLow: i.dst] &>> i.signedImm32
            case .arsh32Reg: r[signedLow: i.dst] = r[signedLow: i.dst] &>> r[signedLow: i.src]
            case .sdiv32Imm: r[signedLow: i.dst] = divide(r[signedLow: i.dst], i.signedImm32)
            case .sdiv32Reg: r[signedLow: i.dst] = divide(r[signedLow: i.dst], r[signedLow: i.src])
            case .smod32Imm: r[signedLow: i.dst] = remainder(r[signedLow: i.dst], i.signedImm32)
            case .smod32Reg: r[signedLow: i.dst] = remainder(r[signedLow: i.dst], r[signedLow: i.src])
            case .neg32: r[low: i.dst] = 0 &- r[low: i.dst]
            case .movsx32From8: r[signedLow: i.dst] = Int32(Int8(truncatingIfNeeded: r[i.src]))
            case .movsx32From16: r[signedLow: i.dst] = Int32(Int16(truncatingIfNeeded: r[i.src]))

            // MARK: Byte order
            case .le16: r[i.dst] = UInt64(UInt16(truncatingIfNeeded: r[i.dst]))
            case .le32: r[low: i.dst] = r[low: i.dst]
            case .le64: break
            case .be16, .bswap16: r[i.dst] = UInt64(UInt16(truncatingIfNeeded: r[i.dst]).byteSwapped)
            case .be32, .bswap32: r[low: i.dst] = r[low: i.dst].byteSwapped
            case .be64, .bswap64: r[i.dst] = r[i.dst].byteSwapped

            // MARK: 64-bit immediates
            case .loadImm64, .loadMap, .loadFunction, .loadMapByIndex: r[i.dst] = i.imm
            case .loadMapValue, .loadMapValueByIndex:
                let base =
                    i.target == 0
                    ? unsafe UInt64(UInt(bitPattern: context.pointee.shared))
                    : unsafe UInt64(UInt(bitPattern: context.pointee.image))
                r[i.dst] = base &+ i.imm
            case .loadVariable, .loadAbs8, .loadAbs16, .loadAbs32, .loadInd8, .loadInd16, .loadInd32,
                .callKernelFunction:
                (trap, value) = (.unsupported, i.imm)
                break run

            // MARK: Loads and stores
            case .load8:
                let at = r[i.src] &+ i.displacement
                guard memory.mayRead(at, 1) else { (trap, value) = (.badRead, at); break run }
                r[i.dst] = UInt64(memory.load8(at))
            case .load16:
                let at = r[i.src] &+ i.displacement
                guard memory.mayRead(at, 2) else { (trap, value) = (.badRead, at); break run }
                r[i.dst] = UInt64(memory.load16(at))
            case .load32:
                let at = r[i.src] &+ i.displacement
                guard memory.mayRead(at, 4) else { (trap, value) = (.badRead, at); break run }
                r[i.dst] = UInt64(memory.load32(at))
            case .load64:
                let at = r[i.src] &+ i.displacement
                guard memory.mayRead(at, 8) else { (trap, value) = (.badRead, at); break run }
                r[i.dst] = memory.load64(at)
            case .loadSigned8:
                let at = r[i.src] &+ i.displacement
                guard memory.mayRead(at, 1) else { (trap, value) = (.badRead, at); break run }
                r[signed: i.dst] = Int64(Int8(bitPattern: memory.load8(at)))
            case .loadSigned16:
                let at = r[i.src] &+ i.displacement
                guard memory.mayRead(at, 2) else { (trap, value) = (.badRead, at); break run }
                r[signed: i.dst] = Int64(Int16(bitPattern: memory.load16(at)))
            case .loadSigned32:
                let at = r[i.src] &+ i.displacement
                guard memory.mayRead(at, 4) else { (trap, value) = (.badRead, at); break run }
                r[signed: i.dst] = Int64(Int32(bitPattern: memory.load32(at)))
            case .store8Imm:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 1) else { (trap, value) = (.badWrite, at); break run }
                memory.store(at, UInt8(truncatingIfNeeded: i.imm))
            case .store16Imm:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 2) else { (trap, value) = (.badWrite, at); break run }
                memory.store(at, UInt16(truncatingIfNeeded: i.imm))
            case .store32Imm:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 4) else { (trap, value) = (.badWrite, at); break run }
                memory.store(at, UInt32(truncatingIfNeeded: i.imm))
            case .store64Imm:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 8) else { (trap, value) = (.badWrite, at); break run }
                memory.store(at, i.imm)
            case .store8Reg:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 1) else { (trap, value) = (.badWrite, at); break run }
                memory.store(at, UInt8(truncatingIfNeeded: r[i.src]))
            case .store16Reg:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 2) else { (trap, value) = (.badWrite, at); break run }
                memory.store(at, UInt16(truncatingIfNeeded: r[i.src]))
            case .store32Reg:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 4) else { (trap, value) = (.badWrite, at); break run }
                memory.store(at, UInt32(truncatingIfNeeded: r[i.src]))
            case .store64Reg:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 8) else { (trap, value) = (.badWrite, at); break run }
                memory.store(at, r[i.src])

            // MARK: Atomics
            case .atomicAdd32:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 4) else { (trap, value) = (.badWrite, at); break run }
                guard at & 3 == 0 else { (trap, value) = (.misaligned, at); break run }
                memory.add32(at, r[low: i.src])
            case .atomicOr32:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 4) else { (trap, value) = (.badWrite, at); break run }
                guard at & 3 == 0 else { (trap, value) = (.misaligned, at); break run }
                memory.or32(at, r[low: i.src])
            case .atomicAnd32:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 4) else { (trap, value) = (.badWrite, at); break run }
                guard at & 3 == 0 else { (trap, value) = (.misaligned, at); break run }
                memory.and32(at, r[low: i.src])
            case .atomicXor32:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 4) else { (trap, value) = (.badWrite, at); break run }
                guard at & 3 == 0 else { (trap, value) = (.misaligned, at); break run }
                memory.xor32(at, r[low: i.src])
            case .atomicAdd64:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 8) else { (trap, value) = (.badWrite, at); break run }
                guard at & 7 == 0 else { (trap, value) = (.misaligned, at); break run }
                memory.add64(at, r[i.src])
            case .atomicOr64:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 8) else { (trap, value) = (.badWrite, at); break run }
                guard at & 7 == 0 else { (trap, value) = (.misaligned, at); break run }
                memory.or64(at, r[i.src])
            case .atomicAnd64:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 8) else { (trap, value) = (.badWrite, at); break run }
                guard at & 7 == 0 else { (trap, value) = (.misaligned, at); break run }
                memory.and64(at, r[i.src])
            case .atomicXor64:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 8) else { (trap, value) = (.badWrite, at); break run }
                guard at & 7 == 0 else { (trap, value) = (.misaligned, at); break run }
                memory.xor64(at, r[i.src])
            case .atomicFetchAdd32:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 4) else { (trap, value) = (.badWrite, at); break run }
                guard at & 3 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[low: i.src] = memory.fetchAdd32(at, r[low: i.src])
            case .atomicFetchOr32:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 4) else { (trap, value) = (.badWrite, at); break run }
                guard at & 3 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[low: i.src] = memory.fetchOr32(at, r[low: i.src])
            case .atomicFetchAnd32:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 4) else { (trap, value) = (.badWrite, at); break run }
                guard at & 3 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[low: i.src] = memory.fetchAnd32(at, r[low: i.src])
            case .atomicFetchXor32:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 4) else { (trap, value) = (.badWrite, at); break run }
                guard at & 3 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[low: i.src] = memory.fetchXor32(at, r[low: i.src])
            case .atomicFetchAdd64:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 8) else { (trap, value) = (.badWrite, at); break run }
                guard at & 7 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[i.src] = memory.fetchAdd64(at, r[i.src])
            case .atomicFetchOr64:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 8) else { (trap, value) = (.badWrite, at); break run }
                guard at & 7 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[i.src] = memory.fetchOr64(at, r[i.src])
            case .atomicFetchAnd64:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 8) else { (trap, value) = (.badWrite, at); break run }
                guard at & 7 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[i.src] = memory.fetchAnd64(at, r[i.src])
            case .atomicFetchXor64:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 8) else { (trap, value) = (.badWrite, at); break run }
                guard at & 7 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[i.src] = memory.fetchXor64(at, r[i.src])
            case .atomicExchange32:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 4) else { (trap, value) = (.badWrite, at); break run }
                guard at & 3 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[low: i.src] = memory.exchange32(at, r[low: i.src])
            case .atomicExchange64:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 8) else { (trap, value) = (.badWrite, at); break run }
                guard at & 7 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[i.src] = memory.exchange64(at, r[i.src])
            case .atomicCompareExchange32:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 4) else { (trap, value) = (.badWrite, at); break run }
                guard at & 3 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[low: 0] = memory.compareExchange32(at, r[low: 0], r[low: i.src])
            case .atomicCompareExchange64:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 8) else { (trap, value) = (.badWrite, at); break run }
                guard at & 7 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[0] = memory.compareExchange64(at, r[0], r[i.src])
            case .loadAcquire8:
                let at = r[i.src] &+ i.displacement
                guard memory.mayRead(at, 1) else { (trap, value) = (.badRead, at); break run }
                r[i.dst] = UInt64(memory.loadAcquire8(at))
            case .loadAcquire16:
                let at = r[i.src] &+ i.displacement
                guard memory.mayRead(at, 2) else { (trap, value) = (.badRead, at); break run }
                guard at & 1 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[i.dst] = UInt64(memory.loadAcquire16(at))
            case .loadAcquire32:
                let at = r[i.src] &+ i.displacement
                guard memory.mayRead(at, 4) else { (trap, value) = (.badRead, at); break run }
                guard at & 3 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[i.dst] = UInt64(memory.loadAcquire32(at))
            case .loadAcquire64:
                let at = r[i.src] &+ i.displacement
                guard memory.mayRead(at, 8) else { (trap, value) = (.badRead, at); break run }
                guard at & 7 == 0 else { (trap, value) = (.misaligned, at); break run }
                r[i.dst] = memory.loadAcquire64(at)
            case .storeRelease8:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 1) else { (trap, value) = (.badWrite, at); break run }
                memory.storeRelease8(at, UInt8(truncatingIfNeeded: r[i.src]))
            case .storeRelease16:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 2) else { (trap, value) = (.badWrite, at); break run }
                guard at & 1 == 0 else { (trap, value) = (.misaligned, at); break run }
                memory.storeRelease16(at, UInt16(truncatingIfNeeded: r[i.src]))
            case .storeRelease32:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 4) else { (trap, value) = (.badWrite, at); break run }
                guard at & 3 == 0 else { (trap, value) = (.misaligned, at); break run }
                memory.storeRelease32(at, UInt32(truncatingIfNeeded: r[i.src]))
            case .storeRelease64:
                let at = r[i.dst] &+ i.displacement
                guard memory.mayWrite(at, 8) else { (trap, value) = (.badWrite, at); break run }
                guard at & 7 == 0 else { (trap, value) = (.misaligned, at); break run }
                memory.storeRelease64(at, r[i.src])

            // MARK: Jumps
            case .jump, .jumpLong: pc = program[i.target]
            case .jumpEqual64Imm: if r[i.dst] == i.imm { pc = program[i.target] }
            case .jumpEqual64Reg: if r[i.dst] == r[i.src] { pc = program[i.target] }
            case .jumpEqual32Imm: if r[low: i.dst] == i.imm32 { pc = program[i.target] }
            case .jumpEqual32Reg: if r[low: i.dst] == r[low: i.src] { pc = program[i.target] }
            case .jumpGreater64Imm: if r[i.dst] > i.imm { pc = program[i.target] }
            case .jumpGreater64Reg: if r[i.dst] > r[i.src] { pc = program[i.target] }
            case .jumpGreater32Imm: if r[low: i.dst] > i.imm32 { pc = program[i.target] }
            case .jumpGreater32Reg: if r[low: i.dst] > r[low: i.src] { pc = program[i.target] }
            case .jumpGreaterEqual64Imm: if r[i.dst] >= i.imm { pc = program[i.target] }
            case .jumpGreaterEqual64Reg: if r[i.dst] >= r[i.src] { pc = program[i.target] }
            case .jumpGreaterEqual32Imm: if r[low: i.dst] >= i.imm32 { pc = program[i.target] }
            case .jumpGreaterEqual32Reg: if r[low: i.dst] >= r[low: i.src] { pc = program[i.target] }
            case .jumpSet64Imm: if r[i.dst] & i.imm != 0 { pc = program[i.target] }
            case .jumpSet64Reg: if r[i.dst] & r[i.src] != 0 { pc = program[i.target] }
            case .jumpSet32Imm: if r[low: i.dst] & i.imm32 != 0 { pc = program[i.target] }
            case .jumpSet32Reg: if r[low: i.dst] & r[low: i.src] != 0 { pc = program[i.target] }
            case .jumpNotEqual64Imm: if r[i.dst] != i.imm { pc = program[i.target] }
            case .jumpNotEqual64Reg: if r[i.dst] != r[i.src] { pc = program[i.target] }
            case .jumpNotEqual32Imm: if r[low: i.dst] != i.imm32 { pc = program[i.target] }
            case .jumpNotEqual32Reg: if r[low: i.dst] != r[low: i.src] { pc = program[i.target] }
            case .jumpSignedGreater64Imm: if r[signed: i.dst] > i.signedImm { pc = program[i.target] }
            case .jumpSignedGreater64Reg: if r[signed: i.dst] > r[signed: i.src] { pc = program[i.target] }
            case .jumpSignedGreater32Imm: if r[signedLow: i.dst] > i.signedImm32 { pc = program[i.target] }
            case .jumpSignedGreater32Reg: if r[signedLow: i.dst] > r[signedLow: i.src] { pc = program[i.target] }
            case .jumpSignedGreaterEqual64Imm: if r[signed: i.dst] >= i.signedImm { pc = program[i.target] }
            case .jumpSignedGreaterEqual64Reg: if r[signed: i.dst] >= r[signed: i.src] { pc = program[i.target] }
            case .jumpSignedGreaterEqual32Imm: if r[signedLow: i.dst] >= i.signedImm32 { pc = program[i.target] }
            case .jumpSignedGreaterEqual32Reg: if r[signedLow: i.dst] >= r[signedLow: i.src] { pc = program[i.target] }
            case .jumpLess64Imm: if r[i.dst] < i.imm { pc = program[i.target] }
            case .jumpLess64Reg: if r[i.dst] < r[i.src] { pc = program[i.target] }
            case .jumpLess32Imm: if r[low: i.dst] < i.imm32 { pc = program[i.target] }
            case .jumpLess32Reg: if r[low: i.dst] < r[low: i.src] { pc = program[i.target] }
            case .jumpLessEqual64Imm: if r[i.dst] <= i.imm { pc = program[i.target] }
            case .jumpLessEqual64Reg: if r[i.dst] <= r[i.src] { pc = program[i.target] }
            case .jumpLessEqual32Imm: if r[low: i.dst] <= i.imm32 { pc = program[i.target] }
            case .jumpLessEqual32Reg: if r[low: i.dst] <= r[low: i.src] { pc = program[i.target] }
            case .jumpSignedLess64Imm: if r[signed: i.dst] < i.signedImm { pc = program[i.target] }
            case .jumpSignedLess64Reg: if r[signed: i.dst] < r[signed: i.src] { pc = program[i.target] }
            case .jumpSignedLess32Imm: if r[signedLow: i.dst] < i.signedImm32 { pc = program[i.target] }
            case .jumpSignedLess32Reg: if r[signedLow: i.dst] < r[signedLow: i.src] { pc = program[i.target] }
            case .jumpSignedLessEqual64Imm: if r[signed: i.dst] <= i.signedImm { pc = program[i.target] }
            case .jumpSignedLessEqual64Reg: if r[signed: i.dst] <= r[signed: i.src] { pc = program[i.target] }
            case .jumpSignedLessEqual32Imm: if r[signedLow: i.dst] <= i.signedImm32 { pc = program[i.target] }
            case .jumpSignedLessEqual32Reg: if r[signedLow: i.dst] <= r[signedLow: i.src] { pc = program[i.target] }
            case .mayGoto:
                if mayGotoLeft == 0 {
                    pc = program[i.target]
                } else {
                    mayGotoLeft &-= 1
                }

            // MARK: Calls
            case .callLocal:
                guard frame + 1 < Interpreter.maximumFrames else { (trap, value) = (.callDepth, 8); break run }
                unsafe context.pointee.budget = budget
                r[0] = execute(activation, entry: Int32(i.target), frame: frame + 1, r[1], r[2], r[3], r[4], r[5])
                budget = unsafe context.pointee.budget
                if unsafe context.pointee.trap.kind != 0 { break run }
            case .callHelper:
                switch i.imm {
                case HelperNumber.tailCall:
                    let target = unsafe tailCallTarget(context, map: r[2], index: r[3])
                    if unsafe context.pointee.trap.kind != 0 { break run }
                    r[0] = UInt64(bitPattern: Int64(target))
                    if target >= 0 {
                        activation.enter(program: target)
                        program = unsafe Code(activation.program)
                        pc = program[0]
                        mayGotoLeft = Interpreter.mayGotoLimit
                        // All that the other program is given is its context.
                        r.enterProgram()
                    }
                case HelperNumber.loop, HelperNumber.forEachMapElem, HelperNumber.userRingDrain:
                    unsafe context.pointee.budget = budget
                    r[0] = callBack(activation, frame: frame, helper: i.imm, r)
                    budget = unsafe context.pointee.budget
                    if unsafe context.pointee.trap.kind != 0 { break run }
                default:
                    r[0] = unsafe callHelper(context, i.imm32, r[1], r[2], r[3], r[4], r[5])
                    if unsafe context.pointee.trap.kind != 0 { break run }
                }
            case .callRegister:
                unsafe context.pointee.budget = budget
                r[0] = callAddress(activation, frame: frame, address: r[i.dst], r)
                budget = unsafe context.pointee.budget
                if unsafe context.pointee.trap.kind != 0 { break run }
            case .exit:
                unsafe context.pointee.budget = budget
                return r[0]
            }
        }
        guard case .budget = trap else { break watch }
        trap = unsafe oneMoreInstruction(context, program.index(pc) - 1, r)
        guard case .none = trap else { break watch }
        pc.retreat()
        budget = 1
    }
    unsafe context.pointee.budget = budget
    unsafe raiseTrap(context, trap, value: value)
    // The innermost frame of a trapped run is left first, and is the one that names the instruction.
    if unsafe context.pointee.trap.instruction == UInt32.max {
        unsafe context.pointee.trap.instruction = UInt32(truncatingIfNeeded: program.index(pc) - 1)
    }
    return 0
}
