import Testing
import UBPFTesting

/// Maps of maps as C has them: filled by the object, changed by a test.
@Suite struct MapOfMapsTests {
    private static let object = Result { try Fixture.compile("Tests/UBPFTestingTests/Fixtures/maps.bpf.c") }

    @Test(arguments: [Engine.interpreter, .checkedJIT, .jit])
    func startAsTheObjectSays(_ engine: Engine) throws {
        let vm = try VM(BPFObject(bytes: Self.object.get(), name: "maps.bpf.o"))
        try vm.use(engine)
        func run(_ program: String, _ index: UInt32) throws -> Int32 {
            try vm.set("number", to: Value(index))
            return Int32(truncatingIfNeeded: try vm.program(program).run().result)
        }
        #expect(try run("use_array", 0) == 1)
        #expect(try run("use_array", 1) == -1)
        #expect(try run("use_array", 2) == 1)
        #expect(try run("use_array", 4) == -1)
        // The same maps, the other way round.
        #expect(try run("use_hash", 0) == 101)
        #expect(try run("use_hash", 1) == 101)
        #expect(try run("use_hash", 2) == -1)
        #expect(try vm.map("second").value(forKey: UInt32(7)) == UInt64(101))
        // What is inside is a map's id.
        let id = try #require(try vm.map("by_index").value(forKey: UInt32(0), as: UInt32.self))
        try vm.map("by_key").set(id, forKey: UInt32(9))
        #expect(try run("use_hash", 9) == 201)
        #expect(try vm.map("by_index").remove([0, 0, 0, 0]))
        #expect(try run("use_array", 0) == -1)
        #expect { try vm.map("by_index").set(UInt32(1000), forKey: UInt32(0)) } throws: {
            ($0 as? TestingError)?.errno == 9
        }
    }
}
