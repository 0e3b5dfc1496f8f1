/*
 * cancelcxx.cpp: stacks that are unwound through C++ frames, and through the frames of whoever
 * intercepts calls: by cancellation, pthread_exit and exceptions. Destructors lock, unlock and fork.
 */
#include "hazard.h"

#include <condition_variable>
#include <link.h>
#include <mutex>
#include <semaphore.h>
#include <stdexcept>

namespace {

std::mutex guard;
hz_pair pair;

int lock_guard(void *) {
    guard.lock();
    return 0;
}

int unlock_guard(void *) {
    guard.unlock();
    return 0;
}

int child_takes_guard(void *) {
    HZ_TRY(hz_pair_sound(&pair));
    return hz_mutex_works(guard.native_handle());
}

int fork_once() {
    pid_t pid;
    int64_t ms;
    HZ_TRY(hz_fork_timed(child_takes_guard, &pid, &ms));
    if (ms >= hz_deadline_ms() / 2) {
        hz_say("the fork took %ld ms", static_cast<long>(ms));
        return HZ_WRONG;
    }
    return HZ_OK;
}

/* Words between a thread and the forking one, without a call. */
int inside, go_on;

void say(int *word) { __atomic_store_n(word, 1, __ATOMIC_SEQ_CST); }

void hear(const int *word) {
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == 0) {
    }
}

/* ---- what the threads leave behind ---- */

int destroyed, caught, wrong;

/* Works under a lock when its frame is left, as the so many-th. */
struct Works {
    int place;
    explicit Works(int nth) : place(nth) {}
    Works(const Works &) = delete;
    ~Works() {
        wrong |= destroyed != place;
        wrong |= hz_pair_turn(&pair);
        destroyed++;
    }
};

/* Computes, without a call, until the other has forked. */
struct Computes {
    ~Computes() {
        say(&inside);
        hear(&go_on);
    }
};

int pipe_fds[2];
sem_t sem;
std::condition_variable cond;
std::mutex room;
hz_bystander bystander;

void in_read() {
    char byte;
    wrong |= read(pipe_fds[0], &byte, 1) != 1;
}

void in_sem_wait() { sem_wait(&sem); }

void in_cond_wait() {
    std::unique_lock<std::mutex> lock(room);
    cond.wait(lock, [] { return false; });
}

void in_join() { pthread_join(bystander.thread.id, nullptr); }

void in_nanosleep() {
    timespec hour = {3600, 0};
    nanosleep(&hour, nullptr);
}

void in_pthread_exit() { pthread_exit(PTHREAD_CANCELED); }

/* Leaves the thread in the middle of a call that libc makes for it. */
int leave_iteration(dl_phdr_info *, size_t, void *) { pthread_exit(PTHREAD_CANCELED); }
void in_callback() { dl_iterate_phdr(leave_iteration, nullptr); }

int leave_comparison(const void *, const void *) { pthread_exit(PTHREAD_CANCELED); }
void in_comparison() {
    int numbers[] = {2, 1};
    qsort(numbers, 2, sizeof *numbers, leave_comparison);
}

pthread_once_t once = PTHREAD_ONCE_INIT;
void leave_routine() { pthread_exit(PTHREAD_CANCELED); }
void in_once() { pthread_once(&once, leave_routine); }

std::mutex held;
void in_read_with_lock() {
    std::lock_guard<std::mutex> lock(held);
    in_read();
}

struct spot {
    void (*enter)();
    bool leaves; /* by itself */
};

__attribute__((noinline)) void inner(const spot *spot) {
    Works second(1);
    try {
        Works first(0);
        spot->enter();
    } catch (...) {
        wrong |= destroyed != 1;
        caught++;
        throw;
    }
}

__attribute__((noinline)) void outer(const spot *spot) {
    Works third(2);
    inner(spot);
}

hz_event begun;
pid_t victim_tid;
bool computes;

void *victim(void *arg) {
    victim_tid = static_cast<pid_t>(syscall(SYS_gettid));
    hz_post(&begun);
    if (computes) {
        Computes last;
        static_cast<const spot *>(arg)->enter();
    } else {
        outer(static_cast<const spot *>(arg));
    }
    return nullptr;
}

void set_up() {
    hz_pair_init(&pair, lock_guard, unlock_guard, nullptr);
    HZ_SETUP(pipe(pipe_fds) == 0 && sem_init(&sem, 0, 0) == 0);
    hz_bystander_start(&bystander);
}

pthread_t start(const spot *spot) {
    pthread_t thread;
    destroyed = caught = inside = go_on = 0;
    begun.count = 0;
    errno = pthread_create(&thread, nullptr, victim, const_cast<struct spot *>(spot));
    HZ_SETUP(errno == 0);
    hz_await(&begun, 1);
    if (!spot->leaves) {
        hz_until_blocked(victim_tid, -1);
        HZ_SETUP(pthread_cancel(thread) == 0);
    }
    return thread;
}

int ended(pthread_t thread) {
    void *result = nullptr;
    HZ_IS(pthread_join(thread, &result), 0);
    HZ_TRUE(result == PTHREAD_CANCELED);
    HZ_IS(wrong, 0);
    return HZ_OK;
}

/* Each destructor and each catch (...) that rethrows, in their order. */
int unwound(const void *arg) {
    const spot *how = static_cast<const spot *>(arg);
    set_up();
    for (int i = 0; i < 5; i++) {
        HZ_TRY(ended(start(how)));
        HZ_IS(caught, 1);
        HZ_IS(destroyed, 3);
        HZ_TRY(fork_once());
    }
    HZ_TRY(hz_elsewhere(hz_mutex_is_free, held.native_handle()));
    HZ_TRY(hz_elsewhere(hz_mutex_is_free, room.native_handle()));
    return hz_bystander_stop(&bystander);
}

/* A destructor takes its time: the thread no longer waits, or is inside anything. */
int destructor_computes(const void *arg) {
    const spot *how = static_cast<const spot *>(arg);
    set_up();
    computes = true;
    pthread_t thread = start(how);
    hear(&inside);
    HZ_TRY(fork_once());
    HZ_TRY(fork_once());
    say(&go_on);
    HZ_TRY(ended(thread));
    HZ_TRY(fork_once());
    return hz_bystander_stop(&bystander);
}

const spot read_spot = {in_read, false}, sem_spot = {in_sem_wait, false},
           cond_spot = {in_cond_wait, false}, join_spot = {in_join, false},
           nanosleep_spot = {in_nanosleep, false}, locked_spot = {in_read_with_lock, false},
           exit_spot = {in_pthread_exit, true}, callback_spot = {in_callback, true},
           comparison_spot = {in_comparison, true}, once_spot = {in_once, true};

/* ---- exceptions ---- */

int times;
void throws_once() {
    if (times++ == 0) {
        throw std::runtime_error("the first time");
    }
}

std::once_flag flag;
void by_call_once() { std::call_once(flag, throws_once); }

pthread_once_t control = PTHREAD_ONCE_INIT;
void by_pthread_once() { pthread_once(&control, throws_once); }

int throwing_comparison(const void *, const void *) {
    throws_once();
    return 0;
}

void by_qsort() {
    int numbers[] = {2, 1};
    qsort(numbers, 2, sizeof *numbers, throwing_comparison);
}

void by_bsearch() {
    int numbers[] = {1, 2};
    bsearch(&numbers[1], numbers, 2, sizeof *numbers, throwing_comparison);
}

void (*thrower)();

int throws_and_computes(void *) {
    bool thrown = false;
    try {
        thrower();
    } catch (const std::runtime_error &) {
        thrown = true;
        say(&inside);
        hear(&go_on);
    }
    HZ_TRUE(thrown);
    thrower(); /* the second time it does not */
    HZ_IS(times >= 2, 1);
    return HZ_OK;
}

int child_calls(void *) {
    thrower();
    HZ_IS(times >= 2, 1);
    return child_takes_guard(nullptr);
}

/* The thread that threw computes: no fork waits for it, and the child can make the call itself. */
int exception(const void *arg) {
    hz_thread thread;
    thrower = *static_cast<void (*const *)()>(arg);
    set_up();
    hz_start(&thread, throws_and_computes, nullptr);
    hear(&inside);
    HZ_TRY(fork_once());
    HZ_TRY(hz_child(child_calls, nullptr));
    say(&go_on);
    HZ_TRY(hz_finish(&thread));
    HZ_TRY(fork_once());
    return hz_bystander_stop(&bystander);
}

void (*const call_once_throws)() = by_call_once;
void (*const pthread_once_throws)() = by_pthread_once;
void (*const qsort_throws)() = by_qsort;
void (*const bsearch_throws)() = by_bsearch;

/* ---- thread_local ---- */

int locals_locked, locals_forked;

struct Local {
    bool forks = false;
    void use(bool fork_too) { forks = fork_too; }
    ~Local() {
        wrong |= hz_pair_turn(&pair);
        locals_locked++;
        if (forks) {
            wrong |= hz_child(child_takes_guard, nullptr);
            locals_forked++;
        }
    }
};

thread_local Local local;

int uses_local(void *fork_too) {
    local.use(fork_too != nullptr);
    return HZ_OK;
}

/* Destructors of thread_local objects that lock, and fork, while another thread turns the pair. */
int thread_locals(const void *arg) {
    hz_churn churn;
    static char yes;
    set_up();
    hz_churn_start(&churn, &pair, 1);
    for (int i = 1; i <= 20; i++) {
        hz_thread thread;
        hz_start(&thread, uses_local, arg != nullptr ? &yes : nullptr);
        HZ_TRY(hz_finish(&thread));
        HZ_IS(locals_locked, i);
        HZ_IS(locals_forked, arg != nullptr ? i : 0);
        if (arg == nullptr && i % 5 == 0) {
            HZ_TRY(hz_children(5, child_takes_guard, nullptr));
        }
    }
    HZ_IS(wrong, 0);
    HZ_TRY(hz_churn_stop(&churn));
    return hz_bystander_stop(&bystander);
}

const char forks_too = 1;

#define UNWOUND(name, spot)                                                                        \
    { "unwind_" name, unwound, &spot, OK, "destructors and catch (...), left in " name, "", 1 }
#define COMPUTES(name, spot)                                                                       \
    {                                                                                              \
        "unwind_computes_" name, destructor_computes, &spot, OK,                                   \
            "a destructor computes after " name, "", 1                                             \
    }
#define EXCEPTION(name, function)                                                                  \
    { "unwind_throw_" name, exception, &function, OK, "an exception out of " name, "", 1 }

const struct hazard hazards[] = {
    UNWOUND("read", read_spot),
    UNWOUND("sem_wait", sem_spot),
    UNWOUND("cond_wait", cond_spot),
    UNWOUND("join", join_spot),
    UNWOUND("nanosleep", nanosleep_spot),
    UNWOUND("read_with_lock", locked_spot),
    UNWOUND("pthread_exit", exit_spot),
    UNWOUND("callback", callback_spot),
    UNWOUND("comparison", comparison_spot),
    UNWOUND("once", once_spot),
    COMPUTES("read", read_spot),
    COMPUTES("sem_wait", sem_spot),
    COMPUTES("cond_wait", cond_spot),
    COMPUTES("join", join_spot),
    COMPUTES("once", once_spot),
    EXCEPTION("call_once", call_once_throws),
    EXCEPTION("pthread_once", pthread_once_throws),
    EXCEPTION("qsort", qsort_throws),
    EXCEPTION("bsearch", bsearch_throws),
    {"unwind_thread_local_locks", thread_locals, nullptr, EITHER,
     "destructors of thread_local objects lock", " [by chance, over many forks]", 1},
    {"unwind_thread_local_forks", thread_locals, &forks_too, EITHER,
     "destructors of thread_local objects fork", " [by chance, over many forks]", 1},
};

} // namespace

HAZARD_MAIN(hazards)
