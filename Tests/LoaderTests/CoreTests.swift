import Glibc
import ISA
import Testing

@testable import Loader

private let header = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    #include <bpf/bpf_core_read.h>
    #define relocatable __attribute__((preserve_access_index))
    long out, more;

    """

@Suite struct CoreTests {
    private static func load(_ text: String) throws -> ObjectSpec {
        try loadObject(bytes: Fixture.compile(text: header + text), name: "x.o")
    }

    private static func relocate(_ text: String, _ target: BTF) throws -> [Instruction] {
        let spec = try load(text)
        let program = try #require(spec.programs.first)
        return try program.relocated(local: #require(spec.btf), target: target).instructions
    }

    private static func types(_ build: (inout BTFBuilder) -> Void) throws -> BTF {
        var builder = BTFBuilder()
        build(&builder)
        return try BTF(builder.bytes())
    }

    /// `struct s` with an integer `a`.
    private static func target(bytes: UInt32, offset: UInt32, signed: Bool = false, size: UInt32 = 64) throws -> BTF {
        try types {
            let type = $0.integer("unsigned int", bytes: bytes, signed: signed)
            $0.structure("s", size: size, [("a", type: type, offset: offset)])
        }
    }

    // MARK: Against libbpf

    /// What libbpf did to each relocated instruction: slot in its function, and the value or nil for poison.
    private func libbpf(_ object: [UInt8]) throws -> [String: [Int: Int64?]] {
        try withTemporaryDirectory { directory in
            try write(object, to: directory + "/x.o")
            // It cannot pin there; relocation comes first, and nothing stays behind.
            let log = try run(
                "/usr/sbin/bpftool",
                ["-d", "prog", "loadall", directory + "/x.o", "/proc/nonexistent/x"]
            )
            var result: [String: [Int: Int64?]] = [:]
            for line in log.output.split(separator: "\n") where line.contains("insn #") {
                let quoted = line.split(separator: "'")
                guard quoted.count > 2, let mark = line.firstRange(of: "insn #"),
                    let slot = Int(line[mark.upperBound...].prefix { $0.isNumber })
                else { continue }
                let function = String(quoted[1])
                if line.contains("substituting insn") {
                    result[function, default: [:]][slot] = .some(nil)
                } else if line.contains("patched insn"), !line.contains("mem_sz"),
                    let value = line.split(separator: " ").last.flatMap({ UInt64($0) })
                {
                    result[function, default: [:]][slot] = Int64(bitPattern: value)
                }
            }
            return result
        }
    }

    @Test(
        .enabled(if: hasKernelTypes && geteuid() == 0, "libbpf relocates only where it may load: needs root"),
        arguments: Compiler.installed
    )
    func sameAsLibbpf(compiler: Compiler) throws {
        let object = try Fixture.object("core", compiler)
        #expect(try compareWithLibbpf(object, "core.o") > 25)
    }

    /// Objects of others: `UBPF_OBJECTS` names a directory of `.o` files.
    @Test(.enabled(if: getenv("UBPF_OBJECTS") != nil && geteuid() == 0, "UBPF_OBJECTS names no directory, or no root"))
    func publicObjectsAreRelocatedLikeByLibbpf() throws {
        let directory = getenv("UBPF_OBJECTS").map { String(cString: $0) } ?? ""
        var compared = 0
        for file in try run("/bin/ls", [directory]).output.split(separator: "\n") where file.hasSuffix(".o") {
            compared += try compareWithLibbpf(readFile("\(directory)/\(file)"), String(file))
        }
        print("\(compared) relocations are as libbpf makes them")
        #expect(compared > 100)
    }

    /// Compares every relocated instruction of every function; returns how many there were.
    private func compareWithLibbpf(_ object: [UInt8], _ name: String) throws -> Int {
        let expected = try libbpf(object)
        let spec = try loadObject(bytes: object, name: name)
        let target = try kernelTypes()
        var compared = 0
        for program in spec.programs {
            let result = try program.relocated(local: #require(spec.btf), target: target)
            let map = SlotMap(result.instructions)
            #expect(map.slotCount == SlotMap(program.instructions).slotCount)
            for function in result.functions {
                for (slot, value) in expected[function.name] ?? [:] {
                    let index = try #require(map.instruction(at: map.slots[function.start] + slot))
                    #expect(
                        matches(result.instructions[index], value),
                        "\(name): \(function.name), slot \(slot): \(result.instructions[index])"
                    )
                    compared += 1
                }
            }
        }
        return compared
    }

    private func matches(_ instruction: Instruction, _ value: Int64?) -> Bool {
        guard let value else { return instruction == Instruction(.callHelper, imm: Helper.poisoned) }
        return switch instruction.opcode.shape {
        case .load, .store, .atomic: Int64(instruction.offset) == value
        default: instruction.imm == value
        }
    }

    // MARK: Against types made here

    private let load =
        "struct s { unsigned long a; } relocatable;\nSEC(\"uprobe\") int f(struct s *s) { out = s->a; return 0; }"

    @Test(
        arguments: [
            (UInt32(8), Opcode.load64), (4, .load32), (2, .load16), (1, .load8),
        ]
    )
    func loadsTakeTheSizeOfTheTarget(bytes: UInt32, opcode: Opcode) throws {
        let instructions = try Self.relocate(load, Self.target(bytes: bytes, offset: 40))
        #expect(instructions.contains { $0.opcode == opcode && $0.offset == 40 })
    }

    /// Modules are asked only for what the kernel itself has not, and all that have it must agree.
    @Test func typesOfModules() throws {
        let spec = try Self.load(load)
        let program = try #require(spec.programs.first)
        func module(offset: UInt32) throws -> BTF {
            var builder = try BTFBuilder(behind: .builtin)
            let long = builder.integer("unsigned long", bytes: 8)
            builder.structure("s", size: 64, [("a", type: long, offset: offset)])
            return try BTF.builtin.joined(withModule: builder.bytes(), name: "module")
        }
        func offset(_ kernel: BTF, _ modules: [BTF]) throws -> Int32? {
            var asked: [String] = []
            let local = try #require(spec.btf)
            let result = try program.relocated(
                local: local,
                target: kernel,
                modules: {
                    asked.append($0)
                    return modules
                }
            )
            #expect(asked == (kernel.types(named: "s").isEmpty ? ["s"] : []))
            return result.instructions.first { $0.opcode == .load64 && $0.offset > 0 }?.offset
        }
        #expect(try offset(.builtin, [module(offset: 24)]) == 24)
        #expect(try offset(.builtin, [module(offset: 24), module(offset: 24)]) == 24)
        #expect(throws: LoaderError.self) { try offset(.builtin, [module(offset: 24), module(offset: 32)]) }
        #expect(try offset(.builtin, []) == nil)
        #expect(try offset(Self.target(bytes: 8, offset: 48), [module(offset: 24)]) == 48)
    }

    @Test func resolutionsSayWhatIsAskedFor() throws {
        let text = """
            enum e { A = 3, B };
            struct t { int x; struct { long y[4]; } z; } relocatable;
            struct gone { int a; } relocatable;
            SEC("uprobe") int f(struct t *t) {
                out = t->z.y[2] + bpf_core_enum_value(enum e, B) + bpf_core_type_exists(struct gone);
                return bpf_core_field_exists(t->x);
            }
            """
        let spec = try Self.load(text)
        let target = try Self.types {
            let long = $0.integer("long", bytes: 8)
            let int = $0.integer("int", bytes: 4)
            let array = $0.add(.array, "", [long, int, 4])
            let inner = $0.structure("", size: 32, [("y", type: array, offset: 0)])
            $0.structure("t", size: 96, [("z", type: inner, offset: 64)])
            $0.add(.enumeration, "e", count: 1, sizeOrType: 4, [$0.string("B"), 9])
        }
        let found = try #require(spec.programs.first).resolutions(local: #require(spec.btf), target: target)
        let lines = found.map { "\($0.kind.name) \($0.subject) \($0.original) \($0.value.map { "\($0)" } ?? "-")" }
        #expect(
            Set(lines) == [
                "byte_off t.z.y[2] 24 80", "enumval_value e::B 4 9", "type_exists gone 1 0", "field_exists t.x 1 0",
            ]
        )
    }

    @Test func signedFieldsOfAnotherSizeArePoisoned() throws {
        let instructions = try Self.relocate(load, Self.target(bytes: 4, offset: 8, signed: true))
        #expect(instructions.filter { $0.imm == Helper.poisoned }.count == 1)
    }

    @Test func offsetsThatDoNotFitAreRefused() throws {
        #expect { try Self.relocate(load, Self.target(bytes: 8, offset: 40_000, size: 50_000)) } throws: {
            ($0 as? LoaderError)?.kind == .badCoreRelocation
        }
    }

    @Test func missingTypesArePoisoned() throws {
        #expect(try Self.relocate(load, BTF.builtin).contains(Instruction(.callHelper, imm: Helper.poisoned)))
    }

    @Test func flavoursOfBothSidesAreStripped() throws {
        let text =
            "struct s___v2 { unsigned long a; } relocatable;\nSEC(\"uprobe\") int f(struct s___v2 *s) { out = s->a; return 0; }"
        let target = try Self.types {
            let long = $0.integer("long", bytes: 8)
            $0.structure("s___v1", size: 32, [("a", type: long, offset: 24)])
        }
        #expect(try Self.relocate(text, target).contains { $0.opcode == .load64 && $0.offset == 24 })
    }

    /// A type without flavour is the one that is meant, where the target has both.
    @Test func flavoursDoNotHideThePlainType() throws {
        let target = try Self.types {
            let long = $0.integer("unsigned long", bytes: 8)
            $0.structure("s___old", size: 64, [("a", type: long, offset: 24)])
            $0.structure("s", size: 64, [("a", type: long, offset: 16)])
        }
        #expect(try Self.relocate(load, target).contains { $0.opcode == .load64 && $0.offset == 16 })
    }

    @Test func equalCandidatesAgreeAndOthersAreAmbiguous() throws {
        func target(_ second: UInt32) throws -> BTF {
            try Self.types {
                let long = $0.integer("long", bytes: 8)
                $0.structure("s", size: 64, [("a", type: long, offset: 16)])
                $0.structure("s", size: 64, [("a", type: long, offset: second)])
            }
        }
        #expect(try Self.relocate(load, target(16)).contains { $0.opcode == .load64 && $0.offset == 16 })
        #expect { try Self.relocate(load, target(24)) } throws: {
            ($0 as? LoaderError)?.kind == .ambiguousCoreRelocation
        }
    }

    @Test func fieldsAreFoundInAnonymousStructs() throws {
        let target = try Self.types {
            let long = $0.integer("long", bytes: 8)
            let inner = $0.structure("", size: 16, [("z", type: long, offset: 0), ("a", type: long, offset: 8)])
            $0.structure("s", size: 32, [("b", type: long, offset: 0), ("", type: inner, offset: 16)])
        }
        #expect(try Self.relocate(load, target).contains { $0.opcode == .load64 && $0.offset == 24 })
    }

    @Test func structsThatContainThemselvesEnd() throws {
        let target = try Self.types {
            $0.structure("s", size: 32, [("", type: 1, offset: 0), ("", type: 1, offset: 8)])
        }
        #expect(throws: LoaderError.self) { try Self.relocate(load, target) }
    }

    @Test(arguments: [(UInt32(4), false, Int64(1)), (4, true, 0), (8, false, 0)])
    func typeMatches(bytes: UInt32, signed: Bool, expected: Int64) throws {
        let text = """
            struct s { unsigned int a; } relocatable;
            SEC("uprobe") int f(void *ctx) { return bpf_core_type_matches(struct s); }
            """
        let instructions = try Self.relocate(text, Self.target(bytes: bytes, offset: 4, signed: signed))
        let moves = instructions.filter { $0.opcode == .mov64Imm || $0.opcode == .mov32Imm }
        #expect(moves.map(\.imm) == [expected])
    }

    /// A poisoned 64-bit immediate becomes two calls: jumps count slots and must not move.
    @Test func poisonKeepsSlotsAndMovesIndices() throws {
        let spec = try Fixture.load("core")
        let program = try #require(spec.programs.first { $0.name == "enums" })
        let result = try program.relocated(local: #require(spec.btf), target: BTF.builtin)
        #expect(SlotMap(result.instructions).slotCount == SlotMap(program.instructions).slotCount)
        #expect(result.instructions.count > program.instructions.count)
        #expect(result.lines.map(\.text) == program.lines.map(\.text))
        let (before, after) = (SlotMap(program.instructions), SlotMap(result.instructions))
        for (old, new) in zip(program.lines, result.lines) {
            #expect(before.slots[old.instruction] == after.slots[new.instruction])
        }
        try validateControlFlow(result.instructions, functions: result.functions.map(\.start))
    }

    @Test(
        arguments: [
            CoreRelocation(instruction: 0, type: 1, access: "0", kind: 99),
            CoreRelocation(instruction: 99_999, type: 1, access: "0", kind: 0),
            CoreRelocation(instruction: 0, type: 1 << 30, access: "0", kind: 0),
            CoreRelocation(instruction: 0, type: 1, access: "", kind: 0),
            CoreRelocation(instruction: 0, type: 1, access: "0:x", kind: 0),
            CoreRelocation(instruction: 0, type: 1, access: "-1", kind: 0),
            CoreRelocation(instruction: 0, type: 1, access: "2147483647:2147483647", kind: 0),
        ]
    )
    func malformedRelocations(relocation: CoreRelocation) throws {
        let spec = try Fixture.load("plain")
        var program = try #require(spec.programs.first)
        program.relocations = [relocation]
        #expect { try program.relocated(local: #require(spec.btf), target: BTF.builtin) } throws: {
            ($0 as? LoaderError)?.kind == .badCoreRelocation
        }
    }
}
