import CLinux
import CRuntime
import CWorld
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
    private let imageSize: Int
    private var pristine: [(offset: Int, bytes: [UInt8])]?
    private var log: RingConsumer
    /// Linked instructions of the session's programs, for engines and coverage.
    let linked: [[LinkedInstruction]]
    /// The programs as they were verified: relocated.
    let relocated: [ProgramSpec]

    /// In `cpu_slot`: the slot is not the run's to give back (Runtime/Maps/CPUSlot.swift).
    static let sharedSlot: Int32 = 0x1_0000

    /// Runs that can be inside one another, each with a stack.
    static let depthLimit = 2

    static var stackSize: Int { Int(Interpreter.maximumFrames * Interpreter.frameSize) }

    init(_ spec: ObjectSpec, verifies: Bool, cpus: Int, types target: KernelTypes) throws(TestingError) {
        var builder = SessionBuilder(cpuCount: cpus, probeCapacity: 1, perfRingSize: 1 << 16, seed: 1)
        let mapIndices = try Self.addMaps(of: spec, to: &builder)
        let logMap: Int
        do { logMap = try builder.addLogRing() } catch { throw TestingError(error) }
        builder.layoutMaps()
        var programs: [Result<Int, TestingError>] = []
        var linked: [[LinkedInstruction]] = []
        var relocated: [ProgramSpec] = []
        let types = spec.btf.map { TypeFacts($0) }
        for (index, original) in spec.programs.enumerated() {
            if let mixed = spec.mixedArray(around: index) {
                programs.append(.failure(.mixedArray(original, mixed.array, mixed.other)))
                continue
            }
            do {
                let program = try Verdict.relocate(original, of: spec, target)
                let code = try Self.link(program, of: spec, types, verifies: verifies, maps: mapIndices, &builder)
                programs.append(
                    .success(builder.addProgram(name: program.name, type: program.type, instructions: code))
                )
                linked.append(code)
                relocated.append(program)
            } catch {
                programs.append(.failure(error))
            }
        }
        let image = builder.finish(ownerPid: UInt32(getpid()), ownerTid: cruntime_tid())
        let imageSize = (image.bytes.count + 4095) & ~4095
        let sharedSize = (image.sharedSize + 4095) & ~4095
        let size = imageSize + sharedSize + Self.depthLimit * Self.stackSize
        // Private over a file: what runs change is thrown away at once (`reset`), and what they do not is never copied.
        let file = unsafe clinux_memfd("ubpf-test", UInt64(size))
        guard file >= 0 else { throw .noMemory(size) }
        defer { close(file) }
        let (access, whole) = (PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE)
        guard let memory = unsafe mmap(nil, size, access, whole, file, 0), unsafe memory != MAP_FAILED else {
            throw .noMemory(size)
        }
        unsafe memory.copyMemory(from: image.bytes, byteCount: image.bytes.count)
        let shared = unsafe memory + imageSize
        unsafe image.initializeShared(shared)
        let view = unsafe SessionView(
            image: UnsafePointer(memory.assumingMemoryBound(to: UInt8.self)),
            shared: shared.assumingMemoryBound(to: UInt8.self)
        )
        var context = unsafe cruntime_context()
        unsafe prepareContext(&context, view)
        unsafe context.stack_low = unsafe UInt64(UInt(bitPattern: shared + sharedSize))
        unsafe context.stack_high = context.stack_low + UInt64(Self.stackSize)
        // Helpers ask the world; those that run programs stay the engine's.
        unsafe context.user_helpers = cworld_table()
        unsafe self.memory = unsafe memory
        self.size = size
        unsafe self.context = unsafe context
        self.mapIndices = mapIndices
        self.programs = programs
        self.linked = linked
        self.relocated = relocated
        self.imageSize = imageSize
        session = view
        log = RingConsumer(MapView(view, logMap))
        try fillElements(spec)
        pristine = Self.parts(view, logMap: logMap)
        // From here on private; frozen values do not change, whoever writes.
        let kept = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE
        guard unsafe mmap(memory, imageSize, PROT_READ, kept, file, 0) != MAP_FAILED,
            unsafe mmap(shared, size - imageSize, access, kept, file, off_t(imageSize)) != MAP_FAILED
        else { throw .noMemory(size) }
    }

    deinit { unsafe munmap(memory, size) }

    /// Throws away all that runs and tests did to maps and variables.
    ///
    /// Large sessions forget their changed pages, each of which costs a fault when it is used again; small ones are copied over.
    func reset() {
        guard let pristine else {
            unsafe madvise(memory + imageSize, size - imageSize, MADV_DONTNEED)
            return
        }
        for part in pristine {
            unsafe (memory + imageSize + part.offset).copyMemory(from: part.bytes, byteCount: part.bytes.count)
        }
    }

    /// Sessions with more in their maps are large.
    private static let copyLimit = 1 << 17

    /// The maps' parts of the shared segment as they are now; nil where they are large.
    ///
    /// The lines of bpf_printk come last in each part and stay: they are read until none is left.
    private static func parts(_ view: SessionView, logMap: Int) -> [(offset: Int, bytes: [UInt8])]? {
        let header = unsafe view.header.pointee
        let log = unsafe view.map(logMap).pointee
        let first = unsafe view.map(0).pointee.meta_offset
        let keys = (header.keys.offset, header.keys.offset + header.keys.size)
        let ranges = [(first, log.meta_offset), keys, (header.guest.offset, log.values_offset)]
            .filter { $0.0 < $0.1 }
        guard ranges.reduce(0, { $0 + ($1.1 - $1.0) }) <= UInt64(copyLimit) else { return nil }
        return ranges.map { range in
            let start = unsafe UnsafeRawPointer(view.shared + Int(range.0))
            return (Int(range.0), unsafe [UInt8](UnsafeRawBufferPointer(start: start, count: Int(range.1 - range.0))))
        }
    }

    /// The session's map for one of the object's.
    func view(of map: Int) -> MapView? { mapIndices[map].map { MapView(session, $0) } }

    /// The session's program for one of the object's.
    func program(_ index: Int) throws(TestingError) -> Int { try programs[index].get() }

    /// A trap with the names of the object; `program` is the session's number.
    func explain(_ trap: UBPFVM.Trap, program: Int) -> Trap? {
        relocated.indices.contains(program) ? Trap(trap, in: relocated[program]) : nil
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
            var parameters = MapParameters(
                name: map.name,
                type: standIn(map.type),
                keySize: UInt32(clamping: map.keySize),
                valueSize: UInt32(clamping: map.valueSize),
                maxEntries: UInt32(clamping: map.maxEntries),
                flags: map.flags,
                extra: map.extra,
                contents: map.contents,
                isFrozen: map.isReadOnly
            )
            let records = spec.records(of: index)
            parameters.record = records.own
            parameters.lock = MapFacts.lock(of: records.own)
            if let inner = map.innerMap {
                var template = MapParameters(
                    name: "\(map.name).inner",
                    type: inner.type,
                    keySize: UInt32(clamping: inner.keySize),
                    valueSize: UInt32(clamping: inner.valueSize),
                    maxEntries: UInt32(clamping: inner.maxEntries),
                    flags: inner.flags,
                    extra: inner.extra
                )
                template.record = records.inner
                template.lock = MapFacts.lock(of: records.inner)
                parameters.inner = [template]
            }
            do { indices[index] = try builder.addMap(parameters) } catch { throw TestingError(error) }
        }
        return indices
    }

    /// What a map of the kernel's own things is here: numbers by key, which is all that programs see of it.
    private static func standIn(_ type: MapType) -> MapType {
        switch type {
        case .devMap, .cpuMap, .xskMap, .sockMap, .reusePortSockArray: .array
        case .devMapHash, .sockHash: .hash
        default: type
        }
    }

    /// Checks and links a program.
    private static func link(
        _ program: ProgramSpec,
        of spec: ObjectSpec,
        _ types: TypeFacts?,
        verifies: Bool,
        maps: [Int: Int],
        _ builder: inout SessionBuilder
    ) throws(TestingError) -> [LinkedInstruction] {
        if let error = Verdict.refusal(program, of: spec, types), error.rule != .programType,
            verifies || error.rule.isStructural
        {
            throw .program(program.name, error.description)
        }
        // The object's maps are the session's first ones, in the same order.
        do {
            return try UBPFVM.link(program.instructions, mapCount: maps.count) { map, offset in
                let place = builder.valueLocation(map: map, offset: UInt64(offset))
                return SegmentOffset(storage: Int(place.storage), offset: place.offset)
            }
        } catch { throw .program(program.name, error.description) }
    }

    private func fillElements(_ spec: ObjectSpec) throws(TestingError) {
        for (index, map) in spec.maps.enumerated() {
            guard let view = view(of: index) else { continue }
            for element in map.initialElements {
                let value: UInt32
                switch element.value {
                case .program(let name):
                    guard let found = spec.programs.firstIndex(where: { $0.name == name }),
                        case .success(let program) = programs[found]
                    else { continue }
                    value = UInt32(program)
                case .map(let inner):
                    guard let inner = self.view(of: inner) else { continue }
                    value = inner.id
                // Of command lines only.
                case .controlGroup: continue
                }
                let key = (0..<map.keySize).map { $0 < 8 ? UInt8(truncatingIfNeeded: element.index >> (8 * $0)) : 0 }
                let status = unsafe view.update(key, [value], flags: 0, tid: cruntime_tid(), slot: 0)
                if status != 0 { throw .operation("element \(element.index)", map.name, status) }
            }
        }
    }
}
