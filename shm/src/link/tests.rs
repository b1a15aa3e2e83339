//! The link against a plain model, and against a peer gone mad.

use crate::bell::{BellPage, PeerBells};
use crate::endpoint::{AttachError, Attached, Endpoint, EndpointOptions, LoanError};
use crate::fan_out::{LinkId, Queued, Refusal};
use crate::header::SlotHeader;
use crate::lease::{Lease, SubscriberLink, Taken};
use crate::link::{LinkEnd, LinkGeometry, LinkWords, WhenFull};
use crate::loan::Filled;
use proptest::prelude::*;
use std::collections::{HashSet, VecDeque};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

pub(crate) const NODE: [u8; 16] = [7; 16];

pub(crate) fn options(bytes_max: u64) -> EndpointOptions {
    EndpointOptions {
        bytes_max,
        slots_max: 4096,
        history: 0,
        node: NODE,
    }
}

/// A payload that says which message it is, and can tell whether it is whole.
pub(crate) fn fill(buffer: &mut [u8], message: u64) {
    let mut word = message;
    for chunk in buffer.chunks_mut(8) {
        chunk.copy_from_slice(&word.to_ne_bytes()[..chunk.len()]);
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    }
}

pub(crate) fn message_of(payload: &[u8]) -> u64 {
    let message = u64::from_ne_bytes(payload[..8].try_into().unwrap());
    let mut whole = vec![0; payload.len()];
    fill(&mut whole, message);
    assert!(payload == whole, "message {message} is not whole");
    message
}

pub(crate) fn publish(endpoint: &mut Endpoint, message: u64, bytes: usize) -> Option<Vec<Refusal>> {
    let mut loan = match endpoint.loan(bytes) {
        Ok(loan) => loan,
        Err(LoanError::Short) => return None,
        Err(e) => panic!("{e}"),
    };
    fill(&mut loan.buffer()[..bytes], message);
    let header = SlotHeader {
        sequence: message,
        ..SlotHeader::default()
    };
    let published = endpoint.publish(loan, &header, false).ok()?;
    Some(published.refused.into_iter().map(|(_, why)| why).collect())
}

pub(crate) fn filled(endpoint: &mut Endpoint, message: u64, bytes: usize) -> Filled {
    let mut loan = endpoint.loan(bytes).unwrap();
    fill(&mut loan.buffer()[..bytes], message);
    loan.freeze()
}

/// A subscriber in this process, but through mappings of its own.
pub(crate) struct Peer {
    pub(crate) id: LinkId,
    pub(crate) link: SubscriberLink,
    /// The first segment that it was not told of.
    segments: u64,
}

impl Peer {
    pub(crate) fn attach(
        endpoint: &mut Endpoint,
        depth: u32,
        leases_max: u32,
        when_full: WhenFull,
    ) -> Self {
        let attached = endpoint.attach(depth, leases_max, when_full, None).unwrap();
        Self::open(attached)
    }

    pub(crate) fn open(Attached { id, fd, geometry }: Attached) -> Self {
        Self {
            id,
            link: SubscriberLink::open(fd.as_fd(), geometry).unwrap(),
            segments: 0,
        }
    }

    pub(crate) fn announce(&mut self, endpoint: &Endpoint) {
        for segment in endpoint.segments() {
            if segment.number() >= self.segments {
                let geometry = segment.geometry();
                self.link.add_segment(segment.as_fd(), geometry).unwrap();
                self.segments = segment.number() + 1;
            }
        }
    }

    pub(crate) fn take(&mut self, endpoint: &Endpoint) -> Taken {
        self.announce(endpoint);
        self.link.take().unwrap()
    }

    pub(crate) fn lease(&mut self, endpoint: &Endpoint) -> Lease {
        match self.take(endpoint) {
            Taken::Sample(lease) => lease,
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    /// On this link alone, with a guard. A handle may be kept.
    Queue(usize, bool),
    /// One of the handles.
    Let(usize),
    Sweep,
    Take,
    /// One of those that are held.
    Release(usize),
    Detach,
    Reap,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (8_usize..2000).prop_map(Step::Publish),
        8 => (8_usize..2000, any::<bool>()).prop_map(|(bytes, keep)| Step::Queue(bytes, keep)),
        3 => (0_usize..64).prop_map(Step::Let),
        1 => Just(Step::Sweep),
        8 => Just(Step::Take),
        6 => (0_usize..64).prop_map(Step::Release),
        1 => Just(Step::Detach),
        1 => Just(Step::Reap),
    ];
    prop::collection::vec(step, 1..200)
}

pub(crate) const POLICIES: [WhenFull; 5] = [
    WhenFull::Wait,
    WhenFull::DropOldest,
    WhenFull::DropNewest,
    WhenFull::Fail,
    WhenFull::Disconnect,
];

proptest! {
    /// One subscription in plain words: a queue, a count of what was offered, and what is held.
    #[test]
    fn a_link_does_what_a_plain_queue_does(
        steps in steps(),
        policy in 0_usize..5,
        depth in 1_u32..9,
        leases_max in 1_u32..5,
    ) {
        let when_full = POLICIES[policy];
        // Enough memory: what happens when it is short has tests of its own.
        let mut endpoint = Endpoint::new(options(1 << 23));
        let mut peer = Some(Peer::attach(&mut endpoint, depth, leases_max, when_full));
        let link = peer.as_ref().unwrap().id;
        // Guards, by message, of what was queued with one.
        let mut guards: Vec<(u64, Weak<()>)> = Vec::new();
        // Handles of this process, and whether they were queued.
        let mut kept: Vec<(Filled, u64, bool)> = Vec::new();
        // Leases outlive the subscription that took them.
        let mut held: Vec<(Lease, u64)> = Vec::new();
        let mut queue: VecDeque<(u64, u64)> = VecDeque::new();
        let (mut message, mut offered, mut taken) = (0, 0, 0);
        let mut open = true;
        for step in steps {
            match step {
                Step::Publish(bytes) => {
                    message += 1;
                    let full = open && peer.is_some() && queue.len() == depth as usize;
                    let refused = publish(&mut endpoint, message, bytes);
                    if full && when_full == WhenFull::Wait {
                        prop_assert!(refused.is_none());
                        continue;
                    }
                    let refused = refused.unwrap();
                    if peer.is_none() || !open {
                        prop_assert!(refused.is_empty());
                        continue;
                    }
                    offered += 1;
                    match (full, when_full) {
                        (true, WhenFull::DropNewest) => {
                            prop_assert_eq!(refused, [Refusal::Dropped]);
                            continue;
                        }
                        (true, WhenFull::Fail) => {
                            prop_assert_eq!(refused, [Refusal::Full]);
                            continue;
                        }
                        (true, WhenFull::Disconnect) => {
                            prop_assert_eq!(refused, [Refusal::Overflowed]);
                            open = false;
                            continue;
                        }
                        (true, _) => drop(queue.pop_front()),
                        (false, _) => {}
                    }
                    prop_assert!(refused.is_empty());
                    queue.push_back((message, offered));
                }
                Step::Queue(bytes, keep) => {
                    message += 1;
                    let filled = filled(&mut endpoint, message, bytes);
                    let full = queue.len() == depth as usize;
                    let guard = Arc::new(());
                    guards.push((message, Arc::downgrade(&guard)));
                    let header = SlotHeader { sequence: message, ..SlotHeader::default() };
                    let queued = endpoint.queue(link, &filled, &header, Some(guard));
                    let expected = match (peer.is_some() && open, full, when_full) {
                        (false, ..) => Queued::Gone { violation: None },
                        (_, false, _) => Queued::Queued { evicted: false },
                        (.., WhenFull::Wait) => Queued::Full,
                        (.., WhenFull::DropOldest) => Queued::Queued { evicted: true },
                        (.., WhenFull::DropNewest) => Queued::Dropped,
                        (.., WhenFull::Fail) => Queued::Refused,
                        (.., WhenFull::Disconnect) => Queued::Overflowed,
                    };
                    prop_assert_eq!(queued, expected);
                    offered += u64::from(!matches!(queued, Queued::Full | Queued::Gone { .. }));
                    open &= queued != Queued::Overflowed;
                    let is_queued = matches!(queued, Queued::Queued { .. });
                    if queued == (Queued::Queued { evicted: true }) {
                        queue.pop_front();
                    }
                    if is_queued {
                        queue.push_back((message, offered));
                    }
                    if keep {
                        kept.push((filled, message, is_queued));
                    } else if !is_queued {
                        prop_assert!(filled.thaw().is_ok());
                    }
                }
                Step::Let(which) => {
                    if !kept.is_empty() {
                        kept.swap_remove(which % kept.len());
                    }
                }
                Step::Sweep => {
                    endpoint.sweep(link);
                    let on_link = if peer.is_some() { queue.len() } else { 0 };
                    prop_assert_eq!(endpoint.held(link), on_link + held.len());
                    if open {
                        prop_assert_eq!(endpoint.queued(link), on_link);
                    }
                }
                Step::Take => {
                    let Some(peer) = &mut peer else { continue };
                    if open {
                        prop_assert!(peer.link.queued() >= queue.len());
                    }
                    let leases = peer.link.leases();
                    prop_assert_eq!(leases as usize, held.len());
                    match peer.take(&endpoint) {
                        Taken::Sample(lease) => {
                            let (message, number) = queue.pop_front().unwrap();
                            prop_assert_eq!(message_of(lease.payload()), message);
                            prop_assert_eq!(lease.header().sequence, message);
                            prop_assert_eq!(lease.gap(), number - taken - 1);
                            let mut copy = Vec::new();
                            lease.copy_into(&mut copy);
                            prop_assert_eq!(message_of(&copy), message);
                            taken = number;
                            held.push((lease, message));
                        }
                        Taken::LeaseLimit => prop_assert_eq!(leases, leases_max),
                        Taken::Empty => prop_assert!(queue.is_empty() && open),
                        Taken::End(end) => {
                            prop_assert!(queue.is_empty() && !open);
                            prop_assert_eq!(end, LinkEnd::Overflowed);
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                Step::Release(which) => {
                    if !held.is_empty() {
                        held.swap_remove(which % held.len());
                    }
                }
                Step::Detach => {
                    let Some(peer) = peer.take() else { continue };
                    queue.clear();
                    endpoint.detach(peer.id);
                }
                Step::Reap => {
                    let Some(peer) = peer.take() else { continue };
                    // It is dead with all that it held: nobody looks at that any more.
                    let counts = (queue.len(), held.len());
                    held.drain(..).for_each(|(lease, _)| std::mem::forget(lease));
                    let reaped = endpoint.reap(peer.id);
                    std::mem::forget(peer);
                    queue.clear();
                    // A link that ended before holds nothing, and may be gone.
                    if let Some(reaped) = reaped {
                        prop_assert_eq!((reaped.queued, reaped.leased), counts);
                    } else {
                        prop_assert_eq!(counts, (0, 0));
                    }
                }
            }
            for (lease, message) in &held {
                prop_assert_eq!(message_of(lease.payload()), *message);
            }
            let counts = endpoint.counts();
            let here: HashSet<u64> = kept.iter().map(|(_, message, _)| *message).collect();
            let queued_here = kept.iter().filter(|(.., queued)| *queued).count();
            let leased_there = held.iter().filter(|(_, message)| !here.contains(message)).count();
            let queued_there = queue.iter().filter(|(message, _)| !here.contains(message)).count();
            prop_assert_eq!(
                (counts.queued, counts.leased, counts.loaned),
                (queued_there, leased_there + queued_here, kept.len() - queued_here)
            );
            prop_assert_eq!(counts.kept + counts.quarantined, 0);
            let away = counts.queued + counts.leased + counts.loaned;
            prop_assert_eq!(counts.free + away, counts.slots);
            for (filled, message, _) in &kept {
                prop_assert_eq!(message_of(filled.payload()), *message);
            }
            // `counts` has seen all that came back.
            drop(endpoint.take_released());
            let there = |of: &u64| {
                let queued = queue.iter().any(|(message, _)| message == of);
                queued || held.iter().any(|(_, message)| message == of)
            };
            for (message, guard) in &guards {
                prop_assert_eq!(guard.strong_count() == 1, there(message), "message {}", message);
            }
        }
        drop(held);
        drop(peer);
    }
}

#[test]
fn one_publish_reaches_links_of_every_policy_and_a_full_wait_link_holds_back_all() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let mut peers = POLICIES.map(|policy| Peer::attach(&mut endpoint, 2, 4, policy));
    assert_eq!(publish(&mut endpoint, 1, 100), Some(vec![]));
    assert_eq!(publish(&mut endpoint, 2, 100), Some(vec![]));
    assert_eq!(publish(&mut endpoint, 3, 100), None);
    let counts = endpoint.counts();
    assert_eq!((counts.queued, counts.loaned), (2, 0), "nobody got it");
    let lease = peers[0].lease(&endpoint);
    assert_eq!(message_of(lease.payload()), 1);
    let refused = publish(&mut endpoint, 4, 100).unwrap();
    assert_eq!(
        refused,
        [Refusal::Dropped, Refusal::Full, Refusal::Overflowed]
    );
    // Before it, samples of the policy that drops old ones; then, in order, those that came through.
    let lease = peers[1].lease(&endpoint);
    assert_eq!((message_of(lease.payload()), lease.gap()), (2, 1));
    let (one, two) = (peers[2].lease(&endpoint), peers[2].lease(&endpoint));
    assert_eq!((one.gap(), two.gap()), (0, 0));
    // Two in its queue were taken: it has room now, but the link before has not.
    assert_eq!(publish(&mut endpoint, 5, 100), None);
    drop((peers[0].lease(&endpoint), peers[0].lease(&endpoint)));
    publish(&mut endpoint, 6, 100).unwrap();
    assert_eq!(peers[2].lease(&endpoint).gap(), 1, "message 4");
}

#[test]
fn who_comes_late_gets_what_is_kept_first_and_nothing_twice() {
    let mut endpoint = Endpoint::new(EndpointOptions {
        history: 3,
        ..options(1 << 20)
    });
    for message in 1..=5 {
        publish(&mut endpoint, message, 64).unwrap();
    }
    assert_eq!(endpoint.counts().kept, 3);
    let mut late = Peer::attach(&mut endpoint, 8, 8, WhenFull::Wait);
    let mut shallow = Peer::attach(&mut endpoint, 2, 8, WhenFull::DropOldest);
    publish(&mut endpoint, 6, 64).unwrap();
    for expected in 3..=6 {
        let lease = late.lease(&endpoint);
        assert_eq!((message_of(lease.payload()), lease.gap()), (expected, 0));
    }
    assert!(matches!(late.take(&endpoint), Taken::Empty));
    // Its queue had room for two: 4 was revoked.
    let lease = shallow.lease(&endpoint);
    assert_eq!((message_of(lease.payload()), lease.gap()), (5, 1));
}

#[test]
fn a_sample_in_a_segment_that_was_not_announced_waits() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let mut peer = Peer::attach(&mut endpoint, 4, 4, WhenFull::Wait);
    publish(&mut endpoint, 1, 64).unwrap();
    assert!(matches!(
        peer.link.take().unwrap(),
        Taken::Unannounced { .. }
    ));
    assert!(matches!(
        peer.link.take().unwrap(),
        Taken::Unannounced { .. }
    ));
    assert_eq!(message_of(peer.lease(&endpoint).payload()), 1);
    // Twice the same memory is refused.
    let segment = &endpoint.segments()[0];
    let again = peer.link.add_segment(segment.as_fd(), segment.geometry());
    assert!(again.is_err());
}

#[test]
fn short_memory_takes_back_what_lossy_links_have_queued() {
    // Room for four slots of 64 KiB, and one for the lease of the lossy link.
    let mut endpoint = Endpoint::new(options(4 * (70 << 10)));
    let mut lossy = Peer::attach(&mut endpoint, 100, 1, WhenFull::DropNewest);
    for message in 1..=50 {
        publish(&mut endpoint, message, 60 << 10).unwrap();
    }
    let slots = endpoint.counts().slots;
    assert!((4..=5).contains(&slots), "{slots}");
    let lease = lossy.lease(&endpoint);
    let first = message_of(lease.payload());
    assert_eq!(first, 50 - slots as u64 + 1, "the newest are there");
    assert_eq!(lease.gap(), first - 1, "and what went is counted");
    // It holds what it may: a link that loses nothing still gets all of its own.
    let mut wait = Peer::attach(&mut endpoint, 1, 1, WhenFull::Wait);
    for message in 51..=60 {
        publish(&mut endpoint, message, 60 << 10).unwrap();
        assert_eq!(message_of(wait.lease(&endpoint).payload()), message);
    }
    assert_eq!(message_of(lease.payload()), first);
}

#[test]
fn a_loan_that_is_too_large_or_finds_no_memory_says_which() {
    // Room for one slot of 64 KiB, and for no segment beside it.
    let mut endpoint = Endpoint::new(options(74 << 10));
    assert!(matches!(endpoint.loan(200 << 10), Err(LoanError::TooLarge)));
    assert!(matches!(
        endpoint.loan(usize::MAX),
        Err(LoanError::TooLarge)
    ));
    let first = endpoint.loan(60 << 10).unwrap();
    assert!(matches!(endpoint.loan(60 << 10), Err(LoanError::Short)));
    assert!(matches!(endpoint.loan(10), Err(LoanError::Short)));
    drop(first);
    let mut again = endpoint.loan(20 << 10).unwrap();
    assert!(again.capacity() >= 60 << 10, "a larger one serves, too");
    again.set_len(3);
    assert_eq!(again.len(), 3);
    drop(again);
    let small = endpoint.loan(10).unwrap();
    assert!(small.capacity() < 1000, "it would be wasted on this");
    drop(small);
    assert_eq!(endpoint.counts().loaned, 0);
}

#[test]
fn readers_of_the_same_process_hold_a_slot_like_others() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let mut loan = endpoint.loan(64).unwrap();
    fill(&mut loan.buffer()[..64], 9);
    let published = endpoint
        .publish(loan, &SlotHeader::default(), true)
        .unwrap();
    let local = published.local.unwrap();
    assert_eq!(endpoint.counts().leased, 1);
    assert_eq!(message_of(local.payload()), 9);
    drop(local);
    let counts = endpoint.counts();
    assert_eq!(counts.free, counts.slots);
}

#[test]
fn a_lease_outlives_its_link_its_subscription_and_its_publisher() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let mut peer = Peer::attach(&mut endpoint, 4, 4, WhenFull::DropOldest);
    publish(&mut endpoint, 1, 5000).unwrap();
    publish(&mut endpoint, 2, 5000).unwrap();
    let lease = peer.lease(&endpoint);
    endpoint.detach(peer.id);
    assert_eq!(endpoint.counts().leased, 1, "what was queued is back");
    drop(peer);
    drop(endpoint);
    assert_eq!(message_of(lease.payload()), 1);
}

#[test]
fn a_subscriber_that_left_holds_back_nobody() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let peer = Peer::attach(&mut endpoint, 1, 1, WhenFull::Wait);
    publish(&mut endpoint, 1, 64).unwrap();
    assert_eq!(publish(&mut endpoint, 2, 64), None);
    drop(peer);
    assert_eq!(publish(&mut endpoint, 2, 64), Some(vec![]));
    let counts = endpoint.counts();
    assert_eq!(counts.free, counts.slots);
}

const ONE: Queued = Queued::Queued { evicted: false };

fn header(sequence: u64) -> SlotHeader {
    SlotHeader {
        sequence,
        ..SlotHeader::default()
    }
}

/// Queues a message of its own on one link, without a guard.
fn queue(endpoint: &mut Endpoint, link: LinkId, message: u64) -> Queued {
    let filled = filled(endpoint, message, 64);
    endpoint.queue(link, &filled, &header(message), None)
}

#[test]
fn one_slot_goes_to_each_link_by_itself_and_its_header_is_written_once() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let mut peers = POLICIES.map(|policy| Peer::attach(&mut endpoint, 1, 4, policy));
    let one = filled(&mut endpoint, 1, 64);
    assert_eq!((one.len(), message_of(one.payload())), (64, 1));
    for (number, peer) in peers.iter().enumerate() {
        let header = header(number as u64 + 10);
        assert_eq!(endpoint.queue(peer.id, &one, &header, None), ONE);
    }
    let two = filled(&mut endpoint, 2, 64);
    let queued = peers.each_ref().map(|peer| {
        let link = peer.id;
        endpoint.queue(link, &two, &header(2), None)
    });
    let expected = [
        Queued::Full,
        Queued::Queued { evicted: true },
        Queued::Dropped,
        Queued::Refused,
        Queued::Overflowed,
    ];
    assert_eq!(queued, expected);
    assert_eq!(
        endpoint.queue(peers[4].id, &two, &header(2), None),
        Queued::Gone { violation: None }
    );
    for (number, peer) in peers.iter_mut().enumerate() {
        let lease = peer.lease(&endpoint);
        let message = if number == 1 { 2 } else { 1 };
        assert_eq!(message_of(lease.payload()), message);
        let sequence = if number == 1 { 2 } else { 10 };
        assert_eq!(lease.header().sequence, sequence, "as it was first queued");
    }
    // The slot is not free as long as this process may read or queue it.
    drop(two);
    assert_eq!(endpoint.counts().leased, 1);
    assert_eq!(endpoint.queue(peers[0].id, &one, &header(3), None), ONE);
    drop(one);
    let counts = endpoint.counts();
    assert_eq!((counts.queued, counts.leased), (1, 0));
}

#[test]
#[should_panic(expected = "a link holds a slot once")]
fn one_link_does_not_get_a_slot_that_it_holds() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let peer = Peer::attach(&mut endpoint, 4, 4, WhenFull::Wait);
    let one = filled(&mut endpoint, 1, 64);
    for _ in 0..2 {
        let _queued = endpoint.queue(peer.id, &one, &header(1), None);
    }
}

#[test]
fn a_link_may_get_a_slot_again_that_it_gave_back() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let mut peer = Peer::attach(&mut endpoint, 1, 1, WhenFull::Wait);
    let one = filled(&mut endpoint, 1, 64);
    for _ in 0..3 {
        assert_eq!(endpoint.queue(peer.id, &one, &header(1), None), ONE);
        assert_eq!(message_of(peer.lease(&endpoint).payload()), 1);
    }
}

#[test]
fn a_filled_slot_thaws_while_nobody_else_has_it() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let peer = Peer::attach(&mut endpoint, 1, 1, WhenFull::DropNewest);
    assert_eq!(queue(&mut endpoint, peer.id, 1), ONE);
    let two = filled(&mut endpoint, 2, 64);
    let other = two.clone();
    let two = two.thaw().unwrap_err();
    drop(other);
    // It is offered, but nobody gets it.
    let queued = endpoint.queue(peer.id, &two, &header(2), None);
    assert_eq!(queued, Queued::Dropped);
    let mut loan = two.thaw().unwrap();
    fill(&mut loan.buffer()[..64], 3);
    assert_eq!(endpoint.counts().loaned, 1);
    let three = loan.freeze();
    endpoint.detach(peer.id);
    let late = Peer::attach(&mut endpoint, 1, 1, WhenFull::DropNewest);
    assert_eq!(endpoint.queue(late.id, &three, &header(3), None), ONE);
    endpoint.reap(late.id).unwrap();
    let three = three.thaw().unwrap_err();
    drop(three);
    let counts = endpoint.counts();
    assert_eq!(counts.free, counts.slots);
}

/// Says whether it was dropped while the test allows it.
struct Guarded(Arc<AtomicBool>, Arc<AtomicU32>);

impl Drop for Guarded {
    fn drop(&mut self) {
        assert!(self.0.load(Relaxed), "dropped inside a method");
        self.1.fetch_add(1, Relaxed);
    }
}

#[test]
fn guards_live_as_long_as_the_link_has_the_sample_and_are_dropped_outside() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let mut peer = Peer::attach(&mut endpoint, 2, 4, WhenFull::DropOldest);
    let (outside, dropped) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let mut message = 0;
    let mut next = |endpoint: &mut Endpoint, link| {
        message += 1;
        let guard = Guarded(outside.clone(), Arc::clone(&dropped));
        let filled = filled(endpoint, message, 64);
        endpoint.queue(link, &filled, &header(message), Some(Arc::new(guard)))
    };
    let released = |endpoint: &mut Endpoint| {
        let before = dropped.load(Relaxed);
        outside.store(true, Relaxed);
        drop(endpoint.take_released());
        outside.store(false, Relaxed);
        dropped.load(Relaxed) - before
    };
    for evicted in [false, false, true] {
        assert_eq!(next(&mut endpoint, peer.id), Queued::Queued { evicted });
    }
    assert_eq!(released(&mut endpoint), 1, "evicted");
    let lease = peer.lease(&endpoint);
    assert_eq!((endpoint.queued(peer.id), endpoint.held(peer.id)), (1, 2));
    endpoint.sweep(peer.id);
    assert_eq!(released(&mut endpoint), 0);
    drop(lease);
    assert_eq!(endpoint.held(peer.id), 2, "it has to be looked for");
    endpoint.sweep(peer.id);
    assert_eq!((endpoint.held(peer.id), released(&mut endpoint)), (1, 1));
    // Ended in order: what is queued now, what is leased when it comes back.
    let lease = peer.lease(&endpoint);
    assert_eq!(next(&mut endpoint, peer.id), ONE);
    endpoint.detach(peer.id);
    assert_eq!((endpoint.held(peer.id), released(&mut endpoint)), (1, 1));
    assert_eq!(
        next(&mut endpoint, peer.id),
        Queued::Gone { violation: None }
    );
    assert_eq!(released(&mut endpoint), 1, "not queued");
    drop(lease);
    endpoint.sweep(peer.id);
    assert_eq!((endpoint.held(peer.id), released(&mut endpoint)), (0, 1));
    // Its process is dead.
    let mut dead = Peer::attach(&mut endpoint, 2, 4, WhenFull::DropNewest);
    assert_eq!(next(&mut endpoint, dead.id), ONE);
    std::mem::forget(dead.lease(&endpoint));
    for expected in [ONE, ONE, Queued::Dropped] {
        assert_eq!(next(&mut endpoint, dead.id), expected);
    }
    assert_eq!(released(&mut endpoint), 1, "not queued");
    let reaped = endpoint.reap(dead.id).unwrap();
    assert_eq!((reaped.queued, reaped.leased), (2, 1));
    assert_eq!(released(&mut endpoint), 3);
    // Memory is short: what a lossy link has queued is revoked.
    let mut endpoint = Endpoint::new(EndpointOptions {
        slots_max: 1,
        ..options(1 << 20)
    });
    let peer = Peer::attach(&mut endpoint, 2, 4, WhenFull::DropNewest);
    for _ in 0..2 {
        assert_eq!(next(&mut endpoint, peer.id), ONE);
    }
    assert_eq!(released(&mut endpoint), 1);
    outside.store(true, Relaxed);
}

#[test]
fn a_mad_subscriber_is_found_by_queue_and_keeps_its_guards_until_it_is_dead() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let attached = endpoint.attach(1, 1, WhenFull::Wait, None).unwrap();
    let mad = LinkWords::open(attached.fd.as_fd(), attached.geometry).unwrap();
    let link = attached.id;
    let one = filled(&mut endpoint, 1, 64);
    let guard = Arc::new(());
    assert_eq!(
        endpoint.queue(link, &one, &header(1), Some(guard.clone())),
        ONE
    );
    mad.cell(one.slot()).store(77 << 2, Relaxed);
    let violation = Some(crate::Violation::Cell);
    assert_eq!(queue(&mut endpoint, link, 2), Queued::Gone { violation });
    assert_eq!(
        queue(&mut endpoint, link, 3),
        Queued::Gone { violation: None }
    );
    assert_eq!(endpoint.faulted(), [link]);
    endpoint.sweep(link);
    assert_eq!((endpoint.queued(link), endpoint.held(link)), (0, 1));
    drop(endpoint.take_released());
    assert_eq!(Arc::strong_count(&guard), 2);
    endpoint.reap(link).unwrap();
    drop(endpoint.take_released());
    assert_eq!(Arc::strong_count(&guard), 1);
}

#[test]
fn the_publishers_own_bell_is_rung_for_takes_and_returns_while_it_watches() {
    let page = BellPage::create(NODE).unwrap();
    let bell = page.bell(0);
    let rung = |act: &mut dyn FnMut()| {
        let _drowsy = bell.about_to_sleep_shared();
        let sleeping = &page.bell(0);
        act();
        // A ringer finds nobody asleep if another one has rung.
        !sleeping.ringer().ring()
    };
    for policy in POLICIES {
        let mut endpoint = Endpoint::new(options(1 << 20));
        let mut peer = Peer::attach(&mut endpoint, 4, 4, policy);
        for message in 1..=4 {
            assert_eq!(queue(&mut endpoint, peer.id, message), ONE);
        }
        let mut early = Some(peer.lease(&endpoint));
        let ringer = PeerBells::open(page.as_fd()).unwrap().ringer(0).unwrap();
        peer.link.ring_on_return(ringer);
        let mut lease = None;
        assert!(
            !rung(&mut || lease = Some(peer.lease(&endpoint))),
            "nobody watches"
        );
        endpoint.watch(peer.id, true);
        endpoint.watch(peer.id, true);
        assert!(rung(&mut || drop(lease.take())));
        assert!(
            rung(&mut || lease = Some(peer.lease(&endpoint))),
            "{policy:?}"
        );
        assert!(rung(&mut || {
            let early = early.take();
            std::thread::scope(|scope| drop(scope.spawn(|| drop(early))));
        }));
        endpoint.watch(peer.id, false);
        assert!(!rung(&mut || drop(lease.take())));
        // Alone and with all are two things, and waiters a third.
        endpoint.watch_all(true);
        endpoint.watch(peer.id, true);
        endpoint.watch(peer.id, false);
        drop(endpoint.waiter());
        assert!(rung(&mut || lease = Some(peer.lease(&endpoint))));
        endpoint.watch_all(false);
        assert!(!rung(&mut || drop(lease.take())));
        endpoint.watch_all(true);
        let mut late = Peer::attach(&mut endpoint, 4, 4, policy);
        late.link.ring_on_return(page.bell(0).ringer());
        assert_eq!(queue(&mut endpoint, late.id, 5), ONE);
        assert!(
            rung(&mut || drop(late.lease(&endpoint))),
            "watched from the start"
        );
        endpoint.watch(peer.id, true);
        // One that leaves is news, too, and one that gets a bell late tells what it could not before.
        let link = &mut peer.link;
        assert!(rung(&mut || link.ring_on_return(page.bell(0).ringer())));
        let mut peer = Some(peer);
        assert!(rung(&mut || drop(peer.take())));
    }
}

#[test]
fn what_comes_back_in_this_process_calls_while_it_is_watched() {
    let mut endpoint = Endpoint::new(EndpointOptions {
        slots_max: 1,
        ..options(1 << 20)
    });
    let calls = Arc::new(AtomicU32::new(0));
    endpoint.on_local_return({
        let calls = calls.clone();
        Arc::new(move || {
            calls.fetch_add(1, Relaxed);
        })
    });
    drop(endpoint.loan(64).unwrap());
    assert_eq!(calls.load(Relaxed), 0);
    endpoint.watch_local(true);
    drop(endpoint.loan(64).unwrap());
    assert_eq!(calls.load(Relaxed), 1);
    let one = filled(&mut endpoint, 1, 64);
    let other = one.clone();
    drop(one);
    assert!(matches!(endpoint.loan(64), Err(LoanError::Short)));
    assert_eq!(calls.load(Relaxed), 1);
    let peer = Peer::attach(&mut endpoint, 1, 1, WhenFull::DropOldest);
    assert_eq!(endpoint.queue(peer.id, &other, &header(1), None), ONE);
    drop(other);
    assert_eq!(calls.load(Relaxed), 2);
    endpoint.watch_local(false);
    drop(endpoint.loan(64).unwrap());
    assert_eq!(calls.load(Relaxed), 2);
}

#[test]
fn there_may_be_1024_links_and_each_is_told_apart() {
    let mut endpoint = Endpoint::new(EndpointOptions {
        slots_max: 8,
        ..options(1 << 20)
    });
    let mut peers: Vec<_> = (0..1024)
        .map(|_| Peer::attach(&mut endpoint, 2, 2, WhenFull::DropOldest))
        .collect();
    let one_more = endpoint.attach(2, 2, WhenFull::DropOldest, None);
    assert!(matches!(one_more, Err(AttachError::TooManyLinks)));
    assert_eq!(publish(&mut endpoint, 1, 64), Some(vec![]));
    let two = filled(&mut endpoint, 2, 64);
    for peer in peers.iter().step_by(3) {
        assert_eq!(endpoint.queue(peer.id, &two, &header(2), None), ONE);
    }
    drop(two);
    assert_eq!(endpoint.counts().queued, 2);
    let gone = peers.swap_remove(700);
    endpoint.detach(gone.id);
    endpoint.sweep(gone.id);
    let new = Peer::attach(&mut endpoint, 2, 2, WhenFull::Wait);
    assert_ne!(new.id, gone.id);
    assert_eq!(
        queue(&mut endpoint, gone.id, 3),
        Queued::Gone { violation: None }
    );
    assert_eq!(queue(&mut endpoint, new.id, 3), ONE);
    for (number, peer) in peers.iter_mut().enumerate() {
        assert_eq!(message_of(peer.lease(&endpoint).payload()), 1);
        // The last one stands where that which went stood.
        if number % 3 == 0 || number == 700 {
            assert_eq!(message_of(peer.lease(&endpoint).payload()), 2);
        }
        assert!(matches!(peer.take(&endpoint), Taken::Empty));
    }
    let counts = endpoint.counts();
    assert_eq!((counts.queued, counts.leased), (1, 0), "message 3");
    assert_eq!(counts.free + 1, counts.slots);
}

#[test]
fn a_subscriber_at_its_limit_has_no_news_until_a_lease_is_dropped() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let mut peer = Peer::attach(&mut endpoint, 4, 1, WhenFull::Wait);
    let calls = Arc::new(AtomicU32::new(0));
    peer.link.on_lease_return({
        let calls = calls.clone();
        Arc::new(move || {
            calls.fetch_add(1, Relaxed);
        })
    });
    for message in 1..=3 {
        assert_eq!(queue(&mut endpoint, peer.id, message), ONE);
    }
    assert_eq!(peer.link.queued(), 3);
    peer.announce(&endpoint);
    for call in 0..2 {
        assert!(peer.link.has_news());
        let lease = peer.lease(&endpoint);
        assert!(peer.link.has_news(), "it was not said yet");
        for _ in 0..2 {
            assert!(matches!(peer.take(&endpoint), Taken::LeaseLimit));
            assert!(!peer.link.has_news());
        }
        assert_eq!(queue(&mut endpoint, peer.id, call + 4), ONE);
        assert!(!peer.link.has_news(), "what is new cannot be taken either");
        assert_eq!(u64::from(calls.load(Relaxed)), call);
        drop(lease);
        assert_eq!(u64::from(calls.load(Relaxed)), call + 1);
    }
    // It was not said since.
    drop(peer.lease(&endpoint));
    assert_eq!(calls.load(Relaxed), 2);
    assert_eq!(peer.link.queued(), 2);
}

#[test]
fn an_unannounced_sample_is_no_news_until_its_memory_is_there() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let mut peer = Peer::attach(&mut endpoint, 1, 1, WhenFull::DropOldest);
    assert_eq!(queue(&mut endpoint, peer.id, 1), ONE);
    assert!(!peer.link.has_news());
    for _ in 0..2 {
        assert!(matches!(peer.link.take(), Ok(Taken::Unannounced { .. })));
        assert!(!peer.link.has_news());
    }
    // The one that is in its place is another one.
    assert_eq!(
        queue(&mut endpoint, peer.id, 2),
        Queued::Queued { evicted: true }
    );
    assert!(peer.link.has_news());
    assert!(matches!(peer.link.take(), Ok(Taken::Unannounced { .. })));
    assert!(!peer.link.has_news());
    peer.announce(&endpoint);
    assert!(peer.link.has_news());
    assert_eq!(message_of(peer.lease(&endpoint).payload()), 2);
    assert!(!peer.link.has_news());
    // Its end is seen, though nothing was announced.
    let mut peer = Peer::attach(&mut endpoint, 1, 1, WhenFull::DropOldest);
    assert_eq!(queue(&mut endpoint, peer.id, 3), ONE);
    assert!(matches!(peer.link.take(), Ok(Taken::Unannounced { .. })));
    endpoint.detach(peer.id);
    assert!(peer.link.has_news());
    // First it passes over what was taken back.
    assert!(matches!(peer.link.take(), Ok(Taken::Empty)));
    assert!(peer.link.has_news());
    let end = peer.link.take();
    assert!(matches!(end, Ok(Taken::End(LinkEnd::Closed))), "{end:?}");
}

#[test]
fn the_death_of_the_publisher_is_told_once_after_what_is_queued() {
    let mut endpoint = Endpoint::new(options(1 << 20));
    let mut peers = [0; 3].map(|_| Peer::attach(&mut endpoint, 4, 4, WhenFull::Wait));
    for peer in &peers {
        for message in 1..=2 {
            assert_eq!(queue(&mut endpoint, peer.id, message), ONE);
        }
    }
    let [plain, unannounced, closed] = &mut peers;
    endpoint.detach(closed.id);
    closed.link.publisher_ended();
    assert!(matches!(closed.take(&endpoint), Taken::Empty));
    assert!(matches!(
        closed.take(&endpoint),
        Taken::End(LinkEnd::Closed)
    ));
    plain.announce(&endpoint);
    std::mem::forget(endpoint);
    plain.link.publisher_ended();
    let mut leases = Vec::new();
    for message in 1..=2 {
        assert!(plain.link.has_news());
        let Ok(Taken::Sample(lease)) = plain.link.take() else {
            panic!("it is queued");
        };
        assert_eq!(message_of(lease.payload()), message);
        leases.push(lease);
    }
    let died = |link: &mut SubscriberLink| {
        assert!(link.has_news());
        let end = link.take();
        assert!(
            matches!(end, Ok(Taken::End(LinkEnd::PublisherDied))),
            "{end:?}"
        );
        assert!(!link.has_news());
        let end = link.take();
        assert!(
            matches!(end, Ok(Taken::End(LinkEnd::PublisherDied))),
            "{end:?}"
        );
    };
    died(&mut plain.link);
    // What nobody announces any more is passed over.
    let taken = unannounced.link.take();
    assert!(matches!(taken, Ok(Taken::Unannounced { .. })));
    unannounced.link.publisher_ended();
    assert!(matches!(unannounced.link.take(), Ok(Taken::Empty)));
    died(&mut unannounced.link);
}

/// A driver that sleeps on its own bell only, both for room and for memory, and a subscriber that sleeps on its own.
#[test]
fn a_long_run_without_a_thread_that_blocks_loses_nothing() {
    const MESSAGES: u64 = 20_000;
    let page = BellPage::create(NODE).unwrap();
    let (publisher_bell, mut bell) = (page.bell(1), page.bell(0));
    let peers = PeerBells::open(page.as_fd()).unwrap();
    let mut endpoint = Endpoint::new(EndpointOptions {
        slots_max: 4,
        ..options(1 << 20)
    });
    let ringer = Some(peers.ringer(0).unwrap());
    let attached = endpoint.attach(2, 2, WhenFull::Wait, ringer).unwrap();
    let ringer = endpoint.ringer(attached.id).unwrap();
    let mut peer = Peer::open(attached);
    peer.link.ring_on_return(peers.ringer(1).unwrap());
    endpoint.on_local_return({
        let ringer = publisher_bell.ringer();
        Arc::new(move || {
            ringer.ring();
        })
    });
    // As large as all others: there is no memory for two sizes.
    let first = filled(&mut endpoint, 1, 512);
    assert_eq!(endpoint.queue(peer.id, &first, &header(1), None), ONE);
    drop(first);
    peer.announce(&endpoint);
    let id = peer.id;
    std::thread::scope(|scope| {
        let link = &mut peer.link;
        scope.spawn(move || {
            let mut next = 1;
            let mut before = None;
            while next <= MESSAGES {
                match link.take().unwrap() {
                    Taken::Sample(lease) => {
                        assert_eq!((message_of(lease.payload()), lease.gap()), (next, 0));
                        next += 1;
                        before = Some(lease);
                    }
                    Taken::Empty => {
                        let drowsy = bell.about_to_sleep();
                        if !link.has_news() {
                            let until = Instant::now() + Duration::from_secs(60);
                            drowsy.wait_until(Some(until));
                            assert!(Instant::now() < until, "a wake-up was lost");
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
            drop(before);
        });
        let mut message = 2;
        let mut waiting: Option<Filled> = None;
        let mut step = |endpoint: &mut Endpoint| {
            let filled = match waiting.take() {
                Some(filled) => filled,
                None => match endpoint.loan(512) {
                    Ok(mut loan) => {
                        fill(&mut loan.buffer()[..512], message);
                        loan.freeze()
                    }
                    Err(LoanError::Short) => return None,
                    Err(e) => panic!("{e}"),
                },
            };
            match endpoint.queue(id, &filled, &header(message), None) {
                Queued::Full => waiting = Some(filled),
                queued => {
                    assert_eq!(queued, ONE);
                    message += 1;
                    return Some(message);
                }
            }
            None
        };
        let mut next = 2;
        while next <= MESSAGES {
            if let Some(message) = step(&mut endpoint) {
                next = message;
                ringer.ring();
                continue;
            }
            endpoint.watch_all(true);
            endpoint.watch_local(true);
            let drowsy = publisher_bell.about_to_sleep_shared();
            let looked = step(&mut endpoint);
            if let Some(message) = looked {
                next = message;
                drop(drowsy);
                ringer.ring();
            } else {
                let until = Instant::now() + Duration::from_secs(60);
                drowsy.wait_until(Some(until));
                assert!(Instant::now() < until, "a wake-up was lost");
            }
            endpoint.watch_all(false);
            endpoint.watch_local(false);
        }
    });
    let counts = endpoint.counts();
    assert_eq!(counts.free, counts.slots);
}

/// Sends and takes as fast as both can, with waiting on both sides: what a model cannot do is long runs on real hardware.
#[test]
fn a_long_run_keeps_order_and_loses_nothing() {
    const MESSAGES: u64 = 20_000;
    let page = BellPage::create(NODE).unwrap();
    let mut bell = page.bell(0);
    let ringer = PeerBells::open(page.as_fd()).unwrap().ringer(0).unwrap();
    // Four slots of memory, so that the publisher waits for room and for memory.
    let mut endpoint = Endpoint::new(EndpointOptions {
        slots_max: 4,
        ..options(1 << 20)
    });
    let attached = endpoint.attach(2, 2, WhenFull::Wait, Some(ringer)).unwrap();
    let mut peer = Peer::open(attached);
    publish(&mut endpoint, 1, 512).unwrap();
    peer.announce(&endpoint);
    std::thread::scope(|scope| {
        let link = &mut peer.link;
        scope.spawn(move || {
            let mut next = 1;
            let mut before = None;
            while next <= MESSAGES {
                match link.take().unwrap() {
                    Taken::Sample(lease) => {
                        assert_eq!((message_of(lease.payload()), lease.gap()), (next, 0));
                        next += 1;
                        // The older of two goes when the younger is here.
                        before = Some(lease);
                    }
                    Taken::Empty => {
                        let drowsy = bell.about_to_sleep();
                        if !link.has_news() {
                            drowsy.wait();
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
            drop(before);
        });
        for message in 2..=MESSAGES {
            while publish(&mut endpoint, message, 512).is_none() {
                let waiter = endpoint.waiter();
                if publish(&mut endpoint, message, 512).is_some() {
                    break;
                }
                let before = Instant::now();
                waiter.wait(Some(Duration::from_secs(60)));
                assert!(
                    before.elapsed() < Duration::from_secs(60),
                    "a wake-up was lost"
                );
            }
        }
    });
    let counts = endpoint.counts();
    assert_eq!(counts.free, counts.slots);
}

/// Numbers without a pattern.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Values that are likely to be taken for right: small ones, and neighbours of what is there.
    fn mean(&mut self) -> u64 {
        let value = self.next();
        match value % 4 {
            0 => value >> 8,
            1 => value >> 58,
            2 => (value >> 50 & 0xff) << 24 | value >> 58,
            _ => (value >> 40 & 0xfff) << 2 | value & 3,
        }
    }
}

/// Runs `use_it` again and again for a while, each time beside a thread that writes anything anywhere into the link.
/// For two seconds, and on a slow machine until `use_it` has returned true once.
fn beside_a_mad_peer(
    seed: u64,
    mut use_it: impl FnMut(&mut Endpoint, &mut Peer, LinkGeometry) -> bool,
) {
    let mut random = Random(seed);
    let end = Instant::now() + Duration::from_secs(2);
    let last = end + Duration::from_secs(60);
    let mut has_shown = false;
    while Instant::now() < end || (!has_shown && Instant::now() < last) {
        let mut endpoint = Endpoint::new(EndpointOptions {
            slots_max: 64,
            history: 2,
            ..options(1 << 18)
        });
        let policy = POLICIES[random.next() as usize % POLICIES.len()];
        let attached = endpoint.attach(4, 3, policy, None).unwrap();
        let geometry = attached.geometry;
        let mad = LinkWords::open(attached.fd.as_fd(), geometry).unwrap();
        let mut peer = Peer::open(attached);
        let stop = AtomicBool::new(false);
        let words = random.next();
        std::thread::scope(|scope| {
            let (mad, stop) = (&mad, &stop);
            scope.spawn(move || {
                let mut random = Random(words);
                while !stop.load(Relaxed) {
                    mad.scribble(random.next() as usize, random.mean());
                }
            });
            has_shown |= use_it(&mut endpoint, &mut peer, geometry);
            stop.store(true, Relaxed);
        });
    }
}

#[test]
fn a_mad_subscriber_loses_its_link_and_nobody_else_anything() {
    let mut faults = 0;
    beside_a_mad_peer(0x5eed_0001, |endpoint, peer, _| {
        let mut honest = Peer::attach(endpoint, 4, 4, WhenFull::DropOldest);
        let mut next = 0;
        for message in 1..=200 {
            // A link that loses nothing may be full for ever now: then its publisher's limit ends the wait.
            if publish(endpoint, message, 100).is_some() {
                let lease = honest.lease(endpoint);
                next += lease.gap() + 1;
                assert_eq!(message_of(lease.payload()), message);
            }
            endpoint.counts();
        }
        if endpoint.faulted() == [peer.id] {
            faults += 1;
            assert_eq!(endpoint.links(), [honest.id]);
        }
        // Its process ends: everything is back.
        endpoint.reap(peer.id);
        drop(honest.take(endpoint));
        let counts = endpoint.counts();
        assert_eq!(counts.free + counts.kept, counts.slots);
        assert_ne!(next, 0);
        faults > 0
    });
    assert!(faults > 0, "no link was detached");
}

#[test]
fn a_mad_publisher_is_left_and_nothing_is_read_out_of_bounds() {
    let mut violations = 0;
    beside_a_mad_peer(0x5eed_0002, |endpoint, peer, _| {
        let mut held = VecDeque::new();
        for message in 1..=200 {
            let _published = publish(endpoint, message, 100);
            peer.announce(endpoint);
            match peer.link.take() {
                Ok(Taken::Sample(lease)) => {
                    // What it says is memory of the segment, whatever stands there.
                    let sum: u64 = lease.payload().iter().map(|b| u64::from(*b)).sum();
                    assert!(sum < u64::MAX);
                    held.push_back(lease);
                }
                Ok(Taken::LeaseLimit) => drop(held.pop_front()),
                Ok(_) => {}
                Err(violation) => {
                    assert_eq!(peer.link.take().unwrap_err(), violation, "it stays left");
                    assert!(!peer.link.has_news());
                    violations += 1;
                    return true;
                }
            }
        }
        false
    });
    assert!(violations > 0, "no link was left");
}

#[test]
fn mad_slot_headers_are_refused_or_stay_inside_the_slot() {
    let mut random = Random(0x5eed_0003);
    let mut violations = 0;
    for _ in 0..2000 {
        let mut endpoint = Endpoint::new(options(1 << 18));
        let mut peer = Peer::attach(&mut endpoint, 1, 1, WhenFull::DropOldest);
        publish(&mut endpoint, 1, 300).unwrap();
        let header = endpoint.segments()[0].data().header(0);
        header.words[random.next() as usize % 4].store(random.mean(), Relaxed);
        peer.announce(&endpoint);
        match peer.link.take() {
            Ok(Taken::Sample(lease)) => assert!(lease.payload().len() <= 320),
            Err(violation) => {
                assert_eq!(violation, crate::Violation::Length);
                violations += 1;
            }
            other => panic!("{other:?}"),
        }
        if violations >= 20 {
            return;
        }
    }
    panic!("no header was refused");
}

#[test]
fn a_mad_doorbell_wakes_in_vain_at_worst() {
    let page = BellPage::create(NODE).unwrap();
    let peers = PeerBells::open(page.as_fd()).unwrap();
    let mad = crate::segment::BellMap::open(page.as_fd()).unwrap();
    let mut random = Random(0x5eed_0004);
    let mut bell = page.bell(3);
    let ringer = peers.ringer(3).unwrap();
    for _ in 0..100_000 {
        mad.scribble(random.next() as usize, random.next() as u32);
        ringer.ring();
        let drowsy = bell.about_to_sleep();
        mad.scribble(random.next() as usize, random.next() as u32);
        ringer.ring();
        drop(drowsy);
    }
}

#[test]
fn geometry_from_elsewhere_is_checked_before_anything_is_mapped() {
    let mut endpoint = Endpoint::new(options(1 << 18));
    let attached = endpoint.attach(4, 4, WhenFull::Wait, None).unwrap();
    drop(endpoint.loan(64).unwrap());
    let good = attached.geometry;
    let refused = |geometry| SubscriberLink::open(attached.fd.as_fd(), geometry).is_err();
    for depth in [0, 3 + 4, u32::MAX] {
        assert!(refused(LinkGeometry { depth, ..good }), "{depth}");
    }
    for slots in [0, good.slots + 1, u32::MAX] {
        assert!(refused(LinkGeometry { slots, ..good }), "{slots}");
    }
    assert!(refused(LinkGeometry {
        leases_max: 0,
        ..good
    }));
    let segment = endpoint.segments()[0].clone();
    let mut link = SubscriberLink::open(attached.fd.as_fd(), good).unwrap();
    let good = segment.geometry();
    for slots in [0, good.slots + 1, u32::MAX] {
        let geometry = crate::DataGeometry { slots, ..good };
        assert!(link.add_segment(segment.as_fd(), geometry).is_err());
    }
    for payload_bytes in [0, 5000, u32::MAX] {
        let geometry = crate::DataGeometry {
            payload_bytes,
            ..good
        };
        assert!(link.add_segment(segment.as_fd(), geometry).is_err());
    }
    // A link is not a data segment, even if its length fits.
    let not_data = link.add_segment(attached.fd.as_fd(), good).unwrap_err();
    assert!(not_data.to_string().contains("not sealed"), "{not_data}");
}
