/* stacks.h - where locks were taken, with FORKSAFE_STACKS=1.
 *
 * Stacks are kept once each, under a number that fits into an entry, and never given back: a program
 * takes its locks in a bounded number of ways. */
#ifndef FS_STACKS_H
#define FS_STACKS_H

#include "registry.h"

enum { FS_STACK_MAX = 64 }; /* frames of one stack */

/* Stores the caller's stack from the program's own code on, without ours and libc's frames at its
 * inner end. Returns how many frames. Any thread, in a signal handler too. */
unsigned fs_stack_here(uintptr_t *stack);

/* The entry that the caller is about to fill, if there is room for it, was taken here. */
void fs_stacks_note(struct fs_thread *self, uint32_t slot);

/* The frames of a stack, innermost first; NULL for 0. */
const uintptr_t *fs_stacks_get(uint32_t stack, unsigned *depth);

/* In a forked child: whoever was adding a stack has vanished. */
void fs_stacks_alone(void);

#endif
