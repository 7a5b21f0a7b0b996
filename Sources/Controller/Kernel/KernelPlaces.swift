import Glibc
import Kernel
import Loader
import Planner
import Symbols

/// Places in files, for programs on functions and static probes of processes that run in the kernel.
extension KernelAttaching {
    func uprobe(_ holder: KernelProgramHolder, _ request: AttachRequest) throws(Failure) -> [KernelLinkHolder] {
        let spec = holder.spec
        do throws(Failure) {
            var links: [KernelLinkHolder] = []
            for process in processes.isEmpty ? [nil] : processes.map(Optional.some) {
                let path = try file(of: request, in: process)
                let places = try places(of: request, in: path, holder)
                let pid = process?.pid
                if holder.isForMany {
                    links.append(
                        try checked(spec) { () throws(KernelError) in
                            try KernelLink.uprobes(
                                holder.program,
                                path: path,
                                places: places,
                                isReturn: request.isReturn,
                                pid: pid
                            )
                        }
                    )
                    continue
                }
                for place in places {
                    links.append(
                        try checked(spec) { () throws(KernelError) in
                            try KernelLink.uprobe(
                                holder.program,
                                path: path,
                                place: place,
                                isReturn: request.isReturn,
                                pid: pid
                            )
                        }
                    )
                }
            }
            return links
        } catch {
            if request.isOptional { return [] }
            throw error
        }
    }

    /// The file that a place is in: a path, what a process has loaded, a command of PATH, or a library by the start of its name.
    private func file(of request: AttachRequest, in process: Process?) throws(Failure) -> String {
        let module = request.place.module ?? "libc.so.6"
        if module.contains("/") { return module }
        if let program = process?.program {
            // The program first, then its libraries, of which nothing is known yet.
            let isIts = request.place.module.map { fileName(of: program) == $0 } ?? has(program, request.place)
            if isIts { return program }
            try checkKnown(module, of: program, request)
        } else if let process, let resolver = try? ProbeResolver(pid: process.pid) {
            let found =
                request.place.module.map { resolver.modules(named: $0).first }
                ?? resolver.maps.modules.first { has($0.openPath, request.place) }
            if let found { return found.openPath }
        }
        var directories = [
            "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/local/lib",
        ]
        directories += (environmentValue("PATH") ?? "").split(separator: ":").map(String.init)
        for name in [module, "\(module).so.6", "\(module).so.1", "\(module).so"] {
            for directory in directories where unsafe access("\(directory)/\(name)", R_OK) == 0 {
                return "\(directory)/\(name)"
            }
        }
        throw Failure(
            .fileMissing,
            "no file '\(module)' for program '\(request.name)'",
            why: "it is neither a library nor a command here",
            help: "--attach \(request.name)=/path/to/file:\(request.place.symbol)"
        )
    }

    /// Refuses a library by name where the program's own may be another file: a probe on the wrong one counts nothing.
    private func checkKnown(_ module: String, of program: String, _ request: AttachRequest) throws(Failure) {
        guard let info = try? BinaryInfo.inspect(program), info.form == .elf64 else { return }
        let why: String
        switch info.interpreter {
        case .none: why = "\(program) is statically linked"
        case .musl(let name), .unknown(let name): why = "its loader, \(name), has libraries of its own"
        case .glibc:
            let isElsewhere = info.hasOwnPaths || environmentValue("LD_LIBRARY_PATH")?.isEmpty == false
            guard isElsewhere, !module.hasPrefix("libc.") else { return }
            why = "it may be in a directory that \(program) or LD_LIBRARY_PATH names"
        }
        throw Failure(
            .fileMissing,
            "which file '\(module)' is for program '\(request.name)' is not known before the command runs",
            why: why,
            help: "--attach \(request.name)=/path/to/file:\(request.place.symbol)"
        )
    }

    private func has(_ path: String, _ place: Place) -> Bool {
        guard let symbols = try? ModuleSymbols(path: path) else { return false }
        if let probe = place.staticProbe {
            return !symbols.staticProbes(provider: probe.provider, name: probe.name).isEmpty
        }
        return !symbols.definitions(of: place.symbol).isEmpty
    }

    /// Where in its file the code is.
    private func places(
        of request: AttachRequest,
        in path: String,
        _ holder: KernelProgramHolder
    ) throws(Failure) -> [KernelLink.FilePlace] {
        let place = request.place
        let symbols: ModuleSymbols
        do { symbols = try ModuleSymbols(path: path) } catch { throw Failure(error) }
        if let probe = place.staticProbe {
            let found = symbols.staticProbes(provider: probe.provider, name: probe.name)
            guard !found.isEmpty else {
                throw .noStaticProbe(place.symbol, path: path, known: symbols.staticProbes)
            }
            var places: [KernelLink.FilePlace] = []
            for probe in found {
                guard let offset = symbols.fileOffset(of: probe.address) else { continue }
                let counter = probe.semaphore == 0 ? 0 : symbols.fileOffset(of: probe.semaphore)
                guard let counter else { throw .counterNotInFile(place.symbol, path: path) }
                places.append(
                    KernelLink.FilePlace(offset: offset, counter: counter, cookie: try holder.specification(of: probe))
                )
            }
            return places
        }
        guard Glob.isPattern(place.symbol), place.offset == 0 else {
            guard let found = symbols.definitions(of: place.symbol).first,
                let offset = symbols.fileOffset(of: found.address &+ place.offset)
            else {
                throw Failure(
                    .symbolNotFound,
                    "no function '\(place.symbol)' in \(path)",
                    help: symbols.suggestions(for: place.symbol).first.map { "did you mean '\($0)'?" }
                )
            }
            return [KernelLink.FilePlace(offset: offset, cookie: request.cookie)]
        }
        // Several names of one address are one place.
        let offsets = symbols.functions(matching: place.symbol).filter { !$0.isIndirect }
            .compactMap { symbols.fileOffset(of: $0.address) }
        guard !offsets.isEmpty else {
            throw Failure(.symbolNotFound, "no function fits '\(place.symbol)' in \(path)")
        }
        return Set(offsets).sorted().map { KernelLink.FilePlace(offset: $0, cookie: request.cookie) }
    }
}
