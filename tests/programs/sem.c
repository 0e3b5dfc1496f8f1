/*
 * sem.c: semaphores used as locks, and semaphores that are no locks and must be left alone.
 */
#include "hazard.h"

#include <semaphore.h>

static int value_of(sem_t *sem) {
    int value = -1;
    HZ_SETUP(sem_getvalue(sem, &value) == 0);
    return value;
}

static int sem_down(void *sem) { return sem_wait(sem) == 0 ? 0 : errno; }
static int sem_up(void *sem) { return sem_post(sem) == 0 ? 0 : errno; }

static int is_taken(void *sem) {
    HZ_IS(sem_trywait(sem), -1);
    HZ_IS(errno, EAGAIN);
    return HZ_OK;
}

static int turns(void *sem) {
    for (int i = 0; i < 100; i++) {
        HZ_IS(sem_wait(sem), 0);
        HZ_IS(sem_post(sem), 0);
    }
    return HZ_OK;
}

/* ---- as a lock ---- */

/* Given back exactly once: free for one, not for two. */
static int works(void *sem) {
    HZ_IS(sem_wait(sem), 0);
    HZ_TRY(hz_elsewhere(is_taken, sem));
    HZ_IS(value_of(sem), 0);
    HZ_IS(sem_post(sem), 0);
    HZ_IS(value_of(sem), 1);
    HZ_TRY(hz_elsewhere(turns, sem));
    HZ_IS(value_of(sem), 1);
    return HZ_OK;
}

static int child_tries(void *sem) {
    HZ_IS(sem_trywait(sem), 0);
    HZ_IS(sem_post(sem), 0);
    return works(sem);
}

static int child_waits_a_second(void *sem) {
    struct timespec soon = hz_in_ms(CLOCK_REALTIME, 1000);
    HZ_IS(sem_timedwait(sem, &soon), 0);
    HZ_IS(sem_post(sem), 0);
    return works(sem);
}

static int child_waits_by_clock(void *sem) {
    struct timespec soon = hz_in_ms(CLOCK_MONOTONIC, 1000);
    HZ_IS(sem_clockwait(sem, CLOCK_MONOTONIC, &soon), 0);
    HZ_IS(sem_post(sem), 0);
    return works(sem);
}

struct lock_case {
    int history; /* others have taken it and given it back before */
    int waiters; /* vanish beside the holder */
    int (*child)(void *);
};

static int held(const void *arg) {
    const struct lock_case *is = arg;
    struct hz_holder holder;
    struct hz_thread waiters[2];
    sem_t sem;
    HZ_SETUP(sem_init(&sem, 0, 1) == 0);
    if (is->history) {
        HZ_TRY(hz_elsewhere(turns, &sem));
        HZ_TRY(turns(&sem));
    }
    hz_hold(&holder, sem_down, sem_up, &sem);
    for (int i = 0; i < is->waiters; i++) {
        hz_start(&waiters[i], turns, &sem);
        hz_until_stuck(&waiters[i]);
    }
    HZ_TRY(hz_child(is->child, &sem));
    HZ_TRY(hz_let_go(&holder));
    for (int i = 0; i < is->waiters; i++) {
        HZ_TRY(hz_finish(&waiters[i]));
    }
    return works(&sem);
}

static const struct lock_case first_use = {.child = works};
static const struct lock_case with_history = {.history = 1, .child = works};
static const struct lock_case with_waiters = {.history = 1, .waiters = 2, .child = works};
static const struct lock_case trywait = {.history = 1, .child = child_tries};
static const struct lock_case timedwait = {.history = 1, .child = child_waits_a_second};
static const struct lock_case clockwait = {.history = 1, .child = child_waits_by_clock};

static int child_gives_back(void *sem) {
    HZ_TRY(hz_elsewhere(is_taken, sem));
    HZ_IS(sem_post(sem), 0);
    return works(sem);
}

/* What the survivor took stays taken: it gives it back itself. */
static int held_by_survivor(const void *arg) {
    (void)arg;
    sem_t sem;
    struct hz_thread waiter;
    HZ_SETUP(sem_init(&sem, 0, 1) == 0);
    HZ_TRY(hz_elsewhere(turns, &sem));
    HZ_TRY(turns(&sem));
    HZ_SETUP(sem_wait(&sem) == 0);
    hz_start(&waiter, turns, &sem);
    hz_until_stuck(&waiter);
    HZ_TRY(hz_child(child_gives_back, &sem));
    HZ_IS(sem_post(&sem), 0);
    HZ_TRY(hz_finish(&waiter));
    return works(&sem);
}

/* Child after child: none may be given more than the one. */
static int held_again_and_again(const void *arg) {
    (void)arg;
    struct hz_holder holder;
    sem_t sem;
    HZ_SETUP(sem_init(&sem, 0, 1) == 0);
    HZ_TRY(hz_elsewhere(turns, &sem));
    for (int i = 0; i < 5; i++) {
        hz_hold(&holder, sem_down, sem_up, &sem);
        HZ_TRY(hz_child(works, &sem));
        HZ_TRY(hz_let_go(&holder));
        HZ_TRY(hz_child(works, &sem));
    }
    return works(&sem);
}

static int churn(const void *arg) {
    (void)arg;
    struct hz_pair pair;
    sem_t sem;
    HZ_SETUP(sem_init(&sem, 0, 1) == 0);
    HZ_TRY(turns(&sem));
    hz_pair_init(&pair, sem_down, sem_up, &sem);
    return hz_churn_forks(&pair, 1, 200);
}

/* ---- not as a lock: what was taken by one is posted by another ---- */

static int child_finds(void *arg) {
    sem_t *sem = arg;
    HZ_IS(value_of(sem), 3);
    for (int i = 0; i < 3; i++) {
        HZ_IS(sem_trywait(sem), 0);
    }
    return is_taken(sem);
}

static int take_ten(void *sem) {
    for (int i = 0; i < 10; i++) {
        HZ_IS(sem_wait(sem), 0);
    }
    return HZ_OK;
}

struct flow {
    sem_t items, slots;
    struct hz_event taken, go_on;
};

static int consumer_that_stays(void *arg) {
    struct flow *flow = arg;
    HZ_TRY(take_ten(&flow->items));
    hz_post(&flow->taken);
    hz_await(&flow->go_on, 1);
    return HZ_OK;
}

/* Ten items were made and taken by a thread that vanishes, three more were made: three are there.
 */
static int items(const void *arg) {
    (void)arg;
    struct flow flow = {.taken = {0}};
    struct hz_thread consumer;
    HZ_SETUP(sem_init(&flow.items, 0, 0) == 0);
    hz_start(&consumer, consumer_that_stays, &flow);
    for (int i = 0; i < 10; i++) {
        HZ_SETUP(sem_post(&flow.items) == 0);
    }
    hz_await(&flow.taken, 1);
    for (int i = 0; i < 3; i++) {
        HZ_SETUP(sem_post(&flow.items) == 0);
    }
    HZ_TRY(hz_child(child_finds, &flow.items));
    hz_post(&flow.go_on);
    return hz_finish(&consumer);
}

/* A buffer of one place: the producer takes the place, the consumer gives it back. */
static int producer(void *arg) {
    struct flow *flow = arg;
    for (int i = 0; i <= 10; i++) {
        HZ_IS(sem_wait(&flow->slots), 0);
        HZ_IS(sem_post(&flow->items), 0);
    }
    hz_post(&flow->taken);
    hz_await(&flow->go_on, 1);
    return HZ_OK;
}

static int child_finds_no_slot(void *arg) {
    struct flow *flow = arg;
    HZ_IS(value_of(&flow->slots), 0);
    HZ_TRY(is_taken(&flow->slots));
    HZ_IS(value_of(&flow->items), 1);
    return HZ_OK;
}

static int single_slot(const void *arg) {
    (void)arg;
    struct flow flow = {.taken = {0}};
    struct hz_thread maker;
    HZ_SETUP(sem_init(&flow.items, 0, 0) == 0 && sem_init(&flow.slots, 0, 1) == 0);
    hz_start(&maker, producer, &flow);
    for (int i = 0; i < 10; i++) {
        HZ_SETUP(sem_wait(&flow.items) == 0);
        HZ_SETUP(sem_post(&flow.slots) == 0);
    }
    hz_await(&flow.taken, 1);
    HZ_TRY(hz_child(child_finds_no_slot, &flow));
    hz_post(&flow.go_on);
    return hz_finish(&maker);
}

static int child_of_waiters(void *sem) {
    HZ_IS(value_of(sem), 0);
    HZ_TRY(is_taken(sem));
    HZ_IS(sem_post(sem), 0);
    HZ_IS(value_of(sem), 1);
    HZ_IS(sem_wait(sem), 0);
    return is_taken(sem);
}

/* Threads that wait for an event vanish: the child's own post is all that counts in it. */
static int vanished_waiters(const void *arg) {
    (void)arg;
    enum { WAITERS = 3 };
    struct hz_thread waiters[WAITERS];
    sem_t sem;
    HZ_SETUP(sem_init(&sem, 0, 0) == 0);
    for (int i = 0; i < WAITERS; i++) {
        hz_start(&waiters[i], sem_down, &sem);
        hz_until_stuck(&waiters[i]);
    }
    HZ_TRY(hz_child(child_of_waiters, &sem));
    for (int i = 0; i < WAITERS; i++) {
        HZ_IS(sem_post(&sem), 0);
    }
    for (int i = 0; i < WAITERS; i++) {
        HZ_IS(hz_finish(&waiters[i]), 0);
    }
    return HZ_OK;
}

struct game {
    sem_t ping, pong;
    struct hz_event rounds, stop;
};

static int player(void *arg) {
    struct game *game = arg;
    while (hz_seen(&game->stop) == 0) {
        HZ_IS(sem_wait(&game->ping), 0);
        HZ_IS(sem_post(&game->pong), 0);
        hz_post(&game->rounds);
    }
    return HZ_OK;
}

static int partner(void *arg) {
    struct game *game = arg;
    while (hz_seen(&game->stop) == 0) {
        HZ_IS(sem_wait(&game->pong), 0);
        HZ_IS(sem_post(&game->ping), 0);
    }
    return HZ_OK;
}

/* One ball: it lies in one of both semaphores, or is in somebody's hands. */
static int one_ball(void *arg) {
    struct game *game = arg;
    int ping = value_of(&game->ping), pong = value_of(&game->pong);
    HZ_TRUE(ping + pong == 0 || ping + pong == 1);
    return HZ_OK;
}

static int ping_pong(const void *arg) {
    (void)arg;
    struct game game = {.stop = {0}};
    struct hz_thread threads[2];
    HZ_SETUP(sem_init(&game.ping, 0, 1) == 0 && sem_init(&game.pong, 0, 0) == 0);
    hz_start(&threads[0], player, &game);
    hz_start(&threads[1], partner, &game);
    hz_await(&game.rounds, 10);
    HZ_TRY(hz_children(200, one_ball, &game));
    hz_post(&game.stop);
    HZ_IS(sem_post(&game.ping), 0);
    HZ_IS(sem_post(&game.pong), 0);
    HZ_TRY(hz_finish(&threads[0]));
    return hz_finish(&threads[1]);
}

static const struct hazard hazards[] = {
    HAZARD_OF("sem_lock_first_use", held, &first_use, HANGS,
              "initial value 1, held by a vanished thread at its very first use"),
    HAZARD_OF("sem_lock", held, &with_history, HANGS,
              "always given back by its holder so far; held by a vanished thread"),
    HAZARD_OF("sem_lock_waiters", held, &with_waiters, HANGS, "a holder and two waiters vanish"),
    HAZARD_OF("sem_lock_child_trywait", held, &trywait, WRONG,
              "the child's trywait says EAGAIN for ever"),
    HAZARD_OF("sem_lock_child_timedwait", held, &timedwait, WRONG,
              "the child's timedwait says ETIMEDOUT for ever"),
    HAZARD_OF("sem_lock_child_clockwait", held, &clockwait, WRONG,
              "the child's clockwait says ETIMEDOUT for ever"),
    HAZARD("sem_lock_again", held_again_and_again, HANGS,
           "held and free by turns over ten forks: never more than 1 given back"),
    HAZARD("sem_lock_own", held_by_survivor, OK, "held by the survivor: not given back for it"),
    HAZARD_CHANCE("sem_lock_churn", churn, NULL, EITHER, "three threads turn a pair"),
    HAZARD("sem_items", items, OK, "counts items: not given back what a vanished consumer took"),
    HAZARD("sem_single_slot", single_slot, OK,
           "value 1, but given back by others than its takers: no lock"),
    HAZARD("sem_vanished_waiters", vanished_waiters, OK, "threads that waited for an event vanish"),
    HAZARD("sem_ping_pong", ping_pong, OK, "two threads hand over by two semaphores: one ball"),
};
HAZARD_MAIN(hazards)
