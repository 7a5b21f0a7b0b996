import CPatch
import Foundation
import Testing

@testable import Agent

/// Islands lie exactly where they are wanted, lead to their thunks, and share pages.
@Suite(.serialized) struct IslandTests {
    private func symbol(_ name: String) throws -> UInt64 {
        UInt64(UInt(bitPattern: try #require(dlsym(dlopen(nil, RTLD_NOW), name))))
    }

    private func bytes(_ address: UInt64, _ count: Int) throws -> [UInt8] {
        let code = try #require(UnsafePointer<UInt8>(bitPattern: UInt(address)))
        return (0..<count).map { code[$0] }
    }

    @Test func jumpsLeadToTheirThunks() throws {
        var pool = try #require(IslandPool())
        let base = cpatch_find_gap(try symbol("malloc"), 1 << 20)
        try #require(base != 0)
        // In a page, one byte from the next, over two pages.
        for (number, offset) in ([0, 5, 4091, 4096 + 4094] as [UInt64]).enumerated() {
            let thunk = base &+ 0x4000 &+ UInt64(number)
            let isPlaced = pool.place(at: base &+ offset, thunk: thunk)
            #expect(isPlaced)
            let displacement = UInt32(truncatingIfNeeded: thunk &- base &- offset &- 5)
            let jump = [0xe9] + (0..<4).map { UInt8(truncatingIfNeeded: displacement >> UInt32(8 * $0)) }
            #expect(try bytes(base &+ offset, 5) == jump)
        }
        #expect(pool.pageCount == 3)
        // Bytes in use are not given away.
        for taken in [0, 4, 9, 4090, 4096 + 4098] as [UInt64] {
            let isPlaced = pool.place(at: base &+ taken, thunk: base)
            #expect(!isPlaced)
        }
        // A thunk out of reach.
        let far: UInt64 = 0x1234_5678_9abc
        let isPlaced = pool.place(at: base &+ 100, thunk: far)
        #expect(isPlaced)
        let address = (0..<8).map { UInt8(truncatingIfNeeded: far >> UInt64(8 * $0)) }
        #expect(try bytes(base &+ 100, 14) == [0xff, 0x25, 0, 0, 0, 0] + address)
        // Nothing of them was ever writable and executable.
        let maps = try String(contentsOfFile: "/proc/self/smaps", encoding: .utf8)
        #expect(!maps.contains(" rwxp "))
    }

    @Test func takenPlacesAreRefused() throws {
        var pool = try #require(IslandPool())
        let malloc = try symbol("malloc")
        // The kernel's word for where the first thread's stack begins (proc(5), startstack).
        let fields = try String(contentsOfFile: "/proc/self/stat", encoding: .utf8).split(separator: " ")
        let stack = try #require(UInt64(fields[27]))
        let heap = UInt64(UInt(bitPattern: sbrk(0)))
        for place in [malloc, 0, 4096, 1 << 47, ~0, stack - 4096, stack - (512 << 20), heap + (100 << 20)] as [UInt64] {
            let isPlaced = pool.place(at: place, thunk: malloc)
            #expect(!isPlaced, "\(String(place, radix: 16))")
        }
        #expect(pool.pageCount == 0)
    }
}
