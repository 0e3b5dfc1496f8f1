/* crowd [WORD...]: a few threads that lock, allocate, format times, sleep and compute, and a main thread that
 * forks beside
 * them. What became of the children is said; so is, with `slowest=MS`, a fork that took longer.
 *
 *   threads=N forks=N   4 and 20
 *   locks               the children lock and allocate too: that hangs bare, sooner or later
 *   holder              one more thread holds a mutex for good, which the children (with `locks`) take
 *   inside              what is allocated is allocated with a lock held
 *   handlers            the program has a signal handler of its own, and gets signals
 *   signals=early|late  the program handles every real-time signal, before or after it has threads
 *   filter=WORDS        a seccomp filter (filter.h), once the threads run
 *   limit=NAME:VALUE    a resource limit, once the threads run; "+N" is what is used now and N more
 *   slowest=MS          1 if a fork took longer
 *   exec=PROGRAM        the children execute it
 */
#include "filter.h"

#include <sys/resource.h>

enum { LOCKS = 3 };

static pthread_mutex_t locks[LOCKS] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
                                       PTHREAD_MUTEX_INITIALIZER};
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t begun;
static volatile sig_atomic_t signals;
static bool over, quiet = true, holder, inside;
static const char *executed;

static void on_signal(int signo) {
    (void)signo;
    signals++;
}

static void use_everything(unsigned turn) {
    struct tm tm;
    time_t when = (time_t)turn * 86400;
    pthread_mutex_t *lock = &locks[turn % LOCKS];
    void *volatile memory = inside ? NULL : malloc(100 + turn % 5000);
    pthread_mutex_lock(lock);
    if (inside) {
        memory = malloc(100 + turn % 5000);
    }
    localtime_r(&when, &tm);
    pthread_mutex_unlock(lock);
    free(memory);
}

static void *work(void *argument) {
    unsigned number = (unsigned)(uintptr_t)argument;
    pthread_barrier_wait(&begun);
    for (unsigned turn = 0; !__atomic_load_n(&over, __ATOMIC_ACQUIRE); turn++) {
        if (number % 4 == 0) {
            continue; /* only a signal stops this one */
        }
        use_everything(turn);
        if (number % 4 == 1) {
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        }
    }
    return NULL;
}

static void *hold(void *unused) {
    pthread_mutex_lock(&held);
    pthread_barrier_wait(&begun);
    while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    pthread_mutex_unlock(&held);
    return unused;
}

static long milliseconds(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now); /* not the time that somebody fakes */
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void in_child(void) {
    alarm(CHILD_LIMIT_S);
    if (executed != NULL) {
        execl(executed, executed, (char *)NULL);
        _exit(errno);
    }
    for (unsigned turn = 0; !quiet && turn < 2 * LOCKS; turn++) {
        use_everything(turn);
    }
    if (!quiet && holder) {
        pthread_mutex_lock(&held);
        pthread_mutex_unlock(&held);
    }
    _exit(0);
}

static unsigned long used(const char *field) { /* of /proc/self/status, in its unit */
    char line[256];
    unsigned long value = 0;
    FILE *status = fopen("/proc/self/status", "r");
    SETUP(status != NULL);
    while (fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0) {
            value = strtoul(line + strlen(field) + 1, NULL, 10);
        }
    }
    fclose(status);
    return value;
}

static void limit(const char *word) {
    const char *colon = strchr(word, ':');
    SETUP(colon != NULL);
    bool relative = colon[1] == '+';
    rlim_t value = strtoul(colon + 1 + relative, NULL, 10);
    struct rlimit both;
    __rlimit_resource_t which = RLIMIT_AS;
    if (strncmp(word, "as:", 3) == 0) {
        value += relative ? used("VmSize:") * 1024 : 0;
    } else if (strncmp(word, "nofile:", 7) == 0) {
        which = RLIMIT_NOFILE;
    } else if (strncmp(word, "sigpending:", 11) == 0) {
        which = RLIMIT_SIGPENDING;
    } else {
        SETUP(strncmp(word, "nproc:", 6) == 0);
        which = RLIMIT_NPROC;
    }
    SETUP(getrlimit(which, &both) == 0);
    both.rlim_cur = value;
    SETUP(setrlimit(which, &both) == 0);
}

static void handle_all(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    for (int signo = SIGRTMIN; signo <= SIGRTMAX; signo++) {
        SETUP(sigaction(signo, &action, NULL) == 0 && sigaction(signo, &action, NULL) == 0);
    }
}

static unsigned number_in(const char *word) { return (unsigned)atoi(strchr(word, '=') + 1); }

int main(int argc, char **argv) {
    unsigned threads = 4;
    unsigned forks = 20;
    unsigned slowest = UINT32_MAX;
    bool handlers = false;
    for (int i = 1; i < argc; i++) {
        threads = strncmp(argv[i], "threads=", 8) == 0 ? number_in(argv[i]) : threads;
        forks = strncmp(argv[i], "forks=", 6) == 0 ? number_in(argv[i]) : forks;
        slowest = strncmp(argv[i], "slowest=", 8) == 0 ? number_in(argv[i]) : slowest;
        executed = strncmp(argv[i], "exec=", 5) == 0 ? argv[i] + 5 : executed;
        quiet = quiet && strcmp(argv[i], "locks") != 0;
        holder = holder || strcmp(argv[i], "holder") == 0;
        inside = inside || strcmp(argv[i], "inside") == 0;
        handlers = handlers || strcmp(argv[i], "handlers") == 0;
        if (strcmp(argv[i], "signals=early") == 0) {
            handle_all();
        }
    }
    tzset(); /* reads the zone's file, and keeps it */
    pthread_t *handles = calloc(threads + 1, sizeof *handles);
    SETUP(handles != NULL);
    SETUP(pthread_barrier_init(&begun, NULL, threads + 1 + holder) == 0);
    if (handlers) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        SETUP(sigaction(SIGUSR1, &action, NULL) == 0);
    }
    for (unsigned i = 0; i < threads; i++) {
        SETUP(pthread_create(&handles[i], NULL, work, (void *)(uintptr_t)i) == 0);
    }
    if (holder) {
        SETUP(pthread_create(&handles[threads], NULL, hold, NULL) == 0);
    }
    pthread_barrier_wait(&begun);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "filter=", 7) == 0) {
            filter(argv[i] + 7);
        } else if (strncmp(argv[i], "limit=", 6) == 0) {
            limit(argv[i] + 6);
        } else if (strcmp(argv[i], "signals=late") == 0) {
            handle_all();
        }
    }
    unsigned good = 0;
    long longest = 0;
    for (unsigned i = 0; i < forks; i++) {
        if (handlers) {
            pthread_kill(handles[i % threads], SIGUSR1);
        }
        long start = milliseconds();
        pid_t child = fork();
        if (child == 0) {
            in_child();
        }
        long took = milliseconds() - start;
        longest = took > longest ? took : longest;
        good += fine(child);
    }
    __atomic_store_n(&over, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < threads + holder; i++) {
        SETUP(pthread_join(handles[i], NULL) == 0);
    }
    say("%u forks, %u children fine\n", forks, good);
    if (longest > (long)slowest) {
        say("the slowest fork took %ld ms\n", longest);
    }
    return longest > (long)slowest;
}
