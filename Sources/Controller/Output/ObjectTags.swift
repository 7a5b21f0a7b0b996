package import Loader

/// The `btf_decl_tag`s of an object, which say how its values are to be shown.
package struct ObjectTags: Sendable {
    private struct Member: Hashable {
        var type: UInt32
        var index: Int
    }

    private var members: [Member: String] = [:]
    private var owners: [(owner: UInt32, tag: String)] = []

    package init(_ btf: BTF) {
        for id in 0..<UInt32(btf.count) {
            guard let type = btf[id], type.kind == .declTag else { continue }
            if let index = btf.component(ofTag: type) {
                members[Member(type: type.target, index: index)] = btf.name(type)
            } else {
                owners.append((type.target, btf.name(type)))
            }
        }
    }

    /// The tag of a member of a struct.
    func tag(of type: UInt32, member index: Int) -> String? { members[Member(type: type, index: index)] }

    /// Maps that reports leave out: those tagged `hide`, and libbpf's own for the arguments of static probes.
    func hiddenMaps(in btf: BTF) -> Set<String> {
        names(tagged: "hide", .variable, in: btf).union(StaticProbeArguments.maps)
    }

    /// Names of the maps, variables or functions with a tag.
    func names(tagged tag: String, _ kind: BTF.Kind, in btf: BTF) -> Set<String> {
        let found = owners.filter { $0.tag == tag }.compactMap { btf[$0.owner] }.filter { $0.kind == kind }
        return Set(found.map { btf.name($0) })
    }
}

/// What a tag says about a member of a struct.
package enum MemberTag: Equatable, Sendable {
    /// Not shown.
    case hide
    /// A number in hexadecimal.
    case hex
    /// A number with its highest byte first, as ports in the kernel are.
    case bigEndian
    /// An IPv4 or IPv6 address: of 4 bytes, or of 16 with a member `family` beside it.
    case address
    /// CLOCK_MONOTONIC, in units of so many nanoseconds.
    case time(nanoseconds: UInt64)
    /// Return addresses, or a number of a STACK_TRACE map.
    case stack(StackKind)

    package enum StackKind: Equatable, Sendable { case kernel, user }

    init?(_ text: String) {
        switch text {
        case "hide": self = .hide
        case "hex": self = .hex
        case "be": self = .bigEndian
        case "ip", "ip4", "ip6": self = .address
        case "time:ns": self = .time(nanoseconds: 1)
        case "time:us": self = .time(nanoseconds: 1000)
        case "stack:kernel": self = .stack(.kernel)
        case "stack:user": self = .stack(.user)
        default: return nil
        }
    }

    /// Members that are called so in many programs, and need no tag.
    static func known(_ name: String) -> MemberTag? {
        switch name {
        case "kstack", "kern_stack", "kernel_stack", "kern_stack_id", "kernel_stack_id", "kstack_id", "kernstack_id":
            .stack(.kernel)
        case "ustack", "user_stack", "user_stack_id", "ustack_id": .stack(.user)
        case "saddr", "daddr", "saddr_v4", "daddr_v4", "saddr_v6", "daddr_v6": .address
        default: nil
        }
    }
}
