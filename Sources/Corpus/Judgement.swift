internal import CRuntime
internal import ISA
internal import Verifier

/// One line of input, ready to be judged.
struct Job {
    var record: Result<Record, RecordError>
    var types: RecordTypes = [:]
}

/// Verifies a record; `began` hears each stage before it begins.
func judge(_ job: Job, _ options: Options, began: (Stage) -> Void) -> Verdict {
    began(.preparing)
    let record: Record
    switch job.record {
    case .failure(let error): return Verdict(error)
    case .success(let read): record = read
    }
    switch Prepared(record, types: job.types, options: options) {
    case .refused(let reason): return Verdict(id: record.id, .reject, reason)
    case .unsupported(let reason): return Verdict(id: record.id, .unsupported, reason)
    case .subject(let subject, let faults):
        began(.verifying)
        return verdict(on: subject, faults, id: record.id)
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
        let slots = SlotMap(subject.instructions).slots
        let slot = slots.indices.contains(error.instruction) ? slots[error.instruction] : nil
        let reason = Verdict.Reason(kind: error.kind.category, slot: slot, message: error.description)
        verdict = Verdict(id: id, error.kind.isUnsupported ? .unsupported : .reject, reason)
    }
    verdict.microseconds = (ended - started) / 1000
    return verdict
}

extension VerifierError.Kind {
    /// Name of the case in words: `uninitialized`, `stack-out-of-bounds`.
    fileprivate var category: String {
        var words = ""
        for character in String(describing: self).prefix(while: { $0 != "(" }) {
            words += character.isUppercase ? "-" + character.lowercased() : String(character)
        }
        return words
    }

    fileprivate var isUnsupported: Bool {
        if case .unsupported = self { true } else { false }
    }
}
