/* target.h - another process, looked at from outside: its memory, its modules, its threads.
 *
 * It runs on meanwhile, so that whatever is read may be torn, stale or gone: reads fail, and never
 * crash. Nothing is stopped. Addresses are the other process's. */
#ifndef FS_TARGET_H
#define FS_TARGET_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct module {
    uintptr_t start, end; /* of all its segments, .bss too */
    uintptr_t base;       /* what offsets in it are counted from */
    char *path;
    bool has_code;
    unsigned char build_id[64];
    size_t build_id_length; /* 0: it has none */
};

struct task {
    int tid;         /* as this process sees it */
    int inner;       /* as it sees itself: another number in a pid namespace of its own */
    char name[64];   /* the kernel's */
    char state;      /* the kernel's letter, proc_pid_stat(5) */
    long call;       /* the number of the system call that it is in, or -1 */
    uintptr_t futex; /* what it waits for in futex(2), or 0 */
};

/* One line on stderr, "forksafe ps: ...", and exit status 1. */
_Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Give up where there is no memory. grow(): room for one more element behind `count` of them. */
void *need(void *memory);
void *grow(void *array, size_t count, size_t *room, size_t size);

/* Looks for the process and reads its maps. Gives up where there is no such process, where it is a
 * zombie, and where the kernel does not let us look. */
void target_open(int pid);
/* The process's id, where target_open() was given that of one of its threads. */
int target_pid(void);
/* The name that it was called by, without its folder. */
const char *target_program(void);
/* Gives up where it has ended, or is about to. */
void target_must_live(void);

/* Copies memory. Returns false where it is not mapped. */
bool target_read(void *to, uintptr_t from, size_t bytes);
/* Copies a string of less than `size` bytes, and cuts a longer one. "" where there is none. */
void target_read_string(char *to, size_t size, uintptr_t from);

/* The module that the address lies in, or NULL. */
const struct module *target_module(uintptr_t address);
/* The first module whose file name begins so, or NULL. */
const struct module *target_module_named(const char *prefix);
/* The address of a dynamic symbol of the module, as its memory has it; 0: none. The file is not
 * looked at: it may have been replaced, or lie in another mount namespace. */
uintptr_t target_symbol(const struct module *module, const char *name);

/* All threads, the first one first. Gives up where the process has ended. */
struct task *target_tasks(size_t *count);
/* True if some process has a thread with this id. */
bool target_tid_exists(int tid);

#endif
