/* Calls that take a lock of libc's own, from critical.def. */
#include "hook.h"

#define FS_CRITICAL_LOCK(lock, kin) static const char lock##_kin[] = kin;
#define FS_CRITICAL(type, name, parameters, arguments, lock)                                       \
    FS_EXPORT type name parameters {                                                               \
        static const struct fs_critical info = {#name, lock##_kin};                                \
        FS_PASS_CRITICAL(info, fs_real.name arguments);                                            \
    }
#define FS_CRITICAL_VOID(name, parameters, arguments, lock)                                        \
    FS_EXPORT void name parameters {                                                               \
        static const struct fs_critical info = {#name, lock##_kin};                                \
        struct fs_thread *self = fs_current();                                                     \
        uint32_t slot = fs_likely(self != NULL) ? fs_enter_critical(self, &info, FS_CALLER()) : 0; \
        fs_real.name arguments;                                                                    \
        if (fs_likely(self != NULL)) {                                                             \
            fs_leave(self, &info, slot);                                                           \
        }                                                                                          \
    }
#include "critical.def"
#undef FS_CRITICAL_LOCK
#undef FS_CRITICAL
#undef FS_CRITICAL_VOID
