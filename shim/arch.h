/* arch.h - the machine: system calls that leave errno alone, fences, x86-64 facts.
 *
 * Everything here may be used in a signal handler, in the child before its atfork handlers have
 * run, and on the hot path. Only x86-64 Linux is known so far; another machine is another file like
 * this. */
#ifndef FS_ARCH_H
#define FS_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#if !defined(__x86_64__) || !defined(__linux__)
#error "forksafe knows x86-64 Linux only"
#endif

#define fs_likely(x) __builtin_expect(!!(x), 1)
#define fs_unlikely(x) __builtin_expect(!!(x), 0)

/* Returns what the kernel returned: a negative errno value on failure. */
static inline long fs_syscall6(long nr, long a, long b, long c, long d, long e, long f) {
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

#define fs_syscall0(nr) fs_syscall6(nr, 0, 0, 0, 0, 0, 0)
#define fs_syscall1(nr, a) fs_syscall6(nr, (long)(a), 0, 0, 0, 0, 0)
#define fs_syscall2(nr, a, b) fs_syscall6(nr, (long)(a), (long)(b), 0, 0, 0, 0)
#define fs_syscall3(nr, a, b, c) fs_syscall6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define fs_syscall4(nr, a, b, c, d)                                                                \
    fs_syscall6(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

/* Keeps the compiler from moving memory accesses across; costs no instruction. The processor's own
 * order is made sure of by the other side (world.c, heavy_barrier). */
#define fs_compiler_barrier() __atomic_signal_fence(__ATOMIC_SEQ_CST)

/* gcc makes one instruction of this, and of __atomic_load_n() two. */
#define fs_load(p) (*(const volatile __typeof__(*(p)) *)(p))
#define fs_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define fs_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define fs_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/* Of a variable that another file reads: it need not be asked for by the global offset table. (What
 * -fvisibility=hidden says of definitions is not known to who sees a declaration.) */
#define FS_HIDDEN __attribute__((visibility("hidden")))

/* Stores only what is new: after a fork the first store to each page copies it. */
#define fs_update(p, v)                                                                            \
    do {                                                                                           \
        if (fs_load(p) != (v)) {                                                                   \
            fs_store(p, v);                                                                        \
        }                                                                                          \
    } while (0)

/* What a child writes as it puts itself right lies together: it copies few pages. */
#define FS_CHILD_STATE __attribute__((section("fs_child_state")))

static inline void fs_cpu_relax(void) { __builtin_ia32_pause(); }

/* Stores what a walk of the caller's stack begins with into a greg_t[NGREG] (ucontext.h): the stack
 * and instruction pointers as they are after the return, and the callee-saved registers. Valid as
 * long as the caller's frame is there. */
void fs_save_registers(long long *registers);

/* The caller's stack address, for telling a live frame from one that was jumped out of. */
static inline __attribute__((always_inline)) uintptr_t fs_frame(void) {
    uintptr_t frame;
    __asm__("mov %%rsp, %0" : "=r"(frame));
    return frame;
}

static inline __attribute__((always_inline)) void fs_store_frame(uintptr_t *frame) {
    __asm__("mov %%rsp, %0" : "=m"(*frame));
}

#endif
