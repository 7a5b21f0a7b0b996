import CLinux
import CSession
import Foundation
import ISA
import Planner
import Runtime
import Symbols
import UBPFVM

/// A probe on a function: every site gets an entry program and, where asked for, a return program.
struct Probe {
    var module = ""
    var symbol: String
    var offset: UInt64 = 0
    var returns = true
}

/// What a finished target left.
struct Outcome {
    var status: Int32
    var output: String
    var errors: String
    /// Per symbol: of the entry programs, then of the return programs.
    var entries: [String: csession_statistics] = [:]
    var returns: [String: csession_statistics] = [:]
    var attached: csession_message?

    /// The number after `word` in the errors, for cases whose counts depend on time.
    func number(_ word: String) -> Int? {
        errors.split(separator: "\n").last { $0.hasPrefix(word) }.flatMap { Int($0.dropFirst(word.count + 1)) }
    }
}

struct TestFailure: Error, CustomStringConvertible { var description: String }

/// The library that ships, as `make build` or an Embedded release build leaves it.
let library: String? = {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path
    let places = [
        ProcessInfo.processInfo.environment["UBPF_TEST_LIBRARY"], "\(root)/dist/lib/libubpf.so",
        "\(root)/.build-embedded/release/libubpf.so",
    ]
    return places.compactMap { $0 }.first { FileManager.default.fileExists(atPath: $0) }
}()

/// Starts a command with pipes of its own; `socket` becomes descriptor 9.
private func spawn(_ command: [String], _ environment: [String], socket: Int32, _ output: Int32, _ errors: Int32) throws
    -> pid_t
{
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, output, 1)
    posix_spawn_file_actions_adddup2(&actions, errors, 2)
    if socket >= 0 { posix_spawn_file_actions_adddup2(&actions, socket, 9) }
    // Test threads block most signals; a program starts with none blocked.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var mask = sigset_t()
    sigemptyset(&mask)
    posix_spawnattr_setsigmask(&attributes, &mask)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    var pid: pid_t = 0
    let arguments = command.map { strdup($0) } + [nil]
    let variables = environment.map { strdup($0) } + [nil]
    defer { (arguments + variables).forEach { free($0) } }
    let failed = posix_spawn(&pid, command[0], &actions, &attributes, arguments, variables)
    guard failed == 0 else { throw TestFailure(description: "cannot start \(command): \(failed)") }
    return pid
}

/// memfd_create(2), close-on-exec.
private func memoryFile(_ name: String) -> Int32 {
    name.withCString { Int32(clinux_syscall(319, Int64(Int(bitPattern: $0)), 1, 0, 0, 0, 0)) }
}

private func temporaryFile() throws -> Int32 {
    let number = memoryFile("output")
    guard number >= 0 else { throw TestFailure(description: "memfd_create") }
    return number
}

private func contents(_ file: Int32) -> String {
    let size = Int(lseek(file, 0, SEEK_END))
    var bytes = [UInt8](repeating: 0, count: size)
    let got = pread(file, &bytes, size, 0)
    return String(decoding: bytes.prefix(max(got, 0)), as: UTF8.self)
}

/// Kills a target that hangs, so that the test fails instead of waiting for ever.
private func wait(_ pid: pid_t, seconds: Int) -> Int32 {
    var status: Int32 = 0
    for _ in 0..<seconds * 100 {
        if waitpid(pid, &status, WNOHANG) == pid { return status }
        usleep(10_000)
    }
    kill(pid, SIGKILL)
    waitpid(pid, &status, 0)
    return -1
}

/// Runs a command, without the library where `library` is nil.
func run(_ command: [String], environment: [String] = [], library: String? = nil, seconds: Int = 120) throws -> Outcome
{
    let output = try temporaryFile()
    let errors = try temporaryFile()
    defer {
        close(output)
        close(errors)
    }
    var variables = ["PATH=/usr/bin:/bin", "HOME=/", "LC_ALL=C"] + environment
    if let library { variables.append("LD_PRELOAD=\(library)") }
    let pid = try spawn(command, variables, socket: -1, output, errors)
    let status = wait(pid, seconds: seconds)
    return Outcome(status: status, output: contents(output), errors: contents(errors))
}

/// The smallest controller: answers HELLO with a session in which every probe runs `program`.
func runProbed(
    _ command: [String],
    _ probes: [Probe],
    program: [Instruction] = [Instruction(.mov64Imm, dst: .r0), Instruction(.exit)],
    flags: UInt32 = 0,
    seconds: Int = 120,
    during: (UnsafeMutablePointer<csession_shared>) -> Void = { _ in }
) throws -> Outcome {
    guard let library else { throw TestFailure(description: "no libubpf.so: run 'make build' first") }
    var pair: [Int32] = [0, 0]
    socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &pair)
    _ = fcntl(pair[0], F_SETFD, FD_CLOEXEC)
    let output = try temporaryFile()
    let errors = try temporaryFile()
    defer {
        close(output)
        close(errors)
    }
    let variables = [
        "PATH=/usr/bin:/bin", "HOME=/", "LC_ALL=C", "UBPF_SOCKET=9", "UBPF_LOG=stderr", "LD_PRELOAD=\(library)",
    ]
    let pid = try spawn(command, variables, socket: pair[1], output, errors)
    close(pair[1])
    defer { close(pair[0]) }
    var outcome = Outcome(status: 0, output: "", errors: "")
    var hello = csession_message()
    guard recv(pair[0], &hello, MemoryLayout<csession_message>.size, 0) == MemoryLayout<csession_message>.size else {
        kill(pid, SIGKILL)
        _ = wait(pid, seconds: 5)
        throw TestFailure(description: "no HELLO: \(contents(errors))")
    }
    let session = try Session(pid: pid, probes, program, flags)
    defer { session.unmap() }
    try session.send(pair[0])
    var answer = csession_message()
    let got = recv(pair[0], &answer, MemoryLayout<csession_message>.size, 0)
    if got == MemoryLayout<csession_message>.size { outcome.attached = answer }
    during(session.shared)
    outcome.status = wait(pid, seconds: seconds)
    outcome.output = contents(output)
    outcome.errors = contents(errors)
    for (index, owner) in session.owners.enumerated() {
        let counters = session.statistics(index)
        if owner.isReturn {
            outcome.returns[owner.symbol, default: csession_statistics()].add(counters)
        } else {
            outcome.entries[owner.symbol, default: csession_statistics()].add(counters)
        }
    }
    return outcome
}

extension csession_statistics {
    mutating func add(_ other: csession_statistics) {
        hits += other.hits
        missed += other.missed
        traps += other.traps
    }
    var total: Int { Int(hits + missed) }
}

/// The session's files, planned for a process that waits for them.
private final class Session {
    let image: Int32
    let plan: Int32
    let sharedFile: Int32
    let shared: UnsafeMutablePointer<csession_shared>
    let sharedSize: Int
    let statisticsOffset: Int
    private let statisticShards: Int
    private let statisticsCapacity: Int
    var owners: [(symbol: String, isReturn: Bool)] = []

    init(pid: pid_t, _ probes: [Probe], _ program: [Instruction], _ flags: UInt32) throws {
        var builder = SessionBuilder(cpuCount: ProcessInfo.processInfo.processorCount, probeCapacity: 256)
        builder.layoutMaps()
        let linked = try link(program, mapCount: 0) { _, _ in nil }
        let number = builder.addProgram(name: "probe", type: .kprobe, instructions: linked)
        var sites = PlanBuilder(capacity: 256)
        let resolver = try ProbeResolver(pid: pid)
        var planner = try SitePlanner()
        for probe in probes {
            for target in try resolver.resolve(module: probe.module, symbol: probe.symbol, offset: probe.offset) {
                let plan = try planner.plan(target.function, offset: target.offset)
                let withReturn = probe.returns && plan.isFunctionEntry
                _ = try sites.addSite(
                    SiteParameters(
                        address: plan.address,
                        island: plan.island,
                        resume: plan.resume,
                        window: plan.window,
                        tactic: csession_tactic(rawValue: plan.tactic.rawValue),
                        isFunction: plan.isFunctionEntry,
                        original: plan.original,
                        code: plan.code,
                        fixups: plan.fixups.map { csession_fixup(target: $0.target, field: $0.field, end: $0.end) },
                        entries: [ProbeParameters(program: number)],
                        returns: withReturn ? [ProbeParameters(program: number)] : []
                    )
                )
                owners.append((probe.symbol, false))
                if withReturn { owners.append((probe.symbol, true)) }
            }
        }
        let tid = UInt32(truncatingIfNeeded: clinux_syscall(186, 0, 0, 0, 0, 0, 0))
        let built = builder.finish(ownerPid: UInt32(getpid()), ownerTid: tid, flags: flags)
        let imageFile = memoryFile("image")
        let planFile = memoryFile("plan")
        image = imageFile
        plan = planFile
        _ = sites.finish(session: built.identifier).withUnsafeBytes { write(planFile, $0.baseAddress, $0.count) }
        sharedFile = memoryFile("shared")
        _ = built.bytes.withUnsafeBytes { write(imageFile, $0.baseAddress, $0.count) }
        ftruncate(sharedFile, built.sharedSize)
        sharedSize = built.sharedSize
        guard let memory = mmap(nil, sharedSize, PROT_READ | PROT_WRITE, MAP_SHARED, sharedFile, 0),
            memory != MAP_FAILED
        else { throw TestFailure(description: "mmap") }
        built.initializeShared(memory)
        shared = memory.assumingMemoryBound(to: csession_shared.self)
        statisticsOffset = built.bytes.withUnsafeBytes { Int($0.load(as: csession_image.self).statistics_offset) }
        (statisticShards, statisticsCapacity) = built.bytes.withUnsafeBytes {
            let header = $0.load(as: csession_image.self)
            return (Int(header.statistic_shards), Int(header.statistics_capacity))
        }
        // What the kernel would see in a robust mutex that this thread holds.
        (memory + 64).storeBytes(of: tid, as: UInt32.self)
    }

    func statistics(_ probe: Int) -> csession_statistics {
        let table = (UnsafeRawPointer(shared) + statisticsOffset).assumingMemoryBound(to: csession_statistics.self)
        var sum = csession_statistics()
        for shard in 0..<statisticShards { sum.add(table[shard * statisticsCapacity + probe]) }
        return sum
    }

    /// SESSION with the three descriptors (unix(7), SCM_RIGHTS).
    func send(_ socket: Int32) throws {
        var message = csession_message()
        message.kind = CSESSION_SESSION.rawValue
        var control = [Int](repeating: 0, count: 4)
        control.withUnsafeMutableBytes {
            $0.storeBytes(of: 16 + 12, toByteOffset: 0, as: Int.self)
            $0.storeBytes(of: SOL_SOCKET, toByteOffset: 8, as: Int32.self)
            $0.storeBytes(of: 1, toByteOffset: 12, as: Int32.self)
            $0.storeBytes(of: image, toByteOffset: 16, as: Int32.self)
            $0.storeBytes(of: sharedFile, toByteOffset: 20, as: Int32.self)
            $0.storeBytes(of: plan, toByteOffset: 24, as: Int32.self)
        }
        let sent = withUnsafeMutableBytes(of: &message) { data in
            control.withUnsafeMutableBytes { control in
                var part = iovec(iov_base: data.baseAddress, iov_len: data.count)
                return withUnsafeMutablePointer(to: &part) {
                    var header = msghdr()
                    header.msg_iov = $0
                    header.msg_iovlen = 1
                    header.msg_control = control.baseAddress
                    header.msg_controllen = 32
                    return sendmsg(socket, &header, 0)
                }
            }
        }
        guard sent == MemoryLayout<csession_message>.size else { throw TestFailure(description: "sendmsg") }
    }

    func unmap() {
        munmap(shared, sharedSize)
        close(image)
        close(plan)
        close(sharedFile)
    }
}
