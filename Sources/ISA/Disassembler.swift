/// Instructions as text in the style of the kernel's verifier log and bpftool (kernel/bpf/disasm.c).
package struct Disassembler {
    /// The name of the map that an instruction's low half names; nil prints the number.
    package var mapName: (Int32) -> String?

    package init(mapName: @escaping (Int32) -> String? = { _ in nil }) {
        self.mapName = mapName
    }

    /// One instruction, for instance `r1 = *(u64 *)(r10 -8)`.
    package func text(_ instruction: Instruction) -> String {
        let dst = instruction.dst.rawValue
        let src = instruction.src.rawValue
        switch instruction.opcode.shape {
        case .arithmetic(let op, let width, let operand):
            let letter = width.letter
            return switch operand {
            case .imm: "\(letter)\(dst) \(op.symbol) \(instruction.imm)"
            case .reg: "\(letter)\(dst) \(op.symbol) \(letter)\(src)"
            }
        case .negate(let width): return "\(width.letter)\(dst) = -\(width.letter)\(dst)"
        case .signExtend(let width, let size):
            return "\(width.letter)\(dst) = (s\(size.bits))\(width.letter)\(src)"
        case .byteOrder(let order, let size): return "r\(dst) = \(order.name)\(size.bits) r\(dst)"
        case .wide(let kind): return "r\(dst) = \(wide(kind, instruction.imm))"
        case .packet(let size, let indirect):
            return indirect
                ? "r0 = *(u\(size.bits) *)skb[r\(src) + \(instruction.imm)]"
                : "r0 = *(u\(size.bits) *)skb[\(instruction.imm)]"
        case .load(let size, let signed):
            return "r\(dst) = \(memory(size, instruction.src, instruction.offset, signed: signed))"
        case .store(let size, let operand):
            let place = memory(size, instruction.dst, instruction.offset)
            return switch operand {
            case .imm: "\(place) = \(instruction.imm)"
            case .reg: "\(place) = r\(src)"
            }
        case .atomic(let op, let size): return atomic(op, size, instruction)
        case .jump(let long): return "\(long ? "gotol" : "goto") pc\(signed(Int64(instruction.offset)))"
        case .conditionalJump(let comparison, let width, let operand):
            let letter = width.letter
            let right =
                switch operand {
                case .imm: hex(UInt64(UInt32(truncatingIfNeeded: instruction.imm)))
                case .reg: "\(letter)\(src)"
                }
            let target = signed(Int64(instruction.offset))
            return "if \(letter)\(dst) \(comparison.symbol) \(right) goto pc\(target)"
        case .mayGoto: return "may_goto pc\(signed(Int64(instruction.offset)))"
        case .call(let kind): return call(kind, instruction)
        case .exit: return "exit"
        }
    }

    /// The whole program, one line per instruction: slot, opcode byte, text.
    package func listing(_ instructions: [Instruction]) -> [String] {
        var result: [String] = []
        var slot = 0
        for instruction in instructions {
            let code = instruction.opcode.encoding.code
            let digits = hex(UInt64(code)).dropFirst(2)
            result.append("\(padded(slot)): (\(code < 16 ? "0" : "")\(digits)) \(text(instruction))")
            slot += instruction.slots
        }
        return result
    }

    private func wide(_ kind: WideKind, _ imm: Int64) -> String {
        let low = Int32(truncatingIfNeeded: imm)
        let high = UInt32(truncatingIfNeeded: imm >> 32)
        let map = mapName(low) ?? "id:\(low)"
        return switch kind {
        case .value: hex(UInt64(bitPattern: imm))
        case .map: "map[\(map)]"
        case .mapValue: "map[\(map)][0]+\(high)"
        case .variable: "var[btf:\(low)]"
        case .function: "subprog[\(signed(imm))]"
        case .mapByIndex: "map[idx:\(low)]"
        case .mapValueByIndex: "map[idx:\(low)]+\(high)"
        }
    }

    private func atomic(_ op: AtomicOperator, _ size: Size, _ instruction: Instruction) -> String {
        let src = instruction.src.rawValue
        let suffix = size == .b64 ? "64" : ""
        let place = address(size, instruction.dst, instruction.offset)
        return switch op {
        case .add, .or, .and, .xor: "lock *\(place) \(op.symbol) r\(src)"
        case .fetchAdd, .fetchOr, .fetchAnd, .fetchXor:
            "r\(src) = atomic\(suffix)_fetch_\(op.symbol)(\(place), r\(src))"
        case .exchange: "r\(src) = atomic\(suffix)_xchg(\(place), r\(src))"
        case .compareExchange: "r0 = atomic\(suffix)_cmpxchg(\(place), r0, r\(src))"
        case .loadAcquire:
            "r\(instruction.dst.rawValue) = load_acquire(\(address(size, instruction.src, instruction.offset)))"
        case .storeRelease: "store_release(\(place), r\(src))"
        }
    }

    private func call(_ kind: CallKind, _ instruction: Instruction) -> String {
        switch kind {
        case .helper:
            return "call \(Helper(calledBy: instruction)?.name ?? "unknown")#\(instruction.imm)"
        case .local: return "call pc\(signed(instruction.imm))"
        case .kernelFunction:
            return "call \(Helper(calledBy: instruction)?.name ?? "kernel-function")#\(instruction.imm)"
        // The kernel has no such instruction; this is LLVM's text.
        case .register: return "callx r\(instruction.dst.rawValue)"
        }
    }

    private func memory(_ size: Size, _ base: Register, _ offset: Int32, signed: Bool = false) -> String {
        "*" + address(size, base, offset, signed: signed)
    }

    private func address(_ size: Size, _ base: Register, _ offset: Int32, signed isSigned: Bool = false) -> String {
        "(\(isSigned ? "s" : "u")\(size.bits) *)(r\(base.rawValue) \(signed(Int64(offset))))"
    }

    /// `%+d`.
    private func signed(_ value: Int64) -> String { value < 0 ? "\(value)" : "+\(value)" }

    /// `%4d`.
    private func padded(_ value: Int) -> String {
        var text = "\(value)"
        while text.utf8.count < 4 { text = " " + text }
        return text
    }
}

extension Width {
    /// How registers of this width are named.
    fileprivate var letter: String {
        switch self {
        case .w32: "w"
        case .w64: "r"
        }
    }
}

extension Operator {
    fileprivate var symbol: String {
        switch self {
        case .add: "+="
        case .sub: "-="
        case .mul: "*="
        case .div: "/="
        case .sdiv: "s/="
        case .or: "|="
        case .and: "&="
        case .lsh: "<<="
        case .rsh: ">>="
        case .mod: "%="
        case .smod: "s%="
        case .xor: "^="
        case .mov: "="
        case .arsh: "s>>="
        }
    }
}

extension ByteOrder {
    fileprivate var name: String {
        switch self {
        case .little: "le"
        case .big: "be"
        case .swap: "bswap"
        }
    }
}

extension AtomicOperator {
    /// The compound assignment of plain operations, the name of fetching ones.
    fileprivate var symbol: String {
        switch self {
        case .add: "+="
        case .or: "|="
        case .and: "&="
        case .xor: "^="
        case .fetchAdd: "add"
        case .fetchOr: "or"
        case .fetchAnd: "and"
        case .fetchXor: "xor"
        case .exchange: "xchg"
        case .compareExchange: "cmpxchg"
        case .loadAcquire: "load_acquire"
        case .storeRelease: "store_release"
        }
    }
}

extension Comparison {
    fileprivate var symbol: String {
        switch self {
        case .equal: "=="
        case .greater: ">"
        case .greaterEqual: ">="
        case .set: "&"
        case .notEqual: "!="
        case .signedGreater: "s>"
        case .signedGreaterEqual: "s>="
        case .less: "<"
        case .lessEqual: "<="
        case .signedLess: "s<"
        case .signedLessEqual: "s<="
        }
    }
}
