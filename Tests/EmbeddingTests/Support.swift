import Glibc
import ISA
import Testing
import UBPFVM

@testable import Embedding

/// Objects compiled from `Fixtures/`.
enum Fixture: String, CaseIterable {
    case calls, refused

    /// The toolchain's clang, or Debian's.
    static let compilers: [String] = {
        let directories = getenv("PATH").map { String(cString: $0) } ?? ""
        return ["clang", "clang-14"].compactMap { name in
            directories.split(separator: ":").map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
        }
    }()

    func object(_ compiler: String, _ cpu: String = "v3") throws -> [UInt8] {
        let source = String(#filePath.dropLast("Support.swift".count)) + "Fixtures/\(rawValue).bpf.c"
        let command = "'\(compiler)' -target bpf -mcpu=\(cpu) -O2 -c '\(source)' -o -"
        let pipe = try #require(popen(command, "r"))
        var bytes: [UInt8] = []
        while case let byte = getc(pipe), byte != EOF { bytes.append(UInt8(byte)) }
        try #require(pclose(pipe) == 0, "\(command)")
        return bytes
    }
}

/// The text of what `body` throws; nil where it does not.
func failure(_ body: () throws(EmbeddingError) -> Void) -> String? {
    do {
        try body()
        return nil
    } catch {
        return error.message
    }
}

/// A program of an object, interpreted.
func run(_ object: [UInt8], _ name: String?, _ memory: [UInt8], budget: UInt64 = 1 << 20) throws -> UInt64 {
    let slots = try readProgram(object, name: name.map { Array($0.utf8) })
    var runner = ProgramRunner(packet: memory)
    runner.budget = budget
    return try runner.run(decode(slots))
}
