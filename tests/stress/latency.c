// latency CALL FORKS: how long fork() takes while two threads make CALL all the time ("idle": while
// they sleep). Prints "CALL median_us p90_us". For a look, not for a verdict: see latency.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <locale.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 2 };

static void call_idle(void) { pause(); }
static void call_localtime(void) {
    time_t now = 1;
    struct tm tm;
    localtime_r(&now, &tm);
}
static void call_mktime(void) {
    struct tm tm = {.tm_year = 100};
    mktime(&tm);
}
static void call_tzset(void) { tzset(); }
static void call_random(void) { random(); }
static void call_syslog(void) { syslog(LOG_DEBUG, "latency"); }
static void call_getpwnam(void) { getpwnam("root"); }
static void call_setenv(void) { setenv("LATENCY", "1", 1); }
static void call_setlocale(void) { setlocale(LC_ALL, "C"); }
static void call_getaddrinfo(void) {
    struct addrinfo *list;
    if (getaddrinfo("127.0.0.1", "80", NULL, &list) == 0) {
        freeaddrinfo(list);
    }
}
static void call_dlopen(void) {
    void *module = dlopen("libanl.so.1", RTLD_NOW);
    if (module != NULL) {
        dlclose(module);
    }
}

static const struct {
    const char *name;
    void (*call)(void);
} calls[] = {
    {"idle", call_idle},         {"localtime", call_localtime},     {"mktime", call_mktime},
    {"tzset", call_tzset},       {"random", call_random},           {"syslog", call_syslog},
    {"getpwnam", call_getpwnam}, {"setenv", call_setenv},           {"setlocale", call_setlocale},
    {"dlopen", call_dlopen},     {"getaddrinfo", call_getaddrinfo},
};

static _Atomic int turning;

static void *turn(void *argument) {
    void (*const *call)(void) = argument;
    atomic_fetch_add(&turning, 1);
    for (;;) {
        (*call)();
    }
    return NULL;
}

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(void (*call)(void), double *took, int forks) {
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, turn, &call);
    }
    while (atomic_load(&turning) < THREADS) {
    }
    for (int i = 0; i < forks; i++) {
        double start = now_us();
        pid_t pid = fork();
        if (pid == 0) {
            _exit(0);
        }
        took[i] = now_us() - start;
        waitpid(pid, NULL, 0);
    }
    qsort(took, (size_t)forks, sizeof *took, by_size);
}

int main(int argc, char **argv) {
    int forks = argc == 3 ? atoi(argv[2]) : 0;
    for (size_t i = 0; forks > 0 && i < sizeof calls / sizeof calls[0]; i++) {
        if (strcmp(argv[1], calls[i].name) == 0) {
            double *took = calloc((size_t)forks, sizeof *took);
            measure(calls[i].call, took, forks);
            printf("%s %.0f %.0f\n", argv[1], took[forks / 2], took[forks * 9 / 10]);
            fflush(stdout);
            _exit(0);
        }
    }
    fprintf(stderr, "usage: latency CALL FORKS\n");
    return 2;
}
