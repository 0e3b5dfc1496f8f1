/* C11's mutexes, which are glibc's own inside (nptl/thrd_priv.h), with C11's results. */
#include "../fast.h"
#include "hook.h"

/* (thrd_success is 0, and no other result is EOWNERDEAD.) */
static int real_lock(pthread_mutex_t *inner) { return fs_real.mtx_lock((mtx_t *)inner); }
static int real_try_lock(pthread_mutex_t *inner) { return fs_real.mtx_trylock((mtx_t *)inner); }
static int real_unlock(pthread_mutex_t *inner) { return fs_real.mtx_unlock((mtx_t *)inner); }
FS_MUTEX_WAY_ROUND(lock, FS_TAKING, real_lock)
FS_MUTEX_WAY_ROUND(try_lock, FS_TRYING, real_try_lock)
FS_MUTEX_WAY_BACK(unlock, real_unlock)

FS_EXPORT int mtx_lock(mtx_t *mutex) {
    pthread_mutex_t *inner = (pthread_mutex_t *)mutex;
    FS_FAST_MUTEX_TAKE(inner, lock);
}

FS_EXPORT int mtx_trylock(mtx_t *mutex) {
    pthread_mutex_t *inner = (pthread_mutex_t *)mutex;
    FS_FAST_MUTEX_TAKE(inner, try_lock);
}

FS_EXPORT int mtx_unlock(mtx_t *mutex) {
    pthread_mutex_t *inner = (pthread_mutex_t *)mutex;
    FS_FAST_MUTEX_GIVE(inner, unlock);
}

FS_EXPORT int mtx_timedlock(mtx_t *restrict mutex, const struct timespec *restrict deadline) {
    FS_TAKE(FS_KIND_MUTEX, mutex, fs_real.mtx_timedlock(mutex, deadline));
}

FS_EXPORT int mtx_init(mtx_t *mutex, int type) {
    struct fs_thread *self = fs_current();
    int result = fs_real.mtx_init(mutex, type);
    if (result == thrd_success && self != NULL) {
        fs_forget(self, mutex);
    }
    return result;
}

FS_EXPORT void mtx_destroy(mtx_t *mutex) {
    struct fs_thread *self = fs_current();
    fs_real.mtx_destroy(mutex);
    if (self != NULL) {
        fs_forget(self, mutex);
    }
}
