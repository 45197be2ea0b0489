# Runs in a minimal Debian as root: installs, configures, starts, upgrades, removes and purges the package. PACKAGE and UPGRADE are
# the files, EXPORTED is the line of the metrics page that the configured MongoDB leads to.
set -eu

# Every file but those in which apt, dpkg and shadow keep their own records.
files() {
    find / -xdev \( -path /proc -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/log -o -path /var/cache -o -path /tmp \) \
        -prune -o \
        ! -name 'passwd-' ! -name 'group-' ! -name 'shadow-' ! -name 'gshadow-' ! -name '.pwd.lock' -print | sort
}

files >/tmp/before
# One command installs the package, one edits the URI. There is no network here for recommended packages.
apt-get install --yes --no-install-recommends "$PACKAGE" </dev/null
sed -i 's|^uri = .*|uri = ["mongodb://127.0.0.1:27018/"]|' /etc/txnscope/txnscope.toml

[ "$(stat -c '%U:%G %a' /etc/txnscope)" = 'root:txnscope 750' ] || fail "permissions of /etc/txnscope"
[ "$(stat -c '%U:%G %a' /etc/txnscope/txnscope.toml)" = 'root:txnscope 640' ] || fail "permissions of txnscope.toml"
for file in man/man1/txnscope-serve.1.gz bash-completion/completions/txnscope zsh/vendor-completions/_txnscope \
    fish/vendor_completions.d/txnscope.fish; do
    [ -s "/usr/share/$file" ] || fail "/usr/share/$file is missing"
done
[ -L /etc/systemd/system/multi-user.target.wants/txnscope.service ] || fail "the service is not enabled"

# The command and the user of the unit. No function: a signal to a function in the background ends its shell, and not the program.
as_service="setpriv --reuid=txnscope --regid=txnscope --clear-groups --no-new-privs"
$as_service $(sed -n 's/^ExecStart=//p' /lib/systemd/system/txnscope.service) >/tmp/log 2>&1 &
sidecar=$!
wait_for_metric $sidecar /tmp/log "$EXPORTED" $as_service txnscope healthcheck --config.file=/etc/txnscope/txnscope.toml
stop $sidecar /tmp/log

chmod 0600 /etc/txnscope/txnscope.toml
dpkg --install "$UPGRADE"
grep -q '^uri = \["mongodb://127.0.0.1:27018/"\]$' /etc/txnscope/txnscope.toml || fail "the upgrade has replaced the configuration"
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
