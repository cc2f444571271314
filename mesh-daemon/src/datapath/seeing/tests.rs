//! Frames and filters in words.

use mesh_common::addr::Mac;
use mesh_common::drop::DropReason;
use mesh_common::header::{proto, tcp_flag};
use mesh_common::watch::{Event, verdict};

use super::filter::{Filter, FilterError};
use super::frame::{self, Frame, Packet};
use super::watch::Told;

const A: Mac = Mac { bytes: [2, 0, 0, 0, 0, 0xa] };
const B: Mac = Mac { bytes: [2, 0, 0, 0, 0, 0xb] };

fn packet(src: &str, dst: &str, proto: u8) -> Packet {
    let tcp_flags = if proto == proto::TCP { tcp_flag::SYN } else { 0 };
    let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
    Packet { src, dst, proto, ports: Some((4000, 80)), tcp_flags, fragment: false }
}

#[test]
fn a_frame_that_was_built_says_what_it_was_built_from() {
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        for proto in [proto::TCP, proto::UDP] {
            let packet = packet(src, dst, proto);
            let bytes = frame::build(&packet, (A, B));
            let plain = Frame::read(&bytes, 4789);
            assert_eq!((plain.packet, plain.macs, plain.vni), (Some(packet), Some((A, B)), None));
            for (from, to) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
                let ends = (from.parse().unwrap(), to.parse().unwrap());
                let wrapped = Frame::read(&frame::wrap(77, ends, 4789, &bytes), 4789);
                assert_eq!((wrapped.packet, wrapped.macs), (Some(packet), Some((A, B))));
                assert_eq!((wrapped.tunnel, wrapped.vni), (Some(ends), Some(77)));
                let flag = if proto == proto::TCP { "tcp syn" } else { "udp" };
                let text = wrapped.to_string();
                assert!(text.starts_with(&format!("{from} > {to} vni 77: ")) && text.ends_with(flag), "{text}");
            }
        }
    }
}

#[test]
fn a_frame_cut_off_anywhere_says_what_is_left() {
    let inner = frame::build(&packet("10.0.0.1", "10.0.0.2", proto::TCP), (A, B));
    let ends = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let whole = frame::wrap(77, ends, 4789, &inner);
    for length in 0..whole.len() {
        let frame = Frame::read(&whole[..length], 4789);
        assert_eq!(frame.vni.is_some(), length >= 50, "{length}: {frame}");
        assert_eq!(frame.macs.is_none(), length < 14, "{length}: {frame}");
    }
    assert_eq!(Frame::read(&[], 4789).to_string(), "no Ethernet frame");
}

fn told(event: Event, packet: &Packet) -> (Told, Frame) {
    let told = Told { event, bytes: frame::build(packet, (A, B)) };
    let frame = told.frame(4789);
    (told, frame)
}

#[test]
fn a_filter_holds_for_what_it_names() {
    let event = Event { verdict: verdict::DROPPED, reason: DropReason::NoRoute as u32, vni: 77, ..Event::ZERO };
    let (told, frame) = told(event, &packet("10.0.0.1", "10.0.0.2", proto::UDP));
    for (text, holds) in [
        ("host=10.0.0.1", true),
        ("host=10.0.0.2", true),
        ("host=10.0.0.3", false),
        ("port=80", true),
        ("port=4000", true),
        ("port=81", false),
        ("proto=udp", true),
        ("proto=17", true),
        ("proto=tcp", false),
        ("vni=77", true),
        ("vni=78", false),
        ("reason=NoRoute", true),
        ("reason=noroute", true),
        ("reason=Truncated", false),
        ("interface=eth0", true),
        ("interface=eth1", false),
    ] {
        assert_eq!(Filter::parse(text).unwrap().holds(&told, &frame, "eth0"), holds, "{text}");
    }
}

#[test]
fn a_packet_that_is_not_dropped_has_no_reason() {
    // Number 0 is a reason too.
    let event = Event { verdict: verdict::REDIRECTED, ..Event::ZERO };
    let (told, frame) = told(event, &packet("10.0.0.1", "10.0.0.2", proto::UDP));
    assert_eq!(told.reason(), None);
    assert!(!Filter::Reason(DropReason::Truncated).holds(&told, &frame, "eth0"));
}

#[test]
fn a_filter_that_is_none_says_what_is_expected() {
    let said = |text: &str| Filter::parse(text).unwrap_err().to_string();
    assert_eq!(Filter::parse("port"), Err(FilterError::Shape { text: "port".to_owned() }));
    assert!(said("colour=red").ends_with("the keys are host, port, proto, vni, reason, interface"));
    assert_eq!(said("port=70000"), "filter \"port=70000\": \"70000\" is no port");
    assert_eq!(said("host=web"), "filter \"host=web\": \"web\" is no IP address");
    assert!(said("reason=Bad").contains("there is no drop reason \"Bad\"; the reasons are Truncated, "));
}
