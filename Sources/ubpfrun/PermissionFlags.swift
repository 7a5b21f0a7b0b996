import ArgumentParser
import ISA

/// What programs may do to the process that they run in.
struct PermissionFlags: ParsableArguments {
    @Flag(help: "Programs may write to the process's memory: bpf_probe_write_user.")
    var allowWrite = false

    @Flag(help: "Programs may return in place of probed functions: bpf_override_return.")
    var allowOverride = false

    var set: Set<HelperPermission> {
        Set((allowWrite ? [.write] : []) + (allowOverride ? [.override] : []))
    }
}
