/* Read-write locks. An unlock gives back whichever hold the caller has. One that a vanished thread
 * may have held for reading is put right when it is next used (repair.h). */
#include "../fast.h"
#include "../repair.h"
#include "hook.h"

static inline void put_right(pthread_rwlock_t *rwlock) {
    if (fs_unlikely(fs_load(&fs_read_locks_inherited))) {
        fs_rwlock_disinherit(rwlock);
    }
}

/* --- the common calls, round about ------------------------------------------------------------ */

#define WAY_ROUND(name, how, kind, real)                                                           \
    static int real_##name(pthread_rwlock_t *rwlock) {                                             \
        put_right(rwlock);                                                                         \
        return fs_real.real(rwlock);                                                               \
    }                                                                                              \
    FS_WAY_ROUND(name, pthread_rwlock_t, how, kind, real_##name)
WAY_ROUND(read_lock, FS_TAKING, FS_KIND_RWLOCK_READ, pthread_rwlock_rdlock)
WAY_ROUND(try_read_lock, FS_TRYING, FS_KIND_RWLOCK_READ, pthread_rwlock_tryrdlock)
WAY_ROUND(write_lock, FS_TAKING, FS_KIND_RWLOCK_WRITE, pthread_rwlock_wrlock)
WAY_ROUND(try_write_lock, FS_TRYING, FS_KIND_RWLOCK_WRITE, pthread_rwlock_trywrlock)

/* The fast way has counted the caller as a reader, but could not see that it has the lock. */
static __attribute__((noinline)) int counted_read_lock_at(struct fs_thread *self,
                                                          pthread_rwlock_t *rwlock, uint32_t slot) {
    return fs_fast_read_counted(rwlock) ? fs_fast_taken(self, rwlock, slot)
                                        : read_lock_at(self, rwlock, slot);
}

static inline int counted_read_lock(pthread_rwlock_t *rwlock, const void *caller) {
    return read_lock(rwlock, caller); /* not counted yet */
}

static __attribute__((noinline)) int unlock(pthread_rwlock_t *rwlock) {
    put_right(rwlock);
    FS_RELEASE(FS_KIND_RWLOCK_READ, rwlock, fs_real.pthread_rwlock_unlock(rwlock));
}

/* Somebody waits: until he is woken, the call is under way. */
static __attribute__((noinline)) int unlock_at(struct fs_thread *self, pthread_rwlock_t *rwlock,
                                               uint32_t slot) {
    fs_fast_leave(&self->entries[slot]);
    return fs_released(self, rwlock, slot, FS_KIND_RWLOCK_READ,
                       fs_real.pthread_rwlock_unlock(rwlock));
}

/* --- straight, if nobody is in the way --------------------------------------------------------- */

FS_EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t *rwlock) {
    FS_FAST_TAKE(FS_KIND_RWLOCK_READ, FS_TAKING, rwlock, true, fs_fast_read(rwlock),
                 counted_read_lock);
}

FS_EXPORT int pthread_rwlock_tryrdlock(pthread_rwlock_t *rwlock) {
    FS_FAST_TAKE(FS_KIND_RWLOCK_READ, FS_TRYING, rwlock, true, fs_fast_read_try(rwlock),
                 try_read_lock);
}

FS_EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t *rwlock) {
    FS_FAST_TAKE(FS_KIND_RWLOCK_WRITE, FS_TAKING, rwlock, true,
                 fs_fast_write(rwlock, self->owner_id), write_lock);
}

FS_EXPORT int pthread_rwlock_trywrlock(pthread_rwlock_t *rwlock) {
    FS_FAST_TAKE(FS_KIND_RWLOCK_WRITE, FS_TRYING, rwlock, true,
                 fs_fast_write(rwlock, self->owner_id), try_write_lock);
}

static inline bool give(pthread_rwlock_t *rwlock, struct fs_entry *entry, int owner_id) {
    return entry->kind == FS_KIND_RWLOCK_READ
               ? fs_fast_read_give(rwlock)
               : fs_fast_leave(entry) && fs_fast_write_give(rwlock, owner_id);
}

FS_EXPORT int pthread_rwlock_unlock(pthread_rwlock_t *rwlock) {
    FS_FAST_GIVE(FS_KIND_RWLOCK_READ, rwlock, true, give(rwlock, entry, self->owner_id),
                 unlock_at(self, rwlock, depth - 1), unlock);
}

/* --- the rest -------------------------------------------------------------------------------- */

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
