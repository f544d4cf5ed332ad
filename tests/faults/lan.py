"""Hosts of their own: network namespaces on one switch, all of it made here and removed again.

The gateway runs where the test does, at the switch's address 1; each host has the next one.
"""

import contextlib
import os
import subprocess

NET = "10.213.77"


def run(*command):
    subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)


class Host:
    """A network namespace with one link to the switch.

    Args:
        lan: whose switch that is.
        number: of the host; its address ends with it.
    """

    def __init__(self, lan, number):
        self.address = f"{NET}.{number}"
        self.name, self._link = f"{lan.name}h{number}", f"{lan.name}l{number}"
        run("ip", "netns", "add", self.name)
        self.before = ["ip", "netns", "exec", self.name]
        peer = ("peer", "name", "eth0", "netns", self.name)
        run("ip", "link", "add", self._link, "netns", lan.switch, "type", "veth", *peer)
        lan.connect(self._link)
        self.do("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self.do("ip", "link", "set", device, "up")
        self._lan = lan

    def do(self, *command):
        """Run a command on this host."""
        run(*self.before, *command)

    def cut_off(self):
        """Pull its cable."""
        self._lan.do("ip", "link", "set", self._link, "down")

    def back(self):
        """Plug it in again."""
        self._lan.do("ip", "link", "set", self._link, "up")

    def limit(self, rate):
        """Let it send and be sent no more than so much, such as ``100mbit``."""
        shaped = ("root", "tbf", "rate", rate, "burst", "256kb", "latency", "100ms")
        self.do("tc", "qdisc", "replace", "dev", "eth0", *shaped)
        self._lan.do("tc", "qdisc", "replace", "dev", self._link, *shaped)

    @contextlib.contextmanager
    def refusing(self, *rule):
        """Let a rule of iptables drop or reject some of what comes to it."""
        self.do("iptables", "-A", "INPUT", *rule)
        yield
        self.do("iptables", "-D", "INPUT", *rule)

    def close(self):
        run("ip", "netns", "delete", self.name)


class Lan:
    """A switch that hosts are connected to, and this machine as its first address."""

    def __init__(self):
        self.name = f"m{os.getpid() % 100_000}"
        self.switch = f"{self.name}s"
        self.hosts = []
        run("ip", "netns", "add", self.switch)
        self.do("ip", "link", "add", "bridge", "type", "bridge")
        self.do("ip", "link", "set", "bridge", "up")
        peer = ("peer", "name", f"{self.name}l1", "netns", self.switch)
        run("ip", "link", "add", f"{self.name}g", "type", "veth", *peer)
        self.connect(f"{self.name}l1")
        run("ip", "address", "add", f"{NET}.1/24", "dev", f"{self.name}g")
        run("ip", "link", "set", f"{self.name}g", "up")

    def do(self, *command):
        """Run a command where the switch is."""
        run("ip", "netns", "exec", self.switch, *command)

    def connect(self, link):
        """Plug a link in."""
        self.do("ip", "link", "set", link, "master", "bridge")
        self.do("ip", "link", "set", link, "up")

    def host(self):
        """One more host."""
        self.hosts.append(Host(self, len(self.hosts) + 2))
        return self.hosts[-1]

    def close(self):
        """Remove all that was made."""
        for host in self.hosts:
            host.close()
        run("ip", "netns", "delete", self.switch)  # with its end of our own link, so with both
