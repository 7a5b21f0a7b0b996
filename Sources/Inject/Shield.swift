internal import CLinux
internal import Glibc

/// Runs `body`, which traces threads of another process, where the kernel lets go of all of them once it returns.
///
/// PTRACE_DETACH only reaches a thread that has stopped; the end of its tracer reaches those, too, that hang in the kernel. Where a
/// process of its own may trace, a SIGKILL for this one does not come in between; Yama lets only an ancestor of the target do it.
package func shielded(_ body: () -> Void) {
    withoutActuallyEscaping(body) { body in
        var job = Job(body: body)
        unsafe withUnsafeMutablePointer(to: &job) { pointer in
            let run: @convention(c) (UnsafeMutableRawPointer) -> Void = { context in
                unsafe context.assumingMemoryBound(to: Job.self).pointee.body()
            }
            let mayShield = geteuid() == 0 || TargetStatus.yamaScope == 0
            if mayShield, unsafe clinux_shielded(run, pointer) == 0 { return }
            if unsafe clinux_apart(run, pointer) == 0 { return }
            unsafe pointer.pointee.body()
        }
    }
}

private struct Job {
    let body: () -> Void
}
