//! How topics and policies are numbered in frames, and what a frame says about them.

use crate::codec::CodecKind;
use crate::id::TopicId;
use crate::transport::{Terms, TopicKey};
use mproc_runtime::WhenFull;
use mproc_shm::{DEPTH_MAX, RefuseReason, TopicType};

/// The number of a codec. `Local` has none: its values do not leave the process.
pub(super) fn codec_number(codec: CodecKind) -> Option<u8> {
    match codec {
        CodecKind::Serde => Some(1),
        CodecKind::Plain => Some(2),
        CodecKind::Slices => Some(3),
        CodecKind::Local => None,
    }
}

pub(super) fn codec_of(number: u8) -> Option<CodecKind> {
    match number {
        1 => Some(CodecKind::Serde),
        2 => Some(CodecKind::Plain),
        3 => Some(CodecKind::Slices),
        _ => None,
    }
}

/// What a frame says about a topic, unless it is one that stays in its process.
pub(super) fn topic(key: &TopicKey) -> Option<TopicType<'_>> {
    Some(TopicType {
        id: key.id.get(),
        name: &key.name,
        type_hash: key.type_hash,
        type_name: &key.type_name,
        codec: codec_number(key.codec)?,
    })
}

/// The topic of a frame, unless its codec is not known here.
pub(super) fn key(topic: &TopicType<'_>) -> Option<TopicKey> {
    Some(TopicKey {
        id: topic_id(topic.id),
        name: topic.name.to_owned(),
        type_name: topic.type_name.to_owned(),
        type_hash: topic.type_hash,
        codec: codec_of(topic.codec)?,
    })
}

/// The id with this number: every number is one.
pub(super) fn topic_id(number: u64) -> TopicId {
    TopicId::new((number >> 32) as u32, number as u32)
}

/// A policy as links have it, its number, and the depth that it needs: the latest value is a queue of one.
pub(super) fn policy(terms: &Terms) -> (mproc_shm::WhenFull, u8, usize) {
    use mproc_shm::WhenFull as Link;
    let (policy, number) = match terms.when_full {
        WhenFull::Wait => (Link::Wait, 1),
        WhenFull::DropNewest => (Link::DropNewest, 3),
        WhenFull::Fail => (Link::Fail, 4),
        WhenFull::Disconnect => (Link::Disconnect, 5),
        WhenFull::Latest => return (Link::DropOldest, 2, 1),
        // What is added one day: losing the oldest is what a queue that nobody knows does at the least.
        _ => (Link::DropOldest, 2),
    };
    (policy, number, terms.capacity)
}

/// In the greeting: it knows [`TAP`].
pub(super) const FEATURE_TAPS: u64 = 4;

/// Beside the number of a policy: the subscription is a tap. Only to peers that know it.
pub(super) const TAP: u8 = 0x80;

/// The number of the policy without what stands beside it.
pub(super) fn without_tap(number: u8) -> (u8, bool) {
    (number & !TAP, number & TAP != 0)
}

pub(super) fn policy_of(number: u8) -> Option<(mproc_shm::WhenFull, WhenFull)> {
    use mproc_shm::WhenFull as Link;
    match number {
        1 => Some((Link::Wait, WhenFull::Wait)),
        2 => Some((Link::DropOldest, WhenFull::DropOldest)),
        3 => Some((Link::DropNewest, WhenFull::DropNewest)),
        4 => Some((Link::Fail, WhenFull::Fail)),
        5 => Some((Link::Disconnect, WhenFull::Disconnect)),
        _ => None,
    }
}

/// Why a link is not given: the reason, the publisher's value and the subscriber's.
pub(super) type Refused = (RefuseReason, String, String);

/// What an [`Attach`](mproc_shm::Attach) asks, judged by what the publisher has.
pub(super) fn judge(ours: &TopicKey, attach: &mproc_shm::Attach<'_>) -> Result<(), Refused> {
    let theirs = &attach.topic;
    let refuse =
        |reason, publisher: String, subscriber: String| Err((reason, publisher, subscriber));
    if ours.name != theirs.name {
        let name = |name: &str| format!("{name:?}");
        return refuse(RefuseReason::CLASH, name(&ours.name), name(theirs.name));
    }
    if codec_number(ours.codec) != Some(theirs.codec) {
        let subscriber = codec_of(theirs.codec).map_or_else(
            || format!("codec {}, which this build does not know", theirs.codec),
            |codec| format!("codec {codec:?}"),
        );
        return refuse(
            RefuseReason::CODEC,
            format!("codec {:?}", ours.codec),
            subscriber,
        );
    }
    if ours.type_hash != theirs.type_hash {
        let with_hash = |name: &str, hash: u64| format!("{name} (schema {hash:016x})");
        return refuse(
            RefuseReason::TYPE,
            with_hash(&ours.type_name, ours.type_hash),
            with_hash(theirs.type_name, theirs.type_hash),
        );
    }
    if attach.depth == 0 || attach.depth > DEPTH_MAX {
        return refuse(
            RefuseReason::DEPTH,
            format!("1 to {DEPTH_MAX} places"),
            format!("{} places", attach.depth),
        );
    }
    if attach.leases_max == 0 {
        return refuse(
            RefuseReason::LEASES,
            "1 lease or more".into(),
            "0 leases".into(),
        );
    }
    if policy_of(without_tap(attach.when_full).0).is_none() {
        return refuse(
            RefuseReason::WHEN_FULL,
            "policies 1 to 5".into(),
            format!("policy {}", attach.when_full),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_mean_what_they_came_from() {
        for codec in [CodecKind::Serde, CodecKind::Plain, CodecKind::Slices] {
            assert_eq!(codec_of(codec_number(codec).unwrap()), Some(codec));
        }
        assert_eq!(codec_number(CodecKind::Local), None);
        for id in [TopicId::from_name("camera"), TopicId::new(7, 9)] {
            assert_eq!(topic_id(id.get()), id);
        }
        for when_full in WhenFull::ALL {
            let terms = Terms {
                capacity: 5,
                when_full,
                max_leases: 1,
                is_tap: false,
            };
            let (link, number, depth) = policy(&terms);
            assert_eq!(without_tap(number), (number, false));
            assert_eq!(without_tap(number | TAP), (number, true));
            assert_eq!(policy_of(number | TAP), None);
            let back = policy_of(number).unwrap();
            assert_eq!(back.0, link);
            if when_full == WhenFull::Latest {
                assert_eq!((back.1, depth), (WhenFull::DropOldest, 1));
            } else {
                assert_eq!((back.1, depth), (when_full, 5));
            }
        }
    }
}
