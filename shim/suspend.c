#include "suspend.h"

#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "arch.h"
#include "config.h"
#include "event.h"
#include "inventory.h"
#include "loader.h"
#include "real.h"
#include "report.h"
#include "safepoint.h"
#include "sys.h"
#include "watchdog.h"
#include "world.h"

static struct {
    int signo; /* 0: none. Changed only while no stop is under way */
    bool chosen;
    bool small_stacks;  /* some thread's alternate stack has no room for our handler */
    bool masked[_NSIG]; /* the program has the suspend signal in the mask of this one's handler */
} suspend;

enum {
    ASK_TIMES = 3,     /* a thread in opaque code is asked again so often */
    ASK_AGAIN_US = 50, /* after so long */
    PROMPT_US = 10,    /* one on a processor has mostly answered after 3 */
    TRACER_MS = 100,   /* what is known of a debugger is known for so long */
    DEAF_US = 1000,    /* no answer for so long: see what the thread is at */
    ANSWER_MS = 20,    /* one that is ready to run gets so long to be scheduled */
};

static fs_sigset bit_of(int signo) { return (fs_sigset)1 << (signo - 1); }

/* Returns what it was before. */
static fs_sigset change_own_mask(int how, fs_sigset set) {
    fs_sigset before = 0;
    fs_syscall4(SYS_rt_sigprocmask, how, &set, &before, sizeof set);
    return before;
}

static bool program_has_handlers;

bool fs_stacks_matter(void) { return fs_load(&program_has_handlers) || fs_config.opaque != NULL; }

void fs_program_handles(int signo) {
    fs_signal_handled(signo);
    fs_store(&program_has_handlers, true);
    if (fs_thread_count() > 1) { /* otherwise the next thread to be made has it loaded */
        fs_unwinder_load();
    }
}

int fs_suspend_signal(void) { return fs_load(&suspend.signo); }

/* --- in the suspended thread ----------------------------------------------------------------- */

/* Or what it seems to hold no fork waits for any more. */
static bool holds_nothing(const struct fs_thread *thread) {
    return !fs_is_busy(thread) || (fs_load(&thread->hopeless) && fs_only_seems_busy(thread));
}

static bool may_stop_here(const struct fs_thread *self, const greg_t *registers) {
    return fs_stop_wanted(self) && fs_load(&self->summoned) && self->state == FS_ATTACHED &&
           holds_nothing(self) && !fs_is_opaque((uintptr_t)registers[REG_RIP]);
}

/* Sent by kill, sigqueue, a timer or another process, and neither blocked nor handled as far as the
 * program knows: it does what it does by default. */
static void die_of(int signo) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    fs_real.sigaction(signo, &standard, NULL);
    fs_signal_thread(fs_gettid(), signo); /* delivered when the handler returns */
}

/* The mask is that of the thread again when the handler returns. */
static void follow_in_handler(struct fs_thread *self, sigset_t *mask) {
    int ours = fs_suspend_signal();
    fs_sigset owed = __atomic_exchange_n(&self->follows, 0, __ATOMIC_ACQ_REL);
    for (int signo = SIGRTMIN; signo < _NSIG; signo++) {
        if ((owed & bit_of(signo)) != 0) {
            sigaddset(mask, signo);
        }
    }
    self->masks_suspend = ours != 0 && sigismember(mask, ours) == 1;
    if (ours != 0) {
        sigdelset(mask, ours);
    }
}

static void on_suspend(int signo, siginfo_t *info, void *context) {
    struct fs_thread *self = fs_self;
    if (fs_watchdog_barks(info) || self == NULL) {
        return;
    }
    if ((fs_load_acquire(&self->follows) & bit_of(signo)) != 0) {
        follow_in_handler(self, &((ucontext_t *)context)->uc_sigmask);
        return;
    }
    /* raise() and pthread_kill() look like our own; but of ours we know how many there are. */
    bool is_ours = info->si_code == SI_TKILL && info->si_pid == (pid_t)fs_syscall0(SYS_getpid) &&
                   self->seen != fs_load(&self->sent);
    if (!is_ours) {
        if (!self->masks_suspend) {
            die_of(signo);
        }
        return;
    }
    self->seen++;
    const greg_t *registers = ((const ucontext_t *)context)->uc_mcontext.gregs;
    if (may_stop_here(self, registers)) {
        fs_suspend_here(self, registers);
    }
    fs_store_release(&self->answered, fs_load(&self->asked));
    if (fs_stop_wanted(self)) {
        fs_world_progress();
    }
}

/* --- choosing the signal --------------------------------------------------------------------- */

static bool is_default(int signo) {
    struct sigaction now;
    return fs_real.sigaction(signo, NULL, &now) == 0 && now.sa_handler == SIG_DFL;
}

static bool install(int signo) {
    struct sigaction action = {.sa_sigaction = on_suspend};
    action.sa_flags = SA_SIGINFO | SA_RESTART | (suspend.small_stacks ? 0 : SA_ONSTACK);
    sigfillset(&action.sa_mask);
    fs_signal_handled(signo);
    return fs_real.sigaction(signo, &action, NULL) == 0;
}

static void gate_only(const char *why) {
    fs_report_line(why);
    fs_store(&suspend.signo, 0);
}

static bool is_pending(int signo) {
    fs_sigset pending = 0;
    fs_syscall2(SYS_rt_sigpending, &pending, sizeof pending);
    return (pending & bit_of(signo)) != 0;
}

/* One that is pending could not be told from ours. Only one that is blocked can be: where it is not, this
 * does not ask, since a filter may kill whoever does. */
static bool is_free(int signo, fs_sigset blocked) {
    return is_default(signo) && ((blocked & bit_of(signo)) == 0 || !is_pending(signo));
}

static fs_sigset own_mask(void) { return change_own_mask(SIG_BLOCK, 0); }

/* One that the caller blocks is the second choice: the program may have plans for it. */
static void choose(int except) {
    fs_sigset blocked = own_mask();
    for (int round = 0; round < 2; round++) {
        for (int signo = SIGRTMAX - 1; signo >= SIGRTMIN; signo--) {
            bool is_blocked = (blocked & bit_of(signo)) != 0;
            if (signo != except && is_blocked == (round == 1) && is_free(signo, blocked) &&
                install(signo)) {
                fs_store(&suspend.signo, signo);
                return;
            }
        }
    }
    gate_only("forksafe: the program uses every real-time signal: threads are stopped at lock "
              "boundaries only; FORKSAFE_SIGNAL names another signal to use");
}

bool fs_is_nearly_full(const sigset_t *set) {
    enum { MOST = 32 };
    int count = 0;
    for (int signo = 1; signo < _NSIG; signo++) {
        count += sigismember(set, signo) == 1;
    }
    return count >= MOST;
}

/* --- what the program believes ---------------------------------------------------------------- */

bool fs_believes_masked(struct fs_thread *self) {
    if (fs_unlikely(self->vfork_child != 0)) {
        if (self->vfork_child == (int)fs_syscall0(SYS_getpid)) {
            return self->vfork_masks;
        }
        self->vfork_child = 0; /* it has executed, and the parent is running again */
    }
    return self->masks_suspend;
}

void fs_set_believes_masked(struct fs_thread *self, bool masked) {
    if (fs_believes_masked(self) == masked) {
        return;
    }
    if (fs_in_vfork_child()) {
        self->vfork_child = (int)fs_syscall0(SYS_getpid);
        self->vfork_masks = masked;
    } else {
        self->masks_suspend = masked;
    }
}

void fs_suspend_open(struct fs_thread *self) {
    int ours = fs_suspend_signal();
    if (ours != 0) {
        fs_sigset before = change_own_mask(SIG_UNBLOCK, bit_of(ours));
        if ((before & bit_of(ours)) != 0) {
            self->masks_suspend = true;
        }
    }
}

fs_sigset fs_suspend_show(struct fs_thread *self) {
    fs_suspend_follow(self);
    int ours = fs_suspend_signal();
    bool masked = ours != 0 && fs_believes_masked(self);
    return change_own_mask(SIG_BLOCK, masked ? bit_of(ours) : 0);
}

void fs_mask_note(int signo, const sigset_t *mask) {
    int ours = fs_suspend_signal();
    suspend.masked[signo] = ours != 0 && sigismember(mask, ours) == 1;
}

void fs_mask_to_kernel(struct sigaction *action) {
    int ours = fs_suspend_signal();
    if (ours == 0) {
        return;
    }
    if (suspend.small_stacks && (action->sa_flags & SA_ONSTACK) != 0) {
        sigaddset(&action->sa_mask, ours);
    } else {
        sigdelset(&action->sa_mask, ours);
    }
}

void fs_mask_to_program(int signo, struct sigaction *action) {
    int ours = fs_suspend_signal();
    if (ours == 0) {
        return;
    }
    if (suspend.masked[signo]) {
        sigaddset(&action->sa_mask, ours);
    } else {
        sigdelset(&action->sa_mask, ours);
    }
}

/* Gives every action of the program the mask that it is to have now. `before`: the suspend signal
 * as it was when they got theirs, 0 for none. */
static void mask_handlers_anew(int before) {
    for (int signo = 1; signo < _NSIG; signo++) {
        struct sigaction action;
        if (signo == fs_suspend_signal() || signo == before ||
            fs_real.sigaction(signo, NULL, &action) != 0) {
            continue;
        }
        const struct sigaction old = action;
        if (before != 0 && suspend.masked[signo]) {
            sigaddset(&action.sa_mask, before);
        } else if (before != 0) {
            sigdelset(&action.sa_mask, before);
        }
        fs_mask_note(signo, &action.sa_mask);
        fs_mask_to_kernel(&action);
        if (old.sa_mask.__val[0] != action.sa_mask.__val[0]) { /* glibc fills no more of it */
            fs_real.sigaction(signo, &action, NULL);
        }
    }
}

/* The suspend signal is another than `before` now (0: there was none). What is masked already, by
 * the caller or by a handler, stays so as the program sees it. */
static void changed_from(int before) {
    struct fs_thread *self = fs_self;
    mask_handlers_anew(before);
    if (self == NULL) {
        return;
    }
    if (before != 0 && self->masks_suspend) {
        change_own_mask(SIG_BLOCK, bit_of(before));
    }
    self->masks_suspend = false;
    fs_suspend_open(self);
}

static bool any_follows(int before) {
    FS_EACH_THREAD (thread) {
        if ((fs_load_acquire(&thread->follows) & bit_of(before)) != 0 &&
            !fs_task_sleeps(thread->tid)) {
            return true;
        }
    }
    return false;
}

/* The others that block all signals, the one that the program has just named among them, are told by
 * it, while it is still ours. One that sleeps would find its call cut short: it follows when it next
 * looks at its mask. */
static void others_follow(int before) {
    enum { PATIENCE_MS = 100 };
    bool any = false;
    FS_EACH_THREAD (thread) {
        if (thread != fs_self && fs_load(&thread->masks_suspend) && thread->tid != 0) {
            __atomic_or_fetch(&thread->follows, bit_of(before), __ATOMIC_ACQ_REL);
            any |= !fs_task_sleeps(thread->tid) && fs_signal_thread(thread->tid, before);
        }
    }
    for (int64_t end = fs_now() + PATIENCE_MS * FS_MSEC; any && fs_now() < end;) {
        fs_sleep(ASK_AGAIN_US * FS_USEC);
        any = any_follows(before);
    }
}

void fs_suspend_follow(struct fs_thread *self) {
    if (self->follows != 0 && !fs_in_vfork_child()) {
        change_own_mask(SIG_BLOCK, __atomic_exchange_n(&self->follows, 0, __ATOMIC_ACQ_REL));
        self->masks_suspend = false;
        fs_suspend_open(self);
    }
}

/* Two frames, and the handler: it may come while one of the program's runs there. */
void fs_suspend_on_stack(size_t bytes) {
    enum { HANDLERS = 16 * 1024 };
    if (bytes >= 2 * getauxval(AT_MINSIGSTKSZ) + HANDLERS || suspend.small_stacks) {
        return;
    }
    suspend.small_stacks = true;
    int ours = fs_suspend_signal();
    if (ours != 0) {
        install(ours);
        mask_handlers_anew(ours);
    }
}

/* --- setting up ------------------------------------------------------------------------------ */

void fs_suspend_init(void) {
    if (suspend.chosen) {
        return;
    }
    suspend.chosen = true;
    bool needed = fs_config.mode == FS_MODE_REPAIR || fs_config.watchdog_ms != 0;
    if (fs_config.suspend == FS_SUSPEND_GATE || !needed) {
        return;
    }
    if (fs_config.signal == 0) {
        choose(0);
    } else if (is_free(fs_config.signal, own_mask()) && install(fs_config.signal)) {
        fs_store(&suspend.signo, fs_config.signal);
    } else {
        gate_only("forksafe: FORKSAFE_SIGNAL: the program uses this signal itself: threads are "
                  "stopped at lock boundaries only; name another");
    }
    changed_from(0);
}

/* The signals on their way were dropped: else as many of the next one would count as ours. */
static void forget_sent(void) {
    FS_EACH_THREAD (thread) {
        fs_store(&thread->answered, fs_load(&thread->asked));
        fs_store(&thread->seen, fs_load(&thread->sent));
    }
}

void fs_suspend_give_way(int signo) {
    if (signo == 0 || signo != fs_suspend_signal()) {
        return;
    }
    if (fs_config.signal == 0) {
        choose(signo);
    } else {
        gate_only("forksafe: FORKSAFE_SIGNAL: the program uses this signal itself: threads are "
                  "stopped at lock boundaries only; name another");
    }
    changed_from(signo);
    others_follow(signo);
    /* One that is still on its way is dropped by the first, and would kill after the second. */
    struct sigaction ignored = {.sa_handler = SIG_IGN}, standard = {.sa_handler = SIG_DFL};
    fs_real.sigaction(signo, &ignored, NULL);
    fs_real.sigaction(signo, &standard, NULL);
    forget_sent();
}

/* --- in the forking thread ------------------------------------------------------------------- */

static bool runs_freely(const struct fs_thread *thread, const struct fs_thread *self) {
    return thread != self && fs_load_acquire(&thread->state) == FS_ATTACHED &&
           fs_load(&thread->pass) == 0 && thread->tid != 0 &&
           (fs_load(&thread->depth) == 0 || holds_nothing(thread));
}

static bool has_answered(const struct fs_thread *thread) {
    return fs_load_acquire(&thread->answered) == thread->asked ||
           fs_load_acquire(&thread->state) != FS_ATTACHED;
}

/* The state letter of /proc/self/task/TID/stat, '\0' where it cannot be read. */
static char task_state(int tid) {
    char line[256];
    if (fs_read_task(tid, "stat", line, sizeof line) < 0) {
        return '\0';
    }
    const char *name_end = strrchr(line, ')'); /* the name may hold anything */
    if (name_end == NULL || name_end[1] != ' ') {
        return '\0';
    }
    return name_end[2];
}

static bool has_tracer(int tid) {
    static const char field[] = "TracerPid:\t";
    char status[512]; /* it is among the first lines */
    const char *at =
        fs_read_task(tid, "status", status, sizeof status) > 0 ? strstr(status, field) : NULL;
    return at != NULL && at[sizeof field - 1] != '0';
}

/* A debugger would stop the program at each signal that it is sent. One that has only just come is overlooked. */
static bool is_traced(const struct fs_thread *self) {
    static struct {
        int64_t until;
        uint32_t generation;
        bool is;
    } known;
    int64_t now = fs_now();
    if (now >= known.until || known.generation != fs_generation()) {
        known.is = has_tracer(self->tid);
        known.generation = fs_generation();
        known.until = now + TRACER_MS * FS_MSEC;
    }
    return known.is;
}

/* Returns false where the signal cannot be sent: RLIMIT_SIGPENDING is used up, or the thread has just ended. */
static bool summon(struct fs_thread *thread, int signo) {
    fs_store(&thread->summoned, true);
    if (!has_answered(thread)) {
        return true; /* an earlier fork: the signal is still on its way */
    }
    fs_store(&thread->asked, thread->asked + 1);
    fs_store(&thread->sent, thread->sent + 1);
    if (fs_signal_thread(thread->tid, signo)) {
        return true;
    }
    fs_store(&thread->asked, thread->asked - 1);
    fs_store(&thread->sent, thread->sent - 1);
    fs_store(&thread->summoned, false);
    return false;
}

/* One that sleeps in a system call which no hook saw (io_uring's, libaio's, or a call that blocking.def does
 * not have) is left asleep: the signal could end it with EINTR. Returns how many have an answer to give. */
static unsigned ask(const struct fs_thread *self, int signo, bool on_processors) {
    unsigned asked = 0;
    FS_EACH_THREAD (thread) {
        if (!runs_freely(thread, self) ||
            (on_processors ? !fs_task_runs(thread->tid) : fs_task_sleeps(thread->tid))) {
            continue;
        }
        if (asked == 0 && is_traced(self)) {
            return 0;
        }
        asked += summon(thread, signo);
    }
    return asked;
}

/* A thread that waits for a vfork child, or for a disk ('D'), and one that sleeps with the signal
 * blocked ('S') give no answer for as long as they do; only one that is ready to run may yet. */
static bool may_answer(const struct fs_thread *thread) { return task_state(thread->tid) == 'R'; }

static bool all_have_answered(bool waited_long) {
    FS_EACH_THREAD (thread) {
        if (thread->summoned && !has_answered(thread) && !(waited_long && !may_answer(thread))) {
            return false;
        }
    }
    return true;
}

/* Who computes, and is on no processor, stands still already, and would need milliseconds to come to one and
 * say so. It may come to one while the process is copied: the kernel's copy is that of one moment all the same,
 * and the gate is closed to it. But where the user has named opaque modules, or wants to know who stood where, and
 * while somebody has the dynamic linker's lock, all are asked. */
static bool may_run_on(void) {
    return fs_config.opaque == NULL && !fs_event_wanted() && fs_loader_owner() == 0;
}

static void await_those_on_processors(void) {
    int64_t until = fs_now() + PROMPT_US * FS_USEC;
    while (!all_have_answered(false) && fs_now() < until) {
        fs_cpu_relax();
    }
}

static void await_answers(void) {
    int64_t start = fs_now();
    for (int64_t now = start; now < start + ANSWER_MS * FS_MSEC; now = fs_now()) {
        uint32_t seen = fs_world_progress_seen();
        if (all_have_answered(now > start + DEAF_US * FS_USEC)) {
            return;
        }
        fs_world_await_progress(seen, 1, start + ANSWER_MS * FS_MSEC);
    }
}

static bool any_went_on(const struct fs_thread *self) {
    FS_EACH_THREAD (thread) {
        if (thread->summoned && runs_freely(thread, self) && has_answered(thread)) {
            return true;
        }
    }
    return false;
}

/* But of those that are parked. */
static void cancel_summons(void) {
    FS_EACH_THREAD (thread) {
        if (thread->summoned && fs_load_acquire(&thread->state) != FS_SUSPENDED) {
            fs_store(&thread->summoned, false);
        }
    }
}

static void ask_all(const struct fs_thread *self) {
    cancel_summons(); /* an earlier stop's */
    int signo = fs_suspend_signal();
    bool on_processors = may_run_on();
    for (unsigned times = 0; times < ASK_TIMES && ask(self, signo, on_processors) != 0; times++) {
        if (on_processors) {
            await_those_on_processors();
        } else {
            await_answers();
        }
        if (times + 1 == ASK_TIMES || !any_went_on(self)) {
            return;
        }
        fs_sleep(ASK_AGAIN_US * FS_USEC);
    }
}

/* Nobody will look at where a thread stands that comes to its handler from now on: it goes on. Pairs with
 * park(): either that sees that it is too late, or we see that it is parked, and wake it. */
static void dismiss_the_late(void) {
    cancel_summons();
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    fs_world_wake_dismissed();
}

void fs_suspend_running(const struct fs_thread *self) {
    ask_all(self);
    dismiss_the_late();
}
