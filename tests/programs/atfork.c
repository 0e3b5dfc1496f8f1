/*
 * atfork.c: programs that prepare for a fork by handlers of their own. Prepare handlers run while
 * the world runs, and whatever must be put right in the child has been put right before the
 * program's child handlers run.
 */
#include "hazard.h"

#include <poll.h>

/* Registered in a constructor, as a library would: before main, and for all hazards here. */
static void (*on_prepare)(void), (*on_parent)(void), (*on_child)(void);

static void prepare(void) {
    if (on_prepare) {
        on_prepare();
    }
}

static void parent(void) {
    if (on_parent) {
        on_parent();
    }
}

static void child(void) {
    if (on_child) {
        on_child();
    }
}

__attribute__((constructor)) static void register_handlers(void) {
    HZ_SETUP(pthread_atfork(prepare, parent, child) == 0);
}

/* ---- a registry of threads and a pause flag, as liburcu's -------------------------------------
 */

static struct {
    pthread_mutex_t mutex; /* taken by the worker in each turn */
    int registered;        /* threads that a grace period waits for */
    int pause, paused;     /* polled by both sides, as call_rcu_before_fork does */
    struct hz_event turns, stop;
    struct hz_thread worker;
} rcu = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void set(int *flag, int value) { __atomic_store_n(flag, value, __ATOMIC_SEQ_CST); }
static int get(int *flag) { return __atomic_load_n(flag, __ATOMIC_SEQ_CST); }

static void poll_until(int *flag, int value) {
    while (get(flag) != value) {
        poll(NULL, 0, 1);
    }
}

static int rcu_worker(void *arg) {
    (void)arg;
    __atomic_add_fetch(&rcu.registered, 1, __ATOMIC_SEQ_CST);
    while (hz_seen(&rcu.stop) == 0) {
        if (get(&rcu.pause)) {
            set(&rcu.paused, 1);
            poll_until(&rcu.pause, 0);
            set(&rcu.paused, 0);
        }
        HZ_IS(pthread_mutex_lock(&rcu.mutex), 0);
        HZ_IS(pthread_mutex_unlock(&rcu.mutex), 0);
        hz_post(&rcu.turns);
        poll(NULL, 0, 1);
    }
    __atomic_sub_fetch(&rcu.registered, 1, __ATOMIC_SEQ_CST);
    return HZ_OK;
}

static void rcu_prepare(void) {
    set(&rcu.pause, 1);
    poll_until(&rcu.paused, 1);
}

static void rcu_parent(void) {
    set(&rcu.pause, 0);
    poll_until(&rcu.paused, 0);
}

/* The worker has vanished: forget it, and have a new one. */
static void rcu_child(void) {
    rcu.pause = rcu.paused = rcu.registered = 0;
    hz_start(&rcu.worker, rcu_worker, NULL);
}

static int rcu_turns(void) {
    hz_await(&rcu.turns, hz_seen(&rcu.turns) + 3);
    HZ_IS(get(&rcu.registered), 1);
    return HZ_OK;
}

static int rcu_generation(void *arg) {
    int *generations = arg;
    HZ_TRY(rcu_turns());
    if (--*generations > 0) {
        for (int i = 0; i < 2; i++) {
            HZ_TRY(hz_child(rcu_generation, generations));
            HZ_TRY(rcu_turns());
        }
    }
    hz_post(&rcu.stop);
    return hz_finish(&rcu.worker);
}

static int registry(const void *arg) {
    int generations = 3;
    (void)arg;
    on_prepare = rcu_prepare;
    on_parent = rcu_parent;
    on_child = rcu_child;
    hz_start(&rcu.worker, rcu_worker, NULL);
    return rcu_generation(&generations);
}

/* ---- handlers that lock and unlock the program's own mutexes --------------------------------- */

enum { LOCKS = 3 };

static pthread_mutex_t locks[LOCKS];
static int handler_error;

static void note(int error) { handler_error = handler_error ? handler_error : error; }

static void lock_all(void) {
    for (int i = 0; i < LOCKS; i++) {
        note(pthread_mutex_lock(&locks[i]));
    }
}

static void unlock_all(void) {
    for (int i = LOCKS - 1; i >= 0; i--) {
        note(pthread_mutex_unlock(&locks[i]));
    }
}

/* The other idiom: forget the inherited state. */
static void init_all(void) {
    for (int i = 0; i < LOCKS; i++) {
        note(pthread_mutex_init(&locks[i], NULL));
    }
}

static int child_of_locker(void *churn) {
    HZ_IS(handler_error, 0);
    return hz_churn_child(churn);
}

static int locking_handlers(const struct hz_mutex_kind *kind, void (*in_child)(void)) {
    struct hz_pair pairs[LOCKS];
    struct hz_churn churn;
    for (int i = 0; i < LOCKS; i++) {
        HZ_MUTEX_OR_SKIP(&locks[i], kind);
        hz_pair_init(&pairs[i], hz_mutex_lock, hz_mutex_unlock, &locks[i]);
    }
    on_prepare = lock_all;
    on_parent = unlock_all;
    on_child = in_child;
    hz_churn_start(&churn, pairs, LOCKS);
    HZ_TRY(hz_children(100, child_of_locker, &churn));
    HZ_IS(handler_error, 0);
    return hz_churn_stop(&churn);
}

static int handlers_lock(const void *kind) { return locking_handlers(kind, unlock_all); }
static int handlers_init(const void *kind) { return locking_handlers(kind, init_all); }

static const struct hz_mutex_kind normal = {.type = PTHREAD_MUTEX_NORMAL};
static const struct hz_mutex_kind recursive = {.type = PTHREAD_MUTEX_RECURSIVE};
static const struct hz_mutex_kind errorcheck = {.type = PTHREAD_MUTEX_ERRORCHECK};

/* ---- a child handler that needs what a vanished thread held -------------------------------------
 */

static void take_and_give(void) {
    note(pthread_mutex_lock(&locks[0]));
    note(pthread_mutex_unlock(&locks[0]));
}

static int no_handler_error(void *arg) {
    (void)arg;
    HZ_IS(handler_error, 0);
    return hz_mutex_works(&locks[0]);
}

static int child_handler_locks(const void *arg) {
    (void)arg;
    struct hz_holder holder;
    hz_hold(&holder, hz_mutex_lock, hz_mutex_unlock, &locks[0]);
    on_child = take_and_give;
    HZ_TRY(hz_child(no_handler_error, NULL));
    return hz_let_go(&holder);
}

static pthread_rwlock_t table_lock = PTHREAD_RWLOCK_INITIALIZER;

static void lock_table(void) { note(pthread_rwlock_wrlock(&table_lock)); }
static void unlock_table(void) { note(pthread_rwlock_unlock(&table_lock)); }

static int table_is_free(void *arg) {
    (void)arg;
    HZ_IS(handler_error, 0);
    HZ_IS(pthread_rwlock_tryrdlock(&table_lock), 0);
    HZ_IS(pthread_rwlock_unlock(&table_lock), 0);
    HZ_IS(pthread_rwlock_trywrlock(&table_lock), 0);
    HZ_IS(pthread_rwlock_unlock(&table_lock), 0);
    return HZ_OK;
}

static int handlers_lock_rwlock(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    on_prepare = lock_table;
    on_parent = on_child = unlock_table;
    hz_bystander_start(&bystander);
    HZ_TRY(hz_child(table_is_free, NULL));
    HZ_TRY(hz_bystander_stop(&bystander));
    return table_is_free(NULL);
}

/* ---- prepare handlers that need others to run --------------------------------------------------
 */

static void run_thread(void) { note(hz_elsewhere(hz_mutex_turn, &locks[1])); }

static int prepare_runs_thread(const void *arg) {
    struct hz_churn churn;
    struct hz_pair pair;
    (void)arg;
    on_prepare = run_thread;
    on_parent = run_thread;
    hz_pair_init(&pair, hz_mutex_lock, hz_mutex_unlock, &locks[0]);
    hz_churn_start(&churn, &pair, 1);
    for (int i = 0; i < 50; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            _exit(handler_error ? HZ_WRONG : HZ_OK);
        }
        HZ_SETUP(pid > 0);
        HZ_TRY(hz_wait(pid));
    }
    HZ_IS(handler_error, 0);
    return hz_churn_stop(&churn);
}

/* The holder lets go only when the handler asks, and needs a third thread for that. */
static struct hz_event asked, answered;
static struct hz_holder needed;

static int answer(void *arg) {
    hz_await(&asked, 1);
    HZ_TRY(hz_mutex_turn(arg));
    hz_post(&needed.release);
    hz_post(&answered);
    return HZ_OK;
}

static void ask_and_lock(void) {
    hz_post(&asked);
    hz_await(&answered, 1);
    note(pthread_mutex_lock(&locks[0]));
}

static void unlock_first(void) { note(pthread_mutex_unlock(&locks[0])); }

static int prepare_needs_holder(const void *arg) {
    struct hz_thread third;
    (void)arg;
    hz_hold(&needed, hz_mutex_lock, hz_mutex_unlock, &locks[0]);
    hz_start(&third, answer, &locks[1]);
    on_prepare = ask_and_lock;
    on_parent = on_child = unlock_first;
    HZ_TRY(hz_child(no_handler_error, NULL));
    HZ_TRY(hz_finish(&third));
    return hz_finish(&needed.thread);
}

/* ---- order and number of calls ------------------------------------------------------------------
 */

static char order[64];
static size_t order_length;

static void letter(char which) {
    if (order_length < sizeof order - 1) {
        order[order_length++] = which;
    }
}

#define HANDLERS(x, p, q, c)                                                                       \
    static void prepare_##x(void) { letter(p); }                                                   \
    static void parent_##x(void) { letter(q); }                                                    \
    static void child_##x(void) { letter(c); }
HANDLERS(a, 'A', '1', 'a')
HANDLERS(b, 'B', '2', 'b')
HANDLERS(c, 'C', '3', 'c')

static int child_order(void *arg) {
    HZ_TRUE(strcmp(order, arg) == 0);
    return HZ_OK;
}

static int handler_order(const void *arg) {
    struct hz_bystander bystander;
    static char in_child[] = "CBAabc", again[] = "CBA123CBAabc";
    (void)arg;
    HZ_SETUP(pthread_atfork(prepare_a, parent_a, child_a) == 0);
    HZ_SETUP(pthread_atfork(prepare_b, parent_b, child_b) == 0);
    HZ_SETUP(pthread_atfork(prepare_c, parent_c, child_c) == 0);
    hz_bystander_start(&bystander);
    HZ_TRY(hz_child(child_order, in_child));
    HZ_TRUE(strcmp(order, "CBA123") == 0);
    HZ_TRY(hz_child(child_order, again));
    HZ_TRUE(strcmp(order, "CBA123CBA123") == 0);
    return hz_bystander_stop(&bystander);
}

enum { LATE = 200 };

static int late_calls;
static struct hz_event registering;

static void count_late(void) { __atomic_add_fetch(&late_calls, 1, __ATOMIC_SEQ_CST); }

static int register_late(void *arg) {
    (void)arg;
    for (int i = 0; i < LATE; i++) {
        HZ_IS(pthread_atfork(count_late, NULL, NULL), 0);
        hz_post(&registering);
    }
    return HZ_OK;
}

static int come_through(void *arg) {
    (void)arg;
    return HZ_OK;
}

/* Handlers are registered beside forks; in the end each runs once in a fork. */
static int registered_beside_forks(const void *arg) {
    struct hz_thread thread;
    (void)arg;
    hz_start(&thread, register_late, NULL);
    hz_await(&registering, 1);
    HZ_TRY(hz_children(50, come_through, NULL));
    HZ_TRY(hz_finish(&thread));
    late_calls = 0;
    HZ_TRY(hz_child(come_through, NULL));
    HZ_IS(late_calls, LATE);
    return HZ_OK;
}

static const struct hazard hazards[] = {
    HAZARD("atfork_registry", registry, OK,
           "liburcu's handshake: a worker pauses for the fork, is forgotten and made anew; "
           "three generations, two forks each"),
    HAZARD_OF("atfork_lock", handlers_lock, &normal, OK,
              "prepare locks the program's mutexes, the child unlocks them"),
    HAZARD_OF("atfork_lock_recursive", handlers_lock, &recursive, WRONG,
              "the same with recursive mutexes"),
    HAZARD_OF("atfork_lock_errorcheck", handlers_lock, &errorcheck, WRONG,
              "the same with error-checking mutexes"),
    HAZARD("atfork_lock_rwlock", handlers_lock_rwlock, WRONG, "the same with a read-write lock"),
    HAZARD_OF("atfork_init", handlers_init, &normal, OK,
              "prepare locks the program's mutexes, the child makes them anew"),
    HAZARD("atfork_child_locks", child_handler_locks, HANGS,
           "the child handler takes what a vanished thread held"),
    HAZARD("atfork_prepare_thread", prepare_runs_thread, OK,
           "handlers that start a thread and join it"),
    HAZARD("atfork_prepare_needs_holder", prepare_needs_holder, OK,
           "prepare asks a holder to let go, and waits for it"),
    HAZARD("atfork_order", handler_order, OK, "prepare in reverse, the others in order"),
    HAZARD("atfork_registered_beside", registered_beside_forks, OK,
           "another thread registers handlers beside forks"),
};
HAZARD_MAIN(hazards)
