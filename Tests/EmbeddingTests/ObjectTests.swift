import ISA
import Testing
import UBPFVM

@testable import Embedding

/// Objects of real compilers.
@Suite struct ObjectTests {
    @Test(arguments: Fixture.compilers, ["v2", "v3"])
    func functionsAndSectionsAreFound(_ compiler: String, _ cpu: String) throws {
        let object = try Fixture.calls.object(compiler, cpu)
        let memory: [UInt8] = [5, 0, 0]
        #expect(try run(object, "first", memory) == 5)
        #expect(try run(object, "s/first", memory) == 5)
        // Both through .text, one by way of the other.
        #expect(try run(object, "calls", memory) == 125 + 9)
        // The section "same" begins with inner().
        #expect(try run(object, "outer", memory) == 16 + 10)
        #expect(try run(object, "inner", [], budget: 10) == 1)
        #expect(try readProgram(object, name: Array("same".utf8)) == readProgram(object, name: Array("inner".utf8)))
        // .text comes first in the file.
        #expect(try readProgram(object, name: nil) == readProgram(object, name: Array("square".utf8)))
    }

    @Test(arguments: Fixture.compilers)
    func eachFunctionIsPlacedOnce(_ compiler: String) throws {
        let object = try Fixture.calls.object(compiler)
        let program = try decode(readProgram(object, name: Array("calls".utf8)))
        #expect(program.count { $0.opcode == .exit } == 3)
        #expect(program.count { $0.opcode == .callLocal } == 3)
        try validateControlFlow(program)
    }

    @Test(
        arguments: [
            ("global", "takes the address of 'counter'"), ("text", "takes the address of '"),
            ("undefined", "calls 'elsewhere', which the object does not define"), ("missing", "called 'missing'"),
            ("", "called ''"), ("fin", "called 'fin'"), ("finer", "called 'finer'"), (".bss", "called '.bss'"),
        ]
    )
    func refusalsSayWhy(_ name: String, _ text: String) throws {
        for compiler in Fixture.compilers {
            let object = try Fixture.refused.object(compiler)
            let message = failure { () throws(EmbeddingError) in _ = try readProgram(object, name: Array(name.utf8)) }
            #expect(message?.contains(text) == true, "\(message ?? "accepted")")
            #expect(try run(object, "fine", []) == 4)
        }
    }

    @Test func helpersStayCallsByNumber() throws {
        let compiler = try #require(Fixture.compilers.first)
        let program = try decode(readProgram(Fixture.calls.object(compiler), name: Array("helps".utf8)))
        #expect(program.contains { $0.opcode == .callHelper && $0.imm == 7 })
    }

    @Test func otherFilesAreRefused() throws {
        let compiler = try #require(Fixture.compilers.first)
        let object = try Fixture.calls.object(compiler)
        func message(_ change: (inout [UInt8]) -> Void) -> String? {
            var bytes = object
            change(&bytes)
            return failure { () throws(EmbeddingError) in _ = try readProgram(bytes, name: nil) }
        }
        #expect(message { _ in } == nil)
        #expect(message { $0 = [] }?.contains("no ELF") == true)
        #expect(message { $0 = Array("#!/bin/sh".utf8) }?.contains("no ELF") == true)
        #expect(message { $0 = Array($0.prefix(40)) }?.contains("damaged") == true)
        // x86-64, big-endian, 32 bits, an executable.
        #expect(message { $0[18] = 62 }?.contains("BPF object") == true)
        #expect(message { $0[5] = 2 }?.contains("BPF object") == true)
        #expect(message { $0[4] = 1 }?.contains("BPF object") == true)
        #expect(message { $0[16] = 2 }?.contains("BPF object") == true)
        #expect(message { $0[60] = 0 }?.contains("section table") == true)
    }
}
