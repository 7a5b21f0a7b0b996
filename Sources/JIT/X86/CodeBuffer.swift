internal import CRuntime

/// Memory that code is written into; never executable while it is writable.
@safe
package struct CodeBuffer: ~Copyable {
    private let base: UnsafeMutableRawPointer
    /// Unmaps the memory at the end; `discard self` would say so, which Embedded Swift does not have here.
    private var isOwner = true
    package let capacity: Int
    /// Bytes written; may exceed `capacity`, beyond which nothing is stored.
    package private(set) var count = 0

    private init(base: UnsafeMutableRawPointer, capacity: Int) {
        unsafe self.base = unsafe base
        self.capacity = capacity
    }

    /// Maps memory for at least `capacity` bytes of code.
    ///
    /// - Parameter hint: where it should lie, for instance within 2 GiB of what it jumps to; the kernel may choose
    ///   another place.
    package static func map(capacity: Int, near hint: UInt64 = 0) throws(CodeError) -> CodeBuffer {
        let size = (max(capacity, 1) + 4095) & ~4095
        // PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
        let result = cruntime_syscall(SystemCall.mmap, Int64(bitPattern: hint), Int64(size), 3, 0x22, -1, 0)
        guard result > 0 || result < -4095, let base = unsafe UnsafeMutableRawPointer(bitPattern: Int(result)) else {
            throw .system(call: .mmap, errno: Int32(truncatingIfNeeded: -result))
        }
        return unsafe CodeBuffer(base: base, capacity: size)
    }

    deinit {
        if isOwner {
            _ = unsafe cruntime_syscall(SystemCall.munmap, Int64(Int(bitPattern: base)), Int64(capacity), 0, 0, 0, 0)
        }
    }

    /// Address of the first byte, the same after `finalize()`.
    package var address: UInt64 { unsafe UInt64(UInt(bitPattern: base)) }

    package mutating func append(_ byte: UInt8) {
        if count < capacity { unsafe base.storeBytes(of: byte, toByteOffset: count, as: UInt8.self) }
        count += 1
    }

    /// Appends the low `size` bytes of a number, little-endian.
    package mutating func append(_ value: Int64, size: Int) {
        if count <= capacity - 8 {
            // All eight, of which the next ones overwrite what was too much.
            unsafe base.storeBytes(of: value, toByteOffset: count, as: Int64.self)
            count += size
        } else {
            var rest = value
            for _ in 0..<size {
                append(UInt8(truncatingIfNeeded: rest))
                rest = rest >> 8
            }
        }
    }

    /// Replaces `size` bytes that were written.
    mutating func patch(_ value: Int64, at offset: Int, size: Int) {
        guard offset >= 0, offset + size <= min(count, capacity) else { return }
        for index in 0..<size {
            let byte = UInt8(truncatingIfNeeded: value >> Int64(8 * index))
            unsafe base.storeBytes(of: byte, toByteOffset: offset + index, as: UInt8.self)
        }
    }

    /// The bytes written so far.
    package var bytes: [UInt8] {
        var result: [UInt8] = []
        for index in 0..<min(count, capacity) {
            result.append(unsafe base.load(fromByteOffset: index, as: UInt8.self))
        }
        return result
    }

    /// Makes the memory executable and no longer writable; what was not written traps.
    package consuming func finalize() throws(CodeError) -> ExecutableMemory {
        let (base, capacity, count) = unsafe (self.base, self.capacity, self.count)
        guard count <= capacity else {
            throw .full(capacity: capacity)
        }
        // The rest of the last page traps; the pages behind it go back.
        let size = min((max(count, 1) + 4095) & ~4095, capacity)
        for offset in count..<size { unsafe base.storeBytes(of: 0xcc, toByteOffset: offset, as: UInt8.self) }
        let start = Int64(Int(bitPattern: base))
        if size < capacity {
            _ = cruntime_syscall(SystemCall.munmap, start + Int64(size), Int64(capacity - size), 0, 0, 0, 0)
        }
        // PROT_READ | PROT_EXEC
        let result = cruntime_syscall(SystemCall.mprotect, start, Int64(size), 5, 0, 0, 0)
        guard result == 0 else {
            isOwner = false
            _ = cruntime_syscall(SystemCall.munmap, start, Int64(size), 0, 0, 0, 0)
            throw .system(call: .mprotect, errno: Int32(truncatingIfNeeded: -result))
        }
        isOwner = false
        return unsafe ExecutableMemory(base: base, size: size, count: count)
    }
}

/// Code that can run and no longer be changed; unmapped with its owner unless leaked.
@safe
package struct ExecutableMemory: ~Copyable {
    private let base: UnsafeMutableRawPointer
    /// Unmaps the memory at the end; `discard self` would say so, which Embedded Swift does not have here.
    private var isOwner = true
    private let size: Int
    /// Bytes of code.
    package let count: Int

    fileprivate init(base: UnsafeMutableRawPointer, size: Int, count: Int) {
        unsafe self.base = unsafe base
        self.size = size
        self.count = count
    }

    deinit {
        if isOwner {
            _ = unsafe cruntime_syscall(SystemCall.munmap, Int64(Int(bitPattern: base)), Int64(size), 0, 0, 0, 0)
        }
    }

    /// Address of the first instruction.
    package var address: UInt64 { unsafe UInt64(UInt(bitPattern: base)) }

    /// Gives the mapping away: whoever takes its address and size unmaps it.
    package consuming func leak() -> (address: UInt64, size: UInt64) {
        isOwner = false
        return (address, UInt64(size))
    }
}

/// Numbers of system calls (arch/x86/entry/syscalls/syscall_64.tbl).
private enum SystemCall {
    static var mmap: Int64 { 9 }
    static var mprotect: Int64 { 10 }
    static var munmap: Int64 { 11 }
}
