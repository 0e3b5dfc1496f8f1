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
_Static_assert(sizeof fs_fork_page <= FS_FORK_PAGE_BYTES, "it is one page");

/* What the child must know. The same from fork to fork, mostly. Signals are blocked from stop to start. */
static struct {
    const struct fs_thread *taker; /* who took a turn */
    unsigned nesting;              /* of its turn */
    fs_sigset saved;
} handed_on;

/* The same of a fork that takes none. */
static fs_sigset saved_alone;

static void await_turn(struct fs_thread *self) {
    fs_store(&self->wants_fork, true);
    uint32_t before = fs_detach(self);
    fs_lock(&fs_fork_page.turn_lock);
    fs_attach(self, before);
    fs_store(&self->wants_fork, false);
}

/* A nested fork (from a signal handler in the middle of one) has its turn already. */
static void take_turn(struct fs_thread *self) {
    if (fs_load(&fs_fork_page.turn_owner) != self) {
        if (!fs_trylock(&fs_fork_page.turn_lock)) {
            await_turn(self);
        }
        fs_store(&fs_fork_page.turn_owner, self);
    }
    fs_fork_page.turn_nesting++;
}

static void give_turn(void) {
    if (--fs_fork_page.turn_nesting == 0) {
        fs_store(&fs_fork_page.turn_owner, NULL);
        fs_unlock(&fs_fork_page.turn_lock);
    }
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

static void let_holder_fork(struct fs_thread *self, int64_t until) {
    enum { LOOK_AGAIN_US = 50 };
    const struct fs_thread *holder = waiting_holder(self);
    give_turn();
    uint32_t before = fs_detach(self);
    while (holder != NULL && fs_load(&holder->wants_fork) && fs_now() < until) {
        fs_sleep(LOOK_AGAIN_US * FS_USEC);
    }
    fs_attach(self, before);
    take_turn(self);
}

static bool try_stop(struct fs_thread *self, bool yields) {
    fs_event_prepare();
    fs_prune_files(self); /* in the child nothing tells a FILE that is gone from one that is held */
    fs_sigset saved = fs_signals_block();
    fs_update(&handed_on.saved, saved);
    fs_update(&handed_on.taker, self);
    fs_update(&handed_on.nesting, fs_fork_page.turn_nesting);
    if (fs_world_stop(self, yields)) {
        fs_event_stopped();
        return true;
    }
    fs_signals_restore(saved);
    return false;
}

/* Whoever waits behind us with a lock cannot let go of it before our fork: it forks first, and we do
 * once it is through, if we hold nothing ourselves. */
static void stop(struct fs_thread *self) {
    if (try_stop(self, fs_fork_page.turn_nesting == 1)) {
        return;
    }
    int64_t until = fs_now() + fs_config.deadline_ms * FS_MSEC;
    do {
        let_holder_fork(self, until);
    } while (!try_stop(self, fs_fork_page.turn_nesting == 1 && fs_now() < until));
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

static void end_in_parent(const struct fs_thread *self) {
    if (!took_turn(self)) {
        fs_signals_restore(saved_alone);
        return;
    }
    fs_world_start();
    fs_signals_restore(handed_on.saved);
    give_turn();
}

static void end_in_child(struct fs_thread *self, bool by_fork) {
    bool alone = !took_turn(self);
    /* Whoever had it, or waited for it, has vanished. */
    fs_update(&fs_fork_page.turn_lock.word, alone ? 0U : 1U);
    fs_update(&fs_fork_page.turn_owner, alone ? NULL : self);
    fs_update(&fs_fork_page.turn_nesting, alone ? 0U : handed_on.nesting);
    fs_world_alone(self);
    fs_stacks_alone();
    fs_repair_child(self, by_fork);
    fs_signals_restore(alone ? saved_alone : handed_on.saved);
    if (!alone) {
        give_turn();
    }
}

void fs_fork_raw_begin(struct fs_thread *self) {
    if (!begin_alone(self)) {
        take_turn(self);
        stop(self);
    }
}

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
        fs_fork_raw_begin(self);
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
