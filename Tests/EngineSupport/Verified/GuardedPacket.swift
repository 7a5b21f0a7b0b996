internal import Glibc

/// Memory for packets below 4 GiB, where `struct xdp_md` can point to, between pages that nobody may touch.
final class GuardedPacket {
    private let pages: UnsafeMutableRawPointer
    private var size = 0
    private static let pageSize = 4096

    init() {
        // Linux mman.h, for x86-64.
        let below4GiB: Int32 = 0x40
        let mapped = mmap(nil, 3 * Self.pageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | below4GiB, -1, 0)
        guard let mapped, mapped != MAP_FAILED,
            mprotect(mapped + Self.pageSize, Self.pageSize, PROT_READ | PROT_WRITE) == 0
        else { preconditionFailure("no memory for a packet") }
        pages = mapped
    }

    deinit { munmap(pages, 3 * Self.pageSize) }

    /// Where the packet starts and ends; it ends where its page does.
    var range: Range<UInt64> {
        let end = UInt64(UInt(bitPattern: pages)) + 2 * UInt64(Self.pageSize)
        return end - UInt64(size)..<end
    }

    /// A packet that follows from the input, 0 to 79 bytes.
    func fill(_ input: [UInt64]) -> Range<UInt64> {
        size = Int(input[6] % 80)
        for index in 0..<size {
            let byte = UInt8(truncatingIfNeeded: input[7] >> UInt64(8 * (index & 7)))
            (pages + 2 * Self.pageSize - size).storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
        }
        return range
    }

    /// The bytes as programs left them.
    var words: [UInt64] {
        (0..<size).map { UInt64((pages + 2 * Self.pageSize - size).load(fromByteOffset: $0, as: UInt8.self)) }
    }
}
