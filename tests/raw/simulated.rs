//! The same in worlds that a seed decides.

use super::*;
use mproc::{PublisherOptions, TopicId, TypeInfo};

const SEEDS: std::ops::Range<u64> = 0..40;

#[test]
fn whatever_the_order_a_tap_gets_what_typed_subscribers_get() {
    for seed in SEEDS {
        let node = Node::simulated_with(seed, Options::default());
        let options = || SubscriptionOptions::new().capacity(3);
        let tap = node.tap("robot/*", options()).unwrap();
        let counted = closure(|n: u32, cx: &mut Cx<'_, _>| {
            cx.publish(&Topic::<u32>::new("robot/count"), n)?;
            Ok::<_, mproc::Fault>(())
        });
        let counter = node.spawn("counter", counted).unwrap();
        for n in 0..10 {
            counter.send(n).unwrap();
        }
        // The topic is declared by the first publish: the tap was there before.
        for n in 0..10_u8 {
            let sample = tap.recv().wait().unwrap();
            let got = (sample.bytes(), sample.sequence(), sample.gap());
            assert_eq!(got, (&[n][..], u64::from(n), 0), "seed {seed}");
        }
    }
}

#[test]
fn the_same_seed_drops_the_same_samples() {
    let run = |seed: u64| {
        let node = Node::simulated_with(seed, Options::default());
        let options = SubscriptionOptions::new()
            .capacity(2)
            .when_full(WhenFull::DropOldest);
        let tap = node.tap("bytes", options).unwrap();
        let info = TypeInfo::serde("u8");
        let bytes = node
            .raw_publisher("bytes", &info, PublisherOptions::new())
            .unwrap();
        let publisher = closure(move |n: u8, _cx| bytes.publish(&[n], &[]).map(drop));
        let publisher = node.spawn("publisher", publisher).unwrap();
        let mut seen = Vec::new();
        for n in 0..50 {
            publisher.send(n).unwrap();
            if let Ok(sample) = tap.try_recv() {
                seen.push((sample.bytes()[0], sample.gap()));
            }
        }
        // The last one comes: it is what is kept.
        while seen.last().is_none_or(|(n, _)| *n != 49) {
            let sample = tap.recv().wait().unwrap();
            seen.push((sample.bytes()[0], sample.gap()));
        }
        let lost: u64 = seen.iter().map(|(_, gap)| gap).sum();
        assert_eq!(lost + seen.len() as u64, 50, "seed {seed}");
        seen
    };
    for seed in SEEDS {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// Hears topic 7:1 as messages, and says what bytes they carry.
struct Hears(std::sync::mpsc::Sender<Vec<u8>>);

impl Processor for Hears {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.subscribe_msgs(TopicId::new(7, 1)).call(|me, msg, _| {
            let raw = msg.data.sample::<Raw>().expect("a sample of its bytes");
            me.0.send(raw.bytes().to_vec())?;
            Ok(())
        })?;
        Ok(())
    }
}

#[test]
fn dynamic_messages_of_a_topic_known_by_its_bytes_carry_these() {
    for seed in SEEDS {
        let node = Node::simulated_with(seed, Options::default());
        let (tell, heard) = std::sync::mpsc::channel();
        let _hears = node.spawn("hears", Hears(tell)).unwrap();
        let info = TypeInfo::serde("u8");
        let options = PublisherOptions::new();
        let bytes = node.raw_publisher("7:1", &info, options).unwrap();
        bytes.wait_for_subscribers(1, LONG).unwrap();
        bytes.publish(&[9], &[]).unwrap();
        bytes.flush(LONG).unwrap();
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [[9]], "seed {seed}");
    }
}

#[test]
fn calls_with_bytes_find_circles_as_typed_ones_do() {
    for seed in SEEDS {
        let node = Node::simulated_with(seed, Options::default());
        let client = node.raw_client("own").unwrap();
        let serve = move |_: u32| {
            let own = client.call(vec![1]).wait();
            Ok(format!("{own:?}"))
        };
        let _server = node.serve("own", serve).unwrap();
        let typed = node.client::<u32, String>("own").unwrap();
        let said = typed.call(1).wait().unwrap();
        assert!(said.contains("Deadlock"), "seed {seed}: {said}");
    }
}
