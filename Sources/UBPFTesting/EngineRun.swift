import ISA
import Loader
import Runtime
import Synchronization

/// One of several runs of a test, each by another engine; see the trait `everyEngine` of `UBPFTestingTraits`.
///
/// Within it every new ``VM`` runs its programs by ``engine`` and notes what they did, to be compared with the other runs. What an
/// engine cannot run at all is run by the interpreter, which ``fallbacks`` tells.
public final class EngineRun: Sendable {
    /// The run that the present task is part of.
    @TaskLocal public static var current: EngineRun?

    /// What runs programs.
    public let engine: Engine
    private let state = Mutex(State())

    private struct State {
        var steps: [String] = []
        var fallbacks: [String] = []
    }

    /// A run by an engine.
    public init(_ engine: Engine) { self.engine = engine }

    /// What programs did, in order: results, packets, and maps as they left them.
    public var steps: [String] { state.withLock { $0.steps } }

    /// What the interpreter ran in the engine's place, and why; each once.
    public var fallbacks: [String] { state.withLock { $0.fallbacks } }

    /// The first difference from another run; nil where both did the same.
    public func difference(from other: EngineRun) -> String? {
        let (mine, theirs) = (steps, other.steps)
        for index in 0..<max(mine.count, theirs.count) {
            let left = index < mine.count ? mine[index] : "nothing"
            let right = index < theirs.count ? theirs[index] : "nothing"
            if left != right {
                return "run \(index + 1): \(engine.rawValue) and \(other.engine.rawValue) differ\n"
                    + "\(engine.rawValue): \(left)\n\(other.engine.rawValue): \(right)"
            }
        }
        return nil
    }

    func note(_ step: String) { state.withLock { $0.steps.append(step) } }

    func noteFallback(_ reason: String) {
        state.withLock { if !$0.fallbacks.contains(reason) { $0.fallbacks.append(reason) } }
    }
}

extension VM {
    /// Runs a program by the engine of the present ``EngineRun``, and notes what it did.
    func compared(
        _ program: Program,
        _ run: EngineRun,
        _ body: (_ isInterpreted: Bool) throws -> Program.Outcome
    ) throws -> Program.Outcome {
        if engine != run.engine { run.noteFallback("the test itself chose '\(engine.rawValue)'") }
        do {
            let outcome: Program.Outcome
            do { outcome = try body(false) } catch let error as TestingError where error.kind == .engine {
                run.noteFallback(error.description)
                outcome = try body(true)
            }
            let packet = Value.bytes(outcome.context)
            run.note((["\(program.name) returns \(outcome.code), leaves \(packet)"] + contents).joined(separator: "\n"))
            return outcome
        } catch let trap as Trap {
            run.note((["\(program.name): \(trap.kind.name) \(trap.source ?? "")"] + contents).joined(separator: "\n"))
            throw trap
        }
    }

    /// What maps and variables hold, as text.
    private var contents: [String] {
        var lines: [String] = []
        for spec in object.spec.maps {
            guard spec.contents == nil || !spec.isReadOnly, let map = try? map(spec.name) else { continue }
            for (key, value) in map.bytes where value.contains(where: { $0 != 0 }) || !map.isArray {
                lines.append("\(spec.name)[\(Value.bytes(key))] = \(Value.bytes(value))")
            }
        }
        return lines
    }
}

extension MapHandle {
    fileprivate var isArray: Bool {
        switch spec.type {
        case .array, .perCPUArray: true
        default: false
        }
    }

    /// Keys and values by the order of keys, which says nothing; all CPUs' values one after the other.
    fileprivate var bytes: [(key: [UInt8], value: [UInt8])] {
        switch view.family {
        case .hash, .array, .lpmTrie, .cgroupArray: break
        case .ringBuffer, .perfEventArray, .queue, .bloomFilter, .programArray, .mapArray, .stackTrace, nil: return []
        }
        return keys.sorted { $0.lexicographicallyPrecedes($1) }.map { key in
            let all = (0..<(view.isPerCPU ? view.session.cpuCount : 1)).map { cpu in
                unsafe view.lookup(key, slot: cpu).map {
                    unsafe [UInt8](UnsafeRawBufferPointer(start: $0, count: valueSize))
                } ?? []
            }
            return (key, all.flatMap { $0 })
        }
    }
}
