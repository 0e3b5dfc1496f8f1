#include "report.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "arch.h"
#include "critical.h"
#include "event.h"
#include "module.h"
#include "real.h"
#include "sys.h"

enum { STDERR = 2 };

static struct open_file {
    bool open;
    bool
        tells_birth; /* its file system does: a new file may get the inode number of one that was removed */
    uint64_t inode, device;
    struct statx_timestamp birth;
} stderr_at_start;

/* Without statx (a filter, an old kernel) inode and device have to do. */
static struct open_file identify_stderr(void) {
    enum { WANTED = STATX_INO | STATX_BTIME };
    struct statx file = {0};
    if (fs_syscall6(SYS_statx, STDERR, (long)"", AT_EMPTY_PATH, WANTED, (long)&file, 0) == 0) {
        return (struct open_file){.open = true,
                                  .tells_birth = (file.stx_mask & STATX_BTIME) != 0,
                                  .inode = file.stx_ino,
                                  .device = makedev(file.stx_dev_major, file.stx_dev_minor),
                                  .birth = file.stx_btime};
    }
    struct stat old_way = {0};
    bool open = fs_syscall2(SYS_fstat, STDERR, &old_way) == 0;
    return open
               ? (struct open_file){.open = true, .inode = old_way.st_ino, .device = old_way.st_dev}
               : (struct open_file){0};
}

static char program_name[NAME_MAX + 1];

const char *fs_program_name(void) { return program_name; }

void fs_report_init(void) {
    size_t length = strnlen(program_invocation_short_name, sizeof program_name - 1);
    memcpy(program_name, program_invocation_short_name, length);
    stderr_at_start = identify_stderr();
}

static bool is_still_stderr(void) {
    const struct open_file *then = &stderr_at_start;
    struct open_file now = identify_stderr();
    bool same_birth =
        now.birth.tv_sec == then->birth.tv_sec && now.birth.tv_nsec == then->birth.tv_nsec;
    return then->open && now.open && now.inode == then->inode && now.device == then->device &&
           (same_birth || !now.tells_birth || !then->tells_birth);
}

void fs_report_line(const char *line) {
    char buffer[FS_LINE_MAX];
    struct fs_text text = fs_text(buffer, sizeof buffer - 1);
    fs_text_string(&text, line);
    buffer[text.length] = '\n';
    if (is_still_stderr()) {
        fs_syscall3(SYS_write, STDERR, buffer, text.length + 1);
    }
}

/* --- text ------------------------------------------------------------------------------------ */

struct fs_text fs_text(char *buffer, size_t size) {
    buffer[0] = '\0';
    return (struct fs_text){.buffer = buffer, .size = size};
}

void fs_text_string(struct fs_text *text, const char *string) {
    while (*string != '\0' && text->length + 1 < text->size) {
        text->buffer[text->length++] = *string++;
    }
    text->buffer[text->length] = '\0';
}

static void add_digits(struct fs_text *text, uint64_t number, unsigned base) {
    char digits[24];
    char *at = digits + sizeof digits;
    *--at = '\0';
    do {
        *--at = "0123456789abcdef"[number % base];
        number /= base;
    } while (number != 0);
    fs_text_string(text, at);
}

void fs_text_number(struct fs_text *text, int64_t number) {
    if (number < 0) {
        fs_text_string(text, "-");
    }
    add_digits(text, number < 0 ? -(uint64_t)number : (uint64_t)number, 10);
}

void fs_text_hex(struct fs_text *text, uintptr_t number) {
    fs_text_string(text, "0x");
    add_digits(text, number, 16);
}

static void add_module(struct fs_text *text, const struct dl_find_object *module,
                       uintptr_t address) {
    const char *path = module->dlfo_link_map->l_name;
    fs_text_string(text, *path == '\0' ? fs_program_name() : basename(path));
    fs_text_string(text, "+");
    fs_text_hex(text, address - module->dlfo_link_map->l_addr);
}

void fs_text_address(struct fs_text *text, const void *address, bool symbols) {
    uintptr_t at = (uintptr_t)address;
    struct dl_find_object module;
    if (!fs_find_module(at, &module)) {
        fs_text_hex(text, at);
        return;
    }
    Dl_info symbol;
    if (!symbols || fs_real.dladdr(address, &symbol) == 0 || symbol.dli_sname == NULL) {
        add_module(text, &module, at);
        return;
    }
    fs_text_string(text, symbol.dli_sname);
    if (symbol.dli_saddr != address) {
        fs_text_string(text, "+");
        fs_text_hex(text, at - (uintptr_t)symbol.dli_saddr);
    }
    fs_text_string(text, " (");
    add_module(text, &module, at);
    fs_text_string(text, ")");
}

/* --- events ---------------------------------------------------------------------------------- */

const char *const fs_kind_names[FS_KIND_COUNT] = {
    [FS_KIND_MUTEX] = "mutex",
    [FS_KIND_RWLOCK_READ] = "rwlock (read)",
    [FS_KIND_RWLOCK_WRITE] = "rwlock (write)",
    [FS_KIND_SPIN] = "spinlock",
    [FS_KIND_SEMAPHORE] = "semaphore",
    [FS_KIND_FILE] = "FILE lock",
    [FS_KIND_ONCE] = "once control",
    [FS_KIND_GUARD] = "static initialiser",
    [FS_KIND_COND] = "condition variable",
    [FS_KIND_BARRIER] = "barrier",
    [FS_KIND_THREAD] = "thread",
    [FS_KIND_CRITICAL] = "libc call",
};

const char *fs_kind_name(uint8_t kind) {
    return kind < FS_KIND_COUNT ? fs_kind_names[kind] : "object";
}

struct fs_text fs_report_begin(char *buffer, size_t size) {
    struct fs_text text = fs_text(buffer, size);
    fs_text_string(&text, "forksafe: process ");
    fs_text_number(&text, fs_syscall0(SYS_getpid));
    fs_text_string(&text, " (forked by ");
    fs_text_number(&text, fs_syscall0(SYS_getppid));
    fs_text_string(&text, "): ");
    return text;
}

void fs_text_thread(struct fs_text *text, int tid, const char *name) {
    fs_text_string(text, "thread \"");
    fs_text_string(text, name);
    fs_text_string(text, "\" (tid ");
    fs_text_number(text, tid);
    fs_text_string(text, ")");
}

static void add_cut(struct fs_text *text, const struct fs_thread *caller,
                    const struct fs_entry *entry, bool symbols) {
    const struct fs_critical *call = entry->object;
    fs_text_thread(text, caller->tid, caller->name);
    fs_text_string(text, " was inside ");
    fs_text_string(text, call->name);
    fs_text_string(text, ", called at ");
    fs_text_address(text, entry->caller, symbols);
    fs_text_string(text, ": libc may hang here in ");
    fs_text_string(text, fs_critical_kin(call));
}

void fs_text_forced(struct fs_text *text, const struct fs_thread *holder,
                    const struct fs_entry *entry, bool symbols) {
    if (entry->kind == FS_KIND_CRITICAL) {
        add_cut(text, holder, entry, symbols);
        return;
    }
    fs_text_string(text, fs_kind_name(entry->kind));
    fs_text_string(text, " ");
    fs_text_address(text, entry->object, symbols);
    fs_text_string(text, " was held by ");
    fs_text_thread(text, holder->tid, holder->name);
    fs_text_string(text, ", taken at ");
    fs_text_address(text, entry->caller, symbols);
    fs_text_string(text, ": released here");
}

void fs_text_forced_end(struct fs_text *text, uint8_t kind, const void *taker) {
    if (kind == FS_KIND_CRITICAL) {
        return;
    }
    if (taker != NULL) {
        fs_text_string(text, " for ");
        fs_text_address(text, taker, false);
    }
    fs_text_string(text, ", the data under it may be torn");
}

static const char *relation_of(const struct fs_remnant *remnant) {
    if (remnant->waits) {
        return ", still waited for by ";
    }
    if (remnant->kind == FS_KIND_CRITICAL || remnant->kind == FS_KIND_COND) {
        return ", called at the fork by ";
    }
    return remnant->phase == FS_HELD ? ", held by " : ", being taken or given back by ";
}

/* "forksafe: process 12 (forked by 11): deadlock: blocks at main+0x1c (prog+0x1280) on mutex log_lock
 * (prog+0x4060), held by thread "worker" (tid 9) since log_line+0x1c (prog+0x1200), which vanished
 * when serve+0x40 (prog+0x1300) forked: released here" */
void fs_report_deadlock(const struct fs_remnant *remnant, const char *what, const char *call,
                        const void *caller, const void *fork_site, bool healed) {
    char buffer[FS_LINE_MAX];
    struct fs_text text = fs_report_begin(buffer, sizeof buffer);
    fs_text_string(&text, "deadlock: ");
    fs_text_string(&text, what);
    fs_text_string(&text, call != NULL ? " " : "");
    fs_text_string(&text, call != NULL ? call : "");
    fs_text_string(&text, " at ");
    fs_text_address(&text, caller, true);
    fs_text_string(&text, ": ");
    if (remnant->kind == FS_KIND_CRITICAL) {
        fs_text_string(&text, "it may need a lock of ");
        fs_text_string(&text, ((const struct fs_critical *)remnant->object)->name);
    } else {
        fs_text_string(&text, fs_kind_name(remnant->kind));
        fs_text_string(&text, " ");
        fs_text_address(&text, remnant->object, true);
    }
    fs_text_string(&text, relation_of(remnant));
    fs_text_thread(&text, remnant->tid, remnant->name);
    fs_text_string(&text, " at ");
    fs_text_address(&text, remnant->caller, true);
    fs_text_string(&text, ", which vanished at the fork at ");
    fs_text_address(&text, fork_site, true);
    fs_text_string(&text, healed ? ": put right here" : "");
    fs_report_line(buffer);
}

/* In a signal handler, that may have interrupted the dynamic linker: no symbols. */
void fs_report_stuck(const struct fs_stuck *stuck) {
    char buffer[FS_LINE_MAX];
    struct fs_text text = fs_report_begin(buffer, sizeof buffer);
    fs_text_thread(&text, stuck->self->tid, stuck->self->name);
    fs_text_string(&text, " has waited ");
    fs_text_number(&text, stuck->ms);
    fs_text_string(&text, " ms for ");
    fs_text_string(&text, fs_kind_name(stuck->kind));
    fs_text_string(&text, " ");
    fs_text_address(&text, stuck->object, false);
    fs_text_string(&text, ", called at ");
    fs_text_address(&text, stuck->caller, false);
    if (stuck->owner != NULL) {
        fs_text_string(&text, ": owned by ");
        fs_text_thread(&text, stuck->owner->tid, stuck->owner->name);
    }
    fs_report_line(buffer);
}
