internal import CCapstone

/// What an instruction does to control flow, as far as moving it is concerned.
enum InstructionKind: Equatable {
    /// Goes on with the next instruction and does nothing special.
    case plain
    case nop
    case jump(target: UInt64)
    case branch(condition: UInt8, target: UInt64)
    /// `loop`, `loope`, `loopne`, `jrcxz`: only an 8-bit displacement exists.
    case countBranch(opcode: UInt8, target: UInt64)
    case call(target: UInt64)
    case indirectJump
    case indirectCall
    case ret
    /// `int3`, `ud2`, `hlt` …: ends in a signal that names the address.
    case trap
    case systemCall
    case privileged
    case transaction
    /// Far transfers, interrupt returns.
    case unsupported

    /// Nothing that follows is reached by falling through.
    var endsFlow: Bool {
        switch self {
        case .jump, .indirectJump, .ret, .trap: return true
        case .plain, .nop, .branch, .countBranch, .call, .indirectCall, .systemCall, .privileged, .transaction,
            .unsupported:
            return false
        }
    }

    /// The target of a direct jump, branch or call.
    var target: UInt64? {
        switch self {
        case .jump(let target), .branch(_, let target), .countBranch(_, let target), .call(let target): return target
        case .plain, .nop, .indirectJump, .indirectCall, .ret, .trap, .systemCall, .privileged, .transaction,
            .unsupported:
            return nil
        }
    }
}

/// One decoded instruction, without its bytes.
struct DecodedInstruction: Equatable {
    var address: UInt64
    var size: Int
    var kind: InstructionKind
    /// Offset of the opcode behind legacy prefixes and REX.
    var opcodeOffset: Int
    /// A rip-relative operand: offset of its 4-byte displacement, and the address it names.
    var relative: (field: Int, target: UInt64)?
    /// Uses rsp to find the target of an indirect call, or a 32-bit instruction pointer: cannot be moved.
    var isPinned: Bool
    var isLEA: Bool
    /// A jump or call through a register or a computed address; a rip-relative one goes through the GOT.
    var isComputedJump: Bool { kind == .indirectJump && relative == nil }

    var end: UInt64 { address &+ UInt64(size) }

    static func == (left: Self, right: Self) -> Bool {
        left.address == right.address && left.size == right.size && left.kind == right.kind
            && left.relative?.target == right.relative?.target
    }
}

/// Capstone was built without x86, or memory is exhausted.
package struct DecoderUnavailable: Error, Sendable, CustomStringConvertible {
    package var description: String { "libcapstone cannot decode x86-64 instructions" }
}

/// A capstone handle in detail mode and one reusable instruction.
@safe
struct Disassembler: ~Copyable {
    private var handle: csh
    private let instruction: UnsafeMutablePointer<cs_insn>

    init() throws(DecoderUnavailable) {
        var opened: csh = 0
        guard unsafe cs_open(CS_ARCH_X86, CS_MODE_64, &opened) == CS_ERR_OK else { throw DecoderUnavailable() }
        cs_option(opened, CS_OPT_DETAIL, Int(CS_OPT_ON.rawValue))
        guard let one = unsafe cs_malloc(opened) else {
            unsafe cs_close(&opened)
            throw DecoderUnavailable()
        }
        handle = opened
        unsafe instruction = one
    }

    deinit {
        unsafe cs_free(instruction, 1)
        var closing = handle
        unsafe cs_close(&closing)
    }

    /// Decodes until the end of `bytes`, until `limit` instructions, or up to the first byte that is no instruction.
    func decode(_ bytes: some Collection<UInt8>, at address: UInt64, limit: Int = .max) -> [DecodedInstruction] {
        var found: [DecodedInstruction] = []
        // An instruction cut off by the end must not be completed by what lies behind.
        let copy = Array(bytes)
        unsafe copy.withUnsafeBufferPointer { buffer in
            var code = buffer.baseAddress
            var left = buffer.count
            var place = address
            while found.count < limit, left > 0, unsafe cs_disasm_iter(handle, &code, &left, &place, instruction) {
                found.append(convert())
            }
        }
        return found
    }

    /// Mnemonic and operands of the first instruction, for messages and tests.
    func text(_ bytes: some Collection<UInt8>, at address: UInt64) -> String? {
        let copy = Array(bytes)
        return unsafe copy.withUnsafeBufferPointer { buffer in
            var code = buffer.baseAddress
            var left = buffer.count
            var place = address
            guard left > 0, unsafe cs_disasm_iter(handle, &code, &left, &place, instruction) else { return nil }
            let mnemonic = unsafe Self.string(
                UnsafeRawPointer(instruction),
                MemoryLayout<cs_insn>.offset(of: \.mnemonic),
                32
            )
            let operands = unsafe Self.string(
                UnsafeRawPointer(instruction),
                MemoryLayout<cs_insn>.offset(of: \.op_str),
                160
            )
            return operands.isEmpty ? mnemonic : "\(mnemonic) \(operands)"
        }
    }

    private static func string(_ base: UnsafeRawPointer, _ offset: Int?, _ size: Int) -> String {
        guard let offset else { return "" }
        let bytes = unsafe UnsafeRawBufferPointer(start: base + offset, count: size)
        return unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }

    private func convert() -> DecodedInstruction {
        let size = unsafe Int(instruction.pointee.size)
        let address = unsafe instruction.pointee.address
        let bytes = unsafe withUnsafeBytes(of: instruction.pointee.bytes) { unsafe [UInt8]($0.prefix(size)) }
        var decoded = DecodedInstruction(
            address: address,
            size: size,
            kind: .plain,
            opcodeOffset: Self.opcodeOffset(bytes),
            relative: nil,
            isPinned: false,
            isLEA: unsafe instruction.pointee.id == X86_INS_LEA.rawValue
        )
        guard let detail = unsafe instruction.pointee.detail else { return decoded }
        let x86 = unsafe detail.pointee.x86
        let count = Int(x86.op_count)
        var immediate: UInt64?
        var usesStackPointer = false
        unsafe withUnsafeBytes(of: x86.operands) { raw in
            let operands = unsafe raw.assumingMemoryBound(to: cs_x86_op.self)
            for index in 0..<min(count, operands.count) {
                let operand = unsafe operands[index]
                switch operand.type {
                case X86_OP_IMM: immediate = UInt64(bitPattern: operand.imm)
                case X86_OP_REG: if operand.reg == X86_REG_RSP { usesStackPointer = true }
                case X86_OP_MEM:
                    if operand.mem.base == X86_REG_RIP {
                        let target = address &+ UInt64(size) &+ UInt64(bitPattern: operand.mem.disp)
                        decoded.relative = (Int(x86.encoding.disp_offset), target)
                    }
                    if operand.mem.base == X86_REG_EIP { decoded.isPinned = true }
                    if operand.mem.base == X86_REG_RSP { usesStackPointer = true }
                default: break
                }
            }
        }
        decoded.kind = unsafe kind(
            id: instruction.pointee.id,
            detail: detail,
            bytes: bytes,
            immediate: immediate,
            decoded.opcodeOffset
        )
        if decoded.kind == .indirectCall, usesStackPointer { decoded.isPinned = true }
        // AMD cuts the target of an operand-size-prefixed near branch to 16 bits unless REX.W is there, too.
        if decoded.kind.target != nil, bytes[..<decoded.opcodeOffset].contains(0x66),
            !bytes[..<decoded.opcodeOffset].contains(where: { $0 & 0xF8 == 0x48 })
        {
            decoded.isPinned = true
        }
        return decoded
    }

    private func kind(
        id: UInt32,
        detail: UnsafeMutablePointer<cs_detail>,
        bytes: [UInt8],
        immediate: UInt64?,
        _ opcode: Int
    ) -> InstructionKind {
        let first = opcode < bytes.count ? bytes[opcode] : 0
        switch x86_insn(rawValue: id) {
        case X86_INS_NOP: return .nop
        case X86_INS_XBEGIN, X86_INS_XABORT, X86_INS_XEND: return .transaction
        case X86_INS_SYSCALL, X86_INS_SYSENTER, X86_INS_INT, X86_INS_SYSRET, X86_INS_SYSEXIT: return .systemCall
        case X86_INS_INT3, X86_INS_INT1, X86_INS_UD0, X86_INS_UD2, X86_INS_UD2B, X86_INS_HLT: return .trap
        case X86_INS_LJMP, X86_INS_LCALL, X86_INS_RETF, X86_INS_RETFQ: return .unsupported
        case X86_INS_JMP: return immediate.map { .jump(target: $0) } ?? .indirectJump
        case X86_INS_CALL: return immediate.map { .call(target: $0) } ?? .indirectCall
        case X86_INS_JCXZ, X86_INS_JECXZ, X86_INS_JRCXZ, X86_INS_LOOP, X86_INS_LOOPE, X86_INS_LOOPNE:
            return immediate.map { .countBranch(opcode: first, target: $0) } ?? .unsupported
        default: break
        }
        if unsafe Self.has(detail, UInt8(CS_GRP_RET.rawValue)) { return .ret }
        if unsafe Self.has(detail, UInt8(CS_GRP_IRET.rawValue)) { return .unsupported }
        if unsafe Self.has(detail, UInt8(CS_GRP_JUMP.rawValue)) {
            guard let immediate else { return .unsupported }
            let condition = first == 0x0F && opcode + 1 < bytes.count ? bytes[opcode + 1] : first
            return .branch(condition: condition & 0xF, target: immediate)
        }
        if unsafe Self.has(detail, UInt8(CS_GRP_INT.rawValue)) { return .systemCall }
        if unsafe Self.has(detail, UInt8(CS_GRP_PRIVILEGE.rawValue)) { return .privileged }
        return .plain
    }

    private static func has(_ detail: UnsafeMutablePointer<cs_detail>, _ group: UInt8) -> Bool {
        let count = unsafe Int(detail.pointee.groups_count)
        return unsafe withUnsafeBytes(of: detail.pointee.groups) { unsafe $0.prefix(count).contains(group) }
    }

    private static func opcodeOffset(_ bytes: [UInt8]) -> Int {
        var offset = 0
        while offset < bytes.count {
            switch bytes[offset] {
            case 0x66, 0x67, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65, 0xF0: offset += 1
            case 0x40...0x4F: return offset + 1
            default: return offset
            }
        }
        return offset
    }
}
