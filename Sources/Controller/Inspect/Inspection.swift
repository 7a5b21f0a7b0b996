import ISA
import JSON
package import Loader

/// What `ubpfrun inspect` and `disasm` print about an object.
package struct Inspection {
    private let object: ObjectSpec

    package init(_ object: ObjectSpec) { self.object = object }

    /// Programs, maps, options and notes, for people.
    package var text: String {
        var lines = ["\(object.name): licence \(object.license.isEmpty ? "none" : object.license)"]
        lines.append("programs:")
        for program in object.programs {
            lines.append(
                "  \(aligned(program.name, to: 24)) SEC(\"\(program.section)\")  \(program.type.name), "
                    + "\(counted(program.instructions.count, "instruction"))"
                    + (program.relocations.isEmpty
                        ? "" : ", \(counted(program.relocations.count, "CO-RE relocation"))")
            )
        }
        lines.append("maps:")
        for map in object.maps {
            lines.append(
                "  \(aligned(map.name, to: 24)) \(map.type.name), key \(map.keySize) B, value \(map.valueSize) B, "
                    + "max_entries \(map.maxEntries)"
                    + (map.isReadOnly ? ", read-only" : "")
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
                for program in object.programs {
                    list.object { entry in
                        entry.member("name", program.name)
                        entry.member("section", program.section)
                        entry.member("type", program.type.name)
                        entry.member("instructions", program.instructions.count)
                        entry.member("core_relocations", program.relocations.count)
                    }
                }
            }
            root.key("maps")
            root.array { list in
                for map in object.maps {
                    list.object { entry in
                        entry.member("name", map.name)
                        entry.member("type", map.type.name)
                        entry.member("key_size", map.keySize)
                        entry.member("value_size", map.valueSize)
                        entry.member("max_entries", map.maxEntries)
                        entry.member("read_only", map.isReadOnly)
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

extension String {
    fileprivate func trimmingSuffix(_ suffix: String) -> String {
        hasSuffix(suffix) ? String(dropLast(suffix.count)) : self
    }
}
