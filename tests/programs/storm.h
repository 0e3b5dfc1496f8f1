/*
 * storm.h: one call, made by other threads all the time while one forks. The child makes the same
 * call once, and must get both an answer and the right one.
 */
#ifndef STORM_H
#define STORM_H

#include "hazard.h"

enum { STORM_THREADS = 3 };

struct storm {
    int (*call)(void); /* gives a verdict of hazard.h */
    int forks;
};

static struct hz_event storm_turns, storm_stops;

static inline int storm_body(void *arg) {
    const struct storm *storm = (const struct storm *)arg;
    hz_post(&storm_turns);
    while (hz_seen(&storm_stops) == 0) {
        HZ_TRY(storm->call());
    }
    return HZ_OK;
}

static inline int storm_child(void *arg) {
    const struct storm *storm = (const struct storm *)arg;
    return storm->call();
}

/* STORM_FORKS in the environment: so many instead of what the storm says. */
static inline struct storm storm_wanted(const void *arg) {
    struct storm storm = *(const struct storm *)arg;
    const char *forks = getenv("STORM_FORKS");
    if (forks != NULL && atoi(forks) > 0) {
        storm.forks = atoi(forks);
    }
    return storm;
}

static inline int storm_run(const void *arg) {
    struct storm storm = storm_wanted(arg);
    struct hz_thread threads[STORM_THREADS];
    HZ_TRY(storm.call());
    for (int i = 0; i < STORM_THREADS; i++) {
        hz_start(&threads[i], storm_body, &storm);
    }
    hz_await(&storm_turns, STORM_THREADS);
    HZ_TRY(hz_children(storm.forks, storm_child, &storm));
    hz_post(&storm_stops);
    for (int i = 0; i < STORM_THREADS; i++) {
        HZ_TRY(hz_finish(&threads[i]));
    }
    return storm.call();
}

#endif
