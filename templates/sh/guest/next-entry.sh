# $1: grub-editenv or grub2-editenv. Prints the entry that is booted once next time.
"$1" - list | while IFS= read -r line; do
  case $line in next_entry=?*) printf '%s\n' "${line#next_entry=}"; exit 0;; esac
done | grep . || echo 'no next_entry'
