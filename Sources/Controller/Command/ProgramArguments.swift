package import Loader

/// The part of a command line that only the object can explain: its variables, and memleak's two positional numbers.
package struct ProgramArguments: Equatable, Sendable {
    package struct Assignment: Equatable, Sendable {
        package var name: String
        package var value: String
    }

    package var assignments: [Assignment] = []
    package var interval: Double?
    package var count: Int?

    /// Reads `--name VALUE`, `--name=VALUE`, `--flag`, `--no-flag`, `INTERVAL` and `COUNT`.
    package init(_ arguments: [String], variables: ObjectVariables, ownOptions: [String]) throws(Failure) {
        let known = ownOptions + variables.names.map(ObjectVariables.flag)
        var numbers: [String] = []
        var rest = arguments[...]
        while let word = rest.popFirst() {
            guard word.hasPrefix("-"), word.count > 1, Double(word) == nil else {
                numbers.append(word)
                continue
            }
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            if let variable = variables.variable(flag: parts[0]) {
                if variable.kind == .bool {
                    assignments.append(Assignment(name: variable.name, value: parts.count == 2 ? parts[1] : "true"))
                } else if parts.count == 2 {
                    assignments.append(Assignment(name: variable.name, value: parts[1]))
                } else {
                    guard let value = rest.popFirst() else { throw Failure.missingValue(word) }
                    assignments.append(Assignment(name: variable.name, value: value))
                }
            } else if parts.count == 1, word.hasPrefix("--no-"),
                let variable = variables.variable(flag: "--" + word.dropFirst(5)), variable.kind == .bool
            {
                assignments.append(Assignment(name: variable.name, value: "false"))
            } else {
                throw Failure.unknownOption(parts[0], known: known)
            }
        }
        try readNumbers(numbers)
    }

    private mutating func readNumbers(_ numbers: [String]) throws(Failure) {
        if let first = numbers.first {
            guard let seconds = Double(first), seconds > 0 else {
                throw Failure.usage("unexpected argument '\(first)'", help: "a command to run comes after --")
            }
            interval = seconds
        }
        if numbers.count > 1 {
            guard let number = Int(numbers[1]), number > 0 else {
                throw Failure.usage("unexpected argument '\(numbers[1])'", help: "INTERVAL and COUNT are numbers")
            }
            count = number
        }
        if numbers.count > 2 { throw Failure.usage("unexpected argument '\(numbers[2])'") }
    }

    /// The lines of `--help` about an object's own options.
    package static func help(_ object: ObjectSpec) -> String {
        let variables = ObjectVariables(object).options
        guard !variables.isEmpty else { return "\(object.name) has no options of its own.\n" }
        var text = "OPTIONS OF \(object.name) (its `const volatile` variables):\n"
        for variable in variables {
            let flag = ObjectVariables.flag(variable.name)
            let form = variable.kind == .bool ? "--[no-]\(flag.dropFirst(2))" : "\(flag) <value>"
            let value = defaultText(variable, in: object).map { " (default: \($0))" } ?? ""
            text += "  \(aligned(form, to: 26)) \(ObjectVariables.expects(variable))\(value)\n"
        }
        return text
    }

    /// The value that a variable has in the object.
    package static func defaultText(_ variable: VariableSpec, in object: ObjectSpec) -> String? {
        for map in object.maps {
            guard let contents = map.contents, map.variables.contains(where: { $0.name == variable.name }),
                variable.offset + variable.size <= contents.count
            else { continue }
            let bytes = Array(contents[variable.offset..<variable.offset + variable.size])
            let raw = littleEndian(bytes, at: 0, size: min(8, variable.size))
            switch variable.kind {
            case .bool: return raw == 0 ? "false" : "true"
            case .unsigned: return String(raw)
            case .signed:
                let shift = 64 - min(64, UInt64(variable.size) * 8)
                return String(Int64(bitPattern: raw << shift) >> Int64(shift))
            case .character: return "\"\(String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self))\""
            case .float:
                return variable.size == 8
                    ? String(Double(bitPattern: raw)) : String(Float(bitPattern: UInt32(truncatingIfNeeded: raw)))
            case .other: return hexadecimal(bytes: bytes)
            }
        }
        return nil
    }
}
