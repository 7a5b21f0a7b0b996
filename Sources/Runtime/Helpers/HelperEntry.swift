package import CRuntime

/// A helper as generated code calls it: r1 to r5 where C has its first five arguments, then the context.
package typealias HelperEntry =
    @convention(c) (
        UInt64, UInt64, UInt64, UInt64, UInt64, UnsafeMutablePointer<cruntime_context>
    ) -> UInt64

/// The function that a helper number means; nil for those that we do not have, and for those that run programs.
///
/// One line a helper: each closure is `callHelper` with the number folded in.
package func helperEntry(_ number: UInt32) -> HelperEntry? {
    switch number {
    case 1: { unsafe callHelper($5, 1, $0, $1, $2, $3, $4) }
    case 2: { unsafe callHelper($5, 2, $0, $1, $2, $3, $4) }
    case 3: { unsafe callHelper($5, 3, $0, $1, $2, $3, $4) }
    case 4: { unsafe callHelper($5, 4, $0, $1, $2, $3, $4) }
    case 5: { unsafe callHelper($5, 5, $0, $1, $2, $3, $4) }
    case 6: { unsafe callHelper($5, 6, $0, $1, $2, $3, $4) }
    case 7: { unsafe callHelper($5, 7, $0, $1, $2, $3, $4) }
    case 8: { unsafe callHelper($5, 8, $0, $1, $2, $3, $4) }
    case 14: { unsafe callHelper($5, 14, $0, $1, $2, $3, $4) }
    case 15: { unsafe callHelper($5, 15, $0, $1, $2, $3, $4) }
    case 16: { unsafe callHelper($5, 16, $0, $1, $2, $3, $4) }
    case 25: { unsafe callHelper($5, 25, $0, $1, $2, $3, $4) }
    case 27: { unsafe callHelper($5, 27, $0, $1, $2, $3, $4) }
    case 45: { unsafe callHelper($5, 45, $0, $1, $2, $3, $4) }
    case 67: { unsafe callHelper($5, 67, $0, $1, $2, $3, $4) }
    case 87: { unsafe callHelper($5, 87, $0, $1, $2, $3, $4) }
    case 88: { unsafe callHelper($5, 88, $0, $1, $2, $3, $4) }
    case 89: { unsafe callHelper($5, 89, $0, $1, $2, $3, $4) }
    case 112: { unsafe callHelper($5, 112, $0, $1, $2, $3, $4) }
    case 113: { unsafe callHelper($5, 113, $0, $1, $2, $3, $4) }
    case 114: { unsafe callHelper($5, 114, $0, $1, $2, $3, $4) }
    case 115: { unsafe callHelper($5, 115, $0, $1, $2, $3, $4) }
    case 125: { unsafe callHelper($5, 125, $0, $1, $2, $3, $4) }
    case 130: { unsafe callHelper($5, 130, $0, $1, $2, $3, $4) }
    case 131: { unsafe callHelper($5, 131, $0, $1, $2, $3, $4) }
    case 132: { unsafe callHelper($5, 132, $0, $1, $2, $3, $4) }
    case 133: { unsafe callHelper($5, 133, $0, $1, $2, $3, $4) }
    case 134: { unsafe callHelper($5, 134, $0, $1, $2, $3, $4) }
    case 160: { unsafe callHelper($5, 160, $0, $1, $2, $3, $4) }
    case 173: { unsafe callHelper($5, 173, $0, $1, $2, $3, $4) }
    case 174: { unsafe callHelper($5, 174, $0, $1, $2, $3, $4) }
    case 182: { unsafe callHelper($5, 182, $0, $1, $2, $3, $4) }
    case 195: { unsafe callHelper($5, 195, $0, $1, $2, $3, $4) }
    case 208: { unsafe callHelper($5, 208, $0, $1, $2, $3, $4) }
    case 212: { unsafe callHelper($5, 212, $0, $1, $2, $3, $4) }
    case 213: { unsafe callHelper($5, 213, $0, $1, $2, $3, $4) }
    case 214: { unsafe callHelper($5, 214, $0, $1, $2, $3, $4) }
    default: nil
    }
}
