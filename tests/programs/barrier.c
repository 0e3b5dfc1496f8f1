/*
 * barrier.c: barriers at which vanished threads waited.
 */
#include "hazard.h"

struct barrier_case {
    unsigned parties;
    unsigned ghosts; /* fewer than parties: they wait at the fork */
    int rounds;      /* full rounds before that, so that the counters do not start at 0 */
    int destroy;     /* the child destroys it, instead of meeting there */
};

struct meeting {
    const struct barrier_case *is;
    pthread_barrier_t barrier;
    struct hz_thread threads[4];
    int serials; /* how many were told that they are the serial thread */
    int rounds;
};

static int arrive(void *arg) {
    struct meeting *meeting = arg;
    int got = pthread_barrier_wait(&meeting->barrier);
    HZ_TRUE(got == 0 || got == PTHREAD_BARRIER_SERIAL_THREAD);
    if (got == PTHREAD_BARRIER_SERIAL_THREAD) {
        __atomic_add_fetch(&meeting->serials, 1, __ATOMIC_SEQ_CST);
    }
    return HZ_OK;
}

static int arrive_each_round(void *arg) {
    struct meeting *meeting = arg;
    for (int i = 0; i < meeting->rounds; i++) {
        HZ_TRY(arrive(meeting));
    }
    return HZ_OK;
}

/* All parties meet, the calling thread among them; each round has one serial thread. */
static int meet(struct meeting *meeting, int rounds) {
    struct hz_thread others[4];
    unsigned count = meeting->is->parties - 1;
    meeting->serials = 0;
    meeting->rounds = rounds;
    for (unsigned i = 0; i < count; i++) {
        hz_start(&others[i], arrive_each_round, meeting);
    }
    HZ_TRY(arrive_each_round(meeting));
    for (unsigned i = 0; i < count; i++) {
        HZ_TRY(hz_finish(&others[i]));
    }
    HZ_IS(meeting->serials, rounds);
    return HZ_OK;
}

static int works(struct meeting *meeting) {
    HZ_TRY(meet(meeting, 1));
    HZ_TRY(meet(meeting, 20));
    HZ_IS(pthread_barrier_destroy(&meeting->barrier), 0);
    return HZ_OK;
}

static int child_uses(void *arg) {
    struct meeting *meeting = arg;
    if (meeting->is->destroy) {
        HZ_IS(pthread_barrier_destroy(&meeting->barrier), 0);
        HZ_IS(pthread_barrier_init(&meeting->barrier, NULL, meeting->is->parties), 0);
    }
    return works(meeting);
}

static int vanished_waiters(const void *arg) {
    struct meeting meeting = {.is = arg};
    unsigned ghosts = meeting.is->ghosts;
    HZ_SETUP(pthread_barrier_init(&meeting.barrier, NULL, meeting.is->parties) == 0);
    if (meeting.is->rounds > 0) {
        HZ_TRY(meet(&meeting, meeting.is->rounds));
    }
    for (unsigned i = 0; i < ghosts; i++) {
        hz_start(&meeting.threads[i], arrive, &meeting);
        hz_until_stuck(&meeting.threads[i]);
    }
    HZ_TRY(hz_child(child_uses, &meeting));
    for (unsigned i = ghosts; i < meeting.is->parties; i++) {
        hz_start(&meeting.threads[i], arrive, &meeting);
    }
    for (unsigned i = 0; i < meeting.is->parties; i++) {
        HZ_TRY(hz_finish(&meeting.threads[i]));
    }
    return works(&meeting);
}

static const struct barrier_case one_of_two = {.parties = 2, .ghosts = 1};
static const struct barrier_case two_of_three = {.parties = 3, .ghosts = 2};
static const struct barrier_case after_rounds = {.parties = 4, .ghosts = 2, .rounds = 5};
static const struct barrier_case destroyed = {.parties = 2, .ghosts = 1, .destroy = 1};
static const struct barrier_case destroyed_later = {
    .parties = 3, .ghosts = 2, .rounds = 5, .destroy = 1};

/* ---- threads that meet all the time ---- */

static const struct barrier_case pair = {.parties = 2};

struct storm {
    struct meeting meeting;
    int ended; /* written by the serial thread of a round, read by all after the next */
    struct hz_event stop;
};

static int storm_body(void *arg) {
    struct storm *storm = arg;
    for (;;) {
        int got = pthread_barrier_wait(&storm->meeting.barrier);
        if (got == PTHREAD_BARRIER_SERIAL_THREAD) {
            storm->ended = hz_seen(&storm->stop);
        }
        pthread_barrier_wait(&storm->meeting.barrier);
        if (storm->ended) {
            return HZ_OK;
        }
    }
}

static int meeting_storm(const void *arg) {
    struct storm storm = {.meeting.is = arg};
    struct hz_thread threads[2];
    HZ_SETUP(pthread_barrier_init(&storm.meeting.barrier, NULL, 2) == 0);
    for (int i = 0; i < 2; i++) {
        hz_start(&threads[i], storm_body, &storm);
    }
    HZ_TRY(hz_children(200, child_uses, &storm.meeting));
    hz_post(&storm.stop);
    HZ_TRY(hz_finish(&threads[0]));
    HZ_TRY(hz_finish(&threads[1]));
    return works(&storm.meeting);
}

static const struct hazard hazards[] = {
    HAZARD_OF("barrier_one_of_two", vanished_waiters, &one_of_two, HANGS,
              "one ghost counts as arrived: the child's round ends too early, the next never"),
    HAZARD_OF("barrier_two_of_three", vanished_waiters, &two_of_three, HANGS,
              "two ghosts of three parties"),
    HAZARD_OF("barrier_after_rounds", vanished_waiters, &after_rounds, HANGS,
              "two ghosts of four parties, in the sixth round"),
    HAZARD_OF("barrier_destroy", vanished_waiters, &destroyed, HANGS,
              "destroy in the child waits for the ghost"),
    HAZARD_OF("barrier_destroy_after_rounds", vanished_waiters, &destroyed_later, HANGS,
              "destroy in the child, in the sixth round"),
    HAZARD_CHANCE("barrier_storm", meeting_storm, &pair, EITHER,
                  "two threads that meet all the time"),
};
HAZARD_MAIN(hazards)
