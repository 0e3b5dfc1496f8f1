/* real.h - the functions behind the intercepted names.
 *
 * One pointer a name, filled at start-up from intercepts.def. The next definition after ours is
 * taken (RTLD_NEXT), so that other preloaded libraries keep their place in the chain. */
#ifndef FS_REAL_H
#define FS_REAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <link.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

/* Names that no public header declares. */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso);
int __cxa_guard_acquire(uint64_t *guard);
void __cxa_guard_release(uint64_t *guard);
void __cxa_guard_abort(uint64_t *guard);
size_t __strftime_l(char *to, size_t size, const char *format, const struct tm *time,
                    locale_t locale);
ssize_t __read_chk(int fd, void *buffer, size_t count, size_t size);
ssize_t __pread_chk(int fd, void *buffer, size_t count, off_t offset, size_t size);
ssize_t __pread64_chk(int fd, void *buffer, size_t count, off64_t offset, size_t size);
ssize_t __recv_chk(int fd, void *buffer, size_t count, size_t size, int flags);
ssize_t __recvfrom_chk(int fd, void *buffer, size_t count, size_t size, int flags,
                       struct sockaddr *address, socklen_t *length);
int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t size);
int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                const sigset_t *mask, size_t size);
__sighandler_t sysv_signal(int signo, __sighandler_t handler);
__sighandler_t __sysv_signal(int signo, __sighandler_t handler);
__sighandler_t bsd_signal(int signo, __sighandler_t handler);
__sighandler_t ssignal(int signo, __sighandler_t handler);

struct fs_real {
#define FS_FUNCTION(name) __typeof__(name) *name;
#define FS_VERSIONED(name, version) __typeof__(name) *name;
#define FS_ALIAS(name)
#include "intercepts.def"
#undef FS_FUNCTION
#undef FS_VERSIONED
#undef FS_ALIAS
    __typeof__(dladdr) *dladdr;
};
extern struct fs_real fs_real;

void fs_real_init(void);

/* A definition of `name` that RTLD_NEXT cannot see, since its library was loaded with RTLD_LOCAL:
 * looked for in the C++ runtimes. NULL if there is none. */
void *fs_real_late(const char *name);

/* Marks the intercepted names: the only ones exported. */
#define FS_EXPORT __attribute__((visibility("default")))

#endif
