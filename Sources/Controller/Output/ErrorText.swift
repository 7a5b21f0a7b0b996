import CLinux

/// What an errno value means, in words.
package func errorText(_ number: Int32) -> String { unsafe String(cString: clinux_error_text(number)) }

/// `exit code 1`, or `signal 9` for 128 and above.
package func exitText(_ status: Int32) -> String {
    status > 128 ? "signal \(status - 128)" : "exit code \(status)"
}

/// The candidate nearest to `name`, if it is near enough to be a slip of the finger.
package func nearest(_ name: String, among candidates: [String]) -> String? {
    let limit = max(1, name.count / 3)
    var best: (distance: Int, name: String)?
    for candidate in candidates {
        let distance = editDistance(Array(name.utf8), Array(candidate.utf8))
        if distance <= limit, distance < best?.distance ?? Int.max { best = (distance, candidate) }
    }
    return best?.name
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var older: [Int] = []
    var previous = Array(0...b.count)
    for i in a.indices {
        var current = [i + 1]
        for j in b.indices {
            var cost = min(previous[j + 1] + 1, current[j] + 1, previous[j] + (a[i] == b[j] ? 0 : 1))
            if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, older[j - 1] + 1) }
            current.append(cost)
        }
        older = previous
        previous = current
    }
    return previous[b.count]
}
