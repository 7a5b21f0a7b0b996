import Foundation
import Testing

@testable import Symbols

@Suite struct ModuleTests {
    private static let libc =
        (try? ProcessMaps.read(pid: getpid()))?.modules.first { $0.name.hasPrefix("libc.so") }?.path ?? ""

    /// Exported functions of libc, against `nm -D`.
    @Test func exportedFunctionsAgreeWithNm() throws {
        let symbols = try ModuleSymbols(path: Self.libc)
        let listing = try run("nm", ["-D", "--defined-only", Self.libc]).output
        var checked = 0
        for line in listing.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count == 3, fields[1] == "T" || fields[1] == "W", let address = UInt64(fields[0], radix: 16)
            else { continue }
            let name = String(fields[2].replacing("@@", with: "@"))
            let plain = String(name.prefix { $0 != "@" })
            let found = symbols.functions(named: plain).map(\.address)
            #expect(found.contains(address), "\(name)")
            checked += 1
        }
        #expect(checked > 1500)
    }

    @Test func suggestions() throws {
        let symbols = try ModuleSymbols(path: Self.libc)
        #expect(symbols.suggestions(for: "mallc").first == "malloc")
        #expect(symbols.suggestions(for: "mallc").count <= 3)
        #expect(symbols.functions(named: "no_such_function_anywhere").isEmpty)
        #expect(symbols.functions(matching: "posix_mem*").map(\.name).contains("posix_memalign"))
    }

    @Test func mapsOfThisProcess() throws {
        let maps = try ProcessMaps.read(pid: getpid())
        let executable = try #require(maps.executable)
        #expect(executable.path == (try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")))
        let libc = try #require(maps.modules.first { $0.name.hasPrefix("libc.so") })
        // The address of a function is where the maps and the symbol table say.
        let handle = dlopen(nil, RTLD_NOW)
        let address = UInt64(UInt(bitPattern: dlsym(handle, "getpid")))
        let symbol = try #require(try ModuleSymbols(path: libc.openPath).functions(named: "getpid").first)
        #expect(symbol.address + libc.bias == address)
        #expect(maps.module(containing: address)?.name == libc.name)
    }

    @Test func aProcessThatIsGone() {
        #expect(throws: SymbolsError.self) { try ProcessMaps.read(pid: 1 << 22) }
    }
}

@Suite struct BinaryInfoTests {
    private static let program = "int main(void) { return 0; }"

    private func refusal(_ path: String, user: UInt32 = 1000) throws -> String? {
        try BinaryInfo.inspect(path).preloadRefusal(effectiveUser: user)?.code
    }

    @Test func whatCanAndCannotLoadTheLibrary() throws {
        let directory = try TemporaryDirectory()
        let dynamic = try directory.compile(Self.program, "dynamic")
        #expect(try refusal(dynamic) == nil)
        #expect(try refusal(directory.compile(Self.program, "static", ["-static"])) == "U102")
        #expect(try refusal(directory.compile(Self.program, "static-pie", ["-static-pie"])) == "U102")
        var header = try Data(contentsOf: URL(fileURLWithPath: dynamic))
        header[4] = 1
        let narrow = directory.path + "/narrow"
        try header.write(to: URL(fileURLWithPath: narrow))
        #expect(try refusal(narrow) == "U103")
        let object = directory.path + "/object.o"
        _ = try run("gcc", ["-c", directory.path + "/dynamic.c", "-o", object])
        #expect(try refusal(object) == "U108")
        #expect(try refusal(directory.write("text", "hello")) == "U108")
    }

    @Test func setuidPrograms() throws {
        let directory = try TemporaryDirectory()
        let program = try directory.compile(Self.program)
        try FileManager.default.setAttributes([.posixPermissions: 0o4755], ofItemAtPath: program)
        let info = try BinaryInfo.inspect(program)
        #expect(info.isSetuid)
        // Refused to everyone but the owner, for whom nothing changes.
        #expect(info.preloadRefusal(effectiveUser: getuid() + 1)?.code == "U105")
    }

    @Test func scripts() throws {
        let directory = try TemporaryDirectory()
        let script = try directory.write("script", "#!/bin/sh -e\necho\n", mode: 0o755)
        #expect(try BinaryInfo.inspect(script).form == .script(interpreter: "/bin/sh"))
        #expect(throws: SymbolsError.self) { try BinaryInfo.inspect(directory.path + "/missing") }
    }
}
