import CRuntime
import CSession

/// The reading end of a ring, in the controller.
///
/// The producer's side is memory that the target can write: nothing in it is trusted. A header that makes no sense costs
/// the records that are in the ring at that moment, and is counted.
package struct RingConsumer {
    package let map: MapView
    /// Records whose producer died before it submitted them.
    package private(set) var abandoned: UInt64 = 0
    /// Times that the ring's contents made no sense and were given up.
    package private(set) var damaged: UInt64 = 0

    /// A record that a producer of another namespace has not finished, and since when.
    private var unfinished: (position: UInt64, since: UInt64) = (.max, 0)

    package init(_ map: MapView) {
        cruntime_find_namespace()
        self.map = map
    }

    /// Records that producers found no room for.
    package var dropped: UInt64 { map.droppedRecords }

    /// The next record's data; nil where there is none yet.
    package mutating func next() -> [UInt8]? {
        let ringSize = unsafe map.descriptor.pointee.ring_size
        // Ends: every turn consumes at least 8 bytes, and not more than one ring's worth is looked at.
        var turns = ringSize / RingHeader.size
        while turns > 0 {
            turns -= 1
            let consumer = unsafe cruntime_load64(map.quad(MetaOffset.consumer))
            let producer = unsafe cruntime_load64(map.quad(MetaOffset.producer))
            if consumer == producer { return nil }
            guard producer &- consumer <= ringSize, consumer & 7 == 0, producer & 7 == 0 else {
                resynchronize(producer)
                continue
            }
            let header = unsafe map.record(consumer)
            let word = unsafe cruntime_load32(header)
            let size = UInt64(word & RingHeader.lengthMask)
            let total = alignUp(size + RingHeader.size, to: 8)
            guard total <= producer &- consumer else {
                resynchronize(producer)
                continue
            }
            if word & RingHeader.busy != 0 {
                let owner = unsafe header[1]
                if owner != 0, mayFinish(owner, consumer) { return nil }
                // It may have been submitted just before its producer ended.
                if unsafe cruntime_load32(header) != word { continue }
                abandoned += 1
                unsafe cruntime_store64(map.quad(MetaOffset.consumer), consumer &+ total)
                continue
            }
            if word & RingHeader.discard != 0 {
                unsafe cruntime_store64(map.quad(MetaOffset.consumer), consumer &+ total)
                continue
            }
            let data = unsafe UnsafeRawBufferPointer(start: header + 2, count: Int(size))
            let bytes = unsafe [UInt8](data)
            unsafe cruntime_store64(map.quad(MetaOffset.consumer), consumer &+ total)
            return bytes
        }
        return nil
    }

    /// Whether the record's producer lives; of one in another namespace nobody knows, so it has a second.
    private mutating func mayFinish(_ owner: UInt32, _ position: UInt64) -> Bool {
        let state = cruntime_owner_state(owner)
        guard state == 2 else { return state == 0 }
        let now = cruntime_monotonic_ns()
        if unfinished.position != position { unfinished = (position, now) }
        return now - unfinished.since < 1_000_000_000
    }

    private mutating func resynchronize(_ producer: UInt64) {
        damaged += 1
        unsafe cruntime_store64(map.quad(MetaOffset.consumer), producer & ~7)
        if producer & 7 != 0 { unsafe cruntime_store64(map.quad(MetaOffset.producer), producer & ~7) }
    }
}
