/* hook.h - what the hooks share. A hook notes, calls the real function, notes, and keeps errno as
 * the real function left it. A thread without a record (fs_current() is NULL) goes straight
 * through. */
#ifndef FS_HOOK_H
#define FS_HOOK_H

#include <errno.h>

#include "../inventory.h"
#include "../real.h"
#include "../registry.h"
#include "../world.h"

/* A lock call returned `error`: 0 and EOWNERDEAD mean that the caller has it. */
static inline int fs_taken(struct fs_thread *self, const void *object, uint32_t slot, int error) {
    if (fs_likely(error == 0 || error == EOWNERDEAD)) {
        fs_held(self, object, slot);
    } else {
        fs_failed(self, object, slot);
    }
    return error;
}

static inline int fs_released(struct fs_thread *self, const void *object, uint32_t slot,
                              enum fs_kind kind, int error) {
    if (fs_likely(error == 0)) {
        fs_left(self, object, slot, kind);
    } else {
        fs_kept(self, object, slot);
    }
    return error;
}

/* For the time that the surrounding block runs, the caller is inside a critical call. `info`: a
 * struct fs_critical. */
#define FS_INSIDE(info)                                                                            \
    __attribute__((cleanup(fs_come_out), unused)) struct fs_inside inside =                        \
        fs_go_inside(&(info), FS_CALLER())

struct fs_inside {
    struct fs_thread *self;
    const struct fs_critical *call;
    uint32_t slot;
};

static inline struct fs_inside fs_go_inside(const struct fs_critical *call, const void *caller) {
    struct fs_inside inside = {.self = fs_current(), .call = call};
    if (fs_likely(inside.self != NULL)) {
        inside.slot = fs_enter_critical(inside.self, call, caller);
    }
    return inside;
}

static inline void fs_come_out(const struct fs_inside *inside) {
    if (fs_likely(inside->self != NULL)) {
        fs_leave(inside->self, inside->call, inside->slot);
    }
}

/* True if a signal handler forked in the middle of the call, and we are the child: then the call may
 * have compared the caller's new identity with its old one, and failed for that alone. */
static inline bool fs_failed_by_fork(const struct fs_thread *self, const void *object,
                                     uint32_t slot, int error) {
    return fs_unlikely(error != 0) && slot < fs_entry_count(self) &&
           self->entries[slot].object == (void *)((uintptr_t)object | FS_FORKED);
}

/* The second half of a hook that takes a lock and returns 0 or an error number. */
#define FS_TAKE_AT(self, object, slot, call)                                                       \
    fs_note_frame(self, slot);                                                                     \
    int error = call;                                                                              \
    if (fs_failed_by_fork(self, object, slot, error)) {                                            \
        error = call;                                                                              \
    }                                                                                              \
    return fs_taken(self, object, slot, error)

/* The whole body of a hook that takes or releases a lock and returns 0 or an error number. */
#define FS_TAKE_FOR(caller, phase, kind, object, call)                                             \
    struct fs_thread *self = fs_current();                                                         \
    if (fs_unlikely(self == NULL)) {                                                               \
        return call;                                                                               \
    }                                                                                              \
    uint32_t slot = fs_enter_as(self, object, kind, caller, phase);                                \
    FS_TAKE_AT(self, object, slot, call)
#define FS_TAKE_AS(phase, kind, object, call) FS_TAKE_FOR(FS_CALLER(), phase, kind, object, call)
#define FS_TAKE(kind, object, call) FS_TAKE_AS(FS_TAKING, kind, object, call)
#define FS_TRY(kind, object, call) FS_TAKE_AS(FS_TRYING, kind, object, call)

#define FS_RELEASE(kind, object, call)                                                             \
    struct fs_thread *self = fs_current();                                                         \
    if (fs_unlikely(self == NULL)) {                                                               \
        return call;                                                                               \
    }                                                                                              \
    uint32_t slot = fs_leaving(self, object);                                                      \
    FS_RELEASE_AT(self, kind, object, slot, call)
#define FS_RELEASE_AT(self, kind, object, slot, call)                                              \
    int error = call;                                                                              \
    if (fs_failed_by_fork(self, object, slot, error)) {                                            \
        error = call;                                                                              \
    }                                                                                              \
    return fs_released(self, object, slot, kind, error)

#define FS_MUTEX_RELEASE(mutex, call)                                                              \
    struct fs_thread *self = fs_current();                                                         \
    if (fs_unlikely(self == NULL)) {                                                               \
        return call;                                                                               \
    }                                                                                              \
    uint32_t slot = fs_leaving(self, mutex);                                                       \
    if (fs_unlikely(slot == FS_NO_SLOT)) {                                                         \
        fs_disown_mutex(mutex);                                                                    \
    }                                                                                              \
    FS_RELEASE_AT(self, FS_KIND_MUTEX, mutex, slot, call)

/* ... that only passes through a section of libc which must not be cut by a fork. */
#define FS_PASS(kind, object, call) FS_PASS_FOR(FS_CALLER(), kind, object, call)
#define FS_PASS_FOR(caller, kind, object, call)                                                    \
    struct fs_thread *self = fs_current();                                                         \
    if (fs_unlikely(self == NULL)) {                                                               \
        return call;                                                                               \
    }                                                                                              \
    uint32_t slot = fs_enter(self, object, kind, caller);                                          \
    __typeof__(call) passed = call;                                                                \
    fs_leave(self, object, slot);                                                                  \
    return passed

/* ... that initialises or destroys a lock: whatever was recorded of it is over. */
#define FS_RENEW(object, call)                                                                     \
    struct fs_thread *self = fs_current();                                                         \
    int error = call;                                                                              \
    if (error == 0 && self != NULL) {                                                              \
        fs_forget(self, object);                                                                   \
    }                                                                                              \
    return error

/* A call that may be cancelled: `undo(argument)` then notes that it is over, before the program's cleanup
 * handlers run, which may take their time. Not for calls that call the program back: an exception would
 * leave the handler behind. */
#define FS_CANCELLABLE(undo, argument, call)                                                       \
    ({                                                                                             \
        __typeof__(call) returned;                                                                 \
        pthread_cleanup_push(undo, argument);                                                      \
        returned = call;                                                                           \
        pthread_cleanup_pop(0);                                                                    \
        returned;                                                                                  \
    })

/* Another exported name for one of ours: glibc's second names, which old binaries link to. */
#define FS_ALSO(alias, name)                                                                       \
    __asm__(".globl " #alias "\n\t.type " #alias ", @function\n\t.set " #alias ", " #name)

/* An exported name of ours under another of its versions, beside the one in exports.map.in. It has an
 * address of its own: of two versions at one address ld keeps only the hidden one, and then who asks
 * for the other passes us by. */
#define FS_ALSO_AT(name, version)                                                                  \
    __asm__(".text\n\t.globl fs_old_" #name "\n\t.type fs_old_" #name ", @function\n"              \
            "fs_old_" #name ":\n\t.cfi_startproc\n\t.set fs_same_" #name ", " #name "\n\t"         \
            "jmp fs_same_" #name "\n\t.cfi_endproc\n\t.size fs_old_" #name ", . - fs_old_" #name   \
            "\n\t.symver fs_old_" #name ", " #name "@" version ", remove")

#endif
