/* safepoint.h - is a parked thread inside code whose locks forksafe cannot see?
 *
 * Such a module is called opaque: libc, the dynamic linker, libunwind, and those
 * named in FORKSAFE_OPAQUE. A thread parked inside one could hold a lock that the fork itself needs
 * (malloc's), or that nobody can give back in the child. */
#ifndef FS_SAFEPOINT_H
#define FS_SAFEPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

/* Looks libc and the dynamic linker up. Before the second thread is made. */
void fs_safepoint_init(void);

/* Loads libunwind, the first time. Not earlier than stacks have to be walked: each of its mappings
 * is one more that a fork copies. Loads libraries, so not in a signal handler. Where it cannot be
 * had, stacks are not walked: the program counter alone decides. */
void fs_unwinder_load(void);

/* True if the instruction address is in an opaque module. Async-signal-safe, takes no lock. */
bool fs_is_opaque(uintptr_t address);

enum fs_standing {
    FS_INTERRUPTED, /* stopped by a signal, at any instruction */
    FS_AT_A_CALL,   /* parked in a hook, which is safe but for what a signal handler that called it
                       may have interrupted */
    FS_AT_A_CALL_THAT_MAY_RETURN, /* asleep in a hook: may wake up and go meanwhile */
};

/* True if no frame that matters is in an opaque module. Walks the stack of another thread from where
 * it stands; called by the forking thread alone. Takes no lock of libc or of the dynamic linker. */
bool fs_is_safe_point(const greg_t *registers, enum fs_standing standing);

/* True if it seems that who has this frame is in a signal handler of the program that interrupted opaque code, or ours:
 * beyond the frame is what the kernel pushes for one, or what is left of it. The stack is the caller's own, or that of a
 * thread that does not run. Takes no lock, any number at once. */
bool fs_seems_to_interrupt_opaque(uintptr_t frame);
bool fs_seems_to_interrupt_us(uintptr_t frame);

/* Stores the instruction addresses of a stack, from where it stands outwards, up to `room`; returns
 * how many. The stack must stay: the caller's own, or that of a thread that does not run. Any
 * thread, in a signal handler too. */
unsigned fs_walk_stack(const greg_t *registers, uintptr_t *stack, unsigned room);

/* Walks are one at a time: libunwind's pools, and what is known of pages, serve one. A fork holds
 * the lock, so that in the child nobody is inside a walk. With signals blocked. */
void fs_walk_lock(void);
void fs_walk_unlock(void);
struct fs_thread;
/* In the child: whoever had it has vanished, or is the caller. */
void fs_walk_alone(struct fs_thread *self);

#endif
