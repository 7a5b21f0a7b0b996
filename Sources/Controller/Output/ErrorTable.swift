import JSON
package import Verifier

/// Every code that a user can meet, with the exit code of a run that ends with it (sysexits.h).
package enum ErrorCode: String, CaseIterable, Sendable {
    // Command line.
    case usage = "U001"
    case badOption = "U002"
    case badEnvironment = "U004"
    // Targets.
    case commandNotFound = "U100"
    case notPermitted = "U101"
    case staticTarget = "U102"
    case otherArchitecture = "U103"
    case otherLibc = "U104"
    case setuidTarget = "U105"
    case noProcess = "U106"
    case noSession = "U109"
    case targetBusy = "U107"
    case notAProgram = "U108"
    case cannotExecute = "U120"
    case execFailed = "U121"
    case endedEarly = "U122"
    case libraryMissing = "U123"
    case agentFailed = "U124"
    case socketFailed = "U125"
    case sandboxed = "U130"
    case injectionFailed = "U131"
    case targetEnded = "U132"
    // Places of probes.
    case symbolNotFound = "U201"
    case cannotPatch = "U202"
    case noTarget = "U203"
    case fileMissing = "U204"
    case fileUnreadable = "U205"
    case notELF = "U206"
    case damagedFile = "U207"
    case moduleNotLoaded = "U208"
    case unknownProgram = "U220"
    case nothingToAttach = "U221"
    // Objects.
    case objectNotFound = "U300"
    case noBTF = "U301"
    case notBPF = "U302"
    case unsupportedHelper = "U303"
    case badObject = "U304"
    case badMap = "U305"
    case badRelocation = "U306"
    case badCode = "U307"
    case unresolvedSymbol = "U308"
    case badCoreRelocation = "U309"
    case compilerMissing = "U320"
    case compilationFailed = "U321"
    case unsupportedMap = "U322"
    case unverified = "U323"
    case memoryLimit = "U324"
    case rejected = "V000"
    // Kernel parts.
    case noKprobes = "U401"
    case kernelProgram = "U402"
    case kernelRefused = "U403"
    case noTracepoint = "U404"
    case noTrampolines = "U405"
    case kernelAttachFailed = "U406"
    case kernelMapFailed = "U407"
    case sharedMap = "U408"
    case noKernelHook = "U409"
    case noKernelType = "U410"
    case noTraceFiles = "U411"
    case untypedRecords = "U412"
    // While running.
    case mapFull = "U502"
    case stacksMissed = "U503"
    case recordsLost = "U504"
    case programTrapped = "U505"
    case hitsMissed = "U506"
    case libraryMissed = "U507"
    // Maps of a session that runs.
    case noSuchMap = "U520"
    case mapRefused = "U521"
    // Output.
    case outputFailed = "U601"
    case internalError = "U700"
    // Tests.
    case badCases = "U801"
    case casesFailed = "U802"
    case coverageTooLow = "U803"

    package var exitCode: Int32 {
        switch self {
        case .usage, .badOption, .badEnvironment, .noTarget, .unknownProgram: ExitCode.usage
        case .noBTF, .notBPF, .unsupportedHelper, .badObject, .badMap, .badRelocation, .badCode, .unresolvedSymbol,
            .badCoreRelocation, .compilationFailed, .unsupportedMap, .rejected, .kernelRefused, .nothingToAttach,
            .damagedFile, .notELF,
            .notAProgram, .badCases, .mapRefused:
            ExitCode.data
        case .commandNotFound, .noProcess, .noSession, .noSuchMap, .objectNotFound, .symbolNotFound, .fileMissing,
            .moduleNotLoaded,
            .noTracepoint:
            ExitCode.noInput
        case .staticTarget, .otherArchitecture, .otherLibc, .endedEarly, .libraryMissing,
            .cannotPatch,
            .execFailed, .agentFailed, .compilerMissing, .sandboxed, .injectionFailed, .targetEnded,
            .noKprobes, .noTrampolines, .memoryLimit, .kernelAttachFailed, .kernelMapFailed, .sharedMap, .noKernelHook,
            .noKernelType, .noTraceFiles:
            ExitCode.unavailable
        case .mapFull, .stacksMissed, .recordsLost, .programTrapped, .hitsMissed, .libraryMissed, .unverified,
            .untypedRecords:
            ExitCode.success
        case .socketFailed, .internalError: ExitCode.software
        case .targetBusy: ExitCode.busy
        case .casesFailed, .coverageTooLow: ExitCode.testsFailed
        case .notPermitted, .setuidTarget, .cannotExecute, .outputFailed, .fileUnreadable, .kernelProgram:
            ExitCode.permission
        }
    }
}

/// Exit codes of `ubpfrun` itself (sysexits.h); a started command's own code passes through.
package enum ExitCode {
    package static let success: Int32 = 0
    /// `ubpfrun test`: something is not as a case expects it.
    package static let testsFailed: Int32 = 1
    package static let usage: Int32 = 64
    package static let data: Int32 = 65
    package static let noInput: Int32 = 66
    package static let unavailable: Int32 = 69
    package static let software: Int32 = 70
    package static let busy: Int32 = 75
    package static let permission: Int32 = 77
}

/// An error or a warning as people read it: what happened, where, why, and what to do.
package struct Failure: Error, Equatable, Sendable {
    package var code: ErrorCode
    /// Replaces the code's text where another module has codes of its own (`V012`).
    package var codeText: String
    package var what: String
    package var place: String?
    package var why: String?
    package var help: String?
    /// What the verifier found, which has a form of its own as text.
    package var diagnosis: Diagnosis?

    package init(
        _ code: ErrorCode,
        _ what: String,
        place: String? = nil,
        why: String? = nil,
        help: String? = nil,
        codeText: String? = nil
    ) {
        self.code = code
        self.codeText = codeText ?? code.rawValue
        self.what = what
        self.place = place
        self.why = why
        self.help = help
    }

    /// The text form: `error[CODE]: what` and indented lines.
    package func text(as severity: String = "error") -> String {
        if let diagnosis { return diagnosis.text(code: codeText) }
        var lines = ["\(severity)[\(codeText)]: \(what)"]
        if let place { lines.append("  --> \(place)") }
        if let why { lines.append("  why: \(Self.indented(why))") }
        if let help { lines.append("  help: \(Self.indented(help))") }
        return lines.joined(separator: "\n")
    }

    /// The same as one NDJSON record.
    package func json(as severity: String = "error") -> String {
        var writer = JSONWriter()
        writer.object { record in
            record.member("type", severity)
            record.key("data")
            record.object { data in
                data.member("code", codeText)
                data.member("message", what)
                if let place { data.member("place", place) }
                if let why { data.member("why", why) }
                if let help { data.member("help", help) }
                diagnosis?.write(to: &data)
            }
        }
        return writer.text
    }

    private static func indented(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\n    ")
    }
}

// MARK: - Command line

extension Failure {
    package static func usage(_ what: String, help: String? = nil) -> Failure { Failure(.usage, what, help: help) }

    package static func unknownOption(_ option: String, known: [String]) -> Failure {
        Failure(
            .usage,
            "unknown option '\(option)'",
            help: nearest(option, among: known).map { "did you mean '\($0)'?" }
                ?? "`ubpfrun OBJECT --help` lists the options of a program"
        )
    }

    package static func missingValue(_ option: String) -> Failure {
        Failure(.usage, "option '\(option)' needs a value")
    }

    package static func badOption(_ option: String, value: String, expects: String) -> Failure {
        Failure(.badOption, "'\(value)' is no value for \(option)", why: "it takes \(expects)")
    }

    package static func unknownVariable(_ name: String, known: [String]) -> Failure {
        Failure(
            .badOption,
            "the object has no variable '\(name)'",
            why: known.isEmpty ? "it has no `const volatile` globals" : "it has \(known.joined(separator: ", "))",
            help: nearest(name, among: known).map { "did you mean '\($0)'?" }
        )
    }

    package static func badEnvironment(_ name: String, value: String, expects: String) -> Failure {
        Failure(.badEnvironment, "\(name)='\(value)' in the environment", why: "it takes \(expects)")
    }
}

// MARK: - Targets

extension Failure {
    package static func commandNotFound(_ name: String) -> Failure {
        Failure(
            .commandNotFound,
            "no command '\(name)'",
            why: name.contains("/") ? "there is no such file" : "it is in no directory of PATH"
        )
    }

    package static func isDirectory(_ path: String) -> Failure {
        Failure(.cannotExecute, "cannot run \(path)", why: "it is a directory")
    }

    package static func notExecutable(_ path: String) -> Failure {
        Failure(.cannotExecute, "cannot run \(path)", why: "you may not execute it", help: "chmod +x \(path)")
    }

    package static func badInterpreter(_ script: String, interpreter: String, _ cause: Failure) -> Failure {
        Failure(
            cause.code,
            "cannot run the script \(script): \(cause.what)",
            place: "\(script):1 (#!\(interpreter))",
            why: cause.why,
            help: cause.help
        )
    }

    package static func execFailed(_ path: String, errno: Int32) -> Failure {
        Failure(.execFailed, "cannot start \(path): \(errorText(errno))")
    }

    package static func endedEarly(_ command: String, status: Int32) -> Failure {
        Failure(
            .endedEarly,
            "\(command) ended before libubpf.so was ready (\(exitText(status)))",
            why: "the dynamic linker did not load the library, or the program ended at once",
            help: "LD_DEBUG=libs \(command) shows what the linker does"
        )
    }

    package static func libraryMissing(_ tried: [String]) -> Failure {
        Failure(
            .libraryMissing,
            "libubpf.so not found",
            why: "looked for \(tried.joined(separator: ", "))",
            help: "`make build` makes it, or set UBPF_LIB=/path/to/libubpf.so"
        )
    }

    package static func agentFailed(_ text: String, errno: Int32, site: String?) -> Failure {
        Failure(
            .agentFailed,
            "the probes could not be set: \(text.isEmpty ? errorText(errno) : text)",
            place: site,
            why: errno == 0 ? nil : errorText(errno),
            help: "the target runs on without probes"
        )
    }

    package static func threadsRun(_ name: String, why: String) -> Failure {
        Failure(
            .agentFailed,
            "the probes could not be set: the threads of \(name) could not be stopped for it within 5 seconds",
            why: why,
            help: "the target runs on without probes; try again in a moment"
        )
    }

    package static func socketFailed(_ what: String, errno: Int32) -> Failure {
        Failure(.socketFailed, "\(what): \(errorText(errno))")
    }
}

// MARK: - Places of probes

extension Failure {
    package static func noTarget(_ program: String, section: String) -> Failure {
        Failure(
            .noTarget,
            "'\(program)' is SEC(\"\(section)\") without a target",
            help: "say where: --attach \(program)="
                + (section.contains("usdt") ? "libjvm.so:hotspot:gc__begin" : "libc:malloc")
        )
    }

    package static func unknownProgram(_ name: String, known: [String]) -> Failure {
        Failure(
            .unknownProgram,
            "--attach names no program of the object: '\(name)'",
            why: "it has \(known.joined(separator: ", "))",
            help: nearest(name, among: known).map { "did you mean '\($0)'?" }
        )
    }

    package static func nothingToAttach(_ object: String) -> Failure {
        Failure(.nothingToAttach, "\(object) has no program that can be attached to a process")
    }

}

// MARK: - Libraries that are opened later

extension Failure {
    /// The loader's function cannot be patched, so a library that is not there cannot be waited for.
    package static func loaderUnwatched(_ why: String) -> Failure {
        Failure(
            .cannotPatch,
            "libraries that the program opens later cannot be waited for",
            place: "_dl_debug_state",
            why: why,
            help: "end the debugger that watches them, or name only modules that are loaded"
        )
    }

    package static func neverLoaded(_ names: [String]) -> Failure {
        Failure(
            .moduleNotLoaded,
            names.map { "'\($0)' was never loaded" }.joined(separator: ", "),
            help: "its probes were never set; is that how the program names it?"
        )
    }

    package static func libraryMissed(_ name: String, _ times: Int) -> Failure {
        Failure(
            .libraryMissed,
            "\(name) was used without probes (\(counted(times, "time")))",
            why: "it was opened, and its program did not wait longer than 200 ms for ubpfrun"
        )
    }

    package static func textRelocations(_ name: String) -> Failure {
        Failure(.cannotPatch, "cannot patch \(name)", why: "the loader changes its code after this (DT_TEXTREL)")
    }
}

// MARK: - Objects

extension Failure {
    package static func objectNotFound(_ name: String, tools: [String]) -> Failure {
        Failure(
            .objectNotFound,
            "no file and no tool '\(name)'",
            why: tools.isEmpty ? nil : "tools: \(tools.joined(separator: ", "))",
            help: nearest(name, among: tools).map { "did you mean '\($0)'?" }
        )
    }

    package static func unreadableObject(_ path: String, errno: Int32) -> Failure {
        Failure(.objectNotFound, "cannot read \(path): \(errorText(errno))")
    }

    package static func unsupportedMap(_ map: String, why: String) -> Failure {
        Failure(.unsupportedMap, "map '\(map)' cannot be made", why: why)
    }

    package static func sessionTooLarge(_ bytes: Int, errno: Int32) -> Failure {
        Failure(
            .memoryLimit,
            "the object's maps need \(bytes >> 20) MB of address space: \(errorText(errno))",
            help: "--set MAP.max_entries=N makes a map smaller; `ulimit -v` may be what limits it"
        )
    }

    /// Full maps would have the kernel end the target, or others.
    package static func sessionOverMemory(_ bytes: Int, memory: Int) -> Failure {
        Failure(
            .memoryLimit,
            "the object's maps need \(bytes >> 20) MB, and this machine has \(memory >> 20) MB",
            why: "memory is taken as maps fill; once there is none left, the kernel kills processes",
            help: "--set MAP.max_entries=N makes a map smaller"
        )
    }

    /// The library could not map the session.
    package static func targetLimit(_ text: String, pid: Int32) -> Failure {
        Failure(
            .memoryLimit,
            "process \(pid): \(text)",
            help: "--set MAP.max_entries=N makes a map smaller; `prlimit --as -p \(pid)` shows the process's limit"
        )
    }

    package static func compilerMissing(_ why: String) -> Failure {
        Failure(
            .compilerMissing,
            "no clang that makes BPF objects",
            why: why,
            help: "apt install clang, or set UBPF_CLANG=/path/to/clang; or give a compiled .bpf.o"
        )
    }

    package static func compilationFailed(_ source: String, log: String) -> Failure {
        Failure(.compilationFailed, "\(source) does not compile", why: log.isEmpty ? nil : log)
    }
}

// MARK: - What is counted while running

extension Failure {
    package static func mapFull(_ map: String, maxEntries: Int) -> Failure {
        Failure(
            .mapFull,
            "map '\(map)' is full (\(maxEntries)): later entries are missing",
            help: "--set \(map).max_entries=\(maxEntries * 4)"
        )
    }

    package static func allocationsLost(_ count: UInt64, maxEntries: Int, map: String = "allocs") -> Failure {
        Failure(
            .mapFull,
            "map '\(map)' is full (\(maxEntries)): \(counted(count, "allocation")) not recorded",
            help: "--set \(map).max_entries=\(maxEntries * 4)"
        )
    }

    package static func stacksMissed(_ count: UInt64, bytes: UInt64) -> Failure {
        Failure(
            .stacksMissed,
            "\(counted(count, "allocation")) (\(bytes) bytes) have no stack",
            why: "no room in the stack map, or the stack could not be walked"
        )
    }

    package static func recordsLost(_ map: String, _ count: UInt64) -> Failure {
        Failure(.recordsLost, "\(counted(count, "record")) lost in '\(map)': the ring was full")
    }

    package static func programTrapped(_ program: String, count: UInt64, kind: String, instruction: Int) -> Failure {
        Failure(
            .programTrapped,
            "program '\(program)' was stopped \(counted(count, "time"))",
            place: "instruction \(instruction)",
            why: kind
        )
    }

    package static func hitsMissed(_ count: UInt64) -> Failure {
        Failure(
            .hitsMissed,
            "\(counted(count, "hit")) did not run a program",
            why: "they came from inside another probe, or too deep"
        )
    }
}

// MARK: - Output, and us

extension Failure {
    package static func outputFailed(_ path: String, errno: Int32) -> Failure {
        Failure(.outputFailed, "cannot write \(path): \(errorText(errno))")
    }

    package static func internalError(_ what: String) -> Failure {
        Failure(.internalError, what, help: "this is a bug of ubpfrun, please report it")
    }
}
