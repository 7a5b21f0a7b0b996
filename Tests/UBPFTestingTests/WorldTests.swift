import Testing
import UBPFTesting

/// What programs learn of the world, by every kind of context.
@Suite struct WorldTests {
    static let bytes: Result<[UInt8], any Error> = Result {
        try Fixture.compile("Tests/UBPFTestingTests/Fixtures/world.bpf.c")
    }

    private func machine(verifies: Bool = true, cpus: Int = 1) throws -> VM {
        try VM(BPFObject(bytes: Self.bytes.get(), name: "world.bpf.o"), verifies: verifies, cpus: cpus)
    }

    @Test func programsSeeTheWorldAndNothingElse() throws {
        let vm = try machine()
        var world = World(pid: 7, tid: 8, clock: 5)
        (world.uid, world.gid, world.cpu, world.comm, world.random) = (3, 4, 2, "a thread's long name", 9)
        vm.world = world
        vm.world.advance(by: .microseconds(2))
        let first = try vm.run("look")
        #expect(first.result == 0)
        let seen = try #require(try vm.map("worlds")[1])
        #expect(seen["time"] == 2005)
        #expect(seen["pid_tgid"] == .integer(7 << 32 | 8))
        #expect(seen["uid_gid"] == .integer(4 << 32 | 3))
        #expect(seen["cpu"] == 2)
        #expect(seen["comm"] == "a thread's long")
        #expect(seen["raw"] == .bytes([0, 0xab, 0, 0]))
        #expect(seen["color"] == 5)
        #expect(seen["low"] == 5 && seen["high"] == 17)
        #expect(seen["inner"]?[1]?["y"] == -7)
        #expect(seen["word"] == 0x10002 && seen["half"] == 2)
        #expect(seen["flag"] == 1)
        #expect(try vm.variable("last") == seen)
        #expect(first.calls.map(\.helper).contains("get_prandom_u32"))
        // The same world gives the same.
        vm.reset()
        #expect(try vm.map("worlds").count == 0)
        #expect(try vm.variable("last")["time"] == 0)
        vm.world = world
        vm.world.advance(by: .microseconds(2))
        #expect(try vm.run("look").calls == first.calls)
        #expect(try vm.map("worlds")[1] == seen)
    }

    @Test func clocksStepWhenTheyAreRead() throws {
        let vm = try machine()
        vm.world.clockStep = 10
        try vm.run("look")
        #expect(vm.world.clock == 1_000_000_010)
    }

    @Test func valuesAreWrittenByTheirTypes() throws {
        let vm = try machine()
        let worlds = try vm.map("worlds")
        let value: Value = [
            "comm": "x", "raw": [1, 2], "color": 5, "low": 7, "high": 31, "inner": [["x": -1], ["y": 2]], "half": 9,
            "flag": 1,
        ]
        try worlds.set(value, at: 3)
        let found = try #require(try worlds[3])
        #expect(found.matches(["comm": "x", "raw": .bytes([1, 2, 0, 0]), "low": 7, "high": 31, "half": 9, "time": 0]))
        #expect(found["inner"]?[0]?["x"] == -1)
        #expect(worlds.entries.map(\.key) == [3])
        #expect(try worlds.remove(at: 3))
        #expect(try worlds[3] == nil)
        #expect(throws: TestingError.self) { try worlds.set(["nothing": 1], at: 1) }
        #expect(throws: TestingError.self) { try worlds.set(["cpu": "text"], at: 1) }
        #expect(throws: TestingError.self) { try worlds.set(["cpu": 0x1_0000_0000], at: 1) }
        #expect(throws: TestingError.self) { try worlds.set(["comm": "more than sixteen bytes"], at: 1) }
        try vm.set("last", to: ["cpu": 4])
        #expect(try vm.variable("last")["cpu"] == 4)
    }

    @Test func memoryIsWhereTheWorldPutIt() throws {
        let vm = try machine()
        vm.world.memory.place(text: "/etc/passwd", at: 0x1000)
        vm.world.memory.place(words: [0x1000], at: 0x2000)
        #expect(try vm.run("read_text", .uprobe(0x1000, 0x2000)).result == 0)
        #expect(try vm.map("events").events(as: "text") == [["length": 12, "text": "/etc/passwd"]])
        // Half of the word is missing, then all of it.
        #expect(try vm.run("read_text", .uprobe(0x1000, 0x2004)).result == 2)
        #expect(try vm.run("read_text", .uprobe(0x1000, 0x3000)).result == 2)
        // A text that goes on in the next region, and one that ends nowhere.
        vm.world.memory.place(Array("ab".utf8), at: 0x4000)
        vm.world.memory.place(text: "cd", at: 0x4002)
        #expect(try vm.run("read_text", .uprobe(0x4000, 0x2000)).result == 0)
        vm.world.memory.place(Array("ef".utf8), at: 0x4002)
        #expect(try vm.run("read_text", .uprobe(0x4000, 0x2000)).result == 0)
        let records = try vm.map("events").events(as: "text")
        #expect(records.map { $0["length"] } == [5, -14])
        #expect(records.map { $0["text"] } == ["abcd", ""])
        // Addresses of this process are as unknown as all others.
        let own: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]
        let address = own.withUnsafeBytes { UInt64(UInt(bitPattern: $0.baseAddress)) }
        #expect(try vm.run("read_text", .uprobe(0x1000, address)).result == 2)
    }

    @Test func eventsCountersAndCPUs() throws {
        let vm = try machine(cpus: 4)
        vm.world.cpu = 0
        #expect(try vm.run("send", .uprobe(5)).result == 0)
        vm.world.cpu = 3
        try vm.mock("perf_event_output") { call in
            #expect(call.bytes(3, count: 8) == littleEndian(UInt64(6)))
            return -2
        }
        #expect(try vm.run("send", .uprobe(6)).code == -2)
        #expect(try vm.map("percpu")[0] == [5, 0, 0, 6])
        #expect(try vm.map("perf").events() == [5])
    }

    @Test func stacksAreTheWorlds() throws {
        let vm = try machine()
        #expect(try vm.run("stack").code == -14)
        vm.world.stack = [0x10, 0x20]
        let id = Int64(try vm.run("stack").code)
        #expect(id >= 0)
        #expect(try vm.map("stacks").stack(id) == [0x10, 0x20])
        #expect(Int64(try vm.run("stack").code) == id)
    }

    @Test func recordsByTheirFields() throws {
        let vm = try machine()
        let record = Context.record("trace_event_raw_sys_enter", ["id": 257, "args": [1, 7]])
        #expect(try vm.run("on_syscall", record).result == 257_007)
        try vm.place(["group_leader": 0x9000], as: "task_struct", at: 0x8000)
        try vm.place(["pid": 77], as: "task_struct", at: 0x9000)
        #expect(try vm.run("on_exec", .rawTracepoint(0x8000)).result == 77)
        #expect(try vm.run("on_sample", .perfEvent(ProbeRegisters(instructionPointer: 40), period: 2)).result == 42)
        #expect(throws: TestingError.self) { try vm.run("on_syscall", .record("no_such_struct")) }
    }

    /// Where the object's own types are the kernel's, another kernel's idea of a type does not hide the type.
    @Test func flavoursBesideTheType() throws {
        let bytes = try Fixture.compile("Tests/UBPFTestingTests/Fixtures/flavours.bpf.c")
        let vm = try VM(BPFObject(bytes: bytes, name: "flavours.bpf.o"))
        try vm.place(["first": 1, "state": 20, "second": 300], as: "thing", at: 0x1000)
        #expect(try vm.run("states", .rawTracepoint(0x1000)).code == 320)
        vm.world.memory.place([7, 0, 0, 0], at: 0x2000)
        #expect(try vm.run("flavour_alone", .rawTracepoint(0x2000)).code == 7)
    }

    @Test func packetsOfAnyLength() throws {
        let vm = try machine()
        var packet = [UInt8](repeating: 0, count: 64)
        (packet[12], packet[23]) = (8, 6)
        let outcome = try vm.run("on_packet", .packet(packet))
        #expect(outcome.result == 2)
        #expect(outcome.context.first == 0xff)
        #expect(try vm.run("on_packet", .packet(Array(packet.prefix(13)))).result == 1)
        #expect(try vm.run("on_socket", .packet(packet)).result == 64)
        #expect(try vm.run("on_socket", .packet(Array(packet.prefix(23)))).result == 0)
        #expect(throws: TestingError.self) { try vm.run("on_packet", .packet([UInt8](repeating: 0, count: 1 << 20))) }
    }

    @Test func controlGroups() throws {
        let vm = try machine()
        #expect(try vm.run("in_group").code == -1)
        vm.world.controlGroups = [1, 20, 3]
        try vm.map("groups").set(UInt32(20), forKey: UInt32(1))
        #expect(try vm.run("in_group").code == 320)
        try vm.map("groups").set(UInt32(4), forKey: UInt32(1))
        #expect(try vm.run("in_group").code == -1)
        try vm.map("groups").remove(littleEndian(UInt32(1)))
        #expect(try vm.run("in_group").code == -1)
        #expect(throws: TestingError.self) { try vm.map("groups").set(UInt32(4), forKey: UInt32(2)) }
    }

    @Test func helpersOfTheKernelCanBeMocked() throws {
        let vm = try machine()
        #expect { try vm.run("needs_kernel") } throws: { ($0 as? Trap)?.kind == .unknownHelper(17) }
        try vm.mock("bpf_get_cgroup_classid") { 40 + Int64($0.number) }
        // It was called before.
        #expect(try vm.run("needs_kernel").result == 42)
        #expect(try vm.calls(of: "get_cgroup_classid") == 2)
        #expect(throws: TestingError.self) { try vm.mock("no_such_helper") { _ in 0 } }
    }

    @Test func faultsStrikeTheCallThatTheyAreFor() throws {
        let vm = try machine()
        try vm.fail("map_update_elem", map: "worlds", call: 2, with: .ENOMEM)
        #expect(try [1, 2, 3].map { (_: Int) in try vm.run("look").code } == [0, -12, 0])
        try vm.fail("ringbuf_reserve", with: .ENOSPC)
        vm.world.memory.place(words: [0], at: 0)
        let outcome = try vm.run("read_text", .uprobe(0, 0))
        #expect(outcome.result == 1)
        #expect(outcome.calls.last?.isInjected == true)
        #expect("\(outcome.calls[0])" == "ringbuf_reserve(events) = 0 (injected)")
        #expect(throws: TestingError.self) { try vm.fail("map_update_elem", map: "nothing", with: .ENOMEM) }
        // What an engine does itself would not ask.
        for helper in ["tail_call", "bpf_loop", "for_each_map_elem", "user_ringbuf_drain"] {
            let runs = #expect(throws: TestingError.self) { try vm.fail(helper, with: .E2BIG) }
            #expect(runs?.description.contains("\(helper) runs programs, which no mock and no fault can") == true)
            #expect(throws: TestingError.self) { try vm.mock(helper) { _ in 0 } }
        }
    }

    @Test func verdictsAreTested() throws {
        let object = try BPFObject(bytes: Self.bytes.get(), name: "world.bpf.o")
        try object.expectVerifies("look")
        try object.expectVerifies("on_packet")
        guard case .rejected(let rejection) = try object.verdict("no_check") else {
            Issue.record("accepted")
            return
        }
        let line = try #require(rejection.line)
        try object.expectRejects("no_check", "nullPointer", line: line)
        try object.expectRejects("no_check", "V012")
        for (program, kind, at) in [
            ("look", nil, nil), ("no_check", "leak", nil), ("no_check", nil, 1), ("no_check", "xyz", nil),
        ]
            as [(String, String?, Int?)]
        {
            #expect(throws: TestingError.self) { try object.expectRejects(program, kind, line: at) }
        }
        #expect { try object.expectVerifies("no_check") } throws: { "\($0)".contains("seen->cpu") }
    }

    @Test func coverageKnowsLinesAndBothWays() throws {
        let vm = try machine()
        vm.countsCoverage = true
        vm.world.memory.place(words: [0x1000], at: 0x1000)
        try vm.run("read_text", .uprobe(0x1000, 0x1000))
        var coverage = vm.coverage
        let path = try #require(coverage.files.keys.first { $0.hasSuffix("world.bpf.c") })
        let source = try Fixture.lines("Tests/UBPFTestingTests/Fixtures/world.bpf.c")
        let discard = try #require(source.firstIndex { $0.contains("ringbuf_discard") }) + 1
        #expect(coverage.uncoveredLines(path).contains(discard))
        #expect(coverage.partialBranches(path).contains(discard - 1))
        #expect(coverage.functions.covered == 1)
        #expect(coverage.summary.contains("never reached: "))
        let other = try machine()
        other.countsCoverage = true
        try other.run("read_text", .uprobe(0x1000, 0x1000))
        coverage.merge(other.coverage)
        #expect(!coverage.uncoveredLines(path).contains(discard))
        #expect(!coverage.partialBranches(path).contains(discard - 1))
        let lcov = coverage.lcov(test: "both")
        #expect(lcov.hasPrefix("TN:both\nSF:"))
        #expect(lcov.contains("FNDA:2,read_text\n"))
        #expect(lcov.contains("DA:\(discard),1\n"))
        #expect(lcov.hasSuffix("end_of_record\n"))
    }

    @Test(arguments: [Engine.interpreter, .checkedJIT, .jit])
    func everyEngineGivesTheSame(_ engine: Engine) throws {
        let vm = try machine()
        // One program of the object is refused and not compiled; the others are.
        try vm.use(engine)
        vm.world.memory.place(text: "abc", at: 0x1000)
        vm.world.memory.place(words: [0x1000], at: 0x2000)
        #expect(try vm.run("look").result == 0)
        #expect(try vm.map("worlds")[1]?["time"] == 1_000_000_000)
        #expect(try vm.run("read_text", .uprobe(0x1000, 0x2000)).result == 0)
        #expect(try vm.map("events").events(as: "text") == [["length": 4, "text": "abc"]])
        #expect(try vm.run("on_packet", .packet([UInt8](repeating: 0, count: 14))).result == 1)
        try vm.fail("map_update_elem", with: .E2BIG)
        #expect(try vm.run("look").code == -7)
    }
}

/// What happens in the middle of a run.
@Suite struct InterruptionTests {
    @Test func anInterruptionIsARunOfItsOwn() throws {
        let vm = try VM(BPFObject(bytes: WorldTests.bytes.get(), name: "world.bpf.o"))
        vm.world.memory.place(text: "abc", at: 0x1000)
        vm.world.memory.place(words: [0x1000], at: 0x2000)
        let whole = try vm.run("read_text", .uprobe(0x1000, 0x2000))
        var points: UInt64 = 0
        while true {
            vm.reset(vm.world)
            var inner: Program.Outcome?
            let run = try vm.run("read_text", .uprobe(0x1000, 0x2000), interruptedAt: points) {
                vm.world.tid = 9
                inner = try vm.run("look")
                #expect(throws: TestingError.self) {
                    try vm.run("look", .uprobe(), interruptedAt: 0) { try vm.run("look") }
                }
            }
            // Neither disturbs the other.
            #expect(run.outcome.result == 0)
            #expect(run.outcome.calls == whole.calls)
            #expect(run.outcome.instructions == whole.instructions)
            #expect(vm.world.tid == 1000)
            #expect(try vm.map("events").events(as: "text").map { $0["text"] } == ["abc"])
            guard run.interrupted != nil else {
                #expect(inner == nil)
                break
            }
            #expect(try vm.map("worlds")[1]?["pid_tgid"] == .integer(1000 << 32 | 9))
            points += 1
        }
        #expect(points == whole.instructions)
    }
}
