/*
 * hazard.h: what every program of the hazard matrix shares.
 *
 * A hazard is one way in which a fork in a multithreaded program leaves its child broken. Each is a
 * function in a table; the table says what it does on bare glibc, so that a test which does not
 * bite is noticed:
 *
 *     static const struct hazard hazards[] = {
 *         HAZARD("name", function, HANGS, "one line"),
 *     };
 *     HAZARD_MAIN(hazards)
 *
 * The program is then called so:
 *     PROGRAM --list          name, expectation and description, a tab between
 *     PROGRAM NAME            one hazard, watched: nothing that it started outlives it
 *     PROGRAM --here NAME     the same in this very process and without the watcher, for a debugger
 *
 * Exit status: 0 came through, 1 wrong result, 2 skipped, 3 the hazard could not be set up (never a
 * result: a failure of the test itself), 124 the child or the whole program hung. HAZARD_LIMIT_S
 * (seconds, default 20) is how long one child may take. A limit only ever tells a hang: threads are
 * ordered by events, never by sleeping.
 *
 * Words: the forking thread is the survivor; the others vanish in the child; a holder is a thread
 * that has taken a lock and keeps it until the parent lets it go.
 */
#ifndef HAZARD_H
#define HAZARD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- verdicts ---- */

enum { HZ_OK = 0, HZ_WRONG = 1, HZ_SKIP = 2, HZ_BROKEN = 3, HZ_HUNG = 124 };

/* What bare glibc makes of a hazard: the last column but one of --list. */
#define HANGS "HANGS"
#define WRONG "WRONG"
#define EITHER "EITHER" /* hangs, or a wrong result or a crash, as the threads happen to stand */
#define RARELY "RARELY" /* may come through for long: only the preloaded half can fail */
#define OK "OK"

struct hazard {
    const char *name;
    int (*run)(const void *arg);
    const void *arg;
    const char *bare;
    const char *about;
    const char
        *chance; /* appended to the description where the bare bite is a matter of many forks */
    int patient; /* the library must wait for the holder as long as it takes: see hz_watch */
};

#define HAZARD(name, run, bare, about)                                                             \
    { name, run, NULL, bare, about, "", 0 }
#define HAZARD_OF(name, run, arg, bare, about)                                                     \
    { name, run, arg, bare, about, "", 0 }
#define HAZARD_CHANCE(name, run, arg, bare, about)                                                 \
    { name, run, arg, bare, about, " [by chance, over many forks]", 1 }
#define HAZARD_PATIENT(name, run, arg, bare, about)                                                \
    { name, run, arg, bare, about, "", 1 }

/* One write, no stdio: also said by children that inherited a stream's lock, and by signal
 * handlers. */
__attribute__((format(printf, 1, 2))) static inline void hz_say(const char *format, ...) {
    char line[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    size_t size = length < 0 ? 0 : (size_t)length;
    if (size > sizeof line - 2) {
        size = sizeof line - 2;
    }
    line[size++] = '\n';
    if (write(STDERR_FILENO, line, size) < 0) {
        return; /* nowhere to say it */
    }
}

static inline const char *hz_errno_name(long value) {
    const char *name = value > 0 && value < 4096 ? strerrorname_np((int)value) : NULL;
    return name ? name : "";
}

static inline int hz_wrong(const char *file, int line, const char *what, long got, long want) {
    hz_say("%s:%d: %s is %ld %s, should be %ld %s", file, line, what, got, hz_errno_name(got), want,
           hz_errno_name(want));
    return HZ_WRONG;
}

/* For functions that return a verdict: leave with HZ_WRONG unless the value is the wanted one. */
#define HZ_IS(call, want)                                                                          \
    do {                                                                                           \
        const long hz_got = (long)(call), hz_want = (long)(want);                                  \
        if (hz_got != hz_want) {                                                                   \
            return hz_wrong(__FILE__, __LINE__, #call, hz_got, hz_want);                           \
        }                                                                                          \
    } while (0)

#define HZ_TRUE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            hz_say("%s:%d: not true: %s", __FILE__, __LINE__, #condition);                         \
            return HZ_WRONG;                                                                       \
        }                                                                                          \
    } while (0)

/* Leave with the verdict of a part, unless that part came through. */
#define HZ_TRY(part)                                                                               \
    do {                                                                                           \
        const int hz_part = (part);                                                                \
        if (hz_part != HZ_OK) {                                                                    \
            return hz_part;                                                                        \
        }                                                                                          \
    } while (0)

/* A step that has nothing to do with the hazard must work, or the run says nothing at all. */
#define HZ_SETUP(condition)                                                                        \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            hz_say("%s:%d: cannot set up: %s (errno %d %s)", __FILE__, __LINE__, #condition,       \
                   errno, hz_errno_name(errno));                                                   \
            _exit(HZ_BROKEN);                                                                      \
        }                                                                                          \
    } while (0)

/* ---- time: for hang limits, and for lower bounds of sleeps ---- */

static inline int64_t hz_now_ms(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* How long a fork may wait for others. Half of it is far more than one takes that waits for nobody. */
static inline int64_t hz_deadline_ms(void) {
    const char *text = getenv("FORKSAFE_DEADLINE_MS");
    return text != NULL ? strtol(text, NULL, 10) : 500;
}

static inline struct timespec hz_in_ms(clockid_t clock, int64_t ms) {
    int64_t at = hz_now_ms(clock) + ms;
    struct timespec when;
    when.tv_sec = (time_t)(at / 1000);
    when.tv_nsec = (long)(at % 1000) * 1000000;
    return when;
}

/* Sleeps wholly, whatever interrupts it. Until a time: the kernel adds its timer slack to what is left, and whoever is
 * interrupted more often than that would never have slept enough. */
static inline void hz_sleep_us(long us) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += us / 1000000;
    until.tv_nsec += us % 1000000 * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

static inline int64_t hz_limit_ms(void) {
    const char *text = getenv("HAZARD_LIMIT_S");
    long seconds = text ? strtol(text, NULL, 10) : 20;
    return (seconds > 0 ? seconds : 20) * 1000;
}

/* ---- events: handshakes between threads, and processes where they lie in shared memory ---- */

/* Raw futex calls and atomics: nothing here is itself under test, or known to a preloaded library.
 */
struct hz_event {
    int count;
};

/* Marks a sleep in hz_await, so that hz_until_blocked can tell it from a wait for a lock under
 * test. */
enum { HZ_EVENT_BITS = 0x48415a };

static inline int hz_seen(struct hz_event *event) {
    return __atomic_load_n(&event->count, __ATOMIC_SEQ_CST);
}

static inline void hz_post(struct hz_event *event) {
    __atomic_add_fetch(&event->count, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &event->count, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Until the event was posted `times` times since it was made. */
static inline void hz_await(struct hz_event *event, int times) {
    for (;;) {
        int count = hz_seen(event);
        if (count >= times) {
            return;
        }
        syscall(SYS_futex, &event->count, FUTEX_WAIT_BITSET, count, NULL, NULL, HZ_EVENT_BITS);
    }
}

/* ---- threads ---- */

struct hz_thread {
    pthread_t id;
    int (*body)(void *arg);
    void *arg;
    int verdict;
    pid_t tid;
    struct hz_event begun;
};

static inline void *hz_thread_main(void *self) {
    struct hz_thread *thread = (struct hz_thread *)self;
    thread->tid = (pid_t)syscall(SYS_gettid);
    hz_post(&thread->begun);
    thread->verdict = thread->body(thread->arg);
    return NULL;
}

/* The record must not be moved or freed before hz_finish. */
static inline void hz_start(struct hz_thread *thread, int (*body)(void *), void *arg) {
    memset(thread, 0, sizeof *thread);
    thread->body = body;
    thread->arg = arg;
    errno = pthread_create(&thread->id, NULL, hz_thread_main, thread);
    HZ_SETUP(errno == 0);
    hz_await(&thread->begun, 1);
}

static inline int hz_finish(struct hz_thread *thread) {
    errno = pthread_join(thread->id, NULL);
    HZ_SETUP(errno == 0);
    return thread->verdict;
}

/* Runs body in a thread of its own and waits for it: what the lock says to somebody else. */
static inline int hz_elsewhere(int (*body)(void *), void *arg) {
    struct hz_thread other;
    hz_start(&other, body, arg);
    return hz_finish(&other);
}

/*
 * Until the thread sleeps inside the given system call (or in any, for -1), hz_await left aside.
 * /proc/PID/syscall reads "running" for a thread that does not sleep; else it has the number and
 * six arguments of the call it sleeps in (proc(5)).
 */
static inline void hz_until_blocked(pid_t tid, long call) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)tid);
    for (;;) {
        long number = -1;
        unsigned long last = 0;
        FILE *file = fopen(path, "r");
        HZ_SETUP(file != NULL);
        int found = fscanf(file, "%ld %*x %*x %*x %*x %*x %lx", &number, &last);
        fclose(file);
        int events = number == SYS_futex && last == HZ_EVENT_BITS;
        if (found == 2 && !events && (call < 0 ? number >= 0 : number == call)) {
            return;
        }
        hz_sleep_us(500);
    }
}

static inline void hz_until_stuck(struct hz_thread *thread) {
    hz_until_blocked(thread->tid, SYS_futex);
}

/* Until the thread sleeps in a futex call on a word of this object. */
static inline void hz_until_waits_at(struct hz_thread *thread, const void *object, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)thread->tid);
    for (;;) {
        long number = -1;
        unsigned long word = 0;
        FILE *file = fopen(path, "r");
        HZ_SETUP(file != NULL);
        int found = fscanf(file, "%ld %lx", &number, &word);
        fclose(file);
        if (found == 2 && number == SYS_futex && word - (unsigned long)(uintptr_t)object < size) {
            return;
        }
        hz_sleep_us(500);
    }
}

/* ---- holders: threads that take something and keep it ---- */

typedef int (*hz_action)(void *what); /* 0, or what the lock function gave */

struct hz_holder {
    struct hz_thread thread;
    hz_action take, drop;
    void *what;
    int busy; /* spins in the program's own code while it holds, instead of sleeping */
    struct hz_event held, release;
};

static inline int hz_holder_body(void *self) {
    struct hz_holder *holder = (struct hz_holder *)self;
    prctl(PR_SET_NAME, "holder");
    errno = holder->take(holder->what);
    HZ_SETUP(errno == 0);
    hz_post(&holder->held);
    while (holder->busy && hz_seen(&holder->release) == 0) {
    }
    hz_await(&holder->release, 1);
    HZ_IS(holder->drop(holder->what), 0);
    return HZ_OK;
}

static inline void hz_hold_as(struct hz_holder *holder, hz_action take, hz_action drop, void *what,
                              int busy) {
    memset(holder, 0, sizeof *holder);
    holder->take = take;
    holder->drop = drop;
    holder->what = what;
    holder->busy = busy;
    hz_start(&holder->thread, hz_holder_body, holder);
    hz_await(&holder->held, 1);
}

/* Returns once another thread holds `what`. */
static inline void hz_hold(struct hz_holder *holder, hz_action take, hz_action drop, void *what) {
    hz_hold_as(holder, take, drop, what, 0);
}

/* In the parent, after the fork: the world must run on, and the holder's own unlock must work. */
static inline int hz_let_go(struct hz_holder *holder) {
    hz_post(&holder->release);
    return hz_finish(&holder->thread);
}

/*
 * A thread that holds nothing and does nothing: its presence alone makes the fork one of a
 * multithreaded program, which glibc treats otherwise than one of a program with a single thread.
 */
struct hz_bystander {
    struct hz_thread thread;
    struct hz_event release;
};

static inline int hz_stand_by(void *self) {
    hz_await(&((struct hz_bystander *)self)->release, 1);
    return HZ_OK;
}

static inline void hz_bystander_start(struct hz_bystander *bystander) {
    bystander->release.count = 0;
    hz_start(&bystander->thread, hz_stand_by, bystander);
}

static inline int hz_bystander_stop(struct hz_bystander *bystander) {
    hz_post(&bystander->release);
    return hz_finish(&bystander->thread);
}

/* ---- children ---- */

static inline void hz_show_file(pid_t pid, const char *tid, const char *name, char *text,
                                int size) {
    char path[320];
    snprintf(path, sizeof path, "/proc/%d/task/%s/%s", (int)pid, tid, name);
    snprintf(text, (size_t)size, "?");
    FILE *file = fopen(path, "r");
    if (file) {
        if (fgets(text, size, file)) {
            text[strcspn(text, "\n")] = '\0';
        }
        fclose(file);
    }
}

/* Where each thread of a hung process stands. */
static inline void hz_show_stuck(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (!tasks) {
        return;
    }
    for (struct dirent *task = readdir(tasks); task; task = readdir(tasks)) {
        char name[32], call[160];
        if (task->d_name[0] != '.') {
            hz_show_file(pid, task->d_name, "comm", name, sizeof name);
            hz_show_file(pid, task->d_name, "syscall", call, sizeof call);
            hz_say("  hung: process %d thread %s (%s) in system call %s", (int)pid, task->d_name,
                   name, call);
        }
    }
    closedir(tasks);
}

static inline int hz_verdict(pid_t pid, int status) {
    if (WIFEXITED(status)) {
        return WEXITSTATUS(status);
    }
    hz_say("process %d was killed by signal %d (%s)", (int)pid, WTERMSIG(status),
           sigabbrev_np(WTERMSIG(status)));
    return HZ_WRONG;
}

/* Waits for a child until the limit; a child that is over it is shown, killed, and counts as hung.
 */
static inline int hz_wait_ms(pid_t pid, int64_t limit_ms) {
    int64_t deadline = hz_now_ms(CLOCK_MONOTONIC) + limit_ms;
    int status = 0;
    for (long pause_us = 20;; pause_us = pause_us < 2000 ? pause_us * 2 : 2000) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid) {
            return hz_verdict(pid, status);
        }
        HZ_SETUP(got == 0 || errno == EINTR);
        if (hz_now_ms(CLOCK_MONOTONIC) > deadline) {
            break;
        }
        hz_sleep_us(pause_us);
    }
    hz_say("process %d hung for %d s", (int)pid, (int)(limit_ms / 1000));
    hz_show_stuck(pid);
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return HZ_HUNG;
}

static inline int hz_wait(pid_t pid) { return hz_wait_ms(pid, hz_limit_ms()); }

/*
 * Runs body and ends the process with its verdict. A body that fails returns at once, while its
 * threads still use what lies in its frame; hence it runs far below the frames of what ends the
 * process.
 */
enum { HZ_DEEP = 64 * 1024 };

__attribute__((noinline, unused)) static int hz_deep(int (*body)(void *), void *arg) {
    volatile char gap[HZ_DEEP];
    gap[0] = 0;
    int verdict = body(arg);
    gap[HZ_DEEP - 1] = gap[0];
    return verdict;
}

static inline void hz_end_with(int (*body)(void *), void *arg) { _exit(hz_deep(body, arg)); }

/* A child that runs body; how long the fork took, in the parent. */
static inline int hz_fork_timed(int (*body)(void *), pid_t *pid, int64_t *ms) {
    int64_t before = hz_now_ms(CLOCK_MONOTONIC);
    *pid = fork();
    if (*pid == 0) {
        hz_end_with(body, NULL);
    }
    *ms = hz_now_ms(CLOCK_MONOTONIC) - before;
    HZ_SETUP(*pid > 0);
    return hz_wait(*pid);
}

/* How hz_child forks: some hazards put another member of the fork family here. */
static pid_t (*hz_forker)(void) __attribute__((unused)) = fork;

/* Forks; the child runs body and its verdict is the result. */
static inline int hz_child(int (*body)(void *), void *arg) {
    pid_t pid = hz_forker();
    if (pid == 0) {
        hz_end_with(body, arg);
    }
    HZ_SETUP(pid > 0);
    return hz_wait(pid);
}

/* For threads and children. */
static inline int hz_nothing(void *arg) {
    (void)arg;
    return HZ_OK;
}

/* Runs in the program's own code, where only a signal can stop it. `stop`: an hz_event. */
static inline int hz_spin(void *stop) {
    while (hz_seen((struct hz_event *)stop) == 0) {
    }
    return HZ_OK;
}

static inline sigset_t hz_usr1_only(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    return set;
}

static inline void hz_block_usr1(void) {
    sigset_t set = hz_usr1_only();
    HZ_SETUP(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
}

/* hz_child again and again, until one does not come through. */
static inline int hz_children(int forks, int (*body)(void *), void *arg) {
    for (int i = 1; i <= forks; i++) {
        int verdict = hz_child(body, arg);
        if (verdict != HZ_OK) {
            hz_say("at fork %d of %d", i, forks);
            return verdict;
        }
    }
    return HZ_OK;
}

/* ---- churn: data that is only ever seen torn by somebody who does not own its lock ---- */

struct hz_pair {
    hz_action lock, unlock;
    void *what;
    volatile long first, second;
};

static inline void hz_pair_init(struct hz_pair *pair, hz_action lock, hz_action unlock,
                                void *what) {
    pair->lock = lock;
    pair->unlock = unlock;
    pair->what = what;
    pair->first = pair->second = 0;
}

static inline int hz_pair_turn(struct hz_pair *pair) {
    HZ_IS(pair->lock(pair->what), 0);
    pair->first = pair->first + 1;
    for (volatile int work = 0; work < 2000; work = work + 1) {
    }
    pair->second = pair->second + 1;
    HZ_IS(pair->unlock(pair->what), 0);
    return HZ_OK;
}

/* In the child: the lock is free, and nobody vanished half-way through a turn. */
static inline int hz_pair_sound(struct hz_pair *pair) {
    HZ_IS(pair->lock(pair->what), 0);
    HZ_IS(pair->second, pair->first);
    HZ_IS(pair->unlock(pair->what), 0);
    return HZ_OK;
}

enum { HZ_CHURNERS = 3 };

struct hz_churn {
    struct hz_pair *pairs;
    int count;
    struct hz_thread threads[HZ_CHURNERS];
    struct hz_event turning, stop;
};

static inline int hz_churn_body(void *self) {
    struct hz_churn *churn = (struct hz_churn *)self;
    hz_post(&churn->turning);
    for (int i = 0; hz_seen(&churn->stop) == 0; i++) {
        HZ_TRY(hz_pair_turn(&churn->pairs[i % churn->count]));
    }
    return HZ_OK;
}

static inline void hz_churn_start(struct hz_churn *churn, struct hz_pair *pairs, int count) {
    memset(churn, 0, sizeof *churn);
    churn->pairs = pairs;
    churn->count = count;
    for (int i = 0; i < HZ_CHURNERS; i++) {
        hz_start(&churn->threads[i], hz_churn_body, churn);
    }
    hz_await(&churn->turning, HZ_CHURNERS);
}

static inline int hz_churn_stop(struct hz_churn *churn) {
    int verdict = HZ_OK;
    hz_post(&churn->stop);
    for (int i = 0; i < HZ_CHURNERS; i++) {
        verdict |= hz_finish(&churn->threads[i]);
    }
    return verdict;
}

static inline int hz_churn_child(void *self) {
    struct hz_churn *churn = (struct hz_churn *)self;
    for (int i = 0; i < churn->count; i++) {
        HZ_TRY(hz_pair_sound(&churn->pairs[i]));
    }
    return HZ_OK;
}

/* Churners turn all pairs while the calling thread forks; each child takes every lock and compares.
 */
static inline int hz_churn_forks(struct hz_pair *pairs, int count, int forks) {
    struct hz_churn churn;
    hz_churn_start(&churn, pairs, count);
    HZ_TRY(hz_children(forks, hz_churn_child, &churn));
    return hz_churn_stop(&churn);
}

/* ---- mutexes of every kind, since several families need them ---- */

struct hz_mutex_kind {
    int type, protocol, robust, shared;
};

/*
 * 0 or an errno value. A PRIO_PROTECT mutex can be locked only by a thread that has a real-time
 * priority (glibc's nptl/tpp.c passes the ceiling to sched_setscheduler with the thread's own
 * policy), so the caller gets the lowest.
 */
static inline int hz_mutex_make(pthread_mutex_t *mutex, const struct hz_mutex_kind *kind) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    HZ_SETUP(pthread_mutexattr_settype(&attr, kind->type) == 0);
    HZ_SETUP(pthread_mutexattr_setprotocol(&attr, kind->protocol) == 0);
    HZ_SETUP(pthread_mutexattr_setrobust(&attr, kind->robust) == 0);
    HZ_SETUP(pthread_mutexattr_setpshared(&attr, kind->shared) == 0);
    if (kind->protocol == PTHREAD_PRIO_PROTECT) {
        struct sched_param low;
        memset(&low, 0, sizeof low);
        low.sched_priority = sched_get_priority_min(SCHED_FIFO);
        if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &low) != 0) {
            return EPERM;
        }
        HZ_SETUP(pthread_mutexattr_setprioceiling(&attr, low.sched_priority + 1) == 0);
    }
    int error = pthread_mutex_init(mutex, &attr);
    pthread_mutexattr_destroy(&attr);
    if (error == 0) {
        error = pthread_mutex_lock(mutex);
    }
    if (error == 0) {
        error = pthread_mutex_unlock(mutex);
    }
    return error;
}

#define HZ_MUTEX_OR_SKIP(mutex, kind)                                                              \
    do {                                                                                           \
        const int hz_made = hz_mutex_make(mutex, kind);                                            \
        if (hz_made != 0) {                                                                        \
            hz_say("skipped: this kind of mutex cannot be used here: %s", hz_errno_name(hz_made)); \
            return HZ_SKIP;                                                                        \
        }                                                                                          \
    } while (0)

static inline int hz_mutex_lock(void *mutex) {
    return pthread_mutex_lock((pthread_mutex_t *)mutex);
}

static inline int hz_mutex_unlock(void *mutex) {
    return pthread_mutex_unlock((pthread_mutex_t *)mutex);
}

/* For hz_elsewhere: somebody else finds the mutex taken, or free. */
static inline int hz_mutex_is_taken(void *mutex) {
    HZ_IS(pthread_mutex_trylock((pthread_mutex_t *)mutex), EBUSY);
    return HZ_OK;
}

static inline int hz_mutex_is_free(void *mutex) {
    HZ_IS(pthread_mutex_trylock((pthread_mutex_t *)mutex), 0);
    HZ_IS(pthread_mutex_unlock((pthread_mutex_t *)mutex), 0);
    return HZ_OK;
}

static inline int hz_mutex_turn(void *mutex) {
    HZ_IS(pthread_mutex_lock((pthread_mutex_t *)mutex), 0);
    HZ_IS(pthread_mutex_unlock((pthread_mutex_t *)mutex), 0);
    return HZ_OK;
}

/* For hz_child: the child takes an inherited mutex, and it excludes and lets go as it should. */
static inline int hz_mutex_works(void *mutex) {
    HZ_IS(pthread_mutex_lock((pthread_mutex_t *)mutex), 0);
    HZ_TRY(hz_elsewhere(hz_mutex_is_taken, mutex));
    HZ_IS(pthread_mutex_unlock((pthread_mutex_t *)mutex), 0);
    return hz_elsewhere(hz_mutex_is_free, mutex);
}

/* ---- main ---- */

static volatile sig_atomic_t hz_told_to_end __attribute__((unused));

static inline void hz_on_end(int signo) { hz_told_to_end = signo; }

/* Kills what is a child of this process by now; orphans become that, since the watcher is their
 * subreaper. */
static inline void hz_kill_children(void) {
    DIR *processes = opendir("/proc");
    if (!processes) {
        return;
    }
    for (struct dirent *entry = readdir(processes); entry; entry = readdir(processes)) {
        char path[300];
        int pid = 0, parent = 0;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *file = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        if (file) {
            if (fscanf(file, "%d %*[^)]) %*c %d", &pid, &parent) == 2 && parent == (int)getpid()) {
                kill(pid, SIGKILL);
            }
            fclose(file);
        }
    }
    closedir(processes);
}

static inline void hz_kill_all(void) {
    int64_t deadline = hz_now_ms(CLOCK_MONOTONIC) + 10000;
    while (hz_now_ms(CLOCK_MONOTONIC) < deadline) {
        hz_kill_children();
        pid_t got;
        while ((got = waitpid(-1, NULL, WNOHANG)) > 0) {
        }
        if (got < 0 && errno == ECHILD) {
            return;
        }
        hz_sleep_us(1000);
    }
}

/*
 * Runs the hazard in a fresh process (executed, not forked: the fork under test is its first) and
 * lets nothing outlive it, not even what made itself a daemon. The whole may take as long as four
 * hung children, or a minute.
 */
static inline int hz_watch(const char *program, const struct hazard *hazard) {
    char here[] = "--watched", path[PATH_MAX] = "";
    char *argv[] = {(char *)(uintptr_t)program, here, (char *)(uintptr_t)hazard->name, NULL};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = hz_on_end;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    HZ_SETUP(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    if (hazard->patient) {
        /* A holder that is about to let go is waited for: on a busy machine that takes its time. */
        setenv("FORKSAFE_DEADLINE_MS", "20000", 0);
    }
    pid_t pid;
    HZ_SETUP(readlink("/proc/self/exe", path, sizeof path - 1) > 0);
    errno = posix_spawn(&pid, path, NULL, NULL, argv, environ);
    HZ_SETUP(errno == 0);
    int64_t limit = hz_limit_ms() * 4 > 60000 ? hz_limit_ms() * 4 : 60000;
    int64_t deadline = hz_now_ms(CLOCK_MONOTONIC) + limit;
    int status = 0, verdict = HZ_HUNG;
    while (!hz_told_to_end) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid) {
            verdict = hz_verdict(pid, status);
            break;
        }
        if (hz_now_ms(CLOCK_MONOTONIC) > deadline) {
            hz_say("the whole program hung for %d s", (int)(limit / 1000));
            hz_show_stuck(pid);
            break;
        }
        hz_sleep_us(2000);
    }
    hz_kill_all();
    return verdict;
}

static inline int hz_run_hazard(void *arg) {
    const struct hazard *hazard = (const struct hazard *)arg;
    return hazard->run(hazard->arg);
}

static inline int hz_usage(const char *program) {
    hz_say("usage: %s --list | NAME | --here NAME", program);
    return HZ_BROKEN;
}

static inline int hz_main(int argc, char **argv, const struct hazard *table, size_t count) {
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < count; i++) {
            printf("%s\t%s\t%s%s\n", table[i].name, table[i].bare, table[i].about, table[i].chance);
        }
        return 0;
    }
    int watched = argc == 3 && strcmp(argv[1], "--watched") == 0;
    int here = watched || (argc == 3 && strcmp(argv[1], "--here") == 0);
    if (argc != 2 && !here) {
        return hz_usage(argv[0]);
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(table[i].name, argv[argc - 1]) != 0) {
            continue;
        }
        if (!here) {
            return hz_watch(argv[0], &table[i]);
        }
        if (watched) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
        }
        /* Without handlers and destructors: threads may still use what they would tear down. */
        hz_end_with(hz_run_hazard, (void *)(uintptr_t)&table[i]);
    }
    hz_say("%s: no hazard named %s", argv[0], argv[argc - 1]);
    return HZ_BROKEN;
}

#define HAZARD_MAIN(table)                                                                         \
    int main(int argc, char **argv) {                                                              \
        return hz_main(argc, argv, table, sizeof table / sizeof table[0]);                         \
    }

#ifdef __cplusplus
}
#endif
#endif
