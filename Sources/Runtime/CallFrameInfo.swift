import CRuntime

/// The rules at `pc` from a module's `.eh_frame`, found by the binary search table of `.eh_frame_hdr`.
///
/// Reads only mapped, read-only sections of this process; nil where no frame description covers `pc`. Source: LSB core
/// specification 10.6 and DWARF 5 section 6.4.
@_noLocks
func findUnwindRules(_ pc: UInt64, module: cruntime_module) -> UnwindRules? {
    guard let header = unsafe module.eh_frame_hdr, let description = unsafe findDescription(pc, header: header) else {
        return nil
    }
    var fde = unsafe DwarfReader(description + 4, count: Int(loadUInt32(description)))
    let idAddress = fde.address
    let distance = fde.fixed(4)
    guard distance != 0, unsafe idAddress &- distance >= module.start,
        let cieStart = unsafe UnsafePointer<UInt8>(bitPattern: UInt(idAddress &- distance)),
        let cie = unsafe CommonInformation(cieStart)
    else { return nil }
    let start = fde.encoded(cie.pointerEncoding)
    let size = fde.encoded(cie.pointerEncoding & 0x0f)
    guard pc >= start, pc &- start < size else { return nil }
    if cie.hasAugmentationData { fde.skip(fde.uleb()) }

    var machine = CallFrameMachine(cie)
    machine.run(cie.instructions, from: start, until: ~0)
    machine.keepInitialRules()
    machine.run(fde, from: start, until: pc)
    guard machine.isUnderstood else { return nil }
    machine.rules.isSignalFrame = cie.isSignalFrame
    return machine.rules
}

@_noLocks
private func loadUInt32(_ at: UnsafePointer<UInt8>) -> UInt32 {
    unsafe UnsafeRawPointer(at).loadUnaligned(as: UInt32.self)
}

/// The frame description whose range starts at or before `pc`, by binary search.
@_noLocks
private func findDescription(_ pc: UInt64, header: UnsafePointer<UInt8>) -> UnsafePointer<UInt8>? {
    // version, then the encodings of the frame pointer, the count and the table; linkers emit data-relative sdata4.
    guard unsafe header[0] == 1, unsafe header[3] == 0x3b else { return nil }
    var reader = unsafe DwarfReader(header + 4, count: 16)
    let base = UInt64(UInt(bitPattern: header))
    _ = unsafe reader.encoded(header[1], base: base)
    let count = unsafe Int(truncatingIfNeeded: reader.encoded(header[2], base: base))
    guard count > 0 else { return nil }
    let table = unsafe UnsafeRawPointer(reader.at)
    let wanted = Int64(bitPattern: pc &- base)
    var low = 0
    var high = count
    while high - low > 1 {
        let middle = (low + high) / 2
        if unsafe Int64(table.loadUnaligned(fromByteOffset: middle * 8, as: Int32.self)) <= wanted {
            low = middle
        } else {
            high = middle
        }
    }
    guard unsafe Int64(table.loadUnaligned(fromByteOffset: low * 8, as: Int32.self)) <= wanted else { return nil }
    let offset = unsafe Int(table.loadUnaligned(fromByteOffset: low * 8 + 4, as: Int32.self))
    let description = unsafe header + offset
    let length = unsafe loadUInt32(description)
    // 0 terminates the section, ~0 announces 64-bit DWARF, which no x86-64 toolchain emits here.
    return length == 0 || length == UInt32.max ? nil : unsafe description
}

/// A common information entry: what the descriptions of many functions share.
struct CommonInformation {
    var codeAlignment: UInt64
    var dataAlignment: Int64
    var pointerEncoding: UInt8 = 0
    var hasAugmentationData = false
    var isSignalFrame = false
    var instructions: DwarfReader

    @_noLocks init?(_ start: UnsafePointer<UInt8>) {
        let length = unsafe loadUInt32(start)
        guard length != 0, length != UInt32.max, unsafe loadUInt32(start + 4) == 0 else { return nil }
        var reader = unsafe DwarfReader(start + 8, count: Int(length) - 4)
        let version = reader.byte()
        guard version == 1 || version == 3 else { return nil }
        let augmentation = unsafe reader.at
        while reader.byte() != 0 && !reader.isAtEnd {}
        codeAlignment = reader.uleb()
        dataAlignment = reader.sleb()
        let returnRegister = version == 1 ? UInt64(reader.byte()) : reader.uleb()
        guard returnRegister == DwarfRegister.returnAddress else { return nil }
        if unsafe augmentation[0] == UInt8(ascii: "z") {
            hasAugmentationData = true
            let size = reader.uleb()
            let after = unsafe reader.at + Int(truncatingIfNeeded: size)
            guard unsafe after <= reader.end else { return nil }
            var index = 1
            while unsafe augmentation[index] != 0 {
                switch unsafe augmentation[index] {
                case UInt8(ascii: "R"): pointerEncoding = reader.byte()
                case UInt8(ascii: "P"): _ = reader.encoded(reader.byte())
                case UInt8(ascii: "L"): _ = reader.byte()
                case UInt8(ascii: "S"): isSignalFrame = true
                case UInt8(ascii: "B"): break
                default: return nil
                }
                index += 1
            }
            unsafe reader = DwarfReader(after, end: reader.end)
        } else if unsafe augmentation[0] != 0 {
            return nil
        }
        instructions = reader
    }
}
