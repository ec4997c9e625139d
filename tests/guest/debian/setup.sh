# $1: the new system's root, in which nothing is mounted. Makes it a machine that boots through GRUB, with SSH and a login on
# ttyS0, and puts it on a disk. $VMSERIAL_INPUTS: this folder. $VMSERIAL_WORK: what was built, and where the disk goes.
set -eu
root=$1 work=$VMSERIAL_WORK
uuid=5e21a100-0000-4000-8000-000000000001

echo guest > "$root/etc/hostname"
echo '127.0.0.1 localhost guest' > "$root/etc/hosts"
echo "UUID=$uuid / ext4 errors=remount-ro 0 1" > "$root/etc/fstab"

# Root may come by key only, as sshd's defaults have it; `dev` by key and password, and must give it to sudo.
# Debian's own way to hash a password takes an emulated machine seconds each time.
chroot "$root" useradd -m -s /bin/bash -G sudo dev
printf 'root:gu3st-root\ndev:gu3st-dev\n' | chroot "$root" chpasswd -c SHA512 -s 1000
for home in root home/dev; do
  mkdir -p -m 700 "$root/$home/.ssh"
  cp "$work/key.pub" "$root/$home/.ssh/authorized_keys"
done
chroot "$root" chown -R dev:dev /home/dev
cp "$root/etc/ssh/ssh_host_ed25519_key.pub" "$work/host_key.pub"

# QEMU's own network.
printf '[Match]\nType=ether\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\nLinkLocalAddressing=no\n' \
  > "$root/etc/systemd/network/10-guest.network"
chroot "$root" systemctl --quiet enable systemd-networkd.service serial-getty@ttyS0.service
# Nothing goes on by itself while a test runs.
chroot "$root" systemctl --quiet mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer \
  dpkg-db-backup.timer e2scrub_all.timer fstrim.timer

# As grub-pc's own postinst and grub-install would do it; a starved host lets the check of the timer fail.
cat > "$root/etc/default/grub" <<'END'
GRUB_DEFAULT=0
GRUB_TIMEOUT=1
GRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX="tsc=reliable no_timer_check"
GRUB_TERMINAL=console
END
mkdir -p "$root/boot/grub/i386-pc"
cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root/boot/grub/i386-pc/"
: > "$root/boot/grub/grub.cfg"
chroot "$root" grub-editenv /boot/grub/grubenv create
chroot "$root" grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o /core.img biosdisk part_msdos ext2
mv "$root/core.img" "$work/core.img"
cp "$root/usr/lib/grub/i386-pc/boot.img" "$work/boot.img"

# The first boot installs the first kernel; the second one is the upgrade.
cp "$work/first.deb" "$root/first.deb"
cp "$work/second.deb" "$root/upgrade.deb"
install -m 755 "$VMSERIAL_INPUTS/first-boot.sh" "$root/first-boot"

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
truncate -s 1200M "$work/disk.img"
printf 'label: dos\nlabel-id: 0x5e21a100\nstart=2048, type=83, bootable\n' | sfdisk -q "$work/disk.img"
mke2fs -q -t ext4 -U "$uuid" -E offset=1048576 -d "$root" "$work/disk.img" 1199M
dd if="$work/boot.img" of="$work/disk.img" bs=440 count=1 conv=notrunc status=none
dd if="$work/core.img" of="$work/disk.img" bs=512 seek=1 conv=notrunc status=none
