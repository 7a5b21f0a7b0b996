import Glibc
import Kernel
import Loader

/// Values of `extern … __kconfig` variables: what libbpf makes up, and the options the kernel was built with.
enum KernelConfiguration {
    /// Fills the variables of `.kconfig`; throws for one that is unknown and not weak.
    static func fill(_ map: inout MapSpec, of program: String) throws(Failure) {
        guard map.name == ".kconfig", let contents = map.contents else { return }
        for variable in map.variables where value(of: variable.name) == nil && !variable.isWeak && !options.isEmpty {
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
                $0 == "LINUX_HAS_BPF_COOKIE" ? 1 : value(of: $0)
            }
        }
        return object
    }

    private static func filled(
        _ contents: [UInt8],
        _ variables: [VariableSpec],
        _ value: (String) -> UInt64?
    ) -> [UInt8] {
        var contents = contents
        for variable in variables {
            guard let number = value(variable.name) else { continue }
            for index in 0..<min(8, variable.size) {
                contents[variable.offset + index] = UInt8(truncatingIfNeeded: number >> (8 * UInt64(index)))
            }
        }
        return contents
    }

    private static func value(of name: String) -> UInt64? {
        switch name {
        case "LINUX_KERNEL_VERSION": version()
        // x86-64 has had wrappers with registers in pt_regs since 4.17, cookies came with 5.15.
        case "LINUX_HAS_SYSCALL_WRAPPER": KernelTypes.function("__x64_sys_bpf") == nil ? 0 : 1
        case "LINUX_HAS_BPF_COOKIE": KernelTypes.function("bpf_get_attach_cookie_trace") == nil ? 0 : 1
        default: options[name]
        }
    }

    private static var release: String {
        var name = utsname()
        guard unsafe uname(&name) == 0 else { return "" }
        return unsafe withUnsafeBytes(of: name.release) { raw in
            unsafe String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    /// KERNEL_VERSION(a, b, c).
    private static func version() -> UInt64 {
        let parts = release.split { $0 == "." || $0 == "-" }.prefix(3).map { UInt64($0.prefix { $0.isNumber }) ?? 0 }
        return (0..<3).reduce(0) { $0 << 8 | min(255, $1 < parts.count ? parts[$1] : 0) }
    }

    /// y is 1, m is 2 (libbpf's `TRI_YES`, `TRI_MODULE`), numbers are themselves.
    private static let options: [String: UInt64] = {
        guard case .success(let bytes) = readFile("/boot/config-\(release)") else { return [:] }
        var result: [String: UInt64] = [:]
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") where line.hasPrefix("CONFIG_") {
            let parts = line.split(separator: "=", maxSplits: 1)
            guard parts.count == 2 else { continue }
            switch parts[1] {
            case "y": result[String(parts[0])] = 1
            case "m": result[String(parts[0])] = 2
            default: result[String(parts[0])] = parseUnsigned(String(parts[1]))
            }
        }
        return result
    }()
}
