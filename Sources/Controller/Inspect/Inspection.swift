import ISA
import JSON
package import Loader

/// What `ubpfrun inspect` and `disasm` print about an object.
package struct Inspection {
    private let object: ObjectSpec

    /// Where programs and maps are, of objects with programs for processes and for the kernel.
    private let placement: Placement?

    package init(_ object: ObjectSpec) {
        self.object = object
        var user: [Int] = []
        var kernel: [Int] = []
        for (index, program) in object.programs.enumerated() {
            switch program.attach {
            case .uprobe, .usdt: user.append(index)
            case .kernel, .none(hook: "perf_event"): kernel.append(index)
            case .none: break
            }
        }
        placement = user.isEmpty || kernel.isEmpty ? nil : Placement(object, user: user, kernel: kernel)
    }

    /// Programs, maps, options and notes, for people.
    package var text: String {
        var lines = ["\(object.name): licence \(object.license.isEmpty ? "none" : object.license)"]
        lines.append("programs:")
        for (index, program) in object.programs.enumerated() {
            lines.append(
                "  \(aligned(program.name, to: 24)) SEC(\"\(program.section)\")  \(program.type.name), "
                    + "\(counted(program.instructions.count, "instruction"))"
                    + (program.relocations.isEmpty
                        ? "" : ", \(counted(program.relocations.count, "CO-RE relocation"))")
                    + (reason(index).map { ", in the kernel for map '\($0)'" } ?? "")
            )
        }
        lines.append("maps:")
        for (index, map) in object.maps.enumerated() {
            lines.append(
                "  \(aligned(map.name, to: 24)) \(map.type.name), key \(map.keySize) B, value \(map.valueSize) B, "
                    + "max_entries \(map.maxEntries)"
                    + (map.isReadOnly ? ", read-only" : "")
                    + (placement?.homes[index].map { ", \($0.text)" } ?? "")
            )
        }
        if let recipe = Recipe.matching(object) { lines.append("recipe: \(recipe.name)") }
        for note in object.notes { lines.append("note: \(note)") }
        lines.append(ProgramArguments.help(object).trimmingSuffix("\n"))
        return lines.joined(separator: "\n")
    }

    /// The same as one JSON document.
    package var json: String {
        var writer = JSONWriter()
        writer.object { root in
            root.member("name", object.name)
            root.member("license", object.license)
            root.key("programs")
            root.array { list in
                for (index, program) in object.programs.enumerated() {
                    list.object { entry in
                        entry.member("name", program.name)
                        entry.member("section", program.section)
                        entry.member("type", program.type.name)
                        entry.member("instructions", program.instructions.count)
                        entry.member("core_relocations", program.relocations.count)
                        if let reason = reason(index) { entry.member("in_kernel_for", reason) }
                    }
                }
            }
            root.key("maps")
            root.array { list in
                for (index, map) in object.maps.enumerated() {
                    list.object { entry in
                        entry.member("name", map.name)
                        entry.member("type", map.type.name)
                        entry.member("key_size", map.keySize)
                        entry.member("value_size", map.valueSize)
                        entry.member("max_entries", map.maxEntries)
                        entry.member("read_only", map.isReadOnly)
                        if let home = placement?.homes[index] { entry.member("home", home.rawValue) }
                    }
                }
            }
            root.key("options")
            root.array { list in
                for option in ObjectVariables(object).options {
                    list.object { entry in
                        entry.member("name", option.name)
                        entry.member("flag", ObjectVariables.flag(option.name))
                        entry.member("default", ProgramArguments.defaultText(option, in: object) ?? "")
                    }
                }
            }
            if let recipe = Recipe.matching(object) { root.member("recipe", recipe.name) }
            root.key("notes")
            root.array { list in for note in object.notes { list.string(note) } }
        }
        return writer.text
    }

    /// The map for which a program on a function runs in the kernel.
    private func reason(_ program: Int) -> String? { placement?.moved[program].map { object.maps[$0].name } }

    /// The instructions in the kernel's notation, with the source lines they come from.
    package func disassembly(of name: String?) throws(Failure) -> String {
        let chosen = object.programs.filter { name == nil || $0.name == name }
        guard !chosen.isEmpty else {
            throw Failure.unknownProgram(name ?? "", known: object.programs.map(\.name))
        }
        let maps = object.maps
        let disassembler = Disassembler { index in
            maps.indices.contains(Int(index)) ? maps[Int(index)].name : nil
        }
        var lines: [String] = []
        for program in chosen {
            lines.append("\(program.name):  ; SEC(\"\(program.section)\")")
            let sources = Dictionary(
                program.lines.map { ($0.instruction, $0) },
                uniquingKeysWith: { first, _ in first }
            )
            let starts = Dictionary(
                program.functions.map { ($0.start, $0.name) },
                uniquingKeysWith: { first, _ in first }
            )
            for (index, text) in disassembler.listing(program.instructions).enumerated() {
                if index > 0, let function = starts[index] { lines.append("\(function):") }
                if let source = sources[index] {
                    lines.append(
                        "; \(source.text.trimmingPrefix { $0 == " " || $0 == "\t" }) @ \(fileName(of: source.file)):\(source.line)"
                    )
                }
                lines.append("  \(text)")
            }
        }
        return lines.joined(separator: "\n")
    }
}

extension Placement.Home {
    fileprivate var text: String {
        switch self {
        case .process: "in the process"
        case .kernel: "in the kernel"
        case .mapped: "in the kernel, mapped into the process"
        case .copies: "a copy in each"
        case .streams: "one in each, one stream"
        }
    }
}

extension String {
    fileprivate func trimmingSuffix(_ suffix: String) -> String {
        hasSuffix(suffix) ? String(dropLast(suffix.count)) : self
    }
}
