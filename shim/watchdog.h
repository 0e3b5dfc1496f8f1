/* watchdog.h - FORKSAFE_WATCHDOG_MS: a forked child's thread that waits for long is told once.
 *
 * Each wait has a timer of its own, which sends the suspend signal to the thread that waits; its
 * handler tells. No other thread is made, and the wait goes on as it was: none of the calls that are
 * watched comes back for a signal. */
#ifndef FS_WATCHDOG_H
#define FS_WATCHDOG_H

#include <signal.h>
#include <stdbool.h>

#include "registry.h"

/* Says so where it was asked for but cannot be. At start-up. */
void fs_watchdog_init(void);

/* For the time that the surrounding block runs, the caller waits for the object. */
#define FS_WATCHED(kind, object)                                                                   \
    __attribute__((cleanup(fs_watch_end), unused)) struct fs_watch watch =                         \
        fs_watch_begin(kind, object)

struct fs_watch {
    bool on;
    int timer;
    struct fs_waited before; /* what the wait interrupts, where a signal handler waits */
};
struct fs_watch fs_watch_begin(enum fs_kind kind, const void *object);
void fs_watch_end(const struct fs_watch *watch);

/* For the suspend signal's handler: true if a watch's timer has sent it, which is then told. */
bool fs_watchdog_barks(const siginfo_t *info);

#endif
