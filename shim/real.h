/* real.h - the functions behind the intercepted names.
 *
 * One pointer a name, filled at start-up from intercepts.def. The next definition after ours is
 * taken (RTLD_NEXT), so that other preloaded libraries keep their place in the chain. */
#ifndef FS_REAL_H
#define FS_REAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <aio.h>
#include <aliases.h>
#include <dirent.h>
#include <dlfcn.h>
#include <err.h>
#include <execinfo.h>
#include <fcntl.h>
#include <fmtmsg.h>
#include <glob.h>
#include <grp.h>
#include <gshadow.h>
#include <iconv.h>
#include <libintl.h>
#include <link.h>
#include <locale.h>
#include <mqueue.h>
#include <netdb.h>
#include <netinet/ether.h>
#include <netinet/in.h>
#include <poll.h>
#include <printf.h>
#include <pthread.h>
#include <pty.h>
#include <pwd.h>
#include <regex.h>
#include <rpc/netdb.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <shadow.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <syslog.h>
#include <termios.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>
#include <utmpx.h>
#include <wchar.h>
#include <wordexp.h>

#include "arch.h"

/* Macros in libintl.h. */
#undef gettext
#undef dgettext
#undef dcgettext
#undef ngettext
#undef dngettext

/* resolv.h has macros for names as common as p_type. */
typedef struct __res_state *res_state;

/* Names that no public header declares. */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso);
int __cxa_guard_acquire(uint64_t *guard);
void __cxa_guard_release(uint64_t *guard);
void __cxa_guard_abort(uint64_t *guard);
__sighandler_t sysv_signal(int signo, __sighandler_t handler);
__sighandler_t __sysv_signal(int signo, __sighandler_t handler);
__sighandler_t bsd_signal(int signo, __sighandler_t handler);
__sighandler_t ssignal(int signo, __sighandler_t handler);

struct fs_real {
#define FS_FUNCTION(name) __typeof__(name) *name;
#define FS_TYPED(type, name, parameters) type(*name) parameters;
#define FS_VERSIONED(name, version) __typeof__(name) *name;
#define FS_ALIAS(name)
#include "intercepts.def"
#undef FS_FUNCTION
#undef FS_VERSIONED
#undef FS_ALIAS
    __typeof__(dladdr) *dladdr;
    __typeof__(pthread_kill) *pthread_kill_225; /* GLIBC_2.2.5 */
};
extern FS_HIDDEN struct fs_real fs_real;

void fs_real_init(void);

/* A definition of `name` that RTLD_NEXT cannot see, since its library was loaded with RTLD_LOCAL:
 * looked for in the C++ runtimes. NULL if there is none. */
void *fs_real_late(const char *name);

/* Marks the intercepted names: the only ones exported. */
#define FS_EXPORT __attribute__((visibility("default")))

#endif
