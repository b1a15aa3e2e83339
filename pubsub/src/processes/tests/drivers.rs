//! Subscriptions of processors: their own drivers sleep where peers ring, as long as there are bells.

use super::*;
use mproc_runtime::{Cx, DriverId, LaneSource, Outcome, Processor, Runtime};
use std::sync::mpsc::{Sender, channel};

/// A processor's subscription.
struct OfLane {
    fake: Arc<FakeSubscription>,
    lane: Mutex<Option<LaneBell>>,
}

impl Sought for OfLane {
    fn id(&self) -> SubscriptionId {
        self.fake.id
    }
    fn wants(&self, key: &TopicKey) -> Result<bool, Error> {
        self.fake.wants(key)
    }
    fn terms(&self) -> Terms {
        self.fake.terms
    }
    fn bell(&self) -> Option<LaneBell> {
        self.lane.lock().clone()
    }
    fn open(&self, from: &Remote, key: &TopicKey, inlet: Box<dyn Inlet>) -> bool {
        self.fake.open(from, key, inlet)
    }
    fn look(&self) -> bool {
        let has_news = self.fake.look();
        if has_news && let Some(lane) = self.bell() {
            lane.ring();
        }
        has_news
    }
}

struct Receiver {
    node: Arc<Processes>,
    tell: Sender<(DriverId, Vec<u8>)>,
}

struct Source(Arc<OfLane>, Arc<Processes>);

impl LaneSource<Receiver> for Source {
    fn serve(&mut self, receiver: &mut Receiver, _: &mut Cx<'_, Receiver>) -> bool {
        let took = self.0.fake.scene.change(|state| {
            for inlet in &mut state.inlets {
                if let Took::Sample { lease, .. } = inlet.take() {
                    return Some(lease.bytes().to_vec());
                }
            }
            state.is_told = false;
            None
        });
        if let (Some(bytes), Some(lane)) = (&took, self.0.bell()) {
            let _ = receiver.tell.send((lane.driver(), bytes.clone()));
        }
        took.is_some()
    }
    fn head(&self) -> Option<u64> {
        None
    }
    fn item_type(&self) -> fn() -> &'static str {
        std::any::type_name::<u64>
    }
    fn drain(&mut self) {}
    fn end(&mut self) {
        self.1.forget(self.0.fake.id);
        *self.0.lane.lock() = None;
    }
}

impl Processor for Receiver {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let node = self.node.clone();
        cx.add_lane(|bell| {
            let sought = Arc::new(OfLane {
                fake: FakeSubscription::new(key("numbers"), 4, WhenFull::Wait, 4),
                lane: Mutex::new(Some(bell)),
            });
            node.seek(sought.clone());
            Box::new(Source(sought, node))
        });
        Ok(())
    }
}

/// More drivers than bells: the last ones are woken by way of the bell thread.
#[test]
fn each_driver_is_woken_by_its_own_bell_or_by_the_thread_for_all() {
    const DRIVERS: usize = 17;
    let base = tempfile::tempdir().unwrap();
    let (a, b) = (node(base.path()), node(base.path()));
    let topic = FakeTopic::new(key("numbers"));
    a.offer(topic.clone());
    let runtime = Runtime::new().unwrap();
    let (tell, told) = channel();
    for n in 0..DRIVERS {
        let receiver = Receiver {
            node: b.clone(),
            tell: tell.clone(),
        };
        runtime
            .spawn_thread(&format!("receiver {n}"), receiver)
            .unwrap();
    }
    let links: Vec<_> = (0..DRIVERS).map(|n| topic.link(n)).collect();
    let homes = b
        .core
        .homes
        .lock()
        .values()
        .map(|home| home.index())
        .collect::<Vec<_>>();
    assert_eq!(homes.iter().filter(|index| **index == 0).count(), 3);
    for round in 0..50_u64 {
        let mut drivers = Vec::new();
        for (n, link) in links.iter().enumerate() {
            publish(link, &[n as u8], round);
            let (driver, bytes) = told.recv_timeout(LONG).unwrap();
            assert_eq!(bytes, [n as u8]);
            drivers.push(driver);
        }
        drivers.sort();
        drivers.dedup();
        assert_eq!(drivers.len(), DRIVERS);
    }
    let report = runtime.shutdown(LONG);
    assert!(report.left.is_empty(), "{report:?}");
    for n in 0..DRIVERS {
        topic.wait_until_left(n);
    }
    assert!(b.core.homes.lock().is_empty());
}
