package import UBPFTesting

/// What came of a case.
package struct CaseResult: Sendable {
    package let file: String
    package let name: String
    package let line: Int
    /// Empty where it passed.
    package internal(set) var failures: [CaseFailure] = []
    package internal(set) var nanoseconds: UInt64 = 0
    package var hasPassed: Bool { failures.isEmpty }
}

/// An expectation that was not met, or something that could not be done.
package struct CaseFailure: Equatable, Sendable {
    package let file: String
    package let line: Int
    /// The line, as it is written.
    package let statement: String
    package let reason: String
}

extension CaseFailure {
    /// The same with the order of a race.
    fileprivate func adding(_ order: String) -> CaseFailure {
        CaseFailure(
            file: file,
            line: line,
            statement: statement,
            reason: order.isEmpty ? reason : "\(reason)\n\(order)"
        )
    }
}

extension Case {
    /// Its race, if it has one.
    fileprivate var race: Action.Race? {
        for step in steps { if case .race(let race) = step.action { return race } }
        return nil
    }
}

/// Runs the cases of one file on one loaded object.
package final class Runner {
    private let file: CaseFile
    private let object: BPFObject
    /// Reads an object that a case takes types from.
    private let types: (String) throws -> KernelTypes
    /// Reads a struct of a header that a case takes records as.
    let headers: (_ header: String, _ type: String) throws -> BPFObject
    private var machines: [Settings: VM] = [:]
    private let countsCoverage: Bool
    private let engine: Engine

    package init(
        _ file: CaseFile,
        _ object: BPFObject,
        countsCoverage: Bool = false,
        engine: Engine = .interpreter,
        types: @escaping (String) throws -> KernelTypes,
        headers: @escaping (_ header: String, _ type: String) throws -> BPFObject
    ) {
        self.file = file
        self.object = object
        self.types = types
        var known: [String: BPFObject] = [:]
        self.headers = { header, type in
            if let object = known["\(header):\(type)"] { return object }
            let object = try headers(header, type)
            known["\(header):\(type)"] = object
            return object
        }
        self.countsCoverage = countsCoverage
        self.engine = engine
    }

    /// Of all cases that ran.
    package var coverage: Coverage {
        var all = Coverage()
        for machine in machines.values { all.merge(machine.coverage) }
        return all
    }

    package func run(_ test: Case) -> CaseResult {
        var result = CaseResult(file: file.path, name: test.name, line: test.line)
        let clock = ContinuousClock()
        let began = clock.now
        do {
            result.failures = try test.race.map { try explore(test, $0) } ?? attempt(test, 0).failures
        } catch {
            result.failures = [
                CaseFailure(file: file.path, line: test.line, statement: "case \(test.name)", reason: "\(error)")
            ]
        }
        let took = (clock.now - began).components
        result.nanoseconds = UInt64(took.seconds * 1_000_000_000 + took.attoseconds / 1_000_000_000)
        return result
    }

    /// Runs a case once, with the second program of its race at a point of the first.
    private func attempt(_ test: Case, _ point: UInt64) throws -> CaseRun {
        var run = CaseRun(file: file.path, vm: try machine(test.settings), object: object, point: point)
        run.headers = headers
        run.run(test)
        return run
    }

    /// Points of a program that races try.
    private static let pointLimit: UInt64 = 100_000

    /// Runs a case for each order of its race; failures of the first order that has some, or of the last where one is enough.
    private func explore(_ test: Case, _ race: Action.Race) throws -> [CaseFailure] {
        var last: [CaseFailure] = []
        for point in 0..<Self.pointLimit {
            let run = try attempt(test, point)
            if run.failures.isEmpty == race.isSometimes { return run.failures.map { $0.adding(run.order ?? "") } }
            last = run.failures
            if run.order == nil { break }
        }
        return race.isSometimes ? last.map { $0.adding("in none of the orders") } : []
    }

    /// The VM for a case's settings, fresh.
    func machine(_ settings: Settings) throws -> VM {
        if let known = machines[settings] {
            known.reset()
            return known
        }
        var object = object
        for (name, value) in settings.variables { try object.set(name, to: value) }
        for (program, section) in settings.sections { try object.set(section: section, of: program) }
        for map in Set(settings.entries.keys).union(settings.valueSizes.keys) {
            try object.resize(map: map, maxEntries: settings.entries[map], valueSize: settings.valueSizes[map])
        }
        let machine = try VM(
            object,
            verifies: settings.verifies,
            cpus: settings.cpus,
            types: try types(settings.types)
        )
        machine.countsCoverage = countsCoverage
        try machine.use(engine)
        machines[settings] = machine
        return machine
    }
}

/// One case as it runs.
struct CaseRun {
    let file: String
    let vm: VM
    let object: BPFObject
    private(set) var failures: [CaseFailure] = []
    private var outcome: Program.Outcome?
    private var trap: Trap?
    /// The line that trapped, until a `traps` expects it.
    private var trapped: Step?
    private var events: [String: [Value]] = [:]
    private var printed: [String] = []

    /// Runs the program of a step; what steps through a case puts its own here.
    var runner: (Step, String, Context) throws -> Program.Outcome
    /// An object that knows a header's struct.
    var headers: (String, String) throws -> BPFObject

    /// Where the second program of a race runs in the first.
    private let point: UInt64
    /// The order that was tried; nil where the first program ended before the point.
    private(set) var order: String?

    init(file: String, vm: VM, object: BPFObject, point: UInt64) {
        self.point = point
        self.file = file
        self.vm = vm
        self.object = object
        runner = { try vm.run($1, $2) }
        headers = { throw TestingError.noHeaders("\($0):\($1)") }
        // Lines of the case before.
        _ = vm.printedLines()
    }

    mutating func run(_ test: Case) {
        for step in test.steps {
            if let cause = trapped {
                if case .traps = step.action {
                    trapped = nil
                } else {
                    return fail(cause, "the program trapped: \(trap?.description ?? "")")
                }
            }
            do {
                if let reason = try perform(step) { fail(step, reason) }
            } catch {
                // What cannot be done makes the rest meaningless.
                return fail(step, "\(error)")
            }
        }
        if let cause = trapped { fail(cause, "the program trapped: \(trap?.description ?? "")") }
    }

    private mutating func fail(_ step: Step, _ reason: String) {
        failures.append(CaseFailure(file: file, line: step.line, statement: step.text, reason: reason))
    }

    /// Does a step; the reason where it expects something else.
    private mutating func perform(_ step: Step) throws -> String? {
        switch step.action {
        case .number(let field, let value): set(field, value)
        case .comm(let name): vm.world.comm = name
        case .advance(let nanoseconds): vm.world.clock &+= nanoseconds
        case .stack(let frames, let isKernel):
            if isKernel { vm.world.kernelStack = frames } else { vm.world.stack = frames }
        case .controlGroups(let ids): vm.world.controlGroups = ids
        case .memory(let address, let value): try place(value, at: address)
        case .mapSet(let name, let key, let value):
            if let value { try vm.map(name).set(value, at: key) } else { try vm.map(name).remove(at: key) }
        case .variableSet(let name, let value): try vm.set(name, to: value)
        case .fail(let helper, let map, let call, let errno): try vm.fail(helper, map: map, call: call, with: errno)
        case .mock(let helper, let values, let written):
            let first = try vm.calls(of: helper)
            let bytes = try written.map { ($0.argument - 1, try self.bytes($0.value)) }
            try vm.mock(helper) { call in
                if let (argument, bytes) = bytes { call.write(bytes, to: argument) }
                return values[min(call.number - first - 1, values.count - 1)]
            }
        case .run(let program, let context):
            (outcome, trap, trapped) = (nil, nil, nil)
            do { outcome = try runner(step, program, context) } catch let error as Trap {
                (trap, trapped) = (error, step)
            }
        case .race(let race): try run(race, step)
        case .returns(let value): return try expectReturn(value)
        case .traps(let kind, let line): return expectTrap(kind, line)
        case .mapIs(let name, let key, let value, let negated):
            let found = try vm.map(name)[key]
            return Self.compare(found, value) != negated ? nil : Self.found(found)
        case .mapCount(let name, let count):
            let found = try vm.map(name).entries
            if found.count == count { return nil }
            return "found \(found.count)\(found.isEmpty ? "" : ": ")"
                + found.prefix(8).map { "[\($0.key)]" }.joined(separator: " ")
        case .variableIs(let name, let value):
            let found = try vm.variable(name)
            return found.matches(value) ? nil : Self.found(found)
        case .event(let name, let type, let value):
            let found = try nextEvent(name, type)
            return Self.compare(found, value) ? nil : Self.found(found)
        case .printk(let text):
            printed += vm.printedLines()
            let found = printed.isEmpty ? nil : printed.removeFirst()
            return found == text ? nil : "found \(found.map { "\"\($0)\"" } ?? "no line")"
        case .calls(let helper, let count):
            let found = try vm.calls(of: helper)
            return found == count ? nil : "found \(found)"
        case .packet(let value):
            let found = Value.bytes(outcome?.context ?? [])
            return found.matches(value) ? nil : Self.found(found)
        case .contextIs(let value):
            guard let found = outcome?.fields else { return "found no xdp_md or __sk_buff that the object knows" }
            return found.matches(value) ? nil : Self.found(found)
        case .storedStack(let name, let id, let frames):
            let found = try vm.map(name).stack(id)
            return found == frames ? nil : Self.found(found.map { .list($0.map { Value($0) }) })
        case .verifies(let program): try vm.object.expectVerifies(program)
        case .rejects(let program, let kind, let line): try vm.object.expectRejects(program, kind, line: line)
        }
        return nil
    }

    private mutating func run(_ race: Action.Race, _ step: Step) throws {
        (outcome, trap, trapped) = (nil, nil, nil)
        let vm = vm
        func second() throws {
            let own = vm.world.tid
            defer { vm.world.tid = own }
            if let thread = race.thread { vm.world.tid = thread }
            try vm.run(race.second, race.secondContext)
        }
        do {
            let (outcome, instruction) = try vm.run(race.first, race.firstContext, interruptedAt: point, by: second)
            self.outcome = outcome
            if let instruction {
                let line = vm.line(of: instruction, in: race.first).map { ", line \($0)" } ?? ""
                order = "with \(race.second) before instruction \(instruction) of \(race.first)\(line)"
            } else {
                // One after the other.
                try second()
            }
        } catch let error as Trap { (trap, trapped) = (error, step) }
    }

    private func set(_ field: Action.Field, _ value: UInt64) {
        switch field {
        // A process's first thread has its id; `tid` after `pid` says otherwise.
        case .pid: (vm.world.pid, vm.world.tid) = (UInt32(truncatingIfNeeded: value), UInt32(truncatingIfNeeded: value))
        case .tid: vm.world.tid = UInt32(truncatingIfNeeded: value)
        case .uid: vm.world.uid = UInt32(truncatingIfNeeded: value)
        case .gid: vm.world.gid = UInt32(truncatingIfNeeded: value)
        case .cpu: vm.world.cpu = UInt32(truncatingIfNeeded: value)
        case .random: vm.world.random = value
        case .clock: vm.world.clock = value
        case .cookie: vm.world.cookie = value
        case .clockStep: vm.world.clockStep = value
        }
    }

    private func place(_ value: Action.MemoryValue, at address: UInt64) throws {
        vm.world.memory.place(try bytes(value), at: address)
    }

    private func bytes(_ value: Action.MemoryValue) throws -> [UInt8] {
        switch value {
        case .bytes(let bytes): bytes
        case .text(let text): Array(text.utf8) + [0]
        case .words(let words): words.flatMap { littleEndian($0) }
        case .typed(let type, let value): try vm.bytes(of: value, as: type)
        }
    }

    private func expectReturn(_ value: Value) throws -> String? {
        guard let outcome else { return "no program ran" }
        // An int, or all 64 bits.
        if Value(outcome.code).matches(value) || Value(outcome.result).matches(value) { return nil }
        return "found \(outcome.code)"
    }

    private func expectTrap(_ kind: String?, _ line: Int?) -> String? {
        guard let trap else { return "found no trap\(outcome.map { ", the program returned \($0.code)" } ?? "")" }
        if let kind, kind != trap.kind.name { return "found \(trap.kind.name): \(trap)" }
        if let line, line != trap.line { return "found line \(trap.line.map(String.init) ?? "?"): \(trap)" }
        return nil
    }

    private mutating func nextEvent(_ name: String, _ type: String?) throws -> Value? {
        let key = "\(name) \(type ?? "")"
        let map = try vm.map(name)
        if let type, let colon = type.lastIndex(of: ":") {
            let name = String(type[type.index(after: colon)...])
            events[key, default: []] += try map.events(as: name, of: headers(String(type[..<colon]), name))
        } else {
            events[key, default: []] += try map.events(as: type)
        }
        return events[key]?.isEmpty == false ? events[key]?.removeFirst() : nil
    }

    private static func compare(_ found: Value?, _ expected: Value?) -> Bool {
        guard let found, let expected else { return found == nil && expected == nil }
        return found.matches(expected)
    }

    private static func found(_ value: Value?) -> String { "found \(value.map(\.description) ?? "none")" }
}
