import CLinux
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
    private let permissions: Set<HelperPermission>
    private var readsMemory = false
    /// Programs ask for the control group of their process.
    package private(set) var asksForGroups = false
    /// Names of the maps that are in the kernel too.
    let kernelMaps: Set<String>
    /// Session indices by the object's.
    private var mapIndices: [Int: Int] = [:]

    /// Checks and links `programs` (indices into the object's) and whatever they call by a program array.
    ///
    /// `warn` takes what the policy lets pass; `arrays` are descriptors of maps in the kernel whose memory the process is to have.
    package init(
        _ loaded: ObjectSpec,
        programs: [Int],
        policy: VerifierPolicy = VerifierPolicy(),
        arrays: [Int: Int32] = [:],
        warn: (Failure) -> Void = { _ in }
    ) throws(Failure) {
        let object = KernelConfiguration.inProcess(loaded)
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
        permissions = policy.permissions
        kernelMaps = Set(arrays.keys.map { loaded.maps[$0].name })
        if !policy.verifies { warn(.unverified(refused)) }
        try addMaps(usedBy: ready.map(\.1), arrays)
        builder.task = Preparation.taskLayout(for: ready.map(\.1), of: object)
        for (index, program) in ready { programIndices[index] = try add(program) }
    }

    private mutating func addMaps(usedBy programs: [ProgramSpec], _ arrays: [Int: Int32]) throws(Failure) {
        var used: Set<Int> = []
        var prints = false
        for instruction in programs.flatMap(\.instructions) {
            switch instruction.opcode {
            case .loadMap: used.insert(Int(instruction.imm))
            case .loadMapValue: used.insert(Int(instruction.imm & 0xffff_ffff))
            case .callHelper:
                switch instruction.imm {
                case 6, 177:
                    prints = prints || instruction.imm == 6
                    readsMemory = true
                // bpf_probe_read, its variants, bpf_copy_from_user, bpf_copy_from_user_task
                case 4, 45, 112...115, 148, 191: readsMemory = true
                // bpf_current_task_under_cgroup, bpf_get_current_cgroup_id, bpf_get_current_ancestor_cgroup_id
                case 37, 80, 123: asksForGroups = true
                default: break
                }
            default: break
            }
        }
        for index in object.maps(reachedFrom: used) {
            var parameters = Self.parameters(of: index, in: object)
            parameters.kernel = arrays[index]
            do { mapIndices[index] = try builder.addMap(parameters) } catch {
                throw Failure(error, place: Self.place(ofMap: index, in: programs))
            }
            maps[object.maps[index].name] = mapIndices[index]
        }
        try checkElements()
        if prints {
            do { logMap = try builder.addLogRing() } catch { throw Failure(error) }
        }
        builder.layoutMaps()
    }

    /// Where a map is used first; nil without line information.
    private static func place(ofMap map: Int, in programs: [ProgramSpec]) -> String? {
        for program in programs {
            let use = program.instructions.firstIndex {
                $0.opcode == .loadMap && $0.imm == Int64(map)
                    || $0.opcode == .loadMapValue && $0.imm & 0xffff_ffff == Int64(map)
            }
            guard let use, let line = program.lines.last(where: { $0.instruction <= use }) else { continue }
            return "\(line.file):\(line.line):\(line.column) in \(program.name), insn \(use)"
        }
        return nil
    }

    /// A map of an object as a session takes it.
    private static func parameters(of index: Int, in object: ObjectSpec) -> MapParameters {
        let map = object.maps[index]
        let records = object.records(of: index)
        var parameters = MapParameters(
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
        parameters.record = records.own
        parameters.lock = MapFacts.lock(of: records.own)
        if let inner = map.innerMap {
            var template = MapParameters(
                name: "\(map.name).inner",
                type: inner.type,
                keySize: UInt32(clamping: inner.keySize),
                valueSize: UInt32(clamping: inner.valueSize),
                maxEntries: UInt32(clamping: inner.maxEntries),
                flags: inner.flags,
                extra: inner.extra
            )
            template.record = records.inner
            template.lock = MapFacts.lock(of: records.inner)
            parameters.inner = [template]
        }
        return parameters
    }

    /// Refuses maps that the object puts where they do not fit.
    private func checkElements() throws(Failure) {
        for (index, outer) in mapIndices {
            for element in object.maps[index].initialElements {
                guard case .map(let inner) = element.value, let number = mapIndices[inner] else { continue }
                if !builder.takes(number, inside: outer) || element.index >= object.maps[index].maxEntries {
                    throw Failure(misplaced: object.maps[inner], at: element.index, in: object.maps[index])
                }
            }
        }
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
        var flags =
            (isVerified ? CSESSION_VERIFIED.rawValue : 0) | (followsFork ? CSESSION_FOLLOW_FORK.rawValue : 0)
        if permissions.contains(.write) { flags |= CSESSION_ALLOW_WRITE.rawValue }
        if readsMemory, clinux_guards_reads() != 0 { flags |= CSESSION_GUARDED_READS.rawValue }
        if permissions.contains(.override) { flags |= CSESSION_ALLOW_OVERRIDE.rawValue }
        var entries = [MapNotes.Entry](
            repeating: MapNotes.Entry(keyType: 0, valueType: 0, isOfObject: false),
            count: indices.count + (logMap == nil ? 0 : 1)
        )
        var btf = object.btf
        for (index, number) in indices {
            let map = object.maps[index]
            if map.contents != nil {
                btf = btf?.placing(section: map.valueType) { name in
                    map.variables.first { $0.name == name }?.offset
                }
            }
            entries[number] = MapNotes.Entry(keyType: map.keyType, valueType: map.valueType, isOfObject: true)
        }
        let session = try Session.make(builder, flags: flags, notes: (entries, btf))
        // Program arrays and maps of maps start with what the object puts into them.
        for (index, map) in object.maps.enumerated() {
            guard let number = indices[index] else { continue }
            for element in map.initialElements {
                var value: UInt32
                switch element.value {
                case .program(let name):
                    guard let found = object.programs.firstIndex(where: { $0.name == name }),
                        let program = programs[found]
                    else { continue }
                    value = UInt32(program)
                case .map(let inner):
                    guard let inner = indices[inner] else { continue }
                    value = MapView(session.view, inner).id
                case .controlGroup(let path):
                    guard let id = ControlGroups.id(of: path) else { throw .noControlGroup(path, map.name) }
                    unsafe MapView(session.view, number).cgroupEntry(UInt32(element.index)).pointee = id
                    continue
                }
                let key = littleEndian(element.index, count: map.keySize)
                let status = unsafe MapView(session.view, number).update(key, &value, flags: 0, tid: 1, slot: 0)
                guard status == 0 else { throw Failure(.internalError, "map '\(map.name)' takes no first elements") }
            }
        }
        return session
    }
}

/// A number as a key of `count` bytes.
private func littleEndian(_ number: Int, count: Int) -> [UInt8] {
    (0..<count).map { $0 < 8 ? UInt8(truncatingIfNeeded: number >> (8 * $0)) : 0 }
}

extension Failure {
    /// A map that the object puts into a map of maps.
    fileprivate init(misplaced map: MapSpec, at index: Int, in outer: MapSpec) {
        self.init(
            .badMap,
            index >= outer.maxEntries
                ? "map '\(outer.name)' has no element \(index) for '\(map.name)'"
                : "map '\(map.name)' cannot be inside '\(outer.name)'",
            why:
                "a map inside has to be like the template in 'values': type, sizes and flags, of arrays max_entries too",
            help: "make their definitions alike; of arrays with BPF_F_INNER_MAP max_entries may differ"
        )
    }

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
