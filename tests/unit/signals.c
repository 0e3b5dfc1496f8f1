/* What is looked at before a signal is left out (fast.h), while others change it between any two of the looks. */
#include <check.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "../../shim/arch.h"

static void look(void);
#undef fs_load
#undef fs_load_acquire
#define fs_load(p) (look(), *(const volatile __typeof__(*(p)) *)(p))
#define fs_load_acquire(p) (look(), __atomic_load_n((p), __ATOMIC_ACQUIRE))
#include "../../shim/fast.h"
#include "../../shim/real.h"
#include "signals.h"

/* What a condition variable goes through, one store after the other. */
enum { MOMENTS_MAX = 64, LOCK = 1, SIZE_SHIFT = 2, CLOSED = 1, ONE_SIGNAL = 2, ONE_WAITER = 2 };
static struct moment {
    pthread_cond_t cond;
    unsigned unsignalled; /* waiters that some signal has yet to reach */
} moments[MOMENTS_MAX], present;
static unsigned moment_count;

#define INSIDE (&present.cond.__data)

static void then(void) {
    ck_assert_uint_lt(moment_count, MOMENTS_MAX);
    moments[moment_count++] = present;
}

static unsigned current_group(void) { return (INSIDE->__wseq.__value64 & 1) ^ 1; }
static unsigned fresh_waiters(void) {
    return (unsigned)(INSIDE->__wseq.__value64 >> 1) -
           (unsigned)(INSIDE->__g1_start.__value64 >> 1) - (INSIDE->__g1_orig_size >> SIZE_SHIFT) +
           INSIDE->__g_size[current_group() ^ 1];
}

static void take_lock(void) {
    INSIDE->__g1_orig_size |= LOCK;
    then();
}

static void drop_lock(void) {
    INSIDE->__g1_orig_size &= ~(unsigned)LOCK;
    then();
}

static void reach(unsigned group, unsigned waiters) {
    INSIDE->__g_signals[group] += waiters * ONE_SIGNAL;
    INSIDE->__g_size[group] -= waiters;
    present.unsignalled -= waiters;
    then();
}

/* nptl/pthread_cond_wait.c */
static void arrive(void) {
    INSIDE->__wseq.__value64 += ONE_WAITER;
    present.unsignalled++;
    then();
}

/* ..., __condvar_cancel_waiting, where no signal has been meant for the waiter. */
static void give_up(void) {
    unsigned group = current_group();
    if (fresh_waiters() != 0) {
        group ^= 1;
    } else if (INSIDE->__g_size[group] == 0) {
        return;
    }
    take_lock();
    INSIDE->__g_size[group]--;
    present.unsignalled--;
    then();
    drop_lock();
}

/* nptl/pthread_cond_common.c, __condvar_quiesce_and_switch_g1 */
static void switch_groups(void) {
    unsigned group = current_group();
    unsigned size = INSIDE->__g1_orig_size >> SIZE_SHIFT;
    unsigned long long end = (INSIDE->__g1_start.__value64 >> 1) + size;
    INSIDE->__g_signals[group] |= CLOSED;
    then();
    INSIDE->__g1_start.__value64 += (size << 1) + (group == 1 ? 1ULL : -1ULL);
    then();
    INSIDE->__g_signals[group] = 0;
    then();
    INSIDE->__wseq.__value64 ^= 1;
    then();
    unsigned new_size = (unsigned)((INSIDE->__wseq.__value64 >> 1) - end);
    INSIDE->__g1_orig_size = new_size << SIZE_SHIFT | LOCK;
    then();
    INSIDE->__g_size[group ^ 1] += new_size;
    then();
}

/* nptl/pthread_cond_signal.c */
static void signal_one(void) {
    take_lock();
    if (INSIDE->__g_size[current_group()] == 0 && fresh_waiters() != 0) {
        switch_groups();
    }
    if (INSIDE->__g_size[current_group()] != 0) {
        reach(current_group(), 1);
    }
    drop_lock();
}

/* nptl/pthread_cond_broadcast.c */
static void signal_all(void) {
    take_lock();
    if (INSIDE->__g_size[current_group()] != 0) {
        reach(current_group(), INSIDE->__g_size[current_group()]);
    }
    if (fresh_waiters() != 0) {
        switch_groups();
        if (INSIDE->__g_size[current_group()] != 0) {
            reach(current_group(), INSIDE->__g_size[current_group()]);
        }
    }
    drop_lock();
}

static int (**real_calls[])(pthread_cond_t *) = {&fs_real.pthread_cond_signal,
                                                 &fs_real.pthread_cond_broadcast};
enum { ARRIVE, GIVE_UP, SIGNAL, BROADCAST, EVENTS };
static void (*const events[EVENTS])(void) = {arrive, give_up, signal_one, signal_all};

/* Events by the digits of `script`. Signals must leave what glibc's function leaves. */
static void play(unsigned script, unsigned length) {
    present = (struct moment){.cond = {.__data = {.__wrefs = 1 << 3}}};
    moment_count = 0;
    then();
    for (unsigned i = 0; i < length; i++, script /= EVENTS) {
        unsigned event = script % EVENTS;
        pthread_cond_t glibcs = present.cond;
        events[event]();
        if (event >= SIGNAL) {
            (*real_calls[event - SIGNAL])(&glibcs);
            ck_assert_mem_eq(&glibcs, &present.cond, sizeof glibcs);
        }
    }
}

/* The condition variable while it is looked at: moment at[0] until look number from[1], then at[1], ... */
enum { STAGES = 3, LOOKS = 7 };
static struct {
    pthread_cond_t cond;
    unsigned at[STAGES], from[STAGES];
    unsigned stage, looks;
} shown;

static void look(void) {
    shown.looks++;
    while (shown.stage + 1 < STAGES && shown.from[shown.stage + 1] <= shown.looks) {
        shown.cond = moments[shown.at[++shown.stage]].cond;
    }
}

/* It may say so only if there was a moment in which nobody was left to be signalled. */
static bool says_what_was_so(void) {
    shown.stage = shown.looks = 0;
    shown.cond = moments[shown.at[0]].cond;
    bool said = fs_fast_all_are_woken(&shown.cond);
    bool was_so = false;
    for (unsigned i = shown.at[0]; i <= shown.at[shown.stage]; i++) {
        was_so |= moments[i].unsignalled == 0;
    }
    return (was_so || !said) && shown.looks <= LOOKS;
}

/* (Check writes down each assertion that it comes to.) */
static bool says_so_whenever_two_stages_begin(void) {
    bool good = true;
    for (shown.from[1] = 2; shown.from[1] < LOOKS; shown.from[1]++) {
        for (shown.from[2] = shown.from[1] + 1; shown.from[2] <= LOOKS; shown.from[2]++) {
            good = good && says_what_was_so();
        }
    }
    return good;
}

START_TEST(a_signal_is_left_out_only_if_nobody_is_left_to_be_signalled) {
    enum { EVENTS_AT_ONCE = 6, SCRIPTS = 1 << (2 * EVENTS_AT_ONCE) };
    for (unsigned script = 0; script < SCRIPTS; script++) {
        play(script, EVENTS_AT_ONCE);
        bool good = true;
        for (unsigned i = 0; i < moment_count; i++) {
            bool locked = (moments[i].cond.__data.__g1_orig_size & LOCK) != 0;
            good = good && fs_fast_all_are_woken(&moments[i].cond) ==
                               (!locked && moments[i].unsignalled == 0);
        }
        for (shown.at[0] = 0; shown.at[0] < moment_count; shown.at[0]++) {
            for (shown.at[1] = shown.at[0]; shown.at[1] < moment_count; shown.at[1]++) {
                for (shown.at[2] = shown.at[1]; shown.at[2] < moment_count; shown.at[2]++) {
                    good = good && says_so_whenever_two_stages_begin();
                }
            }
        }
        ck_assert_msg(good, "script %x", script);
    }
}
END_TEST

TCase *signals_tests(void) {
    TCase *signals = tcase_create("signals");
    tcase_add_test(signals, a_signal_is_left_out_only_if_nobody_is_left_to_be_signalled);
    return signals;
}
