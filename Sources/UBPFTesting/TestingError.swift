import ISA
import Kernel
import Loader
import Runtime
import UBPFVM
import Verifier

/// Why an object cannot be tested, or a map not used as asked; every message of the library but traps' is made here.
public struct TestingError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What kind of mistake it is.
    public enum Kind: Equatable, Sendable {
        /// The object cannot be read.
        case object
        /// A program cannot run in user space, or is wrong.
        case program
        /// A map cannot be made.
        case map
        /// There is nothing of that name.
        case notFound
        /// The wrong number of bytes.
        case size
        /// A map's operation failed; see ``TestingError/errno``.
        case operation
        /// A value does not fit its type.
        case type
        /// Something is not as a test expects it.
        case expectation
        /// The engine cannot run it; another one can.
        case engine
    }

    /// What kind of mistake it is.
    public let kind: Kind
    /// What happened and what to do.
    public let description: String
    /// The error number that the kernel's map operation would give, or 0.
    public let errno: Int32

    init(_ kind: Kind, _ description: String, errno: Int32 = 0) {
        self.kind = kind
        self.description = description
        self.errno = errno
    }

    init(_ error: LoaderError) { self.init(.object, error.description) }
    init(_ error: SessionError) { self.init(.map, "\(error)") }

    static func program(_ name: String, _ reason: String) -> TestingError {
        TestingError(.program, "program \(name): \(reason)")
    }
    static func mixedArray(_ program: ProgramSpec, _ array: String, _ other: ProgramSpec) -> TestingError {
        .program(
            program.name,
            "it is of type \(program.type.name), but shares the program array '\(array)' with '\(other.name)' of type "
                + "\(other.type.name); tail calls hand their context on, and each type has another one"
        )
    }
    static func programArray(_ name: String) -> TestingError {
        TestingError(.operation, "map \(name) holds programs, which the object puts there (.values)", errno: 22)
    }
    static func noProgram(_ name: String, _ all: [String]) -> TestingError { notFound("program", name, all) }
    static func noMap(_ name: String, _ all: [String]) -> TestingError { notFound("map", name, all) }
    static func noVariable(_ name: String, _ all: [String]) -> TestingError { notFound("global variable", name, all) }

    private static func notFound(_ what: String, _ name: String, _ all: [String]) -> TestingError {
        TestingError(.notFound, "no \(what) \(name); there are: \(all.isEmpty ? "none" : all.joined(separator: ", "))")
    }

    static func badSection(_ name: String) -> TestingError {
        TestingError(.notFound, "no kind of program has a section '\(name)'; for instance xdp, tc, socket, uprobe")
    }
    static func noHelper(_ name: String) -> TestingError { notFound("helper", name, HelperFacts.names) }
    static func runsPrograms(_ helper: String) -> TestingError {
        TestingError(
            .notFound,
            "\(helper) runs programs, which no mock and no fault can: fill the map, the array of programs or the ring instead"
        )
    }
    static func noType(_ name: String) -> TestingError {
        TestingError(
            .notFound,
            "the object's types (BTF) have no \(name); compile with -g, and declare "
                + "'const struct \(name) *unused __attribute__((unused));' where only pointers to it are used"
        )
    }
    package static func noHeaders(_ name: String) -> TestingError {
        TestingError(.notFound, "\(name) is not read here: 'ubpfrun test' compiles headers")
    }
    static func noTypes(_ map: String) -> TestingError {
        TestingError(.type, "map \(map) says no types; define it with __type(), or use bytes")
    }
    static func noField(_ name: String, _ type: String, _ all: [String]) -> TestingError {
        TestingError(.type, "\(type) has no field \(name); it has: \(all.joined(separator: ", "))")
    }
    static func doesNotFit(_ value: Value, _ type: String) -> TestingError {
        TestingError(.type, "\(value) is no value of \(type)")
    }
    static func badValue(_ text: String, _ why: String) -> TestingError {
        TestingError(.type, "'\(text)' is no value: \(why)")
    }
    static func expectation(_ text: String) -> TestingError { TestingError(.expectation, text) }
    static func unreadable(_ path: String) -> TestingError { TestingError(.object, "\(path) cannot be read") }
    static func compile(_ reason: String) -> TestingError { TestingError(.program, "cannot be compiled: \(reason)") }

    static func unverified(_ program: String) -> TestingError {
        TestingError(
            .engine,
            "program \(program): the verifier does not know its type, so it runs with checks only: interpreter or checked-jit"
        )
    }
    static let needsRoot = TestingError(.engine, "the kernel runs programs for root only (CAP_BPF and more)")
    static func notForKernel(_ program: String, _ reason: String) -> TestingError {
        TestingError(.engine, "program \(program): the kernel cannot be asked to run it: \(reason)")
    }
    static func kernelType(_ program: ProgramSpec) -> TestingError {
        .notForKernel(
            program.name,
            "BPF_PROG_TEST_RUN takes socket_filter, sched_cls, sched_act, xdp, raw_tracepoint and syscall, not \(program.type.name)"
        )
    }
    static func kernelMap(_ map: MapSpec) -> TestingError {
        TestingError(.engine, "map \(map.name) of type \(map.type.name) cannot be brought to the kernel and back")
    }
    static func kernel(_ what: String, _ error: KernelError) -> TestingError {
        TestingError(.program, "\(what): \(error)", errno: error.errno)
    }

    static func notAnInteger(_ name: String, size: Int) -> TestingError {
        TestingError(.size, "\(name) has \(size) bytes and is no integer; use bytes")
    }
    static func tooLong(_ name: String, _ count: Int, _ limit: Int) -> TestingError {
        TestingError(.size, "\(count) bytes for \(name), which has \(limit)")
    }
    static func keySize(_ map: String, _ count: Int, _ expected: Int) -> TestingError {
        TestingError(.size, "a key of \(count) bytes for map \(map), whose keys have \(expected)")
    }
    static func valueSize(_ map: String, _ count: Int, _ expected: Int) -> TestingError {
        TestingError(.size, "a value of \(count) bytes for map \(map), whose values have \(expected)")
    }
    static func operation(_ call: String, _ map: String, _ status: Int64) -> TestingError {
        TestingError(.operation, "\(call) on map \(map) failed with errno \(-status)", errno: Int32(-status))
    }
    static func noMemory(_ bytes: Int) -> TestingError {
        TestingError(.map, "no memory for maps of \(bytes) bytes; resize them with resize(map:maxEntries:valueSize:)")
    }
}

/// Why a run did not reach the program's end.
public struct Trap: Error, Equatable, Sendable, CustomStringConvertible {
    /// What a program did wrong.
    public enum Kind: Equatable, Sendable {
        /// Read outside its memory; the address.
        case badRead(address: UInt64)
        /// Wrote outside its writable memory; the address.
        case badWrite(address: UInt64)
        /// An atomic operation on an address that is not a multiple of its size.
        case misaligned(address: UInt64)
        /// Ran longer than ``VM/budget``.
        case budget
        /// More than eight frames of calls.
        case callDepth
        /// A helper that this library does not have; its number.
        case unknownHelper(UInt64)
        /// A helper's argument is no valid pointer, map or size.
        case badArgument(UInt64)
        /// An instruction that only the kernel can run.
        case unsupported
        /// Went to something that is no function.
        case badJump
        /// A helper cannot be used on that type of map.
        case wrongMapType
        /// Another thread held a `struct bpf_spin_lock` for too long.
        case lockHeld
        /// An observer of the run ended it.
        case stopped
    }

    /// What the program did wrong.
    public let kind: Kind
    /// The program that was running, which a tail call may have changed.
    public let program: String
    /// Index of the instruction in it.
    public let instruction: Int
    /// `file:line` of the source, where the object has line information.
    public let source: String?
    /// Place, instruction and reason.
    public let description: String

    init?(_ trap: UBPFVM.Trap, in program: ProgramSpec) {
        guard let kind = Kind(trap) else { return nil }
        self.kind = kind
        self.program = program.name
        instruction = trap.instruction
        let line = program.lines.last { $0.instruction <= trap.instruction }
        source = line.map { "\($0.file):\($0.line)" }
        let place = source.map { " at \($0)" } ?? ""
        description = "\(program.name)\(place): \(trap.description(in: program.instructions))"
    }
}

extension Trap.Kind {
    init?(_ trap: UBPFVM.Trap) {
        switch trap.kind {
        case .none: return nil
        case .badRead: self = .badRead(address: trap.value)
        case .badWrite: self = .badWrite(address: trap.value)
        case .misaligned: self = .misaligned(address: trap.value)
        case .budget: self = .budget
        case .callDepth: self = .callDepth
        case .unknownHelper: self = .unknownHelper(trap.value)
        case .badArgument: self = .badArgument(trap.value)
        case .unsupported: self = .unsupported
        case .badJump: self = .badJump
        case .wrongMapType: self = .wrongMapType
        case .lockHeld: self = .lockHeld
        case .stopped: self = .stopped
        }
    }
}

extension Trap {
    /// Line in the source file, where the object has line information.
    public var line: Int? { source.flatMap { $0.split(separator: ":").last }.flatMap { Int($0) } }
}

extension Trap.Kind {
    /// Its name alone, like `badRead`.
    public var name: String {
        switch self {
        case .badRead: "badRead"
        case .badWrite: "badWrite"
        case .misaligned: "misaligned"
        case .budget: "budget"
        case .callDepth: "callDepth"
        case .unknownHelper: "unknownHelper"
        case .badArgument: "badArgument"
        case .unsupported: "unsupported"
        case .badJump: "badJump"
        case .wrongMapType: "wrongMapType"
        case .lockHeld: "lockHeld"
        case .stopped: "stopped"
        }
    }
}
