/* fork.h - one fork: stop, fork, then repair in the child and start in the parent.
 *
 *     the program's prepare handlers     world running
 *     prepare()    take a turn, stop the world    registered first, so it runs last
 *       glibc takes its own locks, forks
 *     parent()     start it   |  child()  repair      ... and these run first
 *                  give the turn up
 *     the program's parent    |  child handlers
 *
 * The turn comes last, since the prepare handlers take locks that another thread may fork with. */
#ifndef FS_FORK_H
#define FS_FORK_H

#include <stdbool.h>
#include <sys/types.h>

#include "registry.h"

/* Registers the atfork handlers, before anybody else's. */
void fs_fork_init(void);

/* For readers from outside (inspect.h): whose turn it is to fork, or NULL. */
void fs_fork_inspect(struct fs_thread *const **owner);

/* Around a fork that runs no atfork handlers (_Fork, clone, syscall). Keep errno. */
void fs_fork_raw_begin(struct fs_thread *self);
void fs_fork_raw_end(struct fs_thread *self, bool is_child);

#endif
