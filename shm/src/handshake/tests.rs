//! Frames come back as they were, any bytes are frames or an error, and what the drawings say is what is sent.

use super::*;
use crate::process::{BootId, Identity, NodeId};
use proptest::prelude::*;

fn hello() -> Hello {
    Hello {
        protocols: Protocols { min: 1, max: 3 },
        features: 0b1011,
        abi: 77,
        identity: Identity {
            boot: BootId::from_bytes([0xb0; 16]),
            pid: 0x0403_0201,
            start_time: 9,
            node: NodeId::from_bytes([0x0d; 16]),
        },
    }
}

/// Owns the texts that a frame borrows, and as much else as the largest frame has.
#[derive(Clone, Debug)]
struct Parts {
    bytes: [u8; 32],
    n: [u32; 7],
    w: [u64; 3],
    name: String,
    type_name: String,
    text: String,
    body: Vec<u8>,
    other: u16,
}

fn parts() -> impl Strategy<Value = Parts> {
    let numbers = (any::<[u8; 32]>(), any::<[u32; 7]>(), any::<[u64; 3]>());
    let texts = (".{0,60}", ".{0,200}", ".{0,200}");
    let other = (proptest::collection::vec(any::<u8>(), 0..300), 11_u16..);
    (numbers, texts, other).prop_map(|((bytes, n, w), (name, type_name, text), (body, other))| {
        Parts {
            bytes,
            n,
            w,
            name,
            type_name,
            text,
            body,
            other,
        }
    })
}

fn frame(p: &Parts, kind: u16) -> Frame<'_> {
    let [a, b, c, d, e, g, h] = p.n;
    let [u, v, w] = p.w;
    let small = p.bytes[0];
    let topic = TopicType {
        id: u,
        name: &p.name,
        type_hash: v,
        type_name: &p.type_name,
        codec: small,
    };
    let reason = u16::from_le_bytes([p.bytes[1], p.bytes[2] % 2]);
    match kind {
        1 => Frame::Hello(Hello {
            protocols: Protocols {
                min: reason,
                max: reason.saturating_add(a as u16),
            },
            features: u,
            abi: v,
            identity: Identity {
                boot: BootId::from_bytes(*p.bytes.first_chunk().unwrap()),
                pid: b,
                start_time: w,
                node: NodeId::from_bytes(*p.bytes.last_chunk().unwrap()),
            },
        }),
        2 => Frame::Announce(Announce {
            roles: small,
            topic,
        }),
        3 => Frame::Withdraw(Withdraw {
            roles: small,
            topic: w,
        }),
        4 => Frame::Attach(Attach {
            request: a,
            depth: b,
            leases_max: c,
            history: d,
            bell: e,
            when_full: small,
            topic,
        }),
        5 => Frame::Accept(Accept {
            request: a,
            link: b,
            slots: c,
            depth: d,
            leases_max: e,
            bell: g,
            history: h,
            publisher: v,
        }),
        6 => Frame::Refuse(Refuse {
            request: a,
            reason: RefuseReason(reason),
            publisher: &p.text,
            subscriber: &p.type_name,
        }),
        7 => Frame::Segment(Segment {
            link: a,
            segment: b,
            first_slot: c,
            slots: d,
            payload_bytes: e,
        }),
        8 => Frame::Detach(Detach {
            link: a,
            reason: DetachReason(reason),
            text: &p.text,
        }),
        9 => Frame::Retire(Retire {
            link: a,
            first_slot: b,
        }),
        10 => Frame::Retired(Retire {
            link: a,
            first_slot: b,
        }),
        _ => Frame::Other {
            kind: p.other,
            body: &p.body,
        },
    }
}

proptest! {
    #[test]
    fn frames_come_back_as_they_were(
        parts in proptest::collection::vec((parts(), 1_u16..=11, 0_u8..3), 0..6)
    ) {
        let sent: Vec<_> = parts.iter().map(|(p, kind, n)| (frame(p, *kind), usize::from(*n))).collect();
        let mut packet = Vec::new();
        for (frame, n) in &sent {
            frame.encode(*n as u8, &mut packet).unwrap();
        }
        let descriptors = sent.iter().map(|(_, n)| n).sum();
        let came: Vec<_> = Frames::new(&packet, descriptors).map(Result::unwrap).collect();
        prop_assert_eq!(&came, &sent);
        // A packet that lost its end is an error, unless the cut is between two frames.
        if let Some(cut) = packet.len().checked_sub(1) {
            prop_assert!(Frames::new(&packet[..cut], descriptors).any(|f| f.is_err()));
        }
    }

    #[test]
    fn any_bytes_are_frames_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), descriptors in 0_usize..9
    ) {
        check_any(&bytes, descriptors);
    }

    #[test]
    fn frames_with_any_byte_changed_are_frames_or_an_error(
        p in parts(), kind in 1_u16..=11, at in any::<prop::sample::Index>(), value in any::<u8>()
    ) {
        let mut packet = Vec::new();
        frame(&p, kind).encode(0, &mut packet).unwrap();
        let at = at.index(packet.len());
        packet[at] = value;
        check_any(&packet, 0);
    }
}

/// What is decoded can be encoded again, and nothing follows an error.
fn check_any(bytes: &[u8], descriptors: usize) {
    let mut frames = Frames::new(bytes, descriptors);
    let mut at = 0;
    while let Some(item) = frames.next() {
        let Ok((frame, n)) = item else {
            assert!(frames.next().is_none());
            break;
        };
        let mut again = Vec::new();
        frame.encode(n as u8, &mut again).unwrap();
        let length = frames.at - at;
        // A greeting may have more behind it, and one byte of the header is not looked at.
        let compared = again.len().min(length);
        assert!(matches!(frame, Frame::Hello(_)) || compared == length);
        if !matches!(frame, Frame::Hello(_)) {
            assert_eq!(bytes[at + 8..at + compared], again[8..compared]);
        }
        at = frames.at;
    }
}

#[test]
fn hello_has_the_bytes_of_its_drawing() {
    let mut packet = Vec::new();
    Frame::Hello(hello()).encode(0, &mut packet).unwrap();
    let mut drawn = vec![76, 0, 0, 0, 1, 0, 0, 0];
    drawn.extend(b"\x89mproc\r\n");
    drawn.extend([1, 0, 3, 0, 0, 0, 0, 0]);
    drawn.extend([0b1011, 0, 0, 0, 0, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0]);
    drawn.extend([0x0d; 16]);
    drawn.extend([0xb0; 16]);
    drawn.extend([9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(packet, drawn);
    // What a later version says more is passed over.
    packet.extend([1, 2, 3]);
    packet[0] += 3;
    let only: Vec<_> = Frames::new(&packet, 0).collect();
    assert_eq!(only, [Ok((Frame::Hello(hello()), 0))]);
}

#[test]
fn attach_has_the_bytes_of_its_drawing() {
    let attach = Attach {
        request: 1,
        depth: 2,
        leases_max: 3,
        history: 4,
        bell: 5,
        when_full: 6,
        topic: TopicType {
            id: 7,
            name: "t",
            type_hash: 8,
            type_name: "u8",
            codec: 9,
        },
    };
    let mut packet = Vec::new();
    Frame::Attach(attach).encode(1, &mut packet).unwrap();
    let mut drawn = vec![45, 0, 0, 0, 4, 0, 1, 0];
    drawn.extend([
        1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6,
    ]);
    drawn.extend([7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9]);
    drawn.extend([1, 0, b't', 2, 0, b'u', b'8']);
    assert_eq!(packet, drawn);
}

#[test]
fn accept_and_segment_have_the_bytes_of_their_drawings() {
    let accept = Accept {
        request: 1,
        link: 2,
        slots: 3,
        depth: 4,
        leases_max: 5,
        bell: 6,
        history: 7,
        publisher: 8,
    };
    let segment = Segment {
        link: 1,
        segment: 2,
        first_slot: 3,
        slots: 4,
        payload_bytes: 5,
    };
    let mut packet = Vec::new();
    Frame::Accept(accept).encode(2, &mut packet).unwrap();
    Frame::Segment(segment).encode(1, &mut packet).unwrap();
    let mut drawn = vec![36, 0, 0, 0, 5, 0, 2, 0];
    drawn.extend((1..=7_u32).flat_map(u32::to_le_bytes));
    drawn.extend(8_u64.to_le_bytes());
    drawn.extend([20, 0, 0, 0, 7, 0, 1, 0]);
    drawn.extend((1..=5_u32).flat_map(u32::to_le_bytes));
    assert_eq!(packet, drawn);
}

#[test]
fn retire_and_its_answer_have_the_bytes_of_their_drawings() {
    let retire = Retire {
        link: 1,
        first_slot: 2,
    };
    let mut packet = Vec::new();
    Frame::Retire(retire).encode(0, &mut packet).unwrap();
    Frame::Retired(retire).encode(0, &mut packet).unwrap();
    let body = [1, 0, 0, 0, 2, 0, 0, 0];
    let drawn = [
        [[8, 0, 0, 0, 9, 0, 0, 0], body],
        [[8, 0, 0, 0, 10, 0, 0, 0], body],
    ];
    assert_eq!(packet, drawn.as_flattened().as_flattened());
}

#[test]
fn each_wrong_packet_is_refused_with_what_is_wrong() {
    let text = |packet: &[u8], descriptors| {
        let last = Frames::new(packet, descriptors).last().unwrap();
        last.unwrap_err().to_string()
    };
    assert_eq!(text(&[1], 0), "byte 0 of the packet: it ends too early");
    let huge = [255, 255, 255, 255, 1, 0, 0, 0];
    assert_eq!(text(&huge, 0), "byte 0 of the packet: it ends too early");
    let long = [10, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    assert_eq!(
        text(&long, 0),
        "frame of kind 3, byte 17 of the packet: bytes are left over"
    );
    let withdraw = [9, 0, 0, 0, 3, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let claims = "byte 0 of the packet: the frames claim 1 descriptors, 0 have come";
    assert_eq!(text(&withdraw, 0), claims);
    let left = "byte 17 of the packet: the frames claim 1 descriptors, 2 have come";
    assert_eq!(text(&withdraw, 2), left);
    let detach = [8, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0];
    assert_eq!(
        text(&detach, 0),
        "frame of kind 8, byte 16 of the packet: it ends too early"
    );
    let not_utf8 = [9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0xff];
    assert_eq!(
        text(&not_utf8, 0),
        "frame of kind 8, byte 17 of the packet: a text is not UTF-8"
    );
    let too_long = [8, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 16];
    assert!(text(&too_long, 0).ends_with("a text of 4096 bytes is too long"));
    let mut packet = Vec::new();
    Frame::Hello(hello()).encode(0, &mut packet).unwrap();
    packet[8] = b'H';
    assert!(text(&packet, 0).ends_with("the greeting is not one of mproc"));
    packet[8] = MAGIC[0];
    packet[16] = 4;
    assert!(text(&packet, 0).ends_with("the lowest protocol is above the highest"));
}

#[test]
fn unknown_kinds_are_passed_over() {
    let mut packet = Vec::new();
    let later = Frame::Other {
        kind: 0x100,
        body: b"a call",
    };
    let detach = Frame::Detach(Detach {
        link: Detach::ALL,
        reason: DetachReason::LEAVING,
        text: "",
    });
    later.encode(2, &mut packet).unwrap();
    detach.encode(0, &mut packet).unwrap();
    let frames: Vec<_> = Frames::new(&packet, 2).map(Result::unwrap).collect();
    assert_eq!(frames, [(later, 2), (detach, 0)]);
    let wrong = Frame::Other { kind: 8, body: &[] };
    assert_eq!(wrong.encode(0, &mut packet), Err(EncodeError::KnownKind(8)));
}

#[test]
fn names_that_are_too_long_are_refused_and_texts_are_cut() {
    let mut packet = vec![1, 2, 3];
    let name = "n".repeat(256);
    let topic = TopicType {
        id: 1,
        name: &name,
        type_hash: 1,
        type_name: "",
        codec: 0,
    };
    let announce = Frame::Announce(Announce { roles: 1, topic });
    let error = announce.encode(0, &mut packet).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a name has 256 bytes, at most 255 can be sent"
    );
    assert_eq!(packet, [1, 2, 3]);
    let body = vec![0; 65536];
    let other = Frame::Other {
        kind: 300,
        body: &body,
    };
    assert!(other.encode(0, &mut packet).is_err() && packet.len() == 3);
    packet.clear();
    // 1099 bytes of one letter each, then one letter of two bytes.
    let text = "x".repeat(1099) + "\u{e9}";
    let detach = Frame::Detach(Detach {
        link: 1,
        reason: DetachReason::EVICTED,
        text: &text,
    });
    detach.encode(0, &mut packet).unwrap();
    let (frame, _) = Frames::new(&packet, 0).next().unwrap().unwrap();
    assert!(matches!(frame, Frame::Detach(d) if d.text == &text[..1099]));
}

#[test]
fn agreement_takes_the_highest_version_and_the_common_features() {
    let ours = hello();
    let mut theirs = hello();
    theirs.protocols = Protocols { min: 2, max: 9 };
    theirs.features = 0b0110;
    let agreed = Agreed {
        protocol: 3,
        features: 0b0010,
    };
    assert_eq!(ours.agree(&theirs), Ok(agreed));
    assert_eq!(theirs.agree(&ours), Ok(agreed));
}

#[test]
fn mismatch_names_both_values() {
    let ours = hello();
    let mut theirs = hello();
    theirs.abi = 0xabc;
    let text = ours.agree(&theirs).unwrap_err().to_string();
    assert!(
        text.contains("0000000000000abc") && text.contains("000000000000004d"),
        "{text}"
    );
    for (min, max) in [(4, 5), (0, 0)] {
        theirs.protocols = Protocols { min, max };
        assert!(matches!(
            ours.agree(&theirs),
            Err(Mismatch::Protocol { .. })
        ));
        assert!(matches!(
            theirs.agree(&ours),
            Err(Mismatch::Protocol { .. })
        ));
    }
    theirs.protocols = Protocols { min: 4, max: 5 };
    let text = ours.agree(&theirs).unwrap_err().to_string();
    assert_eq!(
        text,
        "the peer speaks protocol 4 to 5, this build speaks 1 to 3"
    );
}

#[test]
fn reasons_of_later_versions_can_be_told() {
    assert_eq!(
        DetachReason(900).to_string(),
        "reason 900, which this build does not know"
    );
    let refuse = Refuse {
        request: 1,
        reason: RefuseReason::TYPE,
        publisher: "u8",
        subscriber: "i64",
    };
    let text = "the topic has another type: the publisher has u8, the subscriber i64";
    assert_eq!(refuse.to_string(), text);
}
