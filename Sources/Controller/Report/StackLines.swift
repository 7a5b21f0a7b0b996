package import JSON
package import Symbols

/// One line of a printed stack: a frame, or why there is none.
package enum StackLine: Equatable, Sendable {
    case frame(number: Int, Frame)
    case note(String)

    /// `function+0x15`.
    package var name: String {
        switch self {
        case .frame(_, let frame): frame.name + (frame.isInlined ? " (inlined)" : "")
        case .note: ""
        }
    }

    /// `#0 cache_add+0x15  leaky.c:6 [leaky]`.
    package func text(nameWidth: Int) -> String {
        switch self {
        case .note(let text): return text
        case .frame(let number, let frame):
            var line = "#\(number) "
            let place = frame.file.map { "\(fileName(of: $0))\(frame.line.map { ":\($0)" } ?? "")" }
            if let place { line += aligned(name, to: nameWidth) + "  " + place } else { line += name }
            if let module = frame.module { line += " [\(fileName(of: module))]" }
            return line
        }
    }

    /// An element of a JSON stack; notes are none.
    package func write(to writer: inout JSONWriter) {
        guard case .frame(_, let frame) = self else { return }
        writer.object { object in
            object.member("addr", address: frame.address)
            if let function = frame.function { object.member("sym", function) }
            object.member("off", frame.function == nil ? frame.moduleOffset : frame.offset)
            if let file = frame.file { object.member("file", file) }
            if let line = frame.line { object.member("line", line) }
            if let module = frame.module { object.member("module", fileName(of: module)) }
            if frame.isInlined { object.member("inlined", true) }
        }
    }

    /// Names the addresses of a user stack, innermost first and ended by 0, as `bpf_get_stackid` stores them.
    ///
    /// The first one is where the probe was: a function's first byte for an entry probe, which is no return address.
    package static func lines(_ addresses: [UInt64], _ symbolizer: Symbolizer) -> [StackLine] {
        lines(addresses) { symbolizer.symbolize($0, isReturnAddress: $1) }
    }

    /// The same with any other way to find the functions at an address.
    static func lines(_ addresses: [UInt64], _ symbolize: (UInt64, _ isReturnAddress: Bool) -> [Frame]) -> [StackLine] {
        var lines: [StackLine] = []
        for (index, address) in addresses.prefix(while: { $0 != 0 }).enumerated() {
            var frames = symbolize(address, true)
            if index == 0 {
                let exact = symbolize(address, false)
                if exact.last?.function != nil, exact.last?.offset == 0 { frames = exact }
            }
            for frame in frames { lines.append(.frame(number: lines.count, frame)) }
        }
        return lines
    }

    /// Says why there is no stack, for a negative stack id.
    package static func missing(_ id: Int32) -> [StackLine] {
        let reason =
            switch id {
            case -17: "(no stack: its slot in the stack map is taken)"
            case -14: "(no stack: it could not be walked)"
            case -12, -7: "(no stack: the stack map is full)"
            default: "(no stack: \(errorText(id)))"
            }
        return [.note(reason)]
    }
}
