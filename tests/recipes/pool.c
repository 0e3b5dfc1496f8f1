/*
 * pool.c: the small program that each recipe runs. A thread takes log_lock and keeps it while another
 * forks; the child takes it, too: it deadlocks bare, is forced in repair, and told in detect.
 *
 *     pool          as above; status 0 if the child came through, 1 if it hung (for 10 s)
 *     pool clean    the thread has let go before the fork
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static sem_t taken, done;

static void *log_for_long(void *unused) {
    (void)unused;
    pthread_setname_np(pthread_self(), "logger");
    pthread_mutex_lock(&log_lock);
    sem_post(&taken);
    sem_wait(&done);
    pthread_mutex_unlock(&log_lock);
    return NULL;
}

static void child_logs(void) {
    alarm(10); /* bare, this is what ends it */
    pthread_mutex_lock(&log_lock);
    pthread_mutex_unlock(&log_lock);
    _exit(0);
}

int main(int argc, char **argv) {
    int clean = argc > 1 && strcmp(argv[1], "clean") == 0;
    pthread_t logger;
    sem_init(&taken, 0, 0);
    sem_init(&done, 0, 0);
    if (pthread_create(&logger, NULL, log_for_long, NULL) != 0) {
        return 3;
    }
    sem_wait(&taken);
    if (clean) {
        sem_post(&done);
        pthread_join(logger, NULL);
    }
    pid_t child = fork();
    if (child == 0) {
        child_logs();
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (!clean) {
        sem_post(&done);
        pthread_join(logger, NULL);
    }
    int ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    puts(ok ? "the child came through" : "the child hung");
    return ok ? 0 : 1;
}
