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
        /// Frames of more than 512 bytes in all: the kernel has stacks for those of probes elsewhere, processes have not.
        case policy = "refused on purpose"
        /// We refuse what the kernel accepts.
        case lessPrecise = "less precise"
        case unsound = "UNSOUND"
    }

    /// A program array holds programs of one type.
    private let maps, packetMaps: [Held]
    /// What maps of maps hold.
    private let inner: Held
    package private(set) var counts: [Outcome: Int] = [:]
    /// Of the less precise ones, by our rule; of the more precise ones, by the kernel's message.
    private var rules: [String: Int] = [:]
    private var messages: [String: Int] = [:]
    private var example: [String: UInt64] = [:]
    private var runs = 0

    package init() throws {
        let inner = try Held(.array, nil)
        maps = try VerifiedMap.allCases.map { try Held($0, inner.descriptor) }
        packetMaps = try VerifiedMap.allCases.map { try Held($0, inner.descriptor) }
        self.inner = inner
    }

    /// Arrays hold no types that cannot be copied.
    private final class Held {
        let map: KernelMap

        init(_ map: VerifiedMap, _ inner: Int32?) throws {
            self.map = try KernelMap(
                type: map.type,
                keySize: map.keySize,
                valueSize: map.valueSize,
                maxEntries: map.maxEntries,
                flags: map.flags,
                innerMap: map == .outer ? inner : nil
            )
        }

        var descriptor: Int32 { map.descriptor }
    }

    /// Compares the verdicts on a program; what is wrong where we accept a program that goes wrong.
    package func compare(seed: UInt64, runs count: Int = 20) throws -> String? {
        let program = VerifiedCase.make(seed: seed, isForKernel: true)
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
        case (let error?, nil) where error.rule == .stackTooDeep: add(.policy)
        case (let error?, nil):
            add(.lessPrecise)
            note("\(error.rule)", seed, &rules)
        case (nil, let message?) where program.isForKernelOnly:
            // A reason that is no matter of precision needs no run.
            if Self.isHard(message) {
                add(.unsound)
                return "the kernel refuses a program (\(message))\n\(listing(program.instructions))"
            }
            add(.notRun)
        case (nil, let message?):
            let inputs = VerifiedSession.inputs(seed: seed, count: count)
            for engine in [SessionEngine.vm, .checkedJIT] {
                if let fault = try VerifiedSession.fault(program, inputs, engine).fault {
                    add(.unsound)
                    return
                        "the kernel refuses a program (\(message)), and it goes wrong: \(fault)\n\(listing(program.instructions))"
                }
                runs += inputs.count
            }
            add(.morePrecise)
            note(message, seed, &messages)
        }
        return nil
    }

    /// What the kernel says of a program.
    func verdict(on program: VerifiedCase) -> String {
        do throws(KernelError) {
            try load(program)
            return "accepts it"
        } catch {
            return error.description
        }
    }

    /// Not a reason that a verifier which knows numbers better may pass over.
    private static func isHard(_ message: String) -> Bool {
        ![
            "unbounded", "min value", "max value", "math between", "outside of", "map_value_or_null", "reserved fields",
            "zero-sized", "tail_call is not allowed", "invalid may_goto imm",
        ].contains { message.contains($0) }
    }

    private func load(_ program: VerifiedCase) throws(KernelError) {
        let maps = program.type == .xdp ? packetMaps : maps
        _ = try KernelProgram(
            program.instructions.map { instruction in
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
            type: program.type
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

extension VerifiedCase {
    /// Calls a helper that this runtime does not have, or uses maps of maps.
    fileprivate var isForKernelOnly: Bool {
        instructions.contains { instruction in
            switch instruction.opcode {
            case .callHelper: UInt32(exactly: instruction.imm).flatMap(Helper.init)?.support != .implemented
            case .loadMap: instruction.imm == VerifiedMap.outer.index
            default: false
            }
        }
    }
}
