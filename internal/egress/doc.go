// Package egress is how the commands of builds reach the network: an HTTP proxy
// (CONNECT, and http:// URLs) that lets them reach what the operator allows.
//
// Two checks decide. The first is by name: a command's [Access] is open, or limited to
// the hosts of --egress-allow, or off. The second is by address, for every connection
// and whatever the first has allowed: package address refuses loopback, private ranges
// and the metadata service of clouds on the address that the kernel is about to connect
// to, so that a name which changes its address gains nothing.
//
// Behind an upstream proxy the connection is made by that proxy. A name is then resolved
// here too, and refused if any of its addresses is refused. A name that cannot be
// resolved here is left to the upstream proxy, because where a proxy is the only way out
// there is often no DNS either.
//
// Nothing of what passes is kept or logged, except its length.
package egress
