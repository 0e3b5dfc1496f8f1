// daemon BUG...: a daemon that forks a worker while its own threads are busy, and whose worker then does what daemons do:
// it writes to the log, waits for a job, looks at the modules that are loaded. Each BUG leaves something behind for
// the worker to run into:
//
//     mutex    a thread holds the log's mutex
//     waiter   a thread waits for a job on the condition variable that the worker waits on, too
//     libc     a thread is inside dl_iterate_phdr
//
// Without any, the daemon forks when nobody is at anything.
// Exits 0 if the worker came through.
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t job_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t job_ready = PTHREAD_COND_INITIALIZER;
static int jobs;
static bool asked_for_mutex, asked_for_waiter, asked_for_libc;
static sem_t busy; // a thread is where it should be

static void log_line(void) {
    pthread_mutex_lock(&log_lock);
    pthread_mutex_unlock(&log_lock);
}

static void *logger(void *unused) {
    (void)unused;
    pthread_mutex_lock(&log_lock);
    sem_post(&busy);
    usleep(20000); // writes a long line
    pthread_mutex_unlock(&log_lock);
    return NULL;
}

static void *worker_thread(void *unused) {
    (void)unused;
    pthread_mutex_lock(&job_lock);
    while (jobs == 0) {
        sem_post(&busy);
        pthread_cond_wait(&job_ready, &job_lock);
    }
    jobs--;
    pthread_mutex_unlock(&job_lock);
    return NULL;
}

static int look_slowly(struct dl_phdr_info *module, size_t size, void *unused) {
    (void)module, (void)size, (void)unused;
    sem_post(&busy);
    usleep(20000);
    return 1;
}

static void *symbolizer(void *unused) {
    (void)unused;
    dl_iterate_phdr(look_slowly, NULL);
    return NULL;
}

static int count_module(struct dl_phdr_info *module, size_t size, void *count) {
    (void)module, (void)size;
    ++*(int *)count;
    return 0;
}

static void *give_job(void *unused) {
    (void)unused;
    pthread_mutex_lock(&job_lock);
    jobs++;
    pthread_cond_signal(&job_ready);
    pthread_mutex_unlock(&job_lock);
    return NULL;
}

static void wait_for_job(void) {
    pthread_t giver;
    pthread_mutex_lock(&job_lock);
    pthread_create(&giver, NULL, give_job, NULL);
    while (jobs == 0) {
        pthread_cond_wait(&job_ready, &job_lock);
    }
    jobs--;
    pthread_mutex_unlock(&job_lock);
    pthread_join(giver, NULL);
}

static int serve(void) {
    int modules = 0;
    log_line();
    wait_for_job();
    dl_iterate_phdr(count_module, &modules);
    return modules > 0 ? 0 : 1;
}

static void start(pthread_t *thread, bool asked, void *(*body)(void *)) {
    if (asked) {
        pthread_create(thread, NULL, body, NULL);
        sem_wait(&busy);
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        asked_for_mutex |= strcmp(argv[i], "mutex") == 0;
        asked_for_waiter |= strcmp(argv[i], "waiter") == 0;
        asked_for_libc |= strcmp(argv[i], "libc") == 0;
    }
    pthread_t threads[3];
    sem_init(&busy, 0, 0);
    start(&threads[0], asked_for_waiter, worker_thread);
    if (asked_for_waiter) {
        pthread_mutex_lock(&job_lock); // it waits now
        pthread_mutex_unlock(&job_lock);
    }
    start(&threads[1], asked_for_libc, symbolizer);
    start(&threads[2], asked_for_mutex, logger);
    pid_t worker = fork();
    if (worker == 0) {
        alarm(20); // a hung worker is a failed one
        _exit(serve());
    }
    int status;
    waitpid(worker, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
