import Loader

/// A program of a ``VM``, ready to run.
public struct Program {
    /// The program's name.
    public let name: String
    let index: Int
    let spec: ProgramSpec
    let vm: VM

    /// What a run left behind.
    public struct Outcome: Equatable, Sendable {
        /// The program's return value: r0.
        public let result: UInt64
        /// The packet or memory that it was given, as it left it; empty for probes and records.
        public let context: [UInt8]
        /// The fields of the `xdp_md` or `__sk_buff` as the program left them; nil for other programs, and where the object does
        /// not know the struct.
        public let fields: Value?
        /// Instructions that ran.
        public let instructions: UInt64
        /// The helpers that it called, in order.
        public let calls: [HelperCall]

        /// The return value as C's `int`.
        public var code: Int32 { Int32(truncatingIfNeeded: result) }
    }

    /// Runs the program; throws a ``Trap`` where it did wrong, a ``TestingError`` where its input cannot be made.
    @discardableResult
    public func run(_ context: Context = .uprobe()) throws -> Outcome { try vm.execute(self, context) }
}
