import ArgumentParser
import Controller

/// `ubpfrun check OBJECT`.
struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "What the verifier says about each program; 65 if it rejects one."
    )

    @Argument(help: "An object, a source, or a tool's name.")
    var program: String

    @Option(help: "Only this program; repeatable.")
    var prog: [String] = []

    @Flag(help: "Refuse programs that give addresses away.")
    var strictLeaks = false

    @OptionGroup var permissions: PermissionFlags

    @Flag(help: "Ask the kernel's verifier too, and say where it differs (root).")
    var kernel = false

    @Option(
        help: ArgumentHelp("Types of another kernel for CO-RE, as /sys/kernel/btf/vmlinux is.", valueName: "file")
    )
    var btf: String?

    @Flag(name: [.customShort("v"), .long], help: "Show the walk, with what is known at each instruction.")
    var verbose = false

    @Option(name: [.customShort("f"), .long], help: "text, json or sarif.")
    var format = "text"

    @Flag(name: [.customShort("j"), .long], help: "Same as -f json.")
    var json = false

    func run() throws {
        var options = CheckOptions()
        options.program = program
        options.programs = prog
        options.strictLeaks = strictLeaks
        options.permissions = permissions.set
        options.asksKernel = kernel
        options.types = btf
        options.isVerbose = verbose
        guard let known = CheckOptions.Format(rawValue: json ? "json" : format) else {
            leave(.badOption("--format", value: format, expects: "text, json or sarif"))
        }
        options.format = known
        throw ExitCode(Check.execute(options))
    }
}

/// `ubpfrun explain CODE`.
struct ExplainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain",
        abstract: "What an error code means, or how a function would be patched."
    )

    @Argument(help: ArgumentHelp("V012, U303; libc:malloc, SYM+OFF, /path:SYM.", valueName: "code|symbol"))
    var word: String

    @Option(name: [.short, .long], help: "The function in this process.")
    var pid: String?

    func run() throws {
        do throws(Failure) {
            var options = RunOptions()
            if let pid { try options.addPids(pid) }
            // A letter and a number is no function that anybody probes.
            let isCode = word.count <= 5 && word.first?.isLetter == true && Int(word.dropFirst()) != nil
            print(
                isCode && pid == nil
                    ? try Explanation.text(of: word)
                    : try SiteExplanation.text(of: word, pid: options.pids.first)
            )
        } catch { leave(error) }
    }
}
