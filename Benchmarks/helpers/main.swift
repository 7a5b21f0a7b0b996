// Nanoseconds of helpers inside a compiled program, checked as in targets: the best of many short rounds, as the machine is shared. What
// the loop costs is taken off.
import CRuntime
import CSession
import Glibc
import ISA
import JIT
import Runtime
import UBPFVM

let rounds = CommandLine.arguments.count > 1 ? Int(CommandLine.arguments[1]) ?? 60 : 60

/// r1 iterations; r7 is the source of reads, the buffer at r10-512 their destination, r8 a value with a lock at 8.
func loop(_ operation: [Statement]) -> [Statement] {
    [
        .mov64(.r6, .r1), .mov64(.r7, .r2), .store64(.r10, -8, 0), .loadMap(.r1, 0), .mov64(.r2, .r10),
        .add64(.r2, -8), .call(.mapLookupElem), .jumpEqual(.r0, 0, to: "end"), .mov64(.r8, .r0), .label("loop"),
    ] + operation + [.add64(.r6, -1), .jumpNotEqual(.r6, 0, to: "loop"), .label("end"), .mov64(.r0, 0), .exit]
}

func read(_ size: Int64, _ helper: Helper = .probeReadUser) -> [Statement] {
    [.mov64(.r1, .r10), .add64(.r1, -512), .mov64(.r2, size), .mov64(.r3, .r7), .call(helper)]
}

let lock: [Statement] = [.mov64(.r1, .r8), .add64(.r1, 8)]
let dynptr: [Statement] = [
    .mov64(.r1, .r8), .mov64(.r2, 8), .mov64(.r3, 0), .mov64(.r4, .r10), .add64(.r4, -32), .call(.dynptrFromMem),
    .mov64(.r1, .r10), .add64(.r1, -64), .mov64(.r2, 8), .mov64(.r3, .r10), .add64(.r3, -32), .mov64(.r4, 0),
    .mov64(.r5, 0), .call(.dynptrRead),
]
let task: [Statement] = [
    .call(.getCurrentTask), .mov64(.r1, .r10), .add64(.r1, -512), .mov64(.r2, 4), .mov64(.r3, .r0), .add64(.r3, 64),
    .call(.probeReadKernel),
]
let comm: [Statement] = [.mov64(.r1, .r10), .add64(.r1, -512), .mov64(.r2, 16), .call(.getCurrentComm)]

/// Which memory `r7` points to.
enum Source { case stack, heap, guarded }

let programs: [(String, Source, [Statement])] = [
    ("nothing", .stack, []),
    ("get_current_pid_tgid", .stack, [.call(.getCurrentPidTgid)]),
    ("get_smp_processor_id", .stack, [.call(.getSmpProcessorId)]),
    ("get_prandom_u32", .stack, [.call(.getPrandomU32)]),
    ("ktime_get_ns", .stack, [.call(.ktimeGetNs)]),
    ("ktime_get_coarse_ns", .stack, [.call(.ktimeGetCoarseNs)]),
    ("get_current_comm", .stack, comm),
    ("probe_read_user of 8 bytes, the thread's stack", .stack, read(8)),
    ("probe_read_user of 256 bytes, the thread's stack", .stack, read(256)),
    ("probe_read_user_str of 15 characters, the thread's stack", .stack, read(64, .probeReadUserStr)),
    ("probe_read_user of 8 bytes, elsewhere", .heap, read(8)),
    ("probe_read_user of 256 bytes, elsewhere", .heap, read(256)),
    ("probe_read_user_str of 15 characters, elsewhere", .heap, read(64, .probeReadUserStr)),
    ("probe_read_user of 8 bytes, elsewhere, by the vDSO", .guarded, read(8)),
    ("probe_read_user of 256 bytes, elsewhere, by the vDSO", .guarded, read(256)),
    ("probe_read_user_str of 15 characters, by the vDSO", .guarded, read(64, .probeReadUserStr)),
    ("get_current_task, probe_read_kernel of pid", .stack, task),
    ("spin_lock, spin_unlock", .stack, lock + [.call(.spinLock)] + lock + [.call(.spinUnlock)]),
    ("dynptr_from_mem, dynptr_read of 8 bytes", .stack, dynptr),
]

func run() throws {
    var builder = SessionBuilder(cpuCount: 2, probeCapacity: 1, seed: 1)
    builder.task.pid = 64
    _ = try builder.addMap(
        MapParameters(name: "a", type: .array, keySize: 4, valueSize: 16, maxEntries: 1, lock: 8)
    )
    builder.layoutMaps()
    for (name, _, body) in programs {
        let code = try link(Assembly(loop(body)).instructions, mapCount: 1) { _, _ in nil }
        _ = builder.addProgram(name: name, type: .kprobe, instructions: code)
    }
    let built = builder.finish(ownerPid: 1, ownerTid: 1)
    let image = UnsafeMutableRawPointer.allocate(byteCount: built.bytes.count, alignment: 4096)
    image.copyMemory(from: built.bytes, byteCount: built.bytes.count)
    guard let shared = mmap(nil, built.sharedSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) else {
        fatalError("no memory")
    }
    built.initializeShared(shared)
    let view = SessionView(
        image: UnsafePointer(image.assumingMemoryBound(to: UInt8.self)),
        shared: shared.assumingMemoryBound(to: UInt8.self)
    )
    let buffers = programs.indices.map {
        UnsafeBufferPointer(start: view.instructions($0), count: Int(view.program($0).pointee.instruction_count))
    }
    let code = try CompiledPrograms.compile(buffers, CompileOptions(.checked, session: view))
    let (stack, heap) = (memory(), memory())
    let loop = guardedLoop()
    cruntime_fetch_from(UInt32(getpid()))
    let context = UnsafeMutablePointer<cruntime_context>.allocate(capacity: 1)
    context.initialize(to: cruntime_context())
    prepareContext(context, view)
    context.pointee.stack_low = UInt64(UInt(bitPattern: memory()))
    context.pointee.stack_high = context.pointee.stack_low + 4096
    context.pointee.cpu_slot = -1
    context.pointee.pid_tgid = UInt64(getpid()) << 32 | UInt64(cruntime_tid())
    prepareWindows(context)
    // What the agent knows of the probed thread.
    var regs = cruntime_regs()
    regs.rsp = UInt64(UInt(bitPattern: stack))
    context.pointee.walk_high = regs.rsp + 4096
    withUnsafeMutablePointer(to: &regs) { regs in
        context.pointee.regs = regs
        var empty = 0.0
        for (index, (name, source, _)) in programs.enumerated() {
            let count: UInt64 = 1000
            var best = Double.infinity
            cruntime_fetch_by(source == .guarded ? loop : nil)
            for _ in 0..<rounds {
                context.pointee.budget = 1 << 40
                let place = UInt64(UInt(bitPattern: source == .stack ? stack : heap))
                let start = cruntime_monotonic_ns()
                _ = cruntime_run(code.entry(index), context, count, place)
                best = min(best, Double(cruntime_monotonic_ns() - start) / Double(count))
                precondition(context.pointee.trap.kind == 0, "trap \(context.pointee.trap.kind) in \(name)")
            }
            if index == 0 { empty = best } else { report(name, best - empty) }
        }
    }
}

/// The loop that a guarded vDSO has, in memory of our own: nothing here faults, so it needs no kernel that would fix it up.
func guardedLoop() -> cruntime_words {
    var guarded = cruntime_guard()
    guarded.size = 157
    withUnsafeMutableBytes(of: &guarded.original) {
        $0[0..<5].copyBytes(from: [0x55, 0x48, 0x89, 0xe5, 0x53])
        $0[58..<61].copyBytes(from: [0x0f, 0x01, 0xd7])
        $0[81..<84].copyBytes(from: [0x5b, 0xc9, 0xc3])
    }
    precondition(cruntime_make_guard(&guarded) != 0)
    let memory = mmap(nil, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let memory, memory != MAP_FAILED else { fatalError("no memory") }
    withUnsafeBytes(of: &guarded.code) {
        memory.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(memory), byteCount: 157)
    }
    return unsafeBitCast(memory, to: cruntime_words.self)
}

/// A page that holds a string of 15 characters.
func memory() -> UnsafeMutableRawPointer {
    let page = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 64)
    page.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
    page.initializeMemory(as: UInt8.self, repeating: 0x61, count: 15)
    return page
}

func report(_ name: String, _ ns: Double) {
    let text = String(Int((max(ns, 0) * 10).rounded()))
    let padded = text.count < 2 ? "0" + text : text
    print("  \(name)\(String(repeating: " ", count: max(1, 60 - name.count)))\(padded.dropLast()).\(padded.suffix(1))")
}

try run()
