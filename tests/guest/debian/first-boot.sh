#!/bin/sh
# The init of the first boot: installs the kernel as dpkg does it in a running system, so that Debian's own hook makes GRUB's
# configuration with real devices.
set -eu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
end() {
  status=$?
  rm -f /first.deb
  sync
  mount -o remount,ro / || :
  echo "first-boot: status $status"
  poweroff -f
}
trap end EXIT
for folder in proc:proc sysfs:sys tmpfs:run tmpfs:tmp; do
  mountpoint -q "/${folder#*:}" || mount -t "${folder%:*}" "${folder%:*}" "/${folder#*:}"
done
# GRUB names the disk by its UUID only where udev knows it.
/lib/systemd/systemd-udevd --daemon
udevadm trigger
udevadm settle
dpkg -i /first.deb
systemd-machine-id-setup
udevadm control --exit
