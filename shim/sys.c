#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "arch.h"

#define SIGNAL_BIT(n) (UINT64_C(1) << ((n)-1))
enum { SIGCANCEL = 32, SIGSETXID = 33, KERNEL_SIGSET_BYTES = 8 };

fs_sigset fs_handled_signals = SIGNAL_BIT(SIGCANCEL);

/* Where a filter forbids the call: the kernel writes the caller's tid into a free PI futex that it
 * takes, and keeps nothing of it (kernel/futex/pi.c, futex_lock_pi_atomic). */
static int tid_by_futex(void) {
    uint32_t word = 0;
    fs_syscall6(SYS_futex, (long)&word, FUTEX_TRYLOCK_PI | FUTEX_PRIVATE_FLAG, 0, 0, 0, 0);
    return (int)(word & FUTEX_TID_MASK);
}

int fs_gettid(void) {
    long tid = fs_syscall0(SYS_gettid);
    return tid > 0 ? (int)tid : tid_by_futex();
}

/* Where a filter forbids the call (a program that reads the clock through the vdso never makes it) time
 * still has to pass, or no deadline would ever come: a little with each look. */
static int64_t count_looks(void) {
    static int64_t looks;
    return __atomic_add_fetch(&looks, 50 * FS_USEC, __ATOMIC_RELAXED);
}

int64_t fs_clock(int clock) {
    struct timespec now = {0};
    /* Not through libc: a preload that fakes the time would fake our deadlines too. */
    fs_syscall2(SYS_clock_gettime, clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int64_t fs_now(void) {
    int64_t now = fs_clock(CLOCK_MONOTONIC);
    return fs_likely(now != 0) ? now : count_looks();
}

unsigned fs_cpu_count(void) {
    unsigned long mask[128] = {0}; /* 8192 processors, the most that x86-64 kernels are made for */
    long bytes = fs_syscall3(SYS_sched_getaffinity, 0, sizeof mask, mask);
    unsigned count = 0;
    for (long i = 0; i < bytes / (long)sizeof mask[0]; i++) {
        count += (unsigned)__builtin_popcountl(mask[i]);
    }
    return count != 0 ? count : 1;
}

static struct timespec to_timespec(int64_t ns) {
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

void fs_sleep(int64_t ns) {
    struct timespec pause = to_timespec(ns);
    fs_syscall4(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &pause, NULL);
}

void fs_futex_wait(uint32_t *word, uint32_t expected, int64_t deadline, uint32_t bits) {
    struct timespec until = to_timespec(deadline);
    fs_syscall6(SYS_futex, (long)word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, (long)expected,
                (long)(deadline == FS_FOREVER ? NULL : &until), 0, (long)bits);
}

void fs_futex_wake(uint32_t *word, uint32_t bits) {
    fs_syscall6(SYS_futex, (long)word, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, INT32_MAX, 0, 0,
                (long)bits);
}

void fs_futex_wake_some(uint32_t *word, int count) {
    fs_syscall3(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count);
}

void fs_futex_wake_one(int *word) { fs_futex_wake_some((uint32_t *)word, 1); }

void fs_signal_handled(int signo) {
    __atomic_or_fetch(&fs_handled_signals, SIGNAL_BIT(signo), __ATOMIC_RELAXED);
}

fs_sigset fs_signals_block(void) {
    const fs_sigset cannot_wait = SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGFPE) |
                                  SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGTRAP) | SIGNAL_BIT(SIGSYS) |
                                  SIGNAL_BIT(SIGABRT) | SIGNAL_BIT(SIGSETXID);
    fs_sigset set = fs_load(&fs_handled_signals) & ~cannot_wait;
    fs_sigset saved = 0;
    fs_syscall4(SYS_rt_sigprocmask, SIG_BLOCK, &set, &saved, KERNEL_SIGSET_BYTES);
    return saved;
}

void fs_signals_restore(fs_sigset saved) {
    fs_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, &saved, NULL, KERNEL_SIGSET_BYTES);
}

bool fs_on_signal_stack(void) {
    stack_t now = {.ss_flags = 0};
    fs_syscall2(SYS_sigaltstack, NULL, &now);
    return (now.ss_flags & SS_ONSTACK) != 0;
}

bool fs_signal_thread(int tid, int signo) {
    return fs_syscall3(SYS_tgkill, fs_syscall0(SYS_getpid), tid, signo) == 0;
}

void *fs_map(size_t bytes) {
    long at = fs_syscall6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at < 0 && at > -4096 ? NULL : (void *)at;
}

void fs_unmap(void *memory, size_t bytes) { fs_syscall2(SYS_munmap, memory, bytes); }

void *fs_map_larger(void *old, size_t old_bytes, size_t bytes) {
    void *grown = fs_map(bytes);
    if (grown != NULL && old_bytes != 0) {
        memcpy(grown, old, old_bytes);
        fs_unmap(old, old_bytes);
    }
    return grown;
}

/* rt_sigprocmask reads its set before it finds that `how` makes no sense: EFAULT means that the 8
 * bytes cannot be read, EINVAL that they can (kernel/signal.c, sys_rt_sigprocmask). */
static bool readable(const void *address) {
    enum { NO_SUCH_HOW = -1 };
    return fs_syscall4(SYS_rt_sigprocmask, NO_SUCH_HOW, address, NULL, KERNEL_SIGSET_BYTES) !=
           -EFAULT;
}

/* By tid: the process's own pid stands for its first thread, which may have ended. */
static long copy_of_own(void *to, const void *from, size_t bytes) {
    struct iovec local = {.iov_base = to, .iov_len = bytes};
    struct iovec remote = {.iov_base = (void *)(uintptr_t)from, .iov_len = bytes};
    return fs_syscall6(SYS_process_vm_readv, fs_gettid(), (long)&local, 1, (long)&remote, 1, 0);
}

static bool is_refused(long result) { return result == -ENOSYS || result == -EPERM; }

bool fs_peek_tells(void) {
    const void *const nowhere = (const void *)-4096L; /* the kernel's */
    char byte;
    return !is_refused(copy_of_own(&byte, nowhere, 1)) || !readable(nowhere);
}

static bool peek(void *to, const void *from, size_t bytes) {
    long got = copy_of_own(to, from, bytes);
    if (got == (long)bytes) {
        return true;
    }
    if (!is_refused(got)) {
        return false;
    }
    const char *first = from;
    if (!readable(first) || (bytes > 8 && !readable(first + bytes - 8))) {
        return false;
    }
    memcpy(to, from, bytes);
    return true;
}

enum { PAGE = 4096, PAGES_KNOWN = 256 };
/* While nobody else runs: pages that could be read, each its address and 1. */
FS_CHILD_STATE static uintptr_t *readable_so_far;

void fs_peek_alone(bool alone) {
    if (readable_so_far != NULL) {
        fs_unmap(readable_so_far, PAGES_KNOWN * sizeof *readable_so_far);
    }
    readable_so_far = alone ? fs_map(PAGES_KNOWN * sizeof *readable_so_far) : NULL;
}

static uintptr_t *known_page(uintptr_t page) { return &readable_so_far[page / PAGE % PAGES_KNOWN]; }

bool fs_peek(void *to, const void *from, size_t bytes) {
    uintptr_t first = (uintptr_t)from & ~(uintptr_t)(PAGE - 1);
    uintptr_t last = ((uintptr_t)from + bytes - 1) & ~(uintptr_t)(PAGE - 1);
    if (readable_so_far == NULL) {
        return peek(to, from, bytes);
    }
    if (*known_page(first) == (first | 1) && *known_page(last) == (last | 1)) {
        memcpy(to, from, bytes);
        return true;
    }
    if (!peek(to, from, bytes)) {
        return false;
    }
    *known_page(first) = first | 1;
    *known_page(last) = last | 1;
    return true;
}

static long membarrier(int command) { return fs_syscall3(SYS_membarrier, command, 0, 0); }

bool fs_membarrier_register(void) {
    return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
}

bool fs_membarrier(void) {
    if (fs_likely(membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0)) {
        return true;
    }
    return fs_membarrier_register() && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
}

static long read_fully(int fd, char *buffer, size_t size) {
    size_t length = 0;
    while (length < size) {
        long got = fs_syscall3(SYS_read, fd, buffer + length, size - length);
        if (got <= 0) {
            return got == 0 ? (long)length : -1;
        }
        length += (size_t)got;
    }
    return (long)length;
}

long fs_read_file(const char *path, char *buffer, size_t size) {
    long fd = fs_syscall4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    long length = read_fully((int)fd, buffer, size - 1);
    fs_syscall1(SYS_close, fd);
    buffer[length < 0 ? 0 : length] = '\0';
    return length;
}

const char *fs_parse_hex(const char *at, uintptr_t *value) {
    uintptr_t sum = 0;
    for (;; at++) {
        if (*at >= '0' && *at <= '9') {
            sum = sum * 16 + (uintptr_t)(*at - '0');
        } else if (*at >= 'a' && *at <= 'f') {
            sum = sum * 16 + (uintptr_t)(*at - 'a' + 10);
        } else {
            *value = sum;
            return at;
        }
    }
}

/* One line of /proc/self/maps: "start-end rwxp ...". Returns -1 if `address` is not in it, else
 * whether the mapping is shared. */
static int shared_in_line(const char *line, uintptr_t address) {
    uintptr_t start;
    uintptr_t end;
    line = fs_parse_hex(line, &start);
    line = fs_parse_hex(line + (*line == '-'), &end);
    if (address < start || address >= end) {
        return -1;
    }
    return strlen(line) > 4 && line[4] == 's';
}

bool fs_is_shared_memory(const void *address, bool if_unknown) {
    long fd = fs_syscall4(SYS_openat, AT_FDCWD, "/proc/thread-self/maps", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) {
        return if_unknown;
    }
    char buffer[4096];
    size_t kept = 0;
    int shared = -1;
    while (shared < 0) {
        long got = fs_syscall3(SYS_read, fd, buffer + kept, sizeof buffer - 1 - kept);
        if (got <= 0) {
            break;
        }
        size_t length = kept + (size_t)got;
        buffer[length] = '\0';
        char *line = buffer;
        for (char *end; shared < 0 && (end = strchr(line, '\n')) != NULL; line = end + 1) {
            *end = '\0';
            shared = shared_in_line(line, (uintptr_t)address);
        }
        kept = length - (size_t)(line - buffer);
        kept = kept < sizeof buffer - 1 ? kept : 0; /* a path of over 4 KiB: its rest is no match */
        memmove(buffer, line, kept);
    }
    fs_syscall1(SYS_close, fd);
    return shared < 0 ? if_unknown : shared != 0;
}

bool fs_trylock(struct fs_lock *lock) {
    uint32_t free = 0;
    return __atomic_compare_exchange_n(&lock->word, &free, 1, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

bool fs_lock_until(struct fs_lock *lock, int64_t until) {
    if (fs_trylock(lock)) {
        return true;
    }
    while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE) != 0) {
        if (until != FS_FOREVER && fs_now() >= until) {
            return false;
        }
        fs_futex_wait(&lock->word, 2, until, FS_ALL_BITS);
    }
    return true;
}

void fs_lock(struct fs_lock *lock) { fs_lock_until(lock, FS_FOREVER); }

void fs_await_unlock(struct fs_lock *lock) {
    uint32_t held = 1;
    __atomic_compare_exchange_n(&lock->word, &held, 2, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    if (held != 0) {
        fs_futex_wait(&lock->word, 2, FS_FOREVER, FS_ALL_BITS);
    }
}

void fs_unlock(struct fs_lock *lock) {
    if (__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2) {
        fs_futex_wake(&lock->word, FS_ALL_BITS);
    }
}
