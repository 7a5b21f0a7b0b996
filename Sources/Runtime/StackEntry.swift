import CRuntime

/// What a walk starts from and what is wanted of it.
struct StackKey {
    var pc: UInt64
    var sp: UInt64
    var rbp: UInt64
    /// End of the readable stack.
    ///
    /// Its start need not be here: nothing below `sp` matters to a walk.
    var high: UInt64
    /// The stack trace map's private part, whose address tells maps and sessions apart; 0 for plain frames.
    var owner: UInt64
    /// Epoch, frames wanted, whether `pc` is exact, the helper's flags.
    var tag: UInt64

    @_noLocks @inline(__always)
    init(
        _ context: UnsafeMutablePointer<cruntime_context>,
        _ regs: UnsafeMutablePointer<cruntime_regs>,
        epoch: UInt64,
        owner: UInt64,
        capacity: Int,
        flags: UInt64
    ) {
        pc = unsafe cruntime_resolve_stub(regs.pointee.rip)
        sp = unsafe regs.pointee.rsp
        rbp = unsafe regs.pointee.rbp
        high = unsafe context.pointee.walk_high
        self.owner = owner
        let isExact: UInt64 = unsafe regs.pointee.rip == context.pointee.function_ip ? 1 : 0
        tag = epoch << Self.epochShift | UInt64(capacity) << 24 | isExact << 16 | flags & 0xffff
    }

    static var epochShift: UInt64 { @_noLocks get { 48 } }
    static var lastEpoch: UInt64 { @_noLocks get { 0xfffe } }
}

/// A remembered walk; 64 bytes, one cache line.
struct StackEntry {
    var pc: UInt64
    var sp: UInt64
    var high: UInt64
    var owner: UInt64
    /// 0 in an entry that holds nothing; epochs begin with 1.
    var tag: UInt64
    /// One of the record's words, which tells this stack from others with the same key.
    var telling: cruntime_word
    /// The record's place in the ring.
    var position: UInt32
    /// What the helper answered.
    var result: Int32

    @_noLocks @inline(__always)
    func matches(_ key: StackKey) -> Bool {
        (pc ^ key.pc) | (sp ^ key.sp) | (high ^ key.high) | (owner ^ key.owner) | (tag ^ key.tag) == 0
    }
}

/// The start of what an entry keeps in the ring; `words` of `cruntime_word` follow.
struct StackRecord {
    /// Return addresses, the first of the words: one for each frame but the first.
    var returns: UInt32
    var words: UInt32
    var usesFramePointer: UInt32
    /// Of the stack trace map.
    var bucket: UInt32
    /// The bucket's word with which the map gave the result.
    var bucketWord: UInt64
    var rbp: UInt64

    /// 16-byte units that the longest record takes: itself, its return addresses, its other words.
    static var longest: UInt32 { @_noLocks get { head &+ 127 &+ mostOthers } }
    /// Words that are no return addresses: a saved rbp for each frame, and what stubs and rare frames depend on.
    static var mostOthers: UInt32 { @_noLocks get { 160 } }
    /// Units before the words.
    static var head: UInt32 { @_noLocks get { 2 } }
}

/// The start of a thread's memo, and the walk that is being recorded.
@safe struct StackMemoHeader {
    /// The loader's counts at the last walk; zeros make the next one start anew.
    var generation: cruntime_generation
    /// Part of every entry's and row's key: another one makes all of them invalid.
    var epoch: UInt64
    var needsClearing: UInt64
    /// Hits not yet added to the session's.
    var hits: UInt64
    /// The session's `stack_crosscheck`, as it was last seen.
    var isCrosschecked: UInt64
    /// End of the ring's newest record; records more than a ring's length behind it are overwritten.
    var head: UInt32
    var turn: UInt32

    // The recording.
    var returnWords: UnsafeMutablePointer<cruntime_word>?
    var returns: UInt32
    var others: UInt32
    var usesFramePointer: UInt32
    var isFailed: UInt32
    /// Where the walk's present rbp was loaded from, until it matters; or one of the values below.
    var rbpSource: UInt64

    /// rbp is as it was at the start.
    static var rbpInitial: UInt64 { @_noLocks get { 0 } }
    /// All that rbp depends on is recorded.
    static var rbpRecorded: UInt64 { @_noLocks get { 1 } }
}

extension UnsafeMutablePointer<StackMemoHeader> {
    /// Words that matter and are no return addresses, until the walk is done: `mostOthers`, in the header's page.
    var otherWords: UnsafeMutablePointer<cruntime_word> {
        @_noLocks @inline(__always) get {
            unsafe (UnsafeMutableRawPointer(self) + 1024).assumingMemoryBound(to: cruntime_word.self)
        }
    }

    @_noLocks
    func beginRecording(at words: UnsafeMutablePointer<cruntime_word>) {
        unsafe pointee.returnWords = unsafe words
        unsafe pointee.returns = 0
        unsafe pointee.others = 0
        unsafe pointee.usesFramePointer = 0
        unsafe pointee.isFailed = 0
        unsafe pointee.rbpSource = StackMemoHeader.rbpInitial
    }

    /// The walk goes on to a caller because of this word.
    @_noLocks @inline(__always)
    func noteReturn(_ address: UInt64, _ value: UInt64) {
        let index = unsafe pointee.returns
        if let words = unsafe pointee.returnWords {
            unsafe words[Int(index)] = cruntime_word(address: address, value: value)
        }
        unsafe pointee.returns = index &+ 1
        // A return stub: where it returns to stands in its slot, and slots are used again.
        let slot = cruntime_stub_slot(value)
        if slot != 0 { unsafe noteOther(slot, cruntime_resolve_stub(value)) }
    }

    /// The walk depends on this word.
    @_noLocks
    func noteOther(_ address: UInt64, _ value: UInt64) {
        let index = unsafe pointee.others
        guard index < StackRecord.mostOthers else { return unsafe noteFailure() }
        unsafe otherWords[Int(index)] = cruntime_word(address: address, value: value)
        unsafe pointee.others = index &+ 1
    }

    /// The walk depends on rbp, which is `value`.
    @_noLocks
    func noteFramePointerUse(_ value: UInt64) {
        let source = unsafe pointee.rbpSource
        if source == StackMemoHeader.rbpInitial {
            unsafe pointee.usesFramePointer = 1
        } else if source != StackMemoHeader.rbpRecorded {
            unsafe noteOther(source, value)
            unsafe pointee.rbpSource = StackMemoHeader.rbpRecorded
        }
    }

    /// The walk depends on more than a record can hold.
    @_noLocks
    func noteFailure() { unsafe pointee.isFailed = 1 }
}
