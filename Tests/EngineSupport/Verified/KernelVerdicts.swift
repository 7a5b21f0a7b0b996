internal import ISA
internal import Kernel
internal import Verifier

/// Verdicts of the running kernel and of our verifier on the same programs, and what their differences are.
package final class KernelVerdicts {
    /// What became of a program.
    package enum Outcome: String, CaseIterable {
        case bothAccept = "both accept"
        case bothRefuse = "both refuse"
        /// We accept what the kernel refuses; runs show no harm.
        case morePrecise = "more precise (shown safe by runs)"
        /// The same, but a mutation made a call of a helper that only the kernel has.
        case notRun = "more precise (cannot run here)"
        /// We refuse what the kernel accepts.
        case lessPrecise = "less precise"
        case unsound = "UNSOUND"
    }

    private let maps: [Held]
    package private(set) var counts: [Outcome: Int] = [:]
    /// Of the less precise ones, by our rule; of the more precise ones, by the kernel's message.
    private var rules: [String: Int] = [:]
    private var messages: [String: Int] = [:]
    private var example: [String: UInt64] = [:]
    private var runs = 0

    package init() throws {
        maps = try VerifiedMap.allCases.map { try Held($0) }
    }

    /// Arrays hold no types that cannot be copied.
    private final class Held {
        let map: KernelMap

        init(_ map: VerifiedMap) throws {
            self.map = try KernelMap(
                type: map == .hash ? .hash : .array,
                keySize: map.keySize,
                valueSize: map.valueSize,
                maxEntries: map.maxEntries
            )
        }

        var descriptor: Int32 { map.descriptor }
    }

    /// Compares the verdicts on a program; what is wrong where we accept a program that goes wrong.
    package func compare(seed: UInt64, runs count: Int = 20) throws -> String? {
        let program = VerifiedProgram.make(seed: seed, isForKernel: true)
        let message: String?
        do {
            try load(program)
            message = nil
        } catch {
            message = Self.reason(error)
        }
        let error: VerifierError?
        do throws(VerifierError) {
            _ = try verify(VerifiedSession.subject(program, platform: .kernel))
            error = nil
        } catch let refusal {
            error = refusal
        }
        switch (error, message) {
        case (nil, nil): add(.bothAccept)
        case (.some, .some): add(.bothRefuse)
        case (let error?, nil):
            add(.lessPrecise)
            note("\(error.rule)", seed, &rules)
        case (nil, .some) where program.contains(where: \.callsForeignHelper): add(.notRun)
        case (nil, let message?):
            let inputs = VerifiedSession.inputs(seed: seed, count: count)
            for engine in [SessionEngine.vm, .checkedJIT] {
                if let fault = try VerifiedSession.fault(program, inputs, engine) {
                    add(.unsound)
                    return "the kernel refuses a program (\(message)), and it goes wrong: \(fault)\n\(listing(program))"
                }
                runs += inputs.count
            }
            add(.morePrecise)
            note(message, seed, &messages)
        }
        return nil
    }

    /// What the kernel says of a program.
    func verdict(on program: [Instruction]) -> String {
        do throws(KernelError) {
            try load(program)
            return "accepts it"
        } catch {
            return error.description
        }
    }

    private func load(_ program: [Instruction]) throws(KernelError) {
        _ = try KernelProgram(
            program.map { instruction in
                var changed = instruction
                switch instruction.opcode {
                case .loadMap where maps.indices.contains(Int(instruction.imm)):
                    changed.imm = Int64(maps[Int(instruction.imm)].descriptor)
                case .loadMapValue where maps.indices.contains(Int(Int32(truncatingIfNeeded: instruction.imm))):
                    let map = Int(Int32(truncatingIfNeeded: instruction.imm))
                    changed.imm = Int64(maps[map].descriptor) | (instruction.imm & ~0xffff_ffff)
                case .loadMap, .loadMapValue: changed.imm = -1
                default: break
                }
                return changed
            },
            type: .kprobe
        )
    }

    private func add(_ outcome: Outcome) { counts[outcome, default: 0] += 1 }

    private func note(_ text: String, _ seed: UInt64, _ counts: inout [String: Int]) {
        counts[text, default: 0] += 1
        if example[text] == nil { example[text] = seed }
    }

    /// The last line of the log that is no statistic, with numbers left out.
    private static func reason(_ error: KernelError) -> String {
        let lines = error.log.split(separator: "\n").filter { line in
            !["processed ", "verification time", "stack depth", "mark_precise", "insns_processed"].contains {
                line.hasPrefix($0)
            }
        }
        guard let last = lines.last else { return "errno \(error.errno)" }
        var result = ""
        for character in last {
            if character.isNumber { if !result.hasSuffix("N") { result += "N" } } else { result.append(character) }
        }
        return result
    }

    /// The table.
    package var description: String {
        let total = counts.values.reduce(0, +)
        var lines = ["\(total) programs on the kernel's verifier and ours:"]
        for outcome in Outcome.allCases {
            let count = counts[outcome, default: 0]
            lines.append("  \(outcome.rawValue): \(count)" + (outcome == .morePrecise ? ", \(runs) runs" : ""))
            let groups = outcome == .lessPrecise ? rules : outcome == .morePrecise ? messages : [:]
            for (text, count) in groups.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }).prefix(12) {
                lines.append("    \(count) \(text) (seed \(example[text] ?? 0))")
            }
        }
        return lines.joined(separator: "\n")
    }
}

extension Instruction {
    /// Calls a helper that this runtime does not have.
    fileprivate var callsForeignHelper: Bool {
        opcode == .callHelper && UInt32(exactly: imm).flatMap(Helper.init)?.support != .implemented
    }
}
