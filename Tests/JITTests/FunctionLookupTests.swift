import ISA
import JIT
import Runtime
import Testing
import UBPFVM

/// `callx` finds each of many functions by its handle, and traps at any other number.
@Suite struct FunctionLookupTests {
    /// Calls what the first 8 bytes of memory name; function k is at `starts[k]`, is k + 1 instructions long and returns 100 + k.
    ///
    /// The program itself is a function too, and returns 99 where its second argument is not the size of memory.
    private func program(_ count: Int) -> (code: [LinkedInstruction], starts: [Int]) {
        var code = [
            LinkedInstruction(.jumpEqual64Imm, dst: 2, target: 3, imm: 8), LinkedInstruction(.mov64Imm, imm: 99),
            LinkedInstruction(.exit), LinkedInstruction(.load64, dst: 6, src: 1),
        ]
        var starts: [Int] = []
        var start = count + 6
        for index in 0..<count {
            starts.append(start)
            let handle = Int64(bitPattern: FunctionHandle.make(start))
            code.append(LinkedInstruction(.loadFunction, dst: 2, target: Int32(start), imm: handle))
            start += index + 2
        }
        code += [LinkedInstruction(.callRegister, dst: 6), LinkedInstruction(.exit)]
        for index in 0..<count {
            for _ in 0...index { code.append(LinkedInstruction(.mov64Imm, imm: Int64(100 + index))) }
            code.append(LinkedInstruction(.exit))
        }
        return (code, starts)
    }

    private func run(_ compiled: borrowing CompiledPrograms, _ number: UInt64) throws(Trap) -> UInt64 {
        var runner = ProgramRunner(packet: (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * UInt64($0))) })
        return try runner.run(compiled)
    }

    @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 33, 60], [CompileOptions.Mode.unchecked, .checked])
    func findsAllAndNothingElse(_ count: Int, _ mode: CompileOptions.Mode) throws {
        let (code, starts) = program(count)
        var options = CompileOptions(mode)
        options.hasPacket = true
        let compiled = try CompiledPrograms.compile(code, options)
        for index in 0..<code.count + 3 {
            let handle = FunctionHandle.make(index)
            if index == 0 {
                #expect(try run(compiled, handle) == 99)
            } else if let function = starts.firstIndex(of: index) {
                #expect(try run(compiled, handle) == UInt64(100 + function))
            } else {
                let trap = Trap(.badJump, instruction: count + 4, value: UInt64(index))
                #expect(throws: trap) { try run(compiled, handle) }
            }
        }
        for index in [0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
            let trap = Trap(.badJump, instruction: count + 4, value: UInt64(index))
            #expect(throws: trap) { try run(compiled, FunctionHandle.make(index)) }
        }
    }
}
