import CRuntime
import Glibc
import ISA
import Loader

/// Memory that contexts and packets lie in, below 2 GB: `__u32 data` of `xdp_md` must hold its address.
@safe
final class ContextMemory {
    private static let capacity = 1 << 18
    private static let packetOffset = 1 << 12
    /// Bytes before a packet that `bpf_xdp_adjust_head` can take: XDP_PACKET_HEADROOM without what a `struct xdp_frame` takes.
    private static let headroom: UInt64 = 256 - 40
    /// Bytes that a packet can grow to at its end: a page without the headroom and a `struct skb_shared_info`.
    private static let growth: UInt64 = 4096 - 256 - 320
    /// Bytes that a packet may have.
    static let packetLimit = capacity - packetOffset
    private let base: UnsafeMutableRawPointer

    init() throws(TestingError) {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT | MAP_NORESERVE
        guard let base = unsafe mmap(nil, Self.capacity, PROT_READ | PROT_WRITE, flags, -1, 0),
            unsafe base != MAP_FAILED
        else { throw .noMemory(Self.capacity) }
        unsafe self.base = unsafe base
    }

    deinit { unsafe munmap(base, Self.capacity) }

    private var address: UInt64 { UInt64(UInt(bitPattern: unsafe base)) }
    var contextAddress: UInt64 { address }
    var packetAddress: UInt64 { address + UInt64(Self.packetOffset) }

    /// Puts a context at the start of the memory.
    func put(context bytes: [UInt8], into context: inout cruntime_context, isWritable: Bool = false) {
        unsafe base.copyMemory(from: bytes, byteCount: bytes.count)
        unsafe context.context_low = address
        unsafe context.context_high = address + UInt64(bytes.count)
        unsafe context.context_writable = isWritable ? 1 : 0
    }

    /// Puts memory that is a program's to write after the context.
    func put(packet bytes: [UInt8], into context: inout cruntime_context) {
        unsafe (base + Self.packetOffset).copyMemory(from: bytes, byteCount: bytes.count)
        unsafe context.packet_low = packetAddress
        unsafe context.packet_high = packetAddress + UInt64(bytes.count)
    }

    /// A packet of `count` bytes, for a program of a type.
    func packetWindow(_ count: Int, _ type: ProgramType) -> PacketWindow {
        let data = packetAddress..<packetAddress + UInt64(count)
        let end = max(packetAddress + Self.growth, data.upperBound)
        return PacketWindow(
            type: type,
            data: data,
            meta: data.lowerBound,
            room: packetAddress - Self.headroom..<end,
            head: address
        )
    }

    /// Bytes of this memory.
    func bytes(_ range: Range<UInt64>) -> [UInt8] {
        unsafe [UInt8](UnsafeRawBufferPointer(start: base + Int(range.lowerBound - address), count: range.count))
    }

    func context(_ count: Int) -> [UInt8] { unsafe [UInt8](UnsafeRawBufferPointer(start: base, count: count)) }

    /// The registers at the start of a context.
    var registers: UnsafeMutablePointer<cruntime_regs> { unsafe base.assumingMemoryBound(to: cruntime_regs.self) }
}

/// The contexts of network programs, for objects without their types (include/uapi/linux/bpf.h).
enum PacketContext {
    /// A context that says where the packet is.
    static func bytes(
        _ fields: Value,
        packet: PacketWindow,
        protocol: [UInt8]?,
        types: Types?
    ) throws(TestingError) -> [UInt8] {
        let name = name(packet.type)
        var bytes = [UInt8](repeating: 0, count: packet.type == .xdp ? 24 : 192)
        if let types, let id = types.id(ofStruct: name) {
            let encoded = try types.encode(fields, id, name)
            bytes.replaceSubrange(0..<encoded.count, with: encoded)
        } else if fields != [:] {
            throw .noType(name)
        }
        // As eth_type_trans() takes it from the frame.
        if packet.type != .xdp, fields["protocol"] == nil, let `protocol` {
            bytes.replaceSubrange(16..<18, with: `protocol`)
        }
        for (offset, word) in packet.words { bytes.replaceSubrange(offset..<offset + 4, with: littleEndian(word)) }
        return bytes
    }

    /// Name of the context's struct.
    static func name(_ type: ProgramType) -> String { type == .xdp ? "xdp_md" : "__sk_buff" }
}

/// Where the packet of a run is, and how far helpers may move its ends.
struct PacketWindow {
    let type: ProgramType
    var data: Range<UInt64>
    /// Start of what `bpf_xdp_adjust_meta` put before the packet; the packet's own where that is nothing.
    var meta: UInt64
    /// Memory that it can take.
    let room: Range<UInt64>
    /// Address of the context, which says where it is.
    let head: UInt64

    /// The context's words about it, by offset: `data`, `data_end` and `data_meta` of `xdp_md`; `len` and the same of `__sk_buff`.
    var words: [(offset: Int, word: UInt32)] {
        let all: [(Int, UInt64)] =
            type == .xdp
            ? [(0, data.lowerBound), (4, data.upperBound), (8, meta)]
            : [(0, UInt64(data.count)), (76, data.lowerBound), (80, data.upperBound), (140, meta)]
        return all.map { ($0.0, UInt32(truncatingIfNeeded: $0.1)) }
    }
}
