#include "watchdog.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#include "config.h"
#include "event.h"
#include "inventory.h"
#include "layout.h"
#include "report.h"
#include "suspend.h"
#include "sys.h"

static char tag; /* its address marks our timers */

void fs_watchdog_init(void) {
    if (fs_config.watchdog_ms == 0) {
        return;
    }
    fs_suspend_init();
    if (fs_suspend_signal() == 0) {
        fs_report_line(
            "forksafe: FORKSAFE_WATCHDOG_MS needs a signal, and there is none: nobody is "
            "watched; do not set FORKSAFE_SUSPEND=gate");
    }
}

/* --- in the thread that waits ----------------------------------------------------------------- */

static bool start_timer(int *timer) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
                             .sigev_signo = fs_suspend_signal(),
                             .sigev_value.sival_ptr = &tag};
    event._sigev_un._tid = fs_gettid();
    struct itimerspec after = {.it_value.tv_sec = fs_config.watchdog_ms / 1000,
                               .it_value.tv_nsec = fs_config.watchdog_ms % 1000 * FS_MSEC};
    if (fs_syscall3(SYS_timer_create, CLOCK_MONOTONIC, &event, timer) != 0) {
        return false; /* RLIMIT_SIGPENDING is used up */
    }
    fs_syscall4(SYS_timer_settime, *timer, 0, &after, NULL);
    return true;
}

struct fs_watch fs_watch_begin(enum fs_kind kind, const void *object) {
    struct fs_watch watch = {.on = false};
    struct fs_thread *self = fs_self;
    if (fs_likely(fs_config.watchdog_ms == 0) || self == NULL || fs_generation() == 1 ||
        fs_suspend_signal() == 0) {
        return watch;
    }
    watch.before = self->waited;
    self->waited = (struct fs_waited){object, (uint8_t)kind};
    watch.on = start_timer(&watch.timer);
    if (!watch.on) {
        self->waited = watch.before;
    }
    return watch;
}

void fs_watch_end(const struct fs_watch *watch) {
    if (fs_likely(!watch->on)) {
        return;
    }
    fs_self->waited = watch->before;
    fs_syscall1(SYS_timer_delete, watch->timer); /* keeps errno */
}

/* --- in the handler --------------------------------------------------------------------------- */

/* The thread that can end the wait, as far as that is known. */
static struct fs_thread *find_owner(const struct fs_waited *waited) {
    int owner = fs_layout_owner(waited->kind, waited->object);
    FS_EACH_THREAD (thread) {
        bool joined = waited->kind == FS_KIND_THREAD &&
                      thread->handle == (pthread_t)(uintptr_t)waited->object;
        if (joined || (owner != 0 && thread->owner_id == owner) ||
            (owner == 0 && fs_holds(thread, waited->object))) {
            return thread;
        }
    }
    return NULL;
}

bool fs_watchdog_barks(const siginfo_t *info) {
    if (info->si_code != SI_TIMER || info->si_value.sival_ptr != &tag) {
        return false;
    }
    struct fs_thread *self = fs_self;
    const void *caller = NULL;
    if (self != NULL && self->waited.object != NULL) {
        caller = fs_caller_of(self, self->waited.object); /* NULL: cancelled, or jumped away */
    }
    if (caller != NULL) {
        struct fs_stuck stuck = {.self = self,
                                 .owner = find_owner(&self->waited),
                                 .object = self->waited.object,
                                 .caller = caller,
                                 .ms = fs_config.watchdog_ms,
                                 .kind = self->waited.kind};
        fs_thread_read_name(self, 0);
        if (stuck.owner != NULL) {
            fs_thread_read_name(stuck.owner, 0);
        }
        fs_event_stuck(&stuck);
    }
    return true;
}
