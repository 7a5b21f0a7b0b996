internal import Glibc
internal import ISA
internal import Verifier

/// What was seen of the verifier on some programs.
package struct SoundnessCounts {
    package var programs = 0
    package var accepted = 0
    package var runs = 0
    /// By the verifier's rule.
    package var refused: [String: Int] = [:]
    /// Walks without pruning that took too long to compare.
    package var unpruned = 0
    /// Runs whose result and memory were the same on all engines.
    package var compared = 0
    /// Programs of each kind, and those of them that are accepted.
    package var kinds: [String: (made: Int, accepted: Int)] = [:]

    package init() {}

    private var kindText: String {
        kinds.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value.accepted) of \($0.value.made)" }.joined(
            separator: ", "
        )
    }

    package var description: String {
        let rules = refused.sorted { $0.value > $1.value }.prefix(8).map { "\($0.key) \($0.value)" }
        return
            "\(programs) programs, \(accepted) accepted (\(accepted * 100 / max(programs, 1)) %), \(runs) runs inside the "
            + "recorded states and inside memory, verdicts the same without pruning but for \(unpruned) that take too long; "
            + "\(compared) with the same result and memory on three engines; accepted by kind: \(kindText); "
            + "refused: \(rules.joined(separator: ", "))"
    }
}

/// Verifies a random program with and without pruning, and runs it where it is accepted; what is wrong, with the program.
package func checkSoundness(
    seed: UInt64,
    runs: Int = 3,
    minimising seconds: Double = 5,
    _ counts: inout SoundnessCounts
) throws -> String? {
    let program = VerifiedCase.make(seed: seed)
    let inputs = VerifiedSession.inputs(seed: seed, count: runs)
    guard let whole = try checkSoundness(program, inputs, &counts) else { return nil }
    let kind = whole.kind
    let functions = VerifiedSession.functionStarts(program.instructions).count
    var smaller = program
    smaller.instructions = Minimiser.minimise(program.instructions, seconds: seconds) {
        var ignored = SoundnessCounts()
        var candidate = program
        candidate.instructions = $0
        // Contracts belong to functions by their number.
        if !program.contracts.isEmpty, VerifiedSession.functionStarts($0).count != functions { return false }
        return (try? checkSoundness(candidate, inputs, &ignored))?.kind == kind
    }
    var ignored = SoundnessCounts()
    let found = try checkSoundness(smaller, inputs, &ignored) ?? whole
    return "\(program.kind): \(found.text)\n\(listing(smaller.instructions))\n"
        + "The whole program: \(whole.text)\n\(listing(program.instructions))"
}

/// The first random program that goes wrong where the interpreter does something else than the program says.
package func firstSeed(finding mistake: PlantedMistake, in seeds: ClosedRange<UInt64>) throws -> UInt64? {
    try seeds.first { seed in
        let program = VerifiedCase.make(seed: seed)
        var planted = program
        planted.instructions = mistake.plant(in: program.instructions)
        let recorder = Recorder()
        guard planted.instructions != program.instructions, verdict(VerifiedSession.subject(program), recorder) == nil
        else { return false }
        let inputs = VerifiedSession.inputs(seed: seed, count: 3)
        return try VerifiedSession.fault(planted, inputs, .vm, recorders: [recorder]).fault != nil
    }
}

/// Faults of the programs of a file of JSON lines with `insns` and `map0_data`, in hexadecimal, that use one array of 64 bytes.
package func checkCorpus(_ path: String, _ counts: inout SoundnessCounts) throws -> [String] {
    guard let file = fopen(path, "r") else { return ["\(path) cannot be opened"] }
    defer { fclose(file) }
    var line: UnsafeMutablePointer<CChar>?
    var size = 0
    defer { free(line) }
    var faults: [String] = []
    while getline(&line, &size, file) > 0, let line {
        let text = String(cString: line)
        guard let code = field("insns", of: text), let program = try? decode(code) else { continue }
        let map = field("map0_data", of: text) ?? []
        let input = words(Array((map + [UInt8](repeating: 0, count: 64)).prefix(64)))
        let id = text.split(separator: "\"").dropFirst(3).first ?? "?"
        var verified = VerifiedCase(program)
        verified.type = .socketFilter
        let subject = VerifiedSession.subject(verified, platform: .kernel)
        let recorder = Recorder()
        counts.programs += 1
        if let error = verdict(subject, recorder) {
            counts.refused["\(error.rule)", default: 0] += 1
            continue
        }
        counts.accepted += 1
        // The values that the corpus gives, and others.
        let inputs = [input] + VerifiedSession.inputs(seed: UInt64(counts.programs), count: 2)
        for engine in [SessionEngine.vm, .checkedJIT] {
            let recorders = engine == .vm ? [recorder] : []
            if let fault = try VerifiedSession.fault(verified, inputs, engine, recorders: recorders).fault {
                faults.append("\(id): \(fault)\n\(listing(program))")
            }
            counts.runs += inputs.count
        }
    }
    return faults
}

/// The bytes of a field in hexadecimal.
private func field(_ name: String, of line: String) -> [UInt8]? {
    let parts = line.split(separator: "\"", omittingEmptySubsequences: false)
    guard let index = parts.firstIndex(of: Substring(name)), index + 2 < parts.count else { return nil }
    let digits = Array(parts[index + 2].utf8)
    return stride(from: 0, to: digits.count - 1, by: 2).compactMap {
        UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)
    }
}

/// A random program with what the verifier says of it, and the kernel where it is to be asked.
package func showVerdicts(seed: UInt64, isForKernel: Bool) -> String {
    let program = VerifiedCase.make(seed: seed, isForKernel: isForKernel)
    let subject = VerifiedSession.subject(program, platform: isForKernel ? .kernel : .userspace)
    let error = verdict(subject, Recorder())
    var lines = [
        "seed \(seed), \(program.kind)", listing(program.instructions),
        "verifier: \(error.map { "\($0)" } ?? "accepts it")",
    ]
    if isForKernel { lines.append("kernel: \((try? KernelVerdicts().verdict(on: program)) ?? "cannot be asked")") }
    return lines.joined(separator: "\n")
}

/// What is wrong with a verdict.
private struct Fault {
    enum Kind { case verdict, state }
    var kind: Kind
    var text: String
}

private func checkSoundness(
    _ program: VerifiedCase,
    _ inputs: [[UInt64]],
    _ counts: inout SoundnessCounts
) throws -> Fault? {
    // Packets are not for processes; nothing else in these programs needs the kernel.
    var subject = VerifiedSession.subject(program, platform: program.type == .xdp ? .kernel : .userspace)
    let pruned = Recorder()
    let error = verdict(subject, pruned)
    counts.programs += 1
    counts.kinds[program.kind, default: (0, 0)].made += 1
    if let error {
        counts.refused["\(error.rule)", default: 0] += 1
    } else {
        counts.accepted += 1
        counts.kinds[program.kind, default: (0, 0)].accepted += 1
    }
    subject.prunes = false
    let whole = Recorder()
    let other = verdict(subject, whole)
    var recorders = [pruned]
    if other?.rule == .tooComplex {
        counts.unpruned += 1
    } else if error?.rule != .tooComplex {
        if (error == nil) != (other == nil) {
            let words = { (error: VerifierError?) in error.map { "refuses it: \($0)" } ?? "accepts it" }
            return Fault(
                kind: .verdict,
                text: "with pruning the verifier \(words(error)); without, it \(words(other))"
            )
        }
        recorders.append(whole)
    }
    guard error == nil else { return nil }
    return try runFault(program, inputs, recorders, &counts)
}

/// What goes wrong in runs of an accepted program.
private func runFault(
    _ program: VerifiedCase,
    _ inputs: [[UInt64]],
    _ recorders: [Recorder],
    _ counts: inout SoundnessCounts
) throws -> Fault? {
    let words = "an accepted program goes wrong: "
    let expected = try VerifiedSession.fault(program, inputs, .vm, recorders: recorders)
    if let fault = expected.fault { return Fault(kind: .state, text: words + fault) }
    counts.runs += inputs.count
    if let used = program.withoutRounds {
        // As it runs when all rounds are used up: to its end.
        if let fault = try VerifiedSession.fault(used, inputs, .vm, recorders: recorders, endsSoon: true).fault {
            return Fault(kind: .state, text: "an accepted program goes wrong when its rounds are used up: " + fault)
        }
        counts.runs += inputs.count
    }
    guard expected.isComplete else { return nil }
    // What does not depend on addresses and unwritten memory is the same everywhere.
    var strict = VerifiedSession.subject(program, platform: program.type == .xdp ? .kernel : .userspace)
    strict.strictLeaks = true
    let isComparable = (try? verify(strict)) != nil
    // Unchecked code comes last: it must not fault in this process either.
    for engine in [SessionEngine.checkedJIT, .jit] {
        let outcome = try VerifiedSession.fault(program, inputs, engine)
        if let fault = outcome.fault { return Fault(kind: .state, text: words + fault) }
        counts.runs += inputs.count
        if isComparable, outcome.traces != expected.traces {
            let pair = zip(outcome.traces, expected.traces).first { $0 != $1 }
            return Fault(
                kind: .state,
                text: "vm and \(engine.rawValue) differ: \(pair.map { "\($0.1) and \($0.0)" } ?? "in number")"
            )
        }
    }
    if isComparable { counts.compared += inputs.count }
    return nil
}

private func verdict(_ subject: Subject, _ recorder: Recorder) -> VerifierError? {
    do {
        _ = try verify(subject, recorder: recorder)
        return nil
    } catch {
        return error
    }
}
