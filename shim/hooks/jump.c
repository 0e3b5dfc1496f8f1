/* longjmp and its relatives: calls and waits that are jumped out of are over at once. (An exception
 * or a cancellation is noticed at the thread's next call, or where the stack tells.) */
#include "hook.h"

#include <setjmp.h>
#include <string.h>

#include "../suspend.h"

/* Where the jump goes to. glibc keeps the stack pointer in the buffer's seventh word, rotated and
 * mixed with a word of the thread's control block (sysdeps/x86_64/jmpbuf-offsets.h, __longjmp.S). */
static uintptr_t target_stack(const struct __jmp_buf_tag *to) {
    enum { JB_RSP = 6, ROTATION = 17 };
    uintptr_t guard;
    __asm__("mov %%fs:0x30, %0" : "=r"(guard));
    uintptr_t mixed = (uintptr_t)to->__jmpbuf[JB_RSP];
    return (mixed >> ROTATION | mixed << (64 - ROTATION)) ^ guard;
}

/* The mask that sigsetjmp() saved is the kernel's, without the suspend signal. One that the program
 * names by itself is not that signal for long (hooks/signal.c), so it was in there with all others
 * or not at all. */
static void take_mask_back(struct fs_thread *self, const struct __jmp_buf_tag *to) {
    sigset_t saved;
    memcpy(&saved, &to->__saved_mask, sizeof saved);
    fs_set_believes_masked(self, fs_is_nearly_full(&saved));
}

/* Frames below the target are gone, if the target is on the stack that we stand on: above us, and
 * not so far that it must be another one. */
static void leave_frames(const struct __jmp_buf_tag *to) {
    enum { LARGEST_STACK = 1 << 30 };
    struct fs_thread *self = fs_self;
    uintptr_t target = target_stack(to);
    if (self != NULL && target > fs_frame() && target - fs_frame() < LARGEST_STACK) {
        fs_prune_calls(self, target - 1);
        fs_wait_prune(self, target - 1);
    }
    if (self != NULL && to->__mask_was_saved && fs_suspend_signal() != 0) {
        take_mask_back(self, to);
    }
}

#define JUMP(name)                                                                                 \
    FS_EXPORT __attribute__((noreturn)) void name(struct __jmp_buf_tag to[1], int value) {         \
        fs_current(); /* fills fs_real */                                                          \
        leave_frames(to);                                                                          \
        fs_real.name(to, value);                                                                   \
        __builtin_unreachable();                                                                   \
    }
JUMP(longjmp)
JUMP(_longjmp)
JUMP(siglongjmp)
JUMP(__longjmp_chk)
