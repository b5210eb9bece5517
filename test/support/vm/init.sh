#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of the virtual machine. The kernel's messages go to the first serial port; on the second
# it takes lines `ID BASE64(script)`, runs each script in the background, and answers each with
# `ID STATUS BYTES` and so many bytes of output. Scripts run side by side, so that one which the
# kernel never lets go (a test may be about that) does not keep others from looking at it.
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
. /modules/load
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
dmesg -n 8
mkdir /tmp/shell
mkfifo /tmp/shell/done
stty -F /dev/ttyS1 raw -echo
exec < /dev/ttyS1 > /dev/ttyS1 2> /dev/kmsg

# One process prints, so that answers do not mix.
while read -r id; do
  # Something that a script left running may still be writing.
  size=$(stat -c %s "/tmp/shell/$id.out")
  echo "$id $(cat "/tmp/shell/$id.status") $size"
  head -c "$size" "/tmp/shell/$id.out"
  rm "/tmp/shell/$id.status" "/tmp/shell/$id.out" "/tmp/shell/$id.sh"
done <> /tmp/shell/done &

echo ready
# The reader is not process 1 and has no child that ends while it reads: at a SIGCHLD `read` of busybox
# begins anew, and what it had of the line is lost. Orphans end as children of process 1.
while read -r id script; do
  (
    (
      echo "$script" | base64 -d > "/tmp/shell/$id.sh"
      sh "/tmp/shell/$id.sh" < /dev/null > "/tmp/shell/$id.out" 2>&1
      echo $? > "/tmp/shell/$id.status"
      echo "$id" > /tmp/shell/done
    ) &
  )
done < /dev/ttyS1 &
while :; do sleep 60; done
