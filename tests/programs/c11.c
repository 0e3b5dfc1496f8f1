/*
 * c11.c: the same through <threads.h>, whose functions call glibc's inner ones and not the pthread
 * names.
 */
#include "hazard.h"

#include <threads.h>

struct mtx_case {
    int type;
    int depth;
    int (*take)(mtx_t *);  /* by the thread that vanishes */
    int (*child)(mtx_t *); /* first use in the child */
};

struct held {
    const struct mtx_case *is;
    mtx_t mutex;
};

static struct timespec soon(void) { return hz_in_ms(CLOCK_REALTIME, 1000); }

static int by_timedlock(mtx_t *mutex) {
    struct timespec end = soon();
    return mtx_timedlock(mutex, &end);
}

static int take_held(void *arg) {
    struct held *held = arg;
    for (int i = 0; i < held->is->depth; i++) {
        HZ_IS(held->is->take(&held->mutex), thrd_success);
    }
    return 0;
}

static int drop_held(void *arg) {
    struct held *held = arg;
    for (int i = 0; i < held->is->depth; i++) {
        HZ_IS(mtx_unlock(&held->mutex), thrd_success);
    }
    return 0;
}

static int is_taken(void *mutex) {
    HZ_IS(mtx_trylock(mutex), thrd_busy);
    return HZ_OK;
}

static int is_free(void *mutex) {
    HZ_IS(mtx_trylock(mutex), thrd_success);
    HZ_IS(mtx_unlock(mutex), thrd_success);
    return HZ_OK;
}

/* A C11 thread does what hz_elsewhere does with a POSIX one. */
static int elsewhere(int (*body)(void *), mtx_t *mutex) {
    thrd_t thread;
    int verdict = HZ_WRONG;
    HZ_IS(thrd_create(&thread, body, mutex), thrd_success);
    HZ_IS(thrd_join(thread, &verdict), thrd_success);
    return verdict;
}

static int works(struct held *held) {
    mtx_t *mutex = &held->mutex;
    HZ_IS(mtx_lock(mutex), thrd_success);
    if (held->is->type & mtx_recursive) {
        HZ_IS(mtx_lock(mutex), thrd_success);
        HZ_IS(mtx_unlock(mutex), thrd_success);
    }
    if (held->is->type & mtx_timed) {
        struct timespec end = soon();
        int again = mtx_timedlock(mutex, &end);
        HZ_IS(again, held->is->type & mtx_recursive ? thrd_success : thrd_timedout);
        HZ_IS(again == thrd_success ? mtx_unlock(mutex) : thrd_success, thrd_success);
    }
    HZ_TRY(elsewhere(is_taken, mutex));
    HZ_IS(mtx_unlock(mutex), thrd_success);
    return elsewhere(is_free, mutex);
}

static int use_held(void *arg) {
    struct held *held = arg;
    HZ_IS(held->is->child(&held->mutex), thrd_success);
    HZ_IS(mtx_unlock(&held->mutex), thrd_success);
    return works(held);
}

static int vanished_holder(const void *arg) {
    struct held held = {.is = arg};
    struct hz_holder holder;
    HZ_SETUP(mtx_init(&held.mutex, held.is->type) == thrd_success);
    hz_hold(&holder, take_held, drop_held, &held);
    HZ_TRY(hz_child(use_held, &held));
    HZ_TRY(hz_let_go(&holder));
    return works(&held);
}

static const struct mtx_case plain = {mtx_plain, 1, mtx_lock, mtx_lock};
static const struct mtx_case recursive = {mtx_plain | mtx_recursive, 2, mtx_lock, mtx_lock};
static const struct mtx_case timed = {mtx_timed, 1, mtx_lock, mtx_lock};
static const struct mtx_case timed_recursive = {mtx_timed | mtx_recursive, 2, mtx_lock, mtx_lock};
static const struct mtx_case tried = {mtx_plain, 1, mtx_trylock, mtx_lock};
static const struct mtx_case taken_timed = {mtx_timed, 1, by_timedlock, mtx_lock};
static const struct mtx_case child_tries = {mtx_plain, 1, mtx_lock, mtx_trylock};
static const struct mtx_case child_waits = {mtx_timed, 1, mtx_lock, by_timedlock};

/* ---- what the survivor holds ---- */

static int child_unlocks_own(void *arg) {
    struct held *held = arg;
    for (int i = 0; i < held->is->depth; i++) {
        HZ_TRY(elsewhere(is_taken, &held->mutex));
        HZ_IS(mtx_unlock(&held->mutex), thrd_success);
    }
    HZ_TRY(elsewhere(is_free, &held->mutex));
    return works(held);
}

static int own(const void *arg) {
    struct held held = {.is = arg};
    struct hz_bystander bystander;
    hz_bystander_start(&bystander);
    HZ_SETUP(mtx_init(&held.mutex, held.is->type) == thrd_success);
    HZ_SETUP(take_held(&held) == 0);
    HZ_TRY(hz_child(child_unlocks_own, &held));
    HZ_TRY(hz_bystander_stop(&bystander));
    return child_unlocks_own(&held);
}

/* ---- condition variables ---- */

struct room {
    mtx_t mutex;
    cnd_t cond;
    int timed;
    int tickets;
    struct hz_event inside;
};

static int waiter(void *arg) {
    struct room *room = arg;
    struct timespec end = hz_in_ms(CLOCK_REALTIME, 3600 * 1000);
    HZ_IS(mtx_lock(&room->mutex), thrd_success);
    hz_post(&room->inside);
    while (room->tickets == 0) {
        HZ_IS(room->timed ? cnd_timedwait(&room->cond, &room->mutex, &end)
                          : cnd_wait(&room->cond, &room->mutex),
              thrd_success);
    }
    room->tickets--;
    HZ_IS(mtx_unlock(&room->mutex), thrd_success);
    return HZ_OK;
}

static int start_waiter(struct room *room, thrd_t *thread) {
    int before = hz_seen(&room->inside);
    HZ_IS(thrd_create(thread, waiter, room), thrd_success);
    hz_await(&room->inside, before + 1);
    HZ_IS(mtx_lock(&room->mutex), thrd_success);
    HZ_IS(mtx_unlock(&room->mutex), thrd_success);
    return HZ_OK;
}

static int give(struct room *room, int tickets, int (*wake)(cnd_t *)) {
    HZ_IS(mtx_lock(&room->mutex), thrd_success);
    room->tickets += tickets;
    HZ_IS(wake(&room->cond), thrd_success);
    HZ_IS(mtx_unlock(&room->mutex), thrd_success);
    return HZ_OK;
}

static int finish_waiter(thrd_t thread) {
    int verdict = HZ_WRONG;
    HZ_IS(thrd_join(thread, &verdict), thrd_success);
    return verdict;
}

static int room_works(struct room *room) {
    for (int i = 0; i < 3; i++) {
        thrd_t one, two;
        HZ_TRY(start_waiter(room, &one));
        HZ_TRY(give(room, 1, cnd_signal));
        HZ_TRY(finish_waiter(one));
        HZ_TRY(start_waiter(room, &one));
        HZ_TRY(start_waiter(room, &two));
        HZ_TRY(give(room, 2, cnd_broadcast));
        HZ_TRY(finish_waiter(one));
        HZ_TRY(finish_waiter(two));
    }
    return HZ_OK;
}

static int child_signals(void *arg) { return room_works(arg); }

/* cnd_destroy returns nothing, but it waits for those inside as pthread_cond_destroy does. */
static int child_destroys(void *arg) {
    struct room *room = arg;
    cnd_destroy(&room->cond);
    HZ_IS(cnd_init(&room->cond), thrd_success);
    return room_works(room);
}

static int vanished_waiters(int in_timedwait, int (*child)(void *)) {
    struct room room = {.timed = in_timedwait};
    thrd_t threads[2];
    HZ_SETUP(mtx_init(&room.mutex, mtx_plain) == thrd_success);
    HZ_SETUP(cnd_init(&room.cond) == thrd_success);
    HZ_TRY(start_waiter(&room, &threads[0]));
    HZ_TRY(start_waiter(&room, &threads[1]));
    HZ_TRY(hz_child(child, &room));
    HZ_TRY(give(&room, 2, cnd_broadcast));
    HZ_TRY(finish_waiter(threads[0]));
    HZ_TRY(finish_waiter(threads[1]));
    return room_works(&room);
}

static int cnd_signalled(const void *arg) {
    (void)arg;
    return vanished_waiters(0, child_signals);
}

static int cnd_destroyed(const void *arg) {
    (void)arg;
    return vanished_waiters(0, child_destroys);
}

static int cnd_timed_destroyed(const void *arg) {
    (void)arg;
    return vanished_waiters(1, child_destroys);
}

/* ---- once: repaired by glibc itself, by a count of forks in the once word ---- */

static once_flag c11_once = ONCE_FLAG_INIT;
static pthread_once_t posix_once = PTHREAD_ONCE_INIT;
static struct hz_event once_begun, once_go_on;
static int once_in_child, once_done;

static void once_body(void) {
    hz_post(&once_begun);
    if (!once_in_child) {
        hz_await(&once_go_on, 1);
    }
    once_done++;
}

static int run_once(void *posix) {
    if (posix) {
        HZ_IS(pthread_once(&posix_once, once_body), 0);
    } else {
        call_once(&c11_once, once_body);
    }
    return HZ_OK;
}

static int child_runs_once(void *posix) {
    once_in_child = 1;
    HZ_TRY(run_once(posix));
    HZ_TRY(run_once(posix));
    HZ_TRY(hz_elsewhere(run_once, posix));
    HZ_IS(once_done, 1);
    return HZ_OK;
}

static int once_in_progress(const void *arg) {
    void *posix = arg ? &posix_once : NULL;
    struct hz_thread threads[2];
    hz_start(&threads[0], run_once, posix);
    hz_await(&once_begun, 1);
    hz_start(&threads[1], run_once, posix);
    hz_until_stuck(&threads[1]);
    HZ_TRY(hz_child(child_runs_once, posix));
    hz_post(&once_go_on);
    HZ_TRY(hz_finish(&threads[0]));
    HZ_TRY(hz_finish(&threads[1]));
    HZ_IS(once_done, 1);
    return HZ_OK;
}

/* ---- churn ---- */

static int lock_mtx(void *mutex) { return mtx_lock(mutex) == thrd_success ? 0 : EINVAL; }
static int unlock_mtx(void *mutex) { return mtx_unlock(mutex) == thrd_success ? 0 : EINVAL; }

static int churn(const void *arg) {
    (void)arg;
    mtx_t mutexes[2];
    struct hz_pair pairs[2];
    for (int i = 0; i < 2; i++) {
        HZ_SETUP(mtx_init(&mutexes[i], mtx_plain) == thrd_success);
        hz_pair_init(&pairs[i], lock_mtx, unlock_mtx, &mutexes[i]);
    }
    return hz_churn_forks(pairs, 2, 200);
}

static const struct hazard hazards[] = {
    HAZARD_OF("c11_mtx_plain", vanished_holder, &plain, HANGS,
              "mtx_plain held by a vanished thread"),
    HAZARD_OF("c11_mtx_recursive", vanished_holder, &recursive, HANGS, "mtx_recursive, held twice"),
    HAZARD_OF("c11_mtx_timed", vanished_holder, &timed, HANGS, "mtx_timed"),
    HAZARD_OF("c11_mtx_timed_recursive", vanished_holder, &timed_recursive, HANGS,
              "mtx_timed and mtx_recursive, held twice"),
    HAZARD_OF("c11_mtx_by_trylock", vanished_holder, &tried, HANGS, "taken with mtx_trylock"),
    HAZARD_OF("c11_mtx_by_timedlock", vanished_holder, &taken_timed, HANGS,
              "taken with mtx_timedlock"),
    HAZARD_OF("c11_mtx_child_trylock", vanished_holder, &child_tries, WRONG,
              "the child's mtx_trylock says thrd_busy for ever"),
    HAZARD_OF("c11_mtx_child_timedlock", vanished_holder, &child_waits, WRONG,
              "the child's mtx_timedlock says thrd_timedout for ever"),
    HAZARD_OF("c11_own_mtx_plain", own, &plain, OK, "mtx_plain held by the survivor"),
    HAZARD_OF("c11_own_mtx_recursive", own, &recursive, WRONG,
              "mtx_recursive held twice by the survivor: the child cannot unlock it"),
    HAZARD("c11_cnd_signal", cnd_signalled, HANGS, "condition variable with vanished waiters"),
    HAZARD("c11_cnd_destroy", cnd_destroyed, HANGS, "destroyed in the child: waits for ghosts"),
    HAZARD("c11_cnd_timed_destroy", cnd_timed_destroyed, HANGS,
           "the ghosts waited in cnd_timedwait"),
    HAZARD("c11_call_once", once_in_progress, OK, "call_once in progress (repaired by glibc)"),
    HAZARD_OF("c11_pthread_once", once_in_progress, &posix_once, OK,
              "pthread_once in progress (repaired by glibc)"),
    HAZARD_CHANCE("c11_churn", churn, NULL, EITHER, "three threads turn mtx_plain"),
};
HAZARD_MAIN(hazards)
