import Glibc
import Kernel
import Loader

/// Values of `extern … __kconfig` variables: what libbpf makes up, and the options the kernel was built with.
enum KernelConfiguration {
    /// Fills the variables of `.kconfig`; throws for one that is unknown and not weak.
    static func fill(_ map: inout MapSpec, of program: String) throws(Failure) {
        guard map.name == ".kconfig", let contents = map.contents else { return }
        let isKnown = !KernelOptions.shared.isEmpty
        for variable in map.variables where isKnown && !variable.isWeak && value(of: variable.name) == nil {
            throw .noKernelType(program, name: variable.name, hasBTF: true)
        }
        map.contents = filled(contents, map.variables) { value(of: $0) }
    }

    /// What programs in a process find: cookies are there whatever the kernel; what is not known is 0.
    static func inProcess(_ object: ObjectSpec) -> ObjectSpec {
        var object = object
        for index in object.maps.indices where object.maps[index].name == ".kconfig" {
            guard let contents = object.maps[index].contents else { continue }
            object.maps[index].contents = filled(contents, object.maps[index].variables) {
                $0 == "LINUX_HAS_BPF_COOKIE" ? .number(1) : value(of: $0)
            }
        }
        return object
    }

    private static func filled(
        _ contents: [UInt8],
        _ variables: [VariableSpec],
        _ value: (String) -> KernelOption?
    ) -> [UInt8] {
        var contents = contents
        for variable in variables where variable.size > 0 {
            let bytes: [UInt8]
            switch value(variable.name) {
            case nil: continue
            // `extern char`: y or m, as libbpf has it.
            case .number(let number) where variable.kind == .character && variable.size == 1 && number <= 2:
                bytes = [number == 1 ? UInt8(ascii: "y") : number == 2 ? UInt8(ascii: "m") : UInt8(ascii: "n")]
            case .number(let number):
                bytes = (0..<min(8, variable.size)).map { UInt8(truncatingIfNeeded: number >> (8 * UInt64($0))) }
            // Cut off, and always with an end, as by libbpf.
            case .text(let text): bytes = Array(text.utf8.prefix(max(0, variable.size - 1))) + [0]
            }
            contents.replaceSubrange(variable.offset..<variable.offset + bytes.count, with: bytes)
        }
        return contents
    }

    private static func value(of name: String) -> KernelOption? {
        switch name {
        case "LINUX_KERNEL_VERSION": .number(version())
        // x86-64 has had wrappers with registers in pt_regs since 4.17, cookies came with 5.15.
        case "LINUX_HAS_SYSCALL_WRAPPER": .number(KernelTypes.function("__x64_sys_bpf") == nil ? 0 : 1)
        case "LINUX_HAS_BPF_COOKIE": .number(KernelTypes.function("bpf_get_attach_cookie_trace") == nil ? 0 : 1)
        default: KernelOptions.shared[name]
        }
    }

    /// KERNEL_VERSION(a, b, c).
    private static func version() -> UInt64 {
        let parts = KernelOptions.release.split { $0 == "." || $0 == "-" }.prefix(3).map {
            UInt64($0.prefix { $0.isNumber }) ?? 0
        }
        return (0..<3).reduce(0) { $0 << 8 | min(255, $1 < parts.count ? parts[$1] : 0) }
    }
}
