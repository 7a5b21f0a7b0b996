/// Why something about a binary or a process could not be learnt.
package struct SymbolsError: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Kind: Equatable, Sendable {
        case noProcess
        case processUnreadable
        case fileMissing
        case fileUnreadable
        case notELF
        case malformed
        case moduleNotLoaded
        case symbolNotFound
        case offsetOutside
        case bytesChanged
        case resolverOnly
        case unsuitable
    }

    package var kind: Kind
    /// What it is about: a path, a process, a symbol.
    package var place: String
    /// The error code shown to people, from the table of codes in the user documentation.
    package var code: String
    package var message: String
    /// The cause, where it is known; empty otherwise.
    package var why: String
    /// What to do about it; empty where nothing is known.
    package var help: String

    package init(
        kind: Kind,
        place: String,
        code: String,
        message: String,
        why: String = "",
        help: String = ""
    ) {
        self.kind = kind
        self.place = place
        self.code = code
        self.message = message
        self.why = why
        self.help = help
    }

    package var description: String {
        var text = "error[\(code)]: \(message)"
        if !why.isEmpty { text += "\nwhy: \(why)" }
        if !help.isEmpty { text += "\nhelp: \(help)" }
        return text
    }
}

extension SymbolsError {
    static func noProcess(_ pid: Int32) -> SymbolsError {
        SymbolsError(kind: .noProcess, place: "pid \(pid)", code: "U106", message: "no process \(pid)")
    }

    static func processUnreadable(_ pid: Int32, _ what: String, reason: String) -> SymbolsError {
        SymbolsError(
            kind: .processUnreadable,
            place: "pid \(pid)",
            code: "U101",
            message: "cannot read \(what) of pid \(pid)",
            why: reason,
            help: "run ubpfrun as the same user or as root"
        )
    }

    static func cannotOpen(_ path: String, missing: Bool, reason: String) -> SymbolsError {
        SymbolsError(
            kind: missing ? .fileMissing : .fileUnreadable,
            place: path,
            code: missing ? "U204" : "U205",
            message: "cannot open \(path)",
            why: reason
        )
    }

    static func notELF(_ path: String, reason: String) -> SymbolsError {
        SymbolsError(
            kind: .notELF,
            place: path,
            code: "U206",
            message: "\(path) is not a 64-bit x86-64 ELF file",
            why: reason
        )
    }

    static func malformed(_ path: String, reason: String) -> SymbolsError {
        SymbolsError(kind: .malformed, place: path, code: "U207", message: "\(path) is damaged", why: reason)
    }
}
