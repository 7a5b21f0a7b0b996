import CRuntime
import CSession

extension StackMemo {
    /// Walks the stack and records it at `position`; the number of frames.
    @_noLocks
    func walk(
        _ context: UnsafeMutablePointer<cruntime_context>,
        at position: UInt32,
        into frames: UnsafeMutablePointer<UInt64>,
        capacity: Int
    ) -> Int {
        let words = unsafe words(record(position))
        unsafe header.beginRecording(at: words)
        return unsafe walkStack(context, into: frames, capacity: capacity, recording: header)
    }

    /// Makes an entry of the walk that was recorded at `position`, with what the map answered.
    @_noLocks
    func keep(_ key: StackKey, at position: UInt32, _ place: StackPlace, _ result: Int64) {
        if unsafe header.pointee.isFailed != 0 || header.pointee.returns == 0 {
            unsafe header.pointee.head = position
            return
        }
        let record = unsafe record(position)
        let returns = unsafe header.pointee.returns
        let others = unsafe header.pointee.others
        unsafe record.pointee.returns = returns
        unsafe record.pointee.words = returns &+ others
        unsafe record.pointee.usesFramePointer = unsafe header.pointee.usesFramePointer
        unsafe record.pointee.bucket = place.bucket
        unsafe record.pointee.bucketWord = place.word
        unsafe record.pointee.rbp = key.rbp
        let words = unsafe words(record)
        var index: UInt32 = 0
        while index < others {
            unsafe words[Int(returns &+ index)] = unsafe header.otherWords[Int(index)]
            index &+= 1
        }
        let telling = unsafe tell(key, record)
        let entry = unsafe victim(key)
        unsafe entry.pointee.tag = 0
        cruntime_barrier()
        unsafe entry.pointee.pc = key.pc
        unsafe entry.pointee.sp = key.sp
        unsafe entry.pointee.high = key.high
        unsafe entry.pointee.owner = key.owner
        unsafe entry.pointee.telling = telling
        unsafe entry.pointee.position = position
        unsafe entry.pointee.result = Int32(truncatingIfNeeded: result)
        cruntime_barrier()
        unsafe entry.pointee.tag = key.tag
        cruntime_barrier()
        // What was reserved and not used may be used.
        unsafe header.pointee.head = position &+ StackRecord.head &+ returns &+ others
    }

    /// The frames of an entry whose words are unchanged; how many.
    @_noLocks
    func copyFrames(_ entry: UnsafeMutablePointer<StackEntry>, into frames: UnsafeMutablePointer<UInt64>) -> Int {
        let record = unsafe record(entry.pointee.position)
        let returns = unsafe Int(record.pointee.returns)
        let words = unsafe words(record)
        unsafe frames[0] = unsafe entry.pointee.pc
        var index = 0
        while index < returns {
            unsafe frames[index &+ 1] = unsafe cruntime_resolve_stub(words[index].value)
            index &+= 1
        }
        return returns &+ 1
    }

    /// Counts a walk, and the hits since the last one.
    @_noLocks
    func countMiss(_ context: UnsafeMutablePointer<cruntime_context>) {
        guard let session = unsafe SessionView(context) else { return }
        flushHits(session)
        unsafe _ = cruntime_add64(cruntime_stack_misses(session.sharedHeader), 1)
    }

    @_noLocks @inline(__always)
    func countHit(
        _ context: UnsafeMutablePointer<cruntime_context>,
        _ entry: UnsafeMutablePointer<StackEntry>,
        _ capacity: Int
    ) {
        unsafe header.pointee.hits &+= 1
        // The session's counters are shared by all threads: seldom touched.
        if unsafe header.pointee.hits & 0xff != 0, unsafe header.pointee.isCrosschecked == 0 { return }
        unsafe lookCloser(context, entry, capacity)
    }

    @_noLocks @inline(never)
    private func lookCloser(
        _ context: UnsafeMutablePointer<cruntime_context>,
        _ entry: UnsafeMutablePointer<StackEntry>,
        _ capacity: Int
    ) {
        guard let session = unsafe SessionView(context) else { return }
        flushHits(session)
        if unsafe header.pointee.isCrosschecked != 0, unsafe !isWhatAWalkFinds(context, entry, capacity) {
            unsafe _ = cruntime_add64(cruntime_stack_differences(session.sharedHeader), 1)
        }
    }

    @_noLocks
    private func flushHits(_ session: SessionView) {
        unsafe header.pointee.isCrosschecked = session.sharedHeader.pointee.stack_crosscheck
        let hits = unsafe header.pointee.hits
        if hits == 0 { return }
        unsafe header.pointee.hits = 0
        unsafe _ = cruntime_add64(cruntime_stack_hits(session.sharedHeader), hits)
    }

    /// Compares an entry with a walk that uses neither the memo nor cached rows.
    @_noLocks
    func isWhatAWalkFinds(
        _ context: UnsafeMutablePointer<cruntime_context>,
        _ entry: UnsafeMutablePointer<StackEntry>,
        _ capacity: Int
    ) -> Bool {
        var remembered = cruntime_frames()
        var walked = cruntime_frames()
        let ours = unsafe cruntime_frames_start(&remembered)
        let theirs = unsafe cruntime_frames_start(&walked)
        let count = unsafe copyFrames(entry, into: ours)
        let rows = unsafe context.pointee.rows
        unsafe context.pointee.rows = nil
        let walkedCount = unsafe walkStack(context, into: theirs, capacity: capacity)
        unsafe context.pointee.rows = rows
        guard count == walkedCount else { return false }
        return unsafe cruntime_compare(ours, theirs, UInt64(count) &* 8) == 0
    }
}
