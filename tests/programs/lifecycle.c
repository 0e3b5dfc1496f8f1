/*
 * lifecycle.c: locks that are taken, given up and thrown away in unusual ways. Whoever keeps a list
 * of what a thread holds has entries here that no longer mean anything, or mean something else.
 */
#include "hazard.h"

#include <poll.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/time.h>

/* ---- ten thousand at once ---- */

enum { MANY = 10000 };

static pthread_mutex_t many[MANY];

static int take_many(void *arg) {
    (void)arg;
    for (int i = 0; i < MANY; i++) {
        HZ_IS(pthread_mutex_lock(&many[i]), 0);
    }
    return 0;
}

static int drop_many(void *arg) {
    (void)arg;
    for (int i = 0; i < MANY; i++) {
        HZ_IS(pthread_mutex_unlock(&many[i]), 0);
    }
    return 0;
}

static int turn_many(void *arg) {
    HZ_TRY(take_many(arg));
    return drop_many(arg);
}

static int child_drops_many(void *arg) {
    HZ_TRY(drop_many(arg));
    HZ_TRY(turn_many(arg));
    return hz_elsewhere(turn_many, arg);
}

static int make_many(int type) {
    const struct hz_mutex_kind kind = {.type = type};
    for (int i = 0; i < MANY; i++) {
        HZ_MUTEX_OR_SKIP(&many[i], &kind);
    }
    return HZ_OK;
}

static int many_vanished(const void *arg) {
    struct hz_holder holder;
    (void)arg;
    HZ_TRY(make_many(PTHREAD_MUTEX_NORMAL));
    hz_hold(&holder, take_many, drop_many, NULL);
    HZ_TRY(hz_child(turn_many, NULL));
    HZ_TRY(hz_let_go(&holder));
    return turn_many(NULL);
}

static int many_own(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    HZ_TRY(make_many(PTHREAD_MUTEX_ERRORCHECK));
    hz_bystander_start(&bystander);
    HZ_TRY(take_many(NULL));
    HZ_TRY(hz_child(child_drops_many, NULL));
    HZ_TRY(hz_bystander_stop(&bystander));
    return child_drops_many(NULL);
}

/* ---- out of order, by somebody else ---- */

static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER,
                       c = PTHREAD_MUTEX_INITIALIZER;

static int take_abc_keep_b(void *arg) {
    (void)arg;
    HZ_IS(pthread_mutex_lock(&a), 0);
    HZ_IS(pthread_mutex_lock(&b), 0);
    HZ_IS(pthread_mutex_lock(&c), 0);
    HZ_IS(pthread_mutex_unlock(&a), 0);
    HZ_IS(pthread_mutex_unlock(&c), 0);
    return 0;
}

static int drop_b(void *arg) {
    (void)arg;
    return pthread_mutex_unlock(&b);
}

static int child_uses_abc(void *arg) {
    (void)arg;
    HZ_TRY(hz_mutex_works(&b));
    HZ_TRY(hz_mutex_works(&a));
    return hz_mutex_works(&c);
}

static int out_of_order(const void *arg) {
    struct hz_holder holder;
    (void)arg;
    hz_hold(&holder, take_abc_keep_b, drop_b, NULL);
    HZ_TRY(hz_child(child_uses_abc, NULL));
    HZ_TRY(hz_let_go(&holder));
    return child_uses_abc(NULL);
}

/* A thread that took the mutex and will not unlock it itself; it lives on, so that its list does
 * too. */
static int no_drop(void *arg) {
    (void)arg;
    return 0;
}

static int released_by_another(const void *arg) {
    struct hz_holder taker;
    (void)arg;
    hz_hold(&taker, hz_mutex_lock, no_drop, &a);
    HZ_IS(pthread_mutex_unlock(&a), 0);
    HZ_TRY(hz_children(3, hz_mutex_works, &a));
    return hz_let_go(&taker);
}

static int child_still_holds(void *mutex) {
    HZ_TRY(hz_elsewhere(hz_mutex_is_taken, mutex));
    HZ_IS(pthread_mutex_unlock(mutex), 0);
    return hz_mutex_works(mutex);
}

/* The vanished thread's entry is stale: the survivor has the mutex by now, and keeps it in the
 * child. */
static int stale_entry_survivor_holds(const void *arg) {
    struct hz_holder taker;
    (void)arg;
    hz_hold(&taker, hz_mutex_lock, no_drop, &a);
    HZ_IS(pthread_mutex_unlock(&a), 0);
    HZ_IS(pthread_mutex_lock(&a), 0);
    HZ_TRY(hz_child(child_still_holds, &a));
    HZ_TRY(hz_let_go(&taker));
    return child_still_holds(&a);
}

/* The other way round: the survivor took it first, another unlocked it, a third thread holds it. */
static int stale_entry_of_survivor(const void *arg) {
    struct hz_holder holder;
    (void)arg;
    HZ_IS(pthread_mutex_lock(&a), 0);
    HZ_IS(hz_elsewhere(hz_mutex_unlock, &a), 0);
    hz_hold(&holder, hz_mutex_lock, hz_mutex_unlock, &a);
    HZ_TRY(hz_child(hz_mutex_works, &a));
    HZ_TRY(hz_let_go(&holder));
    return hz_mutex_works(&a);
}

/* Made anew while a thread holds it, and then taken by the survivor. */
static int reinit_while_held(const void *arg) {
    struct hz_holder taker;
    (void)arg;
    hz_hold(&taker, hz_mutex_lock, no_drop, &a);
    HZ_IS(pthread_mutex_init(&a, NULL), 0);
    HZ_TRY(hz_child(hz_mutex_works, &a));
    HZ_IS(pthread_mutex_lock(&a), 0);
    HZ_TRY(hz_child(child_still_holds, &a));
    HZ_TRY(hz_let_go(&taker));
    return child_still_holds(&a);
}

/* ---- memory that is gone, or is something else by now ---- */

enum { PAGE = 4096, FILL = 0xa5 };

/* A page with a mutex, a rwlock, a condition variable and a semaphore-sized hole in it, the locks
 * held. */
struct page {
    pthread_mutex_t mutex;
    pthread_rwlock_t read, written;
    pthread_spinlock_t spin;
};

static int take_page(void *arg) {
    struct page *page = arg;
    HZ_IS(pthread_mutex_lock(&page->mutex), 0);
    HZ_IS(pthread_rwlock_rdlock(&page->read), 0);
    HZ_IS(pthread_rwlock_wrlock(&page->written), 0);
    HZ_IS(pthread_spin_lock(&page->spin), 0);
    return 0;
}

static void init_page(struct page *page) {
    HZ_SETUP(pthread_mutex_init(&page->mutex, NULL) == 0);
    HZ_SETUP(pthread_rwlock_init(&page->read, NULL) == 0);
    HZ_SETUP(pthread_rwlock_init(&page->written, NULL) == 0);
    HZ_SETUP(pthread_spin_init(&page->spin, PTHREAD_PROCESS_PRIVATE) == 0);
}

static void *map_page(void) {
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    HZ_SETUP(page != MAP_FAILED);
    init_page(page);
    return page;
}

static int page_is_filled(void *arg) {
    const unsigned char *bytes = arg;
    for (int i = 0; i < PAGE; i++) {
        HZ_IS(bytes[i], FILL);
    }
    return HZ_OK;
}

static int forks_beside(struct hz_holder *taker, int (*child)(void *), void *arg) {
    HZ_TRY(hz_children(3, child, arg));
    return hz_let_go(taker);
}

/* Nothing is written to what was freed and is used for something else. */
static int freed_while_held(const void *arg) {
    struct hz_holder taker;
    struct page *page = malloc(sizeof *page);
    (void)arg;
    HZ_SETUP(page != NULL);
    init_page(page);
    hz_hold(&taker, take_page, no_drop, page);
    HZ_IS(pthread_mutex_destroy(&page->mutex), EBUSY);
    free(page);
    unsigned char *again[64];
    for (int i = 0; i < 64; i++) {
        again[i] = malloc(sizeof *page);
        HZ_SETUP(again[i] != NULL);
        memset(again[i], FILL, sizeof *page);
    }
    HZ_TRY(forks_beside(&taker, hz_nothing, NULL));
    for (int i = 0; i < 64; i++) {
        for (size_t byte = 0; byte < sizeof *page; byte++) {
            HZ_IS(again[i][byte], FILL);
        }
        free(again[i]);
    }
    return HZ_OK;
}

static int overwritten_while_held(const void *arg) {
    struct hz_holder taker;
    void *page = map_page();
    (void)arg;
    hz_hold(&taker, take_page, no_drop, page);
    memset(page, FILL, PAGE);
    HZ_TRY(forks_beside(&taker, page_is_filled, page));
    return page_is_filled(page);
}

static int unmapped_while_held(const void *arg) {
    struct hz_holder taker;
    void *page = map_page();
    (void)arg;
    hz_hold(&taker, take_page, no_drop, page);
    HZ_SETUP(munmap(page, PAGE) == 0);
    return forks_beside(&taker, hz_nothing, NULL);
}

static int unreadable_while_held(const void *arg) {
    struct hz_holder taker;
    void *page = map_page();
    (void)arg;
    hz_hold(&taker, take_page, no_drop, page);
    HZ_SETUP(mprotect(page, PAGE, PROT_NONE) == 0);
    return forks_beside(&taker, hz_nothing, NULL);
}

static int read_only_while_held(const void *arg) {
    struct hz_holder taker;
    void *page = map_page();
    (void)arg;
    hz_hold(&taker, take_page, no_drop, page);
    memset(page, FILL, PAGE);
    HZ_SETUP(mprotect(page, PAGE, PROT_READ) == 0);
    return forks_beside(&taker, page_is_filled, page);
}

/* In the parent only: the memory is not copied to the child at all. */
static int not_inherited_while_held(const void *arg) {
    struct hz_holder taker;
    void *page = map_page();
    (void)arg;
    hz_hold(&taker, take_page, no_drop, page);
    HZ_SETUP(madvise(page, PAGE, MADV_DONTFORK) == 0);
    return forks_beside(&taker, hz_nothing, NULL);
}

/* The survivor's own locks, gone in the same ways. */
static int own_unmapped(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    hz_bystander_start(&bystander);
    for (int i = 0; i < 4; i++) {
        void *page = map_page();
        HZ_IS(take_page(page), 0);
        if (i == 0) {
            HZ_SETUP(munmap(page, PAGE) == 0);
        } else if (i == 1) {
            HZ_SETUP(mprotect(page, PAGE, PROT_NONE) == 0);
        } else if (i == 2) {
            HZ_SETUP(madvise(page, PAGE, MADV_DONTFORK) == 0);
        } else {
            memset(page, FILL, PAGE);
            HZ_SETUP(mprotect(page, PAGE, PROT_READ) == 0);
        }
        HZ_TRY(hz_children(2, i == 3 ? page_is_filled : hz_nothing, page));
    }
    return hz_bystander_stop(&bystander);
}

/* ---- locks in signal handlers, in the middle of other lock calls ---- */

enum { WORKERS = 3 };

static struct {
    pthread_mutex_t mutex, in_handler;
    struct hz_pair pair;
    struct hz_event stop, working;
} storm = {.mutex = PTHREAD_MUTEX_INITIALIZER, .in_handler = PTHREAD_MUTEX_INITIALIZER};

static int handler_error;

/* The handler's mutex is taken nowhere else, and its signal is blocked in it: nobody waits for
 * himself. */
static void lock_in_handler(int signo) {
    int saved = errno;
    (void)signo;
    int error = pthread_mutex_lock(&storm.in_handler);
    for (volatile int work = 0; work < 500; work = work + 1) {
    }
    error |= pthread_mutex_unlock(&storm.in_handler);
    if (error) {
        __atomic_store_n(&handler_error, error, __ATOMIC_SEQ_CST);
    }
    errno = saved;
}

static void mask_alarm(int how) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    HZ_SETUP(pthread_sigmask(how, &set, NULL) == 0);
}

static void handle(int signo, void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    HZ_SETUP(sigaction(signo, &action, NULL) == 0);
}

static int worker(void *arg) {
    (void)arg;
    mask_alarm(SIG_UNBLOCK);
    hz_post(&storm.working);
    while (hz_seen(&storm.stop) == 0) {
        HZ_TRY(hz_pair_turn(&storm.pair));
    }
    mask_alarm(SIG_BLOCK);
    return HZ_OK;
}

static int storm_child(void *arg) {
    (void)arg;
    HZ_TRY(hz_pair_sound(&storm.pair));
    return hz_mutex_turn(&storm.in_handler);
}

static int locks_in_handlers(const void *arg) {
    struct hz_thread workers[WORKERS];
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    (void)arg;
    mask_alarm(SIG_BLOCK);
    handle(SIGALRM, lock_in_handler);
    hz_pair_init(&storm.pair, hz_mutex_lock, hz_mutex_unlock, &storm.mutex);
    for (int i = 0; i < WORKERS; i++) {
        hz_start(&workers[i], worker, NULL);
    }
    hz_await(&storm.working, WORKERS);
    HZ_SETUP(setitimer(ITIMER_REAL, &often, NULL) == 0);
    HZ_TRY(hz_children(200, storm_child, NULL));
    HZ_SETUP(setitimer(ITIMER_REAL, &never, NULL) == 0);
    hz_post(&storm.stop);
    for (int i = 0; i < WORKERS; i++) {
        HZ_TRY(hz_finish(&workers[i]));
    }
    HZ_IS(handler_error, 0);
    return HZ_OK;
}

/* ---- siglongjmp out of blocking calls ---- */

static struct {
    sigjmp_buf back;
    int pipe[2];
    pthread_mutex_t blocked;
    struct hz_pair pair;
    struct hz_event jumped, stop;
    pid_t tid;
} jump = {.blocked = PTHREAD_MUTEX_INITIALIZER};

static void jump_back(int signo) {
    (void)signo;
    siglongjmp(jump.back, 1);
}

static void block_in_mutex(void) { pthread_mutex_lock(&jump.blocked); }

static void block_in_read(void) {
    char byte;
    if (read(jump.pipe[0], &byte, 1) >= 0) {
        _exit(HZ_BROKEN); /* nobody writes */
    }
}

static void block_in_poll(void) { poll(NULL, 0, -1); }

/* Jumps out of the blocking call, then works under another lock like any thread. */
static int jumper(void *arg) {
    void (*const *block)(void) = arg;
    for (volatile int i = 0; i < 3; i = i + 1) {
        if (sigsetjmp(jump.back, 1) == 0) {
            (*block)();
            return HZ_BROKEN;
        }
        hz_post(&jump.jumped);
    }
    while (hz_seen(&jump.stop) == 0) {
        HZ_TRY(hz_pair_turn(&jump.pair));
    }
    return HZ_OK;
}

static int jump_child(void *arg) {
    (void)arg;
    for (int i = 0; i < 3; i++) {
        HZ_TRY(hz_pair_sound(&jump.pair));
    }
    return hz_mutex_works(&storm.mutex);
}

/* The mutex that the jumper blocked in is held by the survivor, and stays its own. */
static int jump_child_unlocks(void *arg) {
    HZ_TRY(jump_child(arg));
    HZ_TRY(hz_elsewhere(hz_mutex_is_taken, &jump.blocked));
    HZ_IS(pthread_mutex_unlock(&jump.blocked), 0);
    return hz_mutex_works(&jump.blocked);
}

static int jump_out_of(void (*block)(void)) {
    struct hz_thread thread;
    handle(SIGUSR1, jump_back);
    HZ_SETUP(pipe(jump.pipe) == 0);
    hz_pair_init(&jump.pair, hz_mutex_lock, hz_mutex_unlock, &storm.mutex);
    HZ_IS(pthread_mutex_lock(&jump.blocked), 0);
    hz_start(&thread, jumper, &block);
    for (int i = 1; i <= 3; i++) {
        hz_until_blocked(thread.tid, -1);
        HZ_SETUP(pthread_kill(thread.id, SIGUSR1) == 0);
        hz_await(&jump.jumped, i);
    }
    HZ_TRY(hz_children(100, jump_child_unlocks, NULL));
    hz_post(&jump.stop);
    HZ_TRY(hz_finish(&thread));
    return jump_child_unlocks(NULL);
}

static int jump_out_of_mutex(const void *arg) {
    (void)arg;
    return jump_out_of(block_in_mutex);
}

static int jump_out_of_read(const void *arg) {
    (void)arg;
    return jump_out_of(block_in_read);
}

static int jump_out_of_poll(const void *arg) {
    (void)arg;
    return jump_out_of(block_in_poll);
}

/* ---- cancellation ---- */

static struct {
    pthread_mutex_t mutex, kept;
    pthread_cond_t cond;
    int ready;
    struct hz_event inside;
} room = {.mutex = PTHREAD_MUTEX_INITIALIZER,
          .kept = PTHREAD_MUTEX_INITIALIZER,
          .cond = PTHREAD_COND_INITIALIZER};

static void unlock_room(void *arg) {
    (void)arg;
    pthread_mutex_unlock(&room.mutex);
}

static void *cancelled_waiter(void *arg) {
    if (pthread_mutex_lock(&room.mutex) != 0) {
        return arg;
    }
    pthread_cleanup_push(unlock_room, NULL);
    hz_post(&room.inside);
    for (;;) {
        pthread_cond_wait(&room.cond, &room.mutex);
    }
    pthread_cleanup_pop(1);
}

static int room_waiter(void *arg) {
    (void)arg;
    HZ_IS(pthread_mutex_lock(&room.mutex), 0);
    hz_post(&room.inside);
    while (!room.ready) {
        HZ_IS(pthread_cond_wait(&room.cond, &room.mutex), 0);
    }
    HZ_IS(pthread_mutex_unlock(&room.mutex), 0);
    return HZ_OK;
}

static int room_works(void *arg) {
    struct hz_thread thread;
    int before = hz_seen(&room.inside);
    (void)arg;
    HZ_TRY(hz_mutex_works(&room.mutex));
    hz_start(&thread, room_waiter, NULL);
    hz_await(&room.inside, before + 1);
    HZ_IS(pthread_mutex_lock(&room.mutex), 0);
    room.ready = 1;
    HZ_IS(pthread_cond_signal(&room.cond), 0);
    HZ_IS(pthread_mutex_unlock(&room.mutex), 0);
    HZ_TRY(hz_finish(&thread));
    room.ready = 0;
    return HZ_OK;
}

static int cancel_waiters(void) {
    for (int i = 0; i < 5; i++) {
        pthread_t thread;
        void *result = NULL;
        int before = hz_seen(&room.inside);
        HZ_IS(pthread_create(&thread, NULL, cancelled_waiter, &room), 0);
        hz_await(&room.inside, before + 1);
        HZ_IS(pthread_cancel(thread), 0);
        HZ_IS(pthread_join(thread, &result), 0);
        HZ_TRUE(result == PTHREAD_CANCELED);
    }
    return HZ_OK;
}

/* Cancelled waiters took the mutex once more and unlocked it in a cleanup handler: all is free. */
static int cancelled_in_cond_wait(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    HZ_TRY(cancel_waiters());
    hz_bystander_start(&bystander);
    HZ_TRY(hz_children(20, room_works, NULL));
    HZ_TRY(hz_bystander_stop(&bystander));
    return room_works(NULL);
}

static int room_and_kept_work(void *arg) {
    HZ_TRY(hz_mutex_works(&room.kept));
    return room_works(arg);
}

/* The same, with waiters and a holder of another mutex that vanish beside. */
static int cancelled_beside_holder(const void *arg) {
    struct hz_holder holder;
    struct hz_thread waiter;
    (void)arg;
    HZ_TRY(cancel_waiters());
    hz_hold(&holder, hz_mutex_lock, hz_mutex_unlock, &room.kept);
    int before = hz_seen(&room.inside);
    hz_start(&waiter, room_waiter, NULL);
    hz_await(&room.inside, before + 1);
    HZ_TRY(hz_mutex_turn(&room.mutex));
    HZ_TRY(hz_children(3, room_and_kept_work, NULL));
    HZ_IS(pthread_mutex_lock(&room.mutex), 0);
    room.ready = 1;
    HZ_IS(pthread_cond_signal(&room.cond), 0);
    HZ_IS(pthread_mutex_unlock(&room.mutex), 0);
    HZ_TRY(hz_finish(&waiter));
    room.ready = 0;
    HZ_TRY(hz_let_go(&holder));
    return room_and_kept_work(NULL);
}

/* ---- threads that come and go ---- */

static struct hz_pair crowded;

static int comes_and_goes(void *arg) {
    HZ_TRY(hz_pair_turn(&crowded));
    return hz_seen(arg) ? HZ_OK : hz_elsewhere(hz_nothing, NULL);
}

static int breeder(void *arg) {
    while (hz_seen(arg) == 0) {
        HZ_TRY(hz_elsewhere(comes_and_goes, arg));
    }
    return HZ_OK;
}

static int child_breeds(void *arg) {
    (void)arg;
    for (int i = 0; i < 3; i++) {
        HZ_TRY(hz_pair_sound(&crowded));
        HZ_TRY(hz_mutex_works(&a));
    }
    return HZ_OK;
}

/* Forks at every moment of a thread's life: being made, ending, being joined; churners keep the
 * mutex busy beside. */
static int threads_come_and_go(const void *arg) {
    struct hz_thread breeders[2];
    struct hz_churn churn;
    struct hz_event stop = {0};
    (void)arg;
    hz_pair_init(&crowded, hz_mutex_lock, hz_mutex_unlock, &a);
    hz_churn_start(&churn, &crowded, 1);
    hz_start(&breeders[0], breeder, &stop);
    hz_start(&breeders[1], breeder, &stop);
    HZ_TRY(hz_children(300, child_breeds, NULL));
    hz_post(&stop);
    HZ_TRY(hz_finish(&breeders[0]));
    HZ_TRY(hz_finish(&breeders[1]));
    return hz_churn_stop(&churn);
}

/* ---- a program that wants every key ---- */

static pthread_key_t keys[PTHREAD_KEYS_MAX];
static volatile int strange; /* a destructor got a value that nobody set */

static void destroy(void *value) {
    if (value != keys) {
        strange = 1;
    }
}

static int take_all_keys(void) {
    for (int i = 0; i < PTHREAD_KEYS_MAX; i++) {
        HZ_IS(pthread_key_create(&keys[i], destroy), 0);
    }
    pthread_key_t one_more;
    HZ_IS(pthread_key_create(&one_more, NULL), EAGAIN);
    return HZ_OK;
}

static int keys_are_empty(void) {
    for (int i = 0; i < PTHREAD_KEYS_MAX; i++) {
        HZ_TRUE(pthread_getspecific(keys[i]) == NULL);
    }
    return HZ_OK;
}

static int uses_keys(void *arg) {
    (void)arg;
    HZ_TRY(keys_are_empty());
    for (int i = 0; i < PTHREAD_KEYS_MAX; i++) {
        HZ_IS(pthread_setspecific(keys[i], keys), 0);
    }
    return HZ_OK;
}

struct early {
    struct hz_thread thread;
    struct hz_event begun, taken;
};

static int uses_keys_later(void *arg) {
    struct early *early = arg;
    hz_post(&early->begun);
    hz_await(&early->taken, 1);
    return uses_keys(NULL);
}

/* All of them are there, and none has a value, in threads from before and after, and in children. */
static int all_keys(const void *arg) {
    struct early early = {0};
    (void)arg;
    hz_start(&early.thread, uses_keys_later, &early);
    hz_await(&early.begun, 1);
    HZ_TRY(take_all_keys());
    hz_post(&early.taken);
    HZ_TRY(hz_finish(&early.thread));
    HZ_TRY(hz_elsewhere(uses_keys, NULL));
    HZ_TRY(hz_child(uses_keys, NULL));
    HZ_TRY(uses_keys(NULL));
    HZ_IS(strange, 0);
    return HZ_OK;
}

static int come_and_go_with_all_keys(const void *arg) {
    HZ_TRY(take_all_keys());
    return threads_come_and_go(arg);
}

static const struct hazard hazards[] = {
    HAZARD("life_many_vanished", many_vanished, HANGS, "10,000 mutexes held by a vanished thread"),
    HAZARD("life_many_own", many_own, WRONG, "10,000 error-checking mutexes held by the survivor"),
    HAZARD("life_out_of_order", out_of_order, HANGS,
           "three taken, the first and the last released"),
    HAZARD("life_released_by_another", released_by_another, OK,
           "taken by a vanished thread, released by the survivor: free"),
    HAZARD("life_stale_entry", stale_entry_survivor_holds, OK,
           "the same, and taken by the survivor: stays held"),
    HAZARD("life_stale_entry_of_survivor", stale_entry_of_survivor, HANGS,
           "taken by the survivor, released by another, held by a third"),
    HAZARD("life_reinit", reinit_while_held, OK, "made anew while a vanished thread held it"),
    HAZARD("life_freed", freed_while_held, OK, "destroyed and freed while held: not written to"),
    HAZARD("life_overwritten", overwritten_while_held, OK,
           "overwritten while held: not written to"),
    HAZARD("life_unmapped", unmapped_while_held, OK, "unmapped while held: no crash"),
    HAZARD("life_unreadable", unreadable_while_held, OK, "made inaccessible while held: no crash"),
    HAZARD("life_read_only", read_only_while_held, OK, "overwritten, made read-only: no crash"),
    HAZARD("life_not_inherited", not_inherited_while_held, OK, "not copied to the child: no crash"),
    HAZARD("life_own_unmapped", own_unmapped, OK, "the survivor's own locks, gone in those ways"),
    HAZARD_CHANCE("life_lock_in_handler", locks_in_handlers, NULL, EITHER,
                  "locks taken in signal handlers in the middle of lock calls"),
    HAZARD_CHANCE("life_jump_out_of_mutex", jump_out_of_mutex, NULL, EITHER,
                  "siglongjmp out of pthread_mutex_lock, then work under another lock"),
    HAZARD_CHANCE("life_jump_out_of_read", jump_out_of_read, NULL, EITHER,
                  "siglongjmp out of read, then work under a lock"),
    HAZARD_CHANCE("life_jump_out_of_poll", jump_out_of_poll, NULL, EITHER,
                  "siglongjmp out of poll, then work under a lock"),
    HAZARD("life_cancelled_in_cond", cancelled_in_cond_wait, OK,
           "threads cancelled in pthread_cond_wait, cleanup handlers unlock"),
    HAZARD("life_cancelled_beside_holder", cancelled_beside_holder, HANGS,
           "the same, with a waiter and a holder that vanish"),
    HAZARD_CHANCE("life_come_and_go", threads_come_and_go, NULL, EITHER,
                  "threads made, ended and joined beside 300 forks"),
    HAZARD("life_all_keys", all_keys, OK, "every pthread_key_t there is: as many, and empty"),
    HAZARD_CHANCE("life_all_keys_come_and_go", come_and_go_with_all_keys, NULL, EITHER,
                  "threads come and go while the program has every key"),
};
HAZARD_MAIN(hazards)
