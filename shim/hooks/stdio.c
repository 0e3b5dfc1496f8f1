/* The locks of FILEs, where the program takes them itself. */
#include "hook.h"

static struct fs_thread *locker_of_files(void) {
    struct fs_thread *self = fs_current();
    if (fs_likely(self != NULL)) {
        self->locks_files = true;
    }
    return self;
}

FS_EXPORT void flockfile(FILE *file) {
    struct fs_thread *self = locker_of_files();
    if (fs_unlikely(self == NULL)) {
        fs_real.flockfile(file);
        return;
    }
    uint32_t slot = fs_enter(self, file, FS_KIND_FILE, FS_CALLER());
    fs_real.flockfile(file);
    fs_held(self, file, slot);
}

FS_EXPORT int ftrylockfile(FILE *file) {
    struct fs_thread *self = locker_of_files();
    if (fs_unlikely(self == NULL)) {
        return fs_real.ftrylockfile(file);
    }
    uint32_t slot = fs_enter_as(self, file, FS_KIND_FILE, FS_CALLER(), FS_TRYING);
    FS_TAKE_AT(self, file, slot, fs_real.ftrylockfile(file));
}

FS_EXPORT void funlockfile(FILE *file) {
    struct fs_thread *self = fs_current();
    uint32_t slot = self != NULL ? fs_leaving(self, file) : FS_NO_SLOT;
    fs_real.funlockfile(file);
    if (slot != FS_NO_SLOT) {
        fs_left(self, file, slot, FS_KIND_FILE);
    }
}
