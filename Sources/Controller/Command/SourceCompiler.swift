import CLinux
import Glibc

/// Compiles a `.bpf.c` with the flags and headers that it needs; the object lives as long as the value.
package struct CompiledObject: ~Copyable {
    package let path: String
    private let directory: String

    private init(path: String, directory: String) {
        self.path = path
        self.directory = directory
    }

    /// Compiles a source; what clang says is the reason when it refuses.
    ///
    /// `events` are structs that the object is to have in its BTF, where clang puts only what others refer to.
    package static func compile(
        _ source: String,
        events: [EventChoice] = [],
        installation: Installation
    ) throws(Failure) -> CompiledObject {
        let compiler = try findCompiler()
        guard let directory = makeDirectory() else {
            throw Failure.outputFailed("\(temporary)/ubpf-XXXXXX", errno: clinux_errno())
        }
        // The object keeps the source's name, since messages show it.
        let name = fileName(of: source)
        let object = CompiledObject(
            path: "\(directory)/\(name.hasSuffix(".c") ? name.dropLast(2) + ".o" : name)",
            directory: directory
        )
        let types = events.filter { $0.header == nil }.map(\.type)
        var around: String?
        if !types.isEmpty {
            let text = (["#include \"\(absolutePath(source))\""] + types.map(variable)).joined(separator: "\n") + "\n"
            around = try wrapper(text, in: directory)
        }
        defer { if let around { _ = unsafe unlink(around) } }
        let result = runProgram(
            compiler,
            arguments(source: around ?? source, output: object.path, headers: installation.headers)
        )
        guard result.status == 0 else {
            throw Failure.compilationFailed(
                source,
                log: result.errors.isEmpty ? exitText(result.status) : result.errors
            )
        }
        return object
    }

    deinit {
        _ = unsafe unlink(path)
        _ = unsafe rmdir(directory)
    }

    /// An object with nothing but one struct of a header in its BTF.
    package static func compile(
        header: String,
        type: String,
        installation: Installation
    ) throws(Failure) -> CompiledObject {
        let compiler = try findCompiler()
        guard isFile(header) else { throw Failure(.fileMissing, "no header '\(header)'") }
        guard let directory = makeDirectory() else {
            throw Failure.outputFailed("\(temporary)/ubpf-XXXXXX", errno: clinux_errno())
        }
        let object = CompiledObject(path: "\(directory)/types.o", directory: directory)
        var log = ""
        // Headers for both sides of a program leave the kernel's names to whoever includes them; some have their own.
        for first in ["#include \"vmlinux.h\"\n", ""] {
            let text = "\(first)#include \"\(absolutePath(header))\"\n\(variable(type))\n"
            let source = try wrapper(text, in: directory)
            defer { _ = unsafe unlink(source) }
            let result = runProgram(
                compiler,
                arguments(source: source, output: object.path, headers: installation.headers)
            )
            if result.status == 0 { return object }
            if log.isEmpty { log = result.errors.isEmpty ? exitText(result.status) : result.errors }
        }
        throw Failure.compilationFailed(header, log: log)
    }

    /// Brings a struct into BTF.
    private static func variable(_ type: String) -> String {
        "struct \(type) *___ubpfrun_\(type) __attribute__((unused));"
    }

    private static func wrapper(_ text: String, in directory: String) throws(Failure) -> String {
        let path = "\(directory)/events.c"
        let file = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw Failure.outputFailed(path, errno: clinux_errno()) }
        defer { _ = close(file) }
        let error = writeAll(file, text)
        guard error == 0 else { throw Failure.outputFailed(path, errno: error) }
        return path
    }

    /// What a tutorial's Makefile would pass; `-mcpu=v3` is what kernels since 5.1 understand.
    package static func arguments(source: String, output: String, headers: String) -> [String] {
        [
            "-g", "-O2", "-target", "bpf", "-mcpu=v3", "-D__TARGET_ARCH_x86", "-fno-stack-protector",
            "-I", headers,
            // Debian keeps asm/types.h there, and the bpf target does not look.
            "-I", "/usr/include/x86_64-linux-gnu",
            "-c", source, "-o", output,
        ]
    }

    /// `UBPF_CLANG`, or the first clang in PATH that has the BPF target.
    package static func findCompiler() throws(Failure) -> String {
        if let chosen = environmentValue("UBPF_CLANG"), !chosen.isEmpty {
            guard let path = lookUp(chosen) else { throw Failure.compilerMissing("UBPF_CLANG=\(chosen) is no command") }
            guard hasTarget(path) else { throw Failure.compilerMissing("\(path) has no BPF target") }
            return path
        }
        var without: [String] = []
        for name in ["clang"] + (14...22).reversed().map({ "clang-\($0)" }) {
            guard let path = lookUp(name) else { continue }
            if hasTarget(path) { return path }
            without.append(path)
        }
        throw Failure.compilerMissing(
            without.isEmpty ? "there is no clang in PATH" : "\(without.joined(separator: ", ")) without the BPF target"
        )
    }

    private static func hasTarget(_ clang: String) -> Bool {
        let result = runProgram(clang, ["-print-targets"])
        return result.output.split(separator: "\n").contains { line in
            line.split(separator: " ").first == "bpf"
        }
    }

    private static var temporary: String { environmentValue("TMPDIR") ?? "/tmp" }

    private static func makeDirectory() -> String? {
        var template = Array("\(temporary)/ubpf-XXXXXX".utf8CString)
        return unsafe template.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress, unsafe mkdtemp(base) != nil else { return nil }
            return unsafe String(cString: base)
        }
    }
}

/// The executable that a name stands for, searched in PATH as execvp(3) does.
func lookUp(_ name: String) -> String? {
    func isExecutable(_ path: String) -> Bool { unsafe isFile(path) && access(path, X_OK) == 0 }
    if name.contains("/") { return isExecutable(name) ? name : nil }
    return inPath(name, where: isExecutable)
}

/// The first file of that name in PATH that `suits`.
func inPath(_ name: String, where suits: (String) -> Bool) -> String? {
    let path = environmentValue("PATH") ?? "/usr/local/bin:/usr/bin:/bin"
    for directory in path.split(separator: ":", omittingEmptySubsequences: false) {
        let candidate = "\(directory.isEmpty ? "." : String(directory))/\(name)"
        if suits(candidate) { return candidate }
    }
    return nil
}

/// What a finished program left behind.
struct ProgramResult {
    var status: Int32
    var output: String
    var errors: String
}

/// Runs a program to its end with its output collected; for compilers, not for targets.
func runProgram(_ path: String, _ arguments: [String]) -> ProgramResult {
    let output = unsafe clinux_memfd("ubpf-output", 0)
    let errors = unsafe clinux_memfd("ubpf-errors", 0)
    guard output >= 0, errors >= 0 else { return ProgramResult(status: 127, output: "", errors: "no memory files") }
    defer {
        _ = close(output)
        _ = close(errors)
    }
    let status = unsafe withCStrings([path] + arguments) { list in
        unsafe clinux_run(path, list, output, errors)
    }
    return ProgramResult(status: abs(status), output: contents(output), errors: contents(errors))
}

private func contents(_ descriptor: Int32) -> String {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
        let got = unsafe chunk.withUnsafeMutableBytes {
            unsafe pread(descriptor, $0.baseAddress, $0.count, off_t(bytes.count))
        }
        if got <= 0 { return String(decoding: bytes, as: UTF8.self) }
        bytes += chunk[..<got]
    }
}
