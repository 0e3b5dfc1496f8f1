/*
 * spin.c: spinlocks that a vanished thread held.
 */
#include "hazard.h"

static pthread_spinlock_t lock;

static int spin_lock(void *arg) {
    (void)arg;
    return pthread_spin_lock(&lock);
}

static int spin_trylock(void *arg) {
    (void)arg;
    return pthread_spin_trylock(&lock);
}

static int spin_unlock(void *arg) {
    (void)arg;
    return pthread_spin_unlock(&lock);
}

static int is_taken(void *arg) {
    (void)arg;
    HZ_IS(pthread_spin_trylock(&lock), EBUSY);
    return HZ_OK;
}

static int turn(void *arg) {
    (void)arg;
    HZ_IS(pthread_spin_lock(&lock), 0);
    HZ_IS(pthread_spin_unlock(&lock), 0);
    return HZ_OK;
}

static int works(void *arg) {
    HZ_IS(pthread_spin_lock(&lock), 0);
    HZ_TRY(hz_elsewhere(is_taken, arg));
    HZ_IS(pthread_spin_unlock(&lock), 0);
    return hz_elsewhere(turn, arg);
}

static int child_tries(void *arg) {
    HZ_IS(pthread_spin_trylock(&lock), 0);
    HZ_IS(pthread_spin_unlock(&lock), 0);
    return works(arg);
}

static int child_destroys(void *arg) {
    HZ_IS(pthread_spin_destroy(&lock), 0);
    HZ_IS(pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE), 0);
    return works(arg);
}

static int child_unlocks_own(void *arg) {
    HZ_TRY(hz_elsewhere(is_taken, arg));
    HZ_IS(pthread_spin_unlock(&lock), 0);
    return works(arg);
}

static int beside_holder(hz_action take, int (*child)(void *)) {
    struct hz_holder holder;
    HZ_SETUP(pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE) == 0);
    hz_hold(&holder, take, spin_unlock, NULL);
    HZ_TRY(hz_child(child, NULL));
    HZ_TRY(hz_let_go(&holder));
    return works(NULL);
}

static int held(const void *arg) {
    (void)arg;
    return beside_holder(spin_lock, works);
}

static int held_by_trylock(const void *arg) {
    (void)arg;
    return beside_holder(spin_trylock, works);
}

static int trylock_in_child(const void *arg) {
    (void)arg;
    return beside_holder(spin_lock, child_tries);
}

static int destroyed_in_child(const void *arg) {
    (void)arg;
    return beside_holder(spin_lock, child_destroys);
}

/* A thread that spins for the survivor's lock vanishes; the survivor's hold is its own in the
 * child. */
static int waiter_of_survivor(const void *arg) {
    (void)arg;
    struct hz_thread waiter;
    HZ_SETUP(pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE) == 0);
    HZ_SETUP(pthread_spin_lock(&lock) == 0);
    hz_start(&waiter, turn, NULL);
    HZ_TRY(hz_children(20, child_unlocks_own, NULL));
    HZ_IS(pthread_spin_unlock(&lock), 0);
    return hz_finish(&waiter);
}

/* A holder and a thread that spins for it vanish. */
static int contended(const void *arg) {
    (void)arg;
    struct hz_holder holder;
    struct hz_thread waiter;
    HZ_SETUP(pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE) == 0);
    hz_hold(&holder, spin_lock, spin_unlock, NULL);
    hz_start(&waiter, turn, NULL);
    HZ_TRY(hz_child(works, NULL));
    HZ_TRY(hz_let_go(&holder));
    return hz_finish(&waiter);
}

static int churn(const void *arg) {
    (void)arg;
    struct hz_pair pair;
    HZ_SETUP(pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE) == 0);
    hz_pair_init(&pair, spin_lock, spin_unlock, NULL);
    return hz_churn_forks(&pair, 1, 200);
}

static const struct hazard hazards[] = {
    HAZARD("spin_held", held, HANGS, "held by a vanished thread"),
    HAZARD("spin_by_trylock", held_by_trylock, HANGS, "taken with trylock"),
    HAZARD("spin_child_trylock", trylock_in_child, WRONG,
           "the child's trylock says EBUSY for ever"),
    HAZARD("spin_child_destroy", destroyed_in_child, OK,
           "destroyed and made anew in the child (glibc does not look at its state)"),
    HAZARD("spin_contended", contended, HANGS, "a holder and one that spins for it vanish"),
    HAZARD("spin_waiter_of_survivor", waiter_of_survivor, OK,
           "one that spins for the survivor's lock vanishes: it stays held"),
    HAZARD_CHANCE("spin_churn", churn, NULL, EITHER, "three threads turn a pair"),
};
HAZARD_MAIN(hazards)
