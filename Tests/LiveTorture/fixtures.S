// Functions `long f(long a, long b)` = (a + 2 * b) ^ a with awkward first instructions, each at an awkward place.
.macro malloc_like name, place
    .balign 4096
    .skip \place, 0xcc
    .globl \name
    .type \name, @function
\name:
    push %r12  // 2 bytes
    push %rbp  // 1
    push %rbx  // 1
    mov %rdi, %rbx  // 3
    lea (%rdi,%rsi,2), %rbp
    mov $0x55, %r12d
    mov %rbp, %rax
    xor %rbx, %rax
    pop %rbx
    pop %rbp
    cmp $0x55, %r12d
    jne broken
    pop %r12
    ret
    .size \name, . - \name
.endm
    .text
broken:
    ud2
malloc_like in_word, 64
malloc_like over_word, 69
malloc_like over_line, 126
malloc_like over_page, 4094

    .balign 4096
    .skip 61, 0xcc
    .globl one_instruction
    .type one_instruction, @function
one_instruction:  // T0: 8 bytes, over a cache line; a jump's displacement would be half a gigabyte
    lea 0x20202020(%rdi,%rsi,2), %rax
    sub $0x20202020, %rax
    xor %rdi, %rax
    ret
    .size one_instruction, . - one_instruction

    // T3: a breakpoint
    .balign 64
    .globl breakpoint
    .type breakpoint, @function
breakpoint:
    lea (%rdi,%rsi,2), %rax
1:  xor %rdi, %rax
    ret
    .size breakpoint, . - breakpoint

    // Traps of the program's own; its handlers step over the two bytes.
    .globl own_int3, own_ud2, own_fault
    .type own_int3, @function
own_int3:
    int3
    nop
    ret
    .type own_ud2, @function
own_ud2:
    ud2
    ret
    .type own_fault, @function
own_fault:
    xor %eax, %eax
    mov (%rax), %eax  // 2 bytes
    ret
    .section .note.GNU-stack, "", @progbits
