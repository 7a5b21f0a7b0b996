import CCapstone

/// One instruction as capstone reads it: its length and Intel-syntax text.
struct Disassembled: Equatable {
    var text: String
    var length: Int
}

/// Disassembles code that starts at `address`; stops at the first byte that is no instruction.
func capstone(_ code: [UInt8], at address: UInt64 = 0x1000) -> [Disassembled] {
    var handle: csh = 0
    guard cs_open(CS_ARCH_X86, CS_MODE_64, &handle) == CS_ERR_OK else { return [] }
    defer { cs_close(&handle) }
    var instructions: UnsafeMutablePointer<cs_insn>?
    let count = cs_disasm(handle, code, code.count, address, 0, &instructions)
    defer { cs_free(instructions, count) }
    guard let instructions else { return [] }
    return (0..<count).map { index in
        var instruction = instructions[index]
        let mnemonic = withUnsafeBytes(of: &instruction.mnemonic) { cString($0) }
        let operands = withUnsafeBytes(of: &instruction.op_str) { cString($0) }
        return Disassembled(
            text: operands.isEmpty ? mnemonic : "\(mnemonic) \(operands)",
            length: Int(instruction.size)
        )
    }
}

private func cString(_ bytes: UnsafeRawBufferPointer) -> String {
    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
}
