import CLinux
import Glibc
import ISA
import JSON
import Loader
import Runtime

extension TypedValue {
    /// Without what is another one in each run.
    fileprivate var timeless: TypedValue {
        switch self {
        case .time, .stack: .list([])
        case .list(let values): .list(values.map(\.timeless))
        case .record(let fields): .record(fields.map { Field(name: $0.name, value: $0.value.timeless) })
        case .signed, .unsigned, .flag, .float, .address, .text: self
        }
    }
}

/// What the maps of an object held at the end of a run.
final class MapCollector {
    struct Contents {
        var entries: [[UInt8]: [UInt8]]
        /// Bytes of one CPU's value, where values are one for each CPU.
        var stride: Int?
    }

    private(set) var maps: [String: Contents] = [:]
    var object: ObjectSpec?
    /// The first process of the run, whose number is another one each time.
    var process: Int32 = 0
    var status: Int32 = 0

    func take(_ name: String, _ entries: [(key: [UInt8], value: [UInt8])], stride: Int? = nil) {
        maps[name] = Contents(entries: Dictionary(entries, uniquingKeysWith: { $1 }), stride: stride)
    }
}

extension MapSpec {
    /// Whether its elements can be compared: stacks and records have no place that is the same twice.
    var isCompared: Bool {
        if isReadOnly || StaticProbeArguments.maps.contains(name) { return false }
        switch type {
        case .hash, .array, .perCPUHash, .perCPUArray, .lruHash, .lruPerCPUHash, .lpmTrie: return true
        default: return false
        }
    }
}

/// `--compare-backends`: the same workload with the programs in the process, then in the kernel, and how their maps differ.
struct Comparison {
    let object: ObjectSpec
    let user: MapCollector
    let kernel: MapCollector
    private let view: TaggedView?

    init(_ object: ObjectSpec, user: MapCollector, kernel: MapCollector) {
        self.object = object
        self.user = user
        self.kernel = kernel
        view = object.btf.map { btf in TaggedView(ObjectTags(btf)) { _, _, _ in [] } }
    }

    /// One element, or a global variable, that is not the same.
    struct Difference {
        var map: String
        var key: String
        var user: String?
        var kernel: String?
    }

    /// Differences that people are shown.
    private static let limit = 20

    struct Same {
        var count = 0
        /// Under another key, which is an address.
        var moved = 0
    }

    /// Elements that both have, and those that differ.
    func result() -> (same: Same, differences: [Difference]) {
        var same = Same()
        var differences: [Difference] = []
        if user.status != kernel.status {
            differences.append(
                Difference(map: "exit code", key: "", user: "\(user.status)", kernel: "\(kernel.status)")
            )
        }
        for map in object.maps {
            guard let ours = user.maps[map.name], let theirs = kernel.maps[map.name] else { continue }
            if map.contents != nil {
                compare(map, variables: ours, theirs, &same, &differences)
            } else {
                compare(map, ours, theirs, &same, &differences)
            }
        }
        return (same, differences)
    }

    private func compare(
        _ map: MapSpec,
        variables ours: MapCollector.Contents,
        _ theirs: MapCollector.Contents,
        _ same: inout Same,
        _ differences: inout [Difference]
    ) {
        guard let ours = ours.entries.first?.value, let theirs = theirs.entries.first?.value else { return }
        for variable in map.variables where variable.offset + variable.size <= min(ours.count, theirs.count) {
            let range = variable.offset..<variable.offset + variable.size
            let (mine, other) = (Array(ours[range]), Array(theirs[range]))
            if isSame(mine, other, variable.type) {
                same.count += 1
            } else {
                differences.append(
                    Difference(
                        map: variable.name,
                        key: "",
                        user: text(mine, variable.type),
                        kernel: text(other, variable.type)
                    )
                )
            }
        }
    }

    private func compare(
        _ map: MapSpec,
        _ ours: MapCollector.Contents,
        _ theirs: MapCollector.Contents,
        _ same: inout Same,
        _ differences: inout [Difference]
    ) {
        // Arrays have all elements, and those of zeros say nothing.
        let isArray = map.type == .array || map.type == .perCPUArray
        let without = { (contents: MapCollector.Contents) in
            contents.entries.filter { !isArray || $0.value.contains { $0 != 0 } }
        }
        var rest = without(theirs)
        let places = Dictionary(rest.keys.map { (normal($0, kernel), $0) }, uniquingKeysWith: { first, _ in first })
        var ours = ours
        let isAddress = map.keySize == 8 && (map.keyType == 0 || object.btf?.underlying(map.keyType)?.kind == .integer)
        if isAddress, ours.stride == nil { same.moved += takeMoved(map, &ours, &rest) }
        for (key, value) in without(ours).sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            let place = rest[key] == nil ? places[normal(key, user)] : key
            guard let place, let other = rest.removeValue(forKey: place) else {
                differences.append(
                    Difference(map: map.name, key: text(key, map.keyType), user: shown(value, map, ours.stride))
                )
                continue
            }
            let type = ours.stride == nil ? map.valueType : 0
            if isSame(total(value, map, ours.stride), total(other, map, theirs.stride), type) {
                same.count += 1
                continue
            }
            differences.append(
                Difference(
                    map: map.name,
                    key: text(key, map.keyType),
                    user: shown(value, map, ours.stride),
                    kernel: shown(other, map, theirs.stride)
                )
            )
        }
        for (key, value) in rest.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            differences.append(
                Difference(map: map.name, key: text(key, map.keyType), kernel: shown(value, map, theirs.stride))
            )
        }
    }

    /// Takes out values that both have under other keys: addresses, which the library in the process moves.
    private func takeMoved(
        _ map: MapSpec,
        _ ours: inout MapCollector.Contents,
        _ rest: inout [[UInt8]: [UInt8]]
    ) -> Int {
        let type = map.valueType
        let isInPlace = { (mine: [UInt8]?, other: [UInt8]?) -> Bool in
            guard let mine, let other else { return false }
            return isSame(mine, other, type)
        }
        var free: [String: [[UInt8]]] = [:]
        for (key, value) in rest where !isInPlace(ours.entries[key], value) {
            free[image(value, type, kernel), default: []].append(key)
        }
        var moved = 0
        for (key, value) in ours.entries where !isInPlace(value, rest[key]) {
            guard let place = free[image(value, type, user)]?.popLast() else { continue }
            ours.entries[key] = nil
            rest[place] = nil
            moved += 1
        }
        return moved
    }

    private func isSame(_ ours: [UInt8], _ theirs: [UInt8], _ type: UInt32) -> Bool {
        ours == theirs || image(ours, type, user) == image(theirs, type, kernel)
    }

    /// What is compared: without times and stacks, which their tags tell, and without members that are not shown.
    private func image(_ bytes: [UInt8], _ type: UInt32, _ run: MapCollector) -> String {
        let bytes = normal(bytes, run)
        guard type != 0, let btf = object.btf, let value = TypedValue(bytes, type: type, in: btf, view: view) else {
            return hexadecimal(bytes: bytes)
        }
        return value.timeless.text
    }

    /// With one number in place of the process's.
    private func normal(_ bytes: [UInt8], _ run: MapCollector) -> [UInt8] {
        guard user.process != kernel.process else { return bytes }
        var bytes = bytes
        for at in stride(from: 0, through: bytes.count - 4, by: 4)
        where littleEndian(bytes, at: at, size: 4) == UInt64(run.process) {
            for index in at..<at + 4 { bytes[index] = 0xff }
        }
        return bytes
    }

    /// Values of all CPUs added up where they are numbers: which CPU counted is chance.
    private func total(_ bytes: [UInt8], _ map: MapSpec, _ stride: Int?) -> [UInt8] {
        guard let stride, map.valueSize <= 8 else { return bytes }
        let sum = Swift.stride(from: 0, to: bytes.count, by: stride).reduce(UInt64(0)) {
            $0 &+ littleEndian(bytes, at: $1, size: map.valueSize)
        }
        return (0..<8).map { UInt8(truncatingIfNeeded: sum >> (8 * UInt64($0))) }
    }

    private func shown(_ bytes: [UInt8], _ map: MapSpec, _ stride: Int?) -> String {
        stride == nil ? text(bytes, map.valueType) : text(total(bytes, map, stride), 0)
    }

    private func text(_ bytes: [UInt8], _ type: UInt32) -> String {
        if type != 0, let btf = object.btf, let value = TypedValue(bytes, type: type, in: btf, view: view) {
            return value.text
        }
        return bytes.count <= 8
            ? String(littleEndian(bytes, at: 0, size: bytes.count)) : hexadecimal(bytes: bytes)
    }

    // MARK: Output

    /// Prints what differs; true where nothing does.
    func show(_ sink: OutputSink) throws(Failure) -> Bool {
        let (same, differences) = result()
        let skipped = object.maps.filter { !$0.isReadOnly && !$0.isCompared }
        switch sink.format {
        case .text:
            for difference in differences.prefix(Self.limit) {
                let name = difference.map + (difference.key.isEmpty ? "" : "[\(difference.key)]")
                try sink.line("\(name): user \(difference.user ?? "-"), kernel \(difference.kernel ?? "-")")
            }
            if differences.count > Self.limit {
                try sink.line("… \(differences.count - Self.limit) more (-j has all)")
            }
            try sink.line(
                "compared \(counted(user.maps.count, "map")): \(same.count) the same, "
                    + (same.moved == 0 ? "" : "\(same.moved) under another address, ")
                    + "\(differences.count) different"
                    + (skipped.isEmpty ? "" : "; not compared: \(skipped.map(\.name).joined(separator: ", "))")
            )
        case .json:
            for difference in differences {
                try sink.line(
                    jsonRecord("difference") { data in
                        data.member("map", difference.map)
                        data.member("key", difference.key)
                        if let value = difference.user { data.member("user", value) }
                        if let value = difference.kernel { data.member("kernel", value) }
                    }
                )
            }
            try sink.line(
                jsonRecord("comparison") { data in
                    data.key("maps")
                    data.array { list in for name in user.maps.keys.sorted() { list.string(name) } }
                    data.key("not_compared")
                    data.array { list in for map in skipped { list.string(map.name) } }
                    data.member("same", same.count)
                    data.member("moved", same.moved)
                    data.member("different", differences.count)
                }
            )
        }
        return differences.isEmpty
    }
}
