// A shared library that registers fork handlers from its constructor. Used twice: linked to the
// program (its constructor runs before main, and before those of a library preloaded after it), and
// opened and closed again at run time, which must take the handlers away.
//
// Compile: gcc -std=gnu11 -O2 -g -fPIC -shared -DPLUGIN=linked atfork_plugin.c
//              -o libatfork_linked.so      (and the same with "opened")
#include <pthread.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

// The program's: absent while the linked library's constructor runs is fine, absent at a fork is
// not.
void atfork_note(const char *what);

static void prepare(void) { atfork_note("prepare " TEXT(PLUGIN)); }
static void parent(void) { atfork_note("parent " TEXT(PLUGIN)); }
static void child(void) { atfork_note("child " TEXT(PLUGIN)); }

__attribute__((constructor)) static void register_handlers(void) {
    pthread_atfork(prepare, parent, child);
}
