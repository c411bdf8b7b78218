#!/bin/sh
# Makes what is missing of an authority and its certificates in /authority, and hands every machine
# its own files in /to/MACHINE. COINFER_EDGE_HOSTS: names and addresses that devices call the edge
# by. The authority's key stays in /authority, which no daemon mounts.
set -eu
umask 077
owner=${COINFER_USER:-10001:10001}
authority=${COINFER_AUTHORITY:-/authority}
to=${COINFER_TO:-/to}
hosts=""
for host in ${COINFER_EDGE_HOSTS:-edge}; do hosts="$hosts --host $host"; done

[ -e "$authority/ca.pem" ] || coinfer certs init --dir "$authority"
[ -e "$authority/edge.pem" ] || coinfer certs edge edge $hosts --dir "$authority"
for name in device-1 device-2 health; do
  [ -e "$authority/$name.pem" ] || coinfer certs device "$name" --dir "$authority"
done

# give MACHINE NAME AS: a certificate and its key under the name that the configuration uses
give() {
  cp "$authority/ca.pem" "$to/$1/ca.pem"
  cp "$authority/$2.pem" "$to/$1/$3.pem"
  cp "$authority/$2.key" "$to/$1/$3.key"
}
give edge edge edge
give edge health health
give device-1 device-1 device
give device-2 device-2 device
chown -R "$owner" "$to"/*
chmod 0700 "$to"/*
