import ISA
import Testing

@testable import Conformance

/// The protocol of bpf_conformance's plugins, without a process.
@Suite struct PluginTests {
    /// What the runner writes: two lower-case digits and two spaces for each byte, then a newline.
    private func text(_ statements: [Statement]) throws -> [UInt8] {
        hexadecimal(encode(try Assembly(statements).instructions).flatMap(\.bytes))
    }

    private func hexadecimal(_ bytes: [UInt8]) -> [UInt8] {
        let words = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) + "  " }
        return Array((words.joined() + "\n").utf8)
    }

    private func result(_ arguments: [String], _ input: [UInt8]) throws -> String {
        try conformanceResult(arguments) { input }
    }

    /// The error of a run that must fail.
    private func failure(_ arguments: [String], _ input: [UInt8] = []) -> ConformanceError? {
        do {
            _ = try conformanceResult(arguments) { input }
            return nil
        } catch {
            return error
        }
    }

    @Test func resultsAreHexadecimal() throws {
        #expect(try result([], try text([.mov64(.r0, 0x2a), .exit])) == "2a\n")
        #expect(try result([], try text([.mov64(.r0, -1), .exit])) == "ffffffffffffffff\n")
        #expect(try result([], try text([.mov64(.r0, 0), .exit])) == "0\n")
    }

    @Test(arguments: [[], ["--interpret"], [""]])
    func withoutMemoryBothArgumentsAreZero(_ options: [String]) throws {
        let program = try text([.mov64(.r0, .r1), .or64(.r0, .r2), .exit])
        #expect(try result(options, program) == "0\n")
    }

    @Test(arguments: ["00  01  02  03  ", "00 01 02 03", "00010203", " \t00\n01  0203\r\n", "00  01  02  03"])
    func memoryIsBytesWithAnySpaces(_ memory: String) throws {
        let program = try text([.load8(.r0, .r1, 3), .lsh64(.r0, 8), .or64(.r0, .r2), .exit])
        #expect(try result([memory, "--interpret"], program) == "304\n")
    }

    @Test func memoryMayBeWritten() throws {
        let program = try text([.store8(.r1, 0, 7), .load8(.r0, .r1, 0), .exit])
        #expect(try result(["aa"], program) == "7\n")
    }

    @Test func inputMayHaveAnySpaces() throws {
        let program = Array(" b7 00000005 000000\n\t9500\r\n00 00 00 00 00 00".utf8)
        #expect(try result([], program) == "5\n")
        #expect(try result(["--program", String(decoding: program, as: UTF8.self)], Array("zz".utf8)) == "5\n")
    }

    @Test func helperFiveExists() throws {
        #expect(try result([], try text([.mov64(.r1, -1), .op(.callHelper, imm: 5), .mov64(.r0, 2), .exit])) == "2\n")
        // callx of a helper's number.
        #expect(try result([], try text([.mov64(.r2, 5), .callRegister(.r2), .mov64(.r0, 3), .exit])) == "3\n")
    }

    @Test(arguments: ["", "b", "b7 0", "b 7", "zz", "b7  00  0g", "b7,00", "0xb7"])
    func badHexadecimalIsAnError(_ input: String) {
        let error = failure([], Array(input.utf8))
        #expect(error?.status == 1)
        #expect(error?.message.contains("\n") == false)
    }

    @Test func badProgramsAreErrors() throws {
        #expect(failure([], Array("b7 00".utf8))?.message.contains("ends inside an 8-byte slot") == true)
        #expect(failure([], hexadecimal([0xff, 0, 0, 0, 0, 0, 0, 0]))?.message.contains("unknown opcode 0xff") == true)
        #expect(failure([], try text([.mov64(.r0, 0)]))?.message.contains("runs past its end") == true)
        let stopped = failure([], try text([.load8(.r0, .r1, 0), .exit]))
        #expect(stopped?.message.contains("instruction 0") == true)
        #expect(stopped?.message.contains("reads 0x0") == true)
    }

    @Test(
        arguments: [
            ["--jitt"], ["--interpret", "--interpret"], ["--interpret", "--jit"], ["00", "11"], ["-x"], ["--program"],
            ["interpret"], ["--program", "95", "--program", "95"],
        ]
    )
    func badCommandLinesAreErrors(_ arguments: [String]) {
        let error = failure(arguments)
        #expect(error?.status == 64)
        #expect(error?.message.contains("usage:") == true)
    }

    @Test func aBadDigitInMemoryIsAnError() {
        #expect(failure(["00 0"])?.status == 1)
        #expect(failure(["00 0", "--interpret"])?.message.hasPrefix("the memory: character 4") == true)
    }

    @Test func noObjectIsAnError() {
        #expect(failure(["--elf"], hexadecimal([1, 2, 3, 4]))?.message.contains("no ELF object") == true)
        #expect(failure(["--elf"], [])?.message.contains("no ELF object") == true)
    }
}
