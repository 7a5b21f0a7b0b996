package import ISA

/// A naive interpreter over decoded instructions, by the table of shapes and the model; slow, simple and independent.
///
/// Has no helpers and no maps. Its addresses are its own, so programs must not make results of them.
package struct ReferenceEngine: Engine {
    package static let name = "reference"
    package let program: [Instruction]
    private let slots: SlotMap

    enum Fault: Error {
        case address(UInt64)
        case unsupported(Instruction)
        case outOfProgram
    }

    package init(_ program: [Instruction]) throws {
        self.program = program
        slots = SlotMap(program)
    }

    package func run(_ context: [UInt8]) throws -> Outcome {
        var memory = Memory(context: context)
        let result = try call(0, frame: 0, arguments: [Memory.contextBase, UInt64(context.count), 0, 0, 0], &memory)
        return Outcome(result: UInt32(truncatingIfNeeded: result), context: memory.context)
    }

    private func call(_ entry: Int, frame: Int, arguments: [UInt64], _ memory: inout Memory) throws -> UInt64 {
        var registers = [UInt64](repeating: 0, count: 11)
        registers.replaceSubrange(1...5, with: arguments)
        registers[10] = Memory.stackTop - UInt64(frame) * 512
        var index = entry
        while true {
            guard program.indices.contains(index) else { throw Fault.outOfProgram }
            let instruction = program[index]
            let (dst, src) = (Int(instruction.dst.rawValue), Int(instruction.src.rawValue))
            let imm = UInt64(bitPattern: instruction.imm)
            let offset = UInt64(bitPattern: Int64(instruction.offset))
            func operand(_ kind: Operand) -> UInt64 { kind == .imm ? imm : registers[src] }
            index += 1
            switch instruction.opcode.shape {
            case .arithmetic(let operation, let width, let kind):
                registers[dst] = model(operation, width, registers[dst], operand(kind))
            case .negate(let width): registers[dst] = modelNegate(width, registers[dst])
            case .signExtend(let width, let size): registers[dst] = modelSignExtend(width, from: size, registers[src])
            case .byteOrder(let order, let size): registers[dst] = modelByteOrder(order, size, registers[dst])
            case .wide(.value): registers[dst] = imm
            case .load(let size, let isSigned):
                let value = try memory.load(registers[src] &+ offset, size)
                registers[dst] = isSigned ? modelSignExtend(.w64, from: size, value) : value
            case .store(let size, let kind): try memory.store(registers[dst] &+ offset, size, operand(kind))
            case .atomic(.loadAcquire, let size): registers[dst] = try memory.load(registers[src] &+ offset, size)
            case .atomic(.storeRelease, let size): try memory.store(registers[dst] &+ offset, size, registers[src])
            case .atomic(let operation, let size):
                let address = registers[dst] &+ offset
                let old = try memory.load(address, size)
                let value = registers[src]
                switch operation {
                case .add, .fetchAdd: try memory.store(address, size, old &+ value)
                case .or, .fetchOr: try memory.store(address, size, old | value)
                case .and, .fetchAnd: try memory.store(address, size, old & value)
                case .xor, .fetchXor: try memory.store(address, size, old ^ value)
                case .exchange: try memory.store(address, size, value)
                case .compareExchange:
                    let expected = size == .b32 ? registers[0] & 0xffff_ffff : registers[0]
                    if old == expected { try memory.store(address, size, value) }
                case .loadAcquire, .storeRelease: break
                }
                switch operation {
                case .fetchAdd, .fetchOr, .fetchAnd, .fetchXor, .exchange: registers[src] = old
                case .compareExchange: registers[0] = old
                case .add, .or, .and, .xor, .loadAcquire, .storeRelease: break
                }
            case .jump: index = try target(index - 1, Int(instruction.offset))
            case .conditionalJump(let comparison, let width, let kind):
                if model(comparison, width, registers[dst], operand(kind)) {
                    index = try target(index - 1, Int(instruction.offset))
                }
            case .call(.local):
                let entry = try target(index - 1, Int(instruction.imm))
                registers[0] = try call(entry, frame: frame + 1, arguments: Array(registers[1...5]), &memory)
            case .exit: return registers[0]
            case .wide, .packet, .mayGoto, .call: throw Fault.unsupported(instruction)
            }
        }
    }

    private func target(_ index: Int, _ distance: Int) throws -> Int {
        guard let target = slots.instruction(at: slots.slots[index] + 1 + distance) else { throw Fault.outOfProgram }
        return target
    }
}

/// The two memories of a reference run.
private struct Memory {
    package static let contextBase: UInt64 = 0x1000_0000
    package static let stackTop: UInt64 = 0x2000_1000
    package var context: [UInt8]
    package var stack = [UInt8](repeating: 0, count: 4096)

    init(context: [UInt8]) { self.context = context }

    package func load(_ address: UInt64, _ size: Size) throws -> UInt64 {
        let (isStack, start) = try locate(address, size)
        let bytes = isStack ? stack : context
        return (0..<size.bytes).reduce(0) { $0 | UInt64(bytes[start + $1]) << UInt64(8 * $1) }
    }

    package mutating func store(_ address: UInt64, _ size: Size, _ value: UInt64) throws {
        let (isStack, start) = try locate(address, size)
        for index in 0..<size.bytes {
            let byte = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
            if isStack { stack[start + index] = byte } else { context[start + index] = byte }
        }
    }

    private func locate(_ address: UInt64, _ size: Size) throws -> (isStack: Bool, start: Int) {
        let bytes = UInt64(size.bytes)
        if address >= Self.contextBase, address + bytes <= Self.contextBase + UInt64(context.count) {
            return (false, Int(address - Self.contextBase))
        }
        if address >= Self.stackTop - 4096, address + bytes <= Self.stackTop {
            return (true, Int(address - (Self.stackTop - 4096)))
        }
        throw ReferenceEngine.Fault.address(address)
    }
}
