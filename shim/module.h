/* module.h - the module that an address lies in, without a lock. */
#ifndef FS_MODULE_H
#define FS_MODULE_H

#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>

/* glibc 2.35 and later; takes no lock (elf/dl-find_object.c). Weak: before that no module is found. */
#pragma weak _dl_find_object

static inline bool fs_find_module(uintptr_t address, struct dl_find_object *module) {
    return _dl_find_object != NULL && _dl_find_object((void *)address, module) == 0;
}

#endif
