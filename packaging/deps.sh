#!/bin/bash
# Install the Debian packages that are missing: packaging/deps.sh [build|demo|test]
#
# The only list of system packages. What is there already is left alone, and when nothing is missing no root is needed.
# Services that come with the packages (kamailio, rtpengine-daemon) are neither started nor enabled; a service that was
# installed before is not touched.
set -euo pipefail

BUILD="python3 python3-venv python3-dev gcc libc6-dev clang llvm libbpf-dev libnftnl-dev libmnl-dev libnftnl11 libmnl0"
DEMO="iproute2 nftables procps kamailio sip-tester tshark"
# rtpengine is what `make bench` and a test compare with.
TEST="util-linux strace rtpengine-daemon iptables conntrack bpftool"

case "${1:-test}" in
build) wanted="$BUILD" ;;
demo) wanted="$BUILD $DEMO" ;;
test) wanted="$BUILD $DEMO $TEST" ;;
*)
	echo "usage: packaging/deps.sh [build|demo|test]" >&2
	exit 2
	;;
esac

if ! command -v dpkg-query >/dev/null; then
	echo "deps: this is no Debian; install what corresponds to: $wanted" >&2
	exit 1
fi

installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $wanted 2>/dev/null | sed -n 's/ installed$//p' || true)
missing=()
for package in $wanted; do
	grep -qx "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "deps: run as root once (sudo make deps) to install: ${missing[*]}" >&2
	exit 1
fi

# Debian starts a service when its package is installed, unless this file forbids it.
POLICY=/usr/sbin/policy-rc.d
MARK="# written by mediaproxy's packaging/deps.sh for the time of one installation"
saved=
if [ -e "$POLICY" ]; then
	if grep -qxF "$MARK" "$POLICY"; then
		rm -f "$POLICY" # a run before was killed
	else
		saved=$(mktemp /usr/sbin/policy-rc.d.XXXXXX)
		mv "$POLICY" "$saved"
	fi
fi
restore_policy() {
	rm -f "$POLICY"
	[ -z "$saved" ] || mv "$saved" "$POLICY"
}
trap restore_policy EXIT
trap 'exit 130' INT TERM
printf '#!/bin/sh\n%s\nexit 101\n' "$MARK" >"$POLICY"
chmod 755 "$POLICY"

export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -y -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0)
install_missing() {
	"${apt[@]}" install --no-install-recommends "${missing[@]}" >"$log" 2>&1 </dev/null
}
log=$(mktemp)
echo "deps: installing ${missing[*]}"
# The package lists are fetched only if what they say does not work.
if ! install_missing; then
	"${apt[@]}" update >"$log" 2>&1 || true
	if ! install_missing; then
		tail -n 5 "$log" >&2
		echo "deps: apt-get could not install: ${missing[*]} (everything it said: $log)" >&2
		exit 1
	fi
fi
rm -f "$log"

for service in kamailio rtpengine-daemon; do
	case " ${missing[*]} " in
	*" $service "*)
		update-rc.d "$service" disable >/dev/null 2>&1 || true
		if command -v systemctl >/dev/null; then
			systemctl --quiet disable "$service" >/dev/null 2>&1 || true
		fi
		;;
	esac
done
