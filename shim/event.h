/* event.h - what happened, for FORKSAFE_REPORT.
 *
 * A path: one JSON object a line (the schema is in README.md), appended by a single write(2) to a
 * file that is opened for it and closed again, so that many processes may write to one file, and
 * the program's descriptors stay as they are. "-": a line of text for every fork, on stderr.
 *
 * Of a fork the child tells: it alone sees what it inherited. Nothing here takes a lock of libc's or
 * allocates with malloc. */
#ifndef FS_EVENT_H
#define FS_EVENT_H

#include <time.h>

#include "forkpage.h"
#include "registry.h"
#include "stacks.h"

/* A fork, as its child remembers it: who forked, when, and where. */
struct fs_origin {
    struct timespec time;
    int pid; /* of the process that forked */
    int tid;
    char name[FS_NAME_MAX];
    struct fs_stop_report stop;
    unsigned depth; /* of the stack */
    uintptr_t stack[FS_STACK_MAX];
};

/* What a vanished thread left behind: a lock that it held, took or gave back, a wait, or a libc call
 * that it was inside. A copy: its record is soon another thread's. */
struct fs_remnant {
    void *object; /* of FS_KIND_CRITICAL: a struct fs_critical */
    const void *caller;
    uintptr_t stood_at; /* 0: not known */
    const struct fs_origin *origin;
    uint32_t stack; /* stacks.h */
    int tid;
    int owner_id;
    uint8_t kind;
    uint8_t phase;
    bool waits;    /* a wait: the phase means nothing */
    uint32_t line; /* detect.c: what to say of it, or 0 */
    char name[FS_NAME_MAX];
};

/* True if forks are to be told or remembered; fs_event_prepare() does nothing otherwise. */
bool fs_event_wanted(void);
/* True if events are written to a file: nothing of them is said on stderr then. */
bool fs_event_in_file(void);

/* The options in effect; once, at start-up. */
void fs_event_config(void);

/* In the thread that is about to fork: remembers where it stands. */
void fs_event_prepare(void);
/* ... and has stopped the others. */
void fs_event_stopped(void);
/* In the child: the last fork. Valid until the next one. */
const struct fs_origin *fs_event_origin(void);

/* In the child. Begins; adds what a vanished thread left behind; writes. */
void fs_event_begin(void);
void fs_event_inherited(const struct fs_remnant *remnant);
void fs_event_end(void);

/* In a forked child, any thread: it has run into something inherited. `what`: "blocks", "busy",
 * "destroys", "signals" or "calls". `caller`: of the call; `call`: its name where it is a libc call
 * (FS_CALLS), else NULL. */
void fs_event_deadlock(const struct fs_remnant *remnant, const char *what, const char *call,
                       const void *caller, bool healed);

/* A thread of a forked child has waited for `ms`. `owner` may be NULL. In the suspend signal's
 * handler. */
struct fs_stuck {
    const struct fs_thread *self;
    struct fs_thread *owner;
    const void *object;
    const void *caller;
    int ms;
    uint8_t kind;
};
void fs_event_stuck(const struct fs_stuck *stuck);

#endif
