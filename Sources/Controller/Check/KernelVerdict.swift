import ISA
import Kernel
import Loader

/// What the verifier of the running kernel says about a program.
package enum KernelVerdict: Equatable, Sendable {
    case accepted
    /// The log's last line before the statistics.
    case refused(String)
    /// The kernel did not come to a verdict.
    case unknown(String)

    var name: String {
        switch self {
        case .accepted: "accepted"
        case .refused: "rejected"
        case .unknown: "unknown"
        }
    }

    var message: String? {
        switch self {
        case .accepted: nil
        case .refused(let text), .unknown(let text): text
        }
    }

    /// The kernel and we came to different verdicts.
    func differs(from verdict: Verdict) -> Bool {
        switch (self, verdict.outcome) {
        case (.accepted, .refused), (.refused, .accepted): true
        case (.accepted, .accepted), (.refused, .refused), (.unknown, _), (_, .notChecked): false
        }
    }

    func lines(for verdict: Verdict) -> [String] {
        let difference = differs(from: verdict) ? "   <- differs" : ""
        return switch self {
        case .accepted: ["kernel: accepted\(difference)"]
        case .refused(let text): ["kernel: rejected: \(text)\(difference)"]
        case .unknown(let why): ["the kernel could not be asked: \(why)"]
        }
    }

    /// Loads a relocated program with maps of its own, which go with it.
    static func ask(_ program: ProgramSpec, of object: ObjectSpec) -> KernelVerdict {
        let types = HeldTypes(object)
        var maps: [Int: KernelMapHolder] = [:]
        var instructions = program.instructions
        for index in instructions.indices {
            let isValue = instructions[index].opcode == .loadMapValue
            guard isValue || instructions[index].opcode == .loadMap else { continue }
            let number = Int(instructions[index].imm & 0xffff_ffff)
            guard object.maps.indices.contains(number) else { return .unknown("there is no map \(number)") }
            do throws(Failure) {
                var spec = object.maps[number]
                try KernelConfiguration.fill(&spec, of: program.name)
                spec.isPinned = false
                if maps[number] == nil { maps[number] = try KernelMapHolder(spec, types: types?.descriptor) }
            } catch { return .unknown("\(error.what): \(error.why ?? "")") }
            let descriptor = Int64(maps[number]?.map.descriptor ?? -1)
            instructions[index].imm = instructions[index].imm & ~0xffff_ffff | descriptor
        }
        let function: UInt32
        do throws(Failure) { function = try KernelProgramHolder.attachFunction(program) } catch {
            return .unknown(error.what)
        }
        do throws(KernelError) {
            _ = try KernelProgram(
                instructions,
                type: program.type,
                flags: program.isSleepable ? KernelProgram.sleepable : 0,
                license: object.license,
                attachType: program.attachType,
                attachFunction: function,
                externs: object.externs.map(\.name),
                functions: types.flatMap { FunctionTypes(program, types: $0.descriptor) }
            )
            return .accepted
        } catch {
            // Objects without types of functions, and kernels that do not take them.
            guard let line = lastLine(error.log), !line.hasPrefix("missing btf func_info") else {
                return .unknown(error.log.isEmpty ? error.description : "it wants types of functions (BTF)")
            }
            return .refused(line)
        }
    }

    /// The line that says what is wrong: the last but the statistics.
    private static func lastLine(_ log: String) -> String? {
        log.split(separator: "\n").last { !$0.hasPrefix("processed ") && !$0.hasPrefix("verification time") }
            .map(String.init)
    }
}
