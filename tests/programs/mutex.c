/*
 * mutex.c: mutexes that a vanished thread held, was taking or was waiting for.
 */
#include "hazard.h"

enum how { LOCK, TRYLOCK, TIMEDLOCK, CLOCKLOCK, DESTROY };

struct mutex_case {
    struct hz_mutex_kind kind;
    enum how taken; /* by the thread that vanishes */
    enum how used;  /* first use in the child */
    int depth;      /* how often the vanishing thread takes it */
    int busy;
};

static int take(pthread_mutex_t *mutex, enum how how) {
    struct timespec soon = hz_in_ms(how == CLOCKLOCK ? CLOCK_MONOTONIC : CLOCK_REALTIME, 1000);
    switch (how) {
    case LOCK:
        return pthread_mutex_lock(mutex);
    case TRYLOCK:
        return pthread_mutex_trylock(mutex);
    case TIMEDLOCK:
        return pthread_mutex_timedlock(mutex, &soon);
    case CLOCKLOCK:
        return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &soon);
    case DESTROY:
        break;
    }
    return EINVAL;
}

/* ---- one mutex, one holder ------------------------------------------------------------------- */

struct held {
    const struct mutex_case *is;
    pthread_mutex_t mutex;
};

static int take_held(void *arg) {
    struct held *held = arg;
    int error = take(&held->mutex, held->is->taken);
    for (int i = 1; i < held->is->depth && error == 0; i++) {
        error = pthread_mutex_lock(&held->mutex);
    }
    return error;
}

static int drop_held(void *arg) {
    struct held *held = arg;
    int error = 0;
    for (int i = 0; i < held->is->depth && error == 0; i++) {
        error = pthread_mutex_unlock(&held->mutex);
    }
    return error;
}

/* A robust mutex of a vanished owner may say so, once; the caller owns it then. */
static int accept_dead_owner(pthread_mutex_t *mutex, const struct hz_mutex_kind *kind, int got) {
    if (kind->robust == PTHREAD_MUTEX_ROBUST && got == EOWNERDEAD) {
        return pthread_mutex_consistent(mutex);
    }
    return got;
}

static int lock_and_die(void *arg) { return pthread_mutex_lock(arg) == 0 ? HZ_OK : HZ_WRONG; }

static int keeps_type(pthread_mutex_t *mutex, int type) {
    HZ_IS(pthread_mutex_lock(mutex), 0);
    if (type == PTHREAD_MUTEX_RECURSIVE) {
        HZ_IS(pthread_mutex_lock(mutex), 0);
        HZ_IS(pthread_mutex_unlock(mutex), 0);
    } else if (type == PTHREAD_MUTEX_ERRORCHECK) {
        HZ_IS(pthread_mutex_lock(mutex), EDEADLK);
    } else {
        HZ_IS(pthread_mutex_trylock(mutex), EBUSY);
    }
    HZ_TRY(hz_elsewhere(hz_mutex_is_taken, mutex));
    HZ_IS(pthread_mutex_unlock(mutex), 0);
    if (type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK) {
        HZ_IS(pthread_mutex_unlock(mutex), EPERM);
    }
    return hz_elsewhere(hz_mutex_is_free, mutex);
}

static int keeps_robustness(pthread_mutex_t *mutex) {
    HZ_TRY(hz_elsewhere(lock_and_die, mutex));
    HZ_IS(pthread_mutex_lock(mutex), EOWNERDEAD);
    HZ_IS(pthread_mutex_consistent(mutex), 0);
    HZ_IS(pthread_mutex_unlock(mutex), 0);
    return hz_mutex_is_free(mutex);
}

static int wakes_waiter(pthread_mutex_t *mutex) {
    struct hz_thread waiter;
    HZ_IS(pthread_mutex_lock(mutex), 0);
    hz_start(&waiter, hz_mutex_turn, mutex);
    hz_until_stuck(&waiter);
    HZ_IS(pthread_mutex_unlock(mutex), 0);
    return hz_finish(&waiter);
}

/* The mutex is free, and still of the kind that it was made as. */
static int keeps_kind(pthread_mutex_t *mutex, const struct hz_mutex_kind *kind) {
    HZ_TRY(keeps_type(mutex, kind->type));
    HZ_TRY(wakes_waiter(mutex));
    if (kind->robust == PTHREAD_MUTEX_ROBUST) {
        HZ_TRY(keeps_robustness(mutex));
    }
    if (kind->protocol == PTHREAD_PRIO_PROTECT) {
        int ceiling = 0;
        HZ_IS(pthread_mutex_getprioceiling(mutex, &ceiling), 0);
        HZ_IS(ceiling, sched_get_priority_min(SCHED_FIFO) + 1);
    }
    return HZ_OK;
}

static int use_held(void *arg) {
    struct held *held = arg;
    const struct hz_mutex_kind *kind = &held->is->kind;
    if (held->is->used == DESTROY) {
        HZ_IS(pthread_mutex_destroy(&held->mutex), 0);
        HZ_IS(hz_mutex_make(&held->mutex, kind), 0);
    } else {
        int got = take(&held->mutex, held->is->used);
        HZ_IS(accept_dead_owner(&held->mutex, kind, got), 0);
        HZ_IS(pthread_mutex_unlock(&held->mutex), 0);
    }
    return keeps_kind(&held->mutex, kind);
}

static int fork_beside_holder(struct held *held) {
    struct hz_holder holder;
    hz_hold_as(&holder, take_held, drop_held, held, held->is->busy);
    HZ_TRY(hz_child(use_held, held));
    HZ_TRY(hz_let_go(&holder));
    return keeps_kind(&held->mutex, &held->is->kind);
}

static int vanished_holder(const void *arg) {
    struct held held = {.is = arg};
    HZ_MUTEX_OR_SKIP(&held.mutex, &held.is->kind);
    return fork_beside_holder(&held);
}

/* For the static initialisers: what was never passed to pthread_mutex_init. */
static int vanished_holder_static(const void *arg) {
    static const pthread_mutex_t normal = PTHREAD_MUTEX_INITIALIZER;
    static const pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    static const pthread_mutex_t errorcheck = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
    static const pthread_mutex_t adaptive = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
    static struct held held;
    held.is = arg;
    switch (held.is->kind.type) {
    case PTHREAD_MUTEX_RECURSIVE:
        held.mutex = recursive;
        break;
    case PTHREAD_MUTEX_ERRORCHECK:
        held.mutex = errorcheck;
        break;
    case PTHREAD_MUTEX_ADAPTIVE_NP:
        held.mutex = adaptive;
        break;
    default:
        held.mutex = normal;
        break;
    }
    return fork_beside_holder(&held);
}

#define CASE(id, ...) static const struct mutex_case id = {.depth = 1, __VA_ARGS__}
#define TYPE(t) .kind.type = PTHREAD_MUTEX_##t
#define INHERIT .kind.protocol = PTHREAD_PRIO_INHERIT
#define PROTECT .kind.protocol = PTHREAD_PRIO_PROTECT
#define ROBUST .kind.robust = PTHREAD_MUTEX_ROBUST

CASE(normal, TYPE(NORMAL));
CASE(errorcheck, TYPE(ERRORCHECK));
CASE(adaptive, TYPE(ADAPTIVE_NP));
CASE(robust, TYPE(NORMAL), ROBUST);
CASE(pi, TYPE(NORMAL), INHERIT);
CASE(pi_errorcheck, TYPE(ERRORCHECK), INHERIT);
CASE(pp, TYPE(NORMAL), PROTECT);
CASE(pp_errorcheck, TYPE(ERRORCHECK), PROTECT);
CASE(robust_pi, TYPE(NORMAL), ROBUST, INHERIT);
CASE(busy_holder, TYPE(NORMAL), .busy = 1);

#define TWICE_CASE(id, ...) static const struct mutex_case id = {.depth = 2, __VA_ARGS__}
TWICE_CASE(recursive, TYPE(RECURSIVE));
TWICE_CASE(robust_recursive, TYPE(RECURSIVE), ROBUST);
TWICE_CASE(pi_recursive, TYPE(RECURSIVE), INHERIT);

CASE(by_trylock, TYPE(NORMAL), .taken = TRYLOCK);
CASE(by_timedlock, TYPE(NORMAL), .taken = TIMEDLOCK);
CASE(by_clocklock, TYPE(NORMAL), .taken = CLOCKLOCK);
CASE(robust_by_trylock, TYPE(NORMAL), ROBUST, .taken = TRYLOCK);
CASE(pi_by_timedlock, TYPE(NORMAL), INHERIT, .taken = TIMEDLOCK);

CASE(child_trylock, TYPE(NORMAL), .used = TRYLOCK);
CASE(child_timedlock, TYPE(NORMAL), .used = TIMEDLOCK);
CASE(child_clocklock, TYPE(NORMAL), .used = CLOCKLOCK);
CASE(child_destroy, TYPE(NORMAL), .used = DESTROY);
TWICE_CASE(recursive_child_trylock, TYPE(RECURSIVE), .used = TRYLOCK);
TWICE_CASE(recursive_child_destroy, TYPE(RECURSIVE), .used = DESTROY);
CASE(robust_child_trylock, TYPE(NORMAL), ROBUST, .used = TRYLOCK);
CASE(pi_child_trylock, TYPE(NORMAL), INHERIT, .used = TRYLOCK);
CASE(pi_child_timedlock, TYPE(NORMAL), INHERIT, .used = TIMEDLOCK);
CASE(pp_child_trylock, TYPE(NORMAL), PROTECT, .used = TRYLOCK);

/* ---- several threads and mutexes
 * ----------------------------------------------------------------- */

/* A holder and three waiters vanish: the lock word says "contended". */
static int contended(const void *arg) {
    (void)arg;
    enum { WAITERS = 3 };
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct hz_holder holder;
    struct hz_thread waiters[WAITERS];
    hz_hold(&holder, hz_mutex_lock, hz_mutex_unlock, &mutex);
    for (int i = 0; i < WAITERS; i++) {
        hz_start(&waiters[i], hz_mutex_turn, &mutex);
        hz_until_stuck(&waiters[i]);
    }
    HZ_TRY(hz_child(hz_mutex_works, &mutex));
    HZ_TRY(hz_let_go(&holder));
    for (int i = 0; i < WAITERS; i++) {
        HZ_TRY(hz_finish(&waiters[i]));
    }
    return HZ_OK;
}

static int unlock_own_then_use(void *mutex) {
    HZ_TRY(hz_elsewhere(hz_mutex_is_taken, mutex));
    HZ_IS(pthread_mutex_unlock(mutex), 0);
    return hz_mutex_works(mutex);
}

/* What the survivor holds stays held, although a vanished thread was about to take it. */
static int waiter_of_survivor(const void *arg) {
    (void)arg;
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct hz_thread waiter;
    HZ_SETUP(pthread_mutex_lock(&mutex) == 0);
    hz_start(&waiter, hz_mutex_turn, &mutex);
    hz_until_stuck(&waiter);
    HZ_TRY(hz_child(unlock_own_then_use, &mutex));
    HZ_IS(pthread_mutex_unlock(&mutex), 0);
    return hz_finish(&waiter);
}

enum { NESTED = 20 };

static int take_nested(void *arg) {
    pthread_mutex_t *mutexes = arg;
    for (int i = 0; i < NESTED; i++) {
        if (pthread_mutex_lock(&mutexes[i]) != 0) {
            return EINVAL;
        }
    }
    return 0;
}

static int drop_nested(void *arg) {
    pthread_mutex_t *mutexes = arg;
    for (int i = NESTED - 1; i >= 0; i--) {
        if (pthread_mutex_unlock(&mutexes[i]) != 0) {
            return EINVAL;
        }
    }
    return 0;
}

static int use_nested(void *arg) {
    pthread_mutex_t *mutexes = arg;
    for (int i = NESTED - 1; i >= 0; i--) {
        HZ_TRY(hz_mutex_works(&mutexes[i]));
    }
    return HZ_OK;
}

static int nested(const void *arg) {
    (void)arg;
    pthread_mutex_t mutexes[NESTED];
    for (int i = 0; i < NESTED; i++) {
        HZ_SETUP(pthread_mutex_init(&mutexes[i], NULL) == 0);
    }
    struct hz_holder holder;
    hz_hold(&holder, take_nested, drop_nested, mutexes);
    HZ_TRY(hz_child(use_nested, mutexes));
    HZ_TRY(hz_let_go(&holder));
    return use_nested(mutexes);
}

/* ---- holders that let go: the fork waits, and the child finds whole data
 * ----------------------------- */

struct slow {
    pthread_mutex_t mutex;
    struct hz_pair pair;
    struct hz_event inside, stop;
};

static int slow_turns(void *arg) {
    struct slow *slow = arg;
    while (hz_seen(&slow->stop) == 0) {
        HZ_IS(pthread_mutex_lock(&slow->mutex), 0);
        slow->pair.first = slow->pair.first + 1;
        hz_post(&slow->inside);
        hz_sleep_us(50000);
        slow->pair.second = slow->pair.second + 1;
        HZ_IS(pthread_mutex_unlock(&slow->mutex), 0);
    }
    return HZ_OK;
}

static int slow_child(void *arg) {
    struct slow *slow = arg;
    return hz_pair_sound(&slow->pair);
}

/* The data without the lock: shows a torn state even where the lock itself would be put right. */
static int slow_child_looks(void *arg) {
    struct slow *slow = arg;
    HZ_IS(slow->pair.second, slow->pair.first);
    return HZ_OK;
}

static int fork_in_every_turn(int (*child)(void *)) {
    struct slow slow = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    struct hz_thread holder;
    hz_pair_init(&slow.pair, hz_mutex_lock, hz_mutex_unlock, &slow.mutex);
    hz_start(&holder, slow_turns, &slow);
    for (int i = 0; i < 5; i++) {
        hz_await(&slow.inside, hz_seen(&slow.inside) + 1);
        HZ_TRY(hz_child(child, &slow));
    }
    hz_post(&slow.stop);
    return hz_finish(&holder);
}

static int released_soon(const void *arg) {
    (void)arg;
    return fork_in_every_turn(slow_child);
}

static int released_soon_data(const void *arg) {
    (void)arg;
    return fork_in_every_turn(slow_child_looks);
}

static int churn(const void *arg) {
    const struct hz_mutex_kind *kind = arg;
    enum { PAIRS = 3 };
    pthread_mutex_t mutexes[PAIRS];
    struct hz_pair pairs[PAIRS];
    for (int i = 0; i < PAIRS; i++) {
        HZ_MUTEX_OR_SKIP(&mutexes[i], kind);
        hz_pair_init(&pairs[i], hz_mutex_lock, hz_mutex_unlock, &mutexes[i]);
    }
    return hz_churn_forks(pairs, PAIRS, 200);
}

static const struct hz_mutex_kind churn_normal = {.type = PTHREAD_MUTEX_NORMAL};
static const struct hz_mutex_kind churn_recursive = {.type = PTHREAD_MUTEX_RECURSIVE};
static const struct hz_mutex_kind churn_pi = {.protocol = PTHREAD_PRIO_INHERIT};

/* ---- holders that need somebody else to get on
 * -------------------------------------------------------- */

struct needs {
    pthread_mutex_t held, other;
    struct hz_pair pair;
    struct hz_event inside, forking, turns, stop;
};

static int helper_turns(void *arg) {
    struct needs *needs = arg;
    while (hz_seen(&needs->stop) == 0) {
        HZ_IS(pthread_mutex_lock(&needs->other), 0);
        HZ_IS(pthread_mutex_unlock(&needs->other), 0);
        hz_post(&needs->turns);
        hz_sleep_us(100);
    }
    return HZ_OK;
}

/* Lets go only after the helper has taken its lock so many times more, from the fork's beginning on: 16 ms, in which a
 * bare fork comes to its turn on a busy machine, too. */
static int needy_holder(void *arg) {
    struct needs *needs = arg;
    HZ_IS(pthread_mutex_lock(&needs->held), 0);
    needs->pair.first = needs->pair.first + 1;
    hz_post(&needs->inside);
    hz_await(&needs->forking, 1);
    hz_await(&needs->turns, hz_seen(&needs->turns) + 100);
    needs->pair.second = needs->pair.second + 1;
    HZ_IS(pthread_mutex_unlock(&needs->held), 0);
    return HZ_OK;
}

static int needs_child(void *arg) {
    struct needs *needs = arg;
    HZ_TRY(hz_pair_sound(&needs->pair));
    return hz_mutex_works(&needs->other);
}

static int holder_needs_another_thread(const void *arg) {
    (void)arg;
    struct needs needs = {.held = PTHREAD_MUTEX_INITIALIZER, .other = PTHREAD_MUTEX_INITIALIZER};
    struct hz_thread helper, holder;
    hz_pair_init(&needs.pair, hz_mutex_lock, hz_mutex_unlock, &needs.held);
    hz_start(&helper, helper_turns, &needs);
    hz_start(&holder, needy_holder, &needs);
    hz_await(&needs.inside, 1);
    hz_post(&needs.forking);
    HZ_TRY(hz_child(needs_child, &needs));
    HZ_TRY(hz_finish(&holder));
    hz_post(&needs.stop);
    return hz_finish(&helper);
}

struct two {
    pthread_mutex_t first, second;
    struct hz_event got_first, go_on;
};

static int take_both(void *arg) {
    struct two *two = arg;
    HZ_IS(pthread_mutex_lock(&two->first), 0);
    hz_post(&two->got_first);
    HZ_IS(pthread_mutex_lock(&two->second), 0);
    HZ_IS(pthread_mutex_unlock(&two->second), 0);
    HZ_IS(pthread_mutex_unlock(&two->first), 0);
    return HZ_OK;
}

static int use_both(void *arg) {
    struct two *two = arg;
    HZ_TRY(hz_elsewhere(hz_mutex_is_taken, &two->second));
    HZ_TRY(hz_mutex_works(&two->first));
    HZ_IS(pthread_mutex_unlock(&two->second), 0);
    return hz_mutex_works(&two->second);
}

/* The vanished thread holds one mutex and waits for another that the survivor holds across fork. */
static int holder_waits_for_survivor(const void *arg) {
    (void)arg;
    struct two two = {.first = PTHREAD_MUTEX_INITIALIZER, .second = PTHREAD_MUTEX_INITIALIZER};
    struct hz_thread holder;
    HZ_SETUP(pthread_mutex_lock(&two.second) == 0);
    hz_start(&holder, take_both, &two);
    hz_await(&two.got_first, 1);
    hz_until_stuck(&holder);
    HZ_TRY(hz_child(use_both, &two));
    HZ_IS(pthread_mutex_unlock(&two.second), 0);
    return hz_finish(&holder);
}

struct cross {
    struct two *two;
    int swapped;
};

static int take_crosswise(void *arg) {
    struct cross *cross = arg;
    pthread_mutex_t *mine = cross->swapped ? &cross->two->second : &cross->two->first;
    pthread_mutex_t *other = cross->swapped ? &cross->two->first : &cross->two->second;
    HZ_IS(pthread_mutex_lock(mine), 0);
    hz_post(&cross->two->got_first);
    hz_await(&cross->two->got_first, 2);
    HZ_IS(pthread_mutex_lock(other), 0);
    return HZ_OK;
}

static int use_two(void *arg) {
    struct two *two = arg;
    HZ_TRY(hz_mutex_works(&two->first));
    return hz_mutex_works(&two->second);
}

/* Two threads of the parent are in a deadlock of their own; the child must not be. */
static int crosswise(const void *arg) {
    (void)arg;
    struct two two = {.first = PTHREAD_MUTEX_INITIALIZER, .second = PTHREAD_MUTEX_INITIALIZER};
    struct cross crosses[2] = {{&two, 0}, {&two, 1}};
    struct hz_thread threads[2];
    for (int i = 0; i < 2; i++) {
        hz_start(&threads[i], take_crosswise, &crosses[i]);
    }
    for (int i = 0; i < 2; i++) {
        hz_await(&two.got_first, 2);
        hz_until_stuck(&threads[i]);
    }
    return hz_child(use_two, &two);
}

/*
 * EITHER for priority inheritance: the kernel looks for the owner by the tid in the lock word and
 * finds a thread of the parent; some kernels let the child wait for it, others refuse, upon which
 * glibc aborts.
 */
static const struct hazard hazards[] = {
    HAZARD_OF("mutex_normal", vanished_holder, &normal, HANGS,
              "normal mutex held by a vanished thread"),
    HAZARD_OF("mutex_recursive", vanished_holder, &recursive, HANGS, "recursive mutex, held twice"),
    HAZARD_OF("mutex_errorcheck", vanished_holder, &errorcheck, HANGS, "error-checking mutex"),
    HAZARD_OF("mutex_adaptive", vanished_holder, &adaptive, HANGS, "adaptive mutex"),
    HAZARD_OF("mutex_robust", vanished_holder, &robust, HANGS, "robust mutex"),
    HAZARD_OF("mutex_robust_recursive", vanished_holder, &robust_recursive, HANGS,
              "robust recursive mutex, held twice"),
    HAZARD_OF("mutex_pi", vanished_holder, &pi, EITHER, "priority-inheriting mutex"),
    HAZARD_OF("mutex_pi_errorcheck", vanished_holder, &pi_errorcheck, EITHER,
              "priority-inheriting error-checking mutex"),
    HAZARD_OF("mutex_pi_recursive", vanished_holder, &pi_recursive, EITHER,
              "priority-inheriting recursive mutex, held twice"),
    HAZARD_OF("mutex_pp", vanished_holder, &pp, HANGS, "priority-ceiling mutex"),
    HAZARD_OF("mutex_pp_errorcheck", vanished_holder, &pp_errorcheck, HANGS,
              "priority-ceiling error-checking mutex"),
    HAZARD_OF("mutex_robust_pi", vanished_holder, &robust_pi, EITHER,
              "robust priority-inheriting mutex"),
    HAZARD_OF("mutex_static_normal", vanished_holder_static, &normal, HANGS,
              "PTHREAD_MUTEX_INITIALIZER"),
    HAZARD_OF("mutex_static_recursive", vanished_holder_static, &recursive, HANGS,
              "PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP, held twice"),
    HAZARD_OF("mutex_static_errorcheck", vanished_holder_static, &errorcheck, HANGS,
              "PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP"),
    HAZARD_OF("mutex_static_adaptive", vanished_holder_static, &adaptive, HANGS,
              "PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP"),
    HAZARD_OF("mutex_by_trylock", vanished_holder, &by_trylock, HANGS, "taken with trylock"),
    HAZARD_OF("mutex_by_timedlock", vanished_holder, &by_timedlock, HANGS, "taken with timedlock"),
    HAZARD_OF("mutex_by_clocklock", vanished_holder, &by_clocklock, HANGS, "taken with clocklock"),
    HAZARD_OF("mutex_robust_by_trylock", vanished_holder, &robust_by_trylock, HANGS,
              "robust mutex taken with trylock"),
    HAZARD_OF("mutex_pi_by_timedlock", vanished_holder, &pi_by_timedlock, EITHER,
              "priority-inheriting mutex taken with timedlock"),
    HAZARD_OF("mutex_busy_holder", vanished_holder, &busy_holder, HANGS,
              "the holder computes for ever instead of sleeping"),
    HAZARD_OF("mutex_child_trylock", vanished_holder, &child_trylock, WRONG,
              "the child's trylock says EBUSY for ever"),
    HAZARD_OF("mutex_child_timedlock", vanished_holder, &child_timedlock, WRONG,
              "the child's timedlock says ETIMEDOUT for ever"),
    HAZARD_OF("mutex_child_clocklock", vanished_holder, &child_clocklock, WRONG,
              "the child's clocklock says ETIMEDOUT for ever"),
    HAZARD_OF("mutex_child_destroy", vanished_holder, &child_destroy, WRONG,
              "the child's destroy says EBUSY"),
    HAZARD_OF("mutex_recursive_child_trylock", vanished_holder, &recursive_child_trylock, WRONG,
              "recursive mutex, trylock in the child"),
    HAZARD_OF("mutex_recursive_child_destroy", vanished_holder, &recursive_child_destroy, WRONG,
              "recursive mutex, destroy in the child"),
    HAZARD_OF("mutex_robust_child_trylock", vanished_holder, &robust_child_trylock, WRONG,
              "robust mutex, trylock in the child"),
    HAZARD_OF("mutex_pi_child_trylock", vanished_holder, &pi_child_trylock, WRONG,
              "priority-inheriting mutex, trylock in the child"),
    HAZARD_OF("mutex_pi_child_timedlock", vanished_holder, &pi_child_timedlock, EITHER,
              "priority-inheriting mutex, timedlock in the child"),
    HAZARD_OF("mutex_pp_child_trylock", vanished_holder, &pp_child_trylock, WRONG,
              "priority-ceiling mutex, trylock in the child"),
    HAZARD("mutex_contended", contended, HANGS, "a holder and three waiters vanish"),
    HAZARD("mutex_waiter_of_survivor", waiter_of_survivor, OK,
           "a waiter for the survivor's mutex vanishes: it stays held"),
    HAZARD("mutex_nested", nested, HANGS, "twenty mutexes held by one vanished thread"),
    HAZARD_PATIENT("mutex_released_soon", released_soon, NULL, HANGS,
                   "held for 50 ms at a time: the fork waits"),
    HAZARD_PATIENT("mutex_released_soon_data", released_soon_data, NULL, WRONG,
                   "held for 50 ms at a time: the child's data is whole"),
    HAZARD_CHANCE("mutex_churn", churn, &churn_normal, EITHER, "three threads turn normal mutexes"),
    HAZARD_CHANCE("mutex_churn_recursive", churn, &churn_recursive, EITHER,
                  "three threads turn recursive mutexes"),
    HAZARD_CHANCE("mutex_churn_pi", churn, &churn_pi, EITHER,
                  "three threads turn priority-inheriting mutexes"),
    HAZARD_PATIENT("mutex_holder_needs_another", holder_needs_another_thread, NULL, HANGS,
                   "the holder goes on only after another thread has locked something else"),
    HAZARD("mutex_holder_waits_for_survivor", holder_waits_for_survivor, HANGS,
           "the vanished holder waited for a mutex that the survivor holds"),
    HAZARD("mutex_crosswise", crosswise, HANGS, "two vanished threads in a deadlock of their own"),
};
HAZARD_MAIN(hazards)
