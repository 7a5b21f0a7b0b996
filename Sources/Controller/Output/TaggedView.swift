import Glibc
import Loader

/// Shows members of structs as their tags say.
package final class TaggedView {
    package typealias StackNames = (MemberTag.StackKind, StackSource, _ process: Int32?) -> [StackLine]

    /// Where the addresses of a stack are.
    package enum StackSource {
        /// Here, innermost first.
        case addresses([UInt64])
        /// In a STACK_TRACE map; negative: there is none, and why.
        case number(Int32)
    }

    private let tags: ObjectTags
    private let names: StackNames?

    /// Without `names`, stacks are shown as what they are stored as.
    package init(_ tags: ObjectTags, names: StackNames? = nil) {
        self.tags = tags
        self.names = names
    }

    /// The same with the tags of other types.
    func with(_ tags: ObjectTags) -> TaggedView { TaggedView(tags, names: names) }

    func tag(of type: UInt32, member index: Int, name: String, in btf: BTF) -> MemberTag? {
        let tag = tags.tag(of: type, member: index).flatMap { MemberTag($0) } ?? MemberTag.known(name)
        if case .stack = tag, names == nil { return nil }
        return tag
    }

    /// Whether a struct has a stack.
    func hasStack(_ id: UInt32, in btf: BTF) -> Bool {
        guard let type = btf.underlying(id), type.kind == .structure else { return false }
        return (0..<type.count).contains { index in
            let tag = tag(of: type.id, member: index, name: btf.name(btf.member(type, index)), in: btf)
            if case .stack = tag { return true }
            return false
        }
    }

    /// The value of a tagged member; nil for one that is not shown.
    func value(
        _ tag: MemberTag,
        _ bytes: ArraySlice<UInt8>,
        of field: TypedValue.Field,
        in record: TypedValue
    ) -> TypedValue? {
        let number = bytes.count <= 8 ? littleEndian(Array(bytes), at: 0, size: bytes.count) : nil
        switch tag {
        case .hide: return nil
        case .hex: return number.map { .address($0) } ?? field.value
        case .bigEndian: return number == nil ? field.value : .unsigned(bytes.reduce(0) { $0 << 8 | UInt64($1) })
        case .address:
            return Self.address(Array(bytes), family: Self.family(of: record)).map { .text($0) } ?? field.value
        case .time(let unit): return number.map { .time($0 &* unit) } ?? field.value
        case .stack(let kind): return stack(kind, field, in: record) ?? field.value
        }
    }

    // MARK: Addresses

    private static func family(of record: TypedValue) -> UInt64? {
        for name in ["family", "af", "address_family"] {
            if let family = record[name]?.number { return family }
        }
        return nil
    }

    /// An address as inet_ntop(3) writes it; `any` where the record has none.
    static func address(_ bytes: [UInt8], family: UInt64?) -> String? {
        let isShort: Bool
        switch (bytes.count, family) {
        case (_, 0?): return "any"
        case (4, _), (16, 2?): isShort = true
        case (16, _): isShort = false
        default: return nil
        }
        var text = [CChar](repeating: 0, count: 64)
        let done = unsafe inet_ntop(isShort ? AF_INET : AF_INET6, bytes, &text, socklen_t(text.count))
        guard unsafe done != nil else { return nil }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    // MARK: Stacks

    /// The process that a record or key is about, by the members that say so in most programs.
    static func process(of record: TypedValue) -> Int32? {
        (record["tgid"] ?? record["pid"])?.number.flatMap { Int32(exactly: $0) }
    }

    private func stack(_ kind: MemberTag.StackKind, _ field: TypedValue.Field, in record: TypedValue) -> TypedValue? {
        guard let names else { return nil }
        let process = Self.process(of: record)
        switch field.value {
        case .list(let elements):
            var addresses = elements.compactMap { element -> UInt64? in
                switch element {
                case .unsigned(let number), .address(let number): number
                default: nil
                }
            }
            guard addresses.count == elements.count else { return nil }
            // What bpf_get_stack returned; memory behind it may be anything.
            for suffix in ["_sz", "_size", "_bytes"] {
                switch record[field.name + suffix] {
                case .signed(let size): addresses = Array(addresses.prefix(Int(max(0, size)) / 8))
                case .unsigned(let size): addresses = Array(addresses.prefix(Int(min(size, 1 << 20)) / 8))
                default: break
                }
            }
            return .stack(names(kind, .addresses(addresses), process))
        case .signed(let id): return .stack(names(kind, .number(Int32(truncatingIfNeeded: id)), process))
        case .unsigned(let id): return .stack(names(kind, .number(Int32(truncatingIfNeeded: id)), process))
        default: return nil
        }
    }
}

/// Readings of CLOCK_MONOTONIC as times of day.
enum WallClock {
    /// Nanoseconds since 1970 when CLOCK_MONOTONIC was 0; steps of the clock during a run are not followed.
    private static let start: UInt64 = {
        var now = timespec()
        _ = unsafe clock_gettime(CLOCK_REALTIME, &now)
        return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec) &- monotonicNanoseconds()
    }()

    /// `HH:MM:SS.mmm`, local.
    static func text(_ monotonic: UInt64) -> String {
        let (seconds, nanoseconds) = (start &+ monotonic).quotientAndRemainder(dividingBy: 1_000_000_000)
        return formatted(seconds, "%H:%M:%S", isLocal: true) + "."
            + padded(String(nanoseconds / 1_000_000), to: 3, with: "0")
    }

    /// RFC 3339, UTC, with microseconds.
    static func date(_ monotonic: UInt64) -> String {
        let (seconds, nanoseconds) = (start &+ monotonic).quotientAndRemainder(dividingBy: 1_000_000_000)
        return formatted(seconds, "%Y-%m-%dT%H:%M:%S", isLocal: false) + "."
            + padded(String(nanoseconds / 1000), to: 6, with: "0") + "Z"
    }

    private static func formatted(_ seconds: UInt64, _ format: String, isLocal: Bool) -> String {
        var seconds = time_t(truncatingIfNeeded: seconds)
        var parts = unsafe tm()
        let found = unsafe isLocal ? localtime_r(&seconds, &parts) : gmtime_r(&seconds, &parts)
        guard unsafe found != nil else { return "" }
        var text = [CChar](repeating: 0, count: 40)
        let length = unsafe strftime(&text, text.count, format, &parts)
        return String(decoding: text[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
