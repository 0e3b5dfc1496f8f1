/* Semaphores. One that has been used as a lock alone is treated as one; at any other, those who
 * wait are DETACHED. */
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
    if (fs_likely(fs_load(&fs_stop) == 0) || !fs_stop_wanted(self)) {
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

#define WAIT(phase, call)                                                                          \
    struct fs_thread *self = fs_current();                                                         \
    if (fs_unlikely(self == NULL)) {                                                               \
        return call;                                                                               \
    }                                                                                              \
    put_right(sem);                                                                                \
    if (!fs_sem_is_lock(sem)) {                                                                    \
        fs_wait_begin(self, FS_KIND_SEMAPHORE, sem, NULL, FS_CALLER());                            \
        uint32_t before = fs_detach(self);                                                         \
        int result = call;                                                                         \
        fs_wait_over(self);                                                                        \
        if (waited(self, sem, before, result, FS_CALLER())) {                                      \
            return result;                                                                         \
        }                                                                                          \
    }                                                                                              \
    uint32_t slot = fs_enter_as(self, sem, FS_KIND_SEMAPHORE, FS_CALLER(), phase);                 \
    return waited_lock(self, sem, slot, call)

FS_EXPORT int sem_wait(sem_t *sem) { WAIT(FS_TAKING, fs_real.sem_wait(sem)); }

FS_EXPORT int sem_trywait(sem_t *sem) { WAIT(FS_TRYING, fs_real.sem_trywait(sem)); }

FS_EXPORT int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict deadline) {
    WAIT(FS_TAKING, fs_real.sem_timedwait(sem, deadline));
}

FS_EXPORT int sem_clockwait(sem_t *restrict sem, clockid_t clock,
                            const struct timespec *restrict deadline) {
    WAIT(FS_TAKING, fs_real.sem_clockwait(sem, clock, deadline));
}

FS_EXPORT int sem_post(sem_t *sem) {
    struct fs_thread *self = fs_current();
    if (fs_unlikely(self == NULL)) {
        return fs_real.sem_post(sem);
    }
    uint32_t slot = fs_leaving(self, sem); /* first: until it is posted, the call is under way */
    fs_sem_note_post(sem, self->owner_id);
    return fs_released(self, sem, slot, FS_KIND_SEMAPHORE, fs_real.sem_post(sem));
}

FS_EXPORT int sem_getvalue(sem_t *restrict sem, int *restrict value) {
    if (fs_current() != NULL) {
        put_right(sem);
    }
    return fs_real.sem_getvalue(sem, value);
}
