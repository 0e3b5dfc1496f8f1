/*
 * steps.c: a fork that begins while another thread stands before any instruction of a lock, of what it guards, or of
 * the unlock. A tracer, in a process of its own, brings that thread there; from there it goes on once the fork is over,
 * or has waited for it a little.
 */
#include "hazard.h"

#include "calls.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/ptrace.h>

enum { PATIENCE_MS = 2 }; /* then the fork is waiting for the thread */

static struct shared {
    _Atomic pid_t walker;
    _Atomic int stands; /* counts the walker's stops, from 1: fork */
    _Atomic int forked; /* at this one */
    _Atomic int steps;  /* it stands after so many instructions */
    _Atomic bool traced;
    _Atomic bool refused; /* nobody may trace here */
    _Atomic bool over;    /* there are not so many */
} * shared;

struct kind {
    hz_action take, give, try;
    void *lock;
};

static volatile long first, second; /* equal, whoever has the lock */

/* ---- the walker ---- */

/* Stops for the tracer, which sees to it that nobody else is stopped. */
static void call_tracer(void) { syscall(SYS_tgkill, getpid(), gettid(), SIGSTOP); }

static int walk(void *arg) {
    const struct kind *kind = arg;
    const struct timespec in_between = {.tv_nsec = 200 * 1000}; /* longer than a fork */
    atomic_store(&shared->walker, gettid());
    while (!atomic_load(&shared->traced) && !atomic_load(&shared->refused)) {
        hz_sleep_us(50);
    }
    while (!atomic_load(&shared->over) && !atomic_load(&shared->refused)) {
        call_tracer();
        HZ_IS(kind->take(kind->lock), 0);
        first = first + 1;
        syscall(SYS_nanosleep, &in_between, NULL);
        second = second + 1;
        HZ_IS(kind->give(kind->lock), 0);
        call_tracer();
    }
    return HZ_OK;
}

/* ---- the tracer ---- */

/* Lets the walker go on until it calls, or, with PTRACE_SINGLESTEP, for one instruction. Returns true when it has
 * called. Signals that come meanwhile are its own. */
static bool go_on(pid_t walker, enum __ptrace_request how) {
    for (int signo = 0;;) {
        int status;
        HZ_SETUP(ptrace(how, walker, NULL, (void *)(intptr_t)signo) == 0);
        HZ_SETUP(waitpid(walker, &status, __WALL) == walker && WIFSTOPPED(status));
        signo = WSTOPSIG(status);
        if (signo == SIGSTOP) {
            return true;
        }
        if (signo == SIGTRAP && how == PTRACE_SINGLESTEP) {
            return false;
        }
        signo = signo == SIGTRAP ? 0 : signo;
    }
}

static void await_fork(int64_t patience_ms) {
    int64_t deadline = hz_now_ms(CLOCK_MONOTONIC) + patience_ms;
    while (atomic_load(&shared->forked) != atomic_load(&shared->stands) &&
           hz_now_ms(CLOCK_MONOTONIC) < deadline) {
        hz_sleep_us(50);
    }
}

/* False: the turn is over before. */
static bool stands_after(pid_t walker, int steps) {
    go_on(walker, PTRACE_CONT); /* to the beginning of its turn */
    for (int step = 0; step < steps; step++) {
        if (go_on(walker, PTRACE_SINGLESTEP)) {
            return false;
        }
    }
    return true;
}

static void trace(void) {
    pid_t walker;
    int status;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while ((walker = atomic_load(&shared->walker)) == 0) {
        hz_sleep_us(50);
    }
    if (ptrace(PTRACE_SEIZE, walker, NULL, NULL) != 0 ||
        ptrace(PTRACE_INTERRUPT, walker, NULL, NULL) != 0) {
        atomic_store(&shared->refused, true);
        return;
    }
    HZ_SETUP(waitpid(walker, &status, __WALL) == walker);
    atomic_store(&shared->traced, true);
    /* Twice at each: the second time it goes on as the fork begins. */
    for (int turn = 2; stands_after(walker, turn / 2); turn++) {
        atomic_store(&shared->steps, turn / 2);
        atomic_fetch_add(&shared->stands, 1);
        await_fork(turn % 2 == 0 ? PATIENCE_MS : 0);
        go_on(walker, PTRACE_CONT); /* to the end of its turn */
        await_fork(INT_MAX);
    }
    atomic_store(&shared->over, true);
    ptrace(PTRACE_DETACH, walker, NULL, NULL);
}

/* ---- the forking thread ---- */

static int lock_is_sound(void *arg) {
    const struct kind *kind = arg;
    HZ_IS(second, first);
    HZ_IS(kind->try(kind->lock), 0);
    return kind->give(kind->lock);
}

static int forks_at_each_step(const void *arg) {
    struct kind kind = *(const struct kind *)arg;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    HZ_SETUP(shared != MAP_FAILED);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    pid_t tracer = fork();
    HZ_SETUP(tracer >= 0);
    if (tracer == 0) {
        trace();
        _exit(0);
    }
    struct hz_thread walker;
    hz_start(&walker, walk, &kind);
    int verdict = HZ_OK;
    for (int stands = 1; verdict == HZ_OK; stands++) {
        while (atomic_load(&shared->stands) != stands && !atomic_load(&shared->over) &&
               !atomic_load(&shared->refused)) {
            hz_sleep_us(50);
        }
        if (atomic_load(&shared->stands) != stands) {
            break;
        }
        verdict = hz_child(lock_is_sound, &kind);
        if (verdict != HZ_OK) {
            hz_say("after %d instructions", atomic_load(&shared->steps));
        }
        atomic_store(&shared->forked, stands);
    }
    if (verdict != HZ_OK) {
        return verdict;
    }
    int status;
    HZ_SETUP(waitpid(tracer, &status, 0) == tracer && status == 0);
    HZ_TRY(hz_finish(&walker));
    return atomic_load(&shared->refused) ? HZ_SKIP : HZ_OK;
}

/* ---- kinds ---- */

static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_mutex_t errorcheck = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spin;
static sem_t sem;

#define MUTEX(how, mutex)                                                                          \
    &(const struct kind) {                                                                         \
        pthread_mutex_##how##_of, pthread_mutex_unlock_of, pthread_mutex_trylock_of, mutex         \
    }
#define RWLOCK(how)                                                                                \
    &(const struct kind) {                                                                         \
        pthread_rwlock_##how##_of, pthread_rwlock_unlock_of, pthread_rwlock_trywrlock_of, &rwlock  \
    }

static int spins(const void *arg) {
    (void)arg;
    pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
    const struct kind kind = {pthread_spin_lock_of, pthread_spin_unlock_of, pthread_spin_trylock_of,
                              (void *)(uintptr_t)&spin};
    return forks_at_each_step(&kind);
}

static int semaphores(const void *arg) {
    (void)arg;
    sem_init(&sem, 0, 1);
    sem_wait(&sem); /* what has been waited for and posted once is known for a lock */
    sem_post(&sem);
    const struct kind kind = {sem_wait_of, sem_post_of, sem_trywait_of, &sem};
    return forks_at_each_step(&kind);
}

static pthread_cond_t cond = COND_WITH_WAITERS;

static int signal_and_lock(void *mutex) {
    HZ_IS(signal_waiter(&cond), 0);
    return pthread_mutex_lock(mutex);
}

static int signal_and_trylock(void *mutex) {
    HZ_IS(signal_waiter(&cond), 0);
    return pthread_mutex_trylock(mutex);
}

static const struct kind signals = {signal_and_lock, pthread_mutex_unlock_of, signal_and_trylock,
                                    &plain};

static const struct hazard hazards[] = {
    HAZARD_PATIENT("steps_mutex", forks_at_each_step, MUTEX(lock, &plain), WRONG, "a plain mutex"),
    HAZARD_PATIENT("steps_trylock", forks_at_each_step, MUTEX(trylock, &plain), WRONG,
                   "a plain mutex, by trylock"),
    HAZARD_PATIENT("steps_recursive", forks_at_each_step, MUTEX(lock, &recursive), WRONG,
                   "a recursive mutex"),
    HAZARD_PATIENT("steps_errorcheck", forks_at_each_step, MUTEX(lock, &errorcheck), WRONG,
                   "an error-checking mutex"),
    HAZARD_PATIENT("steps_rdlock", forks_at_each_step, RWLOCK(rdlock), WRONG,
                   "a rwlock, for reading"),
    HAZARD_PATIENT("steps_wrlock", forks_at_each_step, RWLOCK(wrlock), WRONG,
                   "a rwlock, for writing"),
    HAZARD_PATIENT("steps_spin", spins, NULL, WRONG, "a spinlock"),
    HAZARD_PATIENT("steps_sem", semaphores, NULL, WRONG, "a semaphore that is used as a lock"),
    HAZARD_PATIENT("steps_signal", forks_at_each_step, &signals, WRONG,
                   "a condition variable's signal"),
};
HAZARD_MAIN(hazards)
