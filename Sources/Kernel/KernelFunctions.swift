import ISA

/// Kernel functions by the numbers that the running kernel has for them, its BTF type ids.
enum KernelFunctions {
    /// The program with the kernel's numbers in place of ours (`Helper`); those that the kernel lacks stay.
    ///
    /// `externs` are the names that negative numbers of functions and the numbers of variables stand for.
    static func resolved(_ instructions: [Instruction], externs: [String] = []) -> [Instruction] {
        instructions.map { instruction in
            var result = instruction
            switch instruction.opcode {
            case .callKernelFunction where instruction.imm < 0:
                let index = Int(-1 - instruction.imm)
                guard externs.indices.contains(index), let number = KernelTypes.function(externs[index]) else { break }
                result = Instruction(.callKernelFunction, imm: Int64(number))
            case .callKernelFunction:
                guard let helper = Helper(calledBy: instruction), let number = numbers[helper] else { break }
                result = Instruction(.callKernelFunction, imm: Int64(number))
            case .loadVariable:
                let index = Int(instruction.imm)
                guard externs.indices.contains(index), let number = KernelTypes.symbol(externs[index]) else { break }
                result.imm = Int64(number)
            default: break
            }
            return result
        }
    }

    private static let numbers: [Helper: UInt32] = {
        var numbers: [Helper: UInt32] = [:]
        for helper in Helper.allCases where helper.isKernelFunction {
            numbers[helper] = KernelTypes.function(helper.name)
        }
        return numbers
    }()
}
