/*
 * stdio.c: locked streams. glibc's fork makes every stream's lock anew in the child
 * (_IO_reset_locks), also one that the survivor holds.
 */
#include "hazard.h"

static FILE *stream;

static int lock_stream(void *arg) {
    (void)arg;
    flockfile(stream);
    return 0;
}

static int lock_stream_twice(void *arg) {
    lock_stream(arg);
    return lock_stream(arg);
}

static int unlock_stream(void *arg) {
    (void)arg;
    funlockfile(stream);
    return 0;
}

static int is_taken(void *arg) {
    (void)arg;
    HZ_TRUE(ftrylockfile(stream) != 0);
    return HZ_OK;
}

static int is_free(void *arg) {
    (void)arg;
    HZ_IS(ftrylockfile(stream), 0);
    funlockfile(stream);
    flockfile(stream);
    HZ_TRUE(fputs("line\n", stream) >= 0);
    funlockfile(stream);
    return HZ_OK;
}

static int works(void *arg) {
    flockfile(stream);
    HZ_TRY(hz_elsewhere(is_taken, arg));
    funlockfile(stream);
    HZ_TRY(hz_elsewhere(is_free, arg));
    return is_free(arg);
}

static void open_stream(void) {
    stream = tmpfile();
    HZ_SETUP(stream != NULL);
}

static int vanished_holder(const void *arg) {
    struct hz_holder holder;
    (void)arg;
    open_stream();
    hz_hold(&holder, lock_stream, unlock_stream, NULL);
    HZ_TRY(hz_child(works, NULL));
    HZ_TRY(hz_let_go(&holder));
    return works(NULL);
}

/* As many unlocks as locks, then others can have it. */
static int child_unlocks(void *depth) {
    for (int i = 0; i < *(int *)depth; i++) {
        unlock_stream(NULL);
    }
    HZ_TRY(hz_elsewhere(is_free, NULL));
    return works(NULL);
}

static int held_by_survivor(int depth) {
    struct hz_bystander bystander;
    open_stream();
    hz_bystander_start(&bystander);
    HZ_SETUP((depth == 2 ? lock_stream_twice(NULL) : lock_stream(NULL)) == 0);
    HZ_TRY(hz_child(child_unlocks, &depth));
    HZ_TRY(hz_bystander_stop(&bystander));
    return child_unlocks(&depth);
}

static int own(const void *arg) {
    (void)arg;
    return held_by_survivor(1);
}

static int own_twice(const void *arg) {
    (void)arg;
    return held_by_survivor(2);
}

static int child_writes_then_unlocks(void *arg) {
    HZ_TRY(hz_elsewhere(is_taken, arg));
    HZ_TRUE(fputs("mine\n", stream) >= 0);
    HZ_TRY(hz_elsewhere(is_taken, arg));
    unlock_stream(arg);
    return works(arg);
}

static int own_stays_held(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    open_stream();
    hz_bystander_start(&bystander);
    lock_stream(NULL);
    HZ_TRY(hz_child(child_writes_then_unlocks, NULL));
    HZ_TRY(hz_bystander_stop(&bystander));
    return child_writes_then_unlocks(NULL);
}

/* ---- a storm of streams opened, written, closed ---- */

static struct hz_event writing, stop;

static int use_streams(void *arg) {
    (void)arg;
    FILE *null = fopen("/dev/null", "w");
    HZ_TRUE(null != NULL);
    HZ_TRUE(fprintf(null, "%d %s %f\n", 1, "two", 3.0) > 0);
    HZ_IS(fclose(null), 0);
    HZ_TRUE(fprintf(stream, "%d\n", 4) > 0);
    HZ_IS(fflush(NULL), 0);
    return HZ_OK;
}

static int writer(void *arg) {
    hz_post(&writing);
    while (hz_seen(&stop) == 0) {
        HZ_TRY(use_streams(arg));
    }
    return HZ_OK;
}

static int storm(const void *arg) {
    struct hz_thread threads[3];
    (void)arg;
    open_stream();
    for (int i = 0; i < 3; i++) {
        hz_start(&threads[i], writer, NULL);
    }
    hz_await(&writing, 3);
    HZ_TRY(hz_children(200, use_streams, NULL));
    hz_post(&stop);
    for (int i = 0; i < 3; i++) {
        HZ_TRY(hz_finish(&threads[i]));
    }
    return HZ_OK;
}

static const struct hazard hazards[] = {
    HAZARD("stdio_vanished", vanished_holder, OK, "stream locked by a vanished thread"),
    HAZARD("stdio_own", own, OK,
           "stream locked by the survivor: unlocked in the child, others lock it"),
    HAZARD("stdio_own_twice", own_twice, OK, "stream locked twice by the survivor"),
    HAZARD("stdio_own_stays_held", own_stays_held, WRONG,
           "stream locked by the survivor: others are kept out until its unlock"),
    HAZARD("stdio_storm", storm, OK, "streams opened, written and closed by three threads"),
};
HAZARD_MAIN(hazards)
