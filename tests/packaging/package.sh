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
    # Ports of this test's own, at free numbers, and the certificate that the example speaks of.
    printf '%s\n' 'export COAP_BIND_ADDRESS=127.0.0.1' 'export COAP_BIND_PORT=0' \
        'export COAP_DTLS_ENABLED=true' 'export COAP_DTLS_BIND_ADDRESS=127.0.0.1' \
        'export COAP_DTLS_BIND_PORT=0' 'export COAP_DTLS_PEM_CERT=server.pem' \
        'export COAP_DTLS_PEM_KEY=server_key.pem' \
        'export TIDEGATE_ADMIN_BIND=127.0.0.1:0' 'export TIDEGATE_SHARDS=1'
}
# A value of the installed unit.
unit() {
    value=$(sed -n "s/^$1=//p" "$work/root/lib/systemd/system/tidegate.service")
    [ -n "$value" ] || fail "the unit has no $1"
    echo "$value"
}
# The unit's limit, or less where this machine's root cannot raise its own: a server within less is
# within the unit's.
limit() {
    wanted=$(numfmt --from=iec "$(unit "$1")")
    most=$(sed -n "s/^$2  *[0-9a-z]*  *\([0-9a-z]*\) .*/\1/p" /proc/self/limits)
    if [ "$most" != unlimited ] && [ "$most" -lt "$wanted" ] \
        && ! prlimit "$3=$wanted:$wanted" true 2>/dev/null; then
        echo "package: $1 is $wanted, but no more than $most can be had here" >&2
        wanted=$most
    fi
    echo "$wanted"
}
# Starts the service as its unit says, by its user and within its limits, and waits until it serves.
start() {
    user=$(unit User) group=$(unit Group)
    locked=$(limit LimitMEMLOCK 'Max locked memory' --memlock)
    files=$(limit LimitNOFILE 'Max open files' --nofile)
    command="umask $(unit UMask) && cd $(unit WorkingDirectory) && exec $(unit ExecStart)"
    # What an earlier start said must not be taken for this one's.
    : > "$work/log"
    # No function here: the process to be told of the end later is the server itself.
    chroot "$work/root" env -i PATH=/usr/bin:/bin "$(unit Environment)" \
        prlimit --memlock="$locked:$locked" --nofile="$files:$files" \
        setpriv --reuid "$user" --regid "$group" --clear-groups --no-new-privs \
        --bounding-set=-all --inh-caps=-all sh -c "$command" > "$work/log" 2>&1 &
    server=$!
    for _ in $(seq 150); do
        ! grep -qs serving "$work/log" || break
        kill -0 "$server" 2>/dev/null || break
        sleep 0.2
    done
    # So that no colour is in the way of the addresses.
    log=$(sed 's/\x1b\[[0-9;]*m//g' "$work/log")
    coap=$(echo "$log" | sed -n 's/.*serving.* coap=\([0-9.:]*\).*/\1/p')
    coaps=$(echo "$log" | sed -n 's/.*serving.* coaps=\([0-9.:]*\).*/\1/p')
    if [ -z "$coap" ] || [ -z "$coaps" ]; then
        echo "$log" >&2
        fail "the installed server does not serve"
    fi
    limits=$work/root/proc/$server/limits
    grep -Eq "^Max locked memory +$locked +$locked " "$limits" || fail "the limit of locked memory"
    grep -Eq "^Max open files +$files +$files " "$limits" || fail "the limit of files"
}
stop() {
    kill -TERM "$server"
    wait "$server" || fail "the server did not end well"
}
# A handshake; whether it was a resumption. Its ticket is kept for the next one.
handshake() {
    (sleep 1; echo) | in_root timeout 20 openssl s_client -dtls1_2 -connect "$coaps" "$@" \
        -sess_out /ticket 2>&1 | grep -o '^New, TLS\|^Reused, TLS' || fail "no handshake"
}
operate() {
    as_service sh -c 'cd /etc/tidegate && exec tidegate "$@" --conf /etc/tidegate/tidegate.conf' \
        tidegate "$@"
}
device() {
    operate device "$@"
}
data() {
    operate data "$@"
}

in_root dpkg -i /old.deb
in_root systemd-analyze verify /lib/systemd/system/tidegate.service || fail "the unit"
[ "$(in_root stat -c '%U %a' /var/lib/tidegate)" = 'tidegate 700' ] || fail "data directory"
[ "$(in_root stat -c '%G %a' /etc/tidegate/tidegate.conf)" = 'tidegate 640' ] || fail "configuration"
if in_root setpriv --reuid nobody --regid nogroup --clear-groups cat /etc/tidegate/tidegate.conf \
    2>/dev/null; then
    fail "anybody can read the configuration"
fi
settings >> "$work/root/etc/tidegate/tidegate.conf"
in_root tidegate cert self-signed --out /etc/tidegate --cn localhost > /dev/null
in_root chgrp tidegate /etc/tidegate/server.pem /etc/tidegate/server_key.pem
in_root chmod 0640 /etc/tidegate/server_key.pem
start
device add kept --token T1
in_root coap-client-notls -m POST -t application/json -e '{"kept":42}' \
    "coap://$coap/api/v1/T1/telemetry"
[ "$(handshake)" = 'New, TLS' ] || fail "a first handshake is none"
stop

# An upgrade keeps what the operator wrote, the devices, their readings and the tickets of sessions.
in_root chmod 0600 /etc/tidegate/tidegate.conf
in_root chown tidegate /etc/tidegate/tidegate.conf
in_root dpkg -i --force-confold /new.deb
[ "$(in_root stat -c %a /etc/tidegate/tidegate.conf)" = 600 ] || fail "the operator's mode is lost"
grep -q COAP_BIND_PORT=0 "$work/root/etc/tidegate/tidegate.conf" || fail "the configuration is lost"
in_root dpkg -s tidegate | grep -q '^Version: .*+upgrade$' || fail "not upgraded"
start
device list | grep -q kept || fail "the device is lost"
data latest kept | grep -q 42 || fail "the reading is lost"
[ "$(handshake -sess_in /ticket)" = 'Reused, TLS' ] || fail "a ticket of before is worth nothing"
stop

# Who configures it elsewhere may have deleted the file: an upgrade goes through all the same.
in_root mv /etc/tidegate/tidegate.conf /kept.conf
in_root dpkg -i --force-confold /new.deb
in_root dpkg -s tidegate | grep -q '^Status: install ok installed$' || fail "half-configured"
in_root mv /kept.conf /etc/tidegate/tidegate.conf

# Removed: no program, but the data. Purged: nothing.
in_root dpkg -r tidegate
[ ! -e "$work/root/usr/bin/tidegate" ] || fail "the program stays"
[ -d "$work/root/var/lib/tidegate" ] || fail "removing took the data"
in_root dpkg -P tidegate
[ ! -e "$work/root/var/lib/tidegate" ] || fail "purging leaves the data"
[ ! -e "$work/root/etc/tidegate/tidegate.conf" ] || fail "purging leaves the configuration"
in_root getent passwd tidegate > /dev/null || fail "whose are the keys that the operator left?"
echo "package: installed, started, upgraded, removed, purged"
