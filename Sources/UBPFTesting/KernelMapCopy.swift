import CRuntime
import ISA
import Kernel
import Loader
import Runtime

/// A map in the kernel that has what a session's map has, before and after a run.
final class KernelMapCopy {
    let map: KernelMap
    private let spec: MapSpec
    private let index: Int

    private enum Form { case plain, perCPU, constant, programs, events }

    private let form: Form

    init(_ spec: MapSpec, _ index: Int) throws(TestingError) {
        self.spec = spec
        self.index = index
        switch spec.type {
        case .hash, .lruHash, .array, .lpmTrie: form = spec.isReadOnly ? .constant : .plain
        case .perCPUHash, .perCPUArray, .lruPerCPUHash: form = .perCPU
        case .programArray: form = .programs
        case .ringBuffer, .perfEventArray: form = .events
        default: throw .kernelMap(spec)
        }
        let isPerf = spec.type == .perfEventArray
        let isRing = spec.type == .ringBuffer
        do throws(KernelError) {
            map = try KernelMap(
                type: spec.type,
                keySize: isRing ? 0 : isPerf ? 4 : spec.keySize,
                valueSize: isRing ? 0 : isPerf ? 4 : spec.valueSize,
                maxEntries: isPerf && spec.maxEntries == 0 ? possibleCPUs : spec.maxEntries,
                flags: spec.flags,
                extra: spec.extra,
                name: spec.name
            )
            if case .constant = form {
                let status = map.update([0, 0, 0, 0], spec.contents ?? [])
                guard status == 0 else { throw KernelError(call: "bpf(MAP_UPDATE_ELEM)", errno: Int32(-status)) }
                try map.freeze()
            }
        } catch { throw .kernel("map \(spec.name)", error) }
    }

    private var keys: [[UInt8]] {
        get throws(TestingError) {
            var keys: [[UInt8]] = []
            do throws(KernelError) {
                var next = try map.nextKey(nil)
                while let key = next {
                    keys.append(key)
                    next = try map.nextKey(key)
                }
            } catch { throw .kernel("map \(spec.name)", error) }
            return keys
        }
    }

    /// Bytes of one CPU's value.
    private var stride: Int { (spec.valueSize + 7) / 8 * 8 }

    /// Gives the kernel's map what the session's has; the value of a CPU is that of a slot.
    func fill(_ session: LoadedSession, cpu: Int, slot: Int) throws(TestingError) {
        guard let own = handle(session) else { return }
        let wanted = own.keys
        let isArray = spec.type == .array || spec.type == .perCPUArray
        if !isArray {
            let kept = Set(wanted)
            for key in try keys where !kept.contains(key) { _ = map.delete(key) }
        }
        for key in wanted {
            guard let value = unsafe own.view.lookup(key, slot: slot) else { continue }
            var bytes = unsafe [UInt8](UnsafeRawBufferPointer(start: value, count: spec.valueSize))
            if case .perCPU = form {
                let before = cpu * stride
                let after = map.valueSize - before - spec.valueSize
                bytes = [UInt8](repeating: 0, count: before) + bytes + [UInt8](repeating: 0, count: after)
            }
            let status = map.update(key, bytes)
            if status != 0 { throw .operation("update in the kernel", spec.name, status) }
        }
    }

    /// Gives the session's map what the kernel's has.
    func fetch(_ session: LoadedSession, cpu: Int, slot: Int) throws(TestingError) {
        guard let own = handle(session) else { return }
        let found = try keys
        let isArray = spec.type == .array || spec.type == .perCPUArray
        if !isArray {
            let kept = Set(found)
            for key in own.keys where !kept.contains(key) { try own.remove(key) }
        }
        for key in found {
            let bytes: [UInt8]?
            do throws(KernelError) { bytes = try map.lookup(key) } catch { throw .kernel("map \(spec.name)", error) }
            guard let bytes else { continue }
            var value = bytes
            if case .perCPU = form { value = Array(bytes[cpu * stride..<cpu * stride + spec.valueSize]) }
            if unsafe own.view.lookup(key, slot: slot) == nil {
                try own.set([UInt8](repeating: 0, count: spec.valueSize), forKey: key)
            }
            guard let place = unsafe own.view.lookup(key, slot: slot) else { continue }
            unsafe UnsafeMutableRawPointer(mutating: place).copyMemory(from: value, byteCount: value.count)
        }
    }

    /// The session's map where contents are copied.
    private func handle(_ session: LoadedSession) -> MapHandle? {
        switch form {
        case .plain, .perCPU:
            session.view(of: index).map { MapHandle(spec: spec, view: $0, session: session, types: nil) }
        case .constant, .programs, .events: nil
        }
    }
}

/// The records that a run in the kernel leaves in a ring buffer or a perf event array.
final class KernelEvents {
    private var ring: KernelRing?
    private var buffers: [Buffer] = []

    private final class Buffer {
        var buffer: PerfBuffer
        init(_ buffer: consuming PerfBuffer) { self.buffer = buffer }
    }

    init(_ map: borrowing KernelMap, _ spec: MapSpec) throws(TestingError) {
        do throws(KernelError) {
            if spec.type == .ringBuffer {
                ring = try KernelRing.open(map.descriptor, size: spec.maxEntries)
                return
            }
            for cpu in 0..<possibleCPUs {
                guard let buffer = try PerfBuffer.open(cpu: Int32(cpu), pages: 64) else { continue }
                let status = map.update(littleEndian(UInt32(cpu)), littleEndian(buffer.descriptor))
                guard status == 0 else { throw KernelError(call: "bpf(MAP_UPDATE_ELEM)", errno: Int32(-status)) }
                buffers.append(Buffer(buffer))
            }
        } catch { throw .kernel("map \(spec.name)", error) }
    }

    /// What came since the last call.
    func records() -> [[UInt8]] {
        var records: [[UInt8]] = []
        while let record = ring?.next() { records.append(record) }
        for buffer in buffers {
            while let record = buffer.buffer.next() {
                if case .sample(let bytes) = record { records.append(bytes) }
            }
        }
        return records
    }
}
