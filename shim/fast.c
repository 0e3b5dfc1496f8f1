#include "fast.h"

#include <link.h>
#include <string.h>

#include "layout.h"
#include "module.h"
#include "real.h"

static const struct link_map *module_of(const void *function) {
    struct dl_find_object found;
    struct link_map *module;
    Dl_info unused;
    if (fs_find_module((uintptr_t)function, &found)) {
        return found.dlfo_link_map;
    }
    /* Looks through all of libc's symbols. */
    return dladdr1(function, &unused, (void **)&module, RTLD_DL_LINKMAP) != 0 ? module : NULL;
}

/* Another preloaded library, or a sanitizer, may stand between us and glibc: it must be called. */
static bool is_glibc(const void *function) {
    const struct link_map *module = function != NULL ? module_of(function) : NULL;
    if (module == NULL) {
        return false;
    }
    const char *name = basename(module->l_name);
    return strcmp(name, "libc.so.6") == 0 || strcmp(name, "libpthread.so.0") == 0;
}

#define IS_GLIBC(name) is_glibc((const void *)(uintptr_t)fs_real.name)

static bool probe_mutex(unsigned kind) {
    int id = fs_layout_own_id();
    pthread_mutex_t ours = PTHREAD_MUTEX_INITIALIZER;
    ours.__data.__kind = (int)kind | FS_MUTEX_NO_ELISION;
    pthread_mutex_t glibcs = ours, alone = ours;
    fs_real.pthread_mutex_lock(&glibcs);
    bool good = fs_mutex_simple(fs_mutex_kind(&ours)) && fs_fast_mutex_take(&ours, kind, id) &&
                !fs_fast_mutex_take(&ours, kind, id) && memcmp(&ours, &glibcs, sizeof ours) == 0;
    good = good && fs_fast_mutex_take_alone(&alone, kind, id) &&
           !fs_fast_mutex_take_alone(&alone, kind, id) &&
           memcmp(&alone, &glibcs, sizeof alone) == 0;
    fs_real.pthread_mutex_unlock(&glibcs);
    return good && fs_fast_mutex_goes(&ours, kind, id) && fs_fast_mutex_give(&ours, kind) &&
           memcmp(&ours, &glibcs, sizeof ours) == 0 && fs_fast_mutex_give_alone(&alone, kind) &&
           memcmp(&alone, &glibcs, sizeof alone) == 0;
}

static bool probe_rwlock(void) {
    int id = fs_layout_own_id();
    pthread_rwlock_t ours = PTHREAD_RWLOCK_INITIALIZER;
    pthread_rwlock_t glibcs = ours;
    fs_real.pthread_rwlock_rdlock(&glibcs);
    bool good = fs_fast_read(&ours) && memcmp(&ours, &glibcs, sizeof ours) == 0;
    fs_real.pthread_rwlock_unlock(&glibcs);
    good = good && fs_fast_read_give(&ours) && memcmp(&ours, &glibcs, sizeof ours) == 0;
    good = good && fs_fast_read_try(&ours) && fs_fast_read_give(&ours) &&
           memcmp(&ours, &glibcs, sizeof ours) == 0;
    fs_real.pthread_rwlock_wrlock(&glibcs); /* the first of many, which changes the phase */
    fs_real.pthread_rwlock_unlock(&glibcs);
    good = good && !fs_fast_write(&ours, id);
    ours = glibcs;
    fs_real.pthread_rwlock_wrlock(&glibcs);
    good = good && fs_fast_write(&ours, id) && memcmp(&ours, &glibcs, sizeof ours) == 0 &&
           !fs_fast_write(&ours, id) && !fs_fast_read(&ours) && !fs_fast_read_counted(&ours) &&
           !fs_fast_read_try(&ours) && memcmp(&ours, &glibcs, sizeof ours) == 0;
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

/* True if signals find nobody to wake, and change nothing. */
static bool probe_signals(pthread_cond_t *cond) {
    pthread_cond_t before = *cond;
    return fs_real.pthread_cond_signal(cond) == 0 && fs_real.pthread_cond_broadcast(cond) == 0 &&
           memcmp(cond, &before, sizeof before) == 0;
}

static bool probe_cond(void) {
    pthread_cond_t fresh = PTHREAD_COND_INITIALIZER;
    /* As with a waiter that has just come, and does not sleep yet. */
    pthread_cond_t waited = {.__data = {.__wseq.__value64 = 1 << 1, .__wrefs = 1 << 3}};
    bool good = probe_signals(&fresh) && !fs_fast_all_are_woken(&waited);
    fs_real.pthread_cond_signal(&waited);
    return good && fs_fast_all_are_woken(&waited) && probe_signals(&waited);
}

static bool probe_sem(void) {
    sem_t ours, glibcs;
    memset(&ours, 0, sizeof ours);
    memset(&glibcs, 0, sizeof glibcs);
    fs_real.sem_init(&ours, 0, 1);
    fs_real.sem_init(&glibcs, 0, 1);
    fs_real.sem_wait(&glibcs);
    bool good = fs_fast_sem_take(&ours, 0) && !fs_fast_sem_take(&ours, 0) &&
                memcmp(&ours, &glibcs, sizeof ours) == 0;
    fs_real.sem_post(&glibcs);
    return good && fs_fast_sem_give(&ours) && memcmp(&ours, &glibcs, sizeof ours) == 0;
}

static bool are_glibcs(void) {
    return IS_GLIBC(pthread_mutex_lock) && IS_GLIBC(pthread_mutex_trylock) &&
           IS_GLIBC(pthread_mutex_unlock) && IS_GLIBC(mtx_lock) && IS_GLIBC(mtx_trylock) &&
           IS_GLIBC(mtx_unlock) && IS_GLIBC(pthread_rwlock_rdlock) &&
           IS_GLIBC(pthread_rwlock_tryrdlock) && IS_GLIBC(pthread_rwlock_wrlock) &&
           IS_GLIBC(pthread_rwlock_trywrlock) && IS_GLIBC(pthread_rwlock_unlock) &&
           IS_GLIBC(pthread_spin_lock) && IS_GLIBC(pthread_spin_trylock) &&
           IS_GLIBC(pthread_spin_unlock) && IS_GLIBC(pthread_cond_signal) &&
           IS_GLIBC(pthread_cond_broadcast) && IS_GLIBC(cnd_signal) && IS_GLIBC(cnd_broadcast) &&
           IS_GLIBC(sem_wait) && IS_GLIBC(sem_trywait) && IS_GLIBC(sem_post);
}

static bool are_as_described(void) {
    return probe_mutex(PTHREAD_MUTEX_TIMED_NP) && probe_mutex(PTHREAD_MUTEX_RECURSIVE_NP) &&
           probe_mutex(PTHREAD_MUTEX_ERRORCHECK_NP) && probe_rwlock() && probe_spin() &&
           probe_cond() && probe_sem();
}

void fs_fast_init(void) {
    fs_fast_ways = are_glibcs() && are_as_described();
    if (fs_self != NULL) {
        fs_identify(fs_self);
    }
}

void fs_fast_off(void) {
    fs_fast_ways = false;
    fs_self->room = fs_self->mutex_room = 0;
}

/* --- the rare ends --------------------------------------------------------------------------- */

/* As glibc's timed functions do at their deadline: while a writer has the lock, or had it last, the count is
 * taken back. If not, the caller has the lock; where writers are preferred it may have been too forward. */
bool fs_fast_read_counted(pthread_rwlock_t *rwlock) {
    enum { SPINS = 100, LOOK_AGAIN_US = 50 };
    const unsigned futex_used = 2; /* somebody sleeps at it */
    unsigned readers = fs_load(&rwlock->__data.__readers);
    while ((readers & FS_RWLOCK_WRITE_PHASE) != 0 || readers >= FS_RWLOCK_READERS_MAX) {
        if (fs_fast_readers_become(rwlock, &readers, readers - FS_RWLOCK_READER,
                                   __ATOMIC_RELAXED)) {
            return false;
        }
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    /* Who has begun the read phase says so there next, but may have lost its processor to us. */
    for (unsigned spins = 0; (fs_load(&rwlock->__data.__wrphase_futex) & ~futex_used) == 1;
         spins++) {
        if (spins < SPINS) {
            fs_cpu_relax();
        } else {
            fs_sleep(LOOK_AGAIN_US * FS_USEC);
        }
    }
    if (rwlock->__data.__flags == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) {
        fs_real.pthread_rwlock_unlock(rwlock);
        return false;
    }
    return true;
}

int fs_fast_taken(struct fs_thread *self, void *object, uint32_t slot) {
    fs_held(self, object, slot);
    return 0;
}

int fs_fast_released(struct fs_thread *self, void *object, uint32_t slot, enum fs_kind kind) {
    fs_left(self, object, slot, kind);
    return 0;
}

int fs_fast_mutex_taken(struct fs_thread *self, pthread_mutex_t *mutex, const void *caller,
                        int (*round)(pthread_mutex_t *mutex, const void *caller)) {
    uint32_t slot = fs_find_entry(self, mutex);
    if (slot == FS_NO_SLOT) {
        slot = fs_enter_late(self, mutex, FS_KIND_MUTEX, caller);
        if (fs_stop_wanted(self) && self->depth == 1) {
            fs_real.pthread_mutex_unlock(mutex);
            fs_leave(self, mutex, slot);
            return round(mutex, caller);
        }
    }
    fs_held(self, mutex, slot);
    return 0;
}

uint32_t fs_fast_mutex_waits(struct fs_thread *self, const pthread_mutex_t *mutex, uint32_t slot,
                             enum fs_phase phase) {
    const void *caller = self->entries[slot].caller;
    slot = fs_settle(self, mutex, slot);
    if (slot == FS_NO_SLOT) {
        return fs_enter_as(self, (void *)(uintptr_t)mutex, FS_KIND_MUTEX, caller, phase);
    }
    fs_note_frame(self, slot);
    fs_compiler_barrier();
    fs_store(&self->entries[slot].phase, (uint8_t)phase);
    return slot;
}

int fs_fast_wake(struct fs_thread *self, pthread_mutex_t *mutex, uint32_t slot) {
    fs_store_release(&mutex->__data.__lock, 0);
    fs_futex_wake_one(&mutex->__data.__lock);
    return fs_fast_released(self, mutex, slot, FS_KIND_MUTEX);
}
