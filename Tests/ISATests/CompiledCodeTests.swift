import Foundation
import Testing

@testable import ISA

/// A clang that can compile for BPF; nil where there is none.
private let clang: String? = ["clang", "clang-21", "clang-19", "clang-16"].flatMap { name in
    (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map { "\($0)/\(name)" }
}.first {
    FileManager.default.isExecutableFile(atPath: $0) && run($0, ["--print-targets"])?.contains("bpfel") == true
}

private func run(_ path: String, _ arguments: [String]) -> String? {
    let process = Process()
    let output = Pipe()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    process.standardOutput = output
    process.standardError = FileHandle.standardError
    guard (try? process.run()) != nil else { return nil }
    let data = try? output.fileHandleForReading.readToEnd()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { return nil }
    return String(decoding: data ?? Data(), as: UTF8.self)
}

@Suite struct CompiledCodeTests {
    static let source = """
        typedef unsigned long long u64;
        u64 table[16];
        static __attribute__((noinline)) u64 mix(u64 a, u64 b) { return a * 31 + (b ^ a >> 7); }
        u64 arithmetic(long a, long b, int c, signed char *d, short *e) {
            u64 r = a / b + b % a + c / 3;
            r += d[0] + e[1];
            r ^= __builtin_bswap64(r) ^ __builtin_bswap32(c);
            for (int i = 0; i < c; i++) r = mix(r, i);
            return r;
        }
        u64 atomics(u64 *p, int *q) {
            u64 r = __sync_fetch_and_add(p, 3) + __sync_fetch_and_or(q, 5) + __sync_lock_test_and_set(p, 9);
            return r + __sync_val_compare_and_swap(p, r, 1) + table[r & 15];
        }
        """

    /// What clang emits decodes, and encodes to the same bytes.
    @Test(
        .enabled(if: clang != nil, "no clang with a BPF target on this machine"),
        arguments: ["v1", "v2", "v3", "v4"]
    )
    func roundTrip(_ cpu: String) throws {
        let clang = try #require(clang)
        let directory = FileManager.default.temporaryDirectory.appending(path: "isa-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let file = directory.appending(path: "a.c")
        let object = directory.appending(path: "a.o")
        // v1 and v2 have neither signed division nor atomics that return values.
        let text = cpu < "v3" ? Self.source.components(separatedBy: "u64 atomics")[0] : Self.source
        let portable = cpu < "v4" ? text.replacingOccurrences(of: "a / b + b % a + c / 3", with: "a * b") : text
        try portable.write(to: file, atomically: true, encoding: .utf8)
        let arguments = ["-target", "bpf", "-mcpu=\(cpu)", "-O2", "-c", file.path, "-o", object.path]
        try #require(run(clang, arguments) != nil, "clang failed")
        let code = try #require(section(".text", of: [UInt8](Data(contentsOf: object))))
        try #require(code.count > 100)

        let instructions = try decode(code)
        #expect(encode(instructions).flatMap(\.bytes) == code)
        let opcodes = Set(instructions.map(\.opcode))
        if cpu == "v4" {
            #expect(opcodes.isSuperset(of: [.sdiv64Reg, .smod64Reg, .loadSigned8, .loadSigned16, .bswap64]))
        }
        if cpu >= "v3" {
            #expect(
                opcodes.isSuperset(of: [
                    .atomicFetchAdd64, .atomicFetchOr32, .atomicExchange64, .atomicCompareExchange64,
                ])
            )
        }
    }

    /// The bytes of a section of a little-endian ELF64 file.
    private func section(_ name: String, of file: [UInt8]) -> [UInt8]? {
        func number(_ at: Int, _ bytes: Int) -> Int {
            (0..<bytes).reduce(0) { $0 | Int(file[at + $1]) << (8 * $1) }
        }
        let headers = number(0x28, 8)
        let size = number(0x3a, 2)
        let names = number(headers + number(0x3e, 2) * size + 0x18, 8)
        for index in 0..<number(0x3c, 2) {
            let header = headers + index * size
            let start = names + number(header, 4)
            guard file[start...].prefix(while: { $0 != 0 }).elementsEqual(name.utf8) else { continue }
            let offset = number(header + 0x18, 8)
            return Array(file[offset..<offset + number(header + 0x20, 8)])
        }
        return nil
    }
}
