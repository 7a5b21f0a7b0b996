internal import ISA
internal import Verifier
internal import VerifierInput

/// Types of a record, by the names that it and its maps use.
typealias RecordTypes = [String: TypeFacts]

/// A decoded record, and why it may be refused before it is verified.
enum Prepared {
    /// `faults` are errors of single instructions, which count where a path leads there.
    case subject(Subject, faults: [Int: DecodeError])
    /// The kernel refuses it too.
    case refused(Verdict.Reason)
    case unsupported(Verdict.Reason)

    init(_ record: Record, types: RecordTypes, options: Options) {
        let instructions: [Instruction]
        let faults: [Int: DecodeError]
        do {
            let decoding = try KernelDecoding(record.code)
            (instructions, faults) = (decoding.instructions, decoding.faults)
        } catch {
            self = .refused(Verdict.Reason(error))
            return
        }
        let slots = SlotMap(instructions)
        for (index, instruction) in instructions.enumerated() {
            guard let map = instruction.mapIndex else { continue }
            let slot = slots.slots[index]
            guard record.maps.indices.contains(map) else {
                let message = "names map \(map); the program has \(record.maps.count)"
                self = .refused(Verdict.Reason(kind: "encoding", slot: slot, message: message))
                return
            }
            guard let described = record.maps[map], MapType(rawValue: described.type) != nil else {
                let message = RecordError.unknownMap(map).message
                self = .unsupported(Verdict.Reason(kind: "encoding", slot: slot, message: message))
                return
            }
        }
        let starts = functionStarts(instructions, slots)
        let known = Dictionary(record.functions.map { ($0.slot, $0.type) }) { first, _ in first }
        if !record.functions.isEmpty, record.functions.map(\.slot) != starts.map({ slots.slots[$0] }) {
            let message = "the functions that calls name are not those of 'func_info'"
            self = .refused(Verdict.Reason(kind: "encoding", slot: 0, message: message))
            return
        }
        let facts = record.btf.flatMap { types[$0] }
        let functions = starts.enumerated().map { index, start in
            let slot = slots.slots[start]
            let type = known[slot] ?? 0
            return FunctionFacts(
                name: facts?.functionName(type) ?? (index == 0 ? "main" : "function at \(slot)"),
                start: start,
                contract: index == 0 ? nil : facts?.contract(type, of: record.type)
            )
        }
        let maps = record.maps.map { $0.map { MapFacts($0, types: types) } ?? .unknown }
        var subject = Subject(instructions: instructions, functions: functions, maps: maps, type: record.type)
        subject.attachType = record.attachType
        subject.isSleepable = record.flags & LoadFlags.sleepable != 0
        subject.isGPL = isGPLCompatible(record.license)
        subject.alignment = LoadFlags.alignment(record.flags)
        subject.platform = .kernel
        subject.strictLeaks = options.strictLeaks
        self = .subject(subject, faults: faults)
    }
}

/// Flags of `BPF_PROG_LOAD` (include/uapi/linux/bpf.h).
private enum LoadFlags {
    static let strictAlignment: UInt32 = 1
    static let anyAlignment: UInt32 = 2
    static let sleepable: UInt32 = 16

    /// Any alignment wins over strict alignment, as in `bpf_check`.
    static func alignment(_ flags: UInt32) -> Subject.Alignment {
        flags & anyAlignment != 0 ? .any : flags & strictAlignment != 0 ? .strict : .natural
    }
}

/// Indices of the instructions where functions start, rising: the first one, and what calls and references name.
///
/// Targets that are no instruction are left out; the verifier refuses them.
private func functionStarts(_ instructions: [Instruction], _ slots: SlotMap) -> [Int] {
    var starts: Set<Int> = [0]
    for (index, instruction) in instructions.enumerated() {
        switch instruction.flow {
        case .call(let distance), .reference(let distance):
            if let start = slots.instruction(at: slots.slots[index] + 1 + distance) { starts.insert(start) }
        case .next, .jump, .exit: break
        }
    }
    return starts.sorted()
}

extension Instruction {
    /// The map that a reference by index into the record's maps names; -1 and less cannot be one.
    var mapIndex: Int? {
        switch opcode {
        case .loadMap: Int(imm)
        case .loadMapValue: Int(Int32(truncatingIfNeeded: imm))
        default: nil
        }
    }
}

extension MapFacts {
    /// Stands for a map that no instruction uses.
    fileprivate static var unknown: MapFacts {
        MapFacts(name: "", type: .unspecified, keySize: 0, valueSize: 0, maxEntries: 0)
    }

    fileprivate init(_ map: RecordMap, types: RecordTypes) {
        self.init(
            name: map.name,
            type: MapType(rawValue: map.type) ?? .unspecified,
            keySize: map.keySize,
            valueSize: map.valueSize,
            maxEntries: map.maxEntries,
            flags: map.flags
        )
        isFrozen = map.isFrozen
        contents = map.data
        inner = map.inner.map { MapFacts($0, types: types) }
        if let facts = map.btf.flatMap({ types[$0] }), map.valueType != 0 {
            spinLock = facts.spinLock(inValue: map.valueType)
            timer = facts.timer(inValue: map.valueType)
        }
    }
}

extension Verdict.Reason {
    init(_ error: DecodeError) {
        self.init(kind: "encoding", slot: error.slot, message: error.kind.message)
    }
}
