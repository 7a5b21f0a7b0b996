internal import ISA

/// Makes specs of linked programs: decodes them and moves functions, lines and relocations to their instructions.
struct ProgramBuilder {
    let btf: BTF?
    let details: BTFExtension

    /// The source line of a slot of a linked program; nil without line information.
    private func line(of slot: Int, _ linked: LinkedProgram, _ code: [Int: CodeSection]) -> String? {
        guard let btf else { return nil }
        for (function, start) in linked.functions where (start..<start + function.end - function.start).contains(slot) {
            let range = function.start...function.start + slot - start
            let lines = code[function.section].flatMap { details.lines[$0.name] } ?? []
            guard let line = lines.last(where: { range.contains($0.slot) }) else { return nil }
            return "\(btf.string(line.file)):\(line.lineAndColumn >> 10) in \(function.name)"
        }
        return nil
    }

    func build(
        _ entry: CodeFunction,
        section: CodeSection,
        _ linked: LinkedProgram,
        _ code: [Int: CodeSection]
    ) throws(LoaderError) -> ProgramSpec {
        let place = "program '\(entry.name)' in section '\(section.name)'"
        let instructions: [Instruction]
        do {
            instructions = try decode(linked.slots)
        } catch {
            // addr_space_cast (Documentation/bpf/standardization, MOV with an offset of 1).
            if case .unknownVariant(.offset, 1) = error.kind, linked.slots[error.slot].code == 0xbf {
                throw .arenaPointer(line(of: error.slot, linked, code) ?? place)
            }
            throw .badInstruction(place, "\(error)")
        }
        let map = SlotMap(instructions)
        var problems = linked.problems
        let title = sectionName(section.name, &problems)
        var program = ProgramSpec(
            name: entry.name,
            section: section.name,
            type: title?.type ?? .unspecified,
            attach: title?.attach ?? .none(hook: section.name),
            attachType: title?.attachType ?? 0,
            isSleepable: title?.isSleepable ?? false,
            isAutoloaded: title?.isAutoloaded ?? true,
            instructions: instructions,
            functions: [],
            lines: [],
            relocations: [],
            problems: problems
        )
        for (function, start) in linked.functions {
            guard let origin = code[function.section]?.name, let first = map.instruction(at: start) else {
                throw .badInstruction(place, "the function '\(function.name)' starts inside of an instruction")
            }
            let range = function.start..<function.end
            let distance = start - function.start
            let info = details.functions[origin]?.first { $0.slot == function.start }
            program.functions.append(
                FunctionSpec(name: function.name, start: first, type: info?.type ?? 0, isHidden: function.isHidden)
            )
            guard let btf else { continue }
            for line in details.lines[origin] ?? [] where range.contains(line.slot) {
                guard let instruction = map.instruction(at: line.slot + distance) else { continue }
                program.lines.append(
                    LineInfo(
                        instruction: instruction,
                        file: btf.string(line.file),
                        line: Int(line.lineAndColumn >> 10),
                        column: Int(line.lineAndColumn & 0x3ff),
                        text: btf.string(line.text)
                    )
                )
            }
            for relocation in details.relocations[origin] ?? [] where range.contains(relocation.slot) {
                guard let instruction = map.instruction(at: relocation.slot + distance) else {
                    throw .badCoreRelocation(place, "slot \(relocation.slot) of '\(origin)' starts no instruction")
                }
                program.relocations.append(
                    CoreRelocation(
                        instruction: instruction,
                        type: relocation.type,
                        access: btf.string(relocation.access),
                        kind: relocation.kind
                    )
                )
            }
        }
        program.lines.sort { $0.instruction < $1.instruction }
        do {
            try validateControlFlow(instructions, functions: program.functions.map(\.start))
        } catch {
            program.problems.append(.badInstruction(place, "\(error)"))
        }
        return program
    }

    /// What the section says; one bad name must not keep the other programs from running.
    private func sectionName(_ section: String, _ problems: inout [LoaderError]) -> SectionName? {
        do {
            return try SectionName.parse(section)
        } catch {
            switch error {
            case .unknown: problems.append(.badSectionName(section, "no kind of program starts like this"))
            case .malformed(let form): problems.append(.badSectionName(section, "it should look like \(form.text)"))
            }
            return nil
        }
    }
}
