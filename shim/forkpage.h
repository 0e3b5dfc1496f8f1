/* forkpage.h - all that every fork writes, in a page of its own that no child inherits.
 *
 * After a fork the first store to each page copies it, for as long as the child has it, too. This one
 * the kernel leaves out (MADV_WIPEONFORK) once there have been two threads: it stays the parent's alone, and the child
 * finds zeros. (Before that no fork writes it, and the kernel joins it to its neighbour: one mapping less to
 * copy.) From a kernel or a filter that refuses the child inherits the page as any
 * other; so it sets anew what it needs, and counts on neither (fs_world_alone(), fork.c). */
#ifndef FS_FORKPAGE_H
#define FS_FORKPAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "registry.h"
#include "sys.h"

struct fs_stop_report {
    unsigned parked;   /* at the gate or by the suspend signal */
    unsigned detached; /* inside blocking calls */
    unsigned running;  /* left running: inside opaque code, or deaf to the signal */
    unsigned holding;  /* could not be waited for */
    unsigned attempts; /* times that the gate was closed */
    int foreign;       /* threads without a record; -1: not known, or nobody asks */
    int64_t ns;
};

enum { FS_FORK_PAGE_BYTES = 4096, FS_CHUNK_BYTES = 4 * 4096 };
extern FS_HIDDEN struct fs_fork_page {
    struct fs_stop_report report; /* of this stop, or of the last */

    /* The stop word (world.h). Its place: see registry.h. */
    _Alignas(FS_STOP_AT) uint32_t stop;
    uint32_t stop_changes; /* while somebody may be asleep on it */
    uint32_t parked;       /* so many may */
    bool marked;           /* what a stop makes of threads may stand in their records */

    struct fs_thread *stopper; /* set before the stop word, cleared after it */
    uint32_t progress;         /* counts parks and answers; a futex */
    uint32_t stopper_waits;    /* the stopper may be asleep on `progress` ... */
    uint32_t wake_at;          /* ... until it has come to this */

    struct fs_thread *turn_owner; /* whose turn it is to fork (fork.c) */
    uint32_t turn_awaited; /* somebody may be asleep until it is over, others behind him; a futex */

    struct fs_lock registry_lock; /* registry.c */
    struct fs_lock walk_lock;     /* safepoint.c */

    /* Behind the page, and no longer left out: room for the first threads' records (registry.c). The kernel joins it to
     * the memory behind, in place of one mapping more. */
    _Alignas(FS_FORK_PAGE_BYTES) char first_chunk[FS_CHUNK_BYTES];
} fs_fork_page;
_Static_assert(__builtin_offsetof(struct fs_fork_page, stop) == FS_STOP_AT, "see registry.h");
_Static_assert(__builtin_offsetof(struct fs_fork_page, first_chunk) == FS_FORK_PAGE_BYTES,
               "it is one page");

/* True if there is anything in the stop word. (gcc loads a volatile into a register first.) */
static inline __attribute__((always_inline)) bool fs_stop_is_set(void) {
    __asm__ goto("cmpl $0, %0\n\tjne %l[set]" : : "m"(fs_fork_page.stop) : "cc" : set);
    return false;
set:
    return true;
}

#endif
