#include "fast.h"

#include <string.h>

#include "layout.h"
#include "real.h"

/* Another preloaded library, or a sanitizer, may stand between us and glibc: it must be called. */
static bool is_glibc(const void *function) {
    Dl_info module;
    if (function == NULL || fs_real.dladdr(function, &module) == 0) {
        return false;
    }
    const char *slash = strrchr(module.dli_fname, '/');
    const char *name = slash != NULL ? slash + 1 : module.dli_fname;
    return strcmp(name, "libc.so.6") == 0 || strcmp(name, "libpthread.so.0") == 0;
}

#define IS_GLIBC(name) is_glibc((const void *)(uintptr_t)fs_real.name)

static bool probe_mutex(unsigned kind) {
    int id = fs_layout_own_id();
    pthread_mutex_t ours = PTHREAD_MUTEX_INITIALIZER;
    ours.__data.__kind = (int)kind | FS_MUTEX_NO_ELISION;
    pthread_mutex_t glibcs = ours;
    fs_real.pthread_mutex_lock(&glibcs);
    bool good = fs_fast_mutex(fs_fast_kind(&ours)) && fs_fast_mutex_take(&ours, kind, id) &&
                !fs_fast_mutex_take(&ours, kind, id) && memcmp(&ours, &glibcs, sizeof ours) == 0;
    fs_real.pthread_mutex_unlock(&glibcs);
    return good && fs_fast_mutex_goes(&ours, kind, id) && fs_fast_mutex_give(&ours, kind) &&
           memcmp(&ours, &glibcs, sizeof ours) == 0;
}

static bool probe_rwlock(void) {
    int id = fs_layout_own_id();
    pthread_rwlock_t ours = PTHREAD_RWLOCK_INITIALIZER;
    pthread_rwlock_t glibcs = ours;
    fs_real.pthread_rwlock_rdlock(&glibcs);
    bool good = fs_fast_read(&ours) && memcmp(&ours, &glibcs, sizeof ours) == 0;
    fs_real.pthread_rwlock_unlock(&glibcs);
    good = good && fs_fast_read_give(&ours) && memcmp(&ours, &glibcs, sizeof ours) == 0;
    fs_real.pthread_rwlock_wrlock(&glibcs); /* the first of many, which changes the phase */
    fs_real.pthread_rwlock_unlock(&glibcs);
    good = good && !fs_fast_write(&ours, id);
    ours = glibcs;
    fs_real.pthread_rwlock_wrlock(&glibcs);
    good = good && fs_fast_write(&ours, id) && memcmp(&ours, &glibcs, sizeof ours) == 0 &&
           !fs_fast_write(&ours, id) && !fs_fast_read(&ours);
    fs_real.pthread_rwlock_unlock(&glibcs);
    return good && fs_fast_write_give(&ours, id) && memcmp(&ours, &glibcs, sizeof ours) == 0;
}

static bool probe_spin(void) {
    pthread_spinlock_t ours = FS_SPIN_FREE, glibcs = FS_SPIN_FREE;
    fs_real.pthread_spin_lock(&glibcs);
    bool good = fs_fast_spin(&ours) && ours == glibcs && !fs_fast_spin(&ours);
    fs_real.pthread_spin_unlock(&glibcs);
    fs_fast_spin_give(&ours);
    return good && ours == glibcs;
}

static bool are_glibcs(void) {
    return IS_GLIBC(pthread_mutex_lock) && IS_GLIBC(pthread_mutex_trylock) &&
           IS_GLIBC(pthread_mutex_unlock) && IS_GLIBC(mtx_lock) && IS_GLIBC(mtx_trylock) &&
           IS_GLIBC(mtx_unlock) && IS_GLIBC(pthread_rwlock_rdlock) &&
           IS_GLIBC(pthread_rwlock_tryrdlock) && IS_GLIBC(pthread_rwlock_wrlock) &&
           IS_GLIBC(pthread_rwlock_trywrlock) && IS_GLIBC(pthread_rwlock_unlock) &&
           IS_GLIBC(pthread_spin_lock) && IS_GLIBC(pthread_spin_trylock) &&
           IS_GLIBC(pthread_spin_unlock);
}

static bool are_as_described(void) {
    return probe_mutex(PTHREAD_MUTEX_TIMED_NP) && probe_mutex(PTHREAD_MUTEX_RECURSIVE_NP) &&
           probe_mutex(PTHREAD_MUTEX_ERRORCHECK_NP) && probe_rwlock() && probe_spin();
}

void fs_fast_init(struct fs_thread *self) {
    static bool done;
    if (!done) {
        done = true;
        fs_fast_ways = are_glibcs() && are_as_described();
        self->room = fs_fast_ways ? self->capacity : 0;
    }
}

void fs_fast_off(void) {
    fs_fast_ways = false;
    fs_self->room = 0;
}

/* --- the rare ends --------------------------------------------------------------------------- */

int fs_fast_taken(struct fs_thread *self, void *object, uint32_t slot) {
    fs_held(self, object, slot);
    return 0;
}

int fs_fast_released(struct fs_thread *self, void *object, uint32_t slot, enum fs_kind kind) {
    fs_left(self, object, slot, kind);
    return 0;
}

int fs_fast_wake(struct fs_thread *self, pthread_mutex_t *mutex, uint32_t slot) {
    fs_futex_wake_one(&mutex->__data.__lock);
    return fs_fast_released(self, mutex, slot, FS_KIND_MUTEX);
}
