import Loader

/// What a program is given when it runs: registers, a record, a packet.
///
///     try vm.run("malloc_enter", .uprobe(64))
///     try vm.run("malloc_exit", .uretprobe(returning: 0x1000))
///     try vm.run("on_exec", .record("trace_event_raw_sys_enter", ["id": 59]))
///     try vm.run("filter", .packet(bytes))
public struct Context: Sendable {
    enum Kind: Sendable {
        case registers(ProbeRegisters)
        case usdt([UInt64], ProbeRegisters)
        case perfEvent(ProbeRegisters, period: UInt64, address: UInt64)
        case typed(String, Value)
        case readOnly([UInt8])
        case packet([UInt8], Value)
        case writable([UInt8])
    }

    let kind: Kind

    /// The call of a function with up to six arguments.
    public static func uprobe(_ arguments: UInt64..., stackPointer: UInt64 = 0x7fff_0000_0000) -> Context {
        .registers(ProbeRegisters(arguments: arguments, stackPointer: stackPointer))
    }

    /// The return of a function; the stack pointer is by default that of the call that `uprobe` makes, one word up.
    public static func uretprobe(returning result: UInt64, stackPointer: UInt64 = 0x7fff_0000_0008) -> Context {
        .registers(ProbeRegisters(result: result, stackPointer: stackPointer))
    }

    /// Any registers, as a `struct pt_regs`.
    public static func registers(_ registers: ProbeRegisters) -> Context { Context(kind: .registers(registers)) }

    /// A USDT probe with these arguments, for programs with libbpf's `usdt.bpf.h`.
    public static func usdt(_ arguments: UInt64...) -> Context { .usdt(arguments: arguments) }

    /// A USDT probe with these arguments.
    public static func usdt(arguments: [UInt64]) -> Context { Context(kind: .usdt(arguments, ProbeRegisters())) }

    /// A record by the name of its struct in the object's types, like `trace_event_raw_sys_enter`; missing fields are 0.
    public static func record(_ type: String, _ fields: Value = [:]) -> Context { Context(kind: .typed(type, fields)) }

    /// The arguments of a raw tracepoint, or of a `tp_btf` or `fentry` program: 64-bit words.
    public static func rawTracepoint(_ arguments: UInt64...) -> Context { .rawTracepoint(arguments: arguments) }

    /// The arguments of a raw tracepoint.
    public static func rawTracepoint(arguments: [UInt64]) -> Context {
        let words = arguments + [UInt64](repeating: 0, count: max(0, 12 - arguments.count))
        return Context(kind: .readOnly(words.flatMap { littleEndian($0) }))
    }

    /// A sample of a perf event: `struct bpf_perf_event_data`.
    public static func perfEvent(
        _ registers: ProbeRegisters = ProbeRegisters(),
        period: UInt64 = 1,
        address: UInt64 = 0
    ) -> Context {
        Context(kind: .perfEvent(registers, period: period, address: address))
    }

    /// A packet for XDP, socket filter and traffic control programs; `fields` are others of `xdp_md` or `__sk_buff`.
    public static func packet(_ bytes: [UInt8], _ fields: Value = [:]) -> Context {
        Context(kind: .packet(bytes, fields))
    }

    /// Plain memory that the program may write, with its size in r2: programs of type syscall.
    public static func bytes(_ bytes: [UInt8]) -> Context { Context(kind: .writable(bytes)) }
}
