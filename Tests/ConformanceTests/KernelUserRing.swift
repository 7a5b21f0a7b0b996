import CLinux
import Foundation
import ISA
import Testing

@testable import Kernel

/// A user ring buffer of the kernel's, a program that drains it, and a producer that follows libbpf's `user_ring_buffer__reserve`.
final class KernelUserRing {
    private let ring: KernelMap
    private let words: KernelMap
    private let types: Int32
    private let program: Int32
    private let size: UInt64
    private let consumer: UnsafeMutableRawPointer
    private let producer: UnsafeMutableRawPointer
    private static let page = Int(getpagesize())

    /// `statements` name an array of one value by 0, the ring by 1.
    init(_ statements: [Statement], size: Int, valueSize: Int) throws {
        ring = try KernelMap(type: .userRingBuffer, keySize: 0, valueSize: 0, maxEntries: size)
        words = try KernelMap(type: .array, keySize: 4, valueSize: valueSize, maxEntries: 1)
        let descriptors = [words.descriptor, ring.descriptor]
        let assembly = try Assembly(statements)
        let instructions = assembly.instructions.map { instruction in
            var changed = instruction
            switch instruction.opcode {
            case .loadMap, .loadMapValue: changed.imm = Int64(descriptors[Int(instruction.imm)])
            default: break
            }
            return changed
        }
        let starts = assembly.functions.map { encode(Array(instructions[..<$0])).count }
        (types, program) = try Self.load(instructions, starts)
        self.size = UInt64(size)
        let (read, write) = (PROT_READ, PROT_READ | PROT_WRITE)
        consumer = try #require(mmap(nil, Self.page, read, MAP_SHARED, ring.descriptor, 0))
        producer = try #require(
            mmap(nil, Self.page + 2 * size, write, MAP_SHARED, ring.descriptor, Self.page)
        )
        try #require(consumer != MAP_FAILED && producer != MAP_FAILED)
    }

    deinit {
        munmap(consumer, Self.page)
        munmap(producer, Self.page + 2 * Int(size))
        close(program)
        close(types)
    }

    /// With the types of functions that the kernel asks for where there are callbacks: all are `int f(void)`.
    private static func load(_ instructions: [Instruction], _ starts: [Int]) throws -> (types: Int32, program: Int32) {
        let strings: [UInt8] = [0] + Array("int".utf8) + [0] + Array("f".utf8) + [0]
        let records: [UInt32] = [1, 1 << 24, 4, 0x0100_0020, 0, 13 << 24, 1, 5, 12 << 24, 2]
        let length = UInt32(records.count * 4)
        let header: [UInt32] = [0x0001_eb9f, 24, 0, length, length, UInt32(strings.count)]
        let blob =
            (header + records).flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
            + strings
        var request = BPF.Attributes(size: 32)
        request.put(UInt32(blob.count), at: 16)
        let types = blob.withUnsafeBytes { blob in
            request.put(blob.baseAddress, at: 0)
            return BPF.call(.typesLoad, &request)
        }
        try #require(types >= 0, "no types: \(types)")
        let code = encode(instructions)
        let functions: [UInt32] = starts.flatMap { [UInt32($0), 3] }
        var attributes = BPF.Attributes(size: 120)
        attributes.put(ProgramType.syscall.rawValue, at: 0)
        attributes.put(UInt32(code.count), at: 4)
        attributes.put(KernelProgram.sleepable, at: 44)
        attributes.put(UInt32(types), at: 72)
        attributes.put(UInt32(8), at: 76)
        attributes.put(UInt32(starts.count), at: 88)
        var log = [UInt8](repeating: 0, count: 1 << 16)
        let program = code.withUnsafeBytes { code in
            functions.withUnsafeBytes { functions in
                log.withUnsafeMutableBytes { log in
                    [UInt8]("GPL\0".utf8).withUnsafeBytes { license in
                        attributes.put(code.baseAddress, at: 8)
                        attributes.put(license.baseAddress, at: 16)
                        attributes.put(UInt32(1), at: 24)
                        attributes.put(UInt32(log.count), at: 28)
                        attributes.put(log.baseAddress, at: 32)
                        attributes.put(functions.baseAddress, at: 80)
                        return BPF.call(.programLoad, &attributes)
                    }
                }
            }
        }
        try #require(program >= 0, "\(program): \(String(decoding: log.prefix { $0 != 0 }, as: UTF8.self))")
        return (Int32(types), Int32(program))
    }

    /// Runs the program with `value` as the array's value; the value afterwards.
    func run(_ value: [UInt8]) throws -> [UInt8] {
        try #require(words.update([0, 0, 0, 0], value) == 0)
        var attributes = BPF.Attributes(size: 80)
        attributes.put(UInt32(program), at: 0)
        let context = [UInt8](repeating: 0, count: 8)
        attributes.put(UInt32(context.count), at: 40)
        let status = context.withUnsafeBytes { context in
            attributes.put(context.baseAddress, at: 48)
            return BPF.call(.programTestRun, &attributes)
        }
        try #require(status >= 0, "\(status)")
        return try #require(try words.lookup([0, 0, 0, 0]))
    }

    // MARK: The producer

    var producerPosition: UInt64 {
        get { producer.load(as: UInt64.self) }
        set { producer.storeBytes(of: newValue, as: UInt64.self) }
    }
    var consumerPosition: UInt64 { consumer.load(as: UInt64.self) }

    /// The header of the record at a position.
    func header(_ position: UInt64) -> UnsafeMutablePointer<UInt32> {
        (producer + Self.page + Int(position & (size - 1))).assumingMemoryBound(to: UInt32.self)
    }

    /// Makes all data zeros.
    func clear() {
        (producer + Self.page).initializeMemory(as: UInt8.self, repeating: 0, count: Int(size))
    }

    func reserve(_ count: Int) -> (status: Int64, header: UnsafeMutablePointer<UInt32>?) {
        let total = UInt64((count + 15) & ~7)
        let (ready, done) = (producerPosition, consumerPosition)
        if total > size { return (-Int64(E2BIG), nil) }
        if size - (ready - done) < total { return (-Int64(ENOSPC), nil) }
        let header = header(ready)
        header[0] = UInt32(count) | 1 << 31
        header[1] = 0
        producerPosition = ready + total
        return (0, header)
    }
}
