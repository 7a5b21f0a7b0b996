import CRuntime
import ISA
import Runtime

/// A call of a helper, as a run made it.
public struct HelperCall: Equatable, Sendable, CustomStringConvertible {
    /// Name without `bpf_`, like `map_update_elem`.
    public let helper: String
    /// r1 to r5; those that the helper does not take hold anything.
    public let arguments: [UInt64]
    /// The map that it works on.
    public let map: String?
    /// What it returned.
    public let result: Int64
    /// Whether a fault made it fail.
    public let isInjected: Bool

    /// Like `map_update_elem(allocs) = -7`.
    public var description: String { "\(helper)(\(map ?? "")) = \(result)\(isInjected ? " (injected)" : "")" }
}

/// A helper's call while it is answered by a mock: arguments, and the program's memory behind them.
@safe
public struct MockCall {
    /// Name without `bpf_`.
    public let helper: String
    /// r1 to r5.
    public let arguments: [UInt64]
    /// Which call of this helper it is in this ``VM``, from 1.
    public let number: Int
    let context: UnsafeMutablePointer<cruntime_context>

    /// Bytes of the program's own memory that an argument points to; nil where it may not read there.
    public func bytes(_ argument: Int, count: Int) -> [UInt8]? {
        let address = arguments[argument]
        guard unsafe guestMayRead(context, address, UInt64(count)),
            let pointer = unsafe UnsafeRawPointer(bitPattern: UInt(address))
        else { return nil }
        return unsafe [UInt8](UnsafeRawBufferPointer(start: pointer, count: count))
    }

    /// Writes to the program's memory that an argument points to; false where it may not write there.
    @discardableResult
    public func write(_ bytes: [UInt8], to argument: Int) -> Bool {
        let address = arguments[argument]
        guard unsafe guestMayWrite(context, address, UInt64(bytes.count)),
            let pointer = unsafe UnsafeMutableRawPointer(bitPattern: UInt(address))
        else { return false }
        unsafe pointer.copyMemory(from: bytes, byteCount: bytes.count)
        return true
    }
}

/// Replaces a helper: what it returns becomes r0.
public typealias Mock = (MockCall) -> Int64

/// A helper that is to fail.
struct Fault {
    let helper: UInt32
    /// Session index of the map; nil for any.
    let map: Int?
    /// Which of the calls that match, from 1; nil for all of them.
    let nth: Int?
    let errno: Errno
    var seen = 0

    /// Counts a call and says whether it is to fail.
    mutating func strikes(helper: UInt32, map: Int?) -> Bool {
        guard helper == self.helper, self.map == nil || self.map == map else { return false }
        seen += 1
        return nth == nil || nth == seen
    }
}

/// What is known of helpers by number.
enum HelperFacts {
    /// Name without `bpf_`.
    static func name(_ number: UInt32) -> String {
        guard let helper = Helper(rawValue: number) else { return "helper \(number)" }
        return String(helper.name.dropFirst(4))
    }

    /// Number of a helper by its name with or without `bpf_`.
    static func number(_ name: String) -> UInt32? {
        numbers[name.hasPrefix("bpf_") ? String(name.dropFirst(4)) : name]
    }

    private static let numbers = Dictionary(
        Helper.allCases.map { (String($0.name.dropFirst(4)), $0.rawValue) },
        uniquingKeysWith: { first, _ in first }
    )

    /// Names without `bpf_`, for messages.
    static var names: [String] { numbers.keys.sorted() }

    /// Whether failure is a null pointer, not a negative number.
    static func returnsPointer(_ number: UInt32) -> Bool {
        switch number {
        // map_lookup_elem, sk_lookup_*, ringbuf_reserve, per_cpu_ptr, task and storage getters, map_lookup_percpu_elem
        case 1, 84, 85, 99, 95, 96, 98, 107, 131, 136, 137, 138, 139, 140, 153, 156, 195: true
        default: false
        }
    }

    /// Which argument is a map, from 0.
    static func mapArgument(_ number: UInt32) -> Int? {
        switch number {
        case 1, 2, 3, 51, 87, 88, 89, 130, 131, 134, 164, 195, 209: 0
        case 12, 22, 25, 27, 55: 1
        default: nil
        }
    }
}
