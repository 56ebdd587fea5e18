/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/syscall.h>

#include "mpo_clock.h"
#include "mpo_shared.h"
#include "mpo_transport.h"

/*
 * A quarter of a second of a 4 Mbit/s video, and more packets than a worker can be late for. The kernel doubles it
 * and caps it at net.core.rmem_max.
 */
#define RECEIVE_BUFFER (256 * 1024)

static void set_option(int fd, int level, int option, int value)
{
	/* None of the options set this way is worth failing a call for: they don't fail on a UDP socket of the family. */
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

static int open_socket(const union mpo_address *local, bool reuse_port, int *out)
{
	bool ipv6 = local->any.sa_family == AF_INET6;
	int fd, err;

	fd = socket(local->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);
	if (fd < 0)
		return -errno;
	if (ipv6)
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (reuse_port)
		set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (bind(fd, &local->any, mpo_address_length(local)) < 0) {
		err = -errno;
		goto err_close;
	}
	*out = fd;
	return 0;
err_close:
	close(fd);
	return err;
}

/* RFC 3550 knows no path MTU: a datagram larger than the way out is fragmented, as it was on its way in. */
static void allow_fragments(int fd, bool ipv6)
{
	if (ipv6)
		set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT);
	else
		set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
}

static void begin_stats(struct mpo_transport_stats *stats, __u64 handle)
{
	mpo_record_begin(&stats->version);
	mpo_put(&stats->handle, handle);
	mpo_put(&stats->last_seen_ns, 0);
	mpo_shared_zero(&stats->reports, sizeof(*stats) - offsetof(struct mpo_transport_stats, reports));
	mpo_record_end(&stats->version);
}

int mpo_transport_open(const union mpo_address *local, __u64 handle, struct mpo_worker *worker, int epoll_fd,
		       struct mpo_transport_stats *stats, struct mpo_slots *slots, struct mpo_descriptors *descriptors,
		       struct mpo_transport **out)
{
	struct mpo_transport *transport;
	struct mpo_rule *rule;
	int err;

	/* The serial 0 is that of no configuration: the first one is new to the worker. */
	transport = calloc(1, sizeof(*transport));
	rule = calloc(1, sizeof(*rule));
	if (!transport || !rule) {
		err = -ENOMEM;
		goto err_free;
	}
	err = open_socket(local, false, &transport->fd);
	if (err < 0)
		goto err_free;
	allow_fragments(transport->fd, local->any.sa_family == AF_INET6);
	set_option(transport->fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER);
	transport->handle = handle;
	transport->worker = worker;
	transport->epoll_fd = epoll_fd;
	transport->stats = stats;
	transport->slots = slots;
	transport->descriptors = descriptors;
	transport->local = *local;
	transport->tos = 0;
	transport->strangers_fd = -1;
	atomic_init(&transport->rule, rule);
	atomic_fetch_add(&descriptors->held, 1);
	begin_stats(stats, handle);
	*out = transport;
	return 0;
err_free:
	free(rule);
	free(transport);
	return err;
}

static int watch(const struct mpo_transport *transport, int fd, __u64 data)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = data };

	return epoll_ctl(transport->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/*
 * close() alone would leave a socket with epoll while a child process, between fork and exec, holds a copy of it: ready
 * for ever, and nobody to read it.
 */
static void unwatch_and_close(const struct mpo_transport *transport, int fd)
{
	(void)epoll_ctl(transport->epoll_fd, EPOLL_CTL_DEL, fd, NULL);	/* not there yet: as good */
	close(fd);
	atomic_fetch_sub(&transport->descriptors->held, 1);
}

int mpo_transport_watch(const struct mpo_transport *transport)
{
	return watch(transport, transport->fd, transport->handle);
}

void mpo_transport_release(struct mpo_retired *retired)
{
	struct mpo_transport *transport = (struct mpo_transport *)retired;

	mpo_transport_close_strangers(transport);
	unwatch_and_close(transport, transport->fd);
	mpo_slot_give(transport->slots, transport->handle, mpo_now());
	mpo_rtp_mailbox_end(&transport->resume);
	free(atomic_load(&transport->rule));
	free(transport);
}

int mpo_config_check(const struct mpo_transport_config *config)
{
	__u8 i;

	if (config->policy >= MPO_POLICIES || (config->flags & ~MPO_CONFIG_FLAGS) ||
	    config->rtp_sink_count > MPO_SINKS_MAX || config->rtcp_sink_count > MPO_SINKS_MAX ||
	    config->clock_rate_count > MPO_CLOCK_RATES_MAX)
		return -EINVAL;
	for (i = 0; i < config->clock_rate_count; i++)
		if (config->clock_rates[i].payload_type > 127)
			return -EINVAL;
	return 0;
}

struct mpo_rule *mpo_rule_make(const struct mpo_transport *transport, const struct mpo_transport_config *config,
			       __u32 serial)
{
	struct mpo_rule *rule;

	rule = malloc(sizeof(*rule));
	if (!rule)
		return NULL;
	rule->policy = config->policy;
	rule->opaque = config->flags & MPO_CONFIG_OPAQUE;
	rule->drop = config->flags & MPO_CONFIG_DROP;
	mpo_address_from_endpoint(&config->remote, &rule->remote);
	mpo_address_from_endpoint(&config->expected, &rule->expected);
	rule->has_remote = config->remote.port != 0 && !mpo_address_is_unspecified(&rule->remote) &&
			   rule->remote.any.sa_family == transport->local.any.sa_family;
	rule->connectable = rule->policy == MPO_POLICY_LOCKED && !rule->opaque && rule->has_remote &&
			    mpo_address_equal(&rule->remote, &rule->expected) &&
			    !mpo_address_is_unspecified(&transport->local);
	rule->rtp_sink_count = config->rtp_sink_count;
	rule->rtcp_sink_count = config->rtcp_sink_count;
	memcpy(rule->rtp_sinks, config->rtp_sinks, config->rtp_sink_count * sizeof(rule->rtp_sinks[0]));
	memcpy(rule->rtcp_sinks, config->rtcp_sinks, config->rtcp_sink_count * sizeof(rule->rtcp_sinks[0]));
	rule->one_route = rule->rtp_sink_count == rule->rtcp_sink_count &&
			  memcmp(rule->rtp_sinks, rule->rtcp_sinks,
				 rule->rtp_sink_count * sizeof(rule->rtp_sinks[0])) == 0;
	rule->clock_rates.serial = serial;
	rule->clock_rates.count = config->clock_rate_count;
	memcpy(rule->clock_rates.rates, config->clock_rates,
	       config->clock_rate_count * sizeof(rule->clock_rates.rates[0]));
	return rule;
}

void mpo_rule_release(struct mpo_retired *retired)
{
	free((struct mpo_rule *)retired);
}

static void set_tos(struct mpo_transport *transport, int tos)
{
	if (transport->tos == tos)
		return;
	if (transport->local.any.sa_family == AF_INET6)
		set_option(transport->fd, IPPROTO_IPV6, IPV6_TCLASS, tos);
	else
		set_option(transport->fd, IPPROTO_IP, IP_TOS, tos);
	transport->tos = tos;
}

struct mpo_rule *mpo_transport_obey(struct mpo_transport *transport, struct mpo_rule *rule,
				    const struct mpo_transport_config *config)
{
	if (config->flags & MPO_CONFIG_TOS)
		set_tos(transport, config->tos);
	return atomic_exchange(&transport->rule, rule);
}

int mpo_transport_open_strangers(struct mpo_transport *transport, __u64 data)
{
	int fd, err;

	if (atomic_load(&transport->descriptors->held) >= transport->descriptors->budget)
		return -EMFILE;
	set_option(transport->fd, SOL_SOCKET, SO_REUSEPORT, 1);
	err = open_socket(&transport->local, true, &fd);
	if (err < 0)
		goto err_seal;
	err = watch(transport, fd, data);
	if (err < 0)
		goto err_close;
	transport->strangers_fd = fd;
	atomic_fetch_add(&transport->descriptors->held, 1);
	return 0;
err_close:
	close(fd);
err_seal:
	set_option(transport->fd, SOL_SOCKET, SO_REUSEPORT, 0);
	return err;
}

void mpo_transport_close_strangers(struct mpo_transport *transport)
{
	if (transport->strangers_fd < 0)
		return;
	unwatch_and_close(transport, transport->strangers_fd);
	transport->strangers_fd = -1;
}

void mpo_transport_seal(struct mpo_transport *transport)
{
	set_option(transport->fd, SOL_SOCKET, SO_REUSEPORT, 0);
	if (transport->strangers_fd >= 0)
		set_option(transport->strangers_fd, SOL_SOCKET, SO_REUSEPORT, 0);
}

static int connect_socket(int fd, const union mpo_address *peer)
{
#ifdef __SANITIZE_THREAD__
	/*
	 * The sanitizer takes connect() for the making of a descriptor and reports a race with another worker that sends
	 * by it. The kernel serialises the two.
	 */
	return syscall(SYS_connect, fd, &peer->any, mpo_address_length(peer)) < 0 ? -errno : 0;
#else
	return connect(fd, &peer->any, mpo_address_length(peer)) < 0 ? -errno : 0;
#endif
}

int mpo_transport_connect(struct mpo_transport *transport, const union mpo_address *peer)
{
	int err;

	err = connect_socket(transport->fd, peer);
	if (err < 0)
		return err;
	transport->peer = *peer;
	transport->connected = true;
	return 0;
}
