package import ISA

/// The engines that can be asked for by name.
package enum EngineKind: String, CaseIterable, Sendable {
    case reference, vm, jit
    case checkedJIT = "checked-jit"
    case plainJIT = "jit-without-bmi2"
    case kernel

    package var type: any Engine.Type {
        switch self {
        case .reference: ReferenceEngine.self
        case .vm: VMEngine.self
        case .jit: JITEngine.self
        case .checkedJIT: CheckedJITEngine.self
        case .plainJIT: PlainJITEngine.self
        case .kernel: KernelEngine.self
        }
    }
}

/// The first context on which two engines differ, as a message; nil where they agree on all.
package func firstDifference(_ a: any Engine.Type, _ b: any Engine.Type, _ test: OpcodeCase) throws -> String? {
    try firstDifference([a, b], test.program, test.contexts)
}

/// The first context on which an engine differs from the first one, as a message; nil where all agree.
package func firstDifference(
    _ types: [any Engine.Type],
    _ program: [Instruction],
    _ contexts: [[UInt8]]
) throws -> String? {
    // Comparing an engine with itself proves nothing.
    precondition(types.count > 1 && Set(types.map { $0.name }).count == types.count)
    let engines = try types.map { try $0.init(program) }
    for context in contexts {
        let expected = try engines[0].run(context)
        for (engine, type) in zip(engines, types).dropFirst() {
            let actual = try engine.run(context)
            if expected == actual { continue }
            return """
                \(types[0].name) and \(type.name) differ on \(words(context).map { String($0, radix: 16) })
                \(types[0].name): \(expected.result) \(words(expected.context).map { String($0, radix: 16) })
                \(type.name): \(actual.result) \(words(actual.context).map { String($0, radix: 16) })
                \(listing(program))
                """
        }
    }
    return nil
}
