/* fds MODE FILE [WAY]: the program's descriptors.
 *
 *   list FILE        lists them at each stage of its life, its child's too
 *   database FILE WAY [early|late]   closes all (WAY: range, loop, closefrom, daemon) before or after it has
 *                                    threads, opens
 *                    FILE as 0, 1 and 2, and forks beside a thread that holds a mutex for good; the child takes it
 *   reborn FILE      removes FILE, which is its stderr, and makes it anew: it then has the same inode number on
 *   some file
 *                    systems
 *   stderr FILE      forks in the same way, with its stderr as it is
 *
 * What `database`, `reborn` and `stderr` say goes to FILE. */
#include "surroundings.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t begun, over;

static void on_signal(int signo) { (void)signo; }

static void *hold(void *unused) {
    pthread_mutex_lock(&held);
    pthread_barrier_wait(&begun);
    pthread_barrier_wait(&over);
    pthread_mutex_unlock(&held);
    return unused;
}

static void *sleep_on(void *unused) {
    pthread_barrier_wait(&begun);
    pthread_barrier_wait(&over);
    return unused;
}

static pthread_t threads[3];

static void start_threads(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    SETUP(sigaction(SIGUSR1, &action, NULL) == 0);
    SETUP(pthread_barrier_init(&begun, NULL, 4) == 0 && pthread_barrier_init(&over, NULL, 4) == 0);
    for (unsigned i = 0; i < 3; i++) {
        SETUP(pthread_create(&threads[i], NULL, i == 0 ? hold : sleep_on, NULL) == 0);
    }
    pthread_barrier_wait(&begun);
}

static void end_threads(void) {
    pthread_barrier_wait(&over);
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* --- list ------------------------------------------------------------------------------------ */

static void list(int out, const char *when) {
    char line[4096];
    int length = snprintf(line, sizeof line, "%s:", when);
    DIR *folder = opendir("/proc/self/fd");
    SETUP(folder != NULL);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char target[512] = {0};
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(folder)) {
            continue;
        }
        SETUP(readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1) > 0);
        int flags = fcntl(atoi(entry->d_name), F_GETFD);
        length += snprintf(line + length, sizeof line - (size_t)length, " %s=%s/%d", entry->d_name,
                           strncmp(target, "pipe:", 5) == 0 ? "pipe" : target, flags);
    }
    closedir(folder);
    int next = dup(out); /* the lowest free number */
    close(next);
    length += snprintf(line + length, sizeof line - (size_t)length, " next=%d\n", next);
    SETUP(write(out, line, (size_t)length) == length);
}

static int list_all(int out) {
    list(out, "at start");
    start_threads();
    list(out, "with threads");
    for (unsigned i = 0; i < 5; i++) {
        pid_t child = fork();
        if (child == 0) {
            list(out, "in a child");
            pid_t inner = fork();
            if (inner == 0) {
                list(out, "in its child");
                _exit(0);
            }
            bool good = fine(inner);
            list(out, "in a child that forked");
            _exit(!good);
        }
        fine(child);
        list(out, "after a fork");
    }
    end_threads();
    list(out, "without threads");
    return 0;
}

/* --- a database at 2 ------------------------------------------------------------------------- */

static void fork_beside_holder(void) {
    for (unsigned i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(CHILD_LIMIT_S);
            pthread_mutex_lock(&held);
            pthread_mutex_unlock(&held);
            _exit(0);
        }
        say("child %u: %s\n", i, fine(child) ? "fine" : "not fine");
    }
}

static void close_all(const char *way) {
    if (strcmp(way, "range") == 0) {
        SETUP(close_range(0, ~0U, 0) == 0);
    } else if (strcmp(way, "closefrom") == 0) {
        closefrom(0);
    } else if (strcmp(way, "loop") == 0) {
        for (int fd = 0; fd < (int)sysconf(_SC_OPEN_MAX) && fd < 5000; fd++) {
            close(fd);
        }
    } else {
        SETUP(strcmp(way, "daemon") == 0 && daemon(1, 0) == 0);
        close(0), close(1), close(2);
    }
}

/* As the lowest three. */
static void open_database(const char *file) {
    for (int fd = 0; fd < 3; fd++) {
        if (open(file, O_RDWR | O_CREAT | O_APPEND, 0600) != fd) {
            _exit(BROKEN);
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: fds list|database|reborn|stderr FILE [WAY [early|late]]\n");
        return 2;
    }
    if (strcmp(argv[1], "list") == 0) {
        int out = open(argv[2], O_WRONLY | O_CREAT | O_APPEND, 0600);
        SETUP(out >= 0);
        return list_all(out);
    }
    if (strcmp(argv[1], "database") == 0) {
        SETUP(argc == 5);
        bool early = strcmp(argv[4], "early") == 0;
        if (!early) {
            start_threads();
            fork_beside_holder();
        }
        close_all(argv[3]);
        open_database(argv[2]);
        if (early) {
            start_threads();
        }
    } else if (strcmp(argv[1], "reborn") == 0) {
        struct stat old, now = {0};
        alarm(CHILD_LIMIT_S);
        SETUP(fstat(2, &old) == 0);
        close(2);
        SETUP(unlink(argv[2]) == 0);
        for (unsigned i = 0; i < 200 && now.st_ino != old.st_ino; i++) {
            if (i != 0) { /* kept: the next one gets another number */
                SETUP(dup(2) > 2);
                close(2);
                unlink(argv[2]);
            }
            SETUP(open(argv[2], O_RDWR | O_CREAT | O_APPEND, 0600) == 2 && fstat(2, &now) == 0);
        }
        if (now.st_ino != old.st_ino || now.st_dev != old.st_dev) {
            return 77;
        }
        SETUP(dup2(2, 1) == 1);
        start_threads();
    } else {
        int out = open(argv[2], O_WRONLY | O_CREAT | O_APPEND, 0600);
        SETUP(dup2(out, 1) == 1);
        start_threads();
    }
    fork_beside_holder();
    end_threads();
    say("the end\n");
    return 0;
}
