import Testing
import UBPFTesting

/// `bpf_for` and `bpf_repeat` from C: verified, linked and run.
@Suite struct IteratorTests {
    private static let object = Result { try Fixture.compile("Tests/UBPFTestingTests/Fixtures/iterators.bpf.c") }

    /// What each program returns for `n` and `m`.
    static let cases: [(program: String, n: Int32, m: Int32, expected: Int32)] = [
        ("sum", 0, 0, 0), ("sum", 10, 0, 45), ("sum", 1_000, 0, 499_500), ("sum", -5, 0, 0),
        ("range", 3, 9, 6008), ("range", -4, 4, 8003), ("range", 9, 3, -1), ("range", .min, .min + 2, -2_147_481_647),
        ("range", .max - 1, .max, -2_147_482_650),
        ("repeat", 7, 0, 14), ("repeat", 8 << 20, 0, 16 << 20), ("repeat", (8 << 20) + 1, 0, 0),
        ("nested", 8, 0, 56), ("fill", 3, 0, 1488), ("search", 50, 0, 8), ("search", 1_000_000, 0, -1),
        ("functions", 10, 0, 165), ("passed", 7, 0, 506), ("passed", 6, 0, 499), ("passed", 5, 0, -101),
        ("codes", 0, 1, 1000), ("codes", 0, 2, 3000), ("codes", 2, 1, -22), ("codes", .min, .max, -7),
        ("codes", 5, 5, 0),
        ("on_stack", 100, 0, 120), ("on_stack", 4, 0, 6), ("asks", 21, 0, 42),
    ]

    @Test(arguments: cases)
    func results(_ program: String, _ n: Int32, _ m: Int32, _ expected: Int32) throws {
        let vm = try VM(BPFObject(bytes: Self.object.get(), name: "iterators.bpf.o"))
        vm.budget = 1 << 31
        let arguments = [n, m].map { UInt64(bitPattern: Int64($0)) }
        let outcome = try vm.program(program).run(.registers(ProbeRegisters(arguments: arguments)))
        #expect(Int32(truncatingIfNeeded: outcome.result) == expected)
    }
}
