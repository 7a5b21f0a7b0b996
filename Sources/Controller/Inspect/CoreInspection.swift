import ISA
import JSON
import Kernel
package import Loader

/// What `ubpfrun inspect --core` prints: each CO-RE relocation of an object, and what it becomes on a kernel.
package struct CoreInspection {
    private struct Row {
        var program: String
        var function: String
        /// Place in the function, in slots of 8 bytes, as the kernel and libbpf count.
        var slot: Int
        var relocation: CoreResolution
        /// The kernel has it, but programs in processes see only some fields of tasks.
        var isHidden: Bool
        /// Line of the source, where the object says.
        var line: LineInfo?
    }

    private let name: String
    private var rows: [Row] = []

    /// With the types that the object was loaded with, or the running kernel's.
    package init(_ object: ObjectSpec) throws(Failure) {
        name = object.name
        for program in object.programs where !program.relocations.isEmpty {
            guard let local = object.btf else {
                throw Failure(.noBTF, "\(object.name) has CO-RE relocations but no BTF")
            }
            let target = Preparation.kernelTypes(of: object)
            let modules = object.kernelTypes == nil ? KernelTypes.modules : { _ in [] }
            let isInProcess = Preparation.isInProcess(program)
            let found: [CoreResolution]
            let seen: [CoreResolution]
            do {
                found = try program.resolutions(local: local, target: target, modules: modules)
                seen = try program.resolutions(local: local, target: target, isInProcess: isInProcess)
            } catch { throw Failure(error) }
            var slots = [0]
            for instruction in program.instructions { slots.append((slots.last ?? 0) + instruction.slots) }
            for (relocation, seen) in zip(found, seen) {
                let function = program.functions.last { $0.start <= relocation.instruction }
                rows.append(
                    Row(
                        program: program.name,
                        function: function?.name ?? program.name,
                        slot: slots[relocation.instruction] - slots[function?.start ?? 0],
                        relocation: relocation,
                        isHidden: isInProcess && relocation.value != nil && seen.value == nil,
                        line: program.lines.last { $0.instruction <= relocation.instruction }
                    )
                )
            }
        }
    }

    package var text: String {
        guard !rows.isEmpty else { return "\(name): no CO-RE relocations" }
        var lines: [String] = []
        var function = ""
        for row in rows {
            let place = row.program == row.function ? row.program : "\(row.program), \(row.function)"
            if place != function { lines.append("\(place):") }
            function = place
            let value = row.relocation.value.map { "\($0)" } ?? "not there: the instruction may not be reached"
            lines.append(
                "  \(aligned("\(row.slot)", to: 5)) \(aligned(row.relocation.kind.name, to: 14)) "
                    + "\(aligned(row.relocation.subject, to: 40)) \(row.relocation.original) -> \(value)"
                    + (row.isHidden ? " (not for programs in processes)" : "")
                    + (row.line.map { "  \(fileName(of: $0.file)):\($0.line)" } ?? "")
            )
        }
        let missing = rows.count { $0.relocation.value == nil }
        lines.append("\(counted(rows.count, "relocation")), \(missing) of what the kernel has not")
        return lines.joined(separator: "\n")
    }

    package var json: String {
        var writer = JSONWriter()
        writer.object { root in
            root.member("name", name)
            root.key("core_relocations")
            root.array { list in
                for row in rows {
                    list.object { entry in
                        entry.member("program", row.program)
                        entry.member("function", row.function)
                        entry.member("insn", row.slot)
                        entry.member("kind", row.relocation.kind.name)
                        entry.member("subject", row.relocation.subject)
                        // As text: readers of JSON hold numbers as doubles.
                        entry.member("original", "\(row.relocation.original)")
                        if let value = row.relocation.value { entry.member("value", "\(value)") }
                        if row.isHidden { entry.member("hidden", true) }
                        if let line = row.line {
                            entry.member("file", line.file)
                            entry.member("line", line.line)
                        }
                    }
                }
            }
        }
        return writer.text
    }
}
