/*
 * signals.c: the program's signals are its own, whatever a library that stops threads by a signal
 * takes for itself. What is set reads back, what is sent arrives once and in order, handlers run
 * where and as long as they like, and what is executed inherits nothing.
 */
#include "hazard.h"

/* sigset, sighold and siginterrupt are deprecated, and used all the same. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#include <glob.h>
#include <poll.h>
#include <setjmp.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>

/* glibc's own two (32, 33) are nobody's. */
static int is_glibcs(int signo) { return signo > SIGSYS && signo < SIGRTMIN; }

static sigset_t set_of(int signo) {
    sigset_t set;
    sigemptyset(&set);
    if (signo != 0) {
        sigaddset(&set, signo);
    }
    return set;
}

static sigset_t all_signals(void) {
    sigset_t set;
    sigfillset(&set);
    return set;
}

/* What a thread that blocks them all reads back. */
static sigset_t all_blockable(void) {
    sigset_t set = all_signals();
    sigdelset(&set, SIGKILL);
    sigdelset(&set, SIGSTOP);
    return set;
}

static void set_mask(const sigset_t *set) {
    HZ_SETUP(pthread_sigmask(SIG_SETMASK, set, NULL) == 0);
}

static int sets_equal(const sigset_t *one, const sigset_t *other) {
    for (int signo = 1; signo <= SIGRTMAX; signo++) {
        if (sigismember(one, signo) != sigismember(other, signo)) {
            hz_say("signal %d: %d, should be %d", signo, sigismember(one, signo),
                   sigismember(other, signo));
            return HZ_WRONG;
        }
    }
    return HZ_OK;
}

static int mask_is(void *want) {
    sigset_t now = set_of(0), also = set_of(0);
    HZ_IS(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
    HZ_IS(sigprocmask(SIG_BLOCK, NULL, &also), 0);
    HZ_TRY(sets_equal(&now, want));
    return sets_equal(&also, want);
}

static void handle_as(int signo, void (*handler)(int), int flags, const sigset_t *mask) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    action.sa_mask = *mask;
    HZ_SETUP(sigaction(signo, &action, NULL) == 0);
}

static void handle(int signo, void (*handler)(int)) {
    const sigset_t none = set_of(0);
    handle_as(signo, handler, SA_RESTART, &none);
}

/* ---- masks ---- */

/* How long 40 forks take in all, the waits for their children left aside. */
static int time_of_forks(int64_t *ms) {
    *ms = 0;
    for (int i = 0; i < 40; i++) {
        pid_t pid;
        int64_t one;
        HZ_TRY(hz_fork_timed(hz_nothing, &pid, &one));
        *ms += one;
    }
    return HZ_OK;
}

struct spinner {
    struct hz_thread thread;
    struct hz_event stop, spins;
    sigset_t inherits, sets;
    int does_set;
};

static int spin_masked(void *arg) {
    struct spinner *spinner = arg;
    HZ_TRY(mask_is(&spinner->inherits));
    if (spinner->does_set) {
        set_mask(&spinner->sets);
        HZ_TRY(mask_is(&spinner->sets));
    }
    hz_post(&spinner->spins);
    HZ_TRY(hz_spin(&spinner->stop));
    return mask_is(spinner->does_set ? &spinner->sets : &spinner->inherits);
}

/* Two rounds of forks, the one beside a busy thread that blocks nothing. A fork that waits for an
 * answer which cannot come takes some 60 ms; these may take ten times as long as the others, and a
 * second. */
static int forks_stay_fast(struct spinner *masked, const pthread_attr_t *attr) {
    struct spinner open = {.does_set = 1};
    int64_t open_ms, masked_ms;
    HZ_SETUP(pthread_sigmask(SIG_SETMASK, NULL, &open.inherits) == 0);
    open.sets = set_of(0);
    hz_start(&open.thread, spin_masked, &open);
    hz_await(&open.spins, 1);
    HZ_TRY(time_of_forks(&open_ms));
    hz_post(&open.stop);
    HZ_TRY(hz_finish(&open.thread));

    masked->thread.body = spin_masked;
    masked->thread.arg = masked;
    errno = pthread_create(&masked->thread.id, attr, hz_thread_main, &masked->thread);
    HZ_SETUP(errno == 0);
    hz_await(&masked->spins, 1);
    HZ_TRY(time_of_forks(&masked_ms));
    hz_post(&masked->stop);
    HZ_TRY(hz_finish(&masked->thread));
    if (masked_ms > 10 * open_ms + 1000) {
        hz_say("40 forks beside a thread that blocks all signals took %ld ms, beside another %ld",
               (long)masked_ms, (long)open_ms);
        return HZ_WRONG;
    }
    return HZ_OK;
}

/* The order of most daemons: all is blocked before the first thread is made. */
static int blocked_before_threads(const void *arg) {
    sigset_t all = all_blockable(), full = all_signals();
    struct spinner spinner = {.inherits = all};
    (void)arg;
    set_mask(&full);
    HZ_TRY(mask_is(&all));
    HZ_TRY(forks_stay_fast(&spinner, NULL));
    HZ_TRY(hz_child(mask_is, &all));
    return mask_is(&all);
}

static int blocked_in_thread(const void *arg) {
    struct spinner spinner = {.inherits = set_of(0), .sets = all_blockable(), .does_set = 1};
    sigset_t none = set_of(0);
    (void)arg;
    set_mask(&none);
    HZ_TRY(forks_stay_fast(&spinner, NULL));
    HZ_TRY(hz_child(mask_is, &none));
    return mask_is(&none);
}

static int blocked_by_attribute(const void *arg) {
    sigset_t all = all_blockable(), none = set_of(0);
    struct spinner spinner = {.inherits = all};
    pthread_attr_t attr;
    (void)arg;
    set_mask(&none);
    HZ_SETUP(pthread_attr_init(&attr) == 0);
    HZ_SETUP(pthread_attr_setsigmask_np(&attr, &all) == 0);
    HZ_TRY(forks_stay_fast(&spinner, &attr));
    return mask_is(&none);
}

/* Each signal by itself, and taken back in another order; in the thread and in its child. */
static int one_by_one(void *arg) {
    sigset_t want = set_of(0);
    (void)arg;
    set_mask(&want);
    for (int signo = 1; signo <= SIGRTMAX; signo++) {
        sigset_t one = set_of(0);
        if (signo == SIGKILL || signo == SIGSTOP || sigaddset(&one, signo) != 0) {
            continue;
        }
        sigaddset(&want, signo);
        HZ_IS(sigprocmask(SIG_BLOCK, &one, NULL), 0);
        HZ_TRY(mask_is(&want));
    }
    HZ_TRY(hz_child(mask_is, &want));
    for (int signo = SIGRTMAX; signo > 0; signo--) {
        sigset_t one = set_of(0), old = set_of(0);
        if (sigismember(&want, signo) == 1) {
            sigaddset(&one, signo);
            HZ_IS(pthread_sigmask(SIG_UNBLOCK, &one, &old), 0);
            HZ_TRY(sets_equal(&old, &want));
            sigdelset(&want, signo);
            HZ_TRY(mask_is(&want));
        }
    }
    return hz_child(mask_is, &want);
}

static int masks_one_by_one(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    hz_bystander_start(&bystander);
    HZ_TRY(one_by_one(NULL));
    HZ_TRY(hz_elsewhere(one_by_one, NULL));
    return hz_bystander_stop(&bystander);
}

/* siglongjmp takes back the mask that sigsetjmp saved, whatever it was and is. */
static int jump_between(void *arg) {
    const sigset_t masks[3] = {set_of(0), set_of(SIGUSR1), all_blockable()};
    struct hz_event *stop = arg;
    for (volatile int round = 0; round < 9 || hz_seen(stop) == 0; round = round + 1) {
        sigset_t from = masks[round / 3 % 3], to = masks[round % 3];
        sigjmp_buf at;
        set_mask(&to);
        if (sigsetjmp(at, 1) == 0) {
            set_mask(&from);
            HZ_TRY(mask_is(&from));
            siglongjmp(at, 1);
        }
        to = masks[round % 3];
        HZ_TRY(mask_is(&to));
    }
    return HZ_OK;
}

static int jumps_restore_masks(const void *arg) {
    struct hz_thread thread;
    struct hz_event stop = {0};
    (void)arg;
    hz_start(&thread, jump_between, &stop);
    HZ_TRY(hz_children(50, hz_nothing, NULL));
    hz_post(&stop);
    HZ_TRY(hz_finish(&thread));
    return jump_between(&stop);
}

/* ---- actions ---- */

static volatile sig_atomic_t handled[NSIG];

static void count(int signo) { handled[signo] = handled[signo] + 1; }
static void count_info(int signo, siginfo_t *info, void *context) {
    (void)info, (void)context;
    count(signo);
}

/* Threads block all, a busy one and one asleep, and signals are named for the first time after that:
 * they stay blocked, and show so; what is sent waits. Forks beside stay fast. */
struct blocker {
    struct hz_thread thread;
    struct hz_event blocks, stop;
    int sleeps;
};

static int block_all(void *arg) {
    struct blocker *blocker = arg;
    sigset_t all = all_blockable(), none = set_of(0);
    set_mask(&all);
    hz_post(&blocker->blocks);
    if (blocker->sleeps) {
        hz_await(&blocker->stop, 1);
    } else {
        hz_spin(&blocker->stop);
    }
    HZ_TRY(mask_is(&all));
    int before = handled[SIGRTMAX - 1];
    set_mask(&none);
    HZ_IS(handled[SIGRTMAX - 1], before + !blocker->sleeps);
    return HZ_OK;
}

static int named_late(const void *arg) {
    struct blocker blockers[2] = {{.sleeps = 0}, {.sleeps = 1}};
    sigset_t all = all_blockable(), none = set_of(0);
    struct spinner spinner = {.inherits = all};
    (void)arg;
    set_mask(&none);
    for (int i = 0; i < 2; i++) {
        hz_start(&blockers[i].thread, block_all, &blockers[i]);
        hz_await(&blockers[i].blocks, 1);
    }
    set_mask(&all);
    for (int signo = SIGRTMAX; signo > SIGRTMAX - 4; signo--) {
        handle(signo, count);
        HZ_TRY(mask_is(&all));
        HZ_TRY(hz_elsewhere(mask_is, &all));
        HZ_TRY(hz_child(mask_is, &all));
    }
    HZ_SETUP(pthread_kill(blockers[0].thread.id, SIGRTMAX - 1) == 0);
    HZ_TRY(hz_children(3, hz_nothing, NULL));
    HZ_IS(handled[SIGRTMAX - 1], 0);
    HZ_TRY(forks_stay_fast(&spinner, NULL));
    for (int i = 0; i < 2; i++) {
        hz_post(&blockers[i].stop);
        HZ_TRY(hz_finish(&blockers[i].thread));
    }
    return mask_is(&all);
}

static struct sigaction set_to[NSIG];

enum { RESTORER = 0x04000000 }; /* glibc sets it by itself, and shows it */

static int is_fixed(int signo) {
    return signo == SIGKILL || signo == SIGSTOP || signo == SIGCHLD || is_glibcs(signo);
}

static int actions_are_ours(void *arg) {
    (void)arg;
    for (int signo = 1; signo < NSIG; signo++) {
        struct sigaction now;
        memset(&now, 0xa5, sizeof now);
        if (is_glibcs(signo)) {
            HZ_IS(sigaction(signo, NULL, &now), -1);
            HZ_IS(errno, EINVAL);
            continue;
        }
        HZ_IS(sigaction(signo, NULL, &now), 0);
        now.sa_flags &= ~RESTORER;
        if (now.sa_handler != set_to[signo].sa_handler || now.sa_flags != set_to[signo].sa_flags ||
            sets_equal(&now.sa_mask, &set_to[signo].sa_mask) != HZ_OK) {
            hz_say("the action of signal %d is another: flags %x, should be %x", signo,
                   (unsigned)now.sa_flags, (unsigned)set_to[signo].sa_flags);
            return HZ_WRONG;
        }
    }
    return HZ_OK;
}

static int actions_and_the_childs(void *arg) {
    HZ_TRY(actions_are_ours(arg));
    HZ_TRY(hz_child(actions_are_ours, NULL));
    HZ_TRY(hz_elsewhere(actions_are_ours, NULL));
    return actions_are_ours(arg);
}

static void look_at_actions(void) {
    for (int signo = 1; signo < NSIG; signo++) {
        if (!is_glibcs(signo)) {
            HZ_SETUP(sigaction(signo, NULL, &set_to[signo]) == 0);
            set_to[signo].sa_flags &= ~RESTORER;
        }
    }
}

static void set_action(int signo, unsigned variant) {
    static const unsigned flags[] = {0, SA_RESTART, SA_ONSTACK | SA_NODEFER,
                                     SA_RESETHAND | SA_RESTART, SA_SIGINFO | SA_ONSTACK};
    struct sigaction *action = &set_to[signo];
    memset(action, 0, sizeof *action);
    action->sa_flags = (int)flags[variant % (sizeof flags / sizeof flags[0])];
    if (action->sa_flags & SA_SIGINFO) {
        action->sa_sigaction = count_info;
    } else {
        action->sa_handler = variant % 7 == 3 && signo != SIGCHLD ? SIG_IGN : count;
    }
    action->sa_mask = variant % 2 ? all_blockable() : set_of(SIGUSR2);
    HZ_SETUP(sigaction(signo, action, NULL) == 0);
}

/* Those below `limit`: then what a library has taken for itself is left alone at first. */
static void set_actions(int first, int limit, unsigned variant) {
    for (int signo = first; signo < limit; signo++) {
        if (!is_fixed(signo)) {
            set_action(signo, variant + (unsigned)signo);
        }
    }
}

static int actions_read_back(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    look_at_actions(); /* what the program was started with */
    HZ_TRY(actions_and_the_childs(NULL));
    set_actions(1, SIGRTMIN + 20, 0);
    HZ_TRY(actions_are_ours(NULL));
    hz_bystander_start(&bystander);
    for (unsigned variant = 0; variant < 5; variant++) {
        HZ_TRY(actions_and_the_childs(NULL));
        set_actions(1, SIGRTMIN + 20, variant);
    }
    for (unsigned variant = 0; variant < 5; variant++) {
        HZ_TRY(actions_and_the_childs(NULL));
        set_actions(1, NSIG, variant);
    }
    HZ_TRY(actions_and_the_childs(NULL));
    return hz_bystander_stop(&bystander);
}

/* Every real-time signal, one after the other, is the program's: with each one more of them a
 * library has to make do with what is left. Each arrives once, in the parent and in the child. */
static int arrives(void *arg) {
    const int signo = *(const int *)arg;
    int before = handled[signo];
    HZ_IS(raise(signo), 0);
    HZ_IS(handled[signo], before + 1);
    HZ_IS(kill(getpid(), signo), 0);
    while (handled[signo] < before + 2) { /* another thread may take it */
        sched_yield();
    }
    HZ_IS(pthread_kill(pthread_self(), signo), 0);
    HZ_IS(handled[signo], before + 3);
    return HZ_OK;
}

static int every_real_time_signal(const void *arg) {
    struct hz_event stop = {0};
    struct hz_thread busy;
    (void)arg;
    hz_start(&busy, hz_spin, &stop);
    for (int signo = SIGRTMAX; signo >= SIGRTMIN; signo--) {
        handle(signo, count);
        HZ_TRY(arrives(&signo));
        HZ_TRY(hz_children(3, arrives, &signo));
    }
    for (int signo = SIGRTMIN; signo <= SIGRTMAX; signo++) {
        HZ_TRY(arrives(&signo));
        HZ_IS(handled[signo], 6);
    }
    hz_post(&stop);
    return hz_finish(&busy);
}

/* The same by other names. */
static int by_old_names(const void *arg) {
    struct hz_event stop = {0};
    struct hz_thread busy;
    sigset_t pending;
    (void)arg;
    hz_start(&busy, hz_spin, &stop);
    for (int signo = SIGRTMAX; signo > SIGRTMAX - 3; signo--) {
        HZ_SETUP(sigset(signo, count) == SIG_DFL);
        HZ_TRY(arrives(&signo));
        HZ_TRY(hz_children(3, arrives, &signo));
    }
    for (int signo = SIGRTMAX - 3; signo > SIGRTMAX - 6; signo--) {
        HZ_IS(sighold(signo), 0);
        HZ_IS(raise(signo), 0);
        HZ_TRY(hz_children(3, hz_nothing, NULL));
        HZ_IS(sigpending(&pending), 0);
        HZ_IS(sigismember(&pending, signo), 1);
        HZ_IS(sigignore(signo), 0);
        HZ_IS(sigrelse(signo), 0);
        HZ_IS(raise(signo), 0);
    }
    hz_post(&stop);
    return hz_finish(&busy);
}

/* Nobody has named it anywhere: it kills. */
static int raise_it(void *arg) {
    raise(*(int *)arg);
    return HZ_WRONG;
}

static int kill_thread(void *arg) {
    pthread_kill(pthread_self(), *(int *)arg);
    return HZ_WRONG;
}

static int queue_it(void *arg) {
    sigqueue(getpid(), *(int *)arg, (union sigval){.sival_int = 1});
    return hz_elsewhere(hz_nothing, NULL) == HZ_OK ? HZ_WRONG : HZ_BROKEN;
}

static int dies_of(int (*body)(void *), int signo) {
    pid_t pid = fork();
    int status = 0;
    if (pid == 0) {
        hz_end_with(body, &signo);
    }
    HZ_SETUP(pid > 0);
    HZ_SETUP(waitpid(pid, &status, 0) == pid);
    HZ_TRUE(WIFSIGNALED(status));
    HZ_IS(WTERMSIG(status), signo);
    return HZ_OK;
}

static int real_time_kills(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    hz_bystander_start(&bystander);
    for (int signo = SIGRTMIN; signo <= SIGRTMAX; signo++) {
        HZ_TRY(dies_of(raise_it, signo));
        HZ_TRY(dies_of(kill_thread, signo));
        HZ_TRY(dies_of(queue_it, signo));
    }
    return hz_bystander_stop(&bystander);
}

/* ---- accepting signals ---- */

enum { SENT = 400 };

/* All but SIGCHLD, which the children make. */
static sigset_t all_but_sigchld(void) {
    sigset_t set = all_signals();
    sigdelset(&set, SIGCHLD);
    return set;
}

struct acceptor {
    struct hz_thread thread;
    int (*accept)(siginfo_t *info); /* the next signal */
    int number;                     /* how many it accepted so far */
};

static int accept_sigwaitinfo(siginfo_t *info) {
    sigset_t all = all_but_sigchld();
    return sigwaitinfo(&all, info);
}

static int accept_sigtimedwait(siginfo_t *info) {
    const struct timespec soon = {.tv_nsec = 2000000};
    sigset_t all = all_but_sigchld();
    int got;
    do {
        got = sigtimedwait(&all, info, &soon);
    } while (got < 0 && errno == EAGAIN);
    return got;
}

static int accept_sigwait(siginfo_t *info) {
    sigset_t all = all_but_sigchld();
    int got = -1;
    info->si_code = 0; /* its value cannot be told */
    errno = sigwait(&all, &got);
    return got;
}

static int accept_signalfd(siginfo_t *info) {
    sigset_t all = all_but_sigchld();
    struct signalfd_siginfo read_info;
    static __thread int fd = -1;
    fd = signalfd(fd, &all, SFD_CLOEXEC);
    HZ_SETUP(fd >= 0);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    if (poll(&poll_fd, 1, -1) != 1 || read(fd, &read_info, sizeof read_info) < 0) {
        return -1;
    }
    info->si_code = read_info.ssi_code;
    info->si_pid = (pid_t)read_info.ssi_pid;
    info->si_value.sival_int = read_info.ssi_int;
    return (int)read_info.ssi_signo;
}

/* The signals of the program, with the values that they were sent with; then one that is taken when
 * none of these is left: the lowest comes first. */
#define LAST (SIGRTMIN + 3)
static int accept_all(void *arg) {
    struct acceptor *acceptor = arg;
    static const int order[] = {0, 1, 2};
    int next[3] = {0};
    for (;;) {
        siginfo_t info;
        memset(&info, 0, sizeof info);
        int signo = acceptor->accept(&info);
        if (signo == LAST) {
            break;
        }
        if (signo < 0) {
            hz_say("accepting a signal failed: %s", hz_errno_name(errno));
            return HZ_WRONG;
        }
        HZ_TRUE(signo >= SIGRTMIN && signo < SIGRTMIN + 3);
        int kind = order[signo - SIGRTMIN];
        if (info.si_code != 0) {
            HZ_IS(info.si_code, SI_QUEUE);
            HZ_IS(info.si_pid, getpid());
            HZ_IS(info.si_value.sival_int, next[kind]);
        }
        next[kind]++;
    }
    acceptor->number = next[0] + next[1] + next[2];
    return HZ_OK;
}

static int full_set_acceptors(const void *arg) {
    struct acceptor acceptors[] = {{.accept = accept_sigwaitinfo},
                                   {.accept = accept_sigtimedwait},
                                   {.accept = accept_sigwait},
                                   {.accept = accept_signalfd}};
    enum { ACCEPTORS = sizeof acceptors / sizeof acceptors[0] };
    struct hz_event stop = {0};
    struct hz_thread busy;
    sigset_t full = all_but_sigchld();
    (void)arg;
    set_mask(&full);
    hz_start(&busy, hz_spin, &stop);
    for (int i = 0; i < ACCEPTORS; i++) {
        hz_start(&acceptors[i].thread, accept_all, &acceptors[i]);
    }
    for (int sent = 0; sent < SENT; sent++) {
        for (int i = 0; i < ACCEPTORS; i++) {
            union sigval value = {.sival_int = sent / 3};
            HZ_SETUP(pthread_sigqueue(acceptors[i].thread.id, SIGRTMIN + sent % 3, value) == 0);
        }
        HZ_TRY(hz_child(hz_nothing, NULL));
    }
    for (int i = 0; i < ACCEPTORS; i++) {
        HZ_SETUP(pthread_kill(acceptors[i].thread.id, LAST) == 0);
        HZ_TRY(hz_finish(&acceptors[i].thread));
        HZ_IS(acceptors[i].number, SENT);
    }
    hz_post(&stop);
    return hz_finish(&busy);
}

/* Every signal that there is, sent to the one thread that accepts them all. */
/* The last but one is left out: a library may have it until the program names it by itself. */
#define FOR_EACH_NAMED(signo)                                                                      \
    for (int signo = SIGRTMIN; signo <= SIGRTMAX; signo += 1 + (signo == SIGRTMAX - 2))

static int accept_each(void *arg) {
    int (*accept_one)(siginfo_t *) = *(int (**)(siginfo_t *))arg;
    FOR_EACH_NAMED(signo) {
        siginfo_t info;
        HZ_IS(accept_one(&info), signo);
    }
    return HZ_OK;
}

static int full_set_each(const void *arg) {
    static int (*const ways[])(siginfo_t *) = {accept_sigwaitinfo, accept_sigtimedwait,
                                               accept_sigwait, accept_signalfd};
    sigset_t full = all_but_sigchld();
    struct hz_bystander bystander;
    (void)arg;
    set_mask(&full);
    hz_bystander_start(&bystander);
    for (unsigned i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        int (*way)(siginfo_t *) = ways[i];
        struct hz_thread thread;
        hz_start(&thread, accept_each, &way);
        FOR_EACH_NAMED(signo) {
            if (signo % 2) {
                HZ_SETUP(pthread_kill(thread.id, signo) == 0);
            } else {
                HZ_SETUP(syscall(SYS_tgkill, getpid(), thread.tid, signo) == 0);
            }
            HZ_TRY(hz_child(hz_nothing, NULL));
        }
        HZ_TRY(hz_finish(&thread));
    }
    return hz_bystander_stop(&bystander);
}

/* ---- pending ---- */

static int pending_is(const sigset_t *want) {
    sigset_t now = set_of(0);
    HZ_IS(sigpending(&now), 0);
    sigdelset(&now, SIGCHLD);
    return sets_equal(&now, want);
}

static int nothing_pends(void *arg) {
    sigset_t none = set_of(0);
    (void)arg;
    return pending_is(&none);
}

/* All blocked; `pend` sends each to itself, beside forks by others. A child has none pending. */
static int pend(void *arg) {
    sigset_t full = all_but_sigchld(), want = set_of(0);
    set_mask(&full);
    HZ_TRY(nothing_pends(NULL));
    FOR_EACH_NAMED(signo) {
        HZ_IS(pthread_kill(pthread_self(), signo), 0);
        sigaddset(&want, signo);
        HZ_TRY(pending_is(&want));
        HZ_TRY(hz_child(nothing_pends, NULL));
    }
    for (int i = 0; i < 2000; i++) {
        HZ_TRY(pending_is(&want));
    }
    FOR_EACH_NAMED(signo) {
        siginfo_t info;
        HZ_IS(sigwaitinfo(&full, &info), signo);
        HZ_IS(info.si_code, SI_USER); /* glibc makes it so */
    }
    hz_post(arg);
    return nothing_pends(NULL);
}

static int pending_reads_back(const void *arg) {
    struct hz_thread thread;
    struct hz_event done = {0};
    (void)arg;
    hz_start(&thread, pend, &done);
    do {
        HZ_TRY(hz_child(hz_nothing, NULL));
    } while (hz_seen(&done) == 0 && pthread_kill(thread.id, 0) == 0 && thread.verdict == HZ_OK);
    return hz_finish(&thread);
}

/* ---- each signal once ---- */

static struct { volatile int count, out_of_order, last; } queued;

static void on_queued(int signo, siginfo_t *info, void *context) {
    (void)signo, (void)context;
    int value = info->si_value.sival_int;
    if (info->si_code == SI_QUEUE) {
        queued.out_of_order += value != queued.last + 1;
        queued.last = value;
        __atomic_add_fetch(&queued.count, 1, __ATOMIC_SEQ_CST);
    }
}

enum { QUEUED = 3000 };

static int send_queued(void *arg) {
    for (int i = 1; i <= QUEUED; i++) {
        while (sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i}) != 0) {
            HZ_IS(errno, EAGAIN);
        }
    }
    hz_post(arg);
    return HZ_OK;
}

static void handle_info(int signo, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    HZ_SETUP(sigaction(signo, &action, NULL) == 0);
}

static int wait_for_count(volatile int *counter, int want) {
    int64_t end = hz_now_ms(CLOCK_MONOTONIC) + hz_limit_ms();
    while (*counter < want && hz_now_ms(CLOCK_MONOTONIC) < end) {
        hz_sleep_us(1000);
    }
    hz_sleep_us(20000); /* one too many would come */
    HZ_IS(*counter, want);
    return HZ_OK;
}

/* Directed at the process; the forking thread alone takes them, often in the middle of a fork: each
 * once, and in order. */
static int queued_to_forker(const void *arg) {
    struct hz_thread sender, busy;
    struct hz_event sent = {0}, stop = {0};
    sigset_t one = set_of(SIGRTMIN + 1), none = set_of(0);
    (void)arg;
    handle_info(SIGRTMIN + 1, on_queued);
    set_mask(&one);
    hz_start(&busy, hz_spin, &stop);
    hz_start(&sender, send_queued, &sent);
    set_mask(&none);
    while (hz_seen(&sent) == 0) {
        HZ_TRY(hz_child(hz_nothing, NULL));
    }
    HZ_TRY(hz_finish(&sender));
    HZ_TRY(wait_for_count(&queued.count, QUEUED));
    HZ_IS(queued.out_of_order, 0);
    hz_post(&stop);
    return hz_finish(&busy);
}

/* Anybody takes them: parked threads, sleeping ones, the one that forks. */
static int queued_to_anybody(const void *arg) {
    struct hz_thread sender, busy[2];
    struct hz_bystander bystander;
    struct hz_event sent = {0}, stop = {0};
    (void)arg;
    handle_info(SIGRTMIN + 1, on_queued);
    hz_start(&busy[0], hz_spin, &stop);
    hz_start(&busy[1], hz_spin, &stop);
    hz_bystander_start(&bystander);
    hz_start(&sender, send_queued, &sent);
    while (hz_seen(&sent) == 0) {
        HZ_TRY(hz_child(hz_nothing, NULL));
    }
    HZ_TRY(hz_finish(&sender));
    HZ_TRY(wait_for_count(&queued.count, QUEUED));
    hz_post(&stop);
    HZ_TRY(hz_finish(&busy[0]));
    HZ_TRY(hz_finish(&busy[1]));
    return hz_bystander_stop(&bystander);
}

/* Children whose handler counts them; SIGCHLD does not queue, so the handler reaps all it finds. */
static volatile int reaped;

static void reap(int signo) {
    int error = errno;
    (void)signo;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
        __atomic_add_fetch(&reaped, 1, __ATOMIC_SEQ_CST);
    }
    errno = error;
}

static int fork_children(void *arg) {
    (void)arg;
    for (int i = 0; i < 150; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            _exit(0);
        }
        HZ_TRUE(pid > 0);
    }
    return HZ_OK;
}

static int sigchld_reaps_all(const void *arg) {
    enum { FORKERS = 3 };
    struct hz_thread forkers[FORKERS], busy;
    struct hz_event stop = {0};
    (void)arg;
    handle(SIGCHLD, reap);
    hz_start(&busy, hz_spin, &stop);
    for (int i = 0; i < FORKERS; i++) {
        hz_start(&forkers[i], fork_children, NULL);
    }
    for (int i = 0; i < FORKERS; i++) {
        HZ_TRY(hz_finish(&forkers[i]));
    }
    HZ_TRY(wait_for_count(&reaped, FORKERS * 150));
    hz_post(&stop);
    return hz_finish(&busy);
}

/* ---- timers ---- */

static volatile int expirations, not_mine;
static volatile pid_t timer_owner;

static void on_timer(int signo, siginfo_t *info, void *context) {
    (void)signo, (void)context;
    if (info->si_code != SI_TIMER || (timer_owner != 0 && gettid() != timer_owner)) {
        not_mine++;
        return;
    }
    __atomic_add_fetch(&expirations, 1 + info->si_overrun, __ATOMIC_SEQ_CST);
}

/*
 * Expirations, overruns counted, are what the clock says: of a timer whose interval is 1 ms, one
 * for each. The timer is read and stopped at the end; what it had still to deliver comes at once.
 */
static int counts_time(void *arg) {
    struct sigevent event = {.sigev_notify = *(int *)arg, .sigev_signo = SIGRTMIN + 2};
    const struct itimerspec every_ms = {.it_value.tv_nsec = 1000000,
                                        .it_interval.tv_nsec = 1000000};
    const struct itimerspec never = {.it_value.tv_nsec = 0};
    timer_t timer;
    if (event.sigev_notify == SIGEV_THREAD_ID) {
        event._sigev_un._tid = gettid();
        timer_owner = gettid();
    }
    expirations = not_mine = 0;
    handle_info(SIGRTMIN + 2, on_timer);
    HZ_SETUP(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    int64_t start = hz_now_ms(CLOCK_MONOTONIC);
    HZ_SETUP(timer_settime(timer, 0, &every_ms, NULL) == 0);
    int64_t started = hz_now_ms(CLOCK_MONOTONIC);
    for (int i = 0; i < 150; i++) {
        HZ_TRY(hz_child(hz_nothing, NULL));
    }
    while (hz_now_ms(CLOCK_MONOTONIC) < started + 300) {
    }
    int64_t ends = hz_now_ms(CLOCK_MONOTONIC);
    int before = expirations;
    HZ_SETUP(timer_settime(timer, 0, &never, NULL) == 0);
    int64_t end = hz_now_ms(CLOCK_MONOTONIC);
    int after = expirations;
    HZ_SETUP(timer_delete(timer) == 0);
    HZ_IS(not_mine, 0);
    HZ_TRUE(after <= end - start + 2);
    HZ_TRUE(before >= ends - started - 500); /* one may be due, and counts for many when it comes */
    return HZ_OK;
}

static int timers(const void *arg) {
    struct hz_thread busy;
    struct hz_event stop = {0};
    int how[] = {SIGEV_SIGNAL, SIGEV_THREAD_ID};
    (void)arg;
    hz_start(&busy, hz_spin, &stop);
    HZ_TRY(counts_time(&how[0]));
    HZ_TRY(counts_time(&how[1]));
    HZ_TRY(hz_elsewhere(counts_time, &how[1]));
    hz_post(&stop);
    return hz_finish(&busy);
}

/* ---- the alternate stack ---- */

enum { CANARY = 0x5a, CANARIES = 4096 };

struct small_stack {
    unsigned char *memory;
    size_t size;
    struct hz_event stop, spins;
    void *handled_at;
    struct hz_event handled;
};

static struct small_stack *small;

/* As little as a handler can do. */
static void on_small_stack(int signo) {
    (void)signo;
    small->handled_at = __builtin_frame_address(0);
    __atomic_add_fetch(&small->handled.count, 1, __ATOMIC_SEQ_CST);
}

static int stack_is(const struct small_stack *stack) {
    stack_t now;
    memset(&now, 0xa5, sizeof now);
    HZ_IS(sigaltstack(NULL, &now), 0);
    HZ_TRUE(now.ss_sp == stack->memory + CANARIES);
    HZ_IS(now.ss_size, stack->size);
    HZ_IS(now.ss_flags, 0);
    for (int i = 0; i < CANARIES; i++) {
        HZ_IS(stack->memory[i], CANARY);
        HZ_IS(stack->memory[CANARIES + stack->size + (size_t)i], CANARY);
    }
    return HZ_OK;
}

static int stack_of(void *arg) { return stack_is(arg); }

static int spin_with_small_stack(void *arg) {
    struct small_stack *stack = arg;
    stack_t own = {.ss_sp = stack->memory + CANARIES, .ss_size = stack->size};
    HZ_SETUP(sigaltstack(&own, NULL) == 0);
    hz_post(&stack->spins);
    while (hz_seen(&stack->stop) == 0) {
        if (stack_is(stack) != HZ_OK) {
            return HZ_WRONG;
        }
        for (volatile int i = 0; i < 100000; i = i + 1) {
        }
    }
    return stack_is(stack);
}

/* Nothing else may run there: what runs besides overflows it, or finds no room at all. */
static int small_stack_of(size_t size, int signals) {
    struct small_stack stack = {.size = size};
    struct hz_thread thread;
    size_t all = CANARIES + size + CANARIES;
    stack.memory = malloc(all);
    HZ_SETUP(stack.memory != NULL);
    memset(stack.memory, CANARY, all);
    small = &stack;
    handle_as(SIGUSR1, on_small_stack, SA_ONSTACK, &(sigset_t){{0}});
    hz_start(&thread, spin_with_small_stack, &stack);
    hz_await(&stack.spins, 1);
    for (int i = 0; i < 50; i++) {
        HZ_TRY(hz_child(hz_nothing, NULL));
        if (signals) {
            HZ_SETUP(pthread_kill(thread.id, SIGUSR1) == 0);
            while (hz_seen(&stack.handled) <= i) {
                sched_yield();
            }
            unsigned char *at = stack.handled_at;
            HZ_TRUE(at >= stack.memory + CANARIES && at < stack.memory + CANARIES + size);
        }
    }
    hz_post(&stack.stop);
    HZ_TRY(hz_finish(&thread));
    stack_t own = {.ss_sp = stack.memory + CANARIES, .ss_size = size};
    HZ_SETUP(sigaltstack(&own, NULL) == 0);
    HZ_TRY(hz_child(stack_of, &stack));
    HZ_TRY(stack_is(&stack));
    own.ss_flags = SS_DISABLE;
    HZ_SETUP(sigaltstack(&own, NULL) == 0);
    free(stack.memory);
    return HZ_OK;
}

/* As small as the kernel takes it: as MINSIGSTKSZ was when many a program was compiled. With a
 * processor whose registers take more, no handler can run there; none does. */
static int stack_never_used(const void *arg) {
    (void)arg;
    return small_stack_of(2048, 0);
}

static int stack_just_large_enough(const void *arg) {
    (void)arg;
    return small_stack_of(getauxval(AT_MINSIGSTKSZ) + 256, 1);
}

/* A handler stays there for long: nothing else may need room beside it. */
static void stay_on_small_stack(int signo) {
    on_small_stack(signo);
    while (hz_seen(&small->stop) == 0) {
    }
}

static int raise_usr2(void *arg) {
    struct small_stack *stack = arg;
    stack_t own = {.ss_sp = stack->memory + CANARIES, .ss_size = stack->size};
    HZ_SETUP(sigaltstack(&own, NULL) == 0);
    HZ_IS(raise(SIGUSR2), 0);
    return stack_is(stack);
}

static int stack_in_use(const void *arg) {
    const int before = *(const int *)arg; /* the handler is installed before the stack is known */
    struct small_stack stack = {.size = getauxval(AT_MINSIGSTKSZ) + 1024};
    struct hz_thread thread;
    size_t all = CANARIES + stack.size + CANARIES;
    sigset_t none = set_of(0), full = all_signals();
    stack.memory = malloc(all);
    HZ_SETUP(stack.memory != NULL);
    memset(stack.memory, CANARY, all);
    small = &stack;
    if (before) {
        handle_as(SIGUSR2, stay_on_small_stack, SA_ONSTACK, &full);
        HZ_TRY(hz_elsewhere(hz_nothing, NULL));
    } else {
        HZ_TRY(hz_elsewhere(hz_nothing, NULL));
        stack_t own = {.ss_sp = stack.memory + CANARIES, .ss_size = stack.size};
        HZ_SETUP(sigaltstack(&own, NULL) == 0);
        own.ss_flags = SS_DISABLE;
        HZ_SETUP(sigaltstack(&own, NULL) == 0);
        handle_as(SIGUSR2, stay_on_small_stack, SA_ONSTACK, &none);
    }
    struct sigaction now;
    HZ_IS(sigaction(SIGUSR2, NULL, &now), 0);
    sigset_t want = before ? all_blockable() : none;
    HZ_TRY(sets_equal(&now.sa_mask, &want));
    hz_start(&thread, raise_usr2, &stack);
    while (hz_seen(&stack.handled) == 0) {
        sched_yield();
    }
    HZ_TRY(hz_children(20, hz_nothing, NULL));
    hz_post(&stack.stop);
    HZ_TRY(hz_finish(&thread));
    free(stack.memory);
    return HZ_OK;
}

static const int yes = 1, no = 0;

static int stack_usual(const void *arg) {
    (void)arg;
    return small_stack_of(65536, 1);
}

/* ---- handlers that take their time ---- */

static struct {
    struct hz_event inside, leave;
    pthread_mutex_t mutex;
    int verdict;
} handler_is = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void stay(int signo) {
    (void)signo;
    hz_post(&handler_is.inside);
    while (hz_seen(&handler_is.leave) == 0) {
    }
}

static int raise_usr1(void *arg) {
    (void)arg;
    return raise(SIGUSR1) == 0 ? HZ_OK : HZ_BROKEN;
}

/* A handler that was installed before any thread was made, and blocks all signals while it runs. */
static int long_handler(const void *arg) {
    const int before_threads = *(const int *)arg;
    sigset_t full = all_signals();
    struct spinner open = {.inherits = set_of(0)};
    struct hz_thread thread;
    int64_t open_ms, ms;
    sigset_t none = set_of(0);
    set_mask(&none);
    if (before_threads) {
        handle_as(SIGUSR1, stay, SA_RESTART, &full);
    }
    hz_start(&open.thread, spin_masked, &open);
    hz_await(&open.spins, 1);
    HZ_TRY(time_of_forks(&open_ms));
    hz_post(&open.stop);
    HZ_TRY(hz_finish(&open.thread));
    if (!before_threads) {
        handle_as(SIGUSR1, stay, SA_RESTART, &full);
    }
    hz_start(&thread, raise_usr1, NULL);
    hz_await(&handler_is.inside, 1);
    HZ_TRY(time_of_forks(&ms));
    hz_post(&handler_is.leave);
    HZ_TRY(hz_finish(&thread));
    if (ms > 10 * open_ms + 1000) {
        hz_say("40 forks beside a long handler took %ld ms, beside a busy thread %ld", (long)ms,
               (long)open_ms);
        return HZ_WRONG;
    }
    return HZ_OK;
}

/* ---- faults ---- */

static __thread sigjmp_buf back;
static __thread char *faults_at;

static void jump_back(int signo) {
    (void)signo;
    siglongjmp(back, 1);
}

static void open_page(int signo) {
    (void)signo;
    if (mprotect(faults_at, 4096, PROT_READ | PROT_WRITE) != 0) {
        _exit(HZ_BROKEN);
    }
}

static void close_page(char *page) { HZ_SETUP(mprotect(page, 4096, PROT_NONE) == 0); }

static int fault_and_jump(void *arg) {
    volatile char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    HZ_SETUP(page != MAP_FAILED);
    for (volatile int i = 0; hz_seen(arg) == 0; i = i + 1) {
        if (sigsetjmp(back, 1) == 0) {
            page[i % 4096] = 1;
            return HZ_WRONG;
        }
    }
    return HZ_OK;
}

static int fault_and_go_on(void *arg) {
    char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    HZ_SETUP(page != MAP_FAILED);
    faults_at = page;
    for (int i = 0; hz_seen(arg) == 0; i++) {
        page[i % 4096] = (char)i;
        HZ_IS(page[i % 4096], (char)i);
        close_page(page);
    }
    return HZ_OK;
}

/* In the child, and in the parent beside: a fault is handled. */
static int faults_once(void *arg) {
    volatile char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)arg;
    HZ_SETUP(page != MAP_FAILED);
    faults_at = (char *)(uintptr_t)page;
    if (sigsetjmp(back, 1) == 0) {
        page[0] = 1;
    }
    return HZ_OK;
}

static int beside_faults(int (*body)(void *), void (*handler)(int)) {
    struct hz_thread threads[2];
    struct hz_event stop = {0};
    sigset_t full = all_signals();
    handle_as(SIGSEGV, handler, 0, &full);
    hz_start(&threads[0], body, &stop);
    hz_start(&threads[1], body, &stop);
    HZ_TRY(hz_children(200, faults_once, NULL));
    hz_post(&stop);
    HZ_TRY(hz_finish(&threads[0]));
    return hz_finish(&threads[1]);
}

static int fault_jumps(const void *arg) {
    (void)arg;
    return beside_faults(fault_and_jump, jump_back);
}

static int fault_mends(const void *arg) {
    (void)arg;
    return beside_faults(fault_and_go_on, open_page);
}

/* ---- a profiler ---- */

static volatile int ticks;

static void tick(int signo) {
    (void)signo;
    __atomic_add_fetch(&ticks, 1, __ATOMIC_SEQ_CST);
}

/* 1 kHz of SIGPROF beside locks and forks; no call that SA_RESTART restarts ends early. */
static int profiled(const void *arg) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct hz_pair pair;
    const struct itimerval often = {.it_interval.tv_usec = 1000, .it_value.tv_usec = 1000};
    const struct itimerval never = {.it_interval.tv_usec = 0};
    (void)arg;
    handle(SIGPROF, tick);
    hz_pair_init(&pair, hz_mutex_lock, hz_mutex_unlock, &mutex);
    HZ_SETUP(setitimer(ITIMER_PROF, &often, NULL) == 0);
    HZ_TRY(hz_churn_forks(&pair, 1, 300));
    HZ_TRUE(ticks > 0);
    HZ_SETUP(setitimer(ITIMER_PROF, &never, NULL) == 0);
    return HZ_OK;
}

/* ---- handlers that lock, fork, jump ---- */

static struct hz_pair work;
static pthread_mutex_t work_mutex = PTHREAD_MUTEX_INITIALIZER;

static void turn_in_handler(int signo) {
    (void)signo;
    handler_is.verdict |= hz_pair_turn(&work);
}

static int signal_thread(void *arg) {
    struct hz_thread *target = arg;
    for (int i = 0; i < 400; i++) {
        if (pthread_kill(target->id, SIGUSR1) != 0) {
            return HZ_BROKEN;
        }
        hz_sleep_us(200);
    }
    return HZ_OK;
}

/* The handler of a thread that computes takes a lock. */
static int handler_locks(const void *arg) {
    struct hz_thread target, sender;
    struct hz_event stop = {0};
    (void)arg;
    handle(SIGUSR1, turn_in_handler);
    hz_pair_init(&work, hz_mutex_lock, hz_mutex_unlock, &work_mutex);
    hz_start(&target, hz_spin, &stop);
    hz_start(&sender, signal_thread, &target);
    for (int i = 0; i < 200; i++) {
        HZ_TRY(hz_child(&hz_mutex_works, &work_mutex));
    }
    HZ_TRY(hz_finish(&sender));
    hz_post(&stop);
    HZ_TRY(hz_finish(&target));
    return handler_is.verdict;
}

static pthread_mutex_t had_by_forker = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t had_by_waiter = PTHREAD_MUTEX_INITIALIZER;

static int wait_for_forker(void *unused) {
    (void)unused;
    HZ_IS(pthread_mutex_lock(&had_by_waiter), 0);
    HZ_IS(pthread_mutex_lock(&had_by_forker), 0);
    HZ_IS(pthread_mutex_unlock(&had_by_forker), 0);
    return pthread_mutex_unlock(&had_by_waiter);
}

static int work_is_sound(void *unused) {
    (void)unused;
    return hz_pair_sound(&work);
}

/* A thread holds something and waits for what the forking thread has: no fork can wait for it. A timer, which no
 * fork stops, has its handler take another lock. */
static int waiters_handler_locks(const void *arg) {
    struct hz_thread target;
    timer_t timer;
    struct itimerspec often = {.it_interval.tv_nsec = 50000, .it_value.tv_nsec = 50000};
    (void)arg;
    handle(SIGUSR1, turn_in_handler);
    hz_pair_init(&work, hz_mutex_lock, hz_mutex_unlock, &work_mutex);
    HZ_IS(pthread_mutex_lock(&had_by_forker), 0);
    hz_start(&target, wait_for_forker, NULL);
    hz_until_stuck(&target);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    event._sigev_un._tid = target.tid;
    HZ_SETUP(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    HZ_SETUP(timer_settime(timer, 0, &often, NULL) == 0);
    for (int i = 0; i < 1000; i++) {
        HZ_TRY(hz_child(work_is_sound, NULL));
    }
    HZ_SETUP(timer_delete(timer) == 0);
    HZ_IS(pthread_mutex_unlock(&had_by_forker), 0);
    HZ_TRY(hz_finish(&target));
    return handler_is.verdict;
}

static void fork_in_handler(int signo) {
    int error = errno;
    (void)signo;
    handler_is.verdict |= hz_child(hz_nothing, NULL);
    errno = error;
}

/* Handlers fork in a thread that computes, one that locks, and in the middle of forks. */
static int lock_work(void *stop) {
    while (hz_seen(stop) == 0) {
        HZ_TRY(hz_pair_turn(&work));
    }
    return HZ_OK;
}

static int forks_in_handlers(void *arg) {
    struct hz_thread targets[2], senders[3], self = {.id = pthread_self()};
    struct hz_event stop = {0};
    (void)arg;
    handle(SIGUSR1, fork_in_handler);
    hz_pair_init(&work, hz_mutex_lock, hz_mutex_unlock, &work_mutex);
    hz_start(&targets[0], hz_spin, &stop);
    hz_start(&targets[1], lock_work, &stop);
    hz_start(&senders[0], signal_thread, &targets[0]);
    hz_start(&senders[1], signal_thread, &targets[1]);
    hz_start(&senders[2], signal_thread, &self);
    for (int i = 0; i < 100; i++) {
        HZ_TRY(hz_child(hz_nothing, NULL));
    }
    for (int i = 0; i < 3; i++) {
        HZ_TRY(hz_finish(&senders[i]));
    }
    hz_post(&stop);
    HZ_TRY(hz_finish(&targets[0]));
    HZ_TRY(hz_finish(&targets[1]));
    return handler_is.verdict;
}

/* In a child, so that its hang ends soon. */
static int handler_forks(const void *arg) {
    (void)arg;
    return hz_child(forks_in_handlers, NULL);
}

static struct hz_event callbacks;

/* Few at a time: where they come faster than they can fork, each makes the forks of all slower. */
static void fork_in_callback(union sigval unused) {
    enum { AT_ONCE = 4 };
    static _Atomic int under_way;
    (void)unused;
    if (under_way++ < AT_ONCE) {
        handler_is.verdict |= hz_child(hz_nothing, NULL);
        hz_post(&callbacks);
    }
    under_way--;
}

/* glibc makes a thread for each of a timer's callbacks, past pthread_create: for all that anybody knows, the program has
 * one thread when it begins to fork. */
static int callbacks_fork(const void *arg) {
    enum { FORKS = 1500 };
    timer_t timer;
    struct itimerspec often = {.it_interval.tv_nsec = 700000, .it_value.tv_nsec = 700000};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD,
                             .sigev_notify_function = fork_in_callback};
    sigset_t before, after;
    (void)arg;
    HZ_SETUP(pthread_sigmask(SIG_SETMASK, NULL, &before) == 0);
    HZ_SETUP(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    HZ_SETUP(timer_settime(timer, 0, &often, NULL) == 0);
    for (int i = 0; i < FORKS || hz_seen(&callbacks) == 0; i++) {
        HZ_TRY(hz_child(hz_nothing, NULL));
        HZ_SETUP(pthread_sigmask(SIG_SETMASK, NULL, &after) == 0);
        HZ_TRY(sets_equal(&after, &before));
    }
    HZ_SETUP(timer_delete(timer) == 0);
    return handler_is.verdict;
}

enum { ALLOCATORS = 6 };

struct allocators {
    struct hz_thread threads[ALLOCATORS];
    struct hz_event stop;
};

static int allocate(void *arg) {
    struct allocators *all = arg;
    while (hz_seen(&all->stop) == 0) {
        void *volatile memory = malloc(2000); /* else the compiler leaves both calls out */
        free(memory);
    }
    return HZ_OK;
}

static int signal_allocators(void *arg) {
    struct allocators *all = arg;
    while (hz_seen(&all->stop) == 0) {
        for (int i = 0; i < ALLOCATORS; i++) {
            HZ_SETUP(pthread_kill(all->threads[i].id, SIGUSR1) == 0);
        }
        hz_sleep_us(200);
    }
    return HZ_OK;
}

/* More threads than processors: some are inside the handler, or kept from its lock, while they do not run.
 * fork() needs the lock of malloc that these have. */
static int handler_locks_over_malloc(const void *arg) {
    enum { FORKS = 60 };
    struct allocators all = {.stop = {0}};
    struct hz_thread sender;
    (void)arg;
    handle(SIGUSR1, turn_in_handler);
    hz_pair_init(&work, hz_mutex_lock, hz_mutex_unlock, &work_mutex);
    for (int i = 0; i < ALLOCATORS; i++) {
        hz_start(&all.threads[i], allocate, &all);
    }
    hz_start(&sender, signal_allocators, &all);
    for (int i = 0; i < FORKS; i++) {
        HZ_TRY(hz_child(hz_nothing, NULL));
    }
    hz_post(&all.stop);
    HZ_TRY(hz_finish(&sender));
    for (int i = 0; i < ALLOCATORS; i++) {
        HZ_TRY(hz_finish(&all.threads[i]));
    }
    return handler_is.verdict;
}

/* ---- jumps out of what was interrupted ---- */

static __thread volatile sig_atomic_t may_jump;

static void jump_if_allowed(int signo) {
    (void)signo;
    if (may_jump) {
        may_jump = 0;
        siglongjmp(back, 1);
    }
}

struct jumper {
    void (*sleep)(void);
    struct hz_event stop, jumps;
};

static int pipe_ends[2];
static pthread_mutex_t taken = PTHREAD_MUTEX_INITIALIZER;

static void in_read(void) {
    char byte;
    if (read(pipe_ends[0], &byte, 1) < 0) {
        return;
    }
}
static void in_poll(void) { poll(NULL, 0, -1); }
static void in_sigsuspend(void) {
    sigset_t none = set_of(0);
    sigsuspend(&none);
}
static void in_lock(void) { pthread_mutex_lock(&taken); }
static int jump_out_of(void *arg) {
    struct jumper *jumper = arg;
    while (hz_seen(&jumper->stop) == 0) {
        if (sigsetjmp(back, 1) == 0) {
            may_jump = 1;
            jumper->sleep();
        } else {
            hz_post(&jumper->jumps);
        }
        HZ_TRY(hz_pair_turn(&work));
    }
    return HZ_OK;
}

static int jumps(const void *arg) {
    struct jumper jumper = {.sleep = *(void (*const *)(void))arg};
    struct hz_thread thread;
    handle(SIGUSR1, jump_if_allowed);
    HZ_SETUP(pipe(pipe_ends) == 0 && pthread_mutex_lock(&taken) == 0);
    hz_pair_init(&work, hz_mutex_lock, hz_mutex_unlock, &work_mutex);
    hz_start(&thread, jump_out_of, &jumper);
    for (int i = 0; i < 100 || hz_seen(&jumper.jumps) < 50; i++) {
        HZ_SETUP(pthread_kill(thread.id, SIGUSR1) == 0);
        pid_t pid;
        int64_t ms;
        HZ_TRY(hz_fork_timed(hz_nothing, &pid, &ms));
    }
    hz_post(&jumper.stop);
    HZ_SETUP(pthread_kill(thread.id, SIGUSR1) == 0);
    while (thread.verdict == HZ_OK && pthread_tryjoin_np(thread.id, NULL) == EBUSY) {
        pthread_kill(thread.id, SIGUSR1);
        hz_sleep_us(200);
    }
    return thread.verdict;
}

static void (*const out_of_read)(void) = in_read;
static void (*const out_of_poll)(void) = in_poll;
static void (*const out_of_sigsuspend)(void) = in_sigsuspend;
static void (*const out_of_lock)(void) = in_lock;

/* Out of a call that calls back; who jumped is inside no longer, and no fork waits for it. */
static int raise_in_callback(const char *path, int error) {
    (void)path, (void)error;
    may_jump = 1;
    return raise(SIGUSR1);
}

static int jump_out_of_glob(void *arg) {
    struct jumper *jumper = arg;
    while (hz_seen(&jumper->stop) == 0) {
        glob_t found;
        if (sigsetjmp(back, 1) == 0) {
            glob("/nowhere/at/all/*", 0, raise_in_callback, &found);
            return HZ_BROKEN;
        }
        hz_post(&jumper->jumps);
        HZ_TRY(hz_pair_turn(&work));
    }
    return HZ_OK;
}

static int jumps_out_of_glob(const void *arg) {
    struct jumper jumper = {.sleep = NULL};
    struct hz_thread thread;
    (void)arg;
    handle(SIGUSR1, jump_if_allowed);
    hz_pair_init(&work, hz_mutex_lock, hz_mutex_unlock, &work_mutex);
    hz_start(&thread, jump_out_of_glob, &jumper);
    for (int i = 0; i < 100 || hz_seen(&jumper.jumps) < 50; i++) {
        HZ_TRY(hz_child(hz_nothing, NULL));
    }
    hz_post(&jumper.stop);
    return hz_finish(&thread);
}

/* ---- EINTR where bare gives EINTR ---- */

static volatile sig_atomic_t arrived;
static void note_arrival(int signo) { arrived = signo; }

enum { BY_RESTART, BY_NONE, BY_SIGINTERRUPT, BY_SIGINTERRUPT_OFF };

struct interrupted {
    int how;
    struct hz_event stop;
};

static void install(int how) {
    const sigset_t none = set_of(0);
    handle_as(SIGUSR1, note_arrival, how == BY_NONE ? 0 : SA_RESTART, &none);
    if (how == BY_SIGINTERRUPT || how == BY_SIGINTERRUPT_OFF) {
        handle_as(SIGUSR1, note_arrival, how == BY_SIGINTERRUPT ? SA_RESTART : 0, &none);
        HZ_SETUP(siginterrupt(SIGUSR1, how == BY_SIGINTERRUPT) == 0);
    }
}

static int is_restarted(int how) { return how == BY_RESTART || how == BY_SIGINTERRUPT_OFF; }

/* read ends early, or not until the byte comes; poll always ends early. */
static int reads(void *arg) {
    char byte = 0;
    long got = read(pipe_ends[0], &byte, 1);
    int error = errno;
    HZ_IS(arrived, SIGUSR1);
    if (is_restarted(*(int *)arg)) {
        HZ_IS(got, 1);
    } else {
        HZ_IS(got, -1);
        HZ_IS(error, EINTR);
    }
    return HZ_OK;
}

static int polls(void *arg) {
    struct pollfd fd = {.fd = pipe_ends[0], .events = POLLIN};
    (void)arg;
    HZ_IS(poll(&fd, 1, -1), -1);
    HZ_IS(errno, EINTR);
    HZ_IS(arrived, SIGUSR1);
    return HZ_OK;
}

static int interrupted_in(int (*body)(void *), int how) {
    struct hz_thread thread;
    arrived = 0;
    hz_start(&thread, body, &how);
    hz_until_blocked(thread.tid, -1);
    for (int i = 0; i < 5; i++) {
        HZ_TRY(hz_child(hz_nothing, NULL));
    }
    HZ_SETUP(pthread_kill(thread.id, SIGUSR1) == 0);
    while (arrived == 0) {
        hz_sleep_us(100);
    }
    if (body == reads && is_restarted(how)) {
        HZ_TRY(hz_child(hz_nothing, NULL));
        HZ_SETUP(write(pipe_ends[1], "x", 1) == 1);
    }
    return hz_finish(&thread);
}

static int interruptions(const void *arg) {
    struct hz_event stop = {0};
    struct hz_thread busy;
    (void)arg;
    HZ_SETUP(pipe(pipe_ends) == 0);
    hz_start(&busy, hz_spin, &stop);
    for (int how = BY_RESTART; how <= BY_SIGINTERRUPT_OFF; how++) {
        install(how);
        for (int i = 0; i < 10; i++) {
            HZ_TRY(interrupted_in(reads, how));
            HZ_TRY(interrupted_in(polls, how));
        }
    }
    hz_post(&stop);
    return hz_finish(&busy);
}

/* ---- what is executed ---- */

enum { LOOKS = 5 };
static const char *const looked_at[LOOKS] = {"SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:"};

struct look {
    unsigned long sets[LOOKS];
};

static int parse_look(const char *text, struct look *look) {
    for (int i = 0; i < LOOKS; i++) {
        const char *at = strstr(text, looked_at[i]);
        if (at == NULL) {
            hz_say("no %s in what was executed", looked_at[i]);
            return HZ_WRONG;
        }
        look->sets[i] = strtoul(at + strlen(looked_at[i]), NULL, 16);
    }
    return HZ_OK;
}

static int read_look(int fd, struct look *look) {
    char text[8192];
    size_t size = 0;
    long got;
    while (size < sizeof text - 1 && (got = read(fd, text + size, sizeof text - 1 - size)) != 0) {
        HZ_TRUE(got > 0 || errno == EINTR);
        size += got > 0 ? (size_t)got : 0;
    }
    text[size] = '\0';
    return parse_look(text, look);
}

/* As a kernel's mask: bit n - 1 stands for signal n. */
static unsigned long as_bits(const sigset_t *set) {
    unsigned long bits = 0;
    for (int signo = 1; signo < NSIG; signo++) {
        if (sigismember(set, signo) == 1) {
            bits |= 1UL << (signo - 1);
        }
    }
    return bits;
}

static unsigned long ignored_at_start;

/* Ignored at the start, they may be handled since. */
static const unsigned long GLIBCS = 3UL << SIGSYS;

static unsigned long ignored_now(void) {
    char text[8192];
    struct look look;
    FILE *file = fopen("/proc/self/status", "r");
    HZ_SETUP(file != NULL);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    HZ_SETUP(parse_look(text, &look) == HZ_OK);
    return look.sets[3] & ~GLIBCS;
}

static char cat_path[] = "/bin/cat", status_path[] = "/proc/self/status";
static char *const cat_arguments[] = {cat_path, status_path, NULL};

/* Ways to execute cat, its output in `out`. Each returns the process to wait for. */

static pid_t by_fork(int out) {
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out, STDOUT_FILENO);
        execve(cat_path, cat_arguments, environ);
        _exit(HZ_BROKEN);
    }
    return pid;
}

static pid_t by_fork_execlp(int out) {
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out, STDOUT_FILENO);
        execlp("cat", cat_path, status_path, (char *)NULL);
        _exit(HZ_BROKEN);
    }
    return pid;
}

static pid_t by_fork_execle(int out) {
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out, STDOUT_FILENO);
        execle(cat_path, cat_path, status_path, (char *)NULL, environ);
        _exit(HZ_BROKEN);
    }
    return pid;
}

static pid_t by_fork_execvp(int out) {
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out, STDOUT_FILENO);
        execvp("cat", cat_arguments);
        _exit(HZ_BROKEN);
    }
    return pid;
}

__attribute__((noinline)) static pid_t by_vfork(int out) {
    pid_t pid = vfork();
    if (pid == 0) {
        dup2(out, STDOUT_FILENO);
        execv(cat_path, cat_arguments);
        _exit(HZ_BROKEN);
    }
    return pid;
}

static pid_t by_spawn(int out) {
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;
    HZ_SETUP(posix_spawn_file_actions_init(&actions) == 0);
    HZ_SETUP(posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO) == 0);
    errno = posix_spawn(&pid, cat_path, &actions, NULL, cat_arguments, environ);
    HZ_SETUP(errno == 0);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static pid_t by_system(int out) {
    char command[64];
    snprintf(command, sizeof command, "cat /proc/self/status >&%d", out);
    HZ_SETUP(system(command) == 0);
    return 0;
}

static int look_by_popen(struct look *look) {
    FILE *pipe_file = popen("cat /proc/self/status", "re");
    HZ_SETUP(pipe_file != NULL);
    HZ_TRY(read_look(fileno(pipe_file), look));
    HZ_IS(pclose(pipe_file), 0);
    return HZ_OK;
}

static int look_by(pid_t (*execute)(int), struct look *look) {
    int ends[2];
    if (execute == NULL) {
        return look_by_popen(look);
    }
    HZ_SETUP(pipe(ends) == 0);
    pid_t pid = execute(ends[1]);
    HZ_SETUP(pid >= 0 && close(ends[1]) == 0);
    HZ_TRY(read_look(ends[0], look));
    HZ_SETUP(close(ends[0]) == 0);
    return pid > 0 ? hz_wait(pid) : HZ_OK;
}

static int inherits_only(pid_t (*execute)(int), const sigset_t *mask) {
    struct look look;
    HZ_TRY(look_by(execute, &look));
    HZ_IS(look.sets[0], 0);
    HZ_IS(look.sets[1], 0);
    if (look.sets[2] != as_bits(mask)) {
        hz_say("the executed program blocks %lx, should block %lx", look.sets[2], as_bits(mask));
        return HZ_WRONG;
    }
    if ((look.sets[3] & ~GLIBCS) != ignored_at_start) {
        hz_say("the executed program ignores %lx, should ignore %lx", look.sets[3],
               ignored_at_start);
        return HZ_WRONG;
    }
    HZ_IS(look.sets[4], 0);
    return HZ_OK;
}

static pid_t (*const executes[])(int) = {by_fork,  by_fork_execlp, by_fork_execle, by_fork_execvp,
                                         by_vfork, by_spawn,       by_system,      NULL};
enum { EXECUTES = sizeof executes / sizeof executes[0] };

static struct hz_event executing_over;

/* With an open mask, a mask of a few, and a full one. */
static int execute_with_masks(void *arg) {
    sigset_t masks[3] = {set_of(0), set_of(SIGUSR1), all_blockable()};
    (void)arg;
    sigaddset(&masks[1], SIGRTMAX - 2);
    for (int i = 0; i < EXECUTES; i++) {
        for (int j = 0; j < 3; j++) {
            set_mask(&masks[j]);
            int by_shell = executes[i] == by_system || executes[i] == NULL;
            HZ_TRY(inherits_only(executes[i], &masks[by_shell ? 0 : j])); /* dash unblocks all */
            HZ_TRY(mask_is(&masks[j]));
        }
    }
    set_mask(&masks[0]);
    return HZ_OK;
}

static int executor(void *arg) {
    int verdict = execute_with_masks(arg);
    hz_post(&executing_over);
    return verdict;
}

static int executed_bare(const void *arg) {
    struct hz_bystander bystander;
    struct hz_thread thread, busy;
    struct hz_event stop = {0};
    (void)arg;
    signal(SIGINT, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
    HZ_SETUP(signal(SIGHUP, SIG_IGN) != SIG_ERR);
    ignored_at_start = ignored_now();
    HZ_TRY(execute_with_masks(NULL));
    hz_bystander_start(&bystander);
    HZ_TRY(execute_with_masks(NULL));
    hz_start(&busy, hz_spin, &stop);
    hz_start(&thread, executor, NULL);
    while (hz_seen(&executing_over) == 0) {
        HZ_TRY(hz_child(hz_nothing, NULL));
    }
    HZ_TRY(hz_finish(&thread));
    hz_post(&stop);
    HZ_TRY(hz_finish(&busy));
    return hz_bystander_stop(&bystander);
}

/* What a process that takes its mask back between vfork and exec hands on (Python's subprocess and
 * others). */
__attribute__((noinline)) static pid_t by_vfork_unblocked(int out) {
    sigset_t full = all_signals(), old;
    set_mask(&full);
    old = set_of(SIGUSR2);
    pid_t pid = vfork();
    if (pid == 0) {
        dup2(out, STDOUT_FILENO);
        sigprocmask(SIG_SETMASK, &old, NULL);
        execv(cat_path, cat_arguments);
        _exit(HZ_BROKEN);
    }
    return pid;
}

__attribute__((noinline)) static pid_t by_vfork_blocked(int out) {
    sigset_t full = all_signals();
    pid_t pid = vfork();
    if (pid == 0) {
        dup2(out, STDOUT_FILENO);
        sigprocmask(SIG_BLOCK, &full, NULL);
        execv(cat_path, cat_arguments);
        _exit(HZ_BROKEN);
    }
    return pid;
}

static int masked_between(const void *arg) {
    struct hz_bystander bystander;
    sigset_t none = set_of(0), usr2 = set_of(SIGUSR2), all = all_blockable();
    (void)arg;
    ignored_at_start = ignored_now();
    set_mask(&none);
    hz_bystander_start(&bystander);
    for (int i = 0; i < 10; i++) {
        HZ_TRY(inherits_only(by_vfork_unblocked, &usr2));
        HZ_TRY(mask_is(&all));
        set_mask(&none);
        HZ_TRY(inherits_only(by_vfork_blocked, &all));
        HZ_TRY(mask_is(&none));
        HZ_TRY(hz_child(hz_nothing, NULL));
    }
    return hz_bystander_stop(&bystander);
}

/* One thread executes, while others fork: what was on its way to it must not reach the new program.
 */
static int fork_for_ever(void *arg) {
    (void)arg;
    for (;;) {
        pid_t pid = fork();
        if (pid == 0) {
            _exit(0);
        }
        if (pid > 0) {
            waitpid(pid, NULL, 0);
        }
    }
    return HZ_OK;
}

static int execute_beside_forks(void *arg) {
    struct hz_thread forker;
    const unsigned turns = *(unsigned *)arg;
    hz_start(&forker, fork_for_ever, NULL);
    for (volatile unsigned i = 0; i < turns; i = i + 1) {
    }
    char true_path[] = "/bin/true";
    char *const arguments[] = {true_path, NULL};
    execv(true_path, arguments);
    return HZ_BROKEN;
}

static int exec_race(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    hz_bystander_start(&bystander);
    for (unsigned i = 0; i < 300; i++) {
        unsigned turns = 200000 + i * 7919 % 400000;
        HZ_TRY(hz_child(execute_beside_forks, &turns));
    }
    return hz_bystander_stop(&bystander);
}

/* A program that was started with all signals blocked: its threads inherit that. */
static int started_blocked(const void *arg) {
    sigset_t full = all_signals();
    char path[PATH_MAX] = "", here[] = "--here", name[] = "sig_started_blocked";
    char *const arguments[] = {path, here, name, NULL};
    (void)arg;
    if (getenv("SIGNALS_AGAIN") == NULL) {
        set_mask(&full);
        setenv("SIGNALS_AGAIN", "1", 1);
        HZ_SETUP(readlink("/proc/self/exe", path, sizeof path - 1) > 0);
        execv(path, arguments);
        return HZ_BROKEN;
    }
    sigset_t all = all_blockable();
    struct spinner spinner = {.inherits = all};
    HZ_TRY(mask_is(&all));
    HZ_TRY(forks_stay_fast(&spinner, NULL));
    HZ_TRY(hz_child(mask_is, &all));
    return mask_is(&all);
}

static const struct hazard hazards[] = {
    HAZARD("sig_blocked_before_threads", blocked_before_threads, OK,
           "all signals are blocked before the first thread is made: reads back, forks stay fast"),
    HAZARD("sig_blocked_in_thread", blocked_in_thread, OK,
           "a thread blocks all signals: reads back, forks stay fast"),
    HAZARD("sig_blocked_by_attribute", blocked_by_attribute, OK,
           "the same by pthread_attr_setsigmask_np"),
    HAZARD("sig_started_blocked", started_blocked, OK,
           "the program is started with all signals blocked"),
    HAZARD("sig_jumps_restore_masks", jumps_restore_masks, OK,
           "siglongjmp takes back the mask that was saved"),
    HAZARD("sig_named_late", named_late, OK,
           "all is blocked, then real-time signals are named: they stay blocked"),
    HAZARD("sig_masks_one_by_one", masks_one_by_one, OK,
           "each signal blocked and unblocked by itself reads back"),
    HAZARD("sig_actions_read_back", actions_read_back, OK,
           "sigaction of all signals shows what the program set, and nothing else"),
    HAZARD("sig_every_real_time", every_real_time_signal, OK,
           "the program takes every real-time signal, one after the other"),
    HAZARD("sig_by_old_names", by_old_names, OK, "real-time signals by sigset, sighold, sigignore"),
    HAZARD("sig_real_time_kills", real_time_kills, OK,
           "a real-time signal that nobody handles kills, by raise, pthread_kill and sigqueue"),
    HAZARD("sig_full_set_acceptors", full_set_acceptors, OK,
           "sigwait, sigwaitinfo, sigtimedwait and signalfd of a full set: the program's signals"),
    HAZARD("sig_full_set_each", full_set_each, OK,
           "the same, for each real-time signal, named nowhere else"),
    HAZARD("sig_pending", pending_reads_back, OK, "sigpending shows what is pending, no more"),
    HAZARD("sig_queued_to_forker", queued_to_forker, OK,
           "queued signals to a process: the forking thread gets each once, in order"),
    HAZARD("sig_queued_to_anybody", queued_to_anybody, OK, "the same to any thread: each once"),
    HAZARD("sig_sigchld", sigchld_reaps_all, OK, "three threads fork; SIGCHLD's handler reaps"),
    HAZARD("sig_timers", timers, OK, "timers by signal and to one thread, overruns counted"),
    HAZARD("sig_stack_never_used", stack_never_used, OK,
           "an alternate stack of 2048 bytes that nothing of the program's runs on"),
    HAZARD("sig_stack_small", stack_just_large_enough, OK,
           "an alternate stack with room for a small handler only"),
    HAZARD_OF("sig_stack_in_use", stack_in_use, &no, OK,
              "a handler stays on a small alternate stack, beside forks"),
    HAZARD_OF("sig_stack_in_use_early", stack_in_use, &yes, OK,
              "the same, the handler installed before that stack was made"),
    HAZARD("sig_stack_usual", stack_usual, OK, "an alternate stack of 64 KB"),
    HAZARD_OF("sig_long_handler", long_handler, &no, OK,
              "a handler that blocks all signals runs for long: forks stay fast"),
    HAZARD_OF("sig_long_handler_early", long_handler, &yes, OK,
              "the same, installed before the first thread is made"),
    HAZARD("sig_fault_jumps", fault_jumps, OK, "SIGSEGV handlers that siglongjmp"),
    HAZARD("sig_fault_mends", fault_mends, OK, "SIGSEGV handlers that mprotect and return"),
    HAZARD_CHANCE("sig_profiled", profiled, NULL, EITHER, "SIGPROF at 1 kHz beside locks"),
    HAZARD_CHANCE("sig_handler_locks", handler_locks, NULL, RARELY,
                  "the handler of a busy thread takes a lock"),
    HAZARD_PATIENT(
        "sig_handler_locks_over_malloc", handler_locks_over_malloc, NULL, OK,
        "the handler that takes a lock has interrupted malloc, in threads that wait to run"),
    HAZARD_CHANCE(
        "sig_waiters_handler_locks", waiters_handler_locks, NULL, RARELY,
        "a thread holds a lock and waits for the forking thread's; its handler takes another"),
    HAZARD_CHANCE("sig_handler_forks", handler_forks, NULL, RARELY,
                  "handlers fork in a busy thread, in one that locks, and in the middle of forks"),
    HAZARD("sig_callbacks_fork", callbacks_fork, OK,
           "a program without threads forks, and so do its timer's callbacks"),
    HAZARD_OF("sig_jump_out_of_read", jumps, &out_of_read, OK, "siglongjmp out of read"),
    HAZARD_OF("sig_jump_out_of_poll", jumps, &out_of_poll, OK, "siglongjmp out of poll"),
    HAZARD_OF("sig_jump_out_of_sigsuspend", jumps, &out_of_sigsuspend, OK,
              "siglongjmp out of sigsuspend"),
    HAZARD_OF("sig_jump_out_of_lock", jumps, &out_of_lock, OK, "siglongjmp out of a lock wait"),
    HAZARD("sig_jump_out_of_glob", jumps_out_of_glob, OK,
           "siglongjmp out of a handler in a callback of glob"),
    HAZARD("sig_interruptions", interruptions, OK,
           "EINTR where the program's own handler gives it, and a restart where that restarts"),
    HAZARD("sig_executed", executed_bare, OK,
           "mask, ignored, caught and pending signals of what is executed, by every way"),
    HAZARD("sig_executed_masked_between", masked_between, OK,
           "the same where the mask is changed between vfork and exec"),
    HAZARD("sig_exec_race", exec_race, OK, "one thread executes while another forks"),
};
HAZARD_MAIN(hazards)
