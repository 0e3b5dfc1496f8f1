#include "init.h"

#include <stdbool.h>

#include "arch.h"
#include "config.h"
#include "event.h"
#include "fast.h"
#include "fork.h"
#include "inspect.h"
#include "layout.h"
#include "loader.h"
#include "real.h"
#include "registry.h"
#include "report.h"
#include "safepoint.h"
#include "suspend.h"
#include "watchdog.h"
#include "world.h"

void fs_init(void) {
    static bool begun;
    if (__atomic_exchange_n(&begun, true, __ATOMIC_ACQ_REL)) {
        return;
    }
    fs_real_init();
    fs_report_init();
    fs_config_init();
    if (fs_config.mode == FS_MODE_OFF) {
        return;
    }
    fs_world_init();
    fs_registry_init();
    fs_fast_init();
    fs_loader_init();
    fs_fork_init();
    fs_inspect_init();
    fs_event_config();
    fs_watchdog_init();
}

void fs_init_threads(void) {
    if (fs_self == NULL) {
        return;
    }
    fs_layout_known(FS_KIND_MUTEX);
    fs_suspend_init();
    fs_safepoint_init();
    if (fs_stacks_matter()) {
        fs_unwinder_load();
    }
}

static __attribute__((constructor)) void start(void) { fs_init(); }
