# $1: pid, $2: when it was started. Kills it and waits until it is gone; another process with that pid is left alone.
runs() {
  line=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 1
  case $line in Z*|X*) return 1;; esac
  [ "$(printf '%s\n' "$line" | cut -d ' ' -f 20)" = "$2" ]
}
runs "$1" "$2" || exit 0
kill -KILL "$1" || exit 1
for second in 1 2 3 4 5 6 7 8 9 10; do
  runs "$1" "$2" || exit 0
  sleep 1
done
echo 'killed, and still there' >&2
exit 1
