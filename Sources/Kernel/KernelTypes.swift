package import Loader
internal import Synchronization

/// The running kernel's types, read once.
package enum KernelTypes {
    /// Nil where the kernel was built without BTF.
    package static let shared: BTF? = {
        guard let bytes = try? readFile("/sys/kernel/btf/vmlinux") else { return nil }
        return try? BTF(bytes, name: "/sys/kernel/btf/vmlinux")
    }()

    /// The kernel's types with those of each loaded module that has a type of this name (Linux 5.11).
    package static func modules(naming name: String) -> [BTF] {
        guard let shared else { return [] }
        return found.withLock { found in
            if let known = found[name] { return known }
            let joined = moduleFiles.compactMap { path -> BTF? in
                guard let bytes = try? readFile(path), shared.isNamed(name, inModule: bytes) else { return nil }
                return try? shared.joined(withModule: bytes, name: path)
            }
            found[name] = joined
            return joined
        }
    }

    /// By name: several relocations ask for one type.
    private static let found = Mutex<[String: [BTF]]>([:])

    private static let moduleFiles: [String] = {
        let directory = "/sys/kernel/btf"
        return TraceFiles.list(directory).filter { $0 != "vmlinux" }.map { "\(directory)/\($0)" }
    }()

    /// What a `tp_btf` program is for: the id of the typedef of the tracepoint's handler.
    package static func tracepoint(_ name: String) -> UInt32? { find("btf_trace_\(name)", .typedef) }

    package static func function(_ name: String) -> UInt32? { find(name, .function) }

    /// A variable or function that a program takes the address of.
    package static func symbol(_ name: String) -> UInt32? { find(name, .variable) ?? find(name, .function) }

    /// What an `iter` program is for: the id of the function that describes its context.
    package static func iterator(_ name: String) -> UInt32? { find("bpf_iter_\(name)", .function) }

    private static func find(_ name: String, _ kind: BTF.Kind) -> UInt32? {
        guard let shared else { return nil }
        return shared.types(named: name).first { shared[$0]?.kind == kind }
    }
}

/// How many CPUs the kernel may ever have: the copies of a per-CPU value.
package let possibleCPUs: Int = {
    guard let bytes = try? readFile("/sys/devices/system/cpu/possible") else { return 1 }
    let text = String(decoding: bytes, as: UTF8.self)
    let last = text.split { $0 == "-" || $0 == "," || $0 == "\n" }.last.flatMap { Int($0) }
    return (last ?? 0) + 1
}()
