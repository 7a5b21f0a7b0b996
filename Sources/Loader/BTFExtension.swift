/// The `.BTF.ext` section: what belongs to single instructions (Linux `Documentation/bpf/btf.rst` section 4.2).
struct BTFExtension: Sendable {
    struct Function: Sendable {
        var slot: Int
        var type: UInt32
    }

    struct Line: Sendable {
        var slot: Int
        var file: UInt32
        var text: UInt32
        var lineAndColumn: UInt32
    }

    struct Relocation: Sendable {
        var slot: Int
        var type: UInt32
        var access: UInt32
        var kind: UInt32
    }

    /// Records by section name; slots count from the section's start.
    var functions: [String: [Function]] = [:]
    var lines: [String: [Line]] = [:]
    var relocations: [String: [Relocation]] = [:]

    init() {}

    init(_ bytes: [UInt8], strings: BTF) throws(LoaderError) {
        guard let magic = bytes.u16(at: 0), let version = bytes.u8(at: 2), let header = bytes.u32(at: 4) else {
            throw .badBTF(place, "the header is truncated")
        }
        guard magic == 0xeb9f, version == 1, header >= 24 else { throw .badBTF(place, "the header is not known") }
        let table = Table(bytes: bytes, header: Int(header), strings: strings)
        for record in try table.records(at: 8, size: 8) {
            functions[record.section, default: []].append(Function(slot: record.slot, type: record.words[1]))
        }
        for record in try table.records(at: 16, size: 16) {
            let words = record.words
            lines[record.section, default: []].append(
                Line(slot: record.slot, file: words[1], text: words[2], lineAndColumn: words[3])
            )
        }
        guard header >= 32 else { return }
        for record in try table.records(at: 24, size: 16) {
            let words = record.words
            relocations[record.section, default: []].append(
                Relocation(slot: record.slot, type: words[1], access: words[2], kind: words[3])
            )
        }
    }
}

private let place = "section '.BTF.ext'"

/// One of the three tables, each a list of blocks for one section of code.
private struct Table {
    struct Record {
        var section: String
        var slot: Int
        var words: [UInt32]
    }

    var bytes: [UInt8]
    var header: Int
    var strings: BTF

    /// The records of the table whose offset and size stand at `field` of the header.
    func records(at field: Int, size: Int) throws(LoaderError) -> [Record] {
        guard let offset = bytes.u32(at: field), let length = bytes.u32(at: field + 4) else {
            throw .badBTF(place, "the header is truncated")
        }
        if length == 0 { return [] }
        var at = header + Int(offset)
        let end = at + Int(length)
        guard end <= bytes.count, let recordSize = bytes.u32(at: at), recordSize >= size, recordSize % 4 == 0 else {
            throw .badBTF(place, "a table is truncated")
        }
        at += 4
        var result: [Record] = []
        while at < end {
            guard end - at >= 8, let name = bytes.u32(at: at), let count = bytes.u32(at: at + 4) else {
                throw .badBTF(place, "a block is truncated")
            }
            at += 8
            guard Int(count) <= (end - at) / Int(recordSize) else { throw .badBTF(place, "a block is truncated") }
            let section = strings.string(name)
            for _ in 0..<count {
                var words: [UInt32] = []
                for index in 0..<size / 4 { words.append(bytes.u32(at: at + 4 * index) ?? 0) }
                guard words[0] % 8 == 0 else {
                    throw .badBTF(place, "offset \(words[0]) in '\(section)' is not the start of an instruction")
                }
                result.append(Record(section: section, slot: Int(words[0] / 8), words: words))
                at += Int(recordSize)
            }
        }
        return result
    }
}
