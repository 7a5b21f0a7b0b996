/// Where a program wants to be attached, as its section name says.
package enum AttachSpec: Equatable, Sendable {
    /// `uprobe` and `uretprobe`; nil parts are left to a recipe or `--attach`.
    case uprobe(path: String?, symbol: String?, offset: UInt64, isReturn: Bool, isSleepable: Bool)
    case usdt(path: String?, provider: String?, name: String?)
    /// A kernel hook; `hook` is the section's first part (`kprobe`, `tp_btf`, …), `target` the rest.
    case kernel(hook: String, target: String)
    /// Loads but names no hook (`socket`, `xdp`, `syscall`, …).
    case none(hook: String)
}
