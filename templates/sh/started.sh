# $1: pid. Prints when it was started; nothing if it does not run.
line=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || exit 0
case $line in Z*|X*) exit 0;; esac
printf '%s\n' "$line" | cut -d ' ' -f 20
