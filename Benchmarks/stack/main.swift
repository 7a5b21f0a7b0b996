// Nanoseconds of one bpf_get_stackid in a call chain of mixed frames: from the memo, by a walk with cached rows, and libunwind's
// cached unw_backtrace of the same stack, which makes no id. Medians of rounds taken in turn.
import CRuntime
import CSession
import CUnwind
import CWalkFixtures
import Glibc
import ISA
import Runtime

let calls = 2000
let rounds = 31

/// A session with one map of stacks, and a thread's memory for a context.
final class Bench {
    let context = UnsafeMutablePointer<cruntime_context>.allocate(capacity: 1)
    let memo: UnsafeMutableRawPointer
    var frames = [UnsafeMutableRawPointer?](repeating: nil, count: 160)
    var times: [[Double]] = [[], [], []]
    var depth = 0

    init() throws {
        var builder = SessionBuilder(cpuCount: 1, probeCapacity: 1, perfRingSize: 1 << 12, seed: 1)
        _ = try builder.addMap(
            MapParameters(name: "s", type: .stackTrace, keySize: 4, valueSize: 127 * 8, maxEntries: 4096)
        )
        let built = builder.finish(ownerPid: 1, ownerTid: 1)
        let image = UnsafeMutableRawPointer.allocate(byteCount: built.bytes.count, alignment: 64)
        image.copyMemory(from: built.bytes, byteCount: built.bytes.count)
        let shared = zeros(built.sharedSize)
        built.initializeShared(shared)
        memo = zeros(Int(CRUNTIME_MEMO_BYTES))
        context.initialize(to: cruntime_context())
        context.pointee.rows = zeros(4096 * 16)
        prepareContext(
            context,
            SessionView(
                image: UnsafePointer(image.assumingMemoryBound(to: UInt8.self)),
                shared: shared.assumingMemoryBound(to: UInt8.self)
            )
        )
        walk_stack_bounds(&context.pointee.walk_low, &context.pointee.walk_high)
    }

    func stackID() -> UInt64 { callHelper(context, 27, 0, MapHandle.make(0), 1 << 8, 0, 0) }

    func measure(_ variant: Int, _ body: () -> Void) {
        let start = cruntime_monotonic_ns()
        for _ in 0..<calls { body() }
        times[variant].append(Double(cruntime_monotonic_ns() - start) / Double(calls))
    }

    func run(_ regs: UnsafeMutablePointer<cruntime_regs>) {
        context.pointee.regs = regs
        context.pointee.memo = nil
        let walked = stackID()
        context.pointee.memo = memo
        for _ in 0..<2 where stackID() != walked { fatalError("the memo and the walk differ") }
        var ours = [UInt64](repeating: 0, count: 127)
        depth = walkStack(context, into: &ours, capacity: 127)
        for _ in 0..<rounds {
            context.pointee.memo = memo
            measure(0) { _ = stackID() }
            context.pointee.memo = nil
            measure(1) { _ = stackID() }
            measure(2) { _ = unw_backtrace(&frames, 160) }
        }
    }
}

func zeros(_ size: Int) -> UnsafeMutableRawPointer {
    mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
}

func median(_ values: [Double]) -> String {
    let tenths = Int(values.sorted()[values.count / 2] * 10 + 0.5)
    let text = "\(tenths / 10).\(tenths % 10)"
    return String(repeating: " ", count: max(0, 10 - text.count)) + text
}

print("  frames           memo id   walked id  libunwind (cached, no id)")
for depth in [0, 3, 11, 20] {
    let bench = try Bench()
    walk_nested(
        Int32(depth),
        42,
        { regs, user in
            guard let user else { return }
            Unmanaged<Bench>.fromOpaque(user).takeUnretainedValue().run(regs)
        },
        Unmanaged.passUnretained(bench).toOpaque()
    )
    let label = "\(bench.depth)"
    print(
        "  \(label)" + String(repeating: " ", count: 14 - label.count) + bench.times.map(median).joined(separator: "  ")
    )
}
