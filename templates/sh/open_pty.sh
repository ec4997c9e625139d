trap "" HUP
(
exec 3<>"$1" 4<&0 || exit 1
stty raw -echo <&3 || exit 1
cat <&3 4<&- 2>/dev/null &
r=$!
{ cat <&4 >&3 2>/dev/null; kill "$r" 2>/dev/null; } &
wait "$r"
exit 0
)
exit "$?"
