internal import CLinux
internal import Glibc

/// A filter that a thread has put on its own system calls (seccomp(2)), read by root and asked what it would say.
struct SeccompFilter {
    private let instructions: [clinux_filter_instruction]

    /// A system call that a filter is asked about; arguments that do not matter are 0.
    struct Call {
        var number: UInt32
        var name: String
        var arguments: [UInt64] = []
    }

    /// The filters of a stopped thread, or an errno value.
    static func all(of tid: Int32) -> Result<[SeccompFilter], BorrowFailure> {
        var filters: [SeccompFilter] = []
        while true {
            let index = UInt64(filters.count)
            let count = clinux_get_filter(tid, index, nil)
            if count == -ENOENT { return .success(filters) }
            guard count > 0 else { return .failure(.systemCall("PTRACE_SECCOMP_GET_FILTER", count)) }
            var instructions = [clinux_filter_instruction](repeating: clinux_filter_instruction(), count: Int(count))
            let got = unsafe clinux_get_filter(tid, index, &instructions)
            guard got == count else { return .failure(.systemCall("PTRACE_SECCOMP_GET_FILTER", got)) }
            filters.append(SeccompFilter(instructions))
        }
    }

    init(_ instructions: [clinux_filter_instruction]) { self.instructions = instructions }

    /// The first of `calls` that one of `filters` does not just let pass.
    static func obstacle(_ filters: [SeccompFilter], _ calls: [Call]) -> String? {
        calls.first { call in !filters.allSatisfy { $0.allows(call) } }?.name
    }

    /// Whether the call passes: SECCOMP_RET_ALLOW or SECCOMP_RET_LOG.
    func allows(_ call: Call) -> Bool {
        let action = verdict(call) & 0xffff_0000
        return action == 0x7fff_0000 || action == 0x7ffc_0000
    }

    /// Runs the program on `struct seccomp_data` (include/uapi/linux/seccomp.h); 0, the strictest action, where it makes no sense.
    private func verdict(_ call: Call) -> UInt32 {
        // nr, arch (AUDIT_ARCH_X86_64), instruction pointer, six arguments.
        var data: [UInt32] = [call.number, 0xc000_003e, 0, 0]
        for index in 0..<6 {
            let value = index < call.arguments.count ? call.arguments[index] : 0
            data += [UInt32(truncatingIfNeeded: value), UInt32(truncatingIfNeeded: value >> 32)]
        }
        var a: UInt32 = 0
        var x: UInt32 = 0
        var memory = [UInt32](repeating: 0, count: 16)
        var index = 0
        while index < instructions.count {
            let it = instructions[index]
            index += 1
            // The fields of BPF_CLASS, BPF_OP and BPF_SRC (include/uapi/linux/bpf_common.h).
            switch it.code {
            case 0x20: a = Int(it.k) / 4 < data.count ? data[Int(it.k) / 4] : 0
            case 0x80: a = 64
            case 0x81: x = 64
            case 0x00: a = it.k
            case 0x01: x = it.k
            case 0x60: a = memory[Int(it.k & 15)]
            case 0x61: x = memory[Int(it.k & 15)]
            case 0x02: memory[Int(it.k & 15)] = a
            case 0x03: memory[Int(it.k & 15)] = x
            case 0x07: x = a
            case 0x87: a = x
            case 0x84: a = 0 &- a
            case 0x06: return it.k
            case 0x16: return a
            case 0x05: index += Int(it.k)
            case let code where code & 7 == 4:
                guard let value = Self.arithmetic(code & 0xf0, a, code & 8 != 0 ? x : it.k) else { return 0 }
                a = value
            case let code where code & 7 == 5:
                guard let isTaken = Self.comparison(code & 0xf0, a, code & 8 != 0 ? x : it.k) else { return 0 }
                index += Int(isTaken ? it.jt : it.jf)
            default: return 0
            }
        }
        return 0
    }

    private static func arithmetic(_ operation: UInt16, _ a: UInt32, _ b: UInt32) -> UInt32? {
        switch operation {
        case 0x00: a &+ b
        case 0x10: a &- b
        case 0x20: a &* b
        case 0x30: b == 0 ? nil : a / b
        case 0x40: a | b
        case 0x50: a & b
        case 0x60: a << b
        case 0x70: a >> b
        case 0xa0: a ^ b
        default: nil
        }
    }

    private static func comparison(_ operation: UInt16, _ a: UInt32, _ b: UInt32) -> Bool? {
        switch operation {
        case 0x10: a == b
        case 0x20: a > b
        case 0x30: a >= b
        case 0x40: a & b != 0
        default: nil
        }
    }
}

extension SeccompFilter.Call {
    /// What attaching, probes and detaching call in the target, with those arguments that filters look at.
    static let needed: [SeccompFilter.Call] = [
        .init(number: 0, name: "read"), .init(number: 1, name: "write"), .init(number: 2, name: "open"),
        .init(number: 3, name: "close"), .init(number: 4, name: "stat"), .init(number: 5, name: "fstat"),
        .init(number: 7, name: "poll"),
        // PROT_READ | PROT_WRITE, then PROT_READ | PROT_EXEC of the library's text.
        .init(number: 9, name: "mmap", arguments: [0, 4096, 3, 0x22, ~0, 0]),
        .init(number: 9, name: "mmap of executable memory", arguments: [0, 4096, 5, 2, 3, 0]),
        .init(number: 10, name: "mprotect", arguments: [0, 4096, 1]),
        .init(number: 10, name: "mprotect to executable", arguments: [0, 4096, 5]),
        .init(number: 11, name: "munmap"), .init(number: 12, name: "brk"), .init(number: 13, name: "rt_sigaction"),
        .init(number: 14, name: "rt_sigprocmask"), .init(number: 15, name: "rt_sigreturn"),
        .init(number: 17, name: "pread64"), .init(number: 18, name: "pwrite64"),
        .init(number: 24, name: "sched_yield"), .init(number: 28, name: "madvise"),
        .init(number: 35, name: "nanosleep"), .init(number: 39, name: "getpid"), .init(number: 44, name: "sendto"),
        .init(number: 47, name: "recvmsg"), .init(number: 53, name: "socketpair", arguments: [1, 0x80005, 0]),
        // CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID.
        .init(number: 56, name: "clone", arguments: [0x3d_0f00]),
        .init(number: 60, name: "exit"), .init(number: 89, name: "readlink"),
        .init(number: 72, name: "fcntl", arguments: [0, 1030]), .init(number: 72, name: "fcntl", arguments: [0, 4]),
        .init(number: 102, name: "getuid"), .init(number: 104, name: "getgid"),
        .init(number: 110, name: "getppid"),
        .init(number: 131, name: "sigaltstack"), .init(number: 157, name: "prctl", arguments: [15]),
        .init(number: 186, name: "gettid"), .init(number: 202, name: "futex"),
        .init(number: 204, name: "sched_getaffinity"), .init(number: 217, name: "getdents64"),
        .init(number: 218, name: "set_tid_address"), .init(number: 228, name: "clock_gettime"),
        .init(number: 257, name: "openat"), .init(number: 262, name: "newfstatat"),
        .init(number: 273, name: "set_robust_list"), .init(number: 309, name: "getcpu"),
        .init(number: 310, name: "process_vm_readv"), .init(number: 318, name: "getrandom"),
        .init(number: 319, name: "memfd_create"),
        .init(number: 334, name: "rseq"), .init(number: 435, name: "clone3"),
    ]
}
