# $1: a file of /proc or /sys. $2: its new value.
printf '%s\n' "$2" > "$1"
