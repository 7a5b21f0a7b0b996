/// A refusal as people read it: what, where, how it came to that, and what to do.
package struct Diagnosis: Equatable, Sendable {
    package var rule: Rule
    package var headline: String
    package var category: String
    /// What is wrong, with registers, offsets and names.
    package var what: String
    package var program: String
    /// The function of the offending instruction.
    package var function: String
    package var primary: Place
    package var secondary: [Place]
    /// How the value came to the place, and the branches in between.
    package var causalPath: [String]
    package var suggestion: String
    /// The Linux verifier's wording for the same.
    package var kernel: String?

    /// An instruction with its source line, and what is to be said there.
    package struct Place: Equatable, Sendable {
        package var instruction: Int
        /// The instruction's number as the kernel counts.
        package var slot: Int
        /// The instruction as the disassembler prints it.
        package var code: String
        package var source: SourceLine?
        package var label: String
    }
}

/// The source line of an instruction, as BTF has it: with the text, so that no file is needed.
package struct SourceLine: Equatable, Sendable {
    package var instruction: Int
    package var file: String
    package var line: Int
    /// From 1, in bytes; 0 where it is not known.
    package var column: Int
    package var text: String

    package init(instruction: Int, file: String, line: Int, column: Int, text: String) {
        self.instruction = instruction
        self.file = file
        self.line = line
        self.column = column
        self.text = text
    }
}
