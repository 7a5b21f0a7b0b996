import ISA
package import Loader

/// The `const volatile` globals of an object: its options.
package struct ObjectVariables {
    package let options: [VariableSpec]

    package init(_ object: ObjectSpec) {
        options = object.maps.flatMap { map in map.isReadOnly ? map.variables.filter(\.isOption) : [] }
    }

    package var names: [String] { options.map(\.name) }

    /// `--min-size` for `min_size`.
    package static func flag(_ name: String) -> String {
        "--" + name.replacing("_", with: "-").lowercased()
    }

    package func variable(flag: String) -> VariableSpec? {
        options.first { Self.flag($0.name) == flag }
    }

    /// Writes a value into the object's initial data.
    package static func set(_ name: String, to text: String, in object: inout ObjectSpec) throws(Failure) {
        for map in object.maps.indices {
            guard
                let variable = object.maps[map].variables.first(where: {
                    $0.name == name && ($0.isOption || !object.maps[map].isReadOnly)
                })
            else { continue }
            let bytes = try encode(text, variable)
            guard var contents = object.maps[map].contents, variable.offset + variable.size <= contents.count else {
                throw Failure.internalError("variable '\(name)' lies outside its section")
            }
            contents.replaceSubrange(variable.offset..<variable.offset + variable.size, with: bytes)
            object.maps[map].contents = contents
            return
        }
        throw Failure.unknownVariable(name, known: ObjectVariables(object).names)
    }

    /// Sets `VARIABLE=VALUE`, `MAP.max_entries=N` or `MAP[INDEX]=DIRECTORY` of a control group, as `--set` takes them.
    package static func set(assignment: String, in object: inout ObjectSpec) throws(Failure) {
        let parts = assignment.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2, !parts[0].isEmpty else {
            throw Failure.badOption("--set", value: assignment, expects: "NAME=VALUE")
        }
        let suffix = ".max_entries"
        if parts[0].hasSuffix(suffix) {
            let name = String(parts[0].dropLast(suffix.count))
            guard let map = object.maps.firstIndex(where: { $0.name == name && $0.contents == nil }) else {
                throw Failure.unknownVariable(
                    parts[0],
                    known: object.maps.filter { $0.contents == nil }.map { $0.name + suffix }
                )
            }
            guard let entries = UInt32(parts[1]), entries > 0 else {
                throw Failure.badOption("--set \(parts[0])", value: parts[1], expects: "a number of entries")
            }
            object.maps[map].maxEntries = Int(entries)
            return
        }
        if parts[0].hasSuffix("]"), let bracket = parts[0].firstIndex(of: "[") {
            let index = parts[0][parts[0].index(after: bracket)...].dropLast()
            return try set(String(parts[0][..<bracket]), String(index), group: parts[1], in: &object)
        }
        try set(parts[0], to: parts[1], in: &object)
    }

    /// Puts a control group into a CGROUP_ARRAY.
    private static func set(
        _ name: String,
        _ index: String,
        group path: String,
        in object: inout ObjectSpec
    ) throws(Failure) {
        guard let map = object.maps.firstIndex(where: { $0.name == name && $0.type == .cgroupArray }) else {
            throw Failure.unknownVariable(
                "\(name)[\(index)]",
                known: object.maps.filter { $0.type == .cgroupArray }.map { "\($0.name)[0]" }
            )
        }
        guard let number = Int(index), (0..<object.maps[map].maxEntries).contains(number) else {
            throw Failure.badOption(
                "--set \(name)[INDEX]",
                value: index,
                expects: "the number of an element, 0 to \(object.maps[map].maxEntries - 1)"
            )
        }
        guard ControlGroups.id(of: path) != nil else { throw .noControlGroup(path, name) }
        object.maps[map].initialElements.removeAll { $0.index == number }
        object.maps[map].initialElements.append(.init(index: number, value: .controlGroup(path)))
    }

    /// What a variable takes, for messages and for help.
    package static func expects(_ variable: VariableSpec) -> String {
        switch variable.kind {
        case .bool: "true or false"
        case .signed: "a number of \(variable.size * 8) bits"
        case .unsigned: "a number from 0 to \(variable.size == 8 ? UInt64.max : (UInt64(1) << (variable.size * 8)) - 1)"
        case .character: "text of at most \(max(1, variable.size - 1)) bytes"
        case .float: "a decimal number"
        case .other: "\(variable.size) bytes in hexadecimal"
        }
    }

    /// A value's bytes, little-endian.
    static func encode(_ text: String, _ variable: VariableSpec) throws(Failure) -> [UInt8] {
        func refused() -> Failure { .badOption(flag(variable.name), value: text, expects: expects(variable)) }
        switch variable.kind {
        case .bool:
            switch text.lowercased() {
            case "true", "yes", "on", "1": return padding([1], variable.size)
            case "false", "no", "off", "0": return padding([0], variable.size)
            default: throw refused()
            }
        case .signed:
            guard let value = parseSigned(text), fits(value, bytes: variable.size) else { throw refused() }
            return littleEndian(UInt64(bitPattern: value), variable.size)
        case .unsigned:
            // -1 stands for "no limit" in many tools, and in C it is the largest value.
            if let value = parseSigned(text), value == -1 { return littleEndian(UInt64.max, variable.size) }
            guard let value = parseUnsigned(text), variable.size >= 8 || value >> (UInt64(variable.size) * 8) == 0
            else {
                throw refused()
            }
            return littleEndian(value, variable.size)
        case .character:
            let bytes = Array(text.utf8)
            guard bytes.count < variable.size || (variable.size == 1 && bytes.count == 1) else { throw refused() }
            return padding(bytes, variable.size)
        case .float:
            if variable.size == 8, let value = Double(text) { return littleEndian(value.bitPattern, 8) }
            if variable.size == 4, let value = Float(text) { return littleEndian(UInt64(value.bitPattern), 4) }
            throw refused()
        case .other:
            guard let bytes = parseBytes(text), bytes.count == variable.size else { throw refused() }
            return bytes
        }
    }

    private static func littleEndian(_ value: UInt64, _ size: Int) -> [UInt8] {
        (0..<size).map { $0 < 8 ? UInt8(truncatingIfNeeded: value >> (UInt64($0) * 8)) : 0 }
    }

    private static func padding(_ bytes: [UInt8], _ size: Int) -> [UInt8] {
        bytes + Array(repeating: 0, count: max(0, size - bytes.count))
    }

    private static func fits(_ value: Int64, bytes: Int) -> Bool {
        guard bytes < 8 else { return true }
        let limit = Int64(1) << (Int64(bytes) * 8 - 1)
        return value >= -limit && value < limit
    }

    private static func parseSigned(_ text: String) -> Int64? {
        guard text.hasPrefix("-") else { return parseUnsigned(text).flatMap { Int64(exactly: $0) } }
        return parseUnsigned(String(text.dropFirst())).flatMap { $0 <= 1 << 63 ? Int64(bitPattern: ~$0 &+ 1) : nil }
    }

    private static func parseBytes(_ text: String) -> [UInt8]? {
        let digits = Array((text.hasPrefix("0x") ? String(text.dropFirst(2)) : text).filter { $0 != " " })
        guard digits.count.isMultiple(of: 2) else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let byte = UInt8(String(digits[index...index + 1]), radix: 16) else { return nil }
            bytes.append(byte)
        }
        return bytes
    }
}

/// A decimal or `0x` number, with `K`, `M` or `G` behind it for powers of 1024.
package func parseUnsigned(_ text: String) -> UInt64? {
    if text.hasPrefix("0x") { return UInt64(text.dropFirst(2), radix: 16) }
    let shift: UInt64
    switch text.last {
    case "k", "K": shift = 10
    case "m", "M": shift = 20
    case "g", "G": shift = 30
    default: shift = 0
    }
    guard let number = UInt64(shift == 0 ? text[...] : text.dropLast()), text.first != "+" else { return nil }
    let (value, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
    return overflow ? nil : value
}
