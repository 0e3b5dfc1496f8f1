/* init.h - start-up. */
#ifndef FS_INIT_H
#define FS_INIT_H

/* Runs once, from our constructor or from the first intercepted call, whichever comes first: other
 * libraries' constructors may lock and register atfork handlers before ours runs. */
void fs_init(void);

/* What only a process with a second thread needs. Called before one is made. */
void fs_init_threads(void);

#endif
