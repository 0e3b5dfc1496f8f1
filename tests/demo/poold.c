// A small daemon of the usual kind: a pool of workers on a job queue, a table behind an rwlock, and
// a log behind a mutex. Its main thread forks helpers that use all three, as a careless daemon
// does.
//
//   poold FORKS LIMIT_S MAX_HUNG
//
// A child that does not end in LIMIT_S seconds is hung: it is killed and counted, and the daemon
// ends early after MAX_HUNG of them. A child that finds the table in the middle of an update fails.
// Prints now and then "progress FORKS HUNG", and at last
// "result forks=N hung=N failed=N mean_us=X median_us=X": the times are those of the call of fork.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 4, JOBS = 3, QUEUE_SIZE = 64, ACCOUNTS = 256, START_BALANCE = 1000 };

static void die(const char *what) {
    fprintf(stderr, "poold: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

// ---- The log: lines are formatted into one shared buffer and written under its mutex.

static struct {
    pthread_mutex_t mutex;
    int fd;
    unsigned long lines;
    char buffer[512];
} logger = {.mutex = PTHREAD_MUTEX_INITIALIZER};

__attribute__((format(printf, 2, 3))) static void log_line(const char *who, const char *format,
                                                           ...) {
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&logger.mutex);
    size_t room = sizeof logger.buffer;
    int head = snprintf(logger.buffer, room, "%014.0f poold[%d] %-8s #%lu: ", now_us(),
                        (int)getpid(), who, ++logger.lines);
    size_t used = (size_t)head;
    int body = vsnprintf(logger.buffer + used, room - used, format, args);
    used += (size_t)body < room - used ? (size_t)body : room - used - 1;
    logger.buffer[used++] = '\n';
    if (write(logger.fd, logger.buffer, used) < 0)
        die("log");
    pthread_mutex_unlock(&logger.mutex);
    va_end(args);
}

// ---- The table: transfers between accounts keep the total, so a reader can tell a torn table.

static struct {
    pthread_rwlock_t lock;
    long balance[ACCOUNTS];
} table = {.lock = PTHREAD_RWLOCK_INITIALIZER};

static void table_fill(void) {
    for (int i = 0; i < ACCOUNTS; i++)
        table.balance[i] = START_BALANCE;
}

static void table_transfer(unsigned from, unsigned to, long amount) {
    pthread_rwlock_wrlock(&table.lock);
    table.balance[from % ACCOUNTS] -= amount;
    log_line("table", "%ld from %u to %u", amount, from % ACCOUNTS, to % ACCOUNTS);
    table.balance[to % ACCOUNTS] += amount;
    pthread_rwlock_unlock(&table.lock);
}

static bool table_is_whole(void) {
    long total = 0;
    pthread_rwlock_rdlock(&table.lock);
    for (int i = 0; i < ACCOUNTS; i++)
        total += table.balance[i];
    pthread_rwlock_unlock(&table.lock);
    return total == (long)ACCOUNTS * START_BALANCE;
}

// ---- The queue: a ring of job numbers with a condition variable for "not empty".

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t not_empty;
    unsigned jobs[QUEUE_SIZE];
    unsigned head, count;
    bool closed;
} queue = {.mutex = PTHREAD_MUTEX_INITIALIZER, .not_empty = PTHREAD_COND_INITIALIZER};

static void queue_push(unsigned job) {
    pthread_mutex_lock(&queue.mutex);
    if (queue.count < QUEUE_SIZE)
        queue.jobs[(queue.head + queue.count++) % QUEUE_SIZE] = job;
    pthread_cond_signal(&queue.not_empty);
    pthread_mutex_unlock(&queue.mutex);
}

static bool queue_pop(unsigned *job) {
    pthread_mutex_lock(&queue.mutex);
    while (queue.count == 0 && !queue.closed)
        pthread_cond_wait(&queue.not_empty, &queue.mutex);
    bool open = !queue.closed;
    if (open) {
        *job = queue.jobs[queue.head];
        queue.head = (queue.head + 1) % QUEUE_SIZE;
        queue.count--;
    }
    pthread_mutex_unlock(&queue.mutex);
    return open;
}

static void queue_close(void) {
    pthread_mutex_lock(&queue.mutex);
    queue.closed = true;
    pthread_cond_broadcast(&queue.not_empty);
    pthread_mutex_unlock(&queue.mutex);
}

// ---- Workers. A job that is done comes back as the next one: there are fewer jobs than workers,
// so some workers are always busy and one always waits on the condition variable.

static void *worker(void *name) {
    unsigned job;
    while (queue_pop(&job)) {
        log_line(name, "job %u begins", job);
        table_transfer(job, job * 7 + 1, (long)(job % 50));
        if (!table_is_whole()) {
            fprintf(stderr, "poold: the daemon's own table does not add up\n");
            abort();
        }
        log_line(name, "job %u is done", job);
        queue_push(job + JOBS);
    }
    return NULL;
}

// ---- Forking.

// What the daemon's helper process does; returns its exit status.
static int helper(unsigned number) {
    prctl(PR_SET_PDEATHSIG, SIGKILL); // a hung helper must not outlive the daemon
    log_line("helper", "helper %u begins", number);
    bool whole = table_is_whole();
    queue_push(number);
    log_line("helper", "helper %u is done", number);
    return whole ? 0 : 1;
}

// Waits for the child with SIGCHLD blocked, so that the signal cannot be missed. False: it is hung.
static bool ends_in_time(pid_t child, double limit_us, int *status) {
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    double until = now_us() + limit_us;
    while (waitpid(child, status, WNOHANG) == 0) {
        double left = until - now_us();
        if (left <= 0)
            return false;
        struct timespec timeout = {.tv_sec = (time_t)(left / 1e6),
                                   .tv_nsec = (long)(left * 1e3) % 1000000000};
        if (sigtimedwait(&chld, NULL, &timeout) < 0 && errno != EAGAIN && errno != EINTR)
            die("sigtimedwait");
    }
    return true;
}

struct outcome {
    int forks, hung, failed;
    double *us;
};

static void fork_once(struct outcome *out, double limit_us) {
    double start = now_us();
    pid_t child = fork();
    if (child == 0)
        _exit(helper((unsigned)out->forks));
    double end = now_us();
    if (child < 0)
        die("fork");
    out->us[out->forks++] = end - start;
    int status = 0;
    if (ends_in_time(child, limit_us, &status)) {
        out->failed += status != 0;
    } else {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        out->hung++;
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_result(const struct outcome *out) {
    double sum = 0;
    for (int i = 0; i < out->forks; i++)
        sum += out->us[i];
    qsort(out->us, (size_t)out->forks, sizeof *out->us, ascending);
    printf("result forks=%d hung=%d failed=%d mean_us=%.1f median_us=%.1f\n", out->forks, out->hung,
           out->failed, sum / out->forks, out->us[out->forks / 2]);
}

int main(int argc, char **argv) {
    int forks = argc == 4 ? atoi(argv[1]) : 0;
    double limit_us = argc == 4 ? atof(argv[2]) * 1e6 : 0;
    int max_hung = argc == 4 ? atoi(argv[3]) : 0;
    if (forks < 1 || limit_us <= 0 || max_hung < 1) {
        fprintf(stderr, "usage: poold FORKS LIMIT_S MAX_HUNG\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    logger.fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (logger.fd < 0)
        die("/dev/null");
    table_fill();
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &chld, NULL);

    static char *const names[WORKERS] = {"worker-0", "worker-1", "worker-2", "worker-3"};
    pthread_t workers[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        if ((errno = pthread_create(&workers[i], NULL, worker, names[i])) != 0)
            die("pthread_create");
    for (unsigned job = 0; job < JOBS; job++)
        queue_push(job);

    struct outcome out = {.us = calloc((size_t)forks, sizeof *out.us)};
    if (out.us == NULL)
        die("calloc");
    double shown = 0;
    while (out.forks < forks && out.hung < max_hung) {
        fork_once(&out, limit_us);
        if (now_us() - shown > 200e3) {
            printf("progress %d %d\n", out.forks, out.hung);
            shown = now_us();
        }
    }
    queue_close();
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    print_result(&out);
    free(out.us);
    return 0;
}
