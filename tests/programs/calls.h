/*
 * calls.h: pthread's and semaphores' calls as functions of one type, for tables: NAME_of(lock).
 */
#ifndef CALLS_H
#define CALLS_H

#include <pthread.h>
#include <semaphore.h>

#define CALL(name, type)                                                                           \
    static __attribute__((unused)) int name##_of(void *lock) { return name((type *)lock); }
CALL(pthread_mutex_lock, pthread_mutex_t)
CALL(pthread_mutex_trylock, pthread_mutex_t)
CALL(pthread_mutex_unlock, pthread_mutex_t)
CALL(pthread_rwlock_rdlock, pthread_rwlock_t)
CALL(pthread_rwlock_tryrdlock, pthread_rwlock_t)
CALL(pthread_rwlock_wrlock, pthread_rwlock_t)
CALL(pthread_rwlock_trywrlock, pthread_rwlock_t)
CALL(pthread_rwlock_unlock, pthread_rwlock_t)
CALL(pthread_spin_lock, pthread_spinlock_t)
CALL(pthread_spin_trylock, pthread_spinlock_t)
CALL(pthread_spin_unlock, pthread_spinlock_t)
CALL(sem_wait, sem_t)
CALL(sem_trywait, sem_t)
CALL(sem_post, sem_t)
#undef CALL

/* Signals with one waiter more to reach, which does not sleep yet: the call takes the lock inside the condition
 * variable, but wakes nobody. */
#define COND_WITH_WAITERS                                                                          \
    {                                                                                              \
        .__data = {.__wrefs = 1 << 3 }                                                             \
    }
#define CALL_WITH_WAITER(name)                                                                     \
    static __attribute__((unused)) int name##_waiter(void *cond) {                                 \
        ((pthread_cond_t *)cond)->__data.__wseq.__value64 += 1 << 1;                               \
        return pthread_cond_##name(cond);                                                          \
    }
CALL_WITH_WAITER(signal)
CALL_WITH_WAITER(broadcast)
#undef CALL_WITH_WAITER

#endif
