# $1: the kernel's switch. Prints its value, and whether it may be changed; nothing where there is none.
[ -r "$1" ] || exit 0
cat "$1"
if [ -w "$1" ]; then echo writable; else echo readable; fi
