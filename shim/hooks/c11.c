/* C11's mutexes, which are glibc's own inside (nptl/thrd_priv.h), with C11's results. */
#include "../fast.h"
#include "hook.h"

static int taken(struct fs_thread *self, mtx_t *mutex, uint32_t slot, int result) {
    if (result == thrd_success) {
        fs_held(self, mutex, slot);
    } else {
        fs_failed(self, mutex, slot);
    }
    return result;
}

#define TAKE(caller, phase, call)                                                                  \
    struct fs_thread *self = fs_current();                                                         \
    if (fs_unlikely(self == NULL)) {                                                               \
        return call;                                                                               \
    }                                                                                              \
    uint32_t slot = fs_enter_as(self, mutex, FS_KIND_MUTEX, caller, phase);                        \
    return taken(self, mutex, slot, call)

static __attribute__((noinline)) int lock(pthread_mutex_t *inner, const void *caller) {
    mtx_t *mutex = (mtx_t *)inner;
    TAKE(caller, FS_TAKING, fs_real.mtx_lock(mutex));
}

static __attribute__((noinline)) int await(struct fs_thread *self, pthread_mutex_t *inner,
                                           uint32_t slot) {
    mtx_t *mutex = (mtx_t *)inner;
    return taken(self, mutex, slot, fs_real.mtx_lock(mutex));
}

static __attribute__((noinline)) int try_lock(pthread_mutex_t *inner, const void *caller) {
    mtx_t *mutex = (mtx_t *)inner;
    TAKE(caller, FS_TRYING, fs_real.mtx_trylock(mutex));
}

static __attribute__((noinline)) int try_again(struct fs_thread *self, pthread_mutex_t *inner,
                                               uint32_t slot) {
    mtx_t *mutex = (mtx_t *)inner;
    return taken(self, mutex, slot, fs_real.mtx_trylock(mutex));
}

static __attribute__((noinline)) int unlock(pthread_mutex_t *inner) {
    mtx_t *mutex = (mtx_t *)inner;
    struct fs_thread *self = fs_current();
    if (fs_unlikely(self == NULL)) {
        return fs_real.mtx_unlock(mutex);
    }
    uint32_t slot = fs_leaving(self, mutex);
    int result = fs_real.mtx_unlock(mutex);
    fs_released(self, mutex, slot, FS_KIND_MUTEX, result == thrd_success ? 0 : EPERM);
    return result;
}

FS_EXPORT int mtx_lock(mtx_t *mutex) {
    pthread_mutex_t *inner = (pthread_mutex_t *)mutex;
    FS_FAST_MUTEX_TAKE(FS_TAKING, inner, lock, await);
}

FS_EXPORT int mtx_trylock(mtx_t *mutex) {
    pthread_mutex_t *inner = (pthread_mutex_t *)mutex;
    FS_FAST_MUTEX_TAKE(FS_TRYING, inner, try_lock, try_again);
}

FS_EXPORT int mtx_unlock(mtx_t *mutex) {
    pthread_mutex_t *inner = (pthread_mutex_t *)mutex;
    FS_FAST_MUTEX_GIVE(inner, unlock);
}

FS_EXPORT int mtx_timedlock(mtx_t *restrict mutex, const struct timespec *restrict deadline) {
    TAKE(FS_CALLER(), FS_TAKING, fs_real.mtx_timedlock(mutex, deadline));
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
