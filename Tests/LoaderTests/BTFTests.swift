import Glibc
import Testing

@testable import Loader

private let vmlinux = "/sys/kernel/btf/vmlinux"

/// Why tests against the kernel's types do not run.
let needsKernelTypes: Comment = "needs /sys/kernel/btf/vmlinux and bpftool"
let hasKernelTypes = access(vmlinux, R_OK) == 0 && access("/usr/sbin/bpftool", X_OK) == 0

func kernelTypes() throws -> BTF { try BTF(readFile(vmlinux), name: vmlinux) }

@Suite struct BTFTests {
    @Test(.enabled(if: hasKernelTypes, needsKernelTypes))
    func kernelTypesAreThoseOfBpftool() throws {
        let count = try compareWithBpftool(kernelTypes(), path: vmlinux)
        #expect(count > 10_000)
    }

    @Test(.enabled(if: hasKernelTypes, needsKernelTypes), arguments: Fixture.names, Compiler.installed)
    func objectTypesAreThoseOfBpftool(name: String, compiler: Compiler) throws {
        let object = try Fixture.object(name, compiler)
        let types = try #require(try loadObject(bytes: object, name: name).btf)
        try withTemporaryDirectory { directory in
            try write(object, to: directory + "/x.o")
            #expect(try compareWithBpftool(types, path: directory + "/x.o") > 5)
        }
    }

    /// A module's types, written behind the kernel's as pahole writes them.
    @Test(.enabled(if: hasKernelTypes, needsKernelTypes))
    func moduleTypesAreThoseOfBpftool() throws {
        let kernel = try kernelTypes()
        var builder = try BTFBuilder(behind: kernel)
        let int = try #require(kernel.types(named: "int").first)
        builder.structure("of_a_module", size: 8, [("a", type: int, offset: 0), ("b", type: int, offset: 4)])
        builder.add(.typedef, "of_a_module_t", sizeOrType: builder.next - 1)
        // Whether it has a type of a name is asked without joining.
        for (name, isThere) in [
            ("of_a_module", true), ("of_a_module_t", true), ("of_a", false), ("int", false), ("task_struct", false),
        ] {
            #expect(kernel.isNamed(name, inModule: builder.bytes()) == isThere, "\(name)")
        }
        builder.structure("file", size: 4, [("a", type: int, offset: 0)])
        #expect(kernel.isNamed("file", inModule: builder.bytes()))
        #expect(kernel.isNamed("of_a_module", inModule: Array(builder.bytes().dropLast(40))) == false)
        let types = try kernel.joined(withModule: builder.bytes(), name: "module")
        #expect(types.count == kernel.count + 3)
        let type = try #require(types.types(named: "of_a_module").first.flatMap { types[$0] })
        #expect(types.name(types.member(type, 1)) == "b")
        #expect(types.member(type, 1).type == int)
        try withTemporaryDirectory { directory in
            try write(builder.bytes(), to: directory + "/module.btf")
            let dump = try run(
                "/usr/sbin/bpftool",
                ["-B", vmlinux, "btf", "dump", "file", directory + "/module.btf", "format", "raw"]
            )
            let lines = dump.output.split(separator: "\n").map(String.init)
            #expect(lines.first == "[\(kernel.count)] STRUCT 'of_a_module' size=8 vlen=2")
            #expect(lines.contains("[\(kernel.count + 1)] TYPEDEF 'of_a_module_t' type_id=\(kernel.count)"))
            #expect(lines.contains("[\(kernel.count + 2)] STRUCT 'file' size=4 vlen=1"))
        }
    }

    @Test func damagedModuleTypesAreRefused() throws {
        var builder = try BTFBuilder(behind: .builtin)
        builder.integer("int", bytes: 4)
        let good = builder.bytes()
        #expect(try BTF.builtin.joined(withModule: good, name: "m").count == BTF.builtin.count + 1)
        for length in 0..<good.count {
            #expect(throws: LoaderError.self) {
                try BTF.builtin.joined(withModule: Array(good[..<length]), name: "m")
            }
        }
    }

    /// Compares id, kind, name and count of every type; returns how many there were.
    private func compareWithBpftool(_ types: BTF, path: String) throws -> Int {
        let dump = try run("/usr/sbin/bpftool", ["btf", "dump", "file", path, "format", "raw"])
        try #require(dump.status == 0)
        var next: UInt32 = 1
        for line in dump.output.utf8.split(separator: UInt8(ascii: "\n")) where line.first == UInt8(ascii: "[") {
            let words = line.split(separator: UInt8(ascii: " "), maxSplits: 2).map { String($0) ?? "" }
            let type = try #require(types[next])
            let rest = words.count > 2 ? words[2] : ""
            let quoted = rest.split(separator: "'", omittingEmptySubsequences: false)
            let name = quoted.count > 1 ? String(quoted[1]) : ""
            let expected = "[\(next)] \(kindName(type.kind)) \(types.name(type))"
            let actual = "\(words[0]) \(words[1]) \(name == "(anon)" ? "" : name)"
            guard actual == expected else {
                Issue.record("bpftool: \(actual), ours: \(expected)")
                return 0
            }
            if let range = rest.firstRange(of: "vlen=") {
                let digits = rest[range.upperBound...].prefix { $0.isNumber }
                if Int(digits) != type.count { Issue.record("\(actual): bpftool counts \(digits), we \(type.count)") }
            }
            next += 1
        }
        #expect(Int(next) == types.count)
        return types.count
    }

    private func kindName(_ kind: BTF.Kind) -> String {
        switch kind {
        case .void: "VOID"
        case .integer: "INT"
        case .pointer: "PTR"
        case .array: "ARRAY"
        case .structure: "STRUCT"
        case .union: "UNION"
        case .enumeration: "ENUM"
        case .forward: "FWD"
        case .typedef: "TYPEDEF"
        case .volatile: "VOLATILE"
        case .const: "CONST"
        case .restrict: "RESTRICT"
        case .function: "FUNC"
        case .functionPrototype: "FUNC_PROTO"
        case .variable: "VAR"
        case .dataSection: "DATASEC"
        case .float: "FLOAT"
        case .declTag: "DECL_TAG"
        case .typeTag: "TYPE_TAG"
        case .enum64: "ENUM64"
        }
    }

    @Test(.enabled(if: hasKernelTypes, needsKernelTypes))
    func lookUpByName() throws {
        let types = try kernelTypes()
        let task = types.types(named: "task_struct").compactMap { types[$0] }
        #expect(task.contains { $0.kind == .structure && $0.count > 50 })
        #expect(types.types(named: "no such type") == [])
        #expect(types.types(essentiallyNamed: "task_struct").count >= task.count)
    }

    @Test func builtinRegisters() throws {
        let types = BTF.builtin
        let id = try #require(types.types(named: "pt_regs").first)
        #expect(types.size(of: id) == 168)
        let type = try #require(types[id])
        let offsets = Dictionary(
            uniqueKeysWithValues: (0..<type.count).map { index in
                let member = types.member(type, index)
                return (types.name(member), member.bitOffset / 8)
            }
        )
        // Linux arch/x86/include/asm/ptrace.h
        #expect(offsets["di"] == 112)
        #expect(offsets["ax"] == 80)
        #expect(offsets["ip"] == 128)
        #expect(offsets["sp"] == 152)
    }

    @Test func circlesAndDanglingTypesEnd() throws {
        var builder = BTFBuilder()
        builder.add(.typedef, "a", sizeOrType: 2)
        builder.add(.const, sizeOrType: 1)
        let array = builder.add(.array, "", [3, 3, 1 << 30])
        builder.add(.pointer, sizeOrType: 4_000_000)
        let types = try BTF(builder.bytes())
        #expect(types.underlying(1) == nil)
        #expect(types.size(of: 1) == nil)
        #expect(types.size(of: array) == nil)
        #expect(types[4_000_000] == nil)
        #expect(types.size(of: 4) == 8)
    }

    @Test func truncatedTypesAreRefused() throws {
        let bytes = BTF.builtin.bytes
        for length in 0..<bytes.count {
            #expect(throws: LoaderError.self) { try BTF(Array(bytes[..<length])) }
        }
    }

    @Test(
        arguments: [
            ("task_struct___old", 11), ("task_struct", 11), ("a___b___c", 5), ("___x", 4), ("a____b", 6), ("a___", 4),
        ]
    )
    func flavours(name: String, length: Int) {
        #expect(essentialLength(Array(name.utf8), 0..<name.utf8.count) == length)
    }
}
