#include "fork.h"

#include "event.h"
#include "inventory.h"
#include "real.h"
#include "repair.h"
#include "sys.h"
#include "world.h"

/* The turn. `owner` is written by the thread that has it, and compared by others with themselves
 * only. */
static struct {
    struct fs_lock lock;
    struct fs_thread *owner;
    unsigned nesting;
    fs_sigset saved; /* signals are blocked from stop to start */
} turn FS_FORK_STATE;

static void await_turn(struct fs_thread *self) {
    fs_store(&self->wants_fork, true);
    uint32_t before = fs_detach(self);
    fs_lock(&turn.lock);
    fs_attach(self, before);
    fs_store(&self->wants_fork, false);
}

/* A nested fork (from a signal handler in the middle of one) has its turn already. */
static void take_turn(struct fs_thread *self) {
    if (fs_load(&turn.owner) != self) {
        if (!fs_trylock(&turn.lock)) {
            await_turn(self);
        }
        fs_store(&turn.owner, self);
    }
    turn.nesting++;
}

static void give_turn(void) {
    if (--turn.nesting == 0) {
        fs_store(&turn.owner, NULL);
        fs_unlock(&turn.lock);
    }
}

static void stop(struct fs_thread *self) {
    fs_event_prepare();
    fs_prune_files(self); /* in the child nothing tells a FILE that is gone from one that is held */
    turn.saved = fs_signals_block();
    fs_world_stop(self);
}

static void start(void) {
    fs_world_start();
    fs_signals_restore(turn.saved);
}

static void repair(struct fs_thread *self, bool by_fork) {
    turn.lock.word = 1; /* whoever waited for it has vanished */
    fs_world_alone();
    fs_stacks_alone();
    fs_repair_child(self, by_fork);
    fs_signals_restore(turn.saved);
}

void fs_fork_raw_begin(struct fs_thread *self) {
    take_turn(self);
    stop(self);
}

void fs_fork_raw_end(struct fs_thread *self, bool is_child) {
    if (is_child) {
        repair(self, false);
    } else {
        start();
    }
    give_turn();
}

static void prepare(void) {
    struct fs_thread *self = fs_current();
    if (self != NULL) {
        fs_fork_raw_begin(self);
    }
}

static void parent(void) {
    struct fs_thread *self = fs_self;
    if (self != NULL) {
        fs_fork_raw_end(self, false);
    }
}

static void child(void) {
    struct fs_thread *self = fs_self;
    if (self != NULL) {
        repair(self, true);
        give_turn();
    }
}

void fs_fork_inspect(struct fs_thread *const **owner) { *owner = &turn.owner; }

/* Nobody's handlers: those of a library are dropped when it is finalised, and in exit others may run, and fork, after
 * that (stdlib/cxa_finalize.c). The library is never unloaded. */
void fs_fork_init(void) { fs_real.__register_atfork(prepare, parent, child, NULL); }
