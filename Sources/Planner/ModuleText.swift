package import Symbols

/// The code of one module at its run-time addresses, and what is known of its layout.
package final class ModuleText {
    /// Run-time address of `bytes[0]`.
    package let start: UInt64
    package let bytes: [UInt8]
    /// Functions by symbol, and code with unwind information; run-time addresses.
    package let functions: UnwindRanges
    package let unwind: UnwindRanges
    /// All of those merged, disjoint and sorted: what lies outside belongs to no known code.
    private let covered: [Range<UInt64>]
    /// Every address in the text that four bytes after a jmp, jcc or call opcode may name; sorted.
    private lazy var branchTargets: [UInt32] = findBranchTargets()

    package init(start: UInt64, bytes: [UInt8], functions: UnwindRanges, unwind: UnwindRanges) {
        self.start = start
        self.bytes = bytes
        self.functions = functions
        self.unwind = unwind
        var merged: [Range<UInt64>] = []
        for range in (functions.ranges + unwind.ranges).sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = merged.last, range.lowerBound <= last.upperBound {
                merged[merged.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
            } else {
                merged.append(range)
            }
        }
        covered = merged
    }

    /// The executable segment of a module around a virtual address, moved to its load bias.
    package convenience init?(symbols: ModuleSymbols, containing address: UInt64, bias: UInt64) {
        guard let segment = symbols.executableSegment(containing: address) else { return nil }
        let move: (Range<UInt64>) -> Range<UInt64> = { $0.lowerBound &+ bias..<$0.upperBound &+ bias }
        self.init(
            start: segment.start &+ bias,
            bytes: segment.bytes,
            functions: UnwindRanges(ranges: symbols.functionRanges.ranges.map(move)),
            unwind: UnwindRanges(ranges: symbols.unwindRanges.ranges.map(move))
        )
    }

    package var end: UInt64 { start + UInt64(bytes.count) }

    /// Bytes of a range, as far as they lie in the text.
    package func code(_ range: Range<UInt64>) -> ArraySlice<UInt8> {
        let low = max(range.lowerBound, start)
        let high = min(range.upperBound, end)
        guard low < high else { return [] }
        return bytes[Int(low - start)..<Int(high - start)]
    }

    /// Gaps between known code that touch `range`.
    func gaps(near range: Range<UInt64>) -> [Range<UInt64>] {
        var low = 0
        var high = covered.count
        while low < high {
            let middle = (low + high) / 2
            if covered[middle].upperBound < range.lowerBound { low = middle + 1 } else { high = middle }
        }
        var found: [Range<UInt64>] = []
        var index = low
        while index < covered.count, covered[index].upperBound < range.upperBound {
            let next = index + 1 < covered.count ? covered[index + 1].lowerBound : end
            if covered[index].upperBound < next { found.append(covered[index].upperBound..<next) }
            index += 1
        }
        return found
    }

    /// The smallest known function or unwind range that ends at `address`.
    func code(endingAt address: UInt64) -> Range<UInt64>? {
        [functions.range(containing: address - 1), unwind.range(containing: address - 1)]
            .compactMap { $0 }
            .filter { $0.upperBound == address && $0.lowerBound < address }
            .max { $0.lowerBound < $1.lowerBound }
    }

    /// Whether a function symbol or an unwind range begins inside the range.
    func beginsCode(in range: Range<UInt64>) -> Bool {
        for ranges in [functions, unwind] {
            var low = 0
            var high = ranges.ranges.count
            while low < high {
                let middle = (low + high) / 2
                if ranges.ranges[middle].lowerBound < range.lowerBound { low = middle + 1 } else { high = middle }
            }
            if low < ranges.ranges.count, ranges.ranges[low].lowerBound < range.upperBound { return true }
        }
        return false
    }

    /// Whether any bytes of the text could be a 32-bit jump, branch or call into the range.
    ///
    /// Looks at every byte position, not at decoded instructions: finds every such branch and, rarely, one that is none.
    func mayBranch(into range: Range<UInt64>) -> Bool {
        guard range.lowerBound >= start, range.upperBound <= end, !range.isEmpty else { return false }
        let first = UInt32(range.lowerBound - start)
        var low = 0
        var high = branchTargets.count
        while low < high {
            let middle = (low + high) / 2
            if branchTargets[middle] < first { low = middle + 1 } else { high = middle }
        }
        return low < branchTargets.count && UInt64(branchTargets[low]) < range.upperBound - start
    }

    private func findBranchTargets() -> [UInt32] {
        var found: [UInt32] = []
        unsafe bytes.withUnsafeBytes { text in
            guard text.count > 5 else { return }
            for index in 1..<(text.count - 4) {
                let opcode = unsafe text[index]
                let isBranch: Bool
                if opcode == 0xE8 || opcode == 0xE9 {
                    isBranch = true
                } else if opcode & 0xF0 == 0x80 {
                    unsafe isBranch = text[index - 1] == 0x0F
                } else {
                    isBranch = false
                }
                guard isBranch else { continue }
                let displacement = unsafe text.loadUnaligned(fromByteOffset: index + 1, as: Int32.self)
                let target = index + 5 + Int(displacement)
                if target >= 0, target < text.count { found.append(UInt32(target)) }
            }
        }
        found.sort()
        return found
    }
}

extension ModuleText {
    /// Address of a byte in `source` that could begin a 32-bit jump or branch into `target`.
    func mayJump(from source: Range<UInt64>, into target: Range<UInt64>) -> UInt64? {
        let code = code(source)
        for index in code.indices.dropLast(4) {
            let isBranch = code[index] == 0xE9 || (code[index] & 0xF0 == 0x80 && index > 0 && bytes[index - 1] == 0x0F)
            guard isBranch else { continue }
            var displacement: UInt32 = 0
            for byte in 0..<4 { displacement |= UInt32(code[index + 1 + byte]) << UInt32(8 * byte) }
            let address = start + UInt64(index)
            let to = address &+ 5 &+ UInt64(bitPattern: Int64(Int32(bitPattern: displacement)))
            if target.contains(to) { return address }
        }
        return nil
    }
}
