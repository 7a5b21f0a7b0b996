extension BTF {
    /// A kernel's types from a file: as `/sys/kernel/btf/vmlinux` is, or a `vmlinux` that has them.
    package static func load(path: String) throws(LoaderError) -> BTF {
        let bytes = try readFile(path)
        guard bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46]) else { return try BTF(bytes, name: path) }
        guard let section = ELFFile.bytes(ofSection: ".BTF", in: bytes) else { throw .noKernelBTF(path) }
        return try BTF(section, name: "\(path): section '.BTF'")
    }

    /// Whether a module has a type of its own with this name; without joining, which copies all of the kernel's types.
    package func isNamed(_ name: String, inModule bytes: [UInt8]) -> Bool {
        guard let kernel = try? BTFParts(self.bytes, name: ""), let module = try? BTFParts(bytes, name: "") else {
            return false
        }
        let wanted = Array(name.utf8)
        var at = module.types.lowerBound
        while at + 12 <= module.types.upperBound {
            guard let offset = bytes.u32(at: at).map(Int.init), let info = bytes.u32(at: at + 4),
                let kind = Kind(rawValue: UInt8(info >> 24 & 0x1f))
            else { return false }
            // Names are the kernel's strings, or the module's own behind them.
            let isOwn = offset >= kernel.strings.count
            let strings = isOwn ? module.strings : kernel.strings
            let start = strings.lowerBound + offset - (isOwn ? kernel.strings.count : 0)
            let source = isOwn ? bytes : self.bytes
            if offset != 0, start + wanted.count < strings.upperBound, source[start + wanted.count] == 0,
                source[start..<start + wanted.count].elementsEqual(wanted)
            {
                return true
            }
            at += 12 + kind.trailingSize(Int(info & 0xffff))
        }
        return false
    }

    /// The types of a kernel with those of one of its modules behind them, as one: a module's ids and strings go on where
    /// the kernel's end ("split BTF", Linux `Documentation/bpf/btf.rst`; Linux 5.11).
    package func joined(withModule bytes: [UInt8], name: String) throws(LoaderError) -> BTF {
        let kernel = try BTFParts(self.bytes, name: "the kernel's BTF")
        let module = try BTFParts(bytes, name: name)
        let types = self.bytes[kernel.types] + bytes[module.types]
        let strings = self.bytes[kernel.strings] + bytes[module.strings]
        return try BTF(Self.section(types: types, strings: strings), name: name)
    }
}

/// Where types and strings of a `.BTF` section lie (`struct btf_header`).
struct BTFParts {
    let types: Range<Int>
    let strings: Range<Int>

    init(_ bytes: [UInt8], name: String) throws(LoaderError) {
        guard let magic = bytes.u16(at: 0), let version = bytes.u8(at: 2), let header = bytes.u32(at: 4),
            let typeOffset = bytes.u32(at: 8), let typeSize = bytes.u32(at: 12),
            let stringOffset = bytes.u32(at: 16), let stringSize = bytes.u32(at: 20)
        else { throw .badBTF(name, "the header is truncated") }
        guard magic == 0xeb9f else { throw .badBTF(name, "the magic number is wrong") }
        guard version == 1 else { throw .badBTF(name, "version \(version) is not known") }
        guard header >= 24 else { throw .badBTF(name, "the header is too small") }
        // 32-bit numbers, so that no sum overflows.
        let typeStart = Int(header) + Int(typeOffset)
        let stringStart = Int(header) + Int(stringOffset)
        types = typeStart..<typeStart + Int(typeSize)
        strings = stringStart..<stringStart + Int(stringSize)
        guard types.upperBound <= bytes.count, strings.upperBound <= bytes.count else {
            throw .badBTF(name, "it is truncated")
        }
    }
}
