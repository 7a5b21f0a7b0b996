import CRuntime
import Glibc
import ISA
import Runtime

/// One line of the comparison: ours and the kernel's, on one thread and on every CPU, from one run.
struct Comparison {
    let subject: Subject
    private let ours: Bench
    private let theirs: KernelSide?
    private let cpus = Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))

    private enum Program: Int, CaseIterable {
        case empty, before, body

        var name: String { "\(self)" }
    }

    init(_ subject: Subject) throws {
        self.subject = subject
        let bodies = [[], subject.before, subject.body]
        ours = try Bench([subject.map], zip(Program.allCases, bodies).map { ($0.name, subject.program($1)) })
        theirs = geteuid() == 0 ? try KernelSide(subject, bodies) : nil
    }

    /// Best nanoseconds of an operation, the loop's own taken off.
    func measure() throws -> (ours: Double, theirs: Double?) {
        let context = ours.context()
        var consumer = RingConsumer(MapView(ours.view, 0))
        var best = [Double](repeating: .infinity, count: 4)
        for _ in 0..<rounds {
            for (index, program) in [Program.empty, .body].enumerated() {
                if program == .body { ours.run(Program.before.name, context, 0) }
                let start = cruntime_monotonic_ns()
                ours.run(program.name, context, 0)
                best[index] = min(best[index], Double(cruntime_monotonic_ns() - start))
                if ringed { while consumer.next() != nil {} }
                guard let theirs else { continue }
                if program == .body { _ = try theirs.run(Program.before.rawValue) }
                best[2 + index] = min(best[2 + index], try theirs.run(program.rawValue))
                theirs.drain()
            }
        }
        let count = Double(Subject.rounds)
        return (max(0, best[1] - best[0]) / count, theirs == nil ? nil : max(0, best[3] - best[2]) / count)
    }

    private var ringed: Bool { subject.map.type == .ringBuffer || subject.map.type == .perfEventArray }

    /// The same on all CPUs at once: the mean of all threads, the best of the rounds.
    func measureAll() throws -> (ours: Double, theirs: Double?) {
        let empty = together { thread in
            let context = ours.context()
            return { _ in time { ours.run(Program.empty.name, context, 0) } }
        }
        let mine = together { thread in
            let context = ours.context()
            return { _ in
                ours.run(Program.before.name, context, 0)
                return time { ours.run(Program.body.name, context, 0) }
            }
        }
        guard let theirs else { return (max(0, mine - empty), nil) }
        let nothing = together { _ in { _ in (try? theirs.run(Program.empty.rawValue)) ?? .infinity } }
        let other = together { _ in
            { _ in
                _ = try? theirs.run(Program.before.rawValue)
                return (try? theirs.run(Program.body.rawValue)) ?? .infinity
            }
        }
        return (max(0, mine - empty), max(0, other - nothing))
    }

    private func time(_ body: () -> Void) -> Double {
        let start = cruntime_monotonic_ns()
        body()
        return Double(cruntime_monotonic_ns() - start)
    }

    /// Runs a body on every CPU `rounds` times at the same time; nanoseconds of one operation.
    private func together(_ make: @escaping (Int) -> (Int) -> Double) -> Double {
        let results = Results(threads: cpus)
        var consumer = RingConsumer(MapView(ours.view, 0))
        var threads: [pthread_t] = []
        for index in 0..<cpus {
            let work = Work(index, rounds, make(index), results)
            var thread = pthread_t()
            pthread_create(
                &thread,
                nil,
                { argument in
                    Unmanaged<Work>.fromOpaque(argument.unsafelyUnwrapped).takeRetainedValue().run()
                    return nil
                },
                Unmanaged.passRetained(work).toOpaque()
            )
            threads.append(thread)
        }
        while ringed, results.running > 0 {
            while consumer.next() != nil {}
            theirs?.drain()
        }
        for thread in threads { pthread_join(thread, nil) }
        return results.median / Double(Subject.rounds)
    }

    /// Bytes of an entry.
    var memory: (ours: Double, theirs: Double?) {
        let descriptor = MapView(ours.view, 0).descriptor.pointee
        let bytes =
            descriptor.values_size + UInt64(descriptor.node_count) * UInt64(descriptor.key_stride)
            + UInt64(descriptor.bucket_count) * 8
        return (Double(bytes) / Double(descriptor.max_entries), theirs?.bytesPerEntry)
    }
}

/// What threads measured.
final class Results: @unchecked Sendable {
    private var lock = pthread_mutex_t()
    private var values: [Double] = []
    private(set) var running: Int

    init(threads: Int) {
        running = threads
        pthread_mutex_init(&lock, nil)
    }

    func add(_ more: [Double]) {
        pthread_mutex_lock(&lock)
        values += more
        running -= 1
        pthread_mutex_unlock(&lock)
    }

    var median: Double { values.sorted()[values.count / 2] }
}

/// One thread's part.
private final class Work: @unchecked Sendable {
    private let index: Int
    private let rounds: Int
    private let body: (Int) -> Double
    private let results: Results

    init(_ index: Int, _ rounds: Int, _ body: @escaping (Int) -> Double, _ results: Results) {
        (self.index, self.rounds, self.body, self.results) = (index, rounds, body, results)
    }

    func run() {
        // One CPU each: the programs' keys go by it.
        var set = [UInt8](repeating: 0, count: 128)
        set[index / 8] |= 1 << UInt8(index % 8)
        // sched_setaffinity(2)
        _ = set.withUnsafeBytes { cruntime_syscall(203, 0, 128, Int64(Int(bitPattern: $0.baseAddress)), 0, 0, 0) }
        results.add((0..<rounds).map(body))
    }
}

/// Prints the table.
func compareWithKernel() throws {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 7, count: 4096)
    if geteuid() != 0 { print("SKIP: the kernel's maps, which take root") }
    print("\nns per operation beside the kernel's map, driven by BPF_PROG_TEST_RUN in the same run")
    print(row("", ["ours", "kernel", "budget", "ours, all", "kernel, all", "bytes/entry", "kernel"]))
    for subject in Subject.all(memory) {
        do {
            let comparison = try Comparison(subject)
            let (one, all, bytes) = (try comparison.measure(), try comparison.measureAll(), comparison.memory)
            let hasEntries =
                subject.map.keySize > 0 && !subject.name.hasPrefix("probe") && subject.map.type != .perfEventArray
            print(
                row(
                    subject.name,
                    [
                        text(one.ours), text(one.theirs), subject.budget == 0 ? "-" : "\(Int(subject.budget))",
                        text(all.ours), text(all.theirs), hasEntries ? text(bytes.ours) : "-",
                        hasEntries ? text(bytes.theirs) : "-",
                    ]
                )
            )
        } catch {
            print(row(subject.name, ["\(error)".split(separator: "\n").last.map(String.init) ?? ""]))
        }
    }
}

private func text(_ number: Double?) -> String {
    guard let number, number.isFinite else { return "-" }
    let tenths = Int((number * 10).rounded())
    return "\(tenths / 10).\(tenths % 10)"
}

private func row(_ name: String, _ cells: [String]) -> String {
    let padded = cells.map { String(repeating: " ", count: max(1, 12 - $0.count)) + $0 }
    return "  " + name + String(repeating: " ", count: max(1, 30 - name.count)) + padded.joined()
}
