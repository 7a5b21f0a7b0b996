import Testing
import UBPFTesting

/// Programs around a program array are of one type: a tail call hands its context on.
@Suite struct ProgramArrayTests {
    private static let object = Result { try Fixture.compile("Tests/UBPFTestingTests/Fixtures/arrays.bpf.c") }

    private func machine(verifies: Bool = true) throws -> VM {
        try VM(BPFObject(bytes: Self.object.get(), name: "arrays.bpf.o"), verifies: verifies)
    }

    @Test func programsOfOneTypeRun() throws {
        let vm = try machine()
        #expect(try vm.program("small").run().result == 1)
        #expect(try vm.program("calls_alike").run().result == 2)
    }

    /// Verified or not: those that use an array, and those that lie in it.
    @Test(arguments: ["caller", "large", "first", "second"], [true, false])
    func programsOfTwoTypesAreRefused(_ name: String, _ verifies: Bool) throws {
        let vm = try machine(verifies: verifies)
        #expect { try vm.program(name) } throws: { error in
            "\(error)".contains("shares the program array") && (error as? TestingError)?.kind == .program
        }
    }

    @Test func nothingElseIsPutIntoAnArray() throws {
        #expect { try machine().map("alike").set(UInt32(0), forKey: UInt32(0)) } throws: {
            ($0 as? TestingError)?.errno == 22
        }
    }
}
