// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package hostnet makes the cluster's network on the machine, keeps it on the
// machine, and removes it.
package hostnet

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"github.com/vmcp-dev/vmcp-operator/hack/cluster/internal/config"
)

// aliasPrefix starts the interface alias (ifalias) of our bridge; the state
// directory of the cluster it belongs to follows.
const aliasPrefix = "vmcp-operator cluster in "

// Owner says whose the interface named config.Bridge is.
type Owner struct {
	Exists bool
	// State is the state directory of its cluster; empty when it is not a bridge of ours.
	State string
}

// BridgeOwner looks the bridge up.
func BridgeOwner() (Owner, error) {
	link, err := netlink.LinkByName(config.Bridge)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return Owner{}, nil
	}
	if err != nil {
		return Owner{}, fmt.Errorf("look up interface %s: %w", config.Bridge, err)
	}
	return ownerOf(link.Attrs().Alias), nil
}

func ownerOf(alias string) Owner {
	if len(alias) > len(aliasPrefix) && alias[:len(aliasPrefix)] == aliasPrefix {
		return Owner{Exists: true, State: alias[len(aliasPrefix):]}
	}
	return Owner{Exists: true}
}

// Up makes the bridge with the node's address, its guard, and the route to
// Services. The CNI plugin is not left to do it, because the API server and
// the kubelet need the address first.
func Up(c config.Config) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = config.Bridge
	attrs.HardwareAddr = hardwareAddr(c.NodeIP()) // else it changes with every pod
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make bridge %s: %w", config.Bridge, err)
	}
	// First of all: without it a later run would not know the bridge as ours.
	if err := netlink.LinkSetAlias(bridge, aliasPrefix+c.State); err != nil {
		return fmt.Errorf("mark bridge %s: %w", config.Bridge, err)
	}
	if err := addGuard(c); err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(c.NodeIP(), c.Pods.Bits()))}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		return fmt.Errorf("give %s its address: %w", config.Bridge, err)
	}
	if err := setForwarding(); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("set %s up: %w", config.Bridge, err)
	}
	// A Service without endpoints has no rule in kube-proxy: its address must
	// end here and not on the default route.
	route := &netlink.Route{
		LinkIndex: bridge.Attrs().Index, Dst: ipNet(c.Services), Src: c.NodeIP().AsSlice(), Scope: netlink.SCOPE_LINK,
	}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("route Services to %s: %w", config.Bridge, err)
	}
	return nil
}

// setForwarding lets packets that come from pods be routed to pods. Only the
// bridge's own setting changes: everything a pod sends or answers comes in
// there, so net.ipv4.ip_forward stays as the machine has it.
func setForwarding() error {
	if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv4/conf", config.Bridge, "forwarding"), []byte("1"), 0o644); err != nil {
		return fmt.Errorf("enable forwarding on %s: %w", config.Bridge, err)
	}
	// No IPv6 in this cluster; the file is missing where the kernel has none either.
	err := os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", config.Bridge, "disable_ipv6"), []byte("1"), 0o644)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("disable IPv6 on %s: %w", config.Bridge, err)
	}
	return nil
}

// removeBridge removes the bridge and the pods' interfaces on it.
func removeBridge() error {
	link, err := netlink.LinkByName(config.Bridge)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up interface %s: %w", config.Bridge, err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if l.Attrs().MasterIndex == link.Attrs().Index {
			// It vanishes by itself with its pod's namespace, perhaps just now.
			_ = netlink.LinkDel(l)
		}
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("remove bridge %s: %w", config.Bridge, err)
	}
	return nil
}

// hardwareAddr derives a locally administered address, as the CNI plugins do for pods.
func hardwareAddr(ip netip.Addr) net.HardwareAddr {
	return append(net.HardwareAddr{0x0a, 0x58}, ip.AsSlice()...)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// Range is an address range that an interface of the machine already leads to.
type Range struct {
	Interface string
	Prefix    netip.Prefix
}

// Ranges returns the machine's routes and addresses, default routes and our own bridge's apart.
func Ranges() ([]Range, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	names := map[int]string{}
	var list []Range
	add := func(name string, n *net.IPNet) {
		if n == nil || name == config.Bridge {
			return
		}
		addr, ok := netip.AddrFromSlice(n.IP.To4())
		if bits, _ := n.Mask.Size(); ok && bits > 0 {
			list = append(list, Range{Interface: name, Prefix: netip.PrefixFrom(addr, bits).Masked()})
		}
	}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		for _, a := range addrs {
			add(l.Attrs().Name, a.IPNet)
		}
	}
	for _, r := range routes {
		add(names[r.LinkIndex], r.Dst)
	}
	return list, nil
}
