#include "safepoint.h"

#include <dlfcn.h>
#include <errno.h>
#include <libunwind-x86_64.h>
#include <link.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "arch.h"
#include "config.h"
#include "forkpage.h"
#include "inventory.h"
#include "module.h"
#include "real.h"
#include "registry.h"
#include "report.h"
#include "sys.h"

/* Where libunwind cannot go (no unwind tables, JIT code) what was seen decides; nor is a stack
 * walked for ever. */
enum { DEEPEST_WALK = 256 };

struct range {
    uintptr_t start, end;
};
/* libc, ld.so, and libunwind's two halves once they are loaded; the count goes up when the range is
 * written. Not forksafe itself: its own locks are taken with signals blocked, so that nobody is ever
 * stopped in there. */
static struct range opaque[8];
static unsigned opaque_count;

/* libunwind is loaded by hand and kept out of the global scope: it exports _Unwind_* of its own,
 * and a C++ program must go on throwing through the ones it knows. Its remote half reads through
 * our callbacks, so that no lock of the dynamic linker is taken (the local half would call
 * dl_iterate_phdr for each frame). */
static struct {
    unw_addr_space_t space;
    int (*init_remote)(unw_cursor_t *, unw_addr_space_t, void *);
    int (*step)(unw_cursor_t *);
    int (*get_reg)(unw_cursor_t *, int, unw_word_t *);
    int (*is_signal_frame)(unw_cursor_t *);
    int (*search)(unw_addr_space_t, unw_word_t, unw_dyn_info_t *, unw_proc_info_t *, int, void *);
} unwinder;

bool fs_is_opaque(uintptr_t address) {
    unsigned count = fs_load_acquire(&opaque_count);
    for (unsigned i = 0; i < count; i++) {
        if (address >= opaque[i].start && address < opaque[i].end) {
            return true;
        }
    }
    return false;
}

/* --- modules named by the user --------------------------------------------------------------- */

/* "libfoo.so" stands for "libfoo.so.1" too. */
static bool is_named(const char *module, const char *list) {
    for (const char *at = list; *at != '\0';) {
        size_t length = strcspn(at, ":");
        if (length != 0 && strncmp(module, at, length) == 0 &&
            (module[length] == '\0' || module[length] == '.')) {
            return true;
        }
        at += length + (at[length] == ':');
    }
    return false;
}

static bool is_opaque_by_name(uintptr_t address) {
    struct dl_find_object module;
    if (fs_config.opaque == NULL || !fs_find_module(address, &module)) {
        return false;
    }
    const char *path = module.dlfo_link_map->l_name;
    return is_named(*path != '\0' ? basename(path) : fs_program_name(), fs_config.opaque);
}

/* --- libunwind's callbacks ------------------------------------------------------------------- */

/* The one layout of .eh_frame_hdr that linkers write: a sorted table of (pc, entry) pairs, both
 * relative to the header (LSB 5.0 core, "The .eh_frame_hdr section"). */
struct eh_frame_hdr {
    uint8_t version, eh_frame_encoding, count_encoding, table_encoding;
    int32_t eh_frame;
    uint32_t count;
    int32_t table[][2];
};

static int find_proc_info(unw_addr_space_t space, unw_word_t ip, unw_proc_info_t *info, int need,
                          void *context) {
    struct dl_find_object module;
    if (!fs_find_module(ip, &module) || module.dlfo_eh_frame == NULL) {
        return -UNW_ENOINFO;
    }
    const struct eh_frame_hdr *header = module.dlfo_eh_frame;
    if (header->version != 1 || header->eh_frame_encoding != 0x1b ||
        header->count_encoding != 0x03 || header->table_encoding != 0x3b) {
        return -UNW_ENOINFO;
    }
    unw_dyn_info_t table;
    memset(&table, 0, sizeof table);
    table.format = UNW_INFO_FORMAT_REMOTE_TABLE;
    table.start_ip = (unw_word_t)module.dlfo_map_start;
    table.end_ip = (unw_word_t)module.dlfo_map_end;
    table.u.rti.segbase = (unw_word_t)header;
    table.u.rti.table_data = (unw_word_t)header->table;
    table.u.rti.table_len = header->count * sizeof header->table[0] / sizeof(unw_word_t);
    return unwinder.search(space, ip, &table, info, need, context);
}

static void put_unwind_info(unw_addr_space_t space, unw_proc_info_t *info, void *context) {
    (void)space, (void)info, (void)context; /* the search took it from libunwind's own pool */
}

static int no_dynamic_info(unw_addr_space_t space, unw_word_t *list, void *context) {
    (void)space, (void)list, (void)context;
    return -UNW_ENOINFO;
}

/* libunwind reads unwind tables byte by byte. A page that could be read once is read directly for
 * the rest of the walk: the stack of a thread that does not run stays, and so does its code. */
enum { PAGE = 4096, PAGES_KNOWN = 16 };
static uintptr_t readable_pages[PAGES_KNOWN];
static bool stack_may_go; /* then nothing is known for longer than a moment */

static bool page_is_readable(uintptr_t page) {
    uintptr_t *known = &readable_pages[page / PAGE % PAGES_KNOWN];
    unw_word_t word;
    if (*known != page && !fs_peek(&word, (const void *)page, sizeof word)) {
        return false;
    }
    *known = page;
    return true;
}

static int access_mem(unw_addr_space_t space, unw_word_t address, unw_word_t *value, int write,
                      void *context) {
    (void)space, (void)context;
    uintptr_t first = address & ~(uintptr_t)(PAGE - 1);
    uintptr_t last = (address + sizeof *value - 1) & ~(uintptr_t)(PAGE - 1);
    if (stack_may_go && !write) {
        return fs_peek(value, (const void *)address, sizeof *value) ? 0 : -UNW_EINVAL;
    }
    if (write || !page_is_readable(first) || (last != first && !page_is_readable(last))) {
        return -UNW_EINVAL;
    }
    memcpy(value, (const void *)address, sizeof *value);
    return 0;
}

static int access_reg(unw_addr_space_t space, unw_regnum_t reg, unw_word_t *value, int write,
                      void *context) {
    static const int place[] = {
        [UNW_X86_64_RAX] = REG_RAX, [UNW_X86_64_RDX] = REG_RDX, [UNW_X86_64_RCX] = REG_RCX,
        [UNW_X86_64_RBX] = REG_RBX, [UNW_X86_64_RSI] = REG_RSI, [UNW_X86_64_RDI] = REG_RDI,
        [UNW_X86_64_RBP] = REG_RBP, [UNW_X86_64_RSP] = REG_RSP, [UNW_X86_64_R8] = REG_R8,
        [UNW_X86_64_R9] = REG_R9,   [UNW_X86_64_R10] = REG_R10, [UNW_X86_64_R11] = REG_R11,
        [UNW_X86_64_R12] = REG_R12, [UNW_X86_64_R13] = REG_R13, [UNW_X86_64_R14] = REG_R14,
        [UNW_X86_64_R15] = REG_R15, [UNW_X86_64_RIP] = REG_RIP,
    };
    (void)space;
    if (write || reg < 0 || (size_t)reg >= sizeof place / sizeof *place) {
        return -UNW_EBADREG;
    }
    *value = (unw_word_t)((const greg_t *)context)[place[reg]];
    return 0;
}

static unw_accessors_t accessors = {
    .find_proc_info = find_proc_info,
    .put_unwind_info = put_unwind_info,
    .get_dyn_info_list_addr = no_dynamic_info,
    .access_mem = access_mem,
    .access_reg = access_reg,
};

/* --- setting up ------------------------------------------------------------------------------ */

static void add_module_of(const void *address) {
    struct dl_find_object module;
    if (address != NULL && fs_find_module((uintptr_t)address, &module)) {
        opaque[opaque_count] =
            (struct range){(uintptr_t)module.dlfo_map_start, (uintptr_t)module.dlfo_map_end};
        fs_store_release(&opaque_count, opaque_count + 1);
    }
}

/* The two lowest free descriptors. */
static void next_descriptors(int fds[2]) {
    for (unsigned i = 0; i < 2; i++) {
        fds[i] = (int)fs_syscall1(SYS_epoll_create1, EPOLL_CLOEXEC);
    }
    for (unsigned i = 0; i < 2; i++) {
        fs_syscall1(SYS_close, fds[i]);
    }
}

static bool is_pipe(const int fds[2]) {
    struct stat ends[2] = {{0}};
    return fs_syscall2(SYS_fstat, fds[0], &ends[0]) == 0 && S_ISFIFO(ends[0].st_mode) &&
           fs_syscall2(SYS_fstat, fds[1], &ends[1]) == 0 && ends[1].st_ino == ends[0].st_ino &&
           ends[1].st_dev == ends[0].st_dev;
}

/* libunwind begins by opening a pipe, with which its local half checks addresses. The half that we
 * use does not, and the program's descriptors are to stay as they are. */
static void close_its_pipe(const int fds[2]) {
    if (is_pipe(fds)) {
        fs_syscall1(SYS_close, fds[0]);
        fs_syscall1(SYS_close, fds[1]);
    }
}

static void load_libunwind(void) {
    int fds[2];
    void *library = fs_real.dlopen("libunwind-x86_64.so.8", RTLD_LOCAL | RTLD_NOW);
    if (library == NULL) {
        return; /* stacks are then not walked; the program counter alone decides */
    }
    unw_addr_space_t (*create)(unw_accessors_t *, int) =
        dlsym(library, "_Ux86_64_create_addr_space");
    int (*set_caching)(unw_addr_space_t, unw_caching_policy_t) =
        dlsym(library, "_Ux86_64_set_caching_policy");
    unwinder.init_remote = dlsym(library, "_Ux86_64_init_remote");
    unwinder.step = dlsym(library, "_Ux86_64_step");
    unwinder.get_reg = dlsym(library, "_Ux86_64_get_reg");
    unwinder.is_signal_frame = dlsym(library, "_Ux86_64_is_signal_frame");
    unwinder.search = dlsym(library, "_Ux86_64_dwarf_search_unwind_table");
    if (create == NULL || set_caching == NULL || unwinder.init_remote == NULL ||
        unwinder.step == NULL || unwinder.get_reg == NULL || unwinder.is_signal_frame == NULL ||
        unwinder.search == NULL) {
        return;
    }
    next_descriptors(fds);
    unw_addr_space_t space = create(&accessors, 0);
    if (space != NULL) {
        set_caching(space, UNW_CACHE_NONE); /* the caches have locks */
    }
    close_its_pipe(fds);
    add_module_of((const void *)(uintptr_t)unwinder.step);
    void *local = fs_real.dlopen("libunwind.so.8", RTLD_LOCAL | RTLD_NOW | RTLD_NOLOAD);
    if (local != NULL) {
        add_module_of(dlsym(local, "_ULx86_64_step"));
    }
    fs_store_release(&unwinder.space, space);
}

/* Asked of libc alone: the next definition after ours may be another preload's wrapper. */
static const void *somewhere_in_libc(void) {
    void *libc = fs_real.dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    const void *found = libc != NULL ? dlsym(libc, "fork") : NULL;
    return found != NULL ? found : (const void *)(uintptr_t)fs_real.fork;
}

void fs_safepoint_init(void) {
    if (opaque_count == 0) {
        add_module_of(somewhere_in_libc());
        add_module_of(dlsym(RTLD_DEFAULT, "__tls_get_addr")); /* ld.so */
    }
}

void fs_unwinder_load(void) {
    static bool begun;
    if (!__atomic_exchange_n(&begun, true, __ATOMIC_ACQ_REL)) {
        int saved_errno = errno;
        load_libunwind();
        errno = saved_errno;
    }
}

/* --- the walk -------------------------------------------------------------------------------- */

static void mark(bool walks) {
    if (fs_config.stacks && fs_self != NULL) {
        fs_self->walks = walks;
    }
}

void fs_walk_lock(void) {
    fs_lock_or_go_on(&fs_fork_page.walk_lock);
    mark(true);
}

void fs_walk_unlock(void) {
    mark(false);
    fs_unlock(&fs_fork_page.walk_lock);
}

void fs_walk_alone(struct fs_thread *self) {
    fs_update(&self->walks, false);
    fs_update(&fs_fork_page.walk_lock.word, 0U);
}

static bool begin_walk(unw_cursor_t *cursor, const greg_t *registers, bool may_go) {
    memset(readable_pages, 0xff, sizeof readable_pages); /* no page has such an address */
    stack_may_go = may_go;
    unw_addr_space_t space = fs_load_acquire(&unwinder.space);
    return space != NULL && unwinder.init_remote(cursor, space, (void *)(uintptr_t)registers) == 0;
}

static unsigned walk_stack(const greg_t *registers, uintptr_t *stack, unsigned room) {
    unw_cursor_t cursor;
    unsigned depth = 0;
    unw_word_t ip;
    if (!begin_walk(&cursor, registers, false)) {
        return 0;
    }
    while (depth < room && unwinder.get_reg(&cursor, UNW_X86_64_RIP, &ip) == 0 && ip != 0) {
        stack[depth++] = ip;
        if (unwinder.step(&cursor) <= 0) {
            break;
        }
    }
    return depth;
}

/* With the lock of walks the caller must not park, in the hook of libunwind's own mutex: it counts as
 * a holder meanwhile. */
static void hold_depth(void) {
    if (fs_self != NULL) {
        fs_raise_over(fs_self);
    }
}

static void let_depth_go(void) {
    if (fs_self != NULL) {
        fs_store(&fs_self->depth, fs_self->depth - 1);
    }
}

/* libunwind sets masks of its own, from which glibc takes SIGCANCEL: where a handler walks in the middle of
 * a call that may be cancelled, no cancellation must end the walk. The type is changed, not the state:
 * where glibc 2.36's pthread_setcancelstate() itself ends the thread, its result is not PTHREAD_CANCELED. */
unsigned fs_walk_stack(const greg_t *registers, uintptr_t *stack, unsigned room) {
    int cancellation;
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &cancellation);
    fs_sigset saved = fs_signals_block();
    hold_depth();
    fs_walk_lock();
    unsigned depth = walk_stack(registers, stack, room);
    fs_walk_unlock();
    let_depth_go();
    fs_signals_restore(saved);
    pthread_setcanceltype(cancellation, NULL);
    return depth;
}

/* Two kinds of frame matter. What a signal has interrupted: libc there is in the middle of
 * something. And, where the thread itself was stopped by a signal, any frame of an opaque module
 * that the program called: not the outermost ones, where libc calls the start routine or main(),
 * and not the trampoline that a signal handler returns to. */
static bool is_safe_point(const greg_t *registers, enum fs_standing standing) {
    unw_cursor_t cursor;
    if (!begin_walk(&cursor, registers, standing == FS_AT_A_CALL_THAT_MAY_RETURN)) {
        return true;
    }
    bool last_opaque = false;
    bool inside = false;
    for (unsigned depth = 0; depth < DEEPEST_WALK; depth++) {
        unw_word_t ip;
        if (unwinder.get_reg(&cursor, UNW_X86_64_RIP, &ip) != 0 || ip == 0) {
            break;
        }
        bool is_opaque = fs_is_opaque(ip);
        /* True of the frame that the signal interrupted; the one before is then the trampoline. */
        bool interrupted = unwinder.is_signal_frame(&cursor) > 0;
        inside = inside || (standing == FS_INTERRUPTED && last_opaque && !interrupted);
        if ((is_opaque && interrupted) || is_opaque_by_name(ip)) {
            return false;
        }
        last_opaque = is_opaque;
        if (unwinder.step(&cursor) <= 0) {
            break; /* the outermost: _start, which called libc, which called main() */
        }
        if (!is_opaque && inside) {
            return false;
        }
    }
    return true;
}

/* --- the same, roughly ------------------------------------------------------------------------ */

/* Where signal handlers return to. glibc names it to the kernel with every action. */
static uintptr_t restorer(void) {
    enum { SA_RESTORER_FLAG = 0x04000000, SIGNALS = 64 };
    static uintptr_t known;
    for (int signo = 1; fs_load(&known) == 0 && signo <= SIGNALS; signo++) {
        struct {
            uintptr_t handler, flags, restorer, mask;
        } action = {0};
        fs_syscall4(SYS_rt_sigaction, signo, NULL, &action, sizeof action.mask);
        if ((action.flags & SA_RESTORER_FLAG) != 0) {
            fs_store(&known, action.restorer);
        }
    }
    return known;
}

/* What the kernel pushes: the return address, then the context that was interrupted. */
static bool interrupts(uintptr_t frame, bool (*what)(uintptr_t address)) {
    greg_t ip = 0;
    uintptr_t at = frame + sizeof frame + offsetof(ucontext_t, uc_mcontext.gregs[REG_RIP]);
    return fs_peek(&ip, (const void *)at, sizeof ip) && what((uintptr_t)ip);
}

/* `unknown`: the answer where memory cannot be looked at. */
static bool seems_to_interrupt(bool (*what)(uintptr_t address), uintptr_t start, bool unknown) {
    enum { FARTHEST = 64 * 1024, WORDS = 128 };
    uintptr_t words[WORDS];
    uintptr_t wanted = restorer();
    uintptr_t at = start & ~(sizeof words - 1); /* no piece reaches into another page */
    if (wanted == 0 || !fs_peek_tells()) {
        return wanted != 0 && unknown;
    }
    for (; at < start + FARTHEST && fs_peek(words, (const void *)at, sizeof words);
         at += sizeof words) {
        for (unsigned i = 0; i < WORDS; i++) {
            uintptr_t frame = at + i * sizeof *words;
            if (words[i] == wanted && frame >= start && interrupts(frame, what)) {
                return true;
            }
        }
    }
    return false;
}

bool fs_seems_to_interrupt_opaque(uintptr_t frame) {
    return seems_to_interrupt(fs_is_opaque, frame, false);
}

/* The linker's names for the ends of our own code. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

static bool is_ours(uintptr_t address) {
    return address >= (uintptr_t)__ehdr_start && address < (uintptr_t)etext;
}

bool fs_seems_to_interrupt_us(uintptr_t frame) { return seems_to_interrupt(is_ours, frame, true); }

bool fs_is_safe_point(const greg_t *registers, enum fs_standing standing) {
    fs_walk_lock();
    bool safe = is_safe_point(registers, standing);
    fs_walk_unlock();
    return safe;
}
