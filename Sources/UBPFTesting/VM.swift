import Loader

/// A loaded object: its maps in this process's memory, and its programs ready to run, without root.
///
/// Programs run on the interpreter that also runs inside probed processes, on one CPU, with every memory access checked.
/// Pointers that a test puts into registers are followed by `bpf_probe_read_user()` in the test's own memory.
///
///     let vm = try VM(BPFObject(path: "malloccount.bpf.o"))
///     try vm.program("on_malloc").run(registers: ProbeRegisters(arguments: [64]), caller: Caller(pid: 7))
///     #expect(try vm.map("totals").value(forKey: littleEndian(UInt32(7))) != nil)
public final class VM {
    /// The object that was loaded.
    public let object: BPFObject
    /// Instructions that one run may execute.
    public var budget: UInt64 = 1 << 26
    let session: LoadedSession

    /// Makes the maps, verifies and links the programs.
    ///
    /// A program that cannot run in user space, or that the verifier refuses, is reported by ``program(_:)``, so that an
    /// object's other programs can be tested. Memory accesses are checked as programs run in any case; programs of types
    /// that the verifier does not know rely on that alone.
    ///
    /// - Parameter verifies: false lets programs run that the verifier refuses, to see what they do.
    public init(_ object: BPFObject, verifies: Bool = true) throws(TestingError) {
        self.object = object
        session = try LoadedSession(object.spec, verifies: verifies)
    }

    /// A program by its name; throws where it cannot run in user space, with the reason.
    public func program(_ name: String) throws(TestingError) -> Program {
        guard let spec = object.spec.programs.firstIndex(where: { $0.name == name }) else {
            throw .noProgram(name, object.programs)
        }
        return Program(name: name, index: try session.program(spec), vm: self, session: session)
    }

    /// A map by its name.
    public func map(_ name: String) throws(TestingError) -> MapHandle {
        guard let index = object.spec.maps.firstIndex(where: { $0.name == name }), let view = session.view(of: index)
        else { throw .noMap(name, object.maps) }
        return MapHandle(name: name, view: view, session: session)
    }

    /// The current value of an integer variable of `.rodata`, `.data` or `.bss`.
    public func value(of variable: String) throws(TestingError) -> Int64 {
        let found = try object.find(variable).variable
        guard found.size <= 8 else { throw .notAnInteger(variable, size: found.size) }
        let word = try bytes(of: variable).enumerated().reduce(UInt64(0)) {
            $0 | UInt64($1.element) << UInt64(8 * $1.offset)
        }
        let unused = UInt64(64 - 8 * found.size)
        let isSigned = found.kind == .signed || found.kind == .character
        return isSigned ? Int64(bitPattern: word << unused) >> Int64(unused) : Int64(bitPattern: word)
    }

    /// The current bytes of a variable of `.rodata`, `.data` or `.bss`.
    public func bytes(of variable: String) throws(TestingError) -> [UInt8] {
        let (map, found) = try object.find(variable)
        guard let view = session.view(of: map) else { throw .noMap(object.spec.maps[map].name, object.maps) }
        let handle = MapHandle(name: object.spec.maps[map].name, view: view, session: session)
        let all = try handle.value(forKey: [0, 0, 0, 0]) ?? []
        return Array(all[found.offset..<found.offset + found.size])
    }

    /// Lines printed with `bpf_printk()` since the last call.
    public func printedLines() -> [String] { session.printedLines() }
}
