import Glibc
import ISA
import Testing

@testable import Loader

@Suite struct LoadTests {
    @Test(arguments: Fixture.names, Compiler.installed)
    func everyFixtureLoads(name: String, compiler: Compiler) throws {
        for cpu in ["-mcpu=v1", "-mcpu=v2", "-mcpu=v3"] {
            let spec = try Fixture.load(name, compiler, [cpu])
            #expect(spec.name == name)
            #expect(!spec.programs.isEmpty)
            for program in spec.programs where name != "externs" { #expect(program.problems == [], "\(program.name)") }
        }
    }

    /// Objects of others: `UBPF_OBJECTS` names a directory of `.o` files.
    @Test(.enabled(if: getenv("UBPF_OBJECTS") != nil, "UBPF_OBJECTS names no directory of objects"))
    func publicObjectsLoadAndRelocate() throws {
        let directory = getenv("UBPF_OBJECTS").map { String(cString: $0) } ?? ""
        let target = try BTF(readFile("/sys/kernel/btf/vmlinux"))
        let list = try run("/bin/ls", [directory]).output.split(separator: "\n").filter { $0.hasSuffix(".o") }
        #expect(!list.isEmpty)
        for file in list {
            do {
                let spec = try loadObject(path: "\(directory)/\(file)")
                let local = try #require(spec.btf)
                var poisoned = 0
                for program in spec.programs {
                    let done = try program.relocated(local: local, target: target)
                    poisoned += done.instructions.filter { $0.imm == Helper.poisoned }.count
                    if !program.problems.isEmpty { print(file, program.name, program.problems.map(\.message)) }
                }
                print(file, spec.programs.count, "programs", spec.maps.count, "maps", poisoned, "poisoned", spec.notes)
            } catch {
                Issue.record("\(file): \(error)")
            }
        }
    }

    @Test(arguments: Compiler.installed)
    func maps(compiler: Compiler) throws {
        let spec = try Fixture.load("maps", compiler)
        func map(_ name: String) throws -> MapSpec { try #require(spec.maps.first { $0.name == name }) }
        let hash = try map("hash")
        #expect(hash.type == .hash)
        #expect([hash.keySize, hash.valueSize, hash.maxEntries] == [16, 24, 1000])
        #expect(hash.flags == 1)
        let btf = try #require(spec.btf)
        #expect(btf.size(of: hash.keyType) == 16)
        #expect(btf.underlying(hash.keyType).map { btf.name($0) } == "key")
        #expect(try map("stacks").valueSize == 0)
        #expect(try map("stacks").maxEntries == 0)
        let outer = try map("outer")
        var inner = InnerMapSpec(type: .array, keySize: 4, valueSize: 8, maxEntries: 4, flags: 0)
        inner.valueType = try #require(outer.innerMap).valueType
        inner.keyType = try #require(outer.innerMap).keyType
        #expect(btf.size(of: inner.keyType) == 4)
        #expect(btf.size(of: inner.valueType) == 8)
        #expect(outer.innerMap == inner)
        #expect(outer.valueSize == 4)
        let a = try #require(spec.maps.firstIndex { $0.name == "inner_a" })
        let b = try #require(spec.maps.firstIndex { $0.name == "inner_b" })
        #expect(outer.initialElements == [.init(index: 1, value: .map(a)), .init(index: 5, value: .map(b))])
        #expect(try map("calls").initialElements == [.init(index: 1, value: .program("tail"))])
        #expect([try map("events").keySize, try map("events").maxEntries] == [0, 4096])
        #expect(spec.license == "Dual BSD/GPL")
        #expect(hash.isPinned)
        #expect(try !map("stacks").isPinned)
    }

    @Test(arguments: Compiler.installed)
    func globalData(compiler: Compiler) throws {
        let spec = try Fixture.load("maps", compiler)
        func map(_ name: String) throws -> MapSpec { try #require(spec.maps.first { $0.name == name }) }
        let rodata = try map(".rodata")
        #expect(rodata.isReadOnly)
        func variable(_ name: String) throws -> VariableSpec {
            try #require(rodata.variables.first { $0.name == name })
        }
        let limit = try variable("limit")
        #expect(rodata.contents?.u32(at: limit.offset) == 42)
        let kinds = try ["limit", "verbose", "prefix", "mask"].map { try variable($0).kind }
        #expect(kinds == [.signed, .bool, .character, .unsigned])
        #expect(try ["limit", "verbose", "prefix", "mask"].allSatisfy { try variable($0).isOption })
        #expect(try variable("prefix").size == 16)
        #expect(try variable("fixed").isOption == false)
        let bss = try map(".bss")
        #expect(bss.contents == [UInt8](repeating: 0, count: bss.valueSize))
        #expect(bss.variables.map(\.name) == ["hits"])
        #expect(try map(".data").contents == [3, 0, 0, 0])
        #expect(try map(".data.custom").variables.map(\.size) == [8])
        let configuration = try map(".kconfig")
        #expect(configuration.variables.first { $0.name == "CONFIG_ABSENT" }?.isWeak == true)
        #expect(configuration.variables.first { $0.name == "LINUX_KERNEL_VERSION" }?.isWeak == false)
    }

    /// `limit` is loaded from its place in `.rodata`, the map from its index.
    @Test func references() throws {
        let spec = try Fixture.load("maps")
        let program = try #require(spec.programs.first { $0.name == "use" })
        var loaded: Set<String> = []
        for instruction in program.instructions {
            let map = Int(instruction.imm & 0xffff_ffff)
            switch instruction.opcode {
            case .loadMap: loaded.insert(spec.maps[map].name)
            case .loadMapValue:
                let offset = Int(instruction.imm >> 32)
                let variable = spec.maps[map].variables.first { ($0.offset..<$0.offset + $0.size).contains(offset) }
                loaded.insert(spec.maps[map].name + ":" + (variable?.name ?? "?"))
            default: break
            }
        }
        let expected: Set<String> = [
            "hash", "stacks", "outer", "calls", "events", ".rodata:limit", ".rodata:verbose", ".rodata:mask",
            ".data:counter", ".bss:hits", ".data.custom:custom", ".kconfig:CONFIG_ABSENT",
            ".kconfig:LINUX_KERNEL_VERSION",
        ]
        #expect(expected.subtracting(loaded) == [])
        #expect(
            program.attach
                == .uprobe(path: "/bin/bash", symbol: "readline", offset: 0, isReturn: false, isSleepable: false)
        )
        #expect(program.type == .kprobe)
    }

    @Test(arguments: Compiler.installed)
    func linking(compiler: Compiler) throws {
        let spec = try Fixture.load("link", compiler)
        #expect(spec.programs.map(\.name) == ["first", "second", "fourth", "third"])
        let functions = Dictionary(uniqueKeysWithValues: spec.programs.map { ($0.name, $0.functions.map(\.name)) })
        #expect(functions["first"] == ["first", "middle", "leaf"])
        #expect(functions["second"] == ["second", "global", "weak", "leaf"])
        #expect(functions["third"] == ["third", "callback", "middle", "leaf"])
        #expect(functions["fourth"] == ["fourth"])
        for program in spec.programs {
            // Each call and reference goes to the start of a function.
            try validateControlFlow(program.instructions, functions: program.functions.map(\.start))
            let types = program.functions.compactMap { spec.btf?[$0.type] }
            #expect(types.map { spec.btf?.name($0) } == program.functions.map(\.name))
        }
        let third = try #require(spec.programs.first { $0.name == "third" })
        #expect(third.instructions.contains { $0.opcode == .loadFunction })
    }

    @Test func lines() throws {
        let spec = try Fixture.load("link")
        let program = try #require(spec.programs.first { $0.name == "first" })
        let line = try #require(program.lines.first)
        #expect(line.instruction == 0)
        #expect(line.file.hasSuffix("link.bpf.c"))
        #expect(program.lines.contains { $0.text.contains("return x * 3 + total") && $0.line == 12 && $0.column > 0 })
        #expect(program.lines.allSatisfy { program.instructions.indices.contains($0.instruction) })
    }

    @Test(arguments: Compiler.installed)
    func externs(compiler: Compiler) throws {
        let spec = try Fixture.load("externs", compiler)
        let problems = Dictionary(uniqueKeysWithValues: spec.programs.map { ($0.name, $0.problems.map(\.kind)) })
        #expect(problems["strong"] == [.unresolvedSymbol, .unresolvedSymbol])
        #expect(problems["weak"] == [])
        #expect(problems["none"] == [])
        #expect(spec.externs.filter(\.isFunction).map(\.name).sorted() == ["bpf_kernel_function", "bpf_weak_function"])
        #expect(spec.externs.filter(\.isWeak).map(\.name) == ["bpf_weak_function"])
        let strong = try #require(spec.programs.first { $0.name == "strong" })
        let call = try #require(strong.instructions.first { $0.opcode == .callKernelFunction })
        #expect(spec.externs[Int(-1 - call.imm)].name == "bpf_kernel_function")
        // What may be missing is NULL, and what is behind the question for it cannot be reached.
        let weak = try #require(spec.programs.first { $0.name == "weak" })
        #expect(weak.instructions.contains { $0.opcode == .loadImm64 && $0.imm == 0 })
        #expect(weak.instructions.contains { $0.opcode == .callKernelFunction && $0.imm < 0 })
    }

    /// Iterators over numbers are there; others are not, and say why.
    @Test func iterators() throws {
        let text = """
            struct bpf_iter_num { unsigned long long opaque; };
            struct bpf_iter_task { unsigned long long opaque[3]; };
            extern int bpf_iter_num_new(struct bpf_iter_num *, int, int) __attribute__((weak, section(".ksyms")));
            extern int *bpf_iter_num_next(struct bpf_iter_num *) __attribute__((section(".ksyms")));
            extern void bpf_iter_num_destroy(struct bpf_iter_num *) __attribute__((section(".ksyms")));
            extern int bpf_iter_task_new(struct bpf_iter_task *, void *, int) __attribute__((section(".ksyms")));
            __attribute__((section("uprobe"), used)) int numbers(void *ctx)
            {
                struct bpf_iter_num it;
                if (!bpf_iter_num_new) return 1;
                bpf_iter_num_new(&it, 0, 9);
                bpf_iter_num_next(&it);
                bpf_iter_num_destroy(&it);
                return 0;
            }
            __attribute__((section("uprobe"), used)) int tasks(void *ctx)
            {
                struct bpf_iter_task it;
                return bpf_iter_task_new(&it, 0, 0);
            }
            """
        let spec = try loadObject(bytes: Fixture.compile(text: text), name: "x.o")
        let numbers = try #require(spec.programs.first { $0.name == "numbers" })
        #expect(numbers.problems.isEmpty)
        let calls = numbers.instructions.filter { $0.opcode == .callKernelFunction }
        #expect(calls.map { Helper(calledBy: $0) } == [.iterNumNew, .iterNumNext, .iterNumDestroy])
        #expect(numbers.instructions.contains { $0.opcode == .loadImm64 && $0.imm != 0 })
        let tasks = try #require(spec.programs.first { $0.name == "tasks" })
        #expect(tasks.problems.map(\.code) == ["U308"])
        #expect(tasks.problems.first?.why.contains("bpf_for") == true)
    }

    @Test func sameBytesSameSpec() throws {
        let bytes = try Fixture.object("maps")
        let (a, b) = (try loadObject(bytes: bytes, name: "a.o"), try loadObject(bytes: bytes, name: "a.o"))
        #expect(a.maps == b.maps)
        #expect(a.programs.map(\.instructions) == b.programs.map(\.instructions))
        #expect(a.notes == b.notes)
    }

    @Test func mapsNeedBTFAndPlainProgramsDoNot() throws {
        #expect(try Fixture.load("plain", .current, ["-g0"]).programs.count == 1)
        #expect(try Fixture.load("plain", .current, ["-g0"]).maps.map(\.name) == [".data"])
    }
}
