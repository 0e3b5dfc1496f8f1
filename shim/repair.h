/* repair.h - in the child: every lock, waiter and guard that a vanished thread left behind is put
 * right, and what the survivor holds is its own again. */
#ifndef FS_REPAIR_H
#define FS_REPAIR_H

#include <pthread.h>
#include <stdbool.h>

#include "arch.h"
#include "registry.h"

/* Runs in the child, before the program's child handlers, in the only thread, signals blocked.
 * `by_fork`: glibc's own child work is done (the dynamic linker's and stdio's locks are reset). */
void fs_repair_child(struct fs_thread *survivor, bool by_fork);

/* Spinlocks, and rwlocks held for reading, do not name their holders, so that an inherited one is put
 * right only when it is used again: memory that no longer holds such a lock is never written to. True
 * in a child that has inherited any. */
extern FS_HIDDEN bool fs_spins_inherited;
extern FS_HIDDEN bool fs_read_locks_inherited;
/* The caller has found `spin` locked, or is about to unlock, initialise or destroy it: it is not
 * inherited any more. Returns true if it was, and is now free where `free_it`. */
bool fs_spin_disinherit(pthread_spinlock_t *spin, bool free_it);
/* The caller is about to use `rwlock`: what it inherited of read holds is taken away. */
void fs_rwlock_disinherit(pthread_rwlock_t *rwlock);

#endif
