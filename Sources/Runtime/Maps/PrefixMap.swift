import CRuntime
import CSession

/// LPM_TRIE: a hash map of prefixes, and a set of the lengths that were ever used.
///
/// A key is `u32 prefixlen` and bytes, the first bit being the highest of the first byte. Elements lie under keys whose bits
/// behind the prefix are 0, so the longest match is found by asking for each length in use, the longest first. That needs no
/// tree, and what holds for hash maps holds here.
extension MapView {
    /// Bits of the longest prefix.
    private var prefixLimit: UInt32 {
        @_noLocks get { unsafe (descriptor.pointee.key_size &- 4) &* 8 }
    }

    /// Bit `length % 64` of word `length / 64`: prefixes of this length were added.
    @_noLocks
    private func lengths(_ word: UInt32) -> UnsafeMutablePointer<UInt64> {
        let buckets = unsafe UInt64(descriptor.pointee.bucket_count)
        let offset = unsafe hashBucketsOffset(descriptor.pointee.bucket_count) &+ buckets &* MetaSize.hashBucket
        return unsafe quad(alignUp(offset, to: 8) &+ UInt64(word) &* 8)
    }

    /// kernel/bpf/lpm_trie.c, `trie_lookup_elem`.
    @_noLocks
    func prefixLookup(_ key: UnsafeRawPointer) -> UnsafeMutableRawPointer? {
        var length = unsafe arrayIndex(key)
        if length > prefixLimit { return nil }
        var buffer = cruntime_key()
        let masked = unsafe maskedKey(key, length, &buffer)
        var index = length >> 6
        // Lengths up to this one.
        var below = (~0 as UInt64) &>> UInt64(63 &- (length & 63))
        while true {
            var set = unsafe cruntime_load64(lengths(index)) & below
            while set != 0 {
                let bit = UInt32(truncatingIfNeeded: 63 &- set.leadingZeroBitCount)
                set &= ~((1 as UInt64) &<< UInt64(bit))
                let shorter = index << 6 | bit
                unsafe clearBits(masked, from: shorter, to: length)
                unsafe storeIndex(shorter, masked)
                length = shorter
                let node = unsafe hashFind(masked)
                if node != 0 { return unsafe nodeValue(node, slot: 0) }
            }
            if index == 0 { return nil }
            index &-= 1
            below = ~0
        }
    }

    /// kernel/bpf/lpm_trie.c, `trie_update_elem`.
    @_noLocks
    func prefixUpdate(_ key: UnsafeRawPointer, _ value: UnsafeRawPointer, flags: UInt64, tid: UInt32) -> Int64 {
        let length = unsafe arrayIndex(key)
        if flags > UpdateFlag.exist || length > prefixLimit { return Failure.invalid }
        let set = unsafe lengths(length >> 6)
        while true {
            let old = unsafe cruntime_load64(set)
            let new = old | (1 as UInt64) &<< UInt64(length & 63)
            if unsafe new == old || cruntime_cas64(set, old, new) != 0 { break }
        }
        var buffer = cruntime_key()
        let masked = unsafe maskedKey(key, length, &buffer)
        let result = unsafe hashUpdate(masked, value, flags: flags, tid: tid, slot: 0)
        return result == Failure.tooBig ? Failure.noSpace : result
    }

    /// kernel/bpf/lpm_trie.c, `trie_delete_elem`.
    @_noLocks
    func prefixDelete(_ key: UnsafeRawPointer, tid: UInt32) -> Int64 {
        let length = unsafe arrayIndex(key)
        if length > prefixLimit { return Failure.invalid }
        var buffer = cruntime_key()
        return unsafe hashDelete(maskedKey(key, length, &buffer), tid: tid)
    }

    /// A copy of a key in `buffer`, the bits behind its prefix cleared.
    @_noLocks
    private func maskedKey(
        _ key: UnsafeRawPointer,
        _ length: UInt32,
        _ buffer: UnsafeMutablePointer<cruntime_key>
    ) -> UnsafeMutableRawPointer {
        let masked = unsafe UnsafeMutableRawPointer(cruntime_key_start(buffer))
        unsafe cruntime_copy(masked, key, keySize)
        unsafe clearBits(masked, from: length, to: prefixLimit)
        return unsafe masked
    }

    /// Clears bits `from..<to` of a key's data.
    @_noLocks
    private func clearBits(_ key: UnsafeMutableRawPointer, from: UInt32, to: UInt32) {
        let bytes = unsafe key.assumingMemoryBound(to: UInt8.self) + 4
        var bit = from
        while bit < to {
            if bit & 7 == 0 {
                unsafe bytes[Int(bit >> 3)] = 0
            } else {
                unsafe bytes[Int(bit >> 3)] &= ~((0xff as UInt8) &>> UInt8(truncatingIfNeeded: bit & 7))
            }
            bit = (bit | 7) &+ 1
        }
    }
}
