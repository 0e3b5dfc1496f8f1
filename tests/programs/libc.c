/*
 * libc.c: one storm for each family of calls that takes a lock hidden in libc (the time family and
 * the dynamic linker have programs of their own). What a call answers may depend on the machine
 * (/etc/services may be missing): then only that it comes back is looked at.
 */
#include "storm.h"

#include <aio.h>
#include <aliases.h>
#include <err.h>
#include <execinfo.h>
#include <fcntl.h>
#include <fmtmsg.h>
#include <fstab.h>
#include <glob.h>
#include <grp.h>
#include <gshadow.h>
#include <iconv.h>
#include <libintl.h>
#include <locale.h>
#include <mqueue.h>
#include <netdb.h>
#include <printf.h>
#include <pwd.h>
#include <regex.h>
#include <resolv.h>
#include <rpc/netdb.h>
#include <semaphore.h>
#include <shadow.h>
#include <sys/socket.h>
#include <syslog.h>
#include <utmp.h>
#include <utmpx.h>
#include <wchar.h>
#include <wordexp.h>

enum { FORKS = 200 };

static pthread_t forker;
static pid_t starter;

/* ---- look-ups in databases ---- */

static int call_getpwnam(void) {
    HZ_TRUE(getpwnam("root") != NULL);
    return HZ_OK;
}

static int call_getpwnam_r(void) {
    struct passwd entry, *found = NULL;
    char buffer[2048];
    HZ_IS(getpwnam_r("root", &entry, buffer, sizeof buffer, &found), 0);
    HZ_TRUE(found != NULL && found->pw_uid == 0);
    return HZ_OK;
}

static int call_getpwuid(void) {
    HZ_TRUE(getpwuid(0) != NULL);
    return HZ_OK;
}

static int call_getpwent(void) {
    setpwent();
    getpwent(); /* the threads share one position: another may have read to the end */
    endpwent();
    return HZ_OK;
}

static int call_getgrnam(void) {
    HZ_TRUE(getgrnam("root") != NULL && getgrgid(0) != NULL);
    return HZ_OK;
}

static int call_getgrouplist(void) {
    gid_t groups[64];
    int count = 64;
    HZ_TRUE(getgrouplist("root", 0, groups, &count) >= 1);
    return HZ_OK;
}

static int call_shadow(void) {
    getspnam("root");
    getsgnam("root");
    setspent();
    endspent();
    return HZ_OK;
}

static int call_gethostbyname(void) {
    struct hostent *host = gethostbyname("127.0.0.1");
    HZ_TRUE(host != NULL && host->h_addrtype == AF_INET);
    gethostbyname2("localhost", AF_INET);
    gethostbyaddr("\177\0\0\1", 4, AF_INET);
    return HZ_OK;
}

static int call_getaddrinfo(void) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    HZ_IS(getaddrinfo("localhost", "80", &hints, &list), 0);
    HZ_TRUE(list != NULL);
    freeaddrinfo(list);
    return HZ_OK;
}

static int call_getnameinfo(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    char name[256];
    HZ_IS(getnameinfo((struct sockaddr *)&address, sizeof address, name, sizeof name, NULL, 0, 0),
          0);
    return HZ_OK;
}

static int call_services(void) {
    getservbyname("http", "tcp");
    getservbyport(htons(80), "tcp");
    getprotobyname("tcp");
    getprotobynumber(6);
    getnetbyname("loopback");
    getrpcbyname("portmapper");
    getaliasbyname("root");
    return HZ_OK;
}

static int call_netgroup(void) {
    HZ_IS(innetgr("no-such-group", "host", "user", NULL), 0);
    setnetgrent("no-such-group");
    endnetgrent();
    return HZ_OK;
}

static int call_fstab(void) {
    getfsspec("none");
    return HZ_OK;
}

static int call_utmp(void) {
    setutent();
    getutent();
    endutent();
    setutxent();
    getutxent();
    endutxent();
    return HZ_OK;
}

static int call_getlogin(void) {
    char name[64];
    getlogin_r(name, sizeof name);
    return HZ_OK;
}

static int call_resolver(void) {
    HZ_IS(res_init(), 0);
    return HZ_OK;
}

/* ---- words and environment ---- */

static int call_syslog(void) {
    syslog(LOG_DEBUG, "a storm, %d", 1);
    setlogmask(0xff);
    return HZ_OK;
}

static int call_openlog(void) {
    openlog("storm", LOG_PID, LOG_USER);
    syslog(LOG_DEBUG, "a storm");
    closelog();
    return HZ_OK;
}

static int call_setenv(void) {
    HZ_IS(setenv("STORM_OF_ENVIRONMENT", "a", 1), 0);
    HZ_IS(unsetenv("STORM_OF_ENVIRONMENT_TOO"), 0);
    HZ_TRUE(getenv("PATH") != NULL);
    return HZ_OK;
}

static int call_random(void) {
    HZ_TRUE(random() >= 0 && rand() >= 0);
    return HZ_OK;
}

static int call_srandom(void) {
    srandom(1);
    srand(1);
    return HZ_OK;
}

static int call_setlocale(void) {
    HZ_TRUE(setlocale(LC_ALL, "C") != NULL);
    HZ_TRUE(setlocale(LC_CTYPE, "C.UTF-8") != NULL);
    return HZ_OK;
}

static int call_newlocale(void) {
    locale_t locale = newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0);
    HZ_TRUE(locale != (locale_t)0);
    locale_t copy = duplocale(locale);
    HZ_TRUE(copy != (locale_t)0);
    freelocale(copy);
    freelocale(locale);
    return HZ_OK;
}

static int call_gettext(void) {
    HZ_TRUE(strcmp(dgettext("storm", "a word"), "a word") == 0);
    HZ_TRUE(bindtextdomain("storm", "/nowhere") != NULL);
    HZ_TRUE(textdomain("storm") != NULL);
    return HZ_OK;
}

static int call_strerror(void) {
    char text[128];
    HZ_TRUE(strcmp(strerror(ENOENT), "No such file or directory") == 0);
    HZ_TRUE(strerror_r(EPERM, text, sizeof text) != NULL);
    HZ_TRUE(strcmp(strsignal(SIGINT), "Interrupt") == 0);
    return HZ_OK;
}

static int call_iconv(void) {
    iconv_t how = iconv_open("UTF-16", "LATIN1");
    HZ_TRUE(how != (iconv_t)-1);
    HZ_IS(iconv_close(how), 0);
    return HZ_OK;
}

static int call_swprintf(void) {
    wchar_t text[32];
    int number = 0;
    HZ_IS(swprintf(text, 32, L"%d", 42), 2);
    HZ_IS(swscanf(text, L"%d", &number), 1);
    HZ_IS(number, 42);
    return HZ_OK;
}

static int call_fmtmsg(void) {
    HZ_IS(fmtmsg(MM_NULLMC, "storm:c", MM_INFO, "text", "action", "tag"), MM_OK);
    return HZ_OK;
}

static int no_arguments(const struct printf_info *info, size_t room, int *types, int *sizes) {
    (void)info, (void)room, (void)types, (void)sizes;
    return 0;
}

static int prints_nothing(FILE *stream, const struct printf_info *info, const void *const *values) {
    (void)stream, (void)info, (void)values;
    return 0;
}

static int call_register_printf(void) {
    HZ_IS(register_printf_specifier('Y', prints_nothing, no_arguments), 0);
    return HZ_OK;
}

static regex_t shared_regex;

static int call_regexec(void) {
    HZ_IS(regexec(&shared_regex, "aaaaaaaaaaaaaaaaaaab", 0, NULL, 0), 0);
    return HZ_OK;
}

static int call_wordexp(void) {
    wordexp_t words;
    HZ_IS(wordexp("~root/x $PATH", &words, WRDE_NOCMD), 0);
    wordfree(&words);
    return HZ_OK;
}

static int call_glob(void) {
    glob_t found;
    HZ_IS(glob("~root", GLOB_TILDE, NULL, &found), 0);
    globfree(&found);
    return HZ_OK;
}

/* ---- processes, exits, streams ---- */

int __cxa_atexit(void (*function)(void *), void *argument, void *module);
void __cxa_finalize(void *module);

static void at_exit(void *unused) { (void)unused; }

/* What atexit does in a library, and what takes it back when that is unloaded. */
static int call_atexit(void) {
    static __thread char module;
    HZ_IS(__cxa_atexit(at_exit, NULL, &module), 0);
    __cxa_finalize(&module);
    return HZ_OK;
}

static int call_popen(void) {
    FILE *stream = popen(":", "r");
    HZ_TRUE(stream != NULL);
    HZ_IS(pclose(stream), 0);
    return HZ_OK;
}

static int call_system(void) {
    HZ_IS(system(":"), 0);
    return HZ_OK;
}

static int call_flush_all(void) {
    HZ_IS(fflush(NULL), 0);
    return HZ_OK;
}

static pthread_mutex_t cookie_lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *cookie_stream;

static ssize_t write_cookie(void *cookie, const char *data, size_t size) {
    (void)cookie, (void)data;
    pthread_mutex_lock(&cookie_lock);
    pthread_mutex_unlock(&cookie_lock);
    return (ssize_t)size;
}

/* Under the lock of the list of streams the program's own function takes a lock of the program. */
static int call_flush_cookie(void) {
    fputc('x', cookie_stream);
    HZ_IS(fflush(NULL), 0);
    return HZ_OK;
}

/* ---- timers, files, threads ---- */

static int call_timer(void) {
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    timer_t timer;
    HZ_IS(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    HZ_IS(timer_delete(timer), 0);
    return HZ_OK;
}

/* A child has none of the threads that do libc's asynchronous work, and libc's idea of them stays
 * wrong in it, bare as well: a child must leave aio alone. */
static int call_aio(void) {
    if (getpid() != starter) {
        return HZ_OK;
    }
    static __thread char byte;
    int fd = open("/dev/zero", O_RDONLY);
    HZ_TRUE(fd >= 0);
    struct aiocb request = {.aio_fildes = fd, .aio_buf = &byte, .aio_nbytes = 1};
    const struct aiocb *list[] = {&request};
    HZ_IS(aio_read(&request), 0);
    while (aio_error(&request) == EINPROGRESS) {
        aio_suspend(list, 1, NULL);
    }
    HZ_IS(aio_return(&request), 1);
    close(fd);
    return HZ_OK;
}

static int call_sem_open(void) {
    char name[64];
    snprintf(name, sizeof name, "/storm-%d-%ld", (int)getpid(), syscall(SYS_gettid));
    sem_t *sem = sem_open(name, O_CREAT, 0600, 1);
    HZ_TRUE(sem != SEM_FAILED);
    HZ_IS(sem_wait(sem), 0);
    HZ_IS(sem_close(sem), 0);
    HZ_IS(sem_unlink(name), 0);
    return HZ_OK;
}

/* All threads look through one directory, from its beginning. */
static DIR *shared_directory;

static int call_readdir(void) {
    rewinddir(shared_directory);
    readdir(shared_directory);
    return HZ_OK;
}

/* glibc tells every other thread, the one that forks too, and waits for it. */
static int call_seteuid(void) {
    HZ_IS(seteuid(geteuid()), 0);
    return HZ_OK;
}

static int call_fgetpwent(void) {
    FILE *file = fopen("/etc/passwd", "re");
    HZ_TRUE(file != NULL && fgetpwent(file) != NULL);
    HZ_IS(fclose(file), 0);
    return HZ_OK;
}

static int call_key_create(void) {
    pthread_key_t key;
    HZ_IS(pthread_key_create(&key, NULL), 0);
    HZ_IS(pthread_key_delete(key), 0);
    return HZ_OK;
}

static void *run_nothing(void *value) { return value; }

static int call_pthread_create(void) {
    pthread_t handle;
    HZ_IS(pthread_create(&handle, NULL, run_nothing, NULL), 0);
    HZ_IS(pthread_join(handle, NULL), 0);
    return HZ_OK;
}

/* Of the thread that forks, and that the child goes on with: it must be able to end there. */
static int call_pthread_kill(void) {
    HZ_IS(pthread_kill(forker, 0), 0);
    pthread_attr_t attr;
    HZ_IS(pthread_getattr_np(forker, &attr), 0);
    HZ_IS(pthread_attr_destroy(&attr), 0);
    int policy;
    struct sched_param param;
    HZ_IS(pthread_getschedparam(forker, &policy, &param), 0);
    return HZ_OK;
}

static int call_backtrace(void) {
    void *frames[8];
    HZ_TRUE(backtrace(frames, 8) > 0);
    return HZ_OK;
}

static int prepare_storm(const void *arg) {
    forker = pthread_self();
    starter = getpid();
    cookie_stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = write_cookie});
    HZ_SETUP(cookie_stream != NULL);
    HZ_SETUP(regcomp(&shared_regex, "^\\(a*\\)*b$", 0) == 0);
    HZ_SETUP(setenv("MSGVERB", "", 1) == 0);
    shared_directory = opendir("/etc");
    HZ_SETUP(shared_directory != NULL);
    return storm_run(arg);
}

/* ---- the program's own code inside libc ---- */

static pid_t (*inside_cookie)(void);
static pid_t forked_inside = -1;

static ssize_t write_forking(void *cookie, const char *data, size_t size) {
    (void)cookie, (void)data;
    if (inside_cookie != NULL) {
        forked_inside = inside_cookie();
    }
    return (ssize_t)size;
}

static FILE *open_cookie(void) {
    FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = write_forking});
    HZ_SETUP(stream != NULL);
    fputc('x', stream);
    return stream;
}

static int flushes_all(void *arg) {
    (void)arg;
    HZ_IS(fflush(NULL), 0);
    HZ_TRUE(fopen("/dev/null", "r") != NULL);
    return HZ_OK;
}

static int cookie_forks(const void *arg) {
    (void)arg;
    open_cookie();
    inside_cookie = fork;
    HZ_IS(fflush(NULL), 0);
    inside_cookie = NULL;
    if (forked_inside == 0) {
        hz_end_with(flushes_all, NULL);
    }
    HZ_TRY(hz_wait(forked_inside));
    return flushes_all(NULL);
}

static struct hz_event slow_begun;

/* Later than a fork waits for a holder. */
static pid_t make_thread_late(void) {
    struct hz_thread thread;
    hz_post(&slow_begun);
    hz_sleep_us((hz_deadline_ms() + 300) * 1000);
    hz_start(&thread, hz_nothing, NULL);
    return hz_finish(&thread);
}

static int has_stream(void *stream) {
    flockfile(stream);
    int verdict = make_thread_late();
    funlockfile(stream);
    return verdict;
}

/* fork() waits for who flushes all streams: so those that he waits for must go on. */
static int flush_waits(const void *of_another) {
    FILE *stream = open_cookie();
    struct hz_thread flusher, holder;
    if (of_another != NULL) {
        hz_start(&holder, has_stream, stream);
        hz_await(&slow_begun, 1);
        hz_start(&flusher, flushes_all, NULL);
        /* Mostly it waits then. (Who looks into /proc by stdio would wait for it.) */
        hz_sleep_us(20 * 1000);
    } else {
        inside_cookie = make_thread_late;
        hz_start(&flusher, flushes_all, NULL);
        hz_await(&slow_begun, 1);
    }
    HZ_TRY(hz_child(flushes_all, NULL));
    HZ_TRY(hz_finish(&flusher));
    return of_another != NULL ? hz_finish(&holder) : HZ_OK;
}

/* In a comparator of qsort and in an exit handler: no lock of libc's is held meanwhile, and the
 * program may lock, fork and go on. */
static int compares_and_forks(const void *a, const void *b) {
    pthread_mutex_lock(&cookie_lock);
    if (forked_inside == -1) {
        forked_inside = fork();
    }
    pthread_mutex_unlock(&cookie_lock);
    return *(const int *)a - *(const int *)b;
}

static int comparator_forks(const void *arg) {
    (void)arg;
    int numbers[] = {5, 3, 4, 1, 2};
    qsort(numbers, 5, sizeof numbers[0], compares_and_forks);
    for (int i = 0; i < 5; i++) {
        HZ_IS(numbers[i], i + 1);
    }
    if (forked_inside == 0) {
        hz_end_with(flushes_all, NULL);
    }
    return hz_wait(forked_inside);
}

static void exit_forks(void) {
    pid_t pid = fork();
    if (pid == 0) {
        _exit(flushes_all(NULL));
    }
    if (pid < 0 || hz_wait(pid) != HZ_OK) {
        _exit(HZ_WRONG);
    }
}

static int exits_and_forks(void *arg) {
    (void)arg;
    HZ_IS(atexit(exit_forks), 0);
    exit(HZ_OK);
}

static int exit_handler_forks(const void *arg) {
    (void)arg;
    return hz_children(20, exits_and_forks, NULL);
}

#define STORM(id, forks) static const struct storm storm_##id = {call_##id, forks}
#define ROW(id, bare)                                                                              \
    HAZARD_CHANCE("libc_" #id, prepare_storm, &storm_##id, bare, #id " in three other threads")

STORM(getpwnam, FORKS);
STORM(getpwnam_r, FORKS);
STORM(getpwuid, FORKS);
STORM(getpwent, FORKS);
STORM(getgrnam, FORKS);
STORM(getgrouplist, FORKS);
STORM(shadow, FORKS);
STORM(gethostbyname, FORKS);
STORM(getaddrinfo, FORKS);
STORM(getnameinfo, FORKS);
STORM(services, FORKS);
STORM(netgroup, FORKS);
STORM(fstab, FORKS);
STORM(utmp, FORKS);
STORM(getlogin, FORKS);
STORM(resolver, FORKS);
STORM(syslog, FORKS);
STORM(openlog, FORKS);
STORM(setenv, FORKS);
STORM(random, FORKS);
STORM(srandom, FORKS);
STORM(setlocale, FORKS);
STORM(newlocale, FORKS);
STORM(gettext, FORKS);
STORM(strerror, FORKS);
STORM(iconv, FORKS);
STORM(swprintf, FORKS);
STORM(fmtmsg, FORKS);
STORM(register_printf, FORKS);
STORM(regexec, FORKS);
STORM(wordexp, FORKS);
STORM(glob, FORKS);
STORM(atexit, FORKS);
STORM(popen, FORKS);
STORM(system, FORKS);
STORM(flush_all, FORKS);
STORM(flush_cookie, FORKS);
STORM(timer, FORKS);
STORM(aio, FORKS);
STORM(sem_open, FORKS);
STORM(readdir, FORKS);
STORM(seteuid, FORKS);
STORM(fgetpwent, FORKS);
STORM(key_create, FORKS);
STORM(pthread_create, FORKS);
STORM(pthread_kill, FORKS);
STORM(backtrace, FORKS);

static const struct hazard hazards[] = {
    HAZARD("libc_comparator_forks", comparator_forks, OK, "lock and fork in qsort's comparator"),
    HAZARD("libc_exit_handler_forks", exit_handler_forks, OK, "fork in an exit handler"),
    HAZARD("libc_cookie_forks", cookie_forks, OK,
           "fork in a fopencookie function, in fflush(NULL)"),
    HAZARD("libc_flush_makes_thread", flush_waits, OK,
           "a stream of fopencookie makes a thread while fflush(NULL) writes it"),
    HAZARD_OF("libc_flush_waits", flush_waits, "of another", OK,
              "fflush(NULL) waits for a stream whose holder makes a thread"),
    ROW(getpwnam, HANGS),
    ROW(getpwnam_r, RARELY),
    ROW(getpwuid, HANGS),
    ROW(getpwent, HANGS),
    ROW(getgrnam, HANGS),
    ROW(getgrouplist, RARELY),
    ROW(shadow, HANGS),
    ROW(gethostbyname, HANGS),
    ROW(getaddrinfo, RARELY),
    ROW(getnameinfo, RARELY),
    ROW(services, HANGS),
    ROW(netgroup, HANGS),
    ROW(fstab, RARELY),
    ROW(utmp, HANGS),
    ROW(getlogin, RARELY),
    ROW(resolver, HANGS),
    ROW(syslog, HANGS),
    ROW(openlog, HANGS),
    ROW(setenv, HANGS),
    ROW(random, HANGS),
    ROW(srandom, HANGS),
    ROW(setlocale, HANGS),
    ROW(newlocale, HANGS),
    ROW(gettext, HANGS),
    ROW(strerror, RARELY),
    ROW(iconv, HANGS),
    ROW(swprintf, HANGS),
    ROW(fmtmsg, HANGS),
    ROW(register_printf, HANGS),
    ROW(regexec, HANGS),
    ROW(wordexp, RARELY),
    ROW(glob, RARELY),
    ROW(atexit, HANGS),
    ROW(popen, HANGS),
    ROW(system, RARELY),
    ROW(flush_all, OK),
    ROW(flush_cookie, OK),
    ROW(timer, RARELY),
    ROW(aio, OK),
    ROW(sem_open, HANGS),
    ROW(readdir, HANGS),
    ROW(seteuid, RARELY),
    ROW(fgetpwent, HANGS),
    ROW(key_create, OK),
    ROW(pthread_create, OK),
    ROW(pthread_kill, HANGS),
    ROW(backtrace, OK),
};
HAZARD_MAIN(hazards)
