/* filter.h - a seccomp filter made of words: "membarrier=EPERM", "tgkill=ENOSYS", "fork=KILL", "getpid=TRAP".
 *
 * It holds for all threads of the process (TSYNC) and for what it executes. */
#ifndef FILTER_H
#define FILTER_H

#include "surroundings.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

struct filter_name {
    const char *name;
    unsigned number;
};

static const struct filter_name filter_calls[] = {
#define CALL(name)                                                                                 \
    { #name, SYS_##name }
    CALL(membarrier),
    CALL(tgkill),
    CALL(process_vm_readv),
    CALL(openat),
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    CALL(sigaltstack),
    CALL(sched_getaffinity),
    CALL(gettid),
    CALL(fstat),
    CALL(newfstatat),
    CALL(readlink),
    CALL(clock_gettime),
    CALL(clock_nanosleep),
    CALL(mmap),
    CALL(munmap),
    CALL(getdents64),
    CALL(prctl),
    CALL(getppid),
    CALL(get_robust_list),
    CALL(getpid),
    CALL(epoll_create1),
    CALL(rt_sigpending),
    CALL(timer_create),
    CALL(read),
    CALL(pread64),
    CALL(futex),
    CALL(set_robust_list),
    CALL(rseq),
    CALL(ioctl),
    CALL(statx),
    CALL(fcntl),
#undef CALL
};

static unsigned filter_action(const char *word) {
    if (strcmp(word, "KILL") == 0) {
        return SECCOMP_RET_KILL_PROCESS;
    }
    if (strcmp(word, "TRAP") == 0) {
        return SECCOMP_RET_TRAP;
    }
    for (int number = 1; number < 134; number++) {
        const char *name = strerrorname_np(number);
        if (name != NULL && strcmp(name, word) == 0) {
            return SECCOMP_RET_ERRNO | (unsigned)number;
        }
    }
    SETUP(!"an action that filter.h knows");
    return 0;
}

static unsigned filter_number(const char *word, size_t length) {
    for (size_t i = 0; i < sizeof filter_calls / sizeof *filter_calls; i++) {
        if (strlen(filter_calls[i].name) == length &&
            strncmp(filter_calls[i].name, word, length) == 0) {
            return filter_calls[i].number;
        }
    }
    SETUP(!"a call that filter.h knows");
    return 0;
}

/* `words`: separated by commas. */
static void filter(const char *words) {
    struct sock_filter program[64] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    unsigned short length = 1;
    char copy[512];
    SETUP(strlen(words) < sizeof copy);
    strcpy(copy, words);
    for (char *word = strtok(copy, ","); word != NULL; word = strtok(NULL, ",")) {
        char *equals = strchr(word, '=');
        SETUP(equals != NULL && length + 3 < 64);
        unsigned number = filter_number(word, (size_t)(equals - word));
        program[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
        program[length++] =
            (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, filter_action(equals + 1));
    }
    program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog whole = {.len = length, .filter = program};
    SETUP(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    SETUP(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &whole) == 0);
}

#endif
