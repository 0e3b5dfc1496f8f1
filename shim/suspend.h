/* suspend.h - the suspend signal: stops threads that neither lock nor block. */
#ifndef FS_SUSPEND_H
#define FS_SUSPEND_H

#include <signal.h>
#include <stdbool.h>

#include "registry.h"

/* Chooses the signal and installs its handler, once. Called before the second thread is made; any
 * number of times. */
void fs_suspend_init(void);

/* The signal in use; 0 where there is none (FORKSAFE_SUSPEND=gate, or none was free). */
int fs_suspend_signal(void);

/* The program is about to set an action for `signo` itself: if that is the suspend signal, another
 * is taken. Not while the world is being stopped: the caller is inside a critical call. */
void fs_suspend_give_way(int signo);

/* True once the program has installed a signal handler, or the user has named an opaque module: only
 * then can a thread that is parked outside libc have something unseen in its outer frames. (What libc
 * calls back without a handler, it calls from critical calls, or with no lock but a FILE's, which
 * glibc's fork makes new in the child.) */
bool fs_stacks_matter(void);

/* The program is about to install a handler for `signo`. */
void fs_program_handles(int signo);

/* Asks every thread that runs and holds nothing to suspend itself, and waits for their answers, or
 * until it is clear that they cannot answer. Forking thread, world stopped. */
void fs_suspend_running(const struct fs_thread *self);

#endif
