# Runs in a minimal Debian as root: installs, starts, upgrades, removes and purges the package. PACKAGE and UPGRADE are the files.
set -eu

fail() {
    echo "$1" >&2
    exit 1
}

# Every file but those in which dpkg and shadow keep their own records.
files() {
    find / -xdev \( -path /proc -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache -o -path /tmp \) -prune -o \
        ! -name 'passwd-' ! -name 'group-' ! -name 'shadow-' ! -name 'gshadow-' ! -name '.pwd.lock' -print | sort
}

files >/tmp/before
dpkg --install "$PACKAGE"
[ "$(stat -c '%U:%G %a' /etc/txnscope)" = 'root:txnscope 750' ] || fail "permissions of /etc/txnscope"
[ "$(stat -c '%U:%G %a' /etc/txnscope/txnscope.toml)" = 'root:txnscope 640' ] || fail "permissions of txnscope.toml"
for file in man/man1/txnscope-serve.1.gz bash-completion/completions/txnscope zsh/vendor-completions/_txnscope \
    fish/vendor_completions.d/txnscope.fish; do
    [ -s "/usr/share/$file" ] || fail "/usr/share/$file is missing"
done
[ -L /etc/systemd/system/multi-user.target.wants/txnscope.service ] || fail "the service is not enabled"

# No function: a signal to a function in the background ends its shell, and not the program.
as_service="setpriv --reuid=txnscope --regid=txnscope --clear-groups --no-new-privs"

echo '# Edited by the administrator.' >>/etc/txnscope/txnscope.toml
$as_service txnscope serve --config.file=/etc/txnscope/txnscope.toml >/tmp/log 2>&1 &
sidecar=$!
scrape() {
    bash -c 'exec 3<>/dev/tcp/127.0.0.1/9917; printf "GET /metrics HTTP/1.0\r\n\r\n" >&3; cat <&3'
}
tries=0
# The member is on the page after the first poll, which fails: no MongoDB runs here.
until $as_service txnscope healthcheck --config.file=/etc/txnscope/txnscope.toml 2>/tmp/unhealthy &&
    scrape >/tmp/page && grep -q '^mongodb_up{' /tmp/page; do
    tries=$((tries + 1))
    kill -0 $sidecar && [ $tries -lt 600 ] || fail "the sidecar does not respond: $(cat /tmp/log /tmp/unhealthy)"
    sleep 0.1
done
kill $sidecar
wait $sidecar || fail "the sidecar did not stop: $(cat /tmp/log)"

chmod 0600 /etc/txnscope/txnscope.toml
dpkg --install "$UPGRADE"
tail -1 /etc/txnscope/txnscope.toml | grep -q administrator || fail "the upgrade has replaced the configuration"
[ "$(stat -c %a /etc/txnscope/txnscope.toml)" = 600 ] || fail "the upgrade has changed permissions"

dpkg --remove txnscope
[ -f /etc/txnscope/txnscope.toml ] || fail "the removal has deleted the configuration"
[ ! -e /usr/bin/txnscope ] || fail "the removal has left the program"

echo hunter2 >/etc/txnscope/password
dpkg --purge txnscope
! getent passwd txnscope || fail "the purge has left the user"
! getent group txnscope || fail "the purge has left the group"
files >/tmp/after
diff /tmp/before /tmp/after || fail "the purge has left files"
