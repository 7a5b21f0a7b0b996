package import Controller
import UBPFTesting

/// `ubpfrun step`: what is walked through, and the conversation about it.
package enum StepSession {
    /// The runs of a case, or of one call; `words` are a part of a case's name, or a program and the function's arguments.
    package static func timeline(
        _ path: String,
        _ words: [String],
        _ installation: Installation
    ) throws(Failure) -> Timeline {
        let files = TestRun(TestOptions(), installation)
        let file: CaseFile
        let test: Case
        if path.hasSuffix(".bpftest") {
            file = try read(path)
            test = try find(words.joined(separator: " "), in: file)
        } else {
            (file, test) = try call(words, of: path)
        }
        let object = try files.load(file.object, beside: path)
        do {
            let runner = files.runner(file, object)
            let vm = try runner.machine(test.settings)
            for case .run(let program, _) in test.steps.map(\.action) { _ = try vm.program(program) }
            return Timeline(test, of: file, object, vm, headers: runner.headers)
        } catch let error as Failure {
            throw error
        } catch {
            throw Failure(.badCases, "\(error)", place: path)
        }
    }

    /// Reads commands until they end, and prints what they show.
    package static func run(_ timeline: Timeline) {
        var stepper = Stepper(timeline)
        print(stepper.start)
        while let line = readLine() {
            guard let answer = stepper.perform(line) else { return }
            print(answer)
        }
    }

    private static func read(_ path: String) throws(Failure) -> CaseFile {
        do throws(TestRun.Failures) { return try TestRun.read(path) } catch {
            throw error.all.first ?? Failure(.badCases, "cannot be read", place: path)
        }
    }

    private static func find(_ name: String, in file: CaseFile) throws(Failure) -> Case {
        let found = file.cases.filter { $0.name == name }
        let near = found.isEmpty ? file.cases.filter { $0.name.contains(name) } : found
        if near.count == 1 { return near[0] }
        throw Failure(
            .badOption,
            near.isEmpty ? "no case has '\(name)' in its name" : "'\(name)' is in the names of \(near.count) cases",
            place: file.path,
            help: "there are: " + (near.isEmpty ? file.cases : near).map { "'\($0.name)'" }.joined(separator: ", ")
        )
    }

    /// A case that makes one call.
    private static func call(_ words: [String], of path: String) throws(Failure) -> (CaseFile, Case) {
        let program = words[0]
        let arguments = words.dropFirst().joined(separator: ", ")
        // The object lies where it was said, not beside a case file.
        let text = "object \(path)\nno-verify\ncase \(program)\nrun \(program)(\(arguments))\n"
        switch Parser.parse(text, path: path) {
        case .success(let file): return (file, file.cases[0])
        case .failure(let errors):
            throw Failure(
                .badOption,
                errors.all.first?.what ?? "cannot be called",
                help: "say a program and the arguments of the probed function: ubpfrun step \(path) PROGRAM 64 0x1000"
            )
        }
    }
}
