/* registry.h - one record for each thread of the process, and the list of them all.
 *
 * A record is made by the creating thread, taken over by the new one, and given back on every way
 * out (return, pthread_exit, cancellation, C11). Records live in mapped chunks that never move and
 * are never unmapped: whoever walks the list needs no lock. A record belongs to the *generation* of
 * its process: in a forked child only the survivor is carried over, so that cutting the list down
 * to it writes to no other record (and copies no page). */
#ifndef FS_REGISTRY_H
#define FS_REGISTRY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "arch.h"
#include "sys.h"

/* What a thread is doing, as the others may rely on it.
 *
 *            blocking call                       park (gate, or suspend signal)
 *   DETACHED <-----------> ATTACHED <-----------> SUSPENDED
 *
 * Written by the thread itself alone, through fs_detach()/fs_attach() (blocking.h) and park()
 * (world.c). A signal handler of the program that runs inside a blocking call runs DETACHED: only
 * the depth says what it holds. */
enum fs_state { FS_ATTACHED, FS_DETACHED, FS_SUSPENDED };

enum fs_kind {
    FS_KIND_MUTEX,
    FS_KIND_RWLOCK_READ,
    FS_KIND_RWLOCK_WRITE,
    FS_KIND_SPIN,
    FS_KIND_SEMAPHORE,
    FS_KIND_FILE,
    FS_KIND_ONCE,
    FS_KIND_GUARD, /* a C++ function-local static under construction */
    FS_KIND_COND,  /* inside pthread_cond_signal, _broadcast or _destroy */
    FS_KIND_BARRIER,
    FS_KIND_THREAD,   /* waited for in pthread_join */
    FS_KIND_CRITICAL, /* inside a libc call that takes a lock of libc's own */
    FS_KIND_COUNT
};

enum fs_phase {
    FS_RESERVED, /* depth is raised, the entry not yet filled */
    FS_TAKING,   /* inside the call that takes it, maybe blocked there */
    FS_TRYING,   /* inside a call that takes it or fails at once */
    FS_HELD,
    FS_RELEASING, /* inside the call that gives it back */
};

/* One lock that a thread holds, takes or gives back, or one critical call that it is inside.
 * Written by its thread alone, but for `object`, which a thread that releases another's lock may
 * tag (fs_disown(), fs_disown_mutex()), and `outlasted`, which the forking thread sets. Of a simple mutex "held" may be
 * said a little too early and too late, and no frame noted: it says itself whose it is (fs_fast_mutex_enter()). */
struct fs_entry {
    void *object;
    const void *caller;
    uintptr_t frame; /* of the taking call: tells an entry that a longjmp left behind */
    union {
        struct {
            uint8_t kind;
            uint8_t phase;
            uint8_t outlasted; /* a fork has waited for it until its deadline: do not wait again */
        };
        uint32_t what; /* all three, for one store (FS_WHAT) */
    };
    uint32_t stack; /* where it was taken (stacks.h); 0 without FORKSAFE_STACKS */
};
#define FS_WHAT(kind, phase) ((uint32_t)(kind) | (uint32_t)(phase) << 8)
enum { FS_WAITED_TAKING = 1, FS_WAITED_HELD }; /* values of `outlasted` */

/* One wait that another thread must end. `mutex` is the condition variable's, or NULL. */
struct fs_wait {
    void *object;
    void *mutex;
    const void *caller;
    uintptr_t frame;
    uint8_t kind; /* FS_KIND_COND, _BARRIER, _SEMAPHORE or _THREAD */
};

/* What a thread of a watched child waits for (watchdog.h). */
struct fs_waited {
    const void *object; /* NULL: nothing */
    uint8_t kind;
};

/* FS_INLINE_WAITS: a wait nests in another only where a signal handler waits. */
enum { FS_INLINE_ENTRIES = 16, FS_INLINE_WAITS = 2, FS_NAME_MAX = 16 };

/* What each lock touches: the first line of a record and the one of an entry, the stop word, and the slot of the
 * global offset table that leads to fs_fast_self. Two lines at the same place in their pages share a set of the first
 * cache, and then a lock costs twice as much in some processes (AMD Zen; in others with the same addresses it does
 * not). So records stand where neither of the other two does (tests/bench/count looks). */
enum {
    FS_LINE_BYTES = 64,
    FS_RECORD_BYTES = 15 * FS_LINE_BYTES,
    FS_ENTRIES_AT = 7 * FS_LINE_BYTES, /* in a record */
    FS_STOP_AT = 2 * FS_LINE_BYTES,    /* in its page */
};

struct fs_thread {
    /* The hot path's line. Written by the thread itself; read by a forking thread that has set
     * world's stop word and run a membarrier, and by the child, where nothing moves. */
    uint32_t depth; /* entries in use; raised before the lock is taken (world.h) */
    /* Counts entries made with the stop word set, and those that moved: a walk over them was true if it has not
     * changed. */
    uint32_t takes;
    uint32_t capacity; /* entries that there is room for */
    uint32_t room;     /* the same, but 0 where the fast ways are off (fast.h) */
    struct fs_entry *entries;
    uint32_t state;      /* enum fs_state */
    uint32_t wait_count; /* may exceed FS_INLINE_WAITS: the outer waits are then not recorded */
    int owner_id; /* what glibc writes into a lock that this thread owns: its tid, as glibc knows it:
                   * fs_identify() */
    uint32_t mutex_room; /* as `room`, of mutexes: 0, too, while the process has one thread */
    uintptr_t detached_frame;
    fs_sigset follows;  /* former suspend signals that its mask has still to have in it; set by the
                         * thread that names one, cleared by itself */
    bool masks_suspend; /* the program believes that this thread blocks the suspend signal */
    bool vfork_masks;   /* ... that its vfork's child does */
    bool wants_fork;    /* waits for its turn to fork; set by itself (fork.c) */
    bool walks;         /* has the lock of walks: of what it takes then no stack is recorded */
    bool opened_unseen; /* has called dlopen without an entry; set by itself (hooks/loader.c) */

    /* Between a parked thread and the forking one (world.c). */
    bool by_signal;        /* parked by the suspend signal, not at the gate */
    bool summoned;         /* the suspend signal is to park it; by the forking thread */
    uint8_t wake_index;    /* its bit in futex wake-ups: fs_wake_bit() */
    int vfork_child;       /* the pid of its vfork's child; 0: none has changed its mask */
    uint32_t pass;         /* go on, though the world is stopped; set by itself, too; world.c */
    const void *registers; /* greg_t[] of where it stands; valid while SUSPENDED, like by_signal */
    uint16_t asked;        /* suspend signals sent; written by the forking thread */
    uint16_t answered;     /* suspend signals handled; written by the thread */
    uint16_t sent;         /* the same, each counted: tells ours from the program's; likewise */
    uint16_t seen;
    bool hopeless;           /* of no use to wait for; written by the forking thread */
    bool verdict;            /* the next value of `hopeless`, while it is worked out */
    bool behind_call;        /* waits for a libc lock that the forking thread has; likewise */
    bool seen_waiting;       /* for another thread; written and read by the forking thread */
    bool outstayed;          /* stood in an opaque module until a deadline; likewise */
    struct fs_waited waited; /* with FORKSAFE_WATCHDOG_MS; by itself */
    greg_t detached_registers[NGREG]; /* where it blocks; only with FORKSAFE_OPAQUE */

    /* Identity. Written before the thread runs, or by itself. */
    uint32_t generation; /* of the process that it lives in; 0: the record is free. Released last */
    int tid;
    pthread_t handle;
    union {
        void *(*posix)(void *);
        int (*c11)(void *);
    } start;
    union {
        void *argument;
        struct fs_thread *next_free; /* while the record is free */
    };
    uint32_t owners; /* the creator until it knows the handle, and the thread itself */
    uint8_t exit_rounds;
    bool detached;          /* nobody will join it; under the registry's lock once it runs */
    bool locks_files;       /* it locked a FILE, if only once; by itself */
    char name[FS_NAME_MAX]; /* filled before a fork that forces its holds */
    uintptr_t stood_at;     /* likewise: its instruction pointer, or 0; only with FORKSAFE_REPORT */

    struct fs_entry
        *retired; /* arrays outgrown, kept until the thread ends: a walker may read them */
    struct fs_wait waits[FS_INLINE_WAITS];
    struct fs_entry inline_entries[FS_INLINE_ENTRIES];
} __attribute__((aligned(FS_LINE_BYTES)));
_Static_assert(sizeof(struct fs_thread) == FS_RECORD_BYTES &&
                   __builtin_offsetof(struct fs_thread, detached_frame) < FS_LINE_BYTES &&
                   __builtin_offsetof(struct fs_thread, inline_entries) == FS_ENTRIES_AT,
               "FS_LINE_BYTES says why");

static inline uint32_t fs_wake_bit(const struct fs_thread *thread) {
    return UINT32_C(1) << thread->wake_index;
}

/* The calling thread's record; NULL before it has one and after it gave it back. */
extern FS_HIDDEN __thread struct fs_thread *fs_self __attribute__((tls_model("initial-exec")));

/* The same for the fast ways (fast.h), which are spared a look: in place of NULL a record that has no room. */
extern FS_HIDDEN __thread struct fs_thread *fs_fast_self __attribute__((tls_model("initial-exec")));

/* The calling thread's record, made if need be, so that threads that were not made through
 * pthread_create (raw clone, libc's own helper threads) are known from their first lock on. NULL
 * where there is no memory, in FORKSAFE_MODE=off, and in a thread that has already given its record
 * back: the caller then does without. Any state; not in the child before repair. */
struct fs_thread *fs_adopt(void);
static inline struct fs_thread *fs_current(void) {
    struct fs_thread *self = fs_self;
    return fs_likely(self != NULL) ? self : fs_adopt();
}

/* Reads the caller's owner_id from glibc. In the child of a raw fork that is the parent's tid, until the
 * program writes the true one over it, as Chromium does; meanwhile the caller goes no fast way (fast.h),
 * and asks again at its next slow one. */
void fs_identify(struct fs_thread *self);

/* Sets up the list and makes the calling thread's record. Once, at start-up. */
void fs_registry_init(void);

/* New records have room for the fast ways (fast.h). Written before the second thread. */
extern FS_HIDDEN bool fs_fast_ways;

/* A record for a thread about to be made, with two owners, or NULL where there is no memory. */
struct fs_thread *fs_thread_new(void);
/* Gives up one owner's share; the last one frees the record. */
void fs_thread_release(struct fs_thread *thread);
/* The new thread takes its record over, or another that a signal handler has made for it already: the one
 * that it has from now on. Runs in it, before its start routine. */
struct fs_thread *fs_thread_begin(struct fs_thread *thread);
/* The last use of the caller's record. Called when its destructors of thread-specific data are through,
 * as long as forksafe has a key of its own to know that by. */
void fs_thread_end(struct fs_thread *self);
bool fs_exits_are_noted(void);
/* Gives that key back, for a program that wants all PTHREAD_KEYS_MAX. From then on run_posix() and
 * run_c11() call fs_thread_end(), before the destructors: locks that these take are not seen. A thread
 * that leaves neither way (the first one, one that was there before and calls pthread_exit) leaves its
 * record behind. Returns false if that was done before. */
bool fs_give_exit_key(void);

/* The list. NULL: from the start; returns NULL at the end. Skips free and vanished records. Without
 * a lock the result may have ended or may be only half made: tid is then 0. */
struct fs_thread *fs_thread_next(const struct fs_thread *after);
#define FS_EACH_THREAD(t) for (struct fs_thread *t = fs_thread_next(NULL); t; t = fs_thread_next(t))
/* The same for the threads that the last fork left behind, in the child. */
struct fs_thread *fs_vanished_next(const struct fs_thread *after);
#define FS_EACH_VANISHED(t)                                                                        \
    for (struct fs_thread *t = fs_vanished_next(NULL); t; t = fs_vanished_next(t))

/* Counts the forks between this process and the one that loaded the library, from 1. */
uint32_t fs_generation(void);
/* True if the thread that had this owner_id in that generation is, after forks, the survivor that
 * this process began with; also where that is too long ago to be known. */
bool fs_was_survivor(int owner_id, uint32_t generation);

/* For readers from outside (inspect.h): where the list begins, and how its chunks are laid out. */
struct fs_registry_shape {
    const void *chunks; /* the address of the pointer to the newest chunk; that is NULL at first */
    const uint32_t *generation;
    uint32_t chunk_bytes; /* of a chunk; the oldest is smaller */
    uint32_t chunk_next;  /* offsets: of the pointer to the next older chunk */
    uint32_t chunk_used;  /* of the number of records in use, 32 bits */
    uint32_t chunk_records;
};
void fs_registry_inspect(struct fs_registry_shape *shape);

/* The one that a lock names by its owner_id. NULL: none has a record. */
struct fs_thread *fs_thread_by_owner_id(int owner_id);
unsigned fs_thread_count(void);
/* True from the second on that was ever counted, in a child, too. */
bool fs_had_second_thread(void);

/* Threads of the process that have no record: made by raw clone, or about to end. Counts them in
 * /proc/self/task and stores up to `room` of their tids; -1 where /proc cannot be read. */
int fs_foreign_threads(int *tids, int room);

/* True in a child of vfork: it has our memory, but signal actions and masks of its own. */
bool fs_in_vfork_child(void);

/* Reads /proc/self/task/TID/`file` as fs_read_file() does. */
long fs_read_task(int tid, const char *file, char *buffer, size_t size);
/* Fills in the name that the thread has now, "?" where it cannot be read. `pid`: of the process that it
 * lives in, 0 for this one. */
void fs_thread_read_name(struct fs_thread *thread, int pid);
/* True if the thread sleeps in a system call; false where /proc cannot be read. */
bool fs_task_sleeps(int tid);
/* True if the thread is on a processor at this moment; where the kernel does not tell, if it does not sleep. */
bool fs_task_runs(int tid);
/* The futex that the thread sleeps at; 0: none; FS_ANY_FUTEX where /proc cannot be read. */
#define FS_ANY_FUTEX UINTPTR_MAX
uintptr_t fs_task_futex(int tid);

/* Held by the forking thread around the fork itself, so that the child finds the list whole. */
void fs_registry_lock(void);
void fs_registry_unlock(void);
/* In the child: everybody but `survivor` has vanished. `by_fork`: it was made by glibc's own fork. */
void fs_registry_cut(struct fs_thread *survivor, bool by_fork);

/* The handles of vanished threads, of this process and its ancestors. glibc gives their stacks, and
 * with them their handles, to new threads; such a handle is the new thread's until that is joined,
 * or has ended detached, and a vanished one's again after that: its memory may be gone. */
bool fs_is_vanished(pthread_t handle);
/* A new thread has got this handle. */
void fs_vanished_reuse(pthread_t handle);
/* The thread with this handle was joined. */
void fs_vanished_joined(pthread_t handle);
/* The thread with this handle was detached. */
void fs_thread_detached(pthread_t handle);

#endif
