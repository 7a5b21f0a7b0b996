import ISA

/// What a walk does, instruction by instruction, with what changes in registers and on the stack.
///
/// The form is that of the kernel's log at level 2; it ends after `limit` lines, the walk does not.
package final class WalkLog {
    package private(set) var lines: [String] = []
    /// Lines that did not fit.
    package private(set) var omitted = 0
    private let limit: Int
    private let disassembler: Disassembler
    private var known: [String: String] = [:]
    private var depth = 0
    private var isNewPath = true

    package init(limit: Int, mapNames: [String]) {
        self.limit = limit
        disassembler = Disassembler { mapNames.indices.contains(Int($0)) ? mapNames[Int($0)] : nil }
    }

    /// The walk is about to do an instruction.
    func arrive(_ walk: Walk) {
        if lines.count >= limit {
            omitted += 1
            return
        }
        let frame = walk.state.frames[walk.state.depth]
        var now: [String: String] = [:]
        var changes: [String] = []
        func note(_ place: String, _ value: String) {
            now[place] = value
            if known[place] != value { changes.append("\(place) = \(value)") }
        }
        for register in Register.allCases where register != .r10 && frame[register].kind != .none {
            note("r\(register.rawValue)", text(frame[register], walk))
        }
        for (index, slot) in frame.stack.enumerated() where slot.bytes != 0 {
            let value = slot.holdsRegister ? text(slot.spilled, walk) : slot.isAll(.zero) ? "0" : "data"
            note("r10-\(8 * (index + 1))", value)
        }
        let error = walk.layout.error(.empty, at: walk.pc, "")
        if isNewPath || depth != walk.state.depth {
            if isNewPath { lines.append("path, frame \(walk.state.depth):") }
            if !changes.isEmpty { lines.append("    ; " + changes.joined(separator: ", ")) }
        } else if !changes.isEmpty, let last = lines.last {
            lines[lines.count - 1] = last + "  ; " + changes.joined(separator: ", ")
        }
        lines.append("  \(error.slot): \(disassembler.text(walk.layout.instructions[walk.pc]))")
        (known, depth, isNewPath) = (now, walk.state.depth, false)
    }

    /// The present path goes no further.
    func end(_ reason: String) {
        if lines.count < limit { lines.append("  \(reason)") }
        (known, isNewPath) = ([:], true)
    }

    private func text(_ value: RegisterState, _ walk: Walk) -> String {
        var text = walk.describe(value)
        guard value.isPointer else { return text }
        if let offset = value.constantOffset {
            if offset != 0 { text += offset < 0 ? " \(offset)" : " +\(offset)" }
        } else {
            text += " +\(value.offsets.lowerBound)…\(value.offsets.upperBound)"
        }
        return text
    }
}
