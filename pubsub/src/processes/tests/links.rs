//! Links are made, refused, and carry samples.

use super::*;

#[test]
fn samples_go_through_in_whatever_order_the_nodes_start() {
    for publisher_first in [true, false] {
        let base = tempfile::tempdir().unwrap();
        let topic = FakeTopic::new(key("numbers"));
        let subscription = FakeSubscription::new(key("numbers"), 8, WhenFull::Wait, 4);
        let (a, b);
        if publisher_first {
            a = node(base.path());
            a.offer(topic.clone());
            b = node(base.path());
            b.seek(subscription.clone());
        } else {
            b = node(base.path());
            b.seek(subscription.clone());
            a = node(base.path());
            a.offer(topic.clone());
        }
        let link = topic.link(0);
        assert_eq!((link.capacity(), link.when_full()), (8, WhenFull::Wait));
        assert_eq!(
            link.remote().label,
            format!("process {}", std::process::id())
        );
        let sent: Vec<_> = (0..5)
            .map(|n: u64| publish(&link, &n.to_le_bytes(), n))
            .collect();
        for (n, sent) in sent.iter().enumerate() {
            let (lease, gap) = subscription.sample();
            assert_eq!(lease.bytes(), (n as u64).to_le_bytes());
            // Each node has compared the clocks for itself.
            let came = *lease.stamp();
            let before = came.published.saturating_duration_since(sent.published);
            let after = sent.published.saturating_duration_since(came.published);
            assert!(before + after < Duration::from_millis(100));
            let came = Stamp {
                published: sent.published,
                ..came
            };
            assert_eq!((&came, gap), (sent, 0));
        }
        assert_eq!(b.publishers(TopicId::from_name("numbers")), 1);
        assert_eq!(a.publishers(TopicId::from_name("numbers")), 0);
        until("both count it", || {
            [&a, &b].iter().all(|node| {
                let counts = node.snapshot();
                (counts.peers, counts.links) == (1, 1)
            })
        });
        a.withdraw(TopicId::from_name("numbers"));
        until("the topic is withdrawn", || {
            b.publishers(TopicId::from_name("numbers")) == 0
        });
        // The link stays.
        publish(&link, b"more", 5);
        assert_eq!(subscription.sample().0.bytes(), b"more");
    }
}

#[test]
fn sample_in_a_segment_that_came_later_is_received() {
    let pair = pair(64, WhenFull::Wait, 64);
    let mut held = Vec::new();
    for (n, bytes) in [1, 100, 5_000, 70_000, 1 << 20, 3, 300_000]
        .into_iter()
        .enumerate()
    {
        for _ in 0..3 {
            let payload = vec![n as u8; bytes];
            publish(&pair.link, &payload, n as u64);
            let (lease, _) = pair.subscription.sample();
            assert!(lease.bytes() == payload, "{bytes} bytes");
            held.push(lease);
        }
    }
}

#[test]
fn each_policy_does_what_it_says_when_the_queue_is_full() {
    for (when_full, expected) in [
        (WhenFull::Wait, Carried::Full),
        (WhenFull::DropOldest, Carried::Queued { evicted: true }),
        (WhenFull::DropNewest, Carried::Dropped),
        (WhenFull::Fail, Carried::Refused),
        (WhenFull::Disconnect, Carried::Overflowed),
    ] {
        let pair = pair(2, when_full, 1);
        // Nobody takes: the receiver is this thread.
        publish(&pair.link, b"0", 0);
        publish(&pair.link, b"1", 1);
        assert_eq!(pair.link.queued(), 2);
        let inlets = |state: &mut Receiving| state.inlets[0].queued();
        assert_eq!(pair.subscription.scene.change(inlets), 2);
        let guard: Guard = Arc::new(());
        let carried = push(&pair.link, b"2", &stamp(2), guard.clone());
        assert_eq!(carried, expected);
        let is_kept = Arc::strong_count(&guard) == 2;
        assert_eq!(is_kept, when_full == WhenFull::DropOldest);
        let (lease, gap) = pair.subscription.sample();
        if when_full == WhenFull::DropOldest {
            assert_eq!((lease.bytes(), gap), (&b"1"[..], 1));
        } else {
            assert_eq!((lease.bytes(), gap), (&b"0"[..], 0));
        }
        drop(lease);
        drop(pair.subscription.sample());
        if when_full == WhenFull::Disconnect {
            let why = pair.subscription.end();
            assert!(why.contains("the queue was full"), "{why}");
            pair.topic.wait_until_left(0);
            assert_eq!(push(&pair.link, b"3", &stamp(3), guard), Carried::Gone);
        }
    }
}

#[test]
fn latest_is_a_queue_of_one() {
    let pair = pair(5, WhenFull::Latest, 1);
    assert_eq!(pair.link.capacity(), 1);
    publish(&pair.link, b"0", 0);
    publish(&pair.link, b"1", 1);
    assert_eq!(pair.subscription.sample().0.bytes(), b"1");
}

#[test]
fn loan_can_be_truncated_and_filled_memory_thawed_until_it_is_queued() {
    let pair = pair(4, WhenFull::Wait, 1);
    let mut loan = pair.link.outlet().loan(100).unwrap();
    loan.truncate(3);
    loan.bytes_mut().copy_from_slice(b"abc");
    let filled = loan.freeze();
    let second = Arc::clone(&filled);
    let filled = filled.thaw().err().expect("another has it");
    drop(second);
    let mut loan = filled.thaw().ok().expect("nobody else has it");
    loan.bytes_mut()[0] = b'x';
    let filled = loan.freeze();
    let queued = pair.link.push(&filled, &stamp(0), Arc::new(()));
    assert_eq!(queued, Carried::Queued { evicted: false });
    assert!(filled.thaw().is_err());
    pair.link.ring();
    assert_eq!(pair.subscription.sample().0.bytes(), b"xbc");
}

#[test]
fn one_filled_slot_goes_to_two_subscriptions() {
    let pair = pair(4, WhenFull::Wait, 1);
    let second = FakeSubscription::new(key("numbers"), 4, WhenFull::DropOldest, 1);
    pair.b.seek(second.clone());
    let link = pair.topic.link(1);
    assert!(Arc::ptr_eq(link.outlet(), pair.link.outlet()));
    let filled = filled(&link, b"both");
    for link in [&link, &pair.link] {
        let queued = link.push(&filled, &stamp(0), Arc::new(()));
        assert_eq!(queued, Carried::Queued { evicted: false });
        link.ring();
    }
    assert_eq!(second.sample().0.bytes(), b"both");
    assert_eq!(pair.subscription.sample().0.bytes(), b"both");
}

#[test]
fn memory_of_another_topic_is_copied() {
    let pair = pair(4, WhenFull::Wait, 1);
    let other = FakeTopic::new(key("other"));
    let subscription = FakeSubscription::new(key("other"), 4, WhenFull::Wait, 1);
    pair.a.offer(other.clone());
    pair.b.seek(subscription.clone());
    let link = other.link(0);
    let filled = filled(&link, b"lent elsewhere");
    let queued = pair.link.push(&filled, &stamp(0), Arc::new(()));
    assert_eq!(queued, Carried::Queued { evicted: false });
    pair.link.ring();
    assert_eq!(pair.subscription.sample().0.bytes(), b"lent elsewhere");
}

#[test]
fn type_that_does_not_fit_is_told_once_and_not_linked() {
    let base = tempfile::tempdir().unwrap();
    let (a, b) = (node(base.path()), node(base.path()));
    let mut other = key("numbers");
    other.type_hash = 65;
    let subscription = FakeSubscription::new(other, 4, WhenFull::Wait, 1);
    b.seek(subscription.clone());
    a.offer(FakeTopic::new(key("numbers")));
    until("it is refused", || b.snapshot().refused == 1);
    b.reconsider();
    until("it is asked again", || subscription.asked.load(SeqCst) == 2);
    // What comes after is seen after.
    let last = FakeSubscription::new(key("other"), 4, WhenFull::Wait, 1);
    b.seek(last.clone());
    a.offer(FakeTopic::new(key("other")));
    last.inlets(1);
    until("it is counted", || b.snapshot().links == 1);
    assert_eq!(b.snapshot().refused, 1);
}

#[test]
fn queue_without_a_place_is_refused_by_the_publisher() {
    let base = tempfile::tempdir().unwrap();
    let (a, b) = (node(base.path()), node(base.path()));
    let none = FakeSubscription::new(key("numbers"), 0, WhenFull::Wait, 1);
    b.seek(none);
    a.offer(FakeTopic::new(key("numbers")));
    until("it is refused", || b.snapshot().refused == 1);
    assert_eq!(a.snapshot().links, 0);
}

#[test]
fn settings_that_cannot_be_used_are_refused_with_what_to_do() {
    let base = tempfile::tempdir().unwrap();
    let join = |change: &dyn Fn(&mut ProcessesOptions)| {
        let mut options = ProcessesOptions {
            base: Some(base.path().into()),
            domain: Some("lab".into()),
            ..ProcessesOptions::default()
        };
        change(&mut options);
        Processes::join(options, nobody()).unwrap_err()
    };
    let error = join(&|options| options.slots_max = 0);
    assert_eq!(error.kind(), ErrorKind::InvalidSetting);
    let error = join(&|options| options.domain = Some("../etc".into()));
    assert_eq!(error.to_string(), r#"domain "../etc" starts with a dot"#);
    let file = base.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = join(&|options| options.base = Some(file.clone()));
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        text.contains("domain lab") && text.contains("file") && text.contains("not a directory"),
        "{text}"
    );
}
