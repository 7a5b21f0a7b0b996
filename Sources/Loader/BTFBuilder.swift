/// Writes type information; for types that are built in and for tests.
struct BTFBuilder {
    private var types: [UInt8] = []
    private var strings: [UInt8] = [0]
    private var count: UInt32 = 0
    /// Bytes of strings before these, where the types go on behind others.
    private var stringsBefore: UInt32 = 0

    init() {}

    /// Types that go on behind others, as a module's behind those of its kernel.
    init(behind types: BTF) throws(LoaderError) {
        count = UInt32(types.count - 1)
        stringsBefore = UInt32(try BTFParts(types.bytes, name: "types").strings.count)
    }

    /// The id of the next type.
    var next: UInt32 { count + 1 }

    mutating func string(_ text: String) -> UInt32 {
        if text.isEmpty { return 0 }
        let offset = stringsBefore + UInt32(strings.count)
        strings += Array(text.utf8) + [0]
        return offset
    }

    /// Appends a type record and the words behind it; returns its id.
    @discardableResult
    mutating func add(
        _ kind: BTF.Kind,
        _ name: String = "",
        count vlen: Int = 0,
        flag: Bool = false,
        sizeOrType: UInt32 = 0,
        _ words: [UInt32] = []
    ) -> UInt32 {
        count += 1
        let info = UInt32(kind.rawValue) << 24 | UInt32(vlen) | (flag ? 1 << 31 : 0)
        for word in [string(name), info, sizeOrType] + words { append(word, to: &types) }
        return count
    }

    @discardableResult
    mutating func integer(_ name: String, bytes: UInt32, signed: Bool = false) -> UInt32 {
        add(.integer, name, sizeOrType: bytes, [(signed ? 1 << 24 : 0) | bytes * 8])
    }

    /// A struct; offsets are in bytes.
    @discardableResult
    mutating func structure(_ name: String, size: UInt32, _ fields: [(String, type: UInt32, offset: UInt32)]) -> UInt32
    {
        let words = fields.flatMap { [string($0.0), $0.type, $0.offset * 8] }
        return add(.structure, name, count: fields.count, sizeOrType: size, words)
    }

    /// The bytes of a `.BTF` section.
    func bytes() -> [UInt8] {
        var result: [UInt8] = [0x9f, 0xeb, 1, 0]
        let (typeSize, stringSize) = (UInt32(types.count), UInt32(strings.count))
        for word in [24, 0, typeSize, typeSize, stringSize] { append(word, to: &result) }
        return result + types + strings
    }

    private func append(_ word: UInt32, to bytes: inout [UInt8]) {
        for shift in stride(from: 0, to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: word >> UInt32(shift))) }
    }
}

extension BTF {
    /// What every x86-64 Linux has: `struct pt_regs` and its alias, for machines without `/sys/kernel/btf/vmlinux`.
    ///
    /// Source: Linux `arch/x86/include/asm/ptrace.h`; the layout is part of the ABI between kernel and tracers.
    package static let builtin: BTF = {
        var builder = BTFBuilder()
        let long = builder.integer("long unsigned int", bytes: 8)
        for name in ["pt_regs", "user_pt_regs"] {
            let fields = registers.enumerated().map { ($1, type: long, offset: UInt32($0) * 8) }
            builder.structure(name, size: UInt32(registers.count) * 8, fields)
        }
        do {
            return try BTF(builder.bytes(), name: "built-in types")
        } catch {
            preconditionFailure("the built-in types are malformed: \(error)")
        }
    }()

    private static let registers = [
        "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di", "orig_ax", "ip",
        "cs", "flags", "sp", "ss",
    ]
}
