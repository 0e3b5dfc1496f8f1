/*
 * own.c: what the forking thread itself holds. Its copy in the child is the same thread to the
 * program, but has a new kernel tid, and the lock words and owner fields have the old one.
 */
#include "hazard.h"

struct own_case {
    struct hz_mutex_kind kind;
    int depth;
    int (*child)(void *);
    int alone; /* the program has this one thread only */
};

struct owned {
    const struct own_case *is;
    pthread_mutex_t mutex;
};

static int owner_is_checked(const struct hz_mutex_kind *kind) {
    return kind->type == PTHREAD_MUTEX_RECURSIVE || kind->type == PTHREAD_MUTEX_ERRORCHECK ||
           kind->robust == PTHREAD_MUTEX_ROBUST;
}

/* Needs exactly as many unlocks as there were locks, and is then free for others. */
static int unlocks(void *arg) {
    struct owned *owned = arg;
    for (int i = 0; i < owned->is->depth; i++) {
        HZ_TRY(hz_elsewhere(hz_mutex_is_taken, &owned->mutex));
        HZ_IS(pthread_mutex_unlock(&owned->mutex), 0);
    }
    HZ_TRY(hz_elsewhere(hz_mutex_is_free, &owned->mutex));
    if (owner_is_checked(&owned->is->kind)) {
        HZ_IS(pthread_mutex_unlock(&owned->mutex), EPERM);
    }
    return hz_mutex_works(&owned->mutex);
}

/* Locks once more what it holds already. */
static int relocks(void *arg) {
    struct owned *owned = arg;
    if (owned->is->kind.type == PTHREAD_MUTEX_RECURSIVE) {
        HZ_IS(pthread_mutex_lock(&owned->mutex), 0);
        HZ_IS(pthread_mutex_trylock(&owned->mutex), 0);
        HZ_IS(pthread_mutex_unlock(&owned->mutex), 0);
        HZ_IS(pthread_mutex_unlock(&owned->mutex), 0);
    } else {
        HZ_IS(pthread_mutex_lock(&owned->mutex), EDEADLK);
    }
    return unlocks(arg);
}

static int forks_again(void *arg) {
    struct owned *owned = arg;
    HZ_TRY(hz_child(unlocks, owned));
    return unlocks(owned);
}

static int waiter_gets_it(void *arg) {
    struct owned *owned = arg;
    struct hz_thread waiter;
    hz_start(&waiter, hz_mutex_turn, &owned->mutex);
    hz_until_stuck(&waiter);
    HZ_IS(pthread_mutex_unlock(&owned->mutex), 0);
    HZ_TRY(hz_finish(&waiter));
    return hz_mutex_works(&owned->mutex);
}

static int own_mutex(const void *arg) {
    struct hz_bystander bystander;
    struct owned owned = {.is = arg};
    HZ_MUTEX_OR_SKIP(&owned.mutex, &owned.is->kind);
    for (int i = 0; i < owned.is->depth; i++) {
        HZ_SETUP(pthread_mutex_lock(&owned.mutex) == 0);
    }
    if (!owned.is->alone) {
        hz_bystander_start(&bystander);
    }
    HZ_TRY(hz_child(owned.is->child, &owned));
    if (!owned.is->alone) {
        HZ_TRY(hz_bystander_stop(&bystander));
    }
    return unlocks(&owned);
}

/* The same with a waiter for it that vanishes. */
static int own_mutex_waited_for(const void *arg) {
    struct owned owned = {.is = arg};
    struct hz_thread waiter;
    HZ_MUTEX_OR_SKIP(&owned.mutex, &owned.is->kind);
    HZ_SETUP(pthread_mutex_lock(&owned.mutex) == 0);
    hz_start(&waiter, hz_mutex_turn, &owned.mutex);
    hz_until_stuck(&waiter);
    HZ_TRY(hz_child(owned.is->child, &owned));
    HZ_IS(pthread_mutex_unlock(&owned.mutex), 0);
    return hz_finish(&waiter);
}

#define CASE(id, depth, child, ...)                                                                \
    static const struct own_case id = {{__VA_ARGS__}, depth, child, 0}
#define ALONE(id, depth, child, ...)                                                               \
    static const struct own_case id = {{__VA_ARGS__}, depth, child, 1}
#define TYPE(t) .type = PTHREAD_MUTEX_##t
#define INHERIT .protocol = PTHREAD_PRIO_INHERIT
#define PROTECT .protocol = PTHREAD_PRIO_PROTECT
#define IS_ROBUST .robust = PTHREAD_MUTEX_ROBUST
CASE(normal, 1, unlocks, TYPE(NORMAL));
CASE(adaptive, 1, unlocks, TYPE(ADAPTIVE_NP));
CASE(recursive, 3, unlocks, TYPE(RECURSIVE));
CASE(recursive_relock, 2, relocks, TYPE(RECURSIVE));
CASE(recursive_again, 2, forks_again, TYPE(RECURSIVE));
ALONE(recursive_alone, 3, unlocks, TYPE(RECURSIVE));
ALONE(pi_alone, 1, unlocks, INHERIT);
CASE(errorcheck, 1, unlocks, TYPE(ERRORCHECK));
CASE(errorcheck_relock, 1, relocks, TYPE(ERRORCHECK));
CASE(errorcheck_waiter, 1, waiter_gets_it, TYPE(ERRORCHECK));
CASE(robust, 1, unlocks, TYPE(NORMAL), IS_ROBUST);
CASE(robust_recursive, 3, unlocks, TYPE(RECURSIVE), IS_ROBUST);
CASE(robust_errorcheck, 1, relocks, TYPE(ERRORCHECK), IS_ROBUST);
CASE(robust_again, 1, forks_again, TYPE(NORMAL), IS_ROBUST);
CASE(pi, 1, unlocks, TYPE(NORMAL), INHERIT);
CASE(pi_recursive, 3, unlocks, TYPE(RECURSIVE), INHERIT);
CASE(pi_recursive_relock, 2, relocks, TYPE(RECURSIVE), INHERIT);
CASE(pi_errorcheck, 1, relocks, TYPE(ERRORCHECK), INHERIT);
CASE(pi_again, 1, forks_again, TYPE(NORMAL), INHERIT);
CASE(pi_waiter, 1, waiter_gets_it, TYPE(NORMAL), INHERIT);
CASE(robust_pi, 1, unlocks, TYPE(NORMAL), INHERIT, IS_ROBUST);
CASE(pp, 1, unlocks, TYPE(NORMAL), PROTECT);
CASE(pp_recursive, 3, unlocks, TYPE(RECURSIVE), PROTECT);
CASE(pp_errorcheck, 1, relocks, TYPE(ERRORCHECK), PROTECT);

/* ---- robust mutexes: the thread's list of them ---- */

enum { CHAIN = 4 };

static int lock_and_die(void *mutex) { return pthread_mutex_lock(mutex) == 0 ? HZ_OK : HZ_WRONG; }

static int next_owner(void *mutex) {
    HZ_IS(pthread_mutex_lock(mutex), EOWNERDEAD);
    HZ_IS(pthread_mutex_consistent(mutex), 0);
    HZ_IS(pthread_mutex_unlock(mutex), 0);
    return HZ_OK;
}

static int unlock_chain(void *arg) {
    static const int order[CHAIN] = {1, 3, 0, 2};
    pthread_mutex_t *chain = arg;
    for (int i = 0; i < CHAIN; i++) {
        HZ_IS(pthread_mutex_unlock(&chain[order[i]]), 0);
    }
    for (int i = 0; i < CHAIN; i++) {
        HZ_TRY(hz_mutex_works(&chain[i]));
        HZ_TRY(hz_elsewhere(lock_and_die, &chain[i]));
        HZ_TRY(next_owner(&chain[i]));
    }
    return HZ_OK;
}

static int robust_chain(const void *arg) {
    (void)arg;
    static const struct hz_mutex_kind kind = {.robust = PTHREAD_MUTEX_ROBUST};
    struct hz_bystander bystander;
    pthread_mutex_t chain[CHAIN];
    for (int i = 0; i < CHAIN; i++) {
        HZ_MUTEX_OR_SKIP(&chain[i], &kind);
        HZ_SETUP(pthread_mutex_lock(&chain[i]) == 0);
    }
    hz_bystander_start(&bystander);
    HZ_TRY(hz_child(unlock_chain, chain));
    HZ_TRY(hz_bystander_stop(&bystander));
    return unlock_chain(chain);
}

/*
 * The survivor ends in the child while it holds the mutex, and the next locker must be told: only
 * the kernel can do that, by the thread's robust list, which fork(2) leaves empty in the child.
 */
static struct owned dying;
static struct hz_thread heir;

static int heir_body(void *arg) {
    int verdict = next_owner(arg);
    _exit(verdict);
}

static int forker_that_dies(void *arg) {
    (void)arg;
    if (pthread_mutex_lock(&dying.mutex) != 0) {
        return HZ_BROKEN;
    }
    pid_t pid = fork();
    if (pid == 0) {
        hz_start(&heir, heir_body, &dying.mutex);
        hz_until_stuck(&heir);
        pthread_exit(NULL);
    }
    HZ_IS(pthread_mutex_unlock(&dying.mutex), 0);
    return pid < 0 ? HZ_BROKEN : hz_wait(pid);
}

static int robust_owner_dies(const void *arg) {
    static const struct own_case robust_case = {{.robust = PTHREAD_MUTEX_ROBUST}, 1, unlocks, 0};
    (void)arg;
    dying.is = &robust_case;
    HZ_MUTEX_OR_SKIP(&dying.mutex, &robust_case.kind);
    return hz_elsewhere(forker_that_dies, NULL);
}

/* ---- read-write locks ---- */

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

static int rwlock_refuses_all(void *arg) {
    (void)arg;
    HZ_IS(pthread_rwlock_tryrdlock(&rwlock), EBUSY);
    HZ_IS(pthread_rwlock_trywrlock(&rwlock), EBUSY);
    return HZ_OK;
}

static int rwlock_admits_all(void *arg) {
    (void)arg;
    HZ_IS(pthread_rwlock_rdlock(&rwlock), 0);
    HZ_IS(pthread_rwlock_unlock(&rwlock), 0);
    HZ_IS(pthread_rwlock_wrlock(&rwlock), 0);
    HZ_IS(pthread_rwlock_unlock(&rwlock), 0);
    return HZ_OK;
}

static int rwlock_tries_all(void *arg) {
    (void)arg;
    HZ_IS(pthread_rwlock_tryrdlock(&rwlock), 0);
    HZ_IS(pthread_rwlock_unlock(&rwlock), 0);
    HZ_IS(pthread_rwlock_trywrlock(&rwlock), 0);
    HZ_IS(pthread_rwlock_unlock(&rwlock), 0);
    return HZ_OK;
}

static int unlock_rwlock_then(int (*next)(void *)) {
    HZ_TRY(hz_elsewhere(rwlock_refuses_all, NULL));
    HZ_IS(pthread_rwlock_unlock(&rwlock), 0);
    HZ_TRY(next(NULL));
    HZ_TRY(hz_elsewhere(next, NULL));
    return rwlock_admits_all(NULL);
}

static int child_unlocks_rwlock(void *arg) {
    (void)arg;
    return unlock_rwlock_then(rwlock_admits_all);
}

static int child_tries_rwlock(void *arg) {
    (void)arg;
    return unlock_rwlock_then(rwlock_tries_all);
}

/* The owner is told that it would wait for itself. */
static int child_relocks_rwlock(void *arg) {
    (void)arg;
    HZ_IS(pthread_rwlock_wrlock(&rwlock), EDEADLK);
    HZ_IS(pthread_rwlock_rdlock(&rwlock), EDEADLK);
    return unlock_rwlock_then(rwlock_admits_all);
}

static int child_forks_rwlock(void *arg) {
    HZ_TRY(hz_child(child_unlocks_rwlock, arg));
    return child_unlocks_rwlock(arg);
}

static int own_write(int (*child)(void *)) {
    struct hz_bystander bystander;
    HZ_SETUP(pthread_rwlock_wrlock(&rwlock) == 0);
    hz_bystander_start(&bystander);
    HZ_TRY(hz_child(child, NULL));
    HZ_TRY(hz_bystander_stop(&bystander));
    return unlock_rwlock_then(rwlock_admits_all);
}

static int own_rwlock_write(const void *arg) {
    (void)arg;
    return own_write(child_unlocks_rwlock);
}

static int own_rwlock_write_try(const void *arg) {
    (void)arg;
    return own_write(child_tries_rwlock);
}

static int own_rwlock_write_relock(const void *arg) {
    (void)arg;
    return own_write(child_relocks_rwlock);
}

static int own_rwlock_write_again(const void *arg) {
    (void)arg;
    return own_write(child_forks_rwlock);
}

static int own_rwlock_write_alone(const void *arg) {
    (void)arg;
    HZ_SETUP(pthread_rwlock_wrlock(&rwlock) == 0);
    HZ_TRY(hz_child(child_unlocks_rwlock, NULL));
    return unlock_rwlock_then(rwlock_admits_all);
}

static int rwlock_refuses_writer(void *arg) {
    (void)arg;
    HZ_IS(pthread_rwlock_trywrlock(&rwlock), EBUSY);
    return HZ_OK;
}

static int child_unlocks_reads(void *arg) {
    (void)arg;
    for (int i = 0; i < 2; i++) {
        HZ_TRY(hz_elsewhere(rwlock_refuses_writer, NULL));
        HZ_IS(pthread_rwlock_unlock(&rwlock), 0);
    }
    return rwlock_admits_all(NULL);
}

static int own_rwlock_read(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    HZ_SETUP(pthread_rwlock_rdlock(&rwlock) == 0);
    HZ_SETUP(pthread_rwlock_rdlock(&rwlock) == 0);
    hz_bystander_start(&bystander);
    HZ_TRY(hz_child(child_unlocks_reads, NULL));
    HZ_TRY(hz_bystander_stop(&bystander));
    return child_unlocks_reads(NULL);
}

/* ---- others ---- */

static pthread_spinlock_t spin;

static int spin_is_taken(void *arg) {
    (void)arg;
    HZ_IS(pthread_spin_trylock(&spin), EBUSY);
    return HZ_OK;
}

static int child_unlocks_spin(void *arg) {
    HZ_TRY(hz_elsewhere(spin_is_taken, arg));
    HZ_IS(pthread_spin_unlock(&spin), 0);
    HZ_IS(pthread_spin_lock(&spin), 0);
    HZ_TRY(hz_elsewhere(spin_is_taken, arg));
    HZ_IS(pthread_spin_unlock(&spin), 0);
    return HZ_OK;
}

static int own_spin(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    HZ_SETUP(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE) == 0);
    HZ_SETUP(pthread_spin_lock(&spin) == 0);
    hz_bystander_start(&bystander);
    HZ_TRY(hz_child(child_unlocks_spin, NULL));
    HZ_TRY(hz_bystander_stop(&bystander));
    return child_unlocks_spin(NULL);
}

/* A thread that is not the main one forks with locks of three kinds, one inside the other. */
static struct owned mixed[2];

static int child_unlocks_mixed(void *arg) {
    (void)arg;
    HZ_TRY(unlocks(&mixed[1]));
    HZ_TRY(unlock_rwlock_then(rwlock_admits_all));
    return unlocks(&mixed[0]);
}

static int mixed_forker(void *arg) {
    for (int i = 0; i < 2; i++) {
        for (int depth = 0; depth < mixed[i].is->depth; depth++) {
            HZ_IS(pthread_mutex_lock(&mixed[i].mutex), 0);
        }
    }
    HZ_IS(pthread_rwlock_wrlock(&rwlock), 0);
    HZ_TRY(hz_child(child_unlocks_mixed, arg));
    return child_unlocks_mixed(arg);
}

static int own_mixed_in_thread(const void *arg) {
    (void)arg;
    mixed[0].is = &recursive;
    mixed[1].is = &errorcheck;
    for (int i = 0; i < 2; i++) {
        HZ_MUTEX_OR_SKIP(&mixed[i].mutex, &mixed[i].is->kind);
    }
    return hz_elsewhere(mixed_forker, NULL);
}

static const struct hazard hazards[] = {
    HAZARD_OF("own_normal", own_mutex, &normal, OK,
              "normal mutex (glibc does not look at its owner)"),
    HAZARD_OF("own_adaptive", own_mutex, &adaptive, OK, "adaptive mutex"),
    HAZARD_OF("own_recursive", own_mutex, &recursive, WRONG,
              "recursive mutex held three times: needs three unlocks"),
    HAZARD_OF("own_recursive_relock", own_mutex, &recursive_relock, HANGS,
              "recursive mutex, locked once more in the child"),
    HAZARD_OF("own_recursive_grandchild", own_mutex, &recursive_again, WRONG,
              "recursive mutex, held over two forks"),
    HAZARD_OF("own_recursive_alone", own_mutex, &recursive_alone, WRONG,
              "recursive mutex, in a program with one thread"),
    HAZARD_OF("own_pi_alone", own_mutex, &pi_alone, WRONG,
              "priority-inheriting mutex, in a program with one thread"),
    HAZARD_OF("own_errorcheck", own_mutex, &errorcheck, WRONG, "error-checking mutex"),
    HAZARD_OF("own_errorcheck_relock", own_mutex, &errorcheck_relock, HANGS,
              "error-checking mutex: a second lock says EDEADLK"),
    HAZARD_OF("own_errorcheck_waiter", own_mutex_waited_for, &errorcheck_waiter, WRONG,
              "error-checking mutex for which a vanished thread waits"),
    HAZARD_OF("own_robust", own_mutex, &robust, WRONG, "robust mutex"),
    HAZARD_OF("own_robust_recursive", own_mutex, &robust_recursive, WRONG,
              "robust recursive mutex held three times"),
    HAZARD_OF("own_robust_errorcheck", own_mutex, &robust_errorcheck, HANGS,
              "robust error-checking mutex: a second lock says EDEADLK"),
    HAZARD_OF("own_robust_grandchild", own_mutex, &robust_again, WRONG,
              "robust mutex, held over two forks"),
    HAZARD("own_robust_chain", robust_chain, WRONG, "four robust mutexes, unlocked out of order"),
    HAZARD("own_robust_dies", robust_owner_dies, HANGS,
           "the survivor ends in the child with a robust mutex: the next owner is told"),
    HAZARD_OF("own_pi", own_mutex, &pi, WRONG, "priority-inheriting mutex"),
    HAZARD_OF("own_pi_recursive", own_mutex, &pi_recursive, WRONG,
              "priority-inheriting recursive mutex held three times"),
    HAZARD_OF("own_pi_recursive_relock", own_mutex, &pi_recursive_relock, EITHER,
              "priority-inheriting recursive mutex, locked once more"),
    HAZARD_OF("own_pi_errorcheck", own_mutex, &pi_errorcheck, EITHER,
              "priority-inheriting error-checking mutex: a second lock says EDEADLK"),
    HAZARD_OF("own_pi_grandchild", own_mutex, &pi_again, WRONG,
              "priority-inheriting mutex, held over two forks"),
    HAZARD_OF("own_pi_waiter", own_mutex_waited_for, &pi_waiter, EITHER,
              "priority-inheriting mutex for which a vanished thread waits"),
    HAZARD_OF("own_robust_pi", own_mutex, &robust_pi, WRONG, "robust priority-inheriting mutex"),
    HAZARD_OF("own_pp", own_mutex, &pp, OK, "priority-ceiling mutex"),
    HAZARD_OF("own_pp_recursive", own_mutex, &pp_recursive, WRONG,
              "priority-ceiling recursive mutex held three times"),
    HAZARD_OF("own_pp_errorcheck", own_mutex, &pp_errorcheck, EITHER,
              "priority-ceiling error-checking mutex: a second lock says EDEADLK"),
    HAZARD("own_rwlock_write", own_rwlock_write, HANGS,
           "write-held: its unlock in the child does nothing, silently"),
    HAZARD("own_rwlock_write_alone", own_rwlock_write_alone, HANGS,
           "write-held, in a program with one thread"),
    HAZARD("own_rwlock_write_try", own_rwlock_write_try, WRONG,
           "write-held: after the unlock the child's tryrdlock says EBUSY"),
    HAZARD("own_rwlock_write_relock", own_rwlock_write_relock, HANGS,
           "write-held: locking it again says EDEADLK"),
    HAZARD("own_rwlock_write_grandchild", own_rwlock_write_again, HANGS,
           "write-held over two forks"),
    HAZARD("own_rwlock_read", own_rwlock_read, OK, "read-held twice"),
    HAZARD("own_spin", own_spin, OK, "spinlock"),
    HAZARD("own_mixed_in_thread", own_mixed_in_thread, WRONG,
           "a thread forks with two mutexes and a write-held lock"),
};
HAZARD_MAIN(hazards)
