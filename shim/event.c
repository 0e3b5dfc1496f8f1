#include "event.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#include "arch.h"
#include "config.h"
#include "critical.h"
#include "inventory.h"
#include "json.h"
#include "module.h"
#include "report.h"
#include "safepoint.h"
#include "sys.h"
#include "world.h"

enum { SCHEMA = 1, FILE_MODE = 0600, NOTE_BUILD_ID = 3 };

FS_CHILD_STATE static struct fs_json event;
/* For events that are not a fork's; with signals blocked. */
FS_CHILD_STATE static struct fs_lock event_lock;
static struct fs_origin origin; /* the fork that is under way (fork.c has the turn), or the last */
static bool complained;

static bool as_text(void) { return fs_config.report != NULL && strcmp(fs_config.report, "-") == 0; }
static bool as_json(void) { return fs_config.report != NULL && !as_text(); }
bool fs_event_in_file(void) { return as_json() && !fs_load(&complained); }
bool fs_event_wanted(void) { return fs_config.report != NULL || fs_config.mode == FS_MODE_DETECT; }

/* --- pieces ---------------------------------------------------------------------------------- */

/* Seconds since 1970, with microseconds. */
static void add_time(const struct timespec *time) {
    char digits[48];
    struct fs_text text = fs_text(digits, sizeof digits);
    fs_text_string(&text, "\"time\":");
    fs_text_number(&text, time->tv_sec);
    fs_text_string(&text, ".");
    for (long unit = 100000000, us = time->tv_nsec; unit >= 1000; unit /= 10) {
        fs_text_number(&text, us / unit % 10);
    }
    fs_json_raw(&event, ",");
    fs_json_raw(&event, digits);
}

/* The note that tells one build of a module from another (elf/elf.h, NT_GNU_BUILD_ID). The module
 * is loaded from its file's first byte on, so that its headers are in memory. */
static void add_build_id(const struct dl_find_object *module) {
    const ElfW(Ehdr) *header = module->dlfo_map_start;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_phoff != sizeof *header) {
        return;
    }
    const ElfW(Phdr) *parts = (const ElfW(Phdr) *)(header + 1);
    for (unsigned i = 0; i < header->e_phnum; i++) {
        if (parts[i].p_type != PT_NOTE) {
            continue;
        }
        const char *at = (const char *)module->dlfo_link_map->l_addr + parts[i].p_vaddr;
        const char *end = at + parts[i].p_memsz;
        while (at + sizeof(ElfW(Nhdr)) < end) {
            const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at;
            const char *name = at + sizeof *note;
            const char *data = name + ((note->n_namesz + 3) & ~3U);
            if (note->n_type == NOTE_BUILD_ID && note->n_namesz == 4 &&
                memcmp(name, "GNU", 4) == 0) {
                fs_json_bytes(&event, "build_id", (const unsigned char *)data, note->n_descsz);
                return;
            }
            at = data + ((note->n_descsz + 3) & ~3U);
        }
    }
}

/* The path of the program itself; its entry in the list of modules has none. */
static const char *program_path(void) {
    static char *path;
    if (path == NULL && (path = fs_map(PATH_MAX)) == NULL) {
        return fs_program_name();
    }
    long length = fs_syscall3(SYS_readlink, "/proc/self/exe", path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = '\0';
    return length > 0 ? path : fs_program_name();
}

/* {"module":...,"build_id":...,"offset":...}, or {"address":...} outside any module. */
static void add_place(const char *key, uintptr_t address) {
    struct dl_find_object module;
    fs_json_begin(&event, key, '{');
    if (!fs_find_module(address, &module)) {
        fs_json_hex(&event, "address", address);
    } else {
        const char *path = module.dlfo_link_map->l_name;
        fs_json_string(&event, "module", *path != '\0' ? path : program_path());
        add_build_id(&module);
        fs_json_hex(&event, "offset", address - module.dlfo_link_map->l_addr);
    }
    fs_json_end(&event, '}');
}

static void add_thread(const char *key, int tid, const char *name) {
    fs_json_begin(&event, key, '{');
    fs_json_number(&event, "tid", tid);
    fs_json_string(&event, "name", name);
    fs_json_end(&event, '}');
}

static void add_stack(const char *key, const uintptr_t *stack, unsigned depth) {
    fs_json_begin(&event, key, '[');
    for (unsigned i = 0; i < depth; i++) {
        add_place(NULL, stack[i]);
    }
    fs_json_end(&event, ']');
}

static void begin(const char *kind, int64_t pid) {
    struct timespec now = {0};
    fs_syscall2(SYS_clock_gettime, CLOCK_REALTIME, &now);
    fs_json_begin(&event, NULL, '{');
    fs_json_number(&event, "v", SCHEMA);
    fs_json_string(&event, "event", kind);
    add_time(&now);
    fs_json_number(&event, "pid", pid);
    fs_json_string(&event, "program", fs_program_name());
}

/* --- writing --------------------------------------------------------------------------------- */

/* "%p" in the path stands for the process. Returns false where it does not fit. */
static bool expand_path(char *to, size_t size) {
    struct fs_text text = fs_text(to, size);
    for (const char *at = fs_config.report; *at != '\0'; at++) {
        if (at[0] == '%' && at[1] == 'p') {
            fs_text_number(&text, fs_syscall0(SYS_getpid));
            at++;
        } else {
            fs_text_string(&text, (char[]){*at, '\0'});
        }
    }
    return text.length + 1 < size;
}

/* Once a process: a full disk stays full. */
static void complain(const char *path, long error) {
    char line[FS_REPORT_MAX + 128];
    struct fs_text text = fs_text(line, sizeof line);
    fs_text_string(&text, "forksafe: FORKSAFE_REPORT: '");
    fs_text_string(&text, path);
    fs_text_string(&text, "' cannot be written (error ");
    fs_text_number(&text, -error);
    fs_text_string(&text, "): events are lost; give a path that can");
    if (!complained) {
        fs_report_line(line);
    }
    fs_store(&complained, true);
}

static void append(void) {
    char path[FS_REPORT_MAX + 16];
    fs_json_raw(&event, "\n");
    if (event.cut || !expand_path(path, sizeof path)) {
        complain(path, -ENOMEM);
        return;
    }
    long fd = fs_syscall4(SYS_openat, AT_FDCWD, path,
                          O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
    if (fd < 0) {
        complain(path, fd);
        return;
    }
    long written = fs_syscall3(SYS_write, fd, event.text, event.length);
    fs_syscall1(SYS_close, fd);
    if (written != (long)event.length) {
        complain(path, written < 0 ? written : -ENOSPC);
    }
}

/* --- events ---------------------------------------------------------------------------------- */

void fs_event_config(void) {
    if (fs_event_wanted() || fs_config.stacks || fs_config.watchdog_ms != 0) {
        fs_safepoint_init();
        fs_unwinder_load(); /* for stacks, before there is a second thread */
    }
    if (!as_json()) {
        return;
    }
    begin("config", fs_syscall0(SYS_getpid));
    fs_json_begin(&event, "options", '{');
    for (size_t i = 0; i < fs_option_count; i++) {
        char value[FS_OPTION_TEXT_MAX];
        fs_option_text(&fs_options[i], &fs_config, value, sizeof value);
        fs_json_string(&event, fs_options[i].name, value);
    }
    fs_json_end(&event, '}');
    fs_json_end(&event, '}');
    append();
    fs_json_free(&event);
}

void fs_event_prepare(void) {
    if (!fs_event_wanted()) {
        return;
    }
    origin.depth = fs_stack_here(origin.stack);
    origin.pid = (int)fs_syscall0(SYS_getpid);
    origin.tid = fs_gettid();
    fs_syscall2(SYS_clock_gettime, CLOCK_REALTIME, &origin.time);
    fs_syscall2(SYS_prctl, PR_GET_NAME, origin.name);
}

void fs_event_stopped(void) {
    if (fs_event_wanted()) {
        origin.stop = fs_fork_page.report;
    }
}

const struct fs_origin *fs_event_origin(void) { return &origin; }

static void add_stop(const struct fs_stop_report *stop) {
    fs_json_begin(&event, "stop", '{');
    fs_json_number(&event, "us", stop->ns / FS_USEC);
    fs_json_number(&event, "parked", stop->parked);
    fs_json_number(&event, "detached", stop->detached);
    fs_json_number(&event, "running", stop->running);
    fs_json_number(&event, "holding", stop->holding);
    fs_json_number(&event, "foreign", stop->foreign);
    fs_json_number(&event, "attempts", stop->attempts);
    fs_json_end(&event, '}');
}

void fs_event_begin(void) {
    event = (struct fs_json){0}; /* another thread was perhaps in the middle of one */
    event_lock.word = 0;
    if (!as_json()) {
        return;
    }
    begin("fork", origin.pid);
    fs_json_number(&event, "child", fs_syscall0(SYS_getpid));
    add_thread("thread", origin.tid, origin.name);
    add_stack("stack", origin.stack, origin.depth);
    add_stop(&origin.stop);
    fs_json_begin(&event, "inherited", '[');
}

static const char *role_of(const struct fs_remnant *remnant) {
    if (remnant->waits) {
        return "waiter";
    }
    if (remnant->kind == FS_KIND_CRITICAL || remnant->kind == FS_KIND_COND) {
        return "inside";
    }
    switch (remnant->phase) {
    case FS_HELD:
        return "holder";
    case FS_RELEASING:
        return "releasing";
    default:
        return "taking";
    }
}

static void add_object(uint8_t kind, const void *object) {
    fs_json_string(&event, "kind", fs_kind_name(kind));
    if (kind == FS_KIND_CRITICAL) {
        const struct fs_critical *call = object;
        fs_json_string(&event, "call", call->name);
        fs_json_string(&event, "unsafe", fs_critical_kin(call));
    } else {
        fs_json_hex(&event, "address", (uintptr_t)object);
        add_place("object", (uintptr_t)object);
    }
}

static void add_inherited(const char *key, const struct fs_remnant *remnant) {
    unsigned depth;
    const uintptr_t *stack = fs_stacks_get(remnant->stack, &depth);
    fs_json_begin(&event, key, '{');
    fs_json_string(&event, "role", role_of(remnant));
    add_object(remnant->kind, remnant->object);
    add_thread("thread", remnant->tid, remnant->name);
    add_place("at", (uintptr_t)remnant->caller);
    if (remnant->stood_at != 0) {
        add_place("stood", remnant->stood_at);
    }
    if (stack != NULL) {
        add_stack("stack", stack, depth);
    }
    fs_json_bool(&event, "torn", !remnant->waits && remnant->phase == FS_HELD);
    fs_json_end(&event, '}');
}

void fs_event_inherited(const struct fs_remnant *remnant) {
    if (as_json()) {
        add_inherited(NULL, remnant);
    }
}

static const void *fork_site(const struct fs_origin *fork) {
    return (const void *)(fork->depth > 0 ? fork->stack[0] : 0);
}

/* "forksafe: process 12 (forked by 11): thread "x" (tid 11) forked at main+0x1c (prog+0x11a0):
 * stopped in 31 us, 3 parked, 2 asleep, 0 running, 1 holding" */
static void tell_as_text(void) {
    char line[FS_LINE_MAX];
    const struct fs_stop_report *stop = &origin.stop;
    struct fs_text text = fs_report_begin(line, sizeof line);
    fs_text_thread(&text, origin.tid, origin.name);
    fs_text_string(&text, " forked at ");
    fs_text_address(&text, fork_site(&origin), false);
    fs_text_string(&text, ": stopped in ");
    fs_text_number(&text, stop->ns / FS_USEC);
    fs_text_string(&text, " us, ");
    fs_text_number(&text, stop->parked);
    fs_text_string(&text, " parked, ");
    fs_text_number(&text, stop->detached);
    fs_text_string(&text, " asleep, ");
    fs_text_number(&text, stop->running);
    fs_text_string(&text, " running, ");
    fs_text_number(&text, stop->holding);
    fs_text_string(&text, " holding");
    fs_report_line(line);
}

void fs_event_end(void) {
    if (as_text()) {
        tell_as_text();
    }
    if (as_json()) {
        fs_json_end(&event, ']');
        fs_json_end(&event, '}');
        append();
        fs_json_free(&event);
    }
}

/* --- in a child's later life ------------------------------------------------------------------ */

/* Events of one process are made one at a time. */
static fs_sigset lock_events(void) {
    fs_sigset saved = fs_signals_block();
    fs_lock(&event_lock);
    return saved;
}

static void unlock_events(fs_sigset saved) {
    fs_unlock(&event_lock);
    fs_signals_restore(saved);
}

static void add_caller(void) {
    uintptr_t stack[FS_STACK_MAX];
    char name[FS_NAME_MAX] = {0};
    fs_syscall2(SYS_prctl, PR_GET_NAME, name);
    add_thread("thread", fs_gettid(), name);
    add_stack("stack", stack, fs_stack_here(stack));
}

static void add_origin(const struct fs_origin *fork) {
    fs_json_begin(&event, "fork", '{');
    fs_json_number(&event, "pid", fork->pid);
    add_time(&fork->time);
    add_thread("thread", fork->tid, fork->name);
    add_stack("stack", fork->stack, fork->depth);
    fs_json_end(&event, '}');
}

void fs_event_deadlock(const struct fs_remnant *remnant, const char *what, const char *call,
                       const void *caller, bool healed) {
    fs_sigset saved = lock_events();
    if (!fs_event_in_file()) {
        fs_report_deadlock(remnant, what, call, caller, fork_site(remnant->origin), healed);
    }
    if (as_json()) {
        begin("deadlock", fs_syscall0(SYS_getpid));
        add_caller();
        fs_json_string(&event, "what", what);
        if (call != NULL) {
            fs_json_string(&event, "call", call);
        }
        add_inherited("inherited", remnant);
        add_origin(remnant->origin);
        fs_json_bool(&event, "healed", healed);
        fs_json_end(&event, '}');
        append();
        fs_json_free(&event);
    }
    unlock_events(saved);
}

void fs_event_stuck(const struct fs_stuck *stuck) {
    fs_sigset saved = lock_events();
    if (!fs_event_in_file()) {
        fs_report_stuck(stuck);
    }
    if (as_json()) {
        begin("stuck", fs_syscall0(SYS_getpid));
        add_caller();
        fs_json_number(&event, "ms", stuck->ms);
        add_object(stuck->kind, stuck->object);
        add_place("at", (uintptr_t)stuck->caller);
        if (stuck->owner != NULL) {
            add_thread("owner", stuck->owner->tid, stuck->owner->name);
        } else {
            fs_json_null(&event, "owner");
        }
        fs_json_end(&event, '}');
        append();
        fs_json_free(&event);
    }
    unlock_events(saved);
}
