// alloc_storm FORKS [MODULE...]: threads that do nothing but allocate and free, and forks in
// between; each child allocates and frees a lot, in its own thread and in two new ones, and forks
// once more.
//
// Each MODULE must be mapped (a part of its path is enough), so that a preload that silently did
// not happen is an error and not a pass. Without forksafe every malloc with atfork handlers of its
// own passes, glibc's and jemalloc's both: with it, what can fail is the order in which the two
// prepare.
//
// Compile: gcc -std=gnu11 -O2 -g alloc_storm.c -o alloc_storm -pthread
#define _GNU_SOURCE
#include "../stress/watch.h"

#include <pthread.h>

enum { THREADS = 6, FORKERS = 2, BLOCKS = 64, CHILD_LIMIT_S = 30, PROGRESS_LIMIT_S = 60 };

static struct shared { atomic_ulong beat, forks, hung, failed; } * shared;

static _Atomic bool stop;
static _Atomic long forks_left;

struct bag {
    unsigned long random;
    unsigned char *block[BLOCKS];
    size_t size[BLOCKS];
};

static unsigned pick(struct bag *b, unsigned n) {
    b->random = b->random * 6364136223846793005UL + 1442695040888963407UL;
    return (unsigned)(b->random >> 33) % n;
}

// The first and last byte say the slot: memory given out twice is seen when it is freed.
static void put(struct bag *b, unsigned i, size_t size) {
    b->block[i] = malloc(size);
    b->size[i] = size;
    if (b->block[i] == NULL) {
        watch_say("alloc_storm: malloc of %zu bytes failed\n", size);
        atomic_fetch_add(&shared->failed, 1);
        return;
    }
    b->block[i][0] = b->block[i][size - 1] = (unsigned char)i;
}

static void drop(struct bag *b, unsigned i) {
    unsigned char *p = b->block[i];
    if (p != NULL && (p[0] != (unsigned char)i || p[b->size[i] - 1] != (unsigned char)i)) {
        watch_say("alloc_storm: pid %d: a block was overwritten\n", (int)getpid());
        atomic_fetch_add(&shared->failed, 1);
    }
    free(p);
    b->block[i] = NULL;
}

static void churn(struct bag *b, int rounds) {
    for (int n = 0; n < rounds; n++) {
        unsigned i = pick(b, BLOCKS);
        drop(b, i);
        // Now and then beyond what any per-thread cache holds, and what is mapped by itself.
        put(b, i, 1 + (pick(b, 64) == 0 ? pick(b, 300000) : pick(b, 2000)));
    }
}

static void drop_all(struct bag *b) {
    for (unsigned i = 0; i < BLOCKS; i++) {
        drop(b, i);
    }
}

static void *child_thread(void *arg) {
    struct bag b = {.random = (unsigned long)(uintptr_t)arg};
    churn(&b, 500);
    drop_all(&b);
    return NULL;
}

static void start_threads(pthread_t thread[2], const struct bag *b) {
    for (unsigned long i = 0; i < 2; i++) {
        int r = pthread_create(&thread[i], NULL, child_thread, (void *)(b->random + i));
        if (r != 0) {
            watch_say("alloc_storm: pthread_create in a child: %s\n", strerror(r));
            _exit(1);
        }
    }
}

_Noreturn static void grandchild(struct bag *b) {
    pthread_t thread[2];
    watch_die_after(CHILD_LIMIT_S);
    start_threads(thread, b);
    churn(b, 500);
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
    }
    drop_all(b);
    _exit(0);
}

_Noreturn static void child(struct bag *b) {
    pthread_t thread[2];
    watch_die_after(2 * CHILD_LIMIT_S);
    churn(b, 500);
    start_threads(thread, b);
    pid_t pid = fork();
    if (pid == 0) {
        grandchild(b);
    }
    int status = pid < 0 ? 1 << 8 : watch_child(pid, CHILD_LIMIT_S / 2, "grandchild");
    if (status != 0) {
        watch_say("alloc_storm: a grandchild came to %s\n", watch_status(status));
        _exit(1);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
    }
    drop_all(b);
    _exit(0);
}

static void fork_once(struct bag *b) {
    pid_t pid = fork();
    if (pid == 0) {
        child(b);
    }
    atomic_fetch_add(&shared->forks, 1);
    int status = pid < 0 ? 1 << 8 : watch_child(pid, CHILD_LIMIT_S, "child");
    if (status == WATCH_HUNG) {
        atomic_fetch_add(&shared->hung, 1);
    } else if (status != 0) {
        watch_say("alloc_storm: a child came to %s\n", watch_status(status));
        atomic_fetch_add(&shared->failed, 1);
    }
    atomic_fetch_add(&shared->beat, 1);
}

static void *forker(void *arg) {
    struct bag b = {.random = (unsigned long)(uintptr_t)arg};
    while (atomic_fetch_sub(&forks_left, 1) > 0 && shared->hung < 5) {
        churn(&b, 200);
        fork_once(&b);
    }
    drop_all(&b);
    return NULL;
}

static void *allocator(void *arg) {
    struct bag b = {.random = (unsigned long)(uintptr_t)arg};
    while (!atomic_load(&stop)) {
        churn(&b, 100);
    }
    drop_all(&b);
    return NULL;
}

static bool is_mapped(const char *module) {
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps != NULL && !found && fgets(line, sizeof line, maps) != NULL) {
        found = strstr(line, module) != NULL;
    }
    if (maps != NULL) {
        fclose(maps);
    }
    return found;
}

static int run(int argc, char **argv) {
    pthread_t thread[THREADS];
    forks_left = atol(argv[1]);
    for (int i = 2; i < argc; i++) {
        if (!is_mapped(argv[i])) {
            watch_say("alloc_storm: %s is not loaded\n", argv[i]);
            return 2;
        }
    }
    for (unsigned long i = 0; i < THREADS; i++) {
        void *(*start)(void *) = i < FORKERS ? forker : allocator;
        int r = pthread_create(&thread[i], NULL, start, (void *)(i + 1));
        if (r != 0) {
            watch_say("alloc_storm: pthread_create: %s\n", strerror(r));
            return 2;
        }
    }
    for (int i = 0; i < THREADS; i++) {
        if (i == FORKERS) {
            atomic_store(&stop, true);
        }
        pthread_join(thread[i], NULL);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2 || atol(argv[1]) <= 0) {
        fprintf(stderr, "usage: %s FORKS [MODULE...]\n", argv[0]);
        return 2;
    }
    shared = watch_shared(sizeof *shared);
    int status = watch_monitor(run, argc, argv, PROGRESS_LIMIT_S, &shared->beat);
    if (status == WATCH_HUNG) {
        shared->hung++;
    } else if (status != 0) {
        shared->failed++;
    }
    printf("alloc_storm: %lu forks, %lu hung, %lu failed\n", shared->forks, shared->hung,
           shared->failed);
    return shared->hung == 0 && shared->failed == 0 && shared->forks == (unsigned long)atol(argv[1])
               ? 0
               : 1;
}
