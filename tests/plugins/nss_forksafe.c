// A module of the name service switch, "fstest": it knows one user of its own, and calls back into the
// program in the middle of each look-up, where that wants it.
#include <errno.h>
#include <nss.h>
#include <pwd.h>
#include <stddef.h>
#include <string.h>

__attribute__((weak)) void nss_callback(void);

enum nss_status _nss_fstest_getpwnam_r(const char *name, struct passwd *entry, char *buffer,
                                       size_t size, int *error);

enum nss_status _nss_fstest_getpwnam_r(const char *name, struct passwd *entry, char *buffer,
                                       size_t size, int *error) {
    static const char user[] = "fstest";
    if (nss_callback != NULL) {
        nss_callback();
    }
    if (strcmp(name, user) != 0) {
        *error = ENOENT;
        return NSS_STATUS_NOTFOUND;
    }
    if (size < sizeof user) {
        *error = ERANGE;
        return NSS_STATUS_TRYAGAIN;
    }
    char *text = memcpy(buffer, user, sizeof user);
    char *empty = text + sizeof user - 1;
    *entry = (struct passwd){.pw_name = text,
                             .pw_passwd = empty,
                             .pw_uid = 4242,
                             .pw_gid = 4242,
                             .pw_gecos = empty,
                             .pw_dir = empty,
                             .pw_shell = empty};
    return NSS_STATUS_SUCCESS;
}
