import ISA
import Testing

@testable import Verifier

/// A program that gets at memory of the kernel, and what is said of it; nil for accepted.
private struct Case: CustomTestStringConvertible, Sendable {
    var name: String
    var type: ProgramType
    var map = MapType.hash
    var program: [Statement]
    var expected: Rule?

    var testDescription: String { name }

    init(_ name: String, _ type: ProgramType, _ map: MapType, _ program: [Statement], _ expected: Rule? = nil) {
        (self.name, self.type, self.map, self.program, self.expected) = (name, type, map, program, expected)
    }

    /// Calls of a helper with the map and a key.
    static func key(_ helper: Helper) -> [Statement] {
        [.store64(.r10, -8, 0), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(helper)]
    }

    /// r0 points to what a lookup finds.
    static func found(_ rest: [Statement]) -> [Statement] {
        key(.mapLookupElem) + [.jumpEqual(.r0, 0, to: "end")] + rest + end
    }

    /// r7 points to 64 bytes of packet.
    static func packet(_ rest: [Statement]) -> [Statement] {
        [
            .load32(.r7, .r1, 76), .load32(.r8, .r1, 80), .mov64(.r2, .r7), .add64(.r2, 64),
            .jumpGreater(.r2, .r8, to: "end"),
        ] + rest + end
    }

    static let end: [Statement] = [.label("end"), .mov64(.r0, 0), .exit]

    static func changed(_ value: [Statement]) -> [Statement] {
        [
            .load64(.r3, .r1, 168), .jumpEqual(.r3, 0, to: "end"), .store64(.r10, -8, 0), .loadMap(.r1, 0),
            .mov64(.r2, .r10), .add64(.r2, -8),
        ] + value + [.mov64(.r4, 0), .call(.mapUpdateElem)] + end
    }

    static let all: [Case] = sockets + others

    private static let sockets: [Case] = [
        Case("a socket that is not released", .schedCls, .sockMap, found([.load32(.r2, .r0, 4)]), .unreleased),
        Case("a socket that is written", .skSKB, .sockHash, found([.store32(.r0, 0, 1)]), .readOnly),
        Case(
            "a socket that is released",
            .xdp,
            .sockMap,
            found([.load32(.r2, .r0, 4), .mov64(.r1, .r0), .call(.skRelease)])
        ),
        Case("any memory as a socket", .schedCls, .sockMap, changed([.mov64(.r3, .r10), .add64(.r3, -8)]), .argument),
        Case("a socket that is put into a map", .schedCls, .sockMap, changed([])),
        Case(
            "a socket that is taken out where it may be locked",
            .kprobe,
            .sockMap,
            key(.mapDeleteElem) + end,
            .mapType
        ),
        Case("a socket that is taken out", .schedCls, .sockMap, key(.mapDeleteElem) + end),
        Case("a socket of AF_XDP that is written", .xdp, .xskMap, found([.store32(.r0, 0, 1)]), .readOnly),
        Case("a socket of AF_XDP that is read in part", .xdp, .xskMap, found([.load8(.r2, .r0)]), .outOfBounds),
        Case("a socket of AF_XDP that is read", .xdp, .xskMap, found([.load32(.r2, .r0)])),
        Case(
            "a socket that is read atomically",
            .schedCls,
            .hash,
            [
                .load64(.r2, .r1, 168), .jumpEqual(.r2, 0, to: "end"),
                .op(.loadAcquire32, dst: .r3, src: .r2, offset: 4),
            ] + end,
            .badOperation
        ),
    ]

    /// r1 is the context on the path that is walked first, then a number, where paths are compared.
    private static let classes: [Statement] =
        [
            .mov64(.r6, .r1), .call(.getPrandomU32), .mov64(.r7, .r0), .jumpEqual(.r7, 1, to: "wrong"),
            .mov64(.r1, .r6), .jump(to: "same"), .label("wrong"), .mov64(.r1, 5), .label("same"),
            .jumpEqual(.r7, 2, to: "a"), .label("a"), .jumpEqual(.r7, 3, to: "b"), .label("b"),
        ]
        + Array(repeating: .mov64(.r9, 0), count: 8)
        + [
            .jumpEqual(.r7, 4, to: "c"), .label("c"), .jumpEqual(.r7, 5, to: "d"), .label("d"),
            .call(.getCgroupClassid),
        ] + end

    private static let others: [Case] = [
        Case("an argument that the helper has in some programs", .schedCls, .hash, classes, .argument),
        Case("an argument that the helper does not have", .cgroupSKB, .hash, classes),
        Case("a device that is written", .xdp, .devMap, found([.store32(.r0, 0, 1)]), .readOnly),
        Case("a device that is read", .xdp, .devMapHash, found([.load32(.r2, .r0)])),
        Case(
            "flow keys that are changed atomically",
            .flowDissector,
            .hash,
            [.load64(.r2, .r1, 144), .mov64(.r3, 1), .atomic(.atomicAdd32, .r2, 0, .r3)] + end,
            .badOperation
        ),
        Case(
            "flow keys that are read beyond their end",
            .flowDissector,
            .hash,
            [.load64(.r2, .r1, 144), .add64(.r2, 4), .load64(.r3, .r2, 45)] + end,
            .outOfBounds
        ),
        Case(
            "flow keys",
            .flowDissector,
            .hash,
            [.load64(.r2, .r1, 144), .add64(.r2, 4), .load64(.r3, .r2, 44), .store8(.r2, 51, 1)] + end
        ),
        Case(
            "a packet that a helper fills which has no part in packets",
            .schedCls,
            .queue,
            packet([.loadMap(.r1, 0), .mov64(.r2, .r7), .call(.mapPopElem)]),
            .argument
        ),
        Case(
            "a packet that becomes an element",
            .schedCls,
            .queue,
            packet([.loadMap(.r1, 0), .mov64(.r2, .r7), .mov64(.r3, 0), .call(.mapPushElem)])
        ),
    ]
}

/// What lookups find in maps that hold no memory of the program, and other memory of the kernel.
struct KernelObjectTests {
    @Test(arguments: Case.all)
    private func rules(_ test: Case) throws {
        let assembly = try Assembly(test.program)
        let functions = assembly.functions.map { FunctionFacts(name: "f", start: $0) }
        let hasKey = test.map != .queue
        let map = MapFacts(name: "m", type: test.map, keySize: hasKey ? 4 : 0, valueSize: 4, maxEntries: 4)
        var subject = Subject(instructions: assembly.instructions, functions: functions, maps: [map], type: test.type)
        subject.platform = .kernel
        var rule: Rule?
        do { _ = try verify(subject) } catch { rule = error.rule }
        #expect(rule == test.expected)
    }

    @Test(.enabled(if: KernelVerifier.isOracle, KernelVerifier.reason), arguments: Case.all)
    private func kernel(_ test: Case) throws {
        // A map of devices belongs to the first program that uses it.
        let maps = try KernelMaps()
        var program = try Assembly(test.program).instructions
        for index in program.indices where program[index].opcode == .loadMap {
            program[index].imm = Int64(try #require(maps.descriptors[test.map]))
        }
        let answer = KernelVerifier.ask(program, test.type)
        #expect((answer.status == 0) == (test.expected == nil), Comment(rawValue: answer.log))
    }
}
