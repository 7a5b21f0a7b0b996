import Glibc
import ISA
import Testing

@testable import JIT

/// Compiling takes time and code in proportion to the program, whatever its shape.
@Suite(.serialized) struct CompileTimeTests {
    enum Shape: CaseIterable {
        case straightLine, backwardChain, nestedLoops, functions, registerCalls

        /// About `count` instructions.
        func program(_ count: Int) -> [LinkedInstruction] {
            let exit = LinkedInstruction(.exit)
            var code: [LinkedInstruction] = []
            switch self {
            case .straightLine:
                code = (1..<count).map { LinkedInstruction(.xor64Imm, imm: Int64($0)) } + [exit]
            case .backwardChain:
                // What the first needs is known at the last only after all others.
                code = [LinkedInstruction(.mov64Imm, imm: 7), LinkedInstruction(.jumpLong, target: Int32(count)), exit]
                for index in 3...count { code.append(LinkedInstruction(.jump, target: Int32(index - 1))) }
            case .nestedLoops:
                // The innermost loop reads what the outermost one needs.
                let depth = count / 3
                for _ in 0..<depth { code.append(LinkedInstruction(.add64Imm, dst: 1, imm: 1)) }
                code.append(LinkedInstruction(.mov64Reg, dst: 2, src: 1))
                for index in 0..<depth {
                    let target = Int32(depth - index - 1)
                    code.append(LinkedInstruction(.jumpLess64Reg, dst: 3, src: 4, target: target))
                }
                code += [LinkedInstruction(.mov64Imm), exit]
            case .functions, .registerCalls:
                let functions = count / 4
                let main = self == .functions ? functions : 2 * functions
                for index in 0..<functions {
                    let start = main + 1 + 2 * index
                    if self == .functions {
                        code.append(LinkedInstruction(.callLocal, target: Int32(start)))
                    } else {
                        let handle = Int64(bitPattern: FunctionHandle.make(start))
                        code.append(LinkedInstruction(.loadFunction, dst: 2, target: Int32(start), imm: handle))
                        code.append(LinkedInstruction(.callRegister, dst: 2))
                    }
                }
                code.append(exit)
                for index in 0..<functions { code += [LinkedInstruction(.mov64Imm, imm: Int64(index)), exit] }
            }
            return code
        }
    }

    /// The best of some compilations: seconds of this thread's CPU time, which others on the machine do not take, and bytes.
    private func cost(_ program: [LinkedInstruction], _ mode: CompileOptions.Mode) throws -> (time: Double, bytes: Int)
    {
        var best = Double.infinity
        var bytes = 0
        for _ in 0..<3 {
            let start = threadTime()
            let compiled = try CompiledPrograms.compile(program, CompileOptions(mode))
            best = min(best, threadTime() - start)
            bytes = compiled.size
        }
        return (best, bytes)
    }

    private func threadTime() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    /// Four times the instructions: four times as long is right, sixteen times would be quadratic.
    @Test(arguments: Shape.allCases, [CompileOptions.Mode.unchecked, .checked])
    func costIsLinear(_ shape: Shape, _ mode: CompileOptions.Mode) throws {
        let few = try cost(shape.program(3000), mode)
        let many = try cost(shape.program(12_000), mode)
        #expect(many.time < 7 * few.time, "\(few.time) s, then \(many.time) s")
        #expect(Double(many.bytes) < 4.5 * Double(few.bytes))
    }

    /// Liveness is the least solution, which going over everything until nothing changes finds too.
    @Test(arguments: UInt64(0)..<300)
    func livenessIsExact(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        func number(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &random) }
        let count = 2 + number(120)
        var code: [LinkedInstruction] = []
        for index in 0..<count {
            let (dst, src) = (UInt8(number(10)), UInt8(number(11)))
            let target = Int32(number(count))
            switch index == count - 1 ? 0 : number(10) {
            case 0: code.append(LinkedInstruction(.exit))
            case 1: code.append(LinkedInstruction(.jump, target: target))
            case 2, 3: code.append(LinkedInstruction(.jumpLess64Reg, dst: dst, src: src, target: target))
            case 4: code.append(LinkedInstruction(.mayGoto, target: target))
            case 5: code.append(LinkedInstruction(.mov64Imm, dst: dst))
            case 6: code.append(LinkedInstruction(.callHelper, imm: 1))
            case 7: code.append(LinkedInstruction(.load64, dst: dst, src: src))
            default: code.append(LinkedInstruction(.mov64Reg, dst: dst, src: src))
            }
        }
        var expected = [UInt16](repeating: 0, count: count + 1)
        var isDone = false
        while !isDone {
            isDone = true
            for (index, instruction) in code.enumerated() {
                var after: UInt16 = 0
                if instruction.opcode.isJump { after |= expected[Int(instruction.target)] }
                if instruction.opcode != .exit, instruction.opcode != .jump { after |= expected[index + 1] }
                let effects = Effects(instruction)
                let before = after & ~effects.writes | effects.reads
                if before != expected[index] { (expected[index], isDone) = (before, false) }
            }
        }
        var assembler = Assembler(try CodeBuffer.map(capacity: 4096))
        let live = try code.withUnsafeBufferPointer { try ProgramLayout($0, &assembler, isChecked: false).live }
        #expect(live == expected)
    }
}
