/*
 * shared.c: objects in shared memory that are made for processes. They are no copies in the child:
 * the parent's threads own them and wait on them on, and a child that "repairs" one breaks both.
 */
#include "hazard.h"

#include <fcntl.h>
#include <semaphore.h>
#include <sys/mman.h>

/* In memory that parent and child share. */
struct shared {
    pthread_mutex_t mutex;
    pthread_rwlock_t rwlock;
    pthread_spinlock_t spin;
    pthread_cond_t cond;
    pthread_barrier_t barrier;
    sem_t sem;
    sem_t *named;
    int tickets;
    int released;           /* set by the holder just before it lets go */
    struct hz_event trying; /* the child is about to wait for the holder */
    struct hz_event waiting, done;
};

static struct shared *shared;

static void map_shared(void) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    HZ_SETUP(shared != MAP_FAILED);
}

/* ---- locks: taken by a thread of the parent, waited for by the child ---- */

struct lock_ops {
    void (*make)(void);
    hz_action take, try, drop;
    hz_action wait; /* how the child takes it: waits for `take` of another */
    int busy;       /* what try gives while another has it */
};

static void make_mutex(int type, int protocol, int robust) {
    const struct hz_mutex_kind kind = {type, protocol, robust, PTHREAD_PROCESS_SHARED};
    HZ_SETUP(hz_mutex_make(&shared->mutex, &kind) == 0);
}

static void make_normal(void) { make_mutex(PTHREAD_MUTEX_NORMAL, 0, 0); }
static void make_recursive(void) { make_mutex(PTHREAD_MUTEX_RECURSIVE, 0, 0); }
static void make_errorcheck(void) { make_mutex(PTHREAD_MUTEX_ERRORCHECK, 0, 0); }
static void make_robust(void) { make_mutex(PTHREAD_MUTEX_NORMAL, 0, PTHREAD_MUTEX_ROBUST); }
static void make_pi(void) { make_mutex(PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, 0); }

static int lock_mutex(void *arg) {
    (void)arg;
    return pthread_mutex_lock(&shared->mutex);
}

static int try_mutex(void *arg) {
    (void)arg;
    return pthread_mutex_trylock(&shared->mutex);
}

static int unlock_mutex(void *arg) {
    (void)arg;
    return pthread_mutex_unlock(&shared->mutex);
}

static void make_rwlock(void) {
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    HZ_SETUP(pthread_rwlockattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) == 0);
    HZ_SETUP(pthread_rwlock_init(&shared->rwlock, &attr) == 0);
}

static int read_lock(void *arg) {
    (void)arg;
    return pthread_rwlock_rdlock(&shared->rwlock);
}

static int write_lock(void *arg) {
    (void)arg;
    return pthread_rwlock_wrlock(&shared->rwlock);
}

static int try_write_lock(void *arg) {
    (void)arg;
    return pthread_rwlock_trywrlock(&shared->rwlock);
}

static int unlock_rwlock(void *arg) {
    (void)arg;
    return pthread_rwlock_unlock(&shared->rwlock);
}

static void make_spin(void) {
    HZ_SETUP(pthread_spin_init(&shared->spin, PTHREAD_PROCESS_SHARED) == 0);
}

static int spin_lock(void *arg) {
    (void)arg;
    return pthread_spin_lock(&shared->spin);
}

static int spin_trylock(void *arg) {
    (void)arg;
    return pthread_spin_trylock(&shared->spin);
}

static int spin_unlock(void *arg) {
    (void)arg;
    return pthread_spin_unlock(&shared->spin);
}

static void make_sem(void) { HZ_SETUP(sem_init(&shared->sem, 1, 1) == 0); }

static int sem_down(void *arg) {
    (void)arg;
    return sem_wait(&shared->sem) == 0 ? 0 : errno;
}

static int sem_try(void *arg) {
    (void)arg;
    return sem_trywait(&shared->sem) == 0 ? 0 : errno;
}

static int sem_up(void *arg) {
    (void)arg;
    return sem_post(&shared->sem) == 0 ? 0 : errno;
}

/* The name goes away at once; the memory stays shared with whoever has it mapped. */
static void make_named_sem(void) {
    char name[64];
    snprintf(name, sizeof name, "/hazard-shared-%d", (int)getpid());
    shared->named = sem_open(name, O_CREAT | O_EXCL, 0600, 1);
    HZ_SETUP(shared->named != SEM_FAILED);
    sem_unlink(name);
}

static int named_down(void *arg) {
    (void)arg;
    return sem_wait(shared->named) == 0 ? 0 : errno;
}

static int named_try(void *arg) {
    (void)arg;
    return sem_trywait(shared->named) == 0 ? 0 : errno;
}

static int named_up(void *arg) {
    (void)arg;
    return sem_post(shared->named) == 0 ? 0 : errno;
}

#define LOCK(id, ...) static const struct lock_ops id = {__VA_ARGS__}
LOCK(normal, make_normal, lock_mutex, try_mutex, unlock_mutex, lock_mutex, EBUSY);
LOCK(recursive, make_recursive, lock_mutex, try_mutex, unlock_mutex, lock_mutex, EBUSY);
LOCK(errorcheck, make_errorcheck, lock_mutex, try_mutex, unlock_mutex, lock_mutex, EBUSY);
LOCK(robust, make_robust, lock_mutex, try_mutex, unlock_mutex, lock_mutex, EBUSY);
LOCK(pi, make_pi, lock_mutex, try_mutex, unlock_mutex, lock_mutex, EBUSY);
LOCK(rwlock_write, make_rwlock, write_lock, try_write_lock, unlock_rwlock, write_lock, EBUSY);
LOCK(rwlock_read, make_rwlock, read_lock, try_write_lock, unlock_rwlock, write_lock, EBUSY);
LOCK(spin, make_spin, spin_lock, spin_trylock, spin_unlock, spin_lock, EBUSY);
LOCK(semaphore, make_sem, sem_down, sem_try, sem_up, sem_down, EAGAIN);
LOCK(named_semaphore, make_named_sem, named_down, named_try, named_up, named_down, EAGAIN);

static int release_for_child(const struct lock_ops *ops) {
    hz_await(&shared->trying, 1);
    __atomic_store_n(&shared->released, 1, __ATOMIC_SEQ_CST);
    HZ_IS(ops->drop(NULL), 0);
    return HZ_OK;
}

struct holding {
    const struct lock_ops *ops;
    struct hz_event held;
};

static int hold_for_child(void *arg) {
    struct holding *holding = arg;
    HZ_IS(holding->ops->take(NULL), 0);
    hz_post(&holding->held);
    return release_for_child(holding->ops);
}

/* The child finds it taken, waits, and gets it only after the parent's thread has let go. */
static int child_waits(void *arg) {
    struct holding *holding = arg;
    const struct lock_ops *ops = holding->ops;
    HZ_IS(ops->try(NULL), ops->busy);
    hz_post(&shared->trying);
    HZ_IS(ops->wait(NULL), 0);
    HZ_TRUE(__atomic_load_n(&shared->released, __ATOMIC_SEQ_CST));
    HZ_IS(ops->drop(NULL), 0);
    return HZ_OK;
}

static int held_by_parents_thread(const void *arg) {
    struct holding holding = {.ops = arg};
    struct hz_thread thread;
    map_shared();
    holding.ops->make();
    hz_start(&thread, hold_for_child, &holding);
    hz_await(&holding.held, 1);
    HZ_TRY(hz_child(child_waits, &holding));
    HZ_TRY(hz_finish(&thread));
    HZ_IS(holding.ops->try(NULL), 0);
    HZ_IS(holding.ops->drop(NULL), 0);
    return HZ_OK;
}

/* The forking thread itself holds it: the parent does, and not the child. */
static int held_by_forker(const void *arg) {
    struct holding holding = {.ops = arg};
    struct hz_bystander bystander;
    map_shared();
    holding.ops->make();
    hz_bystander_start(&bystander);
    HZ_IS(holding.ops->take(NULL), 0);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(child_waits(&holding));
    }
    HZ_SETUP(pid > 0);
    HZ_TRY(release_for_child(holding.ops));
    HZ_TRY(hz_wait(pid));
    return hz_bystander_stop(&bystander);
}

static int child_unlock_refused(void *arg) {
    HZ_IS(unlock_mutex(NULL), EPERM);
    return child_waits(arg);
}

/* The child's copy of the forking thread is not the owner, and is told so. */
static int child_is_no_owner(const void *arg) {
    struct holding holding = {.ops = arg};
    struct hz_bystander bystander;
    map_shared();
    holding.ops->make();
    hz_bystander_start(&bystander);
    HZ_IS(holding.ops->take(NULL), 0);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(child_unlock_refused(&holding));
    }
    HZ_SETUP(pid > 0);
    HZ_TRY(release_for_child(holding.ops));
    HZ_TRY(hz_wait(pid));
    return hz_bystander_stop(&bystander);
}

static int take_and_drop(void *arg) {
    struct holding *holding = arg;
    HZ_IS(holding->ops->take(NULL), 0);
    HZ_IS(holding->ops->drop(NULL), 0);
    return HZ_OK;
}

static int child_finds_busy(void *arg) {
    struct holding *holding = arg;
    HZ_IS(holding->ops->try(NULL), holding->ops->busy);
    return HZ_OK;
}

/* A thread of the parent waits for what the survivor holds: the word that says so must survive the
 * child. */
static int waited_for_in_parent(const void *arg) {
    struct holding holding = {.ops = arg};
    struct hz_thread waiter;
    map_shared();
    holding.ops->make();
    HZ_IS(holding.ops->take(NULL), 0);
    hz_start(&waiter, take_and_drop, &holding);
    hz_until_stuck(&waiter);
    HZ_TRY(hz_child(child_finds_busy, &holding));
    HZ_IS(holding.ops->drop(NULL), 0);
    return hz_finish(&waiter);
}

static int child_dies_with_it(void *arg) {
    (void)arg;
    HZ_IS(lock_mutex(NULL), 0);
    return HZ_OK;
}

/* Robustness between processes: the child dies as the owner, the parent is told. */
static int robust_child_dies(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    map_shared();
    make_robust();
    hz_bystander_start(&bystander);
    HZ_TRY(hz_child(child_dies_with_it, NULL));
    HZ_IS(lock_mutex(NULL), EOWNERDEAD);
    HZ_IS(pthread_mutex_consistent(&shared->mutex), 0);
    HZ_IS(unlock_mutex(NULL), 0);
    return hz_bystander_stop(&bystander);
}

/* ---- condition variable: the parent's threads wait, the child signals ---- */

static int wait_for_ticket(void *arg) {
    (void)arg;
    HZ_IS(lock_mutex(NULL), 0);
    hz_post(&shared->waiting);
    while (shared->tickets == 0) {
        HZ_IS(pthread_cond_wait(&shared->cond, &shared->mutex), 0);
    }
    shared->tickets--;
    HZ_IS(unlock_mutex(NULL), 0);
    return HZ_OK;
}

static int child_signals(void *arg) {
    (void)arg;
    HZ_IS(lock_mutex(NULL), 0);
    shared->tickets = 2;
    HZ_IS(pthread_cond_signal(&shared->cond), 0);
    HZ_IS(pthread_cond_signal(&shared->cond), 0);
    HZ_IS(unlock_mutex(NULL), 0);
    return HZ_OK;
}

static int cond_waited_for_in_parent(const void *arg) {
    pthread_condattr_t attr;
    struct hz_thread waiters[2];
    (void)arg;
    map_shared();
    make_normal();
    pthread_condattr_init(&attr);
    HZ_SETUP(pthread_condattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) == 0);
    HZ_SETUP(pthread_cond_init(&shared->cond, &attr) == 0);
    for (int i = 0; i < 2; i++) {
        hz_start(&waiters[i], wait_for_ticket, NULL);
    }
    hz_await(&shared->waiting, 2);
    HZ_IS(lock_mutex(NULL), 0);
    HZ_IS(unlock_mutex(NULL), 0);
    HZ_TRY(hz_child(child_signals, NULL));
    HZ_TRY(hz_finish(&waiters[0]));
    return hz_finish(&waiters[1]);
}

/* ---- barrier: the parent's thread has arrived, the child completes the round ---- */

static int arrive(void *arg) {
    (void)arg;
    int got = pthread_barrier_wait(&shared->barrier);
    HZ_TRUE(got == 0 || got == PTHREAD_BARRIER_SERIAL_THREAD);
    return HZ_OK;
}

static int barrier_across(const void *arg) {
    pthread_barrierattr_t attr;
    struct hz_thread waiter;
    (void)arg;
    map_shared();
    pthread_barrierattr_init(&attr);
    HZ_SETUP(pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) == 0);
    HZ_SETUP(pthread_barrier_init(&shared->barrier, &attr, 2) == 0);
    for (int i = 0; i < 3; i++) {
        hz_start(&waiter, arrive, NULL);
        hz_until_stuck(&waiter);
        HZ_TRY(hz_child(arrive, NULL));
        HZ_TRY(hz_finish(&waiter));
    }
    HZ_IS(pthread_barrier_destroy(&shared->barrier), 0);
    return HZ_OK;
}

/* ---- semaphore: the parent's thread waits, the child posts ---- */

static int wait_for_post(void *arg) {
    (void)arg;
    HZ_IS(sem_down(NULL), 0);
    return HZ_OK;
}

static int child_posts(void *arg) {
    int value = -1;
    (void)arg;
    HZ_IS(sem_getvalue(&shared->sem, &value), 0);
    HZ_IS(value, 0);
    HZ_IS(sem_up(NULL), 0);
    return HZ_OK;
}

static int sem_across(const void *arg) {
    struct hz_thread waiter;
    int value = -1;
    (void)arg;
    map_shared();
    HZ_SETUP(sem_init(&shared->sem, 1, 0) == 0);
    for (int i = 0; i < 3; i++) {
        hz_start(&waiter, wait_for_post, NULL);
        hz_until_stuck(&waiter);
        HZ_TRY(hz_child(child_posts, NULL));
        HZ_TRY(hz_finish(&waiter));
    }
    HZ_IS(sem_getvalue(&shared->sem, &value), 0);
    HZ_IS(value, 0);
    return HZ_OK;
}

static const struct hazard hazards[] = {
    HAZARD_OF("shared_mutex", held_by_parents_thread, &normal, OK, "mutex: the child waits for it"),
    HAZARD_OF("shared_mutex_recursive", held_by_parents_thread, &recursive, OK, "recursive mutex"),
    HAZARD_OF("shared_mutex_errorcheck", held_by_parents_thread, &errorcheck, OK,
              "error-checking mutex"),
    HAZARD_OF("shared_mutex_robust", held_by_parents_thread, &robust, OK, "robust mutex"),
    HAZARD_OF("shared_mutex_pi", held_by_parents_thread, &pi, OK, "priority-inheriting mutex"),
    HAZARD_OF("shared_rwlock_write", held_by_parents_thread, &rwlock_write, OK,
              "read-write lock, written"),
    HAZARD_OF("shared_rwlock_read", held_by_parents_thread, &rwlock_read, OK,
              "read-write lock, read"),
    HAZARD_OF("shared_spin", held_by_parents_thread, &spin, OK, "spinlock"),
    HAZARD_OF("shared_sem", held_by_parents_thread, &semaphore, OK, "semaphore as a lock"),
    HAZARD_OF("shared_sem_named", held_by_parents_thread, &named_semaphore, OK,
              "semaphore of sem_open as a lock"),
    HAZARD_OF("shared_own_mutex", held_by_forker, &normal, OK,
              "mutex held by the forking thread: stays the parent's"),
    HAZARD_OF("shared_own_mutex_robust", held_by_forker, &robust, OK,
              "robust mutex held by the forking thread"),
    HAZARD_OF("shared_own_mutex_recursive", held_by_forker, &recursive, OK,
              "recursive mutex held by the forking thread"),
    HAZARD_OF("shared_own_rwlock", held_by_forker, &rwlock_write, OK,
              "read-write lock written by the forking thread"),
    HAZARD_OF("shared_own_sem", held_by_forker, &semaphore, OK,
              "semaphore taken by the forking thread"),
    HAZARD_OF("shared_own_errorcheck", child_is_no_owner, &errorcheck, OK,
              "error-checking mutex held by the forking thread: the child's unlock is refused"),
    HAZARD_OF("shared_waited_mutex", waited_for_in_parent, &normal, OK,
              "mutex that a thread of the parent waits for"),
    HAZARD_OF("shared_waited_rwlock", waited_for_in_parent, &rwlock_write, OK,
              "read-write lock that a thread of the parent waits for"),
    HAZARD_OF("shared_waited_sem", waited_for_in_parent, &semaphore, OK,
              "semaphore that a thread of the parent waits for"),
    HAZARD("shared_robust_child_dies", robust_child_dies, OK,
           "robust mutex: the child dies with it, the parent is told"),
    HAZARD("shared_cond", cond_waited_for_in_parent, OK,
           "condition variable: the child's signal wakes the parent's threads"),
    HAZARD("shared_barrier", barrier_across, OK, "barrier: parent's thread and child meet"),
    HAZARD("shared_sem_post", sem_across, OK,
           "semaphore: the child's post wakes the parent's thread"),
};
HAZARD_MAIN(hazards)
