internal import CLinux
internal import Glibc
package import Symbols

/// Everything about a process that an injection needs to know, learnt without touching it.
package struct InjectionPlan: Sendable {
    package let pid: Int32
    /// A living thread, by which the process's files in /proc are read: those of a first thread that has ended are empty.
    package let reader: Int32
    package let maps: ProcessMaps
    let functions: Functions
    /// A `syscall` instruction in the target's own text.
    let systemCall: UInt64
    let storage: [StaticStorage]
    let objects: LoadedObjects
    /// libc's zero-initialised thread-local variables: how far below the thread pointer, and their size.
    let handover: (distance: UInt64, size: UInt64)
    /// Of the program that all this is about (`TargetStatus.imageMark`).
    let mark: [Substring]

    /// Addresses of functions in the target.
    struct Functions: Sendable {
        var attributesInit: UInt64
        var attributesSetStack: UInt64
        var attributesSetDetachState: UInt64
        var create: UInt64
        /// libc's table of keys for thread-specific values.
        var keys: UInt64
        var getSpecific: UInt64
        var setSpecific: UInt64
        var open: UInt64
        var symbol: UInt64
        /// 0 where there is none.
        var close: UInt64
        var error: UInt64
        /// `__libc_dlopen_mode` and its relatives, which take other flags.
        var isInternal: Bool
    }

    /// A resident copy of a library with this file name, or of this very file: the name that the loader knows it by.
    package func resident(of path: String) -> String? {
        let name = path.split(separator: "/").last ?? ""
        for module in maps.modules where !module.isVDSO && !module.isExecutable {
            guard module.name == name || module.name == "memfd:\(name)" || isSameFile(module.openPath, path),
                let object = objects.object(bias: module.bias), !object.name.isEmpty
            else { continue }
            return object.name
        }
        return nil
    }
}

extension InjectionPlan {
    /// Learns what is needed, or says why it cannot be done.
    init(pid: Int32, reader: Int32) throws(InjectError) {
        let path = executablePath(reader)
        let mark = TargetStatus.imageMark(reader)
        let memory = RemoteMemory(thread: reader)
        // A program that has just begun has libraries that are not ready; one that loads a library is done with it soon.
        let deadline = clinux_now() + 1_000_000_000
        var maps: ProcessMaps
        var objects = LoadedObjects()
        while true {
            maps = try orEnded(pid) { () throws(SymbolsError) in try ProcessMaps.read(pid: reader) }
            guard let executable = maps.executable else {
                throw .failed(pid, "its memory map has no program", reason: "\(path) is not mapped")
            }
            if let layout = try? LoaderLayout(path: executable.openPath) {
                objects = LoadedObjects(memory, executable: executable, layout: layout)
            }
            if objects.isConsistent { break }
            guard clinux_now() < deadline else { throw .busyLoader(pid) }
            clinux_sleep(200_000)
        }
        let library = try Self.libc(pid, maps, path: path)
        functions = try Self.functions(pid, maps, libc: library)
        guard let instruction = Self.systemCall(library, memory) else {
            throw .failed(
                pid,
                "no way to make system calls in it",
                reason: "\(library.module.path) has no such instruction"
            )
        }
        var storage: [StaticStorage] = []
        var handover: (distance: UInt64, size: UInt64) = (0, 0)
        for module in maps.modules where !module.isVDSO {
            guard let template = (try? LoaderLayout(path: module.openPath))?.threadStorage,
                let block = StaticStorage(
                    template,
                    bias: module.bias,
                    isExecutable: module.isExecutable,
                    object: objects.object(bias: module.bias),
                    memory: memory
                )
            else { continue }
            storage.append(block)
            if module == library.module {
                let initialised = (block.fileSize + 7) & ~7
                if block.offset % 8 == 0, block.offset >= initialised, block.memorySize > initialised {
                    handover = (block.offset - initialised, (block.memorySize - initialised) & ~7)
                }
            }
        }
        self.pid = pid
        self.reader = reader
        self.maps = maps
        self.objects = objects
        self.storage = storage
        self.handover = handover
        self.mark = mark
        systemCall = instruction
    }

    struct Library {
        var module: LoadedModule
        var symbols: ModuleSymbols

        func address(_ name: String) -> UInt64? {
            symbols.definitions(of: name).first { !$0.isIndirect && $0.isExported }.map { $0.address &+ module.bias }
        }

        func variable(_ name: String) -> UInt64? { symbols.exportedVariable(name).map { $0 &+ module.bias } }
    }

    /// The C library that the process has loaded.
    private static func libc(_ pid: Int32, _ maps: ProcessMaps, path: String) throws(InjectError) -> Library {
        for module in maps.modules where module.name.hasPrefix("libc.so") || module.name.hasPrefix("libc-2.") {
            if let symbols = try? ModuleSymbols(path: module.openPath),
                !symbols.definitions(of: "__libc_start_main").isEmpty
            {
                return Library(module: module, symbols: symbols)
            }
        }
        throw .noLoader(
            pid,
            path: "it has loaded no glibc",
            why: "\(path) is linked dynamically, but libc.so.6 is not in its memory map",
            kind: .otherLibc
        )
    }

    private static func functions(
        _ pid: Int32,
        _ maps: ProcessMaps,
        libc: Library
    ) throws(InjectError) -> Functions {
        var libraries = [libc]
        if libc.address("dlopen") == nil || libc.address("pthread_create") == nil {
            // Before 2.34 these lived in libraries of their own.
            for module in maps.modules where module.name.hasPrefix("libpthread") || module.name.hasPrefix("libdl") {
                if let symbols = try? ModuleSymbols(path: module.openPath) {
                    libraries.append(Library(module: module, symbols: symbols))
                }
            }
        }
        func find(_ name: String) -> UInt64? { libraries.lazy.compactMap { $0.address(name) }.first }
        guard let create = find("pthread_create"), let attributesInit = find("pthread_attr_init"),
            let stack = find("pthread_attr_setstack"), let detach = find("pthread_attr_setdetachstate"),
            let getSpecific = find("pthread_getspecific"), let setSpecific = find("pthread_setspecific"),
            let keys = libraries.lazy.compactMap({ $0.variable("__pthread_keys") }).first
        else { throw .noThreads(pid) }
        let isInternal = find("dlopen") == nil
        guard let open = find("dlopen") ?? find("__libc_dlopen_mode"),
            let symbol = find("dlsym") ?? find("__libc_dlsym")
        else {
            throw .noLoader(pid, path: "it cannot load libraries", why: "its C library has no dlopen", kind: .otherLibc)
        }
        return Functions(
            attributesInit: attributesInit,
            attributesSetStack: stack,
            attributesSetDetachState: detach,
            create: create,
            keys: keys,
            getSpecific: getSpecific,
            setSpecific: setSpecific,
            open: open,
            symbol: symbol,
            close: find(isInternal ? "__libc_dlclose" : "dlclose") ?? 0,
            error: isInternal ? 0 : find("dlerror") ?? 0,
            isInternal: isInternal
        )
    }

    /// Two bytes 0F 05 in libc's text, as they are in memory.
    private static func systemCall(_ libc: Library, _ memory: RemoteMemory) -> UInt64? {
        guard let start = libc.symbols.definitions(of: "syscall").first?.address,
            let segment = libc.symbols.executableSegment(containing: start)
        else { return nil }
        var tried = 0
        for index in Int(start - segment.start)..<max(segment.bytes.count - 1, 0)
        where segment.bytes[index] == 0x0F && segment.bytes[index + 1] == 0x05 {
            let address = segment.start &+ UInt64(index) &+ libc.module.bias
            if memory.load(address, as: UInt16.self) == 0x050F { return address }
            tried += 1
            if tried == 64 { break }
        }
        return nil
    }
}

/// The program that a process runs, as a name for people.
func executablePath(_ pid: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
    let count = unsafe readlink("/proc/\(pid)/exe", &buffer, buffer.count)
    guard count > 0 else { return "its program" }
    return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// Runs `body`, whose failure means that the process or a file of it is gone.
private func orEnded<Value>(_ pid: Int32, _ body: () throws(SymbolsError) -> Value) throws(InjectError) -> Value {
    do {
        return try body()
    } catch {
        throw error.kind == .noProcess
            ? .noProcess(pid) : .failed(pid, error.message, reason: error.why)
    }
}
