# $1: path. Prints the names in a folder, each ended by a NUL.
[ -d "$1" ] || exit 0
cd -- "$1" || exit 1
exec find . -mindepth 1 -maxdepth 1 -print0
