# $1: log. The rest: a command that outlives the login. Prints "PID START".
log=$1; shift
command -v "$1" >/dev/null 2>&1 || { echo missing; exit 0; }
umask 077
mkdir -p -- "$(dirname -- "$log")" && : >> "$log" || exit 1
apart=setsid; command -v setsid >/dev/null 2>&1 || apart=nohup
$apart "$@" >> "$log" 2>&1 </dev/null &
pid=$!
echo "$pid $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d ' ' -f 20)"
