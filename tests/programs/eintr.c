/*
 * eintr.c: threads asleep in blocking calls, beside many forks. A handler for a signal, even one
 * installed with SA_RESTART, makes most of these calls return early (signal(7)); a program that
 * installs none never sees that.
 */
#include "hazard.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { FORKS = 200, AN_HOUR_S = 3600 };

/* What the sleeping thread sleeps on; one hazard a process, so one of each is enough. */
static struct {
    int pipe[2], sockets[2], listener, epoll, queue, sysv_sem;
    sem_t sem;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    int ready;
    pid_t child;
    struct sockaddr_un address;
    char fifo[64];
    int ring;
    struct io_uring_params ring_is;
    char *ring_queue;
    struct io_uring_sqe *ring_entries;
    struct hz_event stop, sleeps;
} on = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

struct call {
    void (*make)(void);
    int (*sleeps)(void *); /* one call, which must succeed */
    void (*wake)(void);
};

/*
 * Four children at a time, so that some end while the next is being forked: whoever blocks SIGCHLD
 * for the time of a fork makes the kernel look for another thread to take it, although nobody
 * handles it, and wakes a sleeper.
 */
static int fork_many(void) {
    enum { AT_ONCE = 4 };
    for (int i = 0; i < FORKS; i += AT_ONCE) {
        pid_t pids[AT_ONCE];
        for (int j = 0; j < AT_ONCE; j++) {
            pids[j] = fork();
            if (pids[j] == 0) {
                _exit(HZ_OK);
            }
            HZ_SETUP(pids[j] > 0);
        }
        for (int j = 0; j < AT_ONCE; j++) {
            HZ_TRY(hz_wait(pids[j]));
        }
    }
    return HZ_OK;
}

/* One call, asleep from before the first fork until after the last. */
static int asleep_all_along(const void *arg) {
    const struct call *call = arg;
    struct hz_thread sleeper;
    if (call->make) {
        call->make();
    }
    hz_start(&sleeper, call->sleeps, NULL);
    hz_until_blocked(sleeper.tid, -1);
    HZ_TRY(fork_many());
    call->wake();
    return hz_finish(&sleeper);
}

/* ---- descriptors ---- */

static void make_pipe(void) { HZ_SETUP(pipe(on.pipe) == 0); }
static void write_pipe(void) { HZ_SETUP(write(on.pipe[1], "x", 1) == 1); }

static int in_poll(void *arg) {
    struct pollfd fd = {.fd = on.pipe[0], .events = POLLIN};
    (void)arg;
    HZ_IS(poll(&fd, 1, -1), 1);
    return HZ_OK;
}

static int in_ppoll(void *arg) {
    struct pollfd fd = {.fd = on.pipe[0], .events = POLLIN};
    struct timespec hour = {.tv_sec = AN_HOUR_S};
    (void)arg;
    HZ_IS(ppoll(&fd, 1, &hour, NULL), 1);
    return HZ_OK;
}

static int in_select(void *arg) {
    struct timeval hour = {.tv_sec = AN_HOUR_S};
    fd_set fds;
    (void)arg;
    FD_ZERO(&fds);
    FD_SET(on.pipe[0], &fds);
    HZ_IS(select(on.pipe[0] + 1, &fds, NULL, NULL, &hour), 1);
    return HZ_OK;
}

static int in_pselect(void *arg) {
    fd_set fds;
    (void)arg;
    FD_ZERO(&fds);
    FD_SET(on.pipe[0], &fds);
    HZ_IS(pselect(on.pipe[0] + 1, &fds, NULL, NULL, NULL, NULL), 1);
    return HZ_OK;
}

static void make_epoll(void) {
    struct epoll_event event = {.events = EPOLLIN};
    make_pipe();
    on.epoll = epoll_create1(0);
    HZ_SETUP(on.epoll >= 0 && epoll_ctl(on.epoll, EPOLL_CTL_ADD, on.pipe[0], &event) == 0);
}

static int in_epoll_wait(void *arg) {
    struct epoll_event event;
    (void)arg;
    HZ_IS(epoll_wait(on.epoll, &event, 1, -1), 1);
    return HZ_OK;
}

static int in_read(void *arg) {
    char byte;
    (void)arg;
    HZ_IS(read(on.pipe[0], &byte, 1), 1);
    return HZ_OK;
}

/* As a language's runtime, or io_uring's library, makes its system calls: no function of libc that
 * could be intercepted. */
static long raw_call(long number, long a, long b, long c, long d) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

static int in_raw_poll(void *arg) {
    struct pollfd fd = {.fd = on.pipe[0], .events = POLLIN};
    (void)arg;
    HZ_IS(raw_call(SYS_poll, (long)&fd, 1, -1, 0), 1);
    return HZ_OK;
}

static int in_raw_epoll_wait(void *arg) {
    struct epoll_event event;
    (void)arg;
    HZ_IS(raw_call(SYS_epoll_wait, on.epoll, (long)&event, 1, -1), 1);
    return HZ_OK;
}

/* The wait for a completion; nothing is submitted before the wake-up. */
static void make_ring(void) {
    on.ring = (int)syscall(SYS_io_uring_setup, 4, &on.ring_is);
    if (on.ring < 0) {
        return; /* the kernel, or a filter, refuses */
    }
    size_t bytes = on.ring_is.sq_off.array + on.ring_is.sq_entries * sizeof(unsigned);
    on.ring_queue =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, on.ring, (off_t)IORING_OFF_SQ_RING);
    on.ring_entries = mmap(NULL, sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED,
                           on.ring, (off_t)IORING_OFF_SQES);
    HZ_SETUP(on.ring_queue != MAP_FAILED && on.ring_entries != MAP_FAILED);
}

static void complete_in_ring(void) {
    unsigned *tail = (unsigned *)(on.ring_queue + on.ring_is.sq_off.tail);
    unsigned *array = (unsigned *)(on.ring_queue + on.ring_is.sq_off.array);
    *on.ring_entries = (struct io_uring_sqe){.opcode = IORING_OP_NOP};
    array[0] = 0;
    __atomic_store_n(tail, 1, __ATOMIC_RELEASE);
    HZ_SETUP(syscall(SYS_io_uring_enter, on.ring, 1, 0, 0, NULL, 0) == 1);
}

static int in_ring(void *arg) {
    (void)arg;
    HZ_IS(raw_call(SYS_io_uring_enter, on.ring, 0, 1, IORING_ENTER_GETEVENTS), 0);
    return HZ_OK;
}

static void make_fifo(void) {
    static char directory[] = "/tmp/hazard-fifo-XXXXXX";
    HZ_SETUP(mkdtemp(directory) != NULL);
    snprintf(on.fifo, sizeof on.fifo, "%s/fifo", directory);
    HZ_SETUP(mkfifo(on.fifo, 0600) == 0);
}

static void open_fifo(void) {
    HZ_SETUP(open(on.fifo, O_WRONLY) >= 0);
    unlink(on.fifo);
    *strrchr(on.fifo, '/') = '\0';
    rmdir(on.fifo);
}

static int in_open(void *arg) {
    (void)arg;
    HZ_TRUE(open(on.fifo, O_RDONLY) >= 0);
    return HZ_OK;
}

static void make_lock_file(void) {
    on.pipe[0] = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    HZ_SETUP(on.pipe[0] >= 0);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", on.pipe[0]);
    on.pipe[1] = open(path, O_RDWR); /* another open file: its lock is another's */
    HZ_SETUP(on.pipe[1] >= 0 && flock(on.pipe[1], LOCK_EX) == 0);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    HZ_SETUP(fcntl(on.pipe[1], F_OFD_SETLK, &whole) == 0);
}

static void unlock_file(void) {
    struct flock whole = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    HZ_SETUP(flock(on.pipe[1], LOCK_UN) == 0 && fcntl(on.pipe[1], F_OFD_SETLK, &whole) == 0);
}

static int in_flock(void *arg) {
    (void)arg;
    HZ_IS(flock(on.pipe[0], LOCK_EX), 0);
    return HZ_OK;
}

static int in_fcntl(void *arg) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    (void)arg;
    HZ_IS(fcntl(on.pipe[0], F_OFD_SETLKW, &whole), 0);
    return HZ_OK;
}

static void make_sockets(void) { HZ_SETUP(socketpair(AF_UNIX, SOCK_STREAM, 0, on.sockets) == 0); }
static void write_socket(void) { HZ_SETUP(write(on.sockets[1], "x", 1) == 1); }

static int in_recv(void *arg) {
    char byte;
    (void)arg;
    HZ_IS(recv(on.sockets[0], &byte, 1, 0), 1);
    return HZ_OK;
}

/* A receive timeout makes recv one of the calls that no SA_RESTART restarts. */
static void make_timed_sockets(void) {
    struct timeval hour = {.tv_sec = AN_HOUR_S};
    make_sockets();
    HZ_SETUP(setsockopt(on.sockets[0], SOL_SOCKET, SO_RCVTIMEO, &hour, sizeof hour) == 0);
}

/* In the abstract name space: leaves no file behind. */
static void make_listener(void) {
    on.address.sun_family = AF_UNIX;
    snprintf(on.address.sun_path + 1, sizeof on.address.sun_path - 1, "hazard-%d", (int)getpid());
    on.listener = socket(AF_UNIX, SOCK_STREAM, 0);
    HZ_SETUP(on.listener >= 0);
    HZ_SETUP(bind(on.listener, (struct sockaddr *)&on.address, sizeof on.address) == 0);
    HZ_SETUP(listen(on.listener, 1) == 0);
}

static void connect_listener(void) {
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    HZ_SETUP(connect(client, (struct sockaddr *)&on.address, sizeof on.address) == 0);
}

static int in_accept(void *arg) {
    (void)arg;
    HZ_TRUE(accept(on.listener, NULL, NULL) >= 0);
    return HZ_OK;
}

static const struct call poll_call = {make_pipe, in_poll, write_pipe};
static const struct call ppoll_call = {make_pipe, in_ppoll, write_pipe};
static const struct call select_call = {make_pipe, in_select, write_pipe};
static const struct call pselect_call = {make_pipe, in_pselect, write_pipe};
static const struct call epoll_call = {make_epoll, in_epoll_wait, write_pipe};
static const struct call read_call = {make_pipe, in_read, write_pipe};
static const struct call raw_poll_call = {make_pipe, in_raw_poll, write_pipe};
static const struct call raw_epoll_call = {make_epoll, in_raw_epoll_wait, write_pipe};
static const struct call ring_call = {NULL, in_ring, complete_in_ring};
static const struct call open_call = {make_fifo, in_open, open_fifo};
static const struct call flock_call = {make_lock_file, in_flock, unlock_file};
static const struct call fcntl_call = {make_lock_file, in_fcntl, unlock_file};
static const struct call recv_call = {make_sockets, in_recv, write_socket};
static const struct call timed_recv_call = {make_timed_sockets, in_recv, write_socket};
static const struct call accept_call = {make_listener, in_accept, connect_listener};

/* ---- semaphores, condition variables ---- */

static void make_sem(void) { HZ_SETUP(sem_init(&on.sem, 0, 0) == 0); }
static void post_sem(void) { HZ_SETUP(sem_post(&on.sem) == 0); }

static int in_sem_wait(void *arg) {
    (void)arg;
    HZ_IS(sem_wait(&on.sem), 0);
    return HZ_OK;
}

static int in_sem_timedwait(void *arg) {
    struct timespec end = hz_in_ms(CLOCK_REALTIME, AN_HOUR_S * 1000);
    (void)arg;
    HZ_IS(sem_timedwait(&on.sem, &end), 0);
    return HZ_OK;
}

static int in_sem_clockwait(void *arg) {
    struct timespec end = hz_in_ms(CLOCK_MONOTONIC, AN_HOUR_S * 1000);
    (void)arg;
    HZ_IS(sem_clockwait(&on.sem, CLOCK_MONOTONIC, &end), 0);
    return HZ_OK;
}

static int in_cond_timedwait(void *arg) {
    struct timespec end = hz_in_ms(CLOCK_REALTIME, AN_HOUR_S * 1000);
    (void)arg;
    HZ_IS(pthread_mutex_lock(&on.mutex), 0);
    while (!on.ready) {
        HZ_IS(pthread_cond_timedwait(&on.cond, &on.mutex, &end), 0);
    }
    HZ_IS(pthread_mutex_unlock(&on.mutex), 0);
    return HZ_OK;
}

static int in_cond_wait(void *arg) {
    (void)arg;
    HZ_IS(pthread_mutex_lock(&on.mutex), 0);
    while (!on.ready) {
        HZ_IS(pthread_cond_wait(&on.cond, &on.mutex), 0);
    }
    HZ_IS(pthread_mutex_unlock(&on.mutex), 0);
    return HZ_OK;
}

static void signal_cond(void) {
    HZ_SETUP(pthread_mutex_lock(&on.mutex) == 0);
    on.ready = 1;
    HZ_SETUP(pthread_cond_signal(&on.cond) == 0);
    HZ_SETUP(pthread_mutex_unlock(&on.mutex) == 0);
}

static const struct call sem_wait_call = {make_sem, in_sem_wait, post_sem};
static const struct call sem_timedwait_call = {make_sem, in_sem_timedwait, post_sem};
static const struct call sem_clockwait_call = {make_sem, in_sem_clockwait, post_sem};
static const struct call cond_timedwait_call = {NULL, in_cond_timedwait, signal_cond};
static const struct call cond_wait_call = {NULL, in_cond_wait, signal_cond};

/* ---- signals, children, System V ---- */

static sigset_t usr1_only(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    return set;
}

static void block_usr1(void) {
    sigset_t set = usr1_only();
    HZ_SETUP(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
}

static void send_usr1(void) { HZ_SETUP(kill(getpid(), SIGUSR1) == 0); }

static int in_sigtimedwait(void *arg) {
    sigset_t set = usr1_only();
    struct timespec hour = {.tv_sec = AN_HOUR_S};
    (void)arg;
    HZ_IS(sigtimedwait(&set, NULL, &hour), SIGUSR1);
    return HZ_OK;
}

static int in_sigwaitinfo(void *arg) {
    sigset_t set = usr1_only();
    (void)arg;
    HZ_IS(sigwaitinfo(&set, NULL), SIGUSR1);
    return HZ_OK;
}

static int in_sigwait(void *arg) {
    sigset_t set = usr1_only();
    int got = 0;
    (void)arg;
    HZ_IS(sigwait(&set, &got), 0);
    HZ_IS(got, SIGUSR1);
    return HZ_OK;
}

/* A child that ends when it reads from the pipe. */
static void make_child(void) {
    make_pipe();
    on.child = fork();
    if (on.child == 0) {
        char byte;
        _exit(read(on.pipe[0], &byte, 1) == 1 ? 7 : 1);
    }
    HZ_SETUP(on.child > 0);
}

static int in_waitpid(void *arg) {
    int status = 0;
    (void)arg;
    HZ_IS(waitpid(on.child, &status, 0), on.child);
    HZ_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    return HZ_OK;
}

static void make_queue(void) {
    on.queue = msgget(IPC_PRIVATE, 0600);
    HZ_SETUP(on.queue >= 0);
}

struct message {
    long type;
    char text[1];
};

static void send_message(void) {
    struct message message = {.type = 1};
    if (msgsnd(on.queue, &message, sizeof message.text, 0) != 0) {
        hz_say("the queue is gone: its reader has left too early");
    }
}

static int in_msgrcv(void *arg) {
    struct message message;
    (void)arg;
    long got = msgrcv(on.queue, &message, sizeof message.text, 0, 0);
    int error = errno;
    msgctl(on.queue, IPC_RMID, NULL);
    HZ_IS(got < 0 ? error : 0, 0);
    return HZ_OK;
}

static void make_sysv_sem(void) {
    on.sysv_sem = semget(IPC_PRIVATE, 1, 0600);
    HZ_SETUP(on.sysv_sem >= 0);
}

static void raise_sysv_sem(void) {
    struct sembuf up = {.sem_op = 1};
    if (semop(on.sysv_sem, &up, 1) != 0) {
        hz_say("the semaphore is gone: its waiter has left too early");
    }
}

static int in_semop(void *arg) {
    struct sembuf down = {.sem_op = -1};
    (void)arg;
    int got = semop(on.sysv_sem, &down, 1);
    int error = errno;
    semctl(on.sysv_sem, 0, IPC_RMID);
    HZ_IS(got < 0 ? error : 0, 0);
    return HZ_OK;
}

static const struct call sigtimedwait_call = {block_usr1, in_sigtimedwait, send_usr1};
static const struct call sigwaitinfo_call = {block_usr1, in_sigwaitinfo, send_usr1};
static const struct call sigwait_call = {block_usr1, in_sigwait, send_usr1};
static const struct call waitpid_call = {make_child, in_waitpid, write_pipe};
static const struct call msgrcv_call = {make_queue, in_msgrcv, send_message};
static const struct call semop_call = {make_sysv_sem, in_semop, raise_sysv_sem};

/* ---- sleeps: nobody can end them, so there are many, and none may be shorter than asked for ----
 */

static int sleep_with_nanosleep(void) {
    struct timespec nap = {.tv_nsec = 30000000};
    return nanosleep(&nap, NULL) == 0 ? 0 : errno;
}

static int sleep_with_clock_nanosleep(void) {
    struct timespec end = hz_in_ms(CLOCK_MONOTONIC, 31);
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
}

static int sleep_with_usleep(void) { return usleep(30000) == 0 ? 0 : errno; }
static int sleep_with_poll(void) { return poll(NULL, 0, 30) == 0 ? 0 : errno; }
static int sleep_with_sleep(void) { return sleep(1) == 0 ? 0 : EINTR; }

static int sleeper(void *arg) {
    int (*const *nap)(void) = arg;
    while (hz_seen(&on.stop) == 0) {
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        HZ_IS((*nap)(), 0);
        clock_gettime(CLOCK_MONOTONIC, &after);
        int64_t slept_us = (int64_t)(after.tv_sec - before.tv_sec) * 1000000 +
                           (after.tv_nsec - before.tv_nsec) / 1000;
        HZ_TRUE(slept_us >= 29000);
        hz_post(&on.sleeps);
    }
    return HZ_OK;
}

static int asleep_again_and_again(int (*nap)(void)) {
    struct hz_thread thread;
    hz_start(&thread, sleeper, &nap);
    do {
        HZ_TRY(fork_many());
    } while (hz_seen(&on.sleeps) < 2);
    hz_post(&on.stop);
    return hz_finish(&thread);
}

static int in_nanosleep(const void *arg) {
    (void)arg;
    return asleep_again_and_again(sleep_with_nanosleep);
}

static int in_clock_nanosleep(const void *arg) {
    (void)arg;
    return asleep_again_and_again(sleep_with_clock_nanosleep);
}

static int in_usleep(const void *arg) {
    (void)arg;
    return asleep_again_and_again(sleep_with_usleep);
}

static int in_poll_timeout(const void *arg) {
    (void)arg;
    return asleep_again_and_again(sleep_with_poll);
}

static int in_sleep(const void *arg) {
    (void)arg;
    return asleep_again_and_again(sleep_with_sleep);
}

static int ring_asleep(const void *arg) {
    (void)arg;
    make_ring();
    return on.ring < 0 ? HZ_SKIP : asleep_all_along(&ring_call);
}

#define ASLEEP(name, call) HAZARD_OF("eintr_" name, asleep_all_along, &call, OK, name)
#define NAPS(name, run) HAZARD("eintr_" name, run, OK, name ", again and again")
static const struct hazard hazards[] = {
    ASLEEP("poll", poll_call),
    ASLEEP("ppoll", ppoll_call),
    ASLEEP("select", select_call),
    ASLEEP("pselect", pselect_call),
    ASLEEP("epoll_wait", epoll_call),
    ASLEEP("read", read_call),
    ASLEEP("raw_poll", raw_poll_call),
    ASLEEP("raw_epoll_wait", raw_epoll_call),
    HAZARD("eintr_io_uring", ring_asleep, OK, "a wait for io_uring's completions"),
    ASLEEP("open_fifo", open_call),
    ASLEEP("flock", flock_call),
    ASLEEP("fcntl_setlkw", fcntl_call),
    ASLEEP("recv", recv_call),
    HAZARD_OF("eintr_recv_timeout", asleep_all_along, &timed_recv_call, OK,
              "recv on a socket with a receive timeout"),
    ASLEEP("accept", accept_call),
    ASLEEP("sem_wait", sem_wait_call),
    ASLEEP("sem_timedwait", sem_timedwait_call),
    ASLEEP("sem_clockwait", sem_clockwait_call),
    ASLEEP("cond_wait", cond_wait_call),
    ASLEEP("cond_timedwait", cond_timedwait_call),
    ASLEEP("sigtimedwait", sigtimedwait_call),
    ASLEEP("sigwaitinfo", sigwaitinfo_call),
    ASLEEP("sigwait", sigwait_call),
    ASLEEP("waitpid", waitpid_call),
    ASLEEP("msgrcv", msgrcv_call),
    ASLEEP("semop", semop_call),
    NAPS("nanosleep", in_nanosleep),
    NAPS("clock_nanosleep", in_clock_nanosleep),
    NAPS("usleep", in_usleep),
    NAPS("poll_timeout", in_poll_timeout),
    NAPS("sleep", in_sleep),
};
HAZARD_MAIN(hazards)
