"""The network of a pod: a namespace, CNI networks attached to it, and host ports forwarded into it.

============== =========================================================================================
selection      what ``--net`` may say (light: the command line imports it)
configuration  the networks that are configured: ``*.conf`` and ``*.conflist`` files and the built-in two
plugins        finding and running CNI plugins
attachment     one network of a pod: what each of its plugins is asked
result         what a plugin answers, in the form of CNI 0.1/0.2 and of 0.3 to 1.0
namespace      the network namespace and the file that keeps it
interfaces     loopback, host addresses (ioctl and rtnetlink, no processes)
forwarding     host ports, from the manifest
claims         which pod has which ports of the host
conflicts      which programs of the host have them
conntrack      flows of UDP to ports that change hands
firewall       rules for ports and masquerading, by iptables or nftables
record         what a pod's directory remembers of all this
lifecycle      ``setup`` of a pod's network
check          ``check`` of a running pod's network
teardown       ``teardown``, with ``leases`` for what a plugin left that is not there any more
============== =========================================================================================

The code runs inside stage1's entry points, so it imports ``rkt.appc``, ``rkt.linux`` and ``rkt.errors``
only.
"""

from __future__ import annotations
