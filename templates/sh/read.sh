# $1: path. Prints "MODE UID GID" and the content of a regular file; nothing if there is none.
[ -e "$1" ] || exit 0
[ -f "$1" ] || { echo 'it is no regular file' >&2; exit 3; }
stat -Lc '%a %u %g' -- "$1" || exit 1
exec cat -- "$1"
