/*
 * rwlock.c: read-write locks that vanished threads held or were waiting for.
 */
#include "hazard.h"

enum how { RD, WR, TRYRD, TRYWR, TIMEDRD, TIMEDWR, CLOCKRD, CLOCKWR };

struct rwlock_case {
    int kind;
    enum how taken; /* by the thread that vanishes */
    int holds;      /* how often it takes a read lock */
    enum how used;  /* first use in the child */
    int bare_init;  /* PTHREAD_RWLOCK_INITIALIZER instead of pthread_rwlock_init */
};

static int take(pthread_rwlock_t *lock, enum how how) {
    int clocked = how == CLOCKRD || how == CLOCKWR;
    struct timespec soon = hz_in_ms(clocked ? CLOCK_MONOTONIC : CLOCK_REALTIME, 1000);
    switch (how) {
    case RD:
        return pthread_rwlock_rdlock(lock);
    case WR:
        return pthread_rwlock_wrlock(lock);
    case TRYRD:
        return pthread_rwlock_tryrdlock(lock);
    case TRYWR:
        return pthread_rwlock_trywrlock(lock);
    case TIMEDRD:
        return pthread_rwlock_timedrdlock(lock, &soon);
    case TIMEDWR:
        return pthread_rwlock_timedwrlock(lock, &soon);
    case CLOCKRD:
        return pthread_rwlock_clockrdlock(lock, CLOCK_MONOTONIC, &soon);
    case CLOCKWR:
        return pthread_rwlock_clockwrlock(lock, CLOCK_MONOTONIC, &soon);
    }
    return EINVAL;
}

static void make(pthread_rwlock_t *lock, int kind) {
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    HZ_SETUP(pthread_rwlockattr_setkind_np(&attr, kind) == 0);
    HZ_SETUP(pthread_rwlock_init(lock, &attr) == 0);
    pthread_rwlockattr_destroy(&attr);
}

static int write_lock(void *lock) { return pthread_rwlock_wrlock(lock); }
static int read_lock(void *lock) { return pthread_rwlock_rdlock(lock); }
static int unlock(void *lock) { return pthread_rwlock_unlock(lock); }

static int write_turn(void *lock) {
    HZ_IS(pthread_rwlock_wrlock(lock), 0);
    HZ_IS(pthread_rwlock_unlock(lock), 0);
    return HZ_OK;
}

static int read_turn(void *lock) {
    HZ_IS(pthread_rwlock_rdlock(lock), 0);
    HZ_IS(pthread_rwlock_unlock(lock), 0);
    return HZ_OK;
}

/* ---- what the lock must do once it is free: seen by somebody else ---- */

static int all_refused(void *lock) {
    HZ_IS(pthread_rwlock_tryrdlock(lock), EBUSY);
    HZ_IS(pthread_rwlock_trywrlock(lock), EBUSY);
    return HZ_OK;
}

static int writer_refused(void *lock) {
    HZ_IS(pthread_rwlock_trywrlock(lock), EBUSY);
    HZ_IS(pthread_rwlock_tryrdlock(lock), 0);
    HZ_IS(pthread_rwlock_unlock(lock), 0);
    return HZ_OK;
}

static int all_admitted(void *lock) {
    HZ_IS(pthread_rwlock_trywrlock(lock), 0);
    HZ_IS(pthread_rwlock_unlock(lock), 0);
    HZ_IS(pthread_rwlock_tryrdlock(lock), 0);
    HZ_IS(pthread_rwlock_unlock(lock), 0);
    return HZ_OK;
}

static int reader_refused(void *lock) {
    HZ_IS(pthread_rwlock_tryrdlock(lock), EBUSY);
    return HZ_OK;
}

static int reader_admitted(void *lock) {
    HZ_IS(pthread_rwlock_tryrdlock(lock), 0);
    HZ_IS(pthread_rwlock_unlock(lock), 0);
    return HZ_OK;
}

/* Beside a waiting writer, a reader is let in or not: the kind shows. A later unlock admits the
 * writer. */
static int keeps_preference(pthread_rwlock_t *lock, int kind) {
    int writers_first = kind == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP;
    struct hz_thread writer;
    HZ_IS(pthread_rwlock_rdlock(lock), 0);
    hz_start(&writer, write_turn, lock);
    hz_until_stuck(&writer);
    HZ_TRY(hz_elsewhere(writers_first ? reader_refused : reader_admitted, lock));
    HZ_IS(pthread_rwlock_unlock(lock), 0);
    return hz_finish(&writer);
}

static int wakes_readers(pthread_rwlock_t *lock) {
    struct hz_thread readers[2];
    HZ_IS(pthread_rwlock_wrlock(lock), 0);
    for (int i = 0; i < 2; i++) {
        hz_start(&readers[i], read_turn, lock);
        hz_until_stuck(&readers[i]);
    }
    HZ_IS(pthread_rwlock_unlock(lock), 0);
    HZ_TRY(hz_finish(&readers[0]));
    return hz_finish(&readers[1]);
}

static int works(pthread_rwlock_t *lock, int kind) {
    HZ_IS(pthread_rwlock_wrlock(lock), 0);
    HZ_TRY(hz_elsewhere(all_refused, lock));
    HZ_IS(pthread_rwlock_unlock(lock), 0);
    HZ_IS(pthread_rwlock_rdlock(lock), 0);
    HZ_TRY(hz_elsewhere(writer_refused, lock));
    HZ_IS(pthread_rwlock_unlock(lock), 0);
    HZ_TRY(hz_elsewhere(all_admitted, lock));
    HZ_TRY(keeps_preference(lock, kind));
    return wakes_readers(lock);
}

/* ---- one lock, one holder ---- */

struct held {
    const struct rwlock_case *is;
    pthread_rwlock_t lock;
};

static int take_held(void *arg) {
    struct held *held = arg;
    int error = take(&held->lock, held->is->taken);
    for (int i = 1; i < held->is->holds && error == 0; i++) {
        error = take(&held->lock, held->is->taken);
    }
    return error;
}

static int drop_held(void *arg) {
    struct held *held = arg;
    int error = pthread_rwlock_unlock(&held->lock);
    for (int i = 1; i < held->is->holds && error == 0; i++) {
        error = pthread_rwlock_unlock(&held->lock);
    }
    return error;
}

static int use_held(void *arg) {
    struct held *held = arg;
    HZ_IS(take(&held->lock, held->is->used), 0);
    HZ_IS(pthread_rwlock_unlock(&held->lock), 0);
    return works(&held->lock, held->is->kind);
}

static int vanished_holder(const void *arg) {
    static const pthread_rwlock_t bare = PTHREAD_RWLOCK_INITIALIZER;
    struct held held = {.is = arg, .lock = bare};
    if (!held.is->bare_init) {
        make(&held.lock, held.is->kind);
    }
    struct hz_holder holder;
    hz_hold(&holder, take_held, drop_held, &held);
    HZ_TRY(hz_child(use_held, &held));
    HZ_TRY(hz_let_go(&holder));
    return works(&held.lock, held.is->kind);
}

#define CASE(id, ...) static const struct rwlock_case id = {__VA_ARGS__}
#define WRITERS_FIRST .kind = PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP

CASE(read_then_wr, .taken = RD, .used = WR);
CASE(read_thrice, .taken = RD, .holds = 3, .used = WR);
CASE(write_then_rd, .taken = WR, .used = RD);
CASE(write_then_wr, .taken = WR, .used = WR);
CASE(static_write, .taken = WR, .used = RD, .bare_init = 1);
CASE(static_read, .taken = RD, .used = WR, .bare_init = 1);
CASE(by_tryrd, .taken = TRYRD, .used = WR);
CASE(by_trywr, .taken = TRYWR, .used = RD);
CASE(by_timedrd, .taken = TIMEDRD, .used = WR);
CASE(by_timedwr, .taken = TIMEDWR, .used = RD);
CASE(by_clockrd, .taken = CLOCKRD, .used = WR);
CASE(by_clockwr, .taken = CLOCKWR, .used = RD);
CASE(child_tryrd, .taken = WR, .used = TRYRD);
CASE(child_trywr, .taken = RD, .used = TRYWR);
CASE(child_timedrd, .taken = WR, .used = TIMEDRD);
CASE(child_timedwr, .taken = RD, .used = TIMEDWR);
CASE(child_clockrd, .taken = WR, .used = CLOCKRD);
CASE(child_clockwr, .taken = RD, .used = CLOCKWR);
CASE(writers_first_read, WRITERS_FIRST, .taken = RD, .used = WR);
CASE(writers_first_write, WRITERS_FIRST, .taken = WR, .used = RD);
CASE(prefer_writer, .kind = PTHREAD_RWLOCK_PREFER_WRITER_NP, .taken = RD, .used = WR);

/* ---- waiters that vanish ---- */

struct waited {
    pthread_rwlock_t lock;
    int kind;
    struct hz_thread waiters[3];
};

static void start_waiters(struct waited *waited, int count, int (*turn)(void *)) {
    for (int i = 0; i < count; i++) {
        hz_start(&waited->waiters[i], turn, &waited->lock);
        hz_until_stuck(&waited->waiters[i]);
    }
}

static int finish_waiters(struct waited *waited, int count) {
    for (int i = 0; i < count; i++) {
        HZ_TRY(hz_finish(&waited->waiters[i]));
    }
    return works(&waited->lock, waited->kind);
}

static int child_works(void *arg) {
    struct waited *waited = arg;
    return works(&waited->lock, waited->kind);
}

static int child_unlocks_read(void *arg) {
    struct waited *waited = arg;
    HZ_IS(pthread_rwlock_trywrlock(&waited->lock), EBUSY);
    HZ_IS(pthread_rwlock_unlock(&waited->lock), 0);
    return works(&waited->lock, waited->kind);
}

static int child_unlocks_write(void *arg) {
    struct waited *waited = arg;
    HZ_TRY(hz_elsewhere(all_refused, &waited->lock));
    HZ_IS(pthread_rwlock_unlock(&waited->lock), 0);
    return works(&waited->lock, waited->kind);
}

static int child_reads(void *arg) {
    struct waited *waited = arg;
    HZ_TRY(read_turn(&waited->lock));
    return works(&waited->lock, waited->kind);
}

struct waiting_case {
    int kind;
    enum how holds;
    int survivor; /* holds it, instead of a vanished thread */
    int (*waits)(void *);
    int (*child)(void *);
};

static int vanished_waiters(const void *arg) {
    const struct waiting_case *is = arg;
    struct waited waited = {.kind = is->kind};
    struct hz_holder holder;
    make(&waited.lock, is->kind);
    if (is->survivor) {
        HZ_SETUP(take(&waited.lock, is->holds) == 0);
    } else {
        hz_hold(&holder, is->holds == RD ? read_lock : write_lock, unlock, &waited.lock);
    }
    start_waiters(&waited, 3, is->waits);
    HZ_TRY(hz_child(is->child, &waited));
    if (is->survivor) {
        HZ_IS(pthread_rwlock_unlock(&waited.lock), 0);
    } else {
        HZ_TRY(hz_let_go(&holder));
    }
    return finish_waiters(&waited, 3);
}

#define WAITING(id, ...) static const struct waiting_case id = {__VA_ARGS__}
WAITING(writers_behind_reader, .holds = RD, .waits = write_turn, .child = child_works);
WAITING(readers_behind_writer, .holds = WR, .waits = read_turn, .child = child_works);
WAITING(writers_behind_writer, .holds = WR, .waits = write_turn, .child = child_works);
WAITING(writers_behind_own_read, .holds = RD, .survivor = 1, .waits = write_turn,
        .child = child_unlocks_read);
WAITING(readers_behind_own_write, .holds = WR, .survivor = 1, .waits = read_turn,
        .child = child_unlocks_write);
WAITING(writers_behind_own_write, .holds = WR, .survivor = 1, .waits = write_turn,
        .child = child_unlocks_write);
WAITING(writers_first_behind_reader, WRITERS_FIRST, .holds = RD, .waits = write_turn,
        .child = child_reads);
WAITING(writers_first_behind_own_read, WRITERS_FIRST, .holds = RD, .survivor = 1,
        .waits = write_turn, .child = child_unlocks_read);
WAITING(prefer_writer_behind_own_read, .kind = PTHREAD_RWLOCK_PREFER_WRITER_NP, .holds = RD,
        .survivor = 1, .waits = write_turn, .child = child_unlocks_read);

/* The readers wait on a lock that a waiting writer keeps them from: a queue of both kinds vanishes.
 */
static int mixed_queue(const void *arg) {
    (void)arg;
    struct waited waited = {.kind = PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP};
    make(&waited.lock, waited.kind);
    HZ_SETUP(pthread_rwlock_rdlock(&waited.lock) == 0);
    start_waiters(&waited, 1, write_turn);
    for (int i = 1; i < 3; i++) {
        hz_start(&waited.waiters[i], read_turn, &waited.lock);
        hz_until_stuck(&waited.waiters[i]);
    }
    HZ_TRY(hz_child(child_unlocks_read, &waited));
    HZ_IS(pthread_rwlock_unlock(&waited.lock), 0);
    return finish_waiters(&waited, 3);
}

/* ---- readers on both sides ---- */

struct shared_read {
    pthread_rwlock_t lock;
    int own; /* read holds of the survivor */
};

static int child_drops_own_reads(void *arg) {
    struct shared_read *shared = arg;
    for (int i = 0; i < shared->own; i++) {
        HZ_TRY(hz_elsewhere(writer_refused, &shared->lock));
        HZ_IS(pthread_rwlock_unlock(&shared->lock), 0);
    }
    return works(&shared->lock, PTHREAD_RWLOCK_DEFAULT_NP);
}

static int readers_on_both_sides(int own, int others) {
    struct shared_read shared = {.lock = PTHREAD_RWLOCK_INITIALIZER, .own = own};
    struct hz_holder holders[3];
    for (int i = 0; i < own; i++) {
        HZ_SETUP(pthread_rwlock_rdlock(&shared.lock) == 0);
    }
    for (int i = 0; i < others; i++) {
        hz_hold(&holders[i], read_lock, unlock, &shared.lock);
    }
    HZ_TRY(hz_child(child_drops_own_reads, &shared));
    for (int i = 0; i < others; i++) {
        HZ_TRY(hz_let_go(&holders[i]));
    }
    return child_drops_own_reads(&shared);
}

static int own_read_beside_vanished(const void *arg) {
    (void)arg;
    return readers_on_both_sides(1, 1);
}

static int own_reads_beside_several(const void *arg) {
    (void)arg;
    return readers_on_both_sides(2, 3);
}

/* ---- holders that let go ---- */

struct slow {
    pthread_rwlock_t lock;
    struct hz_pair pair;
    struct hz_event inside, stop;
};

static int slow_writer(void *arg) {
    struct slow *slow = arg;
    while (hz_seen(&slow->stop) == 0) {
        HZ_IS(pthread_rwlock_wrlock(&slow->lock), 0);
        slow->pair.first = slow->pair.first + 1;
        hz_post(&slow->inside);
        hz_sleep_us(50000);
        slow->pair.second = slow->pair.second + 1;
        HZ_IS(pthread_rwlock_unlock(&slow->lock), 0);
    }
    return HZ_OK;
}

static int slow_child(void *arg) {
    struct slow *slow = arg;
    HZ_IS(pthread_rwlock_rdlock(&slow->lock), 0);
    HZ_IS(slow->pair.second, slow->pair.first);
    HZ_IS(pthread_rwlock_unlock(&slow->lock), 0);
    return works(&slow->lock, PTHREAD_RWLOCK_DEFAULT_NP);
}

static int released_soon(const void *arg) {
    (void)arg;
    struct slow slow = {.lock = PTHREAD_RWLOCK_INITIALIZER};
    struct hz_thread writer;
    hz_start(&writer, slow_writer, &slow);
    for (int i = 0; i < 5; i++) {
        hz_await(&slow.inside, hz_seen(&slow.inside) + 1);
        HZ_TRY(hz_child(slow_child, &slow));
    }
    hz_post(&slow.stop);
    return hz_finish(&writer);
}

struct storm {
    pthread_rwlock_t lock;
    struct hz_thread readers[2];
    struct hz_event reading, stop;
};

static int storm_reader(void *arg) {
    struct storm *storm = arg;
    hz_post(&storm->reading);
    while (hz_seen(&storm->stop) == 0) {
        HZ_IS(pthread_rwlock_rdlock(&storm->lock), 0);
        HZ_IS(pthread_rwlock_rdlock(&storm->lock), 0);
        HZ_IS(pthread_rwlock_unlock(&storm->lock), 0);
        HZ_IS(pthread_rwlock_unlock(&storm->lock), 0);
    }
    return HZ_OK;
}

/* Writers turn a pair under the lock while others hold it for reading, twice each. */
static int churn(const void *arg) {
    (void)arg;
    struct storm storm = {.lock = PTHREAD_RWLOCK_INITIALIZER};
    struct hz_pair pair;
    hz_pair_init(&pair, write_lock, unlock, &storm.lock);
    for (int i = 0; i < 2; i++) {
        hz_start(&storm.readers[i], storm_reader, &storm);
    }
    hz_await(&storm.reading, 2);
    HZ_TRY(hz_churn_forks(&pair, 1, 200));
    hz_post(&storm.stop);
    HZ_TRY(hz_finish(&storm.readers[0]));
    return hz_finish(&storm.readers[1]);
}

static const struct hazard hazards[] = {
    HAZARD_OF("rwlock_read_held", vanished_holder, &read_then_wr, HANGS,
              "read-held by a vanished thread, the child writes"),
    HAZARD_OF("rwlock_read_held_thrice", vanished_holder, &read_thrice, HANGS,
              "read-held three times by one vanished thread"),
    HAZARD_OF("rwlock_write_held", vanished_holder, &write_then_rd, HANGS,
              "write-held by a vanished thread, the child reads"),
    HAZARD_OF("rwlock_write_held_child_writes", vanished_holder, &write_then_wr, HANGS,
              "write-held by a vanished thread, the child writes"),
    HAZARD_OF("rwlock_static_write", vanished_holder, &static_write, HANGS,
              "PTHREAD_RWLOCK_INITIALIZER, write-held"),
    HAZARD_OF("rwlock_static_read", vanished_holder, &static_read, HANGS,
              "PTHREAD_RWLOCK_INITIALIZER, read-held"),
    HAZARD_OF("rwlock_by_tryrdlock", vanished_holder, &by_tryrd, HANGS, "taken with tryrdlock"),
    HAZARD_OF("rwlock_by_trywrlock", vanished_holder, &by_trywr, HANGS, "taken with trywrlock"),
    HAZARD_OF("rwlock_by_timedrdlock", vanished_holder, &by_timedrd, HANGS,
              "taken with timedrdlock"),
    HAZARD_OF("rwlock_by_timedwrlock", vanished_holder, &by_timedwr, HANGS,
              "taken with timedwrlock"),
    HAZARD_OF("rwlock_by_clockrdlock", vanished_holder, &by_clockrd, HANGS,
              "taken with clockrdlock"),
    HAZARD_OF("rwlock_by_clockwrlock", vanished_holder, &by_clockwr, HANGS,
              "taken with clockwrlock"),
    HAZARD_OF("rwlock_child_tryrdlock", vanished_holder, &child_tryrd, WRONG,
              "the child's tryrdlock says EBUSY for ever"),
    HAZARD_OF("rwlock_child_trywrlock", vanished_holder, &child_trywr, WRONG,
              "the child's trywrlock says EBUSY for ever"),
    HAZARD_OF("rwlock_child_timedrdlock", vanished_holder, &child_timedrd, WRONG,
              "the child's timedrdlock says ETIMEDOUT for ever"),
    HAZARD_OF("rwlock_child_timedwrlock", vanished_holder, &child_timedwr, WRONG,
              "the child's timedwrlock says ETIMEDOUT for ever"),
    HAZARD_OF("rwlock_child_clockrdlock", vanished_holder, &child_clockrd, WRONG,
              "the child's clockrdlock says ETIMEDOUT for ever"),
    HAZARD_OF("rwlock_child_clockwrlock", vanished_holder, &child_clockwr, WRONG,
              "the child's clockwrlock says ETIMEDOUT for ever"),
    HAZARD_OF("rwlock_writers_first_read", vanished_holder, &writers_first_read, HANGS,
              "PREFER_WRITER_NONRECURSIVE, read-held"),
    HAZARD_OF("rwlock_writers_first_write", vanished_holder, &writers_first_write, HANGS,
              "PREFER_WRITER_NONRECURSIVE, write-held"),
    HAZARD_OF("rwlock_prefer_writer", vanished_holder, &prefer_writer, HANGS,
              "PREFER_WRITER, read-held"),
    HAZARD_OF("rwlock_writers_behind_reader", vanished_waiters, &writers_behind_reader, HANGS,
              "a vanished reader, and vanished writers that waited"),
    HAZARD_OF("rwlock_readers_behind_writer", vanished_waiters, &readers_behind_writer, HANGS,
              "a vanished writer, and vanished readers that waited"),
    HAZARD_OF("rwlock_writers_behind_writer", vanished_waiters, &writers_behind_writer, HANGS,
              "a vanished writer, and vanished writers that waited"),
    HAZARD_OF("rwlock_writers_behind_own_read", vanished_waiters, &writers_behind_own_read, HANGS,
              "the survivor reads, the vanished writers waited: its unlock hands over to a ghost"),
    HAZARD_OF("rwlock_readers_behind_own_write", vanished_waiters, &readers_behind_own_write, HANGS,
              "the survivor writes, the vanished readers waited"),
    HAZARD_OF("rwlock_writers_behind_own_write", vanished_waiters, &writers_behind_own_write, HANGS,
              "the survivor writes, the vanished writers waited"),
    HAZARD_OF("rwlock_writers_first_behind_reader", vanished_waiters, &writers_first_behind_reader,
              HANGS, "PREFER_WRITER_NONRECURSIVE, a vanished writer waited: new readers starve"),
    HAZARD_OF("rwlock_writers_first_behind_own_read", vanished_waiters,
              &writers_first_behind_own_read, HANGS,
              "PREFER_WRITER_NONRECURSIVE, the survivor reads, the vanished writers waited"),
    HAZARD_OF("rwlock_prefer_writer_behind_own_read", vanished_waiters,
              &prefer_writer_behind_own_read, HANGS,
              "PREFER_WRITER, the survivor reads, the vanished writers waited"),
    HAZARD("rwlock_mixed_queue", mixed_queue, HANGS,
           "the survivor reads; a writer waited, and readers behind it"),
    HAZARD("rwlock_own_read_beside_vanished", own_read_beside_vanished, HANGS,
           "survivor and vanished thread both read: only the survivor's hold stays"),
    HAZARD("rwlock_own_reads_beside_several", own_reads_beside_several, HANGS,
           "the survivor reads twice beside three vanished readers"),
    HAZARD_PATIENT("rwlock_released_soon", released_soon, NULL, HANGS,
                   "write-held for 50 ms at a time: the fork waits, the data is whole"),
    HAZARD_CHANCE("rwlock_churn", churn, NULL, EITHER,
                  "three writers turn a pair beside two readers"),
};
HAZARD_MAIN(hazards)
