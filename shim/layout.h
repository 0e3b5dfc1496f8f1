/* layout.h - glibc's and libstdc++'s objects: who holds one, and how to put one right.
 *
 * The only place that knows what is inside a pthread_mutex_t and its like. The facts are glibc
 * 2.36's for x86-64 (sysdeps/nptl/bits/thread-shared-types.h, sysdeps/x86/nptl/bits/struct_*.h,
 * nptl/), the same from 2.31 to 2.41; fs_layout_probe() checks them against what the real functions
 * do. The rebuilding functions run in the child alone, where nobody else looks at the object, or in
 * a program's own call of its init function. */
#ifndef FS_LAYOUT_H
#define FS_LAYOUT_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "registry.h"

enum { FS_SPIN_FREE = 1 }; /* sysdeps/x86_64/nptl/pthread_spin_unlock.S */

/* Checks each kind on scratch objects. Returns the kinds that are as described here, a bit each
 * (1 << enum fs_kind); the others are left alone for the life of the process. */
uint32_t fs_layout_probe(void);
/* The kinds found good. Probes at the first call. */
bool fs_layout_known(uint8_t kind);

/* True if `object` says that `thread` holds it; for a kind that does not name its holder, that
 * somebody does. Reads doubtful memory: the object may be freed, unmapped or reused. */
bool fs_layout_held_by(uint8_t kind, const void *object, const struct fs_thread *thread);

/* What glibc would write as the owner of a lock taken by the calling thread. */
int fs_layout_own_id(void);

/* True if another process may own the object: never to be touched. The objects are copies; `where`
 * is the mutex itself, since glibc sets the sharing bit of every robust mutex, so that only the
 * memory that it lives in tells (nptl/pthread_mutex_init.c). */
bool fs_mutex_shared(const pthread_mutex_t *mutex, const void *where);
bool fs_rwlock_shared(const pthread_rwlock_t *rwlock);
bool fs_cond_shared(const pthread_cond_t *cond);
bool fs_barrier_shared(const pthread_barrier_t *barrier);
/* True if somebody waits, or is about to leave; false where it can be no such object. */
bool fs_cond_has_waiters(const pthread_cond_t *cond);
bool fs_barrier_has_waiters(const pthread_barrier_t *barrier);

/* sysdeps/nptl/internaltypes.h, struct new_sem, and our note behind it. */
struct fs_sem {
    uint64_t value_and_waiters; /* the value is the lower half */
    int shared;
    int pad;
    uint32_t magic;
    uint32_t nature;     /* enum fs_sem_nature */
    int holder;          /* owner_id of the thread that last waited and has not posted, or 0 */
    uint32_t generation; /* of the process that the holder lived in */
};
_Static_assert(sizeof(struct fs_sem) <= sizeof(sem_t), "no room for the note");
enum { FS_SEM_MAGIC = 0x46534c4b };
enum fs_sem_nature {
    FS_SEM_UNPROVEN, /* starts at another value than 1, and was never posted */
    FS_SEM_GUESSED,  /* starts at 1, and was never posted: may be a lock, taken once and for long */
    FS_SEM_LOCK,     /* only ever posted by the thread that last waited */
    FS_SEM_COUNTER,  /* posted by somebody else: no lock, for good */
};

/* What a signal finds in a condition variable: nptl/pthread_cond_common.c, __condvar_quiesce_and_switch_g1. */
struct fs_cond_groups {
    bool locked;        /* by somebody who signals, or gives up waiting */
    unsigned signalled; /* index of the group that signals go to */
    unsigned left;      /* its members that wait for one */
    unsigned fresh;     /* those who have come since */
};

static inline bool fs_cond_locked(const pthread_cond_t *cond) {
    return (fs_load_acquire(&cond->__data.__g1_orig_size) & 3) != 0;
}

/* `sequence`: its __wseq. Reads the lock first, which shares a word with the size of the group. */
static inline struct fs_cond_groups fs_cond_groups(const pthread_cond_t *cond,
                                                   unsigned long long sequence) {
    const struct __pthread_cond_s *inside = &cond->__data;
    unsigned size = fs_load_acquire(&inside->__g1_orig_size);
    unsigned start = (unsigned)(fs_load_acquire(&inside->__g1_start.__value64) >> 1);
    unsigned signalled = (sequence & 1) ^ 1;
    unsigned left = fs_load_acquire(&inside->__g_size[signalled]);
    unsigned gave_up = -fs_load_acquire(&inside->__g_size[signalled ^ 1]);
    unsigned fresh = (unsigned)(sequence >> 1) - start - (size >> 2) - gave_up;
    return (struct fs_cond_groups){(size & 3) != 0, signalled, left, fresh};
}

/* True if pthread_cond_signal (or _broadcast) would wait for a waiter that does not leave. */
bool fs_cond_signal_blocks(const pthread_cond_t *cond, bool broadcast);

/* The owner_id that a lock of this kind names, or 0. Reads doubtful memory. */
int fs_layout_owner(uint8_t kind, const void *object);

/* Of the kinds of mutex the simple ones come first (nptl/pthreadP.h). Others, and every flag (shared, robust,
 * priority protocols, elision), are greater. One says only that the mutex was asked for by an attribute
 * (PTHREAD_MUTEX_NO_ELISION_NP). */
enum { FS_MUTEX_NO_ELISION = 512 };
static inline unsigned fs_mutex_kind(const pthread_mutex_t *mutex) {
    return (unsigned)mutex->__data.__kind & ~(unsigned)FS_MUTEX_NO_ELISION;
}
static inline bool fs_mutex_simple(unsigned kind) { return kind <= PTHREAD_MUTEX_ERRORCHECK_NP; }

/* Whose the mutex is, by what it says itself. Reads doubtful memory. */
enum fs_mutex_state {
    FS_MUTEX_NOT_OWN,
    /* Simple ones that do not name the thread, which may be about to take it, or have given it back: */
    FS_MUTEX_OPEN, /* free, or another's */
    FS_MUTEX_BETWEEN, /* locked, and names nobody: someone takes it, or gives it back, at this moment */
    FS_MUTEX_OWN,
};
enum fs_mutex_state fs_mutex_state(const void *mutex, const struct fs_thread *thread);

/* The owner_id that the mutex names, or 0. */
int fs_mutex_owner(const pthread_mutex_t *mutex);
int fs_rwlock_writer(const pthread_rwlock_t *rwlock);
/* New readers wait for a writer that is to be preferred. */
bool fs_rwlock_readers_wait(const pthread_rwlock_t *rwlock);
bool fs_mutex_locked(const pthread_mutex_t *mutex);
bool fs_mutex_robust(const pthread_mutex_t *mutex);

/* Nobody holds it any more. Type, protocol, ceiling and robustness stay. */
void fs_mutex_rebuild(pthread_mutex_t *mutex);
/* It stays locked, `id` owns it, and nobody waits for it. */
void fs_mutex_reown(pthread_mutex_t *mutex, int id);
/* Forgets the waiters of its condition variables; they count as users in pthread_mutex_destroy. */
void fs_mutex_forget_users(pthread_mutex_t *mutex);
/* Held by nobody but the survivor: for reading `readers` times, or for writing by `writer` (an
 * owner_id, or 0). Kind and sharing stay. */
void fs_rwlock_rebuild(pthread_rwlock_t *rwlock, uint32_t readers, int writer);
/* Nobody waits, no signal is pending. The clock stays. */
void fs_cond_rebuild(pthread_cond_t *cond);
/* Nobody waits. The count stays. */
void fs_barrier_rebuild(pthread_barrier_t *barrier);
/* Not constructed, and nobody is at it. */
void fs_guard_rebuild(void *guard);
void fs_spin_rebuild(pthread_spinlock_t *spin);
void fs_file_free(FILE *file);
/* glibc's fork unlocks every FILE in the child: lock it again, `count` times, for the caller. */
void fs_file_relock(FILE *file, uint32_t count);

/* Puts the mutex on the calling thread's robust list again, which glibc's fork empties. */
void fs_robust_enqueue(pthread_mutex_t *mutex);

/* --- semaphores used as locks ------------------------------------------------------------------
 *
 * glibc's semaphore fills 16 of sem_t's 32 bytes; the rest holds our note of who took it. It is
 * written by sem_init alone, so that a semaphore that another process made is never written to. */

/* Starts a note in a private semaphore with this initial value. */
void fs_sem_note_init(sem_t *sem, unsigned value);
/* True if the semaphore has been used as a lock alone so far. */
bool fs_sem_is_lock(const sem_t *sem);
/* The owner_id of a lock's holder, or 0. */
int fs_sem_holder(const sem_t *sem);
/* The caller has waited successfully. */
void fs_sem_note_wait(sem_t *sem, int owner_id);
/* The caller is about to post. */
void fs_sem_note_post(sem_t *sem, int owner_id);
/* Gives back what a vanished holder took. */
void fs_sem_give_back(sem_t *sem);
/* The same when the semaphore is next used, for one that has not proved to be a lock: taken once,
 * and never posted yet. No fork waits for such a hold, and none is reported: a runtime may mark its
 * threads as alive in this way (CPython does). Returns the owner_id of the vanished holder, or 0.
 * Keeps errno but where the semaphore overflows. */
int fs_sem_disinherit(sem_t *sem);

#endif
