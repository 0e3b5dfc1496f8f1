/* idle THREADS [handlers] [fork]: starts so many threads, which lock and unlock a few locks and then wait, and
 * says what
 * the kernel counts of the process: "RSS PRIVATE_DIRTY" in KiB. */
#include "surroundings.h"

enum { LOCKS = 16 };

static pthread_mutex_t locks[LOCKS];
static pthread_barrier_t begun;

static void on_signal(int signo) { (void)signo; }

static void *wait_long(void *unused) {
    for (unsigned i = 0; i < LOCKS; i++) {
        pthread_mutex_lock(&locks[i]);
    }
    for (unsigned i = LOCKS; i > 0; i--) {
        pthread_mutex_unlock(&locks[i - 1]);
    }
    pthread_barrier_wait(&begun);
    pause();
    return unused;
}

int main(int argc, char **argv) {
    unsigned threads = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    SETUP(argc > 1 && pthread_barrier_init(&begun, NULL, threads + 1) == 0);
    for (unsigned i = 0; i < LOCKS; i++) {
        SETUP(pthread_mutex_init(&locks[i], NULL) == 0);
    }
    if (argc > 2 && strcmp(argv[2], "handlers") == 0) {
        struct sigaction action = {.sa_handler = on_signal};
        SETUP(sigaction(SIGUSR1, &action, NULL) == 0);
    }
    pthread_attr_t small;
    SETUP(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 65536) == 0);
    for (unsigned i = 0; i < threads; i++) {
        pthread_t thread;
        SETUP(pthread_create(&thread, &small, wait_long, NULL) == 0);
    }
    pthread_barrier_wait(&begun);
    if (argc > 3) {
        for (unsigned i = 0; i < 100; i++) {
            pid_t child = fork();
            if (child == 0) {
                _exit(0);
            }
            SETUP(fine(child));
        }
    }
    char line[256];
    unsigned rss = 0, dirty = 0;
    FILE *rollup = fopen("/proc/self/smaps_rollup", "re");
    SETUP(rollup != NULL);
    while (fgets(line, sizeof line, rollup) != NULL) {
        sscanf(line, "Rss: %u", &rss);
        sscanf(line, "Private_Dirty: %u", &dirty);
    }
    SETUP(rss != 0 && dirty != 0);
    say("%u %u\n", rss, dirty);
    _exit(0);
}
