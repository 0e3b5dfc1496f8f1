/* dlclose, and dlopen and dlmopen, which look at their return address: the caller's own search path may decide
 * which file is meant. Called from here they would see us.
 *
 * Where the caller makes no difference, and that is nearly always, they are critical calls like
 * those of critical.def. Where it does, the caller is held back at the gate and then jumps to the
 * real function, as if we were not there; that it is inside, only ld.so's lock shows (loader.h).
 *
 * dlsym, dlvsym and dladdr are not intercepted: they change nothing, and the lock that they take is
 * one that fork() frees in the child. */
#include <string.h>

#include "../loader.h"
#include "hook.h"

/* A function that saves its arguments, asks choose_NAME(arguments, caller) where to go, and goes
 * there with stack and registers as they were. */
#define LOOKS_AT_ITS_CALLER(name)                                                                  \
    __asm__(".text\n\t.globl " #name "\n\t.type " #name ", @function\n" #name ":\n\t"              \
            ".cfi_startproc\n\t"                                                                   \
            "push %rdi\n\t.cfi_adjust_cfa_offset 8\n\t"                                            \
            "push %rsi\n\t.cfi_adjust_cfa_offset 8\n\t"                                            \
            "push %rdx\n\t.cfi_adjust_cfa_offset 8\n\t"                                            \
            "mov 24(%rsp), %rcx\n\t"                                                               \
            "call choose_" #name "\n\t"                                                            \
            "pop %rdx\n\t.cfi_adjust_cfa_offset -8\n\t"                                            \
            "pop %rsi\n\t.cfi_adjust_cfa_offset -8\n\t"                                            \
            "pop %rdi\n\t.cfi_adjust_cfa_offset -8\n\t"                                            \
            "jmp *%rax\n\t"                                                                        \
            ".cfi_endproc\n\t.size " #name ", . - " #name)

/* --- does the caller make a difference? ------------------------------------------------------- */

struct search {
    uintptr_t caller;
    bool own_path; /* the answer */
};

static bool contains(const struct dl_phdr_info *module, uintptr_t address) {
    for (unsigned i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &module->dlpi_phdr[i];
        uintptr_t start = module->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && address >= start && address < start + part->p_memsz) {
            return true;
        }
    }
    return false;
}

static const ElfW(Dyn) * dynamic_section(const struct dl_phdr_info *module) {
    for (unsigned i = 0; i < module->dlpi_phnum; i++) {
        if (module->dlpi_phdr[i].p_type == PT_DYNAMIC) {
            return (const ElfW(Dyn) *)(module->dlpi_addr + module->dlpi_phdr[i].p_vaddr);
        }
    }
    return NULL;
}

/* A module's RUNPATH counts for what it loads itself, its RPATH for what those load, too. The
 * program's own RPATH counts for everybody (elf/dl-load.c, _dl_map_object). */
static int look_for_paths(struct dl_phdr_info *module, size_t size, void *context) {
    (void)size;
    struct search *search = context;
    bool is_caller = contains(module, search->caller);
    bool is_program = module->dlpi_name[0] == '\0';
    for (const ElfW(Dyn) *at = dynamic_section(module); at != NULL && at->d_tag != DT_NULL; at++) {
        search->own_path = search->own_path || (is_caller && at->d_tag == DT_RUNPATH) ||
                           (!is_program && at->d_tag == DT_RPATH);
    }
    return search->own_path;
}

static bool caller_matters(const char *file, const void *caller) {
    if (file == NULL || strchr(file, '$') != NULL) {
        return file != NULL;
    }
    if (strchr(file, '/') != NULL) {
        return false;
    }
    struct search search = {.caller = (uintptr_t)caller};
    dl_iterate_phdr(look_for_paths, &search);
    return search.own_path;
}

/* --- in and out ------------------------------------------------------------------------------ */

FS_CRITICAL_INFO opening = {"dlopen", FS_LOCK_dl_load_write_lock, false};
FS_CRITICAL_INFO closing = {"dlclose", FS_LOCK_dl_load_write_lock, false};

/* A caller that holds something goes in at once: whoever waits for it shall see what it waits for. */
static struct fs_inside begin(const struct fs_critical *call, const void *caller) {
    struct fs_inside inside = fs_go_inside(call, caller);
    struct fs_thread *self = inside.self;
    while (self != NULL && !fs_loader_try_turn(self) && self->depth == 1) {
        fs_come_out(&inside);
        uint32_t before = fs_detach(self);
        fs_loader_await_turn();
        fs_attach(self, before);
        inside = fs_go_inside(call, caller);
    }
    return inside;
}

static void end(const struct fs_inside *inside) {
    if (inside->self != NULL) {
        fs_loader_give_turn(inside->self);
    }
    fs_come_out(inside);
}

#define INSIDE_LOADER(info)                                                                        \
    __attribute__((cleanup(end), unused)) struct fs_inside inside = begin(&(info), FS_CALLER())

/* --- the functions --------------------------------------------------------------------------- */

static void *inside_dlopen(const char *file, int mode) {
    INSIDE_LOADER(opening);
    return fs_real.dlopen(file, mode);
}

static void *inside_dlmopen(Lmid_t space, const char *file, int mode) {
    INSIDE_LOADER(opening);
    return fs_real.dlmopen(space, file, mode);
}

FS_EXPORT int dlclose(void *handle) {
    INSIDE_LOADER(closing);
    return fs_real.dlclose(handle);
}

/* Parks the caller if it is to park. Then it goes on as it was. */
static void pass_gate(struct fs_thread *self, const void *caller) {
    if (fs_unlikely(fs_load(&fs_calls_inherited))) {
        fs_detect_call(&opening, caller);
    }
    fs_store(&self->opened_unseen, true);
    uint32_t slot = fs_raise_depth(self);
    fs_store(&self->depth, slot);
}

/* True if the function is to be called from here; else it is to be jumped to, and the caller has
 * passed the gate. */
static bool is_called_from_here(const char *file, const void *caller) {
    struct fs_thread *self = fs_current();
    if (self == NULL || !caller_matters(file, caller)) {
        return self != NULL;
    }
    pass_gate(self, caller);
    return false;
}

__attribute__((used)) static __typeof__(dlopen) *
choose_dlopen(const char *file, int mode, const void *unused, const void *caller) {
    (void)mode, (void)unused;
    return is_called_from_here(file, caller) ? inside_dlopen : fs_real.dlopen;
}

__attribute__((used)) static __typeof__(dlmopen) *choose_dlmopen(Lmid_t space, const char *file,
                                                                 int mode, const void *caller) {
    (void)space, (void)mode;
    return is_called_from_here(file, caller) ? inside_dlmopen : fs_real.dlmopen;
}

LOOKS_AT_ITS_CALLER(dlopen);
LOOKS_AT_ITS_CALLER(dlmopen);
