#include "repair.h"

#include <string.h>

#include "config.h"
#include "detect.h"
#include "event.h"
#include "fast.h"
#include "inventory.h"
#include "layout.h"
#include "loader.h"
#include "report.h"
#include "safepoint.h"
#include "sys.h"

bool fs_spins_inherited;

/* What every repair needs to know. */
struct child {
    struct fs_thread *survivor;
    int old_id; /* what the locks that the survivor holds still say */
    int new_id; /* what they must say */
    bool by_fork;
};

/* Objects that do not say who holds them. A vanished thread did once; whether the memory is still
 * that object, only its next use shows. */
struct inherited {
    struct fs_lock lock;
    void **objects;
    size_t count;
    size_t room;
};
static struct inherited spins;
static struct inherited read_locks;
bool fs_read_locks_inherited;

/* Nobody sees a FILE taken: printf does it inside libc. */
static bool is_seen_taken(const struct fs_entry *entry) { return entry->kind != FS_KIND_FILE; }

/* Where each fork is told, at once. Else once the child takes the lock, or calls libc so that it may
 * hang: most children execute another program, and never do. */
static void tell_forced(const struct fs_thread *vanished, const struct fs_entry *entry,
                        bool symbols) {
    if (fs_event_in_file()) {
        return;
    }
    char line[FS_LINE_MAX];
    if (!fs_event_wanted() && is_seen_taken(entry)) {
        struct fs_text text = fs_text(line, sizeof line);
        fs_text_forced(&text, vanished, entry, symbols);
        fs_detect_forced(entry->object, entry->kind, line);
        return;
    }
    struct fs_text text = fs_report_begin(line, sizeof line);
    fs_text_forced(&text, vanished, entry, symbols);
    fs_text_forced_end(&text, entry->kind, NULL);
    fs_report_line(line);
}

static void inherit(struct inherited *list, void *object, bool *any) {
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 512 : list->room * 2;
        void **grown =
            fs_map_larger(list->objects, list->room * sizeof *grown, room * sizeof *grown);
        if (grown == NULL) {
            return;
        }
        list->objects = grown;
        list->room = room;
    }
    list->objects[list->count++] = object;
    fs_store_release(any, true);
    fs_fast_off(); /* from now on each use of such an object is looked at */
}

/* Takes the object off the list. Returns false where it is not there. With the list's lock. */
static bool take_off(struct inherited *list, const void *object) {
    bool found = false;
    for (size_t i = 0; i < list->count; i++) {
        if (list->objects[i] == object) {
            list->objects[i--] = list->objects[--list->count];
            found = true;
        }
    }
    return found;
}

/* --- mutexes --------------------------------------------------------------------------------- */

static bool is_survivors(int owner, const struct child *child) {
    return owner != 0 && (owner == child->old_id || owner == child->new_id);
}

/* True if the mutex is locked, and nobody but this vanished thread can have locked it: it says so,
 * or the thread is in the middle of a call on it and nobody is named yet, or no longer. */
static bool locked_by(const pthread_mutex_t *mutex, const struct fs_thread *vanished,
                      bool in_flight) {
    int owner = fs_mutex_owner(mutex);
    return fs_mutex_locked(mutex) && (owner == vanished->owner_id || (in_flight && owner == 0));
}

/* Copies an object that may be gone. */
#define PEEK(object, copy) fs_peek(&(copy), (object), sizeof(copy))

/* True if a signal handler forked while the survivor was inside a call on the object. */
static bool survivor_is_at(const struct child *child, const void *object) {
    uint32_t count = fs_entry_count(child->survivor);
    for (uint32_t slot = 0; slot < count; slot++) {
        const struct fs_entry *entry = &child->survivor->entries[slot];
        enum fs_phase phase = fs_entry_phase(child->survivor, entry);
        if (entry->object == object && phase != FS_HELD && phase != FS_RESERVED) {
            return true;
        }
    }
    return false;
}

static void repair_mutex(const struct fs_thread *vanished, const struct fs_entry *entry,
                         const struct child *child) {
    pthread_mutex_t copy;
    bool in_flight = fs_entry_phase(vanished, entry) != FS_HELD;
    if (in_flight && survivor_is_at(child, entry->object)) {
        return; /* it is the survivor that has it, or is about to */
    }
    if (!PEEK(entry->object, copy) || fs_mutex_shared(&copy, entry->object) ||
        is_survivors(fs_mutex_owner(&copy), child) || !locked_by(&copy, vanished, in_flight) ||
        fs_is_shared_memory(entry->object, false)) {
        return;
    }
    fs_mutex_rebuild(entry->object);
    if (!in_flight) {
        tell_forced(vanished, entry, child->by_fork);
    }
}

/* The thread waited for a condition variable with this mutex: it does not hold it as far as the
 * program can know, even if it was just about to. */
static void repair_waiters_mutex(pthread_mutex_t *mutex, const struct fs_thread *vanished,
                                 const struct child *child) {
    pthread_mutex_t copy;
    if (!PEEK(mutex, copy) || fs_mutex_shared(&copy, mutex)) {
        return;
    }
    int owner = fs_mutex_owner(&copy);
    if (!is_survivors(owner, child) && locked_by(&copy, vanished, true) &&
        (owner != 0 || !survivor_is_at(child, mutex))) {
        fs_mutex_rebuild(mutex);
    }
    fs_mutex_forget_users(mutex);
}

/* --- rwlocks --------------------------------------------------------------------------------- */

static void repair_rwlock(const struct fs_thread *vanished, const struct fs_entry *entry,
                          const struct child *child) {
    pthread_rwlock_t copy;
    if (!PEEK(entry->object, copy) || fs_rwlock_shared(&copy)) {
        return;
    }
    bool held = entry->phase == FS_HELD;
    if (held && fs_is_shared_memory(entry->object, false)) {
        return;
    }
    if (held && entry->kind == FS_KIND_RWLOCK_READ) {
        inherit(&read_locks, entry->object, &fs_read_locks_inherited);
    } else {
        bool written = is_survivors(fs_rwlock_writer(&copy), child);
        uint32_t readers = fs_hold_count(child->survivor, entry->object, FS_KIND_RWLOCK_READ);
        fs_rwlock_rebuild(entry->object, readers, written ? child->new_id : 0);
    }
    if (held) {
        tell_forced(vanished, entry, child->by_fork);
    }
}

/* Nobody has used the lock since the fork: whoever holds it is the survivor. */
void fs_rwlock_disinherit(pthread_rwlock_t *rwlock) {
    fs_sigset saved = fs_signals_block();
    fs_lock(&read_locks.lock);
    if (take_off(&read_locks, rwlock)) {
        fs_rwlock_rebuild(rwlock, fs_reader_count(rwlock), 0);
    }
    fs_unlock(&read_locks.lock);
    fs_signals_restore(saved);
}

/* --- condition variables and barriers --------------------------------------------------------- */

/* The survivor itself may be in a wait that a signal handler interrupted to fork. */
static bool survivor_waits(const struct child *child, const void *object) {
    uint32_t count = child->survivor->wait_count;
    for (uint32_t i = 0; i < count && i < FS_INLINE_WAITS; i++) {
        if (child->survivor->waits[i].object == object) {
            return true;
        }
    }
    return false;
}

static void repair_cond(pthread_cond_t *cond, const struct child *child) {
    pthread_cond_t copy;
    if (PEEK(cond, copy) && fs_cond_has_waiters(&copy) && !fs_cond_shared(&copy) &&
        !survivor_waits(child, cond)) {
        fs_cond_rebuild(cond);
    }
}

static void repair_barrier(pthread_barrier_t *barrier, const struct child *child) {
    pthread_barrier_t copy;
    if (PEEK(barrier, copy) && fs_barrier_has_waiters(&copy) && !fs_barrier_shared(&copy) &&
        !survivor_waits(child, barrier)) {
        fs_barrier_rebuild(barrier);
    }
}

static void repair_wait(const struct fs_thread *vanished, const struct fs_wait *wait,
                        const struct child *child) {
    if (!fs_layout_known(wait->kind)) {
        return;
    }
    if (wait->kind == FS_KIND_BARRIER) {
        repair_barrier(wait->object, child);
    }
    if (wait->kind != FS_KIND_COND) {
        return;
    }
    repair_cond(wait->object, child);
    if (wait->mutex != NULL && fs_layout_known(FS_KIND_MUTEX)) {
        repair_waiters_mutex(wait->mutex, vanished, child);
    }
}

/* --- spinlocks ------------------------------------------------------------------------------- */

static void repair_spin(const struct fs_thread *vanished, const struct fs_entry *entry,
                        const struct child *child) {
    if (fs_holds(child->survivor, entry->object) || fs_is_shared_memory(entry->object, true)) {
        return;
    }
    inherit(&spins, entry->object, &fs_spins_inherited);
    if (entry->phase == FS_HELD) {
        tell_forced(vanished, entry, child->by_fork);
    }
}

bool fs_spin_disinherit(pthread_spinlock_t *spin, bool free_it) {
    fs_sigset saved = fs_signals_block();
    fs_lock(&spins.lock);
    bool found = take_off(&spins, (const void *)(uintptr_t)spin);
    if (found && free_it) {
        if (fs_is_shared_memory((const void *)(uintptr_t)spin, true)) {
            found = false; /* the parent's thread still owns it */
        } else {
            fs_spin_rebuild(spin);
        }
    }
    fs_unlock(&spins.lock);
    fs_signals_restore(saved);
    return found;
}

/* --- the rest -------------------------------------------------------------------------------- */

static void repair_semaphore(const struct fs_thread *vanished, const struct fs_entry *entry,
                             const struct child *child) {
    if (fs_layout_held_by(FS_KIND_SEMAPHORE, entry->object, vanished)) {
        fs_sem_give_back(entry->object);
        tell_forced(vanished, entry, child->by_fork);
    }
}

static void repair_guard(const struct fs_thread *vanished, const struct fs_entry *entry,
                         const struct child *child) {
    if (fs_holds(child->survivor, entry->object) ||
        !fs_layout_held_by(FS_KIND_GUARD, entry->object, vanished)) {
        return;
    }
    fs_guard_rebuild(entry->object);
    if (entry->phase == FS_HELD) {
        tell_forced(vanished, entry, child->by_fork);
    }
}

/* --- all of it ------------------------------------------------------------------------------- */

/* A libc call that was cut while it may have held its lock. */
static bool was_cut(const struct fs_thread *vanished, const struct fs_entry *entry,
                    const struct child *child) {
    return fs_call_was_cut(entry, child->by_fork) && !vanished->behind_call;
}

static void repair_entry(const struct fs_thread *vanished, const struct fs_entry *entry,
                         const struct child *child) {
    if (!fs_layout_known(entry->kind)) {
        return;
    }
    switch (entry->kind) {
    case FS_KIND_MUTEX:
        repair_mutex(vanished, entry, child);
        break;
    case FS_KIND_RWLOCK_READ:
    case FS_KIND_RWLOCK_WRITE:
        repair_rwlock(vanished, entry, child);
        break;
    case FS_KIND_SPIN:
        repair_spin(vanished, entry, child);
        break;
    case FS_KIND_SEMAPHORE:
        repair_semaphore(vanished, entry, child);
        break;
    case FS_KIND_GUARD:
        repair_guard(vanished, entry, child);
        break;
    case FS_KIND_COND:
        repair_cond(entry->object, child);
        break;
    case FS_KIND_CRITICAL: /* a lock of libc's own is out of reach */
        if (was_cut(vanished, entry, child)) {
            tell_forced(vanished, entry, child->by_fork);
        }
        break;
    case FS_KIND_FILE: /* glibc's fork has freed it already */
        if (!child->by_fork && entry->phase == FS_HELD) {
            fs_file_free(entry->object);
            tell_forced(vanished, entry, false);
        }
        break;
    default: /* glibc repairs pthread_once itself */
        break;
    }
}

/* What the survivor holds stays held, under its new name. A call that is under way may not have
 * written its owner yet, or have taken it away again. */
static void reown(const struct fs_entry *entry, const struct child *child) {
    union {
        pthread_mutex_t mutex;
        pthread_rwlock_t rwlock;
        sem_t sem;
    } copy;
    switch (entry->kind) {
    case FS_KIND_MUTEX:
        if (PEEK(entry->object, copy.mutex) && fs_mutex_locked(&copy.mutex) &&
            fs_mutex_owner(&copy.mutex) == child->old_id &&
            !fs_mutex_shared(&copy.mutex, entry->object)) {
            fs_mutex_reown(entry->object, child->new_id);
            if (fs_mutex_robust(&copy.mutex)) {
                fs_robust_enqueue(entry->object);
            }
        }
        break;
    case FS_KIND_RWLOCK_WRITE:
        if (PEEK(entry->object, copy.rwlock) && !fs_rwlock_shared(&copy.rwlock) &&
            fs_rwlock_writer(&copy.rwlock) == child->old_id) {
            fs_rwlock_rebuild(entry->object, 0, child->new_id);
        }
        break;
    case FS_KIND_SEMAPHORE: {
        struct fs_thread before = {.owner_id = child->old_id};
        if (fs_layout_held_by(FS_KIND_SEMAPHORE, entry->object, &before)) {
            fs_sem_note_wait(entry->object, child->new_id);
        }
        break;
    }
    default:
        break;
    }
}

/* glibc's fork has unlocked the FILEs that the survivor holds, too. */
static void relock_file(const struct fs_entry *entry, const struct child *child) {
    FILE copy;
    if (child->by_fork && PEEK(entry->object, copy)) {
        fs_file_relock(entry->object, fs_hold_count(child->survivor, entry->object, FS_KIND_FILE));
    }
}

static void reown_all(const struct child *child) {
    uint32_t count = fs_entry_count(child->survivor);
    for (uint32_t slot = 0; slot < count; slot++) {
        struct fs_entry *entry = &child->survivor->entries[slot];
        if (entry->phase == FS_RESERVED || !fs_layout_known(entry->kind)) {
            continue;
        }
        if (entry->kind == FS_KIND_FILE && entry->phase == FS_HELD) {
            relock_file(entry, child);
        } else if (child->old_id != child->new_id) {
            reown(entry, child);
            if (fs_entry_phase(child->survivor, entry) != FS_HELD) {
                /* a handler forked in the middle of the call */
                entry->object = (void *)((uintptr_t)entry->object | FS_FORKED);
            }
        }
    }
}

/* No fork waited for a thread that slept. If a signal handler did, that interrupted it in between, its stack shows it;
 * else another object lies where the mutex was. */
static bool was_between(const struct fs_thread *vanished, const struct fs_entry *entry) {
    return vanished->state != FS_DETACHED || entry->outlasted != 0 ||
           fs_seems_to_interrupt_us(vanished->detached_frame);
}

static bool was_taken_again(const struct fs_thread *thread, const struct fs_entry *entry) {
    const struct fs_entry *end = thread->entries + fs_entry_count(thread);
    for (const struct fs_entry *later = entry + 1; later < end; later++) {
        if (later->object == entry->object && later->kind == FS_KIND_MUTEX) {
            return true;
        }
    }
    return false;
}

/* A mutex that is free, or another's, needs no repair. One that another thread was about to give back, in the place of
 * this one, does. */
static bool is_disproved(const struct fs_thread *vanished, struct fs_entry *entry) {
    if (entry->kind != FS_KIND_MUTEX || entry->phase != FS_HELD) {
        return !fs_entry_live(vanished, entry);
    }
    bool given_back = ((uintptr_t)entry->object & FS_DISOWNED) != 0;
    if (given_back) {
        entry->object = (void *)((uintptr_t)entry->object & ~FS_DISOWNED);
        entry->phase = FS_RELEASING;
    }
    switch (fs_mutex_state(entry->object, vanished)) {
    case FS_MUTEX_OWN: /* if not again, then the other was in the middle of giving it back */
        return given_back && was_taken_again(vanished, entry);
    case FS_MUTEX_BETWEEN:
        return !given_back && !was_between(vanished, entry);
    default:
        return true;
    }
}

/* A hold is believed only if the object still says so. A call under way needs no such proof: its
 * object is there, or the program is broken. Done for all entries before the first repair: putting
 * a rwlock right takes the proof away from its other readers. */
static void drop_disproved(struct fs_thread *vanished) {
    uint32_t count = fs_entry_count(vanished);
    for (uint32_t slot = 0; slot < count; slot++) {
        struct fs_entry *entry = &vanished->entries[slot];
        if (entry->phase != FS_RESERVED && is_disproved(vanished, entry)) {
            entry->phase = FS_RESERVED;
        }
    }
}

/* What was a thread's before the fork, for reports and for detect. */
static struct fs_remnant remnant_of(const struct fs_thread *vanished, uint8_t kind, void *object,
                                    const void *caller) {
    struct fs_remnant remnant = {.object = object,
                                 .caller = caller,
                                 .stood_at = vanished->stood_at,
                                 .tid = vanished->tid,
                                 .owner_id = vanished->owner_id,
                                 .kind = kind};
    memcpy(remnant.name, vanished->name, sizeof remnant.name);
    return remnant;
}

/* Of ld.so's lock alone we can see whether it was held. */
static bool still_counts(const struct fs_remnant *remnant, const struct child *child) {
    const struct fs_critical *call = remnant->object;
    return remnant->kind != FS_KIND_CRITICAL || call->lock != FS_LOCK_dl_load_write_lock ||
           fs_loader_was_held(child->old_id);
}

static void settle_entry(struct fs_thread *vanished, const struct fs_entry *entry,
                         const struct child *child) {
    if (fs_event_wanted() && (entry->kind != FS_KIND_CRITICAL || was_cut(vanished, entry, child))) {
        struct fs_remnant remnant = remnant_of(vanished, entry->kind, entry->object, entry->caller);
        remnant.phase = (uint8_t)fs_entry_phase(vanished, entry);
        remnant.stack = entry->stack;
        fs_event_inherited(&remnant);
        if (fs_config.mode == FS_MODE_DETECT && still_counts(&remnant, child)) {
            fs_detect_remember(&remnant);
        }
    }
    if (fs_config.mode == FS_MODE_REPAIR) {
        repair_entry(vanished, entry, child);
    }
}

static void settle_wait(struct fs_thread *vanished, const struct fs_wait *wait,
                        const struct child *child) {
    struct fs_remnant remnant;
    if (fs_event_wanted()) {
        remnant = remnant_of(vanished, wait->kind, wait->object, wait->caller);
        remnant.waits = true;
        fs_event_inherited(&remnant);
    }
    if (fs_config.mode == FS_MODE_REPAIR) {
        repair_wait(vanished, wait, child);
        return;
    }
    fs_detect_remember(&remnant);
    if (wait->mutex != NULL) { /* it may have been on its way back to it */
        remnant = remnant_of(vanished, FS_KIND_MUTEX, wait->mutex, wait->caller);
        fs_detect_remember(&remnant);
    }
}

static void settle(struct fs_thread *vanished, const struct child *child) {
    uint32_t count = fs_entry_count(vanished);
    bool nothing = count == 0 && vanished->wait_count == 0;
    if (nothing) {
        return;
    }
    if (fs_config.mode == FS_MODE_DETECT) {
        fs_thread_read_name(vanished, fs_event_origin()->pid); /* where it lives on */
    }
    for (uint32_t slot = 0; slot < count; slot++) {
        if (vanished->entries[slot].phase != FS_RESERVED) {
            settle_entry(vanished, &vanished->entries[slot], child);
        }
    }
    for (uint32_t i = 0; i < vanished->wait_count && i < FS_INLINE_WAITS; i++) {
        settle_wait(vanished, &vanished->waits[i], child);
    }
}

void fs_repair_child(struct fs_thread *survivor, bool by_fork) {
    struct child child = {.survivor = survivor, .old_id = survivor->owner_id, .by_fork = by_fork};
    fs_registry_cut(survivor, by_fork);
    child.new_id = survivor->owner_id;
    bool alone = fs_vanished_next(NULL) == NULL; /* before the fork, too */
    if (!alone) {
        fs_peek_alone(true);
    }
    FS_EACH_VANISHED (thread) {
        drop_disproved(thread);
    }
    fs_event_begin();
    FS_EACH_VANISHED (thread) {
        settle(thread, &child);
    }
    reown_all(&child);
    if (!alone) {
        fs_peek_alone(false);
    }
    fs_loader_repair(child.old_id, child.new_id);
    fs_event_end();
    fs_detect_begin();
}
