/* Calls that may sleep, from blocking.def, and fcntl and syscall, which may. */
#include "hook.h"

#include <stdarg.h>

/* The `before` state must be gone back to before a look at errno, so errno is kept by fs_attach. */
#define FS_BLOCKING(type, name, parameters, arguments)                                             \
    FS_EXPORT type name parameters {                                                               \
        struct fs_thread *self = fs_current();                                                     \
        if (fs_unlikely(self == NULL)) {                                                           \
            return fs_real.name arguments;                                                         \
        }                                                                                          \
        uint32_t before = fs_detach(self);                                                         \
        type result = fs_real.name arguments;                                                      \
        fs_attach(self, before);                                                                   \
        return result;                                                                             \
    }
#include "blocking.def"
#undef FS_BLOCKING

static bool may_sleep(int command) {
    return command == F_SETLKW || command == F_OFD_SETLKW || command == F_SETLEASE;
}

/* fcntl's third argument is an int or a pointer; either way it comes in the same register. */
static int do_fcntl(__typeof__(fcntl) *real, int fd, int command, void *argument) {
    struct fs_thread *self = may_sleep(command) ? fs_current() : NULL;
    if (fs_likely(self == NULL)) {
        return real(fd, command, argument);
    }
    uint32_t before = fs_detach(self);
    int result = real(fd, command, argument);
    fs_attach(self, before);
    return result;
}

#define FCNTL(name)                                                                                \
    FS_EXPORT int name(int fd, int command, ...) {                                                 \
        va_list list;                                                                              \
        va_start(list, command);                                                                   \
        void *argument = va_arg(list, void *);                                                     \
        va_end(list);                                                                              \
        fs_current(); /* fills fs_real */                                                          \
        return do_fcntl(fs_real.name, fd, command, argument);                                      \
    }
FCNTL(fcntl)
FCNTL(fcntl64)
