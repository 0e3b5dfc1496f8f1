/*
 * errnos.c: every wrapped function leaves errno, and its result, as libc's own leaves them. Each call of
 * the table is made twice, as a program makes it and past whoever intercepts it, from the same strange
 * errno; both with success and with failure. The functions themselves come from libc.so.6's own table
 * of symbols.
 */
#include "hazard.h"

#include <aio.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <iconv.h>
#include <libintl.h>
#include <link.h>
#include <locale.h>
#include <malloc.h>
#include <mqueue.h>
#include <netdb.h>
#include <netinet/ether.h>
#include <poll.h>
#include <pty.h>
#include <pwd.h>
#include <regex.h>
#include <resolv.h>
#include <semaphore.h>
#include <setjmp.h>
#include <shadow.h>
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
#include <sys/uio.h>
#include <stdio_ext.h>
#include <syslog.h>
#include <termios.h>
#include <threads.h>
#include <utmpx.h>
#include <wchar.h>
#include <wordexp.h>

int __xpg_strerror_r(int number, char *text, size_t size);

enum { STRANGE = 4711 };

static void *libc;
static int compared;

/* Beside forks both calls are made as the program makes them, and compared with what was seen alone: a call
 * past the hooks, which alone say that the thread is asleep, may be interrupted then. */
static struct seen {
    long results[2];
    int errors[2];
} seen[1000];
static struct seen *at;
static int beside;

static void *own(const char *name) {
    /* Of these dlsym may find the old ones, for another layout. */
    void *found =
        strncmp(name, "pthread_cond_", 13) == 0 ? dlvsym(libc, name, "GLIBC_2.3.2") : NULL;
    found = found != NULL ? found : dlsym(libc, name);
    if (found == NULL) {
        hz_say("libc has no %s", name);
        _exit(HZ_BROKEN);
    }
    return found;
}

static int equal(const char *name, const struct seen *now, int a, const struct seen *then, int b) {
    if (now->results[a] == then->results[b] && now->errors[a] == then->errors[b]) {
        return HZ_OK;
    }
    hz_say("%s: %ld, errno %d %s; libc's own: %ld, errno %d %s", name, now->results[a],
           now->errors[a], hz_errno_name(now->errors[a]), then->results[b], then->errors[b],
           hz_errno_name(then->errors[b]));
    return HZ_WRONG;
}

static int same(const char *name, const struct seen *now) {
    HZ_SETUP(at < seen + sizeof seen / sizeof *seen);
    compared++;
    if (beside) {
        HZ_TRY(equal(name, now, 0, at, 0));
        HZ_TRY(equal(name, now, 1, at, 1));
    } else {
        *at = *now;
        HZ_TRY(equal(name, now, 0, now, 1));
    }
    at++;
    return HZ_OK;
}

/* EACH(how, name, (arguments)): `how` says what of the result is compared. */
#define AS_INT(value) (long)(value)
#define AS_NULL(value) (long)((value) != NULL)
#define AS_NOTHING(value) ((void)(value), 0L)

#define EACH(how, name, arguments)                                                                 \
    do {                                                                                           \
        __typeof__(name) *second = beside ? name : (__typeof__(name) *)own(#name);                 \
        struct seen now;                                                                           \
        errno = STRANGE;                                                                           \
        now.results[0] = how(name arguments);                                                      \
        now.errors[0] = errno;                                                                     \
        errno = STRANGE;                                                                           \
        now.results[1] = how(second arguments);                                                    \
        now.errors[1] = errno;                                                                     \
        HZ_TRY(same(#name #arguments, &now));                                                      \
    } while (0)

#define INT(name, arguments) EACH(AS_INT, name, arguments)
#define PTR(name, arguments) EACH(AS_NULL, name, arguments)
/* Whose results differ by nature. */
#define ANY(name, arguments) EACH(AS_NOTHING, name, arguments)
#define VOID(name, arguments)                                                                      \
    do {                                                                                           \
        __typeof__(name) *second = beside ? name : (__typeof__(name) *)own(#name);                 \
        struct seen now = {{0, 0}, {0, 0}};                                                        \
        errno = STRANGE;                                                                           \
        name arguments;                                                                            \
        now.errors[0] = errno;                                                                     \
        errno = STRANGE;                                                                           \
        second arguments;                                                                          \
        now.errors[1] = errno;                                                                     \
        HZ_TRY(same(#name #arguments, &now));                                                      \
    } while (0)

static const struct timespec past = {0, 0}, bad = {0, -1};

/* ---- locks ---- */

static int mutexes(void *arg) {
    pthread_mutexattr_t attr;
    pthread_mutex_t mutex, checked, robust;
    struct timespec soon = hz_in_ms(CLOCK_REALTIME, 1), later = hz_in_ms(CLOCK_MONOTONIC, 1);
    (void)arg;
    HZ_SETUP(pthread_mutexattr_init(&attr) == 0);
    HZ_SETUP(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE) == 0);
    INT(pthread_mutex_init, (&mutex, &attr));
    HZ_SETUP(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK) == 0);
    INT(pthread_mutex_init, (&checked, &attr));
    HZ_SETUP(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) == 0);
    INT(pthread_mutex_init, (&robust, &attr));
    INT(pthread_mutex_lock, (&mutex));
    INT(pthread_mutex_trylock, (&mutex));
    INT(pthread_mutex_timedlock, (&mutex, &soon));
    INT(pthread_mutex_clocklock, (&mutex, CLOCK_MONOTONIC, &later));
    INT(pthread_mutex_unlock, (&mutex));
    INT(pthread_mutex_destroy, (&mutex));
    for (int i = 0; i < 3; i++) {
        INT(pthread_mutex_unlock, (&mutex));
    }
    INT(pthread_mutex_unlock, (&mutex));
    HZ_IS(pthread_mutex_lock(&checked), 0);
    INT(pthread_mutex_lock, (&checked));
    INT(pthread_mutex_trylock, (&checked));
    INT(pthread_mutex_timedlock, (&checked, &past));
    HZ_IS(pthread_mutex_lock(&robust), 0);
    INT(pthread_mutex_lock, (&robust));
    HZ_IS(pthread_mutex_unlock(&robust), 0);
    HZ_IS(pthread_mutex_unlock(&checked), 0);
    INT(pthread_mutex_unlock, (&checked));
    INT(pthread_mutex_destroy, (&checked));
    mtx_t mtx;
    INT(mtx_init, (&mtx, mtx_timed | mtx_recursive));
    INT(mtx_lock, (&mtx));
    INT(mtx_trylock, (&mtx));
    INT(mtx_timedlock, (&mtx, &soon));
    for (int i = 0; i < 3; i++) {
        INT(mtx_unlock, (&mtx));
    }
    INT(mtx_unlock, (&mtx));
    VOID(mtx_destroy, (&mtx));
    return HZ_OK;
}

static int taken_elsewhere(void *mutex) {
    INT(pthread_mutex_trylock, (mutex));
    INT(pthread_mutex_timedlock, (mutex, &past));
    INT(pthread_mutex_timedlock, (mutex, &bad));
    INT(pthread_mutex_clocklock, (mutex, CLOCK_MONOTONIC, &past));
    INT(pthread_mutex_clocklock, (mutex, 77, &past));
    return HZ_OK;
}

static int busy_mutex(void *arg) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    (void)arg;
    HZ_IS(pthread_mutex_lock(&mutex), 0);
    HZ_TRY(hz_elsewhere(taken_elsewhere, &mutex));
    HZ_IS(pthread_mutex_unlock(&mutex), 0);
    return HZ_OK;
}

static int other_locks(void *arg) {
    pthread_rwlock_t rwlock;
    pthread_spinlock_t spin;
    pthread_barrier_t barrier;
    (void)arg;
    INT(pthread_rwlock_init, (&rwlock, NULL));
    INT(pthread_rwlock_rdlock, (&rwlock));
    INT(pthread_rwlock_tryrdlock, (&rwlock));
    INT(pthread_rwlock_timedrdlock, (&rwlock, &past));
    INT(pthread_rwlock_clockrdlock, (&rwlock, CLOCK_MONOTONIC, &past));
    INT(pthread_rwlock_trywrlock, (&rwlock));
    INT(pthread_rwlock_timedwrlock, (&rwlock, &past));
    INT(pthread_rwlock_timedwrlock, (&rwlock, &bad));
    INT(pthread_rwlock_clockwrlock, (&rwlock, CLOCK_MONOTONIC, &past));
    for (int i = 0; i < 4; i++) {
        INT(pthread_rwlock_unlock, (&rwlock));
    }
    HZ_IS(pthread_rwlock_wrlock(&rwlock), 0);
    INT(pthread_rwlock_wrlock, (&rwlock));
    INT(pthread_rwlock_rdlock, (&rwlock));
    INT(pthread_rwlock_tryrdlock, (&rwlock));
    HZ_IS(pthread_rwlock_unlock(&rwlock), 0);
    INT(pthread_rwlock_destroy, (&rwlock));
    INT(pthread_spin_init, (&spin, PTHREAD_PROCESS_PRIVATE));
    HZ_IS(pthread_spin_lock(&spin), 0);
    INT(pthread_spin_trylock, (&spin));
    INT(pthread_spin_unlock, (&spin));
    INT(pthread_spin_destroy, (&spin));
    HZ_IS(pthread_barrier_init(&barrier, NULL, 1), 0);
    INT(pthread_barrier_wait, (&barrier));
    INT(pthread_barrier_destroy, (&barrier));
    flockfile(stderr);
    INT(ftrylockfile, (stderr));
    VOID(funlockfile, (stderr));
    VOID(flockfile, (stderr));
    VOID(funlockfile, (stderr));
    funlockfile(stderr);
    return HZ_OK;
}

static void nothing(void) {}

static int semaphores_and_conditions(void *arg) {
    sem_t sem, lock;
    int value;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    cnd_t cnd;
    mtx_t mtx;
    pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)arg;
    INT(sem_init, (&sem, 0, 10));
    INT(sem_init, (&lock, 0, UINT_MAX));
    INT(sem_wait, (&sem));
    INT(sem_trywait, (&sem));
    INT(sem_timedwait, (&sem, &past));
    INT(sem_clockwait, (&sem, CLOCK_MONOTONIC, &past));
    INT(sem_getvalue, (&sem, &value));
    HZ_IS(value, 2);
    INT(sem_wait, (&sem));
    INT(sem_trywait, (&sem));
    INT(sem_timedwait, (&sem, &past));
    INT(sem_timedwait, (&sem, &bad));
    INT(sem_clockwait, (&sem, CLOCK_MONOTONIC, &past));
    INT(sem_clockwait, (&sem, 77, &past));
    INT(sem_post, (&sem));
    INT(sem_close, (&lock));
    PTR(sem_open, ("no slash here/", 0));
    PTR(sem_open, ("/errnos-is-not-there", 0));
    HZ_IS(pthread_mutex_lock(&mutex), 0);
    INT(pthread_cond_timedwait, (&cond, &mutex, &past));
    INT(pthread_cond_timedwait, (&cond, &mutex, &bad));
    INT(pthread_cond_clockwait, (&cond, &mutex, CLOCK_MONOTONIC, &past));
    INT(pthread_cond_signal, (&cond));
    INT(pthread_cond_broadcast, (&cond));
    HZ_IS(pthread_mutex_unlock(&mutex), 0);
    INT(pthread_cond_destroy, (&cond));
    HZ_SETUP(cnd_init(&cnd) == thrd_success && mtx_init(&mtx, mtx_plain) == thrd_success);
    HZ_SETUP(mtx_lock(&mtx) == thrd_success);
    INT(cnd_timedwait, (&cnd, &mtx, &past));
    INT(cnd_signal, (&cnd));
    INT(cnd_broadcast, (&cnd));
    HZ_SETUP(mtx_unlock(&mtx) == thrd_success);
    VOID(cnd_destroy, (&cnd));
    INT(pthread_once, (&once, nothing));
    return HZ_OK;
}

/* ---- threads and signals ---- */

static void *ends(void *arg) { return arg; }
static int ends_c11(void *arg) { return arg != NULL; }
static void handler(int signo) { (void)signo; }

/* Where each of the two calls must find a thread of its own. */
static pthread_t made[2];
static int next;
static pthread_t another(void) { return made[next++ & 1]; }

static void make_two(void) {
    for (int i = 0; i < 2; i++) {
        HZ_SETUP(pthread_create(&made[i], NULL, ends, NULL) == 0);
    }
    next = 0;
}

static int threads(void *arg) {
    pthread_t thread;
    pthread_attr_t huge, attr;
    thrd_t thrd;
    int policy;
    struct sched_param priority;
    sigset_t set, old;
    struct sigaction action = {.sa_handler = handler}, before;
    (void)arg;
    ANY(pthread_create, (&thread, NULL, ends, NULL));
    INT(pthread_create, (&thread, NULL, ends, NULL));
    HZ_SETUP(pthread_attr_init(&huge) == 0);
    HZ_SETUP(pthread_attr_setstacksize(&huge, (size_t)1 << 46) == 0);
    INT(pthread_create, (&thread, &huge, ends, NULL));
    INT(thrd_create, (&thrd, ends_c11, NULL));
    make_two();
    INT(pthread_join, (another(), NULL));
    make_two();
    INT(pthread_timedjoin_np, (another(), NULL, NULL));
    make_two();
    INT(pthread_clockjoin_np, (another(), NULL, CLOCK_MONOTONIC, NULL));
    make_two();
    INT(thrd_join, (another(), NULL));
    make_two();
    INT(pthread_detach, (another()));
    make_two();
    INT(thrd_detach, (another()));
    INT(pthread_join, (pthread_self(), NULL));
    INT(pthread_tryjoin_np, (pthread_self(), NULL));
    INT(pthread_kill, (pthread_self(), 0));
    INT(pthread_kill, (pthread_self(), 1000));
    INT(pthread_sigqueue, (pthread_self(), 1000, (union sigval){0}));
    INT(pthread_getattr_np, (pthread_self(), &attr));
    INT(pthread_getschedparam, (pthread_self(), &policy, &priority));
    INT(pthread_setschedparam, (pthread_self(), policy, &priority));
    INT(pthread_setschedparam, (pthread_self(), 77, &priority));
    INT(pthread_setschedprio, (pthread_self(), priority.sched_priority));
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    INT(sigaction, (SIGUSR2, &action, &before));
    INT(sigaction, (SIGUSR2, NULL, &before));
    INT(sigaction, (SIGKILL, &action, NULL));
    INT(sigaction, (1000, NULL, &before));
    ANY(signal, (SIGUSR2, handler));
    ANY(signal, (SIGKILL, handler));
    INT(sigprocmask, (SIG_BLOCK, &set, &old));
    INT(sigprocmask, (77, &set, &old));
    INT(pthread_sigmask, (SIG_BLOCK, &set, &old));
    INT(pthread_sigmask, (77, &set, &old));
    INT(sigtimedwait, (&set, NULL, &past));
    INT(sigtimedwait, (&set, NULL, &bad));
    INT(signalfd, (-1, &set, 77));
    ANY(signalfd, (-1, &set, 0));
    return HZ_OK;
}

/* ---- calls that may sleep ---- */

static int blocking(void *arg) {
    int fds[2], sockets[2], file = open("/proc/self/exe", O_RDONLY);
    char byte = 'x';
    struct iovec part = {&byte, 1};
    struct timespec instant = {0, 1000}, left;
    struct timeval no_time = {0, 0};
    struct epoll_event event;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr messages = {.msg_hdr = message};
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    struct sembuf none = {.sem_op = 0};
    fd_set no_fds;
    off_t start = 0;
    struct pollfd *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)arg;
    FD_ZERO(&no_fds);
    HZ_SETUP(file >= 0 && pipe(fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    int epoll = epoll_create1(0);
    HZ_SETUP(epoll >= 0 && write(fds[1], "0123456789012345", 16) == 16);
    HZ_SETUP(write(sockets[1], "0123456789012345", 16) == 16);
    INT(poll, (NULL, 0, 1));
    INT(poll, (nowhere, 1, 0));
    INT(ppoll, (NULL, 0, &instant, NULL));
    INT(ppoll, (NULL, 0, &bad, NULL));
    INT(select, (0, NULL, NULL, NULL, &no_time));
    INT(select, (-1, NULL, NULL, NULL, &no_time));
    INT(pselect, (0, &no_fds, NULL, NULL, &instant, NULL));
    INT(pselect, (0, NULL, NULL, NULL, &bad, NULL));
    INT(epoll_wait, (epoll, &event, 1, 0));
    INT(epoll_wait, (-1, &event, 1, 0));
    INT(epoll_pwait, (epoll, &event, 1, 0, NULL));
    INT(epoll_pwait2, (epoll, &event, 1, &past, NULL));
    INT(nanosleep, (&instant, &left));
    INT(nanosleep, (&bad, &left));
    INT(clock_nanosleep, (CLOCK_MONOTONIC, 0, &instant, NULL));
    INT(clock_nanosleep, (77, 0, &instant, NULL));
    INT(usleep, (1));
    INT(sleep, (0));
    INT(thrd_sleep, (&instant, NULL));
    INT(thrd_sleep, (&bad, NULL));
    int sem = semget(IPC_PRIVATE, 1, 0600), queue = msgget(IPC_PRIVATE, 0600);
    HZ_SETUP(sem >= 0 && queue >= 0);
    INT(semop, (sem, &none, 1));
    INT(semtimedop, (sem, &none, 1, &past));
    struct {
        long type;
        char text[1];
    } letter = {.type = 1};
    INT(msgsnd, (queue, &letter, 1, 0));
    INT(msgrcv, (queue, &letter, 1, 0, 0));
    INT(msgrcv, (queue, &letter, 1, 0, IPC_NOWAIT));
    HZ_SETUP(semctl(sem, 0, IPC_RMID) == 0 && msgctl(queue, IPC_RMID, NULL) == 0);
    INT(semop, (sem, &none, 1));
    INT(msgsnd, (queue, &letter, 1, 0));
    INT(recv, (sockets[0], &byte, 1, 0));
    INT(recvfrom, (sockets[0], &byte, 1, 0, NULL, NULL));
    INT(recvmsg, (sockets[0], &message, 0));
    INT(recvmmsg, (sockets[0], &messages, 1, 0, NULL));
    INT(recv, (sockets[1], &byte, 1, MSG_DONTWAIT));
    INT(recv, (-1, &byte, 1, 0));
    INT(send, (sockets[0], &byte, 1, 0));
    INT(sendto, (sockets[0], &byte, 1, 0, NULL, 0));
    INT(sendmsg, (sockets[0], &message, 0));
    INT(sendmmsg, (sockets[0], &messages, 1, 0));
    INT(send, (file, &byte, 1, 0));
    INT(accept, (sockets[0], NULL, NULL));
    INT(accept4, (-1, (struct sockaddr *)&address, &length, 0));
    INT(connect, (sockets[0], (struct sockaddr *)&address, sizeof address));
    INT(read, (fds[0], &byte, 1));
    INT(read, (-1, &byte, 1));
    INT(readv, (fds[0], &part, 1));
    INT(write, (fds[1], &byte, 1));
    INT(write, (file, &byte, 1));
    INT(writev, (fds[1], &part, 1));
    INT(pread, (file, &byte, 1, 0));
    INT(pread64, (file, &byte, 1, 0));
    INT(pread, (fds[0], &byte, 1, 0));
    INT(pwrite, (file, &byte, 1, 0));
    INT(pwrite64, (-1, &byte, 1, 0));
    INT(preadv, (file, &part, 1, 0));
    INT(pwritev, (file, &part, 1, 0));
    INT(preadv2, (file, &part, 1, 0, 0));
    INT(pwritev2, (file, &part, 1, 0, 0));
    start = 0;
    INT(sendfile, (sockets[0], file, &start, 1));
    INT(sendfile64, (sockets[0], -1, &start, 1));
    INT(splice, (fds[0], NULL, sockets[0], NULL, 1, 0));
    INT(tee, (fds[0], fds[1], 1, 0));
    INT(vmsplice, (file, &part, 1, 0));
    INT(flock, (file, LOCK_SH));
    INT(flock, (-1, LOCK_SH));
    INT(lockf, (file, F_TEST, 0));
    INT(lockf64, (-1, F_LOCK, 0));
    INT(fcntl, (file, F_SETLKW, &whole));
    INT(fcntl, (file, F_GETFD));
    INT(fcntl64, (-1, F_SETLKW, &whole));
    INT(fcntl, (file, 4711, 0));
    INT(tcdrain, (file));
    INT(waitpid, (getpid(), NULL, WNOHANG));
    INT(wait4, (getpid(), NULL, WNOHANG, NULL));
    INT(waitid, (77, 0, NULL, 0));
    INT(mq_receive, ((mqd_t)-1, &byte, 1, NULL));
    INT(mq_send, ((mqd_t)-1, &byte, 1, 0));
    INT(mq_timedreceive, ((mqd_t)-1, &byte, 1, NULL, &past));
    INT(mq_timedsend, ((mqd_t)-1, &byte, 1, 0, &past));
    INT(syscall, (SYS_getppid));
    INT(syscall, (SYS_close, -1));
    INT(syscall, (4711));
    pid_t child;
    char *const none_at_all[] = {NULL};
    INT(posix_spawn, (&child, "/nowhere", NULL, NULL, none_at_all, none_at_all));
    INT(posix_spawnp, (&child, "no-such-program", NULL, NULL, none_at_all, none_at_all));
    return close(file) || close(fds[0]) || close(fds[1]) || close(sockets[0]) ||
           close(sockets[1]) || close(epoll);
}

/* ---- calls with a lock of libc's own ---- */

static void at_exit(int status, void *arg) { (void)status, (void)arg; }

static int no_module(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)info, (void)size, (void)arg;
    return 7;
}

static int critical(void *arg) {
    time_t noon = 1719835200;
    struct tm tm;
    char text[512];
    wchar_t wide[64];
    regex_t regex;
    struct passwd entry, *found;
    struct group group, *found_group;
    struct hostent host, *found_host;
    struct servent service, *found_service;
    struct protoent protocol, *found_protocol;
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *list;
    int host_error, count = 16;
    gid_t groups[16];
    glob_t names;
    wordexp_t words;
    void *frames[4];
    timer_t timer;
    static struct aiocb request = {.aio_fildes = -1}, idle; /* libc's own thread is at the first */
    const struct aiocb *requests[] = {&idle};
    (void)arg;
    PTR(localtime, (&noon));
    PTR(localtime_r, (&noon, &tm));
    PTR(gmtime, (&noon));
    PTR(gmtime_r, (&noon, &tm));
    INT(mktime, (&tm));
    INT(timelocal, (&tm));
    INT(timegm, (&tm));
    VOID(tzset, ());
    PTR(ctime, (&noon));
    PTR(ctime_r, (&noon, text));
    INT(strftime, (text, sizeof text, "%c %Z %z", &tm));
    INT(wcsftime, (wide, 64, L"%c", &tm));
    PTR(strptime, ("2024", "%Y", &tm));
    PTR(getdate, ("nonsense"));
    time_t never = (time_t)1 << 60;
    PTR(gmtime, (&never));
    PTR(localtime_r, (&never, &tm));
    VOID(openlog, ("errnos", 0, LOG_USER));
    INT(setlogmask, (0xff));
    VOID(closelog, ());
    INT(setenv, ("ERRNOS", "1", 1));
    INT(setenv, ("", "1", 1));
    INT(unsetenv, ("ERRNOS"));
    INT(unsetenv, ("A=B"));
    static char setting[] = "ERRNOS=2";
    INT(putenv, (setting));
    VOID(srand, (1));
    ANY(rand, ());
    VOID(srandom, (1));
    ANY(random, ());
    static char state[256], state2[256];
    PTR(initstate, (1, state, sizeof state));
    PTR(initstate, (1, state2, 1));
    PTR(setstate, (state));
    PTR(gettext, ("text"));
    PTR(dgettext, ("errnos", "text"));
    PTR(dcgettext, ("errnos", "text", LC_MESSAGES));
    PTR(ngettext, ("a", "b", 2));
    PTR(textdomain, (NULL));
    PTR(bindtextdomain, ("errnos", NULL));
    PTR(strerror, (ENOENT));
    PTR(strerror, (4711));
    PTR(strerror_r, (ENOENT, text, sizeof text));
    INT(__xpg_strerror_r, (ENOENT, text, sizeof text));
    INT(__xpg_strerror_r, (ENOENT, text, 1));
    PTR(strsignal, (SIGUSR1));
    PTR(hstrerror, (1));
    PTR(gai_strerror, (EAI_NONAME));
    PTR(setlocale, (LC_ALL, NULL));
    setlocale(LC_ALL, "no_SUCH"); /* looks for it only once */
    PTR(setlocale, (LC_ALL, "no_SUCH"));
    PTR(setlocale, (LC_ALL, "C"));
    PTR(newlocale, (LC_ALL_MASK, "C", (locale_t)0));
    newlocale(LC_ALL_MASK, "no_SUCH", (locale_t)0);
    PTR(newlocale, (LC_ALL_MASK, "no_SUCH", (locale_t)0));
    ANY(iconv_open, ("no-such-set", "UTF-8"));
    INT(on_exit, (at_exit, NULL));
    VOID(setutxent, ());
    PTR(getutxent, ());
    VOID(endutxent, ());
    INT(getlogin_r, (text, sizeof text));
    PTR(getlogin, ());
    PTR(getpwnam, ("root"));
    PTR(getpwnam, ("nobody here"));
    INT(getpwnam_r, ("root", &entry, text, sizeof text, &found));
    INT(getpwnam_r, ("root", &entry, text, 1, &found));
    INT(getpwnam_r, ("nobody here", &entry, text, sizeof text, &found));
    PTR(getpwuid, (0));
    INT(getpwuid_r, (0, &entry, text, sizeof text, &found));
    VOID(setpwent, ());
    PTR(getpwent, ());
    VOID(endpwent, ());
    PTR(getgrnam, ("root"));
    INT(getgrnam_r, ("root", &group, text, sizeof text, &found_group));
    PTR(getgrgid, (0));
    PTR(getgrgid, (4711));
    INT(getgrgid_r, (0, &group, text, sizeof text, &found_group));
    VOID(setgrent, ());
    PTR(getgrent, ());
    VOID(endgrent, ());
    PTR(getspnam, ("root"));
    PTR(gethostbyname, ("localhost"));
    PTR(gethostbyname2, ("127.0.0.1", AF_INET));
    INT(gethostbyname_r, ("127.0.0.1", &host, text, sizeof text, &found_host, &host_error));
    INT(gethostbyname_r, ("127.0.0.1", &host, text, 1, &found_host, &host_error));
    PTR(getservbyname, ("http", "tcp"));
    PTR(getservbyname, ("no such service", "tcp"));
    INT(getservbyname_r, ("http", "tcp", &service, text, sizeof text, &found_service));
    PTR(getservbyport, (0, "tcp"));
    PTR(getprotobyname, ("tcp"));
    INT(getprotobyname_r, ("tcp", &protocol, text, sizeof text, &found_protocol));
    PTR(getprotobynumber, (6));
    PTR(getnetbyname, ("no such net"));
    PTR(getrpcbyname, ("no such program"));
    INT(getgrouplist, ("root", 0, groups, (count = 16, &count)));
    INT(getaddrinfo, ("127.0.0.1", NULL, &hints, &list));
    INT(getaddrinfo, ("not a number", NULL, &hints, &list));
    INT(getnameinfo, (list->ai_addr, list->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST));
    INT(getnameinfo, (list->ai_addr, 1, text, sizeof text, NULL, 0, NI_NUMERICHOST));
    INT(innetgr, ("no such group", NULL, NULL, NULL));
    INT(glob, ("/proc/self/exe", 0, NULL, &names));
    INT(glob, ("/nowhere/*", 0, NULL, &names));
    INT(wordexp, ("a b", &words, 0));
    INT(wordexp, ("a | b", &words, 0));
    PTR(popen, ("true", "no such mode"));
    INT(timer_create, (CLOCK_MONOTONIC, NULL, &timer));
    INT(timer_create, (77, NULL, &timer));
    INT(aio_read, (&request));
    INT(aio_error, (&idle));
    INT(aio_cancel, (-1, &idle));
    INT(aio_suspend, (requests, 1, &past));
    INT(lio_listio, (LIO_WAIT, (struct aiocb *[]){NULL}, 1, NULL));
    INT(lio_listio, (77, (struct aiocb *[]){NULL}, 1, NULL));
    INT(setuid, (getuid()));
    INT(seteuid, (geteuid()));
    INT(setregid, ((gid_t)-1, (gid_t)-1));
    INT(dl_iterate_phdr, (no_module, NULL));
    ANY(backtrace, (frames, 4));
    INT(fflush, (NULL));
    INT(fflush, (stdout));
    VOID(_flushlbf, ());
    INT(swprintf, (wide, 64, L"%d", 1));
    INT(swprintf, (wide, 1, L"%d", 100));
    HZ_SETUP(regcomp(&regex, "a+", 0) == 0);
    INT(regexec, (&regex, "caa", 0, NULL, 0));
    INT(regexec, (&regex, "c", 0, NULL, 0));
    INT(regerror, (REG_NOMATCH, &regex, text, sizeof text));
    DIR *directory = opendir("/proc/self/task");
    HZ_SETUP(directory != NULL);
    PTR(readdir, (directory));
    PTR(readdir64, (directory));
    VOID(rewinddir, (directory));
    INT(telldir, (directory));
    VOID(seekdir, (directory, 0));
    while (readdir(directory) != NULL) {
    }
    PTR(readdir, (directory));
    closedir(directory);
    INT(system, (NULL));
    INT(pclose, (popen("exit 3", "r")));
    PTR(dlopen, ("libc.so.6", RTLD_LAZY | RTLD_NOLOAD));
    PTR(dlopen, ("libnowhere.so", RTLD_LAZY));
    INT(dlclose, (dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD)));
    return HZ_OK;
}

/* ---- forks ---- */

static int child_counts(void *arg) {
    (void)arg;
    return HZ_OK;
}

static int forks(void *arg) {
    int statuses[2] = {-1, -1};
    pid_t (*const real_fork)(void) = (pid_t(*)(void))own("fork");
    pid_t (*const real_raw)(void) = (pid_t(*)(void))own("_Fork");
    pid_t (*const ways[2][2])(void) = {{fork, real_fork}, {_Fork, real_raw}};
    (void)arg;
    for (int way = 0; way < 2; way++) {
        int errors[2];
        for (int i = 0; i < 2; i++) {
            errno = STRANGE;
            pid_t pid = ways[way][i]();
            if (pid == 0) {
                _exit(errno == STRANGE ? 0 : 1);
            }
            errors[i] = errno;
            HZ_SETUP(pid > 0 && waitpid(pid, &statuses[i], 0) == pid);
        }
        struct seen now = {{statuses[0], statuses[1]}, {errors[0], errors[1]}};
        HZ_TRY(same("fork", &now));
        HZ_IS(statuses[0], 0);
    }
    return HZ_OK;
}

static int (*const parts[])(void *) = {mutexes, busy_mutex, other_locks, semaphores_and_conditions,
                                       threads, blocking,   critical,    forks};
enum { PARTS = sizeof parts / sizeof *parts };

static void open_libc(void) {
    libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    HZ_SETUP(libc != NULL);
}

static int alone(const void *arg) {
    (void)arg;
    open_libc();
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < PARTS; i++) {
            at = seen;
            HZ_TRY(parts[i](NULL));
        }
    }
    HZ_TRUE(compared > 2 * 300);
    return HZ_OK;
}

struct some {
    int (*const *part)(void *);
    struct hz_event done;
};

static int again_and_again(void *arg) {
    struct some *some = arg;
    int verdict = HZ_OK;
    for (int i = 0; i < 5 && verdict == HZ_OK; i++) {
        at = seen;
        verdict = (*some->part)(NULL);
    }
    hz_post(&some->done);
    return verdict;
}

/* The same in a thread that is gated, parked and suspended all the time, by another that forks. */
static int beside_forks(const void *arg) {
    (void)arg;
    open_libc();
    for (int i = 0; i < PARTS; i++) {
        struct some some = {.part = &parts[i]};
        struct hz_thread thread;
        beside = 0;
        at = seen;
        HZ_TRY(parts[i](NULL));
        beside = 1;
        hz_start(&thread, again_and_again, &some);
        while (hz_seen(&some.done) == 0) {
            HZ_TRY(hz_child(child_counts, NULL));
        }
        HZ_TRY(hz_finish(&thread));
    }
    return HZ_OK;
}

static const struct hazard hazards[] = {
    HAZARD_PATIENT("errno_alone", alone, NULL, OK, "errno and results as libc's own"),
    HAZARD_PATIENT("errno_beside_forks", beside_forks, NULL, OK, "the same, beside forks"),
};
HAZARD_MAIN(hazards)
