# $1: a terminal's device. Prints whether it echoes what comes in: on or off.
words=$(stty -F "$1" -a) || exit 1
for word in $words; do
  case $word in -echo|-echo\;) echo off; exit 0;; esac
done
echo on
