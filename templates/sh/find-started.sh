# $1: log. Prints "PID START" of the process whose standard output it is.
log=$(readlink -f -- "$1") || exit 0
for process in /proc/[0-9]*; do
  [ "$(readlink "$process/fd/1" 2>/dev/null)" = "$log" ] || continue
  line=$(sed 's/.*) //' "$process/stat" 2>/dev/null) || continue
  case $line in Z*|X*) continue;; esac
  echo "${process#/proc/} $(printf '%s\n' "$line" | cut -d ' ' -f 20)"
  exit 0
done
