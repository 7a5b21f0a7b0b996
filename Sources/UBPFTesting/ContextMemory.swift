import CRuntime
import Glibc
import ISA
import Loader

/// Memory that contexts and packets lie in, below 2 GB: `__u32 data` of `xdp_md` must hold its address.
@safe
final class ContextMemory {
    private static let capacity = 1 << 18
    private static let packetOffset = 1 << 12
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

    func packet(_ count: Int) -> [UInt8] {
        unsafe [UInt8](UnsafeRawBufferPointer(start: base + Self.packetOffset, count: count))
    }

    func context(_ count: Int) -> [UInt8] { unsafe [UInt8](UnsafeRawBufferPointer(start: base, count: count)) }

    /// The registers at the start of a context.
    var registers: UnsafeMutablePointer<cruntime_regs> { unsafe base.assumingMemoryBound(to: cruntime_regs.self) }
}

/// The contexts of network programs, for objects without their types (include/uapi/linux/bpf.h).
enum PacketContext {
    /// A context that says where the packet is: in `xdp_md` at 0, 4 and 8, in `__sk_buff` at 76 and 80, its length at 0.
    static func bytes(
        of type: ProgramType,
        _ fields: Value,
        packet: Range<UInt64>,
        types: Types?
    ) throws(TestingError) -> [UInt8] {
        let isXDP = type == .xdp
        let name = isXDP ? "xdp_md" : "__sk_buff"
        var bytes = [UInt8](repeating: 0, count: isXDP ? 24 : 192)
        if let types, let id = types.id(ofStruct: name) {
            let encoded = try types.encode(fields, id, name)
            bytes.replaceSubrange(0..<encoded.count, with: encoded)
        } else if fields != [:] {
            throw .noType(name)
        }
        func put(_ value: UInt64, _ offset: Int) {
            bytes.replaceSubrange(offset..<offset + 4, with: littleEndian(UInt32(truncatingIfNeeded: value)))
        }
        if isXDP {
            put(packet.lowerBound, 0)
            put(packet.upperBound, 4)
            put(packet.lowerBound, 8)
        } else {
            put(UInt64(packet.count), 0)
            put(packet.lowerBound, 76)
            put(packet.upperBound, 80)
        }
        return bytes
    }
}
