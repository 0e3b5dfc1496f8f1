/* Calls that take a lock of libc's own, from critical.def. The entry's object is the function. */
#include "hook.h"

#define OBJECT(name) ((void *)(uintptr_t)fs_real.name)

#define FS_CRITICAL(type, name, parameters, arguments, lock)                                       \
    FS_EXPORT type name parameters {                                                               \
        FS_PASS(FS_KIND_CRITICAL, OBJECT(name), fs_real.name arguments);                           \
    }
#define FS_CRITICAL_VOID(name, parameters, arguments, lock)                                        \
    FS_EXPORT void name parameters {                                                               \
        struct fs_thread *self = fs_current();                                                     \
        uint32_t slot = 0;                                                                         \
        if (fs_likely(self != NULL)) {                                                             \
            slot = fs_enter(self, OBJECT(name), FS_KIND_CRITICAL, FS_CALLER());                    \
        }                                                                                          \
        fs_real.name arguments;                                                                    \
        if (fs_likely(self != NULL)) {                                                             \
            fs_leave(self, OBJECT(name), slot);                                                    \
        }                                                                                          \
    }
#include "critical.def"
#undef FS_CRITICAL
#undef FS_CRITICAL_VOID
