// stuck KIND: a forked child whose threads block each other, in a way that is nobody's fault but the program's own:
//     mutex   two threads take two mutexes crosswise
//     cond, barrier, semaphore, join, rwlock   one thread waits for what never comes
// The child is killed after two seconds; the parent then exits with 0.
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t first = PTHREAD_MUTEX_INITIALIZER, second = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t empty, ready;

static void *crosswise(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "other");
    pthread_mutex_lock(&second);
    sem_post(&ready);
    pthread_mutex_lock(&first);
    return NULL;
}

static void *sleeper(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "sleeper");
    sem_post(&ready);
    for (;;) {
        pause();
    }
    return NULL;
}

static void *writer(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "writer");
    pthread_rwlock_wrlock(&rwlock);
    sem_post(&ready);
    for (;;) {
        pause();
    }
    return NULL;
}

static void get_stuck(const char *kind) {
    pthread_t thread;
    if (strcmp(kind, "mutex") == 0) {
        pthread_mutex_lock(&first);
        pthread_create(&thread, NULL, crosswise, NULL);
        sem_wait(&ready);
        pthread_mutex_lock(&second);
    } else if (strcmp(kind, "cond") == 0) {
        pthread_mutex_lock(&first);
        pthread_cond_wait(&never, &first);
    } else if (strcmp(kind, "barrier") == 0) {
        pthread_barrier_init(&barrier, NULL, 2);
        pthread_barrier_wait(&barrier);
    } else if (strcmp(kind, "semaphore") == 0) {
        sem_wait(&empty);
    } else if (strcmp(kind, "join") == 0) {
        pthread_create(&thread, NULL, sleeper, NULL);
        sem_wait(&ready);
        pthread_join(thread, NULL);
    } else if (strcmp(kind, "rwlock") == 0) {
        pthread_create(&thread, NULL, writer, NULL);
        sem_wait(&ready);
        pthread_rwlock_rdlock(&rwlock);
    }
}

int main(int argc, char **argv) {
    sem_init(&empty, 0, 0);
    sem_init(&ready, 0, 0);
    pid_t child = fork();
    if (child == 0) {
        get_stuck(argc > 1 ? argv[1] : "");
        _exit(3); // did not get stuck
    }
    sleep(2);
    kill(child, SIGKILL);
    int status;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? 0 : 1;
}
