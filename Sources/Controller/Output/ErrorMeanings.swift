extension ErrorCode {
    /// What a code means and what to do about it, as `ubpfrun explain` and Documentation/Errors.md have it.
    package var meaning: (what: String, help: String) {
        switch self {
        case .usage:
            (
                "The command line makes no sense: an unknown option, a missing value or command.",
                "The message names the nearest option; `--help` lists them."
            )
        case .badOption: ("A value that its option or variable does not take.", "The message says what it takes.")
        case .badEnvironment: ("A `UBPF_*` variable has a value that its option does not take.", "Correct or unset it.")
        case .commandNotFound: ("No such command.", "Check the name and PATH.")
        case .notPermitted: ("The kernel does not let you look at the process.", "Run as its user.")
        case .staticTarget:
            ("The program is statically linked: nothing can be preloaded into it.", "Use a dynamically linked build.")
        case .otherArchitecture: ("A 32-bit program.", "Use a 64-bit build.")
        case .otherLibc: ("The program uses another C library (musl).", "Use a glibc build.")
        case .setuidTarget:
            ("A setuid, setgid or capability program ignores LD_PRELOAD.", "Run it as the user that it becomes.")
        case .noSession:
            (
                "There is no session whose maps could be looked at, or not in that process, or it is over.",
                "`ubpfrun map list` shows the sessions that there are; those of other users take root."
            )
        case .noSuchMap: ("The session has no map of that name or id.", "`ubpfrun map list -p PID`.")
        case .mapRefused:
            (
                "The map does not do that: no such element, no room, frozen, or an operation that its type does not have.",
                "The message has what bpf(2) would answer; [Parity](Parity.md) has a table."
            )
        case .noProcess: ("There is no such process, or it has ended.", "")
        case .targetBusy:
            (
                "Another debugger holds the process, or it is stopped; nothing was touched.",
                "End that first, then try again."
            )
        case .sandboxed:
            ("The process forbids itself what attaching needs (seccomp).", "Start it under `ubpfrun` instead.")
        case .injectionFailed:
            ("Attaching was tried and undone; the process is as it was.", "The message has the reason.")
        case .targetEnded: ("The process ended, or became another program, while it was attached to.", "")
        case .notAProgram: ("The file is no program for this machine.", "")
        case .cannotExecute: ("You may not execute the file, or it is a directory.", "`chmod +x`.")
        case .execFailed: ("The kernel refused to start it.", "")
        case .endedEarly:
            (
                "The program ended, or did not answer, before the library was ready.",
                "`LD_DEBUG=libs` shows what the dynamic linker does."
            )
        case .libraryMissing: ("`libubpf.so` was not found.", "`make build`, or set `UBPF_LIB`.")
        case .agentFailed:
            (
                "The probes could not be set; the program was not run, or runs without them.",
                "The message has the reason."
            )
        case .socketFailed: ("A system call of `ubpfrun` failed.", "")
        case .symbolNotFound: ("No such function, or its module is not loaded.", "The message suggests names.")
        case .cannotPatch: ("The place cannot be patched safely; nothing was touched.", "See Patching.md.")
        case .noTarget: ("A program says `SEC(\"uprobe\")` without a function.", "`--attach PROGRAM=libc:malloc`.")
        case .fileMissing: ("A file that belongs to the process is gone.", "")
        case .fileUnreadable: ("A file that belongs to the process cannot be read.", "")
        case .notELF: ("A module of the process is no ELF file.", "")
        case .damagedFile: ("A module of the process contradicts itself.", "")
        case .moduleNotLoaded:
            ("A library that was waited for was never loaded.", "`/proc/PID/maps` has the names of those that are.")
        case .unknownProgram: ("`--attach` or `--prog` names no program of the object.", "`ubpfrun inspect OBJECT`.")
        case .nothingToAttach: ("The object has no program that attaches to a process.", "")
        case .objectNotFound: ("No such object, source or tool.", "The message lists the tools.")
        case .noBTF:
            (
                "The object was compiled without `-g`, and needs BTF for its maps or relocations.",
                "`clang -g -O2 -target bpf`."
            )
        case .notBPF: ("The file is no little-endian BPF object.", "`clang -target bpf`.")
        case .unsupportedHelper:
            ("The program calls a helper that has no meaning, or no implementation, in user space.", "")
        case .badObject: ("The object is cut off or contradicts itself.", "Compile it again.")
        case .badMap: ("A map definition cannot be understood (legacy `maps` sections, unknown types).", "")
        case .badRelocation: ("A relocation that cannot be resolved.", "")
        case .badCode: ("A section or instruction of the object makes no sense.", "")
        case .unresolvedSymbol: ("The program refers to a kernel function or variable.", "")
        case .badCoreRelocation: ("A CO-RE relocation is malformed or ambiguous.", "")
        case .compilerMissing: ("No clang with the BPF target, for a `.bpf.c`.", "Install clang, or set `UBPF_CLANG`.")
        case .compilationFailed: ("clang refused the source; its messages follow.", "")
        case .unsupportedMap: ("A map that the kernel would refuse, or of a type that this runtime does not have.", "")
        case .unverified: ("Programs run unverified, because of `--no-verify`.", "Leave the option away.")
        case .memoryLimit:
            (
                "The maps need more memory or address space than ubpfrun, the target or the machine has; nothing runs.",
                "`--set MAP.max_entries=N`, or raise the limit (`ulimit -v`)."
            )
        case .noKprobes:
            ("The kernel was built without kprobes.", "The message names a tracepoint that exists here.")
        case .kernelProgram:
            (
                "Programs for the kernel are skipped: loading them needs privileges (an error with `--strict`, or when nothing else is left).",
                "Run as root, or with CAP_BPF and CAP_PERFMON."
            )
        case .kernelRefused:
            ("The kernel's verifier refuses a program.", "The message has its reason and the source line.")
        case .noTracepoint: ("There is no such tracepoint in this kernel.", "The message suggests names.")
        case .noTrampolines:
            (
                "The kernel refuses fentry, fexit and fmod_ret programs.",
                "The message names a tracepoint that exists here."
            )
        case .kernelAttachFailed: ("The kernel loaded a program but does not attach it.", "The message has the reason.")
        case .kernelMapFailed: ("The kernel does not make a map.", "`--set MAP.max_entries=N` makes it smaller.")
        case .sharedMap:
            (
                "Programs in the kernel and programs in the process use one map.",
                "`--backend auto` runs those on functions that share it in the kernel, `--backend kernel` all."
            )
        case .noKernelHook: ("Programs of this kind are not attached by `ubpfrun`.", "")
        case .noKernelType: ("The running kernel has no such function, tracepoint or iterator (or no BTF).", "")
        case .noTraceFiles: ("tracefs cannot be used: no tracepoints, no lines of `bpf_printk`.", "Run as root.")
        case .untypedRecords:
            (
                "Records are shown as bytes: nothing says of which type they are.",
                "`--event TYPE`, or a struct called `event` that the object's BTF has."
            )
        case .mapFull: ("A map was full; later entries are missing.", "`--set MAP.max_entries=N`.")
        case .stacksMissed:
            (
                "Allocations without a stack: no room in the stack map, or no way to walk it.",
                "`--set stack_traces.max_entries=N`."
            )
        case .recordsLost: ("A ring was full when a record came.", "")
        case .programTrapped:
            (
                "A program was stopped: a bad address, its budget, a misuse of a helper.",
                "The message has the instruction."
            )
        case .hitsMissed: ("Hits that ran no program: inside another probe, or no return slot was free.", "")
        case .libraryMissed:
            (
                "A library was opened, and ran for a while without its probes: `ubpfrun` was too slow, or stopped.",
                "Attach again while it is loaded."
            )
        case .outputFailed: ("The output file cannot be written.", "")
        case .internalError: ("A bug of `ubpfrun`.", "Please report it.")
        case .badCases: ("A line of a case file makes no sense.", "The message says where; see Testing.md.")
        case .casesFailed: ("Something is not as a case expects it.", "The report says what was found.")
        case .coverageTooLow:
            ("Fewer lines were reached than `--min-coverage` asks for.", "`--coverage` shows what is missing.")
        case .rejected: ("The program passed the verifier but cannot be linked.", "Please report it.")
        }
    }
}
