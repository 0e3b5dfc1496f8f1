/* pthread_once, and C++ function-local statics (Itanium C++ ABI, 3.3.2). */
#include "hook.h"

#include "../detect.h"
#include "../sys.h"
#include "../watchdog.h"

enum { ONCE_DONE = 2 }; /* nptl/pthread_once.c */

static inline bool is_done(const int *control) {
    return (fs_load_acquire(control) & ONCE_DONE) != 0;
}

FS_EXPORT int pthread_once(pthread_once_t *control, void (*routine)(void)) {
    if (fs_likely(is_done(control))) {
        return 0;
    }
    FS_PASS(FS_KIND_ONCE, control, fs_real.pthread_once(control, routine));
}

FS_EXPORT void call_once(once_flag *flag, void (*routine)(void)) {
    pthread_once((int *)flag, routine);
}

FS_ALSO(__pthread_once, pthread_once);

/* --- guards ---------------------------------------------------------------------------------- */

/* The C++ runtime may come late, by dlopen with RTLD_LOCAL, and be one that we do not know: its
 * modules then bind to our names all the same. So there is a last resort of our own, which follows
 * libstdc++'s use of the guard's first word (libsupc++/guard.cc). */
enum { GUARD_DONE = 1, GUARD_PENDING = 0x100, GUARD_WAITING = 0x10000 };

static int own_acquire(uint64_t *guard) {
    uint32_t *word = (uint32_t *)guard;
    for (;;) {
        uint32_t seen = 0;
        if (__atomic_compare_exchange_n(word, &seen, GUARD_PENDING, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE)) {
            return 1;
        }
        if (seen == GUARD_DONE) {
            return 0;
        }
        if ((seen & GUARD_WAITING) != 0 ||
            __atomic_compare_exchange_n(word, &seen, seen | GUARD_WAITING, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE)) {
            fs_futex_wait(word, seen | GUARD_WAITING, FS_FOREVER, FS_ALL_BITS);
        }
    }
}

static void own_finish(uint64_t *guard, uint32_t value) {
    uint32_t *word = (uint32_t *)guard;
    if ((__atomic_exchange_n(word, value, __ATOMIC_ACQ_REL) & GUARD_WAITING) != 0) {
        fs_futex_wake(word, FS_ALL_BITS);
    }
}

static void own_release(uint64_t *guard) { own_finish(guard, GUARD_DONE); }
static void own_abort(uint64_t *guard) { own_finish(guard, 0); }

/* Looked up at the first use: a C program has none of them. */
static struct {
    __typeof__(__cxa_guard_acquire) *acquire;
    __typeof__(__cxa_guard_release) *release;
    __typeof__(__cxa_guard_abort) *abort;
} real;

static void *find(const char *name, void *own) {
    void *found = dlsym(RTLD_NEXT, name);
    found = found != NULL ? found : fs_real_late(name);
    return found != NULL ? found : own;
}

static void find_all(void) {
    if (fs_load_acquire(&real.acquire) == NULL) {
        real.release = (__typeof__(real.release))find("__cxa_guard_release", (void *)own_release);
        real.abort = (__typeof__(real.abort))find("__cxa_guard_abort", (void *)own_abort);
        fs_store_release(&real.acquire, (__typeof__(real.acquire))find("__cxa_guard_acquire",
                                                                       (void *)own_acquire));
    }
}

/* Returns 1 where the caller is to construct the object, 0 where somebody has. */
FS_EXPORT int __cxa_guard_acquire(uint64_t *guard) {
    find_all();
    struct fs_thread *self = fs_current();
    if (fs_unlikely(self == NULL)) {
        return real.acquire(guard);
    }
    uint32_t slot = fs_enter(self, guard, FS_KIND_GUARD, FS_CALLER());
    if (fs_unlikely(fs_is_inherited(guard))) {
        fs_detect_meet(FS_BLOCKS, FS_KIND_GUARD, guard);
    }
    FS_WATCHED(FS_KIND_GUARD, guard);
    int mine = real.acquire(guard);
    if (mine) {
        fs_held(self, guard, slot);
    } else {
        fs_leave(self, guard, slot);
    }
    return mine;
}

static void finish(uint64_t *guard, void (*real_finish)(uint64_t *)) {
    struct fs_thread *self = fs_current();
    uint32_t slot = self != NULL ? fs_leaving(self, guard) : FS_NO_SLOT;
    real_finish(guard);
    if (slot != FS_NO_SLOT) {
        fs_left(self, guard, slot, FS_KIND_GUARD);
    }
}

FS_EXPORT void __cxa_guard_release(uint64_t *guard) {
    find_all();
    finish(guard, real.release);
}

FS_EXPORT void __cxa_guard_abort(uint64_t *guard) {
    find_all();
    finish(guard, real.abort);
}
