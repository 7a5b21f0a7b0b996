import EngineSupport
import Glibc
import ISA
import Testing

/// Iterators over numbers on every engine: the reference, the interpreter, both kinds of machine code, and the kernel.
@Suite struct IteratorTests {
    /// The context: r6 points to it; it starts with the limits, and takes results.
    private static let size = 64

    private static func make(_ offset: Int64) -> [Statement] {
        [
            .mov64(.r1, .r10), .add64(.r1, offset), .loadSigned32(.r2, .r6), .loadSigned32(.r3, .r6, 4),
            .call(.iterNumNew), .store32(.r6, 8, .r0),
        ]
    }

    private static func next(_ offset: Int64) -> [Statement] {
        [.mov64(.r1, .r10), .add64(.r1, offset), .call(.iterNumNext)]
    }

    private static func destroy(_ offset: Int64) -> [Statement] {
        [.mov64(.r1, .r10), .add64(.r1, offset), .call(.iterNumDestroy)]
    }

    private static func loop(_ name: String, _ offset: Int64, _ body: [Statement]) -> [Statement] {
        make(offset) + [.label(name)] + next(offset) + [.jumpEqual(.r0, 0, to: name + " end"), .load32(.r8, .r0)] + body
            + [.jump(to: name), .label(name + " end")] + destroy(offset)
    }

    private static let start: [Statement] = [.mov64(.r6, .r1), .mov64(.r7, 0), .mov64(.r9, 0), .mov64(.r8, 0)]
    private static let end: [Statement] = [
        .store64(.r6, 16, .r7), .store64(.r6, 24, .r8), .mov64(.r0, .r9), .exit,
    ]

    /// The numbers: their count, a hash of them, and the last.
    private static let count: [Statement] = [.add64(.r9, 1), .mul64(.r7, 31), .add64(.r7, .r8)]

    static let programs: [(name: String, code: [Statement])] = [
        ("all", start + loop("a", -8, count + [.jumpGreater(.r9, 2000, to: "a end")]) + end),
        ("low in the frame", start + loop("a", -512, count + [.jumpGreater(.r9, 100, to: "a end")]) + end),
        (
            "nested",
            start
                + loop(
                    "a",
                    -8,
                    [.jumpGreater(.r9, 300, to: "a end")]
                        + loop("b", -16, count + [.jumpGreater(.r9, 200, to: "b end")])
                ) + end
        ),
        (
            "once",
            start + make(-8) + next(-8) + [.jumpEqual(.r0, 0, to: "out"), .load32(.r7, .r0), .label("out")]
                + destroy(-8) + end
        ),
        (
            "after the end",
            start + loop("a", -8, count + [.jumpGreater(.r9, 5, to: "a end")]) + make(-8) + next(-8) + next(-8)
                + next(-8)
                + [.jumpEqual(.r0, 0, to: "out"), .load8(.r7, .r0, 3), .label("out")] + destroy(-8) + end
        ),
        (
            "in a function",
            start + [.mov64(.r1, .r6), .call("f"), .mov64(.r7, .r0), .mov64(.r1, .r6), .call("f"), .mov64(.r9, .r0)]
                + end
                + [.function("f"), .mov64(.r6, .r1), .mov64(.r7, 0), .mov64(.r9, 0)]
                + loop("g", -8, count + [.jumpGreater(.r9, 7, to: "g end")]) + [.mov64(.r0, .r7), .exit]
        ),
        (
            "a function takes the number",
            start + make(-8) + [
                .mov64(.r1, .r10), .add64(.r1, -8), .call("take"), .mov64(.r7, .r0), .mov64(.r1, .r10), .add64(.r1, -8),
                .call("take"), .mov64(.r9, .r0),
            ] + destroy(-8) + end + [
                .function("take"), .call(.iterNumNext), .jumpEqual(.r0, 0, to: "none"), .load32(.r0, .r0), .exit,
                .label("none"), .mov64(.r0, -1), .exit,
            ]
        ),
    ]

    static let limits: [(Int32, Int32)] = {
        let edges: [Int32] = [.min, .min + 1, -(8 << 20), -1, 0, 1, 2, 9, 8 << 20, (8 << 20) + 1, .max - 1, .max]
        return edges.flatMap { first in edges.map { (first, $0) } }
    }()

    private func context(_ limits: (Int32, Int32)) -> [UInt8] {
        var words = [UInt64](repeating: 0, count: Self.size / 8)
        words[0] = UInt64(UInt32(bitPattern: limits.0)) | UInt64(UInt32(bitPattern: limits.1)) << 32
        return bytes(words)
    }

    private func compare<First: Engine, Second: Engine>(
        _: First.Type,
        _: Second.Type,
        _ program: [Instruction],
        _ contexts: [[UInt8]]
    ) throws {
        let (first, second) = (try First(program), try Second(program))
        for context in contexts {
            let (expected, result) = (try first.run(context), try second.run(context))
            #expect(expected == result, "\(First.name), \(Second.name): \(context.prefix(8))")
            #expect(result.trap == nil)
        }
    }

    @Test(arguments: programs.map(\.name))
    func enginesAgree(_ name: String) throws {
        let program = try Assembly(try #require(Self.programs.first { $0.name == name }).code).instructions
        let contexts = Self.limits.map(context)
        try compare(ReferenceEngine.self, VMEngine.self, program, contexts)
        try compare(ReferenceEngine.self, JITEngine.self, program, contexts)
        try compare(ReferenceEngine.self, CheckedJITEngine.self, program, contexts)
        try compare(ReferenceEngine.self, PlainJITEngine.self, program, contexts)
    }

    @Test(.enabled(if: geteuid() == 0, "the kernel runs programs for root only"), arguments: programs.map(\.name))
    func theKernelAgrees(_ name: String) throws {
        let program = try Assembly(try #require(Self.programs.first { $0.name == name }).code).instructions
        try compare(KernelEngine.self, VMEngine.self, program, Self.limits.map(context))
    }

    /// Checked engines stop iterators outside of the program's memory.
    @Test(arguments: [Helper.iterNumNew, .iterNumNext, .iterNumDestroy])
    func iteratorsElsewhereAreStopped(_ helper: Helper) throws {
        for address: Int64 in [0, 8, 0x7fff_ffff_f000, -1] {
            let program = try Assembly([
                .loadImm64(.r1, address), .mov64(.r2, 0), .mov64(.r3, 9), .call(helper), .mov64(.r0, 0), .exit,
            ]).instructions
            #expect { try VMEngine(program).run(context((0, 0))) } throws: { _ in true }
            #expect { try CheckedJITEngine(program).run(context((0, 0))) } throws: { _ in true }
        }
    }
}
