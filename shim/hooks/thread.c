/* Threads: made with a record, and known to have vanished in a child. */
#include "hook.h"

#include "../init.h"
#include "../suspend.h"

/* The program has every key: a thread's end is noted before its destructors, not after. */
static void end(void *self) { fs_thread_end(self); }

static __attribute__((noinline)) void *run_without_key(struct fs_thread *self, bool c11) {
    void *value = NULL;
    pthread_cleanup_push(end, self);
    value =
        c11 ? (void *)(intptr_t)self->start.c11(self->argument) : self->start.posix(self->argument);
    pthread_cleanup_pop(1);
    return value;
}

/* The start routines are jumped to: no frame of ours shows in a debugger's backtrace. (A thread that
 * runs while the key is given away leaves its record behind.) */
static void *run_posix(void *argument) {
    struct fs_thread *self = fs_thread_begin(argument);
    fs_suspend_open(self);
    if (fs_unlikely(!fs_exits_are_noted())) {
        return run_without_key(self, false);
    }
    return self->start.posix(self->argument);
}

static int run_c11(void *argument) {
    struct fs_thread *self = fs_thread_begin(argument);
    fs_suspend_open(self);
    if (fs_unlikely(!fs_exits_are_noted())) {
        return (int)(intptr_t)run_without_key(self, true);
    }
    return self->start.c11(self->argument);
}

/* Makes a record for a thread about to be made by `self`; NULL where there is no memory: the thread
 * then gets one at its first lock. */
static struct fs_thread *new_thread(struct fs_thread *self, void *argument) {
    fs_init_threads();
    fs_suspend_follow(self); /* the new thread inherits its mask */
    struct fs_thread *thread = fs_thread_new();
    if (thread != NULL) {
        thread->argument = argument;
        thread->masks_suspend = self->masks_suspend;
    }
    return thread;
}

/* The real call has returned. The creator's share of the record ends here. */
static void created(struct fs_thread *thread, bool success, pthread_t handle) {
    if (success) {
        thread->handle = handle; /* first: see fs_vanished_joined() */
        fs_vanished_reuse(handle);
    } else {
        fs_thread_release(thread);
    }
    fs_thread_release(thread);
}

/* While a thread is being made, its creator is inside a critical call: a child never finds a thread
 * half made. */
FS_CRITICAL_INFO creating = {"pthread_create", FS_LOCK_NONE, false};

FS_EXPORT int pthread_create(pthread_t *restrict handle, const pthread_attr_t *restrict attr,
                             void *(*start)(void *), void *restrict argument) {
    struct fs_thread *self = fs_current();
    struct fs_thread *thread = self != NULL ? new_thread(self, argument) : NULL;
    if (thread == NULL) {
        return fs_real.pthread_create(handle, attr, start, argument);
    }
    thread->start.posix = start;
    int state = PTHREAD_CREATE_JOINABLE;
    if (attr != NULL) {
        pthread_attr_getdetachstate(attr, &state);
        sigset_t mask;
        if (pthread_attr_getsigmask_np(attr, &mask) == 0) {
            thread->masks_suspend = false; /* until the thread itself finds it there */
        }
    }
    thread->detached = state == PTHREAD_CREATE_DETACHED;
    uint32_t slot = fs_enter_critical(self, &creating, FS_CALLER());
    int error = fs_real.pthread_create(handle, attr, run_posix, thread);
    created(thread, error == 0, error == 0 ? *handle : 0);
    fs_leave(self, &creating, slot);
    return error;
}

FS_EXPORT int thrd_create(thrd_t *handle, thrd_start_t start, void *argument) {
    struct fs_thread *self = fs_current();
    struct fs_thread *thread = self != NULL ? new_thread(self, argument) : NULL;
    if (thread == NULL) {
        return fs_real.thrd_create(handle, start, argument);
    }
    thread->start.c11 = start;
    uint32_t slot = fs_enter_critical(self, &creating, FS_CALLER());
    int result = fs_real.thrd_create(handle, run_c11, thread);
    created(thread, result == thrd_success, result == thrd_success ? *handle : 0);
    fs_leave(self, &creating, slot);
    return result;
}

/* --- keys: the program may have as many as without us ------------------------------------------ */

FS_EXPORT int pthread_key_create(pthread_key_t *key, void (*destructor)(void *)) {
    struct fs_thread *self = fs_current();
    int error = fs_real.pthread_key_create(key, destructor);
    if (error == EAGAIN && self != NULL && fs_give_exit_key()) {
        error = fs_real.pthread_key_create(key, destructor);
    }
    return error;
}

FS_ALSO(__pthread_key_create, pthread_key_create);

FS_EXPORT int tss_create(tss_t *key, tss_dtor_t destructor) {
    struct fs_thread *self = fs_current();
    int result = fs_real.tss_create(key, destructor);
    if (result != thrd_success && self != NULL && fs_give_exit_key()) {
        result = fs_real.tss_create(key, destructor);
    }
    return result;
}

/* --- calls on a thread that may have vanished ------------------------------------------------- */

#define UNLESS_VANISHED(handle, call)                                                              \
    struct fs_thread *self = fs_current();                                                         \
    if (fs_unlikely(self != NULL && fs_is_vanished(handle))) {                                     \
        return ESRCH;                                                                              \
    }                                                                                              \
    return call

/* glibc holds a lock in the other thread's memory meanwhile (nptl/pthread_kill.c, exit_lock): if
 * that thread is the one that forks, it could not end in the child. */
FS_CRITICAL_INFO signalling = {"pthread_kill", FS_LOCK_exit_lock, false};

static int kill_by(__typeof__(pthread_kill) *real, pthread_t handle, int signo,
                   const void *caller) {
    struct fs_inside inside = fs_go_inside(&signalling, caller);
    int error = real(handle, signo);
    fs_come_out(&inside);
    return error;
}

FS_EXPORT int pthread_kill(pthread_t handle, int signo) {
    UNLESS_VANISHED(handle, kill_by(fs_real.pthread_kill, handle, signo, FS_CALLER()));
}

/* Of a thread that has ended, but was not joined, the older version says ESRCH, the newer 0. */
FS_EXPORT int fs_pthread_kill_225(pthread_t handle, int signo);
int fs_pthread_kill_225(pthread_t handle, int signo) {
    UNLESS_VANISHED(handle, kill_by(fs_real.pthread_kill_225, handle, signo, FS_CALLER()));
}
__asm__(".symver fs_pthread_kill_225, pthread_kill@GLIBC_2.2.5, remove");

FS_EXPORT int pthread_sigqueue(pthread_t handle, int signo, const union sigval value) {
    UNLESS_VANISHED(handle, fs_real.pthread_sigqueue(handle, signo, value));
}
static int cancel(pthread_t handle, const void *caller) {
    struct fs_inside inside = fs_go_inside(&signalling, caller);
    int error = fs_real.pthread_cancel(handle);
    fs_come_out(&inside);
    return error;
}
FS_EXPORT int pthread_cancel(pthread_t handle) {
    UNLESS_VANISHED(handle, cancel(handle, FS_CALLER()));
}

/* Without a record there is nothing to note, and nothing has vanished. */
static int joined(pthread_t handle, int error) {
    if (error == 0) {
        fs_vanished_joined(handle);
    }
    return error;
}

struct joining {
    struct fs_thread *self;
    uint32_t before; /* the state to go back to */
};

static void join_over(void *wait) {
    const struct joining *joining = wait;
    fs_wait_over(joining->self);
    fs_attach(joining->self, joining->before);
}

#define JOIN(handle, missing, call)                                                                \
    struct fs_thread *self = fs_current();                                                         \
    if (fs_unlikely(self == NULL)) {                                                               \
        return call;                                                                               \
    }                                                                                              \
    if (fs_unlikely(fs_is_vanished(handle))) {                                                     \
        return missing;                                                                            \
    }                                                                                              \
    fs_wait_begin(self, FS_KIND_THREAD, (void *)(uintptr_t)handle, NULL, FS_CALLER());             \
    struct joining wait = {self, fs_detach(self)};                                                 \
    int error = joined(handle, FS_CANCELLABLE(join_over, &wait, call));                            \
    join_over(&wait);                                                                              \
    return error

FS_EXPORT int pthread_join(pthread_t handle, void **value) {
    JOIN(handle, ESRCH, fs_real.pthread_join(handle, value));
}
FS_EXPORT int pthread_tryjoin_np(pthread_t handle, void **value) {
    JOIN(handle, ESRCH, fs_real.pthread_tryjoin_np(handle, value));
}
FS_EXPORT int pthread_timedjoin_np(pthread_t handle, void **value,
                                   const struct timespec *deadline) {
    JOIN(handle, ESRCH, fs_real.pthread_timedjoin_np(handle, value, deadline));
}
FS_EXPORT int pthread_clockjoin_np(pthread_t handle, void **value, clockid_t clock,
                                   const struct timespec *deadline) {
    JOIN(handle, ESRCH, fs_real.pthread_clockjoin_np(handle, value, clock, deadline));
}
FS_EXPORT int thrd_join(thrd_t handle, int *value) {
    JOIN(handle, thrd_error, fs_real.thrd_join(handle, value)); /* thrd_success is 0 */
}

static int detached(pthread_t handle, int error) {
    if (error == 0) {
        fs_thread_detached(handle);
    }
    return error;
}

FS_EXPORT int pthread_detach(pthread_t handle) {
    UNLESS_VANISHED(handle, detached(handle, fs_real.pthread_detach(handle)));
}

FS_EXPORT int thrd_detach(thrd_t handle) {
    struct fs_thread *self = fs_current();
    if (fs_unlikely(self != NULL && fs_is_vanished(handle))) {
        return thrd_error;
    }
    return detached(handle, fs_real.thrd_detach(handle));
}
