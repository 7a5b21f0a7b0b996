/// Why code could not be made.
package enum CodeError: Error, Equatable, Sendable {
    /// The code is longer than the buffer.
    case full(capacity: Int)
    /// A label is used and never bound.
    case unboundLabel(index: Int)
    /// A label is too far away for the displacement's `bytes`, at `offset`.
    case tooFar(offset: Int, bytes: Int)
    /// Control goes from one function of the program into another other than by a call.
    case crossesFunctions(instruction: Int)
    /// Maps are used where there are none.
    case noSession(instruction: Int)
    /// mmap or mprotect failed.
    case system(call: StaticCall, errno: Int32)

    package enum StaticCall: Equatable, Sendable {
        case mmap, mprotect
    }

    /// One line for people.
    package var description: String {
        switch self {
        case .full(let capacity): "generated code does not fit its buffer of \(capacity) bytes"
        case .unboundLabel(let index): "label \(index) of generated code is nowhere"
        case .tooFar(let offset, let bytes): "the label used at offset \(offset) is out of reach of \(bytes) bytes"
        case .crossesFunctions(let instruction):
            "instruction \(instruction) goes on in another function of the program, which is not a call"
        case .noSession(let instruction): "instruction \(instruction) uses a map, and there are none"
        case .system(.mmap, let errno): "no memory for code: mmap failed with errno \(errno)"
        case .system(.mprotect, let errno):
            "memory for code cannot be made executable: mprotect failed with errno \(errno)"
        }
    }
}
