/* loads LIBFORKER HOW [beside]: opens libforker.so globally, with RTLD_DEEPBIND, in a namespace of its own, or
 * twice of
 * these, and has it fork; then forks by itself beside its own thread. */
#include "surroundings.h"

#include <dlfcn.h>

static unsigned (*open_forker(const char *file, const char *how))(unsigned, bool) {
    void *library = NULL;
    if (strcmp(how, "global") == 0) {
        library = dlopen(file, RTLD_NOW | RTLD_GLOBAL);
    } else if (strcmp(how, "deepbind") == 0) {
        library = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    } else if (strcmp(how, "namespace") == 0) {
        library = dlmopen(LM_ID_NEWLM, file, RTLD_NOW);
    }
    if (library == NULL) {
        fprintf(stderr, "loads: %s\n", dlerror());
        _exit(BROKEN);
    }
    return (unsigned (*)(unsigned, bool))dlsym(library, "fork_beside_locks");
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: loads LIBFORKER global|deepbind|namespace [beside]\n");
        return 2;
    }
    bool beside = argc > 3;
    unsigned (*forker)(unsigned, bool) = open_forker(argv[1], argv[2]);
    SETUP(forker != NULL);
    say("by itself: %u children fine\n", forker(10, false));
    if (beside) {
        say("beside its thread: %u children fine\n", forker(20, true));
    }
    unsigned (*own)(unsigned, bool) = open_forker(argv[1], "global");
    say("in the main namespace: %u children fine\n", own(10, beside));
    say("and again: %u children fine\n", forker(10, false));
    return 0;
}
