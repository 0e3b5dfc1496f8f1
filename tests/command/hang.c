/* hang WAYS...: a program whose lock is never let go, for tests/command/run.
 *
 * Each way is one of: child (a forked child waits for the lock), daemon (the same, in a session of its own and
 * with no parent left), deaf (TERM is ignored), wait (the first process waits for the lock itself, else for ever). */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t hang_lock = PTHREAD_MUTEX_INITIALIZER;
static int ready[2];

static void *hold(void *unused) {
    pthread_mutex_lock(&hang_lock);
    if (write(ready[1], "", 1) != 1)
        perror("hang: pipe");
    for (;;)
        pause();
    return unused;
}

__attribute__((noinline)) static void wait_for_it(void) {
    pthread_mutex_lock(&hang_lock);
    puts("hang: got the lock");
}

int main(int argc, char **argv) {
    pthread_t holder;
    char byte;
    if (pipe(ready) != 0 || pthread_create(&holder, NULL, hold, NULL) != 0 || read(ready[0], &byte, 1) != 1)
        return 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "deaf") == 0)
            signal(SIGTERM, SIG_IGN);
        else if (strcmp(argv[i], "wait") == 0)
            wait_for_it();
        else if (fork() == 0) {
            if (strcmp(argv[i], "daemon") == 0 && (setsid() < 0 || fork() != 0))
                _exit(0);
            wait_for_it();
            return 0;
        }
    }
    for (;;)
        pause();
}
