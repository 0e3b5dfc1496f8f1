/* held SCENE: a program that stands still in known ways, to be looked at from outside. It says "ready PID"
 * once every thread sleeps where it is to sleep, and ends when its standard input does.
 *
 *   scene     what stands there (threads have the names of the comments in `scene`)
 *   child     the same, and a forked child that waits for a lock of its own for ever ("ready" is the child)
 *   forking   two forks that wait for a holder: one has its turn, the other waits for its own
 *   many N    N threads in read()
 *   leader    the first thread has ended, another lives on
 *   zombie    a child that has ended and is not waited for ("ready" is the child)
 *   brief     ends at once, after some threads have */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EACH_LOCK(do) do(table) do(link_1) do(link_2) do(link_3) do(left_lock) do(right_lock) do(orphan) do(queue_lock)
#define DEFINE(name) pthread_mutex_t name = PTHREAD_MUTEX_INITIALIZER;
EACH_LOCK(DEFINE)
pthread_rwlock_t map_lock = PTHREAD_RWLOCK_INITIALIZER;
pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t *shared; /* in shared memory: another process may own it */
static pthread_barrier_t taken; /* everybody has his first lock */

static void wait_for_end(void) {
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
}

/* "holder" holds a mutex, and is in read(). */
static void *hold(void *unused) {
    pthread_mutex_lock(&table);
    pthread_barrier_wait(&taken);
    wait_for_end();
    return unused;
}

/* "waiter" waits for it, without one of its own. */
static void *wait_mutex(void *unused) {
    pthread_barrier_wait(&taken);
    pthread_mutex_lock(&table);
    return unused;
}

/* "reader" reads, "writer" wants to write. */
static void *hold_reading(void *unused) {
    pthread_rwlock_rdlock(&map_lock);
    pthread_barrier_wait(&taken);
    wait_for_end();
    return unused;
}
static void *wait_writing(void *unused) {
    pthread_barrier_wait(&taken);
    pthread_rwlock_wrlock(&map_lock);
    return unused;
}

/* "sleeper" waits for a condition. */
static void *wait_cond(void *unused) {
    pthread_barrier_wait(&taken);
    pthread_mutex_lock(&queue_lock);
    for (;;) {
        pthread_cond_wait(&queue_filled, &queue_lock);
    }
    return unused;
}

/* "chain-1" waits for what "chain-2" holds, who waits for what "chain-3" holds, who is in read(). */
static void take_both(pthread_mutex_t *first, pthread_mutex_t *second) {
    pthread_mutex_lock(first);
    pthread_barrier_wait(&taken);
    pthread_mutex_lock(second);
}
static void *chain_1(void *unused) {
    take_both(&link_1, &link_2);
    return unused;
}
static void *chain_2(void *unused) {
    take_both(&link_2, &link_3);
    return unused;
}
static void *chain_3(void *unused) {
    pthread_mutex_lock(&link_3);
    pthread_barrier_wait(&taken);
    wait_for_end();
    return unused;
}

/* "left" and "right" wait for each other. */
static void *left(void *unused) {
    take_both(&left_lock, &right_lock);
    return unused;
}
static void *right(void *unused) {
    take_both(&right_lock, &left_lock);
    return unused;
}

/* "mourner" waits for a mutex whose owner has ended. */
static void *leave(void *unused) {
    pthread_mutex_lock(&orphan);
    return unused;
}
static void *mourn(void *unused) {
    pthread_barrier_wait(&taken);
    pthread_mutex_lock(&orphan);
    return unused;
}

/* "sharer" holds a mutex that a child may wait for. */
static void *hold_shared(void *unused) {
    pthread_mutex_lock(shared);
    pthread_barrier_wait(&taken);
    wait_for_end();
    return unused;
}

static const struct {
    const char *name;
    void *(*run)(void *);
} scene[] = {
    {"holder", hold},       {"waiter", wait_mutex}, {"reader", hold_reading}, {"writer", wait_writing},
    {"sleeper", wait_cond}, {"chain-1", chain_1},   {"chain-2", chain_2},     {"chain-3", chain_3},
    {"left", left},         {"right", right},       {"mourner", mourn},       {"sharer", hold_shared},
};
enum { SCENE = sizeof scene / sizeof *scene };

/* Of the barrier a thread may still be about to wake up. */
static bool sleeps_for_good(const char *line) {
    long call = 0;
    unsigned long first = 0;
    sscanf(line, "%ld %lx", &call, &first);
    if (call == SYS_futex) {
        return first < (unsigned long)&taken || first >= (unsigned long)(&taken + 1);
    }
    return call == SYS_read;
}

/* Threads that are in a system call which waits for another thread, or for the standard input. */
static unsigned asleep(void) {
    unsigned count = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[300], line[256] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/syscall", task->d_name);
        FILE *file = fopen(path, "r");
        if (file != NULL && fgets(line, sizeof line, file) != NULL) {
            count += sleeps_for_good(line) ? 1 : 0;
        }
        if (file != NULL) {
            fclose(file);
        }
    }
    closedir(tasks);
    return count;
}

static bool leader_has_ended(void) {
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)getpid());
    FILE *file = fopen(path, "r");
    bool ended = file != NULL && fgets(line, sizeof line, file) != NULL && strstr(line, ") Z") != NULL;
    if (file != NULL) {
        fclose(file);
    }
    return ended;
}

/* Says "ready" once so many threads sleep; `pid` is what is to be looked at. */
static struct {
    unsigned threads;
    pid_t pid;
    int ready;           /* a byte is to be read from here first, if it is not 0 */
    bool without_leader; /* the first thread must have ended */
} expected;
static void *herald(void *unused) {
    char byte;
    if (expected.ready != 0 && read(expected.ready, &byte, 1) != 1) {
        exit(1);
    }
    while (asleep() < expected.threads || (expected.without_leader && !leader_has_ended())) {
        sched_yield();
    }
    printf("ready %d\n", (int)expected.pid);
    fflush(stdout);
    wait_for_end();
    _exit(0);
    return unused;
}

static pthread_t start(const char *name, void *(*run)(void *), size_t stack) {
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, stack);
    if (pthread_create(&thread, &attr, run, NULL) != 0) {
        perror("pthread_create");
        exit(1);
    }
    pthread_setname_np(thread, name);
    return thread;
}

enum { STACK = 256 * 1024 };

static pthread_t start_scene(void) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutex_init(shared, &attr);
    pthread_barrier_init(&taken, NULL, SCENE + 1);
    pthread_join(start("leaver", leave, STACK), NULL);
    pthread_t first = start(scene[0].name, scene[0].run, STACK);
    for (unsigned i = 1; i < SCENE; i++) {
        start(scene[i].name, scene[i].run, STACK);
    }
    pthread_barrier_wait(&taken);
    return first;
}

/* The child's own deadlock: it takes a mutex twice. Its second thread waits for what the parent's
 * "sharer" holds. */
static pthread_mutex_t twice = PTHREAD_MUTEX_INITIALIZER;
static int child_ready[2];
static void *wait_shared(void *unused) {
    pthread_mutex_lock(shared);
    return unused;
}
static void *child_herald(void *unused) {
    while (asleep() < 2) {
        sched_yield();
    }
    if (write(child_ready[1], "r", 1) != 1) {
        exit(1);
    }
    wait_for_end();
    _exit(0);
    return unused;
}
static void hang_child(void) {
    start("outsider", wait_shared, STACK);
    start("herald", child_herald, STACK);
    pthread_mutex_lock(&twice);
    pthread_mutex_lock(&twice);
}

static void *rest(void *unused) {
    wait_for_end();
    return unused;
}

static void *fork_beside_holder(void *unused) {
    if (fork() == 0) {
        _exit(0);
    }
    return unused;
}

static void *end(void *unused) { return unused; }

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    unsigned many = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    expected.pid = getpid();
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* where only ancestors may look otherwise */
    if (strcmp(what, "scene") == 0) {
        pthread_t first = start_scene();
        expected.threads = SCENE + 1;
        start("herald", herald, STACK);
        pthread_join(first, NULL);
    } else if (strcmp(what, "child") == 0) {
        start_scene();
        if (pipe(child_ready) != 0 || (expected.pid = fork()) < 0) {
            perror("fork");
            return 1;
        }
        if (expected.pid == 0) {
            prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
            hang_child();
        }
        expected.ready = child_ready[0];
        herald(NULL);
    } else if (strcmp(what, "forking") == 0) {
        pthread_barrier_init(&taken, NULL, 2);
        start("holder", hold, STACK);
        pthread_barrier_wait(&taken);
        start("fork-1", fork_beside_holder, STACK);
        start("fork-2", fork_beside_holder, STACK);
        herald(NULL);
    } else if (strcmp(what, "many") == 0) {
        for (unsigned i = 0; i < many; i++) {
            start("many", rest, 16384);
        }
        expected.threads = many;
        herald(NULL);
    } else if (strcmp(what, "leader") == 0) {
        expected.threads = 1;
        expected.without_leader = true;
        start("rest", rest, STACK);
        start("herald", herald, STACK);
        pthread_exit(NULL);
    } else if (strcmp(what, "zombie") == 0) {
        siginfo_t info;
        expected.pid = fork();
        if (expected.pid == 0) {
            _exit(0);
        }
        waitid(P_PID, (id_t)expected.pid, &info, WEXITED | WNOWAIT);
        herald(NULL);
    } else if (strcmp(what, "brief") == 0) {
        for (unsigned i = 0; i < 20; i++) {
            start("brief", end, STACK);
        }
        return 0;
    }
    fprintf(stderr, "usage: held scene|child|forking|many N|leader|zombie|brief\n");
    return 2;
}
