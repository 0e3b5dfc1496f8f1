/*
 * forks.c: every way to fork, and every place to fork from. The hazard is the plainest there is: a
 * mutex that a vanished thread holds.
 */
#include "hazard.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int lock(void *arg) {
    (void)arg;
    return pthread_mutex_lock(&mutex);
}

static int unlock(void *arg) {
    (void)arg;
    return pthread_mutex_unlock(&mutex);
}

/* For children of raw system calls too: no new threads, no stdio. */
static int turns(void *arg) {
    (void)arg;
    HZ_TRY(hz_mutex_turn(&mutex));
    return hz_mutex_is_free(&mutex);
}

static int works(void *arg) {
    HZ_TRY(turns(arg));
    return hz_mutex_works(&mutex);
}

static int handlers_run;

static void count_handler(void) { handlers_run++; }

static void count_handlers(void) { HZ_SETUP(pthread_atfork(count_handler, NULL, NULL) == 0); }

/* ---- the fork family ---- */

static int fork_by(pid_t (*forker)(void), int (*child)(void *), int handlers) {
    struct hz_holder holder;
    count_handlers();
    hz_forker = forker;
    hz_hold(&holder, lock, unlock, NULL);
    for (int i = 0; i < 3; i++) {
        HZ_TRY(hz_child(child, NULL));
    }
    HZ_IS(handlers_run, 3 * handlers);
    HZ_TRY(hz_let_go(&holder));
    hz_forker = fork;
    return works(NULL);
}

static pid_t fork_by_syscall(void) { return (pid_t)syscall(SYS_fork); }
static pid_t clone_by_syscall(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }

static int by_fork(const void *arg) {
    (void)arg;
    return fork_by(fork, works, 1);
}

/* _Fork runs no handlers, and promises only what is async-signal-safe. */
static int by_underscore_fork(const void *arg) {
    (void)arg;
    return fork_by(_Fork, turns, 0);
}

static int by_syscall_fork(const void *arg) {
    (void)arg;
    return fork_by(fork_by_syscall, turns, 0);
}

static int by_syscall_clone(const void *arg) {
    (void)arg;
    return fork_by(clone_by_syscall, turns, 0);
}

static int by_clone(const void *arg) {
    static char stack[256 * 1024] __attribute__((aligned(16)));
    struct hz_holder holder;
    (void)arg;
    hz_hold(&holder, lock, unlock, NULL);
    pid_t pid = clone(turns, stack + sizeof stack, SIGCHLD, NULL);
    HZ_SETUP(pid > 0);
    HZ_TRY(hz_wait(pid));
    HZ_TRY(hz_let_go(&holder));
    return works(NULL);
}

static int by_forkpty(const void *arg) {
    struct hz_holder holder;
    int terminal = -1, out = dup(STDERR_FILENO);
    (void)arg;
    hz_hold(&holder, lock, unlock, NULL);
    pid_t pid = forkpty(&terminal, NULL, NULL, NULL);
    if (pid < 0) {
        hz_say("skipped: no pseudo-terminal: %s", hz_errno_name(errno));
        return HZ_SKIP;
    }
    if (pid == 0) {
        dup2(out, STDERR_FILENO);
        _exit(works(NULL));
    }
    HZ_TRY(hz_wait(pid));
    close(terminal);
    HZ_TRY(hz_let_go(&holder));
    return works(NULL);
}

/* What a process tells that is nobody's child any more. */
struct board {
    struct hz_event done;
    int verdict;
};

static struct board *shared_board(void) {
    struct board *board =
        mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    HZ_SETUP(board != MAP_FAILED);
    return board;
}

static int await_board(struct board *board) {
    int64_t deadline = hz_now_ms(CLOCK_MONOTONIC) + hz_limit_ms();
    while (hz_seen(&board->done) == 0) {
        if (hz_now_ms(CLOCK_MONOTONIC) > deadline) {
            hz_say("the daemon hung");
            return HZ_HUNG;
        }
        hz_sleep_us(1000);
    }
    return board->verdict;
}

/* Becomes a daemon: the process that called ends with 0, in daemon(). */
static int becomes_daemon(void *arg) {
    struct board *board = arg;
    struct hz_holder holder;
    hz_hold(&holder, lock, unlock, NULL);
    if (daemon(1, 1) != 0) {
        return HZ_BROKEN;
    }
    board->verdict = works(NULL);
    hz_post(&board->done);
    return board->verdict;
}

static int by_daemon(const void *arg) {
    struct board *board = shared_board();
    (void)arg;
    HZ_TRY(hz_child(becomes_daemon, board));
    return await_board(board);
}

/* ---- relatives that share memory, or go straight to exec: as before, whoever holds whatever ----
 */

static int status_is(int status, int want) {
    HZ_TRUE(WIFEXITED(status));
    HZ_IS(WEXITSTATUS(status), want);
    return HZ_OK;
}

static int wait_for_exec(pid_t pid) {
    int status = 0;
    HZ_TRUE(pid > 0);
    HZ_IS(waitpid(pid, &status, 0), pid);
    return status_is(status, 7);
}

static int run_vfork(void) {
    pid_t pid = vfork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
        _exit(127);
    }
    return wait_for_exec(pid);
}

static int run_vfork_exit(void) {
    pid_t pid = vfork();
    if (pid == 0) {
        _exit(7);
    }
    return wait_for_exec(pid);
}

static int run_spawn(void) {
    char sh[] = "sh", dash_c[] = "-c", command[] = "exit 7";
    char *argv[] = {sh, dash_c, command, NULL};
    pid_t pid = -1;
    HZ_IS(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ), 0);
    return wait_for_exec(pid);
}

static int run_system(void) { return status_is(system("exit 7"), 7); }

static int run_popen(void) {
    char line[16] = "";
    FILE *pipe = popen("echo hello; exit 7", "r");
    HZ_TRUE(pipe != NULL);
    HZ_TRUE(fgets(line, sizeof line, pipe) != NULL);
    HZ_TRUE(strcmp(line, "hello\n") == 0);
    return status_is(pclose(pipe), 7);
}

static int run_beside_holder(int (*run)(void)) {
    struct hz_holder holder;
    struct hz_churn churn;
    struct hz_pair pair;
    pthread_mutex_t other = PTHREAD_MUTEX_INITIALIZER;
    count_handlers();
    hz_pair_init(&pair, hz_mutex_lock, hz_mutex_unlock, &other);
    hz_hold(&holder, lock, unlock, NULL);
    hz_churn_start(&churn, &pair, 1);
    for (int i = 0; i < 20; i++) {
        HZ_TRY(run());
    }
    HZ_IS(handlers_run, 0);
    HZ_TRY(hz_churn_stop(&churn));
    return hz_let_go(&holder);
}

static int vfork_exec(const void *arg) {
    (void)arg;
    return run_beside_holder(run_vfork);
}

static int vfork_exit(const void *arg) {
    (void)arg;
    return run_beside_holder(run_vfork_exit);
}

static int spawn(const void *arg) {
    (void)arg;
    return run_beside_holder(run_spawn);
}

static int call_system(const void *arg) {
    (void)arg;
    return run_beside_holder(run_system);
}

static int call_popen(const void *arg) {
    (void)arg;
    return run_beside_holder(run_popen);
}

/* ---- a thread that waits for a child to exec delays nobody ---- */

static int vfork_begun[2], vfork_go[2];

static int vfork_and_wait(void *arg) {
    (void)arg;
    pid_t pid = vfork();
    if (pid == 0) {
        char byte = 'x';
        if (write(vfork_begun[1], &byte, 1) != 1 || read(vfork_go[0], &byte, 1) != 1) {
            _exit(1);
        }
        execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
        _exit(127);
    }
    return wait_for_exec(pid);
}

/* The forks are over before the vfork child is told to go on: had they waited for it, they would
 * hang. */
static int beside_vfork(const void *arg) {
    struct hz_thread thread;
    char byte = 0;
    (void)arg;
    HZ_SETUP(pipe(vfork_begun) == 0 && pipe(vfork_go) == 0);
    hz_start(&thread, vfork_and_wait, NULL);
    HZ_SETUP(read(vfork_begun[0], &byte, 1) == 1);
    HZ_TRY(hz_children(10, works, NULL));
    HZ_SETUP(write(vfork_go[1], &byte, 1) == 1);
    return hz_finish(&thread);
}

struct fifos {
    char directory[32], begun[48], go[48];
};

static int spawn_and_wait(void *arg) {
    struct fifos *fifos = arg;
    char sh[] = "sh", dash_c[] = "-c", command[] = "exit 7";
    char *argv[] = {sh, dash_c, command, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 8, fifos->begun, O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 9, fifos->go, O_RDONLY, 0);
    HZ_IS(posix_spawn(&pid, "/bin/sh", &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    return wait_for_exec(pid);
}

/* The spawned child opens two FIFOs before it executes, and each open waits for its other end. */
static int beside_spawn(const void *arg) {
    struct hz_thread thread;
    struct fifos fifos = {.directory = "/tmp/hazard.XXXXXX"};
    (void)arg;
    HZ_SETUP(mkdtemp(fifos.directory) != NULL);
    snprintf(fifos.begun, sizeof fifos.begun, "%s/begun", fifos.directory);
    snprintf(fifos.go, sizeof fifos.go, "%s/go", fifos.directory);
    HZ_SETUP(mkfifo(fifos.begun, 0600) == 0 && mkfifo(fifos.go, 0600) == 0);
    hz_start(&thread, spawn_and_wait, &fifos);
    int begun = open(fifos.begun, O_RDONLY);
    unlink(fifos.begun);
    int verdict = hz_children(10, works, NULL);
    int go = open(fifos.go, O_WRONLY);
    unlink(fifos.go);
    rmdir(fifos.directory);
    HZ_SETUP(begun >= 0 && go >= 0);
    HZ_TRY(verdict);
    return hz_finish(&thread);
}

/* ---- where the fork comes from ---- */

static int handler_verdict;

static void fork_in_handler(int signo) {
    (void)signo;
    handler_verdict = hz_child(turns, NULL);
}

static void handle(int signo, void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    HZ_SETUP(sigaction(signo, &action, NULL) == 0);
}

static int from_signal_handler(const void *arg) {
    struct hz_holder holder;
    (void)arg;
    handle(SIGUSR1, fork_in_handler);
    hz_hold(&holder, lock, unlock, NULL);
    for (int i = 0; i < 3; i++) {
        HZ_SETUP(raise(SIGUSR1) == 0);
        HZ_TRY(handler_verdict);
    }
    HZ_TRY(hz_let_go(&holder));
    return works(NULL);
}

/* The signal comes while the survivor itself is in the middle of its own lock and unlock calls. */
static volatile sig_atomic_t in_child, handler_forks;

static void fork_and_return(int signo) {
    (void)signo;
    int saved = errno;
    if (!in_child && handler_verdict == HZ_OK) {
        pid_t pid = fork();
        in_child = pid == 0;
        if (pid != 0) {
            handler_verdict = pid < 0 ? HZ_BROKEN : hz_wait(pid);
            handler_forks = handler_forks + 1;
        }
    }
    errno = saved;
}

static int lock_until(int forks) {
    static const struct hz_mutex_kind kind = {.type = PTHREAD_MUTEX_ERRORCHECK};
    pthread_mutex_t checked;
    HZ_MUTEX_OR_SKIP(&checked, &kind);
    while (handler_forks < forks && handler_verdict == HZ_OK) {
        int was_child = in_child;
        HZ_IS(pthread_mutex_lock(&checked), 0);
        HZ_IS(pthread_mutex_unlock(&checked), 0);
        if (was_child) {
            _exit(HZ_OK);
        }
    }
    return handler_verdict;
}

static int from_handler_in_lock_call(const void *arg) {
    struct hz_bystander bystander;
    sigset_t alarm_only;
    (void)arg;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm_only, NULL);
    hz_bystander_start(&bystander);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    handle(SIGALRM, fork_and_return);
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    HZ_SETUP(setitimer(ITIMER_REAL, &often, NULL) == 0);
    int verdict = lock_until(300);
    if (in_child) {
        _exit(verdict);
    }
    HZ_SETUP(setitimer(ITIMER_REAL, &never, NULL) == 0);
    HZ_TRY(verdict);
    return hz_bystander_stop(&bystander);
}

struct detached {
    struct hz_event done;
    int verdict;
};

static void *detached_body(void *arg) {
    struct detached *detached = arg;
    detached->verdict = hz_child(works, NULL);
    hz_post(&detached->done);
    return NULL;
}

static int from_detached_thread(const void *arg) {
    static struct detached detached;
    struct hz_holder holder;
    pthread_attr_t attr;
    pthread_t thread;
    (void)arg;
    hz_hold(&holder, lock, unlock, NULL);
    pthread_attr_init(&attr);
    HZ_SETUP(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0);
    HZ_SETUP(pthread_create(&thread, &attr, detached_body, &detached) == 0);
    hz_await(&detached.done, 1);
    HZ_TRY(detached.verdict);
    return hz_let_go(&holder);
}

static int forks_thrice(void *arg) { return hz_children(3, works, arg); }

/* Here it is the main thread that holds the mutex and vanishes; a hundred threads came and went
 * before. */
static int from_other_thread(const void *arg) {
    (void)arg;
    for (int i = 0; i < 100; i++) {
        HZ_TRY(hz_elsewhere(hz_nothing, NULL));
    }
    HZ_SETUP(pthread_mutex_lock(&mutex) == 0);
    HZ_TRY(hz_elsewhere(forks_thrice, NULL));
    HZ_IS(pthread_mutex_unlock(&mutex), 0);
    return works(NULL);
}

/*
 * The main thread has ended by pthread_exit; the process lives on, and forks. Its process id is
 * that of a dead thread then, without memory: whoever asks the kernel by that id (process_vm_readv,
 * /proc) is told nothing.
 */
static pthread_t main_thread;
static struct hz_pair slow_pair;
static struct hz_event slow_inside, slow_stop;

static int slow_turns(void *arg) {
    (void)arg;
    while (hz_seen(&slow_stop) == 0) {
        HZ_IS(pthread_mutex_lock(&mutex), 0);
        slow_pair.first = slow_pair.first + 1;
        hz_post(&slow_inside);
        hz_sleep_us(50000);
        slow_pair.second = slow_pair.second + 1;
        HZ_IS(pthread_mutex_unlock(&mutex), 0);
    }
    return HZ_OK;
}

static int pair_is_sound(void *arg) {
    (void)arg;
    return hz_pair_sound(&slow_pair);
}

static int forks_beside_slow(void) {
    struct hz_thread thread;
    hz_pair_init(&slow_pair, lock, unlock, NULL);
    hz_start(&thread, slow_turns, NULL);
    for (int i = 0; i < 5; i++) {
        hz_await(&slow_inside, hz_seen(&slow_inside) + 1);
        HZ_TRY(hz_child(pair_is_sound, NULL));
    }
    hz_post(&slow_stop);
    return hz_finish(&thread);
}

static int forks_beside_holder(void) {
    struct hz_holder holder;
    hz_hold(&holder, lock, unlock, NULL);
    HZ_TRY(hz_children(20, works, NULL));
    return hz_let_go(&holder);
}

/* pthread_join returns a moment before the kernel is done with the thread. */
static int main_is_dead(void) {
    char state = '?';
    FILE *file = fopen("/proc/self/stat", "r");
    HZ_SETUP(file != NULL && fscanf(file, "%*d %*[^)]) %c", &state) == 1);
    fclose(file);
    return state == 'Z';
}

static int after_main(void *rest) {
    HZ_SETUP(pthread_join(main_thread, NULL) == 0);
    while (!main_is_dead()) {
        hz_sleep_us(500);
    }
    return rest ? forks_beside_slow() : forks_beside_holder();
}

static void *end_after_main(void *rest) {
    hz_end_with(after_main, rest);
    return NULL;
}

static int main_ends(void *rest) {
    pthread_t thread;
    main_thread = pthread_self();
    HZ_SETUP(pthread_create(&thread, NULL, end_after_main, rest) == 0);
    pthread_exit(NULL);
}

static int after_main_held(const void *arg) {
    (void)arg;
    return main_ends(NULL);
}

static int after_main_released_soon(const void *arg) {
    (void)arg;
    return main_ends(&slow_pair);
}

static int forks_25(void *arg) { return hz_children(25, hz_churn_child, arg); }

static int several_at_once(const void *arg) {
    enum { LOCKS = 3, FORKERS = 4 };
    pthread_mutex_t mutexes[LOCKS];
    struct hz_pair pairs[LOCKS];
    struct hz_churn churn;
    struct hz_thread forkers[FORKERS];
    (void)arg;
    for (int i = 0; i < LOCKS; i++) {
        HZ_SETUP(pthread_mutex_init(&mutexes[i], NULL) == 0);
        hz_pair_init(&pairs[i], hz_mutex_lock, hz_mutex_unlock, &mutexes[i]);
    }
    hz_churn_start(&churn, pairs, LOCKS);
    for (int i = 0; i < FORKERS; i++) {
        hz_start(&forkers[i], forks_25, &churn);
    }
    for (int i = 0; i < FORKERS; i++) {
        HZ_TRY(hz_finish(&forkers[i]));
    }
    return hz_churn_stop(&churn);
}

/* One who waits for a turn to fork while it holds a mutex, half-way through a change, forks before
 * those who hold nothing: their children find both halves changed. */
static struct hz_pair half_changed;

static int forks_half_way(void *arg) {
    (void)arg;
    for (int i = 0; i < 50; i++) {
        HZ_IS(half_changed.lock(half_changed.what), 0);
        half_changed.first = half_changed.first + 1;
        int status = hz_child(hz_nothing, NULL);
        half_changed.second = half_changed.second + 1;
        HZ_IS(half_changed.unlock(half_changed.what), 0);
        HZ_TRY(status);
    }
    return HZ_OK;
}

static int look_at_both(void *arg) { return hz_pair_sound(arg); }
static int forks_between(void *arg) { return hz_children(50, look_at_both, arg); }

static int holders_fork_first(const void *arg) {
    enum { FORKERS = 4 };
    struct hz_thread forkers[FORKERS];
    (void)arg;
    hz_pair_init(&half_changed, hz_mutex_lock, hz_mutex_unlock, &mutex);
    for (int i = 0; i < FORKERS; i++) {
        hz_start(&forkers[i], i % 2 == 0 ? forks_half_way : forks_between, &half_changed);
    }
    for (int i = 0; i < FORKERS; i++) {
        HZ_TRY(hz_finish(&forkers[i]));
    }
    return HZ_OK;
}

/* ---- again and again ---- */

enum { GENERATIONS = 3 };

static pthread_mutex_t inherited[GENERATIONS + 1];

/* Each generation takes what all before it left locked, and leaves one more to the next, twice. */
static int generation(void *arg) {
    int depth = *(int *)arg;
    for (int i = 0; i < depth; i++) {
        HZ_TRY(hz_mutex_works(&inherited[i]));
    }
    if (depth > GENERATIONS) {
        return HZ_OK;
    }
    struct hz_holder holder;
    int next = depth + 1;
    hz_hold(&holder, hz_mutex_lock, hz_mutex_unlock, &inherited[depth]);
    HZ_TRY(hz_children(2, generation, &next));
    HZ_TRY(hz_let_go(&holder));
    return hz_mutex_works(&inherited[depth]);
}

static int generations(const void *arg) {
    int first = 0;
    (void)arg;
    for (int i = 0; i <= GENERATIONS; i++) {
        HZ_SETUP(pthread_mutex_init(&inherited[i], NULL) == 0);
    }
    return generation(&first);
}

/* Two children at the same time: the second fork comes while the first child lives, and before it
 * did anything. */
static int twice_in_a_row(const void *arg) {
    struct hz_holder holder;
    struct board *board = shared_board();
    pid_t pids[2];
    (void)arg;
    hz_hold(&holder, lock, unlock, NULL);
    for (int i = 0; i < 2; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            hz_await(&board->done, 1);
            _exit(works(NULL));
        }
        HZ_SETUP(pids[i] > 0);
    }
    hz_post(&board->done);
    HZ_TRY(hz_wait(pids[0]));
    HZ_TRY(hz_wait(pids[1]));
    return hz_let_go(&holder);
}

/* ---- a fork that fails ---- */

/* As a user who may have no more processes: neither root nor CAP_SYS_RESOURCE, whom the limit does
 * not bind. */
static int fails_with_eagain(const void *arg) {
    struct rlimit limit;
    struct hz_churn churn;
    struct hz_pair pair;
    (void)arg;
    if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) {
        hz_say("skipped: cannot become an ordinary user");
        return HZ_SKIP;
    }
    hz_pair_init(&pair, hz_mutex_lock, hz_mutex_unlock, &mutex);
    hz_churn_start(&churn, &pair, 1);
    HZ_SETUP(getrlimit(RLIMIT_NPROC, &limit) == 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 1;
    HZ_SETUP(setrlimit(RLIMIT_NPROC, &limit) == 0);
    for (int i = 0; i < 20; i++) {
        errno = 0;
        HZ_IS(fork(), -1);
        HZ_IS(errno, EAGAIN);
        long turn = __atomic_load_n(&pair.second, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&pair.second, __ATOMIC_SEQ_CST) < turn + 2) {
            hz_sleep_us(100); /* the world runs on */
        }
    }
    limit.rlim_cur = before;
    HZ_SETUP(setrlimit(RLIMIT_NPROC, &limit) == 0);
    HZ_TRY(hz_child(hz_nothing, NULL));
    return hz_churn_stop(&churn);
}

static const struct hazard hazards[] = {
    HAZARD("fork_fork", by_fork, HANGS, "fork"),
    HAZARD("fork_underscore", by_underscore_fork, HANGS, "_Fork: no handlers"),
    HAZARD("fork_forkpty", by_forkpty, HANGS, "forkpty"),
    HAZARD("fork_daemon", by_daemon, HANGS, "daemon(1, 1)"),
    HAZARD("fork_clone", by_clone, HANGS, "clone without CLONE_VM, on a stack of its own"),
    HAZARD("fork_syscall_clone", by_syscall_clone, HANGS, "syscall(SYS_clone, SIGCHLD)"),
    HAZARD("fork_syscall_fork", by_syscall_fork, HANGS, "syscall(SYS_fork)"),
    HAZARD("fork_vfork_exec", vfork_exec, OK, "vfork and exec beside a holder"),
    HAZARD("fork_vfork_exit", vfork_exit, OK, "vfork and _exit beside a holder"),
    HAZARD("fork_posix_spawn", spawn, OK, "posix_spawn beside a holder"),
    HAZARD("fork_system", call_system, OK, "system beside a holder"),
    HAZARD("fork_popen", call_popen, OK, "popen beside a holder"),
    HAZARD("fork_beside_vfork", beside_vfork, OK,
           "another thread waits in vfork for a slow child: the fork does not"),
    HAZARD("fork_beside_spawn", beside_spawn, OK,
           "another thread waits in posix_spawn for a slow child: the fork does not"),
    HAZARD("fork_in_handler", from_signal_handler, HANGS, "from a signal handler"),
    HAZARD_CHANCE("fork_in_handler_in_lock", from_handler_in_lock_call, NULL, EITHER,
                  "from a signal handler in the middle of the survivor's own lock calls"),
    HAZARD("fork_in_detached", from_detached_thread, HANGS, "from a detached thread"),
    HAZARD("fork_in_thread", from_other_thread, HANGS, "from a thread, the main thread vanishes"),
    HAZARD("fork_after_main", after_main_held, HANGS, "from a thread, the main thread has ended"),
    HAZARD_PATIENT("fork_after_main_released_soon", after_main_released_soon, NULL, HANGS,
                   "the main thread has ended; held for 50 ms at a time: the fork waits"),
    HAZARD_CHANCE("fork_several_at_once", several_at_once, NULL, EITHER,
                  "four threads fork 25 times each"),
    HAZARD_CHANCE("fork_holders_first", holders_fork_first, NULL, EITHER,
                  "threads fork while they hold a mutex, beside threads that fork without"),
    HAZARD("fork_generations", generations, HANGS,
           "three generations, each with threads and a holder of its own"),
    HAZARD("fork_twice", twice_in_a_row, HANGS, "twice in a row, both children alive"),
    HAZARD("fork_eagain", fails_with_eagain, OK,
           "fails with EAGAIN: errno kept, the world runs on"),
};
HAZARD_MAIN(hazards)
