#!/bin/busybox sh
# The first process of the guest: drivers, the disk, and on to the system on it.
b=/bin/busybox
$b mount -t devtmpfs devtmpfs /dev
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
for module in /modules/*; do $b insmod "$module"; done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 3000 ]; do $b sleep 0.1; tries=$((tries + 1)); done
$b mount -t ext4 -o rw,noatime /dev/vda /new || echo "the disk cannot be mounted"
$b mount --move /dev /new/dev
$b umount /proc
$b umount /sys
exec $b switch_root /new /sbin/init
