# $1: grub-editenv or grub2-editenv. $2: a variable of GRUB's environment. $3: what an empty one stands for, if for anything.
# Prints its value, or that there is none.
"$1" - list | while IFS= read -r line; do
  case $line in "$2"=*) line=${line#"$2"=}; printf '%s\n' "${line:-$3}"; exit 0;; esac
done | grep . || echo "no $2"
