/// Why a program was stopped at run time; stored in `cruntime_context.trap.kind`, 0 meaning that it was not.
package enum TrapKind: UInt32, CaseIterable, Sendable {
    /// A load from an address outside the context, the stack, packet memory and map values; `value` is the address.
    case badRead = 1
    /// A store outside the stack, packet memory and writable map values; `value` is the address.
    case badWrite = 2
    /// An atomic operation on an address that is not a multiple of its size.
    case misaligned = 3
    /// The instruction budget ran out.
    case budget = 4
    /// More than eight frames of bpf-to-bpf calls.
    case callDepth = 5
    /// A helper that this runtime does not have; `value` is its number.
    case unknownHelper = 6
    /// A helper was given a pointer it may not use, a handle that is no map, or a wrong size; `value` is the argument.
    case badArgument = 7
    /// An instruction that has no meaning in user space: packet access, kernel functions, kernel variables.
    case unsupported = 8
    /// Control left the program's instructions.
    case badJump = 9
    /// A helper cannot be used on this type of map; `value` is the map's index.
    case wrongMapType = 10
}
