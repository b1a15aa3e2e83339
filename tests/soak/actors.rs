//! What the processes of the soak do. None of them ends by itself, but the anchor when it is told.

use super::*;
use mproc::prelude::*;
use mproc::{DomainOptions, Error, PublisherOptions, RecvError};
use payload::Order;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

const FRAMES: Topic<[u8]> = Topic::slices("soak/frames");
const RELAYED: Topic<Vec<u8>> = Topic::new("soak/relayed");
const PULSE: Topic<[u8]> = Topic::slices("soak/pulse");

/// How long a publish waits for room.
const LIMIT: Duration = Duration::from_millis(50);

/// One process, as its threads see it.
#[derive(Clone)]
struct Acting {
    node: Node,
    counts: Arc<Counts>,
    /// Nobody else writes as this one.
    number: u64,
    seed: u64,
    stop: Arc<AtomicBool>,
}

fn node() -> Node {
    let base = env::var_os("SOAK_BASE").unwrap();
    let domain = DomainOptions::new("soak").unwrap().directory(base);
    // Little enough that it is short now and then.
    let domain = domain.topic_bytes(4 << 20);
    Node::builder()
        .options(mproc::Options::default())
        .domain_with(domain)
        .build()
        .unwrap()
}

pub(crate) fn act(role: &str) {
    let number = |name: &str| env::var(name).unwrap().parse::<u64>().unwrap();
    let acting = |node: Node| Acting {
        node,
        counts: Arc::new(Counts::create(env::var_os("SOAK_COUNTS").unwrap().as_ref())),
        number: number("SOAK_NUMBER"),
        seed: number("SOAK_SEED"),
        stop: Arc::default(),
    };
    match role {
        "source" => acting(node()).source(),
        "relay" => acting(node()).relay(),
        "sink" => acting(node()).sink(),
        "anchor" => anchor(acting),
        other => panic!("{other}"),
    }
}

/// What is wrong is said at once: the process may be killed next.
fn expect_good(what: Result<(), String>) {
    if let Err(error) = what {
        eprintln!("{error}");
    }
}

/// Samples of one subscription, checked when they come and again when they go.
struct Checked<T: ?Sized + 'static> {
    order: Order,
    held: VecDeque<Sample<T>>,
    hold: usize,
    policy: usize,
}

trait Bytes: Send + Sync + 'static {
    fn bytes(&self) -> &[u8];
}

impl Bytes for [u8] {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Bytes for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl<T: ?Sized + Bytes> Checked<T> {
    fn new(policy: usize, hold: usize) -> Self {
        Self {
            order: Order::default(),
            held: VecDeque::new(),
            hold,
            policy,
        }
    }

    fn note(&mut self, sample: Sample<T>, counts: &Counts) {
        let gap = sample.gap();
        counts.add(Count::Taken, self.policy, 1);
        if gap > 0 {
            counts.add(Count::Lost, self.policy, gap);
        }
        expect_good(
            payload::check(sample.bytes()).and_then(|(writer, sequence)| {
                self.order
                    .note(writer, sequence, gap)
                    .map_err(|error| format!("{error} ({:?})", WhenFull::ALL[self.policy]))
            }),
        );
        self.held.push_back(sample);
        if self.held.len() > self.hold {
            let oldest = self.held.pop_front().expect("there is one");
            expect_good(payload::check(oldest.bytes()).map(drop));
        }
    }
}

impl Acting {
    fn runs(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    /// Publishes on `topic` until the end, of every size.
    fn publish(&self, topic: &Topic<[u8]>) {
        let options = PublisherOptions::new().limit(LIMIT);
        let publisher = self.node.publisher_with(topic, options).unwrap();
        let mut random = Random(self.seed);
        let mut sequence = 0;
        while self.runs() {
            if publisher.subscriber_count() == 0 {
                let _nobody = publisher.wait_for_subscribers(1, LIMIT);
                continue;
            }
            let bytes = match random.below(64) {
                0 => 100_000 + random.below(300_000),
                1..8 => 1_000 + random.below(30_000),
                _ => payload::BYTES_MIN as u64 + random.below(500),
            };
            let published = publisher.loan(bytes as usize).and_then(|mut loan| {
                payload::fill(&mut loan, self.number, sequence);
                loan.publish().map_err(Error::from)
            });
            match published {
                Ok(delivered) => {
                    sequence += 1;
                    self.counts.add(Count::Published, 0, 1);
                    if topic.id() == PULSE.id() {
                        self.counts.add(Count::Queued, 0, delivered.count as u64);
                    }
                }
                Err(error) if error.kind() == mproc::ErrorKind::Timeout => {
                    self.counts.add(Count::HeldBack, 0, 1);
                }
                Err(error) => eprintln!("bad publish: {error}"),
            }
        }
        if let Err(error) = publisher.flush(LONG) {
            eprintln!("bad flush: {error}");
        }
    }

    /// Receives on `topic` until the end.
    fn receive<T: ?Sized + Bytes>(
        &self,
        topic: &Topic<T>,
        policy: usize,
        hold: usize,
        mut each: impl FnMut(&Sample<T>),
    ) {
        let when_full = WhenFull::ALL[policy];
        let subscribe = || {
            let options = SubscriptionOptions::new()
                .capacity(16)
                .when_full(when_full)
                .max_leases(hold + 2);
            self.node.subscription_with(topic, options).unwrap()
        };
        let mut subscription = subscribe();
        let mut checked = Checked::<T>::new(policy, hold);
        while self.runs() {
            match subscription.recv_timeout(LIMIT) {
                Ok(sample) => {
                    each(&sample);
                    checked.note(sample, &self.counts);
                }
                // What is held must not keep others from publishing for ever.
                Err(RecvError::Timeout) => checked.held.clear(),
                Err(RecvError::Disconnected) => {
                    // Another subscription begins anew.
                    checked.order = Order::default();
                    subscription = subscribe();
                }
                Err(closed) => return eprintln!("bad end: {closed}"),
            }
        }
    }

    fn spawn(&self, does: impl FnOnce(&Self) + Send + 'static) -> JoinHandle<()> {
        let acting = self.clone();
        thread::spawn(move || does(&acting))
    }

    fn source(self) {
        self.publish(&FRAMES);
    }

    fn relay(self) {
        let options = PublisherOptions::new().limit(LIMIT);
        let relayed = self.node.publisher_with(&RELAYED, options).unwrap();
        let mut sequence = 0;
        let policy = (self.number % 2) as usize;
        self.receive(&FRAMES, policy, 2, |frame| {
            let mut value = vec![0; frame.len().clamp(payload::BYTES_MIN, 3000)];
            payload::fill(&mut value, self.number, sequence);
            match relayed.publish(value) {
                Ok(_) => {
                    sequence += 1;
                    self.counts.add(Count::Published, 0, 1);
                }
                Err(mproc::PublishError::Timeout { .. }) => {
                    self.counts.add(Count::HeldBack, 0, 1);
                }
                Err(error) => eprintln!("bad publish: {error}"),
            }
        });
    }

    /// All three topics, each under another policy, and one of them by a handler.
    fn sink(self) {
        let mut random = Random(self.seed);
        let mut policy = || random.below(WhenFull::ALL.len() as u64) as usize;
        let [frames, relayed, pulse] = [policy(), policy(), policy()];
        let threads = [
            self.spawn(move |me| me.receive(&FRAMES, frames, 4, |_| ())),
            self.spawn(move |me| me.receive(&RELAYED, relayed, 1, |_| ())),
            self.spawn(move |me| me.pulses(pulse)),
        ];
        for thread in threads {
            thread.join().unwrap();
        }
    }

    fn pulses(&self, policy: usize) {
        let evicts = WhenFull::ALL[policy].evicts();
        let note = |counts: &Counts, sample: &Sample<[u8]>| {
            counts.add(Count::PulsesTaken, 0, 1);
            if evicts && sample.gap() > 0 {
                counts.add(Count::PulsesEvicted, 0, sample.gap());
            }
        };
        if self.number.is_multiple_of(2) {
            return self.receive(&PULSE, policy, 3, |sample| note(&self.counts, sample));
        }
        let counts = self.counts.clone();
        let mut checked = Checked::<[u8]>::new(0, 0);
        let handler = self.node.subscribe(&PULSE, move |sample| {
            counts.add(Count::PulsesTaken, 0, 1);
            checked.note(sample, &counts);
        });
        let _handler = handler.unwrap();
        while self.runs() {
            thread::park();
        }
    }
}

/// The one that lives.
fn anchor(acting: impl FnOnce(Node) -> Acting) {
    // What is made once for a process is there before.
    {
        let node = node();
        drop(node.publisher(&PULSE).unwrap());
        assert!(node.shutdown(LONG).is_clean());
    }
    let mut me = acting(Node::with_options(mproc::Options::default()));
    // Its file stays open.
    let _counts = me.counts.clone();
    // A node of a domain has threads and memory from when it is made.
    let before = counts_here();
    let node = node();
    me.node = node.clone();
    // The policies of the survivor's own subscriptions.
    let threads = [
        me.spawn(|me| me.publish(&PULSE)),
        me.spawn(|me| me.receive(&FRAMES, 0, 4, |_| ())),
        me.spawn(|me| me.receive(&FRAMES, 1, 8, |_| ())),
        me.spawn(|me| me.receive(&RELAYED, 2, 4, |_| ())),
        me.spawn(|me| me.receive(&RELAYED, 3, 0, |_| ())),
    ];
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    me.stop.store(true, Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    drop(me);
    assert!(node.shutdown(LONG).is_clean());
    let start = Instant::now();
    let is_more = |after: [usize; 3]| {
        after
            .iter()
            .zip(&before)
            .any(|(after, before)| after > before)
    };
    let mut after = counts_here();
    while is_more(after) && start.elapsed() < LONG {
        // A thread that was joined may be shown for a moment, also before.
        thread::yield_now();
        after = counts_here();
    }
    println!("anchor      descriptors, maps, threads: {before:?} before, {after:?} after");
    if !is_more(after) {
        println!("anchor      leaves nothing");
    }
}

/// Descriptors, maps that others may see, and threads of this process.
fn counts_here() -> [usize; 3] {
    let entries = |path: &str| fs::read_dir(path).unwrap().count();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let shared = maps.lines().filter(|line| line.contains("memfd:")).count();
    [entries("/proc/self/fd"), shared, entries("/proc/self/task")]
}
