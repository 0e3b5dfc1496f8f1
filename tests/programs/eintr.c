/*
 * eintr.c: threads asleep in blocking calls, beside many forks. A handler for a signal, even one
 * installed with SA_RESTART, makes most of these calls return early (signal(7)); a program that
 * installs none never sees that.
 */
#include "hazard.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
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
#include <threads.h>

/* Beside one call by itself, and beside all of them together. */
enum { FORKS = 200, FORKS_OF_ALL = 1000, AN_HOUR_S = 3600 };

/* What one sleeping thread sleeps on. */
struct things {
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
    aio_context_t aio;
    int futex;
    struct hz_thread sleeper;
};

/* The caller's, or those of the thread that it makes or wakes. */
static __thread struct things *on;

struct call {
    void (*make)(void);
    int (*sleeps)(void *); /* one call, which must succeed */
    void (*wake)(void);
};

/* The program's own signals: the first is waited for, the second is handled. */
static __thread volatile sig_atomic_t arrived;

static void arrive(int signo) { arrived = signo; }

static void handle_usr2(int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = arrive;
    action.sa_flags = flags;
    HZ_SETUP(sigaction(SIGUSR2, &action, NULL) == 0);
}

/*
 * Four children at a time, so that some end while the next is being forked: whoever blocks SIGCHLD
 * for the time of a fork makes the kernel look for another thread to take it, although nobody
 * handles it, and wakes a sleeper.
 */
static int fork_so_many(int forks) {
    enum { AT_ONCE = 4 };
    for (int i = 0; i < forks; i += AT_ONCE) {
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

static int fork_many(void) { return fork_so_many(FORKS); }

struct asleep {
    const struct call *call;
    struct things things;
};

static int falls_asleep(void *arg) {
    struct asleep *asleep = arg;
    on = &asleep->things;
    return asleep->call->sleeps(NULL);
}

static void put_to_sleep(struct asleep *asleep, const struct call *call) {
    asleep->call = call;
    asleep->things =
        (struct things){.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    on = &asleep->things;
    if (call->make) {
        call->make();
    }
    hz_start(&on->sleeper, falls_asleep, asleep);
    hz_until_blocked(on->sleeper.tid, -1);
}

static int wake_up(struct asleep *asleep) {
    on = &asleep->things;
    asleep->call->wake();
    return hz_finish(&on->sleeper);
}

/* One call, asleep from before the first fork until after the last. */
static int asleep_all_along(const void *arg) {
    static struct asleep asleep;
    put_to_sleep(&asleep, arg);
    HZ_TRY(fork_many());
    return wake_up(&asleep);
}

/* ---- descriptors ---- */

static void make_pipe(void) { HZ_SETUP(pipe(on->pipe) == 0); }
static void write_pipe(void) { HZ_SETUP(write(on->pipe[1], "x", 1) == 1); }

static int in_poll(void *arg) {
    struct pollfd fd = {.fd = on->pipe[0], .events = POLLIN};
    (void)arg;
    HZ_IS(poll(&fd, 1, -1), 1);
    return HZ_OK;
}

static int in_ppoll(void *arg) {
    struct pollfd fd = {.fd = on->pipe[0], .events = POLLIN};
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
    FD_SET(on->pipe[0], &fds);
    HZ_IS(select(on->pipe[0] + 1, &fds, NULL, NULL, &hour), 1);
    return HZ_OK;
}

static int in_pselect(void *arg) {
    fd_set fds;
    (void)arg;
    FD_ZERO(&fds);
    FD_SET(on->pipe[0], &fds);
    HZ_IS(pselect(on->pipe[0] + 1, &fds, NULL, NULL, NULL, NULL), 1);
    return HZ_OK;
}

static void make_epoll(void) {
    struct epoll_event event = {.events = EPOLLIN};
    make_pipe();
    on->epoll = epoll_create1(0);
    HZ_SETUP(on->epoll >= 0 && epoll_ctl(on->epoll, EPOLL_CTL_ADD, on->pipe[0], &event) == 0);
}

static int in_epoll_wait(void *arg) {
    struct epoll_event event;
    (void)arg;
    HZ_IS(epoll_wait(on->epoll, &event, 1, -1), 1);
    return HZ_OK;
}

static int in_epoll_pwait(void *arg) {
    sigset_t none;
    struct epoll_event event;
    (void)arg;
    sigemptyset(&none);
    HZ_IS(epoll_pwait(on->epoll, &event, 1, AN_HOUR_S * 1000, &none), 1);
    return HZ_OK;
}

static int in_epoll_pwait2(void *arg) {
    const struct timespec hour = {.tv_sec = AN_HOUR_S};
    struct epoll_event event;
    (void)arg;
    HZ_IS(epoll_pwait2(on->epoll, &event, 1, &hour, NULL), 1);
    return HZ_OK;
}

static int in_read(void *arg) {
    char byte;
    (void)arg;
    HZ_IS(read(on->pipe[0], &byte, 1), 1);
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
    struct pollfd fd = {.fd = on->pipe[0], .events = POLLIN};
    (void)arg;
    HZ_IS(raw_call(SYS_poll, (long)&fd, 1, -1, 0), 1);
    return HZ_OK;
}

static int in_raw_epoll_wait(void *arg) {
    struct epoll_event event;
    (void)arg;
    HZ_IS(raw_call(SYS_epoll_wait, on->epoll, (long)&event, 1, -1), 1);
    return HZ_OK;
}

/* The wait for a completion; nothing is submitted before the wake-up. */
static void make_ring(void) {
    on->ring = (int)syscall(SYS_io_uring_setup, 4, &on->ring_is);
    if (on->ring < 0) {
        return; /* the kernel, or a filter, refuses */
    }
    size_t bytes = on->ring_is.sq_off.array + on->ring_is.sq_entries * sizeof(unsigned);
    on->ring_queue =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, on->ring, (off_t)IORING_OFF_SQ_RING);
    on->ring_entries = mmap(NULL, sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED,
                            on->ring, (off_t)IORING_OFF_SQES);
    HZ_SETUP(on->ring_queue != MAP_FAILED && on->ring_entries != MAP_FAILED);
}

static void complete_in_ring(void) {
    unsigned *tail = (unsigned *)(on->ring_queue + on->ring_is.sq_off.tail);
    unsigned *array = (unsigned *)(on->ring_queue + on->ring_is.sq_off.array);
    *on->ring_entries = (struct io_uring_sqe){.opcode = IORING_OP_NOP};
    array[0] = 0;
    __atomic_store_n(tail, 1, __ATOMIC_RELEASE);
    HZ_SETUP(syscall(SYS_io_uring_enter, on->ring, 1, 0, 0, NULL, 0) == 1);
}

static int in_ring(void *arg) {
    (void)arg;
    HZ_IS(raw_call(SYS_io_uring_enter, on->ring, 0, 1, IORING_ENTER_GETEVENTS), 0);
    return HZ_OK;
}

/* libaio's wait, as that makes it: by syscall(). */
static void make_aio(void) { HZ_SETUP(syscall(SYS_io_setup, 1, &on->aio) == 0); }

static int have_aio(void) {
    aio_context_t context = 0;
    return syscall(SYS_io_setup, 1, &context) == 0 && syscall(SYS_io_destroy, context) == 0;
}

static void complete_aio(void) {
    static char byte[1];
    struct iocb request, *requests = &request;
    memset(&request, 0, sizeof request);
    request.aio_fildes = (unsigned)open("/dev/zero", O_RDONLY);
    request.aio_lio_opcode = IOCB_CMD_PREAD;
    request.aio_buf = (uintptr_t)byte;
    request.aio_nbytes = sizeof byte;
    HZ_SETUP(syscall(SYS_io_submit, on->aio, 1, &requests) == 1);
}

static int in_io_getevents(void *arg) {
    struct timespec hour = {.tv_sec = AN_HOUR_S};
    struct io_event event;
    (void)arg;
    HZ_IS(syscall(SYS_io_getevents, on->aio, 1, 1, &event, &hour), 1);
    return HZ_OK;
}

static int in_raw_io_getevents(void *arg) {
    struct io_event event;
    (void)arg;
    HZ_IS(raw_call(SYS_io_getevents, (long)on->aio, 1, 1, (long)&event), 1);
    return HZ_OK;
}

static int in_futex(void *arg) {
    const struct timespec hour = {.tv_sec = AN_HOUR_S};
    (void)arg;
    HZ_IS(syscall(SYS_futex, &on->futex, FUTEX_WAIT, 0, &hour, NULL, 0), 0);
    return HZ_OK;
}

static void wake_futex(void) { syscall(SYS_futex, &on->futex, FUTEX_WAKE, 1, NULL, NULL, 0); }

static void make_fifo(void) {
    char directory[] = "/tmp/hazard-fifo-XXXXXX";
    HZ_SETUP(mkdtemp(directory) != NULL);
    snprintf(on->fifo, sizeof on->fifo, "%s/fifo", directory);
    HZ_SETUP(mkfifo(on->fifo, 0600) == 0);
}

static void open_fifo(void) {
    HZ_SETUP(open(on->fifo, O_WRONLY) >= 0);
    unlink(on->fifo);
    *strrchr(on->fifo, '/') = '\0';
    rmdir(on->fifo);
}

static int in_open(void *arg) {
    (void)arg;
    HZ_TRUE(open(on->fifo, O_RDONLY) >= 0);
    return HZ_OK;
}

static void make_lock_file(void) {
    on->pipe[0] = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    HZ_SETUP(on->pipe[0] >= 0);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", on->pipe[0]);
    on->pipe[1] = open(path, O_RDWR); /* another open file: its lock is another's */
    HZ_SETUP(on->pipe[1] >= 0 && flock(on->pipe[1], LOCK_EX) == 0);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    HZ_SETUP(fcntl(on->pipe[1], F_OFD_SETLK, &whole) == 0);
}

static void unlock_file(void) {
    struct flock whole = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    HZ_SETUP(flock(on->pipe[1], LOCK_UN) == 0 && fcntl(on->pipe[1], F_OFD_SETLK, &whole) == 0);
}

static int in_flock(void *arg) {
    (void)arg;
    HZ_IS(flock(on->pipe[0], LOCK_EX), 0);
    return HZ_OK;
}

static int in_fcntl(void *arg) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    (void)arg;
    HZ_IS(fcntl(on->pipe[0], F_OFD_SETLKW, &whole), 0);
    return HZ_OK;
}

static void make_sockets(void) { HZ_SETUP(socketpair(AF_UNIX, SOCK_STREAM, 0, on->sockets) == 0); }
static void write_socket(void) { HZ_SETUP(write(on->sockets[1], "x", 1) == 1); }

static int in_recv(void *arg) {
    char byte;
    (void)arg;
    HZ_IS(recv(on->sockets[0], &byte, 1, 0), 1);
    return HZ_OK;
}

/* A receive timeout makes recv one of the calls that no SA_RESTART restarts. */
static void make_timed_sockets(void) {
    struct timeval hour = {.tv_sec = AN_HOUR_S};
    make_sockets();
    HZ_SETUP(setsockopt(on->sockets[0], SOL_SOCKET, SO_RCVTIMEO, &hour, sizeof hour) == 0);
}

/* A full one, whose send has a timeout. */
static void make_full_socket(void) {
    const struct timeval hour = {.tv_sec = AN_HOUR_S};
    static char much[4096];
    make_sockets();
    HZ_SETUP(setsockopt(on->sockets[0], SOL_SOCKET, SO_SNDTIMEO, &hour, sizeof hour) == 0);
    while (send(on->sockets[0], much, sizeof much, MSG_DONTWAIT) > 0) {
    }
    HZ_SETUP(errno == EAGAIN);
}

static void drain_socket(void) {
    char some[4096];
    while (recv(on->sockets[1], some, sizeof some, MSG_DONTWAIT) > 0) {
    }
}

static int in_send(void *arg) {
    (void)arg;
    HZ_IS(send(on->sockets[0], "x", 1, 0), 1);
    return HZ_OK;
}

/* In the abstract name space: leaves no file behind. */
static void make_listener(void) {
    static int made;
    on->address.sun_family = AF_UNIX;
    snprintf(on->address.sun_path + 1, sizeof on->address.sun_path - 1, "hazard-%d-%d",
             (int)getpid(), made++);
    on->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    HZ_SETUP(on->listener >= 0);
    HZ_SETUP(bind(on->listener, (struct sockaddr *)&on->address, sizeof on->address) == 0);
    HZ_SETUP(listen(on->listener, 1) == 0);
}

static void connect_listener(void) {
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    HZ_SETUP(connect(client, (struct sockaddr *)&on->address, sizeof on->address) == 0);
}

static void make_timed_listener(void) {
    const struct timeval hour = {.tv_sec = AN_HOUR_S};
    make_listener();
    HZ_SETUP(setsockopt(on->listener, SOL_SOCKET, SO_RCVTIMEO, &hour, sizeof hour) == 0);
}

static int make_client(const struct timeval *timeout) {
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    HZ_SETUP(client >= 0);
    HZ_SETUP(setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, timeout, sizeof *timeout) == 0);
    return client;
}

/* One whose queue is full: the next to connect has to wait. */
static void make_full_listener(void) {
    make_listener();
    for (;;) {
        int client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        HZ_SETUP(client >= 0);
        if (connect(client, (struct sockaddr *)&on->address, sizeof on->address) != 0) {
            HZ_SETUP(errno == EAGAIN);
            break;
        }
    }
}

static int in_connect(void *arg) {
    const struct timeval hour = {.tv_sec = AN_HOUR_S};
    (void)arg;
    int client = make_client(&hour);
    HZ_IS(connect(client, (struct sockaddr *)&on->address, sizeof on->address), 0);
    return HZ_OK;
}

static void accept_one(void) { HZ_SETUP(accept(on->listener, NULL, NULL) >= 0); }

static int in_accept(void *arg) {
    (void)arg;
    HZ_TRUE(accept(on->listener, NULL, NULL) >= 0);
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
static const struct call ring_call = {make_ring, in_ring, complete_in_ring};
static const struct call open_call = {make_fifo, in_open, open_fifo};
static const struct call flock_call = {make_lock_file, in_flock, unlock_file};
static const struct call fcntl_call = {make_lock_file, in_fcntl, unlock_file};
static const struct call recv_call = {make_sockets, in_recv, write_socket};
static const struct call timed_recv_call = {make_timed_sockets, in_recv, write_socket};
static const struct call accept_call = {make_listener, in_accept, connect_listener};
static const struct call timed_accept_call = {make_timed_listener, in_accept, connect_listener};
static const struct call timed_connect_call = {make_full_listener, in_connect, accept_one};
static const struct call timed_send_call = {make_full_socket, in_send, drain_socket};
static const struct call epoll_pwait_call = {make_epoll, in_epoll_pwait, write_pipe};
static const struct call epoll_pwait2_call = {make_epoll, in_epoll_pwait2, write_pipe};
static const struct call io_getevents_call = {make_aio, in_io_getevents, complete_aio};
static const struct call raw_io_getevents_call = {make_aio, in_raw_io_getevents, complete_aio};
static const struct call futex_call = {NULL, in_futex, wake_futex};

/* ---- semaphores, condition variables ---- */

static void make_sem(void) { HZ_SETUP(sem_init(&on->sem, 0, 0) == 0); }
static void post_sem(void) { HZ_SETUP(sem_post(&on->sem) == 0); }

static int in_sem_wait(void *arg) {
    (void)arg;
    HZ_IS(sem_wait(&on->sem), 0);
    return HZ_OK;
}

static int in_sem_timedwait(void *arg) {
    struct timespec end = hz_in_ms(CLOCK_REALTIME, AN_HOUR_S * 1000);
    (void)arg;
    HZ_IS(sem_timedwait(&on->sem, &end), 0);
    return HZ_OK;
}

static int in_sem_clockwait(void *arg) {
    struct timespec end = hz_in_ms(CLOCK_MONOTONIC, AN_HOUR_S * 1000);
    (void)arg;
    HZ_IS(sem_clockwait(&on->sem, CLOCK_MONOTONIC, &end), 0);
    return HZ_OK;
}

static int in_cond_timedwait(void *arg) {
    struct timespec end = hz_in_ms(CLOCK_REALTIME, AN_HOUR_S * 1000);
    (void)arg;
    HZ_IS(pthread_mutex_lock(&on->mutex), 0);
    while (!on->ready) {
        HZ_IS(pthread_cond_timedwait(&on->cond, &on->mutex, &end), 0);
    }
    HZ_IS(pthread_mutex_unlock(&on->mutex), 0);
    return HZ_OK;
}

static int in_cond_wait(void *arg) {
    (void)arg;
    HZ_IS(pthread_mutex_lock(&on->mutex), 0);
    while (!on->ready) {
        HZ_IS(pthread_cond_wait(&on->cond, &on->mutex), 0);
    }
    HZ_IS(pthread_mutex_unlock(&on->mutex), 0);
    return HZ_OK;
}

static void signal_cond(void) {
    HZ_SETUP(pthread_mutex_lock(&on->mutex) == 0);
    on->ready = 1;
    HZ_SETUP(pthread_cond_signal(&on->cond) == 0);
    HZ_SETUP(pthread_mutex_unlock(&on->mutex) == 0);
}

static const struct call sem_wait_call = {make_sem, in_sem_wait, post_sem};
static const struct call sem_timedwait_call = {make_sem, in_sem_timedwait, post_sem};
static const struct call sem_clockwait_call = {make_sem, in_sem_clockwait, post_sem};
static const struct call cond_timedwait_call = {NULL, in_cond_timedwait, signal_cond};
static const struct call cond_wait_call = {NULL, in_cond_wait, signal_cond};

/* ---- signals, children, System V ---- */

static void send_usr1(void) { HZ_SETUP(pthread_kill(on->sleeper.id, SIGUSR1) == 0); }

static void catch_usr2(void) { handle_usr2(SA_RESTART); }
static void send_usr2(void) { HZ_SETUP(pthread_kill(on->sleeper.id, SIGUSR2) == 0); }

/* Both wake for a signal of the program's only, once its handler has run. */
static int in_pause(void *arg) {
    (void)arg;
    HZ_IS(pause(), -1);
    HZ_IS(errno, EINTR);
    HZ_IS(arrived, SIGUSR2);
    return HZ_OK;
}

/* With all else blocked, as sigsuspend is used: nothing but SIGUSR2 may wake it. */
static int in_sigsuspend(void *arg) {
    sigset_t usr2, all_else, now;
    (void)arg;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    HZ_SETUP(pthread_sigmask(SIG_BLOCK, &usr2, NULL) == 0);
    sigfillset(&all_else);
    sigdelset(&all_else, SIGUSR2);
    HZ_IS(sigsuspend(&all_else), -1);
    HZ_IS(errno, EINTR);
    HZ_IS(arrived, SIGUSR2);
    HZ_SETUP(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0);
    HZ_IS(sigismember(&now, SIGUSR2), 1);
    return HZ_OK;
}

static int in_open_sigsuspend(void *arg) {
    sigset_t none;
    (void)arg;
    sigemptyset(&none);
    HZ_IS(sigsuspend(&none), -1);
    HZ_IS(errno, EINTR);
    HZ_IS(arrived, SIGUSR2);
    return HZ_OK;
}

static int in_sigtimedwait(void *arg) {
    sigset_t set = hz_usr1_only();
    struct timespec hour = {.tv_sec = AN_HOUR_S};
    (void)arg;
    HZ_IS(sigtimedwait(&set, NULL, &hour), SIGUSR1);
    return HZ_OK;
}

static int in_sigwaitinfo(void *arg) {
    sigset_t set = hz_usr1_only();
    (void)arg;
    HZ_IS(sigwaitinfo(&set, NULL), SIGUSR1);
    return HZ_OK;
}

static int in_sigwait(void *arg) {
    sigset_t set = hz_usr1_only();
    int got = 0;
    (void)arg;
    HZ_IS(sigwait(&set, &got), 0);
    HZ_IS(got, SIGUSR1);
    return HZ_OK;
}

/* A child that ends when it reads from the pipe. */
static void make_child(void) {
    make_pipe();
    on->child = fork();
    if (on->child == 0) {
        char byte;
        _exit(read(on->pipe[0], &byte, 1) == 1 ? 7 : 1);
    }
    HZ_SETUP(on->child > 0);
}

static int in_waitpid(void *arg) {
    int status = 0;
    (void)arg;
    HZ_IS(waitpid(on->child, &status, 0), on->child);
    HZ_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    return HZ_OK;
}

static void make_queue(void) {
    on->queue = msgget(IPC_PRIVATE, 0600);
    HZ_SETUP(on->queue >= 0);
}

struct message {
    long type;
    char text[1];
};

static void send_message(void) {
    struct message message = {.type = 1};
    if (msgsnd(on->queue, &message, sizeof message.text, 0) != 0) {
        hz_say("the queue is gone: its reader has left too early");
    }
}

static int in_msgrcv(void *arg) {
    struct message message;
    (void)arg;
    long got = msgrcv(on->queue, &message, sizeof message.text, 0, 0);
    int error = errno;
    msgctl(on->queue, IPC_RMID, NULL);
    HZ_IS(got < 0 ? error : 0, 0);
    return HZ_OK;
}

static void make_full_queue(void) {
    make_queue();
    struct {
        long type;
        char text[1024];
    } large = {.type = 1};
    while (msgsnd(on->queue, &large, sizeof large.text, IPC_NOWAIT) == 0) {
    }
    HZ_SETUP(errno == EAGAIN);
}

static void receive_message(void) {
    struct {
        long type;
        char text[1024];
    } large;
    if (msgrcv(on->queue, &large, sizeof large.text, 0, 0) < 0) {
        hz_say("the queue is gone: its writer has left too early");
    }
}

static int in_msgsnd(void *arg) {
    struct message message = {.type = 1};
    (void)arg;
    int got = msgsnd(on->queue, &message, sizeof message.text, 0);
    int error = errno;
    msgctl(on->queue, IPC_RMID, NULL);
    HZ_IS(got < 0 ? error : 0, 0);
    return HZ_OK;
}

static void make_sysv_sem(void) {
    on->sysv_sem = semget(IPC_PRIVATE, 1, 0600);
    HZ_SETUP(on->sysv_sem >= 0);
}

static void raise_sysv_sem(void) {
    struct sembuf up = {.sem_op = 1};
    if (semop(on->sysv_sem, &up, 1) != 0) {
        hz_say("the semaphore is gone: its waiter has left too early");
    }
}

static int in_semop(void *arg) {
    struct sembuf down = {.sem_op = -1};
    (void)arg;
    int got = semop(on->sysv_sem, &down, 1);
    int error = errno;
    semctl(on->sysv_sem, 0, IPC_RMID);
    HZ_IS(got < 0 ? error : 0, 0);
    return HZ_OK;
}

static int in_semtimedop(void *arg) {
    const struct timespec hour = {.tv_sec = AN_HOUR_S};
    struct sembuf down = {.sem_op = -1};
    (void)arg;
    int got = semtimedop(on->sysv_sem, &down, 1, &hour);
    int error = errno;
    semctl(on->sysv_sem, 0, IPC_RMID);
    HZ_IS(got < 0 ? error : 0, 0);
    return HZ_OK;
}

static const struct call sigtimedwait_call = {hz_block_usr1, in_sigtimedwait, send_usr1};
static const struct call sigwaitinfo_call = {hz_block_usr1, in_sigwaitinfo, send_usr1};
static const struct call sigwait_call = {hz_block_usr1, in_sigwait, send_usr1};
static const struct call waitpid_call = {make_child, in_waitpid, write_pipe};
static const struct call msgrcv_call = {make_queue, in_msgrcv, send_message};
static const struct call msgsnd_call = {make_full_queue, in_msgsnd, receive_message};
static const struct call semop_call = {make_sysv_sem, in_semop, raise_sysv_sem};
static const struct call semtimedop_call = {make_sysv_sem, in_semtimedop, raise_sysv_sem};
static const struct call pause_call = {catch_usr2, in_pause, send_usr2};
static const struct call sigsuspend_call = {catch_usr2, in_sigsuspend, send_usr2};
static const struct call open_sigsuspend_call = {catch_usr2, in_open_sigsuspend, send_usr2};

/* ---- all of them at once ---- */

static const struct call *const all_calls[] = {
    &poll_call,
    &ppoll_call,
    &select_call,
    &pselect_call,
    &epoll_call,
    &epoll_pwait_call,
    &epoll_pwait2_call,
    &read_call,
    &raw_poll_call,
    &raw_epoll_call,
    &open_call,
    &flock_call,
    &fcntl_call,
    &recv_call,
    &timed_recv_call,
    &timed_send_call,
    &accept_call,
    &timed_accept_call,
    &timed_connect_call,
    &futex_call,
    &sem_wait_call,
    &sem_timedwait_call,
    &sem_clockwait_call,
    &cond_wait_call,
    &cond_timedwait_call,
    &sigtimedwait_call,
    &sigwaitinfo_call,
    &sigwait_call,
    &pause_call,
    &sigsuspend_call,
    &open_sigsuspend_call,
    &waitpid_call,
    &msgrcv_call,
    &msgsnd_call,
    &semop_call,
    &semtimedop_call,
    &io_getevents_call,
    &raw_io_getevents_call,
    &ring_call,
};
enum { ALL_CALLS = sizeof all_calls / sizeof all_calls[0] };

static int cannot_be_made(const struct call *call) {
    if (call == &ring_call) {
        make_ring();
        return on->ring < 0;
    }
    return (call == &io_getevents_call || call == &raw_io_getevents_call) && !have_aio();
}

/* A thread in each call, a busy one beside, and one that forks. */
static int all_asleep(const void *arg) {
    static struct asleep asleep[ALL_CALLS];
    static struct things probe;
    struct hz_thread busy;
    struct hz_event stop = {0};
    int sleepers = 0;
    (void)arg;
    hz_block_usr1();
    hz_start(&busy, hz_spin, &stop);
    for (int i = 0; i < ALL_CALLS; i++) {
        on = &probe;
        if (!cannot_be_made(all_calls[i])) {
            put_to_sleep(&asleep[sleepers++], all_calls[i]);
        }
    }
    HZ_TRY(fork_so_many(FORKS_OF_ALL));
    for (int i = 0; i < sleepers; i++) {
        HZ_TRY(asleep[i].things.sleeper.verdict); /* one that is over early cannot be woken */
    }
    for (int i = 0; i < sleepers; i++) {
        HZ_TRY(wake_up(&asleep[i]));
    }
    hz_post(&stop);
    return hz_finish(&busy);
}

/* ---- timeouts: nobody can end them; none may be shorter than asked for, or begin anew ---- */

static struct timespec in_time(long ms) {
    return (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
}

static struct timeval in_timeval(long ms) {
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

/* Each returns 0 if the time was over. */

static int timed_out(long result, long expected, int error) {
    return result != expected ? -1 : error == 0 || errno == error ? 0 : errno;
}

static int by_nanosleep(long ms) {
    struct timespec nap = in_time(ms);
    return nanosleep(&nap, NULL) == 0 ? 0 : errno;
}

static int by_raw_nanosleep(long ms) {
    struct timespec nap = in_time(ms);
    return (int)raw_call(SYS_nanosleep, (long)&nap, 0, 0, 0);
}

static int by_clock_nanosleep(long ms) {
    struct timespec nap = in_time(ms);
    return clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
}

/* A millisecond more: the clock was read in whole ones. */
static int by_clock_nanosleep_until(long ms) {
    struct timespec end = hz_in_ms(CLOCK_MONOTONIC, ms + 1);
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
}

static int by_thrd_sleep(long ms) {
    struct timespec nap = in_time(ms);
    return thrd_sleep(&nap, NULL);
}

static int by_usleep(long ms) { return usleep((useconds_t)ms * 1000) == 0 ? 0 : errno; }

static int by_sleep(long ms) { return (int)sleep((unsigned)(ms + 999) / 1000); }

static int by_poll(long ms) { return timed_out(poll(NULL, 0, (int)ms), 0, 0); }

static int by_ppoll(long ms) {
    struct timespec time = in_time(ms);
    return timed_out(ppoll(NULL, 0, &time, NULL), 0, 0);
}

static int by_select(long ms) {
    struct timeval time = in_timeval(ms);
    return timed_out(select(0, NULL, NULL, NULL, &time), 0, 0);
}

static int by_pselect(long ms) {
    struct timespec time = in_time(ms);
    return timed_out(pselect(0, NULL, NULL, NULL, &time, NULL), 0, 0);
}

static int by_epoll_wait(long ms) {
    struct epoll_event event;
    return timed_out(epoll_wait(on->epoll, &event, 1, (int)ms), 0, 0);
}

static int by_epoll_pwait(long ms) {
    sigset_t mask = hz_usr1_only();
    struct epoll_event event;
    return timed_out(epoll_pwait(on->epoll, &event, 1, (int)ms, &mask), 0, 0);
}

static int by_epoll_pwait2(long ms) {
    struct timespec time = in_time(ms);
    struct epoll_event event;
    return timed_out(epoll_pwait2(on->epoll, &event, 1, &time, NULL), 0, 0);
}

static int by_sem_timedwait(long ms) {
    struct timespec end = hz_in_ms(CLOCK_REALTIME, ms + 1);
    return timed_out(sem_timedwait(&on->sem, &end), -1, ETIMEDOUT);
}

static int by_sem_clockwait(long ms) {
    struct timespec end = hz_in_ms(CLOCK_MONOTONIC, ms + 1);
    return timed_out(sem_clockwait(&on->sem, CLOCK_MONOTONIC, &end), -1, ETIMEDOUT);
}

static int by_semtimedop(long ms) {
    struct timespec time = in_time(ms);
    struct sembuf down = {.sem_op = -1};
    return timed_out(semtimedop(on->sysv_sem, &down, 1, &time), -1, EAGAIN);
}

static int by_recv(long ms) {
    struct timeval time = in_timeval(ms);
    char byte;
    HZ_SETUP(setsockopt(on->sockets[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    return timed_out(recv(on->sockets[0], &byte, 1, 0), -1, EAGAIN);
}

static int by_send(long ms) {
    struct timeval time = in_timeval(ms);
    HZ_SETUP(setsockopt(on->sockets[0], SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) == 0);
    return timed_out(send(on->sockets[0], "x", 1, 0), -1, EAGAIN);
}

static int by_accept(long ms) {
    struct timeval time = in_timeval(ms);
    HZ_SETUP(setsockopt(on->listener, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    return timed_out(accept(on->listener, NULL, NULL), -1, EAGAIN);
}

static int by_connect(long ms) {
    struct timeval time = in_timeval(ms);
    int client = make_client(&time);
    int got = connect(client, (struct sockaddr *)&on->address, sizeof on->address);
    int result = timed_out(got, -1, EAGAIN);
    close(client);
    return result;
}

static int by_sigtimedwait(long ms) {
    struct timespec time = in_time(ms);
    sigset_t set = hz_usr1_only();
    return timed_out(sigtimedwait(&set, NULL, &time), -1, EAGAIN);
}

static int by_futex(long ms) {
    struct timespec time = in_time(ms);
    return timed_out(syscall(SYS_futex, &on->futex, FUTEX_WAIT, 0, &time, NULL, 0), -1, ETIMEDOUT);
}

static int by_cond_timedwait(long ms) {
    struct timespec end = hz_in_ms(CLOCK_REALTIME, ms + 1);
    int error;
    HZ_SETUP(pthread_mutex_lock(&on->mutex) == 0);
    do {
        error = pthread_cond_timedwait(&on->cond, &on->mutex, &end);
    } while (error == 0); /* may wake up for nothing */
    HZ_SETUP(pthread_mutex_unlock(&on->mutex) == 0);
    return error == ETIMEDOUT ? 0 : error;
}

static int by_io_getevents(long ms) {
    struct timespec time = in_time(ms);
    struct io_event event;
    return timed_out(syscall(SYS_io_getevents, on->aio, 1, 1, &event, &time), 0, 0);
}

struct timed {
    const char *name;
    void (*make)(void);
    int (*nap)(long ms);
};

static const struct timed all_timed[] = {
    {"nanosleep", NULL, by_nanosleep},
    {"raw nanosleep", NULL, by_raw_nanosleep},
    {"clock_nanosleep", NULL, by_clock_nanosleep},
    {"clock_nanosleep TIMER_ABSTIME", NULL, by_clock_nanosleep_until},
    {"thrd_sleep", NULL, by_thrd_sleep},
    {"usleep", NULL, by_usleep},
    {"sleep", NULL, by_sleep},
    {"poll", NULL, by_poll},
    {"ppoll", NULL, by_ppoll},
    {"select", NULL, by_select},
    {"pselect", NULL, by_pselect},
    {"epoll_wait", make_epoll, by_epoll_wait},
    {"epoll_pwait", make_epoll, by_epoll_pwait},
    {"epoll_pwait2", make_epoll, by_epoll_pwait2},
    {"sem_timedwait", make_sem, by_sem_timedwait},
    {"sem_clockwait", make_sem, by_sem_clockwait},
    {"semtimedop", make_sysv_sem, by_semtimedop},
    {"recv", make_sockets, by_recv},
    {"send", make_full_socket, by_send},
    {"accept", make_listener, by_accept},
    {"connect", make_full_listener, by_connect},
    {"sigtimedwait", NULL, by_sigtimedwait},
    {"futex", NULL, by_futex},
    {"pthread_cond_timedwait", NULL, by_cond_timedwait},
    {"io_getevents", make_aio, by_io_getevents},
};
enum { ALL_TIMED = sizeof all_timed / sizeof all_timed[0] };

/* LATE_S: longer than any delay of a busy machine, and than a timeout that begins anew with each
 * fork as long as there are forks would be. */
enum { SHORT_MS = 30, LONG_MS = 700, LATE_S = 20, LONG_NAPS = 2 };

struct napper {
    const struct timed *timed;
    struct things things;
    struct hz_event naps, stop;
};

static int64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Two milliseconds less: CLOCK_REALTIME is nudged now and then. */
static int nap_is_right(const struct timed *timed, long ms) {
    int64_t start = now_us();
    int error = timed->nap(ms);
    int64_t took = now_us() - start;
    if (error != 0 || took < ms * 1000 - 2000 || took > ms * 1000 + LATE_S * 1000000L) {
        hz_say("%s: %d %s, after %ld us of %ld", timed->name, error, hz_errno_name(error),
               (long)took, ms * 1000);
        return HZ_WRONG;
    }
    return HZ_OK;
}

static int naps(void *arg) {
    struct napper *napper = arg;
    on = &napper->things;
    for (int i = 0; hz_seen(&napper->stop) == 0; i++) {
        int verdict = nap_is_right(napper->timed, i < LONG_NAPS ? LONG_MS : SHORT_MS);
        hz_post(&napper->naps); /* even so: nobody is to wait for it in vain */
        HZ_TRY(verdict);
    }
    return HZ_OK;
}

/* All of them again and again, beside forks; the long ones first, and each of these some times. */
static int all_time_out(const void *arg) {
    static struct napper nappers[ALL_TIMED];
    (void)arg;
    hz_block_usr1();
    for (int i = 0; i < ALL_TIMED; i++) {
        struct napper *napper = &nappers[i];
        napper->timed = &all_timed[i];
        napper->things =
            (struct things){.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
        on = &napper->things;
        if (napper->timed->nap == by_io_getevents && !have_aio()) {
            hz_post(&napper->stop);
            napper->naps.count = LONG_NAPS + 2;
        } else if (napper->timed->make) {
            napper->timed->make();
        }
        hz_start(&on->sleeper, naps, napper);
    }
    HZ_TRY(fork_so_many(FORKS_OF_ALL));
    for (int i = 0; i < ALL_TIMED; i++) {
        while (hz_seen(&nappers[i].naps) < LONG_NAPS + 2 &&
               nappers[i].things.sleeper.verdict == HZ_OK) {
            HZ_TRY(fork_so_many(4));
        }
    }
    int verdict = HZ_OK;
    for (int i = 0; i < ALL_TIMED; i++) {
        hz_post(&nappers[i].stop);
        verdict |= hz_finish(&nappers[i].things.sleeper);
        if (nappers[i].timed->nap == by_semtimedop) {
            semctl(nappers[i].things.sysv_sem, 0, IPC_RMID);
        }
    }
    return verdict;
}

/* ---- what is left of the time when a signal of the program's own ends it ---- */

enum { ASKED_S = 600 };

static int64_t left_us; /* as the call said */

static int nanosleep_cut(void *arg) {
    struct timespec nap = {.tv_sec = ASKED_S}, left = {0};
    (void)arg;
    HZ_IS(nanosleep(&nap, &left), -1);
    HZ_IS(errno, EINTR);
    left_us = left.tv_sec * 1000000 + left.tv_nsec / 1000;
    return HZ_OK;
}

static int clock_nanosleep_cut(void *arg) {
    struct timespec nap = {.tv_sec = ASKED_S}, left = {0};
    (void)arg;
    HZ_IS(clock_nanosleep(CLOCK_BOOTTIME, 0, &nap, &left), EINTR);
    left_us = left.tv_sec * 1000000 + left.tv_nsec / 1000;
    return HZ_OK;
}

static int thrd_sleep_cut(void *arg) {
    struct timespec nap = {.tv_sec = ASKED_S}, left = {0};
    (void)arg;
    HZ_IS(thrd_sleep(&nap, &left), -1);
    left_us = left.tv_sec * 1000000 + left.tv_nsec / 1000;
    return HZ_OK;
}

static int raw_nanosleep_cut(void *arg) {
    struct timespec nap = {.tv_sec = ASKED_S}, left = {0};
    (void)arg;
    HZ_IS(raw_call(SYS_nanosleep, (long)&nap, (long)&left, 0, 0), -EINTR);
    left_us = left.tv_sec * 1000000 + left.tv_nsec / 1000;
    return HZ_OK;
}

/* Linux writes the rest into select's timeout, and into the one of the bare ppoll. */
static int select_cut(void *arg) {
    struct timeval left = {.tv_sec = ASKED_S};
    (void)arg;
    HZ_IS(select(0, NULL, NULL, NULL, &left), -1);
    HZ_IS(errno, EINTR);
    left_us = left.tv_sec * 1000000 + left.tv_usec;
    return HZ_OK;
}

static int syscall_ppoll_cut(void *arg) {
    struct timespec left = {.tv_sec = ASKED_S};
    (void)arg;
    HZ_IS(syscall(SYS_ppoll, NULL, 0, &left, NULL, 0), -1);
    HZ_IS(errno, EINTR);
    left_us = left.tv_sec * 1000000 + left.tv_nsec / 1000;
    return HZ_OK;
}

/* In whole seconds, rounded. */
static int sleep_cut(void *arg) {
    (void)arg;
    left_us = sleep(ASKED_S) * INT64_C(1000000);
    return HZ_OK;
}

static int (*const cut_short[])(void *) = {
    nanosleep_cut, clock_nanosleep_cut, thrd_sleep_cut, raw_nanosleep_cut,
    select_cut,    syscall_ppoll_cut,   sleep_cut};

/* The call had begun when it was seen asleep, and went on until the signal was sent: no more can be
 * left than what was asked without that time; nor less than that without all the time in between. */
static int left_is_right(int (*body)(void *), int flags) {
    struct hz_thread thread;
    handle_usr2(flags);
    int64_t before = now_us();
    hz_start(&thread, body, NULL);
    hz_until_blocked(thread.tid, -1);
    int64_t asleep = now_us();
    do {
        HZ_TRY(fork_so_many(20));
    } while (now_us() < asleep + 1500000);
    int64_t sent = now_us();
    HZ_SETUP(pthread_kill(thread.id, SIGUSR2) == 0);
    HZ_TRY(hz_finish(&thread));
    int64_t after = now_us(), asked = ASKED_S * INT64_C(1000000);
    int64_t grain = body == sleep_cut ? 500000 : 1000;
    if (left_us > asked - (sent - asleep) + grain || left_us < asked - (after - before) - grain) {
        hz_say("%ld us are left of %ld, after %ld to %ld", (long)left_us, (long)asked,
               (long)(sent - asleep), (long)(after - before));
        return HZ_WRONG;
    }
    return HZ_OK;
}

static int time_left(const void *arg) {
    (void)arg;
    for (unsigned i = 0; i < sizeof cut_short / sizeof cut_short[0]; i++) {
        HZ_TRY(left_is_right(cut_short[i], i % 2 ? SA_RESTART : 0));
    }
    return HZ_OK;
}

static int ring_asleep(const void *arg) {
    (void)arg;
    static struct things probe;
    on = &probe;
    make_ring();
    return on->ring < 0 ? HZ_SKIP : asleep_all_along(&ring_call);
}

#define ASLEEP(name, call) HAZARD_OF("eintr_" name, asleep_all_along, &call, OK, name)
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
    ASLEEP("epoll_pwait", epoll_pwait_call),
    ASLEEP("epoll_pwait2", epoll_pwait2_call),
    ASLEEP("semtimedop", semtimedop_call),
    ASLEEP("msgsnd", msgsnd_call),
    ASLEEP("pause", pause_call),
    ASLEEP("sigsuspend", sigsuspend_call),
    ASLEEP("sigsuspend_open", open_sigsuspend_call),
    ASLEEP("futex", futex_call),
    HAZARD_OF("eintr_send_timeout", asleep_all_along, &timed_send_call, OK,
              "send on a full socket with a send timeout"),
    HAZARD_OF("eintr_accept_timeout", asleep_all_along, &timed_accept_call, OK,
              "accept on a socket with a receive timeout"),
    HAZARD_OF("eintr_connect_timeout", asleep_all_along, &timed_connect_call, OK,
              "connect with a send timeout, the listener's queue full"),
    HAZARD("eintr_all", all_asleep, OK, "a thread in each of all these calls, 1000 forks"),
    HAZARD("eintr_timeouts", all_time_out, OK,
           "a thread in each call with a timeout, 1000 forks: none early, none anew"),
    HAZARD("eintr_time_left", time_left, OK,
           "the time that is left when the program's own signal ends a sleep"),
};
HAZARD_MAIN(hazards)
