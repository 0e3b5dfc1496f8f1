/*
 * loader.c: the dynamic linker's locks. glibc's fork frees one of the two in the child; the one of
 * the list of modules stays as it was.
 */
#include "storm.h"

#include <dlfcn.h>
#include <link.h>
#include <setjmp.h>

enum { FORKS = 200 };

static struct hz_event turning, stop, inside, go_on;

/* ---- calls for the storms ---- */

static int count_module(struct dl_phdr_info *module, size_t size, void *count) {
    (void)module, (void)size;
    ++*(unsigned *)count;
    return 0;
}

static int call_iterate(void) {
    unsigned modules = 0;
    dl_iterate_phdr(count_module, &modules);
    HZ_TRUE(modules >= 2);
    return HZ_OK;
}

static int call_dlopen(void) {
    void *module = dlopen("libanl.so.1", RTLD_NOW);
    HZ_TRUE(module != NULL);
    HZ_IS(dlclose(module), 0);
    return HZ_OK;
}

static int call_dlsym(void) {
    HZ_TRUE(dlsym(RTLD_DEFAULT, "malloc") != NULL);
    HZ_TRUE(dlsym(RTLD_NEXT, "malloc") != NULL);
    Dl_info info;
    HZ_TRUE(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) != 0);
    return HZ_OK;
}

/* The plugins lie beside this program. */
static const char *beside(const char *name, char *path, size_t size) {
    ssize_t length = readlink("/proc/self/exe", path, size - 1);
    HZ_SETUP(length > 0);
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    snprintf(slash + 1, size - (size_t)(slash + 1 - path), "%s", name);
    return path;
}

static void *(*caller_opens)(const char *name);

static int load_caller(void) {
    char path[512];
    void *plugin = dlopen(beside("libcaller.so", path, sizeof path), RTLD_NOW);
    HZ_TRUE(plugin != NULL);
    *(void **)&caller_opens = dlsym(plugin, "caller_opens");
    HZ_TRUE(caller_opens != NULL);
    return HZ_OK;
}

static int call_runpath(void) {
    void *module = caller_opens("libprivate.so");
    HZ_TRUE(module != NULL);
    int (*answer)(void);
    *(void **)&answer = dlsym(module, "private_answer");
    HZ_TRUE(answer != NULL && answer() == 42);
    HZ_IS(dlclose(module), 0);
    return HZ_OK;
}

/* ---- storms ---- */

static int then_iterate(int (*call)(void)) {
    HZ_TRY(call());
    return call_iterate();
}
static int call_dlopen_and_look(void) { return then_iterate(call_dlopen); }
static int call_runpath_and_look(void) { return then_iterate(call_runpath); }

static const struct storm storm_iterate = {call_iterate, FORKS};
static const struct storm storm_dlopen = {call_dlopen_and_look, FORKS};
static const struct storm storm_dlsym = {call_dlsym, FORKS};
static const struct storm storm_runpath = {call_runpath_and_look, FORKS};

static int runpath_storm(const void *arg) {
    HZ_TRY(load_caller());
    HZ_TRUE(dlopen("libprivate.so", RTLD_NOW) == NULL); /* not on our own path */
    return storm_run(arg);
}

/* ---- the program's own code inside the dynamic linker ---- */

static int loads_and_iterates(void *arg) {
    (void)arg;
    HZ_TRY(call_dlopen());
    HZ_TRY(call_iterate());
    return hz_elsewhere((int (*)(void *))(void (*)(void))call_iterate, NULL);
}

static pid_t forked_inside = -1;

static int fork_in_callback(struct dl_phdr_info *module, size_t size, void *unused) {
    (void)module, (void)size, (void)unused;
    forked_inside = fork();
    return 1;
}

static int callback_forks(const void *arg) {
    (void)arg;
    dl_iterate_phdr(fork_in_callback, NULL);
    if (forked_inside == 0) {
        hz_end_with(loads_and_iterates, NULL);
    }
    HZ_TRY(hz_wait(forked_inside));
    return loads_and_iterates(NULL);
}

/* ---- another thread waits for the lock that the callback's caller holds ---- */

static struct hz_thread behind;

static int iterates(void *arg) {
    (void)arg;
    int count = 0;
    dl_iterate_phdr(count_module, &count);
    return count > 0 ? HZ_OK : HZ_WRONG;
}

static int fork_before_a_waiter(struct dl_phdr_info *module, size_t size, void *ms) {
    (void)module, (void)size;
    hz_start(&behind, iterates, NULL);
    hz_until_stuck(&behind);
    int64_t before = hz_now_ms(CLOCK_MONOTONIC);
    forked_inside = fork();
    *(int64_t *)ms = hz_now_ms(CLOCK_MONOTONIC) - before;
    return 1;
}

/* It cannot get any further before the fork: nobody waits for it. */
static int callback_forks_before_waiter(const void *arg) {
    int64_t ms = 0;
    (void)arg;
    dl_iterate_phdr(fork_before_a_waiter, &ms);
    if (forked_inside == 0) {
        hz_end_with(loads_and_iterates, NULL);
    }
    HZ_TRY(hz_wait(forked_inside));
    HZ_TRUE(ms < hz_deadline_ms() / 2);
    return hz_finish(&behind);
}

static int stay_in_callback(struct dl_phdr_info *module, size_t size, void *unused) {
    (void)module, (void)size, (void)unused;
    hz_post(&inside);
    hz_await(&go_on, 1);
    return 1;
}

static int stays_in_callback(void *arg) {
    (void)arg;
    dl_iterate_phdr(stay_in_callback, NULL);
    return HZ_OK;
}

/* Longer than any deadline: what the child gets is forced. */
static int callback_stays(const void *arg) {
    (void)arg;
    struct hz_thread thread;
    hz_start(&thread, stays_in_callback, NULL);
    hz_await(&inside, 1);
    HZ_TRY(hz_children(3, loads_and_iterates, NULL));
    hz_post(&go_on);
    return hz_finish(&thread);
}

static sigjmp_buf out;

static int jump_out(struct dl_phdr_info *module, size_t size, void *unused) {
    (void)module, (void)size, (void)unused;
    siglongjmp(out, 1);
}

static int jumps_out_of_callback(void *arg) {
    (void)arg;
    if (sigsetjmp(out, 1) == 0) {
        dl_iterate_phdr(jump_out, NULL);
    }
    hz_post(&inside);
    hz_await(&go_on, 1);
    return HZ_OK;
}

static int callback_is_left(const void *arg) {
    (void)arg;
    struct hz_thread thread;
    hz_start(&thread, jumps_out_of_callback, NULL);
    hz_await(&inside, 1);
    HZ_TRY(hz_children(3, loads_and_iterates, NULL));
    hz_post(&go_on);
    return hz_finish(&thread);
}

/* ---- constructors ---- */

static void (*in_constructor)(void);
void loader_constructor(void);
void loader_constructor(void) {
    if (in_constructor != NULL) {
        in_constructor();
    }
}

static void fork_here(void) { forked_inside = fork(); }

static int constructor_forks(const void *arg) {
    (void)arg;
    in_constructor = fork_here;
    HZ_TRY(load_caller());
    in_constructor = NULL;
    if (forked_inside == 0) {
        hz_end_with(loads_and_iterates, NULL);
    }
    HZ_TRY(hz_wait(forked_inside));
    return loads_and_iterates(NULL);
}

static void stay_here(void) {
    hz_post(&inside);
    hz_await(&go_on, 1);
}

static int loads_slowly(void *arg) {
    (void)arg;
    in_constructor = stay_here;
    return load_caller();
}

static int constructor_stays(const void *arg) {
    (void)arg;
    struct hz_thread thread;
    hz_start(&thread, loads_slowly, NULL);
    hz_await(&inside, 1);
    HZ_TRY(hz_children(3, loads_and_iterates, NULL));
    hz_post(&go_on);
    return hz_finish(&thread);
}

static int look_long(struct dl_phdr_info *module, size_t size, void *count) {
    for (volatile int turns = 0; turns < 10000; turns++) {
    }
    return count_module(module, size, count);
}

static int iterates_slowly(void *arg) {
    (void)arg;
    int count = 0;
    for (int times = 0; times < 10; times++) {
        dl_iterate_phdr(look_long, &count);
    }
    HZ_TRUE(count > 0);
    return HZ_OK;
}

/* The constructor needs a thread that must pass the gate while the constructor's own waits; most of
 * the time that thread has the lock that a child iterates with. */
static void start_and_join(void) {
    struct hz_thread thread;
    hz_start(&thread, iterates_slowly, NULL);
    HZ_SETUP(hz_finish(&thread) == HZ_OK);
}

static int loads_with_a_thread(void *arg) {
    (void)arg;
    while (hz_seen(&stop) == 0) {
        char path[512];
        in_constructor = start_and_join;
        void *plugin = dlopen(beside("libcaller.so", path, sizeof path), RTLD_NOW);
        HZ_TRUE(plugin != NULL);
        HZ_IS(dlclose(plugin), 0);
        hz_post(&turning);
    }
    return HZ_OK;
}

static int constructor_starts_threads(const void *arg) {
    (void)arg;
    struct hz_thread thread;
    hz_start(&thread, loads_with_a_thread, NULL);
    hz_await(&turning, 1);
    HZ_TRY(hz_children(FORKS / 4, loads_and_iterates, NULL));
    hz_post(&stop);
    return hz_finish(&thread);
}

static const struct hazard hazards[] = {
    HAZARD_CHANCE("loader_iterate_storm", storm_run, &storm_iterate, HANGS,
                  "dl_iterate_phdr in other threads"),
    HAZARD_CHANCE("loader_dlopen_storm", storm_run, &storm_dlopen, EITHER,
                  "dlopen and dlclose in other threads"),
    HAZARD_CHANCE("loader_dlsym_storm", storm_run, &storm_dlsym, OK,
                  "dlsym and dladdr in other threads"),
    HAZARD_CHANCE("loader_runpath_storm", runpath_storm, &storm_runpath, EITHER,
                  "a library that is found through its loader's RUNPATH alone"),
    HAZARD("loader_callback_forks", callback_forks, HANGS, "fork in dl_iterate_phdr's callback"),
    HAZARD("loader_callback_forks_waiter", callback_forks_before_waiter, HANGS,
           "the same, while another thread waits for the lock that the callback is called with"),
    HAZARD("loader_callback_stays", callback_stays, HANGS,
           "another thread sleeps in dl_iterate_phdr's callback"),
    HAZARD("loader_callback_is_left", callback_is_left, HANGS,
           "another thread has jumped out of dl_iterate_phdr's callback"),
    HAZARD("loader_constructor_forks", constructor_forks, OK, "fork in a library's constructor"),
    HAZARD("loader_constructor_stays", constructor_stays, OK,
           "another thread sleeps in a library's constructor"),
    HAZARD_CHANCE("loader_constructor_threads", constructor_starts_threads, NULL, HANGS,
                  "a constructor in another thread starts a thread and joins it"),
};
HAZARD_MAIN(hazards)
