import CLinux
import Glibc
import Synchronization

/// Memory that the kernel writes records to, mapped for as long as we read them.
@safe package struct RingMemory: ~Copyable {
    let base: UnsafeMutableRawPointer
    let size: Int

    init(_ descriptor: Int32, size: Int, offset: Int, protection: Int32) throws(KernelError) {
        let result = unsafe mmap(nil, size, protection, MAP_SHARED, descriptor, offset)
        guard let result = unsafe result, unsafe result != MAP_FAILED else {
            throw KernelError(call: "mmap of a ring", errno: clinux_errno())
        }
        unsafe base = result
        self.size = size
    }

    deinit { unsafe munmap(base, size) }

    /// A position that the kernel moves.
    func position(at offset: Int) -> UInt64 {
        unsafe Ordered.load(base.advanced(by: offset))
    }
}

/// Loads and stores that the kernel's counterparts order records with.
private enum Ordered {
    static func load(_ address: UnsafeMutableRawPointer) -> UInt64 {
        let value = unsafe address.load(as: UInt64.self)
        atomicMemoryFence(ordering: .acquiring)
        return value
    }

    static func load32(_ address: UnsafeMutableRawPointer) -> UInt32 {
        let value = unsafe address.load(as: UInt32.self)
        atomicMemoryFence(ordering: .acquiring)
        return value
    }

    static func store(_ value: UInt64, _ address: UnsafeMutableRawPointer) {
        atomicMemoryFence(ordering: .releasing)
        unsafe address.storeBytes(of: value, as: UInt64.self)
    }
}

/// The consumer of a ring buffer map (kernel/bpf/ringbuf.c): one page of ours, then the kernel's, then the data twice.
package struct KernelRing: ~Copyable {
    private let consumer: RingMemory
    private let producer: RingMemory
    private let mask: UInt64

    /// Maps the ring of a map's descriptor; `size` is its number of bytes.
    package static func open(_ map: Int32, size: Int) throws(KernelError) -> KernelRing {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let consumer = try RingMemory(map, size: page, offset: 0, protection: PROT_READ | PROT_WRITE)
        let producer = try RingMemory(map, size: page + 2 * size, offset: page, protection: PROT_READ)
        return KernelRing(consumer: consumer, producer: producer, mask: UInt64(size - 1))
    }

    private init(consumer: consuming RingMemory, producer: consuming RingMemory, mask: UInt64) {
        self.consumer = consumer
        self.producer = producer
        self.mask = mask
    }

    /// The next record; nil where there is none yet.
    package mutating func next() -> [UInt8]? {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        while true {
            let position = consumer.position(at: 0)
            guard position < producer.position(at: 0) else { return nil }
            let header = unsafe producer.base.advanced(by: page + Int(position & mask))
            let word = unsafe Ordered.load32(header)
            // BPF_RINGBUF_BUSY_BIT: reserved, not submitted yet.
            if word & 1 << 31 != 0 { return nil }
            let length = Int(word & 0x3fff_ffff)
            let isDiscarded = word & 1 << 30 != 0
            var record: [UInt8] = []
            if !isDiscarded { unsafe record = Array(UnsafeRawBufferPointer(start: header + 8, count: length)) }
            unsafe Ordered.store(position + UInt64((length + 8 + 7) & ~7), consumer.base)
            if !isDiscarded { return record }
        }
    }
}

/// The buffer of one CPU for `bpf_perf_event_output`.
package struct PerfBuffer: ~Copyable {
    package let descriptor: Int32
    private let mapping: RingMemory
    private let size: Int

    package enum Record: Equatable, Sendable {
        case sample([UInt8])
        case lost(UInt64)
    }

    /// Opens the buffer of a CPU, of `pages` (a power of two); nil where it is offline.
    package static func open(cpu: Int32, pages: Int) throws(KernelError) -> PerfBuffer? {
        let event: Int32
        do throws(KernelError) {
            // PERF_SAMPLE_RAW
            event = try PerfEvent.open(
                type: PerfEvent.software,
                config: PerfEvent.programOutput,
                sampleType: 0x400,
                cpu: cpu
            )
        } catch {
            if error.errno == ENODEV { return nil }
            throw error
        }
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        do throws(KernelError) {
            try PerfEvent.enable(event)
            let mapping = try RingMemory(
                event,
                size: page * (pages + 1),
                offset: 0,
                protection: PROT_READ | PROT_WRITE
            )
            return PerfBuffer(event, mapping, size: page * pages)
        } catch {
            _ = close(event)
            throw error
        }
    }

    private init(_ event: Int32, _ mapping: consuming RingMemory, size: Int) {
        descriptor = event
        self.mapping = mapping
        self.size = size
    }

    deinit { _ = close(descriptor) }

    /// The next record; nil where there is none yet (struct perf_event_mmap_page: data_head at 1024, data_tail at 1032).
    package mutating func next() -> Record? {
        while true {
            let tail = unsafe mapping.base.load(fromByteOffset: 1032, as: UInt64.self)
            guard tail < mapping.position(at: 1024) else { return nil }
            let header = bytes(at: tail, count: 8)
            let type = number(header, 0, 4)
            let length = Int(number(header, 6, 2))
            guard length >= 8 else { return nil }
            let record = bytes(at: tail, count: length)
            unsafe Ordered.store(tail + UInt64(length), mapping.base.advanced(by: 1032))
            // PERF_RECORD_SAMPLE with PERF_SAMPLE_RAW; PERF_RECORD_LOST: id, count.
            if type == 9, record.count >= 12 {
                let count = min(Int(number(record, 8, 4)), record.count - 12)
                return .sample(Array(record[12..<12 + count]))
            }
            if type == 2, record.count >= 24 { return .lost(number(record, 16, 8)) }
        }
    }

    private func bytes(at position: UInt64, count: Int) -> [UInt8] {
        let data = unsafe mapping.base.advanced(by: mapping.size - size)
        return (0..<count).map { index in
            unsafe data.load(fromByteOffset: Int((position + UInt64(index)) % UInt64(size)), as: UInt8.self)
        }
    }

    private func number(_ bytes: [UInt8], _ offset: Int, _ size: Int) -> UInt64 {
        (0..<size).reduce(0) { $0 | UInt64(bytes[offset + $1]) << (8 * UInt64($1)) }
    }
}
