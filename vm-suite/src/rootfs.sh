# Makes the guest's root file system with its packages configured. $1: the tar file, $2: release,
# $3: packages with commas, $4: apt sources. Called in a mount namespace of its own, with which
# whatever is mounted here goes.
set -e
mount --make-rprivate /
binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
if [ ! -e $binfmt/qemu-aarch64 ]; then
    # Registered for all of the machine, so under a name of ours, and only as long as this runs. F: the
    # interpreter is opened now, and so is found in the other root.
    trap '[ ! -e $binfmt/tidegate-aarch64 ] || echo -1 > $binfmt/tidegate-aarch64' EXIT
    trap 'exit 1' HUP INT TERM
    [ ! -e $binfmt/tidegate-aarch64 ] || echo -1 > $binfmt/tidegate-aarch64
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    printf '%s' ":tidegate-aarch64:M::$magic:$mask:$(command -v qemu-aarch64-static):OCF" > $binfmt/register
fi
mmdebstrap --arch=arm64 --variant=minbase --mode=root --include="$3" \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$2" "$1" "$4"
