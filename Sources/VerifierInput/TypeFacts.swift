package import ISA
package import Loader
package import Verifier

/// What an object's types say about its functions and maps.
package struct TypeFacts: Sendable {
    package let btf: BTF
    /// Ids of the tags (`btf_decl_tag`) on each function.
    private let tags: [UInt32: [UInt32]]

    package init(_ btf: BTF) {
        self.btf = btf
        var tags: [UInt32: [UInt32]] = [:]
        for id in 1..<UInt32(max(1, btf.count)) {
            if let tag = btf[id], tag.kind == .declTag { tags[tag.target, default: []].append(id) }
        }
        self.tags = tags
    }

    /// Name of a function; nil where the type is none.
    package func functionName(_ id: UInt32) -> String? {
        guard let function = btf[id], function.kind == .function else { return nil }
        return btf.name(function)
    }

    /// What a global function promises; nil for static functions and for types that are no functions.
    package func contract(_ id: UInt32, of type: ProgramType) -> FunctionFacts.Contract? {
        guard let function = btf[id], function.kind == .function, btf.linkage(function) == Self.globalLinkage else {
            return nil
        }
        guard let prototype = btf[function.target], prototype.kind == .functionPrototype,
            let result = btf.underlying(prototype.target), result.kind == .void || btf.isScalar(result)
        else { return FunctionFacts.Contract(parameters: [.unsupported]) }
        let parameters = (0..<prototype.count).map { index in
            parameter(btf.parameter(prototype, index), tags: parameterTags(id, index), of: type)
        }
        return FunctionFacts.Contract(parameters: parameters, returnsVoid: result.kind == .void)
    }

    /// `BTF_FUNC_GLOBAL`.
    private static let globalLinkage: UInt32 = 1

    /// Texts of the `arg:` tags of a parameter.
    private func parameterTags(_ function: UInt32, _ index: Int) -> Set<String> {
        var texts: Set<String> = []
        for id in tags[function] ?? [] {
            guard let tag = btf[id], btf.component(ofTag: tag) == index else { continue }
            let name = btf.name(tag)
            if name.hasPrefix("arg:") { texts.insert(String(name.dropFirst(4))) }
        }
        return texts
    }

    /// A parameter as `btf_prepare_func_args` (kernel/bpf/btf.c) sees it; what only kernel objects can satisfy is
    /// `unsupported`.
    private func parameter(_ id: UInt32, tags: Set<String>, of type: ProgramType) -> FunctionFacts.Parameter {
        guard let parameter = btf.underlying(id) else { return .unsupported }
        guard parameter.kind == .pointer else {
            return tags.isEmpty && btf.isScalar(parameter) ? .scalar : .unsupported
        }
        if tags.contains("ctx") || isContext(parameter.target, of: type) {
            return tags.subtracting(["ctx"]).isEmpty ? .context : .unsupported
        }
        // Dynptrs and, in further tags, trusted, untrusted and arena pointers.
        if let target = btf.underlying(parameter.target), target.kind == .structure, btf.name(target) == "bpf_dynptr" {
            return .unsupported
        }
        guard tags.subtracting(["nonnull"]).isEmpty, let size = btf.size(of: parameter.target), size <= Self.memoryLimit
        else { return .unsupported }
        return .memory(size: size, isNullable: !tags.contains("nonnull"))
    }

    /// More than any memory of a program.
    private static let memoryLimit = 1 << 29

    /// `btf_is_prog_ctx_type`: the struct itself, or for kprobes its alias.
    private func isContext(_ id: UInt32, of type: ProgramType) -> Bool {
        guard let target = btf.underlying(id), target.kind == .structure else { return false }
        return type.contextStructs.contains(btf.name(target))
    }

    // MARK: Maps

    /// Offset of the first `struct bpf_spin_lock` in a map's value.
    ///
    /// - Parameter places: where the variables of a data section lie, which compilers leave open in its type.
    package func spinLock(inValue id: UInt32, places: [String: Int] = [:]) -> Int? {
        offset(of: "bpf_spin_lock", in: id, places)
    }

    /// Offset of the first `struct bpf_timer` in a map's value.
    package func timer(inValue id: UInt32, places: [String: Int] = [:]) -> Int? {
        offset(of: "bpf_timer", in: id, places)
    }

    private func offset(of name: String, in id: UInt32, _ places: [String: Int]) -> Int? {
        guard let section = btf.underlying(id), section.kind == .dataSection else { return offset(of: name, in: id) }
        for index in 0..<section.count {
            let entry = btf.sectionEntry(section, index)
            guard let variable = btf[entry.type], variable.kind == .variable,
                let inside = offset(of: name, in: variable.target)
            else { continue }
            return (places[btf.name(variable)] ?? entry.offset) + inside
        }
        return nil
    }

    private func offset(of name: String, in id: UInt32) -> Int? {
        var types = Self.typeLimit
        return offset(of: name, in: id, depth: 0, &types)
    }

    /// Levels of structs that the kernel looks into (`MAX_RESOLVE_DEPTH` of kernel/bpf/btf.c).
    private static let depthLimit = 32
    /// Types to look at, so that damaged ones end.
    private static let typeLimit = 100_000

    private func offset(of name: String, in id: UInt32, depth: Int, _ left: inout Int) -> Int? {
        left -= 1
        guard depth < Self.depthLimit, left > 0, let type = btf.underlying(id) else { return nil }
        switch type.kind {
        case .structure:
            if btf.name(type) == name { return 0 }
            for index in 0..<type.count {
                let member = btf.member(type, index)
                guard member.bitfieldSize == 0,
                    let inside = offset(of: name, in: member.type, depth: depth + 1, &left)
                else { continue }
                return member.bitOffset / 8 + inside
            }
        case .dataSection, .void, .integer, .pointer, .array, .union, .enumeration, .forward, .typedef, .volatile,
            .const, .restrict,
            .function, .functionPrototype, .variable, .float, .declTag, .typeTag, .enum64:
            break
        }
        return nil
    }
}
