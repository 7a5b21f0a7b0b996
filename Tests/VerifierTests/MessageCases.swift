import ISA
import Testing

@testable import Verifier

/// A program that breaks a rule, with the source lines that its instructions come from.
struct MessageCase: CustomTestStringConvertible, Sendable {
    var name: String
    var rule: Rule
    var program: [Statement]
    var type = ProgramType.kprobe
    var platform = Subject.Platform.userspace
    var strictLeaks = false
    var isGPL = true
    var contract: FunctionFacts.Contract?
    /// Source lines by instruction: number, column, text.
    var lines: [Int: (Int, Int, String)] = [:]

    init(
        _ name: String,
        _ rule: Rule,
        _ program: [Statement],
        type: ProgramType = .kprobe,
        platform: Subject.Platform = .userspace,
        strictLeaks: Bool = false,
        isGPL: Bool = true,
        contract: FunctionFacts.Contract? = nil,
        lines: [Int: (Int, Int, String)] = [:]
    ) {
        self.name = name
        self.rule = rule
        self.program = program
        self.type = type
        self.platform = platform
        self.strictLeaks = strictLeaks
        self.isGPL = isGPL
        self.contract = contract
        self.lines = lines
    }

    var testDescription: String { name }

    /// The maps of every case, by the numbers below.
    static let maps: [MapFacts] = {
        var options = MapFacts(name: ".rodata", type: .array, keySize: 4, valueSize: 16, maxEntries: 1, flags: 0x80)
        options.isFrozen = true
        options.contents = [UInt8](repeating: 0, count: 16)
        var locked = MapFacts(name: "locked", type: .hash, keySize: 4, valueSize: 8, maxEntries: 4)
        locked.spinLock = 4
        return [
            MapFacts(name: "counts", type: .hash, keySize: 4, valueSize: 8, maxEntries: 100),
            MapFacts(name: "events", type: .ringBuffer, keySize: 0, valueSize: 0, maxEntries: 4096),
            MapFacts(name: "buffer", type: .hash, keySize: 4, valueSize: 64, maxEntries: 4),
            options,
            MapFacts(name: "sink", type: .array, keySize: 4, valueSize: 8, maxEntries: 1, flags: 0x100),
            locked,
        ]
    }()

    static let (counts, events, buffer, options, sink, locked) =
        (Int32(0), Int32(1), Int32(2), UInt32(3), UInt32(4), Int32(5))

    func subject() throws -> Subject {
        let assembly = try Assembly(program)
        var functions = assembly.functions.enumerated().map { index, start in
            FunctionFacts(name: index == 0 ? "prog" : "sub\(index)", start: start)
        }
        if let contract { functions[functions.count - 1].contract = contract }
        var subject = Subject(instructions: assembly.instructions, functions: functions, maps: Self.maps, type: type)
        subject.platform = platform
        subject.strictLeaks = strictLeaks
        subject.isGPL = isGPL
        return subject
    }

    var sourceLines: [SourceLine] {
        lines.sorted { $0.key < $1.key }.map { instruction, line in
            SourceLine(instruction: instruction, file: "bad.bpf.c", line: line.0, column: line.1, text: line.2)
        }
    }

    // MARK: - Parts of programs

    /// `r0 = bpf_map_lookup_elem(&map, &key)`: six instructions.
    private static func lookup(_ map: Int32) -> [Statement] {
        [
            .store32(.r10, -4, 1), .mov64(.r2, .r10), .add64(.r2, -4), .loadMap(.r1, map), .call(.mapLookupElem),
        ]
    }

    /// The same, and out where the key is absent.
    private static func found(_ map: Int32) -> [Statement] { lookup(map) + [.jumpEqual(.r0, 0, to: "out")] }

    private static let out: [Statement] = [.label("out"), .mov64(.r0, 0), .exit]

    /// `r0 = bpf_ringbuf_reserve(&events, 16, 0)`: four instructions.
    private static let reserve: [Statement] = [
        .loadMap(.r1, events), .mov64(.r2, 16), .mov64(.r3, 0), .call(.ringbufReserve),
    ]

    private static func submit(_ register: Register) -> [Statement] {
        [.mov64(.r1, register), .mov64(.r2, 0), .call(.ringbufSubmit)]
    }

    // MARK: - Programs

    static let all: [MessageCase] = structure + values + memory + access + arithmetic + helpers + references + contracts

    private static let structure: [MessageCase] = [
        MessageCase("empty", .empty, []),
        MessageCase("falls off the end", .controlFlow, [.mov64(.r0, 0)]),
        MessageCase("unreachable", .unreachable, [.mov64(.r0, 0), .exit, .mov64(.r0, 1), .exit]),
        MessageCase("recursion", .recursion, [.call("f"), .exit, .function("f"), .call("f"), .exit]),
        MessageCase("nine frames", .callsTooDeep, chain(9)),
        MessageCase(
            "two large frames",
            .stackTooDeep,
            [
                .store64(.r10, -400, 1), .call("f"), .exit, .function("f"), .store64(.r10, -200, 1), .mov64(.r0, 0),
                .exit,
            ],
            lines: [0: (20, 7, "\tchar path[400] = {1};"), 1: (21, 9, "\treturn f();")]
        ),
        MessageCase(
            "a loop that changes nothing",
            .endlessLoop,
            [.mov64(.r0, 0), .label("a"), .jumpEqual(.r1, 0, to: "out"), .jump(to: "a"), .label("out"), .exit],
            lines: [1: (31, 2, "\twhile (ctx) ;")]
        ),
        MessageCase(
            "too many rounds",
            .tooComplex,
            [.mov64(.r0, 0), .label("a"), .add64(.r0, 1), .jumpLess(.r0, 600_000, to: "a"), .exit],
            lines: [1: (41, 2, "\tfor (int i = 0; i < 600000; i++)")]
        ),
    ]

    /// Functions that call the next one.
    private static func chain(_ count: Int) -> [Statement] {
        (0..<count).flatMap { index -> [Statement] in
            [.function("f\(index)")] + (index + 1 < count ? [.call("f\(index + 1)")] : []) + [.mov64(.r0, 0), .exit]
        }
    }

    private static let values: [MessageCase] = [
        MessageCase(
            "set on one path",
            .uninitialized,
            [.load64(.r2, .r1, 112), .jumpEqual(.r2, 0, to: "a"), .mov64(.r0, 1), .label("a"), .exit],
            lines: [0: (10, 6, "\tif (size)"), 2: (11, 10, "\t\tresult = 1;"), 3: (12, 2, "\treturn result;")]
        ),
        MessageCase(
            "lost in a call",
            .uninitialized,
            [.call(.ktimeGetNs), .load64(.r0, .r1, 112), .exit]
        ),
        MessageCase(
            "argument left out",
            .uninitialized,
            [.loadMap(.r1, counts), .call(.mapLookupElem), .mov64(.r0, 0), .exit]
        ),
        MessageCase(
            "padding of a key",
            .uninitializedStack,
            [
                .store32(.r10, -8, 1), .mov64(.r1, .r10), .add64(.r1, -8), .mov64(.r2, 8), .mov64(.r3, 0),
                .loadMap(.r1, counts), .mov64(.r2, .r10), .add64(.r2, -4), .call(.mapLookupElem), .mov64(.r0, 0),
                .exit,
            ],
            strictLeaks: true
        ),
        MessageCase(
            "moved frame pointer",
            .framePointer,
            [.op(.add64Imm, dst: .r10, imm: -8), .mov64(.r0, 0), .exit]
        ),
    ]

    private static let memory: [MessageCase] = [
        MessageCase(
            "lookup without a check",
            .nullPointer,
            lookup(counts) + [.load64(.r1, .r0), .add64(.r1, 1), .store64(.r0, 0, .r1), .mov64(.r0, 0), .exit],
            lines: [
                0: (8, 6, "\tint key = 1;"), 4: (9, 12, "\tlong *v = bpf_map_lookup_elem(&counts, &key);"),
                5: (10, 5, "\t*v += 1;"),
            ]
        ),
        MessageCase(
            "lookup kept on the stack",
            .nullPointer,
            lookup(counts) + [
                .mov64(.r6, .r0), .store64(.r10, -16, .r6), .mov64(.r0, 0), .load64(.r7, .r10, -16),
                .store64(.r7, 0, 1), .exit,
            ]
        ),
        MessageCase(
            "record without a check",
            .nullPointer,
            reserve + [.store64(.r0, 0, 1)] + submit(.r0) + [.mov64(.r0, 0), .exit],
            lines: [
                0: (18, 20, "\tstruct event *e = bpf_ringbuf_reserve(&events, sizeof *e, 0);"),
                4: (19, 9, "\te->when = 1;"),
            ]
        ),
        MessageCase(
            "address of the process",
            .notAPointer,
            [.load64(.r1, .r1, 112), .load64(.r0, .r1), .exit],
            lines: [0: (51, 20, "\tlong *p = (void *)PT_REGS_PARM1(ctx);"), 1: (52, 9, "\treturn *p;")]
        ),
        MessageCase(
            "use after submit",
            .notAPointer,
            reserve + [.jumpEqual(.r0, 0, to: "out"), .mov64(.r6, .r0)] + submit(.r6) + [.store64(.r6, 0, 1)] + out
        ),
        MessageCase(
            "index into a value",
            .outOfBounds,
            [.load64(.r6, .r1, 112)] + found(buffer) + [
                .jumpGreater(.r6, 64, to: "out"), .add64(.r0, .r6), .store8(.r0, 0, 1),
            ] + out,
            lines: [
                0: (25, 15, "\tunsigned i = PT_REGS_PARM1(ctx);"),
                5: (26, 18, "\tstruct big *b = bpf_map_lookup_elem(&buffer, &key);"), 6: (27, 6, "\tif (!b) return 0;"),
                7: (28, 6, "\tif (i > 64) return 0;"), 8: (29, 2, "\tb->data[i] = 1;"),
                9: (29, 13, "\tb->data[i] = 1;"),
                10: (30, 1, "}"),
            ]
        ),
        MessageCase(
            "behind a value",
            .outOfBounds,
            found(counts) + [.load64(.r1, .r0, 8)] + out
        ),
        MessageCase(
            "signed index",
            .outOfBounds,
            [.load64(.r6, .r1, 112)] + found(buffer) + [
                .jumpSignedGreater(.r6, 9, to: "out"), .jumpSignedLess(.r6, -9, to: "out"), .add64(.r0, .r6),
                .store8(.r0, 0, 1),
            ] + out
        ),
        MessageCase("above the frame", .stackBounds, [.load64(.r0, .r10, 0), .exit]),
        MessageCase(
            "helper beyond the array",
            .stackBounds,
            [
                .mov64(.r1, .r10), .add64(.r1, -16), .mov64(.r2, 64), .mov64(.r3, 0), .call(.probeReadUser),
                .mov64(.r0, 0), .exit,
            ]
        ),
        MessageCase("no such field", .contextAccess, [.load64(.r0, .r1, 168), .exit]),
        MessageCase("field that is read-only", .contextAccess, [.store64(.r1, 112, 0), .mov64(.r0, 0), .exit]),
        MessageCase("width of a field", .contextAccess, [.load64(.r0, .r1, 8), .exit], type: .xdp),
        MessageCase(
            "packet without a check",
            .packetBounds,
            [.load32(.r2, .r1, 0), .load16(.r0, .r2, 12), .mov64(.r0, 2), .exit],
            type: .xdp,
            lines: [0: (60, 30, "\tvoid *data = (void *)(long)ctx->data;"), 1: (61, 14, "\treturn eth->h_proto;")]
        ),
    ]

    private static let access: [MessageCase] = [
        MessageCase("across slots", .misaligned, [.store64(.r10, -12, 1), .mov64(.r0, 0), .exit]),
        MessageCase(
            "constant",
            .readOnly,
            [.loadMapValue(.r1, options, 4), .store32(.r1, 0, 5), .mov64(.r0, 0), .exit],
            lines: [0: (70, 8, "\tlimit = 5;")]
        ),
        MessageCase(
            "write-only map",
            .writeOnly,
            [.loadMapValue(.r1, sink, 0), .load64(.r0, .r1), .exit]
        ),
        MessageCase(
            "part of a pointer",
            .corruptedPointer,
            [.store64(.r10, -8, .r1), .load8(.r0, .r10, -5), .exit],
            strictLeaks: true
        ),
        MessageCase(
            "spin lock",
            .specialField,
            found(locked) + [.store32(.r0, 4, 0)] + out,
            type: .schedCls,
            platform: .kernel
        ),
    ]

    private static let arithmetic: [MessageCase] = [
        MessageCase(
            "unbounded number",
            .pointerArithmetic,
            [.load64(.r6, .r1, 112)] + found(buffer) + [.add64(.r0, .r6), .store8(.r0, 0, 1)] + out
        ),
        MessageCase(
            "multiplied pointer",
            .pointerArithmetic,
            [.op(.mul64Imm, dst: .r1, imm: 8), .mov64(.r0, 0), .exit]
        ),
        MessageCase("moved map", .pointerArithmetic, [.loadMap(.r1, counts), .add64(.r1, 8), .mov64(.r0, 0), .exit]),
        MessageCase(
            "compared pointer",
            .pointerComparison,
            [.mov64(.r0, 0), .jumpGreater(.r1, 4096, to: "out"), .label("out"), .exit],
            strictLeaks: true
        ),
        MessageCase("division by zero", .division, [.mov64(.r0, 1), .op(.div64Imm, dst: .r0, imm: 0), .exit]),
        MessageCase("shift by 64", .badOperation, [.mov64(.r0, 1), .lsh64(.r0, 64), .exit]),
    ]

    private static let helpers: [MessageCase] = [
        MessageCase("helper of the future", .unknownHelper, [.op(.callHelper, imm: 999), .exit]),
        MessageCase(
            "the kernel's task",
            .unavailableHelper,
            [.call(.taskPtRegs), .exit],
            lines: [0: (77, 9, "\treturn bpf_task_pt_regs(task);")]
        ),
        MessageCase(
            "helper of another type",
            .unavailableHelper,
            [.mov64(.r2, 0), .mov64(.r3, 0), .call(.skbPullData), .mov64(.r0, 0), .exit],
            platform: .kernel
        ),
        MessageCase(
            "number as a key",
            .argument,
            [.load64(.r2, .r1, 112), .loadMap(.r1, counts), .call(.mapLookupElem), .mov64(.r0, 0), .exit]
        ),
        MessageCase(
            "no map",
            .argument,
            [
                .mov64(.r2, .r10), .add64(.r2, -4), .store32(.r10, -4, 0), .mov64(.r1, 0),
                .call(.mapLookupElem), .mov64(.r0, 0), .exit,
            ]
        ),
        MessageCase(
            "variable record size",
            .argument,
            [
                .load64(.r2, .r1, 112), .loadMap(.r1, events), .mov64(.r3, 0), .call(.ringbufReserve), .mov64(.r0, 0),
                .exit,
            ]
        ),
        MessageCase(
            "signed size",
            .argumentSize,
            [
                .load32(.r2, .r1, 104), .op(.movsx64From32, dst: .r2, src: .r2), .mov64(.r1, .r10),
                .add64(.r1, -32), .mov64(.r3, 0), .call(.probeReadUser), .mov64(.r0, 0), .exit,
            ]
        ),
        MessageCase(
            "size without a bound",
            .argumentSize,
            [
                .load64(.r2, .r1, 104), .rsh64(.r2, 1), .mov64(.r1, .r10), .add64(.r1, -32), .mov64(.r3, 0),
                .call(.probeReadUser), .mov64(.r0, 0), .exit,
            ]
        ),
        MessageCase(
            "empty buffer",
            .argumentSize,
            [
                .load64(.r2, .r1, 104), .and64(.r2, 15), .mov64(.r1, .r10), .add64(.r1, -16), .call(.getCurrentComm),
                .mov64(.r0, 0), .exit,
            ]
        ),
        MessageCase(
            "lookup in a ring",
            .mapType,
            [
                .store64(.r10, -8, 0), .mov64(.r2, .r10), .add64(.r2, -8), .loadMap(.r1, events),
                .call(.mapLookupElem), .mov64(.r0, 0), .exit,
            ]
        ),
        MessageCase(
            "licence",
            .gplOnly,
            [
                .mov64(.r1, .r10), .add64(.r1, -8), .mov64(.r2, 8), .mov64(.r3, 0), .call(.probeReadUser),
                .mov64(.r0, 0), .exit,
            ],
            isGPL: false
        ),
        MessageCase(
            "packet load without the context",
            .context,
            [.mov64(.r6, 0), .op(.loadAbs8), .mov64(.r0, 0), .exit],
            type: .socketFilter,
            platform: .kernel
        ),
        MessageCase(
            "iterator not destroyed",
            .unreleased,
            [
                .mov64(.r1, .r10), .add64(.r1, -8), .mov64(.r2, 0), .mov64(.r3, 9), .call(.iterNumNew), .mov64(.r0, 0),
                .exit,
            ],
            lines: [0: (12, 2, " bpf_iter_num_new(&it, 0, 9);"), 5: (13, 2, " return 0;")]
        ),
        MessageCase(
            "no iterator",
            .argument,
            [.store64(.r10, -8, 0), .mov64(.r1, .r10), .add64(.r1, -8), .call(.iterNumNext), .exit]
        ),
        MessageCase(
            "iterator on an iterator",
            .argument,
            [
                .mov64(.r1, .r10), .add64(.r1, -8), .mov64(.r2, 0), .mov64(.r3, 9), .call(.iterNumNew),
                .mov64(.r1, .r10),
                .add64(.r1, -8), .mov64(.r2, 0), .mov64(.r3, 9), .call(.iterNumNew), .exit,
            ]
        ),
        MessageCase(
            "pointer for a number",
            .argument,
            [.mov64(.r2, .r1), .mov64(.r1, .r10), .add64(.r1, -8), .mov64(.r3, 9), .call(.iterNumNew), .exit]
        ),
        MessageCase("kernel function", .unsupported, [.op(.callKernelFunction, imm: 5), .exit]),
        MessageCase("disabled code", .unresolvedRelocation, [.op(.callHelper, imm: 0xbad2310), .exit]),
        MessageCase("struct_ops", .programType, [.mov64(.r0, 0), .exit], type: .structOps),
    ]

    private static let references: [MessageCase] = [
        MessageCase("returned pointer", .leak, [.mov64(.r0, .r1), .exit], type: .socketFilter, strictLeaks: true),
        MessageCase(
            "record on one path",
            .unreleased,
            reserve + [
                .jumpEqual(.r0, 0, to: "out"), .mov64(.r6, .r0), .call(.getCurrentPidTgid),
                .jumpEqual(.r0, 0, to: "out"),
            ] + submit(.r6) + out,
            lines: [
                0: (38, 20, "\tstruct event *e = bpf_ringbuf_reserve(&events, sizeof *e, 0);"),
                4: (39, 6, "\tif (!e) return 0;"), 5: (40, 6, "\tif (bpf_get_current_pid_tgid() == 0) return 0;"),
                8: (41, 2, "\tbpf_ringbuf_submit(e, 0);"), 11: (42, 1, "}"),
            ]
        ),
        MessageCase(
            "submitted twice",
            .argument,
            reserve + [.jumpEqual(.r0, 0, to: "out"), .mov64(.r6, .r0)] + submit(.r6) + submit(.r6) + out
        ),
        MessageCase(
            "dynptr submitted twice",
            .argument,
            [
                .loadMap(.r1, events), .mov64(.r2, 8), .mov64(.r3, 0), .mov64(.r4, .r10), .add64(.r4, -16),
                .call(.ringbufReserveDynptr), .mov64(.r1, .r10), .add64(.r1, -16), .mov64(.r2, 0),
                .call(.ringbufSubmitDynptr), .mov64(.r1, .r10), .add64(.r1, -16), .mov64(.r2, 0),
                .call(.ringbufSubmitDynptr), .mov64(.r0, 0), .exit,
            ],
            platform: .kernel
        ),
        MessageCase(
            "socket that was not taken",
            .notOwned,
            [.load64(.r1, .r1, 168), .jumpEqual(.r1, 0, to: "out"), .call(.skRelease)] + out,
            type: .schedCls,
            platform: .kernel
        ),
        MessageCase(
            "call with a lock",
            .lock,
            found(locked) + [
                .mov64(.r6, .r0), .mov64(.r1, .r6), .add64(.r1, 4), .call(.spinLock), .call(.ktimeGetNs),
            ] + out,
            type: .schedCls,
            platform: .kernel
        ),
    ]

    private static let contracts: [MessageCase] = [
        MessageCase("result of a cgroup program", .returnValue, [.mov64(.r0, 4), .exit], type: .cgroupSKB),
        MessageCase(
            "callback",
            .callback,
            [
                .mov64(.r1, 3), .loadFunction(.r2, "f"), .mov64(.r3, 0), .mov64(.r4, 0), .call(.loop), .mov64(.r0, 0),
                .exit, .function("f"), .mov64(.r0, 2), .exit,
            ]
        ),
        MessageCase(
            "global function",
            .functionContract,
            [.mov64(.r1, .r10), .call("f"), .mov64(.r0, 0), .exit, .function("f"), .mov64(.r0, 0), .exit],
            contract: FunctionFacts.Contract(parameters: [.scalar])
        ),
    ]
}
