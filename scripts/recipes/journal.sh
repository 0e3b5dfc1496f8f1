#!/usr/bin/env bash
# journal.sh FILE: what forksafe finds, from the events appended to FILE, into the journal as `forksafe`. Runs until it
# is ended; FILE may not be there yet, and may be rotated.
set -euo pipefail

if [[ $# -ne 1 || -d $1 ]]; then
    echo "usage: journal.sh FILE" >&2
    exit 2
fi
tail -n +1 -F -- "$1" 2>/dev/null |
    jq --unbuffered -R -r -f "$(dirname "$(realpath "$0")")/journal.jq" |
    systemd-cat --identifier=forksafe --level-prefix=true
