/* inventory.h - what a thread holds: the stack of entries in its record, and the hot path.
 *
 * A lock call is: fs_enter(), the real call, then fs_held() or fs_leave(). An unlock call is:
 * fs_leaving(), the real call, fs_left(). Nothing on this path is atomic, allocates, locks or calls
 * the kernel, unless a fork has closed the gate. */
#ifndef FS_INVENTORY_H
#define FS_INVENTORY_H

#include <stdbool.h>
#include <stddef.h>

#include "critical.h"
#include "detect.h"
#include "registry.h"
#include "world.h"

/* Marks in an entry's object, which is aligned. Set by a thread that has released it in the
 * holder's place: */
#define FS_DISOWNED ((uintptr_t)1)
/* Set in the child, in what the survivor was taking when a signal handler of its own forked: glibc
 * may go on to write the old owner into it. Settled when the call returns (fs_find_entry()). */
#define FS_FORKED ((uintptr_t)2)

#define FS_CALLER() __builtin_return_address(0)

/* The caller has raised its depth beyond the room for entries: lowers it again, and makes room.
 * Without memory there is none afterwards either: the entry then goes unrecorded, and only the
 * depth counts it. */
void fs_inventory_make_room(struct fs_thread *self);
/* Frees the arrays of a record that nobody walks any more. */
void fs_inventory_free(struct fs_thread *thread);

/* The rare ways through fs_leaving() and fs_left(): the entry is not the newest. */
uint32_t fs_find_entry(struct fs_thread *self, const void *object);
void fs_drop_entry(struct fs_thread *self, uint32_t slot);
/* Drops the newest of the caller's entries whose calls were jumped out of (siglongjmp, an exception
 * or cancellation). Looks at no lock; for a hook that holds no place yet. */
void fs_prune_calls(struct fs_thread *self, uintptr_t frame);
/* A lock was released that the caller has no entry for: another thread's entry, if it is of a kind
 * whose object cannot say who holds it, is tagged as given up. */
void fs_disown(const void *object, uint8_t kind);
/* The caller is about to give a mutex back that it has no entry for. If another thread has it, and it will be given
 * back all the same: that one's entry is tagged. */
void fs_disown_mutex(const pthread_mutex_t *mutex);

enum { FS_NO_SLOT = UINT32_MAX };

/* Of the entry at `slot`, which may be beyond the room. */
static inline __attribute__((always_inline)) void fs_note_frame(struct fs_thread *self,
                                                                uint32_t slot) {
    if (fs_likely(slot < self->capacity)) {
        fs_store_frame(&self->entries[slot].frame);
    }
}

/* Of the place at `slot`, which still says what it was last used for. (The fast ways look at the object alone.) */
static inline __attribute__((always_inline)) void fs_reserve(struct fs_thread *self,
                                                             uint32_t slot) {
    if (fs_likely(slot < self->capacity)) {
        fs_store(&self->entries[slot].object, NULL);
        fs_store(&self->entries[slot].phase, FS_RESERVED);
        fs_store_frame(&self->entries[slot].frame);
    }
    fs_compiler_barrier();
}

/* Raises the depth, over a place that is reserved, and returns it. It is reserved first, so that a handler that
 * jumps away before the entry is filled leaves one that can be told; and again, since a handler that locks in between
 * uses the same place. */
static inline __attribute__((always_inline)) uint32_t fs_raise_over(struct fs_thread *self) {
    uint32_t slot = self->depth;
    fs_reserve(self, slot);
    fs_store(&self->depth, slot + 1);
    fs_compiler_barrier();
    fs_reserve(self, slot);
    return slot;
}

/* Raises the depth, and parks first if a fork has closed the gate and the caller holds nothing.
 * The order is the whole protocol: depth up, then look at the stop word. Pairs with close_gate()
 * in world.c, which sets the word, runs a membarrier, then reads the depths. */
static inline uint32_t fs_raise_depth(struct fs_thread *self) {
    uint32_t slot = fs_raise_over(self);
    if (fs_unlikely(fs_stop_is_set())) {
        slot = fs_gate(self, fs_frame());
    }
    return slot;
}

/* Records that the caller is about to take `object`, in `phase` FS_TAKING or FS_TRYING. Returns the
 * entry's place. */
static inline uint32_t fs_enter_as(struct fs_thread *self, void *object, enum fs_kind kind,
                                   const void *caller, enum fs_phase phase) {
    if (fs_unlikely(self->owner_id != self->tid)) {
        fs_identify(self);
    }
    uint32_t slot = fs_raise_depth(self);
    if (fs_unlikely(slot >= self->capacity)) {
        fs_inventory_make_room(self);
        slot = fs_raise_depth(self);
        if (slot >= self->capacity) {
            return slot;
        }
    }
    struct fs_entry *entry = &self->entries[slot];
    entry->object = object;
    entry->caller = caller;
    fs_store_frame(&entry->frame); /* again: a handler may have used the place in between */
    fs_compiler_barrier(); /* `object` is written before the entry counts as more than reserved */
    fs_store(&entry->what, FS_WHAT(kind, phase));
    return slot;
}

static inline uint32_t fs_enter(struct fs_thread *self, void *object, enum fs_kind kind,
                                const void *caller) {
    return fs_enter_as(self, object, kind, caller, FS_TAKING);
}

/* Records a lock that the caller has already, without a look at the gate, as one that it is still
 * taking. The caller looks at the stop word next, and gives the lock back or calls fs_held(). */
static inline uint32_t fs_enter_late(struct fs_thread *self, void *object, enum fs_kind kind,
                                     const void *caller) {
    uint32_t slot = fs_raise_over(self);
    fs_store(&self->takes, self->takes + 1);
    if (fs_unlikely(slot >= self->capacity)) {
        fs_inventory_make_room(self);
        slot = fs_raise_over(self);
        if (slot >= self->capacity) {
            return slot;
        }
    }
    struct fs_entry *entry = &self->entries[slot];
    *entry = (struct fs_entry){
        .object = object, .caller = caller, .frame = fs_frame(), .kind = (uint8_t)kind};
    fs_compiler_barrier();
    fs_store(&entry->phase, FS_TAKING);
    fs_compiler_barrier();
    return slot;
}

/* The place of the newest entry for `object`, at or below `slot`, which is right but for a signal
 * handler that released something out of order in between. */
static inline uint32_t fs_settle(struct fs_thread *self, const void *object, uint32_t slot) {
    if (fs_likely(slot < self->depth && slot < self->capacity &&
                  self->entries[slot].object == object)) {
        return slot;
    }
    return fs_find_entry(self, object);
}

/* The lock was taken. */
static inline void fs_held(struct fs_thread *self, const void *object, uint32_t slot) {
    slot = fs_settle(self, object, slot);
    if (fs_likely(slot != FS_NO_SLOT)) {
        fs_store(&self->entries[slot].phase, FS_HELD);
    }
}

/* Nothing stays that somebody who is about to use the place could take for his own (fast.h). (The kind does: who
 * gives the lock back may have yet to look at it.) */
static inline void fs_clear_entry(struct fs_entry *entry) {
    fs_store(&entry->phase, FS_RESERVED);
    fs_store(&entry->object, NULL);
    fs_compiler_barrier();
}

static inline void fs_pop(struct fs_thread *self, uint32_t slot) {
    if (fs_likely(slot + 1 == self->depth)) {
        if (fs_likely(slot < self->capacity)) {
            fs_clear_entry(&self->entries[slot]);
        }
        fs_store(&self->depth, slot);
    } else {
        fs_drop_entry(self, slot);
    }
}

/* The critical call is over. */
static inline void fs_leave(struct fs_thread *self, const void *object, uint32_t slot) {
    slot = fs_settle(self, object, slot);
    if (fs_likely(slot != FS_NO_SLOT)) {
        fs_pop(self, slot);
    } else {
        fs_drop_entry(self, FS_NO_SLOT);
    }
}

/* Enters a critical call. */
static inline uint32_t fs_enter_critical(struct fs_thread *self, const struct fs_critical *call,
                                         const void *caller) {
    if (fs_unlikely(self->depth != 0)) {
        fs_prune_calls(self, fs_frame());
    }
    if (fs_unlikely(fs_load(&fs_calls_inherited))) {
        fs_detect_call(call, caller);
    }
    return fs_enter(self, (void *)(uintptr_t)call, FS_KIND_CRITICAL, caller);
}

/* The lock was not taken. */
static inline void fs_failed(struct fs_thread *self, const void *object, uint32_t slot) {
    fs_leave(self, object, slot);
    fs_compiler_barrier();
    if (fs_unlikely(fs_stop_is_set())) {
        fs_freeze(self);
    }
}

/* The caller is about to release `object`. Returns the entry's place, FS_NO_SLOT if it has none. */
static inline uint32_t fs_leaving(struct fs_thread *self, const void *object) {
    uint32_t slot = self->depth - 1; /* wraps to FS_NO_SLOT at depth 0 */
    slot = fs_settle(self, object, slot);
    if (fs_likely(slot != FS_NO_SLOT)) {
        fs_note_frame(self, slot); /* a mutex that was taken the fast way has none */
        fs_compiler_barrier();
        fs_store(&self->entries[slot].phase, FS_RELEASING);
    }
    return slot;
}

/* It was released. */
static inline void fs_left(struct fs_thread *self, const void *object, uint32_t slot,
                           enum fs_kind kind) {
    if (fs_likely(slot != FS_NO_SLOT)) {
        slot = fs_settle(self, object, slot);
        if (fs_likely(slot != FS_NO_SLOT)) {
            fs_pop(self, slot);
        }
    } else {
        fs_disown(object, (uint8_t)kind);
    }
}

/* It was not released after all (EPERM). */
static inline void fs_kept(struct fs_thread *self, const void *object, uint32_t slot) {
    if (slot != FS_NO_SLOT) {
        fs_held(self, object, slot);
    }
}

/* Forgets every entry of the caller for `object`: it was initialised anew or destroyed. */
void fs_forget(struct fs_thread *self, const void *object);

/* --- waits for another thread (condition variables, barriers, semaphores, joins) --------------- */

/* The caller is about to wait for `object`; `mutex` is what a condition variable's waiter gives up,
 * or NULL. Waits that were jumped out of are dropped first. */
void fs_wait_begin(struct fs_thread *self, enum fs_kind kind, void *object, void *mutex,
                   const void *caller);
void fs_wait_end(struct fs_thread *self);
/* The same. A thread that a fork has given up on stays in its wait as long as that lasts: in the
 * child it never woke up. */
static inline void fs_wait_over(struct fs_thread *self) {
    fs_compiler_barrier();
    if (fs_unlikely(fs_stop_is_set())) {
        fs_freeze(self);
    }
    fs_wait_end(self);
}
/* The object was destroyed: whoever still waits for it has been woken, and needs no repair. */
void fs_waits_over(const void *object);
/* Drops the waits that a longjmp, an exception or cancellation has left. A condition variable's
 * mutex that the caller then has is its own again. */
void fs_wait_prune(struct fs_thread *self, uintptr_t frame);

/* Drops the caller's holds of FILEs that it holds no longer: they were closed. */
void fs_prune_files(struct fs_thread *self);

/* --- questions about any thread's entries, by a forking thread or in the child ---------------- */

/* Entries that can be read: depth, or less where memory ran out. */
static inline uint32_t fs_entry_count(const struct fs_thread *thread) {
    uint32_t depth = fs_load(&thread->depth);
    uint32_t capacity = fs_load_acquire(&thread->capacity);
    return depth < capacity ? depth : capacity;
}

/* True if the entry is to be believed: its call is under way, or its object still says that this
 * thread holds it. Reads doubtful memory safely. */
bool fs_entry_live(const struct fs_thread *thread, const struct fs_entry *entry);

/* The phase as the entry says, but for a mutex that "held" was said of too early, or too late (fast.h): such a
 * one is FS_RELEASING. */
enum fs_phase fs_entry_phase(const struct fs_thread *thread, const struct fs_entry *entry);

/* True if all that the thread seems to hold is mutexes that do not name it: it is about to take them, or has just given
 * them back. If it stays so, a signal handler that interrupted that sleeps, or they were set free unseen. */
bool fs_only_seems_busy(const struct fs_thread *thread);

/* In the child, of a critical call that a vanished thread was inside: true if it may have held its lock,
 * and holds it still. `by_fork`: fork() made the child.
 * Of a call that is idle while it sleeps nobody can tell any more whether it slept. */
bool fs_call_was_cut(const struct fs_entry *entry, bool by_fork);

/* How many of the thread's entries for `object` are held; write holds of a rwlock do not count
 * as read holds. */
uint32_t fs_hold_count(const struct fs_thread *thread, const void *object, enum fs_kind kind);
bool fs_holds(const struct fs_thread *thread, const void *object);
/* The read holds that all threads together have. */
uint32_t fs_reader_count(const void *rwlock);

/* Where the thread called what takes, or waits for, the object; NULL if it does not, or is NULL. */
const void *fs_caller_of(const struct fs_thread *thread, const void *object);

/* True if the thread is inside a critical call that takes the same lock. */
bool fs_is_inside(const struct fs_thread *thread, const struct fs_critical *call);
/* True if the thread is inside one that takes a lock which fork() takes, too. */
bool fs_has_lock_of_fork(const struct fs_thread *thread);

/* True if the thread holds or takes anything. It may be running: false means that there was a moment,
 * after the call began, in which it did not. */
bool fs_is_busy(const struct fs_thread *thread);

/* Drops the caller's own entries that are no longer live. In a slow path of the thread itself, with
 * no entry reserved. `frame` is its present stack address. */
void fs_prune(struct fs_thread *self, uintptr_t frame);

#endif
