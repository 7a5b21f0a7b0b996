package import ISA

/// Why a program is refused, before a target is touched; the same program gives the same error on every machine.
package struct VerifierError: Error, Equatable, Sendable {
    package var rule: Rule
    /// Index of the offending instruction.
    package var instruction: Int
    /// Its place in the encoded program, in slots, as the kernel counts.
    package var slot: Int
    /// Its text, as the disassembler prints it.
    package var text: String
    /// What is wrong there, with registers, offsets and names.
    package var what: String
    /// The instructions of the path that led there, first to last; empty where the place alone says it all.
    package var path: [Int] = []
    /// The register that breaks the rule, and what it is, as the end of "r1 is …"; nil where the rule is about no register.
    package var register: Register?
    package var value: String?
    /// The same as the kernel calls it: `map_value_or_null`.
    package var kernelType: String?
    /// The instruction that took what is not released.
    package var origin: Int?
    /// Numbers that the advice depends on.
    package var detail = Detail.none

    package enum Detail: Equatable, Sendable {
        case none
        /// Bytes `offsets` of an object of `limit` bytes, `size` at a time.
        case bounds(offsets: ClosedRange<Int64>, size: Int, limit: Int)
        /// A field of the context that does not exist, or may not be used so.
        case context(offset: Int64, size: Int, isWrite: Bool)
        /// Bytes of the packet that have to be compared with its end.
        case packet(bytes: Int64)
        case size(SizeProblem)
        case result(ClosedRange<Int64>)
    }

    /// What is wrong with the size that a helper is given.
    package enum SizeProblem: Sendable { case negative, zero, unbounded }
}

extension VerifierError: CustomStringConvertible {
    package var description: String {
        if case .empty = rule { return what }
        return "insn \(slot) (\(text)): \(what)"
    }
}
