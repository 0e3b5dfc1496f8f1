#include "loader.h"

#include <stdint.h>

#include "layout.h"
#include "real.h"
#include "sys.h"

static struct {
    pthread_mutex_t *load;  /* GL(dl_load_lock) */
    pthread_mutex_t *write; /* GL(dl_load_write_lock), which lies behind it (ldsodefs.h) */
} loader;

static bool is_held_once(const pthread_mutex_t *mutex, int tid) {
    return mutex->__data.__lock != 0 && mutex->__data.__owner == tid &&
           mutex->__data.__count == 1 && mutex->__data.__kind == PTHREAD_MUTEX_RECURSIVE_NP;
}

static bool is_free(const pthread_mutex_t *mutex) {
    return mutex->__data.__lock == 0 && mutex->__data.__owner == 0 && mutex->__data.__count == 0 &&
           mutex->__data.__kind == PTHREAD_MUTEX_RECURSIVE_NP;
}

/* In a callback of dl_iterate_phdr the write lock is the only recursive mutex in ld.so's data that
 * the calling thread holds. */
static int find(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)info, (void)size, (void)unused;
    char *data = dlsym(RTLD_DEFAULT, "_rtld_global");
    Dl_info module;
    ElfW(Sym) *symbol = NULL;
    if (data == NULL || dladdr1(data, &module, (void **)&symbol, RTLD_DL_SYMENT) == 0 ||
        symbol == NULL) {
        return 1;
    }
    int self = fs_gettid();
    for (size_t at = sizeof(pthread_mutex_t); at + sizeof(pthread_mutex_t) <= symbol->st_size;
         at += sizeof(void *)) {
        pthread_mutex_t *mutex = (pthread_mutex_t *)(data + at);
        if (is_held_once(mutex, self) && is_free(mutex - 1)) {
            loader.write = mutex;
            loader.load = mutex - 1;
            return 1;
        }
    }
    return 1;
}

void fs_loader_init(void) { fs_real.dl_iterate_phdr(find, NULL); }

int fs_loader_owner(void) {
    if (loader.load == NULL) {
        return 0;
    }
    int owner = fs_load(&loader.load->__data.__owner);
    return owner != 0 ? owner : fs_load(&loader.write->__data.__owner);
}

bool fs_loader_was_held(int old_id) {
    return loader.write == NULL ||
           (fs_mutex_locked(loader.write) && fs_mutex_owner(loader.write) != old_id);
}

static void repair(pthread_mutex_t *mutex, int old_id, int new_id) {
    if (!fs_mutex_locked(mutex)) {
        return;
    }
    if (fs_mutex_owner(mutex) == old_id) {
        fs_mutex_reown(mutex, new_id);
    } else {
        fs_mutex_rebuild(mutex);
    }
}

/* `owner` is written by the thread that has the turn, and compared by others with themselves only. */
static struct {
    struct fs_lock lock;
    const struct fs_thread *owner;
    unsigned nesting; /* a constructor loads, too */
} turn FS_CHILD_STATE;

bool fs_loader_try_turn(const struct fs_thread *self) {
    if (fs_load(&turn.owner) == self) {
        turn.nesting++;
        return true;
    }
    if (!fs_trylock(&turn.lock)) {
        return false;
    }
    turn.nesting = 1;
    fs_store(&turn.owner, self);
    return true;
}

void fs_loader_await_turn(void) { fs_await_unlock(&turn.lock); }

void fs_loader_give_turn(const struct fs_thread *self) {
    if (fs_load(&turn.owner) == self && --turn.nesting == 0) {
        fs_store(&turn.owner, NULL);
        fs_unlock(&turn.lock);
    }
}

void fs_loader_repair(int old_id, int new_id) {
    turn.owner = NULL;
    turn.nesting = 0;
    turn.lock.word = 0;
    if (loader.load != NULL) {
        repair(loader.load, old_id, new_id);
        repair(loader.write, old_id, new_id);
    }
}
