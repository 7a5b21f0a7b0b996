import Loader

/// Names of the kernel's code addresses, from /proc/kallsyms; without privileges it has none.
package struct KernelSymbols: Sendable {
    /// Those of the running kernel, read when first asked for.
    package static let shared = KernelSymbols((try? readFile("/proc/kallsyms")) ?? [])

    package struct Symbol: Equatable, Sendable {
        package var name: String
        package var offset: UInt64
        /// Of a function in a module, or `bpf` for a program.
        package var module: String?
    }

    private struct Entry {
        var address: UInt64
        /// Where name and module are in the text.
        var start: Int
    }

    private let text: [UInt8]
    private var entries: [Entry] = []

    /// Reads `ffffffff81000000 T name [module]` lines.
    package init(_ text: [UInt8]) {
        self.text = text
        entries.reserveCapacity(text.count / 45)
        var position = 0
        while position < text.count {
            var address: UInt64 = 0
            while position < text.count, let digit = Self.digit(text[position]) {
                address = address << 4 | UInt64(digit)
                position += 1
            }
            // Blank, letter, blank. t, T, w and W are code.
            if position + 3 < text.count, address != 0 {
                switch text[position + 1] {
                case UInt8(ascii: "t"), UInt8(ascii: "T"), UInt8(ascii: "w"), UInt8(ascii: "W"):
                    entries.append(Entry(address: address, start: position + 3))
                default: break
                }
            }
            while position < text.count, text[position] != 10 { position += 1 }
            position += 1
        }
        entries.sort { $0.address < $1.address }
    }

    package var isEmpty: Bool { entries.isEmpty }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        default: nil
        }
    }

    /// The function that holds an address; nil before the first one.
    package func symbol(at address: UInt64) -> Symbol? {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].address <= address { low = middle + 1 } else { high = middle }
        }
        guard low > 0 else { return nil }
        // Several names of one address: the first is the one that the kernel shows.
        var index = low - 1
        while index > 0, entries[index - 1].address == entries[index].address { index -= 1 }
        let (name, module) = names(entries[index])
        return Symbol(name: name, offset: address - entries[index].address, module: module)
    }

    /// Names of functions that fit, without those of programs.
    package func functions(where fits: (String) -> Bool) -> [String] {
        entries.compactMap { entry in
            let (name, module) = names(entry)
            return module != "bpf" && fits(name) ? name : nil
        }
    }

    private func names(_ entry: Entry) -> (String, module: String?) {
        var end = entry.start
        while end < text.count, text[end] != 10 { end += 1 }
        let parts = text[entry.start..<end].split { $0 == 9 || $0 == 32 }
        let name = String(decoding: parts.first ?? [], as: UTF8.self)
        guard parts.count > 1 else { return (name, nil) }
        // `[module]`
        return (name, String(decoding: parts[1].dropFirst().dropLast(), as: UTF8.self))
    }
}
