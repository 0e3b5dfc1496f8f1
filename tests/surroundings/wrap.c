/* wrap.c - another preload, which counts calls on their way to the next definition, and says at the end whether it
 * has
 * seen any. */
#include "surroundings.h"

#include <dlfcn.h>

static unsigned locked, forked, allocated;

#define NEXT(name)                                                                                 \
    static __typeof__(name) *next;                                                                 \
    if (next == NULL) {                                                                            \
        next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);                                        \
    }

int pthread_mutex_lock(pthread_mutex_t *mutex) {
    NEXT(pthread_mutex_lock);
    __atomic_add_fetch(&locked, 1, __ATOMIC_RELAXED);
    return next(mutex);
}

pid_t fork(void) {
    NEXT(fork);
    __atomic_add_fetch(&forked, 1, __ATOMIC_RELAXED);
    return next();
}

void *malloc(size_t size) {
    NEXT(malloc);
    __atomic_add_fetch(&allocated, 1, __ATOMIC_RELAXED);
    return next(size);
}

static __attribute__((destructor)) void tell(void) {
    say("wrap: forks %u, locks %s, allocations %s\n", forked, locked > 100 ? "many" : "few",
        allocated > 100 ? "many" : "few");
}
