import JSON

/// One outstanding allocation, as memleak's `allocs` map holds it (`struct alloc_info` in bcc's memleak.h).
package struct Allocation: Equatable, Sendable {
    package var address: UInt64
    package var size: UInt64
    /// CLOCK_MONOTONIC, nanoseconds.
    package var timestamp: UInt64
    /// Key into `stack_traces`; negative: -errno, no stack was stored.
    package var stack: Int32

    package init(address: UInt64, size: UInt64, timestamp: UInt64, stack: Int32) {
        self.address = address
        self.size = size
        self.timestamp = timestamp
        self.stack = stack
    }

    /// Reads an entry of `allocs`; nil when it is too short to be one.
    package init?(key: [UInt8], value: [UInt8]) {
        guard key.count >= 8, value.count >= 20 else { return nil }
        self.init(
            address: littleEndian(key, at: 0, size: 8),
            size: littleEndian(value, at: 0, size: 8),
            timestamp: littleEndian(value, at: 8, size: 8),
            stack: Int32(truncatingIfNeeded: littleEndian(value, at: 16, size: 4))
        )
    }
}

/// Which allocations a report shows.
package struct LeakSelection: Equatable, Sendable {
    /// Places, by bytes.
    package var top = 10
    /// Younger ones are left out.
    package var olderMilliseconds: UInt64 = 0

    package init(top: Int = 10, olderMilliseconds: UInt64 = 0) {
        self.top = top
        self.olderMilliseconds = olderMilliseconds
    }
}

/// Outstanding allocations grouped by the place they were made at.
package struct LeakReport: Equatable, Sendable {
    package struct Place: Equatable, Sendable {
        package var stack: Int32
        package var bytes: UInt64
        package var count: UInt64
        /// Age of the oldest one.
        package var oldestMilliseconds: UInt64
    }

    /// By bytes, largest first; all of them, also those that `top` leaves out.
    package var places: [Place]
    package var bytes: UInt64
    package var count: UInt64
    /// Allocations without a stack; they are in the totals and make one place per reason.
    package var missedStacks: UInt64
    package var missedBytes: UInt64
    /// Left out for being younger than asked.
    package var younger: UInt64

    package init(_ allocations: some Sequence<Allocation>, now: UInt64, selection: LeakSelection) {
        var byStack: [Int32: Place] = [:]
        bytes = 0
        count = 0
        missedStacks = 0
        missedBytes = 0
        younger = 0
        for allocation in allocations {
            let age = now > allocation.timestamp ? (now - allocation.timestamp) / 1_000_000 : 0
            if age < selection.olderMilliseconds {
                younger += 1
                continue
            }
            count += 1
            bytes &+= allocation.size
            if allocation.stack < 0 {
                missedStacks += 1
                missedBytes &+= allocation.size
            }
            var place =
                byStack[allocation.stack]
                ?? Place(stack: allocation.stack, bytes: 0, count: 0, oldestMilliseconds: 0)
            place.bytes &+= allocation.size
            place.count += 1
            place.oldestMilliseconds = max(place.oldestMilliseconds, age)
            byStack[allocation.stack] = place
        }
        places = byStack.values.sorted { ($0.bytes, $0.count, $1.stack) > ($1.bytes, $1.count, $0.stack) }
    }

    /// From `combined_allocs`, which packs 40 bits of bytes and 24 bits of count per stack (bcc's memleak.h).
    package init(combined entries: some Sequence<(key: [UInt8], value: [UInt8])>) {
        bytes = 0
        count = 0
        missedStacks = 0
        missedBytes = 0
        younger = 0
        places = []
        for (key, value) in entries where key.count >= 4 && value.count >= 8 {
            let packed = littleEndian(value, at: 0, size: 8)
            let place = Place(
                stack: Int32(truncatingIfNeeded: littleEndian(key, at: 0, size: min(8, key.count))),
                bytes: packed & 0xff_ffff_ffff,
                count: packed >> 40,
                oldestMilliseconds: 0
            )
            if place.bytes == 0 && place.count == 0 { continue }
            bytes += place.bytes
            count += place.count
            if place.stack < 0 {
                missedStacks += place.count
                missedBytes += place.bytes
            }
            places.append(place)
        }
        places.sort { ($0.bytes, $0.count, $1.stack) > ($1.bytes, $1.count, $0.stack) }
    }

    /// What the object's probes counted, for the first line.
    package struct Calls: Equatable, Sendable {
        package var allocations: UInt64
        package var frees: UInt64

        package init(allocations: UInt64, frees: UInt64) {
            self.allocations = allocations
            self.frees = frees
        }
    }

    /// The report for people, which begins with `heading`; `stack` gives the lines of a stack id.
    package func text(
        top: Int,
        calls: Calls?,
        heading: String,
        stack: (Int32) -> [StackLine]
    ) -> String {
        var lines = [
            "\(heading) \(bytes) bytes in \(counted(count, "allocation")), \(counted(places.count, "place"))"
                + (calls.map { " (\(counted($0.allocations, "call")), \($0.frees) frees)" } ?? "")
        ]
        for place in places.prefix(top) {
            let share = bytes == 0 ? 0 : Double(place.bytes) * 100 / Double(bytes)
            lines.append("\(place.bytes) B in \(counted(place.count, "alloc"))  (\(Int(share.rounded())) %)")
            let frames = stack(place.stack)
            let width = min(40, frames.map { $0.name.count }.max() ?? 0)
            for frame in frames { lines.append("  " + frame.text(nameWidth: width)) }
        }
        if places.count > top {
            let rest = places.dropFirst(top)
            lines.append(
                "… \(counted(rest.count, "more place")) with \(rest.reduce(0) { $0 + $1.bytes }) bytes (--top \(places.count))"
            )
        }
        return lines.joined(separator: "\n")
    }

    /// One record of `type` per place.
    package func records(top: Int, type: String = "leak", stack: (Int32) -> [StackLine]) -> [String] {
        places.prefix(top).map { place in
            var writer = JSONWriter()
            writer.object { record in
                record.member("type", type)
                record.key("data")
                record.object { data in
                    data.member("bytes", place.bytes)
                    data.member("count", place.count)
                    data.member("oldest_ms", place.oldestMilliseconds)
                    data.member("stack_id", place.stack)
                    data.key("stack")
                    data.array { list in for frame in stack(place.stack) { frame.write(to: &list) } }
                }
            }
            return writer.text
        }
    }
}

/// `size` bytes as a number.
package func littleEndian(_ bytes: [UInt8], at offset: Int, size: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in (0..<size).reversed() where offset + index < bytes.count {
        value = value << 8 | UInt64(bytes[offset + index])
    }
    return value
}
