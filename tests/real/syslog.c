// syslog [FORKS]: eight threads log with syslog(3) to a socket at /dev/log, while the first thread
// forks workers that log too. Each line must arrive, and none twice. Exits 0 if so, 1 if not, 77
// where there may be no private /dev (it is mounted for this process alone).
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

enum { THREADS = 8, LINES = 400, WORKER_LINES = 5, SKIPPED = 77, WORKER_LIMIT_S = 20 };

static int forks = 200;

static int make_socket(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", "/dev", "tmpfs", 0, NULL) != 0 || fd < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        fprintf(stderr, "syslog: no private /dev/log: %s\n", strerror(errno));
        exit(SKIPPED);
    }
    return fd;
}

// Who wrote what: "<15>Nov 21 00:00:00 storm: W 3 4", the fourth line of the third worker. Counts
// the lines that came; says so of one that came twice.
static int receive(int fd, unsigned char *seen, int places) {
    int came = 0;
    for (;;) {
        char line[512];
        ssize_t length = recv(fd, line, sizeof line - 1, 0);
        if (length <= 0) {
            return came;
        }
        line[length] = '\0';
        char kind;
        int who, number;
        const char *at = strstr(line, "storm: ");
        if (at == NULL || sscanf(at, "storm: %c %d %d", &kind, &who, &number) != 3) {
            fprintf(stderr, "syslog: a broken line: %s\n", line);
            continue;
        }
        if (kind == 'E') {
            return came;
        }
        int place =
            kind == 'T' ? who * LINES + number : THREADS * LINES + who * WORKER_LINES + number;
        if (place < 0 || place >= places || seen[place]++ != 0) {
            fprintf(stderr, "syslog: twice, or not ours: %s\n", line);
            continue;
        }
        came++;
    }
}

static void *log_all(void *argument) {
    int who = *(int *)argument;
    for (int i = 0; i < LINES; i++) {
        syslog(LOG_DEBUG, "T %d %d", who, i);
    }
    return NULL;
}

static void work(int who) {
    alarm(WORKER_LIMIT_S);
    for (int i = 0; i < WORKER_LINES; i++) {
        syslog(LOG_DEBUG, "W %d %d", who, i);
    }
    _exit(0);
}

static int fork_workers(void) {
    int hung = 0;
    for (int i = 0; i < forks && hung == 0; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            work(i);
        }
        int status;
        waitpid(pid, &status, 0);
        hung += status != 0;
    }
    return hung;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        forks = atoi(argv[1]);
    }
    int fd = make_socket();
    int places = THREADS * LINES + forks * WORKER_LINES;
    pid_t receiver = fork();
    if (receiver == 0) {
        unsigned char *seen = calloc((size_t)places, 1);
        int came = receive(fd, seen, places);
        printf("syslog: %d of %d lines came\n", came, places);
        exit(came == places ? 0 : 1);
    }
    openlog("storm", 0, LOG_USER);
    pthread_t threads[THREADS];
    int who[THREADS];
    for (int i = 0; i < THREADS; i++) {
        who[i] = i;
        pthread_create(&threads[i], NULL, log_all, &who[i]);
    }
    int hung = fork_workers();
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    syslog(LOG_DEBUG, "E 0 0");
    int status;
    waitpid(receiver, &status, 0);
    printf("syslog: %d of %d workers hung\n", hung, forks);
    return hung == 0 && status == 0 ? 0 : 1;
}
