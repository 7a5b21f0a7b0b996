import CRuntime
import CWorld
import Glibc
import ISA
import Runtime

/// Answers the helpers of runs from a world, with mocks and faults; one for each ``VM``.
///
/// Every helper of a program comes here, whatever engine runs it; what is neither mocked nor of the world goes on to the
/// runtime's own helper.
@safe
final class Execution {
    var world = World()
    var mocks: [UInt32: Mock] = [:]
    var faults: [Fault] = []
    /// Calls of the present run, or of the last one.
    private(set) var calls: [HelperCall] = []
    /// Calls of each helper since the last reset.
    private(set) var counts = [Int](repeating: 0, count: 256)
    /// Packet of the present run; nil where it has none.
    var packet: PacketWindow?
    /// Runs that are going on.
    private(set) var depth = 0
    /// Names of the session's maps.
    let maps: [String]
    private(set) var context: UnsafeMutablePointer<cruntime_context>

    init(maps: [String]) {
        self.maps = maps
        unsafe context = .allocate(capacity: 1)
    }

    deinit { unsafe context.deallocate() }

    /// Forgets mocks, faults and calls.
    func reset() {
        mocks = [:]
        faults = []
        calls = []
        counts = [Int](repeating: 0, count: 256)
    }

    /// Runs something with a context that asks this world.
    func run<Result>(
        _ initial: cruntime_context,
        packet: PacketWindow?,
        _ body: (UnsafeMutablePointer<cruntime_context>) -> Result
    ) -> (result: Result, context: cruntime_context, calls: [HelperCall], packet: PacketWindow?) {
        // A run in the middle of another one leaves that one's state as it was.
        let outer = unsafe (context, calls, self.packet)
        let isNested = depth > 0
        depth += 1
        if isNested { unsafe context = .allocate(capacity: 1) }
        defer {
            depth -= 1
            if isNested {
                unsafe context.deallocate()
                unsafe context = unsafe outer.0
                (calls, self.packet) = unsafe (outer.1, outer.2)
            }
        }
        calls.removeAll(keepingCapacity: !isNested)
        self.packet = packet
        unsafe context.initialize(to: initial)
        unsafe context.pointee.pid_tgid = UInt64(world.pid) << 32 | UInt64(world.tid)
        unsafe context.pointee.uid_gid = UInt64(world.gid) << 32 | UInt64(world.uid)
        unsafe context.pointee.cookie = world.cookie
        unsafe context.pointee.random = world.random
        let groups = UnsafeMutableBufferPointer<UInt64>.allocate(capacity: world.controlGroups.count)
        _ = unsafe groups.initialize(from: world.controlGroups)
        defer { unsafe groups.deallocate() }
        unsafe context.pointee.cgroups = unsafe UnsafePointer(groups.baseAddress)
        unsafe context.pointee.cgroup_count = UInt64(groups.count)
        let before = unsafe cworld_enter(
            { user, number, a, b, c, d, e in
                unsafe Unmanaged<Execution>.fromOpaque(user).takeUnretainedValue().answer(number, a, b, c, d, e)
            },
            Unmanaged.passUnretained(self).toOpaque()
        )
        // A mock may run another program of another VM.
        defer { if unsafe before != nil { unsafe leave(to: before) } }
        let result = unsafe body(context)
        world.random = unsafe context.pointee.random
        return unsafe (result, context.pointee, calls, self.packet)
    }

    private func leave(to user: UnsafeMutableRawPointer?) {
        _ = unsafe cworld_enter(
            { user, number, a, b, c, d, e in
                unsafe Unmanaged<Execution>.fromOpaque(user).takeUnretainedValue().answer(number, a, b, c, d, e)
            },
            user
        )
    }

    private func answer(
        _ number: UInt32,
        _ a: UInt64,
        _ b: UInt64,
        _ c: UInt64,
        _ d: UInt64,
        _ e: UInt64
    ) -> UInt64 {
        counts[Int(number)] += 1
        let map = HelperFacts.mapArgument(number).flatMap { ISA.MapHandle.index($0 == 0 ? a : b) }
        if !faults.isEmpty, let errno = fault(number, map) {
            let result: Int64 = HelperFacts.returnsPointer(number) ? 0 : -Int64(errno.rawValue)
            note(number, [a, b, c, d, e], map, result, isInjected: true)
            return UInt64(bitPattern: result)
        }
        let result: UInt64
        if !mocks.isEmpty, let mock = mocks[number] {
            let call = unsafe MockCall(
                helper: HelperFacts.name(number),
                arguments: [a, b, c, d, e],
                number: counts[Int(number)],
                context: context
            )
            result = UInt64(bitPattern: mock(call))
        } else {
            result = builtin(number, a, b, c, d, e)
        }
        note(number, [a, b, c, d, e], map, Int64(bitPattern: result), isInjected: false)
        return result
    }

    private func fault(_ number: UInt32, _ map: Int?) -> Errno? {
        var errno: Errno?
        for index in faults.indices where faults[index].strikes(helper: number, map: map) {
            errno = errno ?? faults[index].errno
        }
        return errno
    }

    private func note(_ number: UInt32, _ arguments: [UInt64], _ map: Int?, _ result: Int64, isInjected: Bool) {
        calls.append(
            HelperCall(
                helper: HelperFacts.name(number),
                arguments: arguments,
                map: map.flatMap { maps.indices.contains($0) ? maps[$0] : nil },
                result: result,
                isInjected: isInjected
            )
        )
    }

    // MARK: The world's helpers

    private func builtin(
        _ number: UInt32,
        _ a: UInt64,
        _ b: UInt64,
        _ c: UInt64,
        _ d: UInt64,
        _ e: UInt64
    ) -> UInt64 {
        switch number {
        // ktime_get_ns, ktime_get_boot_ns, ktime_get_coarse_ns, ktime_get_tai_ns
        case 5, 125, 160, 208:
            defer { world.clock &+= world.clockStep }
            return world.clock
        // jiffies64, at 250 a second
        case 118: return world.clock / 4_000_000
        case 8: return UInt64(world.cpu)
        case 42: return 0
        case 14: return unsafe context.pointee.pid_tgid
        case 15: return unsafe context.pointee.uid_gid
        case 16: return comm(a, b)
        // probe_read, probe_read_user, probe_read_kernel, copy_from_user
        case 4, 112, 113, 148: return read(a, b & 0xffff_ffff, from: c)
        // copy_from_user_task: of the thread itself.
        case 191: return e == 0 ? read(a, b & 0xffff_ffff, from: c) : failure(.EINVAL)
        // their _str forms
        case 45, 114, 115: return readString(a, b & 0xffff_ffff, from: c)
        case 36:
            guard let bytes = guest(b, c & 0xffff_ffff) else { return 0 }
            return world.memory.overwrite(bytes, at: a) ? 0 : failure(.EFAULT)
        // send_signal, send_signal_thread: the calls are noted, and nobody gets a signal.
        case 109, 117: return a & 0xffff_ffff > 64 ? failure(.EINVAL) : 0
        // override_return: noted, there is no function.
        case 58: return 0
        case 27: return stackID(b, c)
        // get_stack, get_task_stack
        case 67, 141: return stack(b, c & 0xffff_ffff, d)
        case 25: return sendEvent(a, b, flags: c, d, e)
        default: return packetHelper(number, a, b, c, d, e) ?? forward(number, a, b, c, d, e)
        }
    }

    /// `bpf_perf_event_output`: to the world's CPU, as per-CPU maps take it, with `BPF_F_CURRENT_CPU`; the upper half of the flags
    /// says how much of the packet goes with it.
    private func sendEvent(_ a: UInt64, _ b: UInt64, flags: UInt64, _ d: UInt64, _ e: UInt64) -> UInt64 {
        let cpus = unsafe SessionView(context)?.cpuCount ?? 1
        let cpu = flags & 0xffff_ffff == 0xffff_ffff ? UInt64(Int(world.cpu) % cpus) : flags & 0xffff_ffff
        let more = Int((flags >> 32) & 0xf_ffff)
        guard more > 0, let packet else { return forward(25, a, b, cpu | (flags & ~0xffff_ffff), d, e) }
        guard more <= packet.data.count else { return failure(.EFAULT) }
        guard let own = guest(d, e & 0xffff_ffff), let bytes = guest(packet.data.lowerBound, UInt64(more)) else {
            return 0
        }
        // For the length of the call the record is what the program may read.
        return unsafe (own + bytes).withUnsafeBytes { record in
            let window = unsafe (context.pointee.packet_low, context.pointee.packet_high)
            let address = UInt64(UInt(bitPattern: record.baseAddress))
            unsafe (context.pointee.packet_low, context.pointee.packet_high) = (address, address + UInt64(record.count))
            defer { unsafe (context.pointee.packet_low, context.pointee.packet_high) = window }
            return forward(25, a, b, cpu, address, UInt64(record.count))
        }
    }

    /// The runtime's own helper; a trap where it has none.
    func forward(
        _ number: UInt32,
        _ a: UInt64,
        _ b: UInt64,
        _ c: UInt64,
        _ d: UInt64,
        _ e: UInt64
    ) -> UInt64 {
        let table = unsafe context.pointee.user_helpers
        unsafe context.pointee.user_helpers = nil
        defer { unsafe context.pointee.user_helpers = unsafe table }
        return unsafe callHelper(context, number, a, b, c, d, e)
    }

    /// Puts a record that the kernel has into the session's ring of the same map.
    func take(_ record: [UInt8], map: Int, _ context: cruntime_context) {
        _ = unsafe run(context, packet: nil) { context in
            unsafe record.withUnsafeBytes { bytes in
                let address = UInt64(UInt(bitPattern: bytes.baseAddress))
                let size = UInt64(bytes.count)
                unsafe (context.pointee.packet_low, context.pointee.packet_high) = (address, address + size)
                let handle = ISA.MapHandle.make(map)
                if unsafe guestMap(context, handle)?.family == .perfEventArray {
                    return sendEvent(0, handle, flags: 0xffff_ffff, address, size)
                }
                return forward(130, handle, address, size, 0, 0)
            }
        }
    }

    func failure(_ errno: Errno) -> UInt64 { UInt64(bitPattern: -Int64(errno.rawValue)) }

    /// Bytes of the program's memory; nil and a trap where it may not read them.
    func guest(_ address: UInt64, _ size: UInt64) -> [UInt8]? {
        guard unsafe guestMayRead(context, address, size),
            let pointer = unsafe UnsafeRawPointer(bitPattern: UInt(address))
        else {
            unsafe raiseTrap(context, .badArgument, value: address)
            return nil
        }
        return unsafe [UInt8](UnsafeRawBufferPointer(start: pointer, count: Int(size)))
    }

    /// Writes to the program's memory, the rest of `size` with zeros; a trap where it may not.
    func store(_ bytes: some Collection<UInt8>, at address: UInt64, size: UInt64) {
        guard unsafe guestMayWrite(context, address, size),
            let pointer = unsafe UnsafeMutablePointer<UInt8>(bitPattern: UInt(address))
        else { return unsafe raiseTrap(context, .badArgument, value: address) }
        let buffer = unsafe UnsafeMutableBufferPointer(start: pointer, count: Int(size))
        let end = unsafe buffer.update(fromContentsOf: bytes.prefix(Int(size)))
        for index in end..<Int(size) { unsafe buffer[index] = 0 }
    }

    private func comm(_ address: UInt64, _ size: UInt64) -> UInt64 {
        let size = size & 0xffff_ffff
        if size == 0 { return failure(.EINVAL) }
        store(Array(world.comm.utf8.prefix(min(15, Int(size) - 1))), at: address, size: size)
        return 0
    }

    private func read(_ destination: UInt64, _ size: UInt64, from source: UInt64) -> UInt64 {
        guard
            let bytes = world.memory.bytes(at: source, count: Int(size)) ?? own(source, size) ?? real(source, Int(size))
        else {
            // As the kernel: what could not be read is zero.
            store([], at: destination, size: size)
            return failure(.EFAULT)
        }
        store(bytes, at: destination, size: size)
        return 0
    }

    private func readString(_ destination: UInt64, _ size: UInt64, from source: UInt64) -> UInt64 {
        if size == 0 { return 0 }
        var text: [UInt8] = []
        while text.count < Int(size) - 1 {
            guard
                let part = world.memory.piece(at: source &+ UInt64(text.count))
                    ?? own(source &+ UInt64(text.count), 1)?[...] ?? real(source &+ UInt64(text.count), 1)?[...]
            else {
                store([0], at: destination, size: 1)
                return failure(.EFAULT)
            }
            let piece = part.prefix { $0 != 0 }.prefix(Int(size) - 1 - text.count)
            text += piece
            if piece.count < part.count { break }
        }
        store(text + [0], at: destination, size: UInt64(text.count + 1))
        return UInt64(text.count + 1)
    }

    /// The program's own memory: its context, its stack and values of maps.
    private func own(_ source: UInt64, _ size: UInt64) -> [UInt8]? {
        unsafe guestMayRead(context, source, size) ? guest(source, size) : nil
    }

    /// The test's own memory, where the world lets programs read it.
    private func real(_ source: UInt64, _ count: Int) -> [UInt8]? {
        guard world.memory.followsTestPointers, count > 0 else { return count == 0 ? [] : nil }
        var bytes = [UInt8](repeating: 0, count: count)
        return unsafe cruntime_read(&bytes, source, UInt64(count)) == 0 ? bytes : nil
    }

    // MARK: Stacks

    /// `BPF_F_USER_STACK` of include/uapi/linux/bpf.h; the low byte says how many frames to skip.
    private func frames(_ flags: UInt64, limit: Int) -> [UInt64] {
        let all = flags & 1 << 8 != 0 ? world.stack : world.kernelStack
        return Array(all.dropFirst(Int(flags & 0xff)).prefix(limit))
    }

    private func stackID(_ handle: UInt64, _ flags: UInt64) -> UInt64 {
        guard let map = unsafe guestMap(context, handle) else { return 0 }
        guard case .stackTrace? = map.family else {
            unsafe raiseTrap(context, .wrongMapType, value: UInt64(map.index))
            return 0
        }
        if flags & ~0x7ff != 0 { return failure(.EINVAL) }
        let frames = frames(flags, limit: Int(map.valueSize / 8))
        if frames.isEmpty { return failure(.EFAULT) }
        return UInt64(bitPattern: unsafe map.stackStore(frames, count: frames.count, flags: flags))
    }

    private func stack(_ address: UInt64, _ size: UInt64, _ flags: UInt64) -> UInt64 {
        let frames = frames(flags, limit: Int(size / 8))
        store(frames.flatMap { littleEndian($0) }, at: address, size: size)
        if flags & ~0x1ff != 0 || size % 8 != 0 { return failure(.EINVAL) }
        return frames.isEmpty ? failure(.EFAULT) : UInt64(frames.count * 8)
    }
}
