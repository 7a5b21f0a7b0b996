import Kernel
package import Symbols

// The part of the error table that is about programs in the kernel.

extension Failure {
    /// Whether it is about the process, or what its runtime has not, and was found out before anything ran: the kernel may do.
    ///
    /// Not helpers, of which some take a permission here. Not processes with seccomp filters: the return probes of Linux 6.11 to 6.13 make a
    /// system call there, which kills.
    var isOfProcess: Bool {
        switch code {
        case .staticTarget, .otherLibc, .unsupportedMap: true
        // Perf events of a process end when it takes other rights by exec; links on many places do not.
        case .setuidTarget: KernelFeatures.uprobeMulti == .yes
        default: false
        }
    }

    package static func kernelSkipped(_ names: [String]) -> Failure {
        Failure(
            .kernelProgram,
            "\(counted(names.count, "kernel program")) skipped: \(names.joined(separator: ", "))",
            why: "the kernel lets only root, or CAP_BPF and CAP_PERFMON, load programs",
            help: "sudo ubpfrun ..., or leave the kernel's part out"
        )
    }

    package static func noKprobes(_ program: String, function: String, substitute: String?) -> Failure {
        Failure(
            .noKprobes,
            "program '\(program)' needs kprobes; this kernel has none",
            place: function,
            why: "it was built without CONFIG_KPROBES",
            help: substitute.map { "SEC(\"tracepoint/\($0)\") exists here and may do; its context is another" }
                ?? "use a tracepoint, SEC(\"tracepoint/CATEGORY/NAME\")"
        )
    }

    package static func noTrampolines(_ program: String, function: String, substitute: String?) -> Failure {
        Failure(
            .noTrampolines,
            "this kernel refuses program '\(program)': no fentry, fexit or fmod_ret",
            place: function,
            why: "EPERM before verification, although other tracing programs load: it does not patch its functions",
            help: substitute.map { "SEC(\"tracepoint/\($0)\") exists here and may do; its context is another" }
                ?? "use a tracepoint, SEC(\"tracepoint/CATEGORY/NAME\")"
        )
    }

    package static func kernelRefused(_ program: String, reason: String, place: String?, source: String?) -> Failure {
        Failure(
            .kernelRefused,
            "the kernel refuses program '\(program)': \(reason)",
            place: place,
            why: source.map { "in: \($0)" },
            help: "-v shows the verifier's whole log"
        )
    }

    package static func noTracepoint(_ program: String, name: String, near: String?) -> Failure {
        Failure(
            .noTracepoint,
            "no tracepoint '\(name)' for program '\(program)'",
            why: "this kernel has none of that name",
            help: near.map { "did you mean '\($0)'?" }
                ?? "a tracepoint is CATEGORY/NAME, as in /sys/kernel/tracing/events"
        )
    }

    package static func noKernelFunction(_ program: String, function: String, near: String?) -> Failure {
        Failure(
            .noKernelType,
            "this kernel has no function '\(function)' for program '\(program)'",
            why: "it has none of that name, or it has been inlined everywhere",
            help: near.map { "did you mean '\($0)'?" }
        )
    }

    package static func noStaticProbe(_ name: String, path: String, known: [StaticProbe]) -> Failure {
        let names = Set(known.map { "\($0.provider):\($0.name)" }).sorted()
        return Failure(
            .symbolNotFound,
            "no static probe '\(name)' in \(path)",
            why: names.isEmpty ? "it has no static probes" : "it has \(counted(names.count, "static probe"))",
            help: nearest(name, among: names).map { "did you mean '\($0)'?" }
        )
    }

    package static func unknownArguments(_ probe: String, _ text: String) -> Failure {
        Failure(
            .noKernelHook,
            "the arguments of static probe '\(probe)' are not understood",
            why: "'\(text)' is neither a constant, a register, nor memory by one register"
        )
    }

    package static func counterNotInFile(_ probe: String, path: String) -> Failure {
        Failure(
            .noKernelHook,
            "static probe '\(probe)' in \(path) cannot be counted up by the kernel",
            why:
                "its semaphore is not among the file's bytes, by which the kernel finds it (perf_event_open(2), ref_ctr_offset)",
            help: "semaphores belong into the section .probes, as those of dtrace(1) are"
        )
    }

    package static func counterNotWritable(_ program: String, name: String) -> Failure {
        Failure(
            .noKernelHook,
            "program '\(program)' cannot be on '\(name)' in the process",
            why:
                "the process goes round this probe until its semaphore is counted up, which is not in memory that can be written",
            help: "semaphores belong into the section .probes, as those of dtrace(1) are"
        )
    }

    package static func noTraceFiles(_ what: String, _ error: String) -> Failure {
        Failure(
            .noTraceFiles,
            "tracefs cannot be used: \(what)",
            why: error,
            help: "run as root; raw_tp and tp_btf programs do without it"
        )
    }

    package static func kernelAttachFailed(_ program: String, section: String, _ error: String) -> Failure {
        Failure(.kernelAttachFailed, "the kernel does not attach program '\(program)'", place: section, why: error)
    }

    package static func pinnedMapDiffers(_ map: String, _ what: String) -> Failure {
        Failure(
            .kernelMapFailed,
            "map '\(map)' cannot be the one that is pinned under its name",
            why: what,
            help: "rm /sys/fs/bpf/\(map), if nobody needs it any more, or give the map another name"
        )
    }

    package static func kernelMapFailed(_ map: String, _ error: String) -> Failure {
        Failure(
            .kernelMapFailed,
            "the kernel does not make map '\(map)'",
            why: error,
            help: "--set \(map).max_entries=N changes its size"
        )
    }

    package static func sharedMap(_ program: String, map: String, type: String) -> Failure {
        Failure(
            .sharedMap,
            "kernel program '\(program)' is left out: it shares map '\(map)' with programs in the process",
            why: "a map of type \(type) is in the kernel or in the process's memory, not in both",
            help: "--backend auto runs those that share it in the kernel"
        )
    }

    package static func followsNobody(_ requests: [AttachRequest]) -> Failure {
        let names = Set(requests.map(\.name)).sorted()
        return Failure(
            .usage,
            "--follow-fork and --follow-exec are not for programs on functions that run in the kernel: "
                + names.joined(separator: ", "),
            why: "the kernel runs them for one process, whatever it executes, and not for its children",
            help: "--backend user, or neither -p nor a command: then they run for all processes"
        )
    }

    package static func noKernelHook(_ program: String, section: String, why: String) -> Failure {
        Failure(.noKernelHook, "program '\(program)' cannot be attached", place: section, why: why)
    }

    package static func noKernelType(_ program: String, name: String, hasBTF: Bool) -> Failure {
        Failure(
            .noKernelType,
            "this kernel has no '\(name)' for program '\(program)'",
            why: hasBTF ? "its BTF does not name it" : "it has no BTF, /sys/kernel/btf/vmlinux"
        )
    }

    package static func untypedRecords(_ map: String) -> Failure {
        Failure(
            .untypedRecords,
            "records of '\(map)' are shown as bytes",
            why: "the object's BTF has no struct 'event', and the map does not say of which type they are",
            help: "--event TYPE; a type that no function has gets into BTF by `struct event *unused;` as a global"
        )
    }
}
