# Keeps the way into a host open while its firewall is changed: vmserial-firewall.
#   arm TOKEN SECONDS FILE SAVE RESTORE TEXT   keep the rules and the file; restore them after so long. Standard input: lines
#                                              of a shell that take the change back where there is nothing to restore. TEXT: this.
#   watch TOKEN SECONDS                        (the process that arm leaves behind)
#   confirm TOKEN                              the change stays; nothing is left behind
#   abandon TOKEN                              restore now
#   look                                       prints "armed" while somebody's change waits to be confirmed
# "-" is no file, no program. Ends with 11: somebody else's change waits; 12: it was restored before.
umask 077
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"; export PATH
dir=/run/vmserial-firewall

watched() {
    pid=$(cat "$dir/watcher" 2>/dev/null) && [ -n "$pid" ] || return 1
    tr '\0' ' ' 2>/dev/null < "/proc/$pid/cmdline" | grep -q vmserial-firewall
}

back() {
    if [ -e "$dir/rules" ]; then
        restore=$(cat "$dir/restore")
        # Another program may hold the rules for a moment.
        for again in 1 2 3 4 5; do "$restore" < "$dir/rules" && break; sleep 1; done
    fi
    sh "$dir/back"
    if [ -e "$dir/name" ]; then
        file=$(cat "$dir/name")
        if [ ! -e "$dir/file" ]; then rm -f -- "$file"
        elif ! cmp -s "$dir/file" "$file"; then cp -p -- "$dir/file" "$file.vmserial-back" && mv -f -- "$file.vmserial-back" "$file"
        fi
    fi
    rm -rf "$dir"
}

case $1 in
arm)
    token=$2 seconds=$3 file=$4 save=$5 restore=$6 text=$7
    if ! mkdir "$dir" 2>/dev/null; then
        if watched; then exit 11; fi
        rm -rf "$dir"; mkdir "$dir" || exit 1
    fi
    fail() { rm -rf "$dir"; exit 1; }
    cat > "$dir/back" || fail
    if [ "$save" != - ]; then
        "$save" > "$dir/rules" && printf '%s' "$restore" > "$dir/restore" || fail
    fi
    if [ "$file" != - ]; then
        printf '%s' "$file" > "$dir/name" || fail
        if [ -e "$file" ]; then cp -p -- "$file" "$dir/file" || fail; fi
    fi
    : > "$dir/armed.$token" || fail
    apart=setsid; command -v setsid >/dev/null 2>&1 || apart=nohup
    $apart sh -c "$text" sh watch "$token" "$seconds" >/dev/null 2>&1 </dev/null &
    echo $! > "$dir/watcher"
    ;;
watch)
    left=$3
    while [ "$left" -gt 0 ] && [ -e "$dir/armed.$2" ]; do sleep 1; left=$((left - 1)); done
    mv "$dir/armed.$2" "$dir/firing" 2>/dev/null || exit 0
    back
    ;;
confirm)
    mv "$dir/armed.$2" "$dir/confirmed" 2>/dev/null || exit 12
    rm -rf "$dir"
    ;;
abandon)
    mv "$dir/armed.$2" "$dir/firing" 2>/dev/null || exit 12
    back
    ;;
look)
    if [ -d "$dir" ] && watched; then echo armed; fi
    ;;
esac
