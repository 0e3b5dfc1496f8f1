/* Signals: the program does not see the suspend signal, cannot block it, and may have its number.
 */
#include "hook.h"

#include "../safepoint.h"
#include "../suspend.h"

/* --- actions --------------------------------------------------------------------------------- */

/* Nobody forks while an action is changed: the suspend signal may be on the move. */
FS_CRITICAL_INFO changing = {"sigaction", FS_LOCK_NONE, false};

/* Before the action is set: from then on the handler must not run while we park. */
static void note_handler(int signo, __sighandler_t handler) {
    if (handler != SIG_DFL && handler != SIG_IGN && signo > 0 && signo < _NSIG) {
        fs_program_handles(signo);
    }
}

static int set_action(int signo, const struct sigaction *action, struct sigaction *old) {
    fs_suspend_give_way(signo);
    const sigset_t mask = action->sa_mask; /* `old` may be the same */
    struct sigaction open = *action;
    fs_mask_to_kernel(&open);
    note_handler(signo, action->sa_handler);
    int result = fs_real.sigaction(signo, &open, old);
    if (result == 0) {
        if (old != NULL) {
            fs_mask_to_program(signo, old);
        }
        fs_mask_note(signo, &mask);
    }
    return result;
}

static int get_action(int signo, struct sigaction *old) {
    int ours = fs_suspend_signal();
    if (ours != 0 && signo == ours) {
        *old = (struct sigaction){.sa_handler = SIG_DFL};
        return 0;
    }
    int result = fs_real.sigaction(signo, NULL, old);
    if (result == 0) {
        fs_mask_to_program(signo, old);
    }
    return result;
}

FS_EXPORT int sigaction(int signo, const struct sigaction *restrict action,
                        struct sigaction *restrict old) {
    struct fs_thread *self = fs_current();
    if (self == NULL || (action == NULL && old == NULL) || fs_in_vfork_child()) {
        return fs_real.sigaction(signo, action, old);
    }
    uint32_t slot = fs_enter_critical(self, &changing, FS_CALLER());
    int result = action != NULL ? set_action(signo, action, old) : get_action(signo, old);
    fs_leave(self, &changing, slot);
    return result;
}

FS_ALSO(__sigaction, sigaction);

/* signal() and its relatives differ in flags only, and set no mask: the real one does the work. */
#define SIGNAL(name)                                                                               \
    FS_EXPORT __sighandler_t name(int signo, __sighandler_t handler) {                             \
        struct fs_thread *self = fs_current();                                                     \
        if (self == NULL || fs_in_vfork_child()) {                                                 \
            return fs_real.name(signo, handler);                                                   \
        }                                                                                          \
        uint32_t slot = fs_enter_critical(self, &changing, FS_CALLER());                           \
        fs_suspend_give_way(signo);                                                                \
        note_handler(signo, handler);                                                              \
        __sighandler_t old = fs_real.name(signo, handler);                                         \
        if (old != SIG_ERR) {                                                                      \
            fs_mask_note(signo, &(sigset_t){{0}});                                                 \
        }                                                                                          \
        fs_leave(self, &changing, slot);                                                           \
        return old;                                                                                \
    }
SIGNAL(signal)
SIGNAL(bsd_signal)
SIGNAL(ssignal)
SIGNAL(sysv_signal)
SIGNAL(__sysv_signal)
SIGNAL(
    sigset) /* may also change the mask, as sighold() does: a signal named by itself is not ours */

#define SIGNAL_NAMED(name)                                                                         \
    FS_EXPORT int name(int signo) {                                                                \
        struct fs_thread *self = fs_current();                                                     \
        if (self != NULL && signo == fs_suspend_signal() && signo != 0 && !fs_in_vfork_child()) {  \
            uint32_t slot = fs_enter_critical(self, &changing, FS_CALLER());                       \
            fs_suspend_give_way(signo);                                                            \
            fs_leave(self, &changing, slot);                                                       \
        }                                                                                          \
        return fs_real.name(signo);                                                                \
    }
SIGNAL_NAMED(sighold)
SIGNAL_NAMED(sigrelse)
SIGNAL_NAMED(sigignore)

/* --- the alternate stack --------------------------------------------------------------------- */

FS_EXPORT int sigaltstack(const stack_t *restrict stack, stack_t *restrict old) {
    struct fs_thread *self = fs_current();
    if (self != NULL && stack != NULL && (stack->ss_flags & SS_DISABLE) == 0 &&
        !fs_in_vfork_child()) {
        uint32_t slot = fs_enter_critical(self, &changing, FS_CALLER());
        fs_suspend_on_stack(stack->ss_size);
        fs_leave(self, &changing, slot);
    }
    return fs_real.sigaltstack(stack, old);
}

/* --- masks ----------------------------------------------------------------------------------- */

/* True if the set names the suspend signal by itself, and not because it holds all signals or nearly
 * all: then the program means it, and gets it (suspend.h). */
static bool is_meant(const sigset_t *set, int ours) {
    return sigismember(set, ours) == 1 && !fs_is_nearly_full(set);
}

/* Returns the suspend signal as it is afterwards. */
static int give_way_to(const sigset_t *set) {
    int ours = fs_suspend_signal();
    struct fs_thread *self = fs_self;
    if (fs_unlikely(set != NULL && ours != 0 && self != NULL && is_meant(set, ours)) &&
        !fs_in_vfork_child()) {
        uint32_t slot = fs_enter_critical(self, &changing, FS_CALLER());
        fs_suspend_give_way(ours);
        fs_leave(self, &changing, slot);
    }
    return fs_suspend_signal();
}

/* What the program believes: blocked or not. */
static bool next_belief(bool now, int how, bool in_set) {
    switch (how) {
    case SIG_BLOCK:
        return now || in_set;
    case SIG_UNBLOCK:
        return now && !in_set;
    default:
        return in_set;
    }
}

/* libunwind, which blocks all signals where it takes its locks, is not the program. */
static int change_mask(__typeof__(sigprocmask) *real, int how, const sigset_t *set, sigset_t *old,
                       const void *caller) {
    struct fs_thread *self = fs_current();
    if (self == NULL || fs_is_opaque((uintptr_t)caller) ||
        (fs_suspend_signal() == 0 && self->follows == 0)) {
        return real(how, set, old);
    }
    if (fs_unlikely(self->follows != 0)) {
        fs_suspend_follow(self);
    }
    int ours = how != SIG_UNBLOCK ? give_way_to(set) : fs_suspend_signal();
    if (ours == 0) {
        return real(how, set, old);
    }
    bool believed = fs_believes_masked(self);
    sigset_t open;
    bool in_set = false;
    if (set != NULL) {
        open = *set;
        in_set = sigismember(&open, ours) == 1;
        sigdelset(&open, ours);
    }
    int result = real(how, set != NULL ? &open : NULL, old);
    if (result == 0) {
        if (set != NULL) {
            fs_set_believes_masked(self, next_belief(believed, how, in_set));
        }
        if (old != NULL && believed) {
            sigaddset(old, ours);
        }
    }
    return result;
}

FS_EXPORT int sigprocmask(int how, const sigset_t *restrict set, sigset_t *restrict old) {
    return change_mask(fs_real.sigprocmask, how, set, old, FS_CALLER());
}

FS_EXPORT int pthread_sigmask(int how, const sigset_t *restrict set, sigset_t *restrict old) {
    return change_mask(fs_real.pthread_sigmask, how, set, old, FS_CALLER());
}

/* --- accepting signals -------------------------------------------------------------------------
 */

static const sigset_t *without_ours(const sigset_t *set, sigset_t *copy) {
    int ours = give_way_to(set);
    if (ours == 0 || set == NULL) {
        return set;
    }
    *copy = *set;
    sigdelset(copy, ours);
    return copy;
}

#define ACCEPT(call)                                                                               \
    sigset_t copy;                                                                                 \
    struct fs_thread *self = fs_current();                                                         \
    set = without_ours(set, &copy);                                                                \
    if (self == NULL) {                                                                            \
        return call;                                                                               \
    }                                                                                              \
    uint32_t before = fs_detach(self);                                                             \
    int result = call;                                                                             \
    fs_attach(self, before);                                                                       \
    return result

FS_EXPORT int sigwait(const sigset_t *restrict set, int *restrict signo) {
    ACCEPT(fs_real.sigwait(set, signo));
}

FS_EXPORT int sigwaitinfo(const sigset_t *restrict set, siginfo_t *restrict info) {
    ACCEPT(fs_real.sigwaitinfo(set, info));
}

FS_EXPORT int sigtimedwait(const sigset_t *restrict set, siginfo_t *restrict info,
                           const struct timespec *restrict timeout) {
    ACCEPT(fs_real.sigtimedwait(set, info, timeout));
}

FS_EXPORT int signalfd(int fd, const sigset_t *set, int flags) {
    sigset_t copy;
    fs_current(); /* fills fs_real */
    return fs_real.signalfd(fd, without_ours(set, &copy), flags);
}
