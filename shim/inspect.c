#include "inspect.h"

#include <stddef.h>

#include "config.h"
#include "critical.h"
#include "fork.h"
#include "real.h"
#include "report.h"
#include "world.h"

extern struct fs_inspect forksafe_inspect;

FS_EXPORT struct fs_inspect forksafe_inspect = {
    .magic = {'f', 'o', 'r', 'k', 's', 'a', 'f', 'e'},
    .version = FS_INSPECT_VERSION,
    .bytes = sizeof(struct fs_inspect),
    .mode = &fs_config.mode,
    .stop = &fs_fork_page.stop,
    .kind_names = fs_kind_names,
    .mode_off = FS_MODE_OFF,
    .stopped = FS_STOPPED,
    .kinds = FS_KIND_COUNT,
    .thread_bytes = sizeof(struct fs_thread),
    .thread_depth = offsetof(struct fs_thread, depth),
    .thread_capacity = offsetof(struct fs_thread, capacity),
    .thread_entries = offsetof(struct fs_thread, entries),
    .thread_state = offsetof(struct fs_thread, state),
    .thread_wait_count = offsetof(struct fs_thread, wait_count),
    .thread_waits = offsetof(struct fs_thread, waits),
    .thread_wait_room = FS_INLINE_WAITS,
    .thread_wants_fork = offsetof(struct fs_thread, wants_fork),
    .thread_generation = offsetof(struct fs_thread, generation),
    .thread_tid = offsetof(struct fs_thread, tid),
    .thread_owner_id = offsetof(struct fs_thread, owner_id),
    .thread_handle = offsetof(struct fs_thread, handle),
    .thread_name = offsetof(struct fs_thread, name),
    .entry_bytes = sizeof(struct fs_entry),
    .entry_object = offsetof(struct fs_entry, object),
    .entry_caller = offsetof(struct fs_entry, caller),
    .entry_kind = offsetof(struct fs_entry, kind),
    .entry_phase = offsetof(struct fs_entry, phase),
    .wait_bytes = sizeof(struct fs_wait),
    .wait_object = offsetof(struct fs_wait, object),
    .wait_mutex = offsetof(struct fs_wait, mutex),
    .wait_caller = offsetof(struct fs_wait, caller),
    .wait_kind = offsetof(struct fs_wait, kind),
    .critical_name = offsetof(struct fs_critical, name),
};

/* Their readers know these numbers. */
_Static_assert(FS_ATTACHED == 0 && FS_DETACHED == 1 && FS_SUSPENDED == 2 && FS_RESERVED == 0 &&
                   FS_TAKING == 1 && FS_TRYING == 2 && FS_HELD == 3 && FS_RELEASING == 4 &&
                   FS_KIND_MUTEX == 0 && FS_KIND_RWLOCK_READ == 1 && FS_KIND_RWLOCK_WRITE == 2 &&
                   FS_KIND_ONCE == 6 && FS_KIND_COND == 8 && FS_KIND_THREAD == 10 &&
                   FS_KIND_CRITICAL == 11 && FS_KIND_COUNT == 12,
               "what a record means has changed: raise FS_INSPECT_VERSION");

void fs_inspect_init(void) {
    fs_fork_inspect(&forksafe_inspect.fork_owner);
    fs_registry_inspect(&forksafe_inspect.registry);
}
