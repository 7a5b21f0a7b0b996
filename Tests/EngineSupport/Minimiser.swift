internal import ISA

/// Makes a failing program smaller: drops instructions and shrinks constants while it goes on failing.
///
/// Jumps and calls keep their destinations, or go to what follows a destination that was dropped.
struct Minimiser {
    private var instructions: [Instruction]
    private var isKept: [Bool]
    /// Where each jump, call or reference goes, by index.
    private let targets: [Int?]
    private let deadline: ContinuousClock.Instant
    private let isFailing: ([Instruction]) -> Bool

    /// The smallest program that was found in time; `program` itself where nothing can be left out.
    ///
    /// - Parameters:
    ///   - units: what may be dropped as a whole; nil for any instructions. Constants are shrunk in units of one instruction.
    ///   - isFailing: whether a program still shows what is wrong; false too for one that proves nothing.
    static func minimise(
        _ program: [Instruction],
        units: [Range<Int>]? = nil,
        seconds: Double = 5,
        while isFailing: @escaping ([Instruction]) -> Bool
    ) -> [Instruction] {
        var minimiser = Minimiser(program, .now + .seconds(seconds), isFailing)
        let all = units ?? halves(program.count)
        minimiser.dropWhatCanBe(all.sorted { $0.count > $1.count })
        minimiser.shrinkConstants(units.map { $0.filter { $0.count == 1 }.map(\.lowerBound) } ?? Array(program.indices))
        // Smaller constants may have made more superfluous.
        minimiser.dropWhatCanBe(all.sorted { $0.count > $1.count })
        return minimiser.assembled() ?? program
    }

    private init(
        _ program: [Instruction],
        _ deadline: ContinuousClock.Instant,
        _ isFailing: @escaping ([Instruction]) -> Bool
    ) {
        instructions = program
        isKept = [Bool](repeating: true, count: program.count)
        let map = SlotMap(program)
        targets = program.indices.map { index in
            switch program[index].flow {
            case .jump(let slots, _), .call(let slots), .reference(let slots):
                map.instruction(at: map.slots[index] + 1 + slots)
            case .next, .exit: nil
            }
        }
        self.deadline = deadline
        self.isFailing = isFailing
    }

    /// Ranges of half the program, of a quarter, and so on down to single instructions.
    private static func halves(_ count: Int) -> [Range<Int>] {
        var ranges: [Range<Int>] = []
        var size = max(1, count / 2)
        while true {
            ranges += stride(from: 0, to: count, by: size).map { $0..<min($0 + size, count) }
            if size == 1 { return ranges }
            size /= 2
        }
    }

    private mutating func dropWhatCanBe(_ units: [Range<Int>]) {
        var hasChanged = true
        while hasChanged {
            hasChanged = false
            // From behind: what is last is what nothing else needs.
            for unit in units.reversed() + units where isKept[unit].contains(true) {
                if .now > deadline { return }
                let before = isKept
                for index in unit { isKept[index] = false }
                if fails() { hasChanged = true } else { isKept = before }
            }
        }
    }

    private mutating func shrinkConstants(_ candidates: [Int]) {
        for index in candidates where isKept[index] && instructions[index].opcode.shape.hasConstant {
            for smaller in [0, 1, -1] {
                let before = instructions[index].imm
                if .now > deadline || abs(before) <= abs(Int64(smaller)) { break }
                instructions[index].imm = Int64(smaller)
                if fails() { break }
                instructions[index].imm = before
            }
            while .now < deadline, abs(instructions[index].imm / 2) > 1 {
                let before = instructions[index].imm
                instructions[index].imm /= 2
                if !fails() {
                    instructions[index].imm = before
                    break
                }
            }
        }
    }

    private func fails() -> Bool { assembled().map(isFailing) ?? false }

    /// The program without what was dropped; nil where a destination is gone.
    private func assembled() -> [Instruction]? {
        var slots: [Int] = []
        var count = 0
        for index in instructions.indices {
            slots.append(count)
            if isKept[index] { count += instructions[index].slots }
        }
        var code: [Instruction] = []
        for index in instructions.indices where isKept[index] {
            var instruction = instructions[index]
            switch instruction.flow {
            case .next, .exit: break
            case .jump, .call, .reference:
                guard let target = targets[index], slots[target] < count else { return nil }
                let distance = slots[target] - slots[index] - 1
                if case .jump = instruction.flow {
                    instruction.offset = Int32(distance)
                } else {
                    instruction.imm = Int64(distance)
                }
            }
            code.append(instruction)
        }
        return code.isEmpty ? nil : code
    }
}

extension Shape {
    /// Whether the immediate is a number and nothing else.
    fileprivate var hasConstant: Bool {
        switch self {
        case .arithmetic(_, _, .imm), .conditionalJump(_, _, .imm), .store(_, .imm), .wide(.value): true
        case .arithmetic, .negate, .signExtend, .byteOrder, .wide, .packet, .load, .store, .atomic, .jump,
            .conditionalJump, .mayGoto, .call, .exit:
            false
        }
    }
}
