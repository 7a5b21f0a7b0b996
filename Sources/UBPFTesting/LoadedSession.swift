import CRuntime
import Glibc
import ISA
import Loader
import Runtime
import UBPFVM
import Verifier
import VerifierInput

/// An object's session in anonymous memory of this process.
@safe
final class LoadedSession {
    let session: SessionView
    /// A context that knows the session and has a stack; copied for each run.
    let context: cruntime_context
    private let memory: UnsafeMutableRawPointer
    private let size: Int
    private let mapIndices: [Int: Int]
    /// Session index of each of the object's programs, or why it has none.
    private let programs: [Result<Int, TestingError>]
    private let specs: [ProgramSpec]
    private var log: RingConsumer

    private static var stackSize: Int { Int(Interpreter.maximumFrames * Interpreter.frameSize) }

    init(_ spec: ObjectSpec, verifies: Bool) throws(TestingError) {
        var builder = SessionBuilder(cpuCount: 1, probeCapacity: 1, perfRingSize: 1 << 16, seed: 1)
        let mapIndices = try Self.addMaps(of: spec, to: &builder)
        let logMap: Int
        do { logMap = try builder.addLogRing() } catch { throw TestingError(error) }
        builder.layoutMaps()
        var programs: [Result<Int, TestingError>] = []
        let types = spec.btf.map { TypeFacts($0) }
        for (index, program) in spec.programs.enumerated() {
            if let mixed = spec.mixedArray(around: index) {
                programs.append(.failure(.mixedArray(program, mixed.array, mixed.other)))
                continue
            }
            do {
                programs.append(
                    .success(try Self.add(program, of: spec, types, verifies: verifies, maps: mapIndices, to: &builder))
                )
            } catch {
                programs.append(.failure(error))
            }
        }
        let image = builder.finish(ownerPid: UInt32(getpid()), ownerTid: cruntime_tid())
        let imageSize = (image.bytes.count + 4095) & ~4095
        let sharedSize = (image.sharedSize + 4095) & ~4095
        let size = imageSize + sharedSize + Self.stackSize
        guard
            let memory = unsafe mmap(
                nil,
                size,
                PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1,
                0
            ),
            unsafe memory != MAP_FAILED
        else { throw .noMemory(size) }
        unsafe memory.copyMemory(from: image.bytes, byteCount: image.bytes.count)
        let shared = unsafe memory + imageSize
        unsafe image.initializeShared(shared)
        // Frozen values must not change, whoever writes.
        unsafe mprotect(memory, imageSize, PROT_READ)
        let view = unsafe SessionView(
            image: UnsafePointer(memory.assumingMemoryBound(to: UInt8.self)),
            shared: shared.assumingMemoryBound(to: UInt8.self)
        )
        var context = unsafe cruntime_context()
        unsafe prepareContext(&context, view)
        unsafe context.stack_low = unsafe UInt64(UInt(bitPattern: shared + sharedSize))
        unsafe context.stack_high = context.stack_low + UInt64(Self.stackSize)
        unsafe context.cpu_slot = -1
        unsafe context.random = 0x2545_f491_4f6c_dd1d
        unsafe self.memory = unsafe memory
        self.size = size
        unsafe self.context = unsafe context
        self.mapIndices = mapIndices
        self.programs = programs
        specs = spec.programs
        session = view
        log = RingConsumer(MapView(view, logMap))
        fillProgramArrays(spec)
    }

    deinit { unsafe munmap(memory, size) }

    /// The session's map for one of the object's.
    func view(of map: Int) -> MapView? { mapIndices[map].map { MapView(session, $0) } }

    /// The session's program for one of the object's.
    func program(_ index: Int) throws(TestingError) -> Int { try programs[index].get() }

    /// A trap with the names of the object; `program` is the session's number.
    func explain(_ trap: UBPFVM.Trap, program: Int) -> Trap? {
        let index = programs.firstIndex { if case .success(program) = $0 { true } else { false } }
        return index.flatMap { Trap(trap, in: specs[$0]) }
    }

    /// What `bpf_printk` wrote; each record is a line without its end.
    func printedLines() -> [String] {
        var lines: [String] = []
        while let record = log.next() {
            lines.append(
                String(decoding: record.dropFirst(LogRecord.headerSize).prefix { $0 != 0 && $0 != 10 }, as: UTF8.self)
            )
        }
        return lines
    }

    private static func addMaps(
        of spec: ObjectSpec,
        to builder: inout SessionBuilder
    ) throws(TestingError) -> [Int: Int] {
        var indices: [Int: Int] = [:]
        for (index, map) in spec.maps.enumerated() {
            let parameters = MapParameters(
                name: map.name,
                type: map.type,
                keySize: UInt32(clamping: map.keySize),
                valueSize: UInt32(clamping: map.valueSize),
                maxEntries: UInt32(clamping: map.maxEntries),
                flags: map.flags,
                contents: map.contents,
                isFrozen: map.isReadOnly
            )
            do { indices[index] = try builder.addMap(parameters) } catch { throw TestingError(error) }
        }
        return indices
    }

    /// Relocates, checks and links a program.
    private static func add(
        _ original: ProgramSpec,
        of spec: ObjectSpec,
        _ types: TypeFacts?,
        verifies: Bool,
        maps: [Int: Int],
        to builder: inout SessionBuilder
    ) throws(TestingError) -> Int {
        if let problem = original.problems.first { throw .program(original.name, problem.description) }
        var program = original
        if !program.relocations.isEmpty {
            guard let local = spec.btf else {
                throw .program(program.name, "has CO-RE relocations, but the object has no BTF")
            }
            do { program = try program.relocated(local: local, target: kernelTypes) } catch {
                throw TestingError(error)
            }
        }
        if let error = refusal(program, of: spec, types), error.rule != .programType,
            verifies || error.rule.isStructural
        {
            throw .program(program.name, error.description)
        }
        // The object's maps are the session's first ones, in the same order.
        let linked: [LinkedInstruction]
        do {
            linked = try link(program.instructions, mapCount: maps.count) { map, offset in
                let place = builder.valueLocation(map: map, offset: UInt64(offset))
                return SegmentOffset(storage: Int(place.storage), offset: place.offset)
            }
        } catch { throw .program(program.name, error.description) }
        return builder.addProgram(name: program.name, type: program.type, instructions: linked)
    }

    private static func refusal(_ program: ProgramSpec, of spec: ObjectSpec, _ types: TypeFacts?) -> VerifierError? {
        do {
            _ = try verify(Subject(program: program, of: spec, types: types))
            return nil
        } catch {
            return error
        }
    }

    private func fillProgramArrays(_ spec: ObjectSpec) {
        for (index, map) in spec.maps.enumerated() where map.type == .programArray {
            guard let view = view(of: index) else { continue }
            for element in map.initialElements {
                guard case .program(let name) = element.value,
                    let found = spec.programs.firstIndex(where: { $0.name == name }),
                    case .success(let program) = programs[found]
                else { continue }
                _ = unsafe view.update([UInt32(element.index)], [UInt32(program)], flags: 0, tid: 0, slot: 0)
            }
        }
    }
}

/// The kernel's types for CO-RE; the built-in `pt_regs` where the kernel has none.
private let kernelTypes: BTF = {
    guard let file = unsafe fopen("/sys/kernel/btf/vmlinux", "r") else { return BTF.builtin }
    defer { _ = unsafe fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 20)
    while true {
        let count = unsafe fread(&chunk, 1, chunk.count, file)
        if count == 0 { break }
        bytes += chunk.prefix(count)
    }
    return (try? BTF(bytes, name: "/sys/kernel/btf/vmlinux")) ?? BTF.builtin
}()
