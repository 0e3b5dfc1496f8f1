/* event.h - what happened at a fork, for FORKSAFE_REPORT.
 *
 * A path: one JSON object a line (the schema is in README.md), appended by a single write(2) to a
 * file that is opened for it and closed again, so that many processes may write to one file, and
 * the program's descriptors stay as they are. "-": a line of text for every fork, on stderr.
 *
 * The child tells: it alone sees what it inherited. Nothing here takes a lock or allocates with
 * malloc. */
#ifndef FS_EVENT_H
#define FS_EVENT_H

#include "registry.h"

/* True if anything is to be told; the calls below do nothing otherwise. */
bool fs_event_wanted(void);

/* The options in effect; once, at start-up. */
void fs_event_config(void);

/* In the thread that is about to fork: remembers where it stands. */
void fs_event_prepare(void);

/* In the child. Begins; adds what a vanished thread left behind; writes. */
void fs_event_begin(void);
void fs_event_entry(const struct fs_thread *vanished, const struct fs_entry *entry);
void fs_event_wait(const struct fs_thread *vanished, const struct fs_wait *wait);
void fs_event_end(void);

#endif
