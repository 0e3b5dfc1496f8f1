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
    fs_wait_end(self);
    fs_attach(self, before);
    return result;
}
