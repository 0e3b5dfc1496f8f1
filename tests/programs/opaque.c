/*
 * opaque.c: other threads inside a library whose locks nobody outside can see. Run by tests/opaque,
 * which names the library in FORKSAFE_OPAQUE.
 */
#include "storm.h"

int ownlocks_compute(void);
int ownlocks_sleep(void);
int ownlocks_spin(void);

enum { FORKS = 200 };

static pthread_mutex_t between = PTHREAD_MUTEX_INITIALIZER;

/* Between two calls the threads pass a lock that can be seen. */
static int through(int (*call)(void)) {
    pthread_mutex_lock(&between);
    pthread_mutex_unlock(&between);
    HZ_TRUE(call());
    return HZ_OK;
}

static int call_compute(void) { return through(ownlocks_compute); }
static int call_sleep(void) { return through(ownlocks_sleep); }
static int call_spin(void) { return through(ownlocks_spin); }

static const struct storm storm_compute = {call_compute, FORKS};
static const struct storm storm_sleep = {call_sleep, FORKS};
static const struct storm storm_spin = {call_spin, FORKS};

static const struct hazard hazards[] = {
    HAZARD_CHANCE("opaque_compute", storm_run, &storm_compute, HANGS,
                  "a library computes under a futex lock of its own"),
    HAZARD_CHANCE("opaque_sleep", storm_run, &storm_sleep, HANGS,
                  "a library sleeps under a futex lock of its own"),
    HAZARD_CHANCE("opaque_spin", storm_run, &storm_spin, HANGS,
                  "a library computes under a spinlock of its own"),
};
HAZARD_MAIN(hazards)
