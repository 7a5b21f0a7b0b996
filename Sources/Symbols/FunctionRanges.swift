internal import CELF
internal import Glibc

/// Address ranges that a module's unwind tables describe: every piece of code a compiler made.
///
/// Read from the binary search table of `.eh_frame_hdr` and the FDEs it points to (Linux Standard Base Core, 10.6).
package struct UnwindRanges: Sendable {
    /// Sorted by start; virtual addresses.
    package let ranges: [Range<UInt64>]

    package init(ranges: [Range<UInt64>]) {
        self.ranges = ranges.sorted { $0.lowerBound < $1.lowerBound }
    }

    init(_ file: ELFFile) {
        let image = file.image
        guard let header = file.segments.first(where: { $0.type == UInt32(PT_GNU_EH_FRAME) }),
            let encodings = image.load(header.offset, as: UInt32.self),
            // version 1, frame pointer any 4-byte form, count udata4, table datarel|sdata4: what every linker writes.
            encodings & 0xFF == 1, encodings >> 16 & 0xFF == 0x03, encodings >> 24 == 0x3B,
            let count = image.load(header.offset + 8, as: UInt32.self)
        else {
            ranges = []
            return
        }
        var found: [Range<UInt64>] = []
        for index in 0..<UInt64(count) {
            guard let start = image.load(header.offset + 12 + index * 8, as: Int32.self),
                let record = image.load(header.offset + 16 + index * 8, as: Int32.self)
            else { break }
            let address = header.address &+ UInt64(bitPattern: Int64(start))
            // FDE: length, CIE pointer, pc begin, pc range; the range has the size of the pc's encoding, 4 in this table.
            guard let offset = file.fileOffset(of: header.address &+ UInt64(bitPattern: Int64(record))),
                let size = image.load(offset + 12, as: UInt32.self), size > 0
            else { continue }
            found.append(address..<address + UInt64(size))
        }
        ranges = found.sorted { $0.lowerBound < $1.lowerBound }
    }

    /// The range that holds `address`.
    package func range(containing address: UInt64) -> Range<UInt64>? {
        guard let index = lastIndex(startingAtOrBefore: address) else { return nil }
        return ranges[index].contains(address) ? ranges[index] : nil
    }

    func lastIndex(startingAtOrBefore address: UInt64) -> Int? {
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].lowerBound <= address { low = middle + 1 } else { high = middle }
        }
        return low == 0 ? nil : low - 1
    }
}
