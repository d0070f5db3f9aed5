// Package capture reads DLM messages out of a packet capture (pcap, maybe gzipped, taken with full packets, for
// example by `tcpdump -s 0 -w FILE tcp port 21064`). It serves tests that compare us with Linux nodes and
// `ocfuse debug dlm`. It knows Ethernet (with one VLAN tag), raw IP and Linux cooked captures, IPv4 without
// fragments, and TCP segments that are repeated or out of order; a stream that is met in its middle is taken as it
// comes.
package capture
