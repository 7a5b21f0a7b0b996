import ISA
import Testing

@testable import Verifier

/// The tables against the kernel whose rules they hold, over every row.
@Suite(.enabled(if: KernelVerifier.isOracle, KernelVerifier.reason))
struct TableKernelTests {
    @Test(arguments: Variant.all)
    func helpersThatTypesMayCall(_ variant: Variant) {
        // Those that are kernel functions are for all (`common_kfunc_set`), see `IteratorTests`.
        for helper in Helper.allCases where !helper.isKernelFunction {
            let program = [
                Instruction(.callHelper, imm: Int64(helper.rawValue)), Instruction(.mov64Imm), Instruction(.exit),
            ]
            let answer = KernelVerifier.ask(
                program,
                variant.type,
                attachType: variant.attachType,
                isSleepable: variant.isSleepable
            )
            let refusals = [
                "program of this type cannot use helper", "not supported for program type",
                "might sleep in a non-sleepable prog", "unknown func",
            ]
            let expected = !refusals.contains { answer.log.contains($0) }
            let verdict = mayCall(helper, variant.type, isSleepable: variant.isSleepable)
            #expect(verdict == expected, "\(helper.name): \(answer.log)")
            if verdict { #expect(HelperPrototype.of(helper) != nil, "\(helper.name) has no prototype") }
        }
    }

    /// Offsets that Linux 6.18 gives to programs and this table does not.
    private func isStricter(_ type: ProgramType, _ offset: Int, _ size: Int) -> Bool {
        switch type {
        // The kernel compares a negative offset as if it were unsigned, and lets programs read before the record.
        case .tracepoint: offset < 0
        // Parts of the pointer to the buffer.
        case .rawTracepointWritable: 1..<8 ~= offset
        default: false
        }
    }

    @Test(arguments: Variant.all.filter { $0.type != .kprobe || $0.attachType == 0 && !$0.isSleepable })
    func context(_ variant: Variant) throws {
        let model = try #require(ContextModel.of(variant.type, attachType: variant.attachType))
        let windows = [-8..<208, 8184..<8208]
        for offset in windows.joined() {
            for (size, load, store) in accesses {
                for isWrite in [false, true] {
                    let access =
                        isWrite
                        ? Instruction(store, dst: .r1, src: .r2, offset: Int32(offset))
                        : Instruction(load, dst: .r2, src: .r1, offset: Int32(offset))
                    // A program without a result is refused at its end, where the log shows what was loaded.
                    let program = [
                        Instruction(.mov64Imm, dst: .r2), access, Instruction(.mov64Reg, dst: .r1, src: .r2),
                        Instruction(.exit),
                    ]
                    let log = KernelVerifier.ask(
                        program,
                        variant.type,
                        attachType: variant.attachType,
                        isSleepable: variant.isSleepable
                    ).log
                    let isAccepted = log.contains("R0 !read_ok")
                    let verdict = model.access(offset: offset, size: size, isWrite: isWrite)
                    let place = "\(isWrite ? "store" : "load") of \(size) at \(offset)"
                    if isStricter(variant.type, offset, size), !isWrite {
                        #expect(verdict == nil, "\(place)")
                        continue
                    }
                    #expect(isAccepted || log.contains("invalid bpf_context access"), "\(place): \(log)")
                    #expect((verdict != nil) == isAccepted, "\(place): \(log)")
                    guard isAccepted, let verdict, !isWrite else { continue }
                    #expect(log.contains(logged(verdict)), "\(place): \(log)")
                }
            }
        }
    }

    private let accesses: [(Int, Opcode, Opcode)] = [
        (1, .load8, .store8Reg), (2, .load16, .store16Reg), (4, .load32, .store32Reg), (8, .load64, .store64Reg),
    ]

    private func logged(_ access: ContextModel.Access) -> String {
        switch access {
        case .scalar: "R1=scalar("
        case .packet: "R1=pkt("
        case .packetEnd: "R1=pkt_end("
        case .packetMeta: "R1=pkt_meta("
        case .flowKeys: "R1=flow_keys("
        case .tracepointBuffer: "R1=tp_buffer("
        case .kernelObject(_, let isNullable): isNullable ? "R1=sock_common_or_null(" : "R1=sock_common("
        }
    }

    @Test(arguments: Variant.all)
    func returns(_ variant: Variant) {
        let range = returnRange(variant.type, attachType: variant.attachType)
        for value in [Int64(Int32.min), -1, 0, 1, 2, 3, 4, Int64(Int32.max)] {
            let answer = KernelVerifier.ask(
                [Instruction(.mov64Imm, imm: value), Instruction(.exit)],
                variant.type,
                attachType: variant.attachType,
                isSleepable: variant.isSleepable
            )
            #expect((range?.contains(value) ?? true) == (answer.status == 0), "\(value): \(answer.log)")
        }
    }
}
