/*
 * vanished.c: what the child is told about threads that it does not have, and whether it can have
 * new ones.
 */
#include "hazard.h"

#include <threads.h>

/* ---- new threads in the child ---- */

enum { NEW_THREADS = 2000, AT_ONCE = 50 };

static void *answer(void *arg) { return arg; }

static int makes_new_threads(void) {
    for (uintptr_t made = 0; made < NEW_THREADS; made += AT_ONCE) {
        pthread_t threads[AT_ONCE];
        for (uintptr_t i = 0; i < AT_ONCE; i++) {
            HZ_IS(pthread_create(&threads[i], NULL, answer, (void *)(made + i)), 0);
        }
        for (uintptr_t i = 0; i < AT_ONCE; i++) {
            void *result = NULL;
            HZ_IS(pthread_join(threads[i], &result), 0);
            HZ_IS((uintptr_t)result, made + i);
        }
    }
    return HZ_OK;
}

/* Threads that are there must still be reached. */
static int reaches_living_threads(void) {
    struct hz_holder sleeper;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    HZ_IS(pthread_kill(pthread_self(), 0), 0);
    hz_hold(&sleeper, hz_mutex_lock, hz_mutex_unlock, &mutex);
    HZ_IS(pthread_kill(sleeper.thread.id, 0), 0);
    return hz_let_go(&sleeper);
}

/* ---- calls on a vanished thread ---- */

enum { SLEEPERS = 3 };

struct family {
    int (*call)(pthread_t thread);
    int join; /* 0 is an answer too: the thread has ended, as far as the child can tell */
    struct hz_thread threads[SLEEPERS];
    struct hz_event go_on;
};

static int sleeper(void *arg) {
    struct family *family = arg;
    hz_await(&family->go_on, 1);
    return HZ_OK;
}

static int child_calls(void *arg) {
    struct family *family = arg;
    for (int i = 0; i < SLEEPERS; i++) {
        int got = family->call(family->threads[i].id);
        HZ_IS(family->join && got == 0 ? ESRCH : got, ESRCH);
    }
    HZ_TRY(reaches_living_threads());
    return makes_new_threads();
}

static int call_on_vanished(int (*call)(pthread_t), int join) {
    struct family family = {.call = call, .join = join};
    for (int i = 0; i < SLEEPERS; i++) {
        hz_start(&family.threads[i], sleeper, &family);
    }
    HZ_TRY(hz_child(child_calls, &family));
    hz_post(&family.go_on);
    for (int i = 0; i < SLEEPERS; i++) {
        HZ_TRY(hz_finish(&family.threads[i]));
    }
    return HZ_OK;
}

static int probe(pthread_t thread) { return pthread_kill(thread, 0); }
static int terminate(pthread_t thread) { return pthread_kill(thread, SIGTERM); }
static int join_thread(pthread_t thread) { return pthread_join(thread, NULL); }

static int join_for_a_second(pthread_t thread) {
    struct timespec soon = hz_in_ms(CLOCK_REALTIME, 1000);
    return pthread_timedjoin_np(thread, NULL, &soon);
}

static int try_join(pthread_t thread) { return pthread_tryjoin_np(thread, NULL); }

static int queue_signal(pthread_t thread) {
    union sigval value = {.sival_int = 1};
    return pthread_sigqueue(thread, 0, value);
}

static int kill_probe(const void *arg) {
    (void)arg;
    return call_on_vanished(probe, 0);
}

static int kill_for_real(const void *arg) {
    (void)arg;
    return call_on_vanished(terminate, 0);
}

static int sigqueue_0(const void *arg) {
    (void)arg;
    return call_on_vanished(queue_signal, 0);
}

static int cancel(const void *arg) {
    (void)arg;
    return call_on_vanished(pthread_cancel, 0);
}

static int detach(const void *arg) {
    (void)arg;
    return call_on_vanished(pthread_detach, 0);
}

static int join(const void *arg) {
    (void)arg;
    return call_on_vanished(join_thread, 1);
}

static int timedjoin(const void *arg) {
    (void)arg;
    return call_on_vanished(join_for_a_second, 1);
}

static int tryjoin(const void *arg) {
    (void)arg;
    return call_on_vanished(try_join, 1);
}

static int no_call(pthread_t thread) {
    (void)thread;
    return ESRCH;
}

static int new_threads(const void *arg) {
    (void)arg;
    return call_on_vanished(no_call, 0);
}

/* One after the other on the same thread: the second must not touch what the first gave up. */
static int every_call(pthread_t thread) {
    int joined = pthread_join(thread, NULL);
    if (joined != 0 && joined != ESRCH) {
        return joined;
    }
    int (*const calls[])(pthread_t) = {probe, pthread_cancel, pthread_detach};
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
            int got = calls[i](thread);
            if (got != ESRCH) {
                return got;
            }
        }
    }
    return ESRCH;
}

static int all_calls(const void *arg) {
    (void)arg;
    return call_on_vanished(every_call, 0);
}

/* ---- other ways to be a vanished thread ---- */

/* The ids are asked about only after the child has made so many threads that stacks were used
 * again. */
static int child_calls_late(void *arg) {
    struct family *family = arg;
    HZ_TRY(makes_new_threads());
    for (int i = 0; i < SLEEPERS; i++) {
        HZ_IS(pthread_kill(family->threads[i].id, 0), ESRCH);
    }
    return HZ_OK;
}

static int kill_late(const void *arg) {
    (void)arg;
    struct family family = {.call = NULL};
    for (int i = 0; i < SLEEPERS; i++) {
        hz_start(&family.threads[i], sleeper, &family);
    }
    HZ_TRY(hz_child(child_calls_late, &family));
    hz_post(&family.go_on);
    for (int i = 0; i < SLEEPERS; i++) {
        HZ_TRY(hz_finish(&family.threads[i]));
    }
    return HZ_OK;
}

static int c11_sleeper(void *arg) { return sleeper(arg); }

struct c11_family {
    struct family family;
    thrd_t thread;
};

static int c11_child(void *arg) {
    struct c11_family *c11 = arg;
    HZ_TRUE(thrd_detach(c11->thread) != thrd_success);
    return makes_new_threads();
}

static int c11_detach(const void *arg) {
    (void)arg;
    struct c11_family c11 = {.thread = 0};
    int result = -1;
    HZ_SETUP(thrd_create(&c11.thread, c11_sleeper, &c11.family) == thrd_success);
    HZ_TRY(hz_child(c11_child, &c11));
    hz_post(&c11.family.go_on);
    HZ_IS(thrd_join(c11.thread, &result), thrd_success);
    HZ_IS(result, HZ_OK);
    return HZ_OK;
}

/* The main thread vanishes; the child's only thread is another. */
static pthread_t main_thread;
static struct hz_event forked;

static int child_of_thread(void *arg) {
    (void)arg;
    HZ_IS(pthread_kill(main_thread, 0), ESRCH);
    HZ_IS(pthread_cancel(main_thread), ESRCH);
    HZ_TRY(reaches_living_threads());
    return makes_new_threads();
}

static int forker(void *arg) {
    int verdict = hz_child(child_of_thread, arg);
    hz_post(&forked);
    return verdict;
}

/*
 * The main thread waits outside all cancellation points: glibc signals one that is in a
 * cancellation point at once, and says ESRCH then by itself.
 */
static int main_vanishes(const void *arg) {
    struct hz_thread thread;
    (void)arg;
    main_thread = pthread_self();
    hz_start(&thread, forker, NULL);
    hz_await(&forked, 1);
    return hz_finish(&thread);
}

/* A thread that had ended, but was not joined yet, has not vanished: its result is still there to
 * be had. */
static int child_joins_ended(void *arg) {
    pthread_t *thread = arg;
    void *result = NULL;
    HZ_IS(pthread_join(*thread, &result), 0);
    HZ_IS((uintptr_t)result, 42);
    return makes_new_threads();
}

/* By the kernel's word: pthread_tryjoin_np would join what has ended. */
static int count_threads(void) {
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;
    HZ_SETUP(tasks != NULL);
    for (struct dirent *task = readdir(tasks); task; task = readdir(tasks)) {
        count += task->d_name[0] != '.';
    }
    closedir(tasks);
    return count;
}

static int ended_before(const void *arg) {
    (void)arg;
    pthread_t thread;
    void *result = NULL;
    HZ_SETUP(pthread_create(&thread, NULL, answer, (void *)(uintptr_t)42) == 0);
    while (count_threads() > 1) {
        hz_sleep_us(500);
    }
    HZ_TRY(hz_child(child_joins_ended, &thread));
    HZ_IS(pthread_join(thread, &result), 0);
    HZ_IS((uintptr_t)result, 42);
    return HZ_OK;
}

/* A thousand threads vanish, each with a mutex of its own. */
enum { MANY = 1000 };

static pthread_mutex_t many_mutexes[MANY];
static struct hz_event many_held, many_release;

static void *many_body(void *mutex) {
    int error = pthread_mutex_lock(mutex);
    hz_post(&many_held);
    hz_await(&many_release, 1);
    error |= pthread_mutex_unlock(mutex);
    return error ? mutex : NULL;
}

static int many_child(void *arg) {
    (void)arg;
    for (int i = 0; i < MANY; i++) {
        HZ_TRY(hz_mutex_turn(&many_mutexes[i]));
    }
    return makes_new_threads();
}

static int many_vanish(const void *arg) {
    (void)arg;
    static pthread_t threads[MANY];
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    HZ_SETUP(pthread_attr_setstacksize(&attr, 128 * 1024) == 0);
    for (int i = 0; i < MANY; i++) {
        HZ_SETUP(pthread_mutex_init(&many_mutexes[i], NULL) == 0);
        HZ_SETUP(pthread_create(&threads[i], &attr, many_body, &many_mutexes[i]) == 0);
    }
    hz_await(&many_held, MANY);
    HZ_TRY(hz_child(many_child, NULL));
    hz_post(&many_release);
    for (int i = 0; i < MANY; i++) {
        void *result = NULL;
        HZ_IS(pthread_join(threads[i], &result), 0);
        HZ_TRUE(result == NULL);
    }
    return HZ_OK;
}

static const struct hazard hazards[] = {
    HAZARD("vanished_kill_0", kill_probe, WRONG, "pthread_kill with signal 0 says that it lives"),
    HAZARD("vanished_kill", kill_for_real, WRONG, "pthread_kill with a signal"),
    HAZARD("vanished_kill_late", kill_late, WRONG, "pthread_kill after stacks were used again"),
    HAZARD("vanished_sigqueue", sigqueue_0, OK, "pthread_sigqueue"),
    HAZARD("vanished_cancel", cancel, WRONG, "pthread_cancel"),
    HAZARD("vanished_detach", detach, WRONG, "pthread_detach"),
    HAZARD("vanished_join", join, WRONG,
           "pthread_join returns at once; bare, a later new thread crashes"),
    HAZARD("vanished_timedjoin", timedjoin, WRONG, "pthread_timedjoin_np returns at once"),
    HAZARD("vanished_tryjoin", tryjoin, WRONG, "pthread_tryjoin_np"),
    HAZARD("vanished_all_calls", all_calls, WRONG, "join, kill, cancel and detach, twice each"),
    HAZARD("vanished_c11_detach", c11_detach, WRONG, "thrd_detach"),
    HAZARD("vanished_main", main_vanishes, WRONG, "the main thread vanishes"),
    HAZARD("vanished_new_threads", new_threads, OK, "2,000 new threads in the child"),
    HAZARD("vanished_ended_join", ended_before, OK,
           "a thread that ended before the fork is joined"),
    HAZARD("vanished_thousand", many_vanish, HANGS, "1,000 threads vanish, each with a mutex"),
};
HAZARD_MAIN(hazards)
