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

    package init() {}

    package var description: String {
        let rules = refused.sorted { $0.value > $1.value }.prefix(8).map { "\($0.key) \($0.value)" }
        return
            "\(programs) programs, \(accepted) accepted (\(accepted * 100 / max(programs, 1)) %), \(runs) runs inside the "
            + "recorded states and inside memory, verdicts the same without pruning but for \(unpruned) that take too long; "
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
    let program = VerifiedProgram.make(seed: seed)
    let inputs = VerifiedSession.inputs(seed: seed, count: runs)
    guard let whole = try checkSoundness(program, inputs, &counts) else { return nil }
    let kind = whole.kind
    let smaller = Minimiser.minimise(program, seconds: seconds) {
        var ignored = SoundnessCounts()
        return (try? checkSoundness($0, inputs, &ignored))?.kind == kind
    }
    var ignored = SoundnessCounts()
    let found = try checkSoundness(smaller, inputs, &ignored) ?? whole
    return "\(found.text)\n\(listing(smaller))\nThe whole program: \(whole.text)\n\(listing(program))"
}

/// What is wrong with a verdict.
private struct Fault {
    enum Kind { case verdict, state }
    var kind: Kind
    var text: String
}

private func checkSoundness(
    _ program: [Instruction],
    _ inputs: [[UInt64]],
    _ counts: inout SoundnessCounts
) throws -> Fault? {
    var subject = VerifiedSession.subject(program)
    let pruned = Recorder()
    let error = verdict(subject, pruned)
    counts.programs += 1
    if let error { counts.refused["\(error.rule)", default: 0] += 1 } else { counts.accepted += 1 }
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
    for engine in [SessionEngine.vm, .checkedJIT] {
        if let fault = try VerifiedSession.fault(program, inputs, engine, recorders: engine == .vm ? recorders : []) {
            return Fault(kind: .state, text: "an accepted program goes wrong: \(fault)")
        }
        counts.runs += inputs.count
    }
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
