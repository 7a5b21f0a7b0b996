import CSession
import Glibc
import ISA
import JSON
import Loader
import Runtime

/// `ubpfrun map`: the maps of a session that runs.
package struct MapAccess {
    package enum Action: Equatable, Sendable {
        case list
        case dump(map: String)
        case lookup(map: String, key: String?)
        case update(map: String, key: String?, value: String, flags: UInt64)
        case delete(map: String, key: String?)
        case freeze(map: String)
    }

    private let pid: Int32?
    private let action: Action
    private let sink: OutputSink

    package init(_ action: Action, pid: Int32?, format: OutputFormat) throws(Failure) {
        self.action = action
        self.pid = pid
        sink = try OutputSink(format: format, path: nil, pid: getpid())
    }

    /// Does it; throws what stands in the way.
    package func execute() throws(Failure) {
        let places = try LiveSession.places(of: pid)
        if places.isEmpty { throw Failure.noSession(pid) }
        if case .list = action {
            for place in places { try list(LiveSession.open(place)) }
            return
        }
        guard places.count == 1 else { throw Failure.severalSessions(places.map(\.owner)) }
        try perform(LiveSession.open(places[0]))
    }

    private func perform(_ session: borrowing LiveSession) throws(Failure) {
        switch action {
        case .list: break
        case .dump(let name): try dump(NamedMap(name, session))
        case .lookup(let name, let key): try lookup(NamedMap(name, session), key)
        case .update(let name, let key, let value, let flags):
            try update(NamedMap(name, session), key, value, flags)
        case .delete(let name, let key): try delete(NamedMap(name, session), key)
        case .freeze(let name):
            let map = try NamedMap(name, session)
            try map.check(map.user.freeze(), "freeze")
        }
    }

    // MARK: list

    private func list(_ session: borrowing LiveSession) throws(Failure) {
        var rows = [["ID", "TYPE", "NAME", "KEY", "VALUE", "MAX_ENTRIES", "FLAGS", "BYTES"]]
        if sink.format == .text { try sink.line("session of process \(session.owner):") }
        let count = unsafe Int(session.view.header.pointee.map_count)
        for index in 0..<count {
            let map = MapView(session.view, index)
            guard session.notes.entry(index).isOfObject else { continue }
            let descriptor = unsafe map.descriptor.pointee
            let type = MapType(rawValue: descriptor.type)?.name ?? "\(descriptor.type)"
            let isFrozen = session.notes.user(map).isFrozen
            switch sink.format {
            case .text:
                rows.append([
                    "\(map.id)", type, printable(map.name), "\(descriptor.key_size)", "\(descriptor.value_size)",
                    "\(descriptor.max_entries)", "\(hexadecimal(UInt64(descriptor.flags)))\(isFrozen ? " frozen" : "")",
                    "\(map.memory)",
                ])
            case .json:
                let owner = session.owner
                let record = jsonRecord("map") { data in
                    data.member("session", owner)
                    data.member("id", map.id)
                    data.member("type", type)
                    data.member("name", map.name)
                    data.member("key_size", descriptor.key_size)
                    data.member("value_size", descriptor.value_size)
                    data.member("max_entries", descriptor.max_entries)
                    data.member("flags", descriptor.flags)
                    data.member("frozen", isFrozen)
                    data.member("bytes", map.memory)
                }
                try sink.line(record)
            }
        }
        if sink.format == .text { try sink.line(table(rows)) }
    }

    private func table(_ rows: [[String]]) -> String {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
            let line = "  " + cells.joined(separator: "  ")
            return String(line.reversed().drop { $0 == " " }.reversed())
        }.joined(separator: "\n")
    }

    // MARK: Elements

    private func dump(_ map: NamedMap) throws(Failure) {
        switch map.view.family {
        case .hash, .array, .lpmTrie, .mapArray, .programArray, .stackTrace: break
        case .cgroupArray:
            throw Failure.mapRefused("dump", map.name, status: -524, why: "its elements can be set and deleted only")
        case .queue, .bloomFilter, .perfEventArray, .ringBuffer, nil:
            throw Failure.mapRefused("dump", map.name, status: -524, why: "this type of map has no keys to walk by")
        }
        var last: [UInt8]?
        var steps = 0
        // Others may add faster than this reads; everything that was there at first is named by then.
        let limit = 4 * (Int(map.view.maxEntries) + 64)
        while steps < limit {
            let next = map.user.nextKey(last)
            if next.status == -Int64(ENOENT) { return }
            try map.check(next.status, "dump")
            var found = map.user.lookup(next.key, flags: map.lockFlag)
            // Held for long, perhaps by the thread that somebody looks for: better half of a change than nothing.
            if found.status == -Int64(EBUSY) { found = map.user.lookup(next.key, flags: 0) }
            // Others may have deleted it meanwhile.
            if found.status != -Int64(ENOENT) {
                try map.check(found.status, "dump")
                try show(map, next.key, found.value)
            }
            last = next.key
            steps += 1
        }
    }

    private func show(_ map: NamedMap, _ key: [UInt8], _ value: [UInt8]) throws(Failure) {
        switch sink.format {
        case .text: try sink.line(map.line(key, value))
        case .json: try sink.line(jsonRecord("entry") { map.write(key, value, to: &$0) })
        }
    }

    private func lookup(_ map: NamedMap, _ text: String?) throws(Failure) {
        if case .bloomFilter? = map.view.family {
            let value = try map.valueBytes(map.given(text))
            let status = map.user.lookup([], value: value).status
            if status != -Int64(ENOENT) { try map.check(status, "lookup") }
            return try sink.line(
                sink.format == .json
                    ? jsonRecord("member") { $0.member("possible", status == 0) }
                    : status == 0 ? "possibly" : "no"
            )
        }
        let key = try map.keyBytes(text)
        let found = map.user.lookup(key, flags: map.lockFlag)
        try map.check(found.status, "lookup")
        try show(map, key, found.value)
    }

    private func update(_ map: NamedMap, _ key: String?, _ value: String, _ flags: UInt64) throws(Failure) {
        let key = try map.keyBytes(key)
        if var producer = UserRingProducer(map.view) {
            let record = try map.recordBytes(value)
            return try map.check(map.user.isFrozen ? -Int64(EPERM) : producer.push(record), "update")
        }
        if case .cgroupArray? = map.view.family {
            // As with bpf(2), the value is a descriptor.
            let status = try ControlGroups.withDirectory(value, for: map.name) { directory in
                map.user.update(key, (0..<4).map { UInt8(truncatingIfNeeded: directory >> (8 * $0)) }, flags: flags)
            }
            if status == -Int64(EBADF) { throw .noControlGroup(value, map.name) }
            return try map.check(status, "update")
        }
        try map.check(map.user.update(key, map.valueBytes(value, at: key), flags: flags | map.lockFlag), "update")
    }

    /// Of queues and stacks the next value is taken out and shown.
    private func delete(_ map: NamedMap, _ text: String?) throws(Failure) {
        let key = try map.keyBytes(text)
        guard case .queue? = map.view.family else { return try map.check(map.user.delete(key), "delete") }
        let taken = map.user.take([])
        try map.check(taken.status, "delete")
        try show(map, [], taken.value)
    }
}

extension MapView {
    /// Bytes that the map takes in the session when every entry is used.
    fileprivate var memory: UInt64 {
        let descriptor = unsafe descriptor.pointee
        return descriptor.values_size + UInt64(descriptor.node_count) * UInt64(descriptor.key_stride)
            + UInt64(descriptor.bucket_count) * 8
    }
}
