# $1: path of a folder for its owner only.
[ -d "$1" ] && exit 0
umask 077
mkdir -p -- "$1" || exit 1
sync -- "$(dirname -- "$1")" 2>/dev/null || sync
