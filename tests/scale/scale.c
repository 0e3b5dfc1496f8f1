// scale [--bare] [--limit SECONDS] SUBCOMMAND [N] | --bare-ok: forks beside very many threads,
// locks and generations.
//
//   threads N      forks beside N threads that wait for one condition variable; the child takes
//                  all locks, creates 100 threads, and wakes them by the same condition variable
//   churn N        N threads, one after another, ended in every way: memory must stay flat
//   locks N        N locks held by the forking thread, or by another; the child takes them all
//   generations N  child of a child of a child ..., each with threads and forks of its own
//   joins N        1,000 threads vanish; the child asks after each, creates and joins N of its own
//
// One line on stdout. Exits 0 if all went well, 1 if not, 124 if something hung, 2 for bad usage.
// --bare leaves out what bare libc cannot do after a fork (see the table at the end): then every
// subcommand is a valid program and passes there. Without it they hang or fail on bare libc, but
// for those that --bare-ok lists.
//
// Compile: gcc -std=gnu11 -O2 -g scale.c -o scale -pthread
#define _GNU_SOURCE
#include "../stress/watch.h"

#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <threads.h>

enum { STALL_LIMIT_S = 150, MEBIBYTE = 1 << 20 };

static struct shared {
    atomic_ulong beat, failed, torn;
    long rss[256];
} * shared;

static bool bare;
static int child_limit_s = 60; // how long a child may take before it counts as hung

static void beat(void) { atomic_fetch_add(&shared->beat, 1); }

// Many thousands may fail in the same way: the first ten are enough to read.
__attribute__((format(printf, 1, 2))) static void fail(const char *format, ...) {
    if (atomic_fetch_add(&shared->failed, 1) >= 10) {
        return;
    }
    char text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    watch_say("scale: pid %d: %s\n", (int)getpid(), text);
}

static void zero(int r, const char *call) {
    if (r != 0) {
        fail("%s: %s", call, strerror(r));
    }
}

static unsigned pick(unsigned long *random, unsigned n) {
    *random = *random * 6364136223846793005UL + 1442695040888963407UL;
    return (unsigned)(*random >> 33) % n;
}

static pthread_t start(void *(*routine)(void *), void *arg, bool small) {
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    if (small) {
        zero(pthread_attr_setstacksize(&attr, (size_t)sysconf(_SC_THREAD_STACK_MIN)), "stack size");
    }
    int r = pthread_create(&thread, &attr, routine, arg);
    pthread_attr_destroy(&attr);
    if (r != 0) {
        fail("pthread_create: %s", strerror(r));
        _exit(1); // what follows would wait for this thread
    }
    return thread;
}

static void join(pthread_t thread) { zero(pthread_join(thread, NULL), "pthread_join"); }

// Runs body in a forked child and sees it to its end. False if it hung; other failures are counted.
static bool in_child(void (*body)(void), int limit_s) {
    pid_t pid = fork();
    if (pid == 0) {
        watch_die_after(2 * limit_s);
        body();
        _exit(0);
    }
    int status = pid > 0 ? watch_child(pid, limit_s, "child") : 1 << 8;
    if (status != 0) {
        fail("a child: %s", pid > 0 ? watch_status(status) : "fork failed");
    }
    beat();
    return status != WATCH_HUNG;
}

static long resident_bytes(void) {
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL || fscanf(f, "%*d %ld", &pages) != 1) {
        fail("cannot read /proc/self/statm");
    }
    if (f != NULL) {
        fclose(f);
    }
    return pages * sysconf(_SC_PAGESIZE);
}

// ---- Locks of several kinds, each with two counters that are equal while it is free ----

enum kind {
    NORMAL,
    ADAPTIVE,
    SPIN,
    MTX,
    SEM,
    READ,
    BARE_KINDS, // bare, a child can release these itself
    RECURSIVE = BARE_KINDS,
    ERRORCHECK,
    ROBUST,
    INHERIT,
    WRITE,
    KINDS
};

static const char *const kind_names[] = {[NORMAL] = "normal",
                                         [ADAPTIVE] = "adaptive",
                                         [SPIN] = "spin",
                                         [MTX] = "mtx",
                                         [SEM] = "sem",
                                         [READ] = "read",
                                         [RECURSIVE] = "recursive",
                                         [ERRORCHECK] = "errorcheck",
                                         [ROBUST] = "robust",
                                         [INHERIT] = "pi",
                                         [WRITE] = "write"};

struct lock {
    enum kind kind;
    union {
        pthread_mutex_t mutex;
        pthread_rwlock_t rwlock;
        pthread_spinlock_t spin;
        mtx_t mtx;
        sem_t sem;
    };
    long first, second;
};

static struct lock *locks;
static int lock_count;

static int mutex_init(pthread_mutex_t *mutex, enum kind kind) {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, kind == ADAPTIVE     ? PTHREAD_MUTEX_ADAPTIVE_NP
                                  : kind == RECURSIVE  ? PTHREAD_MUTEX_RECURSIVE
                                  : kind == ERRORCHECK ? PTHREAD_MUTEX_ERRORCHECK
                                                       : PTHREAD_MUTEX_NORMAL);
    pthread_mutexattr_setrobust(&a, kind == ROBUST ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED);
    pthread_mutexattr_setprotocol(&a, kind == INHERIT ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE);
    int r = pthread_mutex_init(mutex, &a);
    pthread_mutexattr_destroy(&a);
    return r;
}

static int lock_init(struct lock *l) {
    switch (l->kind) {
    case SPIN:
        return pthread_spin_init(&l->spin, PTHREAD_PROCESS_PRIVATE);
    case MTX:
        return mtx_init(&l->mtx, mtx_plain) == thrd_success ? 0 : EINVAL;
    case SEM:
        return sem_init(&l->sem, 0, 1) == 0 ? 0 : errno;
    case READ:
    case WRITE:
        return pthread_rwlock_init(&l->rwlock, NULL);
    default:
        return mutex_init(&l->mutex, l->kind);
    }
}

static int lock_take(struct lock *l) {
    int r;
    switch (l->kind) {
    case SPIN:
        return pthread_spin_lock(&l->spin);
    case MTX:
        return mtx_lock(&l->mtx) == thrd_success ? 0 : EINVAL;
    case SEM:
        while ((r = sem_wait(&l->sem)) != 0 && errno == EINTR) {
        }
        return r == 0 ? 0 : errno;
    case READ:
        return pthread_rwlock_rdlock(&l->rwlock);
    case WRITE:
        return pthread_rwlock_wrlock(&l->rwlock);
    default:
        return pthread_mutex_lock(&l->mutex);
    }
}

static int lock_give(struct lock *l) {
    switch (l->kind) {
    case SPIN:
        return pthread_spin_unlock(&l->spin);
    case MTX:
        return mtx_unlock(&l->mtx) == thrd_success ? 0 : EPERM;
    case SEM:
        return sem_post(&l->sem) == 0 ? 0 : errno;
    case READ:
    case WRITE:
        return pthread_rwlock_unlock(&l->rwlock);
    default:
        return pthread_mutex_unlock(&l->mutex);
    }
}

static void locks_make(int n, int kinds) {
    locks = calloc((size_t)n, sizeof *locks);
    lock_count = n;
    for (int i = 0; i < n; i++) {
        locks[i].kind = (enum kind)(i % kinds);
        zero(lock_init(&locks[i]), "initialising a lock");
    }
}

static void update(struct lock *l) {
    if (l->first != l->second) {
        atomic_fetch_add(&shared->torn, 1);
        fail("the data under a lock of kind %s is torn", kind_names[l->kind]);
    }
    if (l->kind != READ) {
        l->first++;
        l->second++;
    }
}

static void take(struct lock *l) {
    int r = lock_take(l);
    // A hold that had to be forced may rightly be passed on as that of a dead owner.
    if (r == EOWNERDEAD) {
        r = pthread_mutex_consistent(&l->mutex);
    }
    if (r != 0) {
        fail("taking a lock of kind %s: %s", kind_names[l->kind], strerror(r));
    }
    update(l);
}

static void give(struct lock *l) {
    int r = lock_give(l);
    if (r != 0) {
        fail("releasing a lock of kind %s: %s", kind_names[l->kind], strerror(r));
    }
}

static void give_all_shuffled(unsigned long seed) {
    int *order = malloc((size_t)lock_count * sizeof *order);
    for (int i = 0; i < lock_count; i++) {
        int j = (int)pick(&seed, (unsigned)i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (int i = 0; i < lock_count; i++) {
        give(&locks[order[i]]);
    }
    free(order);
}

static void take_all(void) {
    for (int i = 0; i < lock_count; i++) {
        take(&locks[i]);
    }
}

static void *visit_all(void *arg) {
    (void)arg;
    for (int i = 0; i < lock_count; i++) {
        take(&locks[i]);
        give(&locks[i]);
    }
    return NULL;
}

// All at once, then by another thread one by one: what was released badly hangs there.
static void use_all(void) {
    take_all();
    give_all_shuffled(7);
    join(start(visit_all, NULL, false));
}

static _Atomic bool stop;

static void *visit_for_ever(void *arg) {
    while (!atomic_load(&stop)) {
        visit_all(arg);
    }
    return NULL;
}

// ---- threads ----

enum { CHILD_THREADS = 100, BUSY = 4, FORKS = 3 };

static pthread_mutex_t crowd_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t crowd_cond = PTHREAD_COND_INITIALIZER;
static long crowd_waiting;
static bool crowd_may_go;

static void *crowd_wait(void *arg) {
    (void)arg;
    pthread_mutex_lock(&crowd_mutex);
    crowd_waiting++;
    while (!crowd_may_go) {
        pthread_cond_wait(&crowd_cond, &crowd_mutex);
    }
    crowd_waiting--;
    pthread_mutex_unlock(&crowd_mutex);
    return NULL;
}

// Once the count is seen under the mutex, all of them are inside the wait and nobody holds it.
static void crowd_await(long n) {
    for (;;) {
        pthread_mutex_lock(&crowd_mutex);
        bool all_there = crowd_waiting == n;
        pthread_mutex_unlock(&crowd_mutex);
        if (all_there) {
            return;
        }
        watch_pause_ms(1);
    }
}

static void threads_child(void) {
    pthread_t thread[CHILD_THREADS];
    use_all();
    for (int i = 0; i < CHILD_THREADS; i++) {
        thread[i] = start(visit_all, NULL, false);
    }
    for (int i = 0; i < CHILD_THREADS; i++) {
        join(thread[i]);
    }
    pthread_mutex_lock(&crowd_mutex);
    crowd_waiting = 0;
    pthread_mutex_unlock(&crowd_mutex);
    if (bare) {
        return;
    }
    for (int i = 0; i < CHILD_THREADS; i++) {
        thread[i] = start(crowd_wait, NULL, true);
    }
    crowd_await(CHILD_THREADS);
    pthread_mutex_lock(&crowd_mutex);
    crowd_may_go = true;
    pthread_mutex_unlock(&crowd_mutex);
    // As many signals as there are waiters: one that goes to a vanished waiter leaves one asleep.
    for (int i = 0; i < CHILD_THREADS; i++) {
        zero(pthread_cond_signal(&crowd_cond), "pthread_cond_signal");
    }
    for (int i = 0; i < CHILD_THREADS; i++) {
        join(thread[i]);
    }
    zero(pthread_cond_destroy(&crowd_cond), "pthread_cond_destroy");
    zero(pthread_mutex_destroy(&crowd_mutex), "pthread_mutex_destroy");
}

static int threads(long n) {
    pthread_t *crowd = calloc((size_t)n, sizeof *crowd), busy[BUSY];
    locks_make(64, KINDS);
    for (long i = 0; i < n; i++) {
        crowd[i] = start(crowd_wait, NULL, true);
        beat();
    }
    crowd_await(n);
    for (int i = 0; i < BUSY && !bare; i++) {
        busy[i] = start(visit_for_ever, NULL, false);
    }
    bool good = true;
    for (int i = 0; i < FORKS && good; i++) {
        good = in_child(threads_child, child_limit_s);
    }
    if (!good) {
        return WATCH_EXIT_HUNG;
    }
    atomic_store(&stop, true);
    for (int i = 0; i < BUSY && !bare; i++) {
        join(busy[i]);
    }
    pthread_mutex_lock(&crowd_mutex);
    crowd_may_go = true;
    pthread_cond_broadcast(&crowd_cond);
    pthread_mutex_unlock(&crowd_mutex);
    for (long i = 0; i < n; i++) {
        join(crowd[i]);
    }
    printf(" %d forks beside %ld threads", FORKS, n);
    return 0;
}

// ---- churn ----

enum { WAYS = 6, DETACHED_MAX = 8 };

static atomic_int detached;

static void *end_by_return(void *arg) { return arg; }
static void *end_by_exit(void *arg) { pthread_exit(arg); }
static int end_c11(void *arg) {
    (void)arg;
    thrd_exit(0);
}
static void *end_detached(void *arg) {
    (void)arg;
    atomic_fetch_sub(&detached, 1);
    return NULL;
}
static void *end_detaching(void *arg) {
    zero(pthread_detach(pthread_self()), "pthread_detach");
    return end_detached(arg);
}
static void *end_cancelled(void *arg) {
    while (pause() != 0) {
    }
    return arg;
}

static void churn_detached(void *(*routine)(void *), int state) {
    pthread_attr_t attr;
    pthread_t thread;
    while (atomic_load(&detached) >= DETACHED_MAX) {
        sched_yield();
    }
    atomic_fetch_add(&detached, 1);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, state);
    int r = pthread_create(&thread, &attr, routine, NULL);
    pthread_attr_destroy(&attr);
    if (r != 0) {
        fail("pthread_create: %s", strerror(r));
        _exit(1);
    }
}

static void churn_one(long i) {
    thrd_t c11;
    pthread_t thread;
    void *result = NULL;
    switch (i % WAYS) {
    case 0:
        join(start(end_by_return, NULL, false));
        break;
    case 1:
        join(start(end_by_exit, NULL, false));
        break;
    case 2:
        if (thrd_create(&c11, end_c11, NULL) != thrd_success ||
            thrd_join(c11, NULL) != thrd_success) {
            fail("thrd_create or thrd_join");
        }
        break;
    case 3:
        churn_detached(end_detached, PTHREAD_CREATE_DETACHED);
        break;
    case 4:
        churn_detached(end_detaching, PTHREAD_CREATE_JOINABLE);
        break;
    default:
        thread = start(end_cancelled, NULL, false);
        zero(pthread_cancel(thread), "pthread_cancel");
        zero(pthread_join(thread, &result), "pthread_join");
        if (result != PTHREAD_CANCELED) {
            fail("a cancelled thread ended otherwise");
        }
    }
}

static int churn(long n) {
    long early = 0;
    locks_make(64, BARE_KINDS);
    for (long i = 0; i < n; i++) {
        churn_one(i);
        if (i == n / 10) {
            early = resident_bytes();
        }
        if (i % 1000 == 0) {
            beat();
        }
    }
    long grown = resident_bytes() - early;
    if (grown >= 2 * MEBIBYTE) {
        fail("memory grew by %ld KiB between a tenth and the whole", grown / 1024);
    }
    // A child after all of them still works.
    bool good = in_child(use_all, child_limit_s);
    printf(" %ld threads, memory grew by %ld KiB", n, grown / 1024);
    return good ? 0 : WATCH_EXIT_HUNG;
}

// ---- locks ----

enum { CYCLE_FORKS = 10 };

static atomic_int cycle_holds;

static void *cycle(void *arg) {
    unsigned long seed = (unsigned long)(uintptr_t)arg;
    while (!atomic_load(&stop)) {
        for (int i = 0; i < lock_count; i++) {
            take(&locks[i]);
            atomic_store(&cycle_holds, i + 1);
        }
        give_all_shuffled(seed++);
        atomic_store(&cycle_holds, 0);
    }
    return NULL;
}

static int stuck_pipe[2];

static void *hold_and_wait(void *arg) {
    (void)arg;
    char c;
    take_all();
    atomic_store(&cycle_holds, lock_count);
    while (read(stuck_pipe[0], &c, 1) < 0) {
    }
    give_all_shuffled(5);
    return NULL;
}

static void release_inherited(void) {
    give_all_shuffled(11);
    use_all();
}

static bool locks_of_survivor(void) {
    take_all();
    bool good = in_child(release_inherited, child_limit_s);
    give_all_shuffled(3);
    return good;
}

// Another thread holds some or all of them, but always lets go again.
static bool locks_of_passer_by(void) {
    unsigned long seed = 1;
    bool good = true;
    atomic_store(&stop, false);
    pthread_t thread = start(cycle, (void *)(uintptr_t)100, false);
    for (int i = 0; i < CYCLE_FORKS && good; i++) {
        int some = 1 + (int)pick(&seed, (unsigned)lock_count);
        while (atomic_load(&cycle_holds) < some) {
            sched_yield();
        }
        good = in_child(use_all, child_limit_s);
    }
    atomic_store(&stop, true);
    if (good) {
        join(thread);
    }
    return good;
}

// It does not let go before the fork is over: all of its holds have to be forced.
static bool locks_of_sleeper(void) {
    atomic_store(&cycle_holds, 0);
    if (pipe(stuck_pipe) != 0) {
        fail("pipe: %s", strerror(errno));
        return true;
    }
    pthread_t thread = start(hold_and_wait, NULL, false);
    while (atomic_load(&cycle_holds) < lock_count) {
        watch_pause_ms(1);
    }
    bool good = in_child(use_all, child_limit_s);
    if (write(stuck_pipe[1], "x", 1) != 1) {
        fail("write: %s", strerror(errno));
    }
    if (good) {
        join(thread);
        use_all();
    }
    return good;
}

static int many_locks(long n) {
    locks_make((int)n, bare ? BARE_KINDS : KINDS);
    bool good = locks_of_survivor();
    if (!bare) {
        good = good && locks_of_passer_by() && locks_of_sleeper();
    }
    printf(" %ld held by %s", n, bare ? "the forking thread" : "the forking thread and by others");
    return good ? 0 : WATCH_EXIT_HUNG;
}

// ---- generations ----

enum { GENERATION_THREADS = 4 };

struct step {
    long left;
    int status;
};

static int generation(long left);

// Nobody ever writes to this pipe: its reader wakes when the write end is closed.
static void *wait_for_close(void *arg) {
    char c;
    while (read(*(int *)arg, &c, 1) < 0) {
    }
    return NULL;
}

static int next_generation(long left) {
    pid_t pid = fork();
    if (pid == 0) {
        _exit(generation(left));
    }
    // The deepest has the shortest limit: the one that hangs is the one that is shown.
    int status =
        pid > 0 ? watch_child(pid, child_limit_s + 5 * (int)left, "next generation") : 1 << 8;
    if (status == WATCH_HUNG || (WIFEXITED(status) && WEXITSTATUS(status) == WATCH_EXIT_HUNG)) {
        return WATCH_EXIT_HUNG;
    }
    if (status != 0) {
        fail("a generation: %s", watch_status(status));
    }
    return 0;
}

static void *side_fork(void *arg) {
    struct step *step = arg;
    step->status = in_child(use_all, child_limit_s) ? 0 : WATCH_EXIT_HUNG;
    return NULL;
}

static void *step_from_thread(void *arg) {
    struct step *step = arg;
    step->status = next_generation(step->left);
    return NULL;
}

// Every second generation goes on in a thread that is not its parent's first.
static int generation(long left) {
    pthread_t thread[GENERATION_THREADS];
    int idle[2];
    beat();
    atomic_store(&stop, false);
    if (pipe2(idle, O_CLOEXEC) != 0) {
        fail("pipe: %s", strerror(errno));
        return 0;
    }
    for (int i = 0; i < GENERATION_THREADS; i++) {
        thread[i] = start(bare ? wait_for_close : visit_for_ever, idle, false);
    }
    struct step step = {.left = left - 1};
    int status = side_fork(&step) == NULL ? step.status : 0;
    join(start(side_fork, &step, false));
    status = status != 0 ? status : step.status;
    shared->rss[left] = resident_bytes();
    if (left > 1 && status == 0) {
        if (left % 2 == 0) {
            status = next_generation(left - 1);
        } else {
            join(start(step_from_thread, &step, false));
            status = step.status;
        }
    }
    if (status == 0) {
        atomic_store(&stop, true);
        close(idle[1]);
        for (int i = 0; i < GENERATION_THREADS; i++) {
            join(thread[i]);
        }
        close(idle[0]);
    }
    return status;
}

static int generations(long n) {
    locks_make(64, KINDS);
    int status = generation(n);
    long grown = n > 2 ? shared->rss[1] - shared->rss[n - 1] : 0;
    if (status == 0 && grown >= 2 * MEBIBYTE) {
        fail("memory grew by %ld KiB from the second generation to the last", grown / 1024);
    }
    printf(" %ld deep, memory grew by %ld KiB", n, grown / 1024);
    return status;
}

// ---- joins ----

enum { VANISHED = 1000, BATCH = 100, JOIN_GENERATIONS = 3 };

static pthread_t vanished[VANISHED];
static long joins_wanted;
static atomic_long joins_done;
static pthread_mutex_t batch_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t batch_cond = PTHREAD_COND_INITIALIZER;
static long batch_number;

static void *batch_member(void *arg) {
    long mine = (long)(intptr_t)arg;
    pthread_mutex_lock(&batch_mutex);
    while (batch_number <= mine) {
        pthread_cond_wait(&batch_cond, &batch_mutex);
    }
    pthread_mutex_unlock(&batch_mutex);
    atomic_fetch_add(&joins_done, 1);
    return arg;
}

static void joins_batch(long number) {
    pthread_t thread[BATCH];
    for (int i = 0; i < BATCH; i++) {
        thread[i] = start(batch_member, (void *)(intptr_t)number, true);
    }
    // It may have the handle of a vanished one: it is alive all the same.
    for (int i = 0; i < BATCH; i++) {
        zero(pthread_kill(thread[i], 0), "pthread_kill of a living thread");
    }
    pthread_mutex_lock(&batch_mutex);
    batch_number = number + 1;
    zero(pthread_cond_broadcast(&batch_cond), "broadcast");
    pthread_mutex_unlock(&batch_mutex);
    for (int i = 0; i < BATCH; i++) {
        void *result = NULL;
        zero(pthread_join(thread[i], &result), "pthread_join of a living thread");
        if (result != (void *)(intptr_t)number) {
            fail("pthread_join gave another thread's result");
        }
    }
}

static void expect_esrch(int r, const char *call) {
    if (r != ESRCH) {
        fail("%s of a vanished thread gave %d", call, r);
    }
}

static void ask_after_vanished(void) {
    for (int i = 0; i < VANISHED; i++) {
        expect_esrch(pthread_kill(vanished[i], 0), "pthread_kill");
        expect_esrch(pthread_kill(vanished[i], SIGUSR1), "pthread_kill with a signal");
        expect_esrch(pthread_cancel(vanished[i]), "pthread_cancel");
    }
    for (int i = 0; i < VANISHED; i += 2) {
        expect_esrch(pthread_detach(vanished[i]), "pthread_detach");
        int r = pthread_join(vanished[i + 1], NULL);
        if (r != 0) {
            expect_esrch(r, "pthread_join");
        }
    }
}

static void make_vanishing(void) {
    for (int i = 0; i < VANISHED; i++) {
        vanished[i] = start(end_cancelled, NULL, true);
    }
}

static int joins_generation;

static void joins_child(void) {
    if (!bare) {
        ask_after_vanished();
    }
    atomic_store(&joins_done, 0);
    batch_number = 0;
    long batches = (joins_wanted + BATCH - 1) / BATCH;
    for (long i = 0; i < batches; i++) {
        joins_batch(i);
        beat();
    }
    if (atomic_load(&joins_done) != batches * BATCH) {
        fail("%ld threads ran, not %ld", atomic_load(&joins_done), batches * BATCH);
    }
    // Once more, with threads that have handles which had vanished before.
    if (++joins_generation < JOIN_GENERATIONS) {
        make_vanishing();
        if (!in_child(joins_child, child_limit_s)) {
            _exit(WATCH_EXIT_HUNG);
        }
    }
}

static int joins(long n) {
    joins_wanted = n;
    make_vanishing();
    bool good = in_child(joins_child, JOIN_GENERATIONS * child_limit_s);
    for (int i = 0; i < VANISHED; i++) {
        zero(pthread_cancel(vanished[i]), "pthread_cancel in the parent");
        join(vanished[i]);
    }
    printf(" %ld in a child that %d vanished from, %d generations", n, VANISHED, JOIN_GENERATIONS);
    return good ? 0 : WATCH_EXIT_HUNG;
}

// ---- The table ----

static const struct subcommand {
    const char *name;
    int (*run)(long n);
    long n, max;
    const char *not_bare; // what bare libc cannot do, and --bare leaves out; NULL: it can do all
} subcommands[] = {
    {"threads", threads, 10000, LONG_MAX,
     "threads that hold locks at the fork, waits for an inherited condition variable"},
    {"churn", churn, 1000000, LONG_MAX, NULL},
    {"locks", many_locks, 10000, INT_MAX, "locks whose owner is checked, locks of other threads"},
    {"generations", generations, 20, 255, "threads that hold locks at the fork"},
    {"joins", joins, 5000, LONG_MAX, "calls on vanished threads"},
};
enum { SUBCOMMANDS = sizeof subcommands / sizeof subcommands[0] };

static const struct subcommand *chosen;
static long chosen_n;

static int run(int argc, char **argv) {
    (void)argc;
    (void)argv;
    int64_t from = watch_now_ms();
    printf("scale %s:", chosen->name);
    int status = chosen->run(chosen_n);
    printf(" (%.1f s)", (double)(watch_now_ms() - from) / 1000);
    fflush(stdout);
    return status;
}

static int list_bare(void) {
    for (int i = 0; i < SUBCOMMANDS; i++) {
        printf("%-12s %s%s\n", subcommands[i].name,
               subcommands[i].not_bare != NULL ? "with --bare, without: " : "whole",
               subcommands[i].not_bare != NULL ? subcommands[i].not_bare : "");
    }
    return 0;
}

static int usage(const char *name) {
    fprintf(stderr,
            "usage: %s [--bare] [--limit SECONDS] threads|churn|locks|generations|joins [N]\n      "
            " %s --bare-ok\n",
            name, name);
    return 2;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--bare-ok") == 0) {
        return list_bare();
    }
    int at = 1;
    bare = at < argc && strcmp(argv[at], "--bare") == 0;
    at += bare;
    if (at + 1 < argc && strcmp(argv[at], "--limit") == 0) {
        child_limit_s = atoi(argv[at + 1]);
        at += 2;
    }
    for (int i = 0; at < argc && i < SUBCOMMANDS; i++) {
        if (strcmp(argv[at], subcommands[i].name) == 0) {
            chosen = &subcommands[i];
        }
    }
    if (chosen == NULL || argc > at + 2) {
        return usage(argv[0]);
    }
    chosen_n = at + 1 < argc ? atol(argv[at + 1]) : chosen->n;
    if (chosen_n < 1 || chosen_n > chosen->max || child_limit_s < 1) {
        return usage(argv[0]);
    }
    shared = watch_shared(sizeof *shared);
    int status = watch_monitor(run, argc, argv, STALL_LIMIT_S, &shared->beat);
    bool hung =
        status == WATCH_HUNG || (WIFEXITED(status) && WEXITSTATUS(status) == WATCH_EXIT_HUNG);
    if (hung) {
        printf(status == WATCH_HUNG ? "scale %s: hung\n" : ": hung\n", chosen->name);
        return WATCH_EXIT_HUNG;
    }
    bool good = status == 0 && shared->failed == 0;
    printf(": %s\n", good ? "ok" : status != 0 ? watch_status(status) : "failed");
    return good ? 0 : 1;
}
