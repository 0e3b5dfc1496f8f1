/* config.h - what the user asked for, from FORKSAFE_* in the environment.
 *
 * Read once, when the library starts; never changes afterwards. */
#ifndef FS_CONFIG_H
#define FS_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "arch.h"

enum fs_mode { FS_MODE_REPAIR, FS_MODE_DETECT, FS_MODE_OFF };
enum fs_suspend { FS_SUSPEND_SIGNAL, FS_SUSPEND_GATE };
enum fs_semaphores { FS_SEM_AUTO, FS_SEM_OFF };
enum fs_on_deadlock { FS_HEAL, FS_ABORT };

enum { FS_OPAQUE_MAX = 1024, FS_REPORT_MAX = 1024, FS_OPTION_TEXT_MAX = 1024 };

struct fs_config {
    int mode;           /* enum fs_mode */
    int deadline_ms;    /* how long a fork may wait for a holder, in milliseconds */
    int suspend;        /* enum fs_suspend */
    int signal;         /* the suspend signal; 0: one that the program does not use */
    int semaphores;     /* enum fs_semaphores */
    int watchdog_ms;    /* a forked child's wait is told after so long; 0: never */
    int stacks;         /* 1: the stack of each acquisition is recorded */
    int on_deadlock;    /* enum fs_on_deadlock */
    const char *opaque; /* module names with ':' between, or NULL */
    const char *report; /* a path, "-", or NULL */
};

extern FS_HIDDEN struct fs_config fs_config;

/* How an option's value is written. */
enum fs_option_kind { FS_OPTION_CHOICE, FS_OPTION_NUMBER, FS_OPTION_SIGNAL, FS_OPTION_LIST };

/* One row of the options table: the parser, the documentation test and the unit tests read it. */
struct fs_option {
    const char *name;
    enum fs_option_kind kind;
    size_t offset; /* of the field in struct fs_config */
    const char *const
        *choices;         /* FS_OPTION_CHOICE: names in the order of their values, then NULL */
    int minimum, maximum; /* FS_OPTION_NUMBER */
    const char *fallback; /* the default, as a user would write it */
    const char *help;
};

extern const struct fs_option fs_options[];
extern const size_t fs_option_count;

/* Fills `config` from the environment as `lookup` gives it. Each bad value is told to `complain` as
 * one line, without a newline, and its default is used. Texts are copied, and never freed. */
void fs_config_read(struct fs_config *config, const char *(*lookup)(const char *name),
                    void (*complain)(const char *line));

/* The option's value in `config`, as a user would write it. */
void fs_option_text(const struct fs_option *option, const struct fs_config *config, char *to,
                    size_t size);

/* Fills fs_config from the process's environment, or from nothing at all in a program that runs
 * with more rights than its caller (AT_SECURE). Complaints go to stderr. */
void fs_config_init(void);

#endif
