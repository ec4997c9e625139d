# $1: kgdboc's parameter. $2: its new value. A value that is refused also takes away the one that worked: it is put back.
old=$(cat "$1")
if printf '%s\n' "$2" > "$1" && [ "$(cat "$1")" = "$2" ]; then exit 0; fi
echo "the kernel refused \`$2\`" >&2
# An empty value is none: there is nothing to put back.
if [ -n "$old" ]; then
  printf '%s\n' "$old" > "$1" && echo "\`$old\` was put back" >&2 || echo "\`$old\` could not be put back" >&2
fi
exit 1
