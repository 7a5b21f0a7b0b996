import ISA
import Loader

/// Which source lines, branches and functions runs reached; the program is not changed for it.
///
/// A line or branch of an inlined function is that of all programs which contain it: reached in one of them, it is covered.
public struct Coverage: Equatable, Sendable {
    /// A branch, by its place in the source: all jumps that were compiled from it, in whatever copies.
    public struct Branch: Hashable, Sendable {
        /// In the source file, from 1.
        public let line: Int
        /// From 1, in bytes.
        public let column: Int
        /// Tells the parts of a condition apart that the compiler puts at one place.
        public let question: Question
    }

    /// A function of the source that is not inlined everywhere; programs are functions too.
    public struct Function: Equatable, Sendable {
        /// Where it begins.
        public let line: Int
        /// Calls.
        public internal(set) var count: UInt64
    }

    /// What is known of one source file.
    public struct File: Equatable, Sendable {
        /// Executions of each line that has code.
        public internal(set) var lines: [Int: UInt64] = [:]
        /// For each branch, how often it went each way.
        public internal(set) var branches: [Branch: [Edge: UInt64]] = [:]
        /// By name.
        public internal(set) var functions: [String: Function] = [:]
    }

    /// One of a branch's two ways: the answer to its question.
    public enum Edge: Int, Hashable, Sendable { case yes, no }

    /// What a branch asks: "is it equal?", "is it greater, or has it these bits?".
    public enum Question: Int, Hashable, Sendable { case equal, greater, signedGreater, bits }

    /// By path, as the object has it.
    public internal(set) var files: [String: File] = [:]

    /// Nothing was run.
    public init() {}

    /// Adds what other runs of the same source reached.
    public mutating func merge(_ other: Coverage) {
        for (path, more) in other.files {
            var file = files[path] ?? File()
            for (line, count) in more.lines { file.lines[line, default: 0] += count }
            for (branch, edges) in more.branches {
                for (edge, count) in edges { file.branches[branch, default: [:]][edge, default: 0] += count }
            }
            for (name, function) in more.functions {
                file.functions[name, default: Function(line: function.line, count: 0)].count += function.count
            }
            files[path] = file
        }
    }

    /// Adds the counts of a program's instructions.
    mutating func add(_ program: ProgramSpec, _ code: [LinkedInstruction], counts: [UInt64], taken: [UInt64]) {
        let places = Self.places(program, count: code.count)
        var own: [String: [Int: UInt64]] = [:]
        for (index, place) in places.enumerated() {
            guard let place else { continue }
            own[place.file, default: [:]][place.line, default: 0].formMax(counts[index])
        }
        for (file, lines) in own {
            for (line, count) in lines { files[file, default: File()].lines[line, default: 0] += count }
        }
        for (index, instruction) in code.enumerated() {
            guard case .conditionalJump(let comparison, _, _) = instruction.opcode.shape, let place = places[index]
            else { continue }
            let (question, holds) = comparison.question
            let branch = Branch(line: place.line, column: place.column, question: question)
            // The copies of an inlined function may have a condition turned round: a way is what the answer was.
            let passed = [taken[index], counts[index] - taken[index]]
            var edges = files[place.file, default: File()].branches[branch] ?? [:]
            edges[holds ? .yes : .no, default: 0] += passed[0]
            edges[holds ? .no : .yes, default: 0] += passed[1]
            files[place.file, default: File()].branches[branch] = edges
        }
        for function in program.functions {
            guard code.indices.contains(function.start), let place = places[function.start] else { continue }
            files[place.file, default: File()].functions[
                function.name,
                default: Function(line: place.line, count: 0)
            ].count += counts[function.start]
        }
    }

    private struct Place: Hashable {
        let file: String
        let line: Int
        let column: Int
    }

    /// Where each instruction comes from; line 0 is the compiler's own.
    private static func places(_ program: ProgramSpec, count: Int) -> [Place?] {
        var places = [Place?](repeating: nil, count: count)
        for (index, line) in program.lines.enumerated() {
            let end = index + 1 < program.lines.count ? program.lines[index + 1].instruction : count
            guard line.line > 0, line.instruction < end else { continue }
            for instruction in line.instruction..<min(end, count) {
                places[instruction] = Place(file: line.file, line: line.line, column: line.column)
            }
        }
        return places
    }
}

extension Comparison {
    /// The question that a jump asks, and whether it jumps for yes.
    fileprivate var question: (Coverage.Question, Bool) {
        switch self {
        case .equal: (.equal, true)
        case .notEqual: (.equal, false)
        case .greater, .greaterEqual: (.greater, true)
        case .less, .lessEqual: (.greater, false)
        case .signedGreater, .signedGreaterEqual: (.signedGreater, true)
        case .signedLess, .signedLessEqual: (.signedGreater, false)
        case .set: (.bits, true)
        }
    }
}

extension UInt64 {
    fileprivate mutating func formMax(_ other: UInt64) { self = Swift.max(self, other) }
}
