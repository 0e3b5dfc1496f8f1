/*
 * never.c: what must never happen to a program that is right bare. Whoever keeps records of locks,
 * takes a signal for itself and opens files of its own can break what glibc alone leaves sound:
 * memory that was a lock once, the program's signals, its mask, its descriptors.
 */
#include "hazard.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { FILLER = 0xAA };

/* ---- memory that was a lock, and is the program's data now ---- */

struct memory {
    unsigned char *bytes;
    size_t size;
};

/* Without the same address again, a record of what lay there could not do harm. */
static struct memory reuse(uintptr_t freed, size_t size) {
    struct memory memory = {malloc(size), size};
    HZ_SETUP((uintptr_t)memory.bytes == freed);
    memset(memory.bytes, FILLER, size);
    return memory;
}

static int is_untouched(void *arg) {
    const struct memory *memory = arg;
    for (size_t i = 0; i < memory->size; i++) {
        HZ_IS(memory->bytes[i], FILLER);
    }
    return HZ_OK;
}

struct waiting {
    pthread_mutex_t mutex;
    pthread_cond_t *cond;
    int go;
    struct hz_event inside;
};

static int wait_to_go(void *arg) {
    struct waiting *waiting = arg;
    HZ_IS(pthread_mutex_lock(&waiting->mutex), 0);
    hz_post(&waiting->inside);
    while (!waiting->go) {
        HZ_IS(pthread_cond_wait(waiting->cond, &waiting->mutex), 0);
    }
    HZ_IS(pthread_mutex_unlock(&waiting->mutex), 0);
    return HZ_OK;
}

/*
 * POSIX's own example: a condition variable may be destroyed at once after the broadcast that wakes
 * its last waiters. They are still held up at the mutex when its memory is something else.
 */
static int destroy_under_waiter(struct waiting *waiting) {
    struct hz_thread thread;
    waiting->cond = malloc(sizeof *waiting->cond);
    HZ_SETUP(waiting->cond != NULL && pthread_cond_init(waiting->cond, NULL) == 0);
    hz_start(&thread, wait_to_go, waiting);
    hz_await(&waiting->inside, 1);
    HZ_IS(pthread_mutex_lock(&waiting->mutex), 0);
    waiting->go = 1;
    HZ_IS(pthread_cond_broadcast(waiting->cond), 0);
    HZ_IS(pthread_cond_destroy(waiting->cond), 0);
    uintptr_t address = (uintptr_t)waiting->cond;
    free(waiting->cond);
    struct memory memory = reuse(address, sizeof *waiting->cond);
    HZ_TRY(hz_child(is_untouched, &memory));
    HZ_TRY(is_untouched(&memory));
    HZ_IS(pthread_mutex_unlock(&waiting->mutex), 0);
    HZ_TRY(hz_finish(&thread));
    free(memory.bytes);
    return HZ_OK;
}

static int cond_destroyed_freed(const void *arg) {
    (void)arg;
    for (int i = 0; i < 20; i++) {
        struct waiting waiting = {.mutex = PTHREAD_MUTEX_INITIALIZER};
        HZ_TRY(destroy_under_waiter(&waiting));
    }
    return HZ_OK;
}

/* As large as a pthread_rwlock_t, and with numbers that could be one's counts. */
struct node {
    const char *name;
    long value;
    long rest[5];
};

static struct node *node;
static struct hz_event node_made, node_done;

/* A lock that nobody will use again need not be unlocked before its memory is given back. */
static int free_held_rwlock(void *arg) {
    (void)arg;
    pthread_rwlock_t *lock = malloc(sizeof *lock);
    HZ_SETUP(lock != NULL && pthread_rwlock_init(lock, NULL) == 0);
    HZ_IS(pthread_rwlock_rdlock(lock), 0);
    uintptr_t address = (uintptr_t)lock;
    free(lock);
    node = (struct node *)(void *)reuse(address, sizeof *lock).bytes;
    *node = (struct node){.name = "hello", .value = 0x5555};
    hz_post(&node_made);
    hz_await(&node_done, 1);
    return HZ_OK;
}

static int node_is_whole(void *arg) {
    (void)arg;
    HZ_TRUE(node->name != NULL && strcmp(node->name, "hello") == 0);
    HZ_IS(node->value, 0x5555);
    for (int i = 0; i < 5; i++) {
        HZ_IS(node->rest[i], 0);
    }
    return HZ_OK;
}

static int rwlock_freed_held(const void *arg) {
    (void)arg;
    struct hz_thread thread;
    _Static_assert(sizeof(struct node) == sizeof(pthread_rwlock_t), "the same memory");
    hz_start(&thread, free_held_rwlock, NULL);
    hz_await(&node_made, 1);
    HZ_TRY(hz_children(5, node_is_whole, NULL));
    HZ_TRY(node_is_whole(NULL));
    hz_post(&node_done);
    return hz_finish(&thread);
}

/* What fopen allocates in glibc 2.36: the stream, its lock and its wide half. */
enum { STREAM_SIZE = 0x1d8 };

static int file_closed_locked(const void *arg) {
    (void)arg;
    struct hz_bystander bystander;
    hz_bystander_start(&bystander);
    FILE *file = fopen("/dev/null", "w");
    HZ_SETUP(file != NULL);
    flockfile(file);
    volatile uintptr_t address = (uintptr_t)file; /* or gcc sees a use after the close */
    HZ_IS(fclose(file), 0);
    struct memory memory = reuse(address, STREAM_SIZE);
    HZ_TRY(hz_children(5, is_untouched, &memory));
    HZ_TRY(is_untouched(&memory));
    free(memory.bytes);
    return hz_bystander_stop(&bystander);
}

/* ---- the program's signals ---- */

/* What many a program does between vfork and exec; the parent's memory is the child's here. */
__attribute__((noinline)) static pid_t spawn_with_default_signals(void) {
    pid_t pid = vfork();
    if (pid == 0) {
        for (int signo = 1; signo <= SIGRTMAX; signo++) {
            signal(signo, SIG_DFL);
        }
        execl("/bin/true", "true", (char *)NULL);
        _exit(HZ_BROKEN);
    }
    return pid;
}

static int vfork_signals(const void *arg) {
    (void)arg;
    struct hz_event stop = {0};
    struct hz_thread thread;
    hz_start(&thread, hz_spin, &stop);
    pid_t pid = spawn_with_default_signals();
    HZ_SETUP(pid > 0);
    HZ_TRY(hz_wait(pid));
    HZ_TRY(hz_children(20, hz_nothing, NULL));
    hz_post(&stop);
    return hz_finish(&thread);
}

/* A signal that every thread blocks is taken by sigwait, even one that nobody has named before. */
static int sigwait_own_signal(const void *arg) {
    (void)arg;
    const int signo = SIGRTMAX - 1;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signo);
    HZ_SETUP(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    struct hz_bystander bystander;
    hz_bystander_start(&bystander);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signo};
    const struct itimerspec soon = {.it_value.tv_nsec = 1};
    timer_t timer;
    HZ_SETUP(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    for (int i = 0; i < 20; i++) {
        int got = 0;
        HZ_SETUP(timer_settime(timer, 0, &soon, NULL) == 0);
        HZ_IS(sigwait(&set, &got), 0);
        HZ_IS(got, signo);
        HZ_TRY(hz_child(hz_nothing, NULL));
    }
    HZ_SETUP(timer_delete(timer) == 0);
    return hz_bystander_stop(&bystander);
}

static int kill_myself(void *arg) {
    kill(getpid(), *(int *)arg);
    hz_say("lived on after signal %d", *(int *)arg);
    return HZ_WRONG;
}

static int killed_by_own_signal(const void *arg) {
    (void)arg;
    int signo = SIGRTMAX - 1, status = 0;
    struct hz_bystander bystander;
    hz_bystander_start(&bystander);
    pid_t pid = fork();
    if (pid == 0) {
        hz_end_with(kill_myself, &signo);
    }
    HZ_SETUP(pid > 0);
    HZ_SETUP(waitpid(pid, &status, 0) == pid);
    HZ_TRUE(WIFSIGNALED(status));
    HZ_IS(WTERMSIG(status), signo);
    return hz_bystander_stop(&bystander);
}

static int mask_is(void *arg) {
    sigset_t now;
    sigemptyset(&now);
    HZ_IS(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
    for (int signo = 1; signo <= SIGRTMAX; signo++) {
        HZ_IS(sigismember(&now, signo), sigismember(arg, signo));
    }
    return HZ_OK;
}

struct spinner {
    struct hz_event stop;
    sigset_t mask;
};

static int spin_then_look(void *arg) {
    struct spinner *spinner = arg;
    HZ_TRY(hz_spin(&spinner->stop));
    return mask_is(&spinner->mask);
}

static int mask(const void *arg) {
    (void)arg;
    struct spinner spinner = {.stop = {0}};
    struct hz_thread thread;
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    HZ_SETUP(pthread_sigmask(SIG_BLOCK, &some, NULL) == 0);
    HZ_SETUP(pthread_sigmask(SIG_SETMASK, NULL, &spinner.mask) == 0);
    hz_start(&thread, spin_then_look, &spinner);
    for (int i = 0; i < 20; i++) {
        HZ_TRY(mask_is(&spinner.mask));
        HZ_TRY(hz_child(mask_is, &spinner.mask));
    }
    HZ_TRY(mask_is(&spinner.mask));
    hz_post(&spinner.stop);
    return hz_finish(&thread);
}

/* ---- descriptors ---- */

static int lowest_descriptor(void) {
    int lowest = open("/dev/null", O_RDONLY);
    HZ_SETUP(lowest >= 0 && close(lowest) == 0);
    return lowest;
}

static int lowest_is(void *arg) {
    HZ_IS(lowest_descriptor(), *(int *)arg);
    return HZ_OK;
}

/* Programs close descriptors by number and count on the next one that they will get. */
static int descriptors(const void *arg) {
    (void)arg;
    int lowest = lowest_descriptor();
    struct hz_bystander bystander;
    hz_bystander_start(&bystander);
    HZ_TRY(lowest_is(&lowest));
    HZ_TRY(hz_child(lowest_is, &lowest));
    HZ_TRY(lowest_is(&lowest));
    HZ_TRY(hz_bystander_stop(&bystander));
    return lowest_is(&lowest);
}

/* Opens until nothing more can be opened. */
static void use_up_descriptors(void) {
    const struct rlimit few = {64, 64};
    HZ_SETUP(setrlimit(RLIMIT_NOFILE, &few) == 0);
    while (open("/dev/null", O_RDONLY) >= 0) {
    }
    HZ_SETUP(errno == EMFILE);
}

struct lock_ops {
    void (*make)(void *lock);
    hz_action take, try, drop;
};

static void make_shared_mutex(void *lock) {
    const struct hz_mutex_kind kind = {.robust = PTHREAD_MUTEX_ROBUST,
                                       .shared = PTHREAD_PROCESS_SHARED};
    HZ_SETUP(hz_mutex_make(lock, &kind) == 0);
}

static int try_mutex(void *lock) { return pthread_mutex_trylock(lock); }

static void make_shared_spin(void *lock) {
    HZ_SETUP(pthread_spin_init(lock, PTHREAD_PROCESS_SHARED) == 0);
}

static int take_spin(void *lock) { return pthread_spin_lock(lock); }
static int try_spin(void *lock) { return pthread_spin_trylock(lock); }
static int drop_spin(void *lock) { return pthread_spin_unlock(lock); }

static const struct lock_ops shared_mutex = {make_shared_mutex, hz_mutex_lock, try_mutex,
                                             hz_mutex_unlock};
static const struct lock_ops shared_spin = {make_shared_spin, take_spin, try_spin, drop_spin};

struct shared {
    const struct lock_ops *ops;
    void *lock;
};

static int is_taken(void *arg) {
    const struct shared *shared = arg;
    HZ_IS(shared->ops->try(shared->lock), EBUSY);
    return HZ_OK;
}

/* Which memory is shared cannot be looked up in /proc then; the parent's thread owns the lock. */
static int shared_without_descriptors(const void *arg) {
    struct shared shared = {.ops = arg};
    struct hz_holder holder;
    shared.lock = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    HZ_SETUP(shared.lock != MAP_FAILED);
    shared.ops->make(shared.lock);
    hz_hold(&holder, shared.ops->take, shared.ops->drop, shared.lock);
    use_up_descriptors();
    for (int i = 0; i < 3; i++) {
        HZ_TRY(hz_child(is_taken, &shared));
        HZ_TRY(is_taken(&shared));
    }
    HZ_TRY(hz_let_go(&holder));
    HZ_IS(shared.ops->try(shared.lock), 0);
    HZ_IS(shared.ops->drop(shared.lock), 0);
    return HZ_OK;
}

/* ---- a lock that the program's own prepare handler takes ---- */

static pthread_mutex_t library_lock;
static struct hz_event library_locked;

static void lock_library(void) { HZ_SETUP(pthread_mutex_lock(&library_lock) == 0); }
static void unlock_library(void) { HZ_SETUP(pthread_mutex_unlock(&library_lock) == 0); }

/* Bare, EPERM: glibc compares thread ids, and the child's is another. Programs do not look. */
static void unlock_in_child(void) { pthread_mutex_unlock(&library_lock); }

static int forks_too(void *arg) {
    hz_await(&library_locked, 1);
    return hz_child(hz_nothing, arg);
}

/* The other thread's fork waits in its prepare handler for this one, whose own fork must pass it.
 */
static int fork_under_prepare_lock(const void *arg) {
    (void)arg;
    const struct hz_mutex_kind kind = {.type = PTHREAD_MUTEX_RECURSIVE};
    struct hz_thread thread;
    HZ_MUTEX_OR_SKIP(&library_lock, &kind);
    HZ_SETUP(pthread_atfork(lock_library, unlock_library, unlock_in_child) == 0);
    hz_start(&thread, forks_too, NULL);
    lock_library();
    hz_post(&library_locked);
    hz_until_waits_at(&thread, &library_lock, sizeof library_lock);
    HZ_TRY(hz_child(hz_nothing, NULL));
    unlock_library();
    return hz_finish(&thread);
}

/* ---- robust mutexes whose owner died before the fork ---- */

static int die_with(void *mutex) {
    HZ_IS(pthread_mutex_lock(mutex), 0);
    return HZ_OK;
}

static int make_consistent(void *mutex) {
    HZ_IS(pthread_mutex_consistent(mutex), 0);
    HZ_IS(pthread_mutex_unlock(mutex), 0);
    return hz_mutex_works(mutex);
}

static int take_consistent(void *mutex) {
    HZ_IS(pthread_mutex_lock(mutex), EOWNERDEAD);
    return make_consistent(mutex);
}

static int give_up(void *mutex) {
    HZ_IS(pthread_mutex_unlock(mutex), 0);
    HZ_IS(pthread_mutex_lock(mutex), ENOTRECOVERABLE);
    return HZ_OK;
}

static int inconsistent_mutex(const void *arg) {
    (void)arg;
    const struct hz_mutex_kind kind = {.robust = PTHREAD_MUTEX_ROBUST};
    struct hz_bystander bystander;
    pthread_mutex_t mutex;
    HZ_MUTEX_OR_SKIP(&mutex, &kind);
    hz_bystander_start(&bystander);
    HZ_TRY(hz_elsewhere(die_with, &mutex));
    HZ_TRY(hz_child(take_consistent, &mutex));
    HZ_IS(pthread_mutex_lock(&mutex), EOWNERDEAD);
    HZ_TRY(hz_child(make_consistent, &mutex));
    HZ_TRY(hz_child(give_up, &mutex));
    HZ_TRY(make_consistent(&mutex));
    return hz_bystander_stop(&bystander);
}

/* ---- cancelled waiters: their cleanup handlers run with the mutex held ---- */

struct cancelled {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    volatile long first, second; /* equal whenever the mutex is free */
    void (*clean_up)(void *);
    int verdict;
    struct hz_event inside, cleaning;
};

static struct hz_event forking;

static int wait_for_ever(void *arg) {
    struct cancelled *cancelled = arg;
    HZ_IS(pthread_mutex_lock(&cancelled->mutex), 0);
    pthread_cleanup_push(cancelled->clean_up, arg);
    hz_post(&cancelled->inside);
    for (;;) {
        pthread_cond_wait(&cancelled->cond, &cancelled->mutex);
    }
    pthread_cleanup_pop(0);
    return HZ_OK;
}

/* When this returns, the thread waits: it said so under the mutex, and the mutex was free since. */
static int start_waiter(struct hz_thread *thread, struct cancelled *cancelled) {
    int before = hz_seen(&cancelled->inside);
    hz_start(thread, wait_for_ever, cancelled);
    hz_await(&cancelled->inside, before + 1);
    return hz_mutex_turn(&cancelled->mutex);
}

/* The work takes longer than a fork that waits for nobody; not nearly as long as the deadline. */
static void work_during_fork(void *arg) {
    struct cancelled *cancelled = arg;
    int before = hz_seen(&forking);
    cancelled->first = cancelled->first + 1;
    hz_post(&cancelled->cleaning);
    hz_await(&forking, before + 1);
    for (volatile int work = 0; work < 20000000; work = work + 1) {
    }
    cancelled->second = cancelled->second + 1;
    pthread_mutex_unlock(&cancelled->mutex);
}

static void say_forking(void) { hz_post(&forking); }

static int is_whole(void *arg) {
    struct cancelled *cancelled = arg;
    HZ_IS(pthread_mutex_lock(&cancelled->mutex), 0);
    HZ_IS(cancelled->second, cancelled->first);
    HZ_IS(pthread_mutex_unlock(&cancelled->mutex), 0);
    return HZ_OK;
}

static int cleanup_handler(const void *arg) {
    (void)arg;
    struct cancelled cancelled = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                                  .cond = PTHREAD_COND_INITIALIZER,
                                  .clean_up = work_during_fork};
    HZ_SETUP(pthread_atfork(say_forking, NULL, NULL) == 0);
    for (int i = 1; i <= 20; i++) {
        struct hz_thread thread;
        HZ_TRY(start_waiter(&thread, &cancelled));
        HZ_SETUP(pthread_cancel(thread.id) == 0);
        hz_await(&cancelled.cleaning, i);
        HZ_TRY(hz_child(is_whole, &cancelled));
        HZ_TRY(hz_finish(&thread));
    }
    return is_whole(&cancelled);
}

/* The child's only thread holds the mutex, and nobody waits. */
static int ends_in_cleanup(void *arg) {
    struct cancelled *cancelled = arg;
    HZ_IS(pthread_mutex_unlock(&cancelled->mutex), 0);
    HZ_IS(pthread_mutex_unlock(&cancelled->mutex), EPERM);
    HZ_TRY(hz_mutex_works(&cancelled->mutex));
    HZ_IS(pthread_cond_destroy(&cancelled->cond), 0);
    HZ_IS(pthread_mutex_destroy(&cancelled->mutex), 0);
    return HZ_OK;
}

static void fork_in_cleanup(void *arg) {
    struct cancelled *cancelled = arg;
    cancelled->verdict = hz_child(ends_in_cleanup, cancelled);
    pthread_mutex_unlock(&cancelled->mutex);
}

static void just_unlock(void *arg) {
    struct cancelled *cancelled = arg;
    pthread_mutex_unlock(&cancelled->mutex);
}

static int cancel(struct hz_thread *thread) {
    HZ_SETUP(pthread_cancel(thread->id) == 0);
    return hz_finish(thread);
}

static int cleanup_forks(const void *arg) {
    struct cancelled cancelled = {.cond = PTHREAD_COND_INITIALIZER, .clean_up = just_unlock};
    struct hz_thread other;
    HZ_MUTEX_OR_SKIP(&cancelled.mutex, (const struct hz_mutex_kind *)arg);
    HZ_TRY(start_waiter(&other, &cancelled));
    cancelled.clean_up = fork_in_cleanup;
    for (int i = 0; i < 5; i++) {
        struct hz_thread thread;
        HZ_TRY(start_waiter(&thread, &cancelled));
        HZ_TRY(cancel(&thread));
        HZ_TRY(cancelled.verdict);
    }
    return cancel(&other);
}

static const struct hz_mutex_kind errorcheck = {.type = PTHREAD_MUTEX_ERRORCHECK};
static const struct hz_mutex_kind recursive = {.type = PTHREAD_MUTEX_RECURSIVE};
static const struct hz_mutex_kind robust = {.robust = PTHREAD_MUTEX_ROBUST};
static const struct hz_mutex_kind inheriting = {.type = PTHREAD_MUTEX_ERRORCHECK,
                                                .protocol = PTHREAD_PRIO_INHERIT};

/* ---- siglongjmp out of a blocked lock call ---- */

struct jump {
    const struct lock_ops *blocked; /* left for good by the handler, while it waits */
    void *lock;
    struct hz_pair pair;
    struct hz_event turning, stop;
};

static sigjmp_buf back;

static void jump_back(int signo) {
    (void)signo;
    siglongjmp(back, 1);
}

/* Its frames lie where those of the abandoned call were, and any note that this left there. */
__attribute__((noinline)) static int work_deeper(struct jump *jump, int depth) {
    volatile char frame[3000];
    frame[0] = 1;
    if (depth > 0) {
        int verdict = work_deeper(jump, depth - 1);
        frame[1] = frame[0];
        return verdict;
    }
    hz_post(&jump->turning);
    while (hz_seen(&jump->stop) == 0) {
        HZ_TRY(hz_pair_turn(&jump->pair));
    }
    return HZ_OK;
}

static int jump_then_work(void *arg) {
    struct jump *jump = arg;
    if (sigsetjmp(back, 1) == 0) {
        jump->blocked->take(jump->lock);
        return HZ_BROKEN; /* it is held all the time */
    }
    return work_deeper(jump, 6);
}

static int pair_is_sound(void *pair) { return hz_pair_sound(pair); }

static int jumped_out(const struct lock_ops *blocked, void *lock) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct jump jump = {.blocked = blocked, .lock = lock};
    const struct sigaction action = {.sa_handler = jump_back};
    struct hz_thread thread;
    hz_pair_init(&jump.pair, hz_mutex_lock, hz_mutex_unlock, &mutex);
    HZ_SETUP(sigaction(SIGUSR1, &action, NULL) == 0);
    hz_start(&thread, jump_then_work, &jump);
    hz_until_stuck(&thread);
    HZ_SETUP(pthread_kill(thread.id, SIGUSR1) == 0);
    hz_await(&jump.turning, 1);
    HZ_IS(blocked->drop(lock), 0);
    HZ_TRY(hz_children(200, pair_is_sound, &jump.pair));
    hz_post(&jump.stop);
    return hz_finish(&thread);
}

static int take_write(void *lock) { return pthread_rwlock_wrlock(lock); }
static int drop_rwlock(void *lock) { return pthread_rwlock_unlock(lock); }

static const struct lock_ops plain_mutex = {.take = hz_mutex_lock, .drop = hz_mutex_unlock};
static const struct lock_ops writing = {.take = take_write, .drop = drop_rwlock};

static int jumped_out_of_mutex(const void *arg) {
    (void)arg;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    HZ_IS(pthread_mutex_lock(&mutex), 0);
    return jumped_out(&plain_mutex, &mutex);
}

static int jumped_out_of_wrlock(const void *arg) {
    (void)arg;
    pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
    HZ_IS(pthread_rwlock_rdlock(&rwlock), 0);
    return jumped_out(&writing, &rwlock);
}

/* ---- mutexes as signals: locked by one thread, unlocked by the other ---- */

enum { HANDOFFS = 20000 };

struct handoff {
    pthread_mutex_t ping, pong;
    struct hz_event done, release;
};

/* Lives on after its last turn, so that whatever is noted of it is still there at the fork. */
static int hand_back(void *arg) {
    struct handoff *handoff = arg;
    for (int i = 0; i < HANDOFFS; i++) {
        HZ_IS(pthread_mutex_lock(&handoff->ping), 0);
        HZ_IS(pthread_mutex_unlock(&handoff->pong), 0);
    }
    hz_post(&handoff->done);
    hz_await(&handoff->release, 1);
    return HZ_OK;
}

static int both_work(void *arg) {
    struct handoff *handoff = arg;
    HZ_TRY(hz_mutex_works(&handoff->ping));
    return hz_mutex_works(&handoff->pong);
}

static int handoff(const void *arg) {
    (void)arg;
    struct handoff handoff = {.ping = PTHREAD_MUTEX_INITIALIZER, .pong = PTHREAD_MUTEX_INITIALIZER};
    struct hz_thread thread;
    HZ_IS(pthread_mutex_lock(&handoff.ping), 0);
    HZ_IS(pthread_mutex_lock(&handoff.pong), 0);
    hz_start(&thread, hand_back, &handoff);
    for (int i = 0; i < HANDOFFS; i++) {
        HZ_IS(pthread_mutex_unlock(&handoff.ping), 0);
        HZ_IS(pthread_mutex_lock(&handoff.pong), 0);
    }
    hz_await(&handoff.done, 1);
    HZ_IS(pthread_mutex_unlock(&handoff.ping), 0); /* the other thread has locked it last */
    HZ_IS(pthread_mutex_unlock(&handoff.pong), 0);
    HZ_TRY(hz_child(both_work, &handoff));
    hz_post(&handoff.release);
    HZ_TRY(hz_finish(&thread));
    return both_work(&handoff);
}

/* ---- a stream's lock over forks that leave stdio alone ---- */

static int lock_stream(void *stream) {
    flockfile(stream);
    return 0;
}

static int unlock_stream(void *stream) {
    funlockfile(stream);
    return 0;
}

static int turn_stream(void *stream) {
    HZ_TRY(lock_stream(stream));
    return unlock_stream(stream);
}

static int raw_file(pid_t (*forker)(void)) {
    struct hz_holder holder;
    FILE *stream = fopen("/dev/null", "w");
    HZ_SETUP(stream != NULL);
    hz_hold(&holder, lock_stream, unlock_stream, stream);
    hz_forker = forker;
    HZ_TRY(hz_child(turn_stream, stream));
    HZ_TRY(hz_let_go(&holder));
    HZ_TRY(turn_stream(stream));
    HZ_IS(fclose(stream), 0);
    return HZ_OK;
}

static int raw_file_Fork(const void *arg) {
    (void)arg;
    return raw_file(_Fork);
}

static pid_t raw_clone(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }

static int raw_file_clone(const void *arg) {
    (void)arg;
    return raw_file(raw_clone);
}

/* ---- a raw fork's child that tells glibc its new tid ---- */

static int *own_tid; /* glibc's */

static int nests(void *arg) {
    pthread_mutex_t *mutex = arg;
    HZ_IS(pthread_mutex_lock(mutex), 0);
    HZ_IS(mutex->__data.__owner, (int)syscall(SYS_gettid));
    HZ_IS(pthread_mutex_lock(mutex), 0);
    HZ_IS(pthread_mutex_unlock(mutex), 0);
    HZ_IS(pthread_mutex_unlock(mutex), 0);
    return HZ_OK;
}

/* glibc goes on with the parent's tid; Chromium's sandbox looks for it as here, and puts it right. Before the
 * child has a thread, after it had one, and in a child of it that fork() has made. */
static int nests_with_new_tid(void *mutex) {
    HZ_SETUP(*own_tid == getppid());
    *own_tid = (int)syscall(SYS_gettid);
    HZ_TRY(nests(mutex));
    HZ_TRY(hz_elsewhere(nests, mutex));
    HZ_TRY(nests(mutex));
    hz_forker = fork;
    return hz_child(nests, mutex);
}

static int raw_child_tells_tid(const void *arg) {
    (void)arg;
    pthread_mutex_t mutex;
    HZ_MUTEX_OR_SKIP(&mutex, &recursive);
    HZ_SETUP(prctl(PR_GET_TID_ADDRESS, &own_tid) == 0);
    HZ_TRY(hz_elsewhere(nests, &mutex));
    HZ_TRY(nests(&mutex));
    hz_forker = raw_clone;
    return hz_child(nests_with_new_tid, &mutex);
}

/* ---- a computing main thread ---- */

static struct { struct hz_event computing, forked; } computer;

static int five_forks(void) {
    for (int i = 0; i < 5; i++) {
        pid_t pid;
        int64_t ms;
        HZ_TRY(hz_fork_timed(hz_nothing, &pid, &ms));
        HZ_TRUE(ms < hz_deadline_ms() / 2);
    }
    return HZ_OK;
}

static int forks_meanwhile(void *arg) {
    (void)arg;
    hz_await(&computer.computing, 1);
    int verdict = five_forks();
    hz_post(&computer.forked);
    return verdict;
}

/* Its outermost frame is the program's own, outside of libc's: that says nothing. */
static int main_computes(const void *arg) {
    (void)arg;
    struct hz_thread forker;
    hz_start(&forker, forks_meanwhile, NULL);
    hz_post(&computer.computing);
    hz_spin(&computer.forked);
    return hz_finish(&forker);
}

static const struct hazard hazards[] = {
    HAZARD("never_cond_destroyed_freed", cond_destroyed_freed, OK,
           "a condition variable destroyed at once after its broadcast: its memory is data now"),
    HAZARD("never_rwlock_freed_held", rwlock_freed_held, OK,
           "memory of an rwlock that was freed while it was held is data now"),
    HAZARD("never_file_closed_locked", file_closed_locked, OK,
           "memory of a stream that was closed while it was locked is data now"),
    HAZARD("never_vfork_signals", vfork_signals, OK,
           "a vfork's child resets all signals, then the parent forks beside a busy thread"),
    HAZARD("never_sigwait_own_signal", sigwait_own_signal, OK,
           "sigwait gets a blocked SIGRTMAX-1 of a timer"),
    HAZARD("never_killed_by_own_signal", killed_by_own_signal, OK,
           "a child that sends itself SIGRTMAX-1 dies of it"),
    HAZARD("never_mask", mask, OK, "the signal mask is the program's own, beside a busy thread"),
    HAZARD("never_descriptors", descriptors, OK,
           "the lowest free descriptor stays the same over the first thread and a fork"),
    HAZARD_OF("never_shared_mutex_nofile", shared_without_descriptors, &shared_mutex, OK,
              "no descriptor is free: a process-shared mutex stays the parent's"),
    HAZARD_OF("never_shared_spin_nofile", shared_without_descriptors, &shared_spin, OK,
              "no descriptor is free: a process-shared spinlock stays the parent's"),
    HAZARD("never_fork_under_prepare_lock", fork_under_prepare_lock, OK,
           "fork with the recursive lock held for which another fork's prepare handler waits"),
    HAZARD("never_inconsistent_mutex", inconsistent_mutex, WRONG,
           "robust mutex whose owner died before the fork: made consistent, or given up"),
    HAZARD_PATIENT("never_cleanup_handler", cleanup_handler, NULL, HANGS,
                   "a cancelled waiter's cleanup handler works under the mutex"),
    HAZARD_OF("never_cleanup_forks", cleanup_forks, &errorcheck, WRONG,
              "a cancelled waiter's cleanup handler forks: the child holds the mutex"),
    HAZARD_OF("never_cleanup_forks_recursive", cleanup_forks, &recursive, WRONG,
              "the same with a recursive mutex"),
    HAZARD_OF("never_cleanup_forks_robust", cleanup_forks, &robust, WRONG,
              "the same with a robust mutex"),
    HAZARD_OF("never_cleanup_forks_pi", cleanup_forks, &inheriting, WRONG,
              "the same with a priority-inheriting mutex"),
    HAZARD_CHANCE("never_jumped_out_mutex", jumped_out_of_mutex, NULL, EITHER,
                  "siglongjmp out of pthread_mutex_lock, then work deeper in the stack"),
    HAZARD_CHANCE("never_jumped_out_wrlock", jumped_out_of_wrlock, NULL, EITHER,
                  "siglongjmp out of pthread_rwlock_wrlock, then work deeper in the stack"),
    HAZARD("never_handoff", handoff, OK,
           "mutexes locked by one thread and unlocked by another, 20000 times"),
    HAZARD("never_main_computes", main_computes, OK,
           "another thread forks while the main thread computes: nobody is waited for"),
    HAZARD("never_raw_file_Fork", raw_file_Fork, HANGS,
           "_Fork while another thread has locked a stream"),
    HAZARD("never_raw_child_tells_tid", raw_child_tells_tid, OK,
           "the bare system call clone, whose child tells glibc its new tid"),
    HAZARD("never_raw_file_clone", raw_file_clone, HANGS,
           "the bare system call clone while another thread has locked a stream"),
};
HAZARD_MAIN(hazards)
