/*
 * storms.c: libc calls that take a lock hidden in libc, made by other threads all the time while
 * one forks. The child makes the same call once, and must get both an answer and the right one.
 */
#include "storm.h"

#include <malloc.h>
#include <wchar.h>

enum { FORKS = 400 };

/* 2024-07-01 12:00:00 UTC, which is summer time in the zone below. */
static const time_t moment = 1719835200;
static const char zone[] = "CET-1CEST,M3.5.0,M10.5.0/3";

/* ---- the time family ---- */

static int is_summer_noon(const struct tm *tm) {
    HZ_TRUE(tm != NULL);
    HZ_IS(tm->tm_hour, 14);
    HZ_IS(tm->tm_mday, 1);
    HZ_IS(tm->tm_isdst, 1);
    return HZ_OK;
}

static int call_localtime_r(void) {
    struct tm tm;
    return is_summer_noon(localtime_r(&moment, &tm));
}

static int call_gmtime_r(void) {
    struct tm tm;
    HZ_TRUE(gmtime_r(&moment, &tm) != NULL);
    HZ_IS(tm.tm_hour, 12);
    return HZ_OK;
}

static struct tm summer_noon(void) {
    return (struct tm){.tm_year = 124, .tm_mon = 6, .tm_mday = 1, .tm_hour = 14, .tm_isdst = -1};
}

static int call_mktime(void) {
    struct tm tm = summer_noon();
    HZ_IS(mktime(&tm), moment);
    return HZ_OK;
}

static int call_timelocal(void) {
    struct tm tm = summer_noon();
    HZ_IS(timelocal(&tm), moment);
    return HZ_OK;
}

static int call_tzset(void) {
    tzset();
    HZ_IS(timezone, -3600);
    HZ_IS(daylight, 1);
    return HZ_OK;
}

static int call_strftime(void) {
    struct tm tm = summer_noon();
    char text[64];
    tm.tm_isdst = 1;
    HZ_TRUE(strftime(text, sizeof text, "%Y-%m-%d %H:%M %Z", &tm) > 0);
    HZ_TRUE(strncmp(text, "2024-07-01 14:00", 16) == 0);
    return HZ_OK;
}

static int call_wcsftime(void) {
    struct tm tm = summer_noon();
    wchar_t text[64];
    tm.tm_isdst = 1;
    HZ_TRUE(wcsftime(text, 64, L"%Y-%m-%d %H:%M %Z", &tm) > 0);
    HZ_TRUE(wcsncmp(text, L"2024-07-01 14:00", 16) == 0);
    return HZ_OK;
}

static int call_ctime_r(void) {
    char text[64];
    HZ_TRUE(ctime_r(&moment, text) != NULL);
    HZ_TRUE(strcmp(text, "Mon Jul  1 14:00:00 2024\n") == 0);
    return HZ_OK;
}

/* These share their result between threads by design: only that they return is looked at. */
static int call_localtime(void) {
    HZ_TRUE(localtime(&moment) != NULL);
    return HZ_OK;
}

static int call_gmtime(void) {
    HZ_TRUE(gmtime(&moment) != NULL);
    return HZ_OK;
}

static int call_ctime(void) {
    HZ_TRUE(ctime(&moment) != NULL);
    return HZ_OK;
}

static int call_all_time(void) {
    HZ_TRY(call_localtime_r());
    HZ_TRY(call_mktime());
    HZ_TRY(call_strftime());
    return call_ctime_r();
}

/* ---- malloc and its relatives: glibc's own fork takes and frees their locks ---- */

static int call_malloc(void) {
    unsigned char *blocks[16];
    for (size_t i = 0; i < 16; i++) {
        blocks[i] = malloc((size_t)100 << (i % 12));
        HZ_TRUE(blocks[i] != NULL);
        blocks[i][0] = (unsigned char)i;
    }
    for (size_t i = 0; i < 16; i++) {
        HZ_IS(blocks[i][0], i);
        free(blocks[i]);
    }
    return HZ_OK;
}

/* With one arena for all and no cache of a thread's own, every call takes the lock. */
static int call_contended_malloc(void) {
    mallopt(M_ARENA_MAX, 1);
    for (size_t i = 1; i < 16; i++) {
        void *block = malloc(i * 3000);
        HZ_TRUE(block != NULL);
        void *larger = realloc(block, i * 5000);
        HZ_TRUE(larger != NULL);
        free(larger);
    }
    return HZ_OK;
}

/* ---- the storm goes on ---- */

static void set_zone(void) {
    HZ_SETUP(setenv("TZ", zone, 1) == 0);
    tzset();
}

static int run_time(const void *arg) {
    set_zone();
    return storm_run(arg);
}

/* The child takes to threads of its own, and forks again from them. */
static int child_goes_on(void *arg) {
    struct hz_thread threads[2];
    hz_start(&threads[0], storm_child, arg);
    hz_start(&threads[1], storm_child, arg);
    HZ_TRY(hz_child(storm_child, arg));
    HZ_TRY(hz_finish(&threads[0]));
    return hz_finish(&threads[1]);
}

static int run_on(const void *arg) {
    struct storm storm = storm_wanted(arg);
    struct hz_thread threads[STORM_THREADS];
    set_zone();
    for (int i = 0; i < STORM_THREADS; i++) {
        hz_start(&threads[i], storm_body, &storm);
    }
    hz_await(&storm_turns, STORM_THREADS);
    HZ_TRY(hz_children(storm.forks / 2, child_goes_on, &storm));
    hz_post(&storm_stops);
    for (int i = 0; i < STORM_THREADS; i++) {
        HZ_TRY(hz_finish(&threads[i]));
    }
    return HZ_OK;
}

/* Each thread is in another call; they all share one lock. */
static int (*const mixed_calls[STORM_THREADS])(void) = {call_strftime, call_mktime, call_ctime_r};

static int mixed_body(void *arg) {
    int (*const *call)(void) = arg;
    hz_post(&storm_turns);
    while (hz_seen(&storm_stops) == 0) {
        HZ_TRY((*call)());
    }
    return HZ_OK;
}

static int mixed_child(void *arg) {
    (void)arg;
    return call_all_time();
}

static int run_mixed(const void *arg) {
    struct hz_thread threads[STORM_THREADS];
    int (*calls[STORM_THREADS])(void);
    (void)arg;
    set_zone();
    for (int i = 0; i < STORM_THREADS; i++) {
        calls[i] = mixed_calls[i];
        hz_start(&threads[i], mixed_body, &calls[i]);
    }
    hz_await(&storm_turns, STORM_THREADS);
    HZ_TRY(hz_children(FORKS, mixed_child, NULL));
    hz_post(&storm_stops);
    for (int i = 0; i < STORM_THREADS; i++) {
        HZ_TRY(hz_finish(&threads[i]));
    }
    return HZ_OK;
}

#define STORM(id) static const struct storm storm_##id = {call_##id, FORKS}
STORM(localtime_r);
STORM(localtime);
STORM(gmtime_r);
STORM(gmtime);
STORM(mktime);
STORM(timelocal);
STORM(tzset);
STORM(strftime);
STORM(wcsftime);
STORM(ctime_r);
STORM(ctime);
/* These do not bite bare and cost more: a child of a storm in malloc copies the pages that the
 * others write to. */
static const struct storm storm_malloc = {call_malloc, FORKS / 8};
static const struct storm storm_contended_malloc = {call_contended_malloc, FORKS / 8};

#define TIME(id)                                                                                   \
    HAZARD_CHANCE("storm_" #id, run_time, &storm_##id, HANGS, #id " in three other threads")
static const struct hazard hazards[] = {
    TIME(localtime_r),
    TIME(localtime),
    TIME(gmtime_r),
    TIME(gmtime),
    TIME(mktime),
    TIME(timelocal),
    TIME(tzset),
    TIME(strftime),
    TIME(wcsftime),
    TIME(ctime_r),
    TIME(ctime),
    HAZARD_CHANCE("storm_time_mixed", run_mixed, NULL, HANGS, "each thread in another time call"),
    HAZARD_CHANCE("storm_time_goes_on", run_on, &storm_localtime_r, HANGS,
                  "localtime_r; the child has threads in it too, and forks again"),
    HAZARD_OF("storm_malloc", run_time, &storm_malloc, OK,
              "malloc and free (locked by glibc's fork)"),
    HAZARD_OF("storm_malloc_contended", run_time, &storm_contended_malloc, OK,
              "malloc, realloc and free in one arena"),
    HAZARD_OF("storm_malloc_goes_on", run_on, &storm_malloc, OK,
              "malloc; the child has threads in it too, and forks again"),
};
HAZARD_MAIN(hazards)
