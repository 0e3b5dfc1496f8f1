/* The fork family. fork, daemon and forkpty run glibc's atfork handlers, and with them ours; the
 * others run none, and are framed here. vfork and posix_spawn are left alone: their child borrows
 * the parent's memory and puts nothing right. */
#include "../fork.h"

#include <linux/sched.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "../init.h"
#include "hook.h"

/* A record for the caller, and our handlers first in the list, if this is the first we see of it. */
#define WITH_HANDLERS(call)                                                                        \
    fs_current();                                                                                  \
    return call

FS_EXPORT pid_t fork(void) { WITH_HANDLERS(fs_real.fork()); }

FS_ALSO(__fork, fork);

FS_EXPORT int daemon(int keep_directory, int keep_descriptors) {
    WITH_HANDLERS(fs_real.daemon(keep_directory, keep_descriptors));
}

FS_EXPORT int forkpty(int *fd, char *name, const struct termios *terminal,
                      const struct winsize *window) {
    WITH_HANDLERS(fs_real.forkpty(fd, name, terminal, window));
}

FS_EXPORT pid_t _Fork(void) {
    struct fs_thread *self = fs_current();
    if (self == NULL) {
        return fs_real._Fork();
    }
    fs_fork_raw_begin(self);
    pid_t pid = fs_real._Fork();
    fs_fork_raw_end(self, pid == 0);
    return pid;
}

/* --- clone and syscall ----------------------------------------------------------------------- */

/* A new process with a copy of our memory. With CLONE_VFORK the parent is suspended until the child
 * execs, and with it whoever we would have stopped: that one is left alone too. */
static bool copies_memory(unsigned long flags) { return (flags & (CLONE_VM | CLONE_VFORK)) == 0; }

struct clone_start {
    int (*function)(void *);
    void *argument;
    struct fs_thread *self;
};

static int run_clone(void *argument) {
    const struct clone_start *start = argument;
    fs_fork_raw_end(start->self, true);
    return start->function(start->argument);
}

/* On x86-64 the first word of a thread's control block, and the third, is its own address. Chromium
 * gives the child that it makes to enter an empty root a few zeroes instead: any function of libc
 * that asks for its thread would fail there, and so would our hooks. */
static bool is_no_thread(const void *tls) {
    void *block[3];
    return !fs_peek(block, tls, sizeof block) || block[0] != tls || block[2] != tls;
}

FS_EXPORT int clone(int (*function)(void *), void *stack, int flags, void *argument, ...) {
    va_list list;
    va_start(list, argument);
    pid_t *parent_tid = va_arg(list, pid_t *);
    void *tls = va_arg(list, void *);
    pid_t *child_tid = va_arg(list, pid_t *);
    va_end(list);
    struct fs_thread *self = fs_current();
    enum { BORROWS_ALL = CLONE_VM | CLONE_VFORK | CLONE_SETTLS };
    if ((flags & BORROWS_ALL) == BORROWS_ALL && is_no_thread(tls)) {
        /* The caller sleeps meanwhile: the child can be the same thread, as vfork's is. */
        int saved_errno = errno;
        int pid = fs_real.clone(function, stack, flags & ~CLONE_SETTLS, argument, parent_tid, NULL,
                                child_tid);
        errno = pid > 0 ? saved_errno : errno;
        return pid;
    }
    if (self == NULL || !copies_memory((unsigned)flags)) {
        return fs_real.clone(function, stack, flags, argument, parent_tid, tls, child_tid);
    }
    struct clone_start start = {function, argument, self};
    fs_fork_raw_begin(self);
    int pid = fs_real.clone(run_clone, stack, flags, &start, parent_tid, tls, child_tid);
    fs_fork_raw_end(self, false);
    return pid;
}

/* A fork whose child returns here, on a copy of our stack. */
static bool is_fork(long number, const long arguments[6]) {
    switch (number) {
    case SYS_fork:
        return true;
    case SYS_clone:
        return copies_memory((unsigned long)arguments[0]) && arguments[1] == 0;
    case SYS_clone3: {
        const struct clone_args *clone = (const struct clone_args *)arguments[0];
        return clone != NULL && copies_memory(clone->flags) && clone->stack == 0;
    }
    default:
        return false;
    }
}

/* A system call that does not come back like any other. */
static bool is_peculiar(long number) {
    return number == SYS_clone || number == SYS_clone3 || number == SYS_vfork;
}

static long call_real(long number, const long a[6]) {
    return fs_real.syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Most calls made this way are futex waits of runtimes with locks of their own. */
FS_EXPORT long syscall(long number, ...) {
    long arguments[6];
    va_list list;
    va_start(list, number);
    for (unsigned i = 0; i < 6; i++) {
        arguments[i] = va_arg(list, long);
    }
    va_end(list);
    struct fs_thread *self = fs_current();
    if (self == NULL) {
        return call_real(number, arguments);
    }
    if (is_fork(number, arguments)) {
        fs_fork_raw_begin(self);
        long pid = call_real(number, arguments);
        fs_fork_raw_end(self, pid == 0);
        return pid;
    }
    if (is_peculiar(number)) {
        return call_real(number, arguments);
    }
    uint32_t before = fs_detach(self);
    long result = call_real(number, arguments);
    fs_attach(self, before);
    return result;
}

/* --- atfork handlers ---------------------------------------------------------------------------
 */

/* Ours are registered first, whoever comes first. Nobody may be in here at a fork: glibc's lock of
 * its list of handlers is not put right in the child. */
FS_EXPORT int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                                void *dso) {
    FS_CRITICAL_INFO fs_info = {"pthread_atfork", FS_LOCK_atfork_lock, false};
    fs_init();
    FS_INSIDE(fs_info);
    return fs_real.__register_atfork(prepare, parent, child, dso);
}

/* As the one in old libpthreads, which does not know its caller (nptl/old_pthread_atfork.c). */
FS_EXPORT int pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    return __register_atfork(prepare, parent, child, NULL);
}
