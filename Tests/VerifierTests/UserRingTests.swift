import ISA
import Testing

@testable import Verifier

/// A program that drains a user ring, and what is said of it; nil for accepted.
private struct Case: CustomTestStringConvertible, Sendable {
    var testDescription: String
    var program: [Statement]
    var expected: Rule?

    init(_ name: String, _ program: [Statement], _ expected: Rule? = nil) {
        (testDescription, self.program, self.expected) = (name, program, expected)
    }

    private static let end: [Statement] = [.mov64(.r0, 0), .exit]

    private static func drain(_ map: Int32 = 0, _ context: [Statement] = [.mov64(.r3, 0)]) -> [Statement] {
        [.loadMap(.r1, map), .loadFunction(.r2, "f")] + context + [.mov64(.r4, 0), .call(.userRingbufDrain)]
    }

    /// A program whose callback does this with the dynptr in r6 and the context in r7.
    private static func sample(_ body: [Statement], returns result: Int64 = 0) -> [Statement] {
        drain() + end + [.function("f"), .mov64(.r6, .r1), .mov64(.r7, .r2)] + body
            + [.label("out"), .mov64(.r0, result), .exit]
    }

    private static func data(_ size: Int64) -> [Statement] {
        [.mov64(.r1, .r6), .mov64(.r2, 0), .mov64(.r3, size), .call(.dynptrData)]
    }

    private static let checked: [Statement] = [.jumpEqual(.r0, 0, to: "out")]

    private static let checkedDynptr: [Statement] = [.jumpEqual(.r6, 0, to: "out")]

    private static let read: [Statement] = [
        .mov64(.r1, .r10), .add64(.r1, -8), .mov64(.r2, 8), .mov64(.r3, .r6), .mov64(.r4, 0), .mov64(.r5, 0),
        .call(.dynptrRead),
    ]

    private static let write: [Statement] = [
        .store64(.r10, -8, 1), .mov64(.r1, .r6), .mov64(.r2, 0), .mov64(.r3, .r10), .add64(.r3, -8), .mov64(.r4, 8),
        .mov64(.r5, 0), .call(.dynptrWrite),
    ]

    private static func finish(_ helper: Helper) -> [Statement] { [.mov64(.r1, .r6), .mov64(.r2, 0), .call(helper)] }

    private static let value: [Statement] = [
        .store64(.r10, -8, 0), .loadMap(.r1, 2), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapLookupElem),
        .jumpEqual(.r0, 0, to: "out"),
    ]

    private static let remake: [Statement] =
        value + [.mov64(.r1, .r0), .mov64(.r2, 8), .mov64(.r3, 0), .mov64(.r4, .r6), .call(.dynptrFromMem)]

    /// A slice kept in the caller's frame by the round before; the ring's memory stays where it is.
    private static let keep: [Statement] =
        drain(0, [.store64(.r10, -8, 0), .mov64(.r3, .r10), .add64(.r3, -8)]) + end + [
            .function("f"), .mov64(.r6, .r1), .mov64(.r7, .r2), .load64(.r1, .r7), .jumpEqual(.r1, 0, to: "none"),
            .load64(.r1, .r1), .label("none"),
        ] + data(8) + [.store64(.r7, 0, .r0), .mov64(.r0, 0), .exit]

    /// The dynptr of a round is put into the caller's frame, for the next round or for what comes after the drain.
    private static func stale(_ next: [Statement], _ behind: [Statement]) -> [Statement] {
        [.store64(.r10, -8, 0)] + drain(0, [.mov64(.r3, .r10), .add64(.r3, -8)]) + [.load64(.r6, .r10, -8)] + behind
            + [.label("end")] + end + [.function("f"), .mov64(.r7, .r2), .mov64(.r8, .r1), .load64(.r6, .r7)] + next
            + [.label("out"), .store64(.r7, 0, .r8), .mov64(.r0, 0), .exit]
    }

    static let all: [Case] = [
        Case("the dynptr of the round before", stale(checkedDynptr + read, []), .argument),
        Case("the dynptr of a record that is gone", stale([], [.jumpEqual(.r6, 0, to: "end")] + read), .argument),
        Case("the dynptr on the callback's stack", sample([.store64(.r10, -16, .r6), .load64(.r6, .r10, -16)] + read)),
        Case("nothing", sample([])), Case("a read", sample(read)), Case("a write", sample(write)),
        Case("data", sample(data(8) + checked + [.store64(.r0, 0, 1), .load64(.r1, .r0)])),
        Case("data that is not compared", sample(data(8) + [.load64(.r1, .r0)]), .nullPointer),
        Case("data beyond its end", sample(data(8) + checked + [.load64(.r1, .r0, 1)]), .outOfBounds),
        Case("a slice of the round before", keep),
        Case("returns 1", sample([], returns: 1)), Case("returns 2", sample([], returns: 2), .callback),
        Case("returns -1", sample([], returns: -1), .callback),
        Case("the dynptr is read", sample([.load64(.r1, .r6)]), .notAPointer),
        Case("the dynptr is written", sample([.store64(.r6, 0, 0)]), .notAPointer),
        Case("the dynptr is moved", sample([.add64(.r6, 8)]), .pointerArithmetic),
        Case("the dynptr is submitted", sample(finish(.ringbufSubmitDynptr)), .argument),
        Case("the dynptr is discarded", sample(finish(.ringbufDiscardDynptr)), .argument),
        Case("the dynptr is made anew", sample(remake), .argument),
        Case("a context that is no pointer", drain(0, [.mov64(.r3, 5)]) + end + [.function("f")] + end, .argument),
        Case("the context is NULL", sample([.load64(.r1, .r7)]), .notAPointer),
        Case("another ring", drain(1) + end + [.function("f")] + end, .mapType),
        Case("an array", drain(2) + end + [.function("f")] + end, .mapType),
        Case(
            "a record is reserved in a user ring",
            [.loadMap(.r1, 0), .mov64(.r2, 8), .mov64(.r3, 0), .call(.ringbufReserve)] + end,
            .mapType
        ),
        Case(
            "a lookup in a user ring",
            [.store64(.r10, -8, 0), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapLookupElem)] + end,
            .mapType
        ),
        Case(
            "a record is left behind",
            sample([
                .loadMap(.r1, 1), .mov64(.r2, 8), .mov64(.r3, 0), .call(.ringbufReserve), .jumpEqual(.r0, 0, to: "out"),
            ]),
            .unreleased
        ),
    ]
}

@Suite struct UserRingTests {
    @Test(arguments: Case.all)
    private func rules(_ test: Case) throws {
        let assembly = try Assembly(test.program)
        let functions = assembly.functions.map { FunctionFacts(name: "f", start: $0) }
        let maps = [
            MapFacts(name: "user", type: .userRingBuffer, keySize: 0, valueSize: 0, maxEntries: 4096),
            MapFacts(name: "ring", type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: 4096),
            MapFacts(name: "array", type: .array, keySize: 4, valueSize: 64, maxEntries: 4),
        ]
        let subject = Subject(instructions: assembly.instructions, functions: functions, maps: maps, type: .kprobe)
        var rule: Rule?
        var what = ""
        do { _ = try verify(subject) } catch { (rule, what) = (error.rule, error.what) }
        #expect(rule == test.expected, "\(what)")
    }

    /// The dynptr has a frame between the caller's and the callback's.
    @Test func frames() throws {
        var program: [Statement] = [.call("f1"), .mov64(.r0, 0), .exit]
        for depth in 1...5 {
            program += [.function("f\(depth)"), .call("f\(depth + 1)"), .mov64(.r0, 0), .exit]
        }
        program += [
            .function("f6"), .loadMap(.r1, 0), .loadFunction(.r2, "last"), .mov64(.r3, 0), .mov64(.r4, 0),
            .call(.userRingbufDrain), .mov64(.r0, 0), .exit, .function("last"), .mov64(.r0, 0), .exit,
        ]
        let assembly = try Assembly(program)
        let functions = assembly.functions.map { FunctionFacts(name: "f", start: $0) }
        let ring = MapFacts(name: "user", type: .userRingBuffer, keySize: 0, valueSize: 0, maxEntries: 4096)
        var subject = Subject(instructions: assembly.instructions, functions: functions, maps: [ring], type: .kprobe)
        #expect { try verify(subject) } throws: { ($0 as? VerifierError)?.rule == .callsTooDeep }
        subject.platform = .kernel
        _ = try verify(subject)
    }
}
