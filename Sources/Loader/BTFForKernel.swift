extension BTF {
    /// The same types as a kernel takes them (BPF_BTF_LOAD); ids stay what they are.
    ///
    /// Kernels refuse what only loaders need: data sections as compilers write them, extern variables and functions, and
    /// tags on those. Each becomes a pointer to nothing, which nobody refers to (libbpf `btf_sanitize`, which rewrites as
    /// much). Maps of global data are therefore made without types.
    ///
    /// The functions `statics` become static: linkers see them as global, but hidden ones are nobody else's, and the kernel
    /// verifies global ones for any arguments (libbpf `mark_btf_static`).
    package func forKernel(statics: Set<UInt32> = []) -> [UInt8] {
        var types: [UInt8] = []
        for id in 1..<UInt32(max(1, count)) {
            guard let type = self[id] else { continue }
            if isForLoaders(type) {
                types += [0, 0, 0, 0, 0, 0, 0, Kind.pointer.rawValue, 0, 0, 0, 0]
            } else {
                let start = types.count
                types += bytes[type.data - 12..<type.data + type.kind.trailingSize(type.count)]
                // The linkage is where other kinds have a count (`vlen`).
                if type.kind == .function, statics.contains(id) { (types[start + 4], types[start + 5]) = (0, 0) }
            }
        }
        guard let parts = try? BTFParts(bytes, name: "") else { return [] }
        return Self.section(types: types, strings: bytes[parts.strings])
    }

    private func isForLoaders(_ type: BTFType) -> Bool {
        switch type.kind {
        case .dataSection, .variable: true
        case .function: linkage(type) == 2
        case .declTag: self[type.target].map { isForLoaders($0) && $0.kind != .declTag } ?? true
        case .void, .integer, .pointer, .array, .structure, .union, .enumeration, .forward, .typedef, .volatile, .const,
            .restrict, .functionPrototype, .float, .typeTag, .enum64:
            false
        }
    }

    /// A `.BTF` section of these types and strings.
    static func section(types: some Collection<UInt8>, strings: some Collection<UInt8>) -> [UInt8] {
        var result: [UInt8] = [0x9f, 0xeb, 1, 0]
        for word in [24, 0, types.count, types.count, strings.count] {
            for shift in stride(from: 0, to: 32, by: 8) { result.append(UInt8(truncatingIfNeeded: word >> shift)) }
        }
        result += types
        result += strings
        return result
    }
}
