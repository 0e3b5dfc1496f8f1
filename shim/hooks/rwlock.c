/* Read-write locks. An unlock gives back whichever hold the caller has. One that a vanished thread
 * may have held for reading is put right when it is next used (repair.h). */
#include "../repair.h"
#include "hook.h"

static inline void put_right(pthread_rwlock_t *rwlock) {
    if (fs_unlikely(fs_load(&fs_read_locks_inherited))) {
        fs_rwlock_disinherit(rwlock);
    }
}

FS_EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t *rwlock) {
    put_right(rwlock);
    FS_TAKE(FS_KIND_RWLOCK_READ, rwlock, fs_real.pthread_rwlock_rdlock(rwlock));
}

FS_EXPORT int pthread_rwlock_tryrdlock(pthread_rwlock_t *rwlock) {
    put_right(rwlock);
    FS_TRY(FS_KIND_RWLOCK_READ, rwlock, fs_real.pthread_rwlock_tryrdlock(rwlock));
}

FS_EXPORT int pthread_rwlock_timedrdlock(pthread_rwlock_t *restrict rwlock,
                                         const struct timespec *restrict deadline) {
    put_right(rwlock);
    FS_TAKE(FS_KIND_RWLOCK_READ, rwlock, fs_real.pthread_rwlock_timedrdlock(rwlock, deadline));
}

FS_EXPORT int pthread_rwlock_clockrdlock(pthread_rwlock_t *restrict rwlock, clockid_t clock,
                                         const struct timespec *restrict deadline) {
    put_right(rwlock);
    FS_TAKE(FS_KIND_RWLOCK_READ, rwlock,
            fs_real.pthread_rwlock_clockrdlock(rwlock, clock, deadline));
}

FS_EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t *rwlock) {
    put_right(rwlock);
    FS_TAKE(FS_KIND_RWLOCK_WRITE, rwlock, fs_real.pthread_rwlock_wrlock(rwlock));
}

FS_EXPORT int pthread_rwlock_trywrlock(pthread_rwlock_t *rwlock) {
    put_right(rwlock);
    FS_TRY(FS_KIND_RWLOCK_WRITE, rwlock, fs_real.pthread_rwlock_trywrlock(rwlock));
}

FS_EXPORT int pthread_rwlock_timedwrlock(pthread_rwlock_t *restrict rwlock,
                                         const struct timespec *restrict deadline) {
    put_right(rwlock);
    FS_TAKE(FS_KIND_RWLOCK_WRITE, rwlock, fs_real.pthread_rwlock_timedwrlock(rwlock, deadline));
}

FS_EXPORT int pthread_rwlock_clockwrlock(pthread_rwlock_t *restrict rwlock, clockid_t clock,
                                         const struct timespec *restrict deadline) {
    put_right(rwlock);
    FS_TAKE(FS_KIND_RWLOCK_WRITE, rwlock,
            fs_real.pthread_rwlock_clockwrlock(rwlock, clock, deadline));
}

FS_EXPORT int pthread_rwlock_unlock(pthread_rwlock_t *rwlock) {
    put_right(rwlock);
    FS_RELEASE(FS_KIND_RWLOCK_READ, rwlock, fs_real.pthread_rwlock_unlock(rwlock));
}

FS_EXPORT int pthread_rwlock_init(pthread_rwlock_t *restrict rwlock,
                                  const pthread_rwlockattr_t *restrict attr) {
    put_right(rwlock);
    FS_RENEW(rwlock, fs_real.pthread_rwlock_init(rwlock, attr));
}

FS_EXPORT int pthread_rwlock_destroy(pthread_rwlock_t *rwlock) {
    put_right(rwlock);
    FS_RENEW(rwlock, fs_real.pthread_rwlock_destroy(rwlock));
}

FS_ALSO(__pthread_rwlock_rdlock, pthread_rwlock_rdlock);
FS_ALSO(__pthread_rwlock_tryrdlock, pthread_rwlock_tryrdlock);
FS_ALSO(__pthread_rwlock_wrlock, pthread_rwlock_wrlock);
FS_ALSO(__pthread_rwlock_trywrlock, pthread_rwlock_trywrlock);
FS_ALSO(__pthread_rwlock_unlock, pthread_rwlock_unlock);
FS_ALSO(__pthread_rwlock_init, pthread_rwlock_init);
FS_ALSO(__pthread_rwlock_destroy, pthread_rwlock_destroy);
