#include "real.h"

struct fs_real fs_real;

void fs_real_init(void) {
    /* In the table's order: a failed look-up allocates, and an allocator locks mutexes. */
#define FS_FUNCTION(name) fs_real.name = (__typeof__(fs_real.name))dlsym(RTLD_NEXT, #name);
#define FS_VERSIONED(name, version)                                                                \
    fs_real.name = (__typeof__(fs_real.name))dlvsym(RTLD_NEXT, #name, version);
#define FS_ALIAS(name)
#include "intercepts.def"
#undef FS_FUNCTION
#undef FS_VERSIONED
#undef FS_ALIAS
    fs_real.dladdr = (__typeof__(fs_real.dladdr))dlsym(RTLD_NEXT, "dladdr");
    fs_real.pthread_kill_225 =
        (__typeof__(fs_real.pthread_kill_225))dlvsym(RTLD_NEXT, "pthread_kill", "GLIBC_2.2.5");
    if (fs_real.pthread_kill_225 == NULL) {
        fs_real.pthread_kill_225 = fs_real.pthread_kill;
    }
}

void *fs_real_late(const char *name) {
    static const char *const runtimes[] = {"libstdc++.so.6", "libc++abi.so.1", "libc++.so.1"};
    for (size_t i = 0; i < sizeof runtimes / sizeof *runtimes; i++) {
        void *library = fs_real.dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD);
        void *found = library != NULL ? dlsym(library, name) : NULL;
        if (library != NULL) {
            dlclose(library); /* the program keeps it loaded as long as it calls this */
        }
        if (found != NULL) {
            return found;
        }
    }
    return NULL;
}
