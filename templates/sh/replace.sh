# $1: path. $2: digest of the file as it must be, or none. $3: digest of the content on standard input, or remove.
# $4: mode, $5: user:group, or - for those of the file that is there.
[ -L "$1" ] && [ ! -e "$1" ] && { echo 'it is a symbolic link to nothing' >&2; exit 3; }
file=$(readlink -f -- "$1") || { echo "there is no folder $(dirname -- "$1")" >&2; exit 1; }
folder=$(dirname -- "$file")
present() {
  if [ ! -e "$file" ]; then echo none; return; fi
  [ -f "$file" ] || { echo 'it is no regular file' >&2; return; }
  sha256sum < "$file" | cut -c 1-64
}
[ "$(present)" = "$2" ] || exit 10
if [ "$3" = remove ]; then
  [ "$2" = none ] && exit 0
  rm -f -- "$file" || exit 1
else
  plain=$(printf '%o' "$((0666 & ~0$(umask)))")
  umask 077
  new=$(mktemp "$folder/.vmserial-XXXXXX") || exit 1
  trap 'rm -f -- "$new"' EXIT
  trap 'exit 1' HUP INT TERM
  cat > "$new" || exit 1
  [ "$(sha256sum < "$new" | cut -c 1-64)" = "$3" ] || { echo 'it did not arrive whole' >&2; exit 1; }
  owner=$5 mode=$4
  if [ "$2" != none ]; then
    [ "$owner" = - ] && owner=$(stat -c '%u:%g' -- "$file")
    [ "$mode" = - ] && mode=$(stat -c '%a' -- "$file")
  fi
  [ "$mode" = - ] && mode=$plain
  [ "$owner" = - ] || [ "$owner" = "$(stat -c '%u:%g' -- "$new")" ] || chown -- "$owner" "$new" || exit 1
  chmod -- "$mode" "$new" || exit 1
  sync -- "$new" 2>/dev/null || sync
  [ "$(present)" = "$2" ] || exit 10
  if [ "$2" = none ]; then
    ln -- "$new" "$file" 2>/dev/null || { [ -e "$file" ] && exit 10; mv -f -- "$new" "$file"; } || exit 1
  else
    mv -f -- "$new" "$file" || exit 1
  fi
fi
sync -- "$folder" 2>/dev/null || sync
