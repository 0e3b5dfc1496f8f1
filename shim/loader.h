/* loader.h - the dynamic linker's locks.
 *
 * glibc keeps two recursive mutexes in ld.so: one that is held all through dlopen and dlclose (and
 * by dlsym, dladdr and the like), and one that guards the list of modules, held by dl_iterate_phdr
 * while it calls back. Its fork() frees the first in the child, and forgets the second: a child
 * whose parent was loading a module, or that was forked in a callback of dl_iterate_phdr, hangs the
 * next time it looks at the list.
 *
 * Where the two could not be found (another libc) nobody owns them, and nothing is repaired. */
#ifndef FS_LOADER_H
#define FS_LOADER_H

#include <stdbool.h>

#include "registry.h"

/* Finds the two. Once, at start-up, in the only thread. */
void fs_loader_init(void);

/* The owner_id of the thread that holds either, 0 where nobody does. */
int fs_loader_owner(void);

/* A turn at dlopen and dlclose, which ld.so lets only one thread into at a time: whoever takes it out
 * here waits where a fork need not wait for him. Nothing depends on it: ld.so's own lock guards.
 * False if another has the turn; a thread that has it may take it again. */
bool fs_loader_try_turn(const struct fs_thread *self);
/* Waits until a turn has been given back. */
void fs_loader_await_turn(void);
/* By a thread that may have the turn. */
void fs_loader_give_turn(const struct fs_thread *self);

/* In the child, before the repair: true if another than the survivor held the second, or may have. */
bool fs_loader_was_held(int old_id);

/* In the child: what the survivor, known by `old_id` so far, holds is its own; the rest is free. The
 * turn is free. */
void fs_loader_repair(int old_id, int new_id);

#endif
