import CPatch
import Foundation
import Testing

@testable import Agent

/// Islands lie where displacements have traps in the wanted bytes, lead to their thunks, and share pages.
@Suite(.serialized) struct IslandTests {
    /// Bytes that a 5-byte jump over the site would have.
    private func jump(from site: UInt64, to island: UInt64) -> [UInt8] {
        let displacement = UInt32(truncatingIfNeeded: island &- site &- 5)
        return [0xe9] + (0..<4).map { UInt8(truncatingIfNeeded: displacement >> UInt32(8 * $0)) }
    }

    @Test func trapBytesAreInvalidOnEveryProcessor() {
        let traps = (0...255).filter { cpatch_is_trap(UInt8($0)) != 0 }
        #expect(
            traps == [
                0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x9a, 0xcc, 0xce, 0xd4,
                0xea,
            ]
        )
    }

    @Test func everySetOfBoundariesFindsIslands() throws {
        var pool = try #require(IslandPool())
        var taken: Set<UInt64> = []
        for symbol in ["malloc", "getpid"] {
            let base = UInt64(UInt(bitPattern: try #require(dlsym(dlopen(nil, RTLD_NOW), symbol))))
            let thunk = cpatch_find_gap(base, 4096)
            #expect(thunk != 0)
            for round in 0..<40 {
                let site = base &+ UInt64(round * 4093)
                for boundaries in 0..<UInt32(16) {
                    let island = try pool.place(site: site, boundaries: boundaries << 1, thunk: thunk)
                    let bytes = jump(from: site, to: island)
                    for offset in 1...4 where boundaries >> UInt32(offset - 1) & 1 != 0 {
                        #expect(cpatch_is_trap(bytes[offset]) != 0)
                    }
                    for byte in island..<island + 5 { #expect(taken.insert(byte).inserted) }
                    let code = UnsafePointer<UInt8>(bitPattern: UInt(island))
                    let written = (0..<5).map { code?[$0] }
                    #expect(written == jump(from: island, to: thunk))
                }
            }
        }
        print("1,280 islands on \(pool.pageCount) pages")
        #expect(pool.pageCount < 320)
        // Nothing of them was ever writable and executable.
        let maps = try String(contentsOfFile: "/proc/self/smaps", encoding: .utf8)
        #expect(!maps.contains(" rwxp "))
    }

    @Test func sitesOutOfReachAreRefused() throws {
        var pool = try #require(IslandPool())
        #expect(throws: AgentError.self) {
            try pool.place(site: 0x1000_0000_0000, boundaries: 0, thunk: 0x7000_0000_0000)
        }
        #expect(pool.pageCount == 0)
    }
}
