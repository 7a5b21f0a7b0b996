/// Why nothing can be done at all; every message of this module is made here.
package struct CorpusError: Error, Equatable, Sendable {
    /// One line for stderr, without the program's name.
    package var message: String
    /// The exit status (sysexits.h).
    package var status: Int32

    package static let usage =
        "usage: ubpf-corpus [--strict-leaks] [--run] [--seeds PROGRAMS.jsonl] [--btf DIR] <RECORDS.jsonl"

    static func unknownArgument(_ argument: String) -> CorpusError {
        CorpusError(message: "'\(argument)' is no option; \(usage)", status: 64)
    }

    static func missingValue(_ option: String) -> CorpusError {
        CorpusError(message: "\(option) needs a value; \(usage)", status: 64)
    }

    static func unreadable(_ path: String, _ number: Int32, _ reason: String) -> CorpusError {
        CorpusError(message: "\(path) cannot be read: \(reason) (errno \(number))", status: 66)
    }

    static func system(_ what: String, _ number: Int32, _ reason: String) -> CorpusError {
        CorpusError(message: "\(what) failed: \(reason) (errno \(number))", status: 71)
    }

    static let outputClosed = CorpusError(message: "standard output cannot be written", status: 74)
}

/// Why a record is none; the others go on.
struct RecordError: Error, Equatable {
    /// What the record calls itself, where that could be read.
    var id: String?
    var message: String

    static func json(_ description: String) -> RecordError { RecordError(message: description) }

    static let notAnObject = RecordError(message: "the record is no JSON object")

    static func tooLong(limit: Int) -> RecordError {
        RecordError(message: "the record is longer than \(limit >> 20) MiB")
    }

    static func missing(_ key: String) -> RecordError { RecordError(message: "the record has no usable '\(key)'") }

    static func notHexadecimal(_ key: String) -> RecordError {
        RecordError(message: "'\(key)' is not bytes in hexadecimal")
    }

    static func outOfRange(_ key: String, _ value: Int64) -> RecordError {
        RecordError(message: "'\(key)' is \(value), which is out of its range")
    }

    static func unknownProgramType(_ number: UInt32) -> RecordError {
        RecordError(message: "there is no program type \(number)")
    }

    static func unknownSeed(_ seed: String) -> RecordError {
        RecordError(message: "the record is a mutant of '\(seed)', which no record of --seeds is")
    }

    static func functionInfo(_ problem: String) -> RecordError {
        RecordError(message: "'func_info' is damaged: \(problem)")
    }

    static func noTypes(_ name: String, in directory: String) -> RecordError {
        RecordError(message: "the types '\(name)' are not in '\(directory)'; give their folder with --btf")
    }

    static func types(_ description: String) -> RecordError { RecordError(message: description) }

    static func unknownMap(_ index: Int) -> RecordError {
        RecordError(message: "the program uses map \(index), which the record does not describe")
    }
}
