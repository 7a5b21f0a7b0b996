import JSON
import Loader

/// Shows records of ring and perf buffers: as rows of a table where their type is known, else as bytes.
final class RecordOutput {
    private let object: ObjectSpec
    private let sink: OutputSink
    private let view: TaggedView?
    /// Tables by what the user said, the last one first.
    private var chosen: [(map: String?, table: EventTable)] = []
    private var tables: [String: EventTable?] = [:]

    init(_ object: ObjectSpec, events: [EventChoice], view: TaggedView?, sink: OutputSink) throws(Failure) {
        self.object = object
        self.view = view
        self.sink = sink
        for event in events.reversed() {
            var types = object.btf
            if let header = event.header {
                let compiled = try CompiledObject.compile(
                    header: header,
                    type: event.type,
                    installation: Installation.current
                )
                do { types = try loadObject(path: compiled.path).btf } catch { throw Failure(error) }
            }
            // Tags of another BTF are not these.
            guard let types, let type = EventTable.structure(event.type, in: types),
                let table = EventTable(
                    types,
                    type: type,
                    view: event.header == nil ? view : view?.with(ObjectTags(types))
                )
            else { throw event.refused }
            chosen.append((event.map, table))
        }
    }

    /// Shows a record; false for the first one of a map whose type is not known.
    func show(_ bytes: [UInt8], _ map: MapSpec) throws(Failure) -> Bool {
        let isFirst = tables[map.name] == nil
        let table = table(of: map)
        switch sink.format {
        case .text:
            if let table, let line = table.line(bytes, time: clockText()) {
                if sink.lastHeader != map.name {
                    sink.lastHeader = map.name
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
        var made = chosen.first { $0.map == nil || $0.map == map.name }?.table
        if made == nil, let btf = object.btf, let type = EventTable.type(of: map, in: btf) {
            made = EventTable(btf, type: type, view: view)
        }
        tables[map.name] = .some(made)
        return made
    }
}
