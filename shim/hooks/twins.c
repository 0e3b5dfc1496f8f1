/* In a child that is watched, fs_real's pointers lead here: a lock is tried first; if that fails, or
 * a wait begins, detect looks whether a vanished thread is to blame, and the watchdog starts its
 * clock. In repair a lock that was forced is told when it is taken. Nobody else pays for this: the hooks
 * call through the same pointers as ever. */
#include "twins.h"

#include <string.h>

#include "../config.h"
#include "../detect.h"
#include "../layout.h"
#include "../watchdog.h"
#include "hook.h"

static struct fs_real *bare; /* fs_real as it was before */

static bool is_of_interest(const void *object) {
    return fs_config.watchdog_ms != 0 || fs_is_inherited(object);
}

/* The whole body of a twin that takes a lock and may wait. `busy`: what `attempt` returns if somebody
 * has it. */
#define TAKE(kind, object, busy, attempt, call)                                                    \
    if (is_of_interest(object)) {                                                                  \
        int tried = attempt;                                                                       \
        if (tried != (busy)) {                                                                     \
            fs_detect_free(kind, object);                                                          \
            return tried;                                                                          \
        }                                                                                          \
        fs_detect_meet(FS_BLOCKS, kind, object);                                                   \
    }                                                                                              \
    FS_WATCHED(kind, object);                                                                      \
    return call

/* ... that says at once if somebody has it. */
#define TRY(kind, object, busy, call)                                                              \
    int result = call;                                                                             \
    if (result == (busy) && fs_detect_meet(FS_BUSY, kind, object)) {                               \
        return call;                                                                               \
    }                                                                                              \
    fs_detect_free(kind, object);                                                                  \
    return result

/* ... that makes the object anew. */
#define RENEW(object, call)                                                                        \
    int result = call;                                                                             \
    if (result == 0) {                                                                             \
        fs_detect_forget(object);                                                                  \
    }                                                                                              \
    return result

/* --- mutexes --------------------------------------------------------------------------------- */

#define TAKE_MUTEX(call) TAKE(FS_KIND_MUTEX, mutex, EBUSY, bare->pthread_mutex_trylock(mutex), call)
#define TAKE_MTX(call) TAKE(FS_KIND_MUTEX, mutex, thrd_busy, bare->mtx_trylock(mutex), call)

static int twin_mutex_lock(pthread_mutex_t *mutex) { TAKE_MUTEX(bare->pthread_mutex_lock(mutex)); }
static int twin_mutex_trylock(pthread_mutex_t *mutex) {
    TRY(FS_KIND_MUTEX, mutex, EBUSY, bare->pthread_mutex_trylock(mutex));
}
static int twin_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *deadline) {
    TAKE_MUTEX(bare->pthread_mutex_timedlock(mutex, deadline));
}
static int twin_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock,
                                const struct timespec *deadline) {
    TAKE_MUTEX(bare->pthread_mutex_clocklock(mutex, clock, deadline));
}
static int twin_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr) {
    RENEW(mutex, bare->pthread_mutex_init(mutex, attr));
}
static int twin_mutex_destroy(pthread_mutex_t *mutex) {
    int error = bare->pthread_mutex_destroy(mutex);
    if (error == EBUSY && fs_detect_meet(FS_DESTROYS, FS_KIND_MUTEX, mutex)) {
        error = bare->pthread_mutex_destroy(mutex);
    }
    RENEW(mutex, error);
}

static int twin_mtx_lock(mtx_t *mutex) { TAKE_MTX(bare->mtx_lock(mutex)); }
static int twin_mtx_trylock(mtx_t *mutex) {
    TRY(FS_KIND_MUTEX, mutex, thrd_busy, bare->mtx_trylock(mutex));
}
static int twin_mtx_timedlock(mtx_t *restrict mutex, const struct timespec *restrict deadline) {
    TAKE_MTX(bare->mtx_timedlock(mutex, deadline));
}
static int twin_mtx_init(mtx_t *mutex, int type) { RENEW(mutex, bare->mtx_init(mutex, type)); }

/* --- rwlocks and spinlocks -------------------------------------------------------------------- */

#define TAKE_READ(call)                                                                            \
    TAKE(FS_KIND_RWLOCK_READ, rwlock, EBUSY, bare->pthread_rwlock_tryrdlock(rwlock), call)
#define TAKE_WRITE(call)                                                                           \
    TAKE(FS_KIND_RWLOCK_WRITE, rwlock, EBUSY, bare->pthread_rwlock_trywrlock(rwlock), call)

static int twin_rwlock_rdlock(pthread_rwlock_t *rwlock) {
    TAKE_READ(bare->pthread_rwlock_rdlock(rwlock));
}
static int twin_rwlock_tryrdlock(pthread_rwlock_t *rwlock) {
    TRY(FS_KIND_RWLOCK_READ, rwlock, EBUSY, bare->pthread_rwlock_tryrdlock(rwlock));
}
static int twin_rwlock_timedrdlock(pthread_rwlock_t *restrict rwlock,
                                   const struct timespec *restrict deadline) {
    TAKE_READ(bare->pthread_rwlock_timedrdlock(rwlock, deadline));
}
static int twin_rwlock_clockrdlock(pthread_rwlock_t *restrict rwlock, clockid_t clock,
                                   const struct timespec *restrict deadline) {
    TAKE_READ(bare->pthread_rwlock_clockrdlock(rwlock, clock, deadline));
}
static int twin_rwlock_wrlock(pthread_rwlock_t *rwlock) {
    TAKE_WRITE(bare->pthread_rwlock_wrlock(rwlock));
}
static int twin_rwlock_trywrlock(pthread_rwlock_t *rwlock) {
    TRY(FS_KIND_RWLOCK_WRITE, rwlock, EBUSY, bare->pthread_rwlock_trywrlock(rwlock));
}
static int twin_rwlock_timedwrlock(pthread_rwlock_t *restrict rwlock,
                                   const struct timespec *restrict deadline) {
    TAKE_WRITE(bare->pthread_rwlock_timedwrlock(rwlock, deadline));
}
static int twin_rwlock_clockwrlock(pthread_rwlock_t *restrict rwlock, clockid_t clock,
                                   const struct timespec *restrict deadline) {
    TAKE_WRITE(bare->pthread_rwlock_clockwrlock(rwlock, clock, deadline));
}
static int twin_rwlock_init(pthread_rwlock_t *restrict rwlock,
                            const pthread_rwlockattr_t *restrict attr) {
    RENEW(rwlock, bare->pthread_rwlock_init(rwlock, attr));
}
/* Looks at nothing (nptl/pthread_rwlock_destroy.c). */
static int twin_rwlock_destroy(pthread_rwlock_t *rwlock) {
    RENEW(rwlock, bare->pthread_rwlock_destroy(rwlock));
}

#define SPIN ((void *)(uintptr_t)spin)

static int twin_spin_lock(pthread_spinlock_t *spin) {
    TAKE(FS_KIND_SPIN, SPIN, EBUSY, bare->pthread_spin_trylock(spin),
         bare->pthread_spin_lock(spin));
}
static int twin_spin_trylock(pthread_spinlock_t *spin) {
    TRY(FS_KIND_SPIN, SPIN, EBUSY, bare->pthread_spin_trylock(spin));
}
static int twin_spin_init(pthread_spinlock_t *spin, int shared) {
    RENEW(SPIN, bare->pthread_spin_init(spin, shared));
}
static int twin_spin_destroy(pthread_spinlock_t *spin) {
    RENEW(SPIN, bare->pthread_spin_destroy(spin));
}

/* --- condition variables and barriers --------------------------------------------------------- */

/* Of those who vanished in it, it will wake one in place of the caller. */
static int twin_cond_wait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex) {
    fs_detect_meet(FS_BLOCKS, FS_KIND_COND, cond);
    FS_WATCHED(FS_KIND_COND, cond);
    return bare->pthread_cond_wait(cond, mutex);
}
static int twin_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                               const struct timespec *restrict deadline) {
    fs_detect_meet(FS_BLOCKS, FS_KIND_COND, cond);
    return bare->pthread_cond_timedwait(cond, mutex, deadline);
}
static int twin_cond_clockwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                               clockid_t clock, const struct timespec *restrict deadline) {
    fs_detect_meet(FS_BLOCKS, FS_KIND_COND, cond);
    return bare->pthread_cond_clockwait(cond, mutex, clock, deadline);
}
static int twin_cond_signal(pthread_cond_t *cond) {
    fs_detect_meet(FS_SIGNALS, FS_KIND_COND, cond);
    return bare->pthread_cond_signal(cond);
}
static int twin_cond_broadcast(pthread_cond_t *cond) {
    fs_detect_meet(FS_BROADCASTS, FS_KIND_COND, cond);
    return bare->pthread_cond_broadcast(cond);
}
static int twin_cond_destroy(pthread_cond_t *cond) {
    fs_detect_meet(FS_DESTROYS, FS_KIND_COND, cond);
    return bare->pthread_cond_destroy(cond);
}

static int twin_cnd_wait(cnd_t *cond, mtx_t *mutex) {
    fs_detect_meet(FS_BLOCKS, FS_KIND_COND, cond);
    FS_WATCHED(FS_KIND_COND, cond);
    return bare->cnd_wait(cond, mutex);
}
static int twin_cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex,
                              const struct timespec *restrict deadline) {
    fs_detect_meet(FS_BLOCKS, FS_KIND_COND, cond);
    return bare->cnd_timedwait(cond, mutex, deadline);
}
static int twin_cnd_signal(cnd_t *cond) {
    fs_detect_meet(FS_SIGNALS, FS_KIND_COND, cond);
    return bare->cnd_signal(cond);
}
static int twin_cnd_broadcast(cnd_t *cond) {
    fs_detect_meet(FS_BROADCASTS, FS_KIND_COND, cond);
    return bare->cnd_broadcast(cond);
}
static void twin_cnd_destroy(cnd_t *cond) {
    fs_detect_meet(FS_DESTROYS, FS_KIND_COND, cond);
    bare->cnd_destroy(cond);
}

static int twin_barrier_wait(pthread_barrier_t *barrier) {
    fs_detect_meet(FS_BLOCKS, FS_KIND_BARRIER, barrier);
    FS_WATCHED(FS_KIND_BARRIER, barrier);
    return bare->pthread_barrier_wait(barrier);
}
static int twin_barrier_destroy(pthread_barrier_t *barrier) {
    fs_detect_meet(FS_DESTROYS, FS_KIND_BARRIER, barrier);
    return bare->pthread_barrier_destroy(barrier);
}

/* --- semaphores ------------------------------------------------------------------------------- */

static void met_semaphore(sem_t *sem, enum fs_meeting meeting) {
    if (fs_config.mode != FS_MODE_DETECT || fs_detect_meet(meeting, FS_KIND_SEMAPHORE, sem)) {
        return;
    }
    int holder = fs_sem_disinherit(sem);
    if (holder != 0) {
        fs_detect_semaphore(sem, holder);
    }
}

/* True if it was free, and is now the caller's. */
static bool took_semaphore(sem_t *sem) {
    int saved_errno = errno;
    if (bare->sem_trywait(sem) == 0) {
        fs_detect_taken(sem);
        return true;
    }
    errno = saved_errno;
    met_semaphore(sem, FS_BLOCKS);
    return false;
}

static int twin_sem_wait(sem_t *sem) {
    if (took_semaphore(sem)) {
        return 0;
    }
    FS_WATCHED(FS_KIND_SEMAPHORE, sem);
    return bare->sem_wait(sem);
}
static int twin_sem_trywait(sem_t *sem) {
    int saved_errno = errno;
    int result = bare->sem_trywait(sem);
    if (result == 0) {
        fs_detect_taken(sem);
    }
    if (result == 0 || errno != EAGAIN) {
        return result;
    }
    errno = saved_errno;
    met_semaphore(sem, FS_BUSY);
    return bare->sem_trywait(sem);
}
static int twin_sem_timedwait(sem_t *restrict sem, const struct timespec *restrict deadline) {
    return took_semaphore(sem) ? 0 : bare->sem_timedwait(sem, deadline);
}
static int twin_sem_clockwait(sem_t *restrict sem, clockid_t clock,
                              const struct timespec *restrict deadline) {
    return took_semaphore(sem) ? 0 : bare->sem_clockwait(sem, clock, deadline);
}
static int twin_sem_init(sem_t *sem, int shared, unsigned value) {
    RENEW(sem, bare->sem_init(sem, shared, value));
}

/* --- the rest -------------------------------------------------------------------------------- */

static void twin_flockfile(FILE *file) {
    if (is_of_interest(file)) {
        if (bare->ftrylockfile(file) == 0) {
            return;
        }
        fs_detect_meet(FS_BLOCKS, FS_KIND_FILE, file);
    }
    FS_WATCHED(FS_KIND_FILE, file);
    bare->flockfile(file);
}

static int twin_once(pthread_once_t *control, void (*routine)(void)) {
    FS_WATCHED(FS_KIND_ONCE, control);
    return bare->pthread_once(control, routine);
}

static int twin_join(pthread_t handle, void **value) {
    FS_WATCHED(FS_KIND_THREAD, (void *)(uintptr_t)handle);
    return bare->pthread_join(handle, value);
}
static int twin_thrd_join(thrd_t handle, int *value) {
    FS_WATCHED(FS_KIND_THREAD, (void *)(uintptr_t)handle);
    return bare->thrd_join(handle, value);
}

void fs_twins_install(void) {
    if (bare != NULL || (bare = fs_map(sizeof *bare)) == NULL) {
        return;
    }
    *bare = fs_real;
    fs_real.pthread_mutex_lock = twin_mutex_lock;
    fs_real.pthread_mutex_trylock = twin_mutex_trylock;
    fs_real.pthread_mutex_timedlock = twin_mutex_timedlock;
    fs_real.pthread_mutex_clocklock = twin_mutex_clocklock;
    fs_real.pthread_mutex_init = twin_mutex_init;
    fs_real.pthread_mutex_destroy = twin_mutex_destroy;
    fs_real.mtx_lock = twin_mtx_lock;
    fs_real.mtx_trylock = twin_mtx_trylock;
    fs_real.mtx_timedlock = twin_mtx_timedlock;
    fs_real.mtx_init = twin_mtx_init;
    fs_real.pthread_rwlock_rdlock = twin_rwlock_rdlock;
    fs_real.pthread_rwlock_tryrdlock = twin_rwlock_tryrdlock;
    fs_real.pthread_rwlock_timedrdlock = twin_rwlock_timedrdlock;
    fs_real.pthread_rwlock_clockrdlock = twin_rwlock_clockrdlock;
    fs_real.pthread_rwlock_wrlock = twin_rwlock_wrlock;
    fs_real.pthread_rwlock_trywrlock = twin_rwlock_trywrlock;
    fs_real.pthread_rwlock_timedwrlock = twin_rwlock_timedwrlock;
    fs_real.pthread_rwlock_clockwrlock = twin_rwlock_clockwrlock;
    fs_real.pthread_rwlock_init = twin_rwlock_init;
    fs_real.pthread_rwlock_destroy = twin_rwlock_destroy;
    fs_real.pthread_spin_lock = twin_spin_lock;
    fs_real.pthread_spin_trylock = twin_spin_trylock;
    fs_real.pthread_spin_init = twin_spin_init;
    fs_real.pthread_spin_destroy = twin_spin_destroy;
    fs_real.pthread_cond_wait = twin_cond_wait;
    fs_real.pthread_cond_timedwait = twin_cond_timedwait;
    fs_real.pthread_cond_clockwait = twin_cond_clockwait;
    fs_real.pthread_cond_signal = twin_cond_signal;
    fs_real.pthread_cond_broadcast = twin_cond_broadcast;
    fs_real.pthread_cond_destroy = twin_cond_destroy;
    fs_real.cnd_wait = twin_cnd_wait;
    fs_real.cnd_timedwait = twin_cnd_timedwait;
    fs_real.cnd_signal = twin_cnd_signal;
    fs_real.cnd_broadcast = twin_cnd_broadcast;
    fs_real.cnd_destroy = twin_cnd_destroy;
    fs_real.pthread_barrier_wait = twin_barrier_wait;
    fs_real.pthread_barrier_destroy = twin_barrier_destroy;
    fs_real.sem_wait = twin_sem_wait;
    fs_real.sem_trywait = twin_sem_trywait;
    fs_real.sem_timedwait = twin_sem_timedwait;
    fs_real.sem_clockwait = twin_sem_clockwait;
    fs_real.sem_init = twin_sem_init;
    fs_real.flockfile = twin_flockfile;
    fs_real.pthread_once = twin_once;
    fs_real.pthread_join = twin_join;
    fs_real.thrd_join = twin_thrd_join;
}
