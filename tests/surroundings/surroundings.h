/* surroundings.h - what these programs share. Each says on standard output what it sees, in words that do not
 * depend on the run, so that the output of a bare run and of a preloaded one can be compared. */
#ifndef SURROUNDINGS_H
#define SURROUNDINGS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BROKEN = 3, CHILD_LIMIT_S = 60 };

/* A step that the test itself needs. */
#define SETUP(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: cannot set up: %s: %s\n", __FILE__, __LINE__, #condition,      \
                    strerror(errno));                                                              \
            _exit(BROKEN);                                                                         \
        }                                                                                          \
    } while (0)

/* To standard output by one write, without stdio: also in children. */
__attribute__((format(printf, 1, 2), unused)) static void say(const char *format, ...) {
    char line[4096];
    va_list list;
    va_start(list, format);
    int length = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (length > 0 && write(STDOUT_FILENO, line, (size_t)length) != length) {
        _exit(BROKEN);
    }
}

/* Waits for the child. Says what became of it unless it ended with 0. */
__attribute__((unused)) static bool fine(pid_t child) {
    int status = 0;
    pid_t got;
    if (child < 0) {
        say("fork: %s\n", strerrorname_np(errno));
        return false;
    }
    while ((got = waitpid(child, &status, 0)) < 0 && errno == EINTR) {
    }
    SETUP(got == child);
    if (status != 0) {
        say("a child: %s %d\n", WIFSIGNALED(status) ? "signal" : "status",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    return status == 0;
}

#endif
