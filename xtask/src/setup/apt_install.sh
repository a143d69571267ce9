#!/bin/sh
# Installs the Debian packages given as arguments, as root, without starting or enabling the
# services that some of them bring (a mosquitto on port 1883 would be in everybody's way).
set -eu

guard=/usr/sbin/policy-rc.d
mark='tidegate: no services while test packages are installed'

remove_guard() {
    if grep -qsF "$mark" "$guard"; then rm -f "$guard"; fi
}
trap remove_guard EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# A guard that stands there already (containers have one) is as good.
if [ ! -e "$guard" ]; then
    printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" >"$guard"
    chmod 755 "$guard"
fi

# A package that conflicts with one that somebody wanted here (a backport, say) fails rather than replaces it.
export DEBIAN_FRONTEND=noninteractive
apt-get -o DPkg::Lock::Timeout=300 update
apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends --no-remove "$@"

# Nor at the next boot.
command -v systemctl >/dev/null || exit 0
for package in "$@"; do
    dpkg -L "$package" | sed -n 's#^.*/systemd/system/\([^/]*\.service\)$#\1#p' |
        while read -r unit; do
            systemctl disable --quiet "$unit" 2>/dev/null ||
                echo "warning: $unit of $package could not be disabled"
        done
done
