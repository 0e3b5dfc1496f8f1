/* Mutexes of every type, protocol and robustness. */
#include "../fast.h"
#include "hook.h"

FS_MUTEX_WAY_ROUND(lock, FS_TAKING, fs_real.pthread_mutex_lock)
FS_MUTEX_WAY_ROUND(try_lock, FS_TRYING, fs_real.pthread_mutex_trylock)
FS_MUTEX_WAY_BACK(unlock, fs_real.pthread_mutex_unlock)

FS_EXPORT int pthread_mutex_lock(pthread_mutex_t *mutex) { FS_FAST_MUTEX_TAKE(mutex, lock); }

FS_EXPORT int pthread_mutex_trylock(pthread_mutex_t *mutex) { FS_FAST_MUTEX_TAKE(mutex, try_lock); }

FS_EXPORT int pthread_mutex_unlock(pthread_mutex_t *mutex) { FS_FAST_MUTEX_GIVE(mutex, unlock); }

/* --- the rest -------------------------------------------------------------------------------- */

FS_EXPORT int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *deadline) {
    FS_TAKE(FS_KIND_MUTEX, mutex, fs_real.pthread_mutex_timedlock(mutex, deadline));
}

FS_EXPORT int pthread_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock,
                                      const struct timespec *deadline) {
    FS_TAKE(FS_KIND_MUTEX, mutex, fs_real.pthread_mutex_clocklock(mutex, clock, deadline));
}

FS_EXPORT int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr) {
    FS_RENEW(mutex, fs_real.pthread_mutex_init(mutex, attr));
}

FS_EXPORT int pthread_mutex_destroy(pthread_mutex_t *mutex) {
    FS_RENEW(mutex, fs_real.pthread_mutex_destroy(mutex));
}

FS_ALSO(__pthread_mutex_lock, pthread_mutex_lock);
FS_ALSO(__pthread_mutex_trylock, pthread_mutex_trylock);
FS_ALSO(__pthread_mutex_unlock, pthread_mutex_unlock);
FS_ALSO(__pthread_mutex_init, pthread_mutex_init);
FS_ALSO(__pthread_mutex_destroy, pthread_mutex_destroy);
