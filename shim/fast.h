/* fast.h - locks taken and given back without a call into glibc, where nobody is in the way.
 *
 * What glibc's own functions do to a private, plain lock is a handful of instructions. Done here,
 * between the two halves of the record, they save the calls, and make a recorded lock cost what a
 * bare one does. Anything else (another kind, somebody waits, a fork is under way) is left to glibc
 * and to the rare path.
 *
 * Only where fs_fast_init() has found that the real functions are glibc's and do just this; else
 * every thread's `room` is 0, and nobody comes here. */
#ifndef FS_FAST_H
#define FS_FAST_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/single_threaded.h>

#include "inventory.h"
#include "layout.h"

/* Checks the fast ways against glibc's on scratch objects. At start-up: the caller takes them from now on,
 * and later threads do. */
void fs_fast_init(void);

/* In the child, in the only thread: nobody goes the fast ways any more. */
void fs_fast_off(void);

/* What glibc notes in a mutex that it has taken. */
static inline void fs_fast_mutex_own(pthread_mutex_t *mutex, unsigned kind, int owner_id) {
    if (fs_likely(kind == PTHREAD_MUTEX_RECURSIVE_NP)) {
        mutex->__data.__count = 1;
    }
    fs_store(&mutex->__data.__owner, owner_id);
    mutex->__data.__nusers++;
}

static inline void fs_fast_mutex_disown(pthread_mutex_t *mutex, unsigned kind) {
    if (fs_likely(kind == PTHREAD_MUTEX_RECURSIVE_NP)) {
        mutex->__data.__count = 0;
    }
    fs_store(&mutex->__data.__owner, 0);
    mutex->__data.__nusers--;
}

/* As pthread_mutex_lock() where the mutex is free (nptl/pthread_mutex_lock.c); false where not. */
static inline bool fs_fast_mutex_take(pthread_mutex_t *mutex, unsigned kind, int owner_id) {
    int free = 0;
    if (fs_unlikely(!__atomic_compare_exchange_n(&mutex->__data.__lock, &free, 1, false,
                                                 __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))) {
        return false;
    }
    fs_fast_mutex_own(mutex, kind, owner_id);
    return true;
}

/* The same while the process has one thread. */
static inline bool fs_fast_mutex_take_alone(pthread_mutex_t *mutex, unsigned kind, int owner_id) {
    if (fs_unlikely(mutex->__data.__lock != 0)) {
        return false;
    }
    fs_store(&mutex->__data.__lock, 1);
    fs_fast_mutex_own(mutex, kind, owner_id);
    return true;
}

/* True if pthread_mutex_unlock() would set it free. */
static inline bool fs_fast_mutex_goes(const pthread_mutex_t *mutex, unsigned kind, int owner_id) {
    return kind == PTHREAD_MUTEX_TIMED_NP ||
           (fs_load(&mutex->__data.__owner) == owner_id &&
            (kind != PTHREAD_MUTEX_RECURSIVE_NP || mutex->__data.__count == 1));
}

/* Sets it free (nptl/pthread_mutex_unlock.c). False if somebody waits: then it is not free yet, and is left to
 * fs_fast_wake(). */
static inline bool fs_fast_mutex_give(pthread_mutex_t *mutex, unsigned kind) {
    fs_fast_mutex_disown(mutex, kind);
    return fs_likely(__atomic_sub_fetch(&mutex->__data.__lock, 1, __ATOMIC_RELEASE) == 0);
}

/* The same while the process has one thread. True, always. */
static inline bool fs_fast_mutex_give_alone(pthread_mutex_t *mutex, unsigned kind) {
    fs_fast_mutex_disown(mutex, kind);
    fs_store(&mutex->__data.__lock, 0);
    return true;
}

/* __readers of a rwlock (nptl/pthread_rwlock_common.c): flags in the low bits, readers above. */
enum {
    FS_RWLOCK_WRITE_PHASE = 1,
    FS_RWLOCK_WRITER = 2,
    FS_RWLOCK_FLAGS = 7,
    FS_RWLOCK_READER = 8,
    FS_RWLOCK_READERS_MAX = 1 << 20, /* far below the overflow that glibc looks for */
};

static inline bool fs_fast_readers_become(pthread_rwlock_t *rwlock, unsigned *readers,
                                          unsigned many, int order) {
    return __atomic_compare_exchange_n(&rwlock->__data.__readers, readers, many, false, order,
                                       __ATOMIC_RELAXED);
}

/* As pthread_rwlock_rdlock() where readers have it, or had it last. It adds before it looks, as that does: of
 * many readers at once none has to try again. False: the caller is counted as a reader, but must go on with
 * fs_fast_read_counted(). */
static inline bool fs_fast_read(pthread_rwlock_t *rwlock) {
    unsigned readers =
        __atomic_fetch_add(&rwlock->__data.__readers, FS_RWLOCK_READER, __ATOMIC_ACQUIRE);
    unsigned otherwise = FS_RWLOCK_FLAGS | ~(FS_RWLOCK_READERS_MAX - 1U);
    return fs_likely((readers & otherwise) == 0);
}

/* True if the caller has the lock; false: it is not counted any more. */
bool fs_fast_read_counted(pthread_rwlock_t *rwlock);

/* As pthread_rwlock_tryrdlock() where readers have it, or had it last, and no writer waits. Mostly there is no
 * other reader: to guess so is faster than to look. */
static inline bool fs_fast_read_try(pthread_rwlock_t *rwlock) {
    unsigned readers = 0;
    return fs_likely(
               fs_fast_readers_become(rwlock, &readers, FS_RWLOCK_READER, __ATOMIC_ACQUIRE)) ||
           ((readers & FS_RWLOCK_FLAGS) == 0 && readers < FS_RWLOCK_READERS_MAX &&
            fs_fast_readers_become(rwlock, &readers, readers + FS_RWLOCK_READER, __ATOMIC_ACQUIRE));
}

/* As pthread_rwlock_unlock() by a reader where no writer waits. */
static inline bool fs_fast_read_give(pthread_rwlock_t *rwlock) {
    unsigned readers = FS_RWLOCK_READER;
    return fs_likely(fs_fast_readers_become(rwlock, &readers, 0, __ATOMIC_RELEASE)) ||
           ((readers & FS_RWLOCK_FLAGS) == 0 && readers >= FS_RWLOCK_READER &&
            fs_fast_readers_become(rwlock, &readers, readers - FS_RWLOCK_READER, __ATOMIC_RELEASE));
}

/* As pthread_rwlock_wrlock() where a writer had it last and nobody has it. */
static inline bool fs_fast_write(pthread_rwlock_t *rwlock, int owner_id) {
    unsigned idle = FS_RWLOCK_WRITE_PHASE;
    if (!__atomic_compare_exchange_n(&rwlock->__data.__readers, &idle,
                                     FS_RWLOCK_WRITE_PHASE | FS_RWLOCK_WRITER, false,
                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return false;
    }
    fs_store(&rwlock->__data.__writers_futex, 1);
    fs_store(&rwlock->__data.__cur_writer, owner_id);
    return true;
}

/* As pthread_rwlock_unlock() by a writer where nobody waits; where somebody does, nothing has
 * changed. In between a writer that comes finds nothing to wait at, and looks again. */
static inline bool fs_fast_write_give(pthread_rwlock_t *rwlock, int owner_id) {
    if (rwlock->__data.__flags != PTHREAD_RWLOCK_PREFER_READER_NP) {
        return false; /* then writers are looked for first */
    }
    fs_store(&rwlock->__data.__cur_writer, 0);
    unsigned waited = __atomic_exchange_n(&rwlock->__data.__writers_futex, 0, __ATOMIC_RELAXED);
    unsigned written = FS_RWLOCK_WRITE_PHASE | FS_RWLOCK_WRITER;
    if (fs_likely(waited == 1 && __atomic_compare_exchange_n(&rwlock->__data.__readers, &written,
                                                             FS_RWLOCK_WRITE_PHASE, false,
                                                             __ATOMIC_RELEASE, __ATOMIC_RELAXED))) {
        return true;
    }
    fs_store(&rwlock->__data.__writers_futex, waited);
    fs_store(&rwlock->__data.__cur_writer, owner_id);
    return false;
}

/* Spinlocks (sysdeps/x86_64/nptl/pthread_spin_lock.S). */
static inline bool fs_fast_spin(pthread_spinlock_t *spin) {
    return fs_likely(__atomic_sub_fetch(spin, 1, __ATOMIC_ACQUIRE) == 0);
}

static inline bool fs_fast_spin_try(pthread_spinlock_t *spin) {
    int free = FS_SPIN_FREE;
    return __atomic_compare_exchange_n(spin, &free, 0, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* True, always. */
static inline bool fs_fast_spin_give(pthread_spinlock_t *spin) {
    __atomic_store_n(spin, FS_SPIN_FREE, __ATOMIC_RELEASE);
    return true;
}

/* A semaphore that is used as a lock, by this process alone. */
static inline bool fs_fast_sem(const sem_t *sem, const struct fs_thread *self) {
    const struct fs_sem *inside = (const struct fs_sem *)sem;
    return inside->magic == FS_SEM_MAGIC && fs_load(&inside->nature) == FS_SEM_LOCK &&
           fs_load(&inside->generation) == self->generation;
}

static inline bool fs_fast_sem_becomes(sem_t *sem, uint64_t *from, uint64_t to, int order) {
    return fs_likely(__atomic_compare_exchange_n(&((struct fs_sem *)sem)->value_and_waiters, from,
                                                 to, false, order, __ATOMIC_RELAXED));
}

static inline uint32_t fs_fast_sem_value(const sem_t *sem) {
    return (uint32_t)fs_load(&((const struct fs_sem *)sem)->value_and_waiters);
}

/* As sem_wait() where the value is not 0 (nptl/sem_waitcommon.c): mostly it is 1, and nobody waits. */
static inline bool fs_fast_sem_take(sem_t *sem, int owner_id) {
    uint64_t now = 1;
    if (!fs_fast_sem_becomes(sem, &now, 0, __ATOMIC_ACQUIRE) &&
        ((uint32_t)now == 0 || !fs_fast_sem_becomes(sem, &now, now - 1, __ATOMIC_ACQUIRE))) {
        return false;
    }
    fs_store(&((struct fs_sem *)sem)->holder, owner_id);
    return true;
}

/* As sem_post() where the value is 0 and nobody waits (nptl/sem_post.c). Whoever waits is left to glibc. */
static inline bool fs_fast_sem_give(sem_t *sem) {
    uint64_t now = 0;
    fs_store(&((struct fs_sem *)sem)->holder, 0);
    return fs_fast_sem_becomes(sem, &now, 1, __ATOMIC_RELEASE);
}

/* True if each waiter that a condition variable counts has been signalled, and is on its way out. What says so changes
 * only while somebody has the lock inside it; but for the sequence, where waiters add themselves, and which does not
 * come back to a value: its lowest bit changes as the groups change roles, and that takes new waiters each time. So
 * where it is the same before and after, and the lock was free twice in between, all was so at one moment. */
static inline bool fs_fast_all_are_woken(const pthread_cond_t *cond) {
    unsigned long long sequence = fs_load_acquire(&cond->__data.__wseq.__value64);
    struct fs_cond_groups groups = fs_cond_groups(cond, sequence);
    return !groups.locked && groups.left == 0 && groups.fresh == 0 && !fs_cond_locked(cond) &&
           fs_load(&cond->__data.__wseq.__value64) == sequence;
}

/* True if pthread_cond_signal() and pthread_cond_broadcast() would find nobody to wake, and do nothing
 * (nptl/pthread_cond_signal.c: references are counted above three bits). */
static inline bool fs_fast_nobody_waits(const pthread_cond_t *cond) {
    return fs_likely(fs_load(&fs_fast_ways)) &&
           (fs_load(&cond->__data.__wrefs) >> 3 == 0 || fs_fast_all_are_woken(cond));
}

/* --- the record ------------------------------------------------------------------------------ */

/* An atomic instruction waits for each store before it. So what a place says already, since it was last used for the
 * same lock, is not stored again: to look costs less. Where no such instruction follows, a store does. */
#define FS_FAST_NOTE(place, value, atomic)                                                         \
    do {                                                                                           \
        if (!(atomic) || (place) != (value)) {                                                     \
            fs_store(&(place), value);                                                             \
        }                                                                                          \
    } while (0)

/* fs_enter_as() where there is room and no fork under way: the new entry. NULL: the depth is as it was.
 * The entry is filled before the depth goes up, its phase first: a signal handler that locks in between uses the
 * same place, and leaves another phase there. That is looked at before the stop word is: whatever a fork makes of
 * such an entry, its thread is not past the gate. */
static inline struct fs_entry *fs_fast_enter(struct fs_thread *self, uint32_t slot, void *object,
                                             enum fs_kind kind, enum fs_phase phase,
                                             const void *caller) {
    struct fs_entry *entry = &self->entries[slot];
    fs_store(&entry->what, FS_WHAT(kind, phase));
    fs_compiler_barrier();
    FS_FAST_NOTE(entry->frame, fs_frame(), true);
    FS_FAST_NOTE(entry->object, object, true);
    FS_FAST_NOTE(entry->caller, caller, true);
    fs_compiler_barrier();
    fs_store(&self->depth, slot + 1);
    fs_compiler_barrier();
    if (fs_unlikely(fs_load(&entry->what) != FS_WHAT(kind, phase) || fs_stop_is_set())) {
        fs_store(&self->depth, slot);
        return NULL;
    }
    return entry;
}

/* Where the lock is given back in more than one step, the entry says so meanwhile: between them the lock names
 * no holder. Returns true. */
static inline bool fs_fast_leave(struct fs_entry *entry) {
    fs_store(&entry->phase, FS_RELEASING);
    return true;
}

/* --- whole hooks ----------------------------------------------------------------------------- */

/* The rare ends of a fast way. They return 0. */
int fs_fast_taken(struct fs_thread *self, void *object, uint32_t slot);
int fs_fast_released(struct fs_thread *self, void *object, uint32_t slot, enum fs_kind kind);
/* Sets the mutex free, and wakes one who waits. Before the entry goes: a fork waits for whoever is to be woken, and
 * must find us at it. */
int fs_fast_wake(struct fs_thread *self, pthread_mutex_t *mutex, uint32_t slot);
/* The mutex was taken, but the entry at its place is for something else. If there is none any more, and the world is
 * stopped, it is given back, and taken by `round`. Returns 0, or what that returns. */
int fs_fast_mutex_taken(struct fs_thread *self, pthread_mutex_t *mutex, const void *caller,
                        int (*round)(pthread_mutex_t *mutex, const void *caller));
/* The mutex is another's: from now on its entry says that it is being taken, in this phase. Returns its place. */
uint32_t fs_fast_mutex_waits(struct fs_thread *self, const pthread_mutex_t *mutex, uint32_t slot,
                             enum fs_phase phase);

/* The way round, out of line: NAME(lock, caller) takes the lock by `real`(lock); NAME_at(self, lock, slot) does
 * where the entry is made, and the fast way has found the lock taken. `real` returns 0 or an error. */
#define FS_WAY_FROM_THE_START(name, type, how, kind, real)                                         \
    static __attribute__((noinline)) int name(type *lock, const void *caller) {                    \
        FS_TAKE_FOR(caller, how, kind, (void *)(uintptr_t)lock, real(lock));                       \
    }
#define FS_WAY_ROUND(name, type, how, kind, real)                                                  \
    FS_WAY_FROM_THE_START(name, type, how, kind, real)                                             \
    static __attribute__((noinline)) int name##_at(struct fs_thread *self, type *lock,             \
                                                   uint32_t slot) {                                \
        FS_TAKE_AT(self, (void *)(uintptr_t)lock, slot, real(lock));                               \
    }

/* The body of a hook that takes a lock. `known`: the fast way knows this one. `take`: true if it was
 * taken. `round`: a way round. */
#define FS_FAST_TAKE(kind, how, lock, known, take, round)                                          \
    struct fs_thread *self = fs_fast_self;                                                         \
    uint32_t slot = self->depth;                                                                   \
    if (fs_unlikely(slot >= self->room || !(known))) {                                             \
        return round(lock, FS_CALLER());                                                           \
    }                                                                                              \
    FS_FAST_TAKE_AT(kind, how, lock, take, round)

/* ... from where there is room at `slot`. A signal handler that runs in between may release something below the
 * entry, or fork: then it is for `lock` no longer. */
#define FS_FAST_TAKE_AT(kind, how, lock, take, round)                                              \
    struct fs_entry *entry =                                                                       \
        fs_fast_enter(self, slot, (void *)(uintptr_t)(lock), kind, how, FS_CALLER());              \
    if (fs_unlikely(entry == NULL)) {                                                              \
        return round(lock, FS_CALLER());                                                           \
    }                                                                                              \
    if (fs_unlikely(!(take))) {                                                                    \
        return round##_at(self, lock, slot);                                                       \
    }                                                                                              \
    if (fs_unlikely(entry->object != (lock))) {                                                    \
        return fs_fast_taken(self, (void *)(uintptr_t)(lock), slot);                               \
    }                                                                                              \
    fs_store(&entry->phase, FS_HELD);                                                              \
    return 0

/* ... that gives it back. `give`: true if it was given; else `otherwise` is returned. (At depth 0 the place of the
 * newest entry wraps, and there is no room for it.) */
#define FS_FAST_GIVE(kind, lock, known, give, otherwise, round)                                    \
    struct fs_thread *self = fs_fast_self;                                                         \
    uint32_t depth = self->depth;                                                                  \
    struct fs_entry *entry = &self->entries[depth - 1];                                            \
    if (fs_unlikely(depth - 1 >= self->room || entry->object != (lock) || !(known))) {             \
        return round(lock);                                                                        \
    }                                                                                              \
    FS_FAST_GIVE_AT(kind, lock, give, otherwise)

#define FS_FAST_GIVE_AT(kind, lock, give, otherwise)                                               \
    if (fs_unlikely(!(give))) {                                                                    \
        return otherwise;                                                                          \
    }                                                                                              \
    if (fs_unlikely(self->depth != depth)) {                                                       \
        return fs_fast_released(self, (void *)(uintptr_t)(lock), depth - 1, kind);                 \
    }                                                                                              \
    fs_store(&self->depth, depth - 1);                                                             \
    return 0

/* --- mutexes ---------------------------------------------------------------------------------- */

/* While the process has one thread, glibc takes and gives back a mutex without atomic instructions, and so do we:
 * then `mutex_room` is 0. That ends with the first thread, for good, as it does in glibc. */
static inline __attribute__((always_inline)) bool fs_fast_alone(struct fs_thread *self,
                                                                uint32_t slot) {
    if (slot >= self->room || self->mutex_room != 0) {
        return false;
    }
    if (!__libc_single_threaded) {
        self->mutex_room = self->room;
        return false;
    }
    return true;
}

/* A mutex names its holder. So the entry of a simple one says "held" from before it is taken until after it is given
 * back, and the mutex itself whether that is so by now (fs_entry_phase()): that saves two marks, and the frame. As
 * with the others the stop word is looked at before it is taken.
 * The object comes first: a signal handler that locks before the depth is up uses the same place, and leaves
 * there either another object, or the same entry. */
static inline __attribute__((always_inline)) struct fs_entry *
fs_fast_mutex_enter(struct fs_thread *self, uint32_t slot, pthread_mutex_t *mutex,
                    const void *caller, bool atomic) {
    struct fs_entry *entry = &self->entries[slot];
    FS_FAST_NOTE(entry->object, (void *)mutex, atomic);
    fs_compiler_barrier();
    FS_FAST_NOTE(entry->caller, caller, atomic);
    FS_FAST_NOTE(entry->what, FS_WHAT(FS_KIND_MUTEX, FS_HELD), atomic);
    fs_compiler_barrier();
    fs_store(&self->depth, slot + 1);
    fs_compiler_barrier();
    if (fs_unlikely(entry->object != mutex || fs_stop_is_set())) {
        fs_store(&self->depth, slot);
        return NULL;
    }
    return entry;
}

#define FS_FAST_MUTEX_TAKE_AT(mutex, caller, atomic, take, round)                                  \
    struct fs_entry *entry = fs_fast_mutex_enter(self, slot, mutex, caller, atomic);               \
    if (fs_unlikely(entry == NULL)) {                                                              \
        return round(mutex, caller);                                                               \
    }                                                                                              \
    if (fs_unlikely(!(take))) {                                                                    \
        return round##_at(self, mutex, slot);                                                      \
    }                                                                                              \
    if (fs_unlikely(entry->object != (mutex))) {                                                   \
        return fs_fast_mutex_taken(self, mutex, caller, round);                                    \
    }                                                                                              \
    return 0

#define FS_FAST_MUTEX_TAKE_PLAIN(mutex, caller, round)                                             \
    struct fs_thread *self = fs_fast_self;                                                         \
    uint32_t slot = self->depth;                                                                   \
    if (fs_unlikely(slot >= self->mutex_room)) {                                                   \
        if (!fs_fast_alone(self, slot)) {                                                          \
            return round(mutex, caller);                                                           \
        }                                                                                          \
        FS_FAST_MUTEX_TAKE_AT(                                                                     \
            mutex, caller, false,                                                                  \
            fs_fast_mutex_take_alone(mutex, PTHREAD_MUTEX_TIMED_NP, self->owner_id), round);       \
    }                                                                                              \
    FS_FAST_MUTEX_TAKE_AT(mutex, caller, true,                                                     \
                          fs_fast_mutex_take(mutex, PTHREAD_MUTEX_TIMED_NP, self->owner_id),       \
                          round)

#define FS_FAST_MUTEX_GIVE_PLAIN(mutex, round)                                                     \
    struct fs_thread *self = fs_fast_self;                                                         \
    uint32_t depth = self->depth;                                                                  \
    struct fs_entry *entry = &self->entries[depth - 1];                                            \
    bool alone = fs_unlikely(depth - 1 >= self->mutex_room);                                       \
    if (fs_unlikely((alone && !fs_fast_alone(self, depth - 1)) || entry->object != (mutex))) {     \
        return round(mutex);                                                                       \
    }                                                                                              \
    if (alone) {                                                                                   \
        FS_FAST_GIVE_AT(FS_KIND_MUTEX, mutex,                                                      \
                        fs_fast_mutex_give_alone(mutex, PTHREAD_MUTEX_TIMED_NP), 0);               \
    }                                                                                              \
    FS_FAST_GIVE_AT(FS_KIND_MUTEX, mutex, fs_fast_mutex_give(mutex, PTHREAD_MUTEX_TIMED_NP),       \
                    fs_fast_wake(self, mutex, depth - 1))

/* The ways round of a mutex, out of line: NAME() and NAME_at() as of other locks, but that the entry at `slot` does not
 * say yet that it is being taken; NAME_alone() still goes straight in a process's only thread, whatever simple kind. */
#define FS_MUTEX_WAY_ROUND(name, how, real)                                                        \
    FS_WAY_FROM_THE_START(name, pthread_mutex_t, how, FS_KIND_MUTEX, real)                         \
    static __attribute__((noinline)) int name##_at(struct fs_thread *self, pthread_mutex_t *mutex, \
                                                   uint32_t slot) {                                \
        slot = fs_fast_mutex_waits(self, mutex, slot, how);                                        \
        FS_TAKE_AT(self, mutex, slot, real(mutex));                                                \
    }                                                                                              \
    static                                                                                         \
        __attribute__((noinline)) int name##_alone(pthread_mutex_t *mutex, const void *caller) {   \
        unsigned kind = (unsigned)mutex->__data.__kind;                                            \
        struct fs_thread *self = fs_fast_self;                                                     \
        uint32_t slot = self->depth;                                                               \
        if (!fs_mutex_simple(kind) || !fs_fast_alone(self, slot)) {                                \
            return name(mutex, caller);                                                            \
        }                                                                                          \
        FS_FAST_MUTEX_TAKE_AT(mutex, caller, false,                                                \
                              fs_fast_mutex_take_alone(mutex, kind, self->owner_id), name);        \
    }
#define FS_MUTEX_WAY_BACK(name, real)                                                              \
    static __attribute__((noinline)) int name(pthread_mutex_t *mutex) {                            \
        FS_MUTEX_RELEASE(mutex, real(mutex));                                                      \
    }                                                                                              \
    static __attribute__((noinline)) int name##_alone(pthread_mutex_t *mutex) {                    \
        unsigned kind = (unsigned)mutex->__data.__kind;                                            \
        struct fs_thread *self = fs_fast_self;                                                     \
        uint32_t depth = self->depth;                                                              \
        struct fs_entry *entry = &self->entries[depth - 1];                                        \
        if (!fs_mutex_simple(kind) || !fs_fast_alone(self, depth - 1) || entry->object != mutex || \
            !fs_fast_mutex_goes(mutex, kind, self->owner_id)) {                                    \
            return name(mutex);                                                                    \
        }                                                                                          \
        FS_FAST_GIVE_AT(FS_KIND_MUTEX, mutex, fs_fast_mutex_give_alone(mutex, kind), 0);           \
    }

/* The bodies of the hooks. Nearly every mutex is a plain one; of the others nothing is looked at that need not be, since
 * a few instructions between two atomic ones may be a cycle. */
#define FS_FAST_MUTEX_TAKE(mutex, round)                                                           \
    unsigned kind = (unsigned)mutex->__data.__kind;                                                \
    if (fs_likely(fs_mutex_kind(mutex) == PTHREAD_MUTEX_TIMED_NP)) {                               \
        FS_FAST_MUTEX_TAKE_PLAIN(mutex, FS_CALLER(), round);                                       \
    }                                                                                              \
    struct fs_thread *self = fs_fast_self;                                                         \
    uint32_t slot = self->depth;                                                                   \
    if (fs_unlikely(!fs_mutex_simple(kind) || slot >= self->mutex_room)) {                         \
        return round##_alone(mutex, FS_CALLER());                                                  \
    }                                                                                              \
    FS_FAST_MUTEX_TAKE_AT(mutex, FS_CALLER(), true,                                                \
                          fs_fast_mutex_take(mutex, kind, self->owner_id), round)

#define FS_FAST_MUTEX_GIVE(mutex, round)                                                           \
    unsigned kind = (unsigned)mutex->__data.__kind;                                                \
    if (fs_likely(fs_mutex_kind(mutex) == PTHREAD_MUTEX_TIMED_NP)) {                               \
        FS_FAST_MUTEX_GIVE_PLAIN(mutex, round);                                                    \
    }                                                                                              \
    struct fs_thread *self = fs_fast_self;                                                         \
    uint32_t depth = self->depth;                                                                  \
    struct fs_entry *entry = &self->entries[depth - 1];                                            \
    if (fs_unlikely(!fs_mutex_simple(kind) || depth - 1 >= self->mutex_room ||                     \
                    entry->object != (mutex) ||                                                    \
                    !fs_fast_mutex_goes(mutex, kind, self->owner_id))) {                           \
        return round##_alone(mutex);                                                               \
    }                                                                                              \
    FS_FAST_GIVE_AT(FS_KIND_MUTEX, mutex, fs_fast_mutex_give(mutex, kind),                         \
                    fs_fast_wake(self, mutex, depth - 1))

#endif
