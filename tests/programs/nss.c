/*
 * nss.c: look-ups whose module (plugins/nss_forksafe.c) calls back into this program, which locks,
 * waits, forks, or never comes back; and calls that stay inside libc for longer than a fork waits.
 */
#include "hazard.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <nss.h>
#include <pwd.h>
#include <resolv.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <syslog.h>

enum { FORKS = 200, LOOKERS = 3, USER = 4242 };

/* The module calls this in the middle of each look-up. */
static __thread void (*in_module)(void);
void nss_callback(void);
void nss_callback(void) {
    if (in_module != NULL) {
        in_module();
    }
}

/* ---- look-ups ---- */

/* Holds a lock of its own as long as the module runs. */
static int look_up(void) {
    struct passwd *user = getpwnam("fstest");
    HZ_TRUE(user != NULL && user->pw_uid == USER);
    return HZ_OK;
}

/* Holds none meanwhile. */
static int look_up_r(void) {
    struct passwd entry, *user = NULL;
    char buffer[2048];
    HZ_IS(getpwnam_r("fstest", &entry, buffer, sizeof buffer, &user), 0);
    HZ_TRUE(user == &entry && entry.pw_uid == USER);
    return HZ_OK;
}

static void route_look_ups(void) {
    HZ_SETUP(__nss_configure_lookup("passwd", "fstest files") == 0);
    HZ_SETUP(look_up() == HZ_OK);
}

/* ---- what a child does ---- */

static int uses_libc(void *arg) {
    (void)arg;
    time_t now = time(NULL);
    struct tm tm;
    HZ_TRY(look_up_r());
    HZ_TRUE(localtime_r(&now, &tm) != NULL);
    void *volatile memory = malloc(100);
    HZ_TRUE(memory != NULL);
    free(memory);
    return HZ_OK;
}

static int uses_it_all(void *arg) {
    HZ_TRY(uses_libc(arg));
    return look_up();
}

/* ---- a fork that waits for nobody ---- */

static int fork_is_quick(void *arg) {
    pid_t pid;
    int64_t ms;
    (void)arg;
    HZ_TRY(hz_fork_timed(uses_it_all, &pid, &ms));
    if (ms >= hz_deadline_ms() / 2) {
        hz_say("the fork took %ld ms: who did it wait for?", (long)ms);
        return HZ_WRONG;
    }
    return HZ_OK;
}

/* ---- threads that look up all the time ---- */

/*
 * When they stop, they are outside of any look-up, but make no call that would tell forksafe so, and
 * neither does the thread that stops them: had one left something of a look-up behind, the fork in
 * yet another thread would wait for it. Static: threads use it even after a failure.
 */
static struct {
    int (*look)(void);
    struct hz_thread threads[LOOKERS], forker;
    struct hz_event looking, stop, stopped, forked, end;
} lookers;

static void tell(struct hz_event *event) { __atomic_add_fetch(&event->count, 1, __ATOMIC_SEQ_CST); }

static void spin_until(struct hz_event *event, int times) {
    while (hz_seen(event) < times) {
    }
}

static int looker_body(void *arg) {
    int verdict = HZ_OK;
    (void)arg;
    hz_post(&lookers.looking);
    do {
        verdict = lookers.look();
    } while (verdict == HZ_OK && hz_seen(&lookers.stop) == 0);
    tell(&lookers.stopped);
    spin_until(&lookers.end, 1);
    return verdict;
}

static int forks_when_stopped(void *arg) {
    while (hz_seen(&lookers.stopped) < LOOKERS) {
        hz_sleep_us(1000);
    }
    int verdict = fork_is_quick(arg);
    tell(&lookers.forked);
    return verdict;
}

static void lookers_start(int (*look)(void)) {
    lookers.look = look;
    for (int i = 0; i < LOOKERS; i++) {
        hz_start(&lookers.threads[i], looker_body, NULL);
    }
    hz_start(&lookers.forker, forks_when_stopped, NULL);
    hz_await(&lookers.looking, LOOKERS);
}

static int lookers_stop(void) {
    tell(&lookers.stop);
    spin_until(&lookers.forked, 1);
    tell(&lookers.end);
    int verdict = hz_finish(&lookers.forker);
    for (int i = 0; i < LOOKERS; i++) {
        verdict |= hz_finish(&lookers.threads[i]);
    }
    return verdict;
}

struct look_ups {
    int (*look)(void);
    int (*child)(void *);
};

static int fork_beside(void *arg) {
    const struct look_ups *look_ups = (const struct look_ups *)arg;
    lookers_start(look_ups->look);
    HZ_TRY(hz_children(FORKS, look_ups->child, NULL));
    return lookers_stop();
}

static int lookers_forks(int (*look)(void), int (*child)(void *)) {
    struct look_ups look_ups = {look, child};
    route_look_ups();
    return hz_elsewhere(fork_beside, &look_ups);
}

/* ---- the module takes a lock of the program ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct hz_pair pair = {hz_mutex_lock, hz_mutex_unlock, &lock, 0, 0};

static int finds_pair_sound(void *arg) {
    HZ_TRY(hz_pair_sound(&pair));
    return uses_it_all(arg);
}

static void turn_in_module(void) { HZ_SETUP(hz_pair_turn(&pair) == HZ_OK); }

static int look_and_turn(void) {
    in_module = turn_in_module;
    return look_up();
}

static int module_locks(const void *arg) {
    (void)arg;
    return lookers_forks(look_and_turn, finds_pair_sound);
}

static void lock_in_module(void) {
    HZ_SETUP(pthread_mutex_lock(&lock) == 0);
    pair.first = pair.first + 1;
}

/* Taken inside the look-up, released after it. */
static int look_and_keep(void) {
    in_module = lock_in_module;
    int verdict = look_up();
    pair.second = pair.second + 1;
    HZ_IS(pthread_mutex_unlock(&lock), 0);
    return verdict;
}

static int module_keeps_lock(const void *arg) {
    (void)arg;
    return lookers_forks(look_and_keep, finds_pair_sound);
}

/* ---- the module waits for an answer, through a pipe ---- */

static int questions[2], answers[2];

static void ask_in_module(void) {
    char byte = '?';
    HZ_SETUP(write(questions[1], &byte, 1) == 1);
    HZ_SETUP(read(answers[0], &byte, 1) == 1 && byte == '!');
}

static int look_and_ask(void) {
    in_module = ask_in_module;
    return look_up();
}

static int answer_all(void *arg) {
    char byte;
    (void)arg;
    while (read(questions[0], &byte, 1) == 1 && byte == '?') {
        HZ_SETUP(write(answers[1], "!", 1) == 1);
    }
    return HZ_OK;
}

static void no_more_questions(void) { HZ_SETUP(write(questions[1], ".", 1) == 1); }

/* Of another process, as modules that ask a daemon do. */
static int module_reads(const void *arg) {
    (void)arg;
    HZ_SETUP(pipe(questions) == 0 && pipe(answers) == 0);
    pid_t daemon_pid = fork();
    if (daemon_pid == 0) {
        hz_end_with(answer_all, NULL);
    }
    HZ_SETUP(daemon_pid > 0);
    HZ_TRY(lookers_forks(look_and_ask, uses_it_all));
    no_more_questions();
    return hz_wait(daemon_pid);
}

/* Of another thread, which a fork has to let run meanwhile. There is one look-up for each fork. */
static struct hz_event look_wanted, asking;

static void say_and_ask_in_module(void) {
    hz_post(&asking);
    ask_in_module();
}

static int looks_when_wanted(void *arg) {
    (void)arg;
    for (int i = 1; i <= FORKS; i++) {
        hz_await(&look_wanted, i);
        in_module = say_and_ask_in_module;
        HZ_TRY(look_up());
    }
    return HZ_OK;
}

static int module_reads_from_thread(const void *arg) {
    struct hz_thread answerer, looker;
    (void)arg;
    route_look_ups();
    HZ_SETUP(pipe(questions) == 0 && pipe(answers) == 0);
    hz_start(&answerer, answer_all, NULL);
    hz_start(&looker, looks_when_wanted, NULL);
    for (int i = 1; i <= FORKS; i++) {
        hz_post(&look_wanted);
        hz_await(&asking, i);
        HZ_TRY(hz_child(uses_it_all, NULL));
    }
    HZ_TRY(hz_finish(&looker));
    HZ_TRY(fork_is_quick(NULL));
    no_more_questions();
    return hz_finish(&answerer);
}

/* ---- the module forks ---- */

static pid_t forked_inside;

static void fork_in_module(void) {
    in_module = NULL;
    forked_inside = fork();
    HZ_SETUP(forked_inside >= 0);
}

/* The child ends inside the look-up: after look-ups of its own, since getpwnam_r holds no lock. */
static void fork_and_use_in_module(void) {
    fork_in_module();
    if (forked_inside == 0) {
        hz_end_with(uses_it_all, NULL);
    }
}

/* The child comes out of the look-up first: in getpwnam another would wait for itself. */
static int fork_in_look_up(void) {
    in_module = fork_in_module;
    HZ_TRY(look_up());
    if (forked_inside == 0) {
        hz_end_with(uses_it_all, NULL);
    }
    return HZ_OK;
}

static int fork_in_look_up_r(void) {
    in_module = fork_and_use_in_module;
    return look_up_r();
}

static int look_and_tell_time(void) { return uses_libc(NULL); }

struct inside {
    int (*look)(void), (*fork_inside)(void);
};

static int fork_inside(void *arg) {
    const struct inside *inside = (const struct inside *)arg;
    lookers_start(inside->look);
    for (int i = 1; i <= FORKS; i++) {
        HZ_TRY(inside->fork_inside());
        int verdict = hz_wait(forked_inside);
        if (verdict != HZ_OK) {
            hz_say("at fork %d of %d", i, FORKS);
            return verdict;
        }
    }
    HZ_TRY(inside->fork_inside());
    HZ_TRY(lookers_stop()); /* straight from the look-up: see there */
    return hz_wait(forked_inside);
}

static int forks_in_look_ups(int (*look)(void), int (*fork_inside_it)(void)) {
    struct inside inside = {look, fork_inside_it};
    route_look_ups();
    return hz_elsewhere(fork_inside, &inside);
}

static int module_forks(const void *arg) {
    (void)arg;
    return forks_in_look_ups(look_and_tell_time, fork_in_look_up);
}

static int module_forks_r(const void *arg) {
    (void)arg;
    return forks_in_look_ups(look_and_turn, fork_in_look_up_r);
}

/* ---- the look-up never returns ---- */

/*
 * Out of getpwnam_r alone: it holds no lock while the module runs. Out of getpwnam a jump leaves
 * libc's lock taken, and every later getpwnam of the program hangs, forked or not: no program does
 * that.
 */
static __thread sigjmp_buf out;

static void jump_in_module(void) { siglongjmp(out, 1); }

static int look_and_jump(void) {
    in_module = jump_in_module;
    if (sigsetjmp(out, 1) == 0) {
        look_up_r();
        return HZ_WRONG;
    }
    return HZ_OK;
}

static int module_jumps(const void *arg) {
    (void)arg;
    return lookers_forks(look_and_jump, uses_it_all);
}

/* A jump that nobody can see, as those of exceptions are: it is noticed at the next call. */
static __thread void *hidden_out[5];

static void jump_hidden_in_module(void) { __builtin_longjmp(hidden_out, 1); }

__attribute__((noinline)) static int look_and_jump_hidden(void) {
    in_module = jump_hidden_in_module;
    if (__builtin_setjmp(hidden_out) == 0) {
        look_up_r();
        return HZ_WRONG;
    }
    time_t now = time(NULL);
    struct tm tm;
    HZ_TRUE(localtime_r(&now, &tm) != NULL);
    return HZ_OK;
}

static int module_jumps_hidden(const void *arg) {
    (void)arg;
    return lookers_forks(look_and_jump_hidden, uses_it_all);
}

static void end_in_module(void) { pthread_exit(NULL); }

static int look_and_end(void *arg) {
    (void)arg;
    in_module = end_in_module;
    look_up_r();
    return HZ_WRONG;
}

static int module_ends_thread(const void *arg) {
    struct hz_bystander bystander;
    (void)arg;
    route_look_ups();
    hz_bystander_start(&bystander);
    for (int i = 0; i < 3; i++) {
        HZ_TRY(hz_elsewhere(look_and_end, NULL));
        HZ_TRY(fork_is_quick(NULL));
    }
    return hz_bystander_stop(&bystander);
}

/* ---- calls that outlast the deadline ---- */

/*
 * A thread stays inside a call. The first fork waits for it until the deadline, later ones do not. A
 * child that makes the call too, which may hang in it, is told who was inside what; another one
 * nothing. A later call is waited for anew. Stderr has to be a file of ours from the start: hence a
 * program of its own.
 */
struct long_call {
    const char *hazard, *name, *unsafe;
    void (*prepare)(void);
    void (*make)(void); /* the call; once for each round */
    void (*let_return)(void);
    void (*until_inside)(pid_t tid);
    int (*child)(void *);
    void (*unsafe_call)(void); /* and may hang in the child */
};

enum { LONG_DEADLINE_MS = 2000, ROUNDS = 2, LONG_FORKS = 2, SAID_MAX = 8192 };
static const char inner_variable[] = "NSS_LONG_CALL", caller_name[] = "long-caller";
static struct hz_event wanted, returned;

static int makes_long_calls(void *self) {
    prctl(PR_SET_NAME, caller_name);
    for (int round = 1; round <= ROUNDS; round++) {
        hz_await(&wanted, round);
        ((const struct long_call *)self)->make();
        hz_post(&returned);
    }
    return HZ_OK;
}

static const char *all_said(char *text, size_t size) {
    ssize_t length = pread(STDERR_FILENO, text, size - 1, 0);
    HZ_SETUP(length >= 0);
    text[length] = '\0';
    return text;
}

static const struct long_call *call_of_child;

static int calls_unsafe(void *arg) {
    (void)arg;
    call_of_child->unsafe_call();
    return HZ_OK;
}

/* Ends once something more was said; in vain, if it hangs without a word. */
static int is_told(void *arg) {
    char text[SAID_MAX];
    struct hz_thread caller;
    const size_t before = strlen(all_said(text, sizeof text));
    (void)arg;
    hz_start(&caller, calls_unsafe, NULL);
    while (strlen(all_said(text, sizeof text)) == before) {
        hz_sleep_us(1000);
    }
    return HZ_OK;
}

/* What was said since `before` bytes is the one line about this call, in this child. */
static int says_so(const struct long_call *call, pid_t tid, pid_t child, size_t *before) {
    char said[SAID_MAX], begins[256], ends[256];
    const char *line = all_said(said, sizeof said) + *before;
    size_t length = strlen(line);
    snprintf(
        begins, sizeof begins,
        "forksafe: process %d (forked by %d): thread \"%s\" (tid %d) was inside %s, called at ",
        (int)child, (int)getpid(), caller_name, (int)tid, call->name);
    snprintf(ends, sizeof ends, ": libc may hang here in %s\n", call->unsafe);
    *before += length;
    HZ_TRUE(strncmp(line, begins, strlen(begins)) == 0);
    HZ_TRUE(length > strlen(ends) && strcmp(line + length - strlen(ends), ends) == 0);
    HZ_TRUE(strchr(line, '\n') == line + length - 1);
    return HZ_OK;
}

static int long_calls_here(const struct long_call *call) {
    const char *preload = getenv("LD_PRELOAD");
    const int preloaded = preload != NULL && strstr(preload, "libforksafe") != NULL;
    struct hz_thread caller;
    size_t said = 0;
    call_of_child = call;
    call->prepare();
    hz_start(&caller, makes_long_calls, (void *)(uintptr_t)call);
    for (int round = 1; round <= ROUNDS; round++) {
        hz_post(&wanted);
        call->until_inside(caller.tid);
        for (int i = 0; i < LONG_FORKS; i++) {
            pid_t pid;
            int64_t ms;
            HZ_TRY(hz_fork_timed(call->child, &pid, &ms));
            if (preloaded) {
                HZ_IS(ms >= hz_deadline_ms(), i == 0);
                HZ_TRY(hz_fork_timed(is_told, &pid, &ms));
                HZ_TRY(says_so(call, caller.tid, pid, &said));
            }
        }
        HZ_IS(hz_seen(&returned), round - 1);
        call->let_return();
        hz_await(&returned, round);
    }
    HZ_TRY(hz_finish(&caller));
    char text[SAID_MAX];
    HZ_IS(strlen(all_said(text, sizeof text)), said);
    return HZ_OK;
}

static int long_calls(const void *arg) {
    const struct long_call *call = (const struct long_call *)arg;
    if (getenv(inner_variable) != NULL) {
        return long_calls_here(call);
    }
    char program[] = "nss", watched[] = "--watched", deadline[32], said[SAID_MAX];
    char *argv[] = {program, watched, (char *)(uintptr_t)call->hazard, NULL};
    snprintf(deadline, sizeof deadline, "%d", LONG_DEADLINE_MS);
    setenv("FORKSAFE_DEADLINE_MS", deadline, 1);
    setenv(inner_variable, "", 1);
    int said_fd = memfd_create("stderr", MFD_CLOEXEC);
    HZ_SETUP(said_fd >= 0);
    posix_spawn_file_actions_t actions;
    HZ_SETUP(posix_spawn_file_actions_init(&actions) == 0);
    HZ_SETUP(posix_spawn_file_actions_adddup2(&actions, said_fd, STDERR_FILENO) == 0);
    pid_t pid;
    errno = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ);
    HZ_SETUP(errno == 0);
    int verdict = hz_wait_ms(pid, 2 * hz_limit_ms());
    ssize_t length = pread(said_fd, said, sizeof said, 0);
    if (verdict != HZ_OK && length > 0) {
        hz_say("it said:");
        HZ_SETUP(write(STDERR_FILENO, said, (size_t)length) == length);
    }
    return verdict;
}

/* A module that waits. */

static void prepare_module(void) {
    route_look_ups();
    HZ_SETUP(pipe(questions) == 0 && pipe(answers) == 0);
}

static void make_look_up(void) { HZ_SETUP(look_and_ask() == HZ_OK); }

static void until_asked(pid_t tid) {
    char byte;
    (void)tid;
    HZ_SETUP(read(questions[0], &byte, 1) == 1);
}

static void answer_module(void) { HZ_SETUP(write(answers[1], "!", 1) == 1); }

static void look_up_there(void) { HZ_SETUP(look_up() == HZ_OK); }

static const struct long_call long_look_up = {
    "nss_module_stays", "getpwnam",  "getpwnam", prepare_module, make_look_up,
    answer_module,      until_asked, uses_libc,  look_up_there,
};

/* A name server that does not answer, until it is to. */

static int server;
static struct sockaddr_in server_address, client_address;
static unsigned char query[512];
static ssize_t query_length;

static void prepare_server(void) {
    socklen_t length = sizeof server_address;
    route_look_ups();
    HZ_SETUP(__nss_configure_lookup("hosts", "dns") == 0);
    server_address.sin_family = AF_INET;
    server_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server = socket(AF_INET, SOCK_DGRAM, 0);
    HZ_SETUP(server >= 0);
    HZ_SETUP(bind(server, (struct sockaddr *)&server_address, length) == 0);
    HZ_SETUP(getsockname(server, (struct sockaddr *)&server_address, &length) == 0);
}

/* In each thread the resolver has settings of its own. */
static void make_getaddrinfo(void) {
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    HZ_SETUP(res_init() == 0);
    _res.nscount = 1;
    _res.nsaddr_list[0] = server_address;
    _res.retrans = 300; /* seconds: the answer comes first */
    _res.retry = 1;
    HZ_SETUP(getaddrinfo("nobody.invalid.", "80", &hints, &list) == EAI_NONAME);
}

static void until_queried(pid_t tid) {
    socklen_t length = sizeof client_address;
    (void)tid;
    query_length =
        recvfrom(server, query, sizeof query, 0, (struct sockaddr *)&client_address, &length);
    HZ_SETUP(query_length >= 12);
}

/* The query comes back as its own answer: no such name (RFC 1035, 4.1.1: QR, RA, RCODE 3). */
static void answer_query(void) {
    query[2] = (unsigned char)(query[2] | 0x80);
    query[3] = 0x83;
    HZ_SETUP(sendto(server, query, (size_t)query_length, 0, (struct sockaddr *)&client_address,
                    sizeof client_address) == query_length);
}

static void resolve_number(void) {
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST};
    struct addrinfo *list = NULL;
    HZ_SETUP(getaddrinfo("127.0.0.1", NULL, &hints, &list) == 0);
}

static const struct long_call long_getaddrinfo = {
    "nss_getaddrinfo_stays", "getaddrinfo",    "getaddrinfo",
    prepare_server,          make_getaddrinfo, answer_query,
    until_queried,           uses_it_all,      resolve_number,
};

/*
 * syslog into something full: the pipe at descriptor 2 (LOG_PERROR), not the machine's log, which
 * the message never reaches, since libc gets no descriptor for a socket.
 */

static int error_pipe[2], real_error;
static struct rlimit descriptors;

static void prepare_syslog(void) {
    route_look_ups();
    HZ_SETUP(pipe(error_pipe) == 0);
    real_error = dup(STDERR_FILENO);
    HZ_SETUP(real_error >= 0);
    HZ_SETUP(getrlimit(RLIMIT_NOFILE, &descriptors) == 0);
    openlog("nss", LOG_PERROR, LOG_USER);
}

static void fill_pipe(int fd) {
    static const char page[4096];
    HZ_SETUP(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    for (size_t size = sizeof page; size > 0; size /= 2) {
        while (write(fd, page, size) > 0) {
        }
        HZ_SETUP(errno == EAGAIN);
    }
    HZ_SETUP(fcntl(fd, F_SETFL, 0) == 0);
}

static struct hz_event pipe_is_full;

static void make_syslog(void) {
    fill_pipe(error_pipe[1]);
    HZ_SETUP(dup2(error_pipe[1], STDERR_FILENO) == STDERR_FILENO);
    hz_post(&pipe_is_full);
    syslog(LOG_DEBUG, "a line that has no room");
}

static void until_pipe_is_full(pid_t tid) {
    static int times;
    hz_await(&pipe_is_full, ++times);
    hz_until_blocked(tid, SYS_write);
    HZ_SETUP(dup2(real_error, STDERR_FILENO) == STDERR_FILENO);
}

static void empty_pipe(void) {
    const struct rlimit none = {0, descriptors.rlim_max};
    const int before = hz_seen(&returned);
    char data[4096] = "";
    HZ_SETUP(setrlimit(RLIMIT_NOFILE, &none) == 0);
    for (ssize_t length = 1; data[length - 1] != '\n';) { /* the line's end; before it are zeros */
        length = read(error_pipe[0], data, sizeof data);
        HZ_SETUP(length > 0);
    }
    hz_await(&returned, before + 1);
    HZ_SETUP(setrlimit(RLIMIT_NOFILE, &descriptors) == 0);
}

static const struct long_call long_syslog = {
    "nss_syslog_stays", "syslog",    "syslog, openlog and closelog",
    prepare_syslog,     make_syslog, empty_pipe,
    until_pipe_is_full, uses_it_all, closelog,
};

static const struct hazard hazards[] = {
    HAZARD_CHANCE("nss_module_locks", module_locks, NULL, HANGS,
                  "an NSS module takes a lock of the program, in three other threads"),
    HAZARD_CHANCE("nss_module_keeps_lock", module_keeps_lock, NULL, HANGS,
                  "an NSS module takes a lock that the program releases after the look-up"),
    HAZARD_CHANCE("nss_module_reads", module_reads, NULL, HANGS,
                  "an NSS module waits for a daemon in read, in three other threads"),
    HAZARD_CHANCE("nss_module_reads_thread", module_reads_from_thread, NULL, HANGS,
                  "an NSS module waits for another thread in read"),
    HAZARD_CHANCE("nss_module_forks", module_forks, NULL, HANGS,
                  "an NSS module forks in getpwnam, beside getpwnam_r and localtime_r"),
    HAZARD_CHANCE("nss_module_forks_r", module_forks_r, NULL, HANGS,
                  "an NSS module forks in getpwnam_r, beside getpwnam"),
    HAZARD_CHANCE("nss_module_jumps", module_jumps, NULL, OK,
                  "an NSS module jumps out of getpwnam_r"),
    HAZARD_CHANCE("nss_module_jumps_hidden", module_jumps_hidden, NULL, HANGS,
                  "an NSS module jumps out of getpwnam_r, and not by longjmp"),
    HAZARD_PATIENT("nss_module_ends_thread", module_ends_thread, NULL, OK,
                   "an NSS module ends its thread inside getpwnam_r"),
    HAZARD_OF("nss_module_stays", long_calls, &long_look_up, OK,
              "an NSS module waits for longer than a fork does"),
    HAZARD_OF("nss_getaddrinfo_stays", long_calls, &long_getaddrinfo, OK,
              "getaddrinfo waits for a name server that does not answer"),
    HAZARD_OF("nss_syslog_stays", long_calls, &long_syslog, OK,
              "syslog waits for room to write to"),
};
HAZARD_MAIN(hazards)
