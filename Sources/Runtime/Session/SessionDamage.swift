/// Why segments are no session that this build can use.
///
/// Numbers, no text: a target finds out, too, and has nobody to tell. `SessionError` has the words.
package struct SessionDamage: Error, Sendable {
    package enum Segment: Sendable {
        case image, shared, plan
    }

    package enum Flaw: Sendable {
        /// Shorter than its header: `first` bytes.
        case tooShort
        /// `first` bytes of `second`.
        case cutOff
        case noMagic
        /// Version `first`.
        case version
        case otherSession
        case noCPUs
        case noStatistics
        /// Program `first`.
        case program
        /// The table at `first`, in a segment of `second` bytes.
        case table
        /// A map of type `first`.
        case mapType
        /// Keys of `first` bytes.
        case trieKey
        /// `first` bytes.
        case ringSize
        case emptyQueue
        /// `first` of them.
        case buckets
        case lock
        case mapPlace
        /// Site `first`.
        case site
        /// Probe `first`.
        case probe
        case statistics
    }

    package var segment: Segment
    package var flaw: Flaw
    package var first: UInt64
    package var second: UInt64

    init(_ segment: Segment, _ flaw: Flaw, _ first: UInt64 = 0, _ second: UInt64 = 0) {
        self.segment = segment
        self.flaw = flaw
        self.first = first
        self.second = second
    }
}
