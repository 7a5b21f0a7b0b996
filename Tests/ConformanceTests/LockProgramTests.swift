import CLinux
import CRuntime
import EngineSupport
import Foundation
import ISA
import Runtime
import Synchronization
import Testing
import UBPFVM

/// `bpf_spin_lock` in values of arrays and hash maps, on every engine.
@Suite(EngineTrait(SessionEngine.allCases)) struct LockProgramTests {
    /// A lock at 4, in 16 bytes.
    private static let maps = [
        MapParameters(name: "array", type: .array, keySize: 4, valueSize: 16, maxEntries: 1, lock: 4),
        MapParameters(name: "hash", type: .hash, keySize: 4, valueSize: 16, maxEntries: 4, lock: 4),
    ]

    private static let lookup: [Statement] = [
        .store64(.r10, -8, 0), .loadMap(.r1, 0), .mov64(.r2, .r10), .add64(.r2, -8), .call(.mapLookupElem),
        .jumpNotEqual(.r0, 0, to: "found"), .mov64(.r0, -1), .exit, .label("found"), .mov64(.r6, .r0),
    ]

    private static func call(_ helper: Helper) -> [Statement] { [.mov64(.r1, .r6), .add64(.r1, 4), .call(helper)] }

    private func lockWord(_ fixture: SessionFixture) throws -> UnsafeMutablePointer<UInt32> {
        let value = try #require(MapView(fixture.open(), 0).lookup([UInt32(0)], slot: 0))
        return value.advanced(by: 4).assumingMemoryBound(to: UInt32.self)
    }

    @Test func locksAndUnlocks() throws {
        let fixture = try SessionFixture(maps: Self.maps)
        let body: [Statement] = [.load32(.r7, .r6, 4), .store64(.r6, 8, 5)]
        try fixture.add(Self.lookup + Self.call(.spinLock) + body + Self.call(.spinUnlock) + [.mov64(.r0, .r7), .exit])
        #expect(try fixture.run() == UInt64(cruntime_owner()))
        #expect(try lockWord(fixture).pointee == 0)
        #expect(fixture.lastContext.lock == 0 && fixture.lastContext.effects == 0)
    }

    /// Others have waited in vain while it was held.
    @Test(arguments: [UInt64(0), 1 << 31]) func unlocksForsaken(_ mark: UInt64) throws {
        let fixture = try SessionFixture(maps: Self.maps)
        let body: [Statement] = [
            .load32(.r7, .r6, 4), .loadImm64(.r8, Int64(mark)), .or64(.r7, .r8), .store32(.r6, 4, .r7),
        ]
        try fixture.add(Self.lookup + Self.call(.spinLock) + body + Self.call(.spinUnlock) + [.mov64(.r0, 7), .exit])
        #expect(try fixture.run() == 7)
        #expect(try lockWord(fixture).pointee == 0)
        // Nobody's, whatever the mark says.
        try lockWord(fixture).pointee = 1 << 31
        #expect(try fixture.run() == 7)
    }

    /// What no verified program does: the lock is given back at the end.
    @Test func leftLocked() throws {
        let fixture = try SessionFixture(maps: Self.maps)
        try fixture.add(Self.lookup + Self.call(.spinLock) + [.mov64(.r0, 1), .exit])
        #expect(try fixture.run() == 1)
        #expect(try lockWord(fixture).pointee == 0)
    }

    @Test func misuse() throws {
        // Unchecked code relies on a verifier.
        guard SessionEngine.current != .jit else { return }
        let programs: [[Statement]] = [
            Self.call(.spinUnlock), Self.call(.spinLock) + Self.call(.spinLock),
            [.mov64(.r1, .r6), .add64(.r1, 5), .call(.spinLock)], [.mov64(.r1, 4), .call(.spinLock)],
            Self.call(.spinLock) + [.mov64(.r1, .r6), .add64(.r1, 8), .call(.spinUnlock)],
        ]
        for body in programs {
            let fixture = try SessionFixture(maps: Self.maps)
            try fixture.add(Self.lookup + body + [.mov64(.r0, 0), .exit])
            var kind = TrapKind.none
            do throws(Trap) { _ = try fixture.run() } catch { kind = error.kind }
            #expect(kind == .badArgument)
            #expect(try lockWord(fixture).pointee == 0)
        }
    }

    /// A dead holder's lock is taken over; a living one's wait ends, soon, with a trap.
    @Test func holders() throws {
        let fixture = try SessionFixture(maps: Self.maps)
        try fixture.add(Self.lookup + Self.call(.spinLock) + Self.call(.spinUnlock) + [.mov64(.r0, 7), .exit])
        _ = try fixture.run()
        // No thread has such a number (PID_MAX_LIMIT is 2^22).
        try lockWord(fixture).pointee = 0x3f_fff0 | cruntime_namespace_mark()
        let clock = ContinuousClock()
        let start = clock.now
        #expect(try fixture.run() == 7)
        // A dead holder costs a millisecond; on a machine with much else to do, more.
        #expect(clock.now - start < .seconds(5))
        guard SessionEngine.current != .jit else { return }
        // Another process, which lives, and then is killed.
        let holder = Process()
        holder.executableURL = URL(filePath: "/bin/sleep")
        holder.arguments = ["100"]
        try holder.run()
        defer { holder.terminate() }
        try lockWord(fixture).pointee = UInt32(holder.processIdentifier) | cruntime_namespace_mark()
        let passed = clock.measure {
            var kind = TrapKind.none
            do throws(Trap) { _ = try fixture.run() } catch { kind = error.kind }
            #expect(kind == .lockHeld)
        }
        #expect(passed > .milliseconds(40) && passed < .seconds(5))
        // From then on nobody waits for long; who hardly gets a CPU may not have looked often enough to say so.
        var again = Duration.seconds(100)
        for _ in 0..<20 where again > .milliseconds(200) {
            var traps = 0
            again = clock.measure {
                for _ in 0..<10 { do throws(Trap) { _ = try fixture.run() } catch { traps += 1 } }
            }
            #expect(traps == 10)
        }
        #expect(again < .milliseconds(200))
        #expect(try lockWord(fixture).pointee & 0x3f_ffff == UInt32(holder.processIdentifier))
        kill(holder.processIdentifier, SIGKILL)
        holder.waitUntilExit()
        #expect(try fixture.run() == 7)
        #expect(try lockWord(fixture).pointee == 0)
    }

    /// `BPF_F_LOCK`: the value changes where it is, under its lock, which nobody sees in copies.
    @Test(arguments: [0, 1]) func updatesUnderTheLock(_ map: Int) throws {
        let fixture = try SessionFixture(maps: Self.maps)
        // An update of key 0 from r10-32, all of whose bits are set.
        try fixture.add([
            .store64(.r10, -8, 0), .loadImm64(.r1, -1), .store64(.r10, -32, .r1), .store64(.r10, -24, .r1),
            .loadMap(.r1, Int32(map)), .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, .r10), .add64(.r3, -32),
            .mov64(.r4, 4), .call(.mapUpdateElem), .exit,
        ])
        let view = MapView(fixture.open(), map)
        #expect(try fixture.run() == 0)
        let value = try #require(view.lookup([UInt32(0)], slot: 0))
        func words() -> [UInt32] { (0..<4).map { value.load(fromByteOffset: 4 * $0, as: UInt32.self) } }
        #expect(words() == [.max, 0, .max, .max])
        // What a dead thread held is taken over, and given back.
        for (index, word) in [UInt32(1), 0x3f_fff0 | cruntime_namespace_mark(), 2, 3].enumerated() {
            value.storeBytes(of: word, toByteOffset: 4 * index, as: UInt32.self)
        }
        #expect(try fixture.run() == 0)
        #expect(words() == [.max, 0, .max, .max])
        #expect(view.lookup([UInt32(0)], slot: 0) == value)
        // What a living one holds is not waited for without end.
        let holder = Process()
        holder.executableURL = URL(filePath: "/bin/sleep")
        holder.arguments = ["100"]
        try holder.run()
        defer { holder.terminate() }
        let owner = UInt32(holder.processIdentifier) | cruntime_namespace_mark()
        for (index, word) in [UInt32(1), owner, 2, 3].enumerated() {
            value.storeBytes(of: word, toByteOffset: 4 * index, as: UInt32.self)
        }
        let clock = ContinuousClock()
        let start = clock.now
        #expect(try fixture.run() == UInt64(bitPattern: -16))
        let passed = clock.now - start
        #expect(passed > .milliseconds(40) && passed < .seconds(5))
        let found = words()
        #expect(found[0] == 1 && found[1] & ~(1 << 31) == owner && found[2...] == [2, 3])
        var frozen: UInt32 = 0
        let user = UserMap(view, frozen: &frozen)
        #expect(user.lookup([0, 0, 0, 0], flags: 4).status == -16)
        // Who does not ask for the lock sees the value, and no lock.
        #expect(user.lookup([0, 0, 0, 0]).value == [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])
    }

    /// Two numbers that belong together, changed and read by several at once: nobody sees one of each.
    @Test(arguments: [0, 1]) func nobodySeesHalfOfAnUpdate(_ map: Int) throws {
        guard SessionEngine.current == .vm else { return }
        let fixture = try SessionFixture(maps: Self.maps)
        nonisolated(unsafe) let view = MapView(fixture.open(), map)
        nonisolated(unsafe) let frozen = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)
        frozen.initialize(to: 0)
        defer { frozen.deallocate() }
        let key: [UInt8] = [0, 0, 0, 0]
        #expect(UserMap(view, frozen: frozen).update(key, [UInt8](repeating: 7, count: 16)) == 0)
        let torn = Atomic<Int>(0)
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            let user = UserMap(view, frozen: frozen)
            for round in 0..<20_000 {
                if thread < 2 {
                    let value = [UInt8](repeating: UInt8(truncatingIfNeeded: round * 2 + thread), count: 16)
                    // EBUSY: who held it got no CPU for long.
                    let status = user.update(key, value, flags: 4)
                    if status != 0, status != -16 { torn.add(1, ordering: .relaxed) }
                } else {
                    let (status, value) = user.lookup(key, flags: 4)
                    if status == -16 { continue }
                    let seen = Set(value.prefix(4) + value.dropFirst(8))
                    if status != 0 || seen.count != 1 { torn.add(1, ordering: .relaxed) }
                }
            }
        }
        #expect(torn.load(ordering: .relaxed) == 0)
        #expect(view.lookup([UInt32(0)], slot: 0)?.load(fromByteOffset: 4, as: UInt32.self) == 0)
    }

    /// Copies leave the lock as it is, and nobody sees it.
    @Test(arguments: [0, 1]) func copies(_ map: Int) throws {
        let fixture = try SessionFixture(maps: Self.maps)
        // An update from r10-32 of key 0; flags in r4.
        try fixture.add([
            .store64(.r10, -8, 0), .loadImm64(.r1, -1), .store64(.r10, -32, .r1), .store64(.r10, -24, .r1),
            .loadMap(.r1, Int32(map)), .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, .r10), .add64(.r3, -32),
            .mov64(.r4, 0), .call(.mapUpdateElem), .mov64(.r6, .r0),
            .loadMap(.r1, Int32(map)), .mov64(.r2, .r10), .add64(.r2, -8), .mov64(.r3, .r10), .add64(.r3, -32),
            .mov64(.r4, 2), .call(.mapUpdateElem), .or64(.r6, .r0), .mov64(.r0, .r6), .exit,
        ])
        #expect(try fixture.run() == 0)
        let value = try #require(MapView(fixture.open(), map).lookup([UInt32(0)], slot: 0))
        let words = (0..<4).map { value.load(fromByteOffset: 4 * $0, as: UInt32.self) }
        #expect(words == [.max, 0, .max, .max])
        #expect(MapView(fixture.open(), map).hiddenBytes == 4..<8)
    }
}
