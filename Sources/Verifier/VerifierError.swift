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
}

extension VerifierError: CustomStringConvertible {
    package var description: String {
        if case .empty = rule { return what }
        return "insn \(slot) (\(text)): \(what)"
    }
}
