internal import CRuntime
package import ISA
internal import Runtime
internal import UBPFVM
package import Verifier

/// A program in a session with the maps of `VerifiedMap`, and what the verifier says of it.
package enum VerifiedSession {
    static let maps = VerifiedMap.allCases.filter { $0 != .outer }.map { map in
        MapParameters(
            name: "\(map)",
            type: map.type,
            keySize: UInt32(map.keySize),
            valueSize: UInt32(map.valueSize),
            maxEntries: UInt32(map.maxEntries),
            flags: map.flags,
            contents: map == .constants ? VerifiedMap.constantBytes : nil,
            isFrozen: map == .constants
        )
    }

    /// Where functions start that are called, the program's own first.
    static func functionStarts(_ program: [Instruction]) -> [Int] {
        let slots = SlotMap(program)
        var starts: Set<Int> = [0]
        for (index, instruction) in program.enumerated() {
            switch instruction.flow {
            case .call(let distance), .reference(let distance):
                if let start = slots.instruction(at: slots.slots[index] + 1 + distance) { starts.insert(start) }
            case .next, .jump, .exit: break
            }
        }
        return starts.sorted()
    }

    package static func subject(_ program: VerifiedCase, platform: Subject.Platform = .userspace) -> Subject {
        var subject = Subject(
            instructions: program.instructions,
            functions: functionStarts(program.instructions).enumerated().map { index, start in
                FunctionFacts(name: "f\(start)", start: start, contract: program.contracts[index])
            },
            maps: VerifiedMap.allCases.filter { platform == .kernel || $0 != .outer }.map(facts),
            type: program.type
        )
        subject.platform = platform
        // What these programs take is far less.
        subject.limit = 100_000
        return subject
    }

    private static func facts(_ map: VerifiedMap) -> MapFacts {
        var facts = MapFacts(
            name: "\(map)",
            type: map.type,
            keySize: map.keySize,
            valueSize: map.valueSize,
            maxEntries: map.maxEntries,
            flags: map.flags
        )
        if map == .constants {
            facts.flags = MapFacts.readOnlyFlag
            facts.isFrozen = true
            facts.contents = VerifiedMap.constantBytes
        }
        if map == .outer { facts.inner = [Self.facts(.array)] }
        return facts
    }

    /// Inputs of edges, small numbers and random words.
    static func inputs(seed: UInt64, count: Int) -> [[UInt64]] {
        var random = SeededGenerator(seed: ~seed)
        return (0..<count).map { _ in
            (0..<8).map { _ in
                switch Int.random(in: 0..<4, using: &random) {
                case 0: random.next()
                case 1: OpcodeCase.edges[Int.random(in: 0..<OpcodeCase.edges.count, using: &random)]
                case 2: UInt64.random(in: 0...70, using: &random)
                default: UInt64.random(in: 0...8, using: &random)
                }
            }
        }
    }

    /// What is wrong with the verdict on a program of any origin; a few inputs and steps.
    package static func fault(ofUntrusted program: [Instruction]) -> String? {
        let program = VerifiedCase(program)
        var subject = subject(program)
        subject.limit = 20_000
        let recorder = Recorder(limit: 64)
        guard (try? verify(subject, recorder: recorder)) != nil else { return nil }
        // Helpers that do something to this process are left alone.
        let isHarmless = program.instructions.allSatisfy { instruction in
            instruction.opcode != .callHelper || [1, 2, 3, 5, 7, 14, 15, 16, 181].contains(instruction.imm)
        }
        guard isHarmless else { return nil }
        let inputs = inputs(seed: UInt64(program.instructions.count), count: 2)
        return try? fault(program, inputs, .vm, recorders: [recorder], budget: 20_000).fault
    }

    /// What runs of a program came to.
    struct Outcome {
        var fault: String?
        /// No run was stopped for its length.
        var isComplete = true
        /// Results, and what was in the maps and the packet afterwards.
        var traces: [[UInt64]] = []
    }

    /// Runs a program once for each input, 64 bytes, on an engine; the first fault.
    ///
    /// - Parameters:
    ///   - recorders: whose states the interpreter's runs must lie in.
    ///   - endsSoon: a run that takes long is a fault.
    static func fault(
        _ program: VerifiedCase,
        _ inputs: [[UInt64]],
        _ engine: SessionEngine,
        recorders: [Recorder] = [],
        budget: UInt64? = nil,
        endsSoon: Bool = false
    ) throws -> Outcome {
        let fixture = try SessionFixture(maps: maps, on: engine)
        fixture.contextSize = program.type == .xdp ? 24 : 168
        // Nobody promises that what a program may repeat at will ends soon.
        let hasRounds = program.instructions.contains { $0.opcode == .mayGoto }
        let hasCalls = program.instructions.contains { $0.opcode == .callHelper }
        fixture.budget = budget ?? (hasRounds || program.callsBack ? 1 << 15 : hasCalls ? 1 << 17 : 1 << 22)
        // What no path leads to is not verified; the linker looks at it too.
        do { try fixture.add(program.instructions) } catch is LinkError { return Outcome() }
        // Where tail calls go: what is returned there is in no range.
        try fixture.add([Instruction(.mov64Imm, dst: .r0, imm: 100_000), Instruction(.exit)])
        let view = fixture.open()
        let programs = MapView(view, Int(VerifiedMap.programs.index))
        _ = programs.update([UInt32(0)], [UInt32(1)], flags: 0, tid: 1, slot: -1)
        let hash = MapView(view, Int(VerifiedMap.hash.index))
        for key in [UInt64(0), 2, 5] {
            _ = hash.update([key], [UInt64](repeating: key, count: 4), flags: 0, tid: 1, slot: -1)
        }
        let words = MapView(view, Int(VerifiedMap.words.index))
        let packet = program.type == .xdp ? GuardedPacket() : nil
        var outcome = Outcome()
        for input in inputs {
            input.withUnsafeBytes { bytes in
                if let base = bytes.baseAddress {
                    words.lookup([UInt32(0)], slot: 0)?.copyMemory(from: base, byteCount: bytes.count)
                }
            }
            if let packet { fixture.setPacket(packet.fill(input)) }
            do throws(Trap) {
                let result: UInt64
                if engine == .vm {
                    let observer = SoundnessObserver(program, recorders, fixture, view)
                    result = try fixture.run(r1: fixture.contextAddress, observer: observer)
                    if let leak = observer.endFault { outcome.fault = "\(engine.rawValue), inputs \(input): \(leak)" }
                } else {
                    result = try fixture.run(r1: fixture.contextAddress)
                }
                outcome.traces.append([result] + contents(view) + (packet?.words ?? []))
            } catch {
                if error.kind == .budget, budget != nil || hasRounds || program.callsBack || (hasCalls && !endsSoon) {
                    outcome.isComplete = false
                    continue
                }
                let what = (error.kind == .stopped ? lastFault : nil) ?? error.description(in: program.instructions)
                outcome.fault = "\(engine.rawValue), inputs \(input): \(what)"
            }
            if outcome.fault != nil { return outcome }
        }
        return outcome
    }

    /// The values that programs can write.
    private static func contents(_ view: SessionView) -> [UInt64] {
        var result: [UInt64] = []
        for map in [VerifiedMap.words, .array, .hash] {
            let here = MapView(view, Int(map.index))
            for key in 0..<UInt64(6) {
                guard let value = here.lookup([key], slot: 0) else { continue }
                for word in 0..<map.valueSize / 8 {
                    result.append(value.load(fromByteOffset: 8 * word, as: UInt64.self))
                }
            }
        }
        return result
    }

    nonisolated(unsafe) static var lastFault: String?
}

extension VerifiedCase {
    /// Helpers call functions of the program.
    var callsBack: Bool { instructions.contains { $0.opcode == .callHelper && [164, 181].contains($0.imm) } }

    /// The same where every `may_goto` jumps, as it does when all rounds are used up; nil where there is none.
    var withoutRounds: VerifiedCase? {
        guard instructions.contains(where: { $0.opcode == .mayGoto }) else { return nil }
        var result = self
        for index in instructions.indices where instructions[index].opcode == .mayGoto {
            result.instructions[index].opcode = .jump
        }
        return result
    }
}
