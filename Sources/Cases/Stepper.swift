import UBPFTesting

/// Walks along a timeline, forwards and backwards, by commands.
package struct Stepper {
    private let timeline: Timeline
    private var moment = Timeline.Moment(run: 0, point: 0)
    private var breakpoints: [Breakpoint] = []
    private var last: (StepWord, String) = (.step, "")

    /// Where `continue` and `reverse` stop.
    private enum Breakpoint: Equatable {
        case line(Int)
        case map(String)
        case helper(String)

        var text: String {
            switch self {
            case .line(let number): "line \(number)"
            case .map(let name): "map \(name)"
            case .helper(let name): "call \(name)"
            }
        }
    }

    package init(_ timeline: Timeline) { self.timeline = timeline }

    /// What to show at first.
    package var start: String {
        timeline.runs.isEmpty ? "nothing runs in this case" : place(withRun: true)
    }

    /// Does what a line says, an empty one what the last one said; nil ends it.
    package mutating func perform(_ line: String) -> String? {
        let words = line.split(separator: " ").map(String.init)
        let word: StepWord
        let rest: String
        if let first = words.first {
            guard let known = StepWord(first) else { return "no command '\(first)'; help lists them" }
            (word, rest) = (known, words.dropFirst().joined(separator: " "))
            last = (word, rest)
        } else {
            (word, rest) = last
        }
        if case .quit = word { return nil }
        if case .help = word { return StepWord.table }
        if timeline.runs.isEmpty { return start }
        let before = moment
        switch word {
        case .step: moment = walked(1, isOtherLine)
        case .back: moment = lineBefore()
        case .instruction: moment = walked(1) { _, _ in true }
        case .backInstruction: moment = walked(-1) { _, _ in true }
        case .continue: moment = walked(1) { _, now in breakpoints.contains { isHit(now, $0) } }
        case .reverse: moment = walked(-1) { _, now in breakpoints.contains { isHit(now, $0) } }
        case .break: return addBreakpoint(rest)
        case .delete: return deleteBreakpoint(rest)
        case .registers: return registers()
        case .list: return listing()
        case .maps: return timeline.maps(at: moment).joined(separator: "\n")
        case .runs: return runs()
        case .help, .quit: return nil
        }
        if moment == before { return isAtEnd ? ending() : "this is the start\n\(place(withRun: true))" }
        return place(withRun: moment.run != before.run)
    }

    // MARK: Walking

    private var trace: Trace { timeline.runs[moment.run].trace }
    private var isAtEnd: Bool { moment == end }
    private var end: Timeline.Moment {
        let run = timeline.runs.count - 1
        return Timeline.Moment(run: run, point: timeline.runs[run].trace.points.count)
    }

    private func point(_ moment: Timeline.Moment) -> Trace.Point? {
        let points = timeline.runs[moment.run].trace.points
        return points.indices.contains(moment.point) ? points[moment.point] : nil
    }

    /// The next moment that way; nil at the end.
    private func neighbour(of moment: Timeline.Moment, _ direction: Int) -> Timeline.Moment? {
        var next = moment
        next.point += direction
        if next.point < 0 {
            guard next.run > 0 else { return nil }
            next.run -= 1
            next.point = timeline.runs[next.run].trace.points.count
        } else if next.point > timeline.runs[next.run].trace.points.count {
            guard next.run + 1 < timeline.runs.count else { return nil }
            next = Timeline.Moment(run: next.run + 1, point: 0)
        }
        return next
    }

    /// The first moment that way of which `stops` says so, beside the present one; else the last.
    private func walked(_ direction: Int, _ stops: (Timeline.Moment, Timeline.Moment) -> Bool) -> Timeline.Moment {
        var now = moment
        while let next = neighbour(of: now, direction) {
            now = next
            if stops(moment, now) { break }
        }
        return now
    }

    /// The start of the line before this one.
    private func lineBefore() -> Timeline.Moment {
        let line = walked(-1, isOtherLine)
        var start = line
        while let next = neighbour(of: start, -1), !isOtherLine(line, next) { start = next }
        return start
    }

    /// Another line, program, frame or run; ends of runs are lines of their own.
    private func isOtherLine(_ a: Timeline.Moment, _ b: Timeline.Moment) -> Bool {
        guard a.run == b.run, let first = point(a), let second = point(b) else { return true }
        let (one, other) = (trace.source(of: first), trace.source(of: second))
        return one?.line != other?.line || one?.file != other?.file || first.registers[10] != second.registers[10]
            || trace.program(at: first) != trace.program(at: second)
    }

    private func isHit(_ moment: Timeline.Moment, _ breakpoint: Breakpoint) -> Bool {
        let trace = timeline.runs[moment.run].trace
        guard let point = point(moment) else { return false }
        switch breakpoint {
        case .line(let number):
            // Where the line begins, not at each of its instructions.
            guard trace.source(of: point)?.line == number else { return false }
            return neighbour(of: moment, -1).map { isOtherLine($0, moment) } ?? true
        case .map(let name): return trace.mapWritten(at: moment.point) == name
        case .helper(let name): return trace.helper(at: moment.point) == name
        }
    }

    // MARK: Breakpoints

    private mutating func addBreakpoint(_ text: String) -> String {
        let words = text.split(separator: " ").map(String.init)
        let breakpoint: Breakpoint
        switch (words.first, words.dropFirst().first) {
        case (nil, _):
            return breakpoints.isEmpty ? "no breakpoints" : breakpoints.map(\.text).joined(separator: "\n")
        case ("map", let name?): breakpoint = .map(name)
        case ("call", let name?): breakpoint = .helper(name.hasPrefix("bpf_") ? String(name.dropFirst(4)) : name)
        case (let number?, nil):
            guard let line = Int(number) else { return Self.breakUsage }
            breakpoint = .line(line)
        default: return Self.breakUsage
        }
        if !breakpoints.contains(breakpoint) { breakpoints.append(breakpoint) }
        // One that the case never comes to is most likely a mistake.
        let hits = timeline.runs.indices.reduce(0) { sum, run in
            sum
                + timeline.runs[run].trace.points.indices.count {
                    isHit(Timeline.Moment(run: run, point: $0), breakpoint)
                }
        }
        return "\(breakpoint.text): \(hits) in this case"
    }

    private mutating func deleteBreakpoint(_ text: String) -> String {
        let before = breakpoints.count
        let name = text.replacing("call bpf_", with: "call ")
        breakpoints.removeAll { text.isEmpty || $0.text == name || $0.text == "line \(text)" }
        return "\(before - breakpoints.count) deleted"
    }

    private static let breakUsage = "break LINE, break map NAME (what changes it), or break call HELPER"

    // MARK: Showing

    private func place(withRun: Bool) -> String {
        var lines: [String] = []
        let run = timeline.runs[moment.run]
        if withRun { lines.append("line \(run.line): \(run.text)") }
        guard let point = point(moment) else { return (lines + [outcome(of: run.trace)]).joined(separator: "\n") }
        if let source = trace.source(of: point) {
            let file = source.file.split(separator: "/").last.map(String.init) ?? source.file
            lines.append("\(file):\(source.line)  \(source.text.drop { $0 == " " || $0 == "\t" })")
        }
        var text = "  \(trace.program(at: point)) \(point.instruction): \(trace.text(of: point))"
        if let call = trace.call(at: moment.point) { text += "  -> \(call)" }
        return (lines + [text]).joined(separator: "\n")
    }

    private func outcome(of trace: Trace) -> String {
        if !trace.isComplete { return "  (the run goes on; \(Trace.limit) instructions are kept)" }
        switch trace.end {
        case .returned(let outcome): return "  returns \(outcome.code)"
        case .trapped(let trap): return "  \(trap)"
        }
    }

    private func ending() -> String {
        let failures = timeline.failures.map { "\($0.file):\($0.line): \($0.statement)\n  \($0.reason)" }
        return (["this is the end of the case"] + failures).joined(separator: "\n")
    }

    private func registers() -> String {
        guard let point = point(moment) else { return outcome(of: trace) }
        return point.registers.indices.map { index in
            let value = point.registers[index]
            let number = value < 10 ? "\(value)" : "\(Int64(bitPattern: value))  0x\(String(value, radix: 16))"
            return "r\(index)\(index < 10 ? " " : "") \(trace.meaning(of: index, at: point) ?? number)"
        }.joined(separator: "\n")
    }

    /// The lines of the source that this run comes to, with a mark at the present one.
    private func listing() -> String {
        let here = point(moment).flatMap { trace.source(of: $0) }
        var seen: [Int: String] = [:]
        for point in trace.points {
            guard let source = trace.source(of: point), here == nil || source.file == here?.file else { continue }
            seen[source.line] = source.text
        }
        return seen.sorted { $0.key < $1.key }.map { "\($0.key == here?.line ? ">" : " ") \($0.key)  \($0.value)" }
            .joined(separator: "\n")
    }

    private func runs() -> String {
        timeline.runs.indices.map { index in
            let run = timeline.runs[index]
            let end = outcome(of: run.trace).drop { $0 == " " }
            return
                "\(index == moment.run ? ">" : " ") line \(run.line): \(run.text): \(run.trace.points.count) instructions, \(end)"
        }.joined(separator: "\n")
    }
}
