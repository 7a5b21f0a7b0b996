import CLinux
import Foundation
import Symbols
import Testing

@testable import Inject

struct TestFailure: Error, CustomStringConvertible { var description: String }

/// 1,000 injections instead of 100, and so on: UBPF_TORTURE=1.
let isTorture = ProcessInfo.processInfo.environment["UBPF_TORTURE"] != nil

/// Programs and libraries that the tests compile, once.
enum Fixtures {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    private static let package = root.deletingLastPathComponent().deletingLastPathComponent()

    static let directory: String = {
        let path = NSTemporaryDirectory() + "inject-tests-\(getpid())"
        mkdir(path, 0o755)
        chmod(path, 0o755)
        return path
    }()

    /// Compiles with cc or c++; the path of the result.
    static func compile(_ name: String, _ arguments: [String], with compiler: String = "/usr/bin/cc") throws -> String {
        let path = "\(directory)/\(name)"
        let process = Process()
        process.executableURL = URL(fileURLWithPath: compiler)
        process.arguments = ["-o", path] + arguments
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw TestFailure(description: "cannot compile \(name)") }
        return path
    }

    private static func source(_ name: String) -> String { root.appendingPathComponent("Fixtures/\(name)").path }
    private static let reap = package.appendingPathComponent("Sources/CPatch/reap.S").path

    static let library = Result {
        try compile("libserve.so", ["-O2", "-shared", "-fPIC", source("serve.c"), reap])
    }
    /// Without the function that takes the last mapping back.
    static let unreaped = Result { try compile("libunreaped.so", ["-O2", "-shared", "-fPIC", source("serve.c")]) }
    static let unservable = Result { try compile("libother.so", ["-O2", "-shared", "-fPIC", reap]) }
    static let unloadable = Result {
        try Data("void absent(void); void ubpf_serve(void) { absent(); }".utf8)
            .write(to: URL(fileURLWithPath: "\(directory)/bad.c"))
        return try compile("libbad.so", ["-shared", "-fPIC", "\(directory)/bad.c"])
    }
    static let programs = Result {
        for name in ["allocate", "sleep", "hold"] {
            _ = try compile(name, ["-O1", "-pthread", source("\(name).c"), "-lrt"])
        }
        _ = try compile("threadlocal", ["-O1", "-pthread", source("threadlocal.cpp")], with: "/usr/bin/c++")
    }

    static func program(_ name: String) throws -> String {
        try programs.get()
        return "\(directory)/\(name)"
    }

    /// The driver, where swift build leaves it.
    static let driver = package.appendingPathComponent(".build/debug/inject-driver").path
}

/// A process to inject into.
final class Target {
    let pid: pid_t
    private let output: Int32
    private var status: Int32?

    init(_ command: [String], environment: [String] = [], errors: Int32? = nil) throws {
        output = Int32(clinux_syscall(319, Int64(Int(bitPattern: Self.name)), 1, 0, 0, 0, 0))  // memfd_create
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        posix_spawn_file_actions_adddup2(&actions, output, 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var mask = sigset_t()
        sigemptyset(&mask)
        posix_spawnattr_setsigmask(&attributes, &mask)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        let variables = ["PATH=/usr/bin:/bin", "HOME=/tmp", "LC_ALL=C"] + environment
        let argv = command.map { strdup($0) } + [nil]
        let envp = variables.map { strdup($0) } + [nil]
        defer { (argv + envp).forEach { free($0) } }
        var child: pid_t = 0
        guard posix_spawn(&child, command[0], &actions, &attributes, argv, envp) == 0 else {
            throw TestFailure(description: "cannot start \(command)")
        }
        pid = child
    }

    nonisolated(unsafe) private static let name = strdup("output")

    deinit {
        if status == nil {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
        }
        close(output)
    }

    var text: String {
        var bytes = [UInt8](repeating: 0, count: Int(lseek(output, 0, SEEK_END)))
        let got = pread(output, &bytes, bytes.count, 0)
        return String(decoding: bytes.prefix(max(got, 0)), as: UTF8.self)
    }

    /// Waits until it has printed a word.
    func ready(_ word: String = "ready", seconds: Int = 60) throws -> Target {
        for _ in 0..<seconds * 100 {
            if text.contains(word) { return self }
            usleep(10_000)
        }
        throw TestFailure(description: "the target is not ready: \(text)")
    }

    /// Its exit status as waitpid(2) gives it; -1 when it hung and was killed.
    func end(_ signal: Int32? = nil, seconds: Int = 60) -> Int32 {
        if let signal { kill(pid, signal) }
        var result: Int32 = 0
        for _ in 0..<seconds * 100 {
            if waitpid(pid, &result, WNOHANG) == pid {
                status = result
                return result
            }
            usleep(10_000)
        }
        return -1
    }

    var isAlive: Bool { TargetStatus.read(pid: pid).map { $0.state != "Z" } ?? false }

    /// What an injection must leave as it was.
    struct Snapshot: Equatable {
        var files: [String]
        var threads: [Int32]
        var maps: [String]
        var signals: [String]
    }

    func snapshot() -> Snapshot {
        let maps = lines("maps")
        return Snapshot(
            files: ((try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd")) ?? []).sorted(),
            threads: threadNumbers(pid).sorted(),
            maps: maps,
            signals: Self.signals(lines("status"))
        )
    }

    /// Masks of /proc/PID/status without signals 32 and 33, whose handlers libc installs with the first pthread_create.
    private static func signals(_ status: [String]) -> [String] {
        status.filter { $0.hasPrefix("Sig") && !$0.hasPrefix("SigQ") }.map { line in
            let mask = UInt64(line.split(separator: "\t").last ?? "", radix: 16) ?? 0
            return "\(line.prefix(7))\(String(mask & ~(3 << 31), radix: 16))"
        }
    }

    func lines(_ file: String) -> [String] {
        (try? String(contentsOfFile: "/proc/\(pid)/\(file)", encoding: .utf8))?.split(separator: "\n").map(String.init)
            ?? []
    }

    /// One whole conversation; what the library said.
    @discardableResult
    func inject(_ library: String, pause: UInt32 = 0) throws -> (text: String, injected: Injected) {
        let injected = try Injector(Injector.inspect(pid: pid)).inject(libraryPath: library)
        var bytes = [UInt8](repeating: 0, count: 256)
        let got = clinux_receive(injected.socket, &bytes, UInt64(bytes.count), nil, nil)
        if pause > 0 { usleep(pause) }
        close(injected.socket)
        guard injected.waitUntilGone(milliseconds: 10_000) else {
            throw TestFailure(description: "memory of the injection is left")
        }
        return (String(decoding: bytes.prefix(Int(max(got, 0))), as: UTF8.self), injected)
    }
}

/// Waits until a condition holds.
func eventually(seconds: Int = 5, _ condition: () -> Bool) -> Bool {
    for _ in 0..<seconds * 100 {
        if condition() { return true }
        usleep(10_000)
    }
    return condition()
}

func median(_ values: [UInt64]) -> UInt64 { values.sorted()[values.count / 2] }
