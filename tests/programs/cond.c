/*
 * cond.c: condition variables whose waiters vanished.
 *
 * glibc keeps the waiters of a condition variable in two groups, counts them, and waits for the
 * older group to drain before it closes the younger one (nptl/pthread_cond_common.c): ghosts in a
 * group never leave it.
 */
#include "hazard.h"

enum form { WAIT, TIMEDWAIT, CLOCKWAIT };

struct cond_case {
    enum form form; /* how the threads that vanish wait */
    clockid_t clock;
    struct hz_mutex_kind kind;
    int waiters;
    int woken;   /* how many of them are signalled before the fork */
    int settled; /* the fork comes only when those have left */
    int bare_init;
    int (*child)(void *);
};

struct room {
    const struct cond_case *is;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    int tickets; /* each waiter leaves with one; under the mutex */
    struct hz_event inside, left;
    struct hz_thread waiters[4];
};

static void make_cond(pthread_cond_t *cond, clockid_t clock) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    HZ_SETUP(pthread_condattr_setclock(&attr, clock) == 0);
    HZ_SETUP(pthread_cond_init(cond, &attr) == 0);
    pthread_condattr_destroy(&attr);
}

static int wait_once(struct room *room, enum form form) {
    enum { AN_HOUR = 3600 * 1000 };
    struct timespec own = hz_in_ms(room->is->clock, AN_HOUR);
    struct timespec monotonic = hz_in_ms(CLOCK_MONOTONIC, AN_HOUR);
    switch (form) {
    case TIMEDWAIT:
        return pthread_cond_timedwait(&room->cond, &room->mutex, &own);
    case CLOCKWAIT:
        return pthread_cond_clockwait(&room->cond, &room->mutex, CLOCK_MONOTONIC, &monotonic);
    default:
        return pthread_cond_wait(&room->cond, &room->mutex);
    }
}

static int wait_for_ticket(struct room *room, enum form form) {
    HZ_IS(pthread_mutex_lock(&room->mutex), 0);
    hz_post(&room->inside);
    while (room->tickets == 0) {
        HZ_IS(wait_once(room, form), 0);
    }
    room->tickets--;
    HZ_IS(pthread_mutex_unlock(&room->mutex), 0);
    hz_post(&room->left);
    return HZ_OK;
}

static int waiter(void *arg) {
    struct room *room = arg;
    return wait_for_ticket(room, room->is->form);
}

static int plain_waiter(void *arg) { return wait_for_ticket(arg, WAIT); }

/* When this returns, the new thread waits: it said so under the mutex, and the mutex was free
 * since. */
static int start_waiter(struct room *room, struct hz_thread *thread, int (*body)(void *)) {
    int before = hz_seen(&room->inside);
    hz_start(thread, body, room);
    hz_await(&room->inside, before + 1);
    HZ_IS(pthread_mutex_lock(&room->mutex), 0);
    HZ_IS(pthread_mutex_unlock(&room->mutex), 0);
    return HZ_OK;
}

static int give(struct room *room, int tickets, int (*wake)(pthread_cond_t *)) {
    HZ_IS(pthread_mutex_lock(&room->mutex), 0);
    room->tickets += tickets;
    HZ_IS(wake(&room->cond), 0);
    HZ_IS(pthread_mutex_unlock(&room->mutex), 0);
    return HZ_OK;
}

static int signal_reaches_one(struct room *room) {
    struct hz_thread thread;
    HZ_TRY(start_waiter(room, &thread, plain_waiter));
    HZ_TRY(give(room, 1, pthread_cond_signal));
    return hz_finish(&thread);
}

static int broadcast_reaches_all(struct room *room) {
    struct hz_thread threads[3];
    for (int i = 0; i < 3; i++) {
        HZ_TRY(start_waiter(room, &threads[i], plain_waiter));
    }
    HZ_TRY(give(room, 3, pthread_cond_broadcast));
    for (int i = 0; i < 3; i++) {
        HZ_TRY(hz_finish(&threads[i]));
    }
    return HZ_OK;
}

/* The wait ends by its own clock: not at once, as it would if another clock read the time in it. */
static int keeps_clock(struct room *room) {
    struct timespec end = hz_in_ms(room->is->clock, 300);
    int got = 0;
    HZ_IS(pthread_mutex_lock(&room->mutex), 0);
    while (got == 0) {
        got = pthread_cond_timedwait(&room->cond, &room->mutex, &end);
    }
    HZ_IS(got, ETIMEDOUT);
    HZ_IS(pthread_mutex_unlock(&room->mutex), 0);
    HZ_TRUE(hz_now_ms(room->is->clock) >= (int64_t)end.tv_sec * 1000 + end.tv_nsec / 1000000);
    return HZ_OK;
}

static int works(struct room *room) {
    for (int i = 0; i < 3; i++) {
        HZ_TRY(signal_reaches_one(room));
        HZ_TRY(broadcast_reaches_all(room));
    }
    HZ_IS(pthread_cond_destroy(&room->cond), 0);
    make_cond(&room->cond, room->is->clock);
    return signal_reaches_one(room);
}

/* ---- children ---- */

/* Tickets of waiters that were woken but vanished before they took them. */
static int drop_stale_tickets(struct room *room) {
    HZ_IS(pthread_mutex_lock(&room->mutex), 0);
    room->tickets = 0;
    HZ_IS(pthread_mutex_unlock(&room->mutex), 0);
    return HZ_OK;
}

static int child_destroys(void *arg) {
    struct room *room = arg;
    HZ_IS(pthread_cond_destroy(&room->cond), 0);
    make_cond(&room->cond, room->is->clock);
    HZ_TRY(drop_stale_tickets(room));
    return works(room);
}

static int child_signals(void *arg) {
    struct room *room = arg;
    HZ_TRY(drop_stale_tickets(room));
    HZ_TRY(signal_reaches_one(room));
    return works(room);
}

static int child_broadcasts(void *arg) {
    struct room *room = arg;
    HZ_TRY(drop_stale_tickets(room));
    HZ_TRY(broadcast_reaches_all(room));
    return works(room);
}

static int child_reads_clock(void *arg) {
    struct room *room = arg;
    HZ_TRY(drop_stale_tickets(room));
    HZ_TRY(broadcast_reaches_all(room));
    HZ_TRY(signal_reaches_one(room));
    HZ_TRY(keeps_clock(room));
    return works(room);
}

/* Nobody waits in the child: what is sent now must not be kept for later, nor wait for ghosts. */
static int child_signals_nobody(void *arg) {
    struct room *room = arg;
    HZ_TRY(drop_stale_tickets(room));
    HZ_IS(pthread_cond_broadcast(&room->cond), 0);
    HZ_IS(pthread_cond_signal(&room->cond), 0);
    HZ_IS(pthread_cond_broadcast(&room->cond), 0);
    HZ_TRY(keeps_clock(room));
    return works(room);
}

/* ---- waiters that vanish ---- */

static int finish_all(struct room *room) {
    for (int i = 0; i < room->is->waiters; i++) {
        HZ_TRY(hz_finish(&room->waiters[i]));
    }
    return works(room);
}

static int vanished_waiters(const void *arg) {
    static const pthread_cond_t bare_cond = PTHREAD_COND_INITIALIZER;
    struct room room = {.is = arg, .cond = bare_cond};
    int waiters = room.is->waiters, woken = room.is->woken;
    HZ_MUTEX_OR_SKIP(&room.mutex, &room.is->kind);
    if (!room.is->bare_init) {
        make_cond(&room.cond, room.is->clock);
    }
    for (int i = 0; i < waiters; i++) {
        HZ_TRY(start_waiter(&room, &room.waiters[i], waiter));
    }
    for (int i = 0; i < woken; i++) {
        HZ_TRY(give(&room, 1, pthread_cond_signal));
    }
    if (room.is->settled) {
        hz_await(&room.left, woken);
    }
    HZ_TRY(hz_child(room.is->child, &room));
    HZ_TRY(give(&room, waiters - woken, pthread_cond_broadcast));
    return finish_all(&room);
}

#define CASE(id, ...) static const struct cond_case id = {__VA_ARGS__}
#define MONOTONIC .clock = CLOCK_MONOTONIC
CASE(destroyed, .waiters = 3, .child = child_destroys);
CASE(destroyed_static, .waiters = 3, .child = child_destroys, .bare_init = 1);
CASE(destroyed_timed, .waiters = 3, .child = child_destroys, .form = TIMEDWAIT);
CASE(destroyed_clocked, .waiters = 3, .child = child_destroys, .form = CLOCKWAIT);
CASE(destroyed_pi, .waiters = 3, .child = child_destroys, .kind.protocol = PTHREAD_PRIO_INHERIT);
CASE(destroyed_recursive, .waiters = 3, .child = child_destroys,
     .kind.type = PTHREAD_MUTEX_RECURSIVE);
CASE(signalled_ghost, .waiters = 3, .child = child_signals, .woken = 1, .settled = 1);
CASE(signals, .waiters = 3, .child = child_signals);
CASE(broadcasts, .waiters = 3, .child = child_broadcasts);
CASE(sent_to_nobody, .waiters = 3, .child = child_signals_nobody);
CASE(clock_monotonic, .waiters = 3, .child = child_reads_clock, MONOTONIC, .form = TIMEDWAIT);
CASE(clock_realtime, .waiters = 3, .child = child_reads_clock, .form = TIMEDWAIT);
CASE(woken_at_fork, .waiters = 4, .woken = 2, .child = child_signals);
CASE(woken_at_fork_destroyed, .waiters = 4, .woken = 2, .child = child_destroys);

/* ---- waiters on their way back to the mutex ---- */

static int child_unlocks(void *arg) {
    struct room *room = arg;
    room->tickets = 0; /* this thread holds the mutex */
    HZ_IS(pthread_mutex_unlock(&room->mutex), 0);
    return works(room);
}

/* Woken, and then held up at the mutex, which the survivor holds: such a waiter is no ghost any
 * more. */
static int back_at_mutex_of_survivor(const void *arg) {
    struct room room = {.is = arg, .mutex = PTHREAD_MUTEX_INITIALIZER};
    make_cond(&room.cond, CLOCK_REALTIME);
    HZ_TRY(start_waiter(&room, &room.waiters[0], waiter));
    HZ_IS(pthread_mutex_lock(&room.mutex), 0);
    room.tickets = 1;
    HZ_IS(pthread_cond_signal(&room.cond), 0);
    hz_until_waits_at(&room.waiters[0], &room.mutex, sizeof room.mutex);
    HZ_TRY(hz_child(child_unlocks, &room));
    HZ_IS(pthread_mutex_unlock(&room.mutex), 0);
    return finish_all(&room);
}

/* The same, but the mutex is held by another thread that vanishes. */
static int back_at_mutex_of_vanished(const void *arg) {
    struct room room = {.is = arg, .mutex = PTHREAD_MUTEX_INITIALIZER};
    struct hz_holder holder;
    make_cond(&room.cond, CLOCK_REALTIME);
    HZ_TRY(start_waiter(&room, &room.waiters[0], waiter));
    hz_hold(&holder, hz_mutex_lock, hz_mutex_unlock, &room.mutex);
    room.tickets = 1; /* the holder only holds: nobody else looks */
    HZ_IS(pthread_cond_signal(&room.cond), 0);
    hz_until_waits_at(&room.waiters[0], &room.mutex, sizeof room.mutex);
    HZ_TRY(hz_child(child_signals, &room));
    HZ_TRY(hz_let_go(&holder));
    return finish_all(&room);
}

CASE(one_waiter, .waiters = 1);

/* ---- a queue in full swing ---- */

struct queue {
    pthread_mutex_t mutex;
    pthread_cond_t filled, emptied;
    int items;
    struct hz_event stop;
};

static int produce(void *arg) {
    struct queue *queue = arg;
    while (hz_seen(&queue->stop) == 0) {
        HZ_IS(pthread_mutex_lock(&queue->mutex), 0);
        while (queue->items == 2 && hz_seen(&queue->stop) == 0) {
            HZ_IS(pthread_cond_wait(&queue->emptied, &queue->mutex), 0);
        }
        queue->items++;
        HZ_IS(pthread_cond_signal(&queue->filled), 0);
        HZ_IS(pthread_mutex_unlock(&queue->mutex), 0);
    }
    return HZ_OK;
}

static int consume(void *arg) {
    struct queue *queue = arg;
    while (hz_seen(&queue->stop) == 0) {
        HZ_IS(pthread_mutex_lock(&queue->mutex), 0);
        while (queue->items == 0 && hz_seen(&queue->stop) == 0) {
            HZ_IS(pthread_cond_wait(&queue->filled, &queue->mutex), 0);
        }
        queue->items -= queue->items > 0;
        HZ_IS(pthread_cond_signal(&queue->emptied), 0);
        HZ_IS(pthread_mutex_unlock(&queue->mutex), 0);
    }
    return HZ_OK;
}

static int child_ends_queue(void *arg) {
    struct queue *queue = arg;
    HZ_IS(pthread_mutex_lock(&queue->mutex), 0);
    HZ_TRUE(queue->items >= 0 && queue->items <= 2);
    HZ_IS(pthread_mutex_unlock(&queue->mutex), 0);
    HZ_IS(pthread_cond_broadcast(&queue->filled), 0);
    HZ_IS(pthread_cond_broadcast(&queue->emptied), 0);
    HZ_IS(pthread_cond_destroy(&queue->filled), 0);
    HZ_IS(pthread_cond_destroy(&queue->emptied), 0);
    return HZ_OK;
}

static int stop_queue(struct queue *queue) {
    HZ_IS(pthread_mutex_lock(&queue->mutex), 0);
    hz_post(&queue->stop);
    HZ_IS(pthread_cond_broadcast(&queue->filled), 0);
    HZ_IS(pthread_cond_broadcast(&queue->emptied), 0);
    HZ_IS(pthread_mutex_unlock(&queue->mutex), 0);
    return HZ_OK;
}

static int queue_storm(const void *arg) {
    (void)arg;
    struct queue queue = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                          .filled = PTHREAD_COND_INITIALIZER,
                          .emptied = PTHREAD_COND_INITIALIZER};
    struct hz_thread threads[4];
    for (int i = 0; i < 4; i++) {
        hz_start(&threads[i], i % 2 ? produce : consume, &queue);
    }
    HZ_TRY(hz_children(200, child_ends_queue, &queue));
    HZ_TRY(stop_queue(&queue));
    for (int i = 0; i < 4; i++) {
        HZ_TRY(hz_finish(&threads[i]));
    }
    return HZ_OK;
}

static const struct hazard hazards[] = {
    HAZARD_OF("cond_destroy", vanished_waiters, &destroyed, HANGS,
              "the child destroys it: waits for ghosts"),
    HAZARD_OF("cond_destroy_static", vanished_waiters, &destroyed_static, HANGS,
              "PTHREAD_COND_INITIALIZER, destroyed in the child"),
    HAZARD_OF("cond_destroy_timedwait", vanished_waiters, &destroyed_timed, HANGS,
              "the ghosts waited in timedwait"),
    HAZARD_OF("cond_destroy_clockwait", vanished_waiters, &destroyed_clocked, HANGS,
              "the ghosts waited in clockwait"),
    HAZARD_OF("cond_destroy_pi", vanished_waiters, &destroyed_pi, HANGS,
              "the ghosts waited with a priority-inheriting mutex"),
    HAZARD_OF("cond_destroy_recursive", vanished_waiters, &destroyed_recursive, HANGS,
              "the ghosts waited with a recursive mutex"),
    HAZARD_OF("cond_signal_to_ghost", vanished_waiters, &signalled_ghost, HANGS,
              "the child's signal goes to a ghost, its real waiter sleeps on"),
    HAZARD_OF("cond_signal", vanished_waiters, &signals, HANGS,
              "signals again and again beside ghosts"),
    HAZARD_OF("cond_broadcast", vanished_waiters, &broadcasts, HANGS,
              "broadcasts again and again beside ghosts"),
    HAZARD_OF("cond_signal_nobody", vanished_waiters, &sent_to_nobody, HANGS,
              "signal and broadcast where only ghosts wait"),
    HAZARD_OF("cond_clock_monotonic", vanished_waiters, &clock_monotonic, HANGS,
              "works, and keeps its CLOCK_MONOTONIC"),
    HAZARD_OF("cond_clock_realtime", vanished_waiters, &clock_realtime, HANGS,
              "works, and keeps its CLOCK_REALTIME"),
    HAZARD_OF("cond_woken_at_fork", vanished_waiters, &woken_at_fork, HANGS,
              "two of four waiters are woken just before the fork"),
    HAZARD_OF("cond_woken_at_fork_destroy", vanished_waiters, &woken_at_fork_destroyed, HANGS,
              "two of four waiters are woken just before the fork, the child destroys"),
    HAZARD_OF("cond_back_at_survivors_mutex", back_at_mutex_of_survivor, &one_waiter, OK,
              "a woken waiter vanishes at the mutex that the survivor holds"),
    HAZARD_OF("cond_back_at_vanished_mutex", back_at_mutex_of_vanished, &one_waiter, HANGS,
              "a woken waiter vanishes at the mutex that a vanished thread holds"),
    HAZARD_CHANCE("cond_queue_storm", queue_storm, NULL, EITHER,
                  "two producers and two consumers on two condition variables"),
};
HAZARD_MAIN(hazards)
