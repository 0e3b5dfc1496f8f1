/* execs PRINTER HOW: executes PRINTER, which prints its environment, in one of many ways; "own" in front of HOW:
 * with an
 * environment of its own, else with the inherited one. Threads run meanwhile. */
#include "surroundings.h"

#include <spawn.h>

extern char **environ;

static char *own[] = {"FIRST=1",
                      "EMPTY=",
                      "=odd",
                      "no equals sign",
                      "TWICE=1",
                      "TWICE=2",
                      "LD_PRELOAD=/nowhere/nothing.so",
                      "FORKSAFE_MODE=off",
                      NULL};

static void *sleep_on(void *unused) {
    pause();
    return unused;
}

static void spawned(int error, const pid_t *pid) {
    SETUP(error == 0);
    _exit(fine(*pid) ? 0 : 1);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: execs PRINTER HOW\n");
        return 2;
    }
    char *printer = argv[1];
    char *how = argv[2];
    char *arguments[] = {printer, NULL};
    char **environment = environ;
    pthread_t thread;
    pid_t pid = 0;
    SETUP(pthread_create(&thread, NULL, sleep_on, NULL) == 0);
    if (strncmp(how, "own ", 4) == 0) {
        how += 4;
        environment = own;
    } else if (strncmp(how, "cleared ", 8) == 0) {
        how += 8;
        SETUP(clearenv() == 0);
        SETUP(setenv("AFTER", "clearenv", 1) == 0);
        environment = environ;
    } else if (strncmp(how, "without ", 8) == 0) {
        how += 8;
        SETUP(unsetenv("LD_PRELOAD") == 0);
        environment = environ;
    }
    if (strncmp(how, "forked ", 7) == 0) {
        how += 7;
        pid = fork();
        if (pid != 0) {
            return !fine(pid);
        }
    }
    if (strcmp(how, "execve") == 0) {
        execve(printer, arguments, environment);
    } else if (strcmp(how, "execle") == 0) {
        execle(printer, printer, (char *)NULL, environment);
    } else if (strcmp(how, "execvpe") == 0) {
        execvpe(printer, arguments, environment);
    } else if (strcmp(how, "fexecve") == 0) {
        FILE *file = fopen(printer, "re");
        SETUP(file != NULL);
        fexecve(fileno(file), arguments, environment);
    } else if (strcmp(how, "posix_spawn") == 0) {
        spawned(posix_spawn(&pid, printer, NULL, NULL, arguments, environment), &pid);
    } else if (strcmp(how, "posix_spawnp") == 0) {
        spawned(posix_spawnp(&pid, printer, NULL, NULL, arguments, environment), &pid);
    } else if (strcmp(how, "vfork") == 0) {
        pid = vfork();
        if (pid == 0) {
            execve(printer, arguments, environment);
            _exit(BROKEN);
        }
        return !fine(pid);
    } else if (strcmp(how, "system") == 0) {
        environ = environment;
        return system(printer) != 0;
    } else if (strcmp(how, "popen") == 0) {
        environ = environment;
        FILE *pipe = popen(printer, "r");
        SETUP(pipe != NULL);
        for (int c; (c = getc(pipe)) != EOF;) {
            putchar(c);
        }
        return pclose(pipe) != 0 || fflush(stdout) != 0;
    }
    SETUP(!"executed");
}
