// A library that loads another by its bare name, which only its own RUNPATH ($ORIGIN/private) can
// find; and whose constructor calls back into the program, where that wants it.
#include <dlfcn.h>
#include <stddef.h>

__attribute__((weak)) void loader_constructor(void);

__attribute__((constructor)) static void begin(void) {
    if (loader_constructor != NULL) {
        loader_constructor();
    }
}

// Not by a jump: dlopen must see an address of this library on the stack.
void *caller_opens(const char *name) {
    void *volatile module = dlopen(name, RTLD_NOW);
    return module;
}
