/// Why a program was stopped at run time; stored in `cruntime_context.trap.kind`, 0 meaning that it was not.
package enum TrapKind: UInt8, CaseIterable, Sendable {
    case none
    /// A load from an address outside the context, the stack, packet memory and map values; `value` is the address.
    case badRead
    /// A store outside the stack, packet memory and writable map values; `value` is the address.
    case badWrite
    /// An atomic operation on an address that is not a multiple of its size.
    case misaligned
    /// The instruction budget ran out.
    case budget
    /// More than eight frames of bpf-to-bpf calls.
    case callDepth
    /// A helper that this runtime does not have; `value` is its number.
    case unknownHelper
    /// A helper was given a pointer it may not use, a handle that is no map, or a wrong size; `value` is the argument.
    case badArgument
    /// An instruction that has no meaning in user space: packet access, kernel functions, kernel variables.
    case unsupported
    /// Control left the program's instructions.
    case badJump
    /// A helper cannot be used on this type of map; `value` is the map's index.
    case wrongMapType
    /// An observer ended the run.
    case stopped
    /// Another thread held a `struct bpf_spin_lock` for too long; `value` is its address.
    case lockHeld

    /// The number stored in a context.
    ///
    /// A case's layout is its position; `rawValue` is a call that `@_noLocks` rejects.
    package var code: UInt32 {
        @_noLocks get { unsafe UInt32(unsafeBitCast(self, to: UInt8.self)) }
    }
}
