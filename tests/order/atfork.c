// atfork [--owned]: the order of fork handlers, and what state they find the world in.
//
// Registers handlers from a library's constructor, from the program's own, from main, from a second
// thread, from an opened (and later closed) library and from inside a prepare handler, some without
// one or two of the three functions. Forks with threads at work, and the child forks again. Every
// handler's name goes to a list; parent's and children's lists go to stdout. They must be the same
// with and without forksafe.
//
// Beside that, and bare as well:
// - prepare and parent handlers find the other threads running: each waits (20 s at most) until
//   a worker has gone three times through a mutex;
// - mutexes taken in prepare are released in parent and child, by unlock calls that return 0;
// - a child handler creates and joins a thread that takes those mutexes.
// --owned adds the kinds whose owner is checked. Bare libc refuses those in the child (EPERM): the
// same program must come out wrong there, right with forksafe.
//
// Compile: gcc -std=gnu11 -O2 -g -rdynamic atfork.c -o atfork_order -pthread
//              -Wl,--no-as-needed -L. -latfork_linked '-Wl,-rpath,$ORIGIN'
// (libatfork_opened.so is looked for beside the program)
#define _GNU_SOURCE
#include "../stress/watch.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>

enum { NOTES = 256, CHILD_LIMIT_S = 60, RUN_LIMIT_S = 200, WORKER_LIMIT_S = 20, WORKERS = 3 };

static const char *notes[NOTES];
static int note_count;
static int failures;
static bool owned, use_late;

void atfork_note(const char *what);

// Only the forking thread runs handlers, so the list needs no lock.
void atfork_note(const char *what) {
    if (note_count < NOTES) {
        notes[note_count++] = what;
    }
}

static void fail(const char *what) {
    watch_say("atfork: pid %d: %s\n", (int)getpid(), what);
    failures++;
}

static void print_notes(const char *who) {
    // One write for each list: parent and child share the stream.
    char text[8192];
    int n = snprintf(text, sizeof text, "%s:\n", who);
    for (int i = 0; i < note_count && n < (int)sizeof text - 100; i++) {
        n += snprintf(text + n, sizeof text - (size_t)n, "  %s\n", notes[i]);
    }
    if (write(STDOUT_FILENO, text, (size_t)n) != n) {
        fail("write");
    }
    note_count = 0;
}

// ---- Workers, and handlers that need them ----

static pthread_mutex_t worker_mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_long worker_rounds;
static _Atomic bool stop;

static void *worker(void *arg) {
    (void)arg;
    while (!atomic_load(&stop)) {
        pthread_mutex_lock(&worker_mutex);
        atomic_fetch_add(&worker_rounds, 1);
        pthread_mutex_unlock(&worker_mutex);
        watch_pause_ms(1);
    }
    return NULL;
}

static void expect_running(const char *when) {
    long before = atomic_load(&worker_rounds);
    int64_t end = watch_now_ms() + WORKER_LIMIT_S * 1000L;
    while (atomic_load(&worker_rounds) < before + 3) {
        if (watch_now_ms() > end) {
            fail(when);
            return;
        }
        watch_pause_ms(1);
    }
}

static bool there_are_workers;

// In the child nobody but the forking thread is left: the handlers there ask for no worker.
static void prepare_runs(void) {
    atfork_note("prepare runs");
    if (there_are_workers) {
        expect_running("the workers stand still in a prepare handler");
    }
    // Held over the fork, else a vanished worker holds it there: bare, the child could not use it.
    pthread_mutex_lock(&worker_mutex);
}
static void parent_runs(void) {
    atfork_note("parent runs");
    pthread_mutex_unlock(&worker_mutex);
    if (there_are_workers) {
        expect_running("the workers stand still in a parent handler");
    }
}
static void child_runs(void) {
    atfork_note("child runs");
    pthread_mutex_unlock(&worker_mutex);
    there_are_workers = false;
}

// ---- Handlers that hold locks over the fork ----

static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_mutex_t errorcheck = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static pthread_mutex_t robust, inherit;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

static void init_owned(void) {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &a);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_STALLED);
    pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&inherit, &a);
    pthread_mutexattr_destroy(&a);
}

static void expect_zero(int r, const char *call) {
    if (r != 0) {
        char text[100];
        snprintf(text, sizeof text, "%s: %s", call, strerror(r));
        fail(text);
    }
}

static void lock_all(void) {
    expect_zero(pthread_mutex_lock(&plain), "lock of a plain mutex");
    if (owned) {
        expect_zero(pthread_mutex_lock(&recursive), "lock of a recursive mutex");
        expect_zero(pthread_mutex_lock(&recursive), "second lock of a recursive mutex");
        expect_zero(pthread_mutex_lock(&errorcheck), "lock of an error-checking mutex");
        expect_zero(pthread_mutex_lock(&robust), "lock of a robust mutex");
        expect_zero(pthread_mutex_lock(&inherit), "lock of a PI mutex");
        expect_zero(pthread_rwlock_wrlock(&rwlock), "lock of an rwlock");
    }
}

static void unlock_all(void) {
    expect_zero(pthread_mutex_unlock(&plain), "unlock of a plain mutex");
    if (owned) {
        expect_zero(pthread_mutex_unlock(&recursive), "unlock of a recursive mutex");
        expect_zero(pthread_mutex_unlock(&recursive), "second unlock of a recursive mutex");
        expect_zero(pthread_mutex_unlock(&errorcheck), "unlock of an error-checking mutex");
        expect_zero(pthread_mutex_unlock(&robust), "unlock of a robust mutex");
        expect_zero(pthread_mutex_unlock(&inherit), "unlock of a PI mutex");
        expect_zero(pthread_rwlock_unlock(&rwlock), "unlock of an rwlock");
    }
}

static void prepare_locks(void) {
    atfork_note("prepare locks");
    lock_all();
}
static void parent_locks(void) {
    atfork_note("parent locks");
    unlock_all();
}
static void child_locks(void) {
    atfork_note("child locks");
    unlock_all();
}

// ---- A child handler that creates a thread ----

// After an unlock that failed they are held for ever: that was said already, and need not hang too.
static void use_locks(void) {
    if (failures == 0) {
        lock_all();
        unlock_all();
    }
}

static void *lock_and_unlock(void *arg) {
    (void)arg;
    use_locks();
    return NULL;
}

static void child_creates(void) {
    pthread_t thread;
    atfork_note("child creates");
    int r = pthread_create(&thread, NULL, lock_and_unlock, NULL);
    expect_zero(r, "pthread_create in a child handler");
    if (r == 0) {
        expect_zero(pthread_join(thread, NULL), "pthread_join in a child handler");
    }
}

// ---- Handlers that only say their name ----

#define NAMED(name)                                                                                \
    static void prepare_##name(void) { atfork_note("prepare " #name); }                            \
    static void parent_##name(void) { atfork_note("parent " #name); }                              \
    static void child_##name(void) { atfork_note("child " #name); }
NAMED(constructor)
NAMED(main)
NAMED(thread)
NAMED(late)
static void prepare_only(void) { atfork_note("prepare only"); }
static void parent_only(void) { atfork_note("parent only"); }
static void child_only(void) { atfork_note("child only"); }

static void prepare_registers(void) {
    atfork_note("prepare registers");
    if (use_late) {
        use_late = false;
        pthread_atfork(prepare_late, parent_late, child_late);
    }
}

__attribute__((constructor)) static void register_early(void) {
    pthread_atfork(prepare_constructor, parent_constructor, child_constructor);
}

static void *register_in_thread(void *arg) {
    (void)arg;
    pthread_atfork(prepare_thread, parent_thread, child_thread);
    return NULL;
}

// ---- The runs ----

static int fork_and_list(const char *parent, const char *child, bool again) {
    pid_t pid = fork();
    if (pid == 0) {
        watch_die_after(2 * CHILD_LIMIT_S);
        print_notes(child);
        use_locks();
        if (again && failures == 0) {
            fork_and_list("child, second fork", "grandchild", false);
        }
        _exit(failures == 0 ? 0 : 1);
    }
    // The child's list first, so that the output has one order.
    int status = pid > 0 ? watch_child(pid, CHILD_LIMIT_S, child) : 1 << 8;
    if (status != 0) {
        fail(watch_status(status));
    }
    print_notes(parent);
    return status;
}

static void *open_plugin(const char *program) {
    char path[PATH_MAX];
    const char *slash = strrchr(program, '/');
    snprintf(path, sizeof path, "%.*s/libatfork_opened.so",
             slash != NULL ? (int)(slash - program) : 1, slash != NULL ? program : ".");
    void *plugin = dlopen(path, RTLD_NOW);
    if (plugin == NULL) {
        fail(dlerror());
    }
    return plugin;
}

static int run(int argc, char **argv) {
    pthread_t thread[WORKERS];
    note_count = 0; // the monitor's own fork ran the constructors' handlers
    owned = argc > 1 && strcmp(argv[1], "--owned") == 0;
    init_owned();
    fork_and_list("parent, one thread", "child, one thread", false);

    pthread_atfork(prepare_main, parent_main, child_main);
    pthread_atfork(prepare_runs, parent_runs, child_runs);
    pthread_atfork(prepare_locks, parent_locks, child_locks);
    pthread_atfork(NULL, NULL, child_creates);
    pthread_atfork(prepare_only, NULL, NULL);
    pthread_atfork(NULL, parent_only, NULL);
    pthread_atfork(NULL, NULL, child_only);
    pthread_atfork(NULL, NULL, NULL);
    pthread_atfork(prepare_registers, NULL, NULL);
    pthread_create(&thread[0], NULL, register_in_thread, NULL);
    pthread_join(thread[0], NULL);

    there_are_workers = true;
    for (int i = 0; i < WORKERS; i++) {
        expect_zero(pthread_create(&thread[i], NULL, worker, NULL), "pthread_create");
    }
    fork_and_list("parent", "child", true);
    void *plugin = open_plugin(argv[0]);
    fork_and_list("parent, library opened", "child, library opened", true);
    if (plugin != NULL && dlclose(plugin) != 0) {
        fail(dlerror());
    }
    fork_and_list("parent, library closed", "child, library closed", true);
    use_late = true;
    fork_and_list("parent, registered in prepare", "child, registered in prepare", true);
    fork_and_list("parent, after that", "child, after that", true);

    atomic_store(&stop, true);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(thread[i], NULL);
    }
    return failures == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
    int status = watch_monitor(run, argc, argv, RUN_LIMIT_S, NULL);
    fprintf(stderr, "atfork: %s\n",
            status == 0 ? "all handlers found what they need" : watch_status(status));
    return status == WATCH_HUNG ? WATCH_EXIT_HUNG : status != 0;
}
