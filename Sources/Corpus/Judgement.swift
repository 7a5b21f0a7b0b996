internal import CRuntime
internal import ISA
internal import Verifier

/// One line of input, ready to be judged.
struct Job {
    var record: Result<Record, RecordError>
    var types: RecordTypes = [:]
}

/// What is being done to a record, for the one who watches.
enum Stage: Equatable {
    case preparing, verifying
    case running(RunEngine)
}

/// Verifies a record and, where asked, runs it.
///
/// - Parameter began: hears of each stage before it begins; false ends a run there.
func judge(_ job: Job, _ options: Options, began: (Stage) -> Bool) -> Verdict {
    _ = began(.preparing)
    let record: Record
    switch job.record {
    case .failure(let error): return Verdict(error)
    case .success(let read): record = read
    }
    switch Prepared(record, types: job.types, options: options) {
    case .refused(let reason): return Verdict(id: record.id, .reject, reason)
    case .unsupported(let reason): return Verdict(id: record.id, .unsupported, reason)
    case .subject(let subject, let faults):
        _ = began(.verifying)
        var verdict = verdict(on: subject, faults, id: record.id)
        if options.run, verdict.outcome == .accept {
            let runs = execute(subject.instructions, record) { began(.running($0)) }
            verdict.interpreted = runs.interpreted
            verdict.compiled = runs.compiled
            verdict.reason = runs.reason
        }
        return verdict
    }
}

private func verdict(on subject: Subject, _ faults: [Int: DecodeError], id: String) -> Verdict {
    let started = cruntime_monotonic_ns()
    let result = Result { () throws(VerifierError) in try verify(subject) }
    let ended = cruntime_monotonic_ns()
    var verdict: Verdict
    switch result {
    case .success(let statistics):
        verdict = Verdict(id: id, .accept)
        verdict.processed = statistics.processed
    case .failure(let error) where faults[error.instruction] != nil:
        verdict = Verdict(id: id, .reject, faults[error.instruction].map(Verdict.Reason.init))
    case .failure(let error):
        let category = error.rule.category
        let reason = Verdict.Reason(kind: category.rawValue, slot: error.slot, message: error.description)
        verdict = Verdict(id: id, category == .unsupported ? .unsupported : .reject, reason)
    }
    verdict.microseconds = (ended - started) / 1000
    return verdict
}

/// Verifies a small program, so that the tables that are made when first used do not count for the next one.
func warmUp() {
    let statements: [Instruction] = [
        Instruction(.mov64Imm, dst: .r1, imm: 0),
        Instruction(.store32Reg, dst: .r10, src: .r1, offset: -4),
        Instruction(.mov64Reg, dst: .r2, src: .r10),
        Instruction(.add64Imm, dst: .r2, imm: -4),
        Instruction(.loadMap, dst: .r1, imm: 0),
        Instruction(.callHelper, imm: Int64(Helper.mapLookupElem.rawValue)),
        Instruction(.jumpEqual64Imm, dst: .r0, offset: 1, imm: 0),
        Instruction(.load64, dst: .r0, src: .r0),
        Instruction(.exit),
    ]
    let map = MapFacts(name: "", type: .array, keySize: 4, valueSize: 8, maxEntries: 1)
    var subject = Subject(
        instructions: statements,
        functions: [FunctionFacts(name: "main", start: 0)],
        maps: [map],
        type: .kprobe
    )
    subject.platform = .kernel
    _ = try? verify(subject)
}
