// The end of an injected conversation. A thread cannot unmap the code that it runs, so the last step is done by a thread without stack
// in text that stays: it waits until the kernel has cleared the worker's thread id, unmaps the block, and ends.
//   r13: address of the worker's thread id (CLONE_CHILD_CLEARTID: cleared and woken when its memory is no longer used)
//   r12, r14: address and size of the block
    .text
    .globl ubpf_reap
    .type ubpf_reap, @function
ubpf_reap:
    .cfi_startproc
    .cfi_undefined rip
    endbr64
1:  movl (%r13), %edx
    testl %edx, %edx
    jz 2f
    movl $202, %eax             // futex(&id, FUTEX_WAIT, id, NULL): shared, as the kernel's wake is
    movq %r13, %rdi
    xorl %esi, %esi
    xorl %r10d, %r10d
    syscall
    jmp 1b
2:  movl $11, %eax              // munmap
    movq %r12, %rdi
    movq %r14, %rsi
    syscall
3:  movl $60, %eax              // exit: this thread only
    xorl %edi, %edi
    syscall
    jmp 3b
    .cfi_endproc
    .size ubpf_reap, .-ubpf_reap
    .section .note.GNU-stack,"",@progbits
