import CSession
import Glibc
import ISA
package import Loader
import Runtime
import UBPFVM
import Verifier
import VerifierInput

/// Puts a session together: maps, then checked and linked programs.
///
/// Everything that can be refused without a target is refused by `init`.
package struct SessionAssembly {
    package let object: ObjectSpec
    /// Session indices of the object's maps that are used, by name.
    package private(set) var maps: [String: Int] = [:]
    /// Index of the ring that takes `bpf_printk` lines, if a program prints any.
    package private(set) var logMap: Int?
    /// Whether the verifier accepted every program.
    package let isVerified: Bool
    /// Session indices of the object's programs.
    package private(set) var programIndices: [Int: Int] = [:]
    private var builder: SessionBuilder
    /// Session indices by the object's.
    private var mapIndices: [Int: Int] = [:]

    /// Checks and links `programs` (indices into the object's) and whatever they call by a program array.
    ///
    /// `warn` takes what the policy lets pass.
    package init(
        _ object: ObjectSpec,
        programs: [Int],
        policy: VerifierPolicy = VerifierPolicy(),
        warn: (Failure) -> Void = { _ in }
    ) throws(Failure) {
        self.object = object
        builder = SessionBuilder(cpuCount: max(1, Int(sysconf(Int32(_SC_NPROCESSORS_CONF)))))
        let chosen = object.programs(reachedFrom: programs)
        for index in chosen {
            guard let mixed = object.mixedArray(around: index) else { continue }
            throw Failure(mixed.array, object.programs[index], mixed.other)
        }
        var ready: [(Int, ProgramSpec)] = []
        let types = object.btf.map { TypeFacts($0) }
        var refused: [(program: String, error: VerifierError)] = []
        for index in chosen {
            let program = try Preparation.relocate(object.programs[index], of: object)
            if let error = try Preparation.verify(program, of: object, types, policy) {
                refused.append((program.name, error))
            }
            ready.append((index, program))
        }
        isVerified = policy.verifies
        if !policy.verifies { warn(.unverified(refused)) }
        try addMaps(usedBy: ready.map(\.1))
        for (index, program) in ready { programIndices[index] = try add(program) }
    }

    private mutating func addMaps(usedBy programs: [ProgramSpec]) throws(Failure) {
        var used: Set<Int> = []
        var prints = false
        for instruction in programs.flatMap(\.instructions) {
            switch instruction.opcode {
            case .loadMap: used.insert(Int(instruction.imm))
            case .loadMapValue: used.insert(Int(instruction.imm & 0xffff_ffff))
            case .callHelper where instruction.imm == 6: prints = true
            default: break
            }
        }
        for index in used.sorted() {
            let map = object.maps[index]
            let parameters = MapParameters(
                name: map.name,
                type: map.type,
                keySize: UInt32(clamping: map.keySize),
                valueSize: UInt32(clamping: map.valueSize),
                maxEntries: UInt32(clamping: map.maxEntries),
                flags: map.flags,
                extra: map.extra,
                contents: map.contents,
                isFrozen: map.isReadOnly
            )
            do { mapIndices[index] = try builder.addMap(parameters) } catch { throw Failure(error) }
            maps[map.name] = mapIndices[index]
        }
        if prints {
            do { logMap = try builder.addLogRing() } catch { throw Failure(error) }
        }
        builder.layoutMaps()
    }

    private mutating func add(_ program: ProgramSpec) throws(Failure) -> Int {
        var instructions = program.instructions
        for index in instructions.indices {
            switch instructions[index].opcode {
            case .loadMap:
                instructions[index].imm = Int64(mapIndices[Int(instructions[index].imm)] ?? 0)
            case .loadMapValue:
                let map = mapIndices[Int(instructions[index].imm & 0xffff_ffff)] ?? 0
                instructions[index].imm = instructions[index].imm & ~0xffff_ffff | Int64(map)
            default: break
            }
        }
        var locations: [Int: ValueLocation] = [:]
        for map in mapIndices.values { locations[map] = builder.valueLocation(map: map, offset: 0) }
        let linked: [LinkedInstruction]
        do {
            linked = try link(instructions, mapCount: mapIndices.count) { map, offset in
                locations[map].map { SegmentOffset(storage: Int($0.storage), offset: $0.offset + UInt64(offset)) }
            }
        } catch { throw Failure(error, in: program) }
        return builder.addProgram(name: program.name, type: program.type, instructions: linked)
    }

    /// The finished session; the calling thread owns it.
    ///
    /// `followsFork`: forked children of its targets run the programs too.
    package consuming func makeSession(followsFork: Bool = false) throws(Failure) -> Session {
        let programs = programIndices
        let object = object
        let indices = mapIndices
        let flags =
            (isVerified ? CSESSION_VERIFIED.rawValue : 0) | (followsFork ? CSESSION_FOLLOW_FORK.rawValue : 0)
        let session = try Session.make(builder, flags: flags)
        // Program arrays start with what the object puts into them.
        for (index, map) in object.maps.enumerated() where map.type == .programArray {
            guard let number = indices[index] else { continue }
            for element in map.initialElements {
                guard case .program(let name) = element.value,
                    let found = object.programs.firstIndex(where: { $0.name == name }), let program = programs[found]
                else { continue }
                var key = UInt32(element.index)
                var value = UInt32(program)
                _ = unsafe MapView(session.view, number).update(&key, &value, flags: 0, tid: 0, slot: 0)
            }
        }
        return session
    }
}

extension Failure {
    /// Programs of different types around a program array.
    fileprivate init(_ array: String, _ program: ProgramSpec, _ other: ProgramSpec) {
        self.init(
            .rejected,
            "tail calls through '\(array)' mix program types: '\(program.name)' is of type \(program.type.name), "
                + "'\(other.name)' of type \(other.type.name)",
            why: "a tail call hands its context on, and each type has another one",
            help: "use one program array for each type; programs on functions of a process are in sections uprobe"
        )
    }
}
