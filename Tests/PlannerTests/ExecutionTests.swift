import Foundation
import Symbols
import Testing

@testable import Planner

/// Relocated windows are run: a copy near the function, continued in the original, must compute the same.
@Suite struct ExecutionTests {
    /// Functions `long f(long a, long b)` whose first instructions are the awkward ones.
    private static let source = """
        .data
        .balign 8
        word: .long 5
        .balign 8
        table: .quad 11, 22, 33, 44, 55, 66, 77, 88
        pointer: .quad helper
        target: .quad helper
        .text
        .macro function name
        .balign 16
        .globl \\name
        .type \\name, @function
        \\name:
        .endm
        .macro done name
        .size \\name, . - \\name
        .endm
        function helper
            lea 3(%rdi,%rsi,2), %rax
            ret
        done helper
        function rip_compare
            cmpl $5, word(%rip)
            jne 1f
            lea (%rdi,%rsi), %rax
            ret
        1:  xor %eax, %eax
            ret
        done rip_compare
        function rip_lea
            and $7, %edi
            lea table(%rip), %rax
            mov (%rax,%rdi,8), %rax
            add %rsi, %rax
            ret
        done rip_lea
        function rip_store
            mov %rdi, %rax
            add word(%rip), %eax
            ret
        done rip_store
        function short_branch
            test %rdi, %rdi
            jle 1f
            lea (%rdi,%rsi), %rax
            ret
        1:  mov $7, %eax
            ret
        done short_branch
        function long_branch
            cmp %rsi, %rdi
            {disp32} jg 1f
            mov %rdi, %rax
            ret
        1:  mov %rsi, %rax
            ret
        done long_branch
        function short_jump
            mov %rdi, %rax
            jmp 1f
            ud2
        1:  sub %rsi, %rax
            ret
        done short_jump
        function calls_first
            call helper
            add $1, %rax
            ret
        done calls_first
        function calls_later
            push %rbx
            mov %rdi, %rbx
            call helper
            add %rbx, %rax
            pop %rbx
            ret
        done calls_later
        function calls_in_window
            push %rbx
            call helper
            pop %rbx
            add %rsi, %rax
            ret
        done calls_in_window
        function calls_indirectly
            call *pointer(%rip)
            lea 1(%rax,%rdi), %rax
            ret
        done calls_indirectly
        function jumps_indirectly
            jmp *target(%rip)
        done jumps_indirectly
        function counter_branch
            mov %rdi, %rcx
            jrcxz 1f
            lea 1(%rcx,%rsi), %rax
            ret
        1:  mov $99, %eax
            ret
        done counter_branch
        function loop_branch
            mov %rdi, %rcx
            loop 1f
            mov $98, %eax
            ret
        1:  lea (%rcx,%rsi), %rax
            ret
        done loop_branch
        function landing_pad
            endbr64
            push %rbp
            mov %rsp, %rbp
            lea (%rdi,%rdi,2), %rax
            pop %rbp
            ret
        done landing_pad
        function pushes
            push %r12
            push %rbp
            push %rbx
            lea 8(%rdi), %rbx
            mov %rbx, %rax
            pop %rbx
            pop %rbp
            pop %r12
            ret
        done pushes
        function wide_immediate
            movabs $0x1122334455667788, %rax
            xor %rdi, %rax
            ret
        done wide_immediate
        .section .note.GNU-stack, "", @progbits

        """

    private static let names = [
        "rip_compare", "rip_lea", "rip_store", "short_branch", "long_branch", "short_jump", "calls_first",
        "calls_later",
        "calls_in_window", "calls_indirectly", "jumps_indirectly", "counter_branch", "loop_branch", "landing_pad",
        "pushes",
        "wide_immediate",
    ]
    /// May be refused instead: a call that is not the window's last instruction.
    private static let mayBeRefused: Set<String> = ["calls_in_window"]

    private typealias Function = @convention(c) (Int, Int) -> Int

    @Test func copiesComputeTheSame() throws {
        let directory = NSTemporaryDirectory() + "/ubpf-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let library = directory + "/libawkward.so"
        try Self.source.write(toFile: directory + "/awkward.s", atomically: true, encoding: .utf8)
        let compiler = Process()
        compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        compiler.arguments = ["gcc", "-shared", "-nostdlib", "-Wl,-z,notext", directory + "/awkward.s", "-o", library]
        try compiler.run()
        compiler.waitUntilExit()
        #expect(compiler.terminationStatus == 0)
        let handle = try #require(dlopen(library, RTLD_NOW))
        defer { dlclose(handle) }

        let resolver = try ProbeResolver(pid: getpid())
        var planner = try SitePlanner()
        var tactics: Set<Tactic> = []
        for name in Self.names {
            let symbol = try #require(dlsym(handle, name))
            let original = unsafeBitCast(symbol, to: Function.self)
            let found = try #require(try resolver.resolve(module: "libawkward.so", symbol: name).first)
            #expect(found.address == UInt64(UInt(bitPattern: symbol)))
            let plan: PatchPlan
            do { plan = try planner.plan(found.function) } catch {
                #expect(Self.mayBeRefused.contains(name), "\(name): \(error)")
                continue
            }
            tactics.insert(plan.tactic)
            try resolver.verify(plan, in: found)
            let place = try #require(Self.memory(near: plan.address))
            defer { munmap(place, 4096) }
            let base = UInt64(UInt(bitPattern: place))
            var code = plan.code(at: base)
            let back = UInt32(truncatingIfNeeded: plan.resume &- (base &+ UInt64(code.count) &+ 5))
            code += [0xe9] + (0..<4).map { UInt8(truncatingIfNeeded: back >> UInt32(8 * $0)) }
            place.copyMemory(from: code, byteCount: code.count)
            #expect(mprotect(place, 4096, PROT_READ | PROT_EXEC) == 0)
            let copy = unsafeBitCast(place, to: Function.self)
            for a in [-100, -1, 0, 1, 2, 3, 7, 1 << 33, Int.min, Int.max] {
                for b in [-5, 0, 1, 64, Int.max / 4] where abs(a >> 1) < Int.max / 4 || b == 0 || b == 1 {
                    #expect(copy(a, b) == original(a, b), "\(name)(\(a), \(b)), \(plan.tactic)")
                }
            }
        }
        #expect(tactics.contains(.jump) && tactics.contains(.window))
    }

    /// A writable page within reach of 32-bit displacements.
    private static func memory(near address: UInt64) -> UnsafeMutableRawPointer? {
        var place = (address & ~4095) &+ 0x100_0000
        while place < address &+ 0x7000_0000 {
            let got = mmap(
                UnsafeMutableRawPointer(bitPattern: UInt(place)),
                4096,
                PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
                -1,
                0
            )
            if got != MAP_FAILED { return got }
            place += 0x10_0000
        }
        return nil
    }
}
