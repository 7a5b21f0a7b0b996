package import ISA

/// A naive interpreter over decoded instructions, by the table of shapes and the model; slow, simple and independent.
///
/// Has no maps, and no helpers but iterators over numbers. Its addresses are its own, so programs must not make results of them.
package struct ReferenceEngine: Engine {
    package static let name = "reference"
    package let program: [Instruction]
    private let slots: SlotMap
    private let surroundings: Surroundings
    /// Instructions that a run may execute.
    private static let limit = 1 << 20

    /// What no program can know: where its memory lies, and what is where nobody wrote.
    fileprivate struct Surroundings {
        var contextBase: UInt64 = 0x1000_0000
        var stackTop: UInt64 = 0x2000_1000
        /// In the stack and in registers, those that calls destroy among them; nil for zeros and what was there before.
        var unwritten: UInt8?
    }

    enum Fault: Error {
        case address(UInt64)
        case unsupported(Instruction)
        case outOfProgram
        case tooLong
    }

    package init(_ program: [Instruction]) throws { self.init(program, Surroundings()) }

    private init(_ program: [Instruction], _ surroundings: Surroundings) {
        self.program = program
        self.surroundings = surroundings
        slots = SlotMap(program)
    }

    /// Whether a program ends and its outcome follows from its context alone, so that engines have to agree on it.
    package static func isDefined(_ program: [Instruction], _ context: [UInt8]) -> Bool {
        let elsewhere = Surroundings(contextBase: 0x7f31_4567_8ab0, stackTop: 0x7ffc_9abc_d010, unwritten: 0xb7)
        guard let here = try? Self(program, Surroundings()).run(context),
            let there = try? Self(program, elsewhere).run(context)
        else { return false }
        return here == there
    }

    package func run(_ context: [UInt8]) throws -> Outcome {
        var memory = Memory(context: context, surroundings)
        var arguments = [surroundings.contextBase, UInt64(context.count), 0, 0, 0]
        if let word = surroundings.unwrittenWord { arguments.replaceSubrange(1..., with: [word, word, word, word]) }
        let result = try call(0, frame: 0, arguments: arguments, &memory)
        return Outcome(result: UInt32(truncatingIfNeeded: result), context: memory.context)
    }

    private func call(_ entry: Int, frame: Int, arguments: [UInt64], _ memory: inout Memory) throws -> UInt64 {
        var registers = [UInt64](repeating: surroundings.unwrittenWord ?? 0, count: 11)
        registers.replaceSubrange(1...5, with: arguments)
        registers[10] = surroundings.stackTop - UInt64(frame) * 512
        var index = entry
        while true {
            guard program.indices.contains(index) else { throw Fault.outOfProgram }
            memory.steps += 1
            if memory.steps > Self.limit { throw Fault.tooLong }
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
                if let word = surroundings.unwrittenWord { for register in 1...5 { registers[register] = word } }
            case .call(.kernelFunction):
                guard let helper = Helper(calledBy: instruction) else { throw Fault.unsupported(instruction) }
                registers[0] = try iterate(helper, registers, &memory)
                if let word = surroundings.unwrittenWord { for register in 1...5 { registers[register] = word } }
            case .exit: return registers[0]
            case .wide, .packet, .mayGoto, .call: throw Fault.unsupported(instruction)
            }
        }
    }

    /// An iterator holds the number before the next one, and the end behind it.
    private func iterate(_ helper: Helper, _ registers: [UInt64], _ memory: inout Memory) throws -> UInt64 {
        let place = registers[1]
        func number(_ value: UInt64) -> Int { Int(Int32(truncatingIfNeeded: value)) }
        if helper == .iterNumNew {
            let (start, end) = (number(registers[2]), number(registers[3]))
            let error = start > end ? -22 : end - start > 8_388_608 ? -7 : 0
            try memory.store(place, .b32, error == 0 ? UInt64(bitPattern: Int64(start - 1)) : 0)
            try memory.store(place + 4, .b32, error == 0 ? UInt64(bitPattern: Int64(end)) : 0)
            return UInt64(bitPattern: Int64(error))
        }
        if helper == .iterNumNext {
            // In front of the least number there is the greatest.
            let next = number(try memory.load(place, .b32) &+ 1)
            if next < number(try memory.load(place + 4, .b32)) {
                try memory.store(place, .b32, UInt64(bitPattern: Int64(next)))
                return place
            }
        }
        try memory.store(place, .b64, 0)
        return 0
    }

    private func target(_ index: Int, _ distance: Int) throws -> Int {
        guard let target = slots.instruction(at: slots.slots[index] + 1 + distance) else { throw Fault.outOfProgram }
        return target
    }
}

extension ReferenceEngine.Surroundings {
    fileprivate var unwrittenWord: UInt64? { unwritten.map { UInt64($0) &* 0x0101_0101_0101_0101 } }
}

/// The two memories of a reference run.
private struct Memory {
    private let contextBase: UInt64
    private let stackTop: UInt64
    var context: [UInt8]
    private var stack: [UInt8]
    /// Instructions that were executed.
    var steps = 0

    init(context: [UInt8], _ surroundings: ReferenceEngine.Surroundings) {
        self.context = context
        contextBase = surroundings.contextBase
        stackTop = surroundings.stackTop
        stack = [UInt8](repeating: surroundings.unwritten ?? 0, count: 4096)
    }

    func load(_ address: UInt64, _ size: Size) throws -> UInt64 {
        let (isStack, start) = try locate(address, size)
        let bytes = isStack ? stack : context
        return (0..<size.bytes).reduce(0) { $0 | UInt64(bytes[start + $1]) << UInt64(8 * $1) }
    }

    mutating func store(_ address: UInt64, _ size: Size, _ value: UInt64) throws {
        let (isStack, start) = try locate(address, size)
        for index in 0..<size.bytes {
            let byte = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
            if isStack { stack[start + index] = byte } else { context[start + index] = byte }
        }
    }

    private func locate(_ address: UInt64, _ size: Size) throws -> (isStack: Bool, start: Int) {
        let bytes = UInt64(size.bytes)
        if address >= contextBase, address + bytes <= contextBase + UInt64(context.count) {
            return (false, Int(address - contextBase))
        }
        if address >= stackTop - 4096, address + bytes <= stackTop {
            return (true, Int(address - (stackTop - 4096)))
        }
        throw ReferenceEngine.Fault.address(address)
    }
}
