# $1: pid of a command that nobody waits for any more: asked, then killed, with its group.
kill -TERM -- "-$1" 2>/dev/null; kill -TERM "$1" 2>/dev/null
for second in 1 2; do
  kill -0 "$1" 2>/dev/null || exit 0
  sleep 1
done
kill -KILL -- "-$1" 2>/dev/null; kill -KILL "$1" 2>/dev/null
exit 0
