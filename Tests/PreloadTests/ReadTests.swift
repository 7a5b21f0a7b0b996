import CLinux
import CSession
import Foundation
import ISA
import Testing

/// Reads of a program's memory while it runs: the right bytes, or `-EFAULT` and zeros, and nothing that the program could notice.
///
/// Each run is made twice: as every kernel can, and by the vDSO where this kernel fixes up its faults.
@Suite(.serialized, .enabled(if: library != nil, "no libubpf.so: run 'make build' first"))
struct ReadTests {
    static let isGuarded: Bool = {
        let works = clinux_guards_reads() != 0
        if !works {
            print("this kernel fixes up no faults of the vDSO (CONFIG_X86_SGX): reads are tested by system calls only")
        }
        return works
    }()
    static let ways: [UInt32] = [0] + (isGuarded ? [CSESSION_GUARDED_READS.rawValue] : [])

    /// r1 points to the registers; rdi (112) to the question: address, result, 24 bytes, length, 16 bytes.
    private static let program: [Statement] = [
        .load64(.r6, .r1, 112),
        .mov64(.r1, .r10), .add64(.r1, -8), .mov64(.r2, 8), .mov64(.r3, .r6), .call(.probeReadUser),
        .load64(.r7, .r10, -8),
        .mov64(.r1, .r10), .add64(.r1, -56), .mov64(.r2, 24), .mov64(.r3, .r7), .call(.probeReadUser),
        .store64(.r10, -64, .r0),
        .mov64(.r1, .r10), .add64(.r1, -24), .mov64(.r2, 16), .mov64(.r3, .r7), .call(.probeReadUserStr),
        .store64(.r10, -32, .r0),
        .mov64(.r1, .r6), .add64(.r1, 8), .mov64(.r2, .r10), .add64(.r2, -64), .mov64(.r3, 56), .call(.probeWriteUser),
        .mov64(.r0, 0), .exit,
    ]

    private func probe(_ arguments: [String], _ way: UInt32, flags: UInt32 = 0, seconds: Int = 120) throws -> Outcome {
        let fixture = try #require(Fixture.reads, "gcc is needed")
        let probed = try runProbed(
            [fixture] + arguments,
            [Probe(symbol: "ask", returns: false)],
            program: Assembly(Self.program).instructions,
            flags: CSESSION_ALLOW_WRITE.rawValue | way | flags,
            seconds: seconds
        )
        let hits = try #require(probed.entries["ask"])
        #expect(hits.hits > 0 && hits.missed == 0 && hits.traps == 0)
        return probed
    }

    @Test(arguments: ways) func everyKindOfAddress(_ way: UInt32) throws {
        let probed = try probe(["addresses"], way)
        #expect(probed.status == 0)
        #expect(
            probed.output == """
                inside right 16
                across right 15
                end right 16
                over refused 16
                short refused 1
                none refused -14
                again right 1
                gone refused -14
                file right 1
                past refused -14
                null refused -14
                odd refused -14
                kernel refused -14
                vsyscall refused -14
                last refused -14
                literal right 16

                """
        )
        #expect(probed.entries["ask"]?.hits == 16)
        // That the way is the one that was asked for.
        let plain = try run([try #require(Fixture.reads), "addresses"])
        #expect(plain.number("VDSO") != nil && (probed.number("VDSO") == plain.number("VDSO")) == (way == 0))
    }

    /// Twelve threads, half of them with all signals blocked, read pages that four others map, protect and unmap.
    @Test(arguments: ways) func pagesComeAndGo(_ way: UInt32) throws {
        let seconds = ProcessInfo.processInfo.environment["UBPF_TORTURE"] == "1" ? 60 : 3
        let probed = try probe(["storm", "\(seconds)"], way, seconds: seconds * 4 + 60)
        #expect(probed.status == 0)
        #expect(probed.output == "wrong=0\n")
        let (right, refused) = (probed.number("RIGHT") ?? 0, probed.number("REFUSED") ?? 0)
        #expect(right > 1000 && refused > 1000)
        #expect(probed.entries["ask"]?.total == right + refused)
    }

    /// Two bad reads before each of the program's own faults, which its own handler leaves.
    @Test(arguments: ways) func handlersAreTheProgramsOwn(_ way: UInt32) throws {
        let probed = try probe(["handlers"], way)
        #expect(probed.output == "bad=0 handled=2000 ours=1\n")
        #expect(probed.status == 0)
        #expect(probed.entries["ask"]?.hits == 2000)
    }

    /// Ignored, default, and blocked.
    @Test(arguments: ways) func dispositionsDoNotMatter(_ way: UInt32) throws {
        let probed = try probe(["dispositions"], way)
        #expect(probed.output == "bad=0 default=1\n")
        #expect(probed.status == 0)
        #expect(probed.entries["ask"]?.hits == 3000)
    }

    @Test(arguments: ways, [0, CSESSION_FOLLOW_FORK.rawValue]) func childrenReadToo(_ way: UInt32, _ flags: UInt32)
        throws
    {
        let probed = try probe(["forks"], way, flags: flags)
        #expect(probed.output == "bad=0 ended=50\n")
        #expect(probed.status == 0)
        #expect(probed.entries["ask"]?.total == (flags == 0 ? 50 : 150))
    }

    @Test(arguments: ways) func ownFaultsKill(_ way: UInt32) throws {
        let probed = try probe(["dies"], way)
        #expect(probed.output == "bad=0\n")
        #expect(probed.status & 0x7f == SIGSEGV)
    }

    private static let ubpfrun = library.map { $0.replacing("/lib/libubpf.so", with: "/bin/ubpfrun") } ?? ""

    /// The vDSO is changed while a session lasts, and then what it was.
    @Test(
        .enabled(
            if: FileManager.default.isExecutableFile(atPath: ubpfrun),
            "no ubpfrun beside the library: run 'make build'"
        )
    )
    func theVDSOIsGivenBack() throws {
        let fixture = try #require(Fixture.reads, "gcc is needed")
        let attach = [Self.ubpfrun, "memleak", "-q", "-o", "/dev/null", "-p", "PID"]
        let outcome = try run([fixture, "attached", Self.isGuarded ? "60" : "2"] + attach)
        #expect(outcome.output == "status=0 wrong=0 restored=1\n")
        #expect(outcome.status == 0)
        #expect(outcome.number("CHANGED") == (Self.isGuarded ? 1 : 0))
    }
}
