import ISA

/// Where a register's value comes from, found by going back along a path.
struct ValueTrace {
    /// One instruction that made, moved or changed the value.
    struct Step: Equatable {
        var instruction: Int
        /// The register that has the value afterwards.
        var register: Register
        var kind: Kind

        enum Kind: Equatable {
            /// Made here; nothing is known before.
            case made
            /// A call; r0 is what it gave.
            case called
            /// A call, after which the register has no value.
            case lost
            /// Copied from another register.
            case moved
            /// A number was added or computed.
            case changed
            /// Loaded from the stack, where it had been stored.
            case restored
            case saved
            /// Handed to a function.
            case passed
        }
    }

    private let instructions: [Instruction]
    private let starts: Set<Int>
    private let path: [Int]

    init(_ subject: Subject, path: [Int]) {
        instructions = subject.instructions
        starts = Set(subject.functions.map(\.start))
        self.path = path
    }

    /// The steps that led to the value that a register has before the last instruction of the path, first to last.
    func steps(to register: Register) -> [Step] {
        var steps: [Step] = []
        var register = register
        var index = path.count - 2
        while index >= 0, steps.count < 64 {
            let here = path[index]
            let instruction = instructions[here]
            if instruction.opcode == .exit {
                if register == .r0, !isCallback(index) {
                    index -= 1
                    continue
                }
                index = entry(before: index)
                if index < 0 { break }
                if register.rawValue < 6 {
                    steps.append(Step(instruction: path[index], register: register, kind: .lost))
                    break
                }
                index -= 1
                continue
            }
            if isEntry(index) {
                guard (1...5).contains(register.rawValue) else { break }
                steps.append(Step(instruction: here, register: register, kind: .passed))
                if case .call(.helper) = instruction.opcode.shape { break }
                if instruction.opcode != .callLocal { break }
                index -= 1
                continue
            }
            if instruction.clobbers.contains(register) {
                steps.append(Step(instruction: here, register: register, kind: .lost))
                break
            }
            guard instruction.writes.contains(register) else {
                index -= 1
                continue
            }
            switch instruction.opcode.shape {
            case .arithmetic(.mov, _, .reg):
                steps.append(Step(instruction: here, register: register, kind: .moved))
                register = instruction.src
            case .arithmetic(.mov, _, .imm), .wide, .packet, .atomic:
                steps.append(Step(instruction: here, register: register, kind: .made))
                return steps.reversed()
            case .call:
                steps.append(Step(instruction: here, register: register, kind: .called))
                return steps.reversed()
            case .arithmetic, .negate, .byteOrder:
                steps.append(Step(instruction: here, register: register, kind: .changed))
            case .signExtend:
                steps.append(Step(instruction: here, register: register, kind: .changed))
                register = instruction.src
            case .load:
                guard instruction.src == .framePointer, let store = store(to: instruction.offset, before: index) else {
                    steps.append(Step(instruction: here, register: register, kind: .made))
                    return steps.reversed()
                }
                steps.append(Step(instruction: here, register: register, kind: .restored))
                steps.append(Step(instruction: path[store], register: instructions[path[store]].src, kind: .saved))
                guard case .store(_, .reg) = instructions[path[store]].opcode.shape else { return steps.reversed() }
                register = instructions[path[store]].src
                index = store
            case .store, .jump, .conditionalJump, .mayGoto, .exit: break
            }
            index -= 1
        }
        return steps.reversed()
    }

    /// The path goes into a function here.
    private func isEntry(_ index: Int) -> Bool {
        guard index + 1 < path.count, starts.contains(path[index + 1]) else { return false }
        if case .call = instructions[path[index]].opcode.shape { return true }
        return false
    }

    /// The function that ends at `index` was called by a helper.
    private func isCallback(_ index: Int) -> Bool {
        guard index + 1 < path.count else { return false }
        if case .call(.helper) = instructions[path[index + 1]].opcode.shape {
            return isCallingBack(instructions[path[index + 1]])
        }
        return false
    }

    /// Where the function was entered that ends at `index`; -1 where the path does not say.
    private func entry(before index: Int) -> Int {
        var (index, depth) = (index - 1, 1)
        while index >= 0 {
            if instructions[path[index]].opcode == .exit { depth += 1 }
            if isEntry(index) {
                depth -= 1
                if depth == 0 { return index }
            }
            index -= 1
        }
        return -1
    }

    /// The last store to a place of the same frame.
    private func store(to offset: Int32, before index: Int) -> Int? {
        var index = index - 1
        while index >= 0 {
            let instruction = instructions[path[index]]
            if instruction.opcode == .exit {
                index = entry(before: index) - 1
                continue
            }
            if isEntry(index) { return nil }
            if case .store = instruction.opcode.shape, instruction.dst == .framePointer, instruction.offset == offset {
                return index
            }
            index -= 1
        }
        return nil
    }
}
