import Runtime
import Symbols

/// The arguments of a static probe as programs with libbpf's `usdt.bpf.h` read them (`struct __bpf_usdt_spec`).
struct StaticProbeArguments {
    /// The map that they are in.
    static let map = "__bpf_usdt_specs"

    /// The maps of `usdt.bpf.h`, whose elements are not the programs' but ours.
    static let maps: Set<String> = [map, "__bpf_usdt_ip_to_spec_id"]

    let bytes: [UInt8]

    /// Where a value is (`enum __bpf_usdt_arg_type`).
    private enum Location {
        case constant(Int64)
        case register(Int)
        case memory(register: Int, offset: Int64)
    }

    /// The registers of x86-64 in `struct pt_regs`, by the names of their parts.
    private static let registers: [String: Int] = {
        var offsets: [String: Int] = [:]
        let numbered = [
            ("r15", 0), ("r14", 8), ("r13", 16), ("r12", 24), ("r11", 48), ("r10", 56), ("r9", 64), ("r8", 72),
        ]
        for (name, offset) in numbered { for suffix in ["", "d", "w", "b"] { offsets[name + suffix] = offset } }
        let named = [("bp", 32), ("bx", 40), ("ax", 80), ("cx", 88), ("dx", 96), ("si", 104), ("di", 112), ("sp", 152)]
        for (name, offset) in named {
            for prefix in ["r", "e", ""] { offsets[prefix + name] = offset }
            // al, bl; sil, bpl.
            offsets[name.hasSuffix("x") ? "\(name.prefix(1))l" : "\(name)l"] = offset
        }
        offsets["rip"] = 128
        return offsets
    }()

    /// Reads `8@%rdi -4@$1 8@-16(%rbp)`; `size` is that of the map's values.
    init(_ probe: StaticProbe, size: Int) throws(Failure) {
        var bytes = [UInt8](repeating: 0, count: size)
        let arguments = probe.arguments.split(separator: " ")
        guard size >= 202, arguments.count <= 12 else {
            throw .unknownArguments(probe.name, probe.arguments)
        }
        for (index, argument) in arguments.enumerated() {
            let parts = argument.split(separator: "@", maxSplits: 1)
            guard parts.count == 2, let width = Int(parts[0].filter { $0.isNumber || $0 == "-" }),
                (1...8).contains(abs(width)), let location = Self.location(String(parts[1]))
            else { throw .unknownArguments(probe.name, String(argument)) }
            let value: Int64
            let type: UInt8
            let register: Int
            switch location {
            case .constant(let number): (type, value, register) = (0, number, 0)
            case .register(let offset): (type, value, register) = (1, 0, offset)
            case .memory(let offset, let displacement): (type, value, register) = (2, displacement, offset)
            }
            let at = 16 * index
            for byte in 0..<8 { bytes[at + byte] = UInt8(truncatingIfNeeded: value >> (8 * Int64(byte))) }
            bytes[at + 8] = type
            bytes[at + 12] = UInt8(register)
            bytes[at + 14] = width < 0 ? 1 : 0
            bytes[at + 15] = UInt8(64 - 8 * abs(width))
        }
        bytes[200] = UInt8(arguments.count)
        self.bytes = bytes
    }

    private static func location(_ text: String) -> Location? {
        if text.hasPrefix("$") { return Int64(text.dropFirst()).map { .constant($0) } }
        if text.hasPrefix("%") { return registers[String(text.dropFirst())].map { .register($0) } }
        guard let open = text.firstIndex(of: "("), text.hasSuffix(")") else { return nil }
        let inner = text[text.index(after: open)...].dropLast()
        guard inner.hasPrefix("%"), let register = registers[String(inner.dropFirst())] else { return nil }
        let offset = text[..<open]
        guard let displacement = offset.isEmpty ? 0 : Int64(offset) else { return nil }
        return .memory(register: register, offset: displacement)
    }
}

/// Which element of the map has the arguments of each static probe: programs find it by the cookie that they are attached with.
package final class StaticProbeNumbers {
    private var known: [String: Int] = [:]

    /// The number of a probe's arguments; `put` is called for those that are new.
    func number(
        of probe: StaticProbe,
        size: Int,
        _ put: (Int, [UInt8]) throws(Failure) -> Void
    ) throws(Failure) -> UInt64 {
        if let number = known[probe.arguments] { return UInt64(number) }
        let number = known.count
        try put(number, try StaticProbeArguments(probe, size: size).bytes)
        known[probe.arguments] = number
        return UInt64(number)
    }
}

/// The map of a session that programs in processes find the arguments in.
package struct StaticProbeMap {
    private let map: MapView
    private let numbers = StaticProbeNumbers()

    init(_ map: MapView) { self.map = map }

    func number(of probe: StaticProbe) throws(Failure) -> UInt64 {
        let map = map
        return try numbers.number(of: probe, size: Int(map.valueSize)) { (number, bytes) throws(Failure) in
            var key = UInt32(number)
            let status = unsafe bytes.withUnsafeBytes { bytes -> Int64 in
                guard let value = bytes.baseAddress else { return -1 }
                return unsafe map.update(&key, value, flags: 0, tid: 1, slot: 0)
            }
            guard status == 0 else { throw .unknownArguments(probe.name, "there is no room for more") }
        }
    }
}
