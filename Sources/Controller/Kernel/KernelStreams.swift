import ISA
import Kernel
import Loader

/// What programs in the kernel send: records of ring and perf buffers, and lines of `bpf_printk`.
final class KernelStreams {
    private final class Ring {
        let map: MapSpec
        var ring: KernelRing

        init(_ holder: KernelMapHolder) throws(KernelError) {
            map = holder.spec
            ring = try KernelRing.open(holder.map.descriptor, size: holder.spec.maxEntries)
        }
    }

    private final class Buffer {
        var buffer: PerfBuffer

        init?(cpu: Int32, pages: Int) throws(KernelError) {
            guard let opened = try PerfBuffer.open(cpu: cpu, pages: pages) else { return nil }
            buffer = opened
        }
    }

    private final class Lines {
        var trace: TraceInstance

        init() throws(KernelError) { trace = try TraceInstance.make() }
    }

    enum Item {
        case record([UInt8], MapSpec)
        case line(TraceInstance.Line)
    }

    private var rings: [Ring] = []
    private var buffers: [(map: MapSpec, buffer: Buffer)] = []
    private var lines: Lines?
    private var first = 0
    /// Records that found a perf buffer full, by map.
    private(set) var lost: [String: UInt64] = [:]

    /// Pages of a CPU's perf buffer, as libbpf's tools have them.
    private static let pages = 64

    /// Maps the buffers among `maps`; with `prints` also a trace instance, whose absence is a warning.
    init(_ maps: [KernelMapHolder], prints: Bool, warn: (Failure) throws(Failure) -> Void) throws(Failure) {
        for holder in maps {
            do throws(KernelError) {
                switch holder.spec.type {
                case .ringBuffer: rings.append(try Ring(holder))
                case .perfEventArray: try open(holder)
                default: continue
                }
            } catch { throw .kernelMapFailed(holder.spec.name, error.description) }
        }
        guard prints else { return }
        do throws(KernelError) { lines = try Lines() } catch {
            try warn(.noTraceFiles("lines of bpf_printk are not shown", error.description))
        }
    }

    private func open(_ holder: KernelMapHolder) throws(KernelError) {
        for cpu in 0..<min(possibleCPUs, holder.spec.maxEntries) {
            guard let buffer = try Buffer(cpu: Int32(cpu), pages: Self.pages) else { continue }
            do throws(Failure) { try holder.set(cpu, to: buffer.buffer.descriptor) } catch {
                throw KernelError(call: error.why ?? error.what, errno: 0)
            }
            buffers.append((holder.spec, buffer))
        }
    }

    /// Hands over what has come since the last call, until `end`: programs may send faster than records can be shown.
    func drain(until end: UInt64, _ body: (Item) throws(Failure) -> Void) throws(Failure) {
        // Whoever floods is first once in a while only.
        first += 1
        for offset in rings.indices {
            let ring = rings[(first + offset) % rings.count]
            while monotonicNanoseconds() < end, let record = ring.ring.next() {
                try body(.record(record, ring.map))
            }
        }
        for offset in buffers.indices {
            let (map, holder) = buffers[(first + offset) % buffers.count]
            while monotonicNanoseconds() < end, let record = holder.buffer.next() {
                switch record {
                case .sample(let bytes): try body(.record(bytes, map))
                case .lost(let count): lost[map.name, default: 0] += count
                }
            }
        }
        guard let lines else { return }
        repeat {
            let found = lines.trace.lines()
            for line in found { try body(.line(line)) }
            if found.isEmpty { return }
        } while monotonicNanoseconds() < end
    }
}
