/// Runs call frame instructions (DWARF 5 section 6.4.2) for the registers that a walk needs: CFA, rbp, return address.
struct CallFrameMachine {
    private(set) var isUnderstood = true
    var rules = UnwindRules()
    private var initial = UnwindRules()
    private var saved = InlineArray<8, UnwindRules>(repeating: UnwindRules())
    private var depth = 0
    private let codeAlignment: UInt64
    private let dataAlignment: Int64
    private let pointerEncoding: UInt8

    @_noLocks init(_ cie: CommonInformation) {
        codeAlignment = cie.codeAlignment
        dataAlignment = cie.dataAlignment
        pointerEncoding = cie.pointerEncoding
    }

    /// Makes the present rules those that DW_CFA_restore goes back to.
    @_noLocks mutating func keepInitialRules() { initial = rules }

    /// Applies `instructions` up to the row that covers `pc`.
    @_noLocks mutating func run(_ instructions: DwarfReader, from start: UInt64, until pc: UInt64) {
        var reader = instructions
        var location = start
        while !reader.isAtEnd && isUnderstood {
            let byte = reader.byte()
            let low = UInt64(byte & 0x3f)
            switch byte & 0xc0 {
            case 0x40:  // advance_loc
                location &+= low &* codeAlignment
                if location > pc { return }
            case 0x80:  // offset
                let offset = Int64(bitPattern: reader.uleb()) &* dataAlignment
                unsafe set(low, RegisterRule(kind: .offset, offset: offset, expression: nil))
            case 0xc0:  // restore
                restore(low)
            default:
                if !execute(byte, &reader, &location, pc) { return }
            }
        }
    }

    /// The instructions without an operand in the opcode; false once `pc`'s row is complete.
    @_noLocks private mutating func execute(
        _ opcode: UInt8,
        _ reader: inout DwarfReader,
        _ location: inout UInt64,
        _ pc: UInt64
    ) -> Bool {
        switch opcode {
        case 0x00: break  // nop
        case 0x01: location = reader.encoded(pointerEncoding)  // set_loc
        case 0x02: location &+= reader.fixed(1) &* codeAlignment  // advance_loc1
        case 0x03: location &+= reader.fixed(2) &* codeAlignment  // advance_loc2
        case 0x04: location &+= reader.fixed(4) &* codeAlignment  // advance_loc4
        case 0x05:  // offset_extended
            let register = reader.uleb()
            let offset = Int64(bitPattern: reader.uleb()) &* dataAlignment
            unsafe set(register, RegisterRule(kind: .offset, offset: offset, expression: nil))
        case 0x06: restore(reader.uleb())  // restore_extended
        case 0x07: unsafe set(reader.uleb(), RegisterRule(kind: .undefined, offset: 0, expression: nil))  // undefined
        case 0x08: set(reader.uleb(), RegisterRule())  // same_value
        case 0x09:  // register: another register holds it; only fatal for the registers we follow
            let register = reader.uleb()
            _ = reader.uleb()
            if register == DwarfRegister.rbp || register == DwarfRegister.returnAddress { isUnderstood = false }
        case 0x0a:  // remember_state
            guard depth < 8 else {
                isUnderstood = false
                break
            }
            saved[depth] = rules
            depth += 1
        case 0x0b:  // restore_state
            guard depth > 0 else {
                isUnderstood = false
                break
            }
            depth -= 1
            rules = saved[depth]
        case 0x0c:  // def_cfa
            rules.cfaRegister = reader.uleb()
            rules.cfaOffset = Int64(bitPattern: reader.uleb())
            unsafe rules.cfaExpression = nil
        case 0x0d:  // def_cfa_register
            rules.cfaRegister = reader.uleb()
            unsafe rules.cfaExpression = nil
        case 0x0e: rules.cfaOffset = Int64(bitPattern: reader.uleb())  // def_cfa_offset
        case 0x0f:  // def_cfa_expression
            unsafe rules.cfaExpression = reader.at
            reader.skip(reader.uleb())
        case 0x10, 0x16:  // expression, val_expression
            let register = reader.uleb()
            let kind: RegisterRule.Kind = opcode == 0x10 ? .expression : .valueExpression
            unsafe set(register, RegisterRule(kind: kind, offset: 0, expression: reader.at))
            reader.skip(reader.uleb())
        case 0x11:  // offset_extended_sf
            let register = reader.uleb()
            let offset = reader.sleb() &* dataAlignment
            unsafe set(register, RegisterRule(kind: .offset, offset: offset, expression: nil))
        case 0x12:  // def_cfa_sf
            rules.cfaRegister = reader.uleb()
            rules.cfaOffset = reader.sleb() &* dataAlignment
            unsafe rules.cfaExpression = nil
        case 0x13: rules.cfaOffset = reader.sleb() &* dataAlignment  // def_cfa_offset_sf
        case 0x14, 0x15:  // val_offset, val_offset_sf
            let register = reader.uleb()
            let factor = opcode == 0x14 ? Int64(bitPattern: reader.uleb()) : reader.sleb()
            unsafe set(register, RegisterRule(kind: .valueOffset, offset: factor &* dataAlignment, expression: nil))
        case 0x2e: _ = reader.uleb()  // GNU_args_size
        default: isUnderstood = false
        }
        return location <= pc
    }

    @_noLocks private mutating func set(_ register: UInt64, _ rule: RegisterRule) {
        if register == DwarfRegister.rbp {
            rules.rbp = rule
        } else if register == DwarfRegister.returnAddress {
            rules.returnAddress = rule
        }
    }

    @_noLocks private mutating func restore(_ register: UInt64) {
        if register == DwarfRegister.rbp {
            rules.rbp = initial.rbp
        } else if register == DwarfRegister.returnAddress {
            rules.returnAddress = initial.returnAddress
        }
    }
}
