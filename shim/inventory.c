#include "inventory.h"

#include <string.h>

#include "layout.h"
#include "safepoint.h"
#include "sys.h"

/* An outgrown array; its first bytes link it into the list once a bigger one is in place. A walker
 * that still has the old pointer then finds an entry 0 that is not to be believed, among others
 * that are. */
struct retired {
    struct fs_entry *next;
    size_t bytes;
};

static size_t array_bytes(uint32_t capacity) { return capacity * sizeof(struct fs_entry); }

static bool grow(struct fs_thread *self) {
    uint32_t capacity = self->capacity * 4;
    struct fs_entry *grown = fs_map(array_bytes(capacity));
    if (grown == NULL) {
        return false;
    }
    struct fs_entry *old = self->entries;
    size_t old_bytes = array_bytes(self->capacity);
    memcpy(grown, old, old_bytes);
    fs_store_release(&self->entries, grown);
    fs_store_release(&self->capacity, capacity);
    self->room = self->room != 0 ? capacity : 0;
    self->mutex_room = self->mutex_room != 0 ? capacity : 0;
    if (old != self->inline_entries) {
        *(struct retired *)old = (struct retired){self->retired, old_bytes};
        self->retired = old;
    }
    return true;
}

/* Locks that another thread has released in the caller's place leave their entries behind: those go
 * first. */
void fs_inventory_make_room(struct fs_thread *self) {
    fs_sigset saved = fs_signals_block();
    fs_store(&self->depth, self->depth - 1);
    if (self->depth == self->capacity) { /* else a signal handler has, or there was no memory */
        fs_prune(self, fs_frame());
        if (self->depth > self->capacity / 2) {
            grow(self);
        }
    }
    fs_signals_restore(saved);
}

void fs_inventory_free(struct fs_thread *thread) {
    while (thread->retired != NULL) {
        struct retired old = *(struct retired *)thread->retired;
        fs_unmap(thread->retired, old.bytes);
        thread->retired = old.next;
    }
    if (thread->entries != thread->inline_entries) {
        fs_unmap(thread->entries, array_bytes(thread->capacity));
    }
}

/* The call that a fork fell into the middle of has returned. */
static void settle_after_fork(const struct fs_thread *self, struct fs_entry *entry) {
    entry->object = (void *)((uintptr_t)entry->object & ~FS_FORKED);
    if (entry->kind == FS_KIND_MUTEX && fs_mutex_locked(entry->object) &&
        fs_was_survivor(fs_mutex_owner(entry->object), fs_generation() - 1)) {
        fs_mutex_reown(entry->object, self->owner_id);
    } else if (entry->kind == FS_KIND_RWLOCK_WRITE &&
               fs_was_survivor(fs_rwlock_writer(entry->object), fs_generation() - 1)) {
        fs_rwlock_rebuild(entry->object, 0, self->owner_id);
    } else if (entry->kind == FS_KIND_SEMAPHORE &&
               fs_was_survivor(fs_sem_holder(entry->object), fs_generation() - 1)) {
        fs_sem_note_wait(entry->object, self->owner_id);
    }
}

uint32_t fs_find_entry(struct fs_thread *self, const void *object) {
    for (uint32_t slot = fs_entry_count(self); slot-- > 0;) {
        struct fs_entry *entry = &self->entries[slot];
        if (((uintptr_t)entry->object & ~FS_FORKED) != (uintptr_t)object ||
            entry->phase == FS_RESERVED) {
            continue;
        }
        if (entry->object != object) {
            settle_after_fork(self, entry);
        }
        return slot;
    }
    return FS_NO_SLOT;
}

void fs_drop_entry(struct fs_thread *self, uint32_t slot) {
    if (slot == FS_NO_SLOT) {
        if (self->depth > self->capacity) { /* an entry that there was no memory for */
            fs_store(&self->depth, self->depth - 1);
        }
        return;
    }
    uint32_t top = self->depth - 1;
    if (top < self->capacity) {
        self->entries[slot] = self->entries[top];
        fs_compiler_barrier();
        fs_store(&self->takes, self->takes + 1); /* a walker may have passed that place */
        fs_compiler_barrier();
        fs_clear_entry(&self->entries[top]); /* whoever was at it finds that it has gone */
        fs_store(&self->depth, top);
        return;
    }
    /* The newest entries went unrecorded: leave a hole that is never believed. */
    self->entries[slot].object = (void *)FS_DISOWNED;
    fs_store(&self->depth, top);
}

void fs_forget(struct fs_thread *self, const void *object) {
    if (self->depth == 0) {
        return;
    }
    for (uint32_t slot; (slot = fs_find_entry(self, object)) != FS_NO_SLOT;) {
        fs_pop(self, slot);
    }
}

static bool names_its_holder(uint8_t kind) {
    return kind != FS_KIND_SPIN && kind != FS_KIND_RWLOCK_READ;
}

/* Tags the thread's entry only if it is still the one that was looked at. With the registry's lock: an array that the
 * thread has outgrown stays. */
static bool disown_in(struct fs_thread *thread, const void *object) {
    for (uint32_t slot = fs_entry_count(thread); slot-- > 0;) {
        struct fs_entry *entry = &thread->entries[slot];
        void *expected = (void *)(uintptr_t)object;
        void *tagged = (void *)((uintptr_t)object | FS_DISOWNED);
        if (fs_load(&entry->phase) == FS_HELD &&
            __atomic_compare_exchange_n(&entry->object, &expected, tagged, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
            return true;
        }
    }
    return false;
}

/* In the thread that has this owner_id; 0: in any that has such an entry. */
static void disown(const void *object, int owner_id) {
    fs_sigset saved = fs_signals_block();
    fs_registry_lock();
    FS_EACH_THREAD (thread) {
        if (thread != fs_self && (owner_id == 0 || thread->owner_id == owner_id) &&
            disown_in(thread, object)) {
            break;
        }
    }
    fs_registry_unlock();
    fs_signals_restore(saved);
}

void fs_disown(const void *object, uint8_t kind) {
    if (!names_its_holder(kind)) {
        disown(object, 0);
    }
}

void fs_disown_mutex(const pthread_mutex_t *mutex) {
    int owner = fs_mutex_owner(mutex);
    if (owner != 0 && fs_mutex_kind(mutex) == PTHREAD_MUTEX_TIMED_NP &&
        fs_self->owner_id != owner) {
        disown(mutex, owner);
    }
}

/* --- what is to be believed -------------------------------------------------------------------- */

/* The linker's names for the ends of FS_CRITICAL_INFO's section. */
extern const struct fs_critical __start_fs_critical[] __attribute__((visibility("hidden")));
extern const struct fs_critical __stop_fs_critical[] __attribute__((visibility("hidden")));

/* What a running thread's entry names may be changing. */
static bool is_critical(const struct fs_entry *entry) {
    const struct fs_critical *call = entry->object;
    return entry->kind == FS_KIND_CRITICAL && entry->phase == FS_TAKING &&
           call >= __start_fs_critical && call < __stop_fs_critical;
}

bool fs_is_inside(const struct fs_thread *thread, const struct fs_critical *call) {
    for (uint32_t slot = fs_entry_count(thread); slot-- > 0;) {
        const struct fs_critical *own = thread->entries[slot].object;
        if (is_critical(&thread->entries[slot]) && own->lock != FS_LOCK_NONE &&
            own->lock == call->lock) {
            return true;
        }
    }
    return false;
}

bool fs_has_lock_of_fork(const struct fs_thread *thread) {
    for (uint32_t slot = fs_entry_count(thread); slot-- > 0;) {
        struct fs_entry copy = thread->entries[slot];
        const struct fs_critical *call = copy.object;
        if (is_critical(&copy) && fs_libc_locks[call->lock].freed) {
            return true;
        }
    }
    return false;
}

static bool is_idle(const struct fs_thread *thread, const struct fs_entry *entry) {
    const struct fs_critical *call = entry->object;
    return is_critical(entry) && call->idle_asleep && fs_task_sleeps(thread->tid);
}

/* How far what an entry says can be believed. */
enum belief {
    OVER,   /* its object says that the thread does not hold it */
    UNSURE, /* its mutex may be about to be taken, or just given back */
    SOUND,  /* its object says that the thread holds it, or its call is under way */
};

static enum fs_mutex_state mutex_state(const struct fs_thread *thread,
                                       const struct fs_entry *entry) {
    return fs_mutex_state((void *)((uintptr_t)entry->object & ~FS_FORKED), thread);
}

static enum belief belief_in_mutex(const struct fs_thread *thread, const struct fs_entry *entry) {
    switch (mutex_state(thread, entry)) {
    case FS_MUTEX_OPEN:
    case FS_MUTEX_BETWEEN:
        return UNSURE;
    case FS_MUTEX_OWN:
        return SOUND;
    default:
        return OVER;
    }
}

/* `entry`: a copy. */
static enum belief belief_in(const struct fs_thread *thread, const struct fs_entry *entry) {
    if (((uintptr_t)entry->object & FS_DISOWNED) != 0 || is_idle(thread, entry)) {
        return OVER;
    }
    if (entry->phase == FS_HELD && entry->kind == FS_KIND_MUTEX) {
        return belief_in_mutex(thread, entry);
    }
    /* A pthread_once that an exception has left says so itself; of the other calls that are under way
     * there is no telling. */
    bool believed = entry->phase != FS_HELD && entry->kind != FS_KIND_ONCE;
    return believed || fs_layout_held_by(entry->kind, entry->object, thread) ? SOUND : OVER;
}

bool fs_entry_live(const struct fs_thread *thread, const struct fs_entry *entry) {
    struct fs_entry copy = *entry;
    return belief_in(thread, &copy) != OVER;
}

enum fs_phase fs_entry_phase(const struct fs_thread *thread, const struct fs_entry *entry) {
    struct fs_entry copy = *entry;
    if (copy.phase != FS_HELD || copy.kind != FS_KIND_MUTEX) {
        return copy.phase;
    }
    return belief_in_mutex(thread, &copy) == UNSURE ? FS_RELEASING : FS_HELD;
}

bool fs_only_seems_busy(const struct fs_thread *thread) {
    uint32_t count = fs_entry_count(thread);
    bool any = false;
    for (uint32_t slot = 0; slot < count; slot++) {
        struct fs_entry copy = thread->entries[slot];
        enum belief belief = belief_in(thread, &copy);
        if (belief == SOUND) {
            return false;
        }
        any |= belief == UNSURE;
    }
    return any && fs_load(&thread->depth) <= count;
}

bool fs_call_was_cut(const struct fs_entry *entry, bool by_fork) {
    const struct fs_critical *call = entry->object;
    return call->lock != FS_LOCK_NONE && !(fs_libc_locks[call->lock].freed && by_fork) &&
           (!call->idle_asleep || entry->outlasted != 0);
}

static bool is_held(const struct fs_thread *thread, const struct fs_entry *entry) {
    uint8_t phase = fs_load(&entry->phase);
    return phase == FS_RELEASING ||
           (phase == FS_HELD &&
            (entry->kind != FS_KIND_MUTEX || mutex_state(thread, entry) != FS_MUTEX_OPEN));
}

uint32_t fs_hold_count(const struct fs_thread *thread, const void *object, enum fs_kind kind) {
    uint32_t count = 0;
    for (uint32_t slot = fs_entry_count(thread); slot-- > 0;) {
        const struct fs_entry *entry = &thread->entries[slot];
        if (entry->object == object && entry->kind == kind && is_held(thread, entry)) {
            count++;
        }
    }
    return count;
}

uint32_t fs_reader_count(const void *rwlock) {
    uint32_t readers = 0;
    FS_EACH_THREAD (thread) {
        readers += fs_hold_count(thread, rwlock, FS_KIND_RWLOCK_READ);
    }
    return readers;
}

bool fs_holds(const struct fs_thread *thread, const void *object) {
    for (uint32_t slot = fs_entry_count(thread); slot-- > 0;) {
        const struct fs_entry *entry = &thread->entries[slot];
        if (entry->object == object && is_held(thread, entry)) {
            return true;
        }
    }
    return false;
}

const void *fs_caller_of(const struct fs_thread *thread, const void *object) {
    for (uint32_t slot = thread != NULL ? fs_entry_count(thread) : 0; slot-- > 0;) {
        const struct fs_entry *entry = &thread->entries[slot];
        if (entry->object == object && entry->phase != FS_RESERVED) {
            return entry->caller;
        }
    }
    for (uint32_t i = thread != NULL ? thread->wait_count : 0; i-- > 0;) {
        if (i < FS_INLINE_WAITS && thread->waits[i].object == object) {
            return thread->waits[i].caller;
        }
    }
    return NULL;
}

/* While we look at one entry, a thread that runs may take a second lock and let go of the first:
 * then none was found, and it holds one. */
bool fs_is_busy(const struct fs_thread *thread) {
    uint32_t takes = fs_load_acquire(&thread->takes);
    uint32_t depth = fs_load_acquire(&thread->depth);
    uint32_t count = fs_entry_count(thread);
    if (depth > count) {
        return true;
    }
    const struct fs_entry *entries = fs_load_acquire(&thread->entries);
    /* From the newest on: of a lock that is being taken the entry is enough. */
    for (uint32_t slot = count; slot-- > 0;) {
        if (fs_entry_live(thread, &entries[slot])) {
            return true;
        }
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return fs_load(&thread->takes) != takes;
}

/* A call that is under way called us, so that its frame lies above ours; one that was jumped out of
 * left its place on the stack to us. */
static bool was_abandoned(const struct fs_entry *entry, uintptr_t frame) {
    return entry->phase != FS_HELD && entry->frame <= frame;
}

void fs_prune_calls(struct fs_thread *self, uintptr_t frame) {
    while (self->depth > 0 && self->depth <= self->capacity &&
           was_abandoned(&self->entries[self->depth - 1], frame) && !fs_on_signal_stack()) {
        fs_drop_entry(self, self->depth - 1);
    }
}

void fs_prune(struct fs_thread *self, uintptr_t frame) {
    if (self->depth > self->capacity) {
        return;
    }
    bool frames_compare = !fs_on_signal_stack(); /* the addresses of two stacks do not */
    for (uint32_t slot = 0; slot < self->depth;) {
        const struct fs_entry *entry = &self->entries[slot];
        enum belief belief = belief_in(self, entry);
        /* A handler on a stack of its own cannot tell what it has interrupted. */
        bool under_way = belief == UNSURE && (!frames_compare || fs_seems_to_interrupt_us(frame));
        bool live = belief == SOUND || under_way;
        if (live && !(frames_compare && was_abandoned(entry, frame))) {
            slot++;
        } else {
            fs_drop_entry(self, slot);
        }
    }
}

void fs_prune_files(struct fs_thread *self) {
    if (!self->locks_files) {
        return; /* spares a look at each entry */
    }
    for (uint32_t slot = fs_entry_count(self); slot-- > 0;) {
        const struct fs_entry *entry = &self->entries[slot];
        if (entry->kind == FS_KIND_FILE && !fs_entry_live(self, entry)) {
            fs_drop_entry(self, slot);
        }
    }
}

void fs_waits_over(const void *object) {
    FS_EACH_THREAD (thread) {
        for (uint32_t i = 0; i < FS_INLINE_WAITS; i++) {
            void *expected = (void *)(uintptr_t)object;
            __atomic_compare_exchange_n(&thread->waits[i].object, &expected, NULL, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        }
    }
}

/* --- waits ----------------------------------------------------------------------------------- */

void fs_wait_prune(struct fs_thread *self, uintptr_t frame) {
    if (self->wait_count == 0 || fs_on_signal_stack()) {
        return;
    }
    while (self->wait_count > 0) {
        uint32_t newest = self->wait_count - 1;
        if (newest < FS_INLINE_WAITS) {
            struct fs_wait *wait = &self->waits[newest];
            if (wait->frame >= frame) {
                return;
            }
            if (wait->mutex != NULL && fs_layout_held_by(FS_KIND_MUTEX, wait->mutex, self)) {
                fs_held(self, wait->mutex,
                        fs_enter_late(self, wait->mutex, FS_KIND_MUTEX, wait->caller));
            }
        }
        fs_store(&self->wait_count, newest);
    }
}

void fs_wait_begin(struct fs_thread *self, enum fs_kind kind, void *object, void *mutex,
                   const void *caller) {
    uintptr_t frame = fs_frame();
    if (fs_unlikely(self->wait_count != 0)) {
        fs_wait_prune(self, frame);
    }
    uint32_t place = self->wait_count;
    if (place < FS_INLINE_WAITS) {
        self->waits[place] = (struct fs_wait){.object = object,
                                              .mutex = mutex,
                                              .caller = caller,
                                              .frame = frame,
                                              .kind = (uint8_t)kind};
    }
    fs_compiler_barrier();
    fs_store(&self->wait_count, place + 1);
}

void fs_wait_end(struct fs_thread *self) {
    if (self->wait_count > 0) {
        fs_store(&self->wait_count, self->wait_count - 1);
    }
}
