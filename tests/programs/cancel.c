/*
 * cancel.c: cancellation in every call that may sleep, beside forks. The thread's cleanup handlers
 * run, the joiner is told PTHREAD_CANCELED, no descriptor is lost, and no fork takes the cancelled
 * thread for one that still waits, or still holds something.
 *
 * All of it runs with a deadline of 20 s (HAZARD_PATIENT): a fork that waits for somebody in vain is told
 * from a slow machine by half of that.
 */
#include "hazard.h"

#include <aio.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <threads.h>

enum { AN_HOUR_S = 3600, CROWD = 1000 };

static const struct timespec hour = {.tv_sec = AN_HOUR_S};

/* What the threads block on; one hazard a process, so one of each is enough. */
static struct {
    int pipe[2], full[2], other[2], sockets[2], listener, client, epoll, queue, sysv_sem, file;
    mqd_t mail;
    char letter[16];
    sem_t sem, lock;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    mtx_t mtx;
    cnd_t cnd;
    pthread_barrier_t barrier;
    struct hz_bystander target;
    pid_t child;
    struct sockaddr_un address;
} on = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

/* A call that sleeps until the thread is cancelled. */
struct spot {
    void (*make)(void);
    void (*enter)(void);
    void (*unmake)(void); /* at the end */
    int only_async;       /* POSIX makes it no cancellation point, and glibc neither */
    int only_deferred; /* takes a lock of libc's own: not to be torn out of it at any instruction */
};

/* ---- the calls ---- */

static void make_pipe(void) { HZ_SETUP(pipe(on.pipe) == 0); }

static void fill(int fd) {
    static const char page[4096];
    HZ_SETUP(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    while (write(fd, page, sizeof page) > 0) {
    }
    while (write(fd, page, 1) > 0) {
    }
    HZ_SETUP(errno == EAGAIN && fcntl(fd, F_SETFL, 0) == 0);
}

static void make_full_pipe(void) {
    HZ_SETUP(pipe(on.full) == 0);
    fill(on.full[1]);
}

/* Each of these returns only if something is wrong; the thread then ends uncancelled. */
static char bytes[64];
static struct iovec part = {bytes, sizeof bytes};

static void in_read(void) { (void)!read(on.pipe[0], bytes, 1); }
static void in_readv(void) { (void)!readv(on.pipe[0], &part, 1); }
static void in_write(void) { (void)!write(on.full[1], bytes, 1); }
static void in_writev(void) { (void)!writev(on.full[1], &part, 1); }
static void in_tee(void) { tee(on.pipe[0], on.other[1], 1, 0); }
static void in_splice(void) { splice(on.pipe[0], NULL, on.other[1], NULL, 1, 0); }
static void in_vmsplice(void) { (void)!vmsplice(on.full[1], &part, 1, 0); }

static void make_two_pipes(void) {
    make_pipe();
    HZ_SETUP(pipe(on.other) == 0);
}

static void make_file_and_full_pipe(void) {
    make_full_pipe();
    on.file = open("/proc/self/exe", O_RDONLY);
    HZ_SETUP(on.file >= 0);
}

static void in_sendfile(void) {
    off_t start = 0;
    sendfile(on.full[1], on.file, &start, 1);
}

static void in_poll(void) {
    struct pollfd fd = {.fd = on.pipe[0], .events = POLLIN};
    poll(&fd, 1, -1);
}

static void in_ppoll(void) {
    struct pollfd fd = {.fd = on.pipe[0], .events = POLLIN};
    ppoll(&fd, 1, &hour, NULL);
}

static void in_select(void) {
    fd_set fds;
    FD_ZERO(&fds);
    FD_SET(on.pipe[0], &fds);
    select(on.pipe[0] + 1, &fds, NULL, NULL, NULL);
}

static void in_pselect(void) {
    fd_set fds;
    FD_ZERO(&fds);
    FD_SET(on.pipe[0], &fds);
    pselect(on.pipe[0] + 1, &fds, NULL, NULL, &hour, NULL);
}

static void make_epoll(void) {
    struct epoll_event event = {.events = EPOLLIN};
    make_pipe();
    on.epoll = epoll_create1(0);
    HZ_SETUP(on.epoll >= 0 && epoll_ctl(on.epoll, EPOLL_CTL_ADD, on.pipe[0], &event) == 0);
}

static struct epoll_event event;

static void in_epoll_wait(void) { epoll_wait(on.epoll, &event, 1, -1); }
static void in_epoll_pwait(void) { epoll_pwait(on.epoll, &event, 1, -1, NULL); }
static void in_epoll_pwait2(void) { epoll_pwait2(on.epoll, &event, 1, &hour, NULL); }

static void in_nanosleep(void) { nanosleep(&hour, NULL); }
static void in_clock_nanosleep(void) { clock_nanosleep(CLOCK_MONOTONIC, 0, &hour, NULL); }
static void in_usleep(void) { usleep(AN_HOUR_S * 1000000U); }
static void in_sleep(void) { sleep(AN_HOUR_S); }
static void in_thrd_sleep(void) { thrd_sleep(&hour, NULL); }
static void in_pause(void) { pause(); }

static void in_sigsuspend(void) {
    sigset_t none;
    sigemptyset(&none);
    sigsuspend(&none);
}

static void in_sigwait(void) {
    sigset_t set = hz_usr1_only();
    int signo;
    sigwait(&set, &signo);
}

static void in_sigwaitinfo(void) {
    sigset_t set = hz_usr1_only();
    sigwaitinfo(&set, NULL);
}

static void in_sigtimedwait(void) {
    sigset_t set = hz_usr1_only();
    sigtimedwait(&set, NULL, &hour);
}

static void make_queue(void) {
    on.queue = msgget(IPC_PRIVATE, 0600);
    HZ_SETUP(on.queue >= 0);
}

struct message {
    long type;
    char text[8192];
};

static void make_full_queue(void) {
    static const struct message message = {.type = 1};
    make_queue();
    while (msgsnd(on.queue, &message, sizeof message.text, IPC_NOWAIT) == 0) {
    }
    HZ_SETUP(errno == EAGAIN);
}

static void unmake_queue(void) { HZ_SETUP(msgctl(on.queue, IPC_RMID, NULL) == 0); }

static void in_msgrcv(void) {
    static struct message message;
    msgrcv(on.queue, &message, sizeof message.text, 0, 0);
}

static void in_msgsnd(void) {
    static const struct message message = {.type = 1};
    msgsnd(on.queue, &message, sizeof message.text, 0);
}

static void make_sysv_sem(void) {
    on.sysv_sem = semget(IPC_PRIVATE, 1, 0600);
    HZ_SETUP(on.sysv_sem >= 0);
}

static void unmake_sysv_sem(void) { HZ_SETUP(semctl(on.sysv_sem, 0, IPC_RMID) == 0); }

static void in_semop(void) {
    struct sembuf down = {.sem_op = -1};
    semop(on.sysv_sem, &down, 1);
}

static void in_semtimedop(void) {
    struct sembuf down = {.sem_op = -1};
    semtimedop(on.sysv_sem, &down, 1, &hour);
}

static void make_sockets(void) { HZ_SETUP(socketpair(AF_UNIX, SOCK_STREAM, 0, on.sockets) == 0); }

static void make_full_sockets(void) {
    make_sockets();
    fill(on.sockets[0]);
}

static void in_recv(void) { recv(on.sockets[0], bytes, 1, 0); }
static void in_recvfrom(void) { recvfrom(on.sockets[0], bytes, 1, 0, NULL, NULL); }
static void in_send(void) { send(on.sockets[0], bytes, 1, 0); }
static void in_sendto(void) { sendto(on.sockets[0], bytes, 1, 0, NULL, 0); }

static void in_recvmsg(void) {
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    recvmsg(on.sockets[0], &message, 0);
}

static void in_sendmsg(void) {
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    sendmsg(on.sockets[0], &message, 0);
}

static void in_recvmmsg(void) {
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    recvmmsg(on.sockets[0], &message, 1, 0, NULL);
}

static void in_sendmmsg(void) {
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    sendmmsg(on.sockets[0], &message, 1, 0);
}

static void make_listener(void) {
    on.address.sun_family = AF_UNIX; /* in the abstract name space: leaves no file behind */
    snprintf(on.address.sun_path + 1, sizeof on.address.sun_path - 1, "cancel-%d", (int)getpid());
    on.listener = socket(AF_UNIX, SOCK_STREAM, 0);
    HZ_SETUP(on.listener >= 0);
    HZ_SETUP(bind(on.listener, (struct sockaddr *)&on.address, sizeof on.address) == 0);
    HZ_SETUP(listen(on.listener, 0) == 0);
}

static void in_accept(void) { accept(on.listener, NULL, NULL); }
static void in_accept4(void) { accept4(on.listener, NULL, NULL, SOCK_CLOEXEC); }

static void make_busy_listener(void) {
    make_listener();
    int first = socket(AF_UNIX, SOCK_STREAM, 0);
    HZ_SETUP(connect(first, (struct sockaddr *)&on.address, sizeof on.address) == 0);
    on.client = socket(AF_UNIX, SOCK_STREAM, 0);
    HZ_SETUP(on.client >= 0);
}

static void in_connect(void) {
    connect(on.client, (struct sockaddr *)&on.address, sizeof on.address);
}

/* Two open files, so that the lock of one is in the other's way. */
static void make_locked_file(void) {
    char path[32];
    on.pipe[0] = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    HZ_SETUP(on.pipe[0] >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", on.pipe[0]);
    on.pipe[1] = open(path, O_RDWR);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    HZ_SETUP(on.pipe[1] >= 0 && flock(on.pipe[1], LOCK_EX) == 0);
    HZ_SETUP(fcntl(on.pipe[1], F_OFD_SETLK, &whole) == 0);
}

static void in_flock(void) { flock(on.pipe[0], LOCK_EX); }
static void in_lockf(void) { (void)!lockf(on.pipe[0], F_LOCK, 0); }

static void in_fcntl(void) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    fcntl(on.pipe[0], F_SETLKW, &whole);
}

static void in_fcntl_ofd(void) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    fcntl(on.pipe[0], F_OFD_SETLKW, &whole);
}

static void make_child(void) {
    on.child = fork();
    if (on.child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            pause();
        }
    }
    HZ_SETUP(on.child > 0);
}

static void unmake_child(void) {
    HZ_SETUP(kill(on.child, SIGKILL) == 0 && waitpid(on.child, NULL, 0) == on.child);
}

static void in_waitpid(void) { waitpid(on.child, NULL, 0); }
static void in_wait4(void) { wait4(on.child, NULL, 0, NULL); }

static void in_waitid(void) {
    siginfo_t info;
    waitid(P_PID, (id_t)on.child, &info, WEXITED);
}

static void make_mail(void) {
    struct mq_attr small = {.mq_maxmsg = 1, .mq_msgsize = sizeof on.letter};
    char name[32];
    snprintf(name, sizeof name, "/cancel-%d", (int)getpid());
    on.mail = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &small);
    mq_unlink(name);
}

static void make_full_mail(void) {
    make_mail();
    if (on.mail >= 0) {
        HZ_SETUP(mq_send(on.mail, on.letter, 1, 0) == 0);
    }
}

static void in_mq_receive(void) { (void)!mq_receive(on.mail, on.letter, sizeof on.letter, NULL); }
static void in_mq_send(void) { mq_send(on.mail, on.letter, 1, 0); }

static void in_mq_timedreceive(void) {
    struct timespec end = hz_in_ms(CLOCK_REALTIME, AN_HOUR_S * 1000);
    (void)!mq_timedreceive(on.mail, on.letter, sizeof on.letter, NULL, &end);
}

static void in_mq_timedsend(void) {
    struct timespec end = hz_in_ms(CLOCK_REALTIME, AN_HOUR_S * 1000);
    mq_timedsend(on.mail, on.letter, 1, 0, &end);
}

static void in_syscall(void) { syscall(SYS_read, on.pipe[0], bytes, 1); }

static void make_sem(void) { HZ_SETUP(sem_init(&on.sem, 0, 0) == 0); }
static void in_sem_wait(void) { sem_wait(&on.sem); }

static void in_sem_timedwait(void) {
    struct timespec end = hz_in_ms(CLOCK_REALTIME, AN_HOUR_S * 1000);
    sem_timedwait(&on.sem, &end);
}

static void in_sem_clockwait(void) {
    struct timespec end = hz_in_ms(CLOCK_MONOTONIC, AN_HOUR_S * 1000);
    sem_clockwait(&on.sem, CLOCK_MONOTONIC, &end);
}

/* One that is used as a lock, and that the forking thread has: nobody waits for who waits for it. */
static void make_sem_lock(void) {
    HZ_SETUP(sem_init(&on.lock, 0, 1) == 0);
    HZ_SETUP(sem_wait(&on.lock) == 0 && sem_post(&on.lock) == 0 && sem_wait(&on.lock) == 0);
}

static void in_sem_lock(void) { sem_wait(&on.lock); }

static void unlock_mutex(void *mutex) { HZ_SETUP(pthread_mutex_unlock(mutex) == 0); }

#define IN_COND(call)                                                                              \
    HZ_SETUP(pthread_mutex_lock(&on.mutex) == 0);                                                  \
    pthread_cleanup_push(unlock_mutex, &on.mutex);                                                 \
    call;                                                                                          \
    pthread_cleanup_pop(1)

static void in_cond_wait(void) { IN_COND(pthread_cond_wait(&on.cond, &on.mutex)); }

static void in_cond_timedwait(void) {
    struct timespec end = hz_in_ms(CLOCK_REALTIME, AN_HOUR_S * 1000);
    IN_COND(pthread_cond_timedwait(&on.cond, &on.mutex, &end));
}

static void in_cond_clockwait(void) {
    struct timespec end = hz_in_ms(CLOCK_MONOTONIC, AN_HOUR_S * 1000);
    IN_COND(pthread_cond_clockwait(&on.cond, &on.mutex, CLOCK_MONOTONIC, &end));
}

static void make_cnd(void) {
    HZ_SETUP(mtx_init(&on.mtx, mtx_plain) == thrd_success && cnd_init(&on.cnd) == thrd_success);
}

static void unlock_mtx(void *mutex) { HZ_SETUP(mtx_unlock(mutex) == thrd_success); }

#define IN_CND(call)                                                                               \
    HZ_SETUP(mtx_lock(&on.mtx) == thrd_success);                                                   \
    pthread_cleanup_push(unlock_mtx, &on.mtx);                                                     \
    call;                                                                                          \
    pthread_cleanup_pop(1)

static void in_cnd_wait(void) { IN_CND(cnd_wait(&on.cnd, &on.mtx)); }

static void in_cnd_timedwait(void) {
    struct timespec end = hz_in_ms(CLOCK_REALTIME, AN_HOUR_S * 1000);
    IN_CND(cnd_timedwait(&on.cnd, &on.mtx, &end));
}

static void make_barrier(void) { HZ_SETUP(pthread_barrier_init(&on.barrier, NULL, CROWD) == 0); }
static void in_barrier_wait(void) { pthread_barrier_wait(&on.barrier); }

static void make_target(void) { hz_bystander_start(&on.target); }
static void unmake_target(void) { HZ_SETUP(hz_bystander_stop(&on.target) == HZ_OK); }
static void in_join(void) { pthread_join(on.target.thread.id, NULL); }
static void in_thrd_join(void) { thrd_join(on.target.thread.id, NULL); }

static void in_timedjoin(void) {
    struct timespec end = hz_in_ms(CLOCK_REALTIME, AN_HOUR_S * 1000);
    pthread_timedjoin_np(on.target.thread.id, NULL, &end);
}

static void in_clockjoin(void) {
    struct timespec end = hz_in_ms(CLOCK_MONOTONIC, AN_HOUR_S * 1000);
    pthread_clockjoin_np(on.target.thread.id, NULL, CLOCK_MONOTONIC, &end);
}

static void in_system(void) { (void)!system("exec sleep 3600"); }

static void in_fflush_all(void) { fflush(NULL); }

static FILE *stuck;
static void make_stuck_stream(void) {
    make_full_pipe();
    stuck = fdopen(on.full[1], "w");
    HZ_SETUP(stuck != NULL && fputs("text", stuck) >= 0);
}
static void in_fflush(void) { fflush(stuck); }

static void in_fgetc(void) { fgetc(stuck); }
static void make_stream(void) {
    make_pipe();
    stuck = fdopen(on.pipe[0], "r");
    HZ_SETUP(stuck != NULL);
}

static struct aiocb request;

static void make_aio(void) {
    make_pipe();
    request = (struct aiocb){.aio_fildes = on.pipe[0], .aio_buf = bytes, .aio_nbytes = 1};
    HZ_SETUP(aio_read(&request) == 0);
}

static void unmake_aio(void) {
    const struct aiocb *list[] = {&request};
    HZ_SETUP(write(on.pipe[1], "x", 1) == 1);
    HZ_SETUP(aio_suspend(list, 1, NULL) == 0);
}

static void in_aio_suspend(void) {
    const struct aiocb *list[] = {&request};
    aio_suspend(list, 1, NULL);
}

static void computes(void) {
    for (volatile long turns = 0;; turns = turns + 1) {
    }
}

/* ---- one thread, cancelled ---- */

enum when {
    ASLEEP,  /* once it sleeps in the call */
    PENDING, /* before it makes the call */
    ANY_TIME /* from the moment that it begins */
};

/* The pair shows whether a child was made while the cleanup handler was in the middle of it. */
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static struct hz_pair pair;

struct victim {
    const struct spot *spot;
    int type;
    enum when when;
    pthread_t id;
    pid_t tid;
    struct hz_event begun, sent;
    int cleaned, wrong;
};

static void clean_up(void *arg) {
    struct victim *victim = arg;
    victim->cleaned++;
    victim->wrong |= hz_pair_turn(&pair);
}

static void outer_clean_up(void *arg) {
    struct victim *victim = arg;
    victim->wrong |= victim->cleaned != 1;
    victim->wrong |= hz_pair_turn(&pair);
    victim->cleaned++;
}

/* The calls that a program makes from its own functions: a frame of its own between two handlers. */
static __attribute__((noinline)) void enter(struct victim *victim) {
    pthread_cleanup_push(clean_up, victim);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    pthread_setcanceltype(victim->type, NULL);
    victim->spot->enter();
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    hz_say("the call came back, with %s", hz_errno_name(errno));
    pthread_cleanup_pop(0);
}

static void *victim_main(void *arg) {
    struct victim *victim = arg;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    victim->tid = (pid_t)syscall(SYS_gettid);
    pthread_cleanup_push(outer_clean_up, victim);
    hz_post(&victim->begun);
    if (victim->when == PENDING) {
        hz_await(&victim->sent, 1);
    }
    enter(victim);
    pthread_cleanup_pop(0);
    return NULL;
}

/* Without a FILE: a thread asleep in fflush(NULL) keeps the list of them locked. */
static void until_asleep(pid_t tid) {
    char path[64], line[8] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)tid);
    do {
        hz_sleep_us(200);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        HZ_SETUP(fd >= 0 && read(fd, line, sizeof line) > 0 && close(fd) == 0);
    } while (line[0] < '0' || line[0] > '9');
}

/* Until the thread sleeps in its call; one that computes, until it has begun. */
static void await_asleep(struct victim *victim) {
    hz_await(&victim->begun, 1);
    if (victim->spot->enter != computes) {
        until_asleep(victim->tid);
    }
}

static int cancel_victim(struct victim *victim) {
    void *result = NULL;
    HZ_IS(pthread_cancel(victim->id), 0);
    hz_post(&victim->sent);
    HZ_IS(pthread_join(victim->id, &result), 0);
    HZ_TRUE(result == PTHREAD_CANCELED);
    HZ_IS(victim->cleaned, 2);
    HZ_IS(victim->wrong, 0);
    return HZ_OK;
}

static int cancel_one(const struct spot *spot, int type, enum when when) {
    struct victim victim = {.spot = spot, .type = type, .when = when};
    HZ_IS(pthread_create(&victim.id, NULL, victim_main, &victim), 0);
    if (when == ASLEEP) {
        await_asleep(&victim);
    } else {
        hz_await(&victim.begun, 1);
    }
    return cancel_victim(&victim);
}

static int descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    HZ_SETUP(directory != NULL);
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}

/* ---- forks ---- */

static int child_takes_all(void *arg) {
    (void)arg;
    HZ_TRY(hz_pair_sound(&pair));
    HZ_TRY(hz_mutex_works(&guard));
    return hz_mutex_works(&on.mutex);
}

static int fork_once(void) {
    pid_t pid;
    int64_t ms;
    HZ_TRY(hz_fork_timed(child_takes_all, &pid, &ms));
    if (ms >= hz_deadline_ms() / 2) {
        hz_say("the fork took %ld ms", (long)ms);
        return HZ_WRONG;
    }
    return HZ_OK;
}

static void set_up(const struct spot *spot) {
    hz_pair_init(&pair, hz_mutex_lock, hz_mutex_unlock, &guard);
    if (spot->make) {
        spot->make();
    }
}

static int unmake(const struct spot *spot) {
    if (spot->unmake) {
        spot->unmake();
    }
    return fork_once();
}

static int cancel_each_way(const struct spot *spot, int type) {
    HZ_TRY(cancel_one(spot, type, ASLEEP));
    HZ_TRY(fork_once());
    HZ_TRY(cancel_one(spot, type, PENDING));
    HZ_TRY(fork_once());
    for (int i = 0; i < 5; i++) {
        HZ_TRY(cancel_one(spot, type, ANY_TIME));
        HZ_TRY(cancel_one(spot, type, ASLEEP));
    }
    return fork_once();
}

static int first_type(const struct spot *spot) {
    return spot->only_async ? PTHREAD_CANCEL_ASYNCHRONOUS : PTHREAD_CANCEL_DEFERRED;
}

static int cancelled(const void *arg) {
    const struct spot *spot = arg;
    set_up(spot);
    if (on.mail < 0) {
        return HZ_SKIP; /* no queues here */
    }
    HZ_TRY(cancel_one(spot, first_type(spot), ASLEEP)); /* what it opens for good is no leak */
    int before = descriptors();
    if (!spot->only_async) {
        HZ_TRY(cancel_each_way(spot, PTHREAD_CANCEL_DEFERRED));
    }
    if (!spot->only_deferred) {
        HZ_TRY(cancel_each_way(spot, PTHREAD_CANCEL_ASYNCHRONOUS));
    }
    HZ_IS(descriptors(), before);
    return unmake(spot);
}

/* ---- beside forks ---- */

struct row {
    const struct spot *spot;
    int type;
    struct hz_event stop;
};

static int cancels_in_a_row(void *arg) {
    struct row *row = arg;
    for (int i = 0; hz_seen(&row->stop) == 0; i++) {
        HZ_TRY(cancel_one(row->spot, row->type, i % 2 == 0 ? ANY_TIME : ASLEEP));
    }
    return HZ_OK;
}

/* Threads come, are cancelled and go, at any moment of a fork. */
static int beside_forks(const struct spot *spot, int type) {
    enum { FORKS = 100 };
    struct row rows[2];
    struct hz_thread threads[2];
    for (int i = 0; i < 2; i++) {
        rows[i] = (struct row){.spot = spot, .type = type};
        hz_start(&threads[i], cancels_in_a_row, &rows[i]);
    }
    for (int i = 0; i < FORKS; i++) {
        HZ_TRY(fork_once());
    }
    for (int i = 0; i < 2; i++) {
        hz_post(&rows[i].stop);
        HZ_TRY(hz_finish(&threads[i]));
    }
    return HZ_OK;
}

static int stormed(const void *arg) {
    const struct spot *spot = arg;
    set_up(spot);
    if (!spot->only_async) {
        HZ_TRY(beside_forks(spot, PTHREAD_CANCEL_DEFERRED));
    }
    if (!spot->only_deferred) {
        HZ_TRY(beside_forks(spot, PTHREAD_CANCEL_ASYNCHRONOUS));
    }
    return unmake(spot);
}

/* ---- the cleanup handler takes its time ---- */

/* No call of any library from here to there: it runs, and all that it holds is what the spot left. */
static struct { int inside, go_on; } handler;

static void compute_in_handler(void *arg) {
    struct victim *victim = arg;
    victim->cleaned++;
    __atomic_store_n(&handler.inside, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&handler.go_on, __ATOMIC_SEQ_CST) == 0) {
    }
}

/* In the middle of a turn for as long as it takes a fork to have come and waited a while. */
static void work_long(int64_t ms) {
    int64_t end = hz_now_ms(CLOCK_MONOTONIC) + ms;
    while (hz_now_ms(CLOCK_MONOTONIC) < end) {
    }
}

enum { LONG_MS = 150 };

static void hold_in_handler(void *arg) {
    struct victim *victim = arg;
    victim->cleaned++;
    victim->wrong |= pthread_mutex_lock(&guard);
    pair.first = pair.first + 1;
    __atomic_store_n(&handler.inside, 1, __ATOMIC_SEQ_CST);
    work_long(LONG_MS);
    pair.second = pair.second + 1;
    victim->wrong |= pthread_mutex_unlock(&guard);
}

static void sleep_in_handler(void *arg) {
    struct victim *victim = arg;
    victim->cleaned++;
    victim->wrong |= pthread_mutex_lock(&guard);
    pair.first = pair.first + 1;
    __atomic_store_n(&handler.inside, 1, __ATOMIC_SEQ_CST);
    hz_sleep_us(LONG_MS * 1000);
    pair.second = pair.second + 1;
    victim->wrong |= pthread_mutex_unlock(&guard);
}

static void (*busy_handler)(void *);

static void *busy_victim(void *arg) {
    struct victim *victim = arg;
    pthread_cleanup_push(busy_handler, victim);
    victim->tid = (pid_t)syscall(SYS_gettid);
    hz_post(&victim->begun);
    victim->spot->enter();
    pthread_cleanup_pop(0);
    return NULL;
}

static int fork_beside_handler(const struct spot *spot, void (*routine)(void *)) {
    struct victim victim = {.spot = spot};
    void *result = NULL;
    handler.inside = handler.go_on = 0;
    busy_handler = routine;
    HZ_IS(pthread_create(&victim.id, NULL, busy_victim, &victim), 0);
    await_asleep(&victim);
    HZ_IS(pthread_cancel(victim.id), 0);
    while (__atomic_load_n(&handler.inside, __ATOMIC_SEQ_CST) == 0) {
    }
    HZ_TRY(fork_once());
    __atomic_store_n(&handler.go_on, 1, __ATOMIC_SEQ_CST);
    HZ_IS(pthread_join(victim.id, &result), 0);
    HZ_TRUE(result == PTHREAD_CANCELED);
    HZ_IS(victim.cleaned, 1);
    HZ_IS(victim.wrong, 0);
    return HZ_OK;
}

/* It neither waits nor holds anything any more: no fork waits for it. */
static int handler_computes(const void *arg) {
    const struct spot *spot = arg;
    set_up(spot);
    for (int i = 0; i < 2; i++) {
        HZ_TRY(fork_beside_handler(spot, compute_in_handler));
    }
    return HZ_OK;
}

/* It is no waiter any more, but a holder like any other: it is waited for. */
static int handler_holds(const void *arg) {
    const struct spot *spot = arg;
    set_up(spot);
    HZ_TRY(fork_beside_handler(spot, hold_in_handler));
    return fork_beside_handler(spot, sleep_in_handler);
}

/* ---- in a signal handler, in the middle of a call that may be cancelled ---- */

static pthread_mutex_t handlers_own;
static struct hz_event *cancel_sent;

/* Never back before the thread is cancelled: the call would return, with EINTR. */
static void lock_until_cancelled(int signo) {
    (void)signo;
    __atomic_store_n(&handler.inside, 1, __ATOMIC_SEQ_CST);
    while (hz_seen(cancel_sent) == 0) {
        pthread_mutex_lock(&handlers_own);
        pthread_mutex_unlock(&handlers_own);
    }
}

/* glibc cancels the thread at any instruction then, wherever the handler is. */
static int handler_locks(const void *arg) {
    enum { TIMES = 20 };
    struct sigaction action = {.sa_handler = lock_until_cancelled};
    set_up(arg);
    HZ_SETUP(sigaction(SIGUSR1, &action, NULL) == 0);
    for (int i = 0; i < TIMES; i++) {
        struct victim victim = {.spot = arg, .when = ASLEEP};
        pthread_mutex_init(&handlers_own, NULL); /* the last thread may have left it locked */
        handler.inside = 0;
        cancel_sent = &victim.sent;
        HZ_IS(pthread_create(&victim.id, NULL, victim_main, &victim), 0);
        await_asleep(&victim);
        HZ_IS(pthread_kill(victim.id, SIGUSR1), 0);
        while (__atomic_load_n(&handler.inside, __ATOMIC_SEQ_CST) == 0) {
        }
        hz_sleep_us(500);
        HZ_TRY(cancel_victim(&victim));
    }
    return unmake(arg);
}

/* ---- not to be cancelled ---- */

static void write_pipe(void) { HZ_SETUP(write(on.pipe[1], "x", 1) == 1); }
static void post_sem(void) { HZ_SETUP(sem_post(&on.sem) == 0); }

static void signal_cond(void) {
    HZ_SETUP(pthread_mutex_lock(&on.mutex) == 0);
    HZ_SETUP(pthread_cond_signal(&on.cond) == 0);
    HZ_SETUP(pthread_mutex_unlock(&on.mutex) == 0);
}

static void end_target(void) { hz_post(&on.target.release); }

struct unwilling {
    struct spot spot;
    void (*wake)(void);
};

static void *disabled_main(void *arg) {
    struct victim *victim = arg;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_cleanup_push(clean_up, victim);
    victim->tid = (pid_t)syscall(SYS_gettid);
    hz_post(&victim->begun);
    victim->spot->enter();
    hz_post(&victim->sent); /* it came back */
    int state = -1;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    victim->wrong |= state != PTHREAD_CANCEL_DISABLE;
    pthread_testcancel();
    victim->wrong = 1;
    pthread_cleanup_pop(0);
    return NULL;
}

static int disabled(const void *arg) {
    const struct unwilling *unwilling = arg;
    struct victim victim = {.spot = &unwilling->spot};
    void *result = NULL;
    set_up(&unwilling->spot);
    HZ_IS(pthread_create(&victim.id, NULL, disabled_main, &victim), 0);
    await_asleep(&victim);
    HZ_IS(pthread_cancel(victim.id), 0);
    for (int i = 0; i < 20; i++) {
        HZ_TRY(fork_once());
        until_asleep(victim.tid);
    }
    HZ_IS(hz_seen(&victim.sent), 0);
    HZ_IS(victim.cleaned, 0);
    unwilling->wake();
    hz_await(&victim.sent, 1);
    HZ_IS(pthread_join(victim.id, &result), 0);
    HZ_TRUE(result == PTHREAD_CANCELED);
    HZ_IS(victim.cleaned, 1);
    HZ_IS(victim.wrong, 0);
    return fork_once();
}

static const struct unwilling disabled_read = {{.make = make_pipe, .enter = in_read}, write_pipe};
static const struct unwilling disabled_poll = {{.make = make_pipe, .enter = in_poll}, write_pipe};
static const struct unwilling disabled_sem = {{.make = make_sem, .enter = in_sem_wait}, post_sem};
static const struct unwilling disabled_cond = {{.enter = in_cond_wait}, signal_cond};
static const struct unwilling disabled_join = {{.make = make_target, .enter = in_join}, end_target};

/* ---- the table ---- */

#define SPOT(name, make_it, enter_it, ...)                                                         \
    static const struct spot name##_spot = {.make = make_it, .enter = enter_it, ##__VA_ARGS__}
SPOT(read, make_pipe, in_read);
SPOT(readv, make_pipe, in_readv);
SPOT(write, make_full_pipe, in_write);
SPOT(writev, make_full_pipe, in_writev);
SPOT(tee, make_two_pipes, in_tee);
SPOT(splice, make_two_pipes, in_splice);
SPOT(vmsplice, make_full_pipe, in_vmsplice);
SPOT(sendfile, make_file_and_full_pipe, in_sendfile, .only_async = 1);
SPOT(poll, make_pipe, in_poll);
SPOT(ppoll, make_pipe, in_ppoll);
SPOT(select, make_pipe, in_select);
SPOT(pselect, make_pipe, in_pselect);
SPOT(epoll_wait, make_epoll, in_epoll_wait);
SPOT(epoll_pwait, make_epoll, in_epoll_pwait);
SPOT(epoll_pwait2, make_epoll, in_epoll_pwait2);
SPOT(nanosleep, NULL, in_nanosleep);
SPOT(clock_nanosleep, NULL, in_clock_nanosleep);
SPOT(usleep, NULL, in_usleep);
SPOT(sleep, NULL, in_sleep);
SPOT(thrd_sleep, NULL, in_thrd_sleep);
SPOT(pause, NULL, in_pause);
SPOT(sigsuspend, NULL, in_sigsuspend);
SPOT(sigwait, hz_block_usr1, in_sigwait);
SPOT(sigwaitinfo, hz_block_usr1, in_sigwaitinfo);
SPOT(sigtimedwait, hz_block_usr1, in_sigtimedwait);
SPOT(msgrcv, make_queue, in_msgrcv, .unmake = unmake_queue);
SPOT(msgsnd, make_full_queue, in_msgsnd, .unmake = unmake_queue);
SPOT(semop, make_sysv_sem, in_semop, .unmake = unmake_sysv_sem, .only_async = 1);
SPOT(semtimedop, make_sysv_sem, in_semtimedop, .unmake = unmake_sysv_sem, .only_async = 1);
SPOT(recv, make_sockets, in_recv);
SPOT(recvfrom, make_sockets, in_recvfrom);
SPOT(recvmsg, make_sockets, in_recvmsg);
SPOT(recvmmsg, make_sockets, in_recvmmsg);
SPOT(send, make_full_sockets, in_send);
SPOT(sendto, make_full_sockets, in_sendto);
SPOT(sendmsg, make_full_sockets, in_sendmsg);
SPOT(sendmmsg, make_full_sockets, in_sendmmsg);
SPOT(accept, make_listener, in_accept);
SPOT(accept4, make_listener, in_accept4);
SPOT(connect, make_busy_listener, in_connect);
SPOT(flock, make_locked_file, in_flock, .only_async = 1);
SPOT(lockf, make_locked_file, in_lockf);
SPOT(fcntl, make_locked_file, in_fcntl);
SPOT(fcntl_ofd, make_locked_file, in_fcntl_ofd);
SPOT(waitpid, make_child, in_waitpid, .unmake = unmake_child);
SPOT(wait4, make_child, in_wait4, .unmake = unmake_child);
SPOT(waitid, make_child, in_waitid, .unmake = unmake_child);
SPOT(mq_receive, make_mail, in_mq_receive);
SPOT(mq_timedreceive, make_mail, in_mq_timedreceive);
SPOT(mq_send, make_full_mail, in_mq_send);
SPOT(mq_timedsend, make_full_mail, in_mq_timedsend);
SPOT(syscall, make_pipe, in_syscall, .only_async = 1);
SPOT(sem_wait, make_sem, in_sem_wait);
SPOT(sem_timedwait, make_sem, in_sem_timedwait);
SPOT(sem_clockwait, make_sem, in_sem_clockwait);
SPOT(sem_lock, make_sem_lock, in_sem_lock);
SPOT(cond_wait, NULL, in_cond_wait, .only_deferred = 1);
SPOT(cond_timedwait, NULL, in_cond_timedwait, .only_deferred = 1);
SPOT(cond_clockwait, NULL, in_cond_clockwait, .only_deferred = 1);
SPOT(cnd_wait, make_cnd, in_cnd_wait, .only_deferred = 1);
SPOT(cnd_timedwait, make_cnd, in_cnd_timedwait, .only_deferred = 1);
SPOT(barrier, make_barrier, in_barrier_wait, .only_async = 1);
SPOT(join, make_target, in_join, .unmake = unmake_target);
SPOT(timedjoin, make_target, in_timedjoin, .unmake = unmake_target);
SPOT(clockjoin, make_target, in_clockjoin, .unmake = unmake_target);
SPOT(thrd_join, make_target, in_thrd_join, .unmake = unmake_target);
SPOT(system, NULL, in_system, .only_deferred = 1);
SPOT(fflush, make_stuck_stream, in_fflush, .only_deferred = 1);
SPOT(fflush_all, make_stuck_stream, in_fflush_all, .only_deferred = 1);
SPOT(fgetc, make_stream, in_fgetc, .only_deferred = 1);
SPOT(aio_suspend, make_aio, in_aio_suspend, .unmake = unmake_aio, .only_deferred = 1);
SPOT(compute, NULL, computes, .only_async = 1);

#define CANCELLED(name)                                                                            \
    { "cancel_" #name, cancelled, &name##_spot, OK, "cancelled in " #name, "", 1 }
#define STORM(name)                                                                                \
    {                                                                                              \
        "cancel_storm_" #name, stormed, &name##_spot, RARELY,                                      \
            "cancelled in " #name " beside forks", "", 1                                           \
    }
#define COMPUTES(name)                                                                             \
    {                                                                                              \
        "cancel_computes_" #name, handler_computes, &name##_spot, OK,                              \
            "a cleanup handler computes, after " #name, "", 1                                      \
    }
#define HOLDS(name)                                                                                \
    {                                                                                              \
        "cancel_holds_" #name, handler_holds, &name##_spot, EITHER,                                \
            "a cleanup handler holds a lock for long, after " #name, "", 1                         \
    }
#define DISABLED(name, spot)                                                                       \
    { "cancel_disabled_" name, disabled, &spot, OK, "cancellation disabled, in " name, "", 1 }

static const struct hazard hazards[] = {
    CANCELLED(read),
    CANCELLED(readv),
    CANCELLED(write),
    CANCELLED(writev),
    CANCELLED(tee),
    CANCELLED(splice),
    CANCELLED(vmsplice),
    CANCELLED(sendfile),
    CANCELLED(poll),
    CANCELLED(ppoll),
    CANCELLED(select),
    CANCELLED(pselect),
    CANCELLED(epoll_wait),
    CANCELLED(epoll_pwait),
    CANCELLED(epoll_pwait2),
    CANCELLED(nanosleep),
    CANCELLED(clock_nanosleep),
    CANCELLED(usleep),
    CANCELLED(sleep),
    CANCELLED(thrd_sleep),
    CANCELLED(pause),
    CANCELLED(sigsuspend),
    CANCELLED(sigwait),
    CANCELLED(sigwaitinfo),
    CANCELLED(sigtimedwait),
    CANCELLED(msgrcv),
    CANCELLED(msgsnd),
    CANCELLED(semop),
    CANCELLED(semtimedop),
    CANCELLED(recv),
    CANCELLED(recvfrom),
    CANCELLED(recvmsg),
    CANCELLED(recvmmsg),
    CANCELLED(send),
    CANCELLED(sendto),
    CANCELLED(sendmsg),
    CANCELLED(sendmmsg),
    CANCELLED(accept),
    CANCELLED(accept4),
    CANCELLED(connect),
    CANCELLED(flock),
    CANCELLED(lockf),
    CANCELLED(fcntl),
    CANCELLED(fcntl_ofd),
    CANCELLED(waitpid),
    CANCELLED(wait4),
    CANCELLED(waitid),
    CANCELLED(mq_receive),
    CANCELLED(mq_timedreceive),
    CANCELLED(mq_send),
    CANCELLED(mq_timedsend),
    CANCELLED(syscall),
    CANCELLED(sem_wait),
    CANCELLED(sem_timedwait),
    CANCELLED(sem_clockwait),
    CANCELLED(sem_lock),
    CANCELLED(cond_wait),
    CANCELLED(cond_timedwait),
    CANCELLED(cond_clockwait),
    CANCELLED(cnd_wait),
    CANCELLED(cnd_timedwait),
    CANCELLED(barrier),
    CANCELLED(join),
    CANCELLED(timedjoin),
    CANCELLED(clockjoin),
    CANCELLED(thrd_join),
    CANCELLED(system),
    CANCELLED(fflush),
    CANCELLED(fflush_all),
    CANCELLED(fgetc),
    CANCELLED(aio_suspend),
    CANCELLED(compute),
    STORM(read),
    STORM(write),
    STORM(poll),
    STORM(nanosleep),
    STORM(fcntl),
    STORM(waitpid),
    STORM(sigwait),
    STORM(recv),
    STORM(sem_wait),
    STORM(sem_lock),
    STORM(cond_wait),
    STORM(cnd_wait),
    STORM(join),
    STORM(syscall),
    STORM(aio_suspend),
    STORM(system),
    STORM(compute),
    COMPUTES(read),
    COMPUTES(sem_wait),
    COMPUTES(sem_lock),
    COMPUTES(join),
    COMPUTES(system),
    COMPUTES(aio_suspend),
    HOLDS(read),
    HOLDS(sem_wait),
    HOLDS(sem_lock),
    HOLDS(join),
    HOLDS(cond_wait),
    HOLDS(aio_suspend),
    {"cancel_handler_locks", handler_locks, &pause_spot, OK,
     "a signal handler that locks, in the middle of a call that may be cancelled", "", 1},
    DISABLED("read", disabled_read),
    DISABLED("poll", disabled_poll),
    DISABLED("sem_wait", disabled_sem),
    DISABLED("cond_wait", disabled_cond),
    DISABLED("join", disabled_join),
};
HAZARD_MAIN(hazards)
