import CLinux
import Foundation
import ISA
import Runtime
import Testing

/// Documentation/Parity.md says what each operation on each type of map answers, here and in the kernel; this keeps it true.
@Suite struct ParityTableTests {
    /// What is tried, in this order, on a map of three entries.
    private static let operations = [
        "lookup absent", "next of none", "delete absent", "update", "EXIST absent", "flags 3", "NOEXIST present",
        "full", "lookup",
        "next of last", "delete", "pop",
    ]

    /// The same for other commands, on a map of four entries that has three.
    private static let commands = [
        "take", "take absent", "take flags 1", "get batch", "get batch flags", "get batch elem_flags", "get batch of 0",
        "set batch", "set batch elem_flags", "delete batch", "delete batch absent", "take batch", "freeze", "again",
        "get", "set", "delete", "take frozen", "set batch frozen",
    ]

    /// The same with `BPF_F_LOCK`, for maps with and without locks in their values.
    private static let lockCommands = [
        "get", "get absent", "update", "update absent with EXIST", "update with NOEXIST", "take", "get batch",
        "set batch",
        "delete batch", "update frozen",
    ]

    private static let locked: [MapShape] = [
        MapShape(type: .hash, valueSize: 12, entries: 4, lock: 4),
        MapShape(type: .array, keySize: 4, valueSize: 12, entries: 4, lock: 4),
    ]

    private static let shapes: [MapShape] = [
        MapShape(type: .hash, entries: 3), MapShape(type: .array, keySize: 4, entries: 3),
        MapShape(type: .perCPUHash, entries: 3), MapShape(type: .perCPUArray, keySize: 4, entries: 3),
        MapShape(type: .lruHash, entries: 3), MapShape(type: .lruPerCPUHash, entries: 3),
        MapShape(type: .lpmTrie, entries: 3, flags: 1), MapShape(type: .queue, keySize: 0, entries: 3),
        MapShape(type: .stack, keySize: 0, entries: 3), MapShape(type: .bloomFilter, keySize: 0, entries: 3),
        MapShape(type: .stackTrace, keySize: 4, entries: 3),
        MapShape(type: .ringBuffer, keySize: 0, valueSize: 0, entries: 4096),
        MapShape(type: .userRingBuffer, keySize: 0, valueSize: 0, entries: 4096),
        MapShape(type: .perfEventArray, keySize: 4, valueSize: 4, entries: 3),
        MapShape(type: .programArray, keySize: 4, valueSize: 4, entries: 3),
        MapShape(type: .cgroupArray, keySize: 4, valueSize: 4, entries: 3),
        MapShape(type: .arrayOfMaps, keySize: 4, valueSize: 4, entries: 3),
        MapShape(type: .hashOfMaps, valueSize: 4, entries: 3),
    ]

    private static func answers(_ side: any MapSide, _ shape: MapShape) -> [String] {
        func key(_ number: UInt8) -> [UInt8] {
            if shape.type == .lpmTrie { return [32, 0, 0, 0, number, 0, 0, 0] }
            return [number] + [UInt8](repeating: 0, count: 7)
        }
        // A program or a file where a map takes such: there is none. Of maps there is one.
        let fill: UInt8 = shape.type.holdsMaps ? 0 : 0xff
        let value = [UInt8](repeating: fill, count: max(shape.valueSize, 8) * possibleCPUs)
        let statuses: [Int64] = [
            side.lookup(key(0), value).status, side.next(nil).status, side.delete(key(9)),
            side.update(key(0), value, 0),
            side.update(key(2), value, 2), side.update(key(0), value, 3), side.update(key(0), value, 1),
            [1, 2, 3].map { side.update(key($0), value, 0) }.last ?? 0,
            side.lookup(key(shape.type.name.hasPrefix("lru") ? 3 : 0), value).status, next(side, shape),
            side.delete(key(0)),
            shape.keySize == 0 && shape.valueSize != 0 ? side.take(value).status : 1,
        ]
        return statuses.map(name)
    }

    private static func commandAnswers(_ side: any MapSide, _ shape: MapShape) -> [String] {
        func key(_ number: UInt8) -> [UInt8] {
            if shape.type == .lpmTrie { return [32, 0, 0, 0, number, 0, 0, 0] }
            return [number] + [UInt8](repeating: 0, count: max(shape.keySize, 1) - 1)
        }
        let fill: UInt8 = shape.type.holdsMaps ? 0 : 0xff
        let value = [UInt8](repeating: fill, count: max(shape.valueSize, 8) * possibleCPUs)
        for number in 0..<3 { _ = side.update(key(UInt8(number)), value, 0) }
        let stride = shape.type.isPerCPU ? ((shape.valueSize + 7) & ~7) * possibleCPUs : shape.valueSize
        let two = [UInt8](repeating: fill, count: 2 * stride)
        func get(_ count: Int = 8, deletes: Bool = false, elementFlags: UInt64 = 0, flags: UInt64 = 0) -> Int64 {
            side.lookupBatch(after: nil, count: count, deletes: deletes, elementFlags: elementFlags, flags: flags)
                .status
        }
        let statuses: [Int64] = [
            side.take(key: key(0), flags: 0).status, side.take(key: key(9), flags: 0).status,
            side.take(key: key(1), flags: 1).status, get(), get(8, flags: 1), get(8, elementFlags: 1), get(0),
            side.updateBatch(key(1) + key(2), two, count: 2, elementFlags: 0).status,
            side.updateBatch(key(1) + key(2), two, count: 2, elementFlags: 1).status,
            side.deleteBatch(key(1) + key(2), count: 2, elementFlags: 0).status,
            side.deleteBatch(key(1) + key(2), count: 2, elementFlags: 0).status,
            get(deletes: true), side.freeze(), side.freeze(), side.lookup(key(0), value).status,
            side.update(key(0), value, 0), side.delete(key(0)), side.take(key: key(0), flags: 0).status,
            side.updateBatch(key(1) + key(2), two, count: 2, elementFlags: 0).status,
        ]
        return statuses.map(name)
    }

    private static func lockAnswers(_ side: any MapSide, _ shape: MapShape) -> [String] {
        func key(_ number: UInt8) -> [UInt8] {
            if shape.type == .lpmTrie { return [32, 0, 0, 0, number, 0, 0, 0] }
            return [number] + [UInt8](repeating: 0, count: max(shape.keySize, 1) - 1)
        }
        let fill: UInt8 = shape.type.holdsMaps ? 0 : 0xff
        let value = [UInt8](repeating: fill, count: max(shape.valueSize, 8) * possibleCPUs)
        for number in 0..<3 { _ = side.update(key(UInt8(number)), value, 0) }
        let stride = shape.type.isPerCPU ? ((shape.valueSize + 7) & ~7) * possibleCPUs : shape.valueSize
        let two = [UInt8](repeating: fill, count: 2 * stride)
        let statuses: [Int64] = [
            side.lookup(key(0), value, flags: 4).status, side.lookup(key(9), value, flags: 4).status,
            side.update(key(0), value, 4), side.update(key(3), value, 6), side.update(key(0), value, 5),
            side.take(key: key(2), flags: 4).status,
            side.lookupBatch(after: nil, count: 8, deletes: false, elementFlags: 4, flags: 0).status,
            side.updateBatch(key(0) + key(1), two, count: 2, elementFlags: 4).status,
            side.deleteBatch(key(0) + key(1), count: 2, elementFlags: 4).status,
            side.freeze() == 0 ? side.update(key(0), value, 4) : 1,
        ]
        return statuses.map(name)
    }

    /// What follows the last key.
    private static func next(_ side: any MapSide, _ shape: MapShape) -> Int64 {
        var last: [UInt8]?
        for _ in 0..<10 {
            let next = side.next(last)
            if next.status != 0 { return next.status }
            last = next.key
        }
        return 2
    }

    private static func name(_ status: Int64) -> String {
        switch -status {
        case 0: "ok"
        case -1: "-"
        case -2: "never ends"
        case Int64(EPERM): "EPERM"
        case Int64(ENOENT): "ENOENT"
        case Int64(E2BIG): "E2BIG"
        case Int64(EBADF): "EBADF"
        case Int64(EBUSY): "EBUSY"
        case Int64(ENOMEM): "ENOMEM"
        case Int64(EEXIST): "EEXIST"
        case Int64(EINVAL): "EINVAL"
        case Int64(ENOSPC): "ENOSPC"
        case Int64(EOPNOTSUPP): "EOPNOTSUPP"
        case 524: "ENOTSUPP"
        default: "\(status)"
        }
    }

    private static func cells(_ line: String) -> [String] {
        line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
    }

    private static let document = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Documentation/Parity.md")

    /// A cell is our answer, and behind ` / ` the kernel's where that is another.
    @Test(arguments: shapes) func isTrue(_ shape: MapShape) throws { try check(shape, Self.operations, Self.answers) }

    @Test(arguments: shapes) func commandsAreTrue(_ shape: MapShape) throws {
        var shape = shape
        if shape.entries == 3 { shape.entries = 4 }
        try check(shape, Self.commands, Self.commandAnswers)
    }

    @Test(arguments: locked + shapes) func locksAreTrue(_ shape: MapShape) throws {
        var shape = shape
        if shape.entries == 3 { shape.entries = 4 }
        try check(shape, Self.lockCommands, Self.lockAnswers)
    }

    private func check(_ shape: MapShape, _ columns: [String], _ answers: (any MapSide, MapShape) -> [String]) throws {
        let text = try String(contentsOf: Self.document, encoding: .utf8)
        let lines = text.split(separator: "\n").map(String.init)
        #expect(lines.contains { Self.cells($0) == ["type"] + columns }, "no table of \(columns)")
        let ours = answers(try OurMap(shape), shape)
        let row = lines.map(Self.cells).first { $0.first == shape.name && $0.count == columns.count + 1 }
        guard geteuid() == 0 else {
            // The kernel is not asked: what the page says of it stays.
            let said = row?.dropFirst().map { $0.components(separatedBy: " / ")[0] } ?? []
            #expect(said == ours)
            return
        }
        let theirs = answers(try #require(KernelSideMap(shape)), shape)
        let cells = zip(ours, theirs).map { $0 == $1 ? $0 : "\($0) / \($1)" }
        let expected = "| \(shape.name) | " + cells.joined(separator: " | ") + " |"
        #expect(row == Self.cells(expected), "the line must be:\n\(expected)")
        let differs = zip(ours, theirs).contains { $0 != $1 }
        let isExplained = lines.contains {
            $0.hasPrefix("- `\(shape.type.name)`") || $0.contains(", `\(shape.type.name)`")
        }
        #expect(!differs || isExplained, "no line `- \\`\(shape.type.name)\\`: ...` says why")
    }

    /// Every type of map is on the page: with a line in the table, or among those that exist only in the kernel.
    @Test func namesAllTypes() throws {
        let text = try String(contentsOf: Self.document, encoding: .utf8)
        let refused = text.split(separator: "\n").first { $0.hasPrefix("Refused when a session is made:") } ?? ""
        for type in MapType.allCases where type != .unspecified {
            let isOurs = MapFamily(type) != nil
            // The kernel makes one only with type information, and its keys are descriptors of threads.
            let isInTable =
                type == .taskStorage ? text.contains("\n- `task_storage`: ") : Self.shapes.contains { $0.type == type }
            #expect(isOurs == isInTable, "\(type.name) in the table")
            #expect(isOurs != refused.contains("`\(type.name)`"), "\(type.name) in the list of what is refused")
        }
    }
}
