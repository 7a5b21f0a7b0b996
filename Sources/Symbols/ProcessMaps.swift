internal import CELF
internal import Glibc

/// One line of `/proc/PID/maps` (proc_pid_maps(5)).
package struct Mapping: Equatable, Sendable {
    package var start: UInt64
    package var end: UInt64
    package var permissions: String
    package var offset: UInt64
    /// `major << 32 | minor`.
    package var device: UInt64
    package var inode: UInt64
    package var path: String

    package var isExecutable: Bool { permissions.utf8.dropFirst(2).first == UInt8(ascii: "x") }
    package var isWritable: Bool { permissions.utf8.dropFirst(1).first == UInt8(ascii: "w") }

    /// Parses one line; nil when it is not of that form.
    package init?(line: some StringProtocol) {
        let fields = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
        guard fields.count >= 5 else { return nil }
        let range = fields[0].split(separator: "-")
        let device = fields[3].split(separator: ":")
        guard range.count == 2, let start = UInt64(range[0], radix: 16), let end = UInt64(range[1], radix: 16),
            start < end, let offset = UInt64(fields[2], radix: 16), device.count == 2,
            let major = UInt64(device[0], radix: 16), let minor = UInt64(device[1], radix: 16),
            let inode = UInt64(fields[4])
        else { return nil }
        self.start = start
        self.end = end
        permissions = String(fields[1])
        self.offset = offset
        self.device = major << 32 | minor
        self.inode = inode
        path = fields.count > 5 ? String(fields[5].drop { $0 == " " }) : ""
    }
}

/// An ELF file that a process has loaded.
package struct LoadedModule: Equatable, Sendable {
    /// As the process names it, without a ` (deleted)` mark.
    package var path: String
    /// Where this process can open the same file.
    package var openPath: String
    package var device: UInt64
    package var inode: UInt64
    package var start: UInt64
    package var end: UInt64
    /// Run-time address minus virtual address in the file.
    package var bias: UInt64
    package var isExecutable: Bool
    package var isDeleted: Bool
    package var isVDSO: Bool

    /// The last part of the path.
    package var name: String {
        String(path.split(separator: "/").last ?? Substring(path))
    }
}

/// The memory map of a process and the modules in it.
package struct ProcessMaps: Sendable {
    package let pid: Int32
    /// What leads to the process's files in /proc: itself, or where its first thread has ended another one's number.
    package let reader: Int32
    package let mappings: [Mapping]
    package let modules: [LoadedModule]

    /// Reads `/proc/PID/maps`; only mappings for which `isWanted` holds.
    package static func read(
        pid: Int32,
        where isWanted: (Mapping) -> Bool = { _ in true }
    ) throws(SymbolsError) -> ProcessMaps {
        let (reader, text) = try readText(pid)
        let mappings = Self.mappings(in: text, with: "").filter(isWanted)
        // A process that is exiting, and a kernel thread, have an empty map.
        guard !mappings.isEmpty else { throw .noProcess(pid) }
        return ProcessMaps(pid: pid, reader: reader, mappings: mappings)
    }

    /// The lines of `/proc/PID/maps`, of which no file is opened; only those that hold `text`.
    package static func readMappings(pid: Int32, with part: String = "") throws(SymbolsError) -> [Mapping] {
        mappings(in: try readText(pid).text, with: part)
    }

    /// The map's text, and whose it is: that of a first thread that has ended is empty, those of others are not.
    private static func readText(_ pid: Int32) throws(SymbolsError) -> (reader: Int32, text: String) {
        switch readProcFile("/proc/\(pid)/maps") {
        case .success(let bytes) where bytes.isEmpty:
            for thread in threadNumbers(pid) where thread != pid {
                guard case .success(let bytes) = readProcFile("/proc/\(thread)/maps"), !bytes.isEmpty else { continue }
                return (thread, String(decoding: bytes, as: UTF8.self))
            }
            return (pid, "")
        case .success(let bytes): return (pid, String(decoding: bytes, as: UTF8.self))
        case .failure(let failure) where failure.code == ENOENT || failure.code == ESRCH: throw .noProcess(pid)
        case .failure(let failure): throw .processUnreadable(pid, "the memory map", reason: errnoText(failure.code))
        }
    }

    private static func mappings(in text: String, with part: String) -> [Mapping] {
        text.split(separator: "\n").filter { part.isEmpty || $0.contains(part) }.compactMap { Mapping(line: $0) }
    }

    /// The modules that no `dlclose` takes away: the executable, and what it names as needed, directly or not.
    package func permanentModules() -> [LoadedModule] {
        var files: [(module: LoadedModule, file: ELFFile)] = []
        for module in modules where !module.isVDSO {
            if let file = try? ELFFile(path: module.openPath) { files.append((module, file)) }
        }
        var kept: [LoadedModule] = []
        var names: [String] = []
        for (module, file) in files where module.isExecutable {
            kept.append(module)
            names += file.dynamicStrings(DT_NEEDED)
        }
        while let name = names.popLast() {
            // By soname first: the file's name may be another.
            let found = files.first { $0.file.soname == name } ?? files.first { $0.module.name == name }
            guard let found, !kept.contains(found.module) else { continue }
            kept.append(found.module)
            names += found.file.dynamicStrings(DT_NEEDED)
        }
        return kept
    }

    /// One file as if a process had loaded it where it was linked for; for questions that need no process.
    package init(file path: String) throws(SymbolsError) {
        let segments = try ELFFile(path: path).segments.filter { $0.type == UInt32(PT_LOAD) }
        pid = getpid()
        reader = pid
        mappings = []
        modules = [
            LoadedModule(
                path: path,
                openPath: path,
                device: 0,
                inode: 0,
                start: segments.map(\.address).min() ?? 0,
                end: segments.map { $0.address + $0.memorySize }.max() ?? 0,
                bias: 0,
                isExecutable: true,
                isDeleted: false,
                isVDSO: false
            )
        ]
    }

    private init(pid: Int32, reader: Int32, mappings: [Mapping]) {
        self.pid = pid
        self.reader = reader
        self.mappings = mappings
        modules = Self.findModules(pid: reader, mappings: mappings)
    }

    /// The mapping that holds an address.
    package func mapping(containing address: UInt64) -> Mapping? {
        mappings.first { $0.start <= address && address < $0.end }
    }

    package func module(containing address: UInt64) -> LoadedModule? {
        modules.first { $0.start <= address && address < $0.end }
    }

    package var executable: LoadedModule? { modules.first { $0.isExecutable } }

    /// Groups mappings of one file at one load bias; a file mapped as data only is no module.
    private static func findModules(pid: Int32, mappings: [Mapping]) -> [LoadedModule] {
        let executable = fileIdentity("/proc/\(pid)/exe")
        var segmentsOf: [String: [ELFFile.Segment]?] = [:]
        var modules: [LoadedModule] = []
        var hasCode: [Bool] = []
        for mapping in mappings {
            if mapping.path == "[vdso]" {
                modules.append(vdso(mapping))
                hasCode.append(true)
                continue
            }
            guard mapping.path.hasPrefix("/"), mapping.inode != 0 else { continue }
            let key = "\(mapping.device) \(mapping.inode) \(mapping.path)"
            let deletedMark = " (deleted)"
            let isDeleted = mapping.path.hasSuffix(deletedMark)
            let path = isDeleted ? String(mapping.path.dropLast(deletedMark.count)) : mapping.path
            let openPath = isDeleted ? deletedFile(pid, mapping) : visiblePath(pid, path)
            if segmentsOf[key] == nil {
                let segments = (try? ELFFile(path: openPath))?.segments ?? segmentsInMemory(pid, mapping)
                segmentsOf.updateValue(segments, forKey: key)
            }
            guard case .some(.some(let segments)) = segmentsOf[key], let bias = loadBias(mapping, segments) else {
                continue
            }
            if let index = modules.firstIndex(where: {
                $0.device == mapping.device && $0.inode == mapping.inode && $0.bias == bias && $0.path == path
            }) {
                modules[index].end = max(modules[index].end, mapping.end)
                if mapping.isExecutable { hasCode[index] = true }
                continue
            }
            let identity = fileIdentity(openPath)
            modules.append(
                LoadedModule(
                    path: path,
                    openPath: openPath,
                    device: mapping.device,
                    inode: mapping.inode,
                    start: mapping.start,
                    end: mapping.end,
                    bias: bias,
                    isExecutable: executable != nil && identity == executable,
                    isDeleted: isDeleted,
                    isVDSO: false
                )
            )
            hasCode.append(mapping.isExecutable)
        }
        return zip(modules, hasCode).filter(\.1).map(\.0)
    }

    private static func vdso(_ mapping: Mapping) -> LoadedModule {
        LoadedModule(
            path: mapping.path,
            openPath: "",
            device: 0,
            inode: 0,
            start: mapping.start,
            end: mapping.end,
            bias: mapping.start,
            isExecutable: false,
            isDeleted: false,
            isVDSO: true
        )
    }

    /// Bias of the mapping: the segment whose pages start at its file offset tells where it was linked for.
    private static func loadBias(_ mapping: Mapping, _ segments: [ELFFile.Segment]) -> UInt64? {
        let page = ~UInt64(4095)
        for segment in segments where segment.type == UInt32(PT_LOAD) && segment.isExecutable == mapping.isExecutable {
            if segment.offset & page == mapping.offset { return mapping.start &- segment.address & page }
        }
        // A segment split by mprotect (RELRO): the offset lies inside.
        for segment in segments where segment.type == UInt32(PT_LOAD) {
            let first = segment.offset & page
            if mapping.offset >= first, mapping.offset < segment.offset &+ segment.fileSize {
                return (mapping.start &- segment.address & page) &- (mapping.offset - first)
            }
        }
        return nil
    }

    /// The path as it is, or through the process's root when that is another file.
    private static func visiblePath(_ pid: Int32, _ path: String) -> String {
        let through = "/proc/\(pid)/root\(path)"
        guard let theirs = fileIdentity(through) else { return path }
        return fileIdentity(path) == theirs ? path : through
    }

    private static func deletedFile(_ pid: Int32, _ mapping: Mapping) -> String {
        "/proc/\(pid)/map_files/\(String(mapping.start, radix: 16))-\(String(mapping.end, radix: 16))"
    }

    /// Program headers from a process's memory, for a file that cannot be opened any more.
    private static func segmentsInMemory(_ pid: Int32, _ mapping: Mapping) -> [ELFFile.Segment]? {
        guard mapping.offset == 0,
            let bytes = try? readMemory(
                pid: pid,
                address: mapping.start,
                count: min(4096, Int(mapping.end - mapping.start))
            )
        else { return nil }
        return unsafe bytes.withUnsafeBytes { raw -> [ELFFile.Segment]? in
            guard raw.count >= MemoryLayout<Elf64_Ehdr>.size, unsafe raw.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2])
            else {
                return nil
            }
            let header = unsafe raw.loadUnaligned(as: Elf64_Ehdr.self)
            var segments: [ELFFile.Segment] = []
            for index in 0..<Int(header.e_phnum) {
                let offset = Int(truncatingIfNeeded: header.e_phoff) &+ index * MemoryLayout<Elf64_Phdr>.size
                guard offset >= 0, offset <= raw.count - MemoryLayout<Elf64_Phdr>.size else { return nil }
                let entry = unsafe raw.loadUnaligned(fromByteOffset: offset, as: Elf64_Phdr.self)
                segments.append(
                    ELFFile.Segment(
                        type: entry.p_type,
                        flags: entry.p_flags,
                        offset: entry.p_offset,
                        address: entry.p_vaddr,
                        fileSize: entry.p_filesz,
                        memorySize: entry.p_memsz
                    )
                )
            }
            return segments
        }
    }
}
