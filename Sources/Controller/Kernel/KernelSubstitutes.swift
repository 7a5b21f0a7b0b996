/// Tracepoints that see about what a probe on a function of the kernel sees, for messages.
enum KernelSubstitutes {
    /// The one for a function, if `exists` knows it.
    static func tracepoint(for function: String, exists: (String) -> Bool) -> String? {
        var candidates = table.filter { function == $0.function }.map(\.tracepoint)
        // __x64_sys_openat, __se_sys_openat, do_sys_openat: named after the system call.
        for prefix in ["__x64_sys_", "__se_sys_", "__do_sys_", "ksys_", "sys_"] where function.hasPrefix(prefix) {
            candidates.append("syscalls/sys_enter_\(function.dropFirst(prefix.count))")
        }
        candidates.append("syscalls/sys_enter_\(function)")
        return candidates.first(where: exists)
    }

    private static let table: [(function: String, tracepoint: String)] = [
        ("do_unlinkat", "syscalls/sys_enter_unlinkat"),
        ("do_sys_open", "syscalls/sys_enter_openat"),
        ("do_sys_openat2", "syscalls/sys_enter_openat"),
        ("do_nanosleep", "syscalls/sys_enter_clock_nanosleep"),
        ("hrtimer_nanosleep", "syscalls/sys_enter_clock_nanosleep"),
        ("tcp_v4_connect", "sock/inet_sock_set_state"),
        ("tcp_v6_connect", "sock/inet_sock_set_state"),
        ("tcp_connect", "sock/inet_sock_set_state"),
        ("tcp_set_state", "sock/inet_sock_set_state"),
        ("tcp_rcv_state_process", "sock/inet_sock_set_state"),
        ("inet_csk_accept", "sock/inet_sock_set_state"),
        ("tcp_rcv_established", "tcp/tcp_probe"),
        ("tcp_retransmit_skb", "tcp/tcp_retransmit_skb"),
        ("__tcp_transmit_skb", "net/net_dev_queue"),
        ("oom_kill_process", "oom/mark_victim"),
        ("finish_task_switch", "sched/sched_switch"),
        ("wake_up_new_task", "sched/sched_wakeup_new"),
        ("try_to_wake_up", "sched/sched_wakeup"),
        ("do_exit", "sched/sched_process_exit"),
        ("blk_mq_start_request", "block/block_rq_issue"),
        ("vfs_read", "syscalls/sys_enter_read"),
        ("vfs_write", "syscalls/sys_enter_write"),
    ]
}
