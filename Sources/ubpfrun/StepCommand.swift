import ArgumentParser
import Cases
import Controller

/// `ubpfrun step FILE CASE`.
struct StepCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "step",
        abstract: "Walk through a test case or a program's call, forwards and backwards.",
        discussion: """
            Commands come from standard input; 'help' lists them.

              ubpfrun step opens.bpftest 'a full ring'
              ubpfrun step opens.bpf.c on_open 0x1000
            """
    )

    @Argument(help: "A file of cases, an object or a source.")
    var file: String

    @Argument(help: "Part of a case's name; or a program, and the arguments of the probed function.")
    var what: [String]

    func run() throws {
        do throws(Failure) {
            let timeline = try StepSession.timeline(file, what, Installation.current)
            StepSession.run(timeline)
        } catch { leave(error) }
    }
}
