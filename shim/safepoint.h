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

/* Loads the unwinder and looks the modules up. Once, before the second thread is made; loads
 * libraries, so not in a signal handler. */
void fs_safepoint_init(void);

/* True if the instruction address is in an opaque module. Async-signal-safe, takes no lock. */
bool fs_is_opaque(uintptr_t address);

/* True if no frame that matters is in an opaque module. Walks the stack of a thread that does not
 * run, from where it stands; called by the forking thread alone. `by_signal`: the thread was
 * stopped at an arbitrary instruction; otherwise it stands at the gate, which is safe but for what
 * a signal handler below it may have interrupted. Takes no lock of libc or of the dynamic linker.
 */
bool fs_is_safe_point(const greg_t *registers, bool by_signal);

#endif
