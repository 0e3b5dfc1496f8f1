/* filter WORDS COMMAND...: executes the command under a seccomp filter. */
#include "filter.h"

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: filter CALL=ERRNO|KILL|TRAP,... COMMAND...\n");
        return 2;
    }
    filter(argv[1]);
    execvp(argv[2], argv + 2);
    SETUP(!"the command");
}
