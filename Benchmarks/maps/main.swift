// Nanoseconds of map operations inside a compiled program: the best of many short rounds, as the machine is shared. What the loop around
// an operation costs is measured too and taken off.
import CRuntime
import Glibc
import ISA
import JIT
import Runtime
import UBPFVM

let rounds = CommandLine.arguments.count > 1 ? Int(CommandLine.arguments[1]) ?? 60 : 60

/// A session in this process with compiled programs.
final class Bench {
    let view: SessionView
    let code: CompiledPrograms
    let names: [String]

    init(_ maps: [MapParameters], _ programs: [(name: String, body: [Statement])]) throws {
        var builder = SessionBuilder(cpuCount: Int(sysconf(Int32(_SC_NPROCESSORS_CONF))), probeCapacity: 1, seed: 1)
        for map in maps { _ = try builder.addMap(map) }
        builder.layoutMaps()
        var linked: [[LinkedInstruction]] = []
        for program in programs {
            linked.append(
                try link(Assembly(program.body).instructions, mapCount: maps.count) { map, offset in
                    let place = builder.valueLocation(map: map, offset: UInt64(offset))
                    return SegmentOffset(storage: Int(place.storage), offset: place.offset)
                }
            )
        }
        for (program, code) in zip(programs, linked) {
            _ = builder.addProgram(name: program.name, type: .kprobe, instructions: code)
        }
        let built = builder.finish(ownerPid: 1, ownerTid: 1)
        let image = UnsafeMutableRawPointer.allocate(byteCount: built.bytes.count, alignment: 4096)
        image.copyMemory(from: built.bytes, byteCount: built.bytes.count)
        let flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE
        guard let shared = mmap(nil, built.sharedSize, PROT_READ | PROT_WRITE, flags, -1, 0) else {
            fatalError("no memory")
        }
        built.initializeShared(shared)
        let session = SessionView(
            image: UnsafePointer(image.assumingMemoryBound(to: UInt8.self)),
            shared: shared.assumingMemoryBound(to: UInt8.self)
        )
        view = session
        names = programs.map(\.name)
        let buffers = (0..<programs.count).map {
            UnsafeBufferPointer(
                start: session.instructions($0),
                count: Int(session.program($0).pointee.instruction_count)
            )
        }
        code = try CompiledPrograms.compile(buffers, CompileOptions(.unchecked, session: session))
    }

    /// A context for the calling thread.
    func context() -> UnsafeMutablePointer<cruntime_context> {
        let stack = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 64)
        let context = UnsafeMutablePointer<cruntime_context>.allocate(capacity: 1)
        context.initialize(to: cruntime_context())
        prepareContext(context, view)
        context.pointee.stack_low = UInt64(UInt(bitPattern: stack))
        context.pointee.stack_high = context.pointee.stack_low + 4096
        context.pointee.cpu_slot = -1
        context.pointee.budget = 1 << 40
        context.pointee.pid_tgid = UInt64(getpid()) << 32 | UInt64(cruntime_tid())
        prepareWindows(context)
        return context
    }

    /// Runs a program once.
    @discardableResult
    func run(_ name: String, _ context: UnsafeMutablePointer<cruntime_context>, _ r1: UInt64, _ r2: UInt64 = 0)
        -> UInt64
    {
        let result = cruntime_run(code.entry(names.firstIndex(of: name) ?? 0), context, r1, r2)
        releaseCPUSlot(context)
        precondition(context.pointee.trap.kind == 0, "trap \(context.pointee.trap.kind) in \(name)")
        return result
    }

    /// Best nanoseconds of one of `count` iterations.
    func time(
        _ name: String,
        _ context: UnsafeMutablePointer<cruntime_context>,
        _ count: UInt64 = 2000,
        _ r2: UInt64 = 0
    ) -> Double {
        var best = Double.infinity
        for _ in 0..<rounds {
            let start = cruntime_monotonic_ns()
            run(name, context, count, r2)
            best = min(best, Double(cruntime_monotonic_ns() - start) / Double(count))
        }
        return best
    }
}

/// A loop of r1 iterations from key r2 on: the key is at r10-8, the value at r10-16; r0 counts what `operation` leaves in r0.
func loop(_ operation: [Statement]) -> [Statement] {
    [
        .mov64(.r6, .r1), .mov64(.r7, .r2), .mov64(.r8, 0), .store64(.r10, -16, .r7), .label("loop"),
        .store64(.r10, -8, .r7),
    ]
        + operation
        + [.add64(.r7, 48), .add64(.r6, -1), .jumpNotEqual(.r6, 0, to: "loop"), .mov64(.r0, .r8), .exit]
}

/// The same with keys in random order below r2 (a multiple of 48 each).
func randomLoop(_ operation: [Statement]) -> [Statement] {
    [
        .mov64(.r6, .r1), .mov64(.r7, .r2), .loadImm64(.r8, 88_172_645_463_325_252), .label("loop"),
        .mul64(.r8, 1_481_765_933), .add64(.r8, 1_442_695_041), .mov64(.r1, .r8), .rsh64(.r1, 33),
        .mul64(.r1, .r7), .rsh64(.r1, 31), .mul64(.r1, 48), .store64(.r10, -8, .r1),
    ] + operation + [.add64(.r6, -1), .jumpNotEqual(.r6, 0, to: "loop"), .mov64(.r0, .r8), .exit]
}

func lookup(_ map: Int32) -> [Statement] {
    [.loadMap(.r1, map), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapLookupElem)]
}
func update(_ map: Int32) -> [Statement] {
    [
        .loadMap(.r1, map), .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, .r10), .add64(.r3, -16), .mov64(.r4, 0),
        .call(.mapUpdateElem),
    ]
}
func delete(_ map: Int32) -> [Statement] {
    [.loadMap(.r1, map), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapDeleteElem)]
}

func report(_ name: String, _ ns: Double, less: Double = 0) {
    let text = String(Int((max(ns - less, 0) * 10).rounded()))
    let padded = text.count < 2 ? "0" + text : text
    print("  \(name)\(String(repeating: " ", count: max(1, 52 - name.count)))\(padded.dropLast()).\(padded.suffix(1))")
}

func hash(_ entries: UInt32, _ type: MapType = .hash) -> MapParameters {
    MapParameters(name: "h", type: type, keySize: 8, valueSize: 8, maxEntries: entries)
}

print("ns per operation, best of \(rounds) rounds")
do {
    let bench = try Bench(
        [hash(10240), hash(10240, .perCPUHash)],
        [
            ("empty", loop([])), ("lookup", loop(lookup(0))), ("update", loop(update(0))),
            ("pair", loop(update(0) + delete(0))),
            ("delete", loop(delete(0))), ("lookup percpu", loop(lookup(1))), ("update percpu", loop(update(1))),
        ]
    )
    let context = bench.context()
    let empty = bench.time("empty", context)
    report("the loop itself", empty)
    bench.run("update", context, 2000, 48)
    report("hash lookup, hit", bench.time("lookup", context, 2000, 48), less: empty)
    report("hash lookup, miss", bench.time("lookup", context, 2000, 1 << 40), less: empty)
    report("hash update, existing", bench.time("update", context, 2000, 48), less: empty)
    report("hash update + delete, new key", bench.time("pair", context, 2000, 1 << 40), less: empty)
    var (inserts, deletes) = (Double.infinity, Double.infinity)
    for _ in 0..<rounds {
        let start = cruntime_monotonic_ns()
        bench.run("update", context, 2000, 1 << 40)
        let middle = cruntime_monotonic_ns()
        bench.run("delete", context, 2000, 1 << 40)
        inserts = min(inserts, Double(middle - start) / 2000)
        deletes = min(deletes, Double(cruntime_monotonic_ns() - middle) / 2000)
    }
    report("hash update, new key", inserts, less: empty)
    report("hash delete", deletes, less: empty)
    report("percpu hash update", bench.time("update percpu", context, 2000, 48), less: empty)
    report("percpu hash lookup", bench.time("lookup percpu", context, 2000, 48), less: empty)
}
do {
    let bench = try Bench(
        [hash(1 << 20)],
        [
            ("empty", randomLoop([])), ("lookup", randomLoop(lookup(0))), ("pair", randomLoop(update(0) + delete(0))),
            ("fill", loop(update(0))),
        ]
    )
    let context = bench.context()
    var filled: UInt64 = 0
    for percent in [50, 90] as [UInt64] {
        let entries = (UInt64(1) << 20) * percent / 100
        bench.run("fill", context, entries - filled, filled * 48)
        filled = entries
        let empty = bench.time("empty", context, 20000, entries)
        report(
            "1 M entries, \(percent) % full: random lookup",
            bench.time("lookup", context, 20000, entries),
            less: empty
        )
        report(
            "1 M entries, \(percent) % full: update + delete",
            bench.time("pair", context, 2000, entries),
            less: empty
        )
        bench.run("fill", context, entries, 0)
    }
}
try compareWithKernel()
