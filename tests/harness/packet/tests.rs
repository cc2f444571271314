//! The builder against the description, and both against tcpdump.

use super::*;
use crate::process::Cmd;

/// Every line of the description, without those of the link layer.
#[track_caller]
fn check(packet: &Packet, want: &[&str]) {
    let text = describe(&packet.build());
    let got: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with("eth ")).collect();
    assert_eq!(got, want, "in full:\n{text}");
}

const A: &str = "10.0.0.1:40000";
const B: &str = "10.0.9.9:80";
const A6: &str = "[fd00::1]:40000";
const B6: &str = "[fd00:9::9]:80";
const IP_A_B: &str = "ipv4 10.0.0.1 > 10.0.9.9";
const MAC: [u8; 6] = [2, 0x42, 10, 0, 9, 2];

#[test]
fn a_syn_with_an_mss() {
    check(
        &tcp(A, B).syn().mss(1460),
        &[
            &format!("{IP_A_B} proto 6 ttl 64 tos 0x00 id 1 df len 44 checksum ok"),
            "tcp 40000 > 80 [SYN] seq 1 ack 0 win 64240 <mss 1460> checksum ok",
        ],
    );
    check(
        &tcp(A6, B6).syn().ttl(9).tos(0xb9),
        &[
            "ipv6 fd00::1 > fd00:9::9 proto 6 ttl 9 tos 0xb9 len 20",
            "tcp 40000 > 80 [SYN] seq 1 ack 0 win 64240 checksum ok",
        ],
    );
}

#[test]
fn datagrams_and_their_checksums() {
    let ip = format!("{IP_A_B} proto 17 ttl 64 tos 0x00 id 1 df len 31 checksum ok");
    for (checksum, verdict) in
        [(Checksum::Right, "ok"), (Checksum::Wrong, "BAD"), (Checksum::Zero, "none"), (Checksum::Partial, "BAD")]
    {
        let packet = udp(A, B).payload("abc").checksum(checksum);
        check(&packet, &[&ip, &format!("udp 40000 > 80 len 11 checksum {verdict}"), "data 3 bytes 616263"]);
    }
}

#[test]
fn a_partial_checksum_becomes_right_when_the_rest_is_added() {
    let mut frame = tcp(A, B).payload("hello").checksum(Checksum::Partial).build();
    // What an offload does: the sum from the TCP header on, put into the field (offset 14+20+16).
    let sum = mesh_common::checksum::of(&frame[34..]);
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    assert_packet_eq(frame, tcp(A, B).payload("hello"));
}

#[test]
fn echo_and_errors() {
    check(
        &icmp_echo("10.0.0.1", "10.0.9.9").echo(7, 9),
        &[
            &format!("{IP_A_B} proto 1 ttl 64 tos 0x00 id 1 df len 28 checksum ok"),
            "icmp type 8 code 0 echo request id 7 seq 9 checksum ok",
        ],
    );
    check(
        &icmp_too_big("fd00::ff", "fd00::1", 1400, udp(A6, B6).payload("x")),
        &[
            "ipv6 fd00::ff > fd00::1 proto 58 ttl 64 tos 0x00 len 57",
            "icmpv6 type 2 code 0 packet too big, mtu 1400 checksum ok",
            "ipv6 fd00::1 > fd00:9::9 proto 17 ttl 64 tos 0x00 len 9",
            "udp 40000 > 80 len 9 checksum not judged",
            "data 1 bytes 78",
        ],
    );
}

#[test]
fn address_resolution_of_both_families() {
    check(
        &arp_request(MAC, "10.0.9.2", "10.0.9.3"),
        &["arp request sender 10.0.9.2 at 02:42:0a:00:09:02 target 10.0.9.3 at 00:00:00:00:00:00"],
    );
    let solicitation = neighbour_solicitation(MAC, "fd00::2", "fd00::12:3456");
    check(
        &solicitation,
        &[
            "ipv6 fd00::2 > ff02::1:ff12:3456 proto 58 ttl 255 tos 0x00 len 32",
            "icmpv6 type 135 code 0 neighbour solicitation checksum ok",
            "neighbour fd00::12:3456 source 02:42:0a:00:09:02",
        ],
    );
    assert_eq!(solicitation.build()[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
}

#[test]
fn vxlan_holds_a_whole_frame() {
    let inner = tcp(A, B).syn().vlan(5);
    check(
        &vxlan(0x00ab_cdef, "192.0.2.1:50000", "192.0.2.2", &inner),
        &[
            "ipv4 192.0.2.1 > 192.0.2.2 proto 17 ttl 64 tos 0x00 id 1 df len 94 checksum ok",
            "udp 50000 > 4789 len 74 checksum none",
            "vxlan vni 11259375 flags 0x08",
            &format!("{IP_A_B} proto 6 ttl 64 tos 0x00 id 1 df len 40 checksum ok"),
            "tcp 40000 > 80 [SYN] seq 1 ack 0 win 64240 checksum ok",
        ],
    );
    let outer = vxlan(1, "fd00:2::1", "fd00:2::2", &inner).build();
    assert!(describe(&outer).contains("checksum ok"), "{}", describe(&outer));
    assert_eq!(outer.len(), 70 + inner.build().len());
}

#[test]
fn fragments_carry_the_whole_payload_once() {
    for whole in [udp(A, B).payload(vec![7; 100]), udp(A6, B6).payload(vec![7; 100])] {
        let header = if describe(&whole.build()).contains("ipv4") { 34 } else { 62 };
        let parts = fragments(&whole, 48);
        assert_eq!(parts.len(), 3);
        let joined: Vec<u8> = parts.iter().flat_map(|part| part.build().split_off(header)).collect();
        let upper = if header == 34 { 34 } else { 54 };
        assert_eq!(joined, whole.build()[upper..]);
        assert!(describe(&parts[0].build()).contains("at 0, more follow"));
        assert!(describe(&parts[2].build()).contains("at 96, the last"));
    }
}

#[test]
fn packets_broken_on_purpose_are_described_as_broken() {
    let text = |packet: Packet| describe(&packet.build());
    assert!(text(tcp(A, B).bad_checksum()).contains("win 64240 checksum BAD"));
    assert!(text(tcp(A, B).bad_ip_checksum()).contains("len 40 checksum BAD"));
    assert!(text(tcp(A, B).truncate(40)).ends_with("ends inside this header"));
    assert!(text(tcp(A, B).ip_length(4000)).contains("CUT: 40 of 4000"));
    assert!(text(tcp(A, B).ip_length(10)).contains("IMPOSSIBLE length 10"));
    assert!(text(tcp(A, B).set(14, &[0x42])).contains("IMPOSSIBLE version 4 header length 8"));
    assert!(text(udp(A, B).udp_length(4)).contains("IMPOSSIBLE length 4"));
    assert!(text(tcp(A, B).ip_options(&[7, 3, 4])).contains("options 07030400"));
    assert!(text(tcp(A, B).tcp_options_raw(&[2, 9])).contains("BROKEN"));
    assert!(text(tcp(A, B).trailer(&[0; 6])).contains("trailer 6 bytes"));
}

/// No prefix of any frame may panic the description or be taken for the whole.
#[test]
fn every_prefix_of_a_frame_can_be_described() {
    for packet in samples() {
        let frame = packet.build();
        let whole = describe(&frame);
        for length in 0..frame.len() {
            assert_ne!(describe(&frame[..length]), whole);
        }
    }
}

#[test]
#[should_panic(expected = "[50]")]
fn unequal_packets_fail_with_the_bytes_that_differ() {
    assert_packet_eq(udp(A, B), udp(A, "10.0.9.9:81").set(36, &[0, 81]));
}

#[test]
#[should_panic(expected = "this packet is not TCP")]
fn a_flag_on_a_datagram_is_a_mistake() {
    let _ = udp(A, B).syn();
}

/// An outside judge: tcpdump names every bad checksum and every malformed header it sees.
#[test]
fn tcpdump_finds_no_fault() {
    let complaints = |packets: &[Packet]| -> Vec<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let frames: Vec<_> = packets.iter().map(Packet::build).collect();
        crate::pcap::write(file.as_file_mut(), &frames).unwrap();
        let argv = ["tcpdump", "-nvvv", "-r", &file.path().to_string_lossy()];
        let output = Cmd::new(None, argv).run().unwrap();
        let words = ["bad", "incorrect", "wrong", "truncated", "invalid", "trunc", "missing"];
        let complains = |line: &&str| words.iter().any(|word| line.contains(word));
        output.stdout.lines().filter(complains).map(str::to_owned).collect()
    };
    assert_eq!(complaints(&samples()), Vec::<String>::new());
    for broken in
        [tcp(A, B).bad_checksum(), tcp(A, B).bad_ip_checksum(), icmp_echo("fd00::1", "fd00::2").bad_checksum()]
    {
        assert_eq!(complaints(std::slice::from_ref(&broken)).len(), 1, "{}", describe(&broken.build()));
    }
}

fn samples() -> Vec<Packet> {
    vec![
        tcp(A, B).syn().mss(1460),
        tcp(A6, B6).ack(77).psh().payload("hello, world"),
        udp(A, B).payload("odd"),
        udp(A6, B6).payload("even"),
        udp(A, B).payload("tagged").vlan(7).vlan(9),
        icmp_echo("10.0.0.1", "10.0.9.9").payload("ping"),
        icmp_echo_reply("fd00::1", "fd00::2").payload("ping"),
        icmp_too_big("10.0.0.254", "10.0.0.1", 1400, tcp(A, B).payload("12345678")),
        icmp_port_unreachable("fd00::ff", "fd00::1", udp(A6, B6).payload("x")),
        arp_request(MAC, "10.0.9.2", "10.0.9.3"),
        arp_reply(MAC, "10.0.9.2", SRC_MAC, "10.0.9.3"),
        neighbour_solicitation(MAC, "fd00::2", "fd00::12:3456"),
        neighbour_advertisement(MAC, "fd00::2", SRC_MAC, "fd00::3"),
        vxlan(42, "192.0.2.1", "192.0.2.2", tcp(A, B).syn()),
        vxlan(42, "fd00:2::1", "fd00:2::2", udp(A6, B6).payload("in six")),
        tcp(A, B).syn().ip_options(&[148, 4, 0, 0]),
    ]
}
