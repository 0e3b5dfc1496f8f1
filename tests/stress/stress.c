// stress [options] SECONDS [SEED]: threads that nest locks of every kind, and fork in the middle of
// it.
//
// Each lock guards two counters that are equal whenever the lock is free. A forked child takes
// every lock that its thread does not hold, with the plain blocking call, and compares the
// counters; it gives back what its thread held at the fork; then it starts threads of its own,
// which do the same and may fork again.
//
// Ends with one line on stdout, "stress: N forks, N hung, N torn, N failed"; exits 0 if the last
// three are 0. Without forks (--no-fork) the program is free of undefined behaviour on bare libc:
// locks are nested in ascending order, nobody ends while holding one, and cancellation strikes only
// where a cleanup handler unlocks. With forks, bare, nearly every child hangs or finds something
// wrong. With --cooperative the program itself sees to it that no other thread holds a lock at a
// fork: then bare libc passes too, which shows that it is the forks, and not the children's own
// code, that fails.
//
// A thread never blocks on another lock between the two halves of an update. So a thread that
// cannot let go (it waits for a lock which the forking thread holds) is never in the middle of one,
// and a torn pair is a failure even where a hold had to be forced.
//
// Compile: gcc -std=gnu11 -O2 -g stress.c -o stress -pthread
#define _GNU_SOURCE
#include "watch.h"

#include <getopt.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/time.h>
#include <threads.h>

enum {
    NLOCKS = 64,
    NWORKERS = 8,
    MAXDEPTH = 6,
    MAXLEVEL = 3,    // the program forks children, they grandchildren, they great-grandchildren
    CHILD_SLOTS = 8, // the program's own unreaped children at one time
    SLOTS = 32,      // and those of all generations
    PING_PONGS = 3,
    SLOWEST_FORK_MS = 4500, // below the deadline that run sets: nobody holds anything for long
    SAID_MAX = 40           // after that many failure lines only the counts go on
};

// ---- What all processes share ----

struct slot {
    _Atomic int used;
    _Atomic pid_t pid;
    _Atomic int parent;      // slot of the parent, -1 for the program's own children
    _Atomic int64_t started; // ms
    _Atomic int step;        // enum step, and the lock it is at, for the words about a hung child
    _Atomic int lock;
};

struct shared {
    atomic_ulong beat, forks, hung, torn, failed, said;
    struct slot slots[SLOTS];
};

enum step {
    AT_FORK,
    AT_KILL,
    AT_TAKE,
    AT_INTRUDER,
    AT_GIVE,
    AT_OWN,
    AT_AGAIN,
    AT_TICK,
    AT_THREADS,
    AT_JOIN,
    AT_GRANDCHILD,
    AT_DESTROY,
    AT_END
};

static const char *const step_names[] = {
    [AT_FORK] = "inside fork",
    [AT_KILL] = "pthread_kill of vanished threads",
    [AT_TAKE] = "taking a lock that a vanished thread may have held",
    [AT_INTRUDER] = "trying all locks from a second thread",
    [AT_GIVE] = "giving back a lock it took",
    [AT_OWN] = "giving back a lock held since before the fork",
    [AT_AGAIN] = "taking every lock once more",
    [AT_TICK] = "taking the signal handler's lock",
    [AT_THREADS] = "creating threads",
    [AT_JOIN] = "its threads' rounds, and joining them",
    [AT_GRANDCHILD] = "waiting for its own child",
    [AT_DESTROY] = "destroying the locks",
    [AT_END] = "exiting",
};

static struct shared *shared;

static struct {
    int seconds, hang_limit_s;
    _Atomic int forks_per_s; // 0 once the program is at its end
    bool cooperative;
    unsigned long seed;
    const char *kinds;
} options = {.hang_limit_s = 30, .forks_per_s = 100};

__attribute__((format(printf, 2, 3))) static void count(atomic_ulong *which, const char *format,
                                                        ...) {
    atomic_fetch_add(which, 1);
    if (atomic_fetch_add(&shared->said, 1) >= SAID_MAX) {
        return;
    }
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    watch_say("stress: pid %d: %s\n", (int)getpid(), text);
}

// ---- Locks: one table row a kind ----

struct lock {
    const struct kind *kind;
    int index;
    union {
        pthread_mutex_t mutex;
        pthread_rwlock_t rwlock;
        pthread_spinlock_t spin;
        mtx_t mtx;
        sem_t sem;
        FILE *file;
    };
    pthread_cond_t cond; // beside a mutex, where the kind says so
    unsigned pings;
    unsigned turn;
    long first, second; // guarded; equal whenever the lock is free
};

enum {
    RECURSIVE = 1,    // the holder may take it again
    SHARED = 2,       // has read holds; lock_shared is there
    SHARED_TWICE = 4, // and one thread may have several while writers wait
    OWNED = 8,        // unlock by a thread that does not hold it is defined to fail with EPERM
    COND = 16,
    SPIN = 32 // no long sleeps under it
};

struct kind {
    const char *name;
    unsigned flags;
    int (*init)(struct lock *);
    int (*lock)(struct lock *);
    int (*trylock)(struct lock *);   // EBUSY where it is held
    int (*timedlock)(struct lock *); // may be NULL
    int (*unlock)(struct lock *);
    int (*lock_shared)(struct lock *);
    int (*destroy)(struct lock *);
};

static struct lock locks[NLOCKS];

// Far beyond any hang limit: a timed lock that times out has waited for a lock that never came.
static struct timespec far_end(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_sec += 3600;
    return t;
}

static int mutex_make(struct lock *l, int type, int robust, int protocol) {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, type);
    pthread_mutexattr_setrobust(&a, robust);
    pthread_mutexattr_setprotocol(&a, protocol);
    int r = pthread_mutex_init(&l->mutex, &a);
    pthread_mutexattr_destroy(&a);
    return r;
}
static int init_normal(struct lock *l) {
    return mutex_make(l, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
}
static int init_recursive(struct lock *l) {
    return mutex_make(l, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
}
static int init_errorcheck(struct lock *l) {
    return mutex_make(l, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
}
static int init_adaptive(struct lock *l) {
    return mutex_make(l, PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
}
static int init_robust(struct lock *l) {
    return mutex_make(l, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
}
static int init_pi(struct lock *l) {
    return mutex_make(l, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
}
static int init_pi_robust(struct lock *l) {
    return mutex_make(l, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_INHERIT);
}
static int init_cond(struct lock *l) {
    int r = pthread_cond_init(&l->cond, NULL);
    return r != 0 ? r : init_normal(l);
}
static int mutex_lock(struct lock *l) { return pthread_mutex_lock(&l->mutex); }
static int mutex_trylock(struct lock *l) { return pthread_mutex_trylock(&l->mutex); }
static int mutex_timedlock(struct lock *l) {
    struct timespec end = far_end(CLOCK_REALTIME);
    return pthread_mutex_timedlock(&l->mutex, &end);
}
static int mutex_clocklock(struct lock *l) {
    struct timespec end = far_end(CLOCK_MONOTONIC);
    return pthread_mutex_clocklock(&l->mutex, CLOCK_MONOTONIC, &end);
}
static int mutex_unlock(struct lock *l) { return pthread_mutex_unlock(&l->mutex); }
static int mutex_destroy(struct lock *l) { return pthread_mutex_destroy(&l->mutex); }
static int cond_destroy(struct lock *l) {
    int r = pthread_cond_destroy(&l->cond);
    return r != 0 ? r : pthread_mutex_destroy(&l->mutex);
}

static int rwlock_make(struct lock *l, int preference) {
    pthread_rwlockattr_t a;
    pthread_rwlockattr_init(&a);
    pthread_rwlockattr_setkind_np(&a, preference);
    int r = pthread_rwlock_init(&l->rwlock, &a);
    pthread_rwlockattr_destroy(&a);
    return r;
}
static int init_rw_readers(struct lock *l) {
    return rwlock_make(l, PTHREAD_RWLOCK_PREFER_READER_NP);
}
static int init_rw_writer(struct lock *l) {
    return rwlock_make(l, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
}
static int rw_lock(struct lock *l) { return pthread_rwlock_wrlock(&l->rwlock); }
static int rw_trylock(struct lock *l) { return pthread_rwlock_trywrlock(&l->rwlock); }
static int rw_timedlock(struct lock *l) {
    struct timespec end = far_end(CLOCK_REALTIME);
    return pthread_rwlock_timedwrlock(&l->rwlock, &end);
}
static int rw_lock_shared(struct lock *l) { return pthread_rwlock_rdlock(&l->rwlock); }
static int rw_unlock(struct lock *l) { return pthread_rwlock_unlock(&l->rwlock); }
static int rw_destroy(struct lock *l) { return pthread_rwlock_destroy(&l->rwlock); }

static int init_spin(struct lock *l) {
    return pthread_spin_init(&l->spin, PTHREAD_PROCESS_PRIVATE);
}
static int spin_lock(struct lock *l) { return pthread_spin_lock(&l->spin); }
static int spin_trylock(struct lock *l) { return pthread_spin_trylock(&l->spin); }
static int spin_unlock(struct lock *l) { return pthread_spin_unlock(&l->spin); }
static int spin_destroy(struct lock *l) { return pthread_spin_destroy(&l->spin); }

static int from_c11(int r) { return r == thrd_success ? 0 : r == thrd_busy ? EBUSY : EINVAL; }
static int init_mtx(struct lock *l) { return from_c11(mtx_init(&l->mtx, mtx_timed)); }
static int init_mtx_recursive(struct lock *l) {
    return from_c11(mtx_init(&l->mtx, mtx_timed | mtx_recursive));
}
static int c11_lock(struct lock *l) { return from_c11(mtx_lock(&l->mtx)); }
static int c11_trylock(struct lock *l) { return from_c11(mtx_trylock(&l->mtx)); }
static int c11_timedlock(struct lock *l) {
    struct timespec end = far_end(CLOCK_REALTIME);
    return from_c11(mtx_timedlock(&l->mtx, &end));
}
static int c11_unlock(struct lock *l) { return from_c11(mtx_unlock(&l->mtx)); }
static int c11_destroy(struct lock *l) {
    mtx_destroy(&l->mtx);
    return 0;
}

// Once posted by the thread that waited: before that no fork waits for its holder, since it might be no lock.
static int init_sem(struct lock *l) {
    return sem_init(&l->sem, 0, 1) == 0 && sem_wait(&l->sem) == 0 && sem_post(&l->sem) == 0 ? 0
                                                                                           : errno;
}
static int sem_lock(struct lock *l) {
    int r;
    while ((r = sem_wait(&l->sem)) != 0 && errno == EINTR) {
    }
    return r == 0 ? 0 : errno;
}
static int sem_trylock(struct lock *l) {
    int r;
    while ((r = sem_trywait(&l->sem)) != 0 && errno == EINTR) {
    }
    return r == 0 ? 0 : errno == EAGAIN ? EBUSY : errno;
}
static int sem_timedlock(struct lock *l) {
    struct timespec end = far_end(CLOCK_REALTIME);
    int r;
    while ((r = sem_timedwait(&l->sem, &end)) != 0 && errno == EINTR) {
    }
    return r == 0 ? 0 : errno;
}
static int sem_unlock(struct lock *l) { return sem_post(&l->sem) == 0 ? 0 : errno; }
static int sem_close_down(struct lock *l) { return sem_destroy(&l->sem) == 0 ? 0 : errno; }

static int init_file(struct lock *l) {
    l->file = fopen("/dev/null", "we");
    return l->file != NULL ? 0 : errno;
}
static int file_lock(struct lock *l) {
    flockfile(l->file);
    return 0;
}
static int file_trylock(struct lock *l) { return ftrylockfile(l->file) == 0 ? 0 : EBUSY; }
static int file_unlock(struct lock *l) {
    funlockfile(l->file);
    return 0;
}
static int file_destroy(struct lock *l) { return fclose(l->file) == 0 ? 0 : errno; }

#define MUTEX(lock_timed) mutex_lock, mutex_trylock, lock_timed, mutex_unlock, NULL, mutex_destroy
#define RWLOCK rw_lock, rw_trylock, rw_timedlock, rw_unlock, rw_lock_shared, rw_destroy
#define C11 c11_lock, c11_trylock, c11_timedlock, c11_unlock, NULL, c11_destroy
static const struct kind kinds[] = {
    {"normal", 0, init_normal, MUTEX(mutex_clocklock)},
    {"recursive", RECURSIVE | OWNED, init_recursive, MUTEX(mutex_timedlock)},
    {"errorcheck", OWNED, init_errorcheck, MUTEX(mutex_timedlock)},
    {"adaptive", 0, init_adaptive, MUTEX(mutex_timedlock)},
    {"robust", OWNED, init_robust, MUTEX(mutex_timedlock)},
    {"pi", 0, init_pi, MUTEX(mutex_timedlock)},
    {"pi-robust-recursive", RECURSIVE | OWNED, init_pi_robust, MUTEX(mutex_timedlock)},
    {"cond", COND, init_cond, mutex_lock, mutex_trylock, mutex_timedlock, mutex_unlock, NULL,
     cond_destroy},
    {"rwlock", SHARED | SHARED_TWICE, init_rw_readers, RWLOCK},
    {"rwlock-writer", SHARED, init_rw_writer, RWLOCK},
    {"mtx", 0, init_mtx, C11},
    {"mtx-recursive", RECURSIVE, init_mtx_recursive, C11},
    {"sem", 0, init_sem, sem_lock, sem_trylock, sem_timedlock, sem_unlock, NULL, sem_close_down},
    {"file", RECURSIVE, init_file, file_lock, file_trylock, NULL, file_unlock, NULL, file_destroy},
    {"spin", SPIN, init_spin, spin_lock, spin_trylock, NULL, spin_unlock, NULL, spin_destroy},
};
enum { NKINDS = sizeof kinds / sizeof kinds[0] };

static bool kind_wanted(const struct kind *kind) {
    size_t length = strlen(kind->name);
    for (const char *p = options.kinds; p != NULL;
         p = strchr(p, ',') != NULL ? strchr(p, ',') + 1 : NULL) {
        if (strncmp(p, kind->name, length) == 0 && (p[length] == ',' || p[length] == '\0')) {
            return true;
        }
    }
    return options.kinds == NULL;
}

// Kinds alternate in the order of nesting, but spinlocks come last: who waits for one burns the
// processor that its holder needs, so little should happen under them.
static bool locks_make(void) {
    const struct kind *wanted[NKINDS];
    int n = 0;
    for (int k = 0; k < NKINDS; k++) {
        if (kind_wanted(&kinds[k])) {
            wanted[n++] = &kinds[k];
        }
    }
    if (n == 0) {
        return false;
    }
    bool last_is_spin = (wanted[n - 1]->flags & SPIN) != 0 && n > 1;
    int spins = last_is_spin ? NLOCKS / n : 0, others = last_is_spin ? n - 1 : n;
    for (int i = 0; i < NLOCKS; i++) {
        struct lock *l = &locks[i];
        l->index = i;
        l->kind = i >= NLOCKS - spins ? wanted[n - 1] : wanted[i % others];
        if (l->kind->init(l) != 0) {
            return false;
        }
    }
    return true;
}

// ---- Threads ----

struct held {
    struct lock *lock;
    int times;
    bool is_shared;
};

struct self {
    unsigned long random;
    struct held held[MAXDEPTH];
    int depth;
    int worker; // index in process.workers, -1 for the process's main thread and detached threads
};

enum want { GO_ON, END, CANCEL_NOW, CANCEL_WAITING };

struct worker {
    _Atomic bool is_there; // from after its creation until before it is joined: handle may be used
    _Atomic bool has_ended;
    pthread_t handle;
    bool is_c11;
    _Atomic int want;
    struct self self;
};

// This process's state, made anew in each child.
static struct {
    int level; // 0 in the program itself
    int slot;
    pthread_t main; // the handle of the thread that is the process's first
    struct worker workers[NWORKERS];
    _Atomic int credits;       // a child's right to fork; the program's own is by the clock
    _Atomic int64_t next_fork; // us
    _Atomic pid_t grandchild;
    _Atomic int grandchild_slot;
    _Atomic int detached;
    _Atomic bool hot;
    _Atomic bool round_stop; // --cooperative only: a thread is about to fork
    _Atomic int in_round;
    sem_t past_ping_pong;
} process;

static unsigned pick(struct self *s, unsigned n) {
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    return (unsigned)((s->random * 2685821657736338717UL) >> 33) % n;
}

static unsigned long sprout(struct self *s) {
    pick(s, 1);
    return s->random ^ 0x9e3779b97f4a7c15UL;
}

static void sleep_us(long us) {
    struct timespec t = {.tv_nsec = us * 1000};
    nanosleep(&t, NULL);
}

// All under 5 ms, so that no hold is ever near the time after which it would be forced. In hot
// times nobody sleeps: else everybody soon waits for a sleeper, and few forks meet a thread in the
// middle of a lock call.
static void block_briefly(struct self *s) {
    switch (atomic_load(&process.hot) ? 2 + pick(s, 2) : pick(s, 4)) {
    case 0:
        sleep_us(50 + (long)pick(s, 500));
        break;
    case 1:
        poll(NULL, 0, 1);
        break;
    case 2:
        sched_yield();
        break;
    default: {
        // A libc call with a hidden lock, and malloc's: short, but not to be cut in two by a fork.
        time_t now = 86400 * (time_t)pick(s, 10000);
        struct tm tm;
        localtime_r(&now, &tm);
        tm.tm_isdst = -1;
        void *p = malloc(1 + pick(s, 3000));
        if (mktime(&tm) != now || p == NULL) {
            count(&shared->failed, "mktime does not invert localtime_r, or malloc failed");
        }
        free(p);
    }
    }
}

static void check_pair(const struct lock *l, const char *when) {
    if (l->first != l->second) {
        count(&shared->torn, "lock %d (%s): %ld and %ld %s", l->index, l->kind->name, l->first,
              l->second, when);
    }
}

static void work_under(struct self *s, struct lock *l, bool is_shared) {
    check_pair(l, "under the lock");
    if (is_shared) {
        return;
    }
    l->first++;
    if (pick(s, (l->kind->flags & SPIN) != 0 ? 256 : 32) == 0) {
        block_briefly(s);
    }
    l->second++;
}

static void check_zero(int r, const struct lock *l, const char *call) {
    if (r != 0) {
        count(&shared->failed, "lock %d (%s): %s gave %s", l->index, l->kind->name, call,
              strerror(r));
    }
}

static bool take(struct self *s, struct lock *l) {
    const struct kind *k = l->kind;
    struct held *h = &s->held[s->depth];
    *h = (struct held){.lock = l, .times = 1};
    unsigned how = pick(s, 8);
    int r;
    if ((k->flags & SHARED) != 0 && pick(s, 2) == 0) {
        h->is_shared = true;
        r = k->lock_shared(l);
    } else if (how == 0) {
        r = k->trylock(l);
        if (r == EBUSY) {
            return false;
        }
    } else {
        r = how == 1 && k->timedlock != NULL ? k->timedlock(l) : k->lock(l);
    }
    if (r != 0) {
        check_zero(r, l, "lock");
        return false;
    }
    s->depth++;
    bool again = (k->flags & RECURSIVE) != 0 || (h->is_shared && (k->flags & SHARED_TWICE) != 0);
    while (again && h->times < 4 && pick(s, 3) == 0) {
        check_zero(h->is_shared ? k->lock_shared(l) : k->lock(l), l, "lock again");
        h->times++;
    }
    return true;
}

// Gives back the hold at index i of the thread's stack, whatever is above it.
static void give(struct self *s, int i, bool check_owner) {
    struct held h = s->held[i];
    memmove(&s->held[i], &s->held[i + 1], (size_t)(s->depth - i - 1) * sizeof h);
    s->depth--;
    for (int n = 0; n < h.times; n++) {
        check_zero(h.lock->kind->unlock(h.lock), h.lock, "unlock");
    }
    if (check_owner && (h.lock->kind->flags & OWNED) != 0) {
        int r = h.lock->kind->unlock(h.lock);
        if (r != EPERM) {
            count(&shared->failed, "lock %d (%s): one unlock too many gave %s", h.lock->index,
                  h.lock->kind->name, r == 0 ? "0" : strerror(r));
        }
    }
}

// The lock is the highest that this thread holds, so that taking it again after the wait keeps the
// order.
static void ping(struct self *s, struct lock *l) {
    l->pings++;
    if (pick(s, atomic_load(&process.hot) ? 32 : 2) != 0) {
        check_zero(pthread_cond_broadcast(&l->cond), l, "broadcast");
        return;
    }
    unsigned before = l->pings;
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_nsec += 1000000 + pick(s, 2000000);
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    int r = 0;
    while (r == 0 && l->pings == before) {
        r = pthread_cond_timedwait(&l->cond, &l->mutex, &end);
    }
    check_zero(r == ETIMEDOUT ? 0 : r, l, "timedwait");
}

// --cooperative: who wants to fork waits until nobody is in a round, and nobody begins one
// meanwhile. The two flags make a store-then-load on both sides, all sequentially consistent: one
// side sees the other.
static void round_enter(void) {
    while (options.cooperative) {
        atomic_fetch_add(&process.in_round, 1);
        if (!atomic_load(&process.round_stop)) {
            return;
        }
        atomic_fetch_sub(&process.in_round, 1);
        sleep_us(50);
    }
}

static void round_leave(void) {
    if (options.cooperative) {
        atomic_fetch_sub(&process.in_round, 1);
    }
}

static bool rounds_stop(void) {
    bool is_running = false;
    if (!atomic_compare_exchange_strong(&process.round_stop, &is_running, true)) {
        return false;
    }
    while (atomic_load(&process.in_round) > 0) {
        sleep_us(20);
    }
    return true;
}

static void rounds_go(void) { atomic_store(&process.round_stop, false); }

static void maybe_fork(struct self *s);

// One round: takes up to MAXDEPTH locks in ascending order, does something at each depth, gives
// them back.
static void nest(struct self *s) {
    unsigned goal = 1 + pick(s, MAXDEPTH), i = pick(s, NLOCKS);
    maybe_fork(s);
    round_enter();
    while (s->depth < (int)goal && i < NLOCKS) {
        struct lock *l = &locks[i];
        if (take(s, l)) {
            struct held *h = &s->held[s->depth - 1];
            work_under(s, l, h->is_shared);
            if ((l->kind->flags & COND) != 0 && pick(s, 8) == 0) {
                ping(s, l);
            }
            if (pick(s, (l->kind->flags & SPIN) != 0 ? 256 : 64) == 0) {
                block_briefly(s);
            }
            if (!options.cooperative) {
                maybe_fork(s);
            }
        }
        i += 1 + pick(s, 12);
    }
    while (s->depth > 0) {
        int which = pick(s, 2) == 0 ? s->depth - 1 : (int)pick(s, (unsigned)s->depth);
        give(s, which, pick(s, 8) == 0);
    }
    round_leave();
}

// ---- The signal handler and its lock ----

static struct {
    pthread_mutex_t mutex;
    volatile long first, second;
} tick = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void on_tick(int sig) {
    int saved = errno;
    (void)sig;
    if (pthread_mutex_trylock(&tick.mutex) == 0) {
        if (tick.first != tick.second) {
            count(&shared->torn, "the handler's lock: %ld and %ld", tick.first, tick.second);
        }
        tick.first++;
        tick.second++;
        pthread_mutex_unlock(&tick.mutex);
    }
    errno = saved;
}

static void tick_start(int every_us) {
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    struct itimerval when = {.it_interval.tv_usec = every_us, .it_value.tv_usec = every_us};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &when, NULL);
}

static void tick_mask(int how) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(how, &set, NULL);
}

// ---- The child ----

static void at(enum step step, const struct lock *l) {
    atomic_store(&shared->slots[process.slot].step, (int)step);
    atomic_store(&shared->slots[process.slot].lock, l != NULL ? l->index : -1);
}

static bool holds(const struct self *s, const struct lock *l) {
    for (int i = 0; i < s->depth; i++) {
        if (s->held[i].lock == l) {
            return true;
        }
    }
    return false;
}

static void shuffle(struct self *s, int *order, int n) {
    for (int i = n - 1; i > 0; i--) {
        int j = (int)pick(s, (unsigned)i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}

static bool has_vanished(pthread_t thread, const char *what) {
    int r = pthread_kill(thread, 0);
    if (r != ESRCH) {
        count(&shared->failed, "pthread_kill of the vanished %s gave %d", what, r);
    }
    return r == ESRCH;
}

// Before any thread is created: a new one may get the handle of a vanished one.
static void check_vanished(struct self *s) {
    at(AT_KILL, NULL);
    for (int i = 0; i < NWORKERS; i++) {
        struct worker *w = &process.workers[i];
        // One that had ended but was not joined is no longer vanished by the fork: either answer is
        // right.
        if (i != s->worker && atomic_load(&w->is_there) && !atomic_load(&w->has_ended) &&
            !has_vanished(w->handle, "worker")) {
            return;
        }
    }
    if (!pthread_equal(pthread_self(), process.main)) {
        has_vanished(process.main, "main thread");
    }
}

static void process_reset(int level, int slot) {
    memset(&process, 0, sizeof process);
    process.level = level;
    process.slot = slot;
    process.main = pthread_self();
    process.grandchild_slot = -1;
    sem_init(&process.past_ping_pong, 0, 0);
}

static int take_all_others(struct self *s, int *order) {
    int n = 0;
    for (int i = 0; i < NLOCKS; i++) {
        if (!holds(s, &locks[i])) {
            order[n++] = i;
        }
    }
    shuffle(s, order, n);
    for (int i = 0; i < n; i++) {
        struct lock *l = &locks[order[i]];
        at(AT_TAKE, l);
        int r = l->kind->lock(l);
        // A hold that had to be forced may rightly be passed on as that of a dead owner.
        if (r == EOWNERDEAD) {
            r = pthread_mutex_consistent(&l->mutex);
        }
        check_zero(r, l, "the child's lock");
        check_pair(l, "in the child");
    }
    return n;
}

// Every lock is now held by the child's first thread, from before the fork or since: nobody else
// gets in.
static void *intrude(void *arg) {
    (void)arg;
    for (int i = 0; i < NLOCKS; i++) {
        struct lock *l = &locks[i];
        at(AT_INTRUDER, l);
        int r = l->kind->trylock(l);
        if (r != EBUSY) {
            count(&shared->failed, "lock %d (%s): trylock of a held lock gave %s", i, l->kind->name,
                  r == 0 ? "0" : strerror(r));
        }
        if (r == 0) {
            l->kind->unlock(l);
        }
    }
    return NULL;
}

static void run_intruder(void) {
    pthread_t thread;
    int r = pthread_create(&thread, NULL, intrude, NULL);
    if (r != 0) {
        count(&shared->failed, "pthread_create in the child gave %s", strerror(r));
        return;
    }
    r = pthread_join(thread, NULL);
    if (r != 0) {
        count(&shared->failed, "pthread_join of the intruder gave %s", strerror(r));
    }
}

static void give_back_own(struct self *s) {
    while (s->depth > 0) {
        struct held *h = &s->held[s->depth - 1];
        at(AT_OWN, h->lock);
        check_pair(h->lock, "under a lock held since before the fork");
        if (!h->is_shared) {
            h->lock->first++;
            h->lock->second++;
        }
        give(s, s->depth - 1, true);
    }
}

static void visit_every_lock(struct self *s) {
    for (int i = 0; i < NLOCKS; i++) {
        struct lock *l = &locks[i];
        check_zero(l->kind->lock(l), l, "the second lock");
        work_under(s, l, false);
        check_zero(l->kind->unlock(l), l, "the second unlock");
    }
}

// Two threads hand a turn back and forth, by plain waits: a wakeup that goes to a vanished waiter
// hangs it.
static void ping_pong(struct lock *l, unsigned me) {
    check_zero(l->kind->lock(l), l, "lock");
    for (int i = 0; i < PING_PONGS; i++) {
        while (l->turn % 2 != me) {
            check_zero(pthread_cond_wait(&l->cond, &l->mutex), l, "wait");
        }
        l->turn++;
        check_zero(pthread_cond_signal(&l->cond), l, "signal");
    }
    check_zero(l->kind->unlock(l), l, "unlock");
}

static void *child_thread(void *arg) {
    struct worker *w = arg;
    struct self *s = &w->self;
    visit_every_lock(s);
    for (int i = 0; i < NLOCKS; i++) {
        if ((locks[i].kind->flags & COND) != 0) {
            ping_pong(&locks[i], (unsigned)s->worker);
        }
    }
    sem_post(&process.past_ping_pong);
    for (int i = 0; i < 6; i++) {
        nest(s);
    }
    atomic_store(&w->has_ended, true);
    return NULL;
}

static void child_threads(struct self *s) {
    at(AT_THREADS, NULL);
    for (int i = 0; i < NLOCKS; i++) {
        locks[i].turn = 0;
    }
    process.credits = process.level < MAXLEVEL && !options.cooperative && pick(s, 4) == 0;
    process.hot = pick(s, 2) == 0;
    for (int i = 0; i < 2; i++) {
        struct worker *w = &process.workers[i];
        w->self = (struct self){.random = sprout(s), .worker = i};
        int r = pthread_create(&w->handle, NULL, child_thread, w);
        if (r != 0) {
            count(&shared->failed, "pthread_create in the child gave %s", strerror(r));
            _exit(1);
        }
        atomic_store(&w->is_there, true);
    }
    at(AT_JOIN, NULL);
    // Its own rounds wait on the same condition variables, so not before the plain waits are over.
    for (int i = 0; i < 2; i++) {
        while (sem_wait(&process.past_ping_pong) != 0) {
        }
    }
    for (int i = 0; i < 6; i++) {
        nest(s);
    }
    for (int i = 0; i < 2; i++) {
        atomic_store(&process.workers[i].is_there, false);
        int r = pthread_join(process.workers[i].handle, NULL);
        if (r != 0) {
            count(&shared->failed, "pthread_join in a child of level %d gave %s", process.level,
                  strerror(r));
        }
    }
}

static void slot_free(int slot) {
    atomic_store(&shared->slots[slot].pid, 0);
    atomic_store(&shared->slots[slot].used, 0);
}

static void count_status(int status) {
    if (status != 0) {
        count(&shared->failed, "a child came to %s", watch_status(status));
    }
}

static void reap_grandchild(void) {
    at(AT_GRANDCHILD, NULL);
    pid_t pid = atomic_load(&process.grandchild);
    if (pid <= 0) {
        return;
    }
    int status, r;
    // Without a limit: the program's main thread watches over whole families.
    while ((r = waitpid(pid, &status, 0)) < 0 && errno == EINTR) {
    }
    if (r == pid) {
        count_status(status);
    } else {
        count(&shared->failed, "waitpid in the child: %s", strerror(errno));
    }
    slot_free(process.grandchild_slot);
}

static void destroy_all(void) {
    for (int i = 0; i < NLOCKS; i++) {
        at(AT_DESTROY, &locks[i]);
        check_zero(locks[i].kind->destroy(&locks[i]), &locks[i], "destroy");
    }
}

_Noreturn static void child(const struct self *forker, int slot) {
    // A copy: the forker's own is in the table that is made anew.
    struct self mine = *forker, *s = &mine;
    int order[NLOCKS], level = process.level + 1;
    watch_die_after(4 * options.hang_limit_s);
    process.slot = slot;
    if (!options.cooperative) {
        check_vanished(s); // bare libc's answer is another
    }
    process_reset(level, slot);
    s->worker = -1;
    tick_mask(SIG_UNBLOCK);
    tick_start(1000);

    int n = take_all_others(s, order);
    if (pick(s, 4) == 0) {
        run_intruder();
    }
    shuffle(s, order, n);
    for (int i = 0; i < n; i++) {
        struct lock *l = &locks[order[i]];
        at(AT_GIVE, l);
        check_zero(l->kind->unlock(l), l, "the child's unlock");
    }
    give_back_own(s);
    at(AT_AGAIN, NULL);
    visit_every_lock(s);

    at(AT_TICK, NULL);
    pthread_mutex_lock(&tick.mutex);
    if (tick.first != tick.second) {
        count(&shared->torn, "the handler's lock in the child: %ld and %ld", tick.first,
              tick.second);
    }
    pthread_mutex_unlock(&tick.mutex);

    child_threads(s);
    reap_grandchild();
    destroy_all();
    at(AT_END, NULL);
    _exit(0); // what went wrong is counted in shared memory
}

// ---- Forking ----

static int slot_take(void) {
    int from = process.level == 0 ? 0 : CHILD_SLOTS, to = process.level == 0 ? CHILD_SLOTS : SLOTS;
    for (int i = from; i < to; i++) {
        int unused = 0;
        if (atomic_compare_exchange_strong(&shared->slots[i].used, &unused, 1)) {
            return i;
        }
    }
    return -1;
}

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

// The program's own forks are spread around the asked rate; now and then the next one is due at
// once, so that two threads fork at the same time.
static bool fork_is_due(struct self *s) {
    if (process.level > 0) {
        return atomic_load(&process.credits) > 0 && pick(s, 4) == 0 &&
               atomic_fetch_sub(&process.credits, 1) > 0;
    }
    int rate = atomic_load(&options.forks_per_s);
    if (rate == 0) {
        return false;
    }
    int64_t due = atomic_load(&process.next_fork), now = now_us();
    if (now < due) {
        return false;
    }
    unsigned mean = 1000000 / (unsigned)rate;
    int64_t next = pick(s, 4) == 0 ? now : now + pick(s, 2 * mean + mean / 2);
    return atomic_compare_exchange_strong(&process.next_fork, &due, next);
}

static void maybe_fork(struct self *s) {
    if (!fork_is_due(s)) {
        return;
    }
    int slot = slot_take();
    if (slot < 0) {
        return;
    }
    struct slot *mine = &shared->slots[slot];
    atomic_store(&mine->step, AT_FORK);
    atomic_store(&mine->lock, -1);
    atomic_store(&mine->parent, process.level == 0 ? -1 : process.slot);
    if (options.cooperative && !rounds_stop()) {
        slot_free(slot);
        return;
    }
    int64_t start = watch_now_ms();
    pid_t pid = fork();
    if (pid == 0) {
        child(s, slot);
    }
    int64_t took = watch_now_ms() - start;
    if (took > SLOWEST_FORK_MS) {
        count(&shared->failed, "fork took %ld ms", (long)took);
    }
    rounds_go();
    if (pid < 0) {
        count(&shared->failed, "fork: %s", strerror(errno));
        slot_free(slot);
        return;
    }
    atomic_fetch_add(&shared->forks, 1);
    atomic_store(&mine->started, watch_now_ms());
    atomic_store(&mine->pid, pid);
    if (process.level > 0) {
        process.grandchild_slot = slot;
        atomic_store(&process.grandchild, pid);
    }
}

// ---- The program's main thread: reaps, and makes threads come and go ----

static void show_family(int slot) {
    for (int i = 0; i < SLOTS; i++) {
        struct slot *x = &shared->slots[i];
        pid_t pid = atomic_load(&x->pid);
        if (pid > 0 && (i == slot || (atomic_load(&x->used) && atomic_load(&x->parent) == slot))) {
            int l = atomic_load(&x->lock);
            watch_say("stress: %s hangs at: %s; lock %d (%s)\n", i == slot ? "child" : "grandchild",
                      step_names[atomic_load(&x->step)], l, l < 0 ? "none" : locks[l].kind->name);
            watch_dump(pid, "stress");
            if (i != slot) {
                show_family(i);
            }
        }
    }
}

static void kill_family(int slot) {
    for (int i = 0; i < SLOTS; i++) {
        struct slot *x = &shared->slots[i];
        if (i != slot && atomic_load(&x->used) && atomic_load(&x->parent) == slot) {
            kill_family(i);
        }
    }
    pid_t pid = atomic_load(&shared->slots[slot].pid);
    if (pid > 0) {
        kill(pid, SIGKILL);
    }
    if (slot >= CHILD_SLOTS) {
        slot_free(slot);
    }
}

static int reap(void) {
    int left = 0;
    for (int i = 0; i < CHILD_SLOTS; i++) {
        struct slot *x = &shared->slots[i];
        pid_t pid = atomic_load(&x->pid);
        int status;
        if (pid <= 0) {
            continue;
        }
        left++;
        if (waitpid(pid, &status, WNOHANG) == pid) {
            count_status(status);
            slot_free(i);
        } else if (watch_now_ms() - atomic_load(&x->started) > options.hang_limit_s * 1000L) {
            if (atomic_fetch_add(&shared->hung, 1) < 3) {
                show_family(i);
            }
            kill_family(i);
            waitpid(pid, NULL, 0);
            slot_free(i);
        }
    }
    return left;
}

static void unlock_cleanup(void *arg) {
    struct lock *l = arg;
    check_zero(l->kind->unlock(l), l, "unlock in a cleanup handler");
}

// Waits, under a lock, for the cancellation that main has sent (CANCEL_NOW) or will send.
static void be_cancelled(struct self *s, int want) {
    struct lock *l = &locks[pick(s, NLOCKS)];
    bool wait = (l->kind->flags & COND) != 0;
    if ((want == CANCEL_WAITING && !wait) || (l->kind->flags & SPIN) != 0) {
        // Main takes its time: waiting for it under a lock would make a long hold.
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
        for (;;) {
            pause();
        }
    }
    check_zero(l->kind->lock(l), l, "lock");
    pthread_cleanup_push(unlock_cleanup, l);
    work_under(s, l, false);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    for (;;) {
        if (wait) {
            pthread_cond_wait(&l->cond, &l->mutex);
        } else {
            sleep_us(1000);
        }
    }
    pthread_cleanup_pop(1);
}

static void work(struct worker *w) {
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    tick_mask(SIG_UNBLOCK);
    while (atomic_load(&w->want) == GO_ON) {
        nest(&w->self);
    }
    int want = atomic_load(&w->want);
    if (want != END) {
        be_cancelled(&w->self, want);
    }
    atomic_store(&w->has_ended, true);
}

static void *work_posix(void *arg) {
    struct worker *w = arg;
    work(w);
    if (pick(&w->self, 2) == 0) {
        pthread_exit(NULL);
    }
    return NULL;
}

static int work_c11(void *arg) {
    struct worker *w = arg;
    work(w);
    if (pick(&w->self, 2) == 0) {
        thrd_exit(0);
    }
    return 0;
}

static void worker_start(struct self *s, int i) {
    struct worker *w = &process.workers[i];
    w->self = (struct self){.random = sprout(s), .worker = i};
    w->is_c11 = pick(s, 4) == 0;
    atomic_store(&w->want, GO_ON);
    atomic_store(&w->has_ended, false);
    int r = w->is_c11 ? from_c11(thrd_create(&w->handle, work_c11, w))
                      : pthread_create(&w->handle, NULL, work_posix, w);
    if (r != 0) {
        count(&shared->failed, "cannot create a thread: %s", strerror(r));
        exit(1);
    }
    atomic_store(&w->is_there, true);
}

static void worker_end(struct self *s, int i, bool may_cancel) {
    struct worker *w = &process.workers[i];
    int want = w->is_c11 || !may_cancel ? END : END + (int)pick(s, 3);
    // A cancelled thread ends without a word, and the join frees the handle: a child asks no more
    // after it.
    if (want != END) {
        atomic_store(&w->is_there, false);
    }
    if (want == CANCEL_NOW) {
        pthread_cancel(w->handle);
    }
    atomic_store(&w->want, want);
    if (want == CANCEL_WAITING) {
        sleep_us((long)pick(s, 4000));
        pthread_cancel(w->handle);
    }
    while (want == END && !atomic_load(&w->has_ended)) {
        sleep_us(500);
        reap();
    }
    atomic_store(&w->is_there, false);
    void *result = NULL;
    int r = w->is_c11 ? from_c11(thrd_join(w->handle, NULL)) : pthread_join(w->handle, &result);
    if (r != 0 || (want != END && result != PTHREAD_CANCELED)) {
        count(&shared->failed, "a worker's join gave %d, result %p, after want %d", r, result,
              want);
    }
}

static void *work_detached(void *arg) {
    struct self *s = arg;
    tick_mask(SIG_UNBLOCK);
    for (int i = 0; i < 3; i++) {
        nest(s);
    }
    free(s);
    atomic_fetch_sub(&process.detached, 1);
    return NULL;
}

static void detached_start(struct self *s) {
    struct self *its = calloc(1, sizeof *its);
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    *its = (struct self){.random = sprout(s), .worker = -1};
    atomic_fetch_add(&process.detached, 1);
    int r = pthread_create(&thread, &attr, work_detached, its);
    if (r != 0) {
        count(&shared->failed, "cannot create a detached thread: %s", strerror(r));
        exit(1);
    }
    pthread_attr_destroy(&attr);
}

static void churn(struct self *s) {
    atomic_store(&process.hot, pick(s, 2) == 0);
    // Threads that come and go, and the signal, are beyond what the program can stop by itself.
    switch (options.cooperative ? 2 + pick(s, 16) : pick(s, 32)) {
    case 0: {
        int i = (int)pick(s, NWORKERS);
        worker_end(s, i, true);
        worker_start(s, i);
        break;
    }
    case 1:
        if (atomic_load(&process.detached) < 2) {
            detached_start(s);
        }
        break;
    case 2:
        nest(s);
        break;
    default:
        sleep_us(2000);
    }
}

static void beat(void) { atomic_fetch_add(&shared->beat, 1); }

static int run(int argc, char **argv) {
    (void)argc;
    struct self s = {.random = options.seed * 2 + 1, .worker = -1};
    process_reset(0, 0);
    if (!locks_make()) {
        watch_say("%s: no locks of the kinds %s\n", argv[0],
                  options.kinds != NULL ? options.kinds : "asked");
        return 2;
    }
    // Main has the signal blocked: the kernel would give it nearly all of them.
    tick_mask(SIG_BLOCK);
    if (!options.cooperative) {
        tick_start(1500);
    }
    for (int i = 0; i < NWORKERS; i++) {
        worker_start(&s, i);
    }
    for (int64_t end = watch_now_ms() + options.seconds * 1000L; watch_now_ms() < end; beat()) {
        churn(&s);
        reap();
    }
    atomic_store(&options.forks_per_s, 0);
    for (int i = 0; i < NWORKERS; i++) {
        worker_end(&s, i, false);
        beat();
    }
    for (; atomic_load(&process.detached) > 0; sleep_us(1000)) {
    }
    for (beat(); reap() > 0; sleep_us(1000)) {
    }
    for (int i = 0; i < NLOCKS; i++) {
        check_zero(locks[i].kind->lock(&locks[i]), &locks[i], "the last lock");
        check_pair(&locks[i], "at the end");
        check_zero(locks[i].kind->unlock(&locks[i]), &locks[i], "the last unlock");
    }
    struct itimerval never = {0};
    setitimer(ITIMER_REAL, &never, NULL);
    destroy_all();
    return 0;
}

static int usage(const char *name) {
    fprintf(stderr,
            "usage: %s [--no-fork | --cooperative] [--forks-per-second N] [--hang-limit SECONDS] "
            "[--kinds NAME,...] "
            "SECONDS [SEED]\nkinds:",
            name);
    for (int k = 0; k < NKINDS; k++) {
        fprintf(stderr, " %s", kinds[k].name);
    }
    fprintf(stderr, "\n");
    return 2;
}

static bool parse(int argc, char **argv) {
    static const struct option known[] = {{"no-fork", no_argument, NULL, 'n'},
                                          {"cooperative", no_argument, NULL, 'c'},
                                          {"forks-per-second", required_argument, NULL, 'r'},
                                          {"hang-limit", required_argument, NULL, 'l'},
                                          {"kinds", required_argument, NULL, 'k'},
                                          {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'n':
            options.forks_per_s = 0;
            break;
        case 'c':
            options.cooperative = true;
            break;
        case 'r':
            options.forks_per_s = atoi(optarg);
            break;
        case 'l':
            options.hang_limit_s = atoi(optarg);
            break;
        case 'k':
            options.kinds = optarg;
            break;
        default:
            return false;
        }
    }
    if (optind >= argc || argc - optind > 2) {
        return false;
    }
    options.seconds = atoi(argv[optind]);
    options.seed =
        optind + 1 < argc ? strtoul(argv[optind + 1], NULL, 0) : (unsigned long)time(NULL);
    return options.seconds > 0 && options.hang_limit_s > 0 && options.forks_per_s >= 0 &&
           options.forks_per_s <= 100000;
}

int main(int argc, char **argv) {
    if (!parse(argc, argv)) {
        return usage(argv[0]);
    }
    shared = watch_shared(sizeof *shared);
    // Longer than the limit for a child: with all its children hung, the program still goes on.
    int status = watch_monitor(run, argc, argv, 2 * options.hang_limit_s + 10, &shared->beat);
    if (status == WATCH_HUNG) {
        shared->hung++;
    } else if (status != 0) {
        count(&shared->failed, "the program itself came to %s", watch_status(status));
    }
    bool good = shared->hung == 0 && shared->torn == 0 && shared->failed == 0;
    if (!good) {
        watch_say("stress: seed %lu\n", options.seed);
    }
    printf("stress: %lu forks, %lu hung, %lu torn, %lu failed\n", shared->forks, shared->hung,
           shared->torn, shared->failed);
    return good ? 0 : 1;
}
