import CRuntime

/// A thread's memo of walked stacks, in the memory at `cruntime_context.memo`.
///
/// A walk is a function of the registers that it starts from, of the unwind tables, and of the stack words that it reads and that
/// matter. An entry holds all of these: when they are what they were, so is the result. Nothing is guessed, and nothing has to
/// be invalidated when frames are left.
///
/// Only the thread itself uses it, one hit at a time. A signal handler may leave a hit for good anywhere (siglongjmp), so an
/// entry is made valid by the last store of a change and invalid by the first.
@safe struct StackMemo {
    let header: UnsafeMutablePointer<StackMemoHeader>

    @_noLocks @inline(__always)
    init?(_ context: UnsafeMutablePointer<cruntime_context>) {
        guard let memory = unsafe context.pointee.memo else { return nil }
        unsafe header = unsafe memory.assumingMemoryBound(to: StackMemoHeader.self)
    }

    private var entries: UnsafeMutablePointer<StackEntry> {
        @_noLocks @inline(__always) get {
            let at = unsafe UnsafeMutableRawPointer(header) + Int(CRUNTIME_MEMO_HEADER)
            return unsafe at.assumingMemoryBound(to: StackEntry.self)
        }
    }

    /// The first entry of the set for a key; the next ones are `nextWay` apart.
    @_noLocks @inline(__always)
    private func set(_ key: StackKey) -> UnsafeMutablePointer<StackEntry> {
        let hash = (key.pc &+ key.sp &* 0x9e37_79b9_7f4a_7c15) &* 0xd6e8_feb8_6659_fd93
        // 8 bits: CRUNTIME_MEMO_SETS
        return unsafe entries + Int(hash >> 56)
    }

    /// Entries of one set are far apart, so that the first ones of all sets share no lines of the processor's cache.
    private var nextWay: Int { @_noLocks @inline(__always) get { Int(CRUNTIME_MEMO_SETS) } }

    /// The record at a position of the ring.
    @_noLocks @inline(__always)
    func record(_ position: UInt32) -> UnsafeMutablePointer<StackRecord> {
        let ring = unsafe UnsafeMutableRawPointer(header) + Int(CRUNTIME_MEMO_HEADER + CRUNTIME_MEMO_ENTRIES * 64)
        let place = Int(position & UInt32(CRUNTIME_MEMO_RING - 1))
        return unsafe (ring + place &* 16).assumingMemoryBound(to: StackRecord.self)
    }

    /// The words of a record.
    @_noLocks @inline(__always)
    func words(_ record: UnsafeMutablePointer<StackRecord>) -> UnsafeMutablePointer<cruntime_word> {
        unsafe UnsafeMutableRawPointer(record + 1).assumingMemoryBound(to: cruntime_word.self)
    }

    /// Whether an entry's words are still there: other records have not taken their place.
    @_noLocks @inline(__always)
    private func isInRing(_ entry: UnsafeMutablePointer<StackEntry>) -> Bool {
        unsafe header.pointee.head &- entry.pointee.position <= UInt32(CRUNTIME_MEMO_RING)
    }

    /// The entry whose walk this one would repeat; nil when there is none.
    @_noLocks @inline(__always)
    func find(_ key: StackKey) -> UnsafeMutablePointer<StackEntry>? {
        var entry = unsafe set(key)
        let end = unsafe entry + nextWay &* Int(CRUNTIME_MEMO_WAYS)
        while unsafe entry < end {
            if unsafe entry.pointee.matches(key), unsafe cruntime_is(entry.pointee.telling) != 0,
                unsafe isUnchanged(entry, key)
            {
                return unsafe entry
            }
            unsafe entry += nextWay
        }
        return nil
    }

    @_noLocks @inline(__always)
    private func isUnchanged(_ entry: UnsafeMutablePointer<StackEntry>, _ key: StackKey) -> Bool {
        guard unsafe isInRing(entry) else { return false }
        let record = unsafe record(entry.pointee.position)
        if unsafe record.pointee.usesFramePointer != 0, unsafe record.pointee.rbp != key.rbp { return false }
        return unsafe cruntime_unchanged(words(record), record.pointee.words) != 0
    }

    /// The entry that a new walk replaces: one that is of no use any more, else the set's in turn.
    @_noLocks
    func victim(_ key: StackKey) -> UnsafeMutablePointer<StackEntry> {
        let first = unsafe set(key)
        var entry = unsafe first
        let end = unsafe entry + nextWay &* Int(CRUNTIME_MEMO_WAYS)
        while unsafe entry < end {
            if unsafe (entry.pointee.tag ^ key.tag) >> StackKey.epochShift != 0 || !isInRing(entry) {
                return unsafe entry
            }
            unsafe entry += nextWay
        }
        let turn = unsafe header.pointee.turn &+ 1
        unsafe header.pointee.turn = turn
        return unsafe first + Int(turn & UInt32(CRUNTIME_MEMO_WAYS - 1)) &* nextWay
    }

    /// Chooses the word that tells a new entry from those with the same key.
    ///
    /// The first word in which it differs from one that looked the same until now; that one is told apart by it too.
    @_noLocks
    func tell(_ key: StackKey, _ record: UnsafeMutablePointer<StackRecord>) -> cruntime_word {
        let new = unsafe words(record)
        // The caller's caller: the first return address alone is often an allocation wrapper's.
        var telling = unsafe record.pointee.words > 1 ? new[1] : new[0]
        var entry = unsafe set(key)
        let end = unsafe entry + nextWay &* Int(CRUNTIME_MEMO_WAYS)
        while unsafe entry < end {
            if unsafe entry.pointee.matches(key), unsafe isInRing(entry), unsafe cruntime_is(entry.pointee.telling) != 0
            {
                let other = unsafe self.record(entry.pointee.position)
                let old = unsafe words(other)
                let count = unsafe min(record.pointee.words, other.pointee.words)
                var index = 0
                while index < count, unsafe new[index].address == old[index].address,
                    unsafe new[index].value == old[index].value
                {
                    index &+= 1
                }
                if index < count {
                    telling = unsafe new[index]
                    unsafe entry.pointee.telling = unsafe old[index]
                }
            }
            unsafe entry += nextWay
        }
        return telling
    }

    /// Takes the ring's next place for a record of any length; older records that lie there are gone from here on.
    @_noLocks
    func reserve() -> UInt32 {
        var position = unsafe header.pointee.head
        let ring = UInt32(CRUNTIME_MEMO_RING)
        if (position & (ring - 1)) &+ StackRecord.longest > ring { position = (position | (ring - 1)) &+ 1 }
        // Positions may not come back: an entry would take another's record for its own.
        if position > UInt32.max - 2 * ring {
            forget()
            position = 0
        }
        unsafe header.pointee.head = position &+ StackRecord.longest
        cruntime_barrier()
        return position
    }

    /// Makes every entry and every row of this thread invalid.
    @_noLocks
    private func forget() {
        unsafe header.pointee.epoch &+= 1
        unsafe header.pointee.needsClearing = header.pointee.epoch > StackKey.lastEpoch ? 1 : 0
    }

    /// Forgets all where modules were loaded or unloaded since the last walk; false where that cannot be known.
    @_noLocks @inline(__always)
    func followModules(_ context: UnsafeMutablePointer<cruntime_context>) -> Bool {
        var now = cruntime_generation()
        guard unsafe cruntime_get_generation(&now) != 0 else { return false }
        let known = unsafe header.pointee.generation.words
        let changes = (known.0 ^ now.words.0) | (known.1 ^ now.words.1) | (known.2 ^ now.words.2)
        if unsafe changes | header.pointee.needsClearing != 0 { unsafe startAnew(context, now) }
        return true
    }

    @_noLocks
    private func startAnew(_ context: UnsafeMutablePointer<cruntime_context>, _ generation: cruntime_generation) {
        forget()
        if unsafe header.pointee.needsClearing != 0 {
            unsafe cruntime_zero(entries, UInt64(CRUNTIME_MEMO_ENTRIES) * 64)
            if let rows = unsafe context.pointee.rows {
                unsafe cruntime_zero(rows, UInt64(UnwindRow.cacheCapacity) * 16)
            }
            unsafe header.pointee.epoch = 1
            unsafe header.pointee.needsClearing = 0
        }
        cruntime_barrier()
        unsafe header.pointee.generation = generation
    }

    /// Makes the next walk start anew, as for another session.
    @_noLocks
    func forgetAll() { unsafe header.pointee.generation = cruntime_generation() }
}
