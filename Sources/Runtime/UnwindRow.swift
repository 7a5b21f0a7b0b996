/// How to find the caller's frame from one program counter: the part of a row of DWARF's call frame table (DWARF 5
/// section 6.4.1) that a walk needs, in 16 bytes.
struct UnwindRow {
    /// The program counter that the row was computed for; 0 in an empty cache entry.
    var pc: UInt64
    /// CFA = base register + `cfaOffset`.
    var cfaOffset: Int32
    /// The caller's rbp lies at CFA + `rbpOffset`; 0 where rbp is unchanged.
    var rbpOffset: Int16
    var kind: Kind
    var isSignalFrame: Bool

    @_noLocks init(pc: UInt64) {
        self.pc = pc
        cfaOffset = 0
        rbpOffset = 0
        kind = .none
        isSignalFrame = false
    }

    enum Kind {
        /// No unwind table covers the address.
        case none
        /// The return address is undefined: the outermost frame.
        case outermost
        /// CFA from rsp, return address at CFA - 8.
        case fromStackPointer
        /// CFA from rbp, return address at CFA - 8.
        case fromFramePointer
        /// Anything else (expressions, signal frames); evaluated anew each time.
        case complex
    }

    /// Entries of the cache that a thread keeps at `cruntime_context.rows`; 16 bytes each.
    static var cacheCapacity: Int { @_noLocks get { 4096 } }
}

/// The rules in force at one program counter, before they are folded into a row.
@safe struct UnwindRules {
    var cfaRegister: UInt64 = DwarfRegister.rsp
    var cfaOffset: Int64 = 8
    /// Start of a DW_CFA_def_cfa_expression block, length included; nil where the CFA is register + offset.
    var cfaExpression: UnsafePointer<UInt8>?
    var rbp = RegisterRule()
    var returnAddress = unsafe RegisterRule(kind: .offset, offset: -8, expression: nil)
    var isSignalFrame = false

    @_noLocks init() {}
}

/// Where the caller's value of one register is.
@safe struct RegisterRule {
    var kind: Kind
    /// For `.offset` and `.valueOffset`, relative to the CFA.
    var offset: Int64
    var expression: UnsafePointer<UInt8>?

    enum Kind { case same, undefined, offset, valueOffset, expression, valueExpression }

    @_noLocks init() {
        kind = .same
        offset = 0
        unsafe expression = nil
    }

    @_noLocks init(kind: Kind, offset: Int64, expression: UnsafePointer<UInt8>?) {
        self.kind = kind
        self.offset = offset
        unsafe self.expression = expression
    }
}

/// DWARF register numbers of x86-64 (psABI figure 3.36).
enum DwarfRegister {
    static var rbp: UInt64 { @_noLocks get { 6 } }
    static var rsp: UInt64 { @_noLocks get { 7 } }
    static var returnAddress: UInt64 { @_noLocks get { 16 } }
}
