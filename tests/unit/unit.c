/* Unit tests of the parts, linked into one program with the shim's own objects. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../shim/config.h"
#include "../../shim/fast.h"
#include "../../shim/fork.h"
#include "../../shim/init.h"
#include "../../shim/inventory.h"
#include "../../shim/json.h"
#include "../../shim/layout.h"
#include "../../shim/real.h"
#include "../../shim/registry.h"
#include "../../shim/report.h"
#include "../../shim/safepoint.h"
#include "../../shim/sys.h"
#include "../programs/calls.h"
#include "signals.h"

static void expect_success(pid_t child) {
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}

/* --- options --------------------------------------------------------------------------------- */

static const char *given_name;
static const char *given_value;
static char complaint[512];
static int complaints;

static const char *lookup(const char *name) {
    return given_name != NULL && strcmp(name, given_name) == 0 ? given_value : NULL;
}

static void complain(const char *line) {
    complaints++;
    snprintf(complaint, sizeof complaint, "%s", line);
}

static struct fs_config read_with(const char *name, const char *value) {
    struct fs_config config;
    given_name = name;
    given_value = value;
    complaints = 0;
    fs_config_read(&config, lookup, complain);
    return config;
}

START_TEST(options_have_the_documented_defaults) {
    struct fs_config config = read_with(NULL, NULL);
    ck_assert_int_eq(complaints, 0);
    ck_assert_int_eq(config.mode, FS_MODE_REPAIR);
    ck_assert_int_eq(config.deadline_ms, 500);
    ck_assert_int_eq(config.suspend, FS_SUSPEND_SIGNAL);
    ck_assert_int_eq(config.signal, 0);
    ck_assert_int_eq(config.semaphores, FS_SEM_AUTO);
    ck_assert_ptr_null(config.opaque);
    ck_assert_ptr_null(config.report);
}
END_TEST

START_TEST(options_take_good_values) {
    ck_assert_int_eq(read_with("FORKSAFE_MODE", "off").mode, FS_MODE_OFF);
    ck_assert_int_eq(read_with("FORKSAFE_DEADLINE_MS", "0").deadline_ms, 0);
    ck_assert_int_eq(read_with("FORKSAFE_DEADLINE_MS", "60000").deadline_ms, 60000);
    ck_assert_int_eq(read_with("FORKSAFE_SUSPEND", "gate").suspend, FS_SUSPEND_GATE);
    ck_assert_int_eq(read_with("FORKSAFE_SIGNAL", "SIGUSR2").signal, SIGUSR2);
    ck_assert_int_eq(read_with("FORKSAFE_SIGNAL", "USR2").signal, SIGUSR2);
    ck_assert_int_eq(read_with("FORKSAFE_SIGNAL", "RTMIN+3").signal, SIGRTMIN + 3);
    ck_assert_int_eq(read_with("FORKSAFE_SIGNAL", "50").signal, 50);
    ck_assert_str_eq(read_with("FORKSAFE_OPAQUE", "a.so:b.so").opaque, "a.so:b.so");
    ck_assert_int_eq(complaints, 0);
}
END_TEST

static const struct {
    const char *name, *value;
} bad[] = {
    {"FORKSAFE_MODE", "Repair"},     {"FORKSAFE_MODE", "repair "},
    {"FORKSAFE_DEADLINE_MS", "-1"},  {"FORKSAFE_DEADLINE_MS", "60001"},
    {"FORKSAFE_DEADLINE_MS", "1e3"}, {"FORKSAFE_DEADLINE_MS", " 5"},
    {"FORKSAFE_DEADLINE_MS", "5ms"}, {"FORKSAFE_DEADLINE_MS", "99999999999999999999"},
    {"FORKSAFE_SUSPEND", "signals"}, {"FORKSAFE_SIGNAL", "KILL"},
    {"FORKSAFE_SIGNAL", "SIGSEGV"},  {"FORKSAFE_SIGNAL", "32"},
    {"FORKSAFE_SIGNAL", "65"},       {"FORKSAFE_SIGNAL", "0"},
    {"FORKSAFE_SIGNAL", "RTMIN+99"}, {"FORKSAFE_SIGNAL", "nonsense"},
    {"FORKSAFE_SEM", "on"},
};

START_TEST(options_name_a_bad_value_and_use_the_default) {
    struct fs_config standard = read_with(NULL, NULL);
    struct fs_config config = read_with(bad[_i].name, bad[_i].value);
    ck_assert_int_eq(complaints, 1);
    ck_assert_ptr_nonnull(strstr(complaint, bad[_i].name));
    ck_assert_ptr_nonnull(strstr(complaint, bad[_i].value));
    ck_assert_ptr_null(strchr(complaint, '\n'));
    ck_assert_int_eq(memcmp(&config, &standard, sizeof config), 0);
}
END_TEST

/* --- registry -------------------------------------------------------------------------------- */

START_TEST(registry_knows_the_first_thread) {
    struct fs_thread *self = fs_current();
    ck_assert_ptr_nonnull(self);
    ck_assert_ptr_eq(fs_thread_by_owner_id(fs_gettid()), self);
    ck_assert(pthread_equal(self->handle, pthread_self()));
}
END_TEST

START_TEST(registry_has_no_limit_and_reuses_records) {
    enum { MANY = 3000 };
    static struct fs_thread *made[MANY];
    fs_current();
    unsigned before = fs_thread_count();
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            made[i] = fs_thread_new();
            ck_assert_ptr_nonnull(made[i]);
        }
        ck_assert_uint_eq(fs_thread_count(), before + MANY);
        unsigned walked = 0;
        FS_EACH_THREAD (thread) {
            walked++;
        }
        ck_assert_uint_eq(walked, before + MANY);
        struct fs_thread *first = made[MANY - 1];
        for (int i = 0; i < MANY; i++) {
            fs_thread_release(made[i]);
            fs_thread_release(made[i]);
        }
        ck_assert_uint_eq(fs_thread_count(), before);
        ck_assert_ptr_eq(fs_thread_new(), first); /* the last one freed is the first one reused */
        fs_thread_release(first);
        fs_thread_release(first);
    }
}
END_TEST

static void *wait_for_word(void *word) {
    while (__atomic_load_n((int *)word, __ATOMIC_ACQUIRE) == 0) {
        sched_yield();
    }
    return NULL;
}

START_TEST(registry_follows_threads_in_and_out) {
    fs_current();
    unsigned before = fs_thread_count();
    int go = 0;
    pthread_t threads[20];
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, wait_for_word, &go), 0);
    }
    ck_assert_uint_eq(fs_thread_count(), before + 20);
    __atomic_store_n(&go, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    ck_assert_uint_eq(fs_thread_count(), before);
}
END_TEST

static int raw_thread(void *word) {
    wait_for_word(word);
    fs_syscall1(SYS_exit, 0);
    return 0;
}

START_TEST(registry_notices_threads_of_raw_clone) {
    static char stack[64 * 1024] __attribute__((aligned(16)));
    int go = 0;
    fs_current();
    ck_assert_int_eq(fs_foreign_threads(NULL, 0), 0);
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    int tid = fs_real.clone(raw_thread, stack + sizeof stack, flags, &go);
    ck_assert_int_gt(tid, 0);
    int found = 0;
    ck_assert_int_eq(fs_foreign_threads(&found, 1), 1);
    ck_assert_int_eq(found, tid);
    __atomic_store_n(&go, 1, __ATOMIC_RELEASE);
    while (fs_foreign_threads(NULL, 0) != 0) {
        sched_yield();
    }
}
END_TEST

START_TEST(registry_is_cut_to_the_survivor) {
    int go = 0;
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_word, &go), 0);
    uint32_t generation = fs_generation();
    pid_t pid = fork();
    if (pid == 0) {
        bool good = fs_thread_count() == 1 && fs_self->tid == fs_gettid() &&
                    fs_is_vanished(thread) && !fs_is_vanished(pthread_self()) &&
                    fs_generation() == generation + 1;
        _exit(good ? 0 : 1);
    }
    __atomic_store_n(&go, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    expect_success(pid);
}
END_TEST

/* As the child finds it in its copy of the forks' page, or where the kernel has left that out. */
static void check_mark_in_child(uint32_t mark) {
    pid_t pid = fork();
    if (pid == 0) {
        _exit(fs_fork_page.progress != mark || fs_thread_count() != 1 || fs_self->walks);
    }
    expect_success(pid);
}

START_TEST(forks_write_their_page_once_there_was_a_second_thread) {
    enum { MARK = 1000 };
    int go = 0;
    pthread_t thread;
    fs_current();
    fs_config.stacks = true; /* the forking thread notes that it has the lock of walks */
    fs_fork_page.progress = fs_fork_page.report.attempts = MARK;
    if (!fs_had_second_thread()) { /* with CK_FORK=no there was one in another test */
        const struct fs_fork_page before = fs_fork_page;
        check_mark_in_child(MARK);
        ck_assert_mem_eq(&fs_fork_page, &before, sizeof before);
    }
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_word, &go), 0);
    check_mark_in_child(0);
    __atomic_store_n(&go, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    check_mark_in_child(0);
    ck_assert_uint_ne(fs_fork_page.report.attempts, MARK);
}
END_TEST

/* --- inventory ------------------------------------------------------------------------------- */

enum { NESTED = 10000 };
static pthread_mutex_t nested[NESTED];

START_TEST(inventory_nests_deep_and_lets_go_in_any_order) {
    struct fs_thread *self = fs_current();
    for (int i = 0; i < NESTED; i++) {
        pthread_mutex_init(&nested[i], NULL);
        pthread_mutex_lock(&nested[i]);
    }
    ck_assert_uint_eq(self->depth, NESTED);
    for (int i = 0; i < NESTED; i++) {
        ck_assert(i % 97 != 0 || fs_holds(self, &nested[i]));
    }
    for (int i = 0; i < NESTED; i++) {
        ck_assert_int_eq(pthread_mutex_unlock(&nested[(i * 7919) % NESTED]), 0);
    }
    ck_assert_uint_eq(self->depth, 0);
    ck_assert(!fs_is_busy(self));
}
END_TEST

START_TEST(inventory_forgets_what_was_not_taken) {
    struct fs_thread *self = fs_current();
    pthread_mutex_t mutex = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
    pthread_mutex_lock(&mutex);
    ck_assert_int_eq(pthread_mutex_lock(&mutex), EDEADLK);
    ck_assert_int_eq(pthread_mutex_trylock(&mutex), EBUSY);
    ck_assert_uint_eq(self->depth, 1);
    pthread_mutex_unlock(&mutex);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), EPERM);
    ck_assert_uint_eq(self->depth, 0);
}
END_TEST

START_TEST(inventory_drops_what_is_no_longer_true) {
    struct fs_thread *self = fs_current();
    pthread_mutex_t *gone =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_mutex_t kept = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_init(gone, NULL);
    pthread_mutex_lock(gone);
    pthread_mutex_lock(&kept);
    munmap(gone, 4096);
    fs_prune(self, fs_frame());
    ck_assert_uint_eq(self->depth, 1);
    ck_assert(fs_holds(self, &kept));
    pthread_mutex_unlock(&kept);
}
END_TEST

/* A mutex that does not name the thread may be about to, but only if it is one. */
START_TEST(inventory_believes_a_mutex_that_says_who_has_it) {
    struct fs_thread *self = fs_current();
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    ck_assert_int_eq(fs_mutex_state(&mutex, self), FS_MUTEX_OPEN);
    pthread_mutex_lock(&mutex);
    struct fs_entry *entry = &self->entries[0];
    ck_assert_int_eq(fs_mutex_state(&mutex, self), FS_MUTEX_OWN);
    ck_assert_int_eq(fs_entry_phase(self, entry), FS_HELD);
    ck_assert(!fs_only_seems_busy(self));
    mutex.__data.__owner = 0;
    ck_assert_int_eq(fs_mutex_state(&mutex, self), FS_MUTEX_BETWEEN);
    ck_assert_int_eq(fs_entry_phase(self, entry), FS_RELEASING);
    ck_assert(fs_is_busy(self) && fs_only_seems_busy(self) && fs_holds(self, &mutex));
    mutex.__data.__owner = self->owner_id + 1;
    ck_assert_int_eq(fs_mutex_state(&mutex, self), FS_MUTEX_OPEN);
    ck_assert(fs_is_busy(self) && fs_only_seems_busy(self) && !fs_holds(self, &mutex));
    mutex.__data.__list.__next = (void *)&mutex; /* no simple mutex, or none at all */
    ck_assert_int_eq(fs_mutex_state(&mutex, self), FS_MUTEX_NOT_OWN);
    ck_assert(!fs_is_busy(self));
    fs_forget(self, &mutex);
}
END_TEST

START_TEST(inventory_drops_calls_that_were_jumped_out_of) {
    struct fs_thread *self = fs_current();
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    fs_enter(self, &mutex, FS_KIND_MUTEX, NULL);
    fs_prune(self, self->entries[0].frame - 64); /* seen from a frame inside it: under way */
    ck_assert_uint_eq(self->depth, 1);
    fs_prune(self, self->entries[0].frame + 64); /* from outside: over */
    ck_assert_uint_eq(self->depth, 0);
}
END_TEST

static void *unlock_spin(void *spin) {
    pthread_spin_unlock(spin);
    return NULL;
}

START_TEST(inventory_sees_a_release_by_another_thread) {
    struct fs_thread *self = fs_current();
    pthread_spinlock_t spin;
    pthread_t thread;
    pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
    pthread_spin_lock(&spin);
    pthread_create(&thread, NULL, unlock_spin, (void *)(uintptr_t)&spin);
    pthread_join(thread, NULL);
    fs_real.pthread_spin_lock(&spin); /* somebody else's by now */
    ck_assert(!fs_is_busy(self));
    fs_prune(self, fs_frame());
    ck_assert_uint_eq(self->depth, 0);
}
END_TEST

static void *unlock_mutex(void *mutex) {
    pthread_mutex_unlock(mutex);
    return NULL;
}

START_TEST(inventory_sees_a_mutex_given_back_by_another_thread) {
    struct fs_thread *self = fs_current();
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread;
    pthread_mutex_lock(&mutex);
    pthread_create(&thread, NULL, unlock_mutex, &mutex);
    pthread_join(thread, NULL);
    ck_assert(!fs_mutex_locked(&mutex));
    ck_assert(!fs_is_busy(self));
    pthread_mutex_lock(&mutex);
    ck_assert(fs_holds(self, &mutex));
    pthread_mutex_unlock(&mutex);
    ck_assert(!fs_is_busy(self));

    pthread_mutex_t checked =
        PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP; /* nobody else can give it back */
    pthread_mutex_lock(&checked);
    pthread_create(&thread, NULL, unlock_mutex, &checked);
    pthread_join(thread, NULL);
    ck_assert(fs_is_busy(self));
    ck_assert_int_eq(pthread_mutex_unlock(&checked), 0);
    fs_prune(self, fs_frame());
    ck_assert_uint_eq(self->depth, 0);
}
END_TEST

static pthread_mutex_t sleepers_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t sleepers_cond = PTHREAD_COND_INITIALIZER;
static struct fs_thread *_Atomic sleeper;

static _Atomic bool sleeper_wakes;

static void *wait_until_it_wakes(void *wrong) {
    pthread_mutex_lock(&sleepers_mutex);
    sleeper = fs_current();
    int error = 0;
    while (!sleeper_wakes) {
        error |= pthread_cond_wait(&sleepers_cond, &sleepers_mutex);
    }
    bool held = fs_holds(fs_current(), &sleepers_mutex);
    pthread_mutex_unlock(&sleepers_mutex);
    return error == 0 && held ? NULL : wrong;
}

/* The child may get its mutex from the moment in which it had it. */
START_TEST(a_waiter_that_wakes_up_while_the_world_is_stopped_goes_on_waiting) {
    pthread_t thread;
    void *wrong;
    pthread_create(&thread, NULL, wait_until_it_wakes, &sleepers_mutex);
    while (sleeper == NULL || fs_load(&sleeper->wait_count) == 0 || fs_load(&sleeper->depth) != 0) {
        sched_yield();
    }
    ck_assert(fs_world_stop(fs_current(), 0));
    pthread_mutex_lock(&sleepers_mutex); /* once it is inside the wait */
    sleeper_wakes = true;
    pthread_cond_signal(&sleepers_cond);
    pthread_mutex_unlock(&sleepers_mutex);
    while (fs_load_acquire(&sleeper->state) != FS_SUSPENDED) {
        fs_sleep(FS_MSEC);
    }
    ck_assert_uint_eq(sleeper->depth, 0);
    ck_assert_uint_eq(sleeper->wait_count, 1);
    ck_assert_ptr_eq(sleeper->waits[0].mutex, &sleepers_mutex);
    ck_assert(!fs_mutex_locked(&sleepers_mutex));
    fs_world_start();
    pthread_join(thread, &wrong);
    ck_assert_ptr_null(wrong);
}
END_TEST

/* --- the fast ways --------------------------------------------------------------------------- */

static void *do_nothing(void *unused) { return unused; }

/* glibc has other ways while there has been one thread only, and so have we. (With CK_FORK=no an earlier test has made
 * another.) */
static bool is_alone(void) {
    struct fs_thread *self = fs_current();
    ck_assert_uint_eq(self->mutex_room, __libc_single_threaded ? 0 : self->room);
    return __libc_single_threaded;
}

static void be_alone(bool alone) {
    pthread_t thread;
    fs_fast_init();
    ck_assert(is_alone() || getenv("CK_FORK") != NULL);
    if (!alone) {
        pthread_create(&thread, NULL, do_nothing, NULL);
        pthread_join(thread, NULL);
    }
}

START_TEST(the_fast_ways_are_on_and_leave_what_glibc_leaves) {
    struct fs_thread *self = fs_current();
    be_alone(_i == 1);
    ck_assert(fs_fast_ways);
    ck_assert_uint_eq(self->room, self->capacity);
    static const int kinds[] = {PTHREAD_MUTEX_TIMED_NP, PTHREAD_MUTEX_RECURSIVE_NP,
                                PTHREAD_MUTEX_ERRORCHECK_NP, PTHREAD_MUTEX_ADAPTIVE_NP,
                                PTHREAD_MUTEX_TIMED_NP | FS_MUTEX_NO_ELISION};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        pthread_mutex_t ours = PTHREAD_MUTEX_INITIALIZER;
        ours.__data.__kind = kinds[i];
        pthread_mutex_t glibcs = ours;
        for (int depth = 0; depth < 3; depth++) { /* again: EDEADLK, recursion, or EBUSY */
            bool would_block = depth > 0 && kinds[i] != PTHREAD_MUTEX_RECURSIVE_NP &&
                               kinds[i] != PTHREAD_MUTEX_ERRORCHECK_NP;
            int ours_says = would_block ? pthread_mutex_trylock(&ours) : pthread_mutex_lock(&ours);
            int glibc_says = would_block ? fs_real.pthread_mutex_trylock(&glibcs)
                                         : fs_real.pthread_mutex_lock(&glibcs);
            ck_assert_int_eq(ours_says, glibc_says);
            ck_assert_mem_eq(&ours, &glibcs, sizeof ours);
        }
        for (int depth = 0; depth < 3; depth++) { /* the last one too often where it can be said */
            if (depth > 0 && !fs_mutex_locked(&glibcs) && kinds[i] != PTHREAD_MUTEX_RECURSIVE_NP &&
                kinds[i] != PTHREAD_MUTEX_ERRORCHECK_NP) {
                break;
            }
            ck_assert_int_eq(pthread_mutex_unlock(&ours), fs_real.pthread_mutex_unlock(&glibcs));
            ck_assert_mem_eq(&ours, &glibcs, sizeof ours);
        }
    }
    ck_assert_uint_eq(self->depth, 0);
    ck_assert(is_alone() == (_i == 1) || getenv("CK_FORK") != NULL);
}
END_TEST

static __attribute__((noinline)) struct fs_entry read_lock_deep_down(pthread_rwlock_t *rwlock) {
    char room[512];
    __asm__ volatile("" : : "r"(room) : "memory");
    pthread_rwlock_rdlock(rwlock);
    struct fs_entry entry = fs_current()->entries[0];
    pthread_rwlock_unlock(rwlock);
    return entry;
}

/* What it says already is not stored again, what was said of another lock or another call is. (Check's assertions lock,
 * too: they come last.) */
START_TEST(a_place_says_what_it_was_last_taken_for) {
    static pthread_mutex_t mutexes[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
    pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
    const struct fs_thread *self = fs_current();
    be_alone(_i == 1);
    struct fs_entry mutex[4], read[2];
    for (int i = 0; i < 2; i++) {
        pthread_mutex_lock(&mutexes[i]);
        mutex[i] = self->entries[0];
        pthread_mutex_unlock(&mutexes[i]);
    }
    pthread_mutex_lock(&mutexes[1]);
    mutex[2] = self->entries[0];
    pthread_mutex_unlock(&mutexes[1]);
    read[0] = read_lock_deep_down(&rwlock);
    pthread_rwlock_rdlock(&rwlock);
    read[1] = self->entries[0];
    pthread_rwlock_unlock(&rwlock);
    pthread_mutex_lock(&mutexes[1]);
    mutex[3] = self->entries[0];
    pthread_mutex_unlock(&mutexes[1]);
    for (int i = 0; i < 4; i++) {
        ck_assert_ptr_eq(mutex[i].object, &mutexes[i > 0]);
        ck_assert_uint_eq(mutex[i].what, FS_WHAT(FS_KIND_MUTEX, FS_HELD));
    }
    ck_assert_ptr_ne(mutex[1].caller, mutex[2].caller);
    ck_assert_ptr_ne(mutex[2].caller, mutex[3].caller);
    for (int i = 0; i < 2; i++) {
        ck_assert_ptr_eq(read[i].object, &rwlock);
        ck_assert_uint_eq(read[i].what, FS_WHAT(FS_KIND_RWLOCK_READ, FS_HELD));
    }
    ck_assert_ptr_ne(read[0].caller, read[1].caller);
    ck_assert_uint_lt(read[0].frame + 512, read[1].frame);
}
END_TEST

START_TEST(a_rwlock_taken_and_given_back_in_any_order_is_as_glibc_leaves_it) {
    static int (*const calls[])(pthread_rwlock_t *) = {pthread_rwlock_rdlock, pthread_rwlock_wrlock,
                                                       pthread_rwlock_tryrdlock,
                                                       pthread_rwlock_trywrlock};
    int (*const glibcs_calls[])(pthread_rwlock_t *) = {
        fs_real.pthread_rwlock_rdlock, fs_real.pthread_rwlock_wrlock,
        fs_real.pthread_rwlock_tryrdlock, fs_real.pthread_rwlock_trywrlock};
    for (int preference = 0; preference < 3; preference++) {
        pthread_rwlock_t ours = PTHREAD_RWLOCK_INITIALIZER;
        ours.__data.__flags = (unsigned)preference;
        pthread_rwlock_t glibcs = ours;
        unsigned seed = 7;
        for (int i = 0; i < 2000; i++) {
            seed = seed * 1103515245 + 12345;
            unsigned call = seed >> 20 & 3;
            bool twice = (call == 0 || call == 2) && (seed >> 24 & 1) != 0;
            for (int times = 0; times <= twice; times++) {
                ck_assert_int_eq(calls[call](&ours), glibcs_calls[call](&glibcs));
                ck_assert_mem_eq(&ours, &glibcs, sizeof ours);
            }
            for (int times = 0; times <= twice; times++) {
                ck_assert_int_eq(pthread_rwlock_unlock(&ours),
                                 fs_real.pthread_rwlock_unlock(&glibcs));
                ck_assert_mem_eq(&ours, &glibcs, sizeof ours);
            }
        }
    }
    ck_assert_uint_eq(fs_current()->depth, 0);
}
END_TEST

/* --- a signal handler at every instruction ----------------------------------------------------- */

/* The processor traps after each instruction while its trap flag is set (in handlers the kernel clears it). */
#define TRAP_FLAG(operation)                                                                       \
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\t" operation                              \
                     ", (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp" ::                              \
                         : "cc", "memory")

static pthread_mutex_t outer_mutex, handlers_mutex;
static struct {
    int at, count; /* the handler acts at this one of so many instructions */
    void (*act)(void);
    sigjmp_buf out;
    bool in_child;
    bool lost;     /* what the handler does has had another effect than it must */
    bool may_fail; /* the call that is interrupted */
    int error;     /* of that call */
} step;

static void on_step(int signo) {
    (void)signo;
    if (++step.count == step.at) {
        step.act();
    }
}

static void lock_and_unlock(void) {
    pthread_mutex_lock(&handlers_mutex);
    pthread_mutex_unlock(&handlers_mutex);
}
static void release_outer(void) { pthread_mutex_unlock(&outer_mutex); }
static void jump_out(void) { siglongjmp(step.out, 1); }
static void prune_there(void) {
    struct fs_thread *self = fs_current();
    uint32_t before = self->depth;
    fs_prune(self, fs_frame());
    step.lost |= self->depth != before;
}
static void try_and_set_free(void) {
    step.lost |= pthread_mutex_trylock(&outer_mutex) != EBUSY; /* (Check's assertions lock, too) */
    fs_real.pthread_mutex_unlock(&outer_mutex);
}
static void fork_there(void) {
    pid_t pid = fork();
    if (pid == 0) {
        step.in_child = true;
        return;
    }
    expect_success(pid);
}

/* `call` while `act` comes after its instruction number `at`. Returns false if there are not so many. */
static bool stepped(int (*call)(void *), void *lock, int at, void (*act)(void)) {
    step.at = at;
    step.count = 0;
    step.act = act;
    if (sigsetjmp(step.out, 1) == 0) {
        TRAP_FLAG("orq $0x100");
        step.error = call(lock);
        TRAP_FLAG("andq $~0x100");
        ck_assert(step.error == 0 || step.may_fail);
    }
    return step.count >= at;
}

static bool holds_it_alone(struct fs_thread *self, const void *object) {
    uint32_t slot = fs_find_entry(self, object); /* settles what a fork fell into the middle of */
    return slot == 0 && self->depth == 1 && self->entries[0].phase == FS_HELD;
}

/* One of each kind that has a fast way. (C11's are mutexes.) */
static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
/* As PTHREAD_MUTEX_NORMAL makes it, where that is asked for. */
static pthread_mutex_t never_elided = {{.__kind = FS_MUTEX_NO_ELISION}};
static pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_mutex_t errorcheck = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static pthread_rwlock_t a_rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t a_spin;
static sem_t used_as_lock;
static const struct fast_pair {
    void *lock;
    int (*take)(void *), (*give)(void *);
} fast_pairs[] = {
    {&plain, pthread_mutex_lock_of, pthread_mutex_unlock_of},
    {&plain, pthread_mutex_trylock_of, pthread_mutex_unlock_of},
    {&never_elided, pthread_mutex_lock_of, pthread_mutex_unlock_of},
    {&recursive, pthread_mutex_lock_of, pthread_mutex_unlock_of},
    {&errorcheck, pthread_mutex_lock_of, pthread_mutex_unlock_of},
    {&a_rwlock, pthread_rwlock_rdlock_of, pthread_rwlock_unlock_of},
    {&a_rwlock, pthread_rwlock_tryrdlock_of, pthread_rwlock_unlock_of},
    {&a_rwlock, pthread_rwlock_wrlock_of, pthread_rwlock_unlock_of},
    {(void *)(uintptr_t)&a_spin, pthread_spin_lock_of, pthread_spin_unlock_of},
    {(void *)(uintptr_t)&a_spin, pthread_spin_trylock_of, pthread_spin_unlock_of},
    {&used_as_lock, sem_wait_of, sem_post_of},
    {&used_as_lock, sem_trywait_of, sem_post_of},
};
enum { FAST_PAIRS = sizeof fast_pairs / sizeof fast_pairs[0] };

/* False where the processor's flag is without effect: under valgrind. */
static bool prepare_steps(bool alone) {
    struct sigaction action = {.sa_handler = on_step};
    sigaction(SIGTRAP, &action, NULL);
    be_alone(alone);
    pthread_mutex_init(&outer_mutex, NULL);
    pthread_mutex_init(&handlers_mutex, NULL);
    pthread_spin_init(&a_spin, PTHREAD_PROCESS_PRIVATE);
    sem_init(&used_as_lock, 0, 1);
    for (int i = 0; i < 2; i++) { /* the second time it is known for a lock */
        sem_wait(&used_as_lock);
        sem_post(&used_as_lock);
    }
    pthread_rwlock_wrlock(&a_rwlock);
    pthread_rwlock_unlock(&a_rwlock);
    const char *preload = getenv("LD_PRELOAD");
    return preload == NULL || strstr(preload, "vgpreload") == NULL;
}

/* Each pair comes twice, the second time alone. NULL where there are no steps. */
static const struct fast_pair *prepare_pair(int number) {
    return prepare_steps(number >= FAST_PAIRS) ? &fast_pairs[number % FAST_PAIRS] : NULL;
}

START_TEST(a_handler_may_lock_and_release_at_every_instruction) {
    struct fs_thread *self = fs_current();
    const struct fast_pair *pair = prepare_pair(_i);
    if (pair == NULL) {
        return;
    }
    int at = 1;
    for (bool more = true; more; at++) {
        more = false;
        /* The second time its place says already what it is to say. */
        for (int again = 0; again < 2; again++) {
            more |= stepped(pair->take, pair->lock, at, lock_and_unlock);
            ck_assert(holds_it_alone(self, pair->lock));
            more |= stepped(pair->give, pair->lock, at, lock_and_unlock);
            ck_assert_uint_eq(self->depth, 0);
        }

        pthread_mutex_lock(&outer_mutex);
        bool released = stepped(pair->take, pair->lock, at, release_outer);
        ck_assert_uint_ne(fs_find_entry(self, pair->lock), FS_NO_SLOT);
        if (!released) {
            pthread_mutex_unlock(&outer_mutex);
        }
        pair->give(pair->lock);
        fs_prune(self, fs_frame());
        ck_assert_uint_eq(self->depth, 0);
        pthread_mutex_lock(&outer_mutex);
        pair->take(pair->lock);
        if (!stepped(pair->give, pair->lock, at, release_outer)) {
            pthread_mutex_unlock(&outer_mutex);
        }
        fs_prune(self, fs_frame());
        ck_assert_uint_eq(self->depth, 0);
    }
    ck_assert_int_gt(at, 20);
}
END_TEST

/* As at a closed gate. */
START_TEST(a_handler_that_prunes_leaves_the_call_that_it_interrupts) {
    const struct fast_pair *pair = prepare_pair(_i);
    if (pair == NULL) {
        return;
    }
    int at = 1;
    for (bool more = true; more; at++) {
        more = stepped(pair->take, pair->lock, at, prune_there);
        ck_assert(!step.lost);
        pair->give(pair->lock);
    }
    ck_assert_int_gt(at, 20);
}
END_TEST

/* The handler finds it taken, at the place in the record that the interrupted call is about to use; but that gets it. */
START_TEST(a_handler_may_try_the_same_mutex_in_vain) {
    struct fs_thread *self = fs_current();
    if (!prepare_steps(_i == 1)) {
        return;
    }
    step.may_fail = true;
    int at = 1;
    for (;; at++) {
        ck_assert_int_eq(fs_real.pthread_mutex_lock(&outer_mutex), 0);
        stepped(pthread_mutex_trylock_of, &outer_mutex, at, try_and_set_free);
        ck_assert(!step.lost);
        if (step.error != 0) {
            break; /* it had looked before */
        }
        ck_assert(holds_it_alone(self, &outer_mutex));
        ck_assert_int_eq(pthread_mutex_unlock(&outer_mutex), 0);
    }
    ck_assert_int_gt(at, 10);
}
END_TEST

START_TEST(a_handler_may_fork_at_every_instruction) {
    struct fs_thread *self = fs_current();
    const struct fast_pair *pair = prepare_pair(_i);
    if (pair == NULL) {
        return;
    }
    for (int at = 1; stepped(pair->take, pair->lock, at, fork_there); at++) {
        ck_assert(holds_it_alone(self, pair->lock));
        ck_assert(fs_is_busy(self));
        ck_assert_int_eq(pair->give(pair->lock), 0);
        ck_assert_uint_eq(self->depth, 0);
        if (step.in_child) {
            _exit(0);
        }
        pair->take(pair->lock);
        stepped(pair->give, pair->lock, at, fork_there);
        ck_assert_uint_eq(self->depth, 0);
        if (step.in_child) {
            ck_assert_int_eq(pair->take(pair->lock), 0);
            _exit(0);
        }
    }
    ck_assert_int_eq(pair->give(pair->lock), 0);
}
END_TEST

static void lock_outer(void) { pthread_mutex_lock(&outer_mutex); }

START_TEST(a_handler_may_do_so_at_every_instruction_of_a_signal) {
    struct fs_thread *self = fs_current();
    int (*const wake)(void *) = _i == 0 ? signal_waiter : broadcast_waiter;
    if (!prepare_steps(false)) {
        return;
    }
    int at = 1, kept = 0;
    for (bool more = true; more; at++) {
        pthread_cond_t cond = COND_WITH_WAITERS;
        stepped(wake, &cond, at, lock_and_unlock);
        ck_assert_uint_eq(self->depth, 0);
        stepped(wake, &cond, at, prune_there);
        ck_assert(!step.lost);
        ck_assert_uint_eq(self->depth, 0);

        if (stepped(wake, &cond, at, lock_outer)) { /* and keeps it */
            kept += holds_it_alone(self, &outer_mutex);
            ck_assert_int_eq(pthread_mutex_unlock(&outer_mutex), 0);
        }
        ck_assert_uint_eq(self->depth, 0);
        pthread_mutex_lock(&outer_mutex);
        if (!stepped(wake, &cond, at, release_outer)) {
            pthread_mutex_unlock(&outer_mutex);
        }
        fs_prune(self, fs_frame());
        ck_assert_uint_eq(self->depth, 0);

        stepped(wake, &cond, at, fork_there);
        ck_assert_uint_eq(self->depth, 0);
        if (step.in_child) {
            _exit(wake(&cond));
        }
        more = stepped(wake, &cond, at, jump_out); /* maybe with the lock inside it */
        fs_prune(self, fs_frame());
        ck_assert_uint_eq(self->depth, 0);
    }
    ck_assert_int_gt(at, 100);
    ck_assert_int_gt(kept, 3 * at / 4); /* lost while the depth is on its way up or down */
}
END_TEST

/* What the lock itself is left like is the program's affair. */
START_TEST(a_handler_may_jump_out_at_every_instruction) {
    struct fs_thread *self = fs_current();
    if (!prepare_steps(_i == 1)) {
        return;
    }
    for (int at = 1;; at++) {
        pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        bool jumped = stepped(pthread_mutex_lock_of, &mutex, at, jump_out);
        fs_prune(self, fs_frame());
        ck_assert_uint_le(self->depth, fs_layout_held_by(FS_KIND_MUTEX, &mutex, self));
        ck_assert(jumped || self->depth == 1);
        fs_forget(self, &mutex);
        if (!jumped) {
            break;
        }
    }
}
END_TEST

static struct {
    struct fs_thread *_Atomic thread; /* sleeps in its handler */
    _Atomic bool ends;
    int pipe[2];
    pthread_mutex_t mutex;
} stepper = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void sleep_there(void) {
    char byte;
    stepper.thread = fs_current();
    while (read(stepper.pipe[0], &byte, 1) < 0) {
    }
}

/* Returns NULL if each time the record said in the end what is so. */
static void *sleep_at_every_instruction(void *wrong) {
    struct fs_thread *self = fs_current();
    for (int at = 1;; at++) {
        bool slept = stepped(pthread_mutex_lock_of, &stepper.mutex, at, sleep_there);
        if (!holds_it_alone(self, &stepper.mutex)) {
            return wrong;
        }
        slept |= stepped(pthread_mutex_unlock_of, &stepper.mutex, at, sleep_there);
        if (self->depth != 0) {
            return wrong;
        }
        if (!slept) {
            stepper.ends = true;
            return NULL;
        }
    }
}

static void check_in_child(void) {
    pid_t pid = fork();
    if (pid == 0) {
        alarm(20);
        freopen("/dev/null", "w", stderr); /* what was held is told */
        _exit(pthread_mutex_lock(&stepper.mutex));
    }
    expect_success(pid);
}

/* A fork does not wait for a thread that sleeps just before it has a mutex, or just after; and however it left the
 * mutex, the child gets it. */
START_TEST(a_thread_may_sleep_in_a_handler_at_every_instruction) {
    pthread_t thread;
    void *wrong;
    if (!prepare_steps(false)) {
        return;
    }
    fs_config.deadline_ms = 20;
    ck_assert_int_eq(pipe(stepper.pipe), 0);
    pthread_create(&thread, NULL, sleep_at_every_instruction, &stepper);
    unsigned stops = 0;
    while (!stepper.ends) {
        struct fs_thread *sleeps = stepper.thread;
        if (sleeps == NULL || !fs_task_sleeps(sleeps->tid)) {
            sched_yield();
            continue;
        }
        if (fs_mutex_owner(&stepper.mutex) != sleeps->owner_id) {
            ck_assert(fs_world_stop(fs_current(), 0));
            ck_assert_uint_eq(fs_fork_page.report.attempts, 1);
            ck_assert_uint_eq(fs_fork_page.report.holding, 0);
            fs_world_start();
            stops++;
        }
        check_in_child();
        stepper.thread = NULL;
        ck_assert_int_eq(write(stepper.pipe[1], "", 1), 1);
    }
    pthread_join(thread, &wrong);
    ck_assert_ptr_null(wrong);
    ck_assert_uint_gt(stops, 20);
}
END_TEST

/* Returns once the thread is in sleep_there(). */
static pthread_t start_sleeper(void *(*routine)(void *), void *argument) {
    pthread_t thread;
    ck_assert_int_eq(pipe(stepper.pipe), 0);
    stepper.thread = NULL;
    ck_assert_int_eq(pthread_create(&thread, NULL, routine, argument), 0);
    while (stepper.thread == NULL || !fs_task_sleeps(stepper.thread->tid)) {
        sched_yield();
    }
    return thread;
}

static void end_sleeper(pthread_t thread) {
    ck_assert_int_eq(write(stepper.pipe[1], "", 1), 1);
    pthread_join(thread, NULL);
}

static int begin_and_end_a_fork(void *unused) {
    (void)unused;
    struct fs_thread *self = fs_current();
    fs_fork_raw_begin(self);
    fs_fork_raw_end(self, false);
    return 0;
}

static void fork_in_its_own_turn(int signo) {
    (void)signo;
    step.lost |= fs_fork_page.turn_owner != NULL;
    fork_there();
}
static void fork_by_signal(void) { raise(SIGUSR1); }

static void *sleep_at_once(void *unused) {
    sleep_there();
    return unused;
}

/* Of a signal that is not blocked meanwhile, and of one that is. */
START_TEST(a_handler_may_fork_at_every_instruction_of_a_fork) {
    struct sigaction action = {.sa_handler = fork_in_its_own_turn};
    sigaction(SIGUSR1, &action, NULL);
    if (!prepare_steps(false)) {
        return;
    }
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    pthread_t thread = start_sleeper(sleep_at_once, NULL);
    int at = 1;
    for (bool more = true; more; at++) {
        more = stepped(begin_and_end_a_fork, NULL, at, _i == 0 ? fork_there : fork_by_signal);
        ck_assert(!step.lost);
        ck_assert_ptr_null(fs_fork_page.turn_owner);
        ck_assert_uint_eq(fs_fork_page.turn_awaited, 0);
        ck_assert_uint_eq(fs_fork_page.stop, 0);
        ck_assert_uint_eq(fs_fork_page.registry_lock.word, 0);
        pthread_sigmask(SIG_SETMASK, NULL, &after);
        ck_assert_mem_eq(&before, &after, sizeof before);
        if (step.in_child) {
            _exit(0);
        }
    }
    ck_assert_int_gt(at, 200);
    end_sleeper(thread);
}
END_TEST

static _Atomic bool written;

static ssize_t sleep_and_write(void *unused, const char *text, size_t size) {
    (void)unused, (void)text;
    sleep_there();
    pthread_mutex_lock(&handlers_mutex);
    pthread_mutex_unlock(&handlers_mutex);
    written = true;
    return (ssize_t)size;
}

static void *flush_all(void *unused) {
    fflush(NULL);
    return unused;
}

/* fork() waits for the lock that it has: so it does not wait with the world stopped, or if it does, the thread goes on. */
START_TEST(a_fork_waits_for_who_has_a_lock_of_its_own) {
    be_alone(false);
    fs_config.deadline_ms = 20;
    fputs("x", fopencookie(NULL, "w", (cookie_io_functions_t){.write = sleep_and_write}));
    pthread_t thread = start_sleeper(flush_all, NULL);
    const struct fs_thread *sleeps = stepper.thread;
    ck_assert(!fs_world_stop(fs_current(), FS_YIELD_TO_STDIO));
    ck_assert_uint_eq(fs_fork_page.stop, 0);
    ck_assert(fs_world_stop(fs_current(), 0));
    ck_assert(sleeps->hopeless);
    ck_assert_int_eq(write(stepper.pipe[1], "", 1), 1);
    while (!written) {
        sched_yield();
    }
    ck_assert_uint_eq(sleeps->pass, 0); /* not that it has lost its patience */
    fs_world_start();
    pthread_join(thread, NULL);
}
END_TEST

static union {
    pthread_mutex_t mutex;
    int words[sizeof(pthread_mutex_t) / sizeof(int)];
} reused = {PTHREAD_MUTEX_INITIALIZER};

static void *reuse_and_sleep(void *unused) {
    pthread_mutex_lock(&reused.mutex);
    memset(&reused, 0, sizeof reused);
    reused.words[0] = 1;
    sleep_there();
    return unused;
}

/* As if a count of 1: it could be a mutex that somebody is about to have. */
START_TEST(a_child_leaves_alone_what_lies_where_a_mutex_was) {
    be_alone(false);
    pthread_t thread = start_sleeper(reuse_and_sleep, NULL);
    ck_assert_int_eq(fs_mutex_state(&reused.mutex, stepper.thread), FS_MUTEX_BETWEEN);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(reused.words[0] != 1);
    }
    expect_success(pid);
    end_sleeper(thread);
}
END_TEST

static void *take_twice(void *mutex) {
    pthread_t other;
    pthread_mutex_lock(mutex);
    pthread_create(&other, NULL, unlock_mutex, mutex);
    pthread_join(other, NULL);
    pthread_mutex_lock(mutex);
    sleep_there();
    pthread_mutex_unlock(mutex);
    return NULL;
}

/* Else what was given back would be repaired without a word, and what is held after it not be told. */
START_TEST(a_mutex_given_back_by_another_and_taken_again_counts_once) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    be_alone(false);
    fs_config.deadline_ms = 20;
    pthread_t thread = start_sleeper(take_twice, (void *)&mutex);
    pid_t pid = fork();
    if (pid == 0) {
        unsigned held = 0, given_back = 0;
        FS_EACH_VANISHED (vanished) {
            for (uint32_t slot = 0; slot < fs_entry_count(vanished); slot++) {
                const struct fs_entry *entry = &vanished->entries[slot];
                held += entry->object == &mutex && entry->phase == FS_HELD;
                given_back += entry->object == &mutex && entry->phase == FS_RELEASING;
            }
        }
        _exit(held != 1 || given_back != 0 || fs_mutex_locked(&mutex));
    }
    expect_success(pid);
    end_sleeper(thread);
}
END_TEST

/* --- layouts and repair ------------------------------------------------------------------------
 */

static _Atomic bool hand_over_hand_ends;
static _Atomic bool hand_over_hand_began;

static void *hand_over_hand(void *unused) {
    (void)unused;
    static pthread_mutex_t locks[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
    pthread_mutex_lock(&locks[0]);
    hand_over_hand_began = true;
    for (unsigned i = 0; !hand_over_hand_ends; i++) {
        pthread_mutex_lock(&locks[(i + 1) % 2]);
        pthread_mutex_unlock(&locks[i % 2]);
    }
    return NULL;
}

/* As a stopper asks it: with the stop word set. (This bit stops nobody.) */
START_TEST(a_thread_that_always_holds_something_is_always_busy) {
    pthread_t handle;
    uint32_t stop = fs_fork_page.stop;
    fs_fork_page.stop |= FS_FENCED;
    pthread_create(&handle, NULL, hand_over_hand, NULL);
    while (!hand_over_hand_began) {
        sched_yield();
    }
    struct fs_thread *thread = NULL;
    FS_EACH_THREAD (other) {
        thread = other != fs_current() ? other : thread;
    }
    ck_assert_ptr_nonnull(thread);
    unsigned idle = 0;
    for (unsigned i = 0; i < 200000; i++) {
        idle += !fs_is_busy(thread);
    }
    hand_over_hand_ends = true;
    pthread_join(handle, NULL);
    fs_fork_page.stop = stop;
    ck_assert_uint_eq(idle, 0);
}
END_TEST

START_TEST(layouts_are_what_the_real_functions_make) {
    fs_current();
    ck_assert_uint_eq(fs_layout_probe(), (UINT32_C(1) << FS_KIND_COUNT) - 1);
}
END_TEST

static void *lock_mutex(void *mutex) {
    fs_real.pthread_mutex_lock(mutex);
    return NULL;
}

static void lock_in_another_thread(pthread_mutex_t *mutex) {
    pthread_t thread;
    fs_real.pthread_create(&thread, NULL, lock_mutex, mutex);
    fs_real.pthread_join(thread, NULL);
}

static const struct {
    int type, protocol, robust;
} mutex_kinds[] = {
    {PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST},
    {PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED},
};

START_TEST(repair_frees_a_mutex_and_keeps_its_kind) {
    fs_current();
    pthread_mutexattr_t attr;
    pthread_mutex_t mutex;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, mutex_kinds[_i].type);
    pthread_mutexattr_setprotocol(&attr, mutex_kinds[_i].protocol);
    pthread_mutexattr_setrobust(&attr, mutex_kinds[_i].robust);
    fs_real.pthread_mutex_init(&mutex, &attr);
    int kind = mutex.__data.__kind;
    lock_in_another_thread(&mutex);
    fs_mutex_rebuild(&mutex);
    ck_assert_int_eq(mutex.__data.__kind, kind);
    ck_assert(!fs_mutex_locked(&mutex));
    ck_assert_int_eq(fs_real.pthread_mutex_trylock(&mutex), 0);
    ck_assert_int_eq(fs_real.pthread_mutex_unlock(&mutex), 0);
    ck_assert_int_eq(fs_real.pthread_mutex_destroy(&mutex), 0);
}
END_TEST

START_TEST(repair_leaves_the_survivors_read_holds) {
    fs_current();
    pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
    for (int i = 0; i < 5; i++) {
        fs_real.pthread_rwlock_rdlock(&rwlock);
    }
    fs_rwlock_rebuild(&rwlock, 2, 0);
    ck_assert_int_eq(fs_real.pthread_rwlock_trywrlock(&rwlock), EBUSY);
    fs_real.pthread_rwlock_unlock(&rwlock);
    ck_assert_int_eq(fs_real.pthread_rwlock_trywrlock(&rwlock), EBUSY);
    fs_real.pthread_rwlock_unlock(&rwlock);
    ck_assert_int_eq(fs_real.pthread_rwlock_trywrlock(&rwlock), 0);
}
END_TEST

START_TEST(repair_keeps_a_barriers_count) {
    pthread_barrier_t barrier;
    fs_current();
    fs_real.pthread_barrier_init(&barrier, NULL, 1);
    for (int i = 0; i < 3; i++) {
        fs_barrier_rebuild(&barrier);
        ck_assert_int_eq(fs_real.pthread_barrier_wait(&barrier), PTHREAD_BARRIER_SERIAL_THREAD);
    }
    fs_barrier_rebuild(&barrier);
    ck_assert_int_eq(pthread_barrier_destroy(&barrier), 0);
}
END_TEST

START_TEST(a_semaphore_is_a_lock_only_while_its_last_waiter_posts) {
    int me = fs_current()->owner_id;
    sem_t sem;
    sem_init(&sem, 0, 1);
    ck_assert(!fs_sem_is_lock(&sem)); /* a guess so far */
    for (int i = 0; i < 2; i++) {
        fs_sem_note_wait(&sem, me);
        fs_sem_note_post(&sem, me);
        ck_assert(fs_sem_is_lock(&sem));
    }
    fs_sem_note_wait(&sem, me);
    ck_assert_int_eq(fs_sem_holder(&sem), me);
    fs_sem_note_post(&sem, me + 1);
    ck_assert(!fs_sem_is_lock(&sem));
    fs_sem_note_wait(&sem, me);
    fs_sem_note_post(&sem, me);
    ck_assert(!fs_sem_is_lock(&sem)); /* for good */
    sem_t counter = {{0}};
    sem_init(&counter, 0, 0);
    fs_sem_note_post(&counter, me); /* nobody had it */
    ck_assert(!fs_sem_is_lock(&counter));
}
END_TEST

/* --- the system ------------------------------------------------------------------------------- */

START_TEST(peek_does_not_crash) {
    int value = 42;
    int copy = 0;
    ck_assert(fs_peek(&copy, &value, sizeof copy));
    ck_assert_int_eq(copy, 42);
    ck_assert(!fs_peek(&copy, NULL, sizeof copy));
    ck_assert(!fs_peek(&copy, (void *)-4096L, sizeof copy));
}
END_TEST

START_TEST(shared_memory_is_told_from_private) {
    int here;
    char *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(fs_is_shared_memory(shared, true));
    ck_assert(fs_is_shared_memory(shared + 8191, true));
    ck_assert(!fs_is_shared_memory(&here, true));
    ck_assert(!fs_is_shared_memory(nested, true));
    munmap(shared, 8192);
}
END_TEST

extern const struct fs_critical __start_fs_critical[], __stop_fs_critical[];

START_TEST(names_of_libcs_calls_fit) {
    for (const struct fs_critical *call = __start_fs_critical; call < __stop_fs_critical; call++) {
        ck_assert_int_eq(call->name[sizeof call->name - 1], 0);
        ck_assert_uint_lt(call->lock, FS_LOCK_COUNT);
    }
    for (size_t i = 0; i < FS_LOCK_COUNT; i++) {
        ck_assert_int_eq(fs_libc_locks[i].kin[sizeof fs_libc_locks[i].kin - 1], 0);
    }
}
END_TEST

START_TEST(json_escapes_and_grows) {
    struct fs_json json = {0};
    fs_json_begin(&json, NULL, '{');
    fs_json_string(&json, "a", "\"\\\n\xff");
    fs_json_begin(&json, "b", '[');
    fs_json_number(&json, NULL, -7);
    fs_json_bool(&json, NULL, true);
    fs_json_end(&json, ']');
    fs_json_hex(&json, "c", 0x1f);
    fs_json_bytes(&json, "d", (const unsigned char *)"\x01\xab", 2);
    fs_json_end(&json, '}');
    fs_json_raw(&json, "");
    static const char expected[] =
        "{\"a\":\"\\\"\\\\\\u000a\\u00ff\",\"b\":[-7,true],\"c\":\"0x1f\",\"d\":\"01ab\"}";
    ck_assert_uint_eq(json.length, sizeof expected - 1);
    ck_assert_int_eq(memcmp(json.text, expected, json.length), 0);
    for (int i = 0; i < 100000; i++) {
        fs_json_raw(&json, "0123456789");
    }
    ck_assert_uint_eq(json.length, sizeof expected - 1 + 1000000);
    ck_assert(!json.cut);
    fs_json_free(&json);
}
END_TEST

START_TEST(text_is_cut_and_never_overflows) {
    char buffer[12];
    struct fs_text text = fs_text(buffer, sizeof buffer);
    fs_text_number(&text, -120);
    fs_text_string(&text, " ");
    fs_text_hex(&text, 0xbeef);
    ck_assert_str_eq(buffer, "-120 0xbeef");
    fs_text_string(&text, "more");
    ck_assert_str_eq(buffer, "-120 0xbeef");
}
END_TEST

START_TEST(libc_is_opaque_and_the_heap_is_not) {
    void *heap = malloc(1);
    fs_init_threads();
    ck_assert(fs_is_opaque((uintptr_t)fs_real.poll));
    ck_assert(!fs_is_opaque((uintptr_t)heap));
    free(heap);
}
END_TEST

static void *stay_asleep(void *tid) {
    __atomic_store_n((int *)tid, fs_gettid(), __ATOMIC_RELEASE);
    pause();
    return NULL;
}

START_TEST(a_thread_runs_or_it_sleeps) {
    int tid = 0;
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, stay_asleep, &tid), 0);
    while (__atomic_load_n(&tid, __ATOMIC_ACQUIRE) == 0 || !fs_task_sleeps(tid)) {
        sched_yield();
    }
    ck_assert(!fs_task_runs(tid));
    ck_assert(fs_task_runs(fs_gettid()));
    ck_assert_int_eq(pthread_cancel(thread), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

static bool seemed_to_interrupt;

static void look_back(int signo) {
    (void)signo;
    seemed_to_interrupt = fs_seems_to_interrupt_opaque(fs_frame());
}

START_TEST(a_handler_that_interrupts_libc_is_seen_from_within) {
    fs_init_threads();
    ck_assert(!fs_seems_to_interrupt_opaque(fs_frame()));
    struct sigaction action = {.sa_handler = look_back};
    ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
    ck_assert(fs_signal_thread(fs_gettid(), SIGUSR1)); /* by an instruction of our own */
    ck_assert(!seemed_to_interrupt);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ck_assert(seemed_to_interrupt);
}
END_TEST

static Suite *suite(void) {
    Suite *all = suite_create("forksafe");
    TCase *parts = tcase_create("parts");
    tcase_set_timeout(parts, 60);
    tcase_add_test(parts, options_have_the_documented_defaults);
    tcase_add_test(parts, options_take_good_values);
    tcase_add_loop_test(parts, options_name_a_bad_value_and_use_the_default, 0,
                        (int)(sizeof bad / sizeof *bad));
    tcase_add_test(parts, registry_knows_the_first_thread);
    tcase_add_test(parts, registry_has_no_limit_and_reuses_records);
    tcase_add_test(parts, registry_follows_threads_in_and_out);
    tcase_add_test(parts, registry_notices_threads_of_raw_clone);
    tcase_add_test(parts, registry_is_cut_to_the_survivor);
    tcase_add_test(parts, forks_write_their_page_once_there_was_a_second_thread);
    tcase_add_test(parts, inventory_nests_deep_and_lets_go_in_any_order);
    tcase_add_test(parts, inventory_forgets_what_was_not_taken);
    tcase_add_test(parts, inventory_drops_what_is_no_longer_true);
    tcase_add_test(parts, inventory_believes_a_mutex_that_says_who_has_it);
    tcase_add_test(parts, inventory_drops_calls_that_were_jumped_out_of);
    tcase_add_test(parts, inventory_sees_a_release_by_another_thread);
    tcase_add_test(parts, inventory_sees_a_mutex_given_back_by_another_thread);
    tcase_add_test(parts, a_waiter_that_wakes_up_while_the_world_is_stopped_goes_on_waiting);
    tcase_add_test(parts, a_thread_that_always_holds_something_is_always_busy);
    tcase_add_loop_test(parts, the_fast_ways_are_on_and_leave_what_glibc_leaves, 0, 2);
    tcase_add_loop_test(parts, a_place_says_what_it_was_last_taken_for, 0, 2);
    tcase_add_test(parts, a_rwlock_taken_and_given_back_in_any_order_is_as_glibc_leaves_it);
    tcase_add_loop_test(parts, a_handler_may_lock_and_release_at_every_instruction, 0,
                        2 * FAST_PAIRS);
    tcase_add_loop_test(parts, a_handler_that_prunes_leaves_the_call_that_it_interrupts, 0,
                        2 * FAST_PAIRS);
    tcase_add_loop_test(parts, a_handler_may_try_the_same_mutex_in_vain, 0, 2);
    tcase_add_loop_test(parts, a_handler_may_fork_at_every_instruction, 0, 2 * FAST_PAIRS);
    tcase_add_loop_test(parts, a_handler_may_do_so_at_every_instruction_of_a_signal, 0, 2);
    tcase_add_loop_test(parts, a_handler_may_jump_out_at_every_instruction, 0, 2);
    tcase_add_test(parts, a_thread_may_sleep_in_a_handler_at_every_instruction);
    tcase_add_loop_test(parts, a_handler_may_fork_at_every_instruction_of_a_fork, 0, 2);
    tcase_add_test(parts, a_fork_waits_for_who_has_a_lock_of_its_own);
    tcase_add_test(parts, a_child_leaves_alone_what_lies_where_a_mutex_was);
    tcase_add_test(parts, a_mutex_given_back_by_another_and_taken_again_counts_once);
    tcase_add_test(parts, layouts_are_what_the_real_functions_make);
    tcase_add_loop_test(parts, repair_frees_a_mutex_and_keeps_its_kind, 0,
                        (int)(sizeof mutex_kinds / sizeof *mutex_kinds));
    tcase_add_test(parts, repair_leaves_the_survivors_read_holds);
    tcase_add_test(parts, repair_keeps_a_barriers_count);
    tcase_add_test(parts, a_semaphore_is_a_lock_only_while_its_last_waiter_posts);
    tcase_add_test(parts, peek_does_not_crash);
    tcase_add_test(parts, shared_memory_is_told_from_private);
    tcase_add_test(parts, names_of_libcs_calls_fit);
    tcase_add_test(parts, json_escapes_and_grows);
    tcase_add_test(parts, text_is_cut_and_never_overflows);
    tcase_add_test(parts, libc_is_opaque_and_the_heap_is_not);
    tcase_add_test(parts, a_thread_runs_or_it_sleeps);
    tcase_add_test(parts, a_handler_that_interrupts_libc_is_seen_from_within);
    suite_add_tcase(all, parts);
    suite_add_tcase(all, signals_tests());
    return all;
}

int main(void) {
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
