/* garbled.c - preloaded as libforksafe.so: records full of nonsense, for a reader that must not believe
 * them. GARBLED is the seed; 0: forksafe_inspect itself is nonsense behind its version. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../shim/inspect.h"

enum { CHUNK = 65536, MODE_OFF = 1 };
static const int mode;
static const uint32_t stop, generation = 1;
static struct fs_thread *owner;
static void *chunk;
static const char *const names[FS_KIND_COUNT];

struct fs_inspect forksafe_inspect = {
    .magic = "forksafe",
    .version = FS_INSPECT_VERSION,
    .bytes = sizeof(struct fs_inspect),
    .mode = &mode,
    .stop = &stop,
    .fork_owner = &owner,
    .kind_names = names,
    .registry = {&chunk, &generation, CHUNK, 0, 8, FS_LINE_BYTES},
    .mode_off = MODE_OFF,
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
    .critical_name = 0,
};

/* Half of the words are addresses that can be read, so that what is behind them is nonsense as well. */
static void fill(void *to, size_t bytes) {
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uintptr_t word = ((uintptr_t)random() << 32) ^ (uintptr_t)random();
        if (random() % 2 == 0) {
            word = (uintptr_t)chunk + word % CHUNK;
        }
        memcpy((char *)to + i, &word, sizeof word);
    }
}

static __attribute__((constructor)) void garble(void) {
    const char *seed = getenv("GARBLED");
    unsigned number = seed != NULL ? (unsigned)atoi(seed) : 1;
    srandom(number);
    chunk = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fill(chunk, CHUNK);
    if (number == 0) {
        fill((char *)&forksafe_inspect + offsetof(struct fs_inspect, registry),
             sizeof forksafe_inspect - offsetof(struct fs_inspect, registry));
        return;
    }
    memcpy(chunk, &chunk, sizeof chunk); /* the list goes round and round */
    *(uint32_t *)((char *)chunk + 8) = UINT32_MAX;
    struct fs_thread *records = (struct fs_thread *)((char *)chunk + FS_LINE_BYTES);
    struct fs_thread *own = &records[number % 20];
    own->generation = 1;
    own->tid = (int)syscall(SYS_gettid);
    if (number % 3 != 0) { /* an array that is there, and more of it than there is */
        own->entries = number % 3 == 1 ? own->inline_entries : (struct fs_entry *)chunk;
        own->depth = own->capacity = number % 2 == 0 ? 16 : 1000;
        for (unsigned i = 0; i < 16; i++) {
            own->entries[i].kind = (uint8_t)(random() % FS_KIND_COUNT);
            own->entries[i].phase = (uint8_t)(random() % (FS_RELEASING + 1));
        }
        own->state = FS_DETACHED;
        own->wait_count = UINT32_MAX;
    }
}
