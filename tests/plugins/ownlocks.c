// A library with locks of its own, made of atomics and futexes, that nobody outside can see: one as
// Rust's standard library has it (a static, three states), one that spins, and one that is held
// over a blocking call.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FREE, HELD, HELD_AND_WAITED_FOR };

struct futex_lock {
    _Atomic int state;
};

static void lock(struct futex_lock *lock) {
    int state = FREE;
    if (atomic_compare_exchange_strong(&lock->state, &state, HELD)) {
        return;
    }
    while (atomic_exchange(&lock->state, HELD_AND_WAITED_FOR) != FREE) {
        syscall(SYS_futex, &lock->state, FUTEX_WAIT_PRIVATE, HELD_AND_WAITED_FOR, NULL, NULL, 0);
    }
}

static void unlock(struct futex_lock *lock) {
    if (atomic_exchange(&lock->state, FREE) == HELD_AND_WAITED_FOR) {
        syscall(SYS_futex, &lock->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void compute(unsigned turns) {
    for (volatile unsigned i = 0; i < turns; i++) {
    }
}

// Equal whenever the lock is free.
static struct {
    struct futex_lock lock;
    volatile long first, second;
} computing, sleeping;

int ownlocks_compute(void) {
    lock(&computing.lock);
    int good = computing.first == computing.second;
    computing.first++;
    compute(20000);
    computing.second++;
    unlock(&computing.lock);
    compute(20000);
    return good;
}

int ownlocks_sleep(void) {
    lock(&sleeping.lock);
    int good = sleeping.first == sleeping.second;
    sleeping.first++;
    nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    sleeping.second++;
    unlock(&sleeping.lock);
    return good;
}

static atomic_flag spin = ATOMIC_FLAG_INIT;
static volatile long spin_first, spin_second;

int ownlocks_spin(void) {
    while (atomic_flag_test_and_set(&spin)) {
    }
    int good = spin_first == spin_second;
    spin_first++;
    compute(2000);
    spin_second++;
    atomic_flag_clear(&spin);
    return good;
}
