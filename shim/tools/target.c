#include "target.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MODULE_BYTES_MAX = 1 << 30, CHAIN_MAX = 1 << 20, NOTES_MAX = 1 << 16 };

static struct {
    int pid;
    int reader;     /* a thread of it that has not ended: the first one may have */
    bool other_ids; /* it lives in another pid namespace */
    struct module *modules;
    size_t count, room;
} target;

_Noreturn void give_up(const char *format, ...) {
    va_list list;
    va_start(list, format);
    fputs("forksafe ps: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    exit(1);
}

int target_pid(void) { return target.pid; }

void *need(void *memory) {
    if (memory == NULL) {
        give_up("no memory left");
    }
    return memory;
}

void *grow(void *array, size_t count, size_t *room, size_t size) {
    if (count == *room) {
        *room = *room == 0 ? 64 : *room * 2;
        array = need(realloc(array, *room * size));
    }
    return array;
}

/* --- memory ---------------------------------------------------------------------------------- */

static _Noreturn void not_permitted(void) {
    char scope[8] = "";
    FILE *file = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
    if (file != NULL) {
        if (fgets(scope, sizeof scope, file) == NULL) {
            scope[0] = '\0';
        }
        fclose(file);
    }
    scope[strcspn(scope, "\n")] = '\0';
    if (scope[0] != '\0' && scope[0] != '0') {
        give_up(
            "no permission to look into process %d (kernel.yama.ptrace_scope is %s): run this as "
            "root, or allow it with: sysctl kernel.yama.ptrace_scope=0",
            target.pid, scope);
    }
    give_up("no permission to look into process %d: run this as its user, or as root", target.pid);
}

static _Noreturn void ended_meanwhile(void) {
    give_up("process %d ended while it was looked at", target.pid);
}

bool target_read(void *to, uintptr_t from, size_t bytes) {
    /* cppcheck-suppress ctuuninitvar ; it is filled here */
    struct iovec own = {to, bytes};
    struct iovec its = {(void *)from, bytes};
    ssize_t got = process_vm_readv(target.reader, &own, 1, &its, 1, 0);
    if (got < 0 && errno == EPERM) {
        not_permitted();
    }
    return got == (ssize_t)bytes;
}

/* A read that begins in a mapped page and ends in one that is not gives what there is. */
void target_read_string(char *to, size_t size, uintptr_t from) {
    struct iovec own = {to, size - 1};
    struct iovec its[2] = {{(void *)from, 4096 - from % 4096}, {0}};
    if (its[0].iov_len >= own.iov_len) {
        its[0].iov_len = own.iov_len;
    } else {
        its[1].iov_base = (void *)(from + its[0].iov_len);
        its[1].iov_len = own.iov_len - its[0].iov_len;
    }
    ssize_t got = process_vm_readv(target.reader, &own, 1, its, 2, 0);
    to[got > 0 ? got : 0] = '\0';
}

/* --- files of /proc -------------------------------------------------------------------------- */

/* Reads a small file of /proc/PID/task/TID, or of /proc/PID where tid is 0. Returns false with errno
 * set. */
static bool read_proc(int tid, const char *name, char *buffer, size_t size) {
    char path[96];
    if (tid == 0) {
        snprintf(path, sizeof path, "/proc/%d/%s", target.pid, name);
    } else {
        snprintf(path, sizeof path, "/proc/%d/task/%d/%s", target.pid, tid, name);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t got = read(fd, buffer, size - 1);
    int saved = errno;
    close(fd);
    errno = saved;
    buffer[got > 0 ? got : 0] = '\0';
    return got > 0;
}

/* Returns 0 where there is no such field. */
static int status_number(const char *status, const char *field, bool last) {
    const char *at = strstr(status, field);
    if (at == NULL) {
        return 0;
    }
    at += strlen(field);
    long value = strtol(at, NULL, 10);
    while (last && *at != '\n' && *at != '\0') {
        char *end;
        long next = strtol(at, &end, 10);
        if (end == at || *end == '\0') {
            break;
        }
        value = next;
        at = end;
    }
    return (int)value;
}

static void add_call(struct task *task, const char *line) {
    char *end;
    long call = strtol(line, &end, 10);
    if (end == line || !isspace((unsigned char)*end)) { /* "running" */
        return;
    }
    task->call = call;
    if (call == SYS_futex) {
        task->futex = strtoul(end, NULL, 16);
    }
}

/* False where the thread has ended. */
static bool read_task(int tid, struct task *task) {
    char text[4096];
    *task = (struct task){.tid = tid, .inner = tid, .call = -1};
    if (!read_proc(tid, "stat", text, sizeof text)) {
        return false;
    }
    char *name = strchr(text, '(');
    char *name_end = strrchr(text, ')'); /* the name may hold anything */
    if (name == NULL || name_end == NULL || name_end < name || name_end[1] != ' ') {
        return false;
    }
    *name_end = '\0';
    snprintf(task->name, sizeof task->name, "%s", name + 1);
    task->state = name_end[2];
    if (task->state == 'Z' || task->state == 'X') {
        return false;
    }
    if (read_proc(tid, "syscall", text, sizeof text)) {
        add_call(task, text);
    }
    if (target.other_ids && read_proc(tid, "status", text, sizeof text)) {
        task->inner = status_number(text, "\nNSpid:", true);
    }
    return true;
}

struct task *target_tasks(size_t *count) {
    struct task *tasks = NULL;
    size_t room = 0;
    char path[64];
    *count = 0;
    snprintf(path, sizeof path, "/proc/%d/task", target.pid);
    DIR *list = opendir(path);
    if (list == NULL) {
        ended_meanwhile();
    }
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;) {
        int tid = (int)strtol(entry->d_name, NULL, 10);
        tasks = grow(tasks, *count, &room, sizeof *tasks);
        if (tid > 0 && read_task(tid, &tasks[*count])) {
            ++*count;
        }
    }
    closedir(list);
    if (*count == 0) {
        ended_meanwhile();
    }
    return tasks;
}

bool target_tid_exists(int tid) {
    char path[32];
    snprintf(path, sizeof path, "/proc/%d", tid);
    return access(path, F_OK) == 0;
}

/* --- modules --------------------------------------------------------------------------------- */

static void add_build_id(struct module *module, uintptr_t at, size_t bytes) {
    if (bytes > NOTES_MAX) {
        return;
    }
    char *notes = malloc(bytes);
    if (notes == NULL || !target_read(notes, at, bytes)) {
        free(notes);
        return;
    }
    for (size_t place = 0; place + sizeof(Elf64_Nhdr) <= bytes;) {
        Elf64_Nhdr note;
        memcpy(&note, notes + place, sizeof note);
        size_t name = place + sizeof note;
        size_t data = name + ((note.n_namesz + 3) & ~(size_t)3);
        size_t end = data + ((note.n_descsz + 3) & ~(size_t)3);
        if (end > bytes) {
            break;
        }
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
            memcmp(notes + name, "GNU", 4) == 0 && note.n_descsz <= sizeof module->build_id) {
            memcpy(module->build_id, notes + data, note.n_descsz);
            module->build_id_length = note.n_descsz;
            break;
        }
        place = end;
    }
    free(notes);
}

enum { PARTS_MAX = 64 };

/* The program headers of what is mapped at `start`; returns how many, 0 where that is no module. */
static size_t read_parts(uintptr_t start, Elf64_Phdr *parts, bool *fixed) {
    Elf64_Ehdr header;
    if (!target_read(&header, start, sizeof header) ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_phentsize != sizeof *parts || header.e_phnum > PARTS_MAX ||
        !target_read(parts, start + header.e_phoff, header.e_phnum * sizeof *parts)) {
        return 0;
    }
    *fixed = header.e_type == ET_EXEC;
    return header.e_phnum;
}

/* The first page of a file is mapped at `start`. */
static void add_module(uintptr_t start, const char *path) {
    Elf64_Phdr parts[PARTS_MAX];
    bool fixed = false;
    size_t count = read_parts(start, parts, &fixed);
    struct module module = {.start = start, .base = fixed ? 0 : start};
    for (size_t i = 0; i < count; i++) {
        uintptr_t end = module.base + parts[i].p_vaddr + parts[i].p_memsz;
        if (parts[i].p_type == PT_LOAD && end > module.end && end > start &&
            end - start < MODULE_BYTES_MAX) {
            module.end = end;
        }
    }
    for (size_t i = 0; i < count && module.build_id_length == 0; i++) {
        if (parts[i].p_type == PT_NOTE) {
            add_build_id(&module, module.base + parts[i].p_vaddr, parts[i].p_memsz);
        }
    }
    if (module.end == 0) {
        return;
    }
    module.path = need(strdup(path));
    target.modules = grow(target.modules, target.count, &target.room, sizeof *target.modules);
    target.modules[target.count++] = module;
}

/* A file that is no module may be mapped as data: what counts is that some of it can be run. */
static void note_mapping(const char *line) {
    uintptr_t start, end;
    unsigned long offset, inode;
    char access[8];
    int path_at = 0;
    if (sscanf(line, "%lx-%lx %7s %lx %*s %lu %n", &start, &end, access, &offset, &inode,
               &path_at) < 5 ||
        path_at == 0) {
        return;
    }
    const char *path = line + path_at;
    if (offset == 0 && access[0] == 'r' && (inode != 0 || strcmp(path, "[vdso]") == 0)) {
        add_module(start, path);
    }
    if (access[2] == 'x' && target.count > 0) {
        struct module *last = &target.modules[target.count - 1];
        last->has_code |= start >= last->start && start < last->end;
    }
}

/* Returns false where there are none, as in a thread that is about to end. */
static bool read_maps(int tid) {
    static const char gone[] = " (deleted)"; /* its file was replaced */
    char path[64];
    char *line = NULL;
    size_t room = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/maps", target.pid, tid);
    FILE *maps = fopen(path, "re");
    if (maps == NULL) {
        if (errno == EACCES || errno == EPERM) {
            not_permitted();
        }
        return false;
    }
    bool any = false;
    for (ssize_t length; (length = getline(&line, &room, maps)) > 0; any = true) {
        line[length - 1] = '\0';
        size_t tail = sizeof gone - 1;
        if ((size_t)length > tail && strcmp(line + length - 1 - tail, gone) == 0) {
            line[(size_t)length - 1 - tail] = '\0';
        }
        note_mapping(line);
    }
    if (!any && ferror(maps) && (errno == EACCES || errno == EPERM)) {
        not_permitted();
    }
    free(line);
    fclose(maps);
    return any;
}

const struct module *target_module(uintptr_t address) {
    for (size_t i = 0; i < target.count; i++) {
        const struct module *module = &target.modules[i];
        if (module->has_code && address >= module->start && address < module->end) {
            return module;
        }
    }
    return NULL;
}

const struct module *target_module_named(const char *prefix) {
    for (size_t i = 0; i < target.count; i++) {
        const char *slash = strrchr(target.modules[i].path, '/');
        if (slash != NULL && strncmp(slash + 1, prefix, strlen(prefix)) == 0) {
            return &target.modules[i];
        }
    }
    return NULL;
}

/* --- dynamic symbols --------------------------------------------------------------------------- */

struct symbols {
    uintptr_t hash, names, table;
};

/* The dynamic linker has made addresses of what were offsets in the file; in a module that it has
 * not come to yet they still are. */
static bool find_symbols(const struct module *module, struct symbols *found) {
    Elf64_Phdr parts[PARTS_MAX];
    bool fixed;
    /* cppcheck-suppress ctunullpointer ; its caller has given up on that */
    size_t count = read_parts(module->start, parts, &fixed);
    for (size_t i = 0; i < count; i++) {
        uintptr_t at = module->base + parts[i].p_vaddr;
        Elf64_Dyn item = {.d_tag = ~DT_NULL};
        for (size_t left = parts[i].p_type == PT_DYNAMIC ? parts[i].p_memsz / sizeof item : 0;
             left > 0 && target_read(&item, at, sizeof item) && item.d_tag != DT_NULL;
             left--, at += sizeof item) {
            uintptr_t where = item.d_un.d_ptr + (item.d_un.d_ptr < module->base ? module->base : 0);
            switch (item.d_tag) {
            case DT_GNU_HASH:
                found->hash = where;
                break;
            case DT_STRTAB:
                found->names = where;
                break;
            case DT_SYMTAB:
                found->table = where;
                break;
            default:
                break;
            }
        }
    }
    return found->hash != 0 && found->names != 0 && found->table != 0;
}

/* https://flapenguin.me/elf-dt-gnu-hash and glibc, elf/dl-lookup.c */
uintptr_t target_symbol(const struct module *module, const char *name) {
    struct symbols symbols = {0};
    struct {
        uint32_t buckets, first, bloom_words, bloom_shift;
    } header;
    uint32_t hash = 5381, index;
    for (const char *at = name; *at != '\0'; at++) {
        hash = hash * 33 + (unsigned char)*at;
    }
    if (!find_symbols(module, &symbols) || !target_read(&header, symbols.hash, sizeof header) ||
        header.buckets == 0) {
        return 0;
    }
    uintptr_t buckets = symbols.hash + sizeof header + header.bloom_words * sizeof(uint64_t);
    uintptr_t chains = buckets + header.buckets * sizeof index;
    if (!target_read(&index, buckets + hash % header.buckets * sizeof index, sizeof index) ||
        index < header.first) {
        return 0;
    }
    for (uint32_t limit = CHAIN_MAX, link; limit > 0; limit--, index++) {
        Elf64_Sym symbol;
        char here[64];
        if (!target_read(&link, chains + (index - header.first) * sizeof link, sizeof link) ||
            !target_read(&symbol, symbols.table + index * sizeof symbol, sizeof symbol)) {
            return 0;
        }
        target_read_string(here, sizeof here, symbols.names + symbol.st_name);
        if ((link | 1) == (hash | 1) && strcmp(here, name) == 0) {
            return module->base + symbol.st_value;
        }
        if ((link & 1) != 0) {
            break;
        }
    }
    return 0;
}

/* --- finding it ------------------------------------------------------------------------------ */

static bool lives_elsewhere(void) {
    char path[64], its[64] = "", own[64] = "";
    snprintf(path, sizeof path, "/proc/%d/ns/pid", target.reader);
    return readlink(path, its, sizeof its - 1) > 0 &&
           readlink("/proc/self/ns/pid", own, sizeof own - 1) > 0 && strcmp(its, own) != 0;
}

/* A thread that has not ended, or 0: where only the first one has, the process looks like a zombie. */
static int live_thread(void) {
    char path[64];
    int found = 0;
    snprintf(path, sizeof path, "/proc/%d/task", target.pid);
    DIR *list = opendir(path);
    if (list == NULL) {
        return 0;
    }
    for (const struct dirent *entry; found == 0 && (entry = readdir(list)) != NULL;) {
        struct task task;
        int tid = (int)strtol(entry->d_name, NULL, 10);
        if (tid > 0 && read_task(tid, &task)) {
            found = tid;
        }
    }
    closedir(list);
    return found;
}

void target_must_live(void) {
    if (live_thread() == 0) {
        ended_meanwhile();
    }
}

const char *target_program(void) {
    static char name[4096];
    if (!read_proc(target.reader, "cmdline", name, sizeof name) || name[0] == '\0') {
        return "?";
    }
    return basename(name);
}

void target_open(int pid) {
    char status[4096];
    target.pid = pid;
    if (!read_proc(0, "status", status, sizeof status)) {
        give_up("no process %d", pid);
    }
    target.pid = status_number(status, "\nTgid:", false);
    target.reader = live_thread();
    if (target.reader == 0) {
        give_up("process %d has ended%s", pid,
                target_tid_exists(pid) ? ", and is a zombie: its parent has not waited for it"
                                       : "");
    }
    target.other_ids = lives_elsewhere();
    if (!read_maps(target.reader)) {
        target_must_live();
        give_up("process %d has no memory to look at: it is the kernel's", pid);
    }
}
