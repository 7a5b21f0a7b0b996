import ArgumentParser
import Cases
import Controller
import UBPFTesting

/// `ubpfrun test FILE…`.
struct TestCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "test",
        abstract: "Unit tests for BPF programs, without root; 1 if one fails.",
        discussion: """
            A case file names an object or source and has cases: what the world is like, what runs, what is expected.

              object memleak.bpf.c
              case a block that is freed is not outstanding
                run malloc_enter(64)
                run malloc_exit return=0x1000
                map allocs[0x1000] == { size: 64 }
                run free_enter(0x1000)
                map allocs count == 0
            """
    )

    @Argument(help: "Case files.")
    var files: [String]

    @Option(help: "Only cases whose name contains this; repeatable.")
    var filter: [String] = []

    @Option(name: [.customShort("f"), .long], help: "text, tap or junit.")
    var format = "text"

    @Option(name: [.customShort("o"), .long], help: "Write the report to a file.")
    var output: String?

    @Option(name: .long, help: "Files to run at a time; all CPUs' worth if not given.")
    var jobs: Int = 0

    @Option(help: "interpreter, checked-jit, jit, or kernel (as root).")
    var engine = "interpreter"

    @Flag(help: "Show which lines and branches were not reached.")
    var coverage = false

    @Option(help: "Write coverage for genhtml and editors.")
    var lcov: String?

    @Option(name: .customLong("min-coverage"), help: "Fail if fewer lines were reached, in percent.")
    var minimumCoverage: Double?

    @Flag(name: [.customShort("q"), .long], help: "Show failed cases only.")
    var quiet = false

    @Flag(help: "Run again whenever a file beside the case files or what they test changes.")
    var watch = false

    func run() throws {
        var options = TestOptions()
        options.files = files
        options.filters = filter
        options.output = output
        options.jobs = jobs
        options.isQuiet = quiet
        options.showsCoverage = coverage
        options.lcov = lcov
        options.minimumCoverage = minimumCoverage
        guard let known = Report.Format(rawValue: format) else {
            leave(.badOption("--format", value: format, expects: "text, tap or junit"))
        }
        options.format = known
        guard let engine = Engine(rawValue: engine) else {
            leave(.badOption("--engine", value: engine, expects: "interpreter, checked-jit, jit or kernel"))
        }
        options.engine = engine
        if engine != .interpreter, coverage || lcov != nil || minimumCoverage != nil {
            leave(.usage("coverage is counted by the interpreter only", help: "leave --engine away"))
        }
        if watch { TestRun(options, Installation.current).watch() }
        throw ExitCode(TestRun(options, Installation.current).execute())
    }
}
