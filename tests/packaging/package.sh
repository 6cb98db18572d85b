#!/bin/sh
# Installs, starts, upgrades, removes and purges the Debian package in a copy of this machine's files
# that is thrown away: an overlay in a mount namespace of its own.
#
#   package.sh OLD.deb NEW.deb
set -eu

if [ "${1:-}" != inside ]; then
    old=$(realpath "$1") new=$(realpath "$2")
    exec unshare --mount --pid --fork --kill-child sh "$0" inside "$old" "$new"
fi
old=$2 new=$3

fail() {
    echo "package: $*" >&2
    exit 1
}

work=$(mktemp -d)
mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
for place in dev sys tmp; do
    mount --rbind "/$place" "$work/root/$place"
done
mount -t proc proc "$work/root/proc"
cp "$old" "$work/root/old.deb"
cp "$new" "$work/root/new.deb"

in_root() {
    chroot "$work/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}
as_service() {
    in_root setpriv --reuid tidegate --regid tidegate --clear-groups "$@"
}
settings() {
    # Ports of this test's own, at free numbers.
    printf '%s\n' 'export COAP_BIND_ADDRESS=127.0.0.1' 'export COAP_BIND_PORT=0' \
        'export TIDEGATE_ADMIN_BIND=127.0.0.1:0' 'export TIDEGATE_SHARDS=1'
}
# Starts the service as its unit does and waits until it serves.
start() {
    # No function here: the process to be told of the end later is the server itself.
    chroot "$work/root" env -i PATH=/usr/bin:/bin \
        setpriv --reuid tidegate --regid tidegate --clear-groups \
        sh -c 'cd /etc/tidegate && exec tidegate serve --conf /etc/tidegate/tidegate.conf' \
        > "$work/log" 2>&1 &
    server=$!
    for _ in $(seq 150); do
        ! grep -q serving "$work/log" || return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.2
    done
    cat "$work/log" >&2
    fail "the installed server does not serve"
}
stop() {
    kill -TERM "$server"
    wait "$server" || fail "the server did not end well"
}
device() {
    as_service sh -c 'cd /etc/tidegate && exec tidegate device "$@" --conf /etc/tidegate/tidegate.conf' \
        device "$@"
}

in_root dpkg -i /old.deb
[ "$(in_root stat -c '%U %a' /var/lib/tidegate)" = 'tidegate 700' ] || fail "data directory"
[ "$(in_root stat -c '%G %a' /etc/tidegate/tidegate.conf)" = 'tidegate 640' ] || fail "configuration"
if in_root setpriv --reuid nobody --regid nogroup --clear-groups cat /etc/tidegate/tidegate.conf \
    2>/dev/null; then
    fail "anybody can read the configuration"
fi
settings >> "$work/root/etc/tidegate/tidegate.conf"
start
device add kept --token T1
stop

# An upgrade keeps what the operator wrote, and the devices.
in_root dpkg -i --force-confold /new.deb
grep -q COAP_BIND_PORT=0 "$work/root/etc/tidegate/tidegate.conf" || fail "the configuration is lost"
in_root dpkg -s tidegate | grep -q '^Version: .*+upgrade$' || fail "not upgraded"
start
device list | grep -q kept || fail "the device is lost"
stop

# Removed: no program, but the data. Purged: nothing.
in_root dpkg -r tidegate
[ ! -e "$work/root/usr/bin/tidegate" ] || fail "the program stays"
[ -d "$work/root/var/lib/tidegate" ] || fail "removing took the data"
in_root dpkg -P tidegate
[ ! -e "$work/root/var/lib/tidegate" ] || fail "purging leaves the data"
[ ! -e "$work/root/etc/tidegate/tidegate.conf" ] || fail "purging leaves the configuration"
! in_root getent passwd tidegate > /dev/null || fail "purging leaves the user"
echo "package: installed, started, upgraded, removed, purged"
