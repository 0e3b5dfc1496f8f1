/* twins.h - the real functions, as a watched child calls them. */
#ifndef FS_TWINS_H
#define FS_TWINS_H

/* From here on the hooks call the twins. In a forked child that is watched (detect.h, watchdog.h), by
 * its only thread. */
void fs_twins_install(void);

#endif
