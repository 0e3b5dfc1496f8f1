// gdb_debuggee THREADS: threads that work and wait, and forks beside them; to be driven by a debugger.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct shared {
    pthread_mutex_t lock;
    int value;
};

static struct shared shared_one = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct shared *shared = &shared_one;
static pthread_barrier_t all_there;
static int stop;

int in_thread(int number) {
    pthread_mutex_lock(&shared->lock);
    shared->value++;
    pthread_mutex_unlock(&shared->lock);
    return number * number;
}

static void *work(void *argument) {
    int number = (int)(long)argument;
    // One after the other, so that a session is the same each time.
    while (__atomic_load_n(&shared->value, __ATOMIC_ACQUIRE) != number) {
        usleep(1000);
    }
    int square = in_thread(number);
    pthread_barrier_wait(&all_there);
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        if (number % 2 == 0) { // the others run without a lock
            pthread_mutex_lock(&shared->lock);
            pthread_mutex_unlock(&shared->lock);
        }
    }
    return (void *)(long)square;
}

void before_forks(void) {}

void before_last_fork(void) {}

// The child takes no lock, since bare it might hang in it.
static void fork_child(int signo) {
    pid_t pid = fork();
    if (pid == 0) {
        shared->value *= 100;
        if (signo != 0) {
            raise(signo);
        }
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 4;
    pthread_t *threads = calloc((size_t)count, sizeof *threads);
    pthread_barrier_init(&all_there, NULL, (unsigned)count + 1);
    for (long i = 0; i < count; i++) {
        pthread_create(&threads[i], NULL, work, (void *)i);
    }
    pthread_barrier_wait(&all_there);
    before_forks();
    for (int i = 0; i < 20; i++) {
        fork_child(0);
    }
    before_last_fork();
    fork_child(SIGUSR1);
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    return 0;
}
