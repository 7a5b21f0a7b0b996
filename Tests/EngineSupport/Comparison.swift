package import ISA
internal import UBPFVM

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

/// A program and a context on which an engine does not do what another one does.
package struct Difference {
    let types: [any Engine.Type]
    let outcomes: [Outcome]
    package let context: [UInt8]
    package let program: [Instruction]

    /// What differs, and the program.
    package var description: String {
        let lines = zip(types, outcomes).map { type, outcome in
            "\(type.name): \(outcome.trap.map { "\($0) " } ?? "")\(outcome.result) "
                + "\(words(outcome.context).map { String($0, radix: 16) })"
        }
        return """
            \(types[0].name) and \(types[1].name) differ on \(words(context).map { String($0, radix: 16) })
            \(lines.joined(separator: "\n"))
            \(listing(program))
            """
    }

    /// The same for a program that was made smaller, if only a little.
    ///
    /// What the reference calls undefined shows nothing, so smaller programs that come to that are not looked at.
    package func minimised(seconds: Double = 5) -> Difference {
        let smaller = Minimiser.minimise(program, seconds: seconds) {
            ReferenceEngine.isDefined($0, context) && (try? findDifference(types, $0, [context])) != nil
        }
        return (try? findDifference(types, smaller, [context])) ?? self
    }
}

/// The first context on which an engine differs from the first one; nil where all agree.
package func findDifference(
    _ types: [any Engine.Type],
    _ program: [Instruction],
    _ contexts: [[UInt8]]
) throws -> Difference? {
    // Comparing an engine with itself proves nothing.
    precondition(types.count > 1 && Set(types.map { $0.name }).count == types.count)
    let engines = try types.map { try $0.init(program) }
    for context in contexts {
        let expected = try engines[0].run(context)
        for (engine, type) in zip(engines, types).dropFirst() {
            let actual: Outcome
            do {
                actual = try engine.run(context)
            } catch let trap as Trap {
                actual = Outcome(result: 0, context: [], trap: trap)
            }
            if expected == actual { continue }
            let outcomes = [expected, actual]
            return Difference(types: [types[0], type], outcomes: outcomes, context: context, program: program)
        }
    }
    return nil
}

/// The first context on which two engines differ, as a message; nil where they agree on all.
package func firstDifference(_ a: any Engine.Type, _ b: any Engine.Type, _ test: OpcodeCase) throws -> String? {
    try firstDifference([a, b], test.program, test.contexts)
}

/// What `findDifference` finds, as a message with the program and a smaller one.
package func firstDifference(
    _ types: [any Engine.Type],
    _ program: [Instruction],
    _ contexts: [[UInt8]]
) throws -> String? {
    guard let found = try findDifference(types, program, contexts) else { return nil }
    return "\(found.minimised().description)\nThe whole program:\n\(listing(program))"
}
