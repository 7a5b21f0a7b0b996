/// What the command line asks for.
package struct Options: Equatable, Sendable {
    /// Programs must not give away addresses.
    var strictLeaks = false
    /// Run what is accepted.
    var run = false
    /// The programs that mutants are made of.
    var seeds: String?
    /// Where the types of programs are.
    var btf: String?

    package init(_ arguments: [String]) throws(CorpusError) {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            switch argument {
            case "--strict-leaks": strictLeaks = true
            case "--run": run = true
            case "--seeds": seeds = try value(of: argument, &rest)
            case "--btf": btf = try value(of: argument, &rest)
            default: throw .unknownArgument(argument)
            }
        }
    }

    /// Folder of the types: beside the seeds unless given.
    var btfDirectory: String {
        if let btf { return btf }
        guard let seeds, let slash = seeds.lastIndex(of: "/") else { return "." }
        return String(seeds[..<slash])
    }
}

private func value(of option: String, _ rest: inout ArraySlice<String>) throws(CorpusError) -> String {
    guard let value = rest.popFirst() else { throw .missingValue(option) }
    return value
}
