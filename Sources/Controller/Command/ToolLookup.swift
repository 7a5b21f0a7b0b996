import CLinux
import Glibc

/// Where the files that belong to `ubpfrun` are: next to it in a build, under the prefix when installed.
package struct Installation: Sendable {
    /// The directory of the running executable.
    package var binaries: String

    package init(binaries: String) { self.binaries = binaries }

    /// That of this process.
    package static var current: Installation {
        unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4096) { buffer in
            guard let base = buffer.baseAddress else { return Installation(binaries: ".") }
            let size = unsafe readlink("/proc/self/exe", base, 4095)
            guard size > 0 else { return Installation(binaries: ".") }
            unsafe base[size] = 0
            return Installation(binaries: directory(of: unsafe String(cString: base)))
        }
    }

    private var prefix: String { "\(binaries)/.." }

    /// The library that targets load: `UBPF_LIB`, or the first of the usual places.
    package func library() throws(Failure) -> String {
        let tried: [String]
        if let chosen = environmentValue("UBPF_LIB"), !chosen.isEmpty {
            tried = [chosen]
        } else {
            tried = ["\(prefix)/lib/libubpf.so", "\(prefix)/lib/x86_64-linux-gnu/libubpf.so", "\(binaries)/libubpf.so"]
        }
        guard let found = tried.first(where: isFile) else { throw Failure.libraryMissing(tried) }
        // The target may have another working directory.
        let path = absolutePath(found)
        guard !path.contains(" "), !path.contains(":") else {
            throw Failure(
                .libraryMissing,
                "the library cannot be preloaded from \(path)",
                why: "LD_PRELOAD splits at blanks and colons (ld.so(8))",
                help: "install to another directory, or set UBPF_LIB"
            )
        }
        return path
    }

    package var tools: String { "\(prefix)/share/ubpf/tools" }

    /// Headers for `.bpf.c` files.
    package var headers: String { "\(prefix)/share/ubpf/include" }

    /// Names of the tools that come with `ubpfrun`, sorted.
    package func toolNames() -> [String] {
        let suffix = ".bpf.o"
        return entries(of: tools).filter { $0.hasSuffix(suffix) }.map { String($0.dropLast(suffix.count)) }.sorted()
    }

    /// What a word on the command line stands for: a file always wins over a tool.
    package func find(_ word: String) throws(Failure) -> Program {
        if isFile(word) { return word.hasSuffix(".c") ? .source(word) : .object(word) }
        if !word.contains("/") {
            let tool = "\(tools)/\(word).bpf.o"
            if isFile(tool) { return .object(tool) }
        }
        throw Failure.objectNotFound(word, tools: word.contains("/") ? [] : toolNames())
    }

    package enum Program: Equatable, Sendable {
        case object(String)
        case source(String)
    }
}

/// Whether a path leads to something that can be opened as a file (directories cannot).
func isFile(_ path: String) -> Bool {
    let mode = unsafe clinux_mode(path)
    return mode >= 0 && mode & Int32(S_IFMT) != Int32(S_IFDIR)
}

func isDirectory(_ path: String) -> Bool {
    let mode = unsafe clinux_mode(path)
    return mode >= 0 && mode & Int32(S_IFMT) == Int32(S_IFDIR)
}

/// Everything before the last `/`.
func directory(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}

/// Everything after the last `/`.
package func fileName(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
}

/// The path without links and dots (realpath(3)), or as it is.
func absolutePath(_ path: String) -> String {
    guard let resolved = unsafe realpath(path, nil) else { return path }
    defer { unsafe free(resolved) }
    return unsafe String(cString: resolved)
}

private func entries(of directory: String) -> [String] {
    guard let handle = unsafe opendir(directory) else { return [] }
    defer { unsafe _ = closedir(handle) }
    var names: [String] = []
    while let entry = unsafe readdir(handle) {
        let name = unsafe withUnsafeBytes(of: entry.pointee.d_name) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        names.append(name)
    }
    return names
}
