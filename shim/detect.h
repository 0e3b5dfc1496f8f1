/* detect.h - what of all that a child inherited does it run into?
 *
 * What the vanished threads left behind is remembered; from then on the real functions are called
 * through twins (hooks/twins.c) that look it up first. With FORKSAFE_MODE=detect that is everything, and
 * nothing is put right beforehand. In repair it is what had to be forced, and is only told. */
#ifndef FS_DETECT_H
#define FS_DETECT_H

#include "arch.h"
#include "critical.h"
#include "event.h"
#include "registry.h"

/* What the child is about to do with the object. */
enum fs_meeting {
    FS_BLOCKS,   /* it would wait */
    FS_BUSY,     /* it was told that somebody has it */
    FS_DESTROYS, /* it destroys it, which would wait or fail */
    FS_SIGNALS,  /* it wakes another, which would wait for the old ones to leave */
    FS_BROADCASTS,
    FS_CALLS, /* it enters a libc call whose lock somebody may have held */
};

/* In the child, at the fork, in the only thread. The second begins to watch, if there is anything to
 * watch for. */
void fs_detect_remember(const struct fs_remnant *remnant);
void fs_detect_begin(void);
/* In repair, as the first: `line` is told when the child takes the lock, or calls what it may hang in
 * (report.h, fs_text_forced). */
void fs_detect_forced(void *object, uint8_t kind, const char *line);

/* True if a vanished thread left something behind in this object. Fast; keeps errno. */
bool fs_is_inherited(const void *object);

/* The caller runs into the object, which it has found locked where it is a lock (FS_BLOCKS, FS_BUSY).
 * If it is a vanished thread's doing, that is told, and the object put right, or the process ended
 * (FORKSAFE_ON_DEADLOCK). Returns true if it was put right: the caller tries again. Keeps errno. */
bool fs_detect_meet(enum fs_meeting meeting, enum fs_kind kind, void *object);
/* The same for a semaphore that was given back because its note says so (layout.h). */
void fs_detect_semaphore(void *sem, int holder);

/* In repair: the caller has the lock, which was forced. Keeps errno. */
void fs_detect_taken(const void *object);

/* The lock was not found locked, and is the caller's: nobody is in the middle of taking it. */
void fs_detect_free(enum fs_kind kind, const void *object);

/* The object was initialised or destroyed: nobody's any more. */
void fs_detect_forget(const void *object);

/* True in a child in which a libc call was cut. Looked at by every critical call. */
extern FS_HIDDEN bool fs_calls_inherited;
void fs_detect_call(const struct fs_critical *call, const void *caller);

#endif
