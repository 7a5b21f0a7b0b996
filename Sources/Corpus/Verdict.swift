internal import JSON

/// What is said of a record.
struct Verdict: Equatable, Sendable {
    enum Outcome: String, Sendable {
        case accept, reject
        /// The record is none, or asks for what this verifier does not know.
        case unsupported
    }

    /// Why it is not accepted, or what went wrong in a run.
    struct Reason: Equatable, Sendable {
        var kind: String
        /// Slot of the offending instruction, as the kernel counts.
        var slot: Int?
        var message: String
    }

    var id: String?
    var outcome: Outcome
    var reason: Reason?
    /// Time in the verifier alone.
    var microseconds: UInt64?
    var processed: Int?
    /// r0 of a run, as the kernel's `retval`.
    var interpreted: UInt32?
    var compiled: UInt32?

    init(id: String?, _ outcome: Outcome, _ reason: Reason? = nil) {
        self.id = id
        self.outcome = outcome
        self.reason = reason
    }

    /// A record that could not be read.
    init(_ error: RecordError) {
        self.init(id: error.id, .unsupported, Reason(kind: "encoding", message: error.message))
    }

    /// The line; every key is always there, so that readers need no special cases.
    var line: String {
        var writer = JSONWriter()
        writer.object { object in
            write("id", id, &object)
            object.member("verdict", outcome.rawValue)
            write("kind", reason?.kind, &object)
            write("insn", reason?.slot, &object)
            write("message", reason?.message, &object)
            write("usec", microseconds, &object)
            write("processed", processed, &object)
            write("retval_vm", interpreted, &object)
            write("retval_jit", compiled, &object)
        }
        return writer.text
    }
}

private func write(_ key: String, _ value: String?, _ object: inout JSONWriter) {
    object.key(key)
    if let value { object.string(value) } else { object.null() }
}

private func write(_ key: String, _ value: (some BinaryInteger)?, _ object: inout JSONWriter) {
    object.key(key)
    if let value { object.number(value) } else { object.null() }
}
