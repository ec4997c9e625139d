# $1: a mark. The rest: names of serial ports. Says mark and name on each, three times, since a kernel message may break one.
# A port that nobody can write to (no carrier, stopped) does not hold up the others.
mark=$1; shift
for name in "$@"; do
  (for time in 1 2 3; do printf '\r\n%s-%s.\r\n' "$mark" "$name"; done > "/dev/$name") 2>/dev/null &
done
wait
exit 0
