/* sys.h - the operating system behind a small set of calls.
 *
 * All of them are async-signal-safe, keep errno, and may be used while the world is stopped and in
 * the child before its atfork handlers have run. Times are nanoseconds of CLOCK_MONOTONIC. */
#ifndef FS_SYS_H
#define FS_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch.h"

#define FS_MSEC INT64_C(1000000)
#define FS_USEC INT64_C(1000)
#define FS_FOREVER INT64_MAX

/* The kernel's signal set: bit n - 1 stands for signal n. */
typedef uint64_t fs_sigset;

int fs_gettid(void);
/* In ns; 0 where the kernel refuses. */
int64_t fs_clock(int clock);
int64_t fs_now(void);
void fs_sleep(int64_t ns);

/* Processors that the caller may run on; 1 where the kernel does not say. */
unsigned fs_cpu_count(void);

/* Waits while *word == expected, until `deadline` (FS_FOREVER: none) or a wake-up whose mask shares
 * a bit with `bits`. Returns early for any reason: callers look at the word again. */
void fs_futex_wait(uint32_t *word, uint32_t expected, int64_t deadline, uint32_t bits);
void fs_futex_wake(uint32_t *word, uint32_t bits);
void fs_futex_wake_some(uint32_t *word, int count);
#define FS_ALL_BITS UINT32_MAX
/* Wakes one of those who wait there by glibc's own calls. */
void fs_futex_wake_one(int *word);

/* Signals that may run a handler: the program's, the suspend signal, and glibc's SIGCANCEL. Bits
 * are set by the hooks of sigaction and its relatives, and never cleared. */
extern FS_HIDDEN fs_sigset fs_handled_signals;
void fs_signal_handled(int signo);

/* Blocks the signals that have a handler, but those that the processor raises, and SIGSETXID (33),
 * which glibc's set*id() sends to every thread and waits for. No other: a blocked signal is not
 * ignored even where its action is to ignore it, and the kernel would wake some other thread for
 * it, out of an epoll_wait or semop with EINTR (kernel/signal.c, sig_ignored). Returns the mask to
 * restore. */
fs_sigset fs_signals_block(void);
void fs_signals_restore(fs_sigset saved);

/* True while the caller runs in a signal handler on a stack of its own (sigaltstack). */
bool fs_on_signal_stack(void);

/* Returns false where the kernel refused (RLIMIT_SIGPENDING used up, no such thread, seccomp). */
bool fs_signal_thread(int tid, int signo);

/* Anonymous zeroed memory, or NULL. */
void *fs_map(size_t bytes);
void fs_unmap(void *memory, size_t bytes);
/* Maps `bytes`, moves the contents of `old` there (`old_bytes`, 0 if there is none yet) and unmaps
 * that. Returns NULL, with `old` as it was, where there is no memory. */
void *fs_map_larger(void *old, size_t old_bytes, size_t bytes);

/* Copies memory that may have been unmapped or freed. Returns false instead of crashing, as long as
 * fs_peek_tells(). */
bool fs_peek(void *to, const void *from, size_t bytes);
/* False where filters refuse all calls that tell what can be read. */
bool fs_peek_tells(void);
/* In a child, from here to the same with false: the caller is the only thread, so that a page that could
 * be read once need not be asked about again. */
void fs_peek_alone(bool alone);

/* Registers for and runs an expedited membarrier: when it returns, every running thread of the
 * process has passed a full fence. Returns false where the kernel or a seccomp filter refuses. */
bool fs_membarrier_register(void);
bool fs_membarrier(void);

/* Reads a whole small file (at most size - 1 bytes, NUL-terminated). Returns its length, or -1. */
long fs_read_file(const char *path, char *buffer, size_t size);

/* Reads hexadecimal digits, without "0x". Returns where they end. */
const char *fs_parse_hex(const char *at, uintptr_t *value);

/* True if the page that holds `address` is mapped MAP_SHARED: another process may own what is
 * there. Reads /proc/self/maps; `if_unknown` where that cannot be read (no /proc, no descriptor):
 * true for an object that does not say itself whether it is shared. */
bool fs_is_shared_memory(const void *address, bool if_unknown);

/* A lock for forksafe's own short sections. Taken with signals blocked, never across a park or a
 * blocking call, so that whoever waits for it waits microseconds. 0 free, 1 held, 2 waited for. */
struct fs_lock {
    uint32_t word;
};
void fs_lock(struct fs_lock *lock);
/* False: not before that time. */
bool fs_lock_until(struct fs_lock *lock, int64_t until);
bool fs_trylock(struct fs_lock *lock);
/* Waits until the lock has been let go of once; does not take it. */
void fs_await_unlock(struct fs_lock *lock);
void fs_unlock(struct fs_lock *lock);

#endif
