// The return stubs: 48 pages of 255 stubs of 16 bytes, and a slot of 16 bytes for each at the same place of a parallel
// page: {real return address, where the probed function goes on}.
//
// A probed function is entered by its stub's own `call`, which pushes the stub's address exactly where the caller's
// return address was: stack arguments do not move, the return predictor and a shadow stack stay balanced, and because
// the stub has unwind information, exceptions, longjmp, debuggers and backtrace() pass through as through any frame.
//
// A stub's second instruction pushes the slot's number: it must not clobber any register (with -fipa-ra a caller may
// keep values in registers that a local callee is known to leave alone) nor rely on where the function's `ret` left rsp.

#define PAGES 48
#define STUBS 255
#define TAG 0x5b5c0000
#define MAGIC 0x8fd2b8c1a3e5907d

    .text
    .balign 4096
    .globl cpatch_stub_pool
    .hidden cpatch_stub_pool
    .type cpatch_stub_pool, @function
cpatch_stub_pool:
    .cfi_startproc
    // The caller's rsp is rsp itself (the callee popped the stub's address). The CFA must not equal the callee's CFA:
    // libgcc's phase 2 compares them to find the handler's frame, so CFA = rsp + 8 and rsp = CFA - 8.
    .cfi_def_cfa rsp, 8
    .cfi_escape 0x14, 0x07, 0x01                    // DW_CFA_val_offset r7, 1 * data_align(-8)
    // The return address. One rule must serve all of a stub's three instructions, whichever a signal interrupts, and
    // must read only memory that exists; libgcc even reads the code at a return address that has no unwind information:
    //   before the call, [rsp-8] is the stub's address already (cpatch_slot_take), or a real return address, whose page
    //   does not start with MAGIC;
    //   after it, [rsp-8] is the stub's address: the page header leads to the slot;
    //   after the push, [rsp] is TAG | number: 0, which ends the walk.
    .cfi_escape 0x16, 16, 62                        // DW_CFA_val_expression rip, 62 bytes
    .cfi_escape 0x77, 0x00, 0x06                    //  0 breg7 0; deref
    .cfi_escape 0x08, 16, 0x25                      //  3 const1u 16; shr
    .cfi_escape 0x0a, 0x5c, 0x5b, 0x29              //  6 const2u TAG >> 16; eq
    .cfi_escape 0x28, 0x2f, 0x00                    // 10 bra +47 -> 60
    .cfi_escape 0x77, 0x78, 0x06                    // 13 breg7 -8; deref                 A
    .cfi_escape 0x12, 0x0a, 0xff, 0x0f, 0x20, 0x1a  // 16 dup; const2u 0xfff; not; and    A P
    .cfi_escape 0x12, 0x23, 0x08, 0x06              // 22 dup; plus_uconst 8; deref
    .cfi_escape 0x0e, 0x7d, 0x90, 0xe5, 0xa3, 0xc1, 0xb8, 0xd2, 0x8f, 0x29  // 26 const8u MAGIC; eq
    .cfi_escape 0x28, 0x07, 0x00                    // 36 bra +7 -> 46
    .cfi_escape 0x13, 0x96, 0x96, 0x96              // 39 drop; nop; nop; nop             A
    .cfi_escape 0x2f, 0x10, 0x00                    // 43 skip +16 -> 62
    .cfi_escape 0x12, 0x06, 0x22, 0x14              // 46 dup; deref; plus; over
    .cfi_escape 0x0a, 0xf0, 0x0f, 0x1a, 0x22        // 50 const2u 0xff0; and; plus
    .cfi_escape 0x06                                // 55 deref
    .cfi_escape 0x2f, 0x03, 0x00                    // 56 skip +3 -> 62
    .cfi_escape 0x96                                // 59 nop
    .cfi_escape 0x30, 0x96                          // 60 lit0; nop
    .set number, 0
    .rept PAGES
    .quad cpatch_slots + number * 16 - .
    .quad MAGIC
    .set number, number + 1
    .rept STUBS
    .byte 0xff, 0x15                                // call *slot.entry(%rip)
    .long cpatch_slots + number * 16 + 8 - . - 4
    .byte 0x68                                      // push $TAG | number
    .long TAG + number
    .byte 0xe9                                      // jmp cpatch_leave_function
    .long cpatch_leave_function - . - 4
    .set number, number + 1
    .endr
    .endr
    .cfi_endproc
    .size cpatch_stub_pool, . - cpatch_stub_pool

    .bss
    .balign 4096
    .globl cpatch_slots
    .hidden cpatch_slots
    .type cpatch_slots, @object
cpatch_slots:
    .space PAGES * 4096
    .size cpatch_slots, . - cpatch_slots

    .section .note.GNU-stack, "", @progbits
