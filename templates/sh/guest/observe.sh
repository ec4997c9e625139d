# $1: folder of a guest's root, or nothing for the system that runs. Prints one fact a line, "NAME VALUE". Changes nothing.
# Runs in dash, ash and bash, with cat and grep; what else it uses may be missing.
r=${1%/}
say() { printf '%s %s\n' "$1" "$2"; }
# Prints the lines of a file, each behind a name.
lines() { [ -r "$2" ] && while IFS= read -r l || [ -n "$l" ]; do say "$1" "$l"; done < "$2"; }
# Whole reads: a file of /proc/sys gives one byte only to who reads byte by byte, as `read` does.
first() { l=; [ -r "$2" ] && l=$(cat "$2" 2>/dev/null); [ -n "$l" ] && say "$1" "$l"; l=; }
there() { command -v "$1" >/dev/null 2>&1; }

say observe 1
if [ -z "$r" ]; then
  if there id; then say uid "$(id -u)"; fi
  k=$(uname -r); say kernel "$k"; say machine "$(uname -m)"
  first cmdline /proc/cmdline
  first sysrq /proc/sys/kernel/sysrq
  first printk /proc/sys/kernel/printk
  first lockdown /sys/kernel/security/lockdown
  [ -d /sys/firmware/efi ] && say efi yes
  for f in /sys/firmware/efi/efivars/SecureBoot-*; do
    [ -r "$f" ] && there od && say secure-boot "$(od -An -tu1 -j4 -N1 "$f")"
  done
  [ -e /sys/module/kgdboc ] && say kgdboc-module there
  f=/sys/module/kgdboc/parameters/kgdboc
  [ -r "$f" ] && say kgdboc "$(cat "$f")"
  for f in /sys/class/tty/ttyS[0-9]*; do
    [ -r "$f/type" ] || continue
    IFS= read -r t < "$f/type"; p=; i=
    [ -r "$f/port" ] && IFS= read -r p < "$f/port"
    [ -r "$f/irq" ] && IFS= read -r i < "$f/irq"
    say tty "${f##*/} ${t:-0} ${p:--} ${i:--}"
  done
  lines console /proc/consoles
  [ -r /proc/self/mounts ] && while read -r d m t l; do
    case $m in /|/boot|/boot/efi|/efi) say mount "$d $m $t $l";; esac
  done < /proc/self/mounts
  [ -d /run/systemd/system ] && say systemd yes
  if there readlink; then
    for f in /proc/[0-9]*/fd/0; do
      t=$(readlink "$f" 2>/dev/null) || continue
      case $t in /dev/ttyS[0-9]*) n=; IFS= read -r n < "${f%/fd/0}/comm"; say reader "${t#/dev/} $n";; esac
    done
  fi
else
  k=
fi
# All kernels that are installed; the one that runs is looked at closely.
for f in "$r"/boot/vmlinuz-* "$r"/boot/vmlinux-*; do
  [ -e "$f" ] && say installed "${f#"$r"}"
done
options='CONFIG_(KGDB|KGDB_SERIAL_CONSOLE|KGDB_KDB|MAGIC_SYSRQ|MAGIC_SYSRQ_SERIAL|MAGIC_SYSRQ_DEFAULT_ENABLE|SERIAL_8250|SERIAL_8250_CONSOLE|RANDOMIZE_BASE|STRICT_KERNEL_RWX|DEBUG_INFO|GDB_SCRIPTS|FRAME_POINTER)'
options="^($options=|# $options is not set)"
if [ -z "$r" ] && [ -r /proc/config.gz ] && there gzip; then
  say config /proc/config.gz
  gzip -dc /proc/config.gz | grep -E "$options" | while IFS= read -r l; do say option "$l"; done
else
  for f in "$r/boot/config-$k" "$r/lib/modules/$k/config" "$r/usr/lib/modules/$k/config" "$r"/boot/config-*; do
    [ -r "$f" ] || continue
    say config "${f#"$r"}"
    grep -E "$options" "$f" | while IFS= read -r l; do say option "$l"; done
    break
  done
fi
for f in "$r/lib/modules/$k/modules.builtin" "$r/lib/modules/$k/modules.dep"; do
  [ -r "$f" ] || continue
  say modules "${f##*/}"
  grep -q '/kgdboc\.ko' "$f" && say kgdboc-module "${f##*/}"
done
first machine-id "$r/etc/machine-id"
[ -r "$r/etc/os-release" ] && lines os "$r/etc/os-release"
for f in /boot/grub/grub.cfg /boot/grub2/grub.cfg /boot/grub/custom.cfg /boot/grub2/custom.cfg /boot/grub/grubenv \
  /boot/grub2/grubenv /etc/default/grub /etc/default/grub.d /etc/grub.d /etc/grub.d/40_custom /etc/grub.d/41_custom \
  /etc/kernel /etc/kernel/cmdline /etc/sysctl.d /etc/systemd/system /boot/loader/entries /boot/efi/loader/entries /efi/loader/entries \
  /boot/loader/loader.conf /boot/efi/loader/loader.conf /efi/loader/loader.conf /etc/sysconfig/bootloader; do
  [ -e "$r$f" ] && say path "$f"
done
for f in "$r"/etc/systemd/system/serial-getty@*.service.d; do [ -d "$f" ] && say path "${f#"$r"}"; done
for d in /boot/loader/entries /boot/efi/loader/entries /efi/loader/entries; do
  for f in "$r$d"/*.conf; do [ -e "$f" ] && say entry "${f#"$r"}"; done
done
# Entries for kgdb: ours, and those that somebody made by hand.
for f in "$r"/boot/grub/grub.cfg "$r"/boot/grub2/grub.cfg "$r"/boot/grub/custom.cfg "$r"/boot/grub2/custom.cfg \
  "$r"/etc/grub.d/40_custom "$r"/boot/loader/entries/*.conf "$r"/boot/efi/loader/entries/*.conf "$r"/efi/loader/entries/*.conf; do
  [ -r "$f" ] && grep -q '^[^#]*kgdboc=' "$f" || continue
  if grep -q 'Set by vmserial' "$f"; then say kgdb-entry "ours ${f#"$r"}"; else say kgdb-entry "other ${f#"$r"}"; fi
done
for f in update-grub grub-mkconfig grub2-mkconfig grubby grub-reboot grub2-reboot grub-editenv grub2-editenv bootctl \
  grub-script-check grub2-script-check update-bootloader systemctl modprobe stty sysctl; do
  if [ -n "$r" ]; then
    for d in /usr/sbin /sbin /usr/bin /bin; do [ -e "$r$d/$f" ] && say program "$f" && break; done
  else
    there "$f" && say program "$f"
  fi
done
say end 1
