internal import CRuntime
internal import ISA
internal import Runtime
internal import UBPFVM

/// Random programs that use maps, callbacks and tail calls, three in a session.
package enum SessionComparison {
    /// What a run leaves behind.
    private struct Traces: Equatable {
        var result: UInt64
        var trap: Trap?
        var words: [UInt64]
        var array: [[UInt64]?]
        var hash: [[UInt64]?]
        var tailCalls: UInt32
    }

    /// How often each event happens in runs of some programs.
    package static func coverage(seeds: ClosedRange<UInt64>) throws -> [Event: Int] {
        var seen: [Event: Int] = [:]
        for seed in seeds {
            let code = programs(seed: seed).map(\.code)
            let counter = EventCounter(code)
            for traces in try run(code, RandomProgram.contexts(seed: seed, count: 3), .vm, counter) {
                let entries = traces.hash.filter { $0 != nil }.count
                if traces.array.contains(where: { $0 != nil && $0 != [0, 0] }) { counter.count(.arrayIsWritten) }
                if entries > 0 { counter.count(.hashIsFilled) }
                if entries == hashSize { counter.count(.hashIsFull) }
                if traces.tailCalls == 33 { counter.count(.tailCallsEnd) }
                if traces.trap?.kind == .callDepth { counter.count(.callDepth) }
            }
            seen.merge(counter.seen, uniquingKeysWith: +)
        }
        return seen
    }

    private static let hashSize = 4
    private static let maps = [
        MapParameters(
            name: "words",
            type: .array,
            keySize: 4,
            valueSize: UInt32(8 * RandomProgram.contextWords),
            maxEntries: 1
        ),
        MapParameters(name: "array", type: .array, keySize: 4, valueSize: 16, maxEntries: 5),
        MapParameters(name: "hash", type: .hash, keySize: 8, valueSize: 16, maxEntries: UInt32(hashSize)),
        MapParameters(name: "programs", type: .programArray, keySize: 4, valueSize: 4, maxEntries: 4),
    ]

    /// What the engines disagree about on programs of this seed, as a message; nil where they agree.
    package static func difference(seed: UInt64, minimising seconds: Double = 5) throws -> String? {
        let programs = programs(seed: seed)
        let contexts = RandomProgram.contexts(seed: seed, count: 3)
        let code = programs.map(\.code)
        guard let whole = try difference(code, contexts) else { return nil }
        var smaller = code
        for (index, program) in programs.enumerated() {
            smaller[index] = Minimiser.minimise(program.code, units: program.units, seconds: seconds) { candidate in
                var all = smaller
                all[index] = candidate
                return (try? difference(all, contexts)) != nil
            }
        }
        return "\((try? difference(smaller, contexts)) ?? whole)\nThe whole programs: \(whole)"
    }

    /// What the kernel and the interpreter disagree about on one program of this seed; nil where they agree.
    ///
    /// Throws what the kernel's verifier says where it refuses the program.
    package static func kernelDifference(seed: UInt64, minimising seconds: Double = 5) throws -> String? {
        let program = RandomProgram.make(seed: seed, isForKernel: true, hasSession: true)
        let contexts = RandomProgram.contexts(seed: seed, count: 3)
        guard let whole = try kernelDifference(program.code, contexts) else { return nil }
        let smaller = Minimiser.minimise(program.code, units: program.units, seconds: seconds) {
            (try? kernelDifference($0, contexts)) != nil
        }
        return "\((try? kernelDifference(smaller, contexts)) ?? whole)\nThe whole program: \(whole)"
    }

    private static func kernelDifference(_ program: [Instruction], _ contexts: [[UInt8]]) throws -> String? {
        let kernel = try KernelSession(program, hashSize: hashSize)
        let expected = try run([program], contexts, .vm)
        for (context, ours) in zip(contexts, expected) {
            let theirs = Traces(
                result: UInt64(try kernel.run(context)),
                words: try kernel.contents(.words, keys: 1)[0] ?? [],
                array: try kernel.contents(.array, keys: RandomProgram.keys),
                hash: try kernel.contents(.hash, keys: RandomProgram.keys),
                tailCalls: 0
            )
            var narrow = ours
            narrow.result &= UInt64(UInt32.max)
            if narrow != theirs { return "vm: \(narrow)\nkernel: \(theirs)\n\(listing(program))" }
        }
        return nil
    }

    private static func programs(seed: UInt64) -> [RandomProgram] {
        (0..<3).map { RandomProgram.make(seed: seed &* 3 &+ UInt64($0), isForKernel: false, hasSession: true) }
    }

    private static func difference(_ programs: [[Instruction]], _ contexts: [[UInt8]]) throws -> String? {
        let expected = try run(programs, contexts, .vm)
        // A run that is stopped for its length may be stopped elsewhere; one that is stopped at all needs checks.
        if expected.contains(where: { $0.trap?.kind == .budget }) { return nil }
        let isStopped = expected.contains { $0.trap != nil }
        for engine in isStopped ? [SessionEngine.checkedJIT] : [.jit, .checkedJIT] {
            let actual = try run(programs, contexts, engine)
            for (index, (a, b)) in zip(expected, actual).enumerated() where a != b {
                let listings = programs.enumerated().map { "program \($0.offset):\n\(listing($0.element))" }
                return """
                    vm and \(engine.rawValue) differ in run \(index)
                    vm: \(a)
                    \(engine.rawValue): \(b)
                    \(listings.joined(separator: "\n"))
                    """
            }
        }
        return nil
    }

    /// One run of program 0 for each context, with what earlier ones left in the maps.
    private static func run(
        _ programs: [[Instruction]],
        _ contexts: [[UInt8]],
        _ engine: SessionEngine,
        _ counter: EventCounter? = nil
    ) throws -> [Traces] {
        let fixture = try SessionFixture(maps: maps, on: engine)
        for program in programs { try fixture.add(program) }
        let view = fixture.open()
        let targets = MapView(view, Int(SessionMap.programs.index))
        for (slot, program) in [UInt32(1), 2].enumerated() where Int(program) < programs.count {
            let status = targets.update([UInt32(slot)], [program], flags: 0, tid: 1, slot: -1)
            precondition(status == 0, "a program array takes its programs")
        }
        return contexts.map { context in
            let words = MapView(view, Int(SessionMap.words.index))
            words.lookup([UInt32(0)], slot: 0)?.copyMemory(from: context, byteCount: context.count)
            var (result, trap): (UInt64, Trap?) = (0, nil)
            counter?.beginRun()
            do throws(Trap) { result = try fixture.run(observer: counter) } catch { trap = error }
            return Traces(
                result: result,
                trap: trap,
                words: contents(words, RandomProgram.contextWords, 1)[0] ?? [],
                array: contents(MapView(view, Int(SessionMap.array.index)), 2, RandomProgram.keys),
                hash: contents(MapView(view, Int(SessionMap.hash.index)), 2, RandomProgram.keys),
                tailCalls: fixture.lastContext.tail_calls
            )
        }
    }

    /// The values of all keys that programs use.
    private static func contents(_ map: MapView, _ count: Int, _ keys: Int64) -> [[UInt64]?] {
        (0..<keys).map { key in
            map.lookup([key], slot: 0).map { value in
                (0..<count).map { value.load(fromByteOffset: 8 * $0, as: UInt64.self) }
            }
        }
    }
}
