/// The commands of `ubpfrun step`, by name and first letters.
enum StepWord: String, CaseIterable {
    case step, back, instruction
    case backInstruction = "back-instruction"
    case `continue`, reverse, `break`, delete, registers, list, maps, runs, help, quit

    /// The full name, or the short form.
    init?(_ text: String) {
        guard let word = Self.allCases.first(where: { $0.rawValue == text || $0.short == text }) else { return nil }
        self = word
    }

    var short: String {
        switch self {
        case .step: "s"
        case .back: "b"
        case .instruction: "i"
        case .backInstruction: "bi"
        case .continue: "c"
        case .reverse: "rc"
        case .break: "br"
        case .delete: "d"
        case .registers: "r"
        case .list: "l"
        case .maps: "m"
        case .runs: "w"
        case .help: "h"
        case .quit: "q"
        }
    }

    var meaning: String {
        switch self {
        case .step: "to the next line"
        case .back: "to the line before"
        case .instruction: "to the next instruction"
        case .backInstruction: "to the instruction before"
        case .continue: "to the next breakpoint, or the end"
        case .reverse: "to the breakpoint before, or the start"
        case .break: "break LINE | map NAME (what changes it) | call HELPER; alone: which there are"
        case .delete: "delete [LINE | map NAME | call HELPER]; alone: all breakpoints"
        case .registers: "registers, and what they point to"
        case .list: "the lines that this run comes to"
        case .maps: "what maps and variables hold now"
        case .runs: "all runs of the case"
        case .help: "this"
        case .quit: "the end; so is the end of the input"
        }
    }

    static var table: String {
        allCases.map { word in
            let pad = String(repeating: " ", count: max(1, 4 - word.short.count))
            return "\(word.short)\(pad)\(word.rawValue): \(word.meaning)"
        }.joined(separator: "\n") + "\nan empty line repeats the last command"
    }
}
