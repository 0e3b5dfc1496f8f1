/*
 * stack.c: how much of a thread's stack goes to whoever intercepts its calls, and suspends it. The stack below
 * the caller is painted, the call is made, and what is no longer paint was used.
 */
#include "hazard.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <semaphore.h>
#include <syslog.h>
#include <wchar.h>

enum {
    PAINT = 0xa5,
    REACH = 48 * 1024, /* below the caller: painted */
    RED_ZONE = 128, /* of the x86-64 ABI: below the stack pointer, and the caller's all the same */
    WRAPPER = 256,  /* what a call may need beyond libc's own */
    HANDLER = 4096, /* what a suspended thread may need beyond the kernel's frame */
};

static inline __attribute__((always_inline)) volatile unsigned char *stack_pointer(void) {
    volatile unsigned char *at;
    __asm__ volatile("mov %%rsp, %0" : "=r"(at));
    return at;
}

static inline __attribute__((always_inline)) void paint(long gap) {
    volatile unsigned char *top = stack_pointer() - gap;
    for (volatile unsigned char *at = top - REACH; at < top; at++) {
        *at = PAINT;
    }
}

static inline __attribute__((always_inline)) long used(long gap) {
    volatile unsigned char *top = stack_pointer() - gap;
    volatile unsigned char *at = top - REACH;
    while (at < top && *at == PAINT) {
        at++;
    }
    return top - at;
}

static void *libc;

static void *own(const char *name) {
    void *found =
        strncmp(name, "pthread_cond_", 13) == 0 ? dlvsym(libc, name, "GLIBC_2.3.2") : NULL;
    found = found != NULL ? found : dlsym(libc, name);
    HZ_SETUP(found != NULL);
    return found;
}

/* Once before, since a first call is bound, and sets things up. */
#define DEPTH(call)                                                                                \
    ({                                                                                             \
        (void)(call);                                                                              \
        paint(0);                                                                                  \
        (void)(call);                                                                              \
        used(0);                                                                                   \
    })

#define SPARE(name, arguments)                                                                     \
    do {                                                                                           \
        __typeof__(name) *real = (__typeof__(name) *)own(#name);                                   \
        long with = DEPTH(name arguments), without = DEPTH(real arguments);                        \
        if (with - without >= WRAPPER || without <= 0) {                                           \
            hz_say(#name ": %ld bytes of stack, libc's own %ld", with, without);                   \
            verdict = HZ_WRONG;                                                                    \
        }                                                                                          \
    } while (0)

/* (What -D_FORTIFY_SOURCE makes of swprintf.) */
int __swprintf_chk(wchar_t *to, size_t size, int flag, size_t room, const wchar_t *format, ...);

static int wrappers(void *arg) {
    int verdict = HZ_OK, fds[2], value;
    pthread_mutexattr_t attr;
    pthread_mutex_t mutex, free_one = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
    sem_t sem;
    struct timespec past = {0, 0}, instant = {0, 1000};
    char byte, text[512];
    wchar_t wide[8];
    struct pollfd fd;
    struct passwd entry, *found;
    sigset_t set;
    struct sigaction action;
    time_t noon = 1719835200;
    struct tm tm;
    (void)arg;
    HZ_SETUP(pthread_mutexattr_init(&attr) == 0 && pipe(fds) == 0 && sem_init(&sem, 0, 100) == 0);
    HZ_SETUP(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE) == 0);
    HZ_SETUP(pthread_mutex_init(&mutex, &attr) == 0);
    HZ_SETUP(write(fds[1], "0123456789", 10) == 10);
    fd = (struct pollfd){.fd = fds[0], .events = POLLIN};
    SPARE(pthread_mutex_lock, (&mutex));
    SPARE(pthread_mutex_trylock, (&mutex));
    SPARE(pthread_mutex_timedlock, (&mutex, &past));
    SPARE(pthread_mutex_unlock, (&mutex));
    SPARE(pthread_rwlock_rdlock, (&rwlock));
    SPARE(pthread_rwlock_unlock, (&rwlock));
    SPARE(sem_wait, (&sem));
    SPARE(sem_trywait, (&sem));
    SPARE(sem_post, (&sem));
    SPARE(sem_getvalue, (&sem, &value));
    HZ_SETUP(pthread_mutex_lock(&free_one) == 0);
    SPARE(pthread_cond_timedwait, (&cond, &free_one, &past));
    SPARE(pthread_cond_signal, (&cond));
    HZ_SETUP(sem_init(&sem, 0, 0) == 0);
    SPARE(sem_timedwait, (&sem, &past));
    SPARE(read, (fds[0], &byte, 1));
    SPARE(write, (fds[1], "x", 1));
    SPARE(poll, (&fd, 1, 0));
    SPARE(nanosleep, (&instant, NULL));
    SPARE(fcntl, (fds[0], F_GETFD));
    SPARE(syscall, (SYS_getppid));
    SPARE(sigaction, (SIGUSR1, NULL, &action));
    SPARE(pthread_sigmask, (SIG_BLOCK, NULL, &set));
    SPARE(pthread_kill, (pthread_self(), 0));
    SPARE(pthread_tryjoin_np, (pthread_self(), NULL));
    SPARE(localtime_r, (&noon, &tm));
    SPARE(strftime, (text, sizeof text, "%c", &tm));
    SPARE(rand, ());
    SPARE(setenv, ("STACK", "1", 1));
    SPARE(strerror, (ENOENT));
    SPARE(getpwnam_r, ("root", &entry, text, sizeof text, &found));
    SPARE(fflush, (stdout));
    SPARE(fflush, (NULL));
    SPARE(swprintf, (wide, sizeof wide / sizeof *wide, L"%d", 1));
    SPARE(__swprintf_chk,
          (wide, sizeof wide / sizeof *wide, 1, sizeof wide / sizeof *wide, L"%d", 1));
    SPARE(swscanf, (L"1", L"%d", &value));
    SPARE(syslog, (LOG_DEBUG, "%d", 1));
    SPARE(sem_open, ("/stack.none", 0));
    return verdict;
}

static int wrappers_are_flat(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    HZ_SETUP(libc != NULL);
    hz_bystander_start(&bystander);
    HZ_TRY(hz_elsewhere(wrappers, NULL));
    return hz_bystander_stop(&bystander);
}

/* ---- a suspended thread ---- */

static int painted, enough;
static long depth;

static int computes(void *arg) {
    (void)arg;
    paint(RED_ZONE);
    __atomic_store_n(&painted, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&enough, __ATOMIC_SEQ_CST) == 0) {
        __atomic_store_n(&depth, used(RED_ZONE), __ATOMIC_SEQ_CST);
    }
    depth = used(RED_ZONE);
    return HZ_OK;
}

static void on_signal(int signo) { (void)signo; }

/* What the kernel itself puts there. */
static long signal_depth;

static int takes_signal(void *arg) {
    (void)arg;
    HZ_SETUP(signal(SIGUSR2, on_signal) != SIG_ERR);
    signal_depth = DEPTH(raise(SIGUSR2));
    return HZ_OK;
}

/* True where threads that compute are suspended by a signal at all. */
static int signals_expected(void) {
    const char *suspend = getenv("FORKSAFE_SUSPEND");
    return getenv("LD_PRELOAD") != NULL && (suspend == NULL || strcmp(suspend, "gate") != 0);
}

static int suspended(const void *arg) {
    struct hz_thread thread;
    (void)arg;
    if (signals_expected() && sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        return HZ_SKIP; /* nobody is on a processor beside the one that forks */
    }
    hz_start(&thread, computes, NULL);
    while (__atomic_load_n(&painted, __ATOMIC_SEQ_CST) == 0) {
    }
    do { /* it is suspended where a fork finds it on a processor */
        HZ_TRY(hz_children(50, hz_nothing, NULL));
    } while (signals_expected() && __atomic_load_n(&depth, __ATOMIC_SEQ_CST) == 0);
    __atomic_store_n(&enough, 1, __ATOMIC_SEQ_CST);
    HZ_TRY(hz_finish(&thread));
    long frame = hz_elsewhere(takes_signal, NULL) == HZ_OK ? signal_depth : 0;
    if (!signals_expected()) {
        HZ_IS(depth, 0);
        return HZ_OK;
    }
    if (depth <= 0 || depth >= frame + HANDLER) {
        hz_say("suspended: %ld bytes of stack, a handler that does nothing %ld", depth, frame);
        return HZ_WRONG;
    }
    return HZ_OK;
}

/* ---- the smallest stacks ---- */

enum { SMALL = 6 };

static struct hz_event stop;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

static void *works_on_little(void *arg) {
    long turns = 0;
    (void)arg;
    while (hz_seen(&stop) == 0) {
        pthread_mutex_lock(&guard);
        for (volatile int work = 0; work < 2000; work = work + 1) {
        }
        pthread_mutex_unlock(&guard);
        if (turns++ % 16 == 0) {
            poll(NULL, 0, 1);
        }
        for (volatile int work = 0; work < 20000; work = work + 1) {
        }
    }
    return NULL;
}

static int smallest(const void *arg) {
    pthread_t threads[SMALL];
    pthread_attr_t attr;
    (void)arg;
    HZ_SETUP(pthread_attr_init(&attr) == 0);
    HZ_SETUP(pthread_attr_setstacksize(&attr, (size_t)sysconf(_SC_THREAD_STACK_MIN)) == 0);
    for (int i = 0; i < SMALL; i++) {
        HZ_SETUP(pthread_create(&threads[i], &attr, works_on_little, NULL) == 0);
    }
    HZ_TRY(hz_children(200, hz_nothing, NULL));
    hz_post(&stop);
    for (int i = 0; i < SMALL; i++) {
        HZ_IS(pthread_join(threads[i], NULL), 0);
    }
    return HZ_OK;
}

static const struct hazard hazards[] = {
    HAZARD("stack_wrappers", wrappers_are_flat, OK, "a wrapped call's stack, beyond libc's own"),
    HAZARD("stack_suspended", suspended, OK, "a suspended thread's stack"),
    HAZARD("stack_smallest", smallest, OK, "the smallest stacks are enough, beside forks"),
};
HAZARD_MAIN(hazards)
