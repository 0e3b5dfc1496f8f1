/* Condition variables, POSIX's and C11's.
 *
 * A waiter is DETACHED and does not hold its mutex. It wakes up with the mutex, taken inside glibc
 * without a look at our gate; if the world is stopped then, it gives the mutex back, parks, and
 * takes it again: for the program it has just been woken later. */
#include "../fast.h"
#include "hook.h"

#include "../layout.h"

struct wait {
    struct fs_thread *self;
    void *mutex;
    const void *mutex_caller; /* where the program took the mutex */
    uint32_t before;          /* the state to go back to */
    bool recorded;            /* the mutex was in the inventory */
};

/* The state changes before the depth goes down: there is no moment in which the thread looks as if
 * it ran freely, and could be sent a signal that would end the wait. */
static struct wait wait_begin(struct fs_thread *self, void *cond, void *mutex, const void *caller) {
    struct wait wait = {.self = self, .mutex = mutex};
    fs_wait_begin(self, FS_KIND_COND, cond, mutex, caller);
    wait.before = fs_detached(self);
    uint32_t slot = fs_find_entry(self, mutex);
    wait.recorded = slot != FS_NO_SLOT;
    if (wait.recorded) {
        wait.mutex_caller = self->entries[slot].caller;
        fs_pop(self, slot);
    }
    return wait;
}

static void no_longer_waits(const struct wait *wait) {
    fs_wait_end(wait->self);
    fs_store(&wait->self->state, wait->before);
    fs_compiler_barrier();
}

/* Woken while the world is stopped, and holding nothing but the mutex: gives it back, and takes it
 * through the gate. Until the world starts it counts as waiting: the kernel copies one page after the other, and a
 * child that has got the mutex as it was taken must find in our record whose it was. */
static void retake_mutex(const struct wait *wait, uint32_t slot) {
    struct fs_thread *self = wait->self;
    int saved_errno = errno;
    if (fs_real.pthread_mutex_unlock(wait->mutex) != 0) {
        no_longer_waits(wait);
        fs_held(self, wait->mutex, slot);
    } else {
        fs_leave(self, wait->mutex, slot);
        fs_attach_slow(self);
        no_longer_waits(wait);
        slot = fs_enter(self, wait->mutex, FS_KIND_MUTEX, wait->mutex_caller);
        fs_taken(self, wait->mutex, slot, fs_real.pthread_mutex_lock(wait->mutex));
    }
    errno = saved_errno;
}

static void wait_end(const struct wait *wait) {
    struct fs_thread *self = wait->self;
    if (fs_unlikely(fs_stop_is_set())) {
        fs_freeze(self); /* while it still counts as waiting: in the child it never woke up */
    }
    uint32_t slot = FS_NO_SLOT;
    if (wait->recorded) {
        slot = fs_enter_late(self, wait->mutex, FS_KIND_MUTEX, wait->mutex_caller);
    }
    bool stopped = fs_unlikely(fs_stop_is_set()) && fs_stop_wanted(self);
    if (stopped && wait->recorded && self->depth == 1 && !fs_mutex_robust(wait->mutex)) {
        retake_mutex(wait, slot);
        return;
    }
    no_longer_waits(wait);
    if (wait->recorded) {
        fs_held(self, wait->mutex, slot);
    }
    if (stopped) {
        fs_freeze(self);
    }
}

/* Cancelled: the caller has its mutex again, and the program's cleanup handlers run with it. */
static void wait_cancelled(void *wait) { wait_end(wait); }

/* The whole body of a hook that waits. */
#define WAIT(cond, mutex, call)                                                                    \
    struct fs_thread *self = fs_current();                                                         \
    if (fs_unlikely(self == NULL)) {                                                               \
        return call;                                                                               \
    }                                                                                              \
    struct wait wait = wait_begin(self, cond, mutex, FS_CALLER());                                 \
    int result;                                                                                    \
    pthread_cleanup_push(wait_cancelled, &wait);                                                   \
    result = call;                                                                                 \
    pthread_cleanup_pop(0);                                                                        \
    wait_end(&wait);                                                                               \
    return result

FS_EXPORT int pthread_cond_wait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex) {
    WAIT(cond, mutex, fs_real.pthread_cond_wait(cond, mutex));
}

FS_EXPORT int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                                     const struct timespec *restrict deadline) {
    WAIT(cond, mutex, fs_real.pthread_cond_timedwait(cond, mutex, deadline));
}

FS_EXPORT int pthread_cond_clockwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                                     clockid_t clock, const struct timespec *restrict deadline) {
    WAIT(cond, mutex, fs_real.pthread_cond_clockwait(cond, mutex, clock, deadline));
}

FS_EXPORT int cnd_wait(cnd_t *cond, mtx_t *mutex) {
    WAIT(cond, mutex, fs_real.cnd_wait(cond, mutex));
}

FS_EXPORT int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex,
                            const struct timespec *restrict deadline) {
    WAIT(cond, mutex, fs_real.cnd_timedwait(cond, mutex, deadline));
}

#define WAKE(name, type)                                                                           \
    static __attribute__((noinline)) int wake_by_##name(type *cond, const void *caller) {          \
        FS_PASS_FOR(caller, FS_KIND_COND, cond, fs_real.name(cond));                               \
    }                                                                                              \
    FS_EXPORT int name(type *cond) {                                                               \
        return fs_fast_nobody_waits((const pthread_cond_t *)cond)                                  \
                   ? 0                                                                             \
                   : wake_by_##name(cond, FS_CALLER());                                            \
    }
WAKE(pthread_cond_signal, pthread_cond_t)
WAKE(pthread_cond_broadcast, pthread_cond_t)
WAKE(cnd_signal, cnd_t)
WAKE(cnd_broadcast, cnd_t)

/* Waits for those who were woken but have not left it; of their way to the mutex it knows nothing. */
FS_EXPORT int pthread_cond_destroy(pthread_cond_t *cond) {
    fs_current(); /* fills fs_real */
    int error = fs_real.pthread_cond_destroy(cond);
    fs_waits_over(cond);
    return error;
}

FS_EXPORT void cnd_destroy(cnd_t *cond) {
    fs_current(); /* fills fs_real */
    fs_real.cnd_destroy(cond);
    fs_waits_over(cond);
}
