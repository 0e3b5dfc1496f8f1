/* Spinlocks. In a child that has inherited one from a vanished holder, it is put right when it is
 * next used (repair.h). */
#include "../fast.h"
#include "../repair.h"
#include "hook.h"

static inline bool is_inherited(pthread_spinlock_t *spin, bool free_it) {
    return fs_unlikely(fs_load(&fs_spins_inherited)) && fs_spin_disinherit(spin, free_it);
}

static int lock_in_glibc(pthread_spinlock_t *spin) {
    if (fs_unlikely(fs_load(&fs_spins_inherited))) {
        int error = fs_real.pthread_spin_trylock(spin);
        if (error == 0 || !is_inherited(spin, true)) {
            is_inherited(spin, false);
            return error == 0 ? 0 : fs_real.pthread_spin_lock(spin);
        }
    }
    return fs_real.pthread_spin_lock(spin);
}

static int try_lock_in_glibc(pthread_spinlock_t *spin) {
    int error = fs_real.pthread_spin_trylock(spin);
    if (fs_likely(error == 0)) {
        is_inherited(spin, false);
        return 0;
    }
    return is_inherited(spin, true) ? fs_real.pthread_spin_trylock(spin) : error;
}

static void *object(pthread_spinlock_t *spin) { return (void *)(uintptr_t)spin; }

static __attribute__((noinline)) int lock(pthread_spinlock_t *spin, const void *caller) {
    FS_TAKE_FOR(caller, FS_TAKING, FS_KIND_SPIN, object(spin), lock_in_glibc(spin));
}

static __attribute__((noinline)) int lock_at(struct fs_thread *self, pthread_spinlock_t *spin,
                                             uint32_t slot) {
    FS_TAKE_AT(self, object(spin), slot, lock_in_glibc(spin));
}

static __attribute__((noinline)) int try_lock(pthread_spinlock_t *spin, const void *caller) {
    FS_TAKE_FOR(caller, FS_TRYING, FS_KIND_SPIN, object(spin), try_lock_in_glibc(spin));
}

static __attribute__((noinline)) int try_lock_at(struct fs_thread *self, pthread_spinlock_t *spin,
                                                 uint32_t slot) {
    FS_TAKE_AT(self, object(spin), slot, try_lock_in_glibc(spin));
}

static __attribute__((noinline)) int unlock(pthread_spinlock_t *spin) {
    is_inherited(spin, false);
    FS_RELEASE(FS_KIND_SPIN, object(spin), fs_real.pthread_spin_unlock(spin));
}

FS_EXPORT int pthread_spin_lock(pthread_spinlock_t *spin) {
    FS_FAST_TAKE(FS_KIND_SPIN, FS_TAKING, spin, true, fs_fast_spin(spin), lock, lock_at);
}

FS_EXPORT int pthread_spin_trylock(pthread_spinlock_t *spin) {
    FS_FAST_TAKE(FS_KIND_SPIN, FS_TRYING, spin, true, fs_fast_spin_try(spin), try_lock,
                 try_lock_at);
}

FS_EXPORT int pthread_spin_unlock(pthread_spinlock_t *spin) {
    FS_FAST_GIVE(FS_KIND_SPIN, spin, true, (fs_fast_spin_give(spin), true), 0, unlock);
}

FS_EXPORT int pthread_spin_init(pthread_spinlock_t *spin, int shared) {
    is_inherited(spin, false);
    FS_RENEW((void *)(uintptr_t)spin, fs_real.pthread_spin_init(spin, shared));
}

FS_EXPORT int pthread_spin_destroy(pthread_spinlock_t *spin) {
    is_inherited(spin, false);
    FS_RENEW((void *)(uintptr_t)spin, fs_real.pthread_spin_destroy(spin));
}
