import Glibc
import JSON

/// What this machine allows, a line for each thing, with the fix for what it does not: `ubpfrun doctor`.
package struct Doctor {
    package struct Finding: Equatable, Sendable {
        package enum Verdict: String, Sendable { case good = "ok", missing, limited }
        package var name: String
        package var verdict: Verdict
        package var detail: String
        package var fix: String?
    }

    package let findings: [Finding]

    package init(_ installation: Installation) {
        findings = [
            Self.library(installation), Self.compiler(), Self.headers(installation), Self.btf(), Self.selfMemory(),
            Self.yama(), Self.unprivilegedBPF(),
        ]
    }

    package var text: String {
        findings.map { finding in
            "\(aligned(finding.verdict.rawValue, to: 8)) \(aligned(finding.name, to: 20)) \(finding.detail)"
                + (finding.fix.map { "\n\(padded("", to: 30))fix: \($0)" } ?? "")
        }.joined(separator: "\n")
    }

    package var json: String {
        var writer = JSONWriter()
        writer.object { root in
            root.member("type", "doctor")
            root.key("data")
            root.array { list in
                for finding in findings {
                    list.object { entry in
                        entry.member("name", finding.name)
                        entry.member("verdict", finding.verdict.rawValue)
                        entry.member("detail", finding.detail)
                        if let fix = finding.fix { entry.member("fix", fix) }
                    }
                }
            }
        }
        return writer.text
    }

    private static func library(_ installation: Installation) -> Finding {
        do {
            return Finding(name: "libubpf.so", verdict: .good, detail: try installation.library())
        } catch {
            return Finding(name: "libubpf.so", verdict: .missing, detail: error.why ?? error.what, fix: error.help)
        }
    }

    private static func compiler() -> Finding {
        do {
            return Finding(name: "clang for BPF", verdict: .good, detail: try CompiledObject.findCompiler())
        } catch {
            return Finding(
                name: "clang for BPF",
                verdict: .limited,
                detail: "\(error.why ?? error.what); compiled objects work",
                fix: error.help
            )
        }
    }

    private static func headers(_ installation: Installation) -> Finding {
        let path = "\(installation.headers)/bpf/bpf_helpers.h"
        return isFile(path)
            ? Finding(name: "BPF headers", verdict: .good, detail: absolutePath(installation.headers))
            : Finding(name: "BPF headers", verdict: .limited, detail: "no \(path)", fix: "make build, or make install")
    }

    private static func btf() -> Finding {
        switch readFile("/sys/kernel/btf/vmlinux", limit: 1) {
        case .success:
            return Finding(name: "kernel BTF", verdict: .good, detail: "/sys/kernel/btf/vmlinux")
        case .failure(let error):
            return Finding(
                name: "kernel BTF",
                verdict: .limited,
                detail: "\(errorText(error.number)); built-in pt_regs is used",
                fix: "a kernel with CONFIG_DEBUG_INFO_BTF"
            )
        }
    }

    private static func selfMemory() -> Finding {
        let descriptor = unsafe open("/proc/self/mem", O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else {
            return Finding(
                name: "/proc/self/mem",
                verdict: .limited,
                detail: "cannot be written; code is changed by mprotect instead"
            )
        }
        _ = close(descriptor)
        return Finding(name: "/proc/self/mem", verdict: .good, detail: "writable: code pages stay read-execute")
    }

    private static func yama() -> Finding {
        let path = "/proc/sys/kernel/yama/ptrace_scope"
        guard case .success(let bytes) = readFile(path, limit: 16) else {
            return Finding(name: "ptrace (Yama)", verdict: .good, detail: "no restriction beyond the same user")
        }
        let scope = String(decoding: bytes.prefix { $0 >= 0x30 && $0 <= 0x39 }, as: UTF8.self)
        return scope == "0"
            ? Finding(name: "ptrace (Yama)", verdict: .good, detail: "ptrace_scope 0")
            : Finding(
                name: "ptrace (Yama)",
                verdict: .limited,
                detail: "ptrace_scope \(scope); commands started by ubpfrun work",
                fix: "sysctl kernel.yama.ptrace_scope=0"
            )
    }

    private static func unprivilegedBPF() -> Finding {
        guard case .success(let bytes) = readFile("/proc/sys/kernel/unprivileged_bpf_disabled", limit: 16) else {
            return Finding(name: "kernel BPF", verdict: .limited, detail: "cannot be told")
        }
        let value = String(decoding: bytes.prefix { $0 >= 0x30 && $0 <= 0x39 }, as: UTF8.self)
        if geteuid() == 0 { return Finding(name: "kernel BPF", verdict: .good, detail: "root") }
        return Finding(
            name: "kernel BPF",
            verdict: value == "0" ? .good : .limited,
            detail: "unprivileged_bpf_disabled=\(value); programs for processes need no privilege"
        )
    }
}
