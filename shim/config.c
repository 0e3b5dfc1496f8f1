#include "config.h"

#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "report.h"
#include "sys.h"

struct fs_config fs_config;

static const char *const mode_names[] = {"repair", "detect", "off", NULL};
static const char *const suspend_names[] = {"signal", "gate", NULL};
static const char *const semaphore_names[] = {"auto", "off", NULL};
static const char *const on_deadlock_names[] = {"heal", "abort", NULL};

#define FIELD(member) offsetof(struct fs_config, member)

const struct fs_option fs_options[] = {
    {"FORKSAFE_MODE", FS_OPTION_CHOICE, FIELD(mode), mode_names, 0, 0, "repair",
     "repair: make the child usable; detect: fork as bare, and tell what the child runs into; off: "
     "do nothing"},
    {"FORKSAFE_DEADLINE_MS", FS_OPTION_NUMBER, FIELD(deadline_ms), NULL, 0, 60000, "500",
     "milliseconds that a fork may wait for a thread that holds a lock"},
    {"FORKSAFE_SUSPEND", FS_OPTION_CHOICE, FIELD(suspend), suspend_names, 0, 0, "signal",
     "signal: running threads are stopped by a signal; gate: only at lock boundaries"},
    {"FORKSAFE_SIGNAL", FS_OPTION_SIGNAL, FIELD(signal), NULL, 0, 0, "",
     "the suspend signal's name or number; unset: a real-time signal that the program does not "
     "use"},
    {"FORKSAFE_OPAQUE", FS_OPTION_LIST, FIELD(opaque), NULL, 0, FS_OPAQUE_MAX, "",
     "modules with locks of their own, ':' between: no thread is stopped inside them"},
    {"FORKSAFE_SEM", FS_OPTION_CHOICE, FIELD(semaphores), semaphore_names, 0, 0, "auto",
     "auto: a semaphore used as a lock is given back in the child; off: never"},
    {"FORKSAFE_REPORT", FS_OPTION_LIST, FIELD(report), NULL, 0, FS_REPORT_MAX, "",
     "a path: a JSON object a line for each event, appended ('%p' is the process); '-': text of "
     "every fork on stderr; unset: a line on stderr for each forced hold or deadlock "
     "that a child runs into"},
    {"FORKSAFE_WATCHDOG_MS", FS_OPTION_NUMBER, FIELD(watchdog_ms), NULL, 0, 3600000, "0",
     "a forked child's thread that waits longer than so many milliseconds is told; 0: none is"},
    {"FORKSAFE_STACKS", FS_OPTION_NUMBER, FIELD(stacks), NULL, 0, 1, "0",
     "1: events have the whole stack of each acquisition; 0: its caller alone"},
    {"FORKSAFE_ON_DEADLOCK", FS_OPTION_CHOICE, FIELD(on_deadlock), on_deadlock_names, 0, 0, "heal",
     "what detect does then: heal: put the object right and go on; abort: end with a core"},
};
const size_t fs_option_count = sizeof fs_options / sizeof *fs_options;

/* Each parser returns false and leaves a reason where the text is no value of the option. */

static bool parse_choice(const struct fs_option *option, const char *text, int *value,
                         const char **reason) {
    for (int i = 0; option->choices[i] != NULL; i++) {
        if (strcmp(text, option->choices[i]) == 0) {
            *value = i;
            return true;
        }
    }
    *reason = "is not one of its values";
    return false;
}

/* Digits with a sign, and nothing else; by hand, since a sanitizer's strtol may not be called as
 * early as this. */
static bool parse_integer(const char *text, long *value) {
    bool negative = *text == '-';
    text += negative;
    long number = 0;
    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || number > INT_MAX) {
            return false;
        }
        number = number * 10 + (*text - '0');
    }
    *value = negative ? -number : number;
    return true;
}

static bool parse_number(const struct fs_option *option, const char *text, int *value,
                         const char **reason) {
    long number;
    if (!parse_integer(text, &number)) {
        *reason = "is not a whole number";
        return false;
    }
    if (number < option->minimum || number > option->maximum) {
        *reason = "is out of range";
        return false;
    }
    *value = (int)number;
    return true;
}

/* Accepts "SIGUSR1", "USR1", "RTMIN+3", "SIGRTMAX-1" and plain numbers. */
static int signal_by_name(const char *text) {
    if (strncmp(text, "SIG", 3) == 0) {
        text += 3;
    }
    long shift = 0;
    if (strncmp(text, "RTMIN", 5) == 0) {
        return text[5] == '\0' || (text[5] == '+' && parse_integer(text + 6, &shift) && shift >= 0)
                   ? SIGRTMIN + (int)(shift < 64 ? shift : 64)
                   : 0;
    }
    if (strncmp(text, "RTMAX", 5) == 0) {
        return text[5] == '\0' || (text[5] == '-' && parse_integer(text + 6, &shift) && shift >= 0)
                   ? SIGRTMAX - (int)(shift < 64 ? shift : 64)
                   : 0;
    }
    for (int signo = 1; signo < SIGRTMIN; signo++) {
        const char *name = sigabbrev_np(signo);
        if (name != NULL && strcmp(text, name) == 0) {
            return signo;
        }
    }
    return 0;
}

static bool parse_signal(const char *text, int *value, const char **reason) {
    long number;
    int signo = parse_integer(text, &number) ? (number > 0 && number <= SIGRTMAX ? (int)number : 0)
                                             : signal_by_name(text);
    bool internal = signo > SIGSYS && signo < SIGRTMIN; /* glibc's SIGCANCEL and SIGSETXID */
    if (signo <= 0 || signo > SIGRTMAX || internal) {
        *reason = "is not a signal's name or number";
        return false;
    }
    switch (signo) {
    case SIGKILL:
    case SIGSTOP:
        *reason = "cannot be caught";
        return false;
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGSYS:
    case SIGABRT:
        *reason = "is raised by faults and cannot be lent";
        return false;
    default:
        *value = signo;
        return true;
    }
}

static bool parse_list(const struct fs_option *option, const char *text, const char **value,
                       const char **reason) {
    if (strlen(text) >= (size_t)option->maximum) {
        *reason = "is too long";
        return false;
    }
    char *copy = fs_map((size_t)option->maximum); /* few programs have one */
    if (copy == NULL) {
        *reason = "is lost for lack of memory";
        return false;
    }
    *value = strcpy(copy, text);
    return true;
}

static bool parse(const struct fs_option *option, const char *text, void *field,
                  const char **reason) {
    switch (option->kind) {
    case FS_OPTION_CHOICE:
        return parse_choice(option, text, field, reason);
    case FS_OPTION_NUMBER:
        return parse_number(option, text, field, reason);
    case FS_OPTION_SIGNAL:
        return parse_signal(text, field, reason);
    case FS_OPTION_LIST:
        return parse_list(option, text, field, reason);
    }
    return false;
}

/* "one of repair, off", "a number from 0 to 60000": what the user should have written. */
static void describe_values(const struct fs_option *option, char *to, size_t size) {
    switch (option->kind) {
    case FS_OPTION_CHOICE: {
        int length = snprintf(to, size, "one of");
        for (int i = 0; option->choices[i] != NULL; i++) {
            length += snprintf(to + length, size - (size_t)length, "%s %s", i == 0 ? "" : ",",
                               option->choices[i]);
        }
        break;
    }
    case FS_OPTION_NUMBER:
        snprintf(to, size, "a number from %d to %d", option->minimum, option->maximum);
        break;
    case FS_OPTION_SIGNAL:
        snprintf(to, size, "a signal such as SIGUSR2, RTMIN+5 or 50");
        break;
    case FS_OPTION_LIST:
        snprintf(to, size, "text under %d bytes", option->maximum);
        break;
    }
}

void fs_option_text(const struct fs_option *option, const struct fs_config *config, char *to,
                    size_t size) {
    const void *field = (const char *)config + option->offset;
    struct fs_text text = fs_text(to, size);
    switch (option->kind) {
    case FS_OPTION_CHOICE:
        fs_text_string(&text, option->choices[*(const int *)field]);
        break;
    case FS_OPTION_SIGNAL:
        if (*(const int *)field == 0) {
            break;
        }
        /* fall through */
    case FS_OPTION_NUMBER:
        fs_text_number(&text, *(const int *)field);
        break;
    case FS_OPTION_LIST: {
        const char *value = *(const char *const *)field;
        fs_text_string(&text, value != NULL ? value : "");
        break;
    }
    }
}

static void set_default(const struct fs_option *option, void *field) {
    const char *reason;
    if (*option->fallback != '\0') {
        parse(option, option->fallback, field, &reason);
    }
}

void fs_config_read(struct fs_config *config, const char *(*lookup)(const char *name),
                    void (*complain)(const char *line)) {
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < fs_option_count; i++) {
        const struct fs_option *option = &fs_options[i];
        void *field = (char *)config + option->offset;
        set_default(option, field);
        const char *text = lookup(option->name);
        const char *reason = "";
        if (text == NULL || *text == '\0' || parse(option, text, field, &reason)) {
            continue;
        }
        char values[128];
        char line[320];
        describe_values(option, values, sizeof values);
        snprintf(line, sizeof line, "forksafe: %s: '%.64s' %s; give %s; using %s", option->name,
                 text, reason, values, *option->fallback != '\0' ? option->fallback : "none");
        complain(line);
    }
}

static const char *from_environment(const char *name) { return getenv(name); }
static const char *from_nothing(const char *name) {
    (void)name;
    return NULL;
}

void fs_config_init(void) {
    fs_config_read(&fs_config, getauxval(AT_SECURE) != 0 ? from_nothing : from_environment,
                   fs_report_line);
}
