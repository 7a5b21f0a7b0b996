import ArgumentParser
import Controller

/// `ubpfrun map`.
struct MapCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "map",
        abstract: "Look at the maps of a session that runs, and change them.",
        discussion: """
            EXAMPLES:
              ubpfrun map list                               the maps of all sessions
              ubpfrun map dump counts -p PID                 PID: of ubpfrun, or of a target
              ubpfrun map lookup counts 4242
              ubpfrun map update settings 0 '{"limit": 100, "comm": "sh"}'
              ubpfrun map delete counts hex:2a000000
            Keys and values are written as their types say: numbers, enumerators, text, JSON for structs; always: hex:…
            """,
        subcommands: [List.self, Dump.self, Lookup.self, Update.self, Delete.self, Freeze.self],
        defaultSubcommand: List.self
    )

    /// What all of them take.
    struct Options: ParsableArguments {
        @Option(name: [.short, .long], help: "The session of this process: a ubpfrun, or one of its targets.")
        var pid: String?

        @Option(name: [.customShort("f"), .long], help: "text or json (one record a line).")
        var format: String?

        @Flag(name: [.customShort("j"), .long], help: "Same as -f json.")
        var json = false

        /// What follows the map's name: at most `limit` words, negative numbers among them.
        func check(_ words: [String], limit: Int, _ usage: String) {
            if let option = words.first(where: { $0.hasPrefix("-") && Int($0) == nil }) {
                leave(.unknownOption(option, known: ["--pid", "--format", "--json", "--exist", "--noexist"]))
            }
            if words.count > limit { leave(.usage("map \(usage)")) }
        }

        func perform(_ action: MapAccess.Action) {
            do throws(Failure) {
                var known = json ? OutputFormat.json : .text
                if let format {
                    guard let named = OutputFormat(rawValue: format) else {
                        throw .badOption("--format", value: format, expects: "text or json")
                    }
                    known = named
                }
                var number: Int32?
                if let pid {
                    guard let given = Int32(pid), given > 0 else {
                        throw .badOption("-p", value: pid, expects: "the number of a process")
                    }
                    number = given
                }
                try MapAccess(action, pid: number, format: known).execute()
            } catch { leave(error) }
        }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The maps of a session, or of all.")
        @OptionGroup var options: Options

        func run() { options.perform(.list) }
    }

    struct Dump: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "All elements of a map.")
        @Argument(help: "A map's name or id.") var map: String
        @OptionGroup var options: Options

        func run() { options.perform(.dump(map: map)) }
    }

    struct Lookup: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "One element; of queues and stacks the next, of bloom filters whether KEY may be in."
        )
        @Argument(help: "A map's name or id.") var map: String
        @Argument(parsing: .allUnrecognized, help: "The key; none for queues and stacks.") var key: [String] = []
        @OptionGroup var options: Options

        func run() {
            options.check(key, limit: 1, "lookup takes MAP [KEY]")
            options.perform(.lookup(map: map, key: key.first))
        }
    }

    struct Update: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Set an element; of per-CPU maps for every CPU, of maps without keys a push."
        )
        @Argument(help: "A map's name or id.") var map: String
        @Argument(
            parsing: .allUnrecognized,
            help: ArgumentHelp("The key, and the value; maps without keys take a value alone.", valueName: "key-value")
        )
        var words: [String] = []
        @Flag(help: "Only where the key is not there yet.") var noexist = false
        @Flag(help: "Only where the key is there.") var exist = false
        @OptionGroup var options: Options

        func run() {
            if noexist, exist { leave(.usage("either --exist or --noexist")) }
            let usage = "update takes MAP KEY VALUE, or MAP VALUE where the map has no keys"
            options.check(words, limit: 2, usage)
            guard let value = words.last else { leave(.usage("map \(usage)")) }
            let key = words.count == 2 ? words[0] : nil
            options.perform(.update(map: map, key: key, value: value, flags: noexist ? 1 : exist ? 2 : 0))
        }
    }

    struct Delete: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove an element; of queues and stacks take out the next, and show it."
        )
        @Argument(help: "A map's name or id.") var map: String
        @Argument(parsing: .allUnrecognized, help: "The key; none for queues and stacks.") var key: [String] = []
        @OptionGroup var options: Options

        func run() {
            options.check(key, limit: 1, "delete takes MAP [KEY]")
            options.perform(.delete(map: map, key: key.first))
        }
    }

    struct Freeze: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "From now on programs alone change the map (BPF_MAP_FREEZE)."
        )
        @Argument(help: "A map's name or id.") var map: String
        @OptionGroup var options: Options

        func run() { options.perform(.freeze(map: map)) }
    }
}
