import ArgumentParser
import Controller
import Glibc

/// The command line of ubpfrun.
@main
struct Ubpfrun: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ubpfrun",
        abstract: "Run BPF programs inside a process: no root, no kernel trap.",
        discussion: """
            EXAMPLES:
              ubpfrun memleak -- ./app args            what leaks, by stack, when it ends
              ubpfrun memleak -i 5 -p PID              what a running process has outstanding, every 5 seconds
              ubpfrun bashreadline -- bash             every line typed
              ubpfrun my.bpf.c --attach on_call=libc:malloc -- ./app
              UBPF_PROG=memleak LD_PRELOAD=libubpf.so ./app
            """,
        version: "0.1.0",
        subcommands: [
            RunCommand.self, CheckCommand.self, ExplainCommand.self, InspectCommand.self, DisasmCommand.self,
            TestCommand.self, StepCommand.self, DoctorCommand.self, CleanCommand.self, MapCommand.self,
        ],
        defaultSubcommand: RunCommand.self
    )

    static func main() {
        keepStandardDescriptors()
        // `ubpfrun --explain SYM` reads like a question, and is the command.
        if CommandLine.arguments.dropFirst().first == "--explain" {
            main(["explain"] + CommandLine.arguments.dropFirst(2))
            return
        }
        // `ubpfrun OBJECT --help` also lists the object's own options.
        let arguments = Array(CommandLine.arguments.dropFirst())
        let own = arguments.prefix { $0 != "--" }
        if let program = own.first, !program.hasPrefix("-"), own.contains("--help") || own.contains("-h"),
            !configuration.subcommands.contains(where: { $0._commandName == program }),
            let object = try? LoadedProgram.load(program, Installation.current)
        {
            print(Ubpfrun.helpMessage(for: RunCommand.self))
            print(ProgramArguments.help(object))
            return
        }
        main(nil)
    }
}

/// `ubpfrun OBJECT … -- CMD`.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run an object's programs on a command (the default)."
    )

    @Argument(help: "An object (.bpf.o), a source (.bpf.c), or a tool's name.")
    var program: String

    @Option(name: [.short, .long], help: "A running process to attach to; repeatable.")
    var pid: [String] = []

    @Option(help: ArgumentHelp("Where a program goes; repeatable.", valueName: "PROGRAM=[BINARY:]SYMBOL[+OFFSET]"))
    var attach: [String] = []

    @Option(
        help: ArgumentHelp(
            "Sets a global variable, MAP.max_entries or MAP[INDEX]; repeatable.",
            valueName: "NAME=VALUE"
        )
    )
    var set: [String] = []

    @Option(name: [.customShort("i"), .long], help: "Report every so many seconds.")
    var interval: Double?

    @Option(name: [.customShort("n"), .long], help: "Stop after so many reports.")
    var count: Int?

    @Option(name: [.customShort("d"), .long], help: "Stop after so many seconds.")
    var duration: Double?

    @Option(name: [.customShort("f"), .long], help: "text or json (one record a line).")
    var format: String?

    @Flag(name: [.customShort("j"), .long], help: "Same as -f json.")
    var json = false

    @Option(name: [.customShort("o"), .long], help: "Write results to a file; %p pid, %h host, %t time.")
    var output: String?

    @Flag(name: [.customShort("q"), .long], help: "No status messages and warnings.")
    var quiet = false

    @Flag(name: [.customShort("v"), .long], help: "Say what is done: probes, tactics, hits.")
    var verbose = false

    @Flag(help: "What would be left out with a warning is an error.")
    var strict = false

    @Option(name: .customLong("ready-fd"), help: "Write a line to this descriptor once probes are in place.")
    var readyDescriptor: Int32?

    @Option(help: "Places that a leak report shows.")
    var top: Int?

    @Option(help: "Only allocations older than so many milliseconds.")
    var older: UInt64?

    @Flag(help: "Leak totals by stack only.")
    var combinedOnly = false

    @Flag(name: .customLong("no-verify"), help: "Run programs that the verifier refuses, as checked code.")
    var skipsVerifier = false

    @Flag(help: "Refuse programs that give addresses away.")
    var strictLeaks = false

    @OptionGroup var permissions: PermissionFlags

    @Flag(name: .customLong("follow-fork"), help: "Children made by fork run the programs too.")
    var followsFork = false

    @Flag(name: .customLong("follow-exec"), help: "Programs that the targets execute, and their children, take part.")
    var followsExec = false

    @Option(
        help: ArgumentHelp("The struct that records are; repeatable.", valueName: "[MAP=][HEADER:]STRUCT")
    )
    var event: [String] = []

    @Option(help: "Where uprobe programs run: user (in the process), kernel, or auto (in the process where possible).")
    var backend: String?

    @Option(
        help: ArgumentHelp("Types of another kernel for CO-RE, as /sys/kernel/btf/vmlinux is.", valueName: "file")
    )
    var btf: String?

    @Flag(help: "Run the workload with both backends and say how the maps differ.")
    var compareBackends = false

    @Option(name: .customLong("helper-socket"), help: .private)
    var helperSocket: Int32?

    @Argument(parsing: .allUnrecognized, help: "The object's own options: --name VALUE.")
    var options: [String] = []

    @Argument(parsing: .postTerminator, help: "The command to run, after --.")
    var command: [String] = []

    func run() throws {
        var run = RunOptions()
        run.program = program
        run.command = command
        run.attach = attach
        run.assignments = set
        run.rest = options
        run.interval = interval
        run.count = count
        run.duration = duration
        run.output = output
        run.isQuiet = quiet
        run.isVerbose = verbose
        run.isStrict = strict
        run.readyDescriptor = readyDescriptor
        run.helperSocket = helperSocket
        run.top = top
        run.olderMilliseconds = older
        run.combinedOnly = combinedOnly
        run.skipsVerifier = skipsVerifier
        run.strictLeaks = strictLeaks
        run.permissions = permissions.set
        run.followsFork = followsFork
        run.followsExec = followsExec
        run.types = btf
        if let backend {
            guard let known = RunOptions.Backend(rawValue: backend) else {
                leave(.badOption("--backend", value: backend, expects: "user, kernel or auto"))
            }
            run.backend = known
        }
        run.comparesBackends = compareBackends
        if let format {
            guard let known = OutputFormat(rawValue: format) else {
                leave(.badOption("--format", value: format, expects: "text or json"))
            }
            run.format = known
        }
        if json { run.format = .json }
        do throws(Failure) {
            for text in pid { try run.addPids(text) }
            for text in event { run.events.append(try EventChoice(text)) }
            try run.check()
        } catch { leave(error) }
        throw ExitCode(Run(run).execute())
    }
}

/// `ubpfrun inspect OBJECT`.
struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "What is in an object.")

    @Argument(help: "An object, a source, or a tool's name.")
    var program: String

    @Flag(help: "What each CO-RE relocation asks for, and what it becomes on this kernel or that of --btf.")
    var core = false

    @Option(
        help: ArgumentHelp("Types of another kernel for CO-RE, as /sys/kernel/btf/vmlinux is.", valueName: "file")
    )
    var btf: String?

    @Flag(name: [.customShort("j"), .long], help: "As a JSON document.")
    var json = false

    func run() throws {
        do throws(Failure) {
            let object = try LoadedProgram.load(program, types: btf, Installation.current)
            if core {
                let relocations = try CoreInspection(object)
                print(json ? relocations.json : relocations.text)
            } else {
                let inspection = Inspection(object)
                print(json ? inspection.json : inspection.text)
            }
        } catch { leave(error) }
    }
}

/// `ubpfrun disasm OBJECT`.
struct DisasmCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "disasm",
        abstract: "An object's instructions, in the kernel's notation, with source lines."
    )

    @Argument(help: "An object, a source, or a tool's name.")
    var program: String

    @Option(help: "Only this program.")
    var prog: String?

    func run() throws {
        do throws(Failure) {
            print(try Inspection(try LoadedProgram.load(program, Installation.current)).disassembly(of: prog))
        } catch { leave(error) }
    }
}

/// `ubpfrun doctor`.
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "What this machine allows, with the fix for what it does not."
    )

    @Flag(name: [.customShort("j"), .long], help: "As a JSON document.")
    var json = false

    func run() throws {
        let doctor = Doctor(Installation.current)
        print(json ? doctor.json : doctor.text)
    }
}

/// `ubpfrun clean [-p PID]`.
struct CleanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "clean",
        abstract: "Restore the code of processes whose ubpfrun was killed."
    )

    @Option(name: [.short, .long], help: "Only this process; repeatable.")
    var pid: [String] = []

    @Flag(name: [.customShort("q"), .long], help: "No status messages and warnings.")
    var quiet = false

    func run() throws {
        var run = RunOptions()
        do throws(Failure) { for text in pid { try run.addPids(text) } } catch { leave(error) }
        throw ExitCode(Clean(run.pids, isQuiet: quiet).execute())
    }
}

/// Prints a failure and ends with its exit code.
func leave(_ failure: Failure) -> Never {
    Messages.error(failure)
    exit(failure.code.exitCode)
}
