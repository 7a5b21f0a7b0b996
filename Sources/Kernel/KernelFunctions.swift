import ISA
import Loader

/// Kernel functions by the numbers that the running kernel has for them, its BTF type ids.
enum KernelFunctions {
    /// The program with the kernel's numbers in place of ours (`Helper`); those that the kernel lacks stay.
    static func resolved(_ instructions: [Instruction]) -> [Instruction] {
        instructions.map { instruction in
            guard instruction.opcode == .callKernelFunction, let helper = Helper(calledBy: instruction),
                let number = numbers[helper]
            else { return instruction }
            return Instruction(.callKernelFunction, imm: Int64(number))
        }
    }

    private static let numbers: [Helper: UInt32] = {
        guard let bytes = try? readFile("/sys/kernel/btf/vmlinux"), let btf = try? BTF(bytes, name: "vmlinux") else {
            return [:]
        }
        var numbers: [Helper: UInt32] = [:]
        for helper in Helper.allCases where helper.isKernelFunction {
            numbers[helper] = btf.types(named: helper.name).first { btf[$0]?.kind == .function }
        }
        return numbers
    }()
}
