/* The locks of FILEs, where the program takes them itself. */
#include "hook.h"

FS_EXPORT void flockfile(FILE *file) {
    struct fs_thread *self = fs_current();
    if (fs_unlikely(self == NULL)) {
        fs_real.flockfile(file);
        return;
    }
    self->locks_files = true;
    uint32_t slot = fs_enter(self, file, FS_KIND_FILE, FS_CALLER());
    fs_real.flockfile(file);
    fs_held(self, file, slot);
}

static int try_file(FILE *file, const void *caller) {
    FS_TAKE_FOR(caller, FS_TRYING, FS_KIND_FILE, file, fs_real.ftrylockfile(file));
}

FS_EXPORT int ftrylockfile(FILE *file) {
    struct fs_thread *self = fs_current();
    if (self != NULL) {
        self->locks_files = true;
    }
    return try_file(file, FS_CALLER());
}

FS_EXPORT void funlockfile(FILE *file) {
    struct fs_thread *self = fs_current();
    uint32_t slot = self != NULL ? fs_leaving(self, file) : FS_NO_SLOT;
    fs_real.funlockfile(file);
    if (slot != FS_NO_SLOT) {
        fs_left(self, file, slot, FS_KIND_FILE);
    }
}
