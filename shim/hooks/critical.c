/* Calls that take a lock of libc's own, from critical.def. */
#include "hook.h"

#include <stdarg.h>

const struct fs_libc_lock fs_libc_locks[FS_LOCK_COUNT] = {
#define FS_CRITICAL_LOCK(lock, kin) [FS_LOCK_##lock] = {kin, false},
#define FS_CRITICAL_LOCK_FREED(lock, kin) [FS_LOCK_##lock] = {kin, true},
#include "critical.def"
};

#define FS_CRITICAL(type, name, parameters, arguments, lock)                                       \
    FS_EXPORT type name parameters {                                                               \
        FS_CRITICAL_INFO fs_info = {#name, FS_LOCK_##lock, false};                                 \
        FS_INSIDE(fs_info);                                                                        \
        return fs_real.name arguments;                                                             \
    }
static void cancelled(void *inside) { fs_come_out(inside); }
#define FS_CRITICAL_UNLESS_ASLEEP(type, name, parameters, arguments, lock)                         \
    FS_EXPORT type name parameters {                                                               \
        FS_CRITICAL_INFO fs_info = {#name, FS_LOCK_##lock, true};                                  \
        FS_INSIDE(fs_info);                                                                        \
        return FS_CANCELLABLE(cancelled, &inside, fs_real.name arguments);                         \
    }
#define FS_CRITICAL_WHEN(type, name, parameters, arguments, lock, condition)                       \
    FS_EXPORT type name parameters {                                                               \
        FS_CRITICAL_INFO fs_info = {#name, FS_LOCK_##lock, false};                                 \
        fs_current(); /* fills fs_real */                                                          \
        if (!(condition)) {                                                                        \
            return fs_real.name arguments;                                                         \
        }                                                                                          \
        FS_INSIDE(fs_info);                                                                        \
        return fs_real.name arguments;                                                             \
    }
#define FS_CRITICAL_VARIADIC(type, name, parameters, last, v, arguments, lock)                     \
    FS_EXPORT type name parameters {                                                               \
        FS_CRITICAL_INFO fs_info = {#name, FS_LOCK_##lock, false};                                 \
        FS_INSIDE(fs_info);                                                                        \
        va_list list;                                                                              \
        va_start(list, last);                                                                      \
        type result = fs_real.v arguments;                                                         \
        va_end(list);                                                                              \
        return result;                                                                             \
    }
#define FS_CRITICAL_VARIADIC_VOID(name, parameters, last, v, arguments, lock)                      \
    FS_EXPORT void name parameters {                                                               \
        FS_CRITICAL_INFO fs_info = {#name, FS_LOCK_##lock, false};                                 \
        FS_INSIDE(fs_info);                                                                        \
        va_list list;                                                                              \
        va_start(list, last);                                                                      \
        fs_real.v arguments;                                                                       \
        va_end(list);                                                                              \
    }
#include "critical.def"

/* sysdeps/pthread/sem_open.c has no v-function: the mode and the value are passed on. */
FS_EXPORT sem_t *sem_open(const char *name, int flags, ...) {
    FS_CRITICAL_INFO fs_info = {"sem_open", FS_LOCK_sem_mappings_lock, false};
    FS_INSIDE(fs_info);
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    unsigned value = va_arg(list, unsigned);
    va_end(list);
    return fs_real.sem_open(name, flags, mode, value);
}

/* The same functions under both names: librt's, and libc's since it took librt in. */
FS_ALSO_AT(timer_create, "GLIBC_2.3.3");
FS_ALSO_AT(timer_delete, "GLIBC_2.3.3");
FS_ALSO_AT(lio_listio, "GLIBC_2.4");
FS_ALSO_AT(lio_listio64, "GLIBC_2.4");
