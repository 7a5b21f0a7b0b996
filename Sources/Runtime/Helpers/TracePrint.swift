import CRuntime
import CSession

/// A `bpf_trace_printk` line in the session's log ring: time, thread, its name, then the text without a NUL.
package enum LogRecord {
    /// `u64 ns; u32 tid; char comm[16]; u32 zero`.
    package static var headerSize: Int { 32 }
    static var commOffset: Int { @_noLocks get { 12 } }
}

/// `long bpf_trace_printk(fmt, fmt_size, ...)`: the text's length, or a negated errno value.
///
/// Formats are those of kernel/bpf/helpers.c, `bpf_bprintf_prepare`, as far as they mean something here.
@_noLocks
func tracePrint(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ format: UInt64,
    _ length: UInt64,
    _ a: UInt64,
    _ b: UInt64,
    _ c: UInt64
) -> Int64 {
    let size = length & 0xffff_ffff
    guard let bytes = unsafe readable(context, format, size) else { return 0 }
    let text = unsafe bytes.assumingMemoryBound(to: UInt8.self)
    guard size > 0, unsafe text[Int(size) &- 1] == 0 else { return Failure.invalid }
    var measure = unsafe TextWriter(nil, capacity: 1024)
    let status = unsafe write(&measure, text, Int(size) &- 1, a, b, c)
    if status != 0 { return status }
    guard let session = unsafe SessionView(context) else { return Int64(measure.count) }
    let ring = unsafe session.header.pointee.log_map
    guard unsafe ring < session.header.pointee.map_count else { return Int64(measure.count) }
    let map = MapView(session, Int(ring))
    let total = UInt64(32 &+ measure.count)
    guard let record = unsafe map.ringReserve(total, tid: ownTid(context)) else { return Failure.busy }
    unsafe cruntime_zero(record, 32)
    unsafe record.assumingMemoryBound(to: UInt64.self)[0] = cruntime_monotonic_ns()
    unsafe record.assumingMemoryBound(to: UInt32.self)[2] = ownTid(context)
    var comm = cruntime_comm()
    unsafe cruntime_get_comm(&comm)
    unsafe cruntime_copy(record.advanced(by: LogRecord.commOffset), &comm, 16)
    // A string may have changed since it was measured: what is missing is blank, what is too much is cut.
    var writer = unsafe TextWriter(record.advanced(by: 32).assumingMemoryBound(to: UInt8.self), capacity: measure.count)
    unsafe _ = write(&writer, text, Int(size) &- 1, a, b, c)
    while writer.count < measure.count { writer.put(0x20) }
    unsafe map.ringCommit(record, size: total, discards: false)
    return Int64(measure.count)
}

/// Puts bytes into a buffer, or only counts them.
@safe
private struct TextWriter {
    let buffer: UnsafeMutablePointer<UInt8>?
    let capacity: Int
    var count = 0

    @_noLocks
    init(_ buffer: UnsafeMutablePointer<UInt8>?, capacity: Int) {
        unsafe self.buffer = unsafe buffer
        self.capacity = capacity
    }

    @_noLocks
    mutating func put(_ byte: UInt8) {
        guard count < capacity else { return }
        if let buffer = unsafe buffer { unsafe buffer[count] = byte }
        count &+= 1
    }

    /// A number in `base`, padded on the left to `width`.
    @_noLocks
    mutating func put(_ value: UInt64, base: UInt64, isNegative: Bool, width: Int, pad: UInt8, isUpper: Bool) {
        var digits = 1
        var rest = value / base
        while rest > 0 {
            digits &+= 1
            rest /= base
        }
        if isNegative, pad == 0x30 { put(0x2d) }
        var blanks = width &- digits &- (isNegative ? 1 : 0)
        while blanks > 0 {
            put(pad)
            blanks &-= 1
        }
        if isNegative, pad != 0x30 { put(0x2d) }
        var divisor: UInt64 = 1
        var index = 1
        while index < digits {
            divisor &*= base
            index &+= 1
        }
        rest = value
        while divisor > 0 {
            let digit = UInt8(truncatingIfNeeded: rest / divisor)
            rest %= divisor
            divisor /= base
            put(digit < 10 ? 0x30 &+ digit : (isUpper ? 0x37 : 0x57) &+ digit)
        }
    }

    /// The string at an address of this process, read without risk.
    @_noLocks
    mutating func putString(at address: UInt64) {
        var from = address
        var part = cruntime_text()
        while count < capacity {
            let got = unsafe cruntime_read_string(&part, from, 64)
            if got < 0 {
                // kernel: "(efault)" marks it in newer versions
                if from == address { putFault() }
                return
            }
            var index: Int64 = 0
            while index < got &- 1 {
                put(unsafe cruntime_text_byte(&part, UInt64(index)))
                index &+= 1
            }
            if got < 64 { return }
            from &+= 63
        }
    }

    @_noLocks
    private mutating func putFault() {
        put(0x28)
        put(0x65)
        put(0x66)
        put(0x61)
        put(0x75)
        put(0x6c)
        put(0x74)
        put(0x29)
    }
}

/// One conversion after its `%`: what was parsed, and where it ends.
private struct Conversion {
    var end: Int
    var width = 0
    var pad: UInt8 = 0x20
    /// `l` or `ll`: all 64 bits.
    var isLong = false
    var kind: UInt8 = 0
}

/// Reads flags, width and length of the conversion that starts at `index`.
@_noLocks
private func parse(_ text: UnsafePointer<UInt8>, _ index: Int, _ length: Int) -> Conversion {
    var it = Conversion(end: index)
    if it.end < length, unsafe text[it.end] == 0x30 {
        it.pad = 0x30
        it.end &+= 1
    }
    while it.end < length, unsafe text[it.end] >= 0x30 && text[it.end] <= 0x39, it.width < 100 {
        it.width = unsafe it.width &* 10 &+ Int(text[it.end] &- 0x30)
        it.end &+= 1
    }
    while it.end < length, unsafe text[it.end] == 0x6c {
        it.isLong = true
        it.end &+= 1
    }
    if it.end < length { it.kind = unsafe text[it.end] }
    it.end &+= 1
    return it
}

/// Writes `format` with its arguments; 0, or `EINVAL` for what the kernel refuses.
@_noLocks
private func write(
    _ writer: inout TextWriter,
    _ format: UnsafePointer<UInt8>,
    _ length: Int,
    _ a: UInt64,
    _ b: UInt64,
    _ c: UInt64
) -> Int64 {
    var index = 0
    var used = 0
    while index < length, unsafe format[index] != 0 {
        let byte = unsafe format[index]
        index &+= 1
        if byte != 0x25 {
            writer.put(byte)
            continue
        }
        if index < length, unsafe format[index] == 0x25 {
            writer.put(0x25)
            index &+= 1
            continue
        }
        let it = unsafe parse(format, index, length)
        index = it.end
        // Three arguments fit into the helper's registers.
        if used >= 3 { return Failure.invalid }
        let argument = used == 0 ? a : used == 1 ? b : c
        used &+= 1
        guard put(&writer, it, argument) else { return Failure.invalid }
    }
    return 0
}

/// Writes one argument; false for a conversion that the kernel refuses.
@_noLocks
private func put(_ writer: inout TextWriter, _ it: Conversion, _ argument: UInt64) -> Bool {
    let value = it.isLong ? argument : argument & 0xffff_ffff
    switch it.kind {
    case 0x64, 0x69:  // d i
        let number = it.isLong ? Int64(bitPattern: argument) : Int64(Int32(truncatingIfNeeded: argument))
        writer.put(number.magnitude, base: 10, isNegative: number < 0, width: it.width, pad: it.pad, isUpper: false)
    case 0x75:  // u
        writer.put(value, base: 10, isNegative: false, width: it.width, pad: it.pad, isUpper: false)
    case 0x78, 0x58:  // x X
        writer.put(value, base: 16, isNegative: false, width: it.width, pad: it.pad, isUpper: it.kind == 0x58)
    case 0x70:  // p: %p and %px alike; there is nothing to hide from the process itself
        writer.put(argument, base: 16, isNegative: false, width: 16, pad: 0x30, isUpper: false)
    case 0x73:  // s
        writer.putString(at: argument)
    case 0x63:  // c
        writer.put(UInt8(truncatingIfNeeded: argument))
    default:
        return false
    }
    return true
}
