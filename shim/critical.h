/* critical.h - libc calls that take a lock of libc's own, as entries of FS_KIND_CRITICAL name them.
 *
 * All that is said of them here is without pointers: a pointer in a constant has to be relocated when the library is
 * loaded, in pages that each fork would then copy. */
#ifndef FS_CRITICAL_H
#define FS_CRITICAL_H

#include <stdbool.h>
#include <stdint.h>

#include "arch.h"

/* The locks of hooks/critical.def. */
enum fs_libc_lock_id {
    FS_LOCK_NONE, /* or one that the child does not need */
#define FS_CRITICAL_LOCK(lock, kin) FS_LOCK_##lock,
#define FS_CRITICAL_LOCK_FREED(lock, kin) FS_LOCK_##lock,
#include "hooks/critical.def"
    FS_LOCK_COUNT
};
_Static_assert(FS_LOCK_COUNT <= UINT8_MAX, "see fs_critical.lock");

struct fs_libc_lock {
    char kin[87]; /* for the user: the calls that need it */
    bool freed;   /* fork() itself frees it in the child */
};
extern FS_HIDDEN const struct fs_libc_lock fs_libc_locks[FS_LOCK_COUNT];

/* The object of an entry. */
struct fs_critical {
    char name[30];
    uint8_t lock;     /* enum fs_libc_lock_id */
    bool idle_asleep; /* a thread that sleeps in the kernel meanwhile holds nothing */
};
/* All of them lie together, so that a walker of a running thread's entries can tell one from whatever
 * else the object was a moment ago. */
#define FS_CRITICAL_INFO __attribute__((section("fs_critical"))) static const struct fs_critical

/* For the user: the calls that need the lock of this one. */
static inline const char *fs_critical_kin(const struct fs_critical *call) {
    return fs_libc_locks[call->lock].kin;
}

#endif
