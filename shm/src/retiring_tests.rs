//! Memory that goes from one size to another, against a plain model.

use crate::class::{class_bytes, class_for, stride};
use crate::endpoint::{Endpoint, EndpointOptions, LoanError};
use crate::fan_out::{LinkId, SlotCounts};
use crate::header::SlotHeader;
use crate::lease::{Lease, SubscriberLink, Taken};
use crate::link::WhenFull;
use crate::link::tests::{fill, message_of, options};
use crate::loan::Filled;
use crate::segment::DataSegment;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What travels from the publisher to one subscriber beside the link, in order.
enum Said {
    Segment(Arc<DataSegment>),
    Retire(u32),
}

struct Peer {
    id: LinkId,
    link: SubscriberLink,
    /// What has not arrived yet.
    said: VecDeque<Said>,
    /// What it has to take: messages and their sizes.
    queue: VecDeque<(u64, usize)>,
    held: Vec<(Lease, u64)>,
    is_lossy: bool,
}

/// A publisher and its subscribers, in this process.
struct Bench {
    endpoint: Endpoint,
    peers: Vec<Peer>,
    told: u64,
    message: u64,
}

impl Bench {
    fn new(options: EndpointOptions) -> Self {
        Self {
            endpoint: Endpoint::new(options),
            peers: Vec::new(),
            told: 0,
            message: 0,
        }
    }

    fn attach(&mut self, depth: u32, leases_max: u32, when_full: WhenFull) -> usize {
        let attached = self.endpoint.attach(depth, leases_max, when_full, None);
        let attached = attached.unwrap();
        let link = SubscriberLink::open(attached.fd.as_fd(), attached.geometry).unwrap();
        let segments = self.endpoint.segments().iter().cloned();
        self.peers.push(Peer {
            id: attached.id,
            link,
            said: segments.map(Said::Segment).collect(),
            queue: VecDeque::new(),
            held: Vec::new(),
            is_lossy: when_full != WhenFull::Wait,
        });
        self.peers.len() - 1
    }

    /// A loan, after which all links are told what there is to tell.
    fn loan(&mut self, bytes: usize) -> Result<crate::Loan, LoanError> {
        let loaned = self.endpoint.loan(bytes);
        for (id, first_slot) in self.endpoint.take_retired() {
            let peer = self.peers.iter_mut().find(|peer| peer.id == id).unwrap();
            peer.said.push_back(Said::Retire(first_slot));
        }
        for segment in self.endpoint.segments() {
            if segment.number() >= self.told {
                for peer in &mut self.peers {
                    peer.said.push_back(Said::Segment(segment.clone()));
                }
                self.told = segment.number() + 1;
            }
        }
        loaned
    }

    /// False if memory is short, or the queue of a link that loses nothing is full.
    fn publish(&mut self, bytes: usize, keep: bool) -> Option<Option<Filled>> {
        let mut loan = match self.loan(bytes) {
            Ok(loan) => loan,
            Err(LoanError::Short) => return None,
            Err(error) => panic!("{bytes} bytes: {error}"),
        };
        self.message += 1;
        fill(&mut loan.buffer()[..bytes], self.message);
        let header = SlotHeader {
            sequence: self.message,
            ..SlotHeader::default()
        };
        let published = self.endpoint.publish(loan, &header, keep).ok()?;
        for peer in &mut self.peers {
            peer.queue.push_back((self.message, bytes));
        }
        Some(published.local)
    }

    /// The next thing that was said arrives, and is answered. False if there is none.
    fn deliver(&mut self, peer: usize) -> bool {
        let Some(peer) = self.peers.get_mut(peer) else {
            return false;
        };
        match peer.said.pop_front() {
            None => return false,
            Some(Said::Segment(segment)) => {
                let geometry = segment.geometry();
                peer.link.add_segment(segment.as_fd(), geometry).unwrap();
            }
            Some(Said::Retire(first_slot)) => {
                assert!(peer.link.remove_segment(first_slot));
                assert!(self.endpoint.segment_removed(peer.id, first_slot));
            }
        }
        true
    }

    fn deliver_all(&mut self) {
        for peer in 0..self.peers.len() {
            while self.deliver(peer) {}
        }
    }

    /// True if something was taken. What is taken is what is next in the model.
    fn take(&mut self, peer: usize) -> bool {
        let Some(peer) = self.peers.get_mut(peer) else {
            return false;
        };
        match peer.link.take().unwrap() {
            Taken::Sample(lease) => {
                let message = lease.header().sequence;
                // Some that were queued on a lossy link may be gone.
                while peer.is_lossy && peer.queue.front().is_some_and(|next| next.0 < message) {
                    peer.queue.pop_front();
                }
                let (expected, bytes) = peer.queue.pop_front().unwrap();
                assert_eq!((message, lease.payload().len()), (expected, bytes));
                assert_eq!(message_of(lease.payload()), expected);
                peer.held.push((lease, message));
                true
            }
            Taken::Unannounced { .. } => {
                assert!(!peer.said.is_empty(), "it was told of all memory");
                false
            }
            Taken::LeaseLimit => false,
            Taken::Empty => {
                assert!(peer.is_lossy || peer.queue.is_empty());
                false
            }
            Taken::End(end) => panic!("{end:?}"),
        }
    }

    fn check(&mut self) {
        for peer in &self.peers {
            for (lease, message) in &peer.held {
                assert_eq!(message_of(lease.payload()), *message);
            }
        }
        let SlotCounts {
            slots,
            free,
            loaned,
            leased,
            queued,
            kept,
            quarantined,
            retired,
        } = self.endpoint.counts();
        assert_eq!(loaned + quarantined, 0);
        assert_eq!(free + leased + queued + kept + retired, slots);
    }
}

const SMALL: usize = 100;
const LARGE: usize = 400_000;
/// Room for one large slot, or for many small ones.
const BUDGET: u64 = 512 << 10;

/// A publisher whose budget went into small slots, with so many links.
fn full_of_small(links: usize) -> (Bench, usize) {
    let mut bench = Bench::new(options(BUDGET));
    for _ in 0..links {
        bench.attach(4096, 4096, WhenFull::Wait);
    }
    let mut loans = Vec::new();
    while let Ok(loan) = bench.loan(SMALL) {
        loans.push(loan);
    }
    bench.deliver_all();
    let slots = loans.len();
    assert!(slots > 1000);
    (bench, slots)
}

fn is_short(loaned: Result<crate::Loan, LoanError>) -> bool {
    match loaned {
        Ok(_) => false,
        Err(LoanError::Short) => true,
        Err(error) => panic!("{error}"),
    }
}

/// The budget of a publisher whose first samples were small was gone for larger ones, for ever.
#[test]
fn memory_of_one_size_serves_another_when_nothing_is_out() {
    let (mut bench, _) = full_of_small(0);
    for _ in 0..3 {
        // With nobody to be asked it is there at once.
        assert!(bench.loan(LARGE).unwrap().capacity() >= LARGE);
        assert!(bench.endpoint.bytes() <= BUDGET);
        assert!(bench.loan(SMALL).unwrap().capacity() < LARGE);
    }
    assert!(matches!(
        bench.loan(BUDGET as usize),
        Err(LoanError::TooLarge)
    ));
    bench.check();
}

#[test]
fn memory_is_short_until_all_links_have_answered() {
    let (mut bench, slots) = full_of_small(2);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    bench.endpoint.on_local_return(Arc::new(move || {
        counted.fetch_add(1, Relaxed);
    }));
    bench.endpoint.watch_local(true);
    let calls = || calls.load(Relaxed);
    assert!(is_short(bench.loan(LARGE)));
    assert!(
        is_short(bench.loan(LARGE)),
        "and nothing more is asked for it"
    );
    let asked: Vec<_> = bench.peers.iter().map(|peer| peer.said.len()).collect();
    assert!(asked[0] > 0 && asked[0] == asked[1], "{asked:?}");
    let counts = bench.endpoint.counts();
    assert_eq!((counts.slots, counts.free + counts.retired), (slots, slots));
    let retired = counts.retired;
    while bench.deliver(0) {}
    assert!(is_short(bench.loan(LARGE)));
    assert_eq!((bench.endpoint.counts().retired, calls()), (retired, 0));
    assert!(bench.endpoint.bytes() <= BUDGET);
    // Nobody answers twice, or for what there never was.
    let [first, second] = [0, 1].map(|peer: usize| bench.peers[peer].id);
    assert!(!bench.endpoint.segment_removed(first, 0));
    assert!(!bench.endpoint.segment_removed(second, 4095));
    while bench.deliver(1) {}
    assert!(calls() > 0, "who waits for memory is told");
    assert!(bench.publish(LARGE, false).is_some());
    bench.deliver_all();
    assert!(bench.take(0) && bench.take(1));
    bench.check();
}

#[test]
fn a_link_that_ends_owes_no_answer() {
    let ends: [fn(&mut Bench); 3] = [
        |bench| bench.endpoint.detach(bench.peers[1].id),
        |bench| {
            bench.endpoint.reap(bench.peers[1].id).unwrap();
        },
        // Its subscription leaves.
        |bench| drop(bench.peers.pop()),
    ];
    for end in ends {
        let (mut bench, _) = full_of_small(2);
        let ended = bench.peers[1].id;
        assert!(is_short(bench.loan(LARGE)));
        while bench.deliver(0) {}
        assert!(is_short(bench.loan(LARGE)));
        end(&mut bench);
        assert!(bench.publish(LARGE, false).is_some());
        // An answer that comes all the same is no offence.
        assert!(bench.endpoint.segment_removed(ended, 0));
        bench.deliver_all();
        assert!(bench.take(0));
    }
}

#[test]
fn a_link_that_comes_meanwhile_is_not_asked() {
    let (mut bench, _) = full_of_small(1);
    assert!(is_short(bench.loan(LARGE)));
    let late = bench.attach(4, 4, WhenFull::Wait);
    assert!(is_short(bench.loan(LARGE)));
    while bench.deliver(0) {}
    assert!(bench.publish(LARGE, false).is_some());
    bench.deliver_all();
    assert!(bench.take(late) && bench.take(0));
}

/// The same numbers name other memory: whoever was not told of it yet finds none, and not the old.
#[test]
fn a_number_that_is_used_again_is_not_looked_for_in_old_memory() {
    let (mut bench, _) = full_of_small(1);
    bench.publish(SMALL, false).unwrap();
    assert!(bench.take(0));
    bench.peers[0].held.clear();
    assert!(is_short(bench.loan(LARGE)));
    bench.deliver_all();
    bench.publish(LARGE, false).unwrap();
    let numbers = bench.endpoint.segments().last().unwrap().geometry();
    assert!(numbers.first_slot < 2000, "{numbers:?}");
    assert!(!bench.take(0), "it was not told yet");
    bench.deliver_all();
    assert!(bench.take(0));
    bench.check();
}

#[test]
fn what_is_out_is_not_retired() {
    let (mut bench, _) = full_of_small(1);
    // One in each segment: queued, leased, read here, and being filled.
    let mut loans: Vec<_> = std::iter::from_fn(|| bench.loan(SMALL).ok()).collect();
    let segments = bench.endpoint.segments().len();
    let per_segment: Vec<_> = bench.endpoint.segments().to_vec();
    let mut one_each = Vec::new();
    for segment in &per_segment {
        let at = loans
            .iter()
            .position(|loan| segment.geometry().contains(loan.slot()))
            .unwrap();
        one_each.push(loans.swap_remove(at));
    }
    drop(loans);
    assert!(is_short(bench.loan(LARGE)));
    assert_eq!(bench.endpoint.segments().len(), segments);
    let mut published = Vec::new();
    for (n, loan) in one_each.into_iter().enumerate() {
        let here = n % 2 == 0;
        let out = bench.endpoint.publish(loan, &SlotHeader::default(), here);
        published.extend(out.unwrap().local);
    }
    assert!(is_short(bench.loan(LARGE)));
    let link = &mut bench.peers[0].link;
    let leases: Vec<_> = std::iter::from_fn(|| match link.take().unwrap() {
        Taken::Sample(lease) => Some(lease),
        _ => None,
    })
    .collect();
    assert_eq!(leases.len(), segments);
    assert!(is_short(bench.loan(LARGE)));
    assert_eq!(bench.endpoint.segments().len(), segments);
    drop((leases, published));
    assert!(is_short(bench.loan(LARGE)), "now it has to be asked for");
    bench.deliver_all();
    assert!(bench.loan(LARGE).is_ok());
}

#[test]
fn a_slot_of_up_to_four_times_the_size_serves_before_anything_is_given_back() {
    let mut bench = Bench::new(options(BUDGET));
    bench.attach(4, 4, WhenFull::Wait);
    drop(bench.loan(LARGE).unwrap());
    bench.deliver_all();
    // Too much for what is left of the budget.
    let serves = bench.loan(LARGE / 4 + 30_000).unwrap();
    assert!(serves.capacity() >= LARGE);
    drop(serves);
    assert!(bench.peers[0].said.is_empty());
    // There is no room beside it for this one either; but it would waste more than that.
    assert!(is_short(bench.loan(LARGE / 6)));
    bench.deliver_all();
    assert!(bench.loan(LARGE / 6).unwrap().capacity() < LARGE / 4);
    bench.check();
}

#[test]
fn what_may_be_lost_gives_way_also_in_smaller_slots() {
    // Queued on a link that may lose it, and kept for those who come late.
    let mut bench = Bench::new(EndpointOptions {
        history: 3,
        ..options(BUDGET)
    });
    bench.attach(4096, 1, WhenFull::DropNewest);
    for _ in 0..5000 {
        bench.publish(SMALL, false).unwrap();
    }
    // One lease of it is set aside.
    while is_short(bench.loan(LARGE)) {
        let before = bench.endpoint.counts().retired;
        assert!(before > 0, "something is given back");
        bench.deliver_all();
    }
    assert!(bench.publish(LARGE, false).is_some());
    bench.deliver_all();
    while bench.take(0) {
        bench.peers[0].held.clear();
    }
    assert!(bench.peers[0].queue.is_empty(), "the last came");
    bench.check();
}

#[test]
fn numbers_of_slots_are_given_back_too() {
    let mut bench = Bench::new(EndpointOptions {
        slots_max: 8,
        ..options(1 << 22)
    });
    bench.attach(8, 8, WhenFull::Wait);
    let loans: Vec<_> = (0..8).map(|_| bench.loan(SMALL).unwrap()).collect();
    assert!(is_short(bench.loan(LARGE)));
    drop(loans);
    assert!(is_short(bench.loan(LARGE)));
    bench.deliver_all();
    assert!(bench.publish(LARGE, false).is_some());
    bench.deliver_all();
    assert!(bench.take(0));
    bench.check();
}

#[derive(Clone, Debug)]
enum Step {
    /// Of so many bytes; a handle is kept here.
    Publish(usize, bool),
    /// One that was kept here.
    Let(usize),
    Take(usize),
    /// Of a peer, one that it holds.
    Release(usize, usize),
    Deliver(usize),
    Attach(bool),
    Detach(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // As many small ones as large ones.
    let bytes = prop_oneof![
        8_usize..400,
        400_usize..8000,
        8000_usize..60_000,
        60_000_usize..400_000
    ];
    let peer = || 0_usize..4;
    let step = prop_oneof![
        12 => (bytes, prop::bool::weighted(0.2)).prop_map(|(bytes, keep)| Step::Publish(bytes, keep)),
        3 => (0_usize..64).prop_map(Step::Let),
        9 => peer().prop_map(Step::Take),
        9 => (peer(), 0_usize..64).prop_map(|(peer, which)| Step::Release(peer, which)),
        9 => peer().prop_map(Step::Deliver),
        1 => any::<bool>().prop_map(Step::Attach),
        1 => peer().prop_map(Step::Detach),
    ];
    prop::collection::vec(step, 1..150)
}

proptest! {
    /// Sizes of all kinds under a budget that has room for one or two of the largest.
    #[test]
    fn any_sizes_come_through_one_budget(steps in steps(), slots_max in 6_u32..600, history in 0_u32..4) {
        let (depth, leases_max) = (8, 3);
        let mut bench = Bench::new(EndpointOptions { slots_max, history, ..options(BUDGET) });
        let mut kept: Vec<(Filled, u64)> = Vec::new();
        let (mut lossy, mut most) = (0, BUDGET);
        bench.attach(depth, leases_max, WhenFull::Wait);
        for step in steps {
            match step {
                Step::Publish(bytes, keep) => {
                    if let Some(Some(local)) = bench.publish(bytes, keep) {
                        kept.push((local, bench.message));
                    }
                }
                Step::Let(which) => {
                    if !kept.is_empty() {
                        kept.swap_remove(which % kept.len());
                    }
                }
                Step::Take(peer) => drop(bench.take(peer)),
                Step::Release(peer, which) => {
                    if let Some(peer) = bench.peers.get_mut(peer) && !peer.held.is_empty() {
                        peer.held.swap_remove(which % peer.held.len());
                    }
                }
                Step::Deliver(peer) => drop(bench.deliver(peer)),
                Step::Attach(is_lossy) => {
                    if bench.peers.len() < 4 {
                        let when_full = if is_lossy { WhenFull::DropOldest } else { WhenFull::Wait };
                        let at = bench.attach(depth, leases_max, when_full);
                        // What is kept comes first: which, the model does not say.
                        while bench.peers[at].link.queued() > 0 {
                            while bench.deliver(at) {}
                            match bench.peers[at].link.take().unwrap() {
                                Taken::Sample(_) | Taken::Empty => {}
                                other => panic!("{other:?}"),
                            }
                        }
                        lossy += u64::from(is_lossy);
                    }
                }
                Step::Detach(peer) => {
                    if peer > 0 && peer < bench.peers.len() {
                        let peer = bench.peers.swap_remove(peer);
                        bench.endpoint.detach(peer.id);
                        // What it holds stays whole, and holds its memory.
                        for (lease, message) in &peer.held {
                            prop_assert_eq!(message_of(lease.payload()), *message);
                        }
                    }
                }
            }
            bench.check();
            for (filled, message) in &kept {
                prop_assert_eq!(message_of(filled.payload()), *message);
            }
            // What lossy links can lease is set aside for them, and may be in use when they are gone.
            let largest = stride(class_bytes(class_for(400_000).unwrap())) as u64;
            most = most.max(BUDGET + lossy * u64::from(leases_max) * largest);
            prop_assert!(bench.endpoint.bytes() <= most);
        }
        // Everything comes back, and every size has room again.
        kept.clear();
        for peer in 0..bench.peers.len() {
            loop {
                bench.peers[peer].held.clear();
                let delivered = bench.deliver(peer);
                if !bench.take(peer) && !delivered {
                    break;
                }
            }
            bench.peers[peer].held.clear();
        }
        for bytes in [LARGE, 8, 100_000, 5000, LARGE, SMALL] {
            if is_short(bench.loan(bytes)) {
                bench.deliver_all();
                prop_assert!(!is_short(bench.loan(bytes)), "{} bytes", bytes);
            }
        }
    }
}
