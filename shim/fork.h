/* fork.h - one fork: stop, fork, then repair in the child and start in the parent.
 *
 *     take a turn                    the fork lock, first of all locks
 *       the program's prepare handlers     world running
 *       prepare()    stop the world        forksafe's handler is registered first, so it runs last
 *         glibc takes its own locks, forks
 *       parent()     start it   |  child()  repair      ... and these run first
 *       the program's parent    |  child handlers
 *     give the turn up
 */
#ifndef FS_FORK_H
#define FS_FORK_H

#include <stdbool.h>
#include <sys/types.h>

#include "registry.h"

/* Registers the atfork handlers, before anybody else's. */
void fs_fork_init(void);

/* One fork at a time. A nested fork (from a prepare handler, or from a signal handler in the middle
 * of one) has its turn already. Order of locks: this one, then glibc's atfork lock, always. */
void fs_fork_turn_take(struct fs_thread *self);
void fs_fork_turn_give(struct fs_thread *self);

/* Around a fork that runs no atfork handlers (_Fork, clone, syscall). Keep errno. */
void fs_fork_raw_begin(struct fs_thread *self);
void fs_fork_raw_end(struct fs_thread *self, bool is_child);

#endif
