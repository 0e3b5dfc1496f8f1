// urcu FORKS [MODULE...]: liburcu's call_rcu worker thread and its handshake around fork.
//
// call_rcu_before_fork, as a prepare handler, asks the worker thread to pause and waits until it
// says so: a world stopped before the program's own handlers would wait for ever (or until a hold
// is forced). call_rcu_after_fork_child makes a new worker, inside a child handler: the child must
// be in order by then. The child does call_rcu and rcu_barrier, forks a grandchild which does the
// same, and does it again. A fork that finds the worker still "paused", or its lock held, hangs in
// that barrier.
//
// Two flavours, since the rules differ. With liburcu-memb no thread may be registered as a reader
// at a fork: the program's own prepare handler takes the lock under which its threads register.
// With liburcu-bp (compile with -DFLAVOUR_BP) threads read in the very moment of the fork, and its
// handlers drop vanished readers. In both, call_rcu itself is under that lock: its queue is for a
// few instructions in two pieces, which no handler mends. So both are valid programs on bare libc
// and pass there. The callbacks free memory, which liburcu's documents discourage together with
// pthread_atfork: glibc takes malloc's lock only after the program's prepare handlers since 2.24,
// so here it is safe.
//
// Compile: gcc -std=gnu11 -O2 -g urcu.c -o urcu -pthread -lurcu-memb -lurcu-common
//          gcc -std=gnu11 -O2 -g -DFLAVOUR_BP urcu.c -o urcu-bp -pthread -lurcu-bp -lurcu-common
#define _GNU_SOURCE
#include "../stress/watch.h"

#include <pthread.h>
#define URCU_API_MAP // the flavour's functions by their short names
#ifdef FLAVOUR_BP
#include <urcu/urcu-bp.h>
enum { READERS_MAY_VANISH = true };
#else
#include <urcu/urcu-memb.h>
enum { READERS_MAY_VANISH = false };
#endif

enum { THREADS = 4, BATCH = 16, CHILD_LIMIT_S = 30, RUN_LIMIT_S = 120 };

static struct shared { atomic_ulong beat, forks, hung, failed; } * shared;

struct item {
    struct rcu_head head;
    unsigned long value, inverse;
};

static struct item *current;
static pthread_mutex_t calling = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool stop;
static atomic_ulong called, freed; // this process's: callbacks asked for and done

static void fail(const char *what) {
    watch_say("urcu: pid %d: %s\n", (int)getpid(), what);
    atomic_fetch_add(&shared->failed, 1);
}

static void free_item(struct rcu_head *head) {
    free(caa_container_of(head, struct item, head));
    atomic_fetch_add(&freed, 1);
}

static void replace(unsigned long value) {
    struct item *fresh = malloc(sizeof *fresh);
    if (fresh == NULL) {
        abort();
    }
    fresh->value = value;
    fresh->inverse = ~value;
    struct item *old = rcu_xchg_pointer(&current, fresh);
    if (old != NULL) {
        atomic_fetch_add(&called, 1);
        call_rcu(&old->head, free_item);
    }
}

static void look(void) {
    rcu_read_lock();
    struct item *item = rcu_dereference(current);
    if (item != NULL && item->inverse != ~item->value) {
        fail("an item was freed under a reader");
    }
    rcu_read_unlock();
}

static void hold_off_forks(bool now) {
    if (now) {
        pthread_mutex_lock(&calling);
    }
}

static void allow_forks(bool now) {
    if (now) {
        pthread_mutex_unlock(&calling);
    }
}

static void batch(unsigned long value) {
    hold_off_forks(!READERS_MAY_VANISH);
    rcu_register_thread();
    for (unsigned long i = 0; i < BATCH; i++) {
        look();
        if (i % 4 == 0) {
            hold_off_forks(READERS_MAY_VANISH);
            replace(value + i);
            allow_forks(READERS_MAY_VANISH);
        }
    }
    rcu_unregister_thread();
    allow_forks(!READERS_MAY_VANISH);
}

static void *mutator(void *arg) {
    for (unsigned long n = 0; !atomic_load(&stop); n++) {
        batch((unsigned long)(uintptr_t)arg + n);
        // Without this the threads fill the one worker's queue faster than it is emptied.
        watch_pause_ms(1);
    }
    return NULL;
}

static void prepare_threads(void) { pthread_mutex_lock(&calling); }
static void release_threads(void) { pthread_mutex_unlock(&calling); }

// Prepare handlers run last registered first: no thread in call_rcu or (memb) registered, then the
// worker paused, then (bp) the registry and the grace period lock taken.
static void register_handlers(void) {
    int r = 0;
#ifdef FLAVOUR_BP
    r |= pthread_atfork(urcu_bp_before_fork, urcu_bp_after_fork_parent, urcu_bp_after_fork_child);
#endif
    r |=
        pthread_atfork(call_rcu_before_fork, call_rcu_after_fork_parent, call_rcu_after_fork_child);
    r |= pthread_atfork(prepare_threads, release_threads, release_threads);
    if (r != 0) {
        fail("pthread_atfork");
    }
}

// rcu_barrier waits for every callback, those that the vanished threads had asked for included.
static void use_rcu(unsigned long value) {
    batch(value);
    rcu_barrier();
    if (atomic_load(&called) != atomic_load(&freed)) {
        fail("rcu_barrier came back before every callback was done");
    }
}

static void child(void) {
    watch_die_after(2 * CHILD_LIMIT_S);
    use_rcu(1);
    pid_t pid = fork();
    if (pid == 0) {
        watch_die_after(2 * CHILD_LIMIT_S);
        use_rcu(3);
        _exit(0);
    }
    int status = pid > 0 ? watch_child(pid, CHILD_LIMIT_S / 2, "grandchild") : 1 << 8;
    if (status != 0) {
        fail(status == WATCH_HUNG ? "the grandchild hung" : "the grandchild failed");
        _exit(1);
    }
    use_rcu(2);
    _exit(0);
}

static int fork_all(long forks) {
    for (long i = 0; i < forks && shared->hung < 5; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            child();
        }
        atomic_fetch_add(&shared->forks, 1);
        int status = pid > 0 ? watch_child(pid, CHILD_LIMIT_S, "child") : 1 << 8;
        if (status == WATCH_HUNG) {
            atomic_fetch_add(&shared->hung, 1);
        } else if (status != 0) {
            fail(watch_status(status));
        }
    }
    return 0;
}

static bool is_mapped(const char *module) {
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps != NULL && !found && fgets(line, sizeof line, maps) != NULL) {
        found = strstr(line, module) != NULL;
    }
    if (maps != NULL) {
        fclose(maps);
    }
    return found;
}

static int run(int argc, char **argv) {
    pthread_t thread[THREADS];
    for (int i = 2; i < argc; i++) {
        if (!is_mapped(argv[i])) {
            watch_say("urcu: %s is not loaded\n", argv[i]);
            return 2;
        }
    }
    register_handlers();
    for (unsigned long i = 0; i < THREADS; i++) {
        if (pthread_create(&thread[i], NULL, mutator, (void *)(i << 32)) != 0) {
            fail("pthread_create");
            return 2;
        }
    }
    fork_all(atol(argv[1]));
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    use_rcu(9);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2 || atol(argv[1]) <= 0) {
        fprintf(stderr, "usage: %s FORKS [MODULE...]\n", argv[0]);
        return 2;
    }
    shared = watch_shared(sizeof *shared);
    int64_t start = watch_now_ms();
    // The whole run has the limit: were each fork and each child's fork to wait for a deadline of
    // half a second, 200 of them would not come through.
    int status = watch_monitor(run, argc, argv, RUN_LIMIT_S, NULL);
    if (status == WATCH_HUNG) {
        shared->hung++;
    } else if (status != 0) {
        shared->failed++;
    }
    printf("urcu: %lu forks, %lu hung, %lu failed, %ld ms a fork\n", shared->forks, shared->hung,
           shared->failed,
           (long)(watch_now_ms() - start) / (shared->forks > 0 ? (long)shared->forks : 1));
    return shared->hung == 0 && shared->failed == 0 && shared->forks == (unsigned long)atol(argv[1])
               ? 0
               : 1;
}
