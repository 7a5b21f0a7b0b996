import ISA
import Loader

/// Which source lines, branches and functions runs reached; the program is not changed for it.
///
/// A line or branch of an inlined function is that of all programs which contain it: reached in one of them, it is covered.
public struct Coverage: Equatable, Sendable {
    /// A branch: where it is in the source, and what it is told apart by from others there.
    public struct Branch: Hashable, Sendable {
        /// In the source file, from 1.
        public let line: Int
        /// From 1, in bytes.
        public let column: Int
        /// Of several branches at that place.
        public let number: Int
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
        /// For each branch, executions by the line where they went on.
        public internal(set) var branches: [Branch: [Edge: UInt64]] = [:]
        /// By name.
        public internal(set) var functions: [String: Function] = [:]
    }

    /// One of a branch's two ways, by where it leads.
    public struct Edge: Hashable, Sendable {
        /// Of what comes next.
        public let line: Int
        /// Of what comes next.
        public let column: Int
        /// Tells the two apart where both lead to the same place.
        public let number: Int
    }

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
        var numbers: [Place: Int] = [:]
        for (index, instruction) in code.enumerated() {
            guard case .conditionalJump = instruction.opcode.shape, let place = places[index] else { continue }
            let branch = Branch(line: place.line, column: place.column, number: numbers[place, default: 0])
            numbers[place, default: 0] += 1
            let jump = places[Int(instruction.target)] ?? place
            let next = places[index + 1] ?? place
            // The copies of an inlined function may have a condition turned round: an edge is where it leads.
            let isSame = jump == next
            let ways = [
                Edge(line: jump.line, column: jump.column, number: 0),
                Edge(line: next.line, column: next.column, number: isSame ? 1 : 0),
            ]
            let passed = [taken[index], counts[index] - taken[index]]
            var edges = files[place.file, default: File()].branches[branch] ?? [:]
            for (way, count) in zip(ways, passed) {
                // Where a copy's edge leads elsewhere than the known two, it counts for the one in the same position.
                let known =
                    edges[way] == nil && edges.count >= 2
                    ? edges.keys.sorted { $0.line < $1.line }[way == ways[0] ? 0 : 1] : way
                edges[known, default: 0] += count
            }
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

extension UInt64 {
    fileprivate mutating func formMax(_ other: UInt64) { self = Swift.max(self, other) }
}
