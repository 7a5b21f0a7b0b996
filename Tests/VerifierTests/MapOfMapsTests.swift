import ISA
import Testing

@testable import Verifier

/// A program that uses maps inside a map, and what is said of it; nil for accepted.
private struct Case: CustomTestStringConvertible, Sendable {
    var testDescription: String
    var outer = MapType.arrayOfMaps
    var program: [Statement]
    var expected: Rule?

    init(_ name: String, _ outer: MapType, _ program: [Statement], _ expected: Rule? = nil) {
        (testDescription, self.outer, self.program, self.expected) = (name, outer, program, expected)
    }

    init(_ name: String, _ program: [Statement], _ expected: Rule? = nil) {
        self.init(name, .arrayOfMaps, program, expected)
    }

    private static let end: [Statement] = [.label("end"), .mov64(.r0, 0), .exit]

    /// r0 is what lies at key 0 of map 0, or NULL.
    private static let lookup: [Statement] = [
        .store64(.r10, -8, 0), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapLookupElem),
    ]

    /// r0 is an inner map.
    private static let inner: [Statement] = lookup + [.jumpEqual(.r0, 0, to: "end")]

    /// r0 is a value of the map in r0.
    private static let value: [Statement] = [
        .mov64(.r1, .r0), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapLookupElem),
    ]

    /// The same with a key that is not known.
    private static let anyValue: [Statement] = [.store32(.r10, -8, .r7)] + value

    private static let push: [Statement] = [
        .mov64(.r1, .r0), .mov64(.r2, .r10), .add64(.r2, -128), .mov64(.r3, 0), .call(.mapPushElem),
    ]

    private static let found: [Statement] = inner + value + [.jumpEqual(.r0, 0, to: "end")]

    /// The map in r0 is changed.
    private static func change(_ helper: Helper) -> [Statement] {
        [
            .mov64(.r1, .r0), .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, .r10), .add64(.r3, -128), .mov64(.r4, 0),
            .call(helper),
        ]
    }

    private static let clear: [Statement] = stride(from: Int32(-128), to: 0, by: 8).map { .store64(.r10, $0, 0) }

    /// With r0 as an inner map.
    private static func inside(_ rest: [Statement]...) -> [Statement] {
        rest.reduce(inner, +) + end
    }

    /// With r0 as a value of an inner map.
    private static func found(_ rest: [Statement]...) -> [Statement] {
        rest.reduce(found, +) + end
    }

    /// With r0 as the outer map.
    private static func outside(_ rest: [Statement]...) -> [Statement] {
        rest.reduce(clear + [.loadMap(.r0, 0)], +) + end
    }

    private static let walk: [Statement] = [
        .mov64(.r1, .r0), .loadFunction(.r2, "f"), .mov64(.r3, 0), .mov64(.r4, 0), .call(.forEachMapElem),
    ]

    private static let body: [Statement] = [.function("f"), .mov64(.r0, 0), .exit]

    private static let reading: [Statement] = [.function("f"), .load64(.r0, .r3), .mov64(.r0, 0), .exit]

    private static let onStack: [Statement] = [
        .store64(.r10, -16, .r0), .call(.getSmpProcessorId), .load64(.r0, .r10, -16),
    ]

    private static let orNumber: [Statement] = [.jumpEqual(.r7, 0, to: "go"), .mov64(.r0, 5), .label("go")]

    private static let random: [Statement] = [.call(.getPrandomU32), .mov64(.r7, .r0)]

    static let all: [Case] = memory + maps

    private static let memory: [Case] = [
        Case("a value of an inner map is read and written", found([.load64(.r1, .r0), .store64(.r0, 56, 1)])),
        Case("the same in a hash", .hashOfMaps, found([.load64(.r1, .r0, 56)])),
        Case("a value of an inner map is read beyond its end", found([.load64(.r1, .r0, 57)]), .outOfBounds),
        Case("a value that is not compared", random + inside(anyValue, [.load64(.r1, .r0)]), .nullPointer),
        Case("a map that is not compared", lookup + value + end, .argument),
        Case("the pointer to an inner map is written", inside([.store32(.r0, 0, 1)]), .notAPointer),
        Case("a constant key that the inner array has", inside(value, [.load64(.r1, .r0)])),
        Case("arithmetic on an inner map", inside([.add64(.r0, 8)], value), .pointerArithmetic),
        Case("an inner map is returned", inside([.exit])),
        Case("an inner map is put on the stack and taken back", inside(onStack, value)),
        Case("an inner map where another path has a number", random + inside(orNumber, value), .argument),
    ]

    private static let maps: [Case] = [
        Case("an inner map is changed", clear + inside(change(.mapUpdateElem))),
        Case("an element of an inner array is deleted", clear + inside(change(.mapDeleteElem))),
        Case("a push to an inner array", clear + inside(push), .mapType),
        Case("a map of maps is changed", outside(change(.mapUpdateElem)), .mapType),
        Case("a map of maps is deleted from", outside(change(.mapDeleteElem)), .mapType),
        Case("a hash of maps is changed", .hashOfMaps, outside(change(.mapUpdateElem)), .mapType),
        Case("an inner map is walked", inside(walk) + reading),
        Case("a hash of maps is walked", .hashOfMaps, outside(walk) + body, .mapType),
        Case("a value becomes a map", clear + found(change(.mapUpdateElem)), .argument),
    ]
}

@Suite struct MapOfMapsTests {
    @Test(arguments: Case.all)
    private func rules(_ test: Case) throws {
        let assembly = try Assembly(test.program)
        let functions = assembly.functions.map { FunctionFacts(name: "f", start: $0) }
        var map = MapFacts(name: "m", type: test.outer, keySize: 4, valueSize: 4, maxEntries: 4)
        map.inner = [MapFacts(name: "m.inner", type: .array, keySize: 4, valueSize: 64, maxEntries: 4)]
        let subject = Subject(instructions: assembly.instructions, functions: functions, maps: [map], type: .kprobe)
        var rule: Rule?
        do { _ = try verify(subject) } catch { rule = error.rule }
        #expect(rule == test.expected)
    }

    @Test(.enabled(if: KernelVerifier.isOracle, KernelVerifier.reason), arguments: Case.all)
    private func kernel(_ test: Case) throws {
        // Callbacks need type information, which these programs have not.
        if test.expected == nil, try !Assembly(test.program).functions.isEmpty { return }
        let maps = try KernelMaps()
        var program = try Assembly(test.program).instructions
        for index in program.indices where program[index].opcode == .loadMap {
            program[index].imm = Int64(try #require(maps.descriptors[test.outer]))
        }
        let answer = KernelVerifier.ask(program, .kprobe)
        #expect((answer.status == 0) == (test.expected == nil), Comment(rawValue: answer.log))
    }
}
