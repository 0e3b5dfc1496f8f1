/* Spinlocks. In a child that has inherited one from a vanished holder, it is put right when it is
 * next used (repair.h). */
#include "../fast.h"
#include "../repair.h"
#include "hook.h"

static inline bool is_inherited(pthread_spinlock_t *spin, bool free_it) {
    return fs_unlikely(fs_load(&fs_spins_inherited)) && fs_spin_disinherit(spin, free_it);
}

static int real_lock(pthread_spinlock_t *spin) {
    if (fs_unlikely(fs_load(&fs_spins_inherited))) {
        int error = fs_real.pthread_spin_trylock(spin);
        if (error == 0 || !is_inherited(spin, true)) {
            is_inherited(spin, false);
            return error == 0 ? 0 : fs_real.pthread_spin_lock(spin);
        }
    }
    return fs_real.pthread_spin_lock(spin);
}

static int real_try_lock(pthread_spinlock_t *spin) {
    int error = fs_real.pthread_spin_trylock(spin);
    if (fs_likely(error == 0)) {
        is_inherited(spin, false);
        return 0;
    }
    return is_inherited(spin, true) ? fs_real.pthread_spin_trylock(spin) : error;
}

static void *object(pthread_spinlock_t *spin) { return (void *)(uintptr_t)spin; }

FS_WAY_ROUND(lock, pthread_spinlock_t, FS_TAKING, FS_KIND_SPIN, real_lock)
FS_WAY_ROUND(try_lock, pthread_spinlock_t, FS_TRYING, FS_KIND_SPIN, real_try_lock)

static __attribute__((noinline)) int unlock(pthread_spinlock_t *spin) {
    is_inherited(spin, false);
    FS_RELEASE(FS_KIND_SPIN, object(spin), fs_real.pthread_spin_unlock(spin));
}

FS_EXPORT int pthread_spin_lock(pthread_spinlock_t *spin) {
    FS_FAST_TAKE(FS_KIND_SPIN, FS_TAKING, spin, true, fs_fast_spin(spin), lock);
}

FS_EXPORT int pthread_spin_trylock(pthread_spinlock_t *spin) {
    FS_FAST_TAKE(FS_KIND_SPIN, FS_TRYING, spin, true, fs_fast_spin_try(spin), try_lock);
}

FS_EXPORT int pthread_spin_unlock(pthread_spinlock_t *spin) {
    FS_FAST_GIVE(FS_KIND_SPIN, spin, true, fs_fast_spin_give(spin), 0, unlock);
}

FS_EXPORT int pthread_spin_init(pthread_spinlock_t *spin, int shared) {
    is_inherited(spin, false);
    FS_RENEW((void *)(uintptr_t)spin, fs_real.pthread_spin_init(spin, shared));
}

FS_EXPORT int pthread_spin_destroy(pthread_spinlock_t *spin) {
    is_inherited(spin, false);
    FS_RENEW((void *)(uintptr_t)spin, fs_real.pthread_spin_destroy(spin));
}
