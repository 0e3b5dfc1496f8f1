/* forksafe-ps [--json] PID: the threads of a preloaded process, what they hold, and what they wait for.
 *
 * Not a part of the library: it reads the library's records from outside (inspect.h), through the
 * kernel's process_vm_readv, so that a hung process can be looked at, and stops nothing. What it
 * sees is therefore no instant: a thread that runs may have moved on between two reads. The
 * parts of the library that know how objects and JSON look are linked in (Makefile).
 *
 * JSON: {"v":1,"event":"ps","time","pid","program","forks","stopped","threads":[...]}. `forks`: how many
 * forks lie between this process and the one that was preloaded. `stopped`: a fork is under way. A thread:
 *   "tid","name"
 *   "state": "attached", "detached", "suspended", or "unrecorded": forksafe has not seen it yet
 *   "kernel": a word for its state there; "call": the system call that it sleeps in, if any
 *   "depth"; "unrecorded": how many of them no memory was left to record, if any
 *   "holds":  [{"role":"holder|releasing","kind","address","object":PLACE,"at":PLACE}]
 *   "inside": [{"call" or "kind","address","object","at":PLACE}]: calls that take a lock inside libc
 *   "waits":  [{"role":"taking|trying|waiter","kind","address","object":PLACE,"at":PLACE,
 *     "mutex":{"address","object":PLACE} of a condition variable,
 *     "owners":[OWNER], "more_owners":N}], the newest last. Kind "fork", without the places: the fork
 *     under way, or its turn to fork.
 * OWNER: {"tid","name"}, with "gone":true where it vanished at a fork or ended, "elsewhere":true where it
 * is another process's thread.
 * PLACE is as in events (README.md). */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "../inspect.h"
#include "../inventory.h"
#include "../json.h"
#include "../layout.h"
#include "../report.h"
#include "../sys.h"
#include "target.h"

enum { CHUNKS_MAX = 1 << 16, ENTRIES_MAX = 1 << 20, OWNERS_SHOWN = 8, SCHEMA = 1 };

enum role { HOLDS, RELEASES, INSIDE, TAKES, TRIES, WAITS, FORK_WAIT };

/* One thing that a thread holds, is inside or waits for. */
struct item {
    uint8_t role; /* enum role */
    uint8_t kind;
    uint32_t thread; /* index into `threads` */
    uintptr_t object;
    uintptr_t caller;
    uintptr_t mutex; /* a condition variable's, or 0 */
};

struct thread {
    struct task task;
    uintptr_t record; /* 0: it has none */
    bool ended;       /* while it was looked at */
    uint32_t state;
    uint32_t depth;
    uint32_t unrecorded;
    int owner_id;
    uintptr_t handle;
    size_t first, count; /* of its items */
};

/* A thread that a fork has left behind. */
struct vanished {
    int owner_id;
    char name[FS_NAME_MAX];
};

static struct fs_inspect shape;
static uint32_t generation;
static bool stopped;

static struct thread *threads;
static size_t thread_count;
static struct item *items;
static size_t item_count, item_room;
static struct vanished *vanished;
static size_t vanished_count, vanished_room;
static const struct item **holds; /* sorted by object */
static size_t hold_count;
static const struct thread **by_owner_id; /* those with a record */
static size_t recorded_count;

/* --- what the library's parts need ------------------------------------------------------------- */

bool fs_peek(void *to, const void *from, size_t bytes) {
    return target_read(to, (uintptr_t)from, bytes);
}

void *fs_map_larger(void *old, size_t old_bytes, size_t bytes) {
    (void)old_bytes;
    return realloc(old, bytes);
}

void fs_unmap(void *memory, size_t bytes) {
    (void)bytes;
    free(memory);
}

/* Of a robust mutex: only whether another process may own it is asked. */
bool fs_is_shared_memory(const void *address, bool if_unknown) {
    (void)address;
    return if_unknown;
}

/* --- the records ----------------------------------------------------------------------------- */

static void find_library(void) {
    const struct module *library = target_module_named("libforksafe");
    if (library == NULL) {
        give_up("process %d is not preloaded: it has no libforksafe.so (start it with LD_PRELOAD, "
                "or with "
                "forksafe run)",
                target_pid());
    }
    uintptr_t at = target_symbol(library, FS_INSPECT_NAME);
    if (at == 0 || !target_read(&shape, at, sizeof shape) ||
        memcmp(shape.magic, FS_INSPECT_MAGIC, sizeof shape.magic) != 0 ||
        shape.version != FS_INSPECT_VERSION || shape.bytes != sizeof shape) {
        give_up("process %d has a library of another version (%s): look at it with the forksafe "
                "that this "
                "library came with",
                target_pid(), library->path);
    }
    int mode = 0;
    if (target_read(&mode, (uintptr_t)shape.mode, sizeof mode) && mode == (int)shape.mode_off) {
        give_up("process %d runs with FORKSAFE_MODE=off: it has no records", target_pid());
    }
}

static uint32_t number(const char *record, uint32_t offset) {
    uint32_t value;
    memcpy(&value, record + offset, sizeof value);
    return value;
}

static uintptr_t word(const char *record, uint32_t offset) {
    uintptr_t value;
    memcpy(&value, record + offset, sizeof value);
    return value;
}

static void add_item(const struct thread *thread, enum role role, uint8_t kind, uintptr_t object,
                     uintptr_t caller, uintptr_t mutex) {
    items = grow(items, item_count, &item_room, sizeof *items);
    items[item_count++] = (struct item){.role = (uint8_t)role,
                                        .kind = kind,
                                        .thread = (uint32_t)(thread - threads),
                                        .object = object,
                                        .caller = caller,
                                        .mutex = mutex};
}

static bool says_held(const struct thread *thread, uint8_t kind, uintptr_t object) {
    struct fs_thread holder = {.owner_id = thread->owner_id, .handle = (pthread_t)thread->handle};
    return fs_layout_held_by(kind, (const void *)object, &holder);
}

static bool has_recorded(const struct thread *thread, uintptr_t object) {
    for (size_t i = thread->first; i < item_count; i++) {
        if (items[i].object == object && items[i].role == HOLDS) {
            return true;
        }
    }
    return false;
}

/* A mutex that says it is this thread's own has just been taken, unless it holds it already: then it
 * waits for itself. */
static enum role role_of_taking(const struct thread *thread, uint8_t kind, uintptr_t object) {
    switch (kind) {
    case FS_KIND_CRITICAL:
    case FS_KIND_COND:
        return INSIDE;
    case FS_KIND_ONCE:
        return thread->task.futex == object ? TAKES : INSIDE;
    case FS_KIND_MUTEX:
    case FS_KIND_RWLOCK_WRITE:
        return says_held(thread, kind, object) && !has_recorded(thread, object) ? HOLDS : TAKES;
    default:
        return TAKES;
    }
}

static void read_entry(const struct thread *thread, const char *entry) {
    uintptr_t object = word(entry, shape.entry_object);
    uint8_t kind = (uint8_t)entry[shape.entry_kind];
    if ((object & FS_DISOWNED) != 0 || kind >= FS_KIND_COUNT) {
        return;
    }
    object &= ~FS_FORKED;
    enum role role;
    switch (entry[shape.entry_phase]) {
    case FS_TAKING:
        role = role_of_taking(thread, kind, object);
        break;
    case FS_TRYING:
        role = TRIES;
        break;
    case FS_HELD:
        if (!says_held(thread, kind, object)) {
            return;
        }
        role = HOLDS;
        break;
    case FS_RELEASING:
        role = RELEASES;
        break;
    default:
        return;
    }
    add_item(thread, role, kind, object, word(entry, shape.entry_caller), 0);
}

/* `record` is a copy of what is at thread->record. */
static void read_entries(struct thread *thread, const char *record) {
    uint32_t capacity = number(record, shape.thread_capacity);
    uint32_t count = thread->depth < capacity ? thread->depth : capacity;
    thread->unrecorded = thread->depth - count;
    if (count == 0 || count > ENTRIES_MAX) {
        return;
    }
    uintptr_t from = word(record, shape.thread_entries);
    size_t bytes = (size_t)count * shape.entry_bytes;
    if (from >= thread->record && from < thread->record + shape.thread_bytes &&
        from + bytes <= thread->record + shape.thread_bytes) {
        for (uint32_t i = 0; i < count; i++) {
            read_entry(thread, record + (from - thread->record) + (size_t)i * shape.entry_bytes);
        }
        return;
    }
    char *copy = need(malloc(bytes));
    if (target_read(copy, from, bytes)) {
        for (uint32_t i = 0; i < count; i++) {
            read_entry(thread, copy + (size_t)i * shape.entry_bytes);
        }
    }
    free(copy);
}

/* A waiter is never ATTACHED: then it was jumped out of, or is over. One that has been woken may now
 * wait for its mutex. */
static void read_waits(const struct thread *thread, const char *record) {
    uint32_t count = number(record, shape.thread_wait_count);
    for (uint32_t i = 0; thread->state != FS_ATTACHED && i < count && i < shape.thread_wait_room;
         i++) {
        const char *wait = record + shape.thread_waits + (size_t)i * shape.wait_bytes;
        uintptr_t object = word(wait, shape.wait_object);
        uintptr_t mutex = word(wait, shape.wait_mutex);
        uint8_t kind = (uint8_t)wait[shape.wait_kind];
        uintptr_t caller = word(wait, shape.wait_caller);
        if (object == 0 || kind >= FS_KIND_COUNT) {
            continue;
        }
        if (mutex != 0 && thread->task.futex == mutex) {
            add_item(thread, TAKES, FS_KIND_MUTEX, mutex, caller, 0);
        } else {
            add_item(thread, WAITS, kind, object, caller, mutex);
        }
    }
    bool wants_fork = record[shape.thread_wants_fork] != 0;
    if (wants_fork || thread->state == FS_SUSPENDED) {
        add_item(thread, FORK_WAIT, FS_KIND_COUNT, 0, 0, 0);
    }
}

static int compare_inner(const void *a, const void *b) {
    int left = (*(const struct thread *const *)a)->task.inner;
    int right = (*(const struct thread *const *)b)->task.inner;
    return (left > right) - (left < right);
}

static void read_record(struct thread **by_inner, const char *record, uintptr_t at) {
    uint32_t lives_in = number(record, shape.thread_generation);
    int owner_id = (int)number(record, shape.thread_owner_id);
    if (lives_in != 0 && lives_in != generation) {
        vanished = grow(vanished, vanished_count, &vanished_room, sizeof *vanished);
        vanished[vanished_count] = (struct vanished){.owner_id = owner_id};
        memcpy(vanished[vanished_count++].name, record + shape.thread_name, FS_NAME_MAX - 1);
    }
    struct thread wanted = {.task.inner = (int)number(record, shape.thread_tid)};
    const struct thread *key = &wanted;
    if (lives_in != generation || wanted.task.inner == 0) {
        return;
    }
    struct thread **found =
        bsearch(&key, by_inner, thread_count, sizeof(struct thread *), compare_inner);
    if (found == NULL || (*found)->record != 0) {
        return;
    }
    struct thread *thread = *found;
    thread->record = at;
    thread->state = number(record, shape.thread_state);
    thread->depth = number(record, shape.thread_depth);
    thread->owner_id = owner_id;
    thread->handle = word(record, shape.thread_handle);
    thread->first = item_count;
    read_entries(thread, record);
    read_waits(thread, record);
    thread->count = item_count - thread->first;
}

static void read_records(void) {
    struct thread **by_inner = need(malloc((thread_count + 1) * sizeof(struct thread *)));
    for (size_t i = 0; i < thread_count; i++) {
        by_inner[i] = &threads[i];
    }
    qsort(by_inner, thread_count, sizeof(struct thread *), compare_inner);
    const struct fs_registry_shape *registry = &shape.registry;
    uint32_t bytes = registry->chunk_bytes;
    if (bytes < registry->chunk_records || bytes > (1 << 24) || shape.thread_bytes == 0 ||
        shape.thread_bytes > bytes) {
        give_up("process %d: its library's records make no sense", target_pid());
    }
    char *chunk = need(malloc(bytes));
    uintptr_t at = 0;
    bool readable = target_read(&at, (uintptr_t)registry->chunks, sizeof at);
    if (readable && at == 0) {
        give_up("process %d has no records yet: it has only just started", target_pid());
    }
    uint32_t head = registry->chunk_records;
    for (unsigned limit = CHUNKS_MAX; at != 0 && limit > 0; limit--) {
        if (!target_read(chunk, at, head)) {
            break;
        }
        uint32_t room = (bytes - head) / shape.thread_bytes;
        uint32_t used = number(chunk, registry->chunk_used);
        used = used < room ? used : room;
        if (!target_read(chunk + head, at + head, (size_t)used * shape.thread_bytes)) {
            break;
        }
        for (uint32_t i = 0; i < used; i++) {
            size_t place = head + (size_t)i * shape.thread_bytes;
            read_record(by_inner, chunk + place, at + place);
        }
        at = word(chunk, registry->chunk_next);
    }
    free(chunk);
    free(by_inner);
}

/* A thread that ends meanwhile may take its record away, and then only seems to have none. */
static void read_threads(void) {
    struct task *tasks = target_tasks(&thread_count);
    uint32_t stop = 0;
    if (!target_read(&generation, (uintptr_t)shape.registry.generation, sizeof generation) ||
        !target_read(&stop, (uintptr_t)shape.stop, sizeof stop)) {
        target_must_live();
        give_up("process %d has no records yet: it has only just started", target_pid());
    }
    stopped = (stop & shape.stopped) != 0;
    threads = need(calloc(thread_count, sizeof *threads));
    for (size_t i = 0; i < thread_count; i++) {
        threads[i].task = tasks[i];
    }
    free(tasks);
    read_records();
    for (size_t i = 0; i < thread_count; i++) {
        threads[i].ended = threads[i].record == 0 && !target_tid_exists(threads[i].task.tid);
    }
    target_must_live();
}

/* --- who owns it ----------------------------------------------------------------------------- */

static int compare_object(const void *a, const void *b) {
    const struct item *left = *(const struct item *const *)a;
    const struct item *right = *(const struct item *const *)b;
    return (left->object > right->object) - (left->object < right->object);
}

static int compare_owner_id(const void *a, const void *b) {
    const struct thread *left = *(const struct thread *const *)a;
    const struct thread *right = *(const struct thread *const *)b;
    return (left->owner_id > right->owner_id) - (left->owner_id < right->owner_id);
}

static bool counts_as_hold(const struct item *item) {
    return item->role == HOLDS || item->role == RELEASES ||
           (item->role == INSIDE && item->kind == FS_KIND_ONCE);
}

static void build_indexes(void) {
    holds = need(malloc((item_count + 1) * sizeof(struct item *)));
    by_owner_id = need(malloc((thread_count + 1) * sizeof(struct thread *)));
    for (size_t i = 0; i < item_count; i++) {
        if (counts_as_hold(&items[i])) {
            holds[hold_count++] = &items[i];
        }
    }
    for (size_t i = 0; i < thread_count; i++) {
        if (threads[i].record != 0) {
            by_owner_id[recorded_count++] = &threads[i];
        }
    }
    qsort(holds, hold_count, sizeof(struct item *), compare_object);
    qsort(by_owner_id, recorded_count, sizeof(struct thread *), compare_owner_id);
}

struct owner {
    int tid;
    char name[sizeof(((struct task *)NULL)->name)]; /* "": not known */
    bool gone, elsewhere;
};

struct owners {
    struct owner shown[OWNERS_SHOWN];
    size_t count; /* more than are shown, maybe */
};

static void add_owner(struct owners *owners, const struct thread *thread) {
    if (owners->count < OWNERS_SHOWN) {
        struct owner *owner = &owners->shown[owners->count];
        *owner = (struct owner){.tid = thread->task.tid};
        memcpy(owner->name, thread->task.name, sizeof owner->name);
    }
    owners->count++;
}

/* What glibc has written into a lock. */
static void add_owner_id(struct owners *owners, int id, bool shared) {
    struct thread wanted = {.owner_id = id};
    const struct thread *key = &wanted;
    const struct thread *const *found =
        bsearch(&key, by_owner_id, recorded_count, sizeof(struct thread *), compare_owner_id);
    if (found != NULL) {
        add_owner(owners, *found);
        return;
    }
    for (size_t i = 0; i < thread_count; i++) { /* one without a record */
        if (threads[i].task.inner == id && threads[i].record == 0 && !threads[i].ended) {
            add_owner(owners, &threads[i]);
            return;
        }
    }
    struct owner *owner = &owners->shown[owners->count++];
    *owner = (struct owner){.tid = id, .elsewhere = shared && target_tid_exists(id)};
    owner->gone = !owner->elsewhere;
    for (size_t i = 0; i < vanished_count; i++) {
        if (vanished[i].owner_id == id) {
            snprintf(owner->name, sizeof owner->name, "%s", vanished[i].name);
        }
    }
}

static bool named_by_mutex(struct owners *owners, uintptr_t object) {
    pthread_mutex_t copy;
    if (!target_read(&copy, object, sizeof copy) || !fs_mutex_locked(&copy) ||
        fs_mutex_owner(&copy) == 0) {
        return false;
    }
    add_owner_id(owners, fs_mutex_owner(&copy), fs_mutex_shared(&copy, NULL));
    return true;
}

static bool named_by_rwlock(struct owners *owners, uintptr_t object) {
    pthread_rwlock_t copy;
    if (!target_read(&copy, object, sizeof copy) || fs_rwlock_writer(&copy) == 0) {
        return false;
    }
    add_owner_id(owners, fs_rwlock_writer(&copy), fs_rwlock_shared(&copy));
    return true;
}

static void add_holders(struct owners *owners, const struct item *wait) {
    const struct item **found =
        bsearch(&wait, holds, hold_count, sizeof(struct item *), compare_object);
    if (found == NULL) {
        return;
    }
    while (found > holds && found[-1]->object == wait->object) {
        found--;
    }
    for (uint32_t last = UINT32_MAX; found < holds + hold_count; found++) {
        if ((*found)->object != wait->object) {
            break;
        }
        if ((*found)->thread != last &&
            (wait->kind != FS_KIND_ONCE || (*found)->thread != wait->thread)) {
            last = (*found)->thread;
            add_owner(owners, &threads[last]);
        }
    }
}

static struct owners find_owners(const struct item *wait) {
    struct owners owners = {.count = 0};
    uintptr_t forks = 0;
    switch (wait->kind) {
    case FS_KIND_MUTEX:
        if (!named_by_mutex(&owners, wait->object)) {
            add_holders(&owners, wait);
        }
        break;
    case FS_KIND_RWLOCK_READ:
    case FS_KIND_RWLOCK_WRITE:
        if (!named_by_rwlock(&owners, wait->object)) {
            add_holders(&owners, wait);
        }
        break;
    case FS_KIND_THREAD:
        for (size_t i = 0; i < recorded_count; i++) {
            if (by_owner_id[i]->handle == wait->object) {
                add_owner(&owners, by_owner_id[i]);
            }
        }
        break;
    case FS_KIND_COUNT: /* FORK_WAIT */
        (void)target_read(&forks, (uintptr_t)shape.fork_owner, sizeof forks);
        for (size_t i = 0; forks != 0 && i < recorded_count; i++) {
            if (by_owner_id[i]->record == forks) {
                add_owner(&owners, by_owner_id[i]);
            }
        }
        break;
    case FS_KIND_COND:
    case FS_KIND_BARRIER:
        break;
    default:
        add_holders(&owners, wait);
        break;
    }
    return owners;
}

/* --- words ----------------------------------------------------------------------------------- */

static const char *kernel_word(char state) {
    switch (state) {
    case 'R':
        return "running";
    case 'S':
        return "sleeping";
    case 'D':
        return "disk sleep";
    case 'T':
        return "stopped";
    case 't':
        return "traced";
    default:
        return "idle";
    }
}

static const char *state_word(const struct thread *thread) {
    static const char *const words[] = {"attached", "detached", "suspended"};
    return thread->record != 0 && thread->state < 3 ? words[thread->state] : "unrecorded";
}

/* Those that threads are found sleeping in. */
static const char *call_name(long call) {
    static const struct {
        long number;
        const char *name;
    } known[] = {
#define CALL(name) {SYS_##name, #name}
        CALL(futex),
        CALL(read),
        CALL(write),
        CALL(readv),
        CALL(writev),
        CALL(pread64),
        CALL(pwrite64),
        CALL(poll),
        CALL(ppoll),
        CALL(select),
        CALL(pselect6),
        CALL(epoll_wait),
        CALL(epoll_pwait),
        CALL(epoll_pwait2),
        CALL(accept),
        CALL(accept4),
        CALL(connect),
        CALL(recvfrom),
        CALL(recvmsg),
        CALL(recvmmsg),
        CALL(sendto),
        CALL(sendmsg),
        CALL(sendmmsg),
        CALL(nanosleep),
        CALL(wait4),
        CALL(waitid),
        CALL(pause),
        CALL(clock_nanosleep),
        CALL(rt_sigsuspend),
        CALL(rt_sigtimedwait),
        CALL(fcntl),
        CALL(flock),
        CALL(open),
        CALL(openat),
        CALL(ioctl),
        CALL(io_getevents),
        CALL(msgrcv),
        CALL(msgsnd),
        CALL(semop),
        CALL(semtimedop),
        CALL(mq_timedreceive),
        CALL(mq_timedsend),
        CALL(fsync),
        CALL(fdatasync),
        CALL(splice),
        CALL(sendfile),
        CALL(vfork),
        CALL(clone),
        CALL(io_uring_enter),
        CALL(getrandom),
        CALL(restart_syscall),
        CALL(close),
#undef CALL
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].number == call) {
            return known[i].name;
        }
    }
    return NULL;
}

static void call_words(const struct task *task, char *to, size_t size) {
    const char *name = task->call >= 0 ? call_name(task->call) : NULL;
    if (name != NULL) {
        snprintf(to, size, "%s", name);
    } else {
        snprintf(to, size, "system call %ld", task->call);
    }
}

static const char *role_word(uint8_t role) {
    switch (role) {
    case HOLDS:
        return "holder";
    case RELEASES:
        return "releasing";
    case TAKES:
        return "taking";
    case TRIES:
        return "trying";
    default:
        return "waiter";
    }
}

/* "" where that cannot be read. */
static void critical_name(const struct item *item, char *to, size_t size) {
    to[0] = '\0';
    target_read_string(to, size, item->object + shape.critical_name);
}

/* --- JSON ------------------------------------------------------------------------------------ */

static struct fs_json out;

static void put_place(const char *key, uintptr_t address) {
    const struct module *module = target_module(address);
    fs_json_begin(&out, key, '{');
    if (module == NULL) {
        fs_json_hex(&out, "address", address);
    } else {
        fs_json_string(&out, "module", module->path);
        if (module->build_id_length != 0) {
            fs_json_bytes(&out, "build_id", module->build_id, module->build_id_length);
        }
        fs_json_hex(&out, "offset", address - module->base);
    }
    fs_json_end(&out, '}');
}

static void put_object(const struct item *item) {
    fs_json_string(&out, "kind", fs_kind_name(item->kind));
    fs_json_hex(&out, "address", item->object);
    put_place("object", item->object);
}

static void put_owners(const struct item *wait) {
    struct owners owners = find_owners(wait);
    fs_json_begin(&out, "owners", '[');
    for (size_t i = 0; i < owners.count && i < OWNERS_SHOWN; i++) {
        const struct owner *owner = &owners.shown[i];
        fs_json_begin(&out, NULL, '{');
        fs_json_number(&out, "tid", owner->tid);
        if (owner->name[0] != '\0') {
            fs_json_string(&out, "name", owner->name);
        }
        if (owner->gone) {
            fs_json_bool(&out, "gone", true);
        }
        if (owner->elsewhere) {
            fs_json_bool(&out, "elsewhere", true);
        }
        fs_json_end(&out, '}');
    }
    fs_json_end(&out, ']');
    if (owners.count > OWNERS_SHOWN) {
        fs_json_number(&out, "more_owners", (int64_t)(owners.count - OWNERS_SHOWN));
    }
}

static void put_hold(const struct item *item) {
    fs_json_string(&out, "role", role_word(item->role));
    put_object(item);
    put_place("at", item->caller);
}

static void put_inside(const struct item *item) {
    char name[64];
    if (item->kind == FS_KIND_CRITICAL) {
        critical_name(item, name, sizeof name);
        fs_json_string(&out, "kind", fs_kind_name(item->kind));
        fs_json_string(&out, "call", name);
    } else {
        put_object(item);
    }
    put_place("at", item->caller);
}

static void put_wait(const struct item *item) {
    fs_json_string(&out, "role", role_word(item->role));
    if (item->role == FORK_WAIT) {
        fs_json_string(&out, "kind", "fork");
    } else {
        put_object(item);
        put_place("at", item->caller);
    }
    if (item->mutex != 0) {
        fs_json_begin(&out, "mutex", '{');
        fs_json_hex(&out, "address", item->mutex);
        put_place("object", item->mutex);
        fs_json_end(&out, '}');
    }
    put_owners(item);
}

static void put_items(const char *key, const struct thread *thread, uint32_t roles,
                      void (*put)(const struct item *item)) {
    fs_json_begin(&out, key, '[');
    for (size_t i = thread->first; i < thread->first + thread->count; i++) {
        if ((roles >> items[i].role & 1) != 0) {
            fs_json_begin(&out, NULL, '{');
            put(&items[i]);
            fs_json_end(&out, '}');
        }
    }
    fs_json_end(&out, ']');
}

static void put_thread(const struct thread *thread) {
    fs_json_begin(&out, NULL, '{');
    fs_json_number(&out, "tid", thread->task.tid);
    fs_json_string(&out, "name", thread->task.name);
    fs_json_string(&out, "state", state_word(thread));
    fs_json_string(&out, "kernel", kernel_word(thread->task.state));
    if (thread->task.call >= 0) {
        char call[64];
        call_words(&thread->task, call, sizeof call);
        fs_json_string(&out, "call", call);
    }
    fs_json_number(&out, "depth", thread->depth);
    if (thread->unrecorded != 0) {
        fs_json_number(&out, "unrecorded", thread->unrecorded);
    }
    put_items("holds", thread, 1 << HOLDS | 1 << RELEASES, put_hold);
    put_items("inside", thread, 1 << INSIDE, put_inside);
    put_items("waits", thread, 1 << TAKES | 1 << TRIES | 1 << WAITS | 1 << FORK_WAIT, put_wait);
    fs_json_end(&out, '}');
}

static void put_all(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char digits[64];
    fs_json_begin(&out, NULL, '{');
    fs_json_number(&out, "v", SCHEMA);
    fs_json_string(&out, "event", "ps");
    snprintf(digits, sizeof digits, ",\"time\":%lld.%06ld", (long long)now.tv_sec,
             now.tv_nsec / 1000);
    fs_json_raw(&out, digits);
    fs_json_number(&out, "pid", target_pid());
    fs_json_string(&out, "program", target_program());
    fs_json_number(&out, "forks", (int64_t)generation - 1);
    fs_json_bool(&out, "stopped", stopped);
    fs_json_begin(&out, "threads", '[');
    for (size_t i = 0; i < thread_count; i++) {
        if (!threads[i].ended) {
            put_thread(&threads[i]);
        }
    }
    fs_json_end(&out, ']');
    fs_json_end(&out, '}');
    if (out.cut) {
        give_up("no memory left");
    }
    fwrite(out.text, 1, out.length, stdout);
    putchar('\n');
}

/* --- text ------------------------------------------------------------------------------------ */

static void print_place(uintptr_t address) {
    const struct module *module = target_module(address);
    if (module == NULL) {
        printf("%#lx", address);
        return;
    }
    printf("%s+%#lx", basename(module->path), address - module->base);
}

static void print_owners(const struct item *wait) {
    struct owners owners = find_owners(wait);
    const char *before = wait->kind == FS_KIND_THREAD ? ": " : ", held by ";
    for (size_t i = 0; i < owners.count && i < OWNERS_SHOWN; i++, before = ", ") {
        const struct owner *owner = &owners.shown[i];
        printf("%s%d", before, owner->tid);
        if (owner->name[0] != '\0') {
            printf(" %s", owner->name);
        }
        fputs(owner->gone ? " (gone)" : owner->elsewhere ? " (another process)" : "", stdout);
    }
    if (owners.count > OWNERS_SHOWN) {
        printf(" and %zu more", owners.count - OWNERS_SHOWN);
    }
}

static void print_item(const struct item *item) {
    static const char *const words[] = {
        [HOLDS] = "holds",
        [RELEASES] = "releases",
        [INSIDE] = "is inside",
        [TAKES] = "waits for",
        [TRIES] = "tries",
        [WAITS] = "waits for",
        [FORK_WAIT] = "waits for a fork",
    };
    printf("         %s ", words[item->role]);
    if (item->role == FORK_WAIT) {
        print_owners(item);
        putchar('\n');
        return;
    }
    char name[64];
    if (item->kind == FS_KIND_CRITICAL) {
        critical_name(item, name, sizeof name);
        printf("%s", name);
    } else {
        printf("%s ", item->kind == FS_KIND_THREAD ? "the end of" : fs_kind_name(item->kind));
        print_place(item->object);
    }
    fputs(" at ", stdout);
    print_place(item->caller);
    if (item->role == TAKES || item->role == TRIES || item->role == WAITS) {
        print_owners(item);
    }
    putchar('\n');
}

static void print_all(void) {
    printf("process %d (%s), %u fork%s deep%s\n", target_pid(), target_program(), generation - 1,
           generation == 2 ? "" : "s", stopped ? ", a fork is under way" : "");
    printf("%-8s %-16s %-11s %-24s %s\n", "TID", "NAME", "STATE", "KERNEL", "DEPTH");
    for (size_t i = 0; i < thread_count; i++) {
        const struct thread *thread = &threads[i];
        if (thread->ended) {
            continue;
        }
        char call[64], kernel[96];
        call_words(&thread->task, call, sizeof call);
        snprintf(kernel, sizeof kernel, "%s%s%s", kernel_word(thread->task.state),
                 thread->task.call >= 0 ? " in " : "", thread->task.call >= 0 ? call : "");
        printf("%-8d %-16s %-11s %-24s %u\n", thread->task.tid, thread->task.name,
               state_word(thread), kernel, thread->depth);
        for (size_t item = thread->first; item < thread->first + thread->count; item++) {
            print_item(&items[item]);
        }
    }
}

static _Noreturn void usage(void) {
    fputs("usage: forksafe-ps [--json] PID\n", stderr);
    exit(2);
}

int main(int argc, char **argv) {
    bool json = argc == 3 && strcmp(argv[1], "--json") == 0;
    if (argc != 2 + json) {
        usage();
    }
    char *end;
    errno = 0;
    long pid = strtol(argv[argc - 1], &end, 10);
    if (errno != 0 || *end != '\0' || pid < 1 || pid > INT_MAX) {
        fprintf(stderr, "forksafe ps: '%s' is no process id: give a number\n", argv[argc - 1]);
        return 2;
    }
    target_open((int)pid);
    find_library();
    read_threads();
    build_indexes();
    if (json) {
        put_all();
    } else {
        print_all();
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        give_up("cannot write: %s", strerror(errno));
    }
    return 0;
}
