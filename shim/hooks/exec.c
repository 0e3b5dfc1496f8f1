/* exec and posix_spawn. What is executed inherits the mask that the program set, and nothing that is
 * pending: a suspend signal on its way to a thread that executes would kill the new program, which
 * has no handler for it. So the caller is DETACHED, and nobody sends it one. */
#include "hook.h"

#include <stdarg.h>

#include "../suspend.h"

struct handing_on {
    struct fs_thread *self; /* NULL: nothing to take back */
    uint32_t before;
    bool detached;
    fs_sigset mask;
};

/* The record of a vfork's child is its parent's, whose state must stay as it is. */
static struct handing_on hand_on(void) {
    struct handing_on state = {.self = fs_current()};
    if (state.self != NULL) {
        state.detached = !fs_in_vfork_child();
        if (state.detached) {
            state.before = fs_detach(state.self);
        }
        state.mask = fs_suspend_show(state.self);
    }
    return state;
}

static void take_back(const struct handing_on *state) {
    if (state->self != NULL) {
        fs_signals_restore(state->mask);
        if (state->detached) {
            fs_attach(state->self, state->before);
        }
    }
}

#define HANDS_ON(name, parameters, arguments)                                                      \
    FS_EXPORT int name parameters {                                                                \
        struct handing_on state = hand_on();                                                       \
        int result = fs_real.name arguments;                                                       \
        take_back(&state);                                                                         \
        return result;                                                                             \
    }

HANDS_ON(execve, (const char *path, char *const argv[], char *const envp[]), (path, argv, envp))
HANDS_ON(execv, (const char *path, char *const argv[]), (path, argv))
HANDS_ON(execvp, (const char *file, char *const argv[]), (file, argv))
HANDS_ON(execvpe, (const char *file, char *const argv[], char *const envp[]), (file, argv, envp))
HANDS_ON(fexecve, (int fd, char *const argv[], char *const envp[]), (fd, argv, envp))
HANDS_ON(execveat, (int fd, const char *path, char *const argv[], char *const envp[], int flags),
         (fd, path, argv, envp, flags))
#define SPAWN(name)                                                                                \
    HANDS_ON(name,                                                                                 \
             (pid_t *restrict pid, const char *restrict file,                                      \
              const posix_spawn_file_actions_t *restrict actions,                                  \
              const posix_spawnattr_t *restrict attr, char *const argv[restrict],                  \
              char *const envp[restrict]),                                                         \
             (pid, file, actions, attr, argv, envp))
SPAWN(posix_spawn)
SPAWN(posix_spawnp)

/* The arguments, up to a null pointer, in an array on the caller's stack; `list` is left behind it. */
#define COLLECT(argv, first, list)                                                                 \
    va_list list;                                                                                  \
    va_start(list, first);                                                                         \
    size_t argv##_count = 1;                                                                       \
    while (va_arg(list, char *) != NULL) {                                                         \
        argv##_count++;                                                                            \
    }                                                                                              \
    va_end(list);                                                                                  \
    char *argv[argv##_count + 1];                                                                  \
    argv[0] = (char *)(uintptr_t)first;                                                            \
    va_start(list, first);                                                                         \
    for (size_t i = 1; i <= argv##_count; i++) {                                                   \
        argv[i] = va_arg(list, char *);                                                            \
    }

FS_EXPORT int execl(const char *path, const char *first, ...) {
    COLLECT(argv, first, list);
    va_end(list);
    return execv(path, argv);
}

FS_EXPORT int execlp(const char *file, const char *first, ...) {
    COLLECT(argv, first, list);
    va_end(list);
    return execvp(file, argv);
}

FS_EXPORT int execle(const char *path, const char *first, ...) {
    COLLECT(argv, first, list);
    char *const *envp = va_arg(list, char *const *);
    va_end(list);
    return execve(path, argv, envp);
}
