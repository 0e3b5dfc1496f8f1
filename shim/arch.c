#include "arch.h"

#include <stddef.h>
#include <ucontext.h>

/* The callee-saved registers are still the caller's; what it would see after the return is stored
 * for the others. */
__asm__(".text\n\t.hidden fs_save_registers\n\t.globl fs_save_registers\n\t"
        ".type fs_save_registers, @function\nfs_save_registers:\n\t"
        ".cfi_startproc\n\t"
        "mov (%rsp), %rax\n\t"
        "mov %rax, 16*8(%rdi)\n\t" /* REG_RIP */
        "lea 8(%rsp), %rax\n\t"
        "mov %rax, 15*8(%rdi)\n\t" /* REG_RSP */
        "mov %rbp, 10*8(%rdi)\n\t"
        "mov %rbx, 11*8(%rdi)\n\t"
        "mov %r12, 4*8(%rdi)\n\t"
        "mov %r13, 5*8(%rdi)\n\t"
        "mov %r14, 6*8(%rdi)\n\t"
        "mov %r15, 7*8(%rdi)\n\t"
        "ret\n\t"
        ".cfi_endproc\n\t.size fs_save_registers, . - fs_save_registers");
_Static_assert(REG_R12 == 4 && REG_R13 == 5 && REG_R14 == 6 && REG_R15 == 7 && REG_RBP == 10 &&
                   REG_RBX == 11 && REG_RSP == 15 && REG_RIP == 16,
               "the places of registers in greg_t[]");
