// bench: one measurement in a process of its own, for the scripts beside it (run, count), which make it bare and
// preloaded. What is measured is named by words; results go to stdout, one word and its numbers a line.
//
//   bench pair BODY CROWD MS        "ns": how long one operation of BODY takes. CROWD is "alone" (one thread), "idle"
//                                   (beside a sleeping thread), or how many threads do it at once, to the same object;
//                                   but for "alone" the process has forked before
//   bench fork BESIDE N FORKS MS    "parent": ns until each fork returned there; "child": likewise. FORKS of them; or
//                                   as many as MS milliseconds have room for, or LEAST_FORKS if these take less than
//                                   six times as long
//   bench own BESIDE N FORKS MS     the same, with a third of LEAST_FORKS, but each fork followed by one made by the
//                                   bare system call, which no library sees: "raw_parent", "raw_child"
//   bench start RUNS LIB|-          "ns": of each run of `true`, preloaded with LIB
//   bench memory WHAT N             "bytes": resident memory for each of N threads (that held 16 locks once), of N
//                                   locks "used" one after another, or of N locks "held" at once
//   bench count BODY                makes COUNTED operations within the function counted(), for callgrind
//
// Exits 0, or 1 with a line on stderr if something failed, or 2 for bad usage.
#include <cxxabi.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <mutex>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <shared_mutex>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum {
    SLICES = 50,      // of one measurement: the middle one counts
    LEAST_FORKS = 34, // nine processes make 300 then
    MOST_FORKS = 1000,
    HELD_ONCE = 16,
    COUNTED = 100000,
    STACK = 64 * 1024, // small, so that huge pages have no part in what a thread takes
};

static void die(const char *what, int error) {
    fprintf(stderr, "bench: %s: %s\n", what, strerror(error));
    fflush(stderr);
    _exit(1);
}

static inline void must(int error) {
    if (__builtin_expect(error != 0, 0)) {
        die("a call of the workload", error > 0 ? error : errno);
    }
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) != 0) {
    }
}

static pthread_t start(void *(*routine)(void *), void *argument) {
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK);
    int error = pthread_create(&thread, &attr, routine, argument);
    if (error != 0) {
        die("pthread_create", error);
    }
    pthread_attr_destroy(&attr);
    return thread;
}

static void *sleep_for_ever(void *) {
    for (;;) {
        pause();
    }
}

// True once every other thread of this process is asleep in the kernel.
static bool all_asleep(void) {
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL) {
        die("/proc/self/task", errno);
    }
    bool asleep = true;
    while (struct dirent *task = readdir(tasks)) {
        char path[300], text[400];
        if (task->d_name[0] == '.' || atoi(task->d_name) == getpid()) {
            continue;
        }
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", task->d_name);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
        if (length > 0) {
            text[length] = 0;
            const char *state = strrchr(text, ')');
            asleep = asleep && state != NULL && state[1] == ' ' && state[2] == 'S';
        }
        if (file >= 0) {
            close(file);
        }
    }
    closedir(tasks);
    return asleep;
}

static void await_asleep(void) {
    while (!all_asleep()) {
        pause_ms(1);
    }
}

// ---- what is measured: bodies ----
// Each has its objects on cache lines of their own. A body for a crowd has some data under the lock.

#define ALIGNED __attribute__((aligned(128)))

static ALIGNED pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static ALIGNED pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static ALIGNED pthread_mutex_t errorcheck = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static ALIGNED pthread_mutex_t nested[4] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
                                            PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
static ALIGNED pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static ALIGNED pthread_spinlock_t spinlock;
static ALIGNED mtx_t mtx;
static ALIGNED sem_t semaphore;
static ALIGNED pthread_barrier_t barrier;
static ALIGNED std::mutex std_mutex;
static ALIGNED std::shared_mutex std_shared;
static ALIGNED volatile long data;

#define BODY(name, ...)                                                                            \
    static void body_##name(long n) {                                                              \
        for (long i = 0; i < n; i++) {                                                             \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    }
// A lock: alone, and with an access to the data under it, for a crowd.
#define LOCK(name, take, give, access)                                                             \
    BODY(name, take; give)                                                                         \
    BODY(crowd_##name, take; access; give)

LOCK(mutex, must(pthread_mutex_lock(&mutex)), must(pthread_mutex_unlock(&mutex)), data = data + 1)
LOCK(recursive, must(pthread_mutex_lock(&recursive)), must(pthread_mutex_unlock(&recursive)),
     data = data + 1)
LOCK(errorcheck, must(pthread_mutex_lock(&errorcheck)), must(pthread_mutex_unlock(&errorcheck)),
     data = data + 1)
LOCK(rdlock, must(pthread_rwlock_rdlock(&rwlock)), must(pthread_rwlock_unlock(&rwlock)), (void)data)
LOCK(wrlock, must(pthread_rwlock_wrlock(&rwlock)), must(pthread_rwlock_unlock(&rwlock)),
     data = data + 1)
LOCK(spin, must(pthread_spin_lock(&spinlock)), must(pthread_spin_unlock(&spinlock)),
     data = data + 1)
LOCK(mtx, must(mtx_lock(&mtx)), must(mtx_unlock(&mtx)), data = data + 1)
LOCK(sem, must(sem_wait(&semaphore)), must(sem_post(&semaphore)), data = data + 1)
LOCK(std_mutex, std_mutex.lock(), std_mutex.unlock(), data = data + 1)
LOCK(std_shared, std_shared.lock_shared(), std_shared.unlock_shared(), (void)data)
LOCK(std_exclusive, std_shared.lock(), std_shared.unlock(), data = data + 1)
BODY(trylock, must(pthread_mutex_trylock(&mutex)); must(pthread_mutex_unlock(&mutex)))
BODY(tryrdlock, must(pthread_rwlock_tryrdlock(&rwlock)); must(pthread_rwlock_unlock(&rwlock)))
BODY(mtx_trylock, must(mtx_trylock(&mtx)); must(mtx_unlock(&mtx)))

// One operation is one of the four pairs.
static void body_nested(long n) {
    for (long i = 0; i < n; i += 4) {
        for (int j = 0; j < 4; j++) {
            must(pthread_mutex_lock(&nested[j]));
        }
        for (int j = 4; j-- > 0;) {
            must(pthread_mutex_unlock(&nested[j]));
        }
    }
}

static void make_locks(void) {
    must(pthread_spin_init(&spinlock, PTHREAD_PROCESS_PRIVATE));
    must(mtx_init(&mtx, mtx_plain));
    must(sem_init(&semaphore, 0, 1));
}

// Two threads that take turns: one operation is there and back.
static pthread_cond_t to_us = PTHREAD_COND_INITIALIZER, to_partner = PTHREAD_COND_INITIALIZER;
static bool partners_turn;

static void *cond_partner(void *) {
    must(pthread_mutex_lock(&mutex));
    for (;;) {
        while (!partners_turn) {
            must(pthread_cond_wait(&to_partner, &mutex));
        }
        partners_turn = false;
        must(pthread_cond_signal(&to_us));
    }
    return NULL;
}
static void make_cond(void) { start(cond_partner, NULL); }
static void body_cond(long n) {
    must(pthread_mutex_lock(&mutex));
    for (long i = 0; i < n; i++) {
        partners_turn = true;
        must(pthread_cond_signal(&to_partner));
        while (partners_turn) {
            must(pthread_cond_wait(&to_us, &mutex));
        }
    }
    must(pthread_mutex_unlock(&mutex));
}

static void meet(void) {
    int r = pthread_barrier_wait(&barrier);
    must(r == PTHREAD_BARRIER_SERIAL_THREAD ? 0 : r);
}
static void *barrier_partner(void *) {
    for (;;) {
        meet();
    }
    return NULL;
}
static void make_barrier(void) {
    must(pthread_barrier_init(&barrier, NULL, 2));
    start(barrier_partner, NULL);
}
BODY(barrier, meet())

// A function-local static as gcc compiles it: a look at the guard, and what lies between the two calls.
struct made {
    volatile int value;
    explicit made(int v) : value(v) {}
};
static __attribute__((noinline)) int look_at_static(int v) {
    static made it(v);
    return it.value;
}
BODY(static_passed, must(look_at_static(0)))
static abi::__guard guard;
BODY(static_made, guard = 0; must(abi::__cxa_guard_acquire(&guard) != 1);
     abi::__cxa_guard_release(&guard))

// ---- blocking calls: none of them has to wait ----

static int ends[2], poller;
static char bytes[64];

static void make_pipe(void) { must(pipe2(ends, O_CLOEXEC)); }
static void make_ready(void) {
    struct epoll_event event = {};
    event.events = EPOLLIN;
    make_pipe();
    must(write(ends[1], "x", 1) != 1);
    poller = epoll_create1(EPOLL_CLOEXEC);
    must(epoll_ctl(poller, EPOLL_CTL_ADD, ends[0], &event));
}
// Otherwise a timer that is due may fire 50 us late, which is all that would be seen.
static void make_punctual(void) { must(prctl(PR_SET_TIMERSLACK, 1)); }

BODY(pipe, must(write(ends[1], bytes, sizeof bytes) != sizeof bytes);
     must(read(ends[0], bytes, sizeof bytes) != sizeof bytes))
BODY(poll, struct pollfd ready = {ends[0], POLLIN, 0}; must(poll(&ready, 1, -1) != 1))
BODY(epoll, struct epoll_event ready; must(epoll_wait(poller, &ready, 1, -1) != 1))
BODY(nanosleep, struct timespec none = {}; must(nanosleep(&none, NULL)))

// ---- critical calls, and the allocator, which is none ----

static void *volatile allocated;
static volatile long drawn;

BODY(localtime, time_t moment = 1700000000 + i; struct tm tm;
     must(localtime_r(&moment, &tm) == NULL))
BODY(random, drawn = random())
BODY(environment, must(setenv("BENCH_VARIABLE", "1", 1)); must(getenv("BENCH_VARIABLE") == NULL))
BODY(dlsym, must(dlsym(RTLD_DEFAULT, "qsort") == NULL))
BODY(malloc, allocated = malloc(64); free(allocated))

static const struct body {
    const char *name;
    void (*run)(long n);
    void (*crowd)(long n); // by several threads at once, or NULL
    void (*make)(void);
} bodies[] = {
    {"mutex", body_mutex, body_crowd_mutex, NULL},
    {"recursive", body_recursive, body_crowd_recursive, NULL},
    {"errorcheck", body_errorcheck, body_crowd_errorcheck, NULL},
    {"nested", body_nested, NULL, NULL},
    {"trylock", body_trylock, NULL, NULL},
    {"rdlock", body_rdlock, body_crowd_rdlock, NULL},
    {"wrlock", body_wrlock, body_crowd_wrlock, NULL},
    {"tryrdlock", body_tryrdlock, NULL, NULL},
    {"spin", body_spin, body_crowd_spin, make_locks},
    {"mtx", body_mtx, body_crowd_mtx, make_locks},
    {"mtx_trylock", body_mtx_trylock, NULL, make_locks},
    {"sem", body_sem, body_crowd_sem, make_locks},
    {"cond", body_cond, NULL, make_cond},
    {"barrier", body_barrier, NULL, make_barrier},
    {"std_mutex", body_std_mutex, body_crowd_std_mutex, NULL},
    {"std_shared", body_std_shared, body_crowd_std_shared, NULL},
    {"std_exclusive", body_std_exclusive, body_crowd_std_exclusive, NULL},
    {"static_passed", body_static_passed, NULL, NULL},
    {"static_made", body_static_made, NULL, NULL},
    {"pipe", body_pipe, NULL, make_pipe},
    {"poll", body_poll, NULL, make_ready},
    {"epoll", body_epoll, NULL, make_ready},
    {"nanosleep", body_nanosleep, NULL, make_punctual},
    {"localtime", body_localtime, NULL, NULL},
    {"random", body_random, NULL, NULL},
    {"environment", body_environment, NULL, NULL},
    {"dlsym", body_dlsym, NULL, NULL},
    {"malloc", body_malloc, NULL, NULL},
};

static const struct body *body_called(const char *name) {
    for (const struct body &body : bodies) {
        if (strcmp(body.name, name) == 0) {
            if (body.make != NULL) {
                body.make();
            }
            return &body;
        }
    }
    fprintf(stderr, "bench: no body '%s'\n", name);
    _exit(2);
}

// ---- pair ----

static uint64_t run_ns(const struct body *body, long n) {
    uint64_t begin = now_ns();
    body->run(n);
    return now_ns() - begin;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The middle one of the slices: whoever else uses the machine spoils some of them, and not the others.
static double measure(const struct body *body, long ms) {
    double ns[SLICES], slice = (double)ms * 1e6 / SLICES;
    long n = 16;
    uint64_t took;
    // This is the warming up, too.
    while ((took = run_ns(body, n)) < slice / 2) {
        n *= 2;
    }
    n = (long)((double)n * slice / (double)took) / 4 * 4 + 4;
    for (double &each : ns) {
        each = (double)run_ns(body, n) / (double)n;
    }
    qsort(ns, SLICES, sizeof ns[0], by_size);
    return (ns[SLICES / 2 - 1] + ns[SLICES / 2]) / 2;
}

struct worker {
    const struct body *body;
    long done;
};
static bool crowd_goes, crowd_ends;

static void *work(void *argument) {
    struct worker *worker = (struct worker *)argument;
    long done = 0;
    while (!__atomic_load_n(&crowd_goes, __ATOMIC_ACQUIRE)) {
        thrd_yield();
    }
    for (; !__atomic_load_n(&crowd_ends, __ATOMIC_RELAXED); done += 50) {
        worker->body->crowd(50);
    }
    worker->done = done;
    return NULL;
}

// Time on the clock for each operation of all of them together.
static double measure_crowd(const struct body *body, int threads, long ms) {
    struct worker workers[64] = {};
    pthread_t thread[64];
    if (body->crowd == NULL || threads < 1 || threads > 64) {
        die("a crowd for this body, or of this size", EINVAL);
    }
    for (int i = 0; i < threads; i++) {
        workers[i].body = body;
        thread[i] = start(work, &workers[i]);
    }
    uint64_t begin = now_ns();
    __atomic_store_n(&crowd_goes, true, __ATOMIC_RELEASE);
    pause_ms(ms);
    __atomic_store_n(&crowd_ends, true, __ATOMIC_RELAXED);
    long done = 0;
    for (int i = 0; i < threads; i++) {
        must(pthread_join(thread[i], NULL));
        done += workers[i].done;
    }
    return (double)(now_ns() - begin) / (double)done;
}

// Locks cost the same after a fork as before: whoever is preloaded is so because it forks.
static void idle_and_forked(void) {
    start(sleep_for_ever, NULL);
    await_asleep();
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    must(pid < 0 || waitpid(pid, NULL, 0) != pid);
}

static void pair(const char *name, const char *crowd, long ms) {
    const struct body *body = body_called(name);
    if (strcmp(crowd, "alone") != 0) {
        idle_and_forked();
    }
    bool many = crowd[0] >= '1' && crowd[0] <= '9';
    printf("ns %.4f\n", many ? measure_crowd(body, atoi(crowd), ms) : measure(body, ms));
}

// ---- count ----

extern "C" __attribute__((noinline, used)) void counted(void (*run)(long n)) {
    run(COUNTED);
    __asm__ volatile(""); // no tail call: then callgrind would not see its end
}

static void count(const char *name) {
    const struct body *body = body_called(name);
    idle_and_forked();
    body->run(16);
    counted(body->run);
    printf("operations %d\n", COUNTED);
}

// ---- fork ----

static pthread_mutex_t crowd_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t crowd_cond = PTHREAD_COND_INITIALIZER;
static long crowd_arrived;

static void *wait_cond(void *) {
    pthread_mutex_lock(&crowd_mutex);
    for (;;) {
        pthread_cond_wait(&crowd_cond, &crowd_mutex);
    }
    return NULL;
}
static void *wait_read(void *) {
    char byte;
    for (;;) {
        must(read(ends[0], &byte, 1) < 0);
    }
    return NULL;
}
static void *wait_epoll(void *) {
    struct epoll_event event;
    for (;;) {
        must(epoll_wait(poller, &event, 1, -1) < 0);
    }
    return NULL;
}
static void *compute(void *) {
    volatile unsigned long x = 1;
    __atomic_add_fetch(&crowd_arrived, 1, __ATOMIC_RELAXED);
    for (;;) {
        x = x * 6364136223846793005UL + 1442695040888963407UL;
    }
    return NULL;
}
static void *churn(void *) {
    static ALIGNED pthread_mutex_t locks[16]; // zero is free
    __atomic_add_fetch(&crowd_arrived, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0;; i++) {
        must(pthread_mutex_lock(&locks[i % 16]));
        data = data + 1;
        must(pthread_mutex_unlock(&locks[i % 16]));
    }
    return NULL;
}
static void *end_at_once(void *) { return NULL; }

static void blocked(void *(*routine)(void *), long n) {
    for (long i = 0; i < n; i++) {
        start(routine, NULL);
    }
    await_asleep();
}
static void busy(void *(*routine)(void *), long n) {
    for (long i = 0; i < n; i++) {
        start(routine, NULL);
    }
    while (__atomic_load_n(&crowd_arrived, __ATOMIC_RELAXED) < n) {
        thrd_yield();
    }
}

static void beside_cond(long n) {
    // Beside no thread: but there was one.
    must(pthread_join(start(end_at_once, NULL), NULL));
    blocked(wait_cond, n);
}
static void beside_read(long n) {
    make_pipe();
    blocked(wait_read, n);
}
static void beside_epoll(long n) {
    poller = epoll_create1(EPOLL_CLOEXEC);
    blocked(wait_epoll, n);
}
static void beside_compute(long n) { busy(compute, n); }
static void beside_churn(long n) { busy(churn, n); }
static void beside_held(long n) {
    pthread_mutex_t *locks =
        (pthread_mutex_t *)calloc((size_t)n + 1, sizeof *locks); // zero is free
    must(locks == NULL);
    for (long i = 0; i < n; i++) {
        must(pthread_mutex_lock(&locks[i]));
    }
    blocked(sleep_for_ever, 1);
}
static void beside_resident(long mebibytes) {
    size_t size = (size_t)mebibytes << 20;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(memory == MAP_FAILED);
    madvise(memory, size, MADV_NOHUGEPAGE); // else it would be 128 pages, and no work
    memset(memory, 1, size);
    blocked(sleep_for_ever, 1);
}
static void beside_nothing(long) {}

static const struct beside {
    const char *name;
    void (*make)(long n);
    bool exec; // the child executes `true`, and the time is that until its end
} besides[] = {
    {"cond", beside_cond, false},          {"read", beside_read, false},
    {"epoll", beside_epoll, false},        {"compute", beside_compute, false},
    {"churn", beside_churn, false},        {"held", beside_held, false},
    {"resident", beside_resident, false},  {"single", beside_nothing, false},
    {"exec_single", beside_nothing, true}, {"exec", beside_cond, true},
};

// The child's clock as it comes out of the fork; in memory that it shares with its parent.
static uint64_t *out_in_child;

static long raw(long number, long a, long b, long c, long d, long e) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

static pid_t raw_fork(void) { return (pid_t)raw(SYS_clone, SIGCHLD, 0, 0, 0, 0); }

static uint64_t one_fork(pid_t (*make)(void), bool exec, uint64_t *child) {
    uint64_t begin = now_ns();
    pid_t pid = make();
    if (pid == 0) {
        *out_in_child = now_ns();
        if (exec) {
            execl("/bin/true", "true", (char *)NULL);
        }
        raw(SYS_exit_group, exec, 0, 0, 0, 0);
    }
    uint64_t took = now_ns() - begin;
    int status;
    if (pid < 0) {
        die("fork", make == raw_fork ? -pid : errno);
    }
    must(waitpid(pid, &status, 0) != pid);
    *child = *out_in_child - begin;
    if (exec) {
        took = now_ns() - begin;
    }
    if (status != 0) {
        die("a child ended otherwise than it should", EPROTO);
    }
    return took;
}

static void print(const char *name, const uint64_t *numbers, long count) {
    printf("%s", name);
    for (long i = 0; i < count; i++) {
        printf(" %lu", numbers[i]);
    }
    printf("\n");
}

static void forks(const char *name, long n, long count, long ms, bool own) {
    static uint64_t parent[MOST_FORKS], child[MOST_FORKS], raw_parent[MOST_FORKS],
        raw_child[MOST_FORKS];
    const struct beside *beside = NULL;
    for (const struct beside &each : besides) {
        if (strcmp(each.name, name) == 0) {
            beside = &each;
        }
    }
    if (beside == NULL || n < 0 || count < 1 || count > MOST_FORKS) {
        fprintf(stderr, "bench: fork beside %ld '%s', %ld times: no such thing\n", n, name, count);
        _exit(2);
    }
    void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(shared == MAP_FAILED);
    out_in_child = (uint64_t *)shared;
    beside->make(n);
    for (int i = 0; i < 5; i++) {
        one_fork(fork, beside->exec, &child[0]);
    }
    uint64_t begin = now_ns(), most = (uint64_t)ms * 1000000;
    long i = 0, least = own ? LEAST_FORKS / 3 : LEAST_FORKS;
    for (uint64_t took = 0; i < count && took < (i < least ? 6 * most : most);
         took = now_ns() - begin, i++) {
        parent[i] = one_fork(fork, beside->exec, &child[i]);
        if (own) {
            raw_parent[i] = one_fork(raw_fork, beside->exec, &raw_child[i]);
        }
    }
    print("parent", parent, i);
    print("child", child, i);
    if (own) {
        print("raw_parent", raw_parent, i);
        print("raw_child", raw_child, i);
    }
}

// ---- start ----

static void starts(long runs, const char *lib) {
    extern char **environ;
    char *argv[] = {(char *)"true", NULL};
    if (runs < 1 || runs > MOST_FORKS) {
        die("so many runs", EINVAL);
    }
    if (strcmp(lib, "-") != 0) {
        must(setenv("LD_PRELOAD", lib, 1));
    }
    printf("ns");
    for (long i = -3; i < runs; i++) { // the first three warm up
        pid_t pid;
        int status;
        uint64_t begin = now_ns();
        must(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ));
        must(waitpid(pid, &status, 0) != pid);
        uint64_t took = now_ns() - begin;
        if (status != 0) {
            die("true", EPROTO);
        }
        if (i >= 0) {
            printf(" %lu", took);
        }
    }
    printf("\n");
}

// ---- memory ----

// From the page tables: the counters in statm may be some pages behind.
static double resident_bytes(void) {
    static char text[4096];
    int file = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (length <= 0) {
        die("/proc/self/smaps_rollup", errno);
    }
    text[length] = 0;
    const char *line = strstr(text, "\nRss:");
    close(file);
    must(line == NULL);
    return atof(line + 5) * 1024;
}

static pthread_mutex_t once_held[HELD_ONCE]; // zero is free

static void *hold_then_wait(void *) {
    for (pthread_mutex_t &lock : once_held) {
        must(pthread_mutex_lock(&lock));
    }
    for (int i = HELD_ONCE; i-- > 0;) {
        must(pthread_mutex_unlock(&once_held[i]));
    }
    return wait_cond(NULL);
}

static void memory(const char *what, long n) {
    pthread_mutex_t *locks = NULL;
    bool threads = strcmp(what, "threads") == 0, held = strcmp(what, "held") == 0;
    if (n < 1 || (!threads && !held && strcmp(what, "used") != 0)) {
        fprintf(stderr, "bench: no memory of %ld '%s'\n", n, what);
        _exit(2);
    }
    blocked(hold_then_wait, 10); // what the first ones cause is not counted
    if (!threads) {
        // Zero is free. What is counted is not this memory, so it is resident from here on.
        locks = (pthread_mutex_t *)mmap(NULL, (size_t)n * sizeof *locks, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        must(locks == MAP_FAILED);
    }
    resident_bytes();
    double before = resident_bytes();
    if (threads) {
        blocked(hold_then_wait, n);
    }
    for (long i = 0; i < n && !threads; i++) {
        must(pthread_mutex_lock(&locks[i]));
        if (!held) {
            must(pthread_mutex_unlock(&locks[i]));
        }
    }
    printf("bytes %.3f\n", (resident_bytes() - before) / (double)n);
}

// ---- main ----

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "pair") == 0 && argc == 5) {
        pair(argv[2], argv[3], atol(argv[4]));
    } else if ((strcmp(what, "fork") == 0 || strcmp(what, "own") == 0) && argc == 6) {
        forks(argv[2], atol(argv[3]), atol(argv[4]), atol(argv[5]), what[0] == 'o');
    } else if (strcmp(what, "start") == 0 && argc == 4) {
        starts(atol(argv[2]), argv[3]);
    } else if (strcmp(what, "memory") == 0 && argc == 4) {
        memory(argv[2], atol(argv[3]));
    } else if (strcmp(what, "count") == 0 && argc == 3) {
        count(argv[2]);
    } else {
        fprintf(stderr,
                "usage: bench pair|fork|own|start|memory|count ARGUMENTS; see its source\n");
        return 2;
    }
    fflush(stdout);
    _exit(0); // the other threads need not end
}
