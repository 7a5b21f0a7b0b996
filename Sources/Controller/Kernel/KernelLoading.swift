import Glibc
import ISA
import Kernel
import Loader
import Symbols

/// A program that the kernel has taken, for as long as the run lasts.
final class KernelProgramHolder {
    let program: KernelProgram
    let spec: ProgramSpec
    /// Loaded for links on many places, and for no others.
    let isForMany: Bool
    private let maps: [KernelMapHolder]

    /// Relocates a program to the running kernel and has it loaded; `maps` are by index into the object's.
    ///
    /// `types` is the descriptor of the object's types in the kernel.
    init(
        _ given: ProgramSpec,
        of object: ObjectSpec,
        maps: [Int: KernelMapHolder],
        types: Int32?,
        substitute: (String) -> String?,
        log: (String) -> Void
    ) throws(Failure) {
        let spec = try Self.relocated(given, of: object)
        self.spec = spec
        var instructions = spec.instructions
        for index in instructions.indices {
            switch instructions[index].opcode {
            case .loadMap, .loadMapValue:
                let number = Int(instructions[index].imm & 0xffff_ffff)
                let descriptor = Int64(maps[number]?.map.descriptor ?? -1)
                instructions[index].imm = instructions[index].imm & ~0xffff_ffff | descriptor
            default: break
            }
        }
        let function = try Self.attachFunction(spec)
        let attachType = Self.attachType(spec)
        isForMany = spec.type == .kprobe && attachType != 0
        self.maps = Array(maps.values)
        do throws(KernelError) {
            program = try KernelProgram(
                instructions,
                type: spec.type,
                flags: spec.isSleepable ? KernelProgram.sleepable : 0,
                license: object.license,
                attachType: attachType,
                attachFunction: function,
                name: spec.name,
                externs: object.externs.map(\.name),
                functions: types.flatMap { FunctionTypes(spec, types: $0) }
            )
        } catch {
            if spec.type == .tracing, error.errno == EPERM, error.log.isEmpty, case .kernel(_, let target) = spec.attach
            {
                throw .noTrampolines(spec.name, function: target, substitute: substitute(target))
            }
            if !error.log.isEmpty { log(error.log) }
            throw Self.refusal(spec, error)
        }
    }

    /// For probes, that of links on many places where the kernel has such links: one takes the place of all others.
    private static func attachType(_ program: ProgramSpec) -> UInt32 {
        guard program.type == .kprobe else { return program.attachType }
        switch program.attach {
        case .uprobe, .usdt: return KernelFeatures.uprobeMulti == .yes ? AttachType.uprobeMulti : 0
        case .kernel:
            return program.attachType == AttachType.kprobeMulti && KernelFeatures.kprobeMulti == .yes
                ? AttachType.kprobeMulti : 0
        case .none: return 0
        }
    }

    /// The number by which a program with libbpf's `usdt.bpf.h` finds the arguments of a static probe; 0 for others.
    func specification(of probe: StaticProbe) throws(Failure) -> UInt64 {
        guard let map = maps.first(where: { $0.spec.name == StaticProbeArguments.map }) else { return 0 }
        return try map.staticProbes.number(of: probe, size: map.spec.valueSize) { (number, bytes) throws(Failure) in
            try map.set(number, to: bytes)
        }
    }

    private static func relocated(_ program: ProgramSpec, of object: ObjectSpec) throws(Failure) -> ProgramSpec {
        for problem in program.problems where problem.kind != .unresolvedSymbol { throw Failure(problem) }
        for instruction in program.instructions {
            let index: Int
            switch instruction.opcode {
            case .callKernelFunction where instruction.imm <= 0: index = Int(-1 - instruction.imm)
            case .loadVariable: index = Int(instruction.imm)
            default: continue
            }
            guard object.externs.indices.contains(index) else {
                if let problem = program.problems.first { throw Failure(problem) }
                continue
            }
            let symbol = object.externs[index]
            guard !symbol.isWeak, KernelTypes.symbol(symbol.name) == nil else { continue }
            throw .noKernelType(program.name, name: symbol.name, hasBTF: KernelTypes.shared != nil)
        }
        guard !program.relocations.isEmpty else { return program }
        guard let local = object.btf else {
            throw Failure(.noBTF, "\(object.name) has CO-RE relocations but no BTF")
        }
        guard let target = object.kernelTypes ?? KernelTypes.shared else {
            throw .noKernelType(program.name, name: "types", hasBTF: false)
        }
        do {
            // Another kernel's modules are not here.
            return try object.kernelTypes == nil
                ? program.relocated(local: local, target: target, modules: KernelTypes.modules)
                : program.relocated(local: local, target: target)
        } catch { throw Failure(error) }
    }

    /// The BTF id that programs of type TRACING are loaded for; 0 for others.
    static func attachFunction(_ program: ProgramSpec) throws(Failure) -> UInt32 {
        guard program.type == .tracing, case .kernel(let hook, let target) = program.attach else { return 0 }
        let found: UInt32?
        let kind = hook.prefix { $0 != "." }
        switch kind {
        case "tp_btf": found = KernelTypes.tracepoint(target)
        case "iter": found = KernelTypes.iterator(target)
        default: found = KernelTypes.function(target)
        }
        guard let found else {
            throw .noKernelType(program.name, name: "\(kind)/\(target)", hasBTF: KernelTypes.shared != nil)
        }
        return found
    }

    /// The verifier's log as one error: its last word, and the source line of the instruction it was at.
    static func refusal(_ program: ProgramSpec, _ error: KernelError) -> Failure {
        let lines = error.log.split(separator: "\n").map(String.init).filter {
            !$0.hasPrefix("processed ") && !$0.hasPrefix("verification time") && !$0.hasPrefix("stack depth")
        }
        guard let reason = lines.last else {
            return .kernelRefused(program.name, reason: error.description, place: nil, source: nil)
        }
        // "12: (79) r1 = *(u64 *)(r0 +0)"
        let slot = lines.compactMap { line -> Int? in
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2, parts[1].hasPrefix(" (") else { return nil }
            return Int(parts[0])
        }.last
        guard let slot, let index = instruction(at: slot, of: program) else {
            return .kernelRefused(program.name, reason: reason, place: nil, source: nil)
        }
        let line = program.lines.last { $0.instruction <= index }
        return .kernelRefused(
            program.name,
            reason: reason,
            place: line.map { "\($0.file):\($0.line):\($0.column), insn \(slot)" } ?? "insn \(slot)",
            source: line.map { $0.text.trimmed }
        )
    }

    private static func instruction(at slot: Int, of program: ProgramSpec) -> Int? {
        var position = 0
        for (index, instruction) in program.instructions.enumerated() {
            if slot < position + instruction.slots { return index }
            position += instruction.slots
        }
        return nil
    }
}

extension String {
    /// Without blanks at either end.
    fileprivate var trimmed: String {
        String(drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
    }
}
