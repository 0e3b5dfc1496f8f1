#include "registry.h"

#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>

#include "config.h"
#include "forkpage.h"
#include "init.h"
#include "inventory.h"
#include "layout.h"
#include "real.h"
#include "report.h"
#include "sys.h"
#include "world.h"

__thread struct fs_thread *fs_self __attribute__((tls_model("initial-exec")));

static const struct fs_thread nobody;
__thread struct fs_thread *fs_fast_self __attribute__((tls_model("initial-exec"))) =
    (struct fs_thread *)&nobody;
/* The record was given back: the last of this thread's locks go unrecorded. */
static __thread bool ended __attribute__((tls_model("initial-exec")));

enum { CHUNK_RECORDS = 17, CHUNKS_MAPPED = 4, REMEMBERED = 64 };

/* Four pages, so that its records stand at places that are the same in every chunk (registry.h). */
struct chunk {
    struct chunk *next; /* older; never changes */
    uint32_t used;      /* records handed out so far; grows under the lock, read by walkers */
    struct fs_thread records[];
};
_Static_assert(offsetof(struct chunk, records[CHUNK_RECORDS]) == FS_CHUNK_BYTES, "no room is lost");

/* The first one has room for the thread that there is at first: a program without others has no mapping more
 * for a fork to copy. */
FS_CHILD_STATE static _Alignas(struct chunk) char first_bytes[offsetof(struct chunk, records[1])];
static struct chunk *const first = (struct chunk *)first_bytes;

/* Constants with addresses in them lie before the global offset table: so many more bytes move it to a place that is no
 * record's (registry.h). */
__attribute__((used)) static const void *const room_before_got[8] = {room_before_got};

/* Guarded by fs_fork_page.registry_lock, a leaf: nothing is taken under it. */
static struct {
    struct chunk *chunks; /* newest first; published with release, walked without the lock */
    struct fs_thread *free;
    char *unused; /* room for chunks, and its end */
    char *unused_end;
    uint32_t generation; /* of this process; changes only in the child, where nobody else runs */
    uint32_t count;      /* live records */
    uint32_t serial;     /* for wake_index */
    bool page_left_out;  /* of children, the forks' own: there has been a second thread */
    int pid;
    int survivors[REMEMBERED]; /* owner_id, in each generation, of the thread that forked the next
                                */
} registry FS_CHILD_STATE = {.chunks = (struct chunk *)first_bytes,
                             .unused = fs_fork_page.first_chunk,
                             .unused_end = fs_fork_page.first_chunk + FS_CHUNK_BYTES,
                             .generation = 1};

/* Its destructor notes that a thread ends. The program may have all PTHREAD_KEYS_MAX for itself: the last
 * one that it asks for is this. Whoever sets a value holds the registry's lock: the key may not change hands
 * meanwhile, or the program would find our value under its own. */
static struct {
    pthread_key_t number;
    bool ours;
} exit_key;

/* Handles of vanished threads, gathered from their records when somebody first asks. */
struct vanished {
    pthread_t handle;
    bool reused; /* a new thread has it now */
};
static struct {
    struct vanished *items;
    size_t count;
    size_t room;
    bool pending; /* the last fork's records are still to be gathered */
} vanished FS_CHILD_STATE;

/* --- records --------------------------------------------------------------------------------- */

/* Several at once, for a fork copies each mapping. */
static void map_chunks(void) {
    const size_t bytes = (size_t)CHUNKS_MAPPED * FS_CHUNK_BYTES;
    char *memory = fs_map(bytes);
    if (memory != NULL) {
        registry.unused = memory;
        registry.unused_end = memory + bytes;
    }
}

static struct chunk *take_chunk(void) {
    if (registry.unused == registry.unused_end) {
        map_chunks();
    }
    if (registry.unused == registry.unused_end) {
        return NULL;
    }
    struct chunk *chunk = (struct chunk *)registry.unused;
    registry.unused += FS_CHUNK_BYTES;
    return chunk;
}

/* Its number in its chunk. No two of a chunk stand at the same line of their pages: number n stands at 1 + 15 n
 * (mod 64), and 15 * 47 is 1. */
static size_t index_of(const struct fs_thread *record) {
    enum { PAGE_LINES = 64, INVERSE = 47 };
    _Static_assert(FS_RECORD_BYTES / FS_LINE_BYTES * INVERSE % PAGE_LINES == 1 &&
                       offsetof(struct chunk, records) == FS_LINE_BYTES,
                   "they stand so");
    return record == first->records
               ? 0
               : ((uintptr_t)record / FS_LINE_BYTES - 1) * INVERSE % PAGE_LINES;
}

static const struct chunk *chunk_of(const struct fs_thread *record) {
    return (const struct chunk *)((const char *)(record - index_of(record)) -
                                  offsetof(struct chunk, records));
}

static struct fs_thread *take_record(void) {
    struct fs_thread *record = registry.free;
    if (record != NULL) {
        registry.free = record->next_free;
        return record;
    }
    struct chunk *chunk = registry.chunks;
    if (chunk->used == (chunk == first ? 1 : CHUNK_RECORDS)) {
        struct chunk *fresh = take_chunk();
        if (fresh == NULL) {
            return NULL;
        }
        fresh->next = chunk;
        fs_store_release(&registry.chunks, fresh);
        chunk = fresh;
    }
    record = &chunk->records[chunk->used];
    fs_store_release(&chunk->used, chunk->used + 1);
    return record;
}

bool fs_fast_ways;

static void clear_record(struct fs_thread *record) {
    memset(record, 0, sizeof *record);
    record->entries = record->inline_entries;
    record->capacity = FS_INLINE_ENTRIES;
    record->room = record->mutex_room = fs_fast_ways ? FS_INLINE_ENTRIES : 0;
    record->state = FS_DETACHED; /* touches nothing until it runs */
    record->wake_index = registry.serial++ % 32;
}

static void gather_vanished(void);

/* From the second thread on forks write their page. Not before: such a page is a mapping of its own, which each
 * fork copies. */
static void leave_page_out(void) {
    if (!registry.page_left_out) {
        fs_syscall3(SYS_madvise, &fs_fork_page, FS_FORK_PAGE_BYTES, MADV_WIPEONFORK);
        fs_store(&registry.page_left_out, true);
    }
}

/* With the lock, signals blocked. */
static struct fs_thread *new_record(uint32_t owners) {
    gather_vanished();
    struct fs_thread *record = take_record();
    if (record != NULL) {
        clear_record(record);
        record->owners = owners;
        registry.count++;
        if (registry.count > 1) {
            leave_page_out();
        }
        fs_store_release(&record->generation, registry.generation);
    }
    return record;
}

static void vanished_again(pthread_t handle);

static void free_record(struct fs_thread *record) {
    if (record->detached) {
        vanished_again(record->handle);
    }
    fs_inventory_free(record);
    fs_store_release(&record->generation, 0);
    record->next_free = registry.free;
    registry.free = record;
}

bool fs_in_vfork_child(void) { return fs_syscall0(SYS_getpid) != registry.pid; }

/* `pid` 0: this process. */
static long read_task_of(int pid, int tid, const char *file, char *buffer, size_t size) {
    char path[64];
    struct fs_text text = fs_text(path, sizeof path);
    fs_text_string(&text, "/proc/");
    if (pid == 0) {
        fs_text_string(&text, "self");
    } else {
        fs_text_number(&text, pid);
    }
    fs_text_string(&text, "/task/");
    fs_text_number(&text, tid);
    fs_text_string(&text, "/");
    fs_text_string(&text, file);
    return fs_read_file(path, buffer, size);
}

long fs_read_task(int tid, const char *file, char *buffer, size_t size) {
    return read_task_of(0, tid, file, buffer, size);
}

/* "running", or "-1 ..." in a page fault, or the call's number and arguments: see
 * proc_pid_syscall(5). */
bool fs_task_sleeps(int tid) {
    char line[256];
    return fs_read_task(tid, "syscall", line, sizeof line) > 0 && line[0] >= '0' && line[0] <= '9';
}

/* Of each thread of the process there is a clock that goes on while the thread does (CPUCLOCK_PERTHREAD_MASK,
 * CPUCLOCK_SCHED: the kernel's include/linux/posix-timers.h). */
static int64_t task_ran(int tid) { return fs_clock((int)(~(unsigned)tid << 3 | 6U)); }

bool fs_task_runs(int tid) {
    int64_t before = task_ran(tid);
    return before != 0 ? task_ran(tid) != before : !fs_task_sleeps(tid);
}

/* "202 0x7f... 0x80 ...": the call's number and its arguments. */
uintptr_t fs_task_futex(int tid) {
    static const char prefix[] = "202 0x"; /* SYS_futex */
    char line[256];
    uintptr_t at = 0;
    if (fs_read_task(tid, "syscall", line, sizeof line) <= 0) {
        return FS_ANY_FUTEX;
    }
    if (strncmp(line, prefix, sizeof prefix - 1) == 0) {
        fs_parse_hex(line + sizeof prefix - 1, &at);
    }
    return at;
}

void fs_registry_lock(void) { fs_lock_or_go_on(&fs_fork_page.registry_lock); }
void fs_registry_unlock(void) { fs_unlock(&fs_fork_page.registry_lock); }

struct fs_thread *fs_thread_new(void) {
    fs_sigset saved = fs_signals_block();
    fs_registry_lock();
    struct fs_thread *record = new_record(2);
    fs_registry_unlock();
    fs_signals_restore(saved);
    return record;
}

void fs_thread_release(struct fs_thread *thread) {
    if (__atomic_sub_fetch(&thread->owners, 1, __ATOMIC_ACQ_REL) != 0) {
        return;
    }
    fs_sigset saved = fs_signals_block();
    fs_registry_lock();
    free_record(thread);
    registry.count--;
    fs_registry_unlock();
    fs_signals_restore(saved);
}

/* --- a thread's life ------------------------------------------------------------------------- */

/* With the lock. Returns false if the key is the program's now. */
static bool set_exit_key(struct fs_thread *self) {
    if (exit_key.ours) { /* fails without memory only: the record then leaks */
        pthread_setspecific(exit_key.number, self);
    }
    return exit_key.ours;
}

static bool note_exit(struct fs_thread *self) {
    fs_sigset saved = fs_signals_block();
    fs_registry_lock();
    bool ours = set_exit_key(self);
    fs_registry_unlock();
    fs_signals_restore(saved);
    return ours;
}

bool fs_exits_are_noted(void) { return fs_load(&exit_key.ours); }

bool fs_give_exit_key(void) {
    fs_sigset saved = fs_signals_block();
    fs_registry_lock();
    bool given = exit_key.ours;
    if (given) {
        fs_store(&exit_key.ours, false);
        pthread_key_delete(exit_key.number);
    }
    fs_registry_unlock();
    fs_signals_restore(saved);
    return given;
}

/* The program's own thread-specific-data destructors may still lock and fork: ours puts itself off
 * to the last of the rounds that POSIX promises (PTHREAD_DESTRUCTOR_ITERATIONS). */
static void at_thread_exit(void *record) {
    struct fs_thread *self = record;
    if (++self->exit_rounds < PTHREAD_DESTRUCTOR_ITERATIONS && note_exit(self)) {
        return;
    }
    fs_thread_end(self);
}

void fs_thread_end(struct fs_thread *self) {
    fs_raise_depth(self); /* no fork while the record goes */
    fs_sigset saved = fs_signals_block();
    ended = true;
    fs_fast_self = (struct fs_thread *)&nobody;
    fs_self = NULL;
    fs_thread_release(self);
    fs_signals_restore(saved);
}

static void identify_as(struct fs_thread *self, int owner_id) {
    self->owner_id = owner_id;
    self->room = fs_fast_ways && owner_id == self->tid ? self->capacity : 0;
    self->mutex_room = __libc_single_threaded ? 0 : self->room;
}

void fs_identify(struct fs_thread *self) { identify_as(self, fs_layout_own_id()); }

struct fs_thread *fs_thread_begin(struct fs_thread *thread) {
    thread->tid = fs_gettid();
    thread->owner_id = thread->tid;
    thread->handle = pthread_self();
    /* In one instruction: a signal handler may run before or after. */
    struct fs_thread *early = __sync_val_compare_and_swap(&fs_self, NULL, thread);
    if (early != NULL) { /* it did, and made a record: two with one tid would not do */
        thread->tid = 0;
        early->start = thread->start;
        early->argument = thread->argument;
        early->detached = thread->detached;
        fs_thread_release(thread);
        return early;
    }
    fs_fast_self = thread;
    note_exit(thread);
    fs_attach(thread, FS_ATTACHED);
    return thread;
}

/* With the lock, signals blocked. */
static void register_caller(void) {
    struct fs_thread *record = new_record(1);
    if (record != NULL) {
        record->tid = fs_gettid();
        record->owner_id = record->tid;
        record->handle = pthread_self();
        record->state = FS_ATTACHED;
        fs_self = record;
        fs_fast_self = record;
        set_exit_key(record);
    }
}

struct fs_thread *fs_adopt(void) {
    if (fs_self != NULL) {
        return fs_self;
    }
    fs_init();
    if (fs_self != NULL || ended || fs_config.mode == FS_MODE_OFF) {
        return fs_self;
    }
    fs_sigset saved = fs_signals_block();
    fs_registry_lock();
    register_caller();
    fs_registry_unlock();
    fs_signals_restore(saved);
    return fs_self;
}

void fs_registry_init(void) {
    registry.pid = (int)fs_syscall0(SYS_getpid);
    exit_key.ours = fs_real.pthread_key_create(&exit_key.number, at_thread_exit) == 0;
    fs_sigset saved = fs_signals_block();
    register_caller(); /* without the lock, which is in a page that is not to be written yet: nobody else is here */
    fs_signals_restore(saved);
}

/* --- the list -------------------------------------------------------------------------------- */

static struct fs_thread *next_record(const struct fs_thread *after) {
    const struct chunk *chunk = after == NULL ? fs_load_acquire(&registry.chunks) : chunk_of(after);
    size_t index = after == NULL ? 0 : index_of(after) + 1;
    for (; chunk != NULL; chunk = chunk->next, index = 0) {
        if (index < fs_load_acquire(&chunk->used)) {
            return (struct fs_thread *)&chunk->records[index];
        }
    }
    return NULL;
}

struct fs_thread *fs_thread_next(const struct fs_thread *after) {
    struct fs_thread *record = next_record(after);
    while (record != NULL && fs_load_acquire(&record->generation) != registry.generation) {
        record = next_record(record);
    }
    return record;
}

static bool is_left_behind(const struct fs_thread *record) {
    uint32_t generation = fs_load_acquire(&record->generation);
    return generation != 0 && generation != registry.generation;
}

struct fs_thread *fs_vanished_next(const struct fs_thread *after) {
    struct fs_thread *record = next_record(after);
    while (record != NULL && !is_left_behind(record)) {
        record = next_record(record);
    }
    return record;
}

struct fs_thread *fs_thread_by_owner_id(int owner_id) {
    FS_EACH_THREAD (thread) {
        if (thread->owner_id == owner_id) {
            return thread;
        }
    }
    return NULL;
}

void fs_registry_inspect(struct fs_registry_shape *shape) {
    *shape = (struct fs_registry_shape){.chunks = &registry.chunks,
                                        .generation = &registry.generation,
                                        .chunk_bytes = FS_CHUNK_BYTES,
                                        .chunk_next = offsetof(struct chunk, next),
                                        .chunk_used = offsetof(struct chunk, used),
                                        .chunk_records = offsetof(struct chunk, records)};
}

unsigned fs_thread_count(void) { return fs_load(&registry.count); }

bool fs_had_second_thread(void) { return fs_load(&registry.page_left_out); }

/* --- threads without a record ---------------------------------------------------------------- */

/* /proc/self/task has a link for each thread beside "." and "..": one call says how many there are
 * (fs/proc/base.c, proc_task_getattr). */
static long count_tasks(void) {
    struct stat task = {0};
    if (fs_syscall4(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &task, 0) != 0) {
        return -1;
    }
    return (long)task.st_nlink - 2;
}

static int tid_of(const char *name) {
    int tid = 0;
    for (; *name >= '0' && *name <= '9'; name++) {
        tid = tid * 10 + (*name - '0');
    }
    return tid;
}

static bool has_record(int tid) {
    FS_EACH_THREAD (thread) {
        if (thread->tid == tid) {
            return true;
        }
    }
    return false;
}

static int list_foreign(int fd, int *tids, int room) {
    int found = 0;
    _Alignas(struct dirent64) char buffer[2048] = {0};
    for (long got; (got = fs_syscall3(SYS_getdents64, fd, buffer, sizeof buffer)) > 0;) {
        for (long at = 0; at < got;) {
            const struct dirent64 *entry = (const struct dirent64 *)(buffer + at);
            at += entry->d_reclen;
            int tid = tid_of(entry->d_name);
            if (tid == 0 || has_record(tid)) {
                continue;
            }
            if (found < room) {
                tids[found] = tid;
            }
            found++;
        }
    }
    return found;
}

int fs_foreign_threads(int *tids, int room) {
    long tasks = count_tasks();
    if (tasks < 0) {
        return -1;
    }
    if (tasks <= (long)fs_thread_count()) {
        return 0;
    }
    long fd =
        fs_syscall4(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    int found = list_foreign((int)fd, tids, room);
    fs_syscall1(SYS_close, fd);
    return found;
}

void fs_thread_read_name(struct fs_thread *thread, int pid) {
    char line[FS_NAME_MAX + 1];
    long length = read_task_of(pid, thread->tid, "comm", line, sizeof line);
    struct fs_text text = fs_text(thread->name, sizeof thread->name);
    for (long i = 0; i + 1 < length; i++) { /* without the newline */
        fs_text_string(&text, (char[]){line[i], '\0'});
    }
    if (text.length == 0) {
        fs_text_string(&text, "?");
    }
}

/* --- in a forked child ----------------------------------------------------------------------- */

uint32_t fs_generation(void) { return registry.generation; }

bool fs_was_survivor(int owner_id, uint32_t generation) {
    uint32_t age = registry.generation - generation;
    return age > REMEMBERED || registry.survivors[generation % REMEMBERED] == owner_id;
}

void fs_registry_cut(struct fs_thread *survivor, bool by_fork) {
    registry.survivors[registry.generation % REMEMBERED] = survivor->owner_id;
    registry.generation++;
    registry.pid = (int)fs_syscall0(SYS_getpid);
    registry.count = 1;
    survivor->generation = registry.generation;
    survivor->tid = fs_gettid();
    identify_as(survivor, by_fork ? survivor->tid : fs_layout_own_id());
    survivor->owners = 1;
    fs_update(&survivor->pass, 0U);
    vanished.pending = true;
}

static void remember_vanished(pthread_t handle) {
    if (vanished.count == vanished.room) {
        size_t room = vanished.room == 0 ? 256 : vanished.room * 2;
        struct vanished *grown =
            fs_map_larger(vanished.items, vanished.room * sizeof *grown, room * sizeof *grown);
        if (grown == NULL) {
            return; /* the handle is then answered by glibc, as it is bare */
        }
        vanished.items = grown;
        vanished.room = room;
    }
    vanished.items[vanished.count++] = (struct vanished){.handle = handle};
}

static struct vanished *find_among(pthread_t handle, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (vanished.items[i].handle == handle) {
            return &vanished.items[i];
        }
    }
    return NULL;
}

static struct vanished *find_vanished(pthread_t handle) {
    return find_among(handle, vanished.count);
}

/* `lock` held. */
static void vanished_again(pthread_t handle) {
    struct vanished *item = find_vanished(handle);
    if (item != NULL) {
        item->reused = false;
    }
}

/* Turns the records that the fork left behind into handles and free records. Done when the list is
 * first needed, since most children only exec. `lock` held. */
static void gather_vanished(void) {
    if (fs_likely(!vanished.pending)) {
        return;
    }
    vanished.pending = false;
    size_t known = vanished.count; /* by earlier forks */
    FS_EACH_VANISHED (thread) {
        if (thread->handle != 0 && find_among(thread->handle, known) == NULL) {
            remember_vanished(thread->handle);
        }
        thread->detached = true; /* if it had a vanished one's handle, it has vanished itself */
        free_record(thread);
    }
}

static bool none_vanished(void) { return !fs_load(&vanished.pending) && vanished.count == 0; }

static struct fs_thread *find_live(pthread_t handle) {
    FS_EACH_THREAD (thread) {
        if (thread->handle == handle) {
            return thread;
        }
    }
    return NULL;
}

/* Every one of these is called with the list as it is at any time; under the lock it holds still.
 */
static fs_sigset lock_list(void) {
    fs_sigset saved = fs_signals_block();
    fs_registry_lock();
    gather_vanished();
    return saved;
}

static void unlock_list(fs_sigset saved) {
    fs_registry_unlock();
    fs_signals_restore(saved);
}

bool fs_is_vanished(pthread_t handle) {
    if (fs_likely(none_vanished())) {
        return false;
    }
    fs_sigset saved = lock_list();
    const struct vanished *item = find_vanished(handle);
    bool is_vanished = item != NULL && !item->reused;
    unlock_list(saved);
    return is_vanished;
}

void fs_vanished_reuse(pthread_t handle) {
    if (fs_likely(none_vanished())) {
        return;
    }
    fs_sigset saved = lock_list();
    struct vanished *item = find_vanished(handle);
    if (item != NULL) {
        item->reused = true;
    }
    unlock_list(saved);
}

void fs_vanished_joined(pthread_t handle) {
    if (fs_likely(none_vanished())) {
        return;
    }
    fs_sigset saved = lock_list();
    if (find_live(handle) == NULL) { /* not handed to yet another thread meanwhile */
        vanished_again(handle);
    }
    unlock_list(saved);
}

void fs_thread_detached(pthread_t handle) {
    fs_sigset saved = lock_list();
    struct fs_thread *thread = find_live(handle);
    if (thread != NULL) {
        thread->detached = true;
    } else {
        vanished_again(handle);
    }
    unlock_list(saved);
}
