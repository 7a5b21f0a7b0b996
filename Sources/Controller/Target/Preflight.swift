import CLinux
import Glibc
package import Symbols

/// A command that has been looked at and can be started under the library; nothing has been touched yet.
package struct Preflight: Equatable, Sendable {
    /// What execve(2) gets.
    package let path: String
    package let arguments: [String]

    /// Finds the command in PATH and refuses what cannot load the library, with the reason.
    package init(_ command: [String]) throws(Failure) {
        guard let name = command.first, !name.isEmpty else { throw Failure.usage("no command after --") }
        path = try Self.find(name)
        arguments = command
        try Self.check(path, depth: 0)
    }

    /// Finds a command that nothing is loaded into.
    init(plain command: [String]) throws(Failure) {
        guard let name = command.first, !name.isEmpty else { throw Failure.usage("no command after --") }
        path = try Self.find(name)
        arguments = command
    }

    private static func find(_ name: String) throws(Failure) -> String {
        if let path = lookUp(name) { return path }
        guard name.contains("/") else {
            // execvp(3) goes on past a file that may not be executed, and says so only if it finds nothing better.
            if let blocked = inPath(name, where: isFile) { throw Failure.notExecutable(blocked) }
            throw Failure.commandNotFound(name)
        }
        if isDirectory(name) { throw Failure.isDirectory(name) }
        throw isFile(name) ? Failure.notExecutable(name) : Failure.commandNotFound(name)
    }

    /// Follows `#!` lines to the program that will run, as the kernel does (at most five deep, fs/exec.c).
    private static func check(_ path: String, depth: Int) throws(Failure) {
        let info: BinaryInfo
        do { info = try BinaryInfo.inspect(path) } catch { throw Failure(error) }
        if case .script(let interpreter) = info.form, depth < 5 {
            guard let program = lookUp(interpreter), interpreter.contains("/") else {
                throw Failure.badInterpreter(path, interpreter: interpreter, Failure.commandNotFound(interpreter))
            }
            do throws(Failure) { try check(program, depth: depth + 1) } catch {
                throw Failure.badInterpreter(path, interpreter: interpreter, error)
            }
            return
        }
        if let refusal = info.preloadRefusal(effectiveUser: geteuid()) { throw Failure(refusal) }
    }
}

extension Failure {
    /// What the symbol side says, with its own code.
    package init(_ error: SymbolsError) {
        self.init(
            ErrorCode(rawValue: error.code) ?? .internalError,
            error.message,
            place: error.place.isEmpty ? nil : error.place,
            why: error.why.isEmpty ? nil : error.why,
            help: error.help.isEmpty ? nil : error.help,
            codeText: error.code
        )
    }
}
