extension Coverage {
    /// Covered and all of something.
    public struct Share: Equatable, Sendable, CustomStringConvertible {
        /// What was reached.
        public let covered: Int
        /// All there is.
        public let total: Int
        /// 100 where there is nothing to cover.
        public var percent: Double { total == 0 ? 100 : 100 * Double(covered) / Double(total) }
        /// Like `97.5 % (39 of 40)`.
        public var description: String {
            let tenths = Int((percent * 10).rounded(.down))
            return "\(tenths / 10).\(tenths % 10) % (\(covered) of \(total))"
        }
    }

    /// Lines that were executed.
    public var lines: Share {
        share(files.values.flatMap { $0.lines.values.map { $0 > 0 } })
    }

    /// Edges of branches that were gone; a branch has two.
    public var branches: Share {
        share(files.values.flatMap { $0.branches.values.flatMap { $0.values.map { $0 > 0 } } })
    }

    /// Functions that were called.
    public var functions: Share {
        share(files.values.flatMap { $0.functions.values.map { $0.count > 0 } })
    }

    private func share(_ all: [Bool]) -> Share { Share(covered: all.count { $0 }, total: all.count) }

    /// Lines of a file that have code and were never executed.
    public func uncoveredLines(_ path: String) -> [Int] {
        (files[path]?.lines ?? [:]).filter { $0.value == 0 }.keys.sorted()
    }

    /// Lines of a file with a branch that only ever went one way, or was never reached.
    public func partialBranches(_ path: String) -> [Int] {
        let partial = (files[path]?.branches ?? [:]).filter { $0.value.values.contains(0) }
        return Set(partial.keys.map(\.line)).sorted()
    }

    /// For people: shares, and for each file the lines that are missing.
    public var summary: String {
        var text = ["lines \(lines)", "branches \(branches)", "functions \(functions)"]
        for path in files.keys.sorted() {
            let missing = uncoveredLines(path)
            let partial = partialBranches(path).filter { !missing.contains($0) }
            if missing.isEmpty && partial.isEmpty { continue }
            text.append("\(path):")
            if !missing.isEmpty { text.append("  never reached: \(Self.ranges(missing))") }
            if !partial.isEmpty { text.append("  one way only: \(Self.ranges(partial))") }
        }
        return text.joined(separator: "\n")
    }

    /// For genhtml(1) and editors: the tracefile format of geninfo(1).
    public func lcov(test: String = "") -> String {
        var text = ["TN:\(test)"]
        for path in files.keys.sorted() {
            guard let file = files[path] else { continue }
            text.append("SF:\(path)")
            let functions = file.functions.sorted { ($0.value.line, $0.key) < ($1.value.line, $1.key) }
            text += functions.map { "FN:\($0.value.line),\($0.key)" }
            text += functions.map { "FNDA:\($0.value.count),\($0.key)" }
            text += ["FNF:\(functions.count)", "FNH:\(functions.count { $0.value.count > 0 })"]
            let branches = file.branches.sorted {
                ($0.key.line, $0.key.column, $0.key.question.rawValue)
                    < ($1.key.line, $1.key.column, $1.key.question.rawValue)
            }
            var edges: [UInt64] = []
            for (block, branch) in branches.enumerated() {
                let reached = branch.value.values.contains { $0 > 0 }
                let ways = branch.value.sorted { $0.key.rawValue < $1.key.rawValue }
                for (number, edge) in ways.enumerated() {
                    edges.append(edge.value)
                    text.append("BRDA:\(branch.key.line),\(block),\(number),\(reached ? "\(edge.value)" : "-")")
                }
            }
            text += ["BRF:\(edges.count)", "BRH:\(edges.count { $0 > 0 })"]
            text += file.lines.sorted { $0.key < $1.key }.map { "DA:\($0.key),\($0.value)" }
            text += ["LF:\(file.lines.count)", "LH:\(file.lines.values.count { $0 > 0 })", "end_of_record"]
        }
        return text.joined(separator: "\n") + "\n"
    }

    /// Like `3-5, 9`.
    static func ranges(_ numbers: [Int]) -> String {
        var parts: [ClosedRange<Int>] = []
        for number in numbers {
            if let last = parts.last, last.upperBound + 1 == number {
                parts[parts.count - 1] = last.lowerBound...number
            } else {
                parts.append(number...number)
            }
        }
        return parts.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }.joined(
            separator: ", "
        )
    }
}
