#!/bin/sh
# postinst and postrm of a kernel: what Debian's own do.
set -e
version=@RELEASE@
case ${0##*.}:$1 in
  postinst:configure) folder=/etc/kernel/postinst.d;;
  postrm:remove) folder=/etc/kernel/postrm.d;;
  *) exit 0;;
esac
export DEB_MAINT_PARAMS="$*"
# All that it boots from is built in.
export INITRD=No
run-parts --report --exit-on-error --arg="$version" --arg="/boot/vmlinuz-$version" "$folder"
