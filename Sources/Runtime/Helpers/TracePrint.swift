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
    guard let bytes = unsafe readableBytes(context, format, size) else { return 0 }
    let text = unsafe bytes.assumingMemoryBound(to: UInt8.self)
    guard size > 0, unsafe text[Int(size) &- 1] == 0 else { return Failure.invalid }
    return unsafe log(context, text, Int(size) &- 1, TextArguments(list: nil, count: 3, first: a, second: b, third: c))
}

/// `long bpf_trace_vprintk(fmt, fmt_size, data, data_len)`.
@_noLocks
func tracePrintList(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ format: UInt64,
    _ length: UInt64,
    _ data: UInt64,
    _ dataLength: UInt64
) -> Int64 {
    let size = length & 0xffff_ffff
    guard let bytes = unsafe readableBytes(context, format, size) else { return 0 }
    let text = unsafe bytes.assumingMemoryBound(to: UInt8.self)
    guard size > 0, unsafe text[Int(size) &- 1] == 0 else { return Failure.invalid }
    guard let arguments = unsafe argumentList(context, data, dataLength & 0xffff_ffff) else { return Failure.invalid }
    return unsafe log(context, text, Int(size) &- 1, arguments)
}

/// `long bpf_snprintf(str, str_size, fmt, data, data_len)`: the length that the whole text has with its NUL.
@_noLocks
func printText(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ buffer: UInt64,
    _ bufferLength: UInt64,
    _ format: UInt64,
    _ data: UInt64,
    _ dataLength: UInt64
) -> Int64 {
    let size = bufferLength & 0xffff_ffff
    guard let arguments = unsafe argumentList(context, data, dataLength & 0xffff_ffff) else { return Failure.invalid }
    var length: UInt64 = 0
    while true {
        guard let byte = unsafe readableBytes(context, format &+ length, 1) else { return 0 }
        if unsafe byte.assumingMemoryBound(to: UInt8.self)[0] == 0 { break }
        length &+= 1
    }
    guard let bytes = unsafe readableBytes(context, format, length &+ 1) else { return 0 }
    let text = unsafe bytes.assumingMemoryBound(to: UInt8.self)
    var measure = unsafe TextWriter(nil, capacity: 65536)
    let status = unsafe write(&measure, text, Int(length), arguments)
    if status != 0 { return status }
    if size > 0 {
        guard let place = unsafe writableBytes(context, buffer, size) else { return 0 }
        let to = unsafe place.assumingMemoryBound(to: UInt8.self)
        var writer = unsafe TextWriter(to, capacity: Int(size) &- 1)
        unsafe _ = write(&writer, text, Int(length), arguments)
        unsafe to[writer.count] = 0
    }
    return Int64(measure.count) &+ 1
}

/// The arguments of a text: a program's array, or three registers.
@safe
private struct TextArguments {
    let list: UnsafePointer<UInt64>?
    let count: Int
    var first: UInt64 = 0
    var second: UInt64 = 0
    var third: UInt64 = 0

    @_noLocks
    init(list: UnsafePointer<UInt64>?, count: Int, first: UInt64, second: UInt64, third: UInt64) {
        unsafe self.list = unsafe list
        self.count = count
        self.first = first
        self.second = second
        self.third = third
    }

    @_noLocks
    func value(_ index: Int) -> UInt64 {
        if let list = unsafe list { return unsafe list[index] }
        return index == 0 ? first : index == 1 ? second : third
    }
}

/// An array of up to twelve 64-bit arguments (MAX_BPRINTF_VARARGS of include/linux/bpf.h); nil where it makes no sense.
@_noLocks
private func argumentList(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ data: UInt64,
    _ length: UInt64
) -> TextArguments? {
    guard length % 8 == 0, length <= 96, length == 0 || data != 0 else { return nil }
    if length == 0 { return unsafe TextArguments(list: nil, count: 0, first: 0, second: 0, third: 0) }
    guard let bytes = unsafe readableBytes(context, data, length) else { return nil }
    return unsafe TextArguments(
        list: bytes.assumingMemoryBound(to: UInt64.self),
        count: Int(length / 8),
        first: 0,
        second: 0,
        third: 0
    )
}

/// Writes a line into the session's log ring; its length.
@_noLocks
private func log(
    _ context: UnsafeMutablePointer<cruntime_context>,
    _ text: UnsafePointer<UInt8>,
    _ length: Int,
    _ arguments: TextArguments
) -> Int64 {
    var measure = unsafe TextWriter(nil, capacity: 1024)
    let status = unsafe write(&measure, text, length, arguments)
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
    unsafe _ = write(&writer, text, length, arguments)
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

    /// The four bytes at an address as an IPv4 address.
    @_noLocks
    mutating func putAddress(at address: UInt64, width: Int) {
        var bytes: UInt64 = 0
        guard unsafe cruntime_read(&bytes, address, 4) == 0 else {
            putFault()
            return
        }
        var index: UInt64 = 0
        while index < 4 {
            if index > 0 { put(0x2e) }
            put(bytes >> (8 &* index) & 255, base: 10, isNegative: false, width: width, pad: 0x30, isUpper: false)
            index &+= 1
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
    /// An IPv4 address; `i` writes leading zeros.
    var isAddress = false
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
    guard it.kind == 0x70, it.end < length else { return it }
    // %pks and %pus are strings; %px and %pK addresses; %pi4 and %pI4 what is at the address.
    let next = unsafe text[it.end]
    let after = it.end &+ 1 < length ? unsafe text[it.end &+ 1] : 0
    if next == 0x6b || next == 0x75, after == 0x73 {
        it.kind = 0x73
        it.end &+= 2
    } else if next == 0x78 || next == 0x4b {
        it.end &+= 1
    } else if next == 0x69 || next == 0x49, after == 0x34 {
        it.kind = next
        it.isAddress = true
        it.end &+= 2
    }
    return it
}

/// Writes `format` with its arguments; 0, or `EINVAL` for what the kernel refuses.
@_noLocks
private func write(
    _ writer: inout TextWriter,
    _ format: UnsafePointer<UInt8>,
    _ length: Int,
    _ arguments: TextArguments
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
        if used >= arguments.count { return Failure.invalid }
        let argument = arguments.value(used)
        used &+= 1
        guard put(&writer, it, argument) else { return Failure.invalid }
    }
    return 0
}

/// Writes one argument; false for a conversion that the kernel refuses.
@_noLocks
private func put(_ writer: inout TextWriter, _ it: Conversion, _ argument: UInt64) -> Bool {
    let value = it.isLong ? argument : argument & 0xffff_ffff
    if it.isAddress {
        writer.putAddress(at: argument, width: it.kind == 0x69 ? 3 : 1)
        return true
    }
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
