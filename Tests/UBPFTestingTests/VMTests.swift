import Testing
import UBPFTesting

@Suite struct VMTests {
    @Test func objectsNameTheirParts() throws {
        let object = try Fixture.sample()
        #expect(object.programs.contains("on_alloc"))
        #expect(object.maps.contains("sizes"))
        #expect(object.variables.contains("min_size"))
    }

    @Test func aProbeWritesMapsRingsAndVariables() throws {
        let vm = try VM(Fixture.sample())
        let text = Array("text of the test".utf8) + [0]
        let outcome = try text.withUnsafeBytes { text in
            let pointer = UInt64(UInt(bitPattern: text.baseAddress))
            vm.world.memory.followsTestPointers = true
            (vm.world.pid, vm.world.uid) = (42, 7)
            return try vm.run("on_alloc", .uprobe(100, pointer))
        }
        #expect(outcome.result == 0)
        #expect(outcome.instructions > 20)
        #expect(try vm.map("sizes").value(forKey: UInt32(42)) == UInt64(100))
        #expect(try vm.map("sizes").value(forKey: UInt32(43), as: UInt64.self) == nil)
        #expect(try vm.map("sizes").keys == [littleEndian(UInt32(42))])
        #expect(try vm.map("calls").value(forKey: UInt32(0)) == UInt64(1))
        #expect(try vm.value(of: "hits") == 1)
        #expect(try vm.value(of: "balance") == -6)
        let record = try #require(try vm.map("events").records().first)
        #expect(integer(Array(record[0..<4]), as: UInt32.self) == 42)
        #expect(integer(Array(record[4..<8]), as: UInt32.self) == 7)
        #expect(integer(Array(record[8..<16]), as: UInt64.self) == 100)
        #expect(String(decoding: record[16..<31], as: UTF8.self) == "text of the tes")
        #expect(try vm.map("events").records().isEmpty)
        #expect(vm.printedLines().first?.contains("pid 42 size 100") == true)
    }

    @Test func optionsAreSetBeforeLoading() throws {
        var object = try Fixture.sample()
        try object.set("min_size", to: 50)
        try object.set("balance", to: -100)
        let vm = try VM(object)
        let program = try vm.program("on_alloc")
        #expect(try program.run(.uprobe(49)).result == 1)
        #expect(try program.run(.uprobe(50)).result == 0)
        #expect(try vm.value(of: "min_size") == 50)
        #expect(try vm.value(of: "balance") == -101)
        #expect(try vm.bytes(of: "greeting").prefix(6) == Array("hello".utf8) + [0])
    }

    @Test func returnProbesSeeTheResultAndTheCookie() throws {
        let vm = try VM(Fixture.sample())
        vm.world.cookie = 5
        #expect(try vm.run("on_return", .uretprobe(returning: 5)).result == 7)
        vm.world.cookie = 6
        #expect(try vm.run("on_return", .uretprobe(returning: 5)).result == 8)
    }

    @Test func fullMapsRefuse() throws {
        let vm = try VM(Fixture.sample())
        let program = try vm.program("on_alloc")
        for pid in 1...4 {
            vm.world.pid = UInt32(pid)
            #expect(try program.run(.uprobe(1)).result == 0)
        }
        vm.world.pid = 5
        #expect(try program.run(.uprobe(1)).result == 2)
        #expect { try vm.map("sizes").set(UInt64(1), forKey: UInt32(6)) } throws: { ($0 as? TestingError)?.errno == 7 }
        #expect(try vm.map("sizes").remove(littleEndian(UInt32(2))))
        #expect(try !vm.map("sizes").remove(littleEndian(UInt32(2))))
        try vm.map("sizes").set(UInt64(1), forKey: UInt32(6))
        #expect(try vm.map("sizes").keys.count == 4)
    }

    @Test func contextBytesAreWritable() throws {
        let outcome = try VM(Fixture.sample()).program("swap").run(.bytes([1, 2, 3]))
        #expect(outcome.result == 2)
        #expect(outcome.context == [2, 1, 3])
    }

    @Test func tailCallsFollowTheObject() throws {
        #expect(try VM(Fixture.sample()).program("caller").run().result == 43)
    }

    @Test func trapsNameKindAndSource() throws {
        let program = try VM(Fixture.sample(), verifies: false).program("wild")
        do {
            try program.run(.uprobe(0x1234))
            Issue.record("no trap")
        } catch let error as Trap {
            #expect(error.kind == .badRead(address: 0x1234))
            #expect(error.program == "wild")
            #expect(error.source?.contains("sample.bpf.c:") == true)
            #expect(error.description.contains("0x1234"))
        }
    }

    @Test func endlessProgramsEnd() throws {
        let vm = try VM(Fixture.sample(), verifies: false)
        vm.budget = 10_000
        do {
            try vm.program("endless").run()
            Issue.record("no trap")
        } catch let trap as Trap {
            #expect(trap.kind == .budget)
        }
        #expect(try vm.value(of: "hits") > 1000)
    }

    @Test func programsAreVerified() throws {
        let vm = try VM(Fixture.sample())
        #expect { try vm.program("wild") } throws: { error in
            "\(error)".contains("insn 1 (r0 = *(u32 *)(r1 +0)): r1 is a number")
        }
        #expect { try vm.program("endless") } throws: { "\($0)".contains("would never end") }
    }

    @Test func mistakesHaveReasons() throws {
        var object = try Fixture.sample()
        let vm = try VM(object)
        func kind(_ body: () throws -> Void) -> TestingError.Kind? {
            do {
                try body()
                return nil
            } catch { return (error as? TestingError)?.kind }
        }
        #expect(kind { _ = try vm.program("nothing") } == .notFound)
        #expect(kind { _ = try vm.map("nothing") } == .notFound)
        #expect(kind { _ = try vm.value(of: "nothing") } == .notFound)
        #expect(kind { try object.set("nothing", to: 1) } == .notFound)
        #expect(kind { _ = try vm.value(of: "greeting") } == .size)
        #expect(kind { try object.set("greeting", to: [UInt8](repeating: 1, count: 17)) } == .size)
        #expect(kind { _ = try vm.map("sizes").value(forKey: [1, 2]) } == .size)
        #expect(kind { try vm.map("sizes").set([1], forKey: [1, 2, 3, 4]) } == .size)
        #expect(kind { _ = try BPFObject(bytes: [1, 2, 3], name: "x.o") } == .object)
        #expect(kind { _ = try BPFObject(path: "/nonexistent.bpf.o") } == .object)
    }

    /// A shipped tool under test: the counts are those of its calls.
    @Test func aShippedToolCounts() throws {
        let object = try BPFObject(bytes: Fixture.compile("bpf/malloccount.bpf.c"), name: "malloccount.bpf.o")
        let vm = try VM(object)
        for size in [10, 20, 30] as [UInt64] {
            vm.world.pid = 9
            try vm.run("on_malloc", .uprobe(size))
        }
        let total = try #require(try vm.map("totals").value(forKey: littleEndian(UInt32(9))))
        #expect(total == littleEndian(UInt64(3)) + littleEndian(UInt64(60)))
    }
}
