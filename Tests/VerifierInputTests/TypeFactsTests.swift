import ISA
import Testing
import Verifier

@testable import Loader
@testable import VerifierInput

@Suite("What types say about functions and maps")
struct TypeFactsTests {
    /// `int f(T)` for a parameter that `build` makes; the contract of `f`.
    private func parameter(
        _ type: ProgramType = .kprobe,
        tags: [String] = [],
        build: (inout BTFBuilder) -> UInt32
    ) throws -> FunctionFacts.Parameter? {
        var builder = BTFBuilder()
        let int = builder.integer("int", bytes: 4, signed: true)
        let parameter = build(&builder)
        let prototype = builder.add(.functionPrototype, count: 1, sizeOrType: int, [builder.string("p"), parameter])
        let function = builder.add(.function, "f", count: 1, sizeOrType: prototype)
        for tag in tags { builder.add(.declTag, tag, sizeOrType: function, [0]) }
        // Tags of other things do not count.
        builder.add(.declTag, "arg:ctx", sizeOrType: function, [1])
        builder.add(.declTag, "arg:ctx", sizeOrType: prototype, [0])
        let facts = TypeFacts(try BTF(builder.bytes()))
        #expect(facts.functionName(function) == "f")
        #expect(facts.functionName(prototype) == nil)
        let contract = try #require(facts.contract(function, of: type))
        #expect(contract.parameters.count == 1 && !contract.returnsVoid)
        return contract.parameters.first
    }

    private func pointer(_ target: UInt32, _ builder: inout BTFBuilder) -> UInt32 {
        builder.add(.pointer, sizeOrType: target)
    }

    @Test("Scalars")
    func scalars() throws {
        #expect(try parameter { $0.integer("long", bytes: 8) } == .scalar)
        #expect(try parameter { $0.add(.enumeration, "e", count: 1, sizeOrType: 4, [0, 1]) } == .scalar)
        let alias = try parameter {
            let const = $0.add(.const, sizeOrType: $0.integer("long", bytes: 8))
            return $0.add(.typedef, "u64", sizeOrType: const)
        }
        #expect(alias == .scalar)
        #expect(try parameter { $0.structure("s", size: 8, []) } == .unsupported)
        #expect(try parameter { $0.add(.float, "f", sizeOrType: 4) } == .unsupported)
        #expect(try parameter(tags: ["arg:nonnull"]) { $0.integer("long", bytes: 8) } == .unsupported)
    }

    @Test("Memory")
    func memory() throws {
        let structure: (inout BTFBuilder) -> UInt32 = { builder in
            let long = builder.integer("long", bytes: 8)
            let fields = [("a", type: long, offset: UInt32(0)), ("b", type: long, offset: 8)]
            return self.pointer(builder.structure("s", size: 16, fields), &builder)
        }
        #expect(try parameter(build: structure) == .memory(size: 16, isNullable: true))
        #expect(try parameter(tags: ["arg:nonnull"], build: structure) == .memory(size: 16, isNullable: false))
        #expect(try parameter(tags: ["arg:nullable"], build: structure) == .unsupported)
        #expect(try parameter(tags: ["arg:trusted"], build: structure) == .unsupported)
        #expect(try parameter(tags: ["other"], build: structure) == .memory(size: 16, isNullable: true))
        #expect(try parameter { self.pointer(1, &$0) } == .memory(size: 4, isNullable: true))
        let array = try parameter {
            let array = $0.add(.array, "", [1, 1, 5])
            return self.pointer(array, &$0)
        }
        #expect(array == .memory(size: 20, isNullable: true))
        #expect(try parameter { self.pointer(0, &$0) } == .unsupported)
        #expect(try parameter { self.pointer($0.add(.forward, "s"), &$0) } == .unsupported)
        #expect(try parameter { self.pointer($0.structure("bpf_dynptr", size: 16, []), &$0) } == .unsupported)
    }

    @Test(
        "Contexts",
        arguments: [
            (ProgramType.kprobe, "pt_regs", true), (.kprobe, "__sk_buff", false), (.socketFilter, "__sk_buff", true),
            (.xdp, "xdp_md", true), (.xdp, "__sk_buff", false), (.perfEvent, "bpf_perf_event_data", true),
            (.rawTracepoint, "bpf_raw_tracepoint_args", true), (.tracepoint, "trace_event_raw", false),
        ]
    )
    func contexts(_ type: ProgramType, _ name: String, _ isContext: Bool) throws {
        let build: (inout BTFBuilder) -> UInt32 = { self.pointer($0.structure(name, size: 8, []), &$0) }
        #expect(try parameter(type, build: build) == (isContext ? .context : .memory(size: 8, isNullable: true)))
        #expect(try parameter(type, tags: ["arg:ctx"], build: build) == .context)
        #expect(try parameter(type, tags: ["arg:ctx"]) { self.pointer(0, &$0) } == .context)
        #expect(try parameter(type, tags: ["arg:ctx", "arg:nonnull"], build: build) == .unsupported)
    }

    @Test("Static functions promise nothing, and results must be scalars")
    func functions() throws {
        var builder = BTFBuilder()
        let int = builder.integer("int", bytes: 4)
        let scalar = builder.add(.functionPrototype, sizeOrType: int)
        let nothing = builder.add(.functionPrototype, sizeOrType: 0)
        let address = builder.add(.functionPrototype, sizeOrType: builder.add(.pointer, sizeOrType: int))
        let still = builder.add(.function, "still", sizeOrType: scalar)
        let global = builder.add(.function, "global", count: 1, sizeOrType: scalar)
        let void = builder.add(.function, "void", count: 1, sizeOrType: nothing)
        let odd = builder.add(.function, "odd", count: 1, sizeOrType: address)
        let broken = builder.add(.function, "broken", count: 1, sizeOrType: 99)
        let facts = TypeFacts(try BTF(builder.bytes()))
        #expect(facts.contract(still, of: .kprobe) == nil)
        #expect(facts.contract(int, of: .kprobe) == nil)
        #expect(facts.contract(1000, of: .kprobe) == nil)
        #expect(facts.contract(global, of: .kprobe) == FunctionFacts.Contract(parameters: []))
        #expect(facts.contract(void, of: .kprobe) == FunctionFacts.Contract(parameters: [], returnsVoid: true))
        #expect(facts.contract(odd, of: .kprobe) == FunctionFacts.Contract(parameters: [.unsupported]))
        #expect(facts.contract(broken, of: .kprobe) == FunctionFacts.Contract(parameters: [.unsupported]))
    }

    @Test("Locks and timers in values")
    func fields() throws {
        var builder = BTFBuilder()
        let int = builder.integer("int", bytes: 4)
        let lock = builder.structure("bpf_spin_lock", size: 4, [("val", type: int, offset: 0)])
        let timer = builder.structure("bpf_timer", size: 16, [])
        let inner = builder.structure("inner", size: 24, [("a", type: int, offset: 0), ("t", type: timer, offset: 8)])
        let alias = builder.add(.typedef, "lock_t", sizeOrType: lock)
        let value = builder.structure(
            "value",
            size: 40,
            [("x", type: int, offset: 0), ("lock", type: alias, offset: 4), ("inner", type: inner, offset: 8)]
        )
        let loop = builder.next
        builder.structure("loop", size: 8, [("again", type: loop, offset: 0)])
        let broad = builder.next
        builder.structure("broad", size: 8, (0..<100).map { ("again\($0)", type: broad, offset: 0) })
        let first = builder.add(.variable, "first", sizeOrType: int, [1])
        let second = builder.add(.variable, "second", sizeOrType: value, [1])
        // Compilers write no places; where variables lie is known from their symbols.
        let section = builder.add(.dataSection, ".bss", count: 2, [first, 0, 4, second, 0, 40])
        let facts = TypeFacts(try BTF(builder.bytes()))
        #expect(facts.spinLock(inValue: section, places: ["first": 0, "second": 8]) == 12)
        #expect(facts.timer(inValue: section, places: ["first": 40, "second": 0]) == 16)
        #expect(facts.spinLock(inValue: broad) == nil)
        #expect(facts.spinLock(inValue: value) == 4)
        #expect(facts.timer(inValue: value) == 16)
        #expect(facts.spinLock(inValue: inner) == nil)
        #expect(facts.spinLock(inValue: lock) == 0)
        #expect(facts.timer(inValue: loop) == nil)
        #expect(facts.timer(inValue: 12345) == nil)
    }

    @Test("Licences", arguments: [("GPL", true), ("Dual BSD/GPL", true), ("MIT", false), ("gpl", false), ("", false)])
    func licenses(_ license: String, _ isCompatible: Bool) { #expect(isGPLCompatible(license) == isCompatible) }
}
