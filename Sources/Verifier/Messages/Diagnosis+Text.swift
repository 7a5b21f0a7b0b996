// The form is that of compilers: headline, place, source with carets, then what to do.

extension Diagnosis {
    /// The diagnosis in lines for a terminal; `code` is the rule's where nothing else is given.
    package func text(code: String? = nil) -> String {
        var lines = ["error[\(code ?? rule.code)]: \(headline): \(category)"]
        let gutter = max(2, ([primary] + secondary).map { number($0).count }.max() ?? 2)
        let margin = String(repeating: " ", count: gutter)
        lines.append("\(margin)--> \(location)")
        lines += snippet(gutter)
        if !causalPath.isEmpty { lines.append("Causal path: " + causalPath.joined(separator: "\n          -> ")) }
        lines.append("Suggestion: \(suggestion.split(separator: "\n").joined(separator: "\n            "))")
        if let kernel { lines.append("note: the Linux verifier says \"\(kernel)\"") }
        return lines.joined(separator: "\n")
    }

    /// `bad.bpf.c:10:5   in on_malloc, insn 7`.
    package var location: String {
        guard rule != .empty else { return program }
        let inside = function == program ? "in \(program)" : "in \(function) (program \(program))"
        guard let source = primary.source else { return "\(inside), insn \(primary.slot)" }
        let column = source.column > 0 ? ":\(source.column)" : ""
        return "\(source.file):\(source.line)\(column)   \(inside), insn \(primary.slot)"
    }

    private func number(_ place: Place) -> String { String(place.source?.line ?? place.slot) }

    /// Source lines, or instructions where there are none, each followed by its marks.
    private func snippet(_ gutter: Int) -> [String] {
        guard rule != .empty else { return [String(repeating: " ", count: gutter) + " = \(what)"] }
        // Lines of other files are not between those of this one.
        let near = secondary.filter { $0.source?.file == primary.source?.file }
        let all = near.map { ($0, Character("-")) } + [(primary, Character("^"))]
        var lines: [String] = []
        var last: String?
        let ordered = all.sorted { order($0.0) < order($1.0) }
        for (place, mark) in ordered {
            let number = number(place)
            let text = shown(place)
            if number != last { lines.append(pad(number, gutter) + " | " + text) }
            last = number
            let (start, length) = mark == "^" && place.source == nil ? (0, text.count) : span(place)
            let underline = String(repeating: mark, count: max(1, mark == "^" && place.source != nil ? 1 : length))
            lines.append(pad("", gutter) + " | " + String(repeating: " ", count: start) + underline + " " + place.label)
        }
        for place in secondary where place.source?.file != primary.source?.file {
            lines.append(
                pad("", gutter)
                    + " = \(place.source.map { "\($0.file):\($0.line)" } ?? "insn \(place.slot)"): \(place.label)"
            )
        }
        return lines
    }

    private func order(_ place: Place) -> (Int, Int) { (place.source?.line ?? place.slot, place.source?.column ?? 0) }

    /// A line as it is printed: tabs take one column, as compilers count.
    private func shown(_ place: Place) -> String {
        guard let source = place.source else { return place.code }
        return source.text.isEmpty ? place.code : String(source.text.map { $0 == "\t" ? " " : $0 })
    }

    /// Start and length of what a place underlines: the identifier at the column, with its arguments.
    private func span(_ place: Place) -> (start: Int, length: Int) {
        guard let source = place.source, !source.text.isEmpty else { return (0, shown(place).count) }
        let text = Array(shown(place))
        let start = source.column > 0 ? source.column - 1 : text.firstIndex { $0 != " " } ?? 0
        guard start < text.count else { return (0, 1) }
        var end = start
        while end < text.count, text[end].isLetter || text[end].isNumber || text[end] == "_" { end += 1 }
        if end > start, end < text.count, text[end] == "(" {
            var depth = 0
            while end < text.count {
                if text[end] == "(" { depth += 1 }
                if text[end] == ")" { depth -= 1 }
                end += 1
                if depth == 0 { break }
            }
        }
        return (start, max(1, end - start))
    }

    private func pad(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
    }
}
