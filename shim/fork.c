#include "fork.h"

#include <sys/syscall.h>

#include "config.h"
#include "event.h"
#include "forkpage.h"
#include "inventory.h"
#include "real.h"
#include "repair.h"
#include "sys.h"
#include "world.h"

/* Alone in .bss (see the Makefile): anonymous memory, as MADV_WIPEONFORK needs it. */
struct fs_fork_page fs_fork_page __attribute__((common, aligned(FS_FORK_PAGE_BYTES)));

/* What the child must know. The same from fork to fork, mostly. */
static struct {
    const struct fs_thread *taker; /* who took a turn */
    unsigned nested;               /* forks within that; touched by who has the turn alone */
    fs_sigset saved;
} handed_on;

/* The same of a fork that takes none. */
static fs_sigset saved_alone;

static bool try_turn(struct fs_thread *self) {
    struct fs_thread *nobody = NULL;
    return __atomic_compare_exchange_n(&fs_fork_page.turn_owner, &nobody, self, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* One that jumps away, out of a signal handler, may be the one that was woken: so nobody sleeps for ever. */
static void sleep_until_turn_ends(void) {
    enum { LOOK_AGAIN_MS = 100 };
    __atomic_store_n(&fs_fork_page.turn_awaited, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&fs_fork_page.turn_owner, __ATOMIC_SEQ_CST) != NULL) {
        fs_futex_wait(&fs_fork_page.turn_awaited, 1, fs_now() + LOOK_AGAIN_MS * FS_MSEC,
                      FS_ALL_BITS);
    }
}

/* Returns the signal mask as it was last: a handler may have changed it. */
static fs_sigset await_turn(struct fs_thread *self, fs_sigset unblocked) {
    bool outer_wants = self->wants_fork; /* this is in a handler that interrupted that */
    fs_store(&self->wants_fork, true);
    uint32_t state = fs_detach(self);
    do {
        fs_signals_restore(unblocked);
        sleep_until_turn_ends();
        unblocked = fs_signals_block();
    } while (!try_turn(self));
    __atomic_store_n(&fs_fork_page.turn_awaited, 1, __ATOMIC_SEQ_CST); /* there may be others */
    fs_attach(self, state);
    fs_store(&self->wants_fork, outer_wants);
    return unblocked;
}

/* Returns the signal mask to restore when the turn is given. Signals are blocked meanwhile: a handler that forks would
 * wait for the thread that it interrupted. */
static fs_sigset take_turn(struct fs_thread *self) {
    fs_sigset unblocked = fs_signals_block();
    return try_turn(self) ? unblocked : await_turn(self, unblocked);
}

static void give_turn(fs_sigset saved) {
    __atomic_store_n(&fs_fork_page.turn_owner, NULL, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&fs_fork_page.turn_awaited, __ATOMIC_SEQ_CST) != 0) {
        fs_store(&fs_fork_page.turn_awaited, 0U);
        fs_futex_wake_some(&fs_fork_page.turn_awaited, 1);
    }
    fs_signals_restore(saved);
}

/* Waits for its turn to fork, with a lock. */
static const struct fs_thread *waiting_holder(const struct fs_thread *self) {
    FS_EACH_THREAD (thread) {
        if (thread != self && fs_load(&thread->wants_fork) && fs_load(&thread->depth) != 0 &&
            fs_is_busy(thread)) {
            return thread;
        }
    }
    return NULL;
}

/* The lock of stdio's list of streams, which fork() takes (libio/genops.c). */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));

static void await_stdio(struct fs_thread *self) {
    if (_IO_list_lock == NULL || _IO_list_unlock == NULL) {
        return;
    }
    uint32_t before = fs_detach(self);
    _IO_list_lock();
    _IO_list_unlock();
    fs_attach(self, before);
}

static void await_fork_of(const struct fs_thread *holder, struct fs_thread *self, int64_t until) {
    enum { LOOK_AGAIN_US = 50 };
    uint32_t before = fs_detach(self);
    while (fs_load(&holder->wants_fork) && fs_now() < until) {
        fs_sleep(LOOK_AGAIN_US * FS_USEC);
    }
    fs_attach(self, before);
}

static bool try_stop(struct fs_thread *self, unsigned yields) {
    fs_event_prepare();
    fs_prune_files(self); /* in the child nothing tells a FILE that is gone from one that is held */
    if (!fs_world_stop(self, yields)) {
        return false;
    }
    fs_event_stopped();
    return true;
}

/* Whoever waits behind us with a lock cannot let go of it before our fork: it forks first, and we do
 * once it is through, if we hold nothing ourselves. And what fork() itself waits for, it does with the world running. */
static void begin_in_turn(struct fs_thread *self, unsigned yields) {
    fs_sigset saved = take_turn(self);
    for (int64_t until = 0; !try_stop(self, yields);) {
        until = until != 0 ? until : fs_now() + fs_config.deadline_ms * FS_MSEC;
        const struct fs_thread *holder = waiting_holder(self);
        give_turn(saved);
        if (holder != NULL) {
            await_fork_of(holder, self, until);
        } else if ((yields & FS_YIELD_TO_STDIO) != 0) {
            await_stdio(self);
        }
        bool again = fs_now() < until && fs_config.mode == FS_MODE_REPAIR; /* detect stops nobody */
        yields = again ? yields : 0;
        saved = take_turn(self);
    }
    fs_update(&handed_on.saved, saved);
    fs_update(&handed_on.taker, self);
}

/* There was never anybody to stop, and no report to write. */
static bool is_alone(void) { return !fs_had_second_thread() && !fs_event_wanted(); }

/* A fork by the only thread, without a store to the forks' page: see forkpage.h. No turn keeps a thread that somebody
 * else made, and that has no record yet, from forking at the same time. */
static bool begin_alone(struct fs_thread *self) {
    if (!is_alone()) {
        return false;
    }
    fs_prune_files(self);
    fs_sigset saved = fs_signals_block();
    if (!is_alone()) { /* a handler made a thread */
        fs_signals_restore(saved);
        return false;
    }
    fs_update(&saved_alone, saved);
    return true;
}

/* Nobody forks alone who has ever taken a turn. */
static bool took_turn(const struct fs_thread *self) { return fs_load(&handed_on.taker) == self; }

/* Of a signal that is not blocked: a handler of crashes may fork in the middle of its thread's fork. That has done, or
 * is about to do, what there is to do for both; but each child puts itself right. */
static bool begin_nested(const struct fs_thread *self) {
    if (fs_load(&fs_fork_page.turn_owner) != self) {
        return false;
    }
    handed_on.nested++;
    return true;
}

static bool end_nested(void) {
    if (handed_on.nested == 0) {
        return false;
    }
    handed_on.nested--;
    return true;
}

static void begin(struct fs_thread *self, unsigned yields) {
    if (!begin_nested(self) && !begin_alone(self)) {
        begin_in_turn(self, yields);
    }
}

static void end_in_parent(const struct fs_thread *self) {
    if (end_nested()) {
        return;
    }
    if (took_turn(self)) {
        fs_world_start();
        give_turn(handed_on.saved);
    } else {
        fs_signals_restore(saved_alone);
    }
}

static void end_in_child(struct fs_thread *self, bool by_fork) {
    bool nested = end_nested();
    /* Whoever had it, or waited for it, has vanished. */
    fs_update(&fs_fork_page.turn_owner, NULL);
    fs_update(&fs_fork_page.turn_awaited, 0U);
    fs_world_alone(self);
    fs_stacks_alone();
    fs_repair_child(self, by_fork);
    if (!nested) {
        fs_signals_restore(took_turn(self) ? handed_on.saved : saved_alone);
    }
}

void fs_fork_raw_begin(struct fs_thread *self) { begin(self, FS_YIELD_TO_FORKS); }

void fs_fork_raw_end(struct fs_thread *self, bool is_child) {
    if (is_child) {
        end_in_child(self, false);
    } else {
        end_in_parent(self);
    }
}

static void prepare(void) {
    struct fs_thread *self = fs_current();
    if (self != NULL) {
        begin(self, FS_YIELD_TO_FORKS | FS_YIELD_TO_STDIO);
    }
}

static void parent(void) {
    if (fs_self != NULL) {
        end_in_parent(fs_self);
    }
}

static void child(void) {
    struct fs_thread *self = fs_self;
    if (self != NULL) {
        end_in_child(self, true);
    }
}

void fs_fork_inspect(struct fs_thread *const **owner) { *owner = &fs_fork_page.turn_owner; }

/* Nobody's handlers: those of a library are dropped when it is finalised, and in exit others may run, and fork, after
 * that (stdlib/cxa_finalize.c). The library is never unloaded. */
void fs_fork_init(void) { fs_real.__register_atfork(prepare, parent, child, NULL); }
