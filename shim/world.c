/* The stop, from the forking thread's side:
 *
 *   fs_world_stop
 *     drain_holders        close the gate, wait until nobody holds a lock; open it now and then,
 *                          since a holder may need somebody who is parked; give up at the deadline
 *     fs_suspend_running   the suspend signal for the threads that run outside any lock, on a processor
 *     release_unsafe       a thread that turns out to be parked inside opaque code goes on
 *   (the fork)
 *   fs_world_start | fs_world_alone
 */
#include "world.h"

#include <string.h>

#include "config.h"
#include "event.h"
#include "inventory.h"
#include "layout.h"
#include "loader.h"
#include "report.h"
#include "safepoint.h"
#include "stacks.h"
#include "suspend.h"
#include "sys.h"

static struct {
    unsigned cpus;        /* that this process may run on */
    int loader_outlasted; /* an owner_id: held ld.so's lock until a fork's deadline */
    uint32_t modes;       /* bits of the stop word that stay */
    bool outstayed;       /* there was one that stood badly until a fork's deadline */
} world;

/* Values of `pass` in a thread's record. */
enum {
    PASS_ONCE = 1, /* go on from here; park again where you next come to */
    PASS_ALWAYS,   /* until the end of this stop */
};

/* A timer that ends before the kernel's next tick (1 to 10 ms, mostly 4) has to be programmed, which costs as much as a
 * sleep does: there are few that do. */
enum {
    CHANCES = 3,           /* times that the world is let run for holders that wait for others */
    FIRST_SLICE_MS = 1,    /* the gate stays closed so long, then open as long; doubles */
    LONGEST_SLICE_MS = 16, /* up to this */
    SPIN_US = 50,          /* a critical call is mostly over sooner than a sleep and a wake are */
    SPINS = 4,             /* each time that the gate is closed */
    PAUSES = 20,           /* between two looks */
    FIRST_LOOK_MS = 5,     /* after so long a parked thread looks by itself; doubles */
};

/* --- the threads' side ----------------------------------------------------------------------- */

bool fs_stop_wanted(const struct fs_thread *self) {
    uint32_t stop = fs_load(&fs_fork_page.stop);
    if ((stop & FS_FENCED) != 0) {
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        stop = fs_load(&fs_fork_page.stop);
    }
    return (stop & FS_STOPPED) != 0 && fs_load(&fs_fork_page.stopper) != self;
}

/* Of a count that wraps. */
static bool has_come_to(uint32_t count, uint32_t other) { return (int32_t)(count - other) >= 0; }

void fs_world_progress(void) {
    uint32_t now = __atomic_add_fetch(&fs_fork_page.progress, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&fs_fork_page.stopper_waits, __ATOMIC_SEQ_CST) != 0 &&
        has_come_to(now, __atomic_load_n(&fs_fork_page.wake_at, __ATOMIC_SEQ_CST))) {
        fs_futex_wake(&fs_fork_page.progress, FS_ALL_BITS);
    }
}

/* A fork that does not come to its end because of what a parked thread holds, in a place that
 * forksafe cannot see, must not hang: nobody stays parked for longer than this. */
static int64_t patience(void) { return (2 * (int64_t)fs_config.deadline_ms + 2000) * FS_MSEC; }

/* Asleep inside the real fork, for a lock that nobody can see: malloc's. Where /proc cannot be read, asleep is
 * enough. (While it runs, /proc is left alone: its child would inherit the descriptor.) */
static bool stopper_is_stuck(void) {
    const struct fs_thread *stopper = fs_load(&fs_fork_page.stopper);
    if (stopper == NULL || fs_task_runs(stopper->tid)) {
        return false;
    }
    uintptr_t futex = fs_task_futex(stopper->tid);
    return futex != 0 && futex - (uintptr_t)&fs_fork_page >= FS_FORK_PAGE_BYTES;
}

/* The gate is open. The forking thread has other things to do than to wake them all: it wakes one, and each wakes two
 * others before it goes on. (One that is woken, but gets no processor, delays the others until they look by
 * themselves.) */
static void wake_branches(void) { fs_futex_wake_some(&fs_fork_page.stop, 2); }

/* The caller is in a handler that interrupted malloc, say, whose lock the fork takes. The stopper lets go who
 * stands like that (release_unsafe), but has not looked at one that comes late. */
static bool is_in_the_way(bool by_signal) {
    return !by_signal && fs_stacks_matter() && stopper_is_stuck() &&
           fs_seems_to_interrupt_opaque(fs_frame());
}

static bool is_dismissed(const struct fs_thread *thread) {
    return thread->by_signal && !fs_load(&thread->summoned);
}

/* ATTACHED or DETACHED -> SUSPENDED -> back, when the world starts or the stopper lets us pass. */
static void park(struct fs_thread *self, const void *registers, bool by_signal) {
    uint32_t before = self->state;
    uint32_t seen = 0;
    int64_t give_up = 0, slice = 0;
    self->registers = registers;
    self->by_signal = by_signal;
    fs_store_release(&self->state, FS_SUSPENDED);
    fs_world_progress();
    __atomic_add_fetch(&fs_fork_page.parked, 1, __ATOMIC_SEQ_CST);
    for (uint32_t stop; ((stop = fs_load_acquire(&fs_fork_page.stop)) & FS_STOPPED) != 0;) {
        if (fs_load(&self->pass) != 0 || (self->depth != 0 && !fs_load(&self->hopeless)) ||
            is_dismissed(self)) {
            break;
        }
        int64_t now = fs_now();
        if (stop != seen) { /* something goes on, or it is another fork */
            seen = stop;
            give_up = now + patience();
            slice = FIRST_LOOK_MS * FS_MSEC;
        } else if (now >= give_up || is_in_the_way(by_signal)) {
            fs_store(&fs_fork_page.marked, true);
            fs_store(&self->pass, now >= give_up ? PASS_ALWAYS : PASS_ONCE);
            break;
        }
        int64_t look_again = now + slice < give_up ? now + slice : give_up;
        fs_futex_wait(&fs_fork_page.stop, stop, look_again, fs_wake_bit(self));
        slice *= 2;
    }
    uint32_t others = __atomic_sub_fetch(&fs_fork_page.parked, 1, __ATOMIC_SEQ_CST);
    if (others != 0 && (fs_load(&fs_fork_page.stop) & FS_STOPPED) == 0) {
        wake_branches();
    }
    fs_store(&self->state, before);
    fs_compiler_barrier();
}

/* Parks the caller until it may go on, all signals blocked: a handler that ran here would run in a
 * thread that counts as suspended. */
static __attribute__((noinline)) void park_quietly(struct fs_thread *self) {
    greg_t registers[NGREG] = {0};
    fs_save_registers(registers);
    fs_sigset saved = fs_signals_block();
    park(self, registers, false);
    fs_signals_restore(saved);
}

/* The thread holds nothing, or nobody waits for it. Returns at once if it is not to stop, or was
 * told to pass. */
static void park_if_wanted(struct fs_thread *self) {
    if (fs_stop_wanted(self) && fs_load(&self->pass) == 0) {
        park_quietly(self);
    }
}

/* An order to pass was followed. */
static void passed(struct fs_thread *self) {
    if (fs_load(&self->pass) == PASS_ONCE) {
        fs_store(&self->pass, 0);
    }
}

/* The thread is not at a lock: it parks, and goes on. */
static void stop_if_wanted(struct fs_thread *self) {
    park_if_wanted(self);
    passed(self);
}

/* Nobody waits for a thread that was found hopeless: it must not go on before the fork. Unless that waits
 * for it: what it changes then may be torn in the child. */
static bool is_frozen(const struct fs_thread *self) {
    return fs_load(&self->hopeless) && !self->walks && !fs_has_lock_of_fork(self);
}

/* The depth goes up, and then the orders are looked at: pairs with forget_verdicts(), close_gate() and
 * verdicts_hold(). */
static bool may_pass(struct fs_thread *self, uintptr_t frame) {
    uint32_t slot = fs_raise_over(self);
    if (slot < self->capacity) {
        self->entries[slot].frame = frame;
    }
    fs_compiler_barrier();
    if (self->depth > 1 && !is_frozen(self)) {
        return true; /* it holds something, and has all the time */
    }
    return !fs_stop_wanted(self) || fs_load(&self->pass) != 0;
}

/* The place that the raised depth stands for. */
static uint32_t place(struct fs_thread *self) {
    fs_store(&self->takes, self->takes + 1);
    if ((fs_load(&fs_fork_page.stop) & FS_STACKED) != 0) {
        fs_stacks_note(self,
                       self->depth - 1); /* libunwind locks, which may drop dead entries below */
    }
    return self->depth - 1;
}

__attribute__((noinline)) uint32_t fs_gate(struct fs_thread *self, uintptr_t frame) {
    if (!fs_stop_wanted(self)) {
        return place(self);
    }
    do {
        fs_store(&self->depth, self->depth - 1); /* not filled yet: give it back for now */
        fs_wait_prune(self, frame);
        if (self->depth != 0) {
            fs_prune(self, frame);
        }
        if (self->depth == 0 || is_frozen(self)) {
            park_if_wanted(self);
        }
    } while (!may_pass(self, frame));
    passed(self);
    return place(self);
}

void fs_freeze(struct fs_thread *self) {
    if (is_frozen(self)) {
        stop_if_wanted(self);
    }
}

void fs_detach_slow(struct fs_thread *self) {
    if (self->depth == 0) {
        stop_if_wanted(self);
    }
}

void fs_attach_slow(struct fs_thread *self) {
    if (self->depth != 0 && fs_stop_wanted(self)) {
        fs_prune(self, fs_frame());
    }
    if (self->depth == 0) {
        stop_if_wanted(self);
    } else {
        fs_freeze(self);
    }
}

/* A blocking call begins in a thread that holds something, or that is not ATTACHED. The first may be
 * calls that were jumped out of. The second: a signal handler blocks inside a blocking call, or the
 * last one was left by a longjmp, an exception or cancellation; then its frame is gone: we stand
 * above it. The addresses of two stacks do not compare. */
uint32_t fs_state_before(struct fs_thread *self, uintptr_t frame) {
    fs_prune_calls(self, frame);
    if (self->state == FS_ATTACHED) {
        return FS_ATTACHED;
    }
    return frame < self->detached_frame || fs_on_signal_stack() ? FS_DETACHED : FS_ATTACHED;
}

void fs_suspend_here(struct fs_thread *self, const void *registers) {
    park(self, registers, true);
    passed(self);
}

/* --- the gate -------------------------------------------------------------------------------- */

/* After this, every other thread has either raised its depth, or changed its state, before, so that
 * we see it, or will find the stop word set. Pairs with fs_raise_depth(), fs_detach(), fs_attach().
 */
static void heavy_barrier(void) {
    if ((world.modes & FS_FENCED) != 0 || !fs_membarrier()) {
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
}

/* Another value of the closed gate: whoever is parked looks again. */
static void change_stop(void) {
    uint32_t changes = ++fs_fork_page.stop_changes * FS_STOP_STEP;
    __atomic_store_n(&fs_fork_page.stop, changes | FS_STOPPED | world.modes, __ATOMIC_SEQ_CST);
}

static void close_gate(void) {
    change_stop();
    heavy_barrier();
    fs_fork_page.report.attempts++;
}

/* Returns whether there is anybody to wake. */
static bool open_gate(void) {
    __atomic_store_n(&fs_fork_page.stop, world.modes, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&fs_fork_page.parked, __ATOMIC_SEQ_CST) != 0;
}

/* For a while: a holder may need whoever is the last to have parked. */
static void let_world_run(void) {
    if (open_gate()) {
        fs_futex_wake(&fs_fork_page.stop, FS_ALL_BITS);
    }
}

/* They look again. */
static void wake_parked(uint32_t bits) {
    change_stop();
    fs_futex_wake(&fs_fork_page.stop, bits);
}

static void let_pass(struct fs_thread *thread) {
    fs_store(&thread->pass, PASS_ONCE);
    wake_parked(fs_wake_bit(thread));
}

void fs_world_wake_dismissed(void) {
    uint32_t bits = 0;
    FS_EACH_THREAD (thread) {
        if (fs_load_acquire(&thread->state) == FS_SUSPENDED && is_dismissed(thread)) {
            bits |= fs_wake_bit(thread);
        }
    }
    if (bits != 0) {
        wake_parked(bits);
    }
}

uint32_t fs_world_progress_seen(void) {
    return __atomic_load_n(&fs_fork_page.progress, __ATOMIC_SEQ_CST);
}

static bool spin_for_progress(uint32_t seen, int64_t until) {
    do {
        for (unsigned i = 0; i < PAUSES; i++) {
            fs_cpu_relax();
        }
        if (fs_world_progress_seen() != seen) {
            return true;
        }
    } while (fs_now() < until);
    return false;
}

void fs_world_await_progress(uint32_t seen, uint32_t steps, int64_t until) {
    int64_t look_again = fs_now() + 200 * FS_USEC;
    look_again = look_again < until ? look_again : until;
    __atomic_store_n(&fs_fork_page.wake_at, seen + steps, __ATOMIC_SEQ_CST);
    __atomic_store_n(&fs_fork_page.stopper_waits, 1, __ATOMIC_SEQ_CST);
    uint32_t now;
    do {
        now = fs_world_progress_seen();
        if (has_come_to(now, seen + steps)) {
            break;
        }
        fs_futex_wait(&fs_fork_page.progress, now, look_again, FS_ALL_BITS);
    } while (fs_world_progress_seen() != now);
    __atomic_store_n(&fs_fork_page.stopper_waits, 0, __ATOMIC_SEQ_CST);
}

/* --- holders --------------------------------------------------------------------------------- */

/* The lock that a thread is blocked on. */
struct wanted {
    bool any;
    struct fs_entry entry;
    int owner; /* an owner_id, 0 if the lock names none */
};

static int owner_of(const struct fs_entry *entry) {
    return fs_layout_owner(entry->kind, entry->object);
}

/* The thread may be running: a copy counts only if the entry is still the same after it was made. */
static struct wanted get_wanted(const struct fs_thread *thread) {
    struct wanted wanted = {.any = false};
    uint32_t count = fs_entry_count(thread);
    if (count == 0) {
        return wanted;
    }
    const struct fs_entry *newest = &fs_load_acquire(&thread->entries)[count - 1];
    wanted.entry = *newest;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    wanted.any = wanted.entry.phase == FS_TAKING && fs_load(&newest->phase) == FS_TAKING &&
                 fs_load(&newest->object) == wanted.entry.object &&
                 fs_load(&thread->depth) == count;
    wanted.owner = wanted.any ? owner_of(&wanted.entry) : 0;
    return wanted;
}

/* A reader is not blocked by somebody's read hold, unless a writer waits that is to be preferred.
 */
static bool shares(const struct fs_entry *entry, const struct fs_thread *holder) {
    pthread_rwlock_t copy;
    return entry->kind == FS_KIND_RWLOCK_READ &&
           fs_hold_count(holder, entry->object, FS_KIND_RWLOCK_READ) != 0 &&
           fs_peek(&copy, entry->object, sizeof copy) && !fs_rwlock_readers_wait(&copy);
}

/* True if whoever holds the lock cannot let go of it before the fork. */
static bool owner_is_hopeless(const struct wanted *wanted, const struct fs_thread *self) {
    const struct fs_entry *entry = &wanted->entry;
    if (fs_holds(self, entry->object)) {
        return !shares(entry, self);
    }
    if (wanted->owner != 0) {
        const struct fs_thread *thread = fs_thread_by_owner_id(wanted->owner);
        return thread == self || (thread != NULL && thread->verdict);
    }
    FS_EACH_THREAD (thread) {
        if (thread->verdict && fs_holds(thread, entry->object) && !shares(entry, thread)) {
            return true;
        }
    }
    return false;
}

/* A lock that a fork has waited for while it was being taken is waited for again once it is held.
 */
static uint8_t waited_for(const struct fs_thread *thread, const struct fs_entry *entry) {
    return fs_entry_phase(thread, entry) == FS_HELD ? FS_WAITED_HELD : FS_WAITED_TAKING;
}

/* A lock that is being taken may come any moment if a thread that we know holds it. */
static bool may_yet_get(const struct fs_entry *entry) {
    if (fs_load(&entry->phase) == FS_HELD) {
        return false;
    }
    int owner = owner_of(entry);
    return owner != 0 && fs_thread_by_owner_id(owner) != NULL;
}

static bool any_outlasted(const struct fs_thread *thread, uint32_t count) {
    for (uint32_t slot = 0; slot < count; slot++) {
        if (fs_load(&thread->entries[slot].outlasted) != 0) {
            return true;
        }
    }
    return false;
}

/* A fork has waited until its deadline for all that the thread holds. False for a thread that has
 * just let go of everything: those behind it would count as hopeless too. */
static bool outlasted(const struct fs_thread *thread) {
    uint32_t count = fs_entry_count(thread);
    bool any = false;
    if (!any_outlasted(thread, count)) {
        return false; /* spares a look at each object */
    }
    for (uint32_t slot = 0; slot < count; slot++) {
        const struct fs_entry *entry = &thread->entries[slot];
        uint8_t waited_before = fs_load(&entry->outlasted);
        bool waited =
            waited_before != 0 && waited_before == waited_for(thread, entry) && !may_yet_get(entry);
        if (fs_entry_live(thread, entry)) {
            if (!waited) {
                return false;
            }
            any = true;
        }
    }
    return any && fs_load(&thread->depth) <= count;
}

/* It sleeps at a lock of libc's own, inside the same kind of call that the forking thread is inside: we
 * fork in a callback, and have what it waits for. */
static bool is_behind_our_call(const struct fs_thread *thread, const struct fs_entry *wanted,
                               const struct fs_thread *self) {
    if (wanted->kind != FS_KIND_CRITICAL || self->depth == 0 ||
        !fs_is_inside(self, wanted->object)) {
        return false;
    }
    uintptr_t futex = fs_task_futex(thread->tid);
    return futex != 0 && fs_is_opaque(futex);
}

/* What it seems to hold it has lost unseen, or it sleeps in a signal handler that interrupted it just before it had
 * it, or after. In a call that it leaves through fs_attach(). */
static bool sleeps_elsewhere(const struct fs_thread *thread) {
    return fs_load(&thread->state) == FS_DETACHED && fs_only_seems_busy(thread) &&
           fs_task_sleeps(thread->tid);
}

static bool is_hopeless(struct fs_thread *thread, const struct wanted *wanted,
                        const struct fs_thread *self) {
    if (fs_load(&thread->wants_fork)) {
        return true; /* it waits for us */
    }
    thread->behind_call = wanted->any && is_behind_our_call(thread, &wanted->entry, self);
    return thread->behind_call || (wanted->any && owner_is_hopeless(wanted, self)) ||
           outlasted(thread) || sleeps_elsewhere(thread);
}

/* The thread has said by its stores that it is blocked, but it may have stopped waiting (a timeout)
 * in the same moment. Pairs with fs_freeze(): either that sees `hopeless`, or we see here that the
 * thread no longer waits. */
static bool verdicts_hold(const struct fs_thread *self) {
    bool any = false;
    FS_EACH_THREAD (thread) {
        any |= thread->hopeless;
    }
    if (!any) {
        return true; /* spares the barrier */
    }
    heavy_barrier();
    FS_EACH_THREAD (thread) {
        if (!thread->hopeless || !fs_is_busy(thread)) {
            continue;
        }
        struct wanted wanted = get_wanted(thread);
        if (!is_hopeless(thread, &wanted, self)) {
            return false;
        }
    }
    return true;
}

/* A thread that was frozen as hopeless and is no longer must go on: it is waited for. */
static void publish_verdicts(void) {
    bool thawed = false;
    FS_EACH_THREAD (thread) {
        if (thread->hopeless != thread->verdict) {
            thawed |= thread->hopeless;
            fs_store(&thread->hopeless, thread->verdict);
        }
    }
    if (thawed && (fs_fork_page.stop & FS_STOPPED) != 0) {
        wake_parked(FS_ALL_BITS);
    }
}

struct census {
    unsigned forkers; /* hold something, and wait for their turn to fork */
    unsigned with_lock_of_fork;
    unsigned busy;    /* hold something, and may let go */
    unsigned waiting; /* of these: inside a wait that only another thread of the process can end */
    const struct fs_thread *holder; /* one of those that may let go */
};

/* glibc puts a pthread_once in progress right by itself: the child begins it anew. So it is not worth
 * much of a wait if the thread sleeps in it: std::async runs its tasks in there. */
static bool is_all_once(const struct fs_thread *thread) {
    uint32_t count = fs_entry_count(thread);
    for (uint32_t slot = 0; slot < count; slot++) {
        if (thread->entries[slot].kind != FS_KIND_ONCE) {
            return false;
        }
    }
    return fs_load(&thread->depth) == count;
}

/* Directly, or behind the lock of a thread that does. */
static bool waits_for_another(const struct fs_thread *thread, const struct wanted *wanted) {
    if (fs_load(&thread->state) == FS_DETACHED &&
        (fs_load(&thread->wait_count) != 0 || is_all_once(thread))) {
        return true;
    }
    if (!wanted->any) {
        return false;
    }
    FS_EACH_THREAD (holder) {
        if (holder->seen_waiting && (wanted->owner != 0 ? holder->owner_id == wanted->owner
                                                        : fs_holds(holder, wanted->entry.object) &&
                                                              !shares(&wanted->entry, holder))) {
            return true;
        }
    }
    return false;
}

/* Who is worth waiting for? A thread behind a hopeless one is hopeless: look until no more turn up.
 */
static struct census count_holders(const struct fs_thread *self) {
    struct census census;
    unsigned forkers = 0, with_lock_of_fork = 0;
    FS_EACH_THREAD (thread) {
        fs_update(&thread->verdict, false);
        fs_update(&thread->behind_call, false);
        fs_update(&thread->seen_waiting, false);
    }
    bool changed;
    do {
        census = (struct census){0};
        changed = false;
        FS_EACH_THREAD (thread) {
            if (thread == self || fs_load(&thread->depth) == 0 || thread->verdict ||
                !fs_is_busy(thread)) {
                continue;
            }
            struct wanted wanted = get_wanted(thread);
            thread->verdict = is_hopeless(thread, &wanted, self);
            changed |= thread->verdict;
            forkers += fs_load(&thread->wants_fork);
            with_lock_of_fork += fs_has_lock_of_fork(thread);
            if (!thread->seen_waiting && waits_for_another(thread, &wanted)) {
                thread->seen_waiting = true;
                changed = true;
            }
            census.busy += !thread->verdict;
            census.holder = !thread->verdict ? thread : census.holder;
            census.waiting += !thread->verdict && thread->seen_waiting;
        }
    } while (changed);
    census.forkers = forkers;
    census.with_lock_of_fork = with_lock_of_fork;
    publish_verdicts();
    return census;
}

/* From here on a holder that wakes up stays where it is: what it guards is torn no further. */
static void give_up_on_holders(const struct fs_thread *self) {
    FS_EACH_THREAD (thread) {
        if (thread != self && fs_load(&thread->depth) != 0 && fs_is_busy(thread)) {
            fs_store(&thread->hopeless, true);
        }
    }
    heavy_barrier();
}

/* Everybody who holds something was seen inside a wait. Once they are frozen, are they still? */
static bool give_up_on_waiters(const struct fs_thread *self) {
    give_up_on_holders(self);
    FS_EACH_THREAD (thread) {
        bool frozen = fs_load_acquire(&thread->state) == FS_SUSPENDED;
        if (thread == self || !thread->seen_waiting || frozen) {
            continue;
        }
        struct wanted wanted = get_wanted(thread);
        if (!waits_for_another(thread, &wanted)) {
            return false; /* the next census looks at them afresh, and thaws them */
        }
    }
    return true;
}

static int64_t grace(void) { return fs_config.deadline_ms * FS_MSEC / 10; }

/* `round`: how often the stopper has come here since it closed the gate. Once it has slept, and the processor that it
 * took from a holder was that holder's again, holders that are fewer than the processors may all be running. One that
 * is not waits for ours. Each has to park, mostly: woken by the last, the stopper takes no processor from the others. */
static void await_holders(uint32_t seen, const struct census *census, unsigned round,
                          int64_t until) {
    bool may_run = round != 0 && round <= SPINS && census->busy < world.cpus;
    bool runs = may_run && census->holder != NULL && fs_task_runs(census->holder->tid);
    if (!runs || !spin_for_progress(seen, fs_now() + SPIN_US * FS_USEC)) {
        fs_world_await_progress(seen, census->busy != 0 ? census->busy : 1, until);
    }
}

/* What the last round, or the last stop, made of the threads is over. */
static void forget_verdicts(void) {
    if (!fs_load(&fs_fork_page.marked)) {
        return;
    }
    fs_store(&fs_fork_page.marked, false);
    FS_EACH_THREAD (thread) {
        fs_update(&thread->verdict, false);
        fs_update(&thread->pass, 0U);
    }
    publish_verdicts();
}

enum drained { DRAINED, DRAINED_LATE, GAVE_WAY };

/* Not in a fork by a callback of such a call. */
static bool yields_to_stdio(const struct fs_thread *self, unsigned yields) {
    return (yields & FS_YIELD_TO_STDIO) != 0 && !fs_has_lock_of_fork(self);
}

static enum drained give_way(void) {
    forget_verdicts();
    let_world_run();
    return GAVE_WAY;
}

/* Closes the gate, unless it has just been `closed`, and waits until nobody holds anything, or nobody who
 * does is worth waiting for. Leaves it closed. DRAINED_LATE: the deadline ended it. GAVE_WAY: `yields`, and there
 * was somebody to yield to (fs_world_stop()); the gate is open again. */
static enum drained drain_holders(const struct fs_thread *self, int64_t now, int64_t deadline,
                                  unsigned yields, bool closed) {
    int64_t slice = FIRST_SLICE_MS * FS_MSEC;
    fs_store(&fs_fork_page.marked, true);
    for (unsigned chances = 0;; chances++, now = fs_now()) {
        if (!closed) {
            close_gate();
        }
        closed = false;
        unsigned round = 0;
        bool waits_for_lock = false;
        /* The last time, the gate stays closed a little longer: who has only just taken something
         * is not forced for being there at the wrong moment. */
        int64_t until = now + slice;
        bool last = until >= deadline;
        until = last ? deadline + grace() : until;
        do {
            uint32_t seen = fs_world_progress_seen();
            struct census census = count_holders(self);
            if ((yields & FS_YIELD_TO_FORKS) != 0 && self->depth == 0 && census.forkers != 0) {
                return give_way();
            }
            waits_for_lock = census.with_lock_of_fork != 0 && yields_to_stdio(self, yields);
            bool all_wait = chances >= CHANCES && census.busy == census.waiting;
            if ((census.busy == 0 || all_wait) && verdicts_hold(self) &&
                (census.busy == 0 || give_up_on_waiters(self))) {
                return waits_for_lock ? give_way() : DRAINED;
            }
            await_holders(seen, &census, round++, until);
        } while (fs_now() < until);
        if (waits_for_lock) {
            return give_way();
        }
        if (last) {
            give_up_on_holders(self);
            return DRAINED_LATE;
        }
        let_world_run();
        fs_sleep(slice < deadline - fs_now() ? slice : deadline - fs_now());
        slice = slice < LONGEST_SLICE_MS * FS_MSEC ? slice * 2 : slice;
    }
}

/* --- where the parked stand ------------------------------------------------------------------ */

/* True if the thread may hold a lock that forksafe cannot see. */
static bool stands_badly(const struct fs_thread *thread, uint32_t state, int loads) {
    if (state == FS_DETACHED) {
        return fs_config.opaque != NULL && fs_load(&thread->depth) == 0 &&
               !fs_is_safe_point(thread->detached_registers, FS_AT_A_CALL_THAT_MAY_RETURN);
    }
    if (thread->owner_id == loads) {
        return true;
    }
    return fs_stacks_matter() &&
           !fs_is_safe_point(thread->registers, thread->by_signal ? FS_INTERRUPTED : FS_AT_A_CALL);
}

/* Lets those go on that stand badly. Returns how many are worth waiting for: one that has stood
 * badly until a fork's deadline is not, before it has been seen elsewhere. */
static unsigned release_unsafe(const struct fs_thread *self, int64_t deadline) {
    unsigned released = 0;
    int loads = fs_loader_owner();
    FS_EACH_THREAD (thread) {
        uint32_t state = fs_load_acquire(&thread->state);
        if (thread == self || state == FS_ATTACHED || fs_load(&thread->pass) != 0 ||
            (state == FS_SUSPENDED && is_dismissed(thread))) {
            continue;
        }
        if (!stands_badly(thread, state, loads)) {
            fs_update(&thread->outstayed, false);
            continue;
        }
        if (state == FS_SUSPENDED) {
            let_pass(thread);
        }
        released += !thread->outstayed;
        if (!thread->outstayed && fs_now() >= deadline) {
            thread->outstayed = true;
            world.outstayed = true;
        }
    }
    return released;
}

/* Somebody is inside dlopen without an entry that says so: it was entered past its hook. Others that
 * hold the loader's lock only look something up. */
static bool loader_is_busy(const struct fs_thread *self) {
    int owner = fs_loader_owner();
    if (owner == 0 || owner == self->owner_id || owner == world.loader_outlasted) {
        return false;
    }
    const struct fs_thread *thread = fs_thread_by_owner_id(owner);
    return thread != NULL && fs_load(&thread->opened_unseen) && fs_load(&thread->depth) == 0;
}

/* The instruction pointer of a thread that is not running, else 0. */
static uintptr_t where_it_stands(const struct fs_thread *thread, uint32_t state) {
    char line[256];
    if (state == FS_SUSPENDED) {
        return (uintptr_t)((const greg_t *)thread->registers)[REG_RIP];
    }
    long length = fs_read_task(thread->tid, "syscall", line, sizeof line);
    const char *last = length > 0 ? strrchr(line, ' ') : NULL; /* " 0x7f..." */
    uintptr_t at = 0;
    if (last != NULL && strlen(last) > 3) {
        fs_parse_hex(last + 3, &at);
    }
    return at;
}

/* What is held now is inherited by force: no later fork waits for it again. */
static void mark_outlasted(struct fs_thread *thread) {
    uint32_t count = fs_entry_count(thread);
    for (uint32_t slot = 0; slot < count; slot++) {
        struct fs_entry *entry = &thread->entries[slot];
        fs_store(&entry->outlasted, waited_for(thread, entry));
    }
}

/* `late`: the holds that are left have been waited for until the deadline. */
static void take_stock(const struct fs_thread *self, bool late) {
    FS_EACH_THREAD (thread) {
        if (thread == self) {
            continue;
        }
        uint32_t state = fs_load(&thread->state);
        bool busy = fs_load(&thread->depth) != 0 && fs_is_busy(thread);
        bool holds = busy && !fs_only_seems_busy(thread);
        if (busy && late) {
            mark_outlasted(thread);
        }
        if (holds || (fs_event_wanted() && fs_load(&thread->wait_count) != 0)) {
            fs_thread_read_name(thread, 0);
            thread->stood_at = fs_event_wanted() ? where_it_stands(thread, state) : 0;
        }
        if (holds) {
            fs_fork_page.report.holding++;
        } else if (state == FS_SUSPENDED) {
            fs_fork_page.report.parked++;
        } else if (state == FS_DETACHED) {
            fs_fork_page.report.detached++;
        } else {
            fs_fork_page.report.running++;
        }
    }
}

/* --- stop and start -------------------------------------------------------------------------- */

void fs_world_init(void) {
    world.cpus = fs_cpu_count();
    if (!fs_membarrier_register()) {
        world.modes |= FS_FENCED;
    }
    if (fs_config.stacks) {
        world.modes |= FS_STACKED;
    }
    fs_update(&fs_fork_page.stop, world.modes);
}

/* Until the deadline: a thread that was let go may stand badly again. */
static bool all_stand_well(const struct fs_thread *self, int64_t deadline) {
    uint32_t seen = fs_world_progress_seen();
    unsigned released = release_unsafe(self, deadline);
    bool loads = loader_is_busy(self);
    if ((released == 0 && !loads) || fs_now() >= deadline) {
        fs_update(&world.loader_outlasted, loads ? fs_loader_owner() : 0);
        return true;
    }
    fs_world_await_progress(seen, 1, deadline);
    return false;
}

/* Most forks find all others inside blocking calls, holding nothing: one look at each then tells all.
 * Leaves the gate closed. */
static bool all_sleep(const struct fs_thread *self) {
    if (fs_event_wanted() || fs_config.opaque != NULL || fs_loader_owner() != 0 ||
        fs_load(&fs_fork_page.marked) || world.outstayed) {
        return false;
    }
    close_gate();
    FS_EACH_THREAD (thread) {
        if (thread != self &&
            (fs_load_acquire(&thread->state) != FS_DETACHED || fs_load(&thread->depth) != 0)) {
            return false;
        }
    }
    return true;
}

/* False: it gave way. */
static bool stop_others(struct fs_thread *self, unsigned yields) {
    int64_t start = fs_now();
    int64_t deadline = start + fs_config.deadline_ms * FS_MSEC;
    if (fs_loader_owner() != world.loader_outlasted) {
        fs_update(&world.loader_outlasted, 0);
    }
    bool closed = (fs_fork_page.stop & FS_STOPPED) != 0;
    enum drained drained;
    for (int64_t now = start;; now = fs_now()) {
        forget_verdicts();
        drained = drain_holders(self, now, deadline, yields, closed);
        closed = false;
        if (drained == GAVE_WAY) {
            return false;
        }
        if (fs_suspend_signal() != 0) {
            fs_suspend_running(self);
        }
        if (all_stand_well(self, deadline)) {
            break;
        }
    }
    take_stock(self, drained == DRAINED_LATE);
    fs_fork_page.report.ns = fs_now() - start;
    return true;
}

static bool anybody_has_lock_of_fork(const struct fs_thread *self) {
    FS_EACH_THREAD (thread) {
        if (thread != self && fs_load(&thread->depth) != 0 && fs_has_lock_of_fork(thread)) {
            return true;
        }
    }
    return false;
}

static bool stop_or_yield(struct fs_thread *self, unsigned yields) {
    if (fs_config.mode != FS_MODE_REPAIR) { /* nobody is stopped */
        return !yields_to_stdio(self, yields) || !anybody_has_lock_of_fork(self);
    }
    return fs_thread_count() <= 1 || all_sleep(self) || stop_others(self, yields);
}

bool fs_world_stop(struct fs_thread *self, unsigned yields) {
    fs_fork_page.report = (struct fs_stop_report){0};
    fs_fork_page.stopper = self;
    fs_fork_page.report.foreign = fs_event_wanted() ? fs_foreign_threads(NULL, 0) : -1;
    if (!stop_or_yield(self, yields)) {
        fs_fork_page.stopper = NULL;
        return false;
    }
    fs_registry_lock();
    fs_walk_lock();
    return true;
}

/* The stopper holds such a lock while it is in fork(). */
void fs_lock_or_go_on(struct fs_lock *lock) {
    if (fs_trylock(lock)) {
        return;
    }
    while (!fs_lock_until(lock, fs_now() + patience())) {
        if (stopper_is_stuck()) {
            return;
        }
    }
}

void fs_world_start(void) {
    fs_walk_unlock();
    fs_registry_unlock();
    if ((fs_fork_page.stop & FS_STOPPED) != 0) {
        forget_verdicts();
        if (open_gate()) {
            fs_futex_wake_some(&fs_fork_page.stop, 1);
        }
    }
    fs_fork_page.stopper = NULL;
}

void fs_world_alone(struct fs_thread *self) {
    fs_update(&fs_fork_page.stop, world.modes);
    fs_update(&fs_fork_page.parked, 0U);
    fs_update(&fs_fork_page.stopper, NULL);
    fs_update(&fs_fork_page.stopper_waits, 0U);
    fs_update(&fs_fork_page.registry_lock.word, 0U);
    fs_walk_alone(self);
}
