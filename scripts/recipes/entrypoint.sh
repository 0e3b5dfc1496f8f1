#!/bin/sh
# A container's entry point: preloads forksafe into the command, and with it all that it starts.
#   COPY libforksafe.so /usr/local/lib/
#   COPY entrypoint.sh /usr/local/bin/forksafe-entrypoint
#   ENTRYPOINT ["/usr/local/bin/forksafe-entrypoint"]
# In the image: glibc (Debian, Ubuntu, Fedora ...; not Alpine) and libunwind (Debian's libunwind8).
set -eu

library=${FORKSAFE_LIBRARY:-/usr/local/lib/libforksafe.so}
if [ $# -eq 0 ]; then
    echo "entrypoint: no command: give one to the container, or a CMD to the image" >&2
    exit 2
fi
# The dynamic linker would only print a line for each program that starts, and go on without.
if [ ! -r "$library" ]; then
    echo "entrypoint: no library at $library: copy it there, or set FORKSAFE_LIBRARY" >&2
    exit 2
fi
if [ ! -e /lib64/ld-linux-x86-64.so.2 ]; then
    echo "entrypoint: this image has no glibc for x86-64, so nothing can be preloaded" >&2
    exit 2
fi
LD_PRELOAD=$library${LD_PRELOAD:+:$LD_PRELOAD}
export LD_PRELOAD
exec "$@"
