/* suspend.h - the suspend signal: stops threads that neither lock nor block. */
#ifndef FS_SUSPEND_H
#define FS_SUSPEND_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "registry.h"

/* Chooses the signal and installs its handler, once. Called before the second thread is made; any
 * number of times. */
void fs_suspend_init(void);

/* The signal in use; 0 where there is none (FORKSAFE_SUSPEND=gate, or none was free). */
int fs_suspend_signal(void);

/* The program is about to set an action for `signo` itself: if that is the suspend signal, another
 * is taken. Not while the world is being stopped: the caller is inside a critical call. */
void fs_suspend_give_way(int signo);

/* Takes the suspend signal out of the caller's mask, and notes that the program believes it to be in
 * there if it was. At a thread's start, whose mask may be the program's by an attribute. */
void fs_suspend_open(struct fs_thread *self);

/* What the program believes of the caller: that it blocks the suspend signal. A vfork's child has a
 * mask of its own, and its parent's record. */
bool fs_believes_masked(struct fs_thread *self);
void fs_set_believes_masked(struct fs_thread *self, bool masked);

/* Makes the caller's mask what the program believes it to be, for a call that hands it on to another
 * program. The caller is DETACHED, or a vfork's child. Whatever the forking thread has sent to it
 * arrives before this returns. Returns the mask for fs_signals_restore(). */
fs_sigset fs_suspend_show(struct fs_thread *self);

/* If the suspend signal is another since, makes the caller's mask what it is to be now. */
void fs_suspend_follow(struct fs_thread *self);

/* For sigaction: between the mask that the program gives to a handler, and the one that the kernel
 * has. The suspend signal may interrupt a handler, unless that runs on a stack that is too small for
 * both. */
void fs_mask_to_kernel(struct sigaction *action);
void fs_mask_to_program(int signo, struct sigaction *action);
/* What the program gave. */
void fs_mask_note(int signo, const sigset_t *mask);

/* True if a set of signals holds them all, or nearly all. */
bool fs_is_nearly_full(const sigset_t *set);

/* The program is about to give the caller an alternate stack of so many bytes. */
void fs_suspend_on_stack(size_t bytes);

/* True once the program has installed a signal handler, or the user has named an opaque module: only
 * then can a thread that is parked outside libc have something unseen in its outer frames. (What libc
 * calls back without a handler, it calls from critical calls, or with no lock but a FILE's, which
 * glibc's fork makes new in the child.) */
bool fs_stacks_matter(void);

/* The program is about to install a handler for `signo`. */
void fs_program_handles(int signo);

/* Asks every thread that runs and holds nothing to suspend itself, and waits for their answers, or until it is
 * clear that they cannot answer. Mostly only those on a processor are asked, and for an instant: who waits to run
 * stands still as it is. Whoever has not parked when this returns is not parked by the signal during this stop.
 * Forking thread, world stopped. */
void fs_suspend_running(const struct fs_thread *self);

#endif
