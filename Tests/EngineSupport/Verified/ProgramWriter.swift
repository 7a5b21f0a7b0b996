package import ISA
package import Verifier

/// A program for the verifier, with what it has to be told of it.
package struct VerifiedCase {
    package var instructions: [Instruction]
    /// What global functions promise, by their number among the functions that are called.
    package var contracts: [Int: FunctionFacts.Contract] = [:]
    package var type = ProgramType.kprobe
    /// What it is for, as people call it.
    package var kind = "numbers"

    package init(_ instructions: [Instruction], kind: String = "numbers") {
        self.instructions = instructions
        self.kind = kind
    }

    /// A random program of any kind; every fourth is changed at random afterwards.
    package static func make(seed: UInt64, isForKernel: Bool = false) -> VerifiedCase {
        if seed >> 2 & 1 == 0 {
            return VerifiedCase(VerifiedProgram.make(seed: seed, isForKernel: isForKernel))
        }
        var writer = ProgramWriter(seed: seed, isForKernel: isForKernel)
        var result = writer.write()
        if seed & 3 == 3 { result.instructions = VerifiedProgram.mutated(result.instructions, seed: seed) }
        return result
    }
}

/// Writes programs of statements with labels; what is common to all kinds of them.
///
/// Every function keeps to one rule: r7 is a number that nobody knows, r8 what it is about, r9 a number that does nothing.
struct ProgramWriter {
    var random: SeededGenerator
    let isForKernel: Bool
    var code: [Statement] = []
    /// Functions to be put behind the code.
    var functions: [[Statement]] = []
    var contracts: [String: FunctionFacts.Contract] = [:]
    var type = ProgramType.kprobe
    /// A loops program has an iterator in r10-16, which its steps use.
    var hasIterator = false
    private var labels = 0

    init(seed: UInt64, isForKernel: Bool) {
        random = SeededGenerator(seed: seed ^ 0x5eed)
        self.isForKernel = isForKernel
    }

    mutating func write() -> VerifiedCase {
        let kind: String
        switch number(0...99) {
        case 0..<43:
            kind = "carried"
            carry()
        case 43..<55:
            kind = "halves"
            linkedHalves()
        case 55..<70:
            kind = "loops"
            loops()
        case 70..<78:
            kind = "calls"
            calls()
        case 78..<90:
            kind = "objects"
            objects()
        default:
            kind = "packets"
            packets()
        }
        let all = code + reachableFunctions
        guard let assembly = try? Assembly(all) else {
            preconditionFailure("a \(kind) program has no assembly")
        }
        var result = VerifiedCase(assembly.instructions, kind: kind)
        result.type = type
        result.contracts = numbered(assembly.instructions, all)
        return result
    }

    /// Functions that somebody calls; verifiers refuse others.
    private var reachableFunctions: [Statement] {
        var wanted: Set<String> = []
        var work = code
        var result: [Statement] = []
        while !work.isEmpty {
            var more: [Statement] = []
            for case .reference(_, to: let name) in work where !wanted.contains(name) {
                let body = functions.first { body in
                    if case .function(let own)? = body.first { own == name } else { false }
                }
                guard let body else { continue }
                wanted.insert(name)
                more += body
            }
            result += more
            work = more
        }
        return result
    }

    /// Contracts by the number of their function among those that are called.
    private func numbered(_ program: [Instruction], _ all: [Statement]) -> [Int: FunctionFacts.Contract] {
        var result: [Int: FunctionFacts.Contract] = [:]
        let starts = VerifiedSession.functionStarts(program)
        var count = 0
        for statement in all {
            switch statement {
            case .instruction, .reference: count += 1
            case .label: break
            case .function(let name):
                if let contract = contracts[name], let number = starts.firstIndex(of: count) {
                    result[number] = contract
                }
            }
        }
        return result
    }

    // MARK: - Chance

    mutating func number(_ range: ClosedRange<Int64>) -> Int64 { Int64.random(in: range, using: &random) }
    mutating func chance(_ percent: Int64) -> Bool { number(0...99) < percent }
    mutating func pick<T>(_ values: [T]) -> T { values[Int.random(in: 0..<values.count, using: &random)] }
    mutating func label(_ name: String = "l") -> String {
        labels += 1
        return "\(name)\(labels)"
    }

    // MARK: - Parts of all programs

    /// What a function starts with.
    mutating func prologue() -> [Statement] {
        var result: [Statement] = [
            .mov64(.r9, 0), .loadMapValue(.r7, UInt32(VerifiedMap.words.index), UInt32(8 * number(0...7))),
            .load64(.r7, .r7),
        ]
        if chance(50) { result.append(.op(.and64Imm, dst: .r7, imm: pick([1, 3, 7]))) }
        return result
    }

    /// Two ways with the number that nobody knows; both orders of walking them.
    mutating func split(_ first: [Statement], _ second: [Statement]) -> [Statement] {
        let (other, end) = (label(), label())
        let value = number(0...3)
        let jump: Statement = pick([
            .jumpEqual(.r7, value, to: other), .jumpNotEqual(.r7, value, to: other),
            .jumpGreater(.r7, value, to: other),
        ])
        return [jump] + first + [.jump(to: end), .label(other)] + second + [.label(end)]
    }

    /// So much code and so many jumps that states are kept and compared.
    mutating func padding() -> [Statement] {
        var result: [Statement] = []
        for part in 0..<Int(number(1...3)) {
            for _ in 0..<2 {
                let next = label()
                result += [.jumpEqual(.r7, number(2...9), to: next), .label(next)]
            }
            if part == 0 || chance(60) { result += Array(repeating: .add64(.r9, 0), count: Int(number(4...9))) }
        }
        return result
    }

    mutating func maybePadding(_ percent: Int64 = 50) -> [Statement] { chance(percent) ? padding() : [] }

    mutating func slot() -> Int32 { Int32(-8 * number(1...5)) }
}
