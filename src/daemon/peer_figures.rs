//! What `/metrics` tells of gossip.

use crate::gossip::Member;
use crate::ops::exposition::Text;

/// Adds the figures of a member.
pub(super) fn tell(member: &Member, text: &mut Text) {
    let (counters, traffic) = (member.counters(), member.counters().traffic());
    text.one("orx_gossip_peers", "gauge", "Peers that are there.", member.peers().borrow().len());
    text.one("orx_gossip_connections", "gauge", "Connections with peers.", member.connections());
    let name = "orx_gossip_connections_total";
    text.one(name, "counter", "Connections on which a peer has shown the key.", traffic.connections);
    let both = [
        ("orx_gossip_frames_total", "Frames by direction.", traffic.frames_in, traffic.frames_out),
        ("orx_gossip_bytes_total", "Bytes on the wire by direction.", traffic.bytes_in, traffic.bytes_out),
    ];
    for (name, help, received, sent) in both {
        text.family(name, "counter", help);
        text.line(name, &[("direction", "in")], received);
        text.line(name, &[("direction", "out")], sent);
    }
    text.family("orx_gossip_refusals_total", "counter", "What was not taken from peers, or for them, by reason.");
    for (why, times) in counters.refusals() {
        text.line("orx_gossip_refusals_total", &[("reason", why.as_str())], times);
    }
}
