/* Barriers: those who wait are DETACHED. */
#include "hook.h"

FS_EXPORT int pthread_barrier_wait(pthread_barrier_t *barrier) {
    struct fs_thread *self = fs_current();
    if (fs_unlikely(self == NULL)) {
        return fs_real.pthread_barrier_wait(barrier);
    }
    fs_wait_begin(self, FS_KIND_BARRIER, barrier, NULL, FS_CALLER());
    uint32_t before = fs_detach(self);
    int result = fs_real.pthread_barrier_wait(barrier);
    fs_wait_over(self);
    fs_attach(self, before);
    return result;
}

/* Waits for those who are about to leave it. */
FS_EXPORT int pthread_barrier_destroy(pthread_barrier_t *barrier) {
    fs_current(); /* fills fs_real */
    int error = fs_real.pthread_barrier_destroy(barrier);
    fs_waits_over(barrier);
    return error;
}
