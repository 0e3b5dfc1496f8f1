/* report.h - what forksafe says, on stderr.
 *
 * Each line is one write(2), made without stdio, malloc or locks, so that it may be written in a
 * signal handler or in a child before its atfork handlers have run. Nothing is written where
 * descriptor 2 is no longer what it was at start-up: a daemon may have a socket or a database
 * there. */
#ifndef FS_REPORT_H
#define FS_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "registry.h"

/* Text that is put together in a fixed buffer; what does not fit is cut. Always NUL-terminated. */
struct fs_text {
    char *buffer;
    size_t size;
    size_t length;
};
struct fs_text fs_text(char *buffer, size_t size);
void fs_text_string(struct fs_text *text, const char *string);
void fs_text_number(struct fs_text *text, int64_t number);
void fs_text_hex(struct fs_text *text, uintptr_t number);
/* "name (module)" of an object or "name+0x12 (module)" inside a function where the dynamic symbols
 * tell, else "module+0x1234", else the bare address. `symbols`: dladdr may be called, that is, the
 * dynamic linker's lock is free. */
void fs_text_address(struct fs_text *text, const void *address, bool symbols);

/* 'thread "worker" (tid 4711)'. */
void fs_text_thread(struct fs_text *text, int tid, const char *name);

/* Remembers what descriptor 2 is, and the program's name. */
void fs_report_init(void);

/* The last part of the name that the program was started by. libc's own variable points into the
 * arguments, which servers overwrite with what ps is to show. */
const char *fs_program_name(void);

/* Bytes of a line, with its end; what is longer is cut. */
enum { FS_LINE_MAX = 1024 };

/* Begins a line about a fork, in the child: "forksafe: process 12 (forked by 11): ". */
struct fs_text fs_report_begin(char *buffer, size_t size);

/* Writes the line and a newline. */
void fs_report_line(const char *line);

/* In the child: `holder` has vanished, and its hold of `entry` was taken away, or it was inside a critical
 * call. Adds all of the line but its beginning, and the end below. */
void fs_text_forced(struct fs_text *text, const struct fs_thread *holder,
                    const struct fs_entry *entry, bool symbols);
/* The end of the line where `kind` is a lock's. `taker`: the call that takes it now; NULL: not yet. */
void fs_text_forced_end(struct fs_text *text, uint8_t kind, const void *taker);

/* In a forked child: what it has run into (event.h), at which call. */
struct fs_remnant;
void fs_report_deadlock(const struct fs_remnant *remnant, const char *what, const char *call,
                        const void *caller, const void *fork_site, bool healed);
struct fs_stuck;
void fs_report_stuck(const struct fs_stuck *stuck);

/* The user's word for a kind: "mutex", "rwlock (read)", ... */
extern const char *const fs_kind_names[FS_KIND_COUNT];
const char *fs_kind_name(uint8_t kind);

#endif
