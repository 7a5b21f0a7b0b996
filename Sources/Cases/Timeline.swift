package import UBPFTesting

/// The runs of a case, instruction by instruction, and the state of its maps at any of them.
package final class Timeline {
    /// One `run` of the case.
    package struct Run {
        /// The line as it is written.
        package let text: String
        package let line: Int
        package let trace: Trace
    }

    /// A moment: the one before a point of a run; where the point is the run's count of points, the one after it.
    package struct Moment: Equatable {
        package var run: Int
        package var point: Int

        package init(run: Int, point: Int) {
            self.run = run
            self.point = point
        }
    }

    package let runs: [Run]
    /// What the case expected and did not find.
    package let failures: [CaseFailure]
    private let file: String
    private let test: Case
    private let object: BPFObject
    private let vm: VM
    private let headers: (String, String) throws -> BPFObject

    /// Runs the case once and keeps what its programs did.
    ///
    /// Races are run one after the other.
    package init(
        _ test: Case,
        of file: CaseFile,
        _ object: BPFObject,
        _ vm: VM,
        headers: @escaping (_ header: String, _ type: String) throws -> BPFObject
    ) {
        self.headers = headers
        self.file = file.path
        self.test = test
        self.object = object
        self.vm = vm
        var run = CaseRun(file: file.path, vm: vm, object: object, point: 0)
        run.headers = headers
        var runs: [Run] = []
        run.runner = { step, program, context in
            let trace = try vm.trace(program, context)
            runs.append(Run(text: step.text, line: step.line, trace: trace))
            switch trace.end {
            case .returned(let outcome): return outcome
            case .trapped(let trap): throw trap
            }
        }
        run.run(test)
        self.runs = runs
        failures = run.failures
    }

    /// What maps and variables hold at a moment: the case is run again up to there.
    package func maps(at moment: Moment) -> [String] {
        vm.reset()
        var found: [String]?
        var number = 0
        var run = CaseRun(file: file, vm: vm, object: object, point: 0)
        run.headers = headers
        let vm = vm
        let object = object
        run.runner = { [runs] _, program, context in
            defer { number += 1 }
            guard number == moment.run else { return try vm.run(program, context) }
            // The end of what is kept of a long run is in its middle, too.
            if moment.point < runs[number].trace.points.count || !runs[number].trace.isComplete {
                return try vm.run(program, context, interruptedAt: UInt64(moment.point)) {
                    found = found ?? Self.contents(object, vm)
                }.outcome
            }
            defer { found = found ?? Self.contents(object, vm) }
            return try vm.run(program, context)
        }
        run.run(test)
        return found ?? Self.contents(object, vm)
    }

    private static let entryLimit = 16

    private static func contents(_ object: BPFObject, _ vm: VM) -> [String] {
        var lines: [String] = []
        for name in object.state.maps {
            guard let map = try? vm.map(name) else { continue }
            let entries = map.entries.filter { !$0.value.isZero }
            if entries.isEmpty { continue }
            for (key, value) in entries.prefix(entryLimit) { lines.append("\(name)[\(key)] = \(value)") }
            if entries.count > entryLimit { lines.append("\(name): \(entries.count - entryLimit) more") }
        }
        for name in object.state.variables {
            if let value = try? vm.variable(name), !value.isZero { lines.append("\(name) = \(value)") }
        }
        return lines.isEmpty ? ["all maps are empty or zero"] : lines
    }
}

extension Value {
    /// Numbers that are 0, and what consists of them.
    fileprivate var isZero: Bool {
        switch self {
        case .integer(let number): number == 0
        case .float(let number): number == 0
        case .text(let text): text.isEmpty
        case .bytes(let bytes): bytes.allSatisfy { $0 == 0 }
        case .list(let values): values.allSatisfy(\.isZero)
        case .fields(let fields): fields.values.allSatisfy(\.isZero)
        }
    }
}
