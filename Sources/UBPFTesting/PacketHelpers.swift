import CRuntime
import ISA
import Runtime

/// Helpers of network programs (Linux net/core/filter.c), on the packet of the run.
extension Execution {
    /// Answers a helper that works on the packet; nil for others, and where the run has no packet.
    func packetHelper(
        _ number: UInt32,
        _ a: UInt64,
        _ b: UInt64,
        _ c: UInt64,
        _ d: UInt64,
        _ e: UInt64
    ) -> UInt64? {
        switch number {
        // csum_diff works on any memory.
        case 28: return checksumDifference(a, b & 0xffff_ffff, c, d & 0xffff_ffff, seed: UInt32(truncatingIfNeeded: e))
        case 51: return redirect(map: a, key: b, flags: c)
        default: break
        }
        guard let packet else { return nil }
        let isXDP = packet.type == .xdp
        switch number {
        // skb_load_bytes, skb_load_bytes_relative
        case 26, 68: return load(offset: b & 0xffff_ffff, to: c, size: d & 0xffff_ffff)
        case 9: return e & ~3 != 0 ? failure(.EINVAL) : put(offset: b & 0xffff_ffff, from: c, size: d & 0xffff_ffff)
        case 10: return replaceChecksum(at: b, c, d, flags: e, isTransport: false)
        case 11: return replaceChecksum(at: b, c, d, flags: e, isTransport: true)
        // clone_redirect: noted, nobody gets the copy.
        case 13: return 0
        // redirect: XDP_REDIRECT and XDP_ABORTED, TC_ACT_REDIRECT and TC_ACT_SHOT
        case 23: return isXDP ? (b == 0 ? 4 : 0) : (b & ~1 == 0 ? 7 : 2)
        // skb_pull_data: all of it is here.
        case 39: return UInt32(truncatingIfNeeded: b) > packet.data.count ? failure(.ENOMEM) : 0
        case 38 where !isXDP: return c == 0 ? moveEnd(to: Int(b & 0xffff_ffff), of: packet) : failure(.EINVAL)
        case 43 where !isXDP: return c == 0 ? moveStart(by: -Int(b & 0xffff_ffff), of: packet) : failure(.EINVAL)
        case 44 where isXDP: return moveStart(by: Int(Int32(truncatingIfNeeded: b)), of: packet)
        case 54 where isXDP: return moveMeta(by: Int(Int32(truncatingIfNeeded: b)), of: packet)
        case 65 where isXDP: return moveEnd(to: packet.data.count + Int(Int32(truncatingIfNeeded: b)), of: packet)
        case 188 where isXDP: return UInt64(packet.data.count)
        case 189 where isXDP: return copy(offset: b & 0xffff_ffff, c, size: d & 0xffff_ffff, isLoad: true)
        case 190 where isXDP: return copy(offset: b & 0xffff_ffff, c, size: d & 0xffff_ffff, isLoad: false)
        default: return nil
        }
    }

    // MARK: Contents

    private func isInside(_ offset: UInt64, _ size: UInt64) -> Bool {
        guard let packet else { return false }
        return offset + size <= UInt64(packet.data.count)
    }

    private func load(offset: UInt64, to address: UInt64, size: UInt64) -> UInt64 {
        guard isInside(offset, size), let packet, let bytes = guest(packet.data.lowerBound + offset, size) else {
            // As the kernel: what is not there is zero.
            store([], at: address, size: size)
            return failure(.EFAULT)
        }
        store(bytes, at: address, size: size)
        return 0
    }

    private func put(offset: UInt64, from address: UInt64, size: UInt64) -> UInt64 {
        guard isInside(offset, size), let packet else { return failure(.EFAULT) }
        guard let bytes = guest(address, size) else { return 0 }
        store(bytes, at: packet.data.lowerBound + offset, size: size)
        return 0
    }

    /// `bpf_xdp_load_bytes` and `bpf_xdp_store_bytes`.
    private func copy(offset: UInt64, _ address: UInt64, size: UInt64, isLoad: Bool) -> UInt64 {
        if offset > 0xffff || size > 0xffff { return failure(.EFAULT) }
        guard isInside(offset, size), let packet else { return failure(.EINVAL) }
        let place = packet.data.lowerBound + offset
        guard let bytes = guest(isLoad ? place : address, size) else { return 0 }
        store(bytes, at: isLoad ? address : place, size: size)
        return 0
    }

    // MARK: Ends

    /// Ethernet's header, which has to stay.
    private static let smallest = 14

    private func take(_ changed: PacketWindow) -> UInt64 {
        packet = changed
        unsafe context.pointee.packet_low = changed.meta
        unsafe context.pointee.packet_high = changed.data.upperBound
        for (offset, word) in changed.words {
            let place = unsafe UnsafeMutableRawPointer(bitPattern: UInt(changed.head) + UInt(offset))
            unsafe place?.storeBytes(of: word, as: UInt32.self)
        }
        // Compiled code compares with these.
        unsafe prepareWindows(context)
        return 0
    }

    private func moveStart(by distance: Int, of packet: PacketWindow) -> UInt64 {
        var changed = packet
        let meta = packet.data.lowerBound - packet.meta
        let start = Int(packet.data.lowerBound) + distance
        guard start >= Int(packet.room.lowerBound + meta), start <= Int(packet.data.upperBound) - Self.smallest else {
            return failure(.EINVAL)
        }
        let kept = meta == 0 ? [] : guest(packet.meta, meta) ?? []
        changed.data = UInt64(start)..<packet.data.upperBound
        changed.meta = UInt64(start) - meta
        let result = take(changed)
        if !kept.isEmpty { store(kept, at: changed.meta, size: meta) }
        // What bpf_skb_change_head() adds is zero; bpf_xdp_adjust_head() leaves what was there.
        if packet.type != .xdp { store([], at: UInt64(start), size: UInt64(-distance)) }
        return result
    }

    private func moveEnd(to count: Int, of packet: PacketWindow) -> UInt64 {
        guard count >= Self.smallest, packet.data.lowerBound + UInt64(count) <= packet.room.upperBound else {
            return failure(.EINVAL)
        }
        var changed = packet
        changed.data = packet.data.lowerBound..<packet.data.lowerBound + UInt64(count)
        let result = take(changed)
        if count > packet.data.count {
            store([], at: packet.data.upperBound, size: UInt64(count - packet.data.count))
        }
        return result
    }

    private func moveMeta(by distance: Int, of packet: PacketWindow) -> UInt64 {
        let start = Int(packet.meta) + distance
        guard start >= Int(packet.room.lowerBound), start <= Int(packet.data.lowerBound) else {
            return failure(.EINVAL)
        }
        let length = Int(packet.data.lowerBound) - start
        if length % 4 != 0 || length > 252 { return failure(.EACCES) }
        var changed = packet
        changed.meta = UInt64(start)
        return take(changed)
    }

    // MARK: Redirection

    /// `bpf_redirect_map`: XDP_REDIRECT where the map has something for the key, else what the flags say.
    private func redirect(map handle: UInt64, key: UInt64, flags: UInt64) -> UInt64 {
        guard let map = unsafe guestMap(context, handle) else { return 0 }
        let key = littleEndian(UInt32(truncatingIfNeeded: key))
        guard map.keySize == 4, let value = unsafe map.lookup(key, slot: 0) else { return flags & 3 }
        let isThere = unsafe UnsafeRawBufferPointer(start: value, count: min(4, Int(map.valueSize))).contains {
            $0 != 0
        }
        return isThere ? 4 : flags & 3
    }

    // MARK: Checksums

    /// `bpf_csum_diff(from, from_size, to, to_size, seed)`: folded to 16 bits, as from Linux 6.13 on.
    private func checksumDifference(
        _ from: UInt64,
        _ fromSize: UInt64,
        _ to: UInt64,
        _ toSize: UInt64,
        seed: UInt32
    ) -> UInt64 {
        if (fromSize | toSize) & 3 != 0 { return failure(.EINVAL) }
        guard let old = fromSize == 0 ? [] : guest(from, fromSize), let new = toSize == 0 ? [] : guest(to, toSize)
        else {
            return 0
        }
        var sum = UInt64(seed)
        switch (old.isEmpty, new.isEmpty) {
        case (true, true): return UInt64(seed)
        case (true, false): sum += Checksum.sum(new)
        case (false, true): return UInt64(~Checksum.fold(UInt64(~seed) + Checksum.sum(old)))
        case (false, false): sum += Checksum.sum(new) + UInt64(~Checksum.fold(Checksum.sum(old)))
        }
        return UInt64(Checksum.fold(sum))
    }

    /// `bpf_l3_csum_replace` and `bpf_l4_csum_replace`.
    private func replaceChecksum(
        at offset: UInt64,
        _ from: UInt64,
        _ to: UInt64,
        flags: UInt64,
        isTransport: Bool
    ) -> UInt64 {
        // BPF_F_MARK_MANGLED_0, BPF_F_MARK_ENFORCE; BPF_F_PSEUDO_HDR and BPF_F_IPV6 are about what hardware counted.
        let (marksZero, always) = (flags & 0x20 != 0, flags & 0x40 != 0)
        if flags & ~(isTransport ? 0xff : 0xf) != 0 { return failure(.EINVAL) }
        let offset = offset & 0xffff_ffff
        if offset > 0xffff || offset & 1 != 0 { return failure(.EFAULT) }
        guard isInside(offset, 2), let packet, let field = guest(packet.data.lowerBound + offset, 2) else {
            return failure(.EFAULT)
        }
        let old: UInt16 = integer(field)
        if marksZero, !always, old == 0 { return 0 }
        let difference: UInt64
        switch flags & 0xf {
        // BPF: `to` is a difference of bpf_csum_diff().
        case 0 where from == 0: difference = to & 0xffff_ffff
        case 2: difference = (to & 0xffff) + UInt64(~UInt16(truncatingIfNeeded: from))
        case 4: difference = (to & 0xffff_ffff) + UInt64(~UInt32(truncatingIfNeeded: from))
        default: return failure(.EINVAL)
        }
        var new = ~Checksum.fold(UInt64(~old) + difference)
        // CSUM_MANGLED_0
        if marksZero, new == 0 { new = 0xffff }
        store(littleEndian(new), at: packet.data.lowerBound + offset, size: 2)
        return 0
    }
}

/// Sums of the Internet's checksum (RFC 1071), in the byte order of memory.
enum Checksum {
    static func sum(_ bytes: [UInt8]) -> UInt64 {
        stride(from: 0, to: bytes.count, by: 2).reduce(0) { sum, index in
            sum + UInt64(bytes[index]) + (index + 1 < bytes.count ? UInt64(bytes[index + 1]) << 8 : 0)
        }
    }

    static func fold(_ sum: UInt64) -> UInt16 {
        var sum = sum
        while sum >> 16 != 0 { sum = (sum & 0xffff) + (sum >> 16) }
        return UInt16(sum)
    }
}
