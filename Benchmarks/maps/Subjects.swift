import Glibc
import ISA
import Kernel
import Runtime

/// An operation that is measured on both sides: the body of a loop, in which r7 counts up by `step`, the key is at r10-8 and the
/// value at r10-16.
struct Subject {
    var name: String
    var map: MapParameters
    /// Nanoseconds that it may take on one thread; 0: no such budget.
    var budget: Double = 0
    var step: Int64 = 1
    /// Run once before each measurement, on the same keys.
    var before: [Statement] = []
    var body: [Statement]
    /// Keys of one thread never are another's.
    var separatesThreads = true

    static let rounds: Int64 = 1000

    /// `rounds` times `body`; r9 is the context.
    func program(_ body: [Statement]) -> [Statement] {
        var start: [Statement] = [
            .mov64(.r9, .r1), .mov64(.r6, Self.rounds), .mov64(.r7, 0), .store64(.r10, -8, 0), .store64(.r10, -16, 0),
        ]
        if separatesThreads {
            // Half of the keys for each of two CPUs, and so on.
            start += [.call(.getSmpProcessorId), .mov64(.r7, .r0), .mul64(.r7, Self.rounds * step)]
        }
        return start + [.label("loop"), .store64(.r10, -8, .r7)] + body
            + [.add64(.r7, step), .add64(.r6, -1), .jumpNotEqual(.r6, 0, to: "loop"), .mov64(.r0, 0), .exit]
    }

    // MARK: Bodies

    static func lookup() -> [Statement] {
        [
            .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapLookupElem),
            .jumpEqual(.r0, 0, to: "missing"), .load64(.r1, .r0, 0), .label("missing"),
        ]
    }

    static func update() -> [Statement] {
        [
            .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, .r10), .add64(.r3, -16), .mov64(.r4, 0),
            .call(.mapUpdateElem),
        ]
    }

    static func delete() -> [Statement] {
        [.loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapDeleteElem)]
    }

    private static func reserve() -> [Statement] {
        [
            .loadMap(.r1, 0), .mov64(.r2, 16), .mov64(.r3, 0), .call(.ringbufReserve),
            .jumpEqual(.r0, 0, to: "full"), .store64(.r0, 0, .r7), .store64(.r0, 8, .r7), .mov64(.r1, .r0),
            // BPF_RB_NO_WAKEUP
            .mov64(.r2, 1), .call(.ringbufSubmit), .label("full"),
        ]
    }

    private static func perfOutput() -> [Statement] {
        [
            .mov64(.r1, .r9), .loadMap(.r2, 0), .loadImm64(.r3, 0xffff_ffff), .mov64(.r4, .r10), .add64(.r4, -16),
            .mov64(.r5, 16), .call(.perfEventOutput),
        ]
    }

    private static func read(_ bytes: Int64, _ address: UnsafeRawPointer) -> [Statement] {
        [
            .mov64(.r1, .r10), .add64(.r1, -280), .mov64(.r2, bytes), .loadImm64(.r3, Int64(Int(bitPattern: address))),
            .call(.probeReadUser),
        ]
    }

    // MARK: The list

    private static func map(_ type: MapType, _ keySize: UInt32 = 8, entries: UInt32 = 10240) -> MapParameters {
        MapParameters(name: "m", type: type, keySize: keySize, valueSize: 8, maxEntries: entries)
    }

    private static let ring = MapParameters(name: "m", type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: 1 << 20)
    private static let perf = MapParameters(name: "m", type: .perfEventArray, keySize: 4, valueSize: 4, maxEntries: 64)

    static func all(_ memory: UnsafeRawPointer) -> [Subject] {
        let hash = map(.hash)
        let lru = map(.lruHash)
        return [
            Subject(name: "array lookup", map: map(.array, 4), budget: 1, body: lookup()),
            Subject(name: "per-CPU array lookup", map: map(.perCPUArray, 4), budget: 3, body: lookup()),
            Subject(name: "hash lookup", map: hash, budget: 15, step: 48, before: update(), body: lookup()),
            Subject(name: "hash update", map: hash, budget: 30, step: 48, before: update(), body: update()),
            Subject(name: "hash insert", map: hash, step: 48, before: delete(), body: update()),
            Subject(name: "hash delete", map: hash, budget: 30, step: 48, before: update(), body: delete()),
            Subject(
                name: "per-CPU hash lookup",
                map: map(.perCPUHash),
                step: 48,
                before: update(),
                body: lookup()
            ),
            Subject(name: "LRU hash lookup", map: lru, budget: 60, step: 48, before: update(), body: lookup()),
            Subject(name: "LRU hash update", map: lru, budget: 60, step: 48, before: update(), body: update()),
            Subject(
                name: "LRU hash insert, full",
                map: map(.lruHash, entries: 512),
                budget: 60,
                step: 48,
                body: update()
            ),
            Subject(name: "ring buffer reserve + submit", map: ring, budget: 40, body: reserve()),
            Subject(name: "perf event output", map: perf, budget: 60, body: perfOutput()),
            Subject(name: "probe_read_user, 8 bytes", map: map(.array, 4), budget: 3, body: read(8, memory)),
            Subject(name: "probe_read_user, 256 bytes", map: map(.array, 4), budget: 20, body: read(256, memory)),
        ]
    }
}

/// What arrays can hold.
final class Box<Value: ~Copyable> {
    var value: Value

    init(_ value: consuming Value) { self.value = value }
}

/// The kernel's map and programs on it, run by BPF_PROG_TEST_RUN.
final class KernelSide: @unchecked Sendable {
    private let map: KernelMap
    private let programs: [Box<KernelProgram>]
    private var ring: KernelRing?
    private var perf: [Box<PerfBuffer>] = []
    private let entries: Int

    /// One program for each body.
    init(_ subject: Subject, _ bodies: [[Statement]]) throws {
        let parameters = subject.map
        entries = Int(parameters.maxEntries)
        map = try KernelMap(
            type: parameters.type,
            keySize: Int(parameters.keySize),
            valueSize: Int(parameters.valueSize),
            maxEntries: entries,
            flags: parameters.flags
        )
        var loaded: [Box<KernelProgram>] = []
        for body in bodies {
            var code = try Assembly(subject.program(body)).instructions
            for index in code.indices where code[index].opcode == .loadMap { code[index].imm = Int64(map.descriptor) }
            loaded.append(Box(try KernelProgram(code, type: .socketFilter)))
        }
        programs = loaded
        switch parameters.type {
        case .ringBuffer: ring = try KernelRing.open(map.descriptor, size: entries)
        case .perfEventArray:
            for cpu in 0..<Int32(sysconf(Int32(_SC_NPROCESSORS_CONF))) {
                guard let buffer = try PerfBuffer.open(cpu: cpu, pages: 256) else { continue }
                let bytes = { (number: Int32) in (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) } }
                _ = map.update(bytes(cpu), bytes(buffer.descriptor))
                perf.append(Box(buffer))
            }
        default: break
        }
    }

    /// Nanoseconds of one run.
    func run(_ program: Int) throws -> Double {
        Double(try programs[program].value.run(packet: [UInt8](repeating: 0, count: 64)).nanoseconds)
    }

    func fill(_ count: UInt64) {
        for number in 0..<count {
            let key = (0..<8).map { UInt8(truncatingIfNeeded: (number * 48) >> (8 * UInt64($0))) }
            _ = map.update(key, [UInt8](repeating: 1, count: map.valueSize))
        }
    }

    /// Takes out what was written to rings.
    func drain() {
        while ring?.next() != nil {}
        for index in perf.indices { while perf[index].value.next() != nil {} }
    }

    /// Bytes for each entry, as the kernel accounts for them.
    var bytesPerEntry: Double? {
        guard let file = fopen("/proc/self/fdinfo/\(map.descriptor)", "r") else { return nil }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, 256, file) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let words = text.split { $0 == ":" || $0 == "\t" || $0 == " " || $0 == "\n" }
            if words.first == "memlock", words.count > 1, let bytes = Double(words[1]) {
                return bytes / Double(entries)
            }
        }
        return nil
    }
}
