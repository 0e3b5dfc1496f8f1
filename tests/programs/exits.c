/*
 * exits.c: the ways in which a thread or a process ends, beside forks: destructors of thread-specific
 * data, pthread_exit in the first thread, exit, quick_exit, abort and fatal signals; and threads that are
 * never made. The parent is told what it is told bare.
 */
#include "hazard.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <threads.h>

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static struct hz_pair pair;
static int wrong;

static void set_up(void) { hz_pair_init(&pair, hz_mutex_lock, hz_mutex_unlock, &guard); }

static int child_takes_guard(void *arg) {
    (void)arg;
    HZ_TRY(hz_pair_sound(&pair));
    return hz_mutex_works(&guard);
}

static int fork_once(void) {
    pid_t pid;
    int64_t ms;
    HZ_TRY(hz_fork_timed(child_takes_guard, &pid, &ms));
    if (ms >= hz_deadline_ms() / 2) {
        hz_say("the fork took %ld ms", (long)ms);
        return HZ_WRONG;
    }
    return HZ_OK;
}

/* ---- thread-specific data ---- */

enum { KEYS = 2 };

static pthread_key_t keys[KEYS];
static tss_t tss;
static int destroyed, forked;

/* glibc forgets in the child what a thread that vanished among its destructors had left to destroy, and
 * calls that for the next thread on the same stack (nptl_deallocate_tsd.c clears specific_used first). */
static pid_t process;

static int is_inherited(void) { return getpid() != process; }

static void lock_in_destructor(void *value) {
    (void)value;
    if (is_inherited()) {
        return;
    }
    wrong |= hz_pair_turn(&pair);
    destroyed++;
}

static void fork_in_destructor(void *value) {
    lock_in_destructor(value);
    wrong |= fork_once();
    forked++;
}

/* Put off until the last but one of the rounds that POSIX promises. */
static void lock_again(void *value) {
    char *round = value;
    if (is_inherited()) {
        return;
    }
    wrong |= hz_pair_turn(&pair);
    if (++*round < PTHREAD_DESTRUCTOR_ITERATIONS - 1) {
        wrong |= pthread_setspecific(keys[1], round);
    } else {
        destroyed++;
    }
}

static char round_of_one, round_of_all;

static void *keeps_one(void *arg) {
    wrong |= pthread_setspecific(keys[0], &round_of_one);
    return arg;
}

static void *keeps_again(void *arg) {
    round_of_all = 0;
    wrong |= pthread_setspecific(keys[1], &round_of_all);
    return arg;
}

static int keeps_tss(void *arg) {
    (void)arg;
    wrong |= tss_set(tss, &round_of_one) != thrd_success;
    thrd_exit(42);
}

static int one_thread(void *(*body)(void *)) {
    pthread_t thread;
    HZ_IS(pthread_create(&thread, NULL, body, NULL), 0);
    HZ_IS(pthread_join(thread, NULL), 0);
    HZ_IS(wrong, 0);
    return HZ_OK;
}

static int one_thrd(void) {
    thrd_t thread;
    int result = 0;
    HZ_IS(thrd_create(&thread, keeps_tss, NULL), thrd_success);
    HZ_IS(thrd_join(thread, &result), thrd_success);
    HZ_IS(result, 42);
    HZ_IS(wrong, 0);
    return HZ_OK;
}

static int threads_in_a_row(void *stop) {
    while (hz_seen(stop) == 0) {
        HZ_TRY(one_thread(keeps_one));
        HZ_TRY(one_thread(keeps_again));
        HZ_TRY(one_thrd());
    }
    return HZ_OK;
}

static void make_keys(void (*destructor)(void *)) {
    set_up();
    process = getpid();
    HZ_SETUP(pthread_key_create(&keys[0], destructor) == 0);
    HZ_SETUP(pthread_key_create(&keys[1], lock_again) == 0);
    HZ_SETUP(tss_create(&tss, destructor) == thrd_success);
}

static int destructors_lock(const void *arg) {
    struct hz_event stop = {0};
    struct hz_thread thread;
    (void)arg;
    make_keys(lock_in_destructor);
    hz_start(&thread, threads_in_a_row, &stop);
    for (int i = 0; i < 200; i++) {
        HZ_TRY(fork_once());
    }
    hz_post(&stop);
    HZ_TRY(hz_finish(&thread));
    HZ_TRUE(destroyed > 0 && destroyed % 3 == 0);
    return HZ_OK;
}

static int destructors_fork(const void *arg) {
    (void)arg;
    make_keys(fork_in_destructor);
    for (int i = 1; i <= 10; i++) {
        HZ_TRY(one_thread(keeps_one));
        HZ_TRY(one_thread(keeps_again));
        HZ_TRY(one_thrd());
        HZ_IS(destroyed, i * 3);
        HZ_IS(forked, i * 2);
    }
    return HZ_OK;
}

/* ---- a process with threads, that ends in some way ---- */

enum { CODE = 37 };

/* Every process that a subject leaves behind has this open for writing. */
static int tether[2];

/* How the subject ends; run in its first thread, beside the forks of others. */
static void (*end_it)(void);
static int forkers;
static struct hz_event forks;

static int child_ends_well(void *arg) {
    (void)arg;
    return hz_pair_sound(&pair);
}

/* No fork is waited for: the subject may end at any moment of it. */
static int forks_for_ever(void *arg) {
    (void)arg;
    for (;;) {
        pid_t pid = fork();
        if (pid == 0) {
            hz_end_with(child_ends_well, NULL);
        }
        HZ_SETUP(pid > 0);
        hz_post(&forks);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
}

static int turns_for_ever(void *arg) {
    (void)arg;
    for (;;) {
        HZ_TRY(hz_pair_turn(&pair));
    }
}

static struct hz_thread crew[4];

static int subject(void *arg) {
    (void)arg;
    close(tether[0]);
    set_up();
    for (int i = 0; i < 2; i++) {
        hz_start(&crew[i], turns_for_ever, NULL);
    }
    for (int i = 2; i < 2 + forkers; i++) {
        hz_start(&crew[i], forks_for_ever, NULL);
    }
    hz_await(&forks, forkers);
    end_it();
    return HZ_BROKEN;
}

/* Until everybody has let go of it. */
static int await_tether(void) {
    struct pollfd end = {.fd = tether[0], .events = POLLIN};
    int64_t deadline = hz_now_ms(CLOCK_MONOTONIC) + hz_limit_ms();
    char byte;
    close(tether[1]);
    while (poll(&end, 1, 100) == 0) {
        if (hz_now_ms(CLOCK_MONOTONIC) > deadline) {
            hz_say("a child of the process that ended hangs");
            return HZ_HUNG;
        }
    }
    HZ_IS(read(tether[0], &byte, 1), 0);
    close(tether[0]);
    return HZ_OK;
}

struct ending {
    void (*end_it)(void);
    int status; /* as wait() gives it */
    int times;
    int forkers;
};

static int status_of(pid_t pid, int *status) {
    int64_t deadline = hz_now_ms(CLOCK_MONOTONIC) + hz_limit_ms();
    pid_t got;
    while ((got = waitpid(pid, status, WNOHANG)) == 0) {
        if (hz_now_ms(CLOCK_MONOTONIC) > deadline) {
            hz_say("process %d did not end", (int)pid);
            hz_show_stuck(pid);
            kill(pid, SIGKILL);
            return HZ_HUNG;
        }
        hz_sleep_us(200);
    }
    HZ_IS(got, pid);
    return HZ_OK;
}

static int ends_as(const struct ending *ending) {
    int status = 0;
    HZ_SETUP(pipe2(tether, O_CLOEXEC) == 0);
    end_it = ending->end_it;
    forkers = ending->forkers;
    pid_t pid = fork();
    if (pid == 0) {
        hz_end_with(subject, NULL);
    }
    HZ_SETUP(pid > 0);
    int verdict = status_of(pid, &status);
    HZ_TRY(verdict);
    HZ_IS(status & ~__WCOREFLAG, ending->status);
    return await_tether();
}

static int process_ends(const void *arg) {
    const struct ending *ending = arg;
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    for (int i = 0; i < ending->times; i++) {
        int verdict = ends_as(ending);
        if (verdict != HZ_OK) {
            hz_say("the %d. time", i + 1);
            return verdict;
        }
    }
    return HZ_OK;
}

/* ---- the endings ---- */

static int handled;

static void lock_at_exit(void) {
    wrong |= hz_pair_turn(&pair);
    handled++;
}

/* Registered first, so run last: the others have. */
static void last_at_exit(void) {
    if (handled != 3 || wrong) {
        _exit(1);
    }
}

static void by_exit(void) {
    if (atexit(last_at_exit) || atexit(lock_at_exit) || atexit(lock_at_exit) ||
        atexit(lock_at_exit)) {
        _exit(2);
    }
    exit(CODE);
}

/* tests/plugins/fini.c */
extern void (*fini_calls)(void);

static void fork_in_fini(void) {
    for (int i = 0; i < 100; i++) {
        int verdict = hz_child(child_ends_well, NULL);
        if (verdict != HZ_OK) {
            _exit(verdict);
        }
    }
}

/* A library's destructor still forks, as one that winds up a pool of workers might. */
static void by_exit_with_forks(void) {
    fini_calls = fork_in_fini;
    exit(CODE);
}

static void by_quick_exit(void) {
    if (at_quick_exit(last_at_exit) || at_quick_exit(lock_at_exit) || at_quick_exit(lock_at_exit) ||
        at_quick_exit(lock_at_exit)) {
        _exit(2);
    }
    quick_exit(CODE);
}

static int exits(void *arg) {
    (void)arg;
    by_exit();
    return HZ_BROKEN;
}

/* By another thread than the first. */
static void by_exit_elsewhere(void) { hz_elsewhere(exits, NULL); }

static void by_underscore_exit(void) { _exit(CODE); }
static void by_abort(void) { abort(); }

static volatile sig_atomic_t told;

static void on_abort(int signo) {
    if (signo != SIGABRT || told != 0) {
        _exit(3);
    }
    told = 1;
}

/* The handler returns; the process ends all the same. */
static void by_handled_abort(void) {
    signal(SIGABRT, on_abort);
    abort();
}

static void exit_in_handler(int signo) { _exit(signo == SIGABRT ? CODE : 3); }

static void by_exit_in_abort(void) {
    signal(SIGABRT, exit_in_handler);
    abort();
}

static void by_fault(void) {
    volatile int *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *nowhere = 1;
}

static void wait_for_the_end(void) {
    for (;;) {
        pause();
    }
}

static void by_term(void) {
    kill(getpid(), SIGTERM);
    wait_for_the_end();
}

static void by_kill(void) {
    kill(getpid(), SIGKILL);
    wait_for_the_end();
}

/* At a thread that may be parked just then. */
static void by_signal_to_thread(void) {
    pthread_kill(crew[0].id, SIGUSR1);
    wait_for_the_end();
}

static void by_raise(void) { raise(SIGFPE); }

static const struct ending exit_ending = {by_exit, CODE << 8, 60, 1};
static const struct ending elsewhere_ending = {by_exit_elsewhere, CODE << 8, 60, 2};
static const struct ending fini_ending = {by_exit_with_forks, CODE << 8, 3, 0};
static const struct ending quick_ending = {by_quick_exit, CODE << 8, 60, 1};
static const struct ending underscore_ending = {by_underscore_exit, CODE << 8, 40, 2};
static const struct ending abort_ending = {by_abort, SIGABRT, 40, 1};
static const struct ending handled_abort_ending = {by_handled_abort, SIGABRT, 20, 1};
static const struct ending exit_in_abort_ending = {by_exit_in_abort, CODE << 8, 20, 1};
static const struct ending fault_ending = {by_fault, SIGSEGV, 20, 1};
static const struct ending term_ending = {by_term, SIGTERM, 40, 2};
static const struct ending kill_ending = {by_kill, SIGKILL, 40, 2};
static const struct ending thread_signal_ending = {by_signal_to_thread, SIGUSR1, 20, 1};
static const struct ending raise_ending = {by_raise, SIGFPE, 20, 1};

/* ---- a forked child that ends, beside which the parent's threads hold what its handlers need ---- */

static int ends_with_handlers(void (*how)(void), int forks_made) {
    struct hz_churn churn;
    set_up();
    hz_churn_start(&churn, &pair, 1);
    for (int i = 0; i < forks_made; i++) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0) {
            how();
            _exit(HZ_BROKEN);
        }
        HZ_SETUP(pid > 0);
        HZ_TRY(status_of(pid, &status));
        HZ_IS(status, CODE << 8);
    }
    return hz_churn_stop(&churn);
}

static int children_exit(const void *arg) {
    (void)arg;
    return ends_with_handlers(by_exit, 200);
}

static int children_quick_exit(const void *arg) {
    (void)arg;
    return ends_with_handlers(by_quick_exit, 200);
}

/* ---- the first thread leaves ---- */

static struct hz_event left;

static void say_left(void *arg) { hz_post(arg); }

/* Forks on when the first thread is no more, and ends the process. */
static int goes_on(void *arg) {
    (void)arg;
    hz_await(&left, 1);
    for (int i = 0; i < 100; i++) {
        int verdict = fork_once();
        if (verdict != HZ_OK) {
            _exit(verdict);
        }
    }
    exit(CODE);
}

static int first_leaves(void *arg) {
    struct hz_thread on, turning;
    (void)arg;
    set_up();
    HZ_SETUP(pthread_key_create(&keys[0], say_left) == 0);
    HZ_SETUP(pthread_setspecific(keys[0], &left) == 0);
    hz_start(&turning, turns_for_ever, NULL);
    hz_start(&on, goes_on, NULL);
    pthread_exit(NULL);
}

static int first_thread_leaves(const void *arg) {
    (void)arg;
    for (int i = 0; i < 5; i++) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0) {
            hz_end_with(first_leaves, NULL);
        }
        HZ_SETUP(pid > 0);
        HZ_TRY(status_of(pid, &status));
        HZ_IS(status, CODE << 8);
    }
    return HZ_OK;
}

/* All leave by pthread_exit or thrd_exit: the process ends with 0. */
static int leaves_alone(void *arg) {
    (void)arg;
    thrd_exit(CODE);
}

static int all_leave(void *arg) {
    pthread_t thread;
    thrd_t thrd;
    (void)arg;
    set_up();
    HZ_SETUP(thrd_create(&thrd, leaves_alone, NULL) == thrd_success);
    HZ_SETUP(pthread_create(&thread, NULL, keeps_one, NULL) == 0);
    HZ_TRY(fork_once());
    pthread_exit(NULL);
}

static int everybody_leaves(const void *arg) {
    (void)arg;
    HZ_SETUP(pthread_key_create(&keys[0], lock_in_destructor) == 0);
    for (int i = 0; i < 20; i++) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0) {
            hz_end_with(all_leave, NULL);
        }
        HZ_SETUP(pid > 0);
        HZ_TRY(status_of(pid, &status));
        HZ_IS(status, 0);
    }
    return HZ_OK;
}

/* ---- joins that do not wait, detached threads, threads that are never made ---- */

static int joins(const void *arg) {
    struct hz_bystander bystander;
    void *result = &bystander;
    (void)arg;
    set_up();
    hz_bystander_start(&bystander);
    for (int i = 0; i < 20; i++) {
        struct timespec soon = hz_in_ms(CLOCK_REALTIME, 2), late = hz_in_ms(CLOCK_MONOTONIC, 2);
        HZ_IS(pthread_tryjoin_np(bystander.thread.id, &result), EBUSY);
        HZ_IS(pthread_timedjoin_np(bystander.thread.id, &result, &soon), ETIMEDOUT);
        HZ_IS(pthread_clockjoin_np(bystander.thread.id, &result, CLOCK_MONOTONIC, &late),
              ETIMEDOUT);
        HZ_IS(pthread_join(pthread_self(), NULL), EDEADLK);
        HZ_TRUE(result == &bystander);
        HZ_TRY(fork_once());
    }
    hz_post(&bystander.release);
    int error;
    while ((error = pthread_tryjoin_np(bystander.thread.id, &result)) == EBUSY) {
        hz_sleep_us(100);
    }
    HZ_IS(error, 0);
    HZ_TRUE(result == NULL);
    return fork_once();
}

static struct hz_event ends;

static void *ends_detached(void *arg) {
    wrong |= hz_pair_turn(&pair);
    hz_post(&ends);
    return arg;
}

static int makes_detached(void *stop) {
    pthread_attr_t attr;
    pthread_t thread;
    int made = 0;
    HZ_SETUP(pthread_attr_init(&attr) == 0);
    HZ_SETUP(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0);
    while (hz_seen(stop) == 0) {
        HZ_IS(pthread_create(&thread, made % 2 ? &attr : NULL, ends_detached, NULL), 0);
        if (made % 2 == 0) {
            HZ_IS(pthread_detach(thread), 0);
        }
        hz_await(&ends, ++made);
    }
    HZ_IS(wrong, 0);
    return HZ_OK;
}

static int detached_end(const void *arg) {
    struct hz_event stop = {0};
    struct hz_thread thread;
    (void)arg;
    set_up();
    hz_start(&thread, makes_detached, &stop);
    for (int i = 0; i < 200; i++) {
        HZ_TRY(fork_once());
    }
    hz_post(&stop);
    return hz_finish(&thread);
}

static long memory_kb(void) {
    long pages = 0;
    char line[64] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    HZ_SETUP(fd >= 0 && read(fd, line, sizeof line - 1) > 0 && close(fd) == 0);
    pages = strtol(line, NULL, 10);
    return pages * 4;
}

static void *never_run(void *arg) { return arg; }

enum { FAILURES = 4000, STRANGE = 4711, ROOM_KB = 2048 };

/* No address space for such a stack: the same error, and errno, as bare; and no memory is lost. */
static int creation_fails(void *arg) {
    struct hz_event *stop = arg;
    pthread_attr_t attr;
    pthread_t thread;
    int (*real_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = NULL;
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    HZ_SETUP(libc != NULL);
    *(void **)&real_create = dlsym(libc, "pthread_create");
    HZ_SETUP(real_create != NULL && pthread_attr_init(&attr) == 0);
    HZ_SETUP(pthread_attr_setstacksize(&attr, (size_t)1 << 46) == 0);
    errno = STRANGE;
    int bare_error = real_create(&thread, &attr, never_run, NULL);
    int bare_errno = errno;
    long before = 0;
    for (int i = 0; i < FAILURES; i++) {
        errno = STRANGE;
        HZ_IS(pthread_create(&thread, &attr, never_run, NULL), bare_error);
        HZ_IS(errno, bare_errno);
        if (i == 100) {
            before = memory_kb();
        }
    }
    HZ_IS(bare_error, EAGAIN);
    HZ_TRUE(memory_kb() < before + ROOM_KB);
    if (stop != NULL) {
        hz_post(stop);
    }
    return HZ_OK;
}

static int creations_fail(const void *arg) {
    struct hz_event done = {0};
    struct hz_thread thread;
    (void)arg;
    set_up();
    hz_start(&thread, creation_fails, &done);
    while (hz_seen(&done) == 0) {
        HZ_TRY(fork_once());
    }
    HZ_TRY(hz_finish(&thread));
    HZ_TRY(hz_elsewhere(hz_mutex_works, &guard));
    return hz_child(creation_fails, NULL);
}

#define ENDING(name, which, about)                                                                 \
    { "exit_" name, process_ends, &which, RARELY, about, "", 1 }

static const struct hazard hazards[] = {
    HAZARD_CHANCE("exit_data_locks", destructors_lock, NULL, RARELY,
                  "destructors of thread-specific data lock"),
    HAZARD_PATIENT("exit_data_forks", destructors_fork, NULL, OK,
                   "destructors of thread-specific data fork"),
    ENDING("exit", exit_ending, "exit in the first thread"),
    ENDING("exit_elsewhere", elsewhere_ending, "exit in another thread"),
    ENDING("fini", fini_ending, "exit, and a library's destructor forks"),
    ENDING("quick_exit", quick_ending, "quick_exit"),
    ENDING("underscore_exit", underscore_ending, "_exit"),
    ENDING("abort", abort_ending, "abort"),
    ENDING("handled_abort", handled_abort_ending, "abort, with a handler that returns"),
    ENDING("exit_in_abort", exit_in_abort_ending, "abort, with a handler that exits"),
    ENDING("fault", fault_ending, "a page fault"),
    ENDING("term", term_ending, "SIGTERM for the process"),
    ENDING("kill", kill_ending, "SIGKILL"),
    ENDING("thread_signal", thread_signal_ending, "a fatal signal for one thread"),
    ENDING("raise", raise_ending, "raise"),
    HAZARD_CHANCE("exit_in_children", children_exit, NULL, EITHER,
                  "children exit, with handlers that lock"),
    HAZARD_CHANCE("exit_quick_in_children", children_quick_exit, NULL, EITHER,
                  "children quick_exit, with handlers that lock"),
    HAZARD_CHANCE("exit_first_leaves", first_thread_leaves, NULL, EITHER,
                  "the first thread leaves by pthread_exit, the others go on and fork"),
    HAZARD_PATIENT("exit_all_leave", everybody_leaves, NULL, RARELY,
                   "all threads leave by pthread_exit or thrd_exit"),
    HAZARD_PATIENT("exit_joins", joins, NULL, OK, "joins that find the thread alive"),
    HAZARD_CHANCE("exit_detached", detached_end, NULL, RARELY, "detached threads end"),
    HAZARD_PATIENT("exit_never_made", creations_fail, NULL, OK, "pthread_create fails"),
};
HAZARD_MAIN(hazards)
