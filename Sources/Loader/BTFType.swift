/// One type of a `BTF`, its record decoded but not what follows it.
package struct BTFType: Sendable {
    package var id: UInt32
    package var kind: BTF.Kind
    var nameOffset: UInt32
    /// Members, values, parameters or variables (`vlen`).
    package var count: Int
    /// `kind_flag`: signed for enums, union for forward declarations, bitfields for structs.
    package var flag: Bool
    var sizeOrType: UInt32
    var data: Int

    /// Bytes, for kinds that have a size.
    package var size: Int { Int(sizeOrType) }
    /// The type that this one refers to, for kinds that do.
    package var target: UInt32 { sizeOrType }

    var isComposite: Bool { kind == .structure || kind == .union }
    var isEnumeration: Bool { kind == .enumeration || kind == .enum64 }
}

extension BTF {
    /// Kinds of types, with the numbers of `BTF_KIND_*`.
    package enum Kind: UInt8, CaseIterable, Sendable {
        case void, integer, pointer, array, structure, union, enumeration, forward, typedef, volatile, const, restrict
        case function, functionPrototype, variable, dataSection, float, declTag, typeTag, enum64

        /// Bytes behind the 12 of the record.
        func trailingSize(_ count: Int) -> Int {
            switch self {
            case .integer, .variable, .declTag: 4
            case .array: 12
            case .structure, .union, .dataSection, .enum64: 12 * count
            case .enumeration, .functionPrototype: 8 * count
            case .void, .pointer, .forward, .typedef, .volatile, .const, .restrict, .function, .float, .typeTag: 0
            }
        }
    }

    /// A field of a struct or union.
    package struct Member: Sendable {
        var nameOffset: UInt32
        package var type: UInt32
        package var bitOffset: Int
        /// 0 for fields that are no bitfields.
        package var bitfieldSize: Int
    }

    package struct ArrayInfo: Sendable {
        package var element: UInt32
        package var count: Int
    }

    /// A variable in a data section; clang leaves the offset 0.
    struct SectionVariable {
        var type: UInt32
        var offset: UInt32
        var size: UInt32
    }

    package func member(_ type: BTFType, _ index: Int) -> Member {
        let offset = word(type, 3 * index + 2)
        return Member(
            nameOffset: word(type, 3 * index),
            type: word(type, 3 * index + 1),
            bitOffset: Int(type.flag ? offset & 0xff_ffff : offset),
            bitfieldSize: type.flag ? Int(offset >> 24) : 0
        )
    }

    package func name(_ member: Member) -> String { string(member.nameOffset) }

    package func array(_ type: BTFType) -> ArrayInfo {
        ArrayInfo(element: word(type, 0), count: Int(word(type, 2)))
    }

    /// Name and value of an enumerator, the value extended to 64 bits.
    package func enumerator(_ type: BTFType, _ index: Int) -> (name: UInt32, value: UInt64) {
        if type.kind == .enum64 {
            let low = UInt64(word(type, 3 * index + 1))
            return (word(type, 3 * index), low | UInt64(word(type, 3 * index + 2)) << 32)
        }
        let value = word(type, 2 * index + 1)
        return (
            word(type, 2 * index),
            type.flag ? UInt64(bitPattern: Int64(Int32(bitPattern: value))) : UInt64(value)
        )
    }

    /// Type of a function's parameter.
    package func parameter(_ type: BTFType, _ index: Int) -> UInt32 { word(type, 2 * index + 1) }

    func sectionVariable(_ type: BTFType, _ index: Int) -> SectionVariable {
        SectionVariable(type: word(type, 3 * index), offset: word(type, 3 * index + 1), size: word(type, 3 * index + 2))
    }

    /// What a tag is put on: a parameter, or a member; nil for the whole type.
    package func component(ofTag type: BTFType) -> Int? {
        let index = Int32(bitPattern: word(type, 0))
        return index < 0 ? nil : Int(index)
    }

    /// Whether a type is an integer or an enumeration.
    package func isScalar(_ type: BTFType) -> Bool { type.kind == .integer || type.isEnumeration }

    /// The type of a variable in a data section, and where it lies there.
    package func sectionEntry(_ type: BTFType, _ index: Int) -> (type: UInt32, offset: Int) {
        let entry = sectionVariable(type, index)
        return (entry.type, Int(entry.offset))
    }

    /// Whether an integer is signed.
    package func isSigned(_ type: BTFType) -> Bool { encoding(type) & 1 != 0 }

    /// `BTF_INT_*` bits of an integer: 1 signed, 2 char, 4 bool.
    func encoding(_ type: BTFType) -> UInt32 { word(type, 0) >> 24 & 15 }

    package func isBoolean(_ type: BTFType) -> Bool { encoding(type) & 4 != 0 }

    /// Offset in bits of an integer, which only old compilers use.
    func integerOffset(_ type: BTFType) -> UInt32 { word(type, 0) >> 16 & 0xff }

    /// Linkage of a variable or function: 0 static, 1 global, 2 extern.
    package func linkage(_ type: BTFType) -> UInt32 {
        type.kind == .variable ? word(type, 0) : UInt32(type.count)
    }
}

extension BTF {
    /// Chains longer than this are malformed; libbpf allows 32 (`MAX_RESOLVE_DEPTH`).
    static let depthLimit = 64

    /// What a type is below typedefs, qualifiers and tags; nil if it does not exist or goes round in circles.
    package func underlying(_ id: UInt32) -> BTFType? {
        var id = id
        for _ in 0..<Self.depthLimit {
            guard let type = self[id] else { return nil }
            switch type.kind {
            case .typedef, .volatile, .const, .restrict, .typeTag: id = type.target
            case .void, .integer, .pointer, .array, .structure, .union, .enumeration, .forward, .function,
                .functionPrototype, .variable, .dataSection, .float, .declTag, .enum64:
                return type
            }
        }
        return nil
    }

    /// Size of a type in bytes; nil if it has none.
    package func size(of id: UInt32) -> Int? {
        var elements = 1
        var id = id
        for _ in 0..<Self.depthLimit {
            guard let type = underlying(id) else { return nil }
            let size: Int
            switch type.kind {
            case .integer, .structure, .union, .enumeration, .enum64, .float, .dataSection: size = type.size
            case .pointer: size = 8
            case .variable:
                id = type.target
                continue
            case .array:
                let info = array(type)
                let (product, overflow) = elements.multipliedReportingOverflow(by: info.count)
                guard !overflow else { return nil }
                elements = product
                id = info.element
                continue
            case .void, .forward, .typedef, .volatile, .const, .restrict, .function, .functionPrototype, .declTag,
                .typeTag:
                return nil
            }
            let (product, overflow) = elements.multipliedReportingOverflow(by: size)
            return overflow || product > 1 << 40 ? nil : product
        }
        return nil
    }
}
