import JSON
package import Loader

/// Records of a ring or perf buffer as rows of a table; the columns come from the struct that they are.
package struct EventTable {
    private let btf: BTF
    private let type: UInt32
    private let size: Int
    private let view: TaggedView?
    private let columns: [Column]

    private struct Column {
        var name: String
        var width: Int
        var isText: Bool
    }

    /// `type` is a struct.
    package init?(_ btf: BTF, type: UInt32, view: TaggedView? = nil) {
        guard let structure = btf.underlying(type), structure.kind == .structure,
            let zero = TypedValue([UInt8](repeating: 0, count: structure.size), type: type, in: btf, view: view)
        else { return nil }
        self.btf = btf
        self.view = view
        self.type = structure.id
        size = structure.size
        columns = Self.flat(zero, "").map { name, value in
            switch value {
            case .text: Column(name: name, width: max(name.count, 16), isText: true)
            case .signed, .unsigned, .flag: Column(name: name, width: max(name.count, 7), isText: false)
            case .float, .address: Column(name: name, width: max(name.count, 18), isText: false)
            case .list, .record: Column(name: name, width: name.count, isText: true)
            case .time: Column(name: name, width: max(name.count, 12), isText: true)
            // On lines of their own.
            case .stack: Column(name: name, width: 0, isText: true)
            }
        }
    }

    /// The name of the struct.
    package var name: String { btf[type].map { btf.name($0) } ?? "" }

    package var header: String {
        row([("TIME", true, 8)] + columns.map { ($0.name.uppercased(), $0.isText, $0.width) })
    }

    /// One row; nil for a record that is no such struct.
    package func line(_ record: [UInt8], time: String) -> String? {
        guard let value = value(record) else { return nil }
        let cells = zip(Self.flat(value, ""), columns).map { ($0.0.1.text, $0.1.isText, $0.1.width) }
        return ([row([(time, true, 8)] + cells)] + value.stackLines).joined(separator: "\n")
    }

    /// The record's fields, for JSON; a program may leave out the end of a struct, as of a text that is shorter.
    package func value(_ record: [UInt8]) -> TypedValue? {
        let missing = [UInt8](repeating: 0, count: max(0, size - record.count))
        return TypedValue(record + missing, type: type, in: btf, view: view)
    }

    private func row(_ cells: [(String, Bool, Int)]) -> String {
        var text = ""
        for (index, cell) in cells.enumerated() {
            if index > 0 { text += " " }
            if !cell.1 {
                text += padded(cell.0, to: cell.2)
            } else if index == cells.count - 1 {
                text += cell.0
            } else {
                text += aligned(cell.0, to: cell.2)
            }
        }
        return text
    }

    /// Fields of structs inside, as `a.b`.
    private static func flat(_ value: TypedValue, _ name: String) -> [(String, TypedValue)] {
        guard case .record(let fields) = value else { return value.isStack ? [] : [(name, value)] }
        return fields.flatMap { flat($0.value, name.isEmpty ? $0.name : "\(name).\($0.name)") }
    }

    /// The type of a map's records: the value that the map declares, or the struct called `event`.
    package static func type(of map: MapSpec, in btf: BTF) -> UInt32? {
        if let declared = btf.underlying(map.valueType), declared.kind == .structure { return declared.id }
        return structure("event", in: btf) ?? onlyPointer(in: btf)
    }

    /// The struct that a global variable points to, where there is but one: `struct event *unused;` keeps a type in BTF.
    private static func onlyPointer(in btf: BTF) -> UInt32? {
        var found: Set<UInt32> = []
        for id in 0..<UInt32(btf.count) {
            // Those of --event belong to its own maps.
            guard let variable = btf[id], variable.kind == .variable, !btf.name(variable).hasPrefix("___ubpfrun_"),
                let pointer = btf.underlying(variable.target), pointer.kind == .pointer,
                let target = btf.underlying(pointer.target), target.kind == .structure
            else { continue }
            found.insert(target.id)
        }
        return found.count == 1 ? found.first : nil
    }

    package static func structure(_ name: String, in btf: BTF) -> UInt32? {
        let bare = name.hasPrefix("struct ") ? String(name.dropFirst(7)) : name
        let found = btf.types(named: bare).compactMap { btf.underlying($0) }.filter { $0.kind == .structure }
        return Set(found.map(\.id)).count == 1 ? found.first?.id : nil
    }
}
