// Watching processes that may hang: the monitor every program of stress/, order/ and scale/ runs
// under, and what is printed about a process that hung. Header only, so that each program is one
// compile line.
//
// A program calls watch_monitor() first, while it has one thread. The body runs in a child with a
// process group of its own; the calling process stays single-threaded, takes no locks, and
// therefore can neither hang nor be forked in a bad moment itself.
#ifndef FORKSAFE_TESTS_WATCH_H
#define FORKSAFE_TESTS_WATCH_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WATCH_HUNG = -1, WATCH_EXIT_HUNG = 124 };

static inline int64_t watch_now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// For waits in which nothing can be had by being woken: errors such as EINTR only shorten them.
static inline void watch_pause_ms(int ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

// One write(2) a line: takes no stdio lock, so it may be used in a forked child and beside held
// FILE locks.
__attribute__((format(printf, 1, 2))) static inline void watch_say(const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    size_t size = n < 0 ? 0 : (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
    for (size_t done = 0; done < size;) {
        ssize_t w = write(STDERR_FILENO, line + done, size - done);
        if (w < 0 && errno != EINTR) {
            return;
        }
        done += w > 0 ? (size_t)w : 0;
    }
}

// Memory that parent and children see alike, for counters. Never unmapped.
static inline void *watch_shared(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return p;
}

static inline void watch_dump_file(pid_t pid, const char *task, const char *name) {
    char path[320], text[256];
    snprintf(path, sizeof path, "/proc/%d/task/%s/%s", (int)pid, task, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0) {
        close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    watch_say("  %s/%s: %s\n", task, name, text);
}

// Stacks by gdb, only where the environment asks for them: it takes seconds and needs ptrace.
static inline void watch_dump_gdb(pid_t pid) {
    if (getenv("WATCH_GDB") == NULL) {
        return;
    }
    char number[16];
    snprintf(number, sizeof number, "%d", (int)pid);
    char *argv[] = {"env",  "-u",  "LD_PRELOAD",          "gdb", "-batch", "-p",
                    number, "-ex", "thread apply all bt", NULL};
    posix_spawn_file_actions_t to_stderr;
    posix_spawn_file_actions_init(&to_stderr);
    posix_spawn_file_actions_adddup2(&to_stderr, STDERR_FILENO, STDOUT_FILENO);
    extern char **environ;
    pid_t gdb;
    if (posix_spawnp(&gdb, "env", &to_stderr, NULL, argv, environ) == 0) {
        waitpid(gdb, NULL, 0);
    }
    posix_spawn_file_actions_destroy(&to_stderr);
}

// Says on stderr where every thread of a hung process is.
static inline void watch_dump(pid_t pid, const char *what) {
    watch_say("hung: %s, pid %d\n", what, (int)pid);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    if (dir != NULL) {
        for (struct dirent *e; (e = readdir(dir)) != NULL;) {
            if (e->d_name[0] != '.') {
                watch_dump_file(pid, e->d_name, "comm");
                watch_dump_file(pid, e->d_name, "wchan");
                watch_dump_file(pid, e->d_name, "syscall");
            }
        }
        closedir(dir);
    }
    watch_dump_gdb(pid);
}

// Reaps a child of the caller: its wait status, or WATCH_HUNG after it was shown and killed.
// Polls, since a program under test may have SIGCHLD and its threads for other things.
static inline int watch_child(pid_t pid, int limit_s, const char *what) {
    int64_t end = watch_now_ms() + (int64_t)limit_s * 1000;
    int status;
    for (int pause_ms = 1; watch_now_ms() < end; pause_ms = pause_ms < 10 ? pause_ms + 1 : 10) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid) {
            return status;
        }
        if (got < 0 && errno != EINTR) {
            watch_say("waitpid %d: %s\n", (int)pid, strerror(errno));
            return 127 << 8;
        }
        watch_pause_ms(pause_ms);
    }
    watch_dump(pid, what);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return WATCH_HUNG;
}

// Turns a wait status into words for a failure line; the text is overwritten by the next call.
static inline const char *watch_status(int status) {
    static char text[64];
    if (status == WATCH_HUNG) {
        snprintf(text, sizeof text, "hung");
    } else if (WIFSIGNALED(status)) {
        snprintf(text, sizeof text, "killed by signal %d", WTERMSIG(status));
    } else {
        snprintf(text, sizeof text, "exit %d", WEXITSTATUS(status));
    }
    return text;
}

// A forked child that is forgotten (its parent was killed) must not stay for ever: the kernel kills
// it.
static inline void watch_die_after(int seconds) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value = {.tv_sec = seconds}};
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0) {
        timer_settime(timer, 0, &when, NULL);
    }
}

static volatile pid_t watch_body;

static inline void watch_on_end(int sig) {
    if (watch_body > 0) {
        kill(-watch_body, SIGKILL);
    }
    _exit(128 + sig);
}

static inline void watch_catch_end(void) {
    struct sigaction action = {.sa_handler = watch_on_end};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

static inline void watch_restore_end(void) {
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
}

// Runs body(argc, argv) in a child. `beat`, if given, is shared memory that the body changes while
// it is well; then limit_s is how long it may stand still, else how long the body may take. Returns
// the wait status or WATCH_HUNG; whatever is left of the body's process group is killed in either
// case.
static inline int watch_monitor(int (*body)(int, char **), int argc, char **argv, int limit_s,
                                const atomic_ulong *beat) {
    fflush(NULL);
    watch_catch_end();
    pid_t monitor = getpid(), pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    if (pid == 0) {
        watch_restore_end();
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != monitor) {
            _exit(2);
        }
        exit(body(argc, argv));
    }
    setpgid(pid, pid);
    watch_body = pid;
    unsigned long last = 0;
    int64_t end = watch_now_ms() + (int64_t)limit_s * 1000;
    int status = 0;
    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid) {
            break;
        }
        unsigned long now = beat != NULL ? atomic_load(beat) : 0;
        if (now != last) {
            last = now;
            end = watch_now_ms() + (int64_t)limit_s * 1000;
        }
        if (watch_now_ms() > end) {
            watch_dump(pid, argv[0]);
            kill(-pid, SIGKILL);
            waitpid(pid, NULL, 0);
            status = WATCH_HUNG;
            break;
        }
        watch_pause_ms(20);
    }
    kill(-pid, SIGKILL);
    return status;
}

#endif
