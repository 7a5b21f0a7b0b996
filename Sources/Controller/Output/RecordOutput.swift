import JSON
import Loader

/// Shows records of ring and perf buffers: as rows of a table where their type is known, else as bytes.
final class RecordOutput {
    private let object: ObjectSpec
    private let sink: OutputSink
    private let view: TaggedView?
    /// `TYPE`, or `MAP=TYPE`, of `--event`.
    private let events: [String]
    private var tables: [String: EventTable?] = [:]
    /// The map whose columns were named last.
    private var lastHeader = ""

    init(_ object: ObjectSpec, events: [String], view: TaggedView?, sink: OutputSink) throws(Failure) {
        self.object = object
        self.events = events
        self.view = view
        self.sink = sink
        for event in events {
            let name = String(event.split(separator: "=").last ?? "")
            guard let btf = object.btf, EventTable.structure(name, in: btf) != nil else {
                throw .badOption("--event", value: event, expects: "[MAP=]STRUCT, a struct of the object's BTF")
            }
        }
    }

    /// Shows a record; false for the first one of a map whose type is not known.
    func show(_ bytes: [UInt8], _ map: MapSpec) throws(Failure) -> Bool {
        let isFirst = tables[map.name] == nil
        let table = table(of: map)
        switch sink.format {
        case .text:
            if let table, let line = table.line(bytes, time: clockText()) {
                if lastHeader != map.name {
                    lastHeader = map.name
                    try sink.line(table.header)
                }
                try sink.line(line)
            } else {
                try sink.line("\(clockText()) \(map.name): \(hexadecimal(bytes: bytes))")
            }
        case .json:
            try sink.line(
                jsonRecord("record") { data in
                    data.member("map", map.name)
                    data.member("time", timeText())
                    guard let table, let value = table.value(bytes) else {
                        return data.member("bytes", hexadecimal(bytes: bytes))
                    }
                    data.member("event", table.name)
                    data.key("fields")
                    value.write(to: &data)
                }
            )
        }
        return table != nil || !isFirst
    }

    private func table(of map: MapSpec) -> EventTable? {
        if let known = tables[map.name] { return known }
        let chosen = events.compactMap { event -> String? in
            let parts = event.split(separator: "=", maxSplits: 1).map(String.init)
            return parts.count == 1 ? parts[0] : parts[0] == map.name ? parts[1] : nil
        }.last
        var made: EventTable?
        if let btf = object.btf, let type = EventTable.type(of: map, chosen: chosen, in: btf) {
            made = EventTable(btf, type: type, view: view)
        }
        tables[map.name] = .some(made)
        return made
    }
}
