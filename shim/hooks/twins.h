/* twins.h - the real functions, as a watched child calls them. */
#ifndef FS_TWINS_H
#define FS_TWINS_H

/* From here on the hooks call the twins. In a forked child with detect or the watchdog on, by its
 * only thread. */
void fs_twins_install(void);

#endif
