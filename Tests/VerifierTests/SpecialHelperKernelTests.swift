import Glibc
import ISA
import Testing

@testable import Kernel
@testable import Verifier

/// An array and a hash map with a lock at 8 of 16 bytes, and a ring buffer, in the kernel.
final class LockedKernelMaps: Sendable {
    let array: Int32
    let hash: Int32
    let ring: Int32
    private let types: Int32

    init() throws {
        types = try Self.loadTypes()
        array = try Self.make(.array, 4, 16, 1, types)
        hash = try Self.make(.hash, 4, 16, 4, types)
        ring = try Self.make(.ringBuffer, 0, 0, 4096, nil)
    }

    deinit { for descriptor in [array, hash, ring, types] { _ = close(descriptor) } }

    /// `struct value { long a; struct bpf_spin_lock lock; int b; }`.
    private static func loadTypes() throws -> Int32 {
        var strings: [UInt8] = [0]
        var words: [UInt32] = []
        func string(_ text: String) -> UInt32 {
            defer { strings += Array(text.utf8) + [0] }
            return UInt32(strings.count)
        }
        let (integer, structure) = (UInt32(1) << 24, UInt32(4) << 24)
        words += [string("int"), integer, 4, 32]
        words += [string("long"), integer, 8, 64]
        words += [string("bpf_spin_lock"), structure | 1, 4, string("val"), 1, 0]
        words += [string("value"), structure | 3, 16]
        words += [string("a"), 2, 0, string("lock"), 3, 64, string("b"), 1, 96]
        let size = UInt32(words.count * 4)
        let header: [UInt32] = [0x0001_eb9f, 24, 0, size, size, UInt32(strings.count)]
        var bytes = (header + words).flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
        bytes += strings
        var attributes = BPF.Attributes(size: 32)
        attributes.put(UInt32(bytes.count), at: 16)
        let result = unsafe bytes.withUnsafeBytes { bytes in
            unsafe attributes.put(bytes.baseAddress, at: 0)
            return BPF.call(.typesLoad, &attributes)
        }
        try #require(result >= 0, "no types: \(result)")
        return Int32(result)
    }

    private static func make(
        _ type: MapType,
        _ key: UInt32,
        _ value: UInt32,
        _ entries: UInt32,
        _ types: Int32?
    ) throws -> Int32 {
        var attributes = BPF.Attributes(size: 72)
        for (index, word) in [type.rawValue, key, value, entries].enumerated() { attributes.put(word, at: 4 * index) }
        if let types {
            attributes.put(UInt32(types), at: 48)
            attributes.put(UInt32(1), at: 52)
            attributes.put(UInt32(4), at: 56)
        }
        let result = BPF.call(.mapCreate, &attributes)
        try #require(result >= 0, "no map: \(result)")
        return Int32(result)
    }
}

/// Programs with locks and dynptrs: our verdict is the kernel's.
@Suite(.enabled(if: KernelVerifier.isOracle, KernelVerifier.reason))
struct SpecialHelperKernelTests {
    let maps: LockedKernelMaps

    init() throws { maps = try LockedKernelMaps() }

    /// A program whose maps are 0, the array, 1, the hash map, and 2, the ring buffer.
    private func verdicts(_ statements: [Statement], _ type: ProgramType) throws -> (ours: String, kernel: String) {
        let program = try Assembly(statements).instructions
        let descriptors = [maps.array, maps.hash, maps.ring]
        let theirs = program.map { instruction in
            var changed = instruction
            if instruction.opcode == .loadMap { changed.imm = Int64(descriptors[Int(instruction.imm)]) }
            return changed
        }
        var facts = [
            MapFacts(name: "array", type: .array, keySize: 4, valueSize: 16, maxEntries: 1),
            MapFacts(name: "hash", type: .hash, keySize: 4, valueSize: 16, maxEntries: 4),
            MapFacts(name: "ring", type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: 4096),
        ]
        facts[0].spinLock = 8
        facts[1].spinLock = 8
        let main = FunctionFacts(name: "main", start: 0)
        var subject = Subject(instructions: program, functions: [main], maps: facts, type: type)
        subject.platform = .kernel
        var ours = "accepted"
        do { _ = try verify(subject) } catch { ours = "\(error.rule): \(error.what)" }
        let answer = KernelVerifier.ask(theirs, type)
        return (ours, answer.status == 0 ? "accepted" : answer.log)
    }

    private static func lookup(_ map: Int32, to register: Register) -> [Statement] {
        [
            .store64(.r10, -8, 0), .loadMap(.r1, map), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapLookupElem),
            .jumpEqual(.r0, 0, to: "out"), .mov64(register, .r0),
        ]
    }

    private static func call(_ helper: Helper, _ register: Register = .r6, _ offset: Int64 = 8) -> [Statement] {
        [.mov64(.r1, register), .add64(.r1, offset), .call(helper)]
    }

    private static let out: [Statement] = [.label("out"), .mov64(.r0, 0), .exit]
    private static let lock = call(.spinLock)
    private static let unlock = call(.spinUnlock)

    private static let lockCases: [(String, [Statement])] = [
        ("pair", lock + [.store64(.r6, 0, 1)] + unlock), ("no unlock", lock), ("no lock", unlock),
        ("twice", lock + lock + unlock), ("helper inside", lock + [.call(.ktimeGetNs)] + unlock),
        ("return inside", lock + [.load64(.r1, .r6, 0), .jumpEqual(.r1, 0, to: "out")] + unlock),
        ("both ways", lock + [.load64(.r1, .r6, 0), .jumpEqual(.r1, 0, to: "b"), .label("b")] + unlock),
        ("read of the lock", [.load32(.r1, .r6, 8)]), ("write of the lock", [.store32(.r6, 8, 0)]),
        ("over the lock", [.store64(.r6, 8, 0)]), ("beside the lock", [.store32(.r6, 12, 0)]),
        ("other place", call(.spinLock, .r6, 4)), ("on the stack", call(.spinLock, .r10, -16)),
        ("wrong lock", lookup(1, to: .r7) + lock + call(.spinUnlock, .r7)),
        ("two values", lookup(1, to: .r7) + lock + unlock + call(.spinLock, .r7) + call(.spinUnlock, .r7)),
        ("second inside", lookup(1, to: .r7) + lock + call(.spinLock, .r7) + call(.spinUnlock, .r7) + unlock),
        (
            "value as a value",
            [
                .loadMap(.r1, 1), .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, .r6), .mov64(.r4, 0),
                .call(.mapUpdateElem),
            ]
        ),
    ]

    @Test(arguments: lockCases.indices) func locks(_ index: Int) throws {
        let (name, body) = Self.lockCases[index]
        let (ours, kernel) = try verdicts(Self.lookup(0, to: .r6) + body + Self.out, .xdp)
        #expect((ours == "accepted") == (kernel == "accepted"), "\(name): ours \(ours)\nkernel: \(kernel)")
        // Probes have no locks in the kernel; here they do.
        #expect(try verdicts(Self.lookup(0, to: .r6) + body + Self.out, .kprobe).kernel != "accepted")
    }

    private static func reserve(_ size: Int64 = 16, at offset: Int64 = -32) -> [Statement] {
        [
            .loadMap(.r1, 2), .mov64(.r2, size), .mov64(.r3, 0), .mov64(.r4, .r10), .add64(.r4, offset),
            .call(.ringbufReserveDynptr),
        ]
    }

    private static func finish(_ helper: Helper = .ringbufSubmitDynptr, at offset: Int64 = -32) -> [Statement] {
        [.mov64(.r1, .r10), .add64(.r1, offset), .mov64(.r2, 0), .call(helper)]
    }

    private static func data(_ offset: Int64, _ size: Int64) -> [Statement] {
        [.mov64(.r1, .r10), .add64(.r1, -32), .mov64(.r2, offset), .mov64(.r3, size), .call(.dynptrData)]
    }

    private static let write: [Statement] = [
        .mov64(.r1, .r10), .add64(.r1, -32), .mov64(.r2, 0), .mov64(.r3, .r10), .add64(.r3, -8), .mov64(.r4, 8),
        .mov64(.r5, 0), .call(.dynptrWrite),
    ]

    private static let dynptrCases: [(String, [Statement])] = [
        ("submitted", reserve() + finish()), ("discarded", reserve() + finish(.ringbufDiscardDynptr)),
        ("forgotten", reserve()), ("twice", reserve() + finish() + finish()), ("never made", finish()),
        ("written", reserve() + write + finish()), ("written afterwards", reserve() + finish() + write),
        ("data", reserve() + data(0, 8) + [.jumpEqual(.r0, 0, to: "n"), .store64(.r0, 0, 1), .label("n")] + finish()),
        ("data unchecked", reserve() + data(0, 8) + [.store64(.r0, 0, 1)] + finish()),
        (
            "data beyond",
            reserve() + data(0, 8) + [.jumpEqual(.r0, 0, to: "n"), .store64(.r0, 8, 1), .label("n")] + finish()
        ),
        (
            "data afterwards",
            reserve() + data(0, 8) + [.mov64(.r7, .r0)] + finish() + [
                .jumpEqual(.r7, 0, to: "out"), .store64(.r7, 0, 1),
            ]
        ),
        ("overwritten", reserve() + [.store64(.r10, -32, 0)] + finish()),
        ("overwritten half", reserve() + [.store8(.r10, -17, 0)] + finish()),
        ("read by a load", reserve() + [.load64(.r1, .r10, -32)] + finish()),
        ("made twice", reserve() + reserve() + finish()), ("not aligned", reserve(at: -30) + finish(at: -30)),
        ("out of the frame", reserve(at: -8) + finish(at: -8)),
        ("two", reserve() + reserve(at: -48) + finish(at: -48) + finish()),
        (
            "from memory",
            lookup(1, to: .r6) + [
                .mov64(.r1, .r6), .mov64(.r2, 8), .mov64(.r3, 0), .mov64(.r4, .r10), .add64(.r4, -32),
                .call(.dynptrFromMem),
            ] + write
        ),
        (
            "from memory with a lock",
            lookup(1, to: .r6) + [
                .mov64(.r1, .r6), .mov64(.r2, 16), .mov64(.r3, 0), .mov64(.r4, .r10), .add64(.r4, -32),
                .call(.dynptrFromMem),
            ]
        ),
        (
            "from the stack",
            [
                .mov64(.r1, .r10), .add64(.r1, -8), .mov64(.r2, 8), .mov64(.r3, 0), .mov64(.r4, .r10), .add64(.r4, -32),
                .call(.dynptrFromMem),
            ]
        ),
        (
            "from memory, submitted",
            lookup(1, to: .r6) + [
                .mov64(.r1, .r6), .mov64(.r2, 8), .mov64(.r3, 0), .mov64(.r4, .r10), .add64(.r4, -32),
                .call(.dynptrFromMem),
            ] + finish()
        ),
    ]

    @Test(arguments: dynptrCases.indices) func dynptrs(_ index: Int) throws {
        let (name, body) = Self.dynptrCases[index]
        for type in [ProgramType.kprobe, .tracepoint, .perfEvent, .socketFilter] {
            let (ours, kernel) = try verdicts([.store64(.r10, -8, 0)] + body + Self.out, type)
            #expect((ours == "accepted") == (kernel == "accepted"), "\(name): ours \(ours)\nkernel: \(kernel)")
        }
    }
}
