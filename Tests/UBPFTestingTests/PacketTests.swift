import Glibc
import Testing
import UBPFTesting
import UBPFTestingTraits

/// Packets, their helpers and the programs around them, by every engine; as root, the kernel says what is right.
@Suite struct PacketTests {
    private static let bytes: Result<[UInt8], any Error> = Result {
        try Fixture.compile("Tests/UBPFTestingTests/Fixtures/packets.bpf.c")
    }

    static func machine() throws -> VM { try VM(BPFObject(bytes: bytes.get(), name: "packets.bpf.o")) }

    private static let packet = (0..<60).map { UInt8($0) }

    private func move(_ vm: VM, head: Int = 0, tail: Int = 0) throws -> Program.Outcome {
        try vm.map("orders").set(["head": Value(head), "tail": Value(tail)], at: 0)
        return try vm.run("move", .packet(Self.packet))
    }

    @Test(.everyEngine) func endsMove() throws {
        let vm = try Self.machine()
        let cut = try move(vm, head: 10, tail: -6)
        #expect(cut.code == 44)
        #expect(cut.context == [0xaa] + Self.packet[11..<54])
        #expect(try move(vm, tail: 8).context == [0xaa] + Self.packet[1...] + [UInt8](repeating: 0, count: 8))
        let longer = try move(vm, head: -4)
        #expect(longer.code == 64)
        #expect(longer.context.suffix(60) == Self.packet[...])
        #expect(try vm.map("protocols").count == 3)
        #expect(try vm.map("protocols")[0x1617] == 1)
        #expect(try vm.map("protocols")[0x0c0d] == 1)
        #expect(try vm.map("seen")[0] == 3)
        #expect(try vm.value(of: "total") == 3)
    }

    /// Ethernet's header has to stay, and there is an end to the room.
    @Test(
        .everyEngine,
        arguments: [
            (46, 0, 14), (47, 0, -2), (-216, 0, 276), (-217, 0, -2), (0, -46, 14), (0, -47, -3), (0, 3460, 3520),
            (0, 3461, -3),
        ]
    )
    func endsHaveLimits(_ head: Int, _ tail: Int, _ expected: Int32) throws {
        #expect(try move(Self.machine(), head: head, tail: tail).code == expected)
    }

    @Test(.everyEngine) func metadata() throws {
        let outcome = try Self.machine().run("meta", .packet(Self.packet))
        #expect(outcome.code == 77)
        #expect(outcome.context == Array(Self.packet[2...]))
    }

    @Test(.everyEngine) func copies() throws {
        let outcome = try Self.machine().run("copies", .packet(Self.packet))
        #expect(outcome.code == 0)
        #expect(outcome.context == Array(Self.packet[..<10]) + [57, 57, 58, 59] + Self.packet[14...])
    }

    /// The room is the kernel's.
    @Test(.everyEngine) func room() throws {
        #expect(try Self.machine().run("room", .packet(Self.packet)).code == 216 + 3460 << 12)
    }

    @Test(.everyEngine) func sums() throws {
        let vm = try Self.machine()
        let outcome = try vm.run("sums", .packet(Self.packet, ["priority": 3]))
        #expect(outcome.code == 0)
        // Words 0x0100, 0x0302 …: their sum is 0x4038, and 7.
        #expect(outcome.fields?["mark"] == 0x403f)
        #expect(outcome.fields?["cb"] == [0, 5, 0, 0, 0])
        #expect(outcome.fields?["priority"] == 3)
        let words = try #require(try vm.map("events").records().first)
        let all = (0..<3).map { integer(Array(words[8 * $0..<8 * $0 + 8]), as: UInt64.self) }
        #expect(all[0] == 0x403f)
        #expect(all[1] == 0x0e30)
        #expect(all[2] == 0xdbea)
        #expect(try vm.run("rewrites", .packet([UInt8](repeating: 0, count: 41))).code == -1)
    }

    @Test func sizesOfSumsAreMultiplesOfFour() throws {
        #expect(try Self.machine().run("sums_of_three", .packet(Self.packet)).code == -22)
    }

    @Test(.everyEngine) func sumsFollowWhatIsRewritten() throws {
        let vm = try Self.machine()
        var packet = Self.packet
        packet[12...13] = [8, 0]
        let outcome = try vm.run("rewrites", .packet(packet))
        #expect(outcome.code == 0)
        let after = outcome.context
        #expect(after[30..<34] == [10, 0, 0, 254])
        // RFC 1624: what went out of the data went into the sums.
        for field in [24, 40] {
            func sum(_ bytes: [UInt8]) -> Int {
                let words = ([30, 32] + [field]).map { Int(bytes[$0]) << 8 + Int(bytes[$0 + 1]) }
                return words.reduce(0, +) % 0xffff
            }
            #expect(sum(after) == sum(packet), "\(field)")
        }
        #expect(Array(after.suffix(4)) == [0, 0, 0, 0])
        #expect(after.count == 64)
    }

    @Test(.everyEngine) func partsOfPacketsAreSent() throws {
        let vm = try Self.machine()
        #expect(try vm.run("sample", .packet(Self.packet)).code == 0)
        let record = try #require(try vm.map("perf").records().first)
        #expect(Array(record[8..<16]) == littleEndian(UInt64(0x1122_3344_5566_7788)))
        #expect(Array(record[16..<76]) == Self.packet)
    }

    @Test(.engines(.interpreter, .checkedJIT, .jit)) func redirection() throws {
        let vm = try Self.machine()
        #expect(try vm.run("redirects", .packet(Self.packet)).code == 2)
        try vm.map("devices").set(UInt32(7), forKey: UInt32(1))
        #expect(try vm.run("redirects", .packet(Self.packet)).code == 4)
    }

    @Test(.everyEngine) func socketsSeeTheFrame() throws {
        let vm = try Self.machine()
        #expect(try vm.run("length", .packet(Self.packet)).code == 60)
        // As it lies in the frame.
        #expect(try vm.map("protocols")[0x0d0c] == 1)
    }

    /// The kernel takes no IP packets without all of their header; the interpreter does.
    @Test(.everyEngine) func whatTheKernelRefusesIsInterpreted() throws {
        let vm = try Self.machine()
        var packet = [UInt8](repeating: 0, count: 14)
        packet[12] = 8
        #expect(try vm.run("length", .packet(packet)).code == 14)
        #expect(try vm.map("protocols")[8] == 1)
    }

    @Test(.everyEngine) func wordsAndMemory() throws {
        let vm = try Self.machine()
        #expect(try vm.run("adds", .rawTracepoint(40, 2)).code == 42)
        let outcome = try vm.run("doubles", .bytes([21, 0, 0, 0, 0, 0, 0, 0]))
        #expect(outcome.code == 42)
        #expect(outcome.context == [21, 0, 0, 0, 42, 0, 0, 0])
        #expect(try vm.value(of: "total") == 41)
    }

    @Test(.everyEngine) func callbacks() throws {
        let vm = try Self.machine()
        for number in 1...3 { try vm.map("protocols").set(Value(number * 7), at: Value(number)) }
        #expect(try vm.run("walks", .packet(Self.packet)).code == 321)
        #expect(try vm.value(of: "total") == 6000 + 42 + 210)
    }

    @Test(.everyEngine) func tailCalls() throws {
        let vm = try Self.machine()
        // Packet byte 0: which of them; 0 and 2 are empty, 9 is none.
        for (which, result) in [(0, 1), (1, 9), (2, 1), (9, 1)] as [(UInt8, Int32)] {
            #expect(try vm.run("goes", .packet([which] + Self.packet[1...])).code == result)
        }
        #expect(try vm.value(of: "total") == 9)
    }

    /// What helpers that run programs call is still the world's.
    @Test(arguments: [Engine.interpreter, .checkedJIT, .jit])
    func faultsReachAllEngines(_ engine: Engine) throws {
        let vm = try Self.machine()
        try vm.use(engine)
        try vm.fail("map_lookup_elem", map: "orders", with: .ENOENT)
        #expect(try move(vm).code == -1)
        #expect(try vm.calls(of: "map_lookup_elem") == 1)
    }
}

/// What the trait `everyEngine` does.
@Suite struct EngineRunTests {
    private func run(_ engine: Engine, _ body: (VM) throws -> Void) throws -> EngineRun {
        let run = EngineRun(engine)
        try EngineRun.$current.withValue(run) { try body(PacketTests.machine()) }
        return run
    }

    @Test func differencesAreFound() throws {
        let first = try run(.interpreter) { try $0.run("adds", .rawTracepoint(1, 2)) }
        #expect(first.steps.count == 1)
        #expect(try run(.jit) { try $0.run("adds", .rawTracepoint(1, 2)) }.difference(from: first) == nil)
        // Another result, another map, and a run too few.
        let result = try run(.jit) { try $0.run("adds", .rawTracepoint(1, 3)) }
        #expect(result.difference(from: first)?.contains("jit: adds returns 4") == true)
        let map = try run(.jit) {
            try $0.map("protocols").set(1, at: 5)
            try $0.run("adds", .rawTracepoint(1, 2))
        }
        #expect(map.difference(from: first)?.contains("protocols[hex:0500] = hex:01") == true)
        let none = try run(.jit) { _ in }
        #expect(none.difference(from: first)?.contains("jit: nothing") == true)
        let packet = try run(.checkedJIT) { try $0.run("copies", .packet([UInt8](repeating: 1, count: 20))) }
        let other = try run(.interpreter) { try $0.run("copies", .packet([UInt8](repeating: 2, count: 20))) }
        #expect(packet.difference(from: other) != nil)
    }

    @Test(.enabled(if: geteuid() == 0, "the kernel runs programs for root only"))
    func whatTheKernelDoesNotTakeIsToldAndInterpreted() throws {
        let run = try run(.kernel) { vm in
            #expect(vm.engine == .kernel)
            #expect(try vm.run("redirects", .packet([UInt8](repeating: 1, count: 20))).code == 2)
            #expect(try vm.run("move", .packet([1])).code == -4)
            try vm.fail("map_lookup_elem", with: .ENOENT)
            #expect(try vm.run("move", .packet([UInt8](repeating: 1, count: 20))).code == -1)
            vm.reset()
            #expect(try vm.run("sums", .packet([UInt8](repeating: 1, count: 20), ["pkt_type": 4])).code == 0)
            #expect(try vm.run("reads_context", .record("order")).code == 99)
        }
        let told = run.fallbacks.joined(separator: "\n")
        #expect(run.fallbacks.count == 5, "\(told)")
        #expect(
            told.contains("devmap") && told.contains("14 bytes") && told.contains("faults")
                && told.contains("tracepoint") && told.contains("pkt_type")
        )
    }

    @Test func theKernelNeedsRoot() throws {
        let vm = try PacketTests.machine()
        guard geteuid() != 0 else {
            try vm.use(.kernel)
            #expect(try vm.run("adds", .rawTracepoint(1, 2)).code == 3)
            #expect(throws: TestingError.self) { try vm.run("reads_context", .record("order")) }
            #expect(throws: TestingError.self) { try vm.run("move", .packet([1])) }
            return
        }
        #expect { try vm.use(.kernel) } throws: { ($0 as? TestingError)?.kind == .engine }
    }
}

/// Pointers that typed programs follow without a helper.
@Suite struct PointerTests {
    private func machine() throws -> VM {
        let vm = try PacketTests.machine()
        try vm.place(["next": 0x2000, "number": 1, "text": "ab", "small": 300], as: "node", at: 0x1000)
        try vm.place(["next": 0x1000, "number": 2, "small": -300, "tiny": -5], as: "node", at: 0x2000)
        return vm
    }

    @Test func theWorldIsRead() throws {
        let vm = try machine()
        #expect(try vm.run("follows", .rawTracepoint(0x1000)).code == 1 + 20 - 300 - 5 + 98)
        #expect(try vm.run("follows_far", .rawTracepoint(0x1000)).code == 6)
        // As in the kernel: what is not there is 0.
        #expect(try vm.run("follows_far", .rawTracepoint(0x9000)).code == 0)
        try vm.place(["next": 0x9000, "number": 2], as: "node", at: 0x2000)
        #expect(try vm.run("follows_far", .rawTracepoint(0x1000)).code == 3)
    }

    @Test func tracesAndCoverageAreAsWithoutThem() throws {
        let vm = try machine()
        let steps = try vm.run("follows_far", .rawTracepoint(0x1000)).instructions
        let trace = try vm.trace("follows_far", .rawTracepoint(0x1000))
        #expect(trace.points.count == Int(steps))
        // Registers are the program's own.
        #expect(trace.points.allSatisfy { $0.registers.allSatisfy { $0 != trace.points[0].registers[10] - 512 * 8 } })
        #expect(trace.points.contains { $0.registers.contains(0x2000) })
        vm.countsCoverage = true
        try vm.run("follows_far", .rawTracepoint(0x1000))
        #expect(vm.coverage.functions.covered == 1)
        let interrupted = try vm.run("follows_far", .rawTracepoint(0x1000), interruptedAt: 3) {
            let inner = try vm.run("follows", .rawTracepoint(0x1000))
            #expect(inner.code == -186)
        }
        #expect(interrupted.outcome.code == 6)
    }

    @Test func compiledCodeWithoutChecksIsNotTrustedWithThem() throws {
        let vm = try machine()
        try vm.use(.jit)
        #expect { try vm.run("follows", .rawTracepoint(0x1000)) } throws: { ($0 as? TestingError)?.kind == .engine }
        try vm.use(.checkedJIT)
        #expect { try vm.run("follows_far", .rawTracepoint(0x1000)) } throws: { ($0 as? Trap)?.kind.name == "badRead" }
    }

    @Test func ownMemoryIsReadByCalls() throws {
        #expect(try machine().run("reads_context", .record("order", ["from": 5])).code == 104)
    }
}
