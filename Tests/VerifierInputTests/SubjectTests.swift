import ISA
import Testing
import Verifier

@testable import Loader
@testable import VerifierInput

@Suite("Subjects of objects")
struct SubjectTests {
    @Test("Everything that the verdict depends on is taken over")
    func subject() throws {
        var builder = BTFBuilder()
        let int = builder.integer("int", bytes: 4)
        let prototype = builder.add(.functionPrototype, count: 1, sizeOrType: int, [0, int])
        let global = builder.add(.function, "helper", count: 1, sizeOrType: prototype)
        let lock = builder.structure("bpf_spin_lock", size: 4, [("val", type: int, offset: 0)])
        let value = builder.structure("value", size: 8, [("a", type: int, offset: 0), ("lock", type: lock, offset: 4)])
        let types = try BTF(builder.bytes())
        let object = ObjectSpec(
            name: "o",
            license: "MIT",
            maps: [
                MapSpec(
                    name: "locked",
                    type: .hash,
                    keySize: 4,
                    valueSize: 8,
                    maxEntries: 3,
                    flags: 1,
                    valueType: value,
                    isReadOnly: false,
                    variables: []
                ),
                MapSpec(
                    name: ".rodata",
                    type: .array,
                    keySize: 4,
                    valueSize: 2,
                    maxEntries: 1,
                    flags: 0x80,
                    contents: [7, 9],
                    isReadOnly: true,
                    variables: []
                ),
                MapSpec(
                    name: "outer",
                    type: .arrayOfMaps,
                    keySize: 4,
                    valueSize: 4,
                    maxEntries: 2,
                    flags: 0,
                    isReadOnly: false,
                    variables: [],
                    innerMap: InnerMapSpec(type: .array, keySize: 4, valueSize: 16, maxEntries: 5, flags: 0)
                ),
            ],
            programs: [],
            externs: [],
            btf: types,
            notes: []
        )
        let program = ProgramSpec(
            name: "p",
            section: "uprobe.s",
            type: .kprobe,
            attach: .none(hook: "uprobe"),
            attachType: 5,
            isSleepable: true,
            isAutoloaded: true,
            instructions: [Instruction(.callLocal, imm: 1), Instruction(.exit), Instruction(.exit)],
            // Even a global function is the program itself where it comes first.
            functions: [
                FunctionSpec(name: "p", start: 0, type: global), FunctionSpec(name: "helper", start: 2, type: global),
                FunctionSpec(name: "hidden", start: 2, type: global, isHidden: true),
            ],
            lines: [],
            relocations: [],
            problems: []
        )
        let subject = Subject(program: program, of: object, types: TypeFacts(types))
        #expect(subject.instructions == program.instructions)
        #expect(
            subject.functions == [
                FunctionFacts(name: "p", start: 0),
                FunctionFacts(name: "helper", start: 2, contract: FunctionFacts.Contract(parameters: [.scalar])),
                FunctionFacts(name: "hidden", start: 2),
            ]
        )
        #expect(subject.type == .kprobe && subject.attachType == 5 && subject.isSleepable && !subject.isGPL)
        #expect(subject.platform == .userspace && !subject.strictLeaks)
        try #require(subject.maps.count == 3)
        #expect(subject.maps[0].spinLock == 4 && subject.maps[0].timer == nil && !subject.maps[0].isFrozen)
        #expect(subject.maps[1].isFrozen && subject.maps[1].contents == [7, 9] && subject.maps[1].flags == 0x80)
        #expect(subject.maps[2].inner.map(\.valueSize) == [16] && subject.maps[2].inner.map(\.maxEntries) == [5])
        let untyped = Subject(program: program, of: object, types: nil)
        #expect(untyped.functions.allSatisfy { $0.contract == nil } && untyped.maps[0].spinLock == nil)
    }
}
