/// A shell pattern over bytes: `*`, `?`, `[abc]`, `[a-z]`, `[!a]` (glob(7), without path rules).
package struct Glob: Sendable {
    private let pattern: [UInt8]

    package init(_ pattern: String) {
        self.pattern = Array(pattern.utf8)
    }

    /// Whether a text has pattern characters at all.
    package static func isPattern(_ text: String) -> Bool {
        text.utf8.contains { $0 == UInt8(ascii: "*") || $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "[") }
    }

    /// Linear matching: on a mismatch only the last `*` is tried again.
    package func matches(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        var position = 0
        var index = 0
        var star: (pattern: Int, text: Int)?
        while index < bytes.count {
            if position < pattern.count, pattern[position] == UInt8(ascii: "*") {
                star = (position, index)
                position += 1
            } else if let next = matchOne(position, bytes[index]) {
                position = next
                index += 1
            } else if let last = star {
                star = (last.pattern, last.text + 1)
                position = last.pattern + 1
                index = last.text + 1
            } else {
                return false
            }
        }
        return pattern[position...].allSatisfy { $0 == UInt8(ascii: "*") }
    }

    /// The position after the pattern element at `position` when it matches `byte`.
    private func matchOne(_ position: Int, _ byte: UInt8) -> Int? {
        guard position < pattern.count else { return nil }
        switch pattern[position] {
        case UInt8(ascii: "?"): return position + 1
        case UInt8(ascii: "["):
            guard let end = pattern[(position + 1)...].dropFirst().firstIndex(of: UInt8(ascii: "]")) else {
                return byte == UInt8(ascii: "[") ? position + 1 : nil
            }
            var set = pattern[(position + 1)..<end]
            let negated = set.first == UInt8(ascii: "!")
            if negated { set = set.dropFirst() }
            var found = false
            var index = set.startIndex
            while index < set.endIndex {
                if index + 2 < set.endIndex, set[index + 1] == UInt8(ascii: "-") {
                    if set[index] <= byte, byte <= set[index + 2] { found = true }
                    index += 3
                } else {
                    if set[index] == byte { found = true }
                    index += 1
                }
            }
            return found != negated ? end + 1 : nil
        default: return pattern[position] == byte ? position + 1 : nil
        }
    }
}

/// Edits (insert, delete, replace, swap of neighbours) between two names, or nil when more than `limit`.
package func editDistance(_ first: [UInt8], _ second: [UInt8], limit: Int) -> Int? {
    guard abs(first.count - second.count) <= limit else { return nil }
    var beforeLast: [Int] = []
    var last = Array(0...second.count)
    for (row, byte) in first.enumerated() {
        var current = [row + 1]
        var smallest = row + 1
        for (column, other) in second.enumerated() {
            var best = min(last[column + 1], current[column]) + 1
            best = min(best, last[column] + (byte == other ? 0 : 1))
            if row > 0, column > 0, byte == second[column - 1], first[row - 1] == other {
                best = min(best, beforeLast[column - 1] + 1)
            }
            current.append(best)
            smallest = min(smallest, best)
        }
        if smallest > limit { return nil }
        beforeLast = last
        last = current
    }
    return last[second.count] <= limit ? last[second.count] : nil
}

/// The nearest three names: fewest edits first, exported before static, then by alphabet.
func nearestNames(to name: String, among symbols: [FunctionSymbol]) -> [String] {
    let wanted = Array(name.utf8)
    let limit = max(1, min(3, wanted.count / 3))
    var ranked: [String: (distance: Int, isExported: Bool)] = [:]
    for symbol in symbols where abs(symbol.name.utf8.count - wanted.count) <= limit {
        guard let distance = editDistance(wanted, Array(symbol.name.utf8), limit: limit), distance > 0 else { continue }
        let isExported = symbol.isExported || ranked[symbol.name]?.isExported == true
        ranked[symbol.name] = (distance, isExported)
    }
    let order = ranked.sorted { first, second in
        (first.value.distance, first.value.isExported ? 0 : 1, first.key)
            < (second.value.distance, second.value.isExported ? 0 : 1, second.key)
    }
    return order.prefix(3).map(\.key)
}
