import CSession
import Glibc
import ISA
import JSON
import Loader
import Runtime

/// A map of a session with the types of its keys and values.
struct NamedMap {
    let view: MapView
    let user: UserMap
    let name: String
    private let btf: BTF?
    private let keyType: UInt32
    private let valueType: UInt32
    /// Names of the session's maps, from the first.
    private let names: [String]

    /// By name, or by id.
    init(_ text: String, _ session: borrowing LiveSession) throws(Failure) {
        let count = unsafe Int(session.view.header.pointee.map_count)
        let maps = (0..<count).map { MapView(session.view, $0) }
        names = maps.map(\.name)
        let listed = maps.filter { session.notes.entry($0.index).isOfObject }
        guard let found = listed.first(where: { $0.name == text }) ?? listed.first(where: { "\($0.id)" == text }) else {
            throw Failure.noMap(text, known: listed.map(\.name))
        }
        view = found
        name = found.name
        user = session.notes.user(found)
        let entry = session.notes.entry(found.index)
        (keyType, valueType) = (entry.keyType, entry.valueType)
        btf = session.notes.btf
    }

    /// Values that have a lock are read and changed under it.
    var lockFlag: UInt64 { view.lockOffset == nil ? 0 : UpdateFlag.lock }

    func check(_ status: Int64, _ what: String) throws(Failure) {
        if status == 0 { return }
        let isFrozen = status == -Int64(EPERM) && user.isFrozen
        throw Failure.mapRefused(
            what,
            name,
            status: status,
            why: isFrozen ? "it is frozen: programs change it, nobody else" : Self.reason(status, view)
        )
    }

    private static func reason(_ status: Int64, _ view: MapView) -> String? {
        switch -status {
        case Int64(ENOENT): "there is no such element"
        case Int64(EBUSY): "a thread that does not run keeps a lock of it"
        case Int64(EEXIST): "the element is there already"
        case Int64(E2BIG):
            switch view.family {
            case .ringBuffer: "the record is larger than the ring"
            case .array, .mapArray, .programArray, .cgroupArray, .stackTrace:
                "it has elements 0 to \(view.maxEntries - 1)"
            default: "all \(view.maxEntries) entries are used"
            }
        case Int64(EINVAL) where view.holdsMaps: "the map is not like those inside"
        case Int64(EBADF): "there is no such map"
        case Int64(EINVAL):
            switch view.family {
            case .array: "elements of arrays are always there"
            default: nil
            }
        default: nil
        }
    }

    // MARK: From text

    /// What a command has to be given.
    func given(_ text: String?) throws(Failure) -> String {
        guard let text else { throw Failure.usage("map '\(name)' takes a value here") }
        return text
    }

    /// None for maps without keys.
    func keyBytes(_ text: String?) throws(Failure) -> [UInt8] {
        if view.keySize == 0 {
            if let text { throw Failure.usage("map '\(name)' has no keys, but '\(text)' was given") }
            return []
        }
        guard let text else { throw Failure.usage("map '\(name)' needs a key here") }
        do {
            return try TypedEncoder(btf: btf).bytes(text, type: keyType, size: Int(view.keySize), over: nil)
        } catch { throw Failure.badMapBytes("key", text, name, expected: error.expected) }
    }

    /// The value that `update` takes: of maps of maps a map's name, of per-CPU maps the same for each CPU.
    ///
    /// Of global variables those stay that are not named.
    func valueBytes(_ text: String, at key: [UInt8] = []) throws(Failure) -> [UInt8] {
        if view.holdsMaps {
            guard let index = names.firstIndex(of: text) ?? Int(text).map({ $0 - 1 }) else {
                throw Failure.noMap(text, known: names)
            }
            return (0..<4).map { UInt8(truncatingIfNeeded: (index + 1) >> (8 * $0)) }
        }
        let isSection = btf?[valueType]?.kind == .dataSection
        let old = isSection ? user.lookup(key).value : nil
        let value: [UInt8]
        do {
            value = try TypedEncoder(btf: btf).bytes(text, type: valueType, size: Int(view.valueSize), over: old)
        } catch { throw Failure.badMapBytes("value", text, name, expected: error.expected) }
        guard view.isPerCPU else { return value }
        let padded = value + [UInt8](repeating: 0, count: (8 - value.count % 8) % 8)
        return (0..<view.session.cpuCount).flatMap { _ in padded }
    }

    /// A record of a user ring: bytes after `hex:`, or text.
    func recordBytes(_ text: String) throws(Failure) -> [UInt8] {
        guard text.hasPrefix("hex:") else { return Array(text.utf8) }
        let size = (text.utf8.count - 4) / 2
        do { return try TypedEncoder(btf: nil).bytes(text, type: 0, size: size, over: nil) } catch {
            throw Failure.badMapBytes("value", text, name, expected: error.expected)
        }
    }

    // MARK: To text

    /// `key: value`, of per-CPU maps with each CPU's value and their sum.
    func line(_ key: [UInt8], _ value: [UInt8]) -> String {
        let values = parts(value)
        let text: String
        if view.isPerCPU {
            let sum = total(values).map { " (sum \($0))" } ?? ""
            text = values.enumerated().map { "cpu\($0): \($1.text)" }.joined(separator: ", ") + sum
        } else {
            text = values.map(\.text).joined()
        }
        return key.isEmpty ? text : "\(shown(key, keyType).text): \(text)"
    }

    func write(_ key: [UInt8], _ value: [UInt8], to data: inout JSONWriter) {
        data.member("map", name)
        if !key.isEmpty {
            data.key("key")
            shown(key, keyType).write(to: &data)
        }
        let values = parts(value)
        guard view.isPerCPU else {
            data.key("value")
            return values.first?.write(to: &data) ?? data.null()
        }
        data.key("values")
        data.array { list in for value in values { value.write(to: &list) } }
        if let sum = total(values) { data.member("sum", sum) }
    }

    /// One value, or one for each CPU.
    private func parts(_ value: [UInt8]) -> [TypedValue] {
        if view.holdsMaps { return [.text(mapName(value))] }
        if case .stackTrace? = view.family {
            let frames = stride(from: 0, to: value.count, by: 8).map { littleEndian(value, at: $0, size: 8) }
            return [.list(frames.prefix { $0 != 0 }.map { .address($0) })]
        }
        guard view.isPerCPU else { return [shown(value, valueType)] }
        let step = (Int(view.valueSize) + 7) & ~7
        return stride(from: 0, to: value.count, by: step).map {
            shown(Array(value[$0..<$0 + Int(view.valueSize)]), valueType)
        }
    }

    private func mapName(_ value: [UInt8]) -> String {
        let id = Int(littleEndian(value, at: 0, size: 4))
        return names.indices.contains(id - 1) ? names[id - 1] : "(no map \(id))"
    }

    private func total(_ values: [TypedValue]) -> Int128? {
        var sum: Int128 = 0
        for value in values {
            switch value {
            case .unsigned(let number): sum += Int128(number)
            case .signed(let number): sum += Int128(number)
            case .flag, .float, .address, .text, .list, .record, .time, .stack: return nil
            }
        }
        return sum
    }

    /// By its type; without one a number, or bytes in hexadecimal.
    private func shown(_ bytes: [UInt8], _ type: UInt32) -> TypedValue {
        if type != 0, let btf, let value = TypedValue(bytes, type: type, in: btf) { return value }
        if bytes.count <= 8 { return .unsigned(littleEndian(bytes, at: 0, size: bytes.count)) }
        return .text("hex:" + hexadecimal(bytes: bytes))
    }
}
