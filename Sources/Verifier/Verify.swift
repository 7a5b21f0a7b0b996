import ISA

/// Nested calls of a program, its own frame included (`MAX_CALL_FRAMES` of Linux).
package let maximumFrames = 8

/// Bytes of stack below each frame's r10 (`MAX_BPF_STACK`).
package let frameSize = 512

/// Registers that pass arguments to functions (`MAX_BPF_FUNC_REG_ARGS`).
private let maximumArguments = 5

/// Refuses a program that could harm the process it runs in, whatever its input is.
///
/// Checked are control flow, types and bounds of everything that is read and written, the arguments of helpers, references
/// that have to be given back, and that the program ends. Branches that known numbers decide are not followed, so code
/// behind a failed `bpf_core_type_exists` is not looked at.
///
/// - Parameters:
///   - recorder: is given every state of the walk.
///   - log: takes every step with what is known there, for people.
package func verify(
    _ subject: Subject,
    recorder: Recorder? = nil,
    log: WalkLog? = nil
) throws(VerifierError) -> Statistics {
    if subject.instructions.isEmpty {
        throw VerifierError(rule: .empty, instruction: 0, slot: 0, text: "", what: "the program has no instructions")
    }
    let layout = try Layout(subject.instructions, functions: subject.functions.map(\.start))
    var graph = CallGraph(layout)
    _ = try graph.calleesFirst()
    var walk = try Walk(subject, layout)
    recorder?.begin(walk)
    walk.recorder = recorder
    walk.log = log
    // Global functions stand for themselves: whoever calls them keeps to their contract.
    for (index, function) in subject.functions.enumerated() where index > 0 {
        guard let contract = function.contract else { continue }
        // Whoever calls it has only these to pass; r6 and the rest are the caller's own.
        if contract.parameters.count > maximumArguments {
            let what =
                "'\(function.name)' has \(contract.parameters.count) parameters; at most \(maximumArguments) are passed"
            throw layout.error(.functionContract, at: function.start, what)
        }
        try walk.run(function: index, arguments: contract.parameters.map { walk.argument($0) })
    }
    var context = RegisterState(.context)
    context.size = 0
    try walk.run(function: 0, arguments: [context])
    // Function pointers are passed on, so that who calls back is known only now.
    graph.add(walk.callbacks, isCopyingKeys: subject.platform == .userspace)
    walk.statistics.stackDepth = try graph.stackDepth(walk.stackSizes)
    return walk.statistics
}

extension Walk {
    /// What a global function may be called with.
    fileprivate mutating func argument(_ parameter: FunctionFacts.Parameter) -> RegisterState {
        switch parameter {
        case .scalar: return .unknown
        case .context: return RegisterState(.context)
        case .memory(let size, let isNullable):
            var pointer = RegisterState(.memory)
            pointer.size = UInt32(size)
            pointer.isNullable = isNullable
            if isNullable { pointer.id = makeID() }
            return pointer
        case .unsupported: return .none
        }
    }

    /// Functions after which pointers into the packet are void.
    var packetChangers: Set<Int> { layout.packetChangers }
}
