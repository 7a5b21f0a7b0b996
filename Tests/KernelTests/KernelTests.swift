import Glibc
import ISA
import Testing

@testable import Kernel

private let root = Comment("the kernel's bpf(2) is for root here")

@Suite struct KernelProgramTests {
    @Test(.enabled(if: geteuid() == 0, root))
    func aProgramRuns() throws {
        let program = try KernelProgram(
            [Instruction(.mov64Imm, dst: .r0, imm: 42), Instruction(.exit)],
            type: .socketFilter
        )
        let run = try program.run(packet: [UInt8](repeating: 0, count: 64), count: 10)
        #expect(run.result == 42)
    }

    @Test(.enabled(if: geteuid() == 0, root))
    func contextComesBack() throws {
        // *(u32 *)(r1 + 4) = 7; r0 = 3
        let program = try KernelProgram(
            [
                Instruction(.store32Imm, dst: .r1, offset: 4, imm: 7), Instruction(.mov64Imm, dst: .r0, imm: 3),
                Instruction(.exit),
            ],
            type: .syscall,
            flags: 1 << 4
        )
        let run = try program.run(context: [1, 0, 0, 0, 0, 0, 0, 0])
        #expect(run.result == 3)
        #expect(run.context == [1, 0, 0, 0, 7, 0, 0, 0])
    }

    @Test(.enabled(if: geteuid() == 0, root))
    func aRefusalSaysWhy() throws {
        do throws(KernelError) {
            _ = try KernelProgram([Instruction(.exit)], type: .socketFilter)
            Issue.record("r0 was never written")
        } catch {
            #expect(error.errno == EACCES)
            #expect(error.log.contains("R0 !read_ok"))
        }
    }

    @Test(.enabled(if: geteuid() != 0, "only says something without privileges"))
    func withoutPrivileges() {
        do throws(KernelError) {
            _ = try KernelProgram([Instruction(.mov64Imm), Instruction(.exit)], type: .kprobe)
            Issue.record("an unprivileged program was loaded")
        } catch {
            #expect(error.errno == EPERM)
            #expect(error.call == "bpf(PROG_LOAD)")
        }
    }
}

@Suite struct KernelMapTests {
    @Test(.enabled(if: geteuid() == 0, root))
    func roundTrip() throws {
        let map = try KernelMap(type: .hash, keySize: 8, valueSize: 4, maxEntries: 2)
        let key: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]
        #expect(try map.lookup(key) == nil)
        #expect(map.update(key, [9, 0, 0, 0]) == 0)
        #expect(try map.lookup(key) == [9, 0, 0, 0])
        #expect(map.update(key, [9, 0, 0, 0], flags: 1) == -Int64(EEXIST))
        #expect(try map.nextKey(nil) == key)
        #expect(try map.nextKey(key) == nil)
        #expect(map.delete(key) == 0)
        #expect(map.delete(key) == -Int64(ENOENT))
        try map.freeze()
        #expect(map.update(key, [1, 0, 0, 0]) == -Int64(EPERM))
    }

    @Test func whatNoKernelMakes() {
        #expect(throws: KernelError.self) { _ = try KernelMap(type: .hash, keySize: 0, valueSize: 0, maxEntries: 0) }
    }
}
