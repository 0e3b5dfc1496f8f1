/* forker.c - a shared object that has locks and forks. */
#include "surroundings.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t table = PTHREAD_RWLOCK_INITIALIZER;
static bool over;

static void *work(void *unused) {
    while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
        pthread_mutex_lock(&lock);
        pthread_rwlock_rdlock(&table);
        void *volatile memory = malloc(64);
        free(memory);
        pthread_rwlock_unlock(&table);
        pthread_mutex_unlock(&lock);
    }
    return unused;
}

/* Forks so often, beside a thread that has the locks nearly always if `beside`. Returns how many children were
 * fine. */
__attribute__((visibility("default"))) unsigned fork_beside_locks(unsigned forks, bool beside);
unsigned fork_beside_locks(unsigned forks, bool beside) {
    pthread_t thread;
    unsigned good = 0;
    over = false;
    SETUP(!beside || pthread_create(&thread, NULL, work, NULL) == 0);
    for (unsigned i = 0; i < forks; i++) {
        pthread_mutex_lock(&lock);
        pthread_mutex_unlock(&lock);
        pid_t child = fork();
        if (child == 0) {
            alarm(CHILD_LIMIT_S);
            pthread_mutex_lock(&lock);
            pthread_mutex_unlock(&lock);
            pthread_rwlock_wrlock(&table);
            pthread_rwlock_unlock(&table);
            _exit(0);
        }
        good += fine(child);
    }
    __atomic_store_n(&over, true, __ATOMIC_RELEASE);
    SETUP(!beside || pthread_join(thread, NULL) == 0);
    return good;
}
