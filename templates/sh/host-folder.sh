# Prints the folder in which this host keeps copies of what was done to it: the one for everybody if we may write there,
# else this user's. `$1`: `look` finds where copies are; `make` makes the folder `$2` in it, for its owner only.
umask 077
system=/var/lib/vmserial
own=${XDG_DATA_HOME:-${HOME:-}/.local/share}/vmserial
[ "$1" = make ] && [ -z "${VMSERIAL_HOST_FOLDER:-}" ] && mkdir -p "$system" 2>/dev/null
if [ -n "${VMSERIAL_HOST_FOLDER:-}" ]; then
    folder=$VMSERIAL_HOST_FOLDER
elif [ -w "$system" ]; then
    folder=$system
elif [ "$1" = look ] && [ -d "$system" ] && [ ! -d "$own" ]; then
    printf '%s' "$system"
    exit 3
else
    folder=$own
fi
if [ "$1" = make ]; then
    mkdir -p "$folder/$2" || exit
fi
printf '%s' "$folder"
