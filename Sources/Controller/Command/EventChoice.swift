/// `[MAP=][HEADER:]STRUCT` of `--event`: what the records of a map are.
package struct EventChoice: Equatable, Sendable {
    /// Nil for the records of every map.
    package var map: String?
    /// Where the struct is, if the object does not know it.
    package var header: String?
    package var type: String
    package var text: String

    package init(_ text: String) throws(Failure) {
        self.text = text
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        map = parts.count == 2 ? parts[0] : nil
        var name = parts[parts.count - 1]
        if let colon = name.lastIndex(of: ":") {
            header = String(name[..<colon])
            name = String(name[name.index(after: colon)...])
        }
        if name.hasPrefix("struct ") { name = String(name.dropFirst(7)) }
        type = name
        let isName = !name.isEmpty && name.allSatisfy { $0.isLetter || $0.isNumber || $0 == "_" }
        guard isName, map?.isEmpty != true, header?.isEmpty != true else { throw refused }
    }

    /// The error for a struct that is nowhere.
    package var refused: Failure {
        .badOption(
            "--event",
            value: text,
            expects: "[MAP=][HEADER:]STRUCT, a struct of the object's BTF or of the header"
        )
    }
}
