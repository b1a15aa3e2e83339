//! Two nodes, mostly in one process; `children.rs` has those that die. Nothing sleeps: each test waits for events.

mod children;
mod drivers;
mod ends;
mod links;
mod raw;
mod waiting;

use super::{Processes, ProcessesOptions};
use crate::codec::CodecKind;
use crate::id::{SubscriptionId, TopicId};
use crate::inspect::SendsSnapshot;
use crate::transport::*;
use mproc_runtime::{Error, ErrorKind, LaneBell, SendWatch, WhenFull};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A value that threads wait for.
#[derive(Default)]
struct Scene<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Scene<T> {
    fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.value.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `look` finds something.
    fn wait<R>(&self, what: &str, mut look: impl FnMut(&mut T) -> Option<R>) -> R {
        let end = Instant::now() + LONG;
        let mut value = self.value.lock();
        loop {
            if let Some(found) = look(&mut value) {
                return found;
            }
            let late = self.changed.wait_until(&mut value, end).timed_out();
            assert!(!late, "waiting for {what}");
        }
    }
}

/// Waits for something that tells nobody.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "waiting until {what}");
        std::thread::yield_now();
    }
}

fn node(base: &Path) -> Arc<Processes> {
    node_with(base, |_| {})
}

fn node_with(base: &Path, change: impl FnOnce(&mut ProcessesOptions)) -> Arc<Processes> {
    let mut options = ProcessesOptions {
        domain: Some("lab".into()),
        base: Some(base.into()),
        ..ProcessesOptions::default()
    };
    change(&mut options);
    Processes::join(options, nobody()).unwrap()
}

/// A node that does not count.
fn nobody() -> std::sync::Weak<dyn Neighbourhood> {
    struct Nobody;
    impl Neighbourhood for Nobody {
        fn publishers_changed(&self, _: TopicId) {}
        fn report(&self, _: Option<SendsSnapshot>) -> Result<Vec<u8>, String> {
            Err("nobody is asked".into())
        }
        fn watch_sends(&self) -> Option<SendWatch> {
            None
        }
    }
    std::sync::Weak::<Nobody>::new()
}

/// Why an inlet has ended.
fn text(why: Ending) -> String {
    match why {
        Ending::Overflowed => "the queue was full".into(),
        Ending::Left(why) => why,
    }
}

fn key(name: &str) -> TopicKey {
    TopicKey {
        id: TopicId::from_name(name),
        name: name.into(),
        type_name: "u64".into(),
        type_hash: 64,
        codec: CodecKind::Plain,
    }
}

/// A topic that keeps its links.
#[derive(Default)]
struct Publishing {
    links: Vec<(SubscriptionId, Arc<dyn OutLink>)>,
    left: Vec<SubscriptionId>,
}

struct FakeTopic {
    key: TopicKey,
    listener: Arc<FakeListener>,
    scene: Scene<Publishing>,
}

impl FakeTopic {
    fn new(key: TopicKey) -> Arc<Self> {
        Arc::new(Self {
            key,
            listener: Arc::default(),
            scene: Scene::default(),
        })
    }

    /// The link that joined as the `index`-th.
    fn link(&self, index: usize) -> Arc<dyn OutLink> {
        self.scene.wait("a link", |state| {
            state.links.get(index).map(|(_, link)| link.clone())
        })
    }

    fn wait_until_left(&self, index: usize) {
        self.scene.wait("the link to leave", |state| {
            let id = state.links.get(index)?.0;
            state.left.contains(&id).then_some(())
        });
    }
}

impl Offered for FakeTopic {
    fn key(&self) -> &TopicKey {
        &self.key
    }

    fn join(&self, link: Arc<dyn OutLink>) -> Result<SubscriptionId, Error> {
        let listener: Weak<FakeListener> = Arc::downgrade(&self.listener);
        link.set_listener(listener);
        let id = SubscriptionId::next();
        self.scene.change(|state| state.links.push((id, link)));
        Ok(id)
    }

    fn leave(&self, id: SubscriptionId) {
        self.scene.change(|state| state.left.push(id));
    }
}

#[derive(Default)]
struct FakeListener {
    told: AtomicUsize,
}

impl Listener for FakeListener {
    fn came_back(&self) {
        self.told.fetch_add(1, SeqCst);
    }
}

/// What a subscription has.
#[derive(Default)]
struct Receiving {
    inlets: VecDeque<Box<dyn Inlet>>,
    /// The receiver was told that there is news.
    is_told: bool,
}

enum Got {
    Sample(Box<dyn Lease>, u64),
    LeaseLimit,
    Ended(String),
}

struct FakeSubscription {
    id: SubscriptionId,
    key: TopicKey,
    terms: Terms,
    scene: Scene<Receiving>,
    /// How often it was asked.
    asked: AtomicUsize,
}

impl FakeSubscription {
    fn new(key: TopicKey, capacity: usize, when_full: WhenFull, max_leases: usize) -> Arc<Self> {
        let terms = Terms {
            is_tap: false,
            capacity,
            when_full,
            max_leases,
        };
        Arc::new(Self {
            id: SubscriptionId::next(),
            key,
            terms,
            scene: Scene::default(),
            asked: AtomicUsize::new(0),
        })
    }

    /// What comes next; waits for it, woken only by looks. Links that have ended are forgotten.
    fn got(&self) -> Got {
        self.scene.wait("a sample", |state| {
            for _ in 0..state.inlets.len() {
                let mut inlet = state.inlets.pop_front()?;
                match inlet.take() {
                    Took::Sample { lease, gap } => {
                        state.inlets.push_back(inlet);
                        return Some(Got::Sample(lease, gap));
                    }
                    Took::Ended(why) => return Some(Got::Ended(text(why))),
                    Took::LeaseLimit => {
                        state.inlets.push_back(inlet);
                        state.is_told = false;
                        return Some(Got::LeaseLimit);
                    }
                    Took::Nothing => state.inlets.push_back(inlet),
                }
            }
            state.is_told = false;
            None
        })
    }

    fn sample(&self) -> (Box<dyn Lease>, u64) {
        match self.got() {
            Got::Sample(lease, gap) => (lease, gap),
            Got::LeaseLimit => panic!("a limit of leases"),
            Got::Ended(why) => panic!("the end: {why}"),
        }
    }

    fn end(&self) -> String {
        match self.got() {
            Got::Ended(why) => why,
            Got::LeaseLimit => panic!("a limit of leases"),
            Got::Sample(lease, _) => panic!("a sample: {:?}", lease.bytes()),
        }
    }

    fn inlets(&self, count: usize) {
        self.scene.wait("a link", |state| {
            (state.inlets.len() == count).then_some(())
        });
    }
}

impl Sought for FakeSubscription {
    fn id(&self) -> SubscriptionId {
        self.id
    }

    fn wants(&self, key: &TopicKey) -> Result<bool, Error> {
        self.asked.fetch_add(1, SeqCst);
        if key.id != self.key.id {
            return Ok(false);
        }
        if key.type_hash != self.key.type_hash {
            let (theirs, ours) = (&key.type_name, &self.key.type_name);
            let text = format!("the topic has type {theirs}, not {ours}");
            return Err(Error::new(ErrorKind::TypeConflict, text));
        }
        Ok(true)
    }

    fn terms(&self) -> Terms {
        self.terms
    }

    fn bell(&self) -> Option<LaneBell> {
        None
    }

    fn open(&self, _: &Remote, key: &TopicKey, inlet: Box<dyn Inlet>) -> bool {
        assert_eq!(*key, self.key);
        self.scene.change(|state| state.inlets.push_back(inlet));
        true
    }

    fn look(&self) -> bool {
        self.scene.change(|state| {
            let has_news = state.inlets.iter().any(|inlet| inlet.has_news());
            let is_new = has_news && !state.is_told;
            state.is_told |= has_news;
            is_new
        })
    }
}

fn stamp(sequence: u64) -> Stamp {
    Stamp {
        topic: TopicId::from_name("numbers"),
        publisher: 7,
        sequence,
        published: Instant::now(),
        has_parts: sequence % 2 == 1,
    }
}

fn filled(link: &Arc<dyn OutLink>, bytes: &[u8]) -> Arc<dyn Filled> {
    let mut loan = link.outlet().loan(bytes.len()).unwrap();
    assert_eq!(loan.bytes().len(), bytes.len());
    loan.bytes_mut().copy_from_slice(bytes);
    loan.freeze()
}

fn push(link: &Arc<dyn OutLink>, bytes: &[u8], stamp: &Stamp, guard: Guard) -> Carried {
    let filled = filled(link, bytes);
    assert_eq!(filled.bytes(), bytes);
    let carried = link.push(&filled, stamp, guard);
    link.ring();
    carried
}

/// Pushes a sample that must be queued.
fn publish(link: &Arc<dyn OutLink>, bytes: &[u8], sequence: u64) -> Stamp {
    let stamp = stamp(sequence);
    let carried = push(link, bytes, &stamp, Arc::new(()));
    assert!(matches!(carried, Carried::Queued { .. }), "{carried:?}");
    stamp
}

/// A topic of one node and a subscription of another, linked.
struct Pair {
    _base: tempfile::TempDir,
    a: Arc<Processes>,
    b: Arc<Processes>,
    topic: Arc<FakeTopic>,
    subscription: Arc<FakeSubscription>,
    link: Arc<dyn OutLink>,
}

fn pair(capacity: usize, when_full: WhenFull, max_leases: usize) -> Pair {
    pair_with(capacity, when_full, max_leases, |_| {})
}

fn pair_with(
    capacity: usize,
    when_full: WhenFull,
    max_leases: usize,
    change: impl FnOnce(&mut ProcessesOptions),
) -> Pair {
    let base = tempfile::tempdir().unwrap();
    let a = node_with(base.path(), change);
    let b = node(base.path());
    let topic = FakeTopic::new(key("numbers"));
    let subscription = FakeSubscription::new(key("numbers"), capacity, when_full, max_leases);
    a.offer(topic.clone());
    b.seek(subscription.clone());
    let link = topic.link(0);
    subscription.inlets(1);
    Pair {
        _base: base,
        a,
        b,
        topic,
        subscription,
        link,
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Woken {
    fn waker() -> (Arc<Self>, Waker) {
        let woken = Arc::new(Self::default());
        (woken.clone(), woken.into())
    }

    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

const SMALL: usize = 1000;
const LARGE: usize = 150_000;
/// Room for one large sample, or for many small ones.
const LARGE_BYTES: u64 = 200_000;

/// All memory goes into small samples, and comes back.
fn fill_with_small(link: &Arc<dyn OutLink>) {
    let outlet = link.outlet();
    let small: Vec<_> = std::iter::from_fn(|| outlet.loan(SMALL).ok()).collect();
    assert!(small.len() > 100);
}

/// Memory, waited for as a publisher does.
fn wait_for(link: &Arc<dyn OutLink>, bytes: usize) -> Box<dyn OutLoan> {
    let (woken, waker) = Woken::waker();
    loop {
        let before = woken.count();
        match link.outlet().poll_loan(bytes, &waker) {
            Ok(loan) => return loan,
            Err(LoanRefusal::Short) => until("the waker is woken", || woken.count() > before),
            Err(LoanRefusal::Never(error)) => panic!("{error}"),
        }
    }
}

fn is_short(link: &Arc<dyn OutLink>, bytes: usize) -> bool {
    match link.outlet().loan(bytes) {
        Ok(_) => false,
        Err(LoanRefusal::Short) => true,
        Err(LoanRefusal::Never(error)) => panic!("{error}"),
    }
}
