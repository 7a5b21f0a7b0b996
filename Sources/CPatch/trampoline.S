// From a patched instruction to hit.c and back, with every register as it was.
//
// Only general registers are saved here. hit.c uses no others, and before it calls what may it saves all sixteen xmm with legacy
// SSE moves, into the frame. Nothing that runs then is VEX-encoded (the library is built for baseline x86-64, a test disassembles
// it), and legacy SSE instructions leave the upper parts of ymm and zmm as they are (Intel SDM volume 1, 14.13), so arguments in
// __m256 and __m512 survive too. x87, MXCSR and mask registers are not touched at all.
//
// The frame is struct cpatch_frame (cpatch.h): xmm 0, regs 256, token 424, site 432; 440 bytes with what the thunk pushed.

#define REGS 256
#define TOKEN 424
#define SITE 432
#define BODY 432    /* bytes below the pushed site */

#define R15 (REGS + 0)
#define R14 (REGS + 8)
#define R13 (REGS + 16)
#define R12 (REGS + 24)
#define RBP (REGS + 32)
#define RBX (REGS + 40)
#define R11 (REGS + 48)
#define R10 (REGS + 56)
#define R9 (REGS + 64)
#define R8 (REGS + 72)
#define RAX (REGS + 80)
#define RCX (REGS + 88)
#define RDX (REGS + 96)
#define RSI (REGS + 104)
#define RDI (REGS + 112)
#define ORIG_RAX (REGS + 120)
#define RIP (REGS + 128)
#define CS (REGS + 136)
#define EFLAGS (REGS + 144)
#define RSP (REGS + 152)
#define SS (REGS + 160)

.macro save_registers
    mov %r15, R15(%rsp)
    mov %r14, R14(%rsp)
    mov %r13, R13(%rsp)
    mov %r12, R12(%rsp)
    mov %rbp, RBP(%rsp)
    mov %rbx, RBX(%rsp)
    mov %r11, R11(%rsp)
    mov %r10, R10(%rsp)
    mov %r9, R9(%rsp)
    mov %r8, R8(%rsp)
    mov %rax, RAX(%rsp)
    mov %rcx, RCX(%rsp)
    mov %rdx, RDX(%rsp)
    mov %rsi, RSI(%rsp)
    mov %rdi, RDI(%rsp)
    movq $-1, ORIG_RAX(%rsp)
    movq $0x33, CS(%rsp)          // __USER_CS
    movq $0x2b, SS(%rsp)          // __USER_DS
    movq $0, TOKEN(%rsp)
.endm

// Programs may not change registers (a uprobe's context is read-only), and but for rbp, which held the frame's address, the
// callee-saved ones are back by the ABI.
.macro restore_registers
    mov RBP(%rsp), %rbp
    mov R11(%rsp), %r11
    mov R10(%rsp), %r10
    mov R9(%rsp), %r9
    mov R8(%rsp), %r8
    mov RAX(%rsp), %rax
    mov RCX(%rsp), %rcx
    mov RDX(%rsp), %rdx
    mov RSI(%rsp), %rsi
    mov RDI(%rsp), %rdi
.endm

    .text

// A function's first instruction. rsp: site, return address. Flags and the red zone are dead (System V ABI 3.2).
    .balign 64
    .globl cpatch_enter_function
    .hidden cpatch_enter_function
    .type cpatch_enter_function, @function
cpatch_enter_function:
    .cfi_startproc
    .cfi_def_cfa rsp, 16
    lea -BODY(%rsp), %rsp
    .cfi_adjust_cfa_offset BODY
    save_registers
    .cfi_offset rbp, -(BODY + 16) + RBP
    lea BODY + 8(%rsp), %rax
    mov %rax, RSP(%rsp)
    movq $0x202, EFLAGS(%rsp)     // interrupts on and the always-one bit: what user code has when flags mean nothing
    mov SITE(%rsp), %esi
    mov %rsp, %rdi
    mov %rsp, %rbp
    .cfi_def_cfa_register rbp
    and $-16, %rsp
    call cpatch_hit_enter         // DF is clear at a function's entry and at its return (System V ABI 3.2.1)
    // rax: the relocated window, or a stub, which calls the window itself in place of the caller.
    mov %rbp, %rsp
    .cfi_def_cfa_register rsp
    mov %rax, SITE(%rsp)
    lea cpatch_stub_pool(%rip), %rcx
    sub %rcx, %rax
    cmp $(48 * 4096), %rax
    jb 1f
    restore_registers
    .cfi_remember_state
    .cfi_restore rbp
    lea BODY + 8(%rsp), %rsp
    .cfi_def_cfa_offset 8
    jmp *-8(%rsp)                 // below rsp, yet within the red zone that signal handlers skip
1:
    .cfi_restore_state
    restore_registers
    .cfi_restore rbp
    lea BODY + 16(%rsp), %rsp     // drops the return address, which the slot keeps
    .cfi_def_cfa_offset 0
    jmp *-16(%rsp)
    .cfi_endproc
    .size cpatch_enter_function, . - cpatch_enter_function

// Any other instruction. The thunk skipped the red zone and called: rsp: address in the thunk, site, 128 bytes.
    .balign 64
    .globl cpatch_enter_instruction
    .hidden cpatch_enter_instruction
    .type cpatch_enter_instruction, @function
cpatch_enter_instruction:
    .cfi_startproc
    .cfi_signal_frame             // the "caller" was interrupted at regs.rip, it did not call
    .cfi_def_cfa rsp, 144
    .cfi_undefined rip
    pushfq
    .cfi_adjust_cfa_offset 8
    lea -BODY(%rsp), %rsp
    .cfi_adjust_cfa_offset BODY
    save_registers
    .cfi_offset rbp, -(BODY + 152) + RBP
    lea BODY + 152(%rsp), %rax
    mov %rax, RSP(%rsp)
    mov BODY(%rsp), %rax
    mov %rax, EFLAGS(%rsp)
    movq $0, RIP(%rsp)            // ends a walk until cpatch_hit_enter fills it in
    mov BODY + 16(%rsp), %esi
    mov %rsp, %rdi
    mov %rsp, %rbp
    .cfi_def_cfa_register rbp
    .cfi_offset rip, -(BODY + 152) + RIP
    and $-16, %rsp
    cld
    call cpatch_hit_enter
    mov %rbp, %rsp
    .cfi_def_cfa_register rsp
    restore_registers
    .cfi_restore rbp
    .cfi_undefined rip
    lea BODY(%rsp), %rsp
    .cfi_adjust_cfa_offset -BODY
    popfq
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size cpatch_enter_instruction, . - cpatch_enter_instruction

// A probed function returned to its stub. rsp: TAG | slot number, in place of the return address.
    .balign 64
    .globl cpatch_leave_function
    .hidden cpatch_leave_function
    .type cpatch_leave_function, @function
cpatch_leave_function:
    .cfi_startproc
    .cfi_def_cfa rsp, 8
    .cfi_undefined rip            // the slot's number is there for now: nothing that an unwinder may follow
    lea -BODY(%rsp), %rsp
    .cfi_adjust_cfa_offset BODY
    save_registers
    .cfi_offset rbp, -(BODY + 8) + RBP
    movzwl SITE(%rsp), %esi
    mov %esi, %ecx
    shl $4, %ecx
    lea cpatch_slots(%rip), %rax
    mov (%rax, %rcx), %rax        // the real return address, where `ret` and unwinders want it
    mov %rax, SITE(%rsp)
    .cfi_offset rip, -8
    mov %rax, RIP(%rsp)
    lea BODY + 8(%rsp), %rax
    mov %rax, RSP(%rsp)
    movq $0x202, EFLAGS(%rsp)
    mov %rsp, %rdi
    mov %rsp, %rbp
    .cfi_def_cfa_register rbp
    and $-16, %rsp
    call cpatch_hit_leave
    mov %rbp, %rsp
    .cfi_def_cfa_register rsp
    restore_registers
    .cfi_restore rbp
    lea BODY(%rsp), %rsp
    .cfi_adjust_cfa_offset -BODY
    ret
    .cfi_endproc
    .size cpatch_leave_function, . - cpatch_leave_function

    .section .note.GNU-stack, "", @progbits
