#!/bin/bash
# A real S3 server for tests: one-node Ceph (monitor, in-memory OSD, radosgw), all on loopback, gone when stopped.
#
# usage: radosgw.sh start DIRECTORY PORT     DIRECTORY is created; PORT..PORT+60 must be free
#        radosgw.sh stop DIRECTORY           ends the three daemons and removes DIRECTORY
# Credentials: testkey / testsecret, region us-east-1, path-style, endpoint http://127.0.0.1:PORT
set -eu

usage() {
  sed -n '4,6s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

require() {
  for program in radosgw radosgw-admin ceph ceph-mon ceph-osd ceph-authtool monmaptool curl; do
    if ! command -v "$program" >/dev/null; then
      echo "radosgw.sh: $program is missing; run: apt-get install radosgw ceph-mon ceph-osd ceph-common curl" >&2
      exit 1
    fi
  done
}

# Every daemon writes its own pid file; a pid is only believed while its command line names our directory.
end_daemons() {
  local directory=$1 signal=$2 alive=1 file pid
  for file in "$directory"/run/*.pid; do
    [ -f "$file" ] || continue
    pid=$(cat "$file")
    if [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$directory/ceph.conf"; then
      kill "-$signal" "$pid" 2>/dev/null && alive=0
    fi
  done
  return $alive
}

stop() {
  local directory=$1 round
  # radosgw and the OSD need seconds for a clean end; their data is thrown away, so none is asked for.
  for round in $(seq 200); do
    end_daemons "$directory" KILL || break
    sleep 0.05
  done
  rm -rf "$directory"
}

start() {
  local directory=$1 port=$2
  require
  if [ -e "$directory/run" ]; then
    echo "radosgw.sh: $directory is in use; stop it first" >&2
    exit 1
  fi
  mkdir -p "$directory"/{mon,osd,run,log,rgw}
  local fsid messenger2=$((port + 1)) messenger1=$((port + 2))
  fsid=$(cat /proc/sys/kernel/random/uuid)
  cat >"$directory/ceph.conf" <<CONF
[global]
fsid = $fsid
mon_host = [v2:127.0.0.1:$messenger2,v1:127.0.0.1:$messenger1]
public_network = 127.0.0.0/8
ms_bind_port_min = $((port + 10))
ms_bind_port_max = $((port + 60))
ms_bind_retry_count = 1
# "none" makes radosgw wait 300 s for an answer that never comes.
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
cephx_sign_messages = false
keyring = $directory/keyring
run_dir = $directory/run
admin_socket = $directory/run/\$cluster-\$name.asok
pid_file = $directory/run/\$name.pid
log_file = $directory/log/\$name.log
crash_dir = $directory/log
debug_ms = 0
debug_rgw = 0
debug_osd = 0
debug_mon = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
mon_data_avail_warn = 2
# One proposal a pool, several pools: the default of 1 s each is most of the start.
paxos_propose_interval = 0.05
[mon.a]
mon_data = $directory/mon
[osd.0]
osd_data = $directory/osd
osd_objectstore = memstore
osd_class_update_on_start = false
memstore_device_bytes = ${RADOSGW_BYTES:-8589934592}
[client.rgw]
# Without tcp_nodelay a GET of 1 KB takes 48 ms instead of 1.8.
rgw_frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw_data = $directory/rgw
rgw_run_sync_thread = false
rgw_dynamic_resharding = false
rgw_enable_usage_log = false
rgw_thread_pool_size = 64
# Keys of customers are taken without TLS, too.
rgw_crypt_require_ssl = false
CONF
  # A process of its own: there, the first failure ends it.
  if ! "$0" daemons "$directory" "$port" >"$directory/log/start" 2>&1 </dev/null; then
    echo "radosgw.sh: the server did not start:" >&2
    tail -n 20 "$directory/log/start" >&2
    stop "$directory"
    exit 1
  fi
}

daemons() {
  local directory=$1 port=$2 messenger2=$(($2 + 1)) messenger1=$(($2 + 2)) fsid osd_id administrator
  local ceph=(-c "$directory/ceph.conf") keyring="$directory/keyring"
  fsid=$(sed -n 's/^fsid = //p' "$directory/ceph.conf")
  monmaptool --create --clobber --addv a "[v2:127.0.0.1:$messenger2,v1:127.0.0.1:$messenger1]" --fsid "$fsid" "$directory/monmap" >/dev/null
  ceph-authtool -C "$keyring" -g -n mon. --cap mon 'allow *' >/dev/null
  ceph-authtool "$keyring" -g -n client.admin --cap mon 'allow *' --cap osd 'allow *' >/dev/null
  ceph-authtool "$keyring" -g -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *' >/dev/null
  ceph-authtool "$keyring" -g -n client.rgw --cap mon 'allow *' --cap osd 'allow *' >/dev/null
  ceph-mon "${ceph[@]}" -i a --mkfs --monmap "$directory/monmap" --keyring "$keyring"
  ceph-mon "${ceph[@]}" -i a
  osd_id=$(cat /proc/sys/kernel/random/uuid)
  timeout 60 ceph "${ceph[@]}" osd new "$osd_id" 0
  ceph-osd "${ceph[@]}" -i 0 --mkfs --osd-uuid "$osd_id"
  ceph-osd "${ceph[@]}" -i 0
  timeout 60 radosgw "${ceph[@]}" -n client.rgw
  # --max-buckets=0 is "unlimited"; -1 would forbid to make one.
  timeout 60 radosgw-admin "${ceph[@]}" -n client.rgw user create --uid=test --display-name=test \
    --access-key=testkey --secret-key=testsecret --max-buckets=0 &
  administrator=$!
  for _ in $(seq 600); do
    curl -s -o /dev/null "http://127.0.0.1:$port/" && break
    sleep 0.05
  done
  wait "$administrator"
}

case "${1:-} $#" in
  "start 3") start "$(realpath -m "$2")" "$3" ;;
  "daemons 3") daemons "$2" "$3" ;;
  "stop 2") stop "$(realpath -m "$2")" ;;
  *) usage ;;
esac
