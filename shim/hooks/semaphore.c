/* Semaphores. One that has been used as a lock alone is treated as one; at any other, those who
 * wait are DETACHED. */
#include "../fast.h"
#include "hook.h"

#include "../config.h"
#include "../layout.h"

static bool are_watched(void) {
    return fs_config.semaphores == FS_SEM_AUTO && fs_layout_known(FS_KIND_SEMAPHORE);
}

FS_EXPORT int sem_init(sem_t *sem, int shared, unsigned value) {
    struct fs_thread *self = fs_current();
    int result = fs_real.sem_init(sem, shared, value);
    if (result == 0 && self != NULL) {
        fs_forget(self, sem);
        if (!shared && are_watched()) {
            fs_sem_note_init(sem, value);
        }
    }
    return result;
}

static int waited_lock(struct fs_thread *self, sem_t *sem, uint32_t slot, int result) {
    if (result == 0) {
        fs_sem_note_wait(sem, self->owner_id);
        fs_held(self, sem, slot);
    } else {
        fs_failed(self, sem, slot);
    }
    return result;
}

/* Somebody's post has proved, while the caller waited, that it is a lock. The caller has it now,
 * without having passed the gate: if the world is stopped, it is given back, and taken again as a
 * lock is. Returns false then. */
static bool recorded_late(struct fs_thread *self, sem_t *sem, const void *caller) {
    uint32_t slot = fs_enter_late(self, sem, FS_KIND_SEMAPHORE, caller);
    if (fs_likely(!fs_stop_is_set()) || !fs_stop_wanted(self)) {
        fs_held(self, sem, slot);
        return true;
    }
    fs_sem_note_post(sem, self->owner_id);
    fs_real.sem_post(sem);
    fs_leave(self, sem, slot);
    return false;
}

/* After a wait that was no lock's. Returns false where the caller must wait again. */
static bool waited(struct fs_thread *self, sem_t *sem, uint32_t before, int result,
                   const void *caller) {
    bool done = true;
    if (result == 0) {
        fs_sem_note_wait(sem, self->owner_id);
        done = !fs_sem_is_lock(sem) || recorded_late(self, sem, caller);
    }
    fs_attach(self, before);
    return done;
}

/* In a child, what a vanished thread may have taken is given back. (In detect the twins do that.) */
static inline void put_right(sem_t *sem) {
    if (fs_unlikely(fs_generation() != 1) && fs_config.mode == FS_MODE_REPAIR) {
        fs_sem_disinherit(sem);
    }
}

enum call { WAIT, TRY, TIMED_WAIT, CLOCK_WAIT };

/* One call on its way. (Small: the stack of a thread may be.) */
struct waiting {
    sem_t *sem;
    const struct timespec *deadline;
    clockid_t clock;
    enum call call;
    uint32_t mark; /* of a lock: its entry's place; of no lock: the state to go back to */
};

static inline __attribute__((always_inline)) int call_real(const struct waiting *wait) {
    switch (wait->call) {
    case WAIT:
        return fs_real.sem_wait(wait->sem);
    case TRY:
        return fs_real.sem_trywait(wait->sem);
    case TIMED_WAIT:
        return fs_real.sem_timedwait(wait->sem, wait->deadline);
    default:
        return fs_real.sem_clockwait(wait->sem, wait->clock, wait->deadline);
    }
}

static void wait_cancelled(void *argument) {
    const struct waiting *wait = argument;
    fs_wait_over(fs_self);
    fs_attach(fs_self, wait->mark);
}

static void lock_cancelled(void *argument) {
    const struct waiting *wait = argument;
    fs_failed(fs_self, wait->sem, wait->mark);
}

static __attribute__((noinline)) int sleep_in_real(void (*cancelled)(void *),
                                                   struct waiting *wait) {
    return FS_CANCELLABLE(cancelled, wait, call_real(wait));
}

static __attribute__((noinline)) bool may_sleep(const struct waiting *wait) {
    int value;
    return wait->call != TRY && fs_real.sem_getvalue(wait->sem, &value) == 0 && value <= 0;
}

/* One that need not sleep is spared the cost of being cancelled well. */
static inline int take(void (*cancelled)(void *), struct waiting *wait) {
    return fs_unlikely(may_sleep(wait)) ? sleep_in_real(cancelled, wait) : call_real(wait);
}

static inline __attribute__((always_inline)) int wait_for(struct waiting *wait,
                                                          const void *caller) {
    struct fs_thread *self = fs_current();
    if (fs_unlikely(self == NULL)) {
        return call_real(wait);
    }
    put_right(wait->sem);
    if (!fs_sem_is_lock(wait->sem)) {
        fs_wait_begin(self, FS_KIND_SEMAPHORE, wait->sem, NULL, caller);
        wait->mark = fs_detach(self);
        int result = take(wait_cancelled, wait);
        fs_wait_over(self);
        if (waited(self, wait->sem, wait->mark, result, caller)) {
            return result;
        }
    }
    wait->mark = fs_enter_as(self, wait->sem, FS_KIND_SEMAPHORE, caller,
                             wait->call == TRY ? FS_TRYING : FS_TAKING);
    return waited_lock(self, wait->sem, wait->mark, take(lock_cancelled, wait));
}

/* Who has a lock gives it back soon, mostly: some looks are quicker than one sleep. */
static inline bool comes_soon(sem_t *sem, const struct fs_thread *self) {
    enum { LOOKS = 20 };
    for (unsigned looks = 0; looks < LOOKS; looks++) {
        fs_cpu_relax();
        if (fs_fast_sem_value(sem) != 0) {
            return fs_fast_sem_take(sem, self->owner_id);
        }
    }
    return false;
}

#define WAY_ROUND(name, how)                                                                       \
    static __attribute__((noinline)) int name(sem_t *sem, const void *caller) {                    \
        return wait_for(&(struct waiting){.sem = sem, .call = how}, caller);                       \
    }                                                                                              \
    static __attribute__((noinline)) int name##_at(struct fs_thread *self, sem_t *sem,             \
                                                   uint32_t slot) {                                \
        if (how == WAIT && comes_soon(sem, self)) {                                                \
            return fs_fast_taken(self, sem, slot);                                                 \
        }                                                                                          \
        struct waiting wait = {.sem = sem, .call = how, .mark = slot};                             \
        fs_note_frame(self, slot);                                                                 \
        return waited_lock(self, sem, slot, take(lock_cancelled, &wait));                          \
    }
WAY_ROUND(wait_slowly, WAIT)
WAY_ROUND(try_slowly, TRY)

FS_EXPORT int sem_wait(sem_t *sem) {
    pthread_testcancel(); /* a cancellation point, whether it waits or not */
    FS_FAST_TAKE(FS_KIND_SEMAPHORE, FS_TAKING, sem, fs_fast_sem(sem, self),
                 fs_fast_sem_take(sem, self->owner_id), wait_slowly);
}

FS_EXPORT int sem_trywait(sem_t *sem) {
    FS_FAST_TAKE(FS_KIND_SEMAPHORE, FS_TRYING, sem, fs_fast_sem(sem, self),
                 fs_fast_sem_take(sem, self->owner_id), try_slowly);
}

FS_EXPORT int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict deadline) {
    return wait_for(&(struct waiting){.sem = sem, .call = TIMED_WAIT, .deadline = deadline},
                    FS_CALLER());
}

FS_EXPORT int sem_clockwait(sem_t *restrict sem, clockid_t clock,
                            const struct timespec *restrict deadline) {
    return wait_for(
        &(struct waiting){.sem = sem, .call = CLOCK_WAIT, .clock = clock, .deadline = deadline},
        FS_CALLER());
}

static __attribute__((noinline)) int post_slowly(sem_t *sem) {
    struct fs_thread *self = fs_current();
    if (fs_unlikely(self == NULL)) {
        return fs_real.sem_post(sem);
    }
    uint32_t slot = fs_leaving(self, sem); /* first: until it is posted, the call is under way */
    fs_sem_note_post(sem, self->owner_id);
    return fs_released(self, sem, slot, FS_KIND_SEMAPHORE, fs_real.sem_post(sem));
}

static __attribute__((noinline)) int post_at(struct fs_thread *self, sem_t *sem, uint32_t slot) {
    return fs_released(self, sem, slot, FS_KIND_SEMAPHORE, fs_real.sem_post(sem));
}

static inline bool is_callers(const sem_t *sem, const struct fs_thread *self) {
    return fs_fast_sem(sem, self) &&
           fs_load(&((const struct fs_sem *)sem)->holder) == self->owner_id;
}

FS_EXPORT int sem_post(sem_t *sem) {
    FS_FAST_GIVE(FS_KIND_SEMAPHORE, sem, is_callers(sem, self),
                 fs_fast_leave(entry) && fs_fast_sem_give(sem), post_at(self, sem, depth - 1),
                 post_slowly);
}

FS_EXPORT int sem_getvalue(sem_t *restrict sem, int *restrict value) {
    if (fs_current() != NULL) {
        put_right(sem);
    }
    return fs_real.sem_getvalue(sem, value);
}
