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
            let path = try file(of: request)
            let places = try places(of: request, in: path, holder)
            var links: [KernelLinkHolder] = []
            for pid in pids.isEmpty ? [nil] : pids.map(Optional.some) {
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
    private func file(of request: AttachRequest) throws(Failure) -> String {
        let module = request.place.module ?? "libc.so.6"
        if module.contains("/") { return module }
        for pid in pids {
            if let loaded = try? ProbeResolver(pid: pid).modules(named: module).first { return loaded.openPath }
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
