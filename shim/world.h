/* world.h - stop the world, and start it again.
 *
 * The forking thread sets the stop word. From then on a thread that holds nothing and is about to
 * take a lock or to enter a critical call parks (the gate); one that holds something goes on until
 * it holds nothing, and parks there. Threads that neither lock nor block get the suspend signal,
 * mostly those alone that are on a processor (suspend.h). Threads inside a blocking call are left
 * asleep: on their way back they look at the stop word and park. */
#ifndef FS_WORLD_H
#define FS_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "forkpage.h"
#include "registry.h"

/* The stop word. Written by the forking thread alone, and by fs_world_init(). 0 where there is nothing to
 * look at: the fast ways ask for no more. */
enum {
    FS_STOPPED = 1, /* a fork is under way: park */
    FS_FENCED = 2,  /* no membarrier here: every look at this word needs a fence first */
    FS_STACKED = 4, /* FORKSAFE_STACKS: each entry's stack is recorded */
    FS_STOP_STEP =
        8 /* the bits above count changes while it is stopped: a futex wait misses none */
};

void fs_world_init(void);

/* The caller has raised its depth in a hook whose stack address is `frame`, and found the stop word
 * set. Parks if the caller holds nothing else. Returns the entry that the raised depth stands for;
 * keeps errno. */
uint32_t fs_gate(struct fs_thread *self, uintptr_t frame);

/* The caller has stopped waiting for a lock, without it, and found the stop word set. Keeps errno.
 */
void fs_freeze(struct fs_thread *self);

/* The two slow ends of a blocking call. Keep errno. */
void fs_detach_slow(struct fs_thread *self);
void fs_attach_slow(struct fs_thread *self);
uint32_t fs_state_before(struct fs_thread *self, uintptr_t frame);

/* ATTACHED -> DETACHED. Returns the state to go back to, which is DETACHED where a signal handler
 * blocks inside a blocking call. */
static inline uint32_t fs_detached(struct fs_thread *self) {
    uint32_t before = self->state;
    uintptr_t frame = fs_frame();
    if (fs_unlikely(before != FS_ATTACHED || self->depth != 0)) {
        before = fs_state_before(self, frame);
    }
    self->detached_frame = frame;
    if (fs_unlikely(fs_config.opaque != NULL)) {
        fs_save_registers(self->detached_registers);
    }
    fs_store(&self->state, FS_DETACHED);
    fs_compiler_barrier();
    return before;
}

/* Before and after a blocking call: two stores and a look at the stop word. Pairs with
 * close_gate() in world.c as fs_raise_depth() does. */
static inline uint32_t fs_detach(struct fs_thread *self) {
    uint32_t before = fs_detached(self);
    if (fs_unlikely(fs_stop_is_set())) {
        fs_detach_slow(self);
    }
    return before;
}

static inline void fs_attach(struct fs_thread *self, uint32_t before) {
    fs_store(&self->state, before);
    fs_compiler_barrier();
    if (fs_unlikely(fs_stop_is_set())) {
        fs_attach_slow(self);
    }
}

/* Called by the suspend signal's handler: parks the caller, whose registers (greg_t[]) were these, for as
 * long as it is summoned. */
void fs_suspend_here(struct fs_thread *self, const void *registers);
/* True while the world is being stopped by another thread than the caller. */
bool fs_stop_wanted(const struct fs_thread *self);
/* For the forking thread: whoever the suspend signal has parked, and is not summoned any more, goes on. */
void fs_world_wake_dismissed(void);
/* Wakes the forking thread: a thread has parked or answered. */
void fs_world_progress(void);
/* For the forking thread: sleeps until there is progress, so many steps beyond what it had `seen`, until a time at
 * the latest. A lock that is let go by a thread that then goes on makes no sound, so it also
 * returns after 200 us at the latest. */
uint32_t fs_world_progress_seen(void);
void fs_world_await_progress(uint32_t seen, uint32_t steps, int64_t until);

/* Whom a fork leaves time: then nobody is stopped. */
enum fs_yields {
    FS_YIELD_TO_FORKS =
        1, /* the caller holds nothing, and a thread that waits for its turn to fork does */
    FS_YIELD_TO_STDIO = 2 /* a thread stays in a call of libc with a lock that fork() waits for */
};

/* Stops all threads but `self`, within the deadline. Afterwards what a thread still holds is
 * marked as outlasted and its name is in its record, and fs_fork_page.report says how it went. False: it has yielded to
 * one of `yields`. Caller: the forking thread, with the turn to fork and with signals blocked. */
bool fs_world_stop(struct fs_thread *self, unsigned yields);
void fs_world_start(void);
/* Takes a lock that a stopped world's stopper has. If that waits in fork(), maybe for the caller, for as long as nobody
 * would stay parked, the caller goes on without: unlock it all the same. */
void fs_lock_or_go_on(struct fs_lock *lock);
/* In the child: nobody else is there to be started. */
void fs_world_alone(struct fs_thread *self);

#endif
