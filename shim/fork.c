#include "fork.h"

#include "event.h"
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
    bool taken_by_prepare; /* by a fork inside libc that we did not see coming */
    fs_sigset saved;       /* signals are blocked from stop to start */
} turn;

void fs_fork_turn_take(struct fs_thread *self) {
    if (fs_load(&turn.owner) != self) {
        fs_store(&self->wants_fork, true);
        uint32_t before = fs_detach(self);
        fs_lock(&turn.lock);
        fs_attach(self, before);
        fs_store(&self->wants_fork, false);
        fs_store(&turn.owner, self);
    }
    turn.nesting++;
}

void fs_fork_turn_give(struct fs_thread *self) {
    (void)self;
    if (--turn.nesting == 0) {
        fs_store(&turn.owner, NULL);
        fs_unlock(&turn.lock);
    }
}

static void stop(struct fs_thread *self) {
    fs_event_prepare();
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
    fs_repair_child(self, by_fork);
    fs_signals_restore(turn.saved);
}

static void prepare(void) {
    struct fs_thread *self = fs_current();
    if (self == NULL) {
        return;
    }
    if (fs_load(&turn.owner) != self) {
        fs_fork_turn_take(self);
        turn.taken_by_prepare = true;
    }
    stop(self);
}

static void end_unseen_turn(struct fs_thread *self) {
    if (turn.taken_by_prepare) {
        turn.taken_by_prepare = false;
        fs_fork_turn_give(self);
    }
}

static void parent(void) {
    struct fs_thread *self = fs_self;
    if (self != NULL) {
        start();
        end_unseen_turn(self);
    }
}

static void child(void) {
    struct fs_thread *self = fs_self;
    if (self != NULL) {
        repair(self, true);
        end_unseen_turn(self);
    }
}

void fs_fork_raw_begin(struct fs_thread *self) {
    fs_fork_turn_take(self);
    stop(self);
}

void fs_fork_raw_end(struct fs_thread *self, bool is_child) {
    if (is_child) {
        repair(self, false);
    } else {
        start();
    }
    fs_fork_turn_give(self);
}

extern void *__dso_handle __attribute__((visibility("hidden")));

void fs_fork_init(void) { fs_real.__register_atfork(prepare, parent, child, __dso_handle); }
