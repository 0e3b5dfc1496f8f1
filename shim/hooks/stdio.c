/* The locks of FILEs, where the program takes them itself. */
#include "hook.h"

FS_EXPORT void flockfile(FILE *file) {
    struct fs_thread *self = fs_current();
    if (fs_unlikely(self == NULL)) {
        fs_real.flockfile(file);
        return;
    }
    uint32_t slot = fs_enter(self, file, FS_KIND_FILE, FS_CALLER());
    fs_real.flockfile(file);
    fs_held(self, file, slot);
}

FS_EXPORT int ftrylockfile(FILE *file) { FS_TRY(FS_KIND_FILE, file, fs_real.ftrylockfile(file)); }

FS_EXPORT void funlockfile(FILE *file) {
    struct fs_thread *self = fs_current();
    uint32_t slot = self != NULL ? fs_leaving(self, file) : FS_NO_SLOT;
    fs_real.funlockfile(file);
    if (slot != FS_NO_SLOT) {
        fs_left(self, file, slot, FS_KIND_FILE);
    }
}
