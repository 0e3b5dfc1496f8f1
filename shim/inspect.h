/* inspect.h - what a reader from outside needs to find the records: forksafe-ps, the gdb script.
 *
 * `forksafe_inspect` is the one name of our own that the library exports. It is data, so that it is
 * found in the dynamic symbols of a stripped library, in a live process and in a core. It says where
 * the list of records begins and at which offsets the few fields lie that such a reader wants, so
 * that a tool also reads the records of a library that was built before or after it.
 *
 * FS_INSPECT_VERSION is raised when this struct changes, or what a value in a record means (enum
 * fs_state, fs_phase, fs_kind). A field that merely moves in its record needs no new version.
 * scripts/forksafe-gdb.py unpacks the struct too. */
#ifndef FS_INSPECT_H
#define FS_INSPECT_H

#include <stdint.h>

#include "registry.h"

#define FS_INSPECT_NAME "forksafe_inspect"
#define FS_INSPECT_MAGIC "forksafe" /* eight bytes, without the NUL */
enum { FS_INSPECT_VERSION = 2 };

struct fs_inspect {
    char magic[8];
    uint32_t version;
    uint32_t bytes; /* of this struct */

    const int *mode;      /* enum fs_mode; compare with mode_off: there are no records then */
    const uint32_t *stop; /* the stop word; `stopped` is set in it while a fork is under way */
    struct fs_thread *const *fork_owner; /* whose turn it is to fork; set by fs_inspect_init() */
    const char *const *kind_names;       /* `kinds` of them; user's words */
    struct fs_registry_shape registry;   /* likewise set by fs_inspect_init() */

    uint32_t mode_off;
    uint32_t stopped;
    uint32_t kinds;

    /* Offsets in, and sizes of, struct fs_thread, fs_entry, fs_wait and fs_critical. */
    uint32_t thread_bytes;
    uint32_t thread_depth;
    uint32_t thread_capacity;
    uint32_t thread_entries;
    uint32_t thread_state;
    uint32_t thread_wait_count;
    uint32_t thread_waits;
    uint32_t thread_wait_room; /* elements of `waits` */
    uint32_t thread_wants_fork;
    uint32_t thread_generation;
    uint32_t thread_tid;
    uint32_t thread_owner_id;
    uint32_t thread_handle;
    uint32_t thread_name;
    uint32_t entry_bytes;
    uint32_t entry_object;
    uint32_t entry_caller;
    uint32_t entry_kind;
    uint32_t entry_phase;
    uint32_t wait_bytes;
    uint32_t wait_object;
    uint32_t wait_mutex;
    uint32_t wait_caller;
    uint32_t wait_kind;
    uint32_t critical_name; /* a string, in place */
};

/* Fills in what only runs of the program know. Once, at start-up; without it, as with
 * FORKSAFE_MODE=off, there is no list. */
void fs_inspect_init(void);

#endif
