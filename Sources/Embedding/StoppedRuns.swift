internal import CRuntime
internal import UBPFVM

/// Runs of compiled code that were stopped, as any number of threads report them.
///
/// The last one is kept until its text is asked for.
struct StoppedRuns {
    private var count: UInt64 = 0
    /// Of whoever reads or writes `last`, a few instructions each.
    private var lock: UInt32 = 0
    private var last = cruntime_trap()

    /// Counts a run that `context` describes.
    static func record(_ runs: UnsafeMutablePointer<StoppedRuns>, _ trap: cruntime_trap) {
        _ = unsafe cruntime_add64(&runs.pointee.count, 1)
        unsafe locked(runs) { unsafe runs.pointee.last = trap }
    }

    /// How many there were.
    static func count(_ runs: UnsafeMutablePointer<StoppedRuns>) -> UInt64 {
        unsafe cruntime_load64(&runs.pointee.count)
    }

    /// The last one, once.
    static func take(_ runs: UnsafeMutablePointer<StoppedRuns>) -> Trap? {
        var taken = cruntime_trap()
        unsafe locked(runs) {
            taken = unsafe runs.pointee.last
            unsafe runs.pointee.last.kind = 0
        }
        return Trap(taken)
    }

    private static func locked(_ runs: UnsafeMutablePointer<StoppedRuns>, _ body: () -> Void) {
        while unsafe cruntime_cas32(&runs.pointee.lock, 0, 1) == 0 { cruntime_yield() }
        body()
        unsafe cruntime_store32(&runs.pointee.lock, 0)
    }
}
