/* Spinlocks. In a child that has inherited one from a vanished holder, it is put right when it is
 * next used (repair.h). */
#include "../repair.h"
#include "hook.h"

static inline bool is_inherited(pthread_spinlock_t *spin, bool free_it) {
    return fs_unlikely(fs_load(&fs_spins_inherited)) && fs_spin_disinherit(spin, free_it);
}

static int lock(pthread_spinlock_t *spin) {
    if (fs_unlikely(fs_load(&fs_spins_inherited))) {
        int error = fs_real.pthread_spin_trylock(spin);
        if (error == 0 || !is_inherited(spin, true)) {
            is_inherited(spin, false);
            return error == 0 ? 0 : fs_real.pthread_spin_lock(spin);
        }
    }
    return fs_real.pthread_spin_lock(spin);
}

static int try_lock(pthread_spinlock_t *spin) {
    int error = fs_real.pthread_spin_trylock(spin);
    if (fs_likely(error == 0)) {
        is_inherited(spin, false);
        return 0;
    }
    return is_inherited(spin, true) ? fs_real.pthread_spin_trylock(spin) : error;
}

FS_EXPORT int pthread_spin_lock(pthread_spinlock_t *spin) {
    FS_TAKE(FS_KIND_SPIN, (void *)(uintptr_t)spin, lock(spin));
}

FS_EXPORT int pthread_spin_trylock(pthread_spinlock_t *spin) {
    FS_TRY(FS_KIND_SPIN, (void *)(uintptr_t)spin, try_lock(spin));
}

FS_EXPORT int pthread_spin_unlock(pthread_spinlock_t *spin) {
    is_inherited(spin, false);
    FS_RELEASE(FS_KIND_SPIN, (void *)(uintptr_t)spin, fs_real.pthread_spin_unlock(spin));
}

FS_EXPORT int pthread_spin_init(pthread_spinlock_t *spin, int shared) {
    is_inherited(spin, false);
    FS_RENEW((void *)(uintptr_t)spin, fs_real.pthread_spin_init(spin, shared));
}

FS_EXPORT int pthread_spin_destroy(pthread_spinlock_t *spin) {
    is_inherited(spin, false);
    FS_RENEW((void *)(uintptr_t)spin, fs_real.pthread_spin_destroy(spin));
}
