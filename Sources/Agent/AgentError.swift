/// Why a session could not be opened; the target then runs without probes.
struct AgentError: Error {
    let kind: Kind
    /// The site it is about, or `noSite`.
    var site = Self.noSite
    /// An errno value, 0 where none applies.
    var code: Int32 = 0

    static let noSite = UInt32.max

    enum Kind {
        case descriptors
        case mapping
        case session
        case sessions
        case proc
        case threads
        case fork
        case memory
        case changed
        case unreachable
        case fixup
        case protection
        case write
        case liveWrite
        case late
    }

    init(_ kind: Kind, site: UInt32 = noSite, code: Int32 = 0) {
        self.kind = kind
        self.site = site
        self.code = code
    }

    /// For people, as the controller shows it after the site's name; at most 103 bytes.
    var text: StaticString {
        switch kind {
        case .descriptors: "the session came without its two memory files"
        case .mapping: "the session's memory cannot be mapped (address space limit?)"
        case .session: "the session is damaged or of another version of libubpf.so"
        case .sessions: "the process takes part in 16 sessions already"
        case .proc: "/proc/self is not readable here; mount /proc in the target's root"
        case .threads: "the other threads could not be stopped, and may not run while more than one byte changes"
        case .fork: "the kernel lacks MADV_WIPEONFORK (Linux 4.14), so forked children could not be told apart"
        case .memory: "no free memory within 2 GB of the function for its trampoline"
        case .changed: "the code in memory is not what was planned for; another tool patched it?"
        case .unreachable: "the trampoline is too far from the function"
        case .fixup: "the plan of the function's first instructions is inconsistent"
        case .protection: "memory cannot be made executable (SELinux execmem or seccomp?)"
        case .liveWrite: "/proc/self/mem cannot change code here, and other ways would stop running threads"
        case .late: "the library was ready to run before the plan came"
        case .write: "the code cannot be changed (proc_mem.force_override or SELinux execmod?)"
        }
    }
}
