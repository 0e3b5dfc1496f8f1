#include "detect.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "config.h"
#include "fast.h"
#include "hooks/twins.h"
#include "inventory.h"
#include "layout.h"
#include "real.h"
#include "report.h"
#include "sys.h"

bool fs_calls_inherited;

/* What was left behind, by this fork and by those before that the child's ancestors went through.
 * The filter has a bit for each object: most locks of a child are not in the list. */
static struct {
    struct fs_lock lock; /* with signals blocked */
    struct fs_remnant *items;
    size_t count, room;
    uint64_t filter[64];
    const struct fs_origin *origin; /* of this process's fork; NULL: not needed yet */
} left FS_CHILD_STATE;

/* What is to be told of forced holds: texts one behind the other, each ended by a 0. The first byte
 * is nobody's. */
static struct {
    char *bytes;
    uint32_t used, room;
} lines;

static uint64_t filter_bit(const void *object, uint64_t **word) {
    uint64_t hash = ((uintptr_t)object >> 3) * 0x9e3779b97f4a7c15;
    *word = &left.filter[hash >> 58];
    return UINT64_C(1) << (hash >> 52 & 63);
}

/* --- at the fork ----------------------------------------------------------------------------- */

static const struct fs_origin *keep_origin(void) {
    if (left.origin == NULL) {
        struct fs_origin *copy = fs_map(sizeof *copy);
        if (copy != NULL) {
            *copy = *fs_event_origin();
        }
        left.origin = copy != NULL ? copy : fs_event_origin();
    }
    return left.origin;
}

void fs_detect_remember(const struct fs_remnant *remnant) {
    if (remnant->object == NULL) {
        return;
    }
    if (left.count == left.room) {
        size_t room = left.room == 0 ? 32 : left.room * 2;
        struct fs_remnant *grown =
            fs_map_larger(left.items, left.room * sizeof *grown, room * sizeof *grown);
        if (grown == NULL) {
            return;
        }
        left.items = grown;
        left.room = room;
    }
    struct fs_remnant *item = &left.items[left.count++];
    *item = *remnant;
    item->origin = item->line == 0 ? keep_origin() : NULL;
    uint64_t *word;
    uint64_t bit = filter_bit(item->object, &word);
    *word |= bit;
    if (item->kind == FS_KIND_CRITICAL) {
        fs_store(&fs_calls_inherited, true);
    }
}

/* Returns where it stands, or 0. */
static uint32_t keep_line(const char *line) {
    enum { FIRST_ROOM = 4096 };
    size_t bytes = strlen(line) + 1;
    if (lines.room - lines.used < bytes) {
        size_t room = lines.room == 0 ? FIRST_ROOM : (size_t)lines.room * 2;
        char *grown = room <= UINT32_MAX ? fs_map_larger(lines.bytes, lines.room, room) : NULL;
        if (grown == NULL) {
            return 0;
        }
        lines.bytes = grown;
        lines.used = lines.used == 0 ? 1 : lines.used;
        lines.room = (uint32_t)room;
    }
    uint32_t at = lines.used;
    memcpy(lines.bytes + at, line, bytes);
    lines.used += (uint32_t)bytes;
    return at;
}

void fs_detect_forced(void *object, uint8_t kind, const char *line) {
    struct fs_remnant remnant = {.object = object, .kind = kind, .line = keep_line(line)};
    if (remnant.line != 0) {
        fs_detect_remember(&remnant);
        fs_fast_off(); /* the lock is free: the fast ways would take it unseen */
    }
}

void fs_detect_begin(void) {
    fs_update(&left.lock.word, 0U); /* whoever was at the list has vanished */
    fs_update(&left.origin, NULL);
    if (fs_config.mode == FS_MODE_DETECT || fs_config.watchdog_ms != 0 || left.count != 0) {
        fs_twins_install();
    }
}

/* --- the list -------------------------------------------------------------------------------- */

bool fs_is_inherited(const void *object) {
    uint64_t *word;
    uint64_t bit = filter_bit(object, &word);
    return (fs_load(word) & bit) != 0;
}

static void drop_object(const void *object) {
    for (size_t i = 0; i < left.count; i++) {
        if (left.items[i].object == object) {
            left.items[i--] = left.items[--left.count];
        }
    }
}

static fs_sigset lock_list(void) {
    fs_sigset saved = fs_signals_block();
    fs_lock(&left.lock);
    return saved;
}

static void unlock_list(fs_sigset saved) {
    fs_unlock(&left.lock);
    fs_signals_restore(saved);
}

static void take_item(size_t i, struct fs_remnant *copy) {
    *copy = left.items[i];
    left.items[i] = left.items[--left.count];
}

void fs_detect_forget(const void *object) {
    if (fs_is_inherited(object)) {
        fs_sigset saved = lock_list();
        drop_object(object);
        unlock_list(saved);
    }
}

/* --- in repair: a forced hold is told -------------------------------------------------------- */

static void say(const struct fs_remnant *forced, const void *taker) {
    char line[FS_LINE_MAX];
    fs_sigset saved = fs_signals_block(); /* a handler's fork may move the texts */
    struct fs_text text = fs_report_begin(line, sizeof line);
    fs_text_string(&text, lines.bytes + forced->line);
    fs_signals_restore(saved);
    fs_text_forced_end(&text, forced->kind, taker);
    fs_report_line(line);
}

static bool take_item_of(const void *object, struct fs_remnant *copy) {
    bool found = false;
    fs_sigset saved = lock_list();
    for (size_t i = 0; i < left.count && !found; i++) {
        if (left.items[i].object == object) {
            take_item(i, copy);
            found = true;
        }
    }
    unlock_list(saved);
    return found;
}

static __attribute__((noinline)) void say_all(const void *object) {
    int saved_errno = errno;
    struct fs_remnant forced;
    while (take_item_of(object, &forced)) {
        say(&forced, fs_caller_of(fs_self, object));
    }
    errno = saved_errno;
}

void fs_detect_taken(const void *object) {
    if (fs_config.mode == FS_MODE_REPAIR && fs_is_inherited(object)) {
        say_all(object);
    }
}

/* A rwlock may be taken, and those who queued for it still be in the next one's way. */
void fs_detect_free(enum fs_kind kind, const void *object) {
    if (fs_config.mode == FS_MODE_REPAIR) {
        fs_detect_taken(object);
    } else if (kind != FS_KIND_RWLOCK_READ && kind != FS_KIND_RWLOCK_WRITE) {
        fs_detect_forget(object);
    }
}

/* --- is it a vanished thread's doing? ---------------------------------------------------------- */

static bool somebody_holds(const void *object) {
    FS_EACH_THREAD (thread) {
        if (fs_holds(thread, object)) {
            return true;
        }
    }
    return false;
}

static bool says_held(const struct fs_remnant *remnant) {
    struct fs_thread vanished = {.owner_id = remnant->owner_id};
    return fs_layout_held_by(remnant->kind, remnant->object, &vanished);
}

static bool mutex_stands(const struct fs_remnant *remnant, enum fs_meeting meeting) {
    const pthread_mutex_t *mutex = remnant->object;
    if (fs_mutex_shared(mutex, mutex) || fs_is_shared_memory(mutex, false)) {
        return false;
    }
    if (meeting == FS_DESTROYS) {
        return !somebody_holds(mutex); /* it was found busy: by its waiters at least */
    }
    int owner = fs_mutex_owner(mutex);
    bool nobody = owner == 0 && remnant->phase != FS_HELD;
    return fs_mutex_locked(mutex) && (nobody || owner == remnant->owner_id) &&
           !somebody_holds(mutex);
}

/* It was found locked. A call that was cut may have left it so; but then nobody else holds it. */
static bool lock_stands(const struct fs_remnant *remnant) {
    bool held = remnant->phase == FS_HELD && remnant->kind != FS_KIND_SPIN;
    return (held || !somebody_holds(remnant->object)) &&
           !fs_is_shared_memory(remnant->object, remnant->kind == FS_KIND_SPIN);
}

static bool cond_stands(const struct fs_remnant *remnant, enum fs_meeting meeting) {
    const pthread_cond_t *cond = remnant->object;
    if (fs_cond_shared(cond) || !fs_cond_has_waiters(cond)) {
        return false;
    }
    bool wakes = meeting == FS_SIGNALS || meeting == FS_BROADCASTS;
    return !wakes || fs_cond_signal_blocks(cond, meeting == FS_BROADCASTS);
}

/* `kind`: what the child takes the object for. */
static bool stands_in_the_way(const struct fs_remnant *remnant, enum fs_meeting meeting,
                              enum fs_kind kind) {
    switch (remnant->kind) {
    case FS_KIND_MUTEX:
        return kind == FS_KIND_MUTEX && mutex_stands(remnant, meeting);
    case FS_KIND_RWLOCK_READ:
    case FS_KIND_RWLOCK_WRITE:
        return (kind == FS_KIND_RWLOCK_READ || kind == FS_KIND_RWLOCK_WRITE) &&
               !fs_rwlock_shared(remnant->object) && lock_stands(remnant);
    case FS_KIND_SPIN:
        return kind == FS_KIND_SPIN && lock_stands(remnant);
    case FS_KIND_SEMAPHORE:
        return kind == FS_KIND_SEMAPHORE && !remnant->waits && says_held(remnant);
    case FS_KIND_FILE:
    case FS_KIND_GUARD:
        return kind == remnant->kind && says_held(remnant) && !somebody_holds(remnant->object);
    case FS_KIND_COND:
        return kind == FS_KIND_COND && cond_stands(remnant, meeting);
    case FS_KIND_BARRIER:
        return kind == FS_KIND_BARRIER && !fs_barrier_shared(remnant->object) &&
               fs_barrier_has_waiters(remnant->object);
    default:
        return false;
    }
}

/* The holder, if there is one among those that stand in the way. */
static const struct fs_remnant *find_culprit(enum fs_meeting meeting, enum fs_kind kind,
                                             const void *object) {
    const struct fs_remnant *found = NULL;
    for (size_t i = 0; i < left.count; i++) {
        const struct fs_remnant *item = &left.items[i];
        bool better = found == NULL || (!item->waits && item->phase == FS_HELD);
        if (item->object == object && better && stands_in_the_way(item, meeting, kind)) {
            found = item;
        }
    }
    return found;
}

/* --- what is done about it --------------------------------------------------------------------- */

static void put_right(const struct fs_remnant *remnant, enum fs_meeting meeting) {
    void *object = remnant->object;
    switch (remnant->kind) {
    case FS_KIND_MUTEX:
        fs_mutex_rebuild(object);
        if (meeting == FS_DESTROYS) {
            fs_mutex_forget_users(object);
        }
        break;
    case FS_KIND_RWLOCK_READ:
    case FS_KIND_RWLOCK_WRITE:
        fs_rwlock_rebuild(object, fs_reader_count(object), 0);
        break;
    case FS_KIND_SPIN:
        fs_spin_rebuild(object);
        break;
    case FS_KIND_SEMAPHORE:
        fs_sem_give_back(object);
        break;
    case FS_KIND_FILE:
        fs_file_free(object);
        break;
    case FS_KIND_GUARD:
        fs_guard_rebuild(object);
        break;
    case FS_KIND_COND:
        fs_cond_rebuild(object);
        break;
    case FS_KIND_BARRIER:
        fs_barrier_rebuild(object);
        break;
    default:
        break;
    }
}

/* Ends the process as it stands, with a core. The program's own handler of SIGABRT is not asked: it
 * may want the very lock. */
static void abort_here(void) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t open;
    sigemptyset(&open);
    sigaddset(&open, SIGABRT);
    fs_real.sigaction(SIGABRT, &standard, NULL);
    fs_real.pthread_sigmask(SIG_UNBLOCK, &open, NULL);
    fs_signal_thread(fs_gettid(), SIGABRT);
}

static const char *const words[] = {
    [FS_BLOCKS] = "blocks",   [FS_BUSY] = "busy",          [FS_DESTROYS] = "destroys",
    [FS_SIGNALS] = "signals", [FS_BROADCASTS] = "signals", [FS_CALLS] = "calls"};

static void tell(const struct fs_remnant *remnant, enum fs_meeting meeting, const char *call,
                 const void *caller, bool healed) {
    bool ends = fs_config.on_deadlock == FS_ABORT;
    fs_event_deadlock(remnant, words[meeting], call, caller, healed && !ends);
    if (ends) {
        abort_here();
    }
}

bool fs_detect_meet(enum fs_meeting meeting, enum fs_kind kind, void *object) {
    if (fs_config.mode == FS_MODE_REPAIR) {
        fs_detect_taken(object);
        return false;
    }
    if (!fs_is_inherited(object)) {
        return false;
    }
    int saved_errno = errno;
    fs_sigset saved = lock_list();
    const struct fs_remnant *culprit = find_culprit(meeting, kind, object);
    bool met = culprit != NULL;
    struct fs_remnant copy;
    if (met) {
        copy = *culprit;
        if (fs_config.on_deadlock == FS_HEAL) {
            put_right(&copy, meeting);
        }
    }
    /* Whoever waits in it from now on is alive. */
    bool joins = (kind == FS_KIND_COND || kind == FS_KIND_BARRIER) && meeting == FS_BLOCKS;
    if (met || joins) {
        drop_object(object);
    }
    unlock_list(saved);
    if (met) {
        tell(&copy, meeting, NULL, fs_caller_of(fs_self, object), true);
    }
    errno = saved_errno;
    return met;
}

void fs_detect_semaphore(void *sem, int holder) {
    int saved_errno = errno;
    struct fs_remnant remnant = {.object = sem,
                                 .origin = fs_event_origin(),
                                 .tid = holder,
                                 .owner_id = holder,
                                 .kind = FS_KIND_SEMAPHORE,
                                 .phase = FS_HELD,
                                 .name = "?"};
    tell(&remnant, FS_BLOCKS, NULL, fs_caller_of(fs_self, sem), true);
    errno = saved_errno;
}

/* --- libc's calls ----------------------------------------------------------------------------- */

static bool same_lock(const struct fs_remnant *remnant, const struct fs_critical *call) {
    return remnant->kind == FS_KIND_CRITICAL &&
           ((const struct fs_critical *)remnant->object)->lock == call->lock;
}

/* Told once for each lock. */
void fs_detect_call(const struct fs_critical *call, const void *caller) {
    if (call->lock == FS_LOCK_NONE) {
        return;
    }
    int saved_errno = errno;
    fs_sigset saved = lock_list();
    bool met = false;
    struct fs_remnant copy;
    for (size_t i = 0; i < left.count; i++) {
        if (same_lock(&left.items[i], call)) {
            take_item(i--, &copy);
            met = true;
        }
    }
    unlock_list(saved);
    if (met && fs_config.mode == FS_MODE_REPAIR) {
        say(&copy, caller);
    } else if (met) {
        tell(&copy, FS_CALLS, call->name, caller, false);
    }
    errno = saved_errno;
}
