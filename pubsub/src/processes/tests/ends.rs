//! Links, connections and nodes end.

use super::*;

#[test]
fn subscription_that_ends_leaves_the_topic_and_gives_back_what_was_queued() {
    let pair = pair(4, WhenFull::Wait, 4);
    let guard: Guard = Arc::new(());
    push(&pair.link, b"0", &stamp(0), guard.clone());
    push(&pair.link, b"1", &stamp(1), guard.clone());
    let (lease, _) = pair.subscription.sample();
    let told = pair.topic.listener.told.load(SeqCst);
    pair.b.forget(pair.subscription.id);
    pair.topic.wait_until_left(0);
    assert!(pair.topic.listener.told.load(SeqCst) > told);
    assert_eq!(Arc::strong_count(&guard), 2, "one is leased");
    assert_eq!(pair.link.queued(), 0);
    assert_eq!(
        push(&pair.link, b"2", &stamp(2), guard.clone()),
        Carried::Gone
    );
    assert_eq!(lease.bytes(), b"0");
    drop(lease);
    pair.link.sweep();
    assert_eq!(Arc::strong_count(&guard), 1);
    until("nothing is linked", || {
        pair.a.snapshot().links + pair.b.snapshot().links == 0
    });
}

#[test]
fn link_that_its_publisher_closes_is_drained_first() {
    let pair = pair(4, WhenFull::Wait, 4);
    publish(&pair.link, b"last", 0);
    pair.link.close();
    assert_eq!(
        push(&pair.link, b"more", &stamp(1), Arc::new(())),
        Carried::Gone
    );
    assert_eq!(pair.subscription.sample().0.bytes(), b"last");
    // Not before its subscriber has left.
    assert!(pair.topic.scene.change(|state| state.left.is_empty()));
    let why = pair.subscription.end();
    assert!(why.contains("the publisher has ended"), "{why}");
    until("nothing is linked", || {
        pair.a.snapshot().links + pair.b.snapshot().links == 0
    });
    pair.topic.wait_until_left(0);
}

#[test]
fn node_that_leaves_lets_others_take_what_it_queued() {
    let pair = pair(4, WhenFull::Wait, 4);
    publish(&pair.link, b"last", 0);
    let loan = pair.link.outlet().loan(8).unwrap();
    pair.a.close();
    assert_eq!(pair.subscription.sample().0.bytes(), b"last");
    pair.subscription.end();
    until("it has left", || pair.b.snapshot().peers == 0);
    assert_eq!(pair.b.snapshot().lost_connections, 0);
    assert_eq!(pair.b.publishers(TopicId::from_name("numbers")), 0);
    // What is left of it does nothing.
    drop(loan);
    let refused = pair.link.outlet().loan(8);
    assert!(matches!(refused, Err(LoanRefusal::Never(_))));
    assert_eq!(pair.link.queued(), 0);
    pair.link.watch(true);
    pair.link.sweep();
    pair.link.ring();
    pair.link.close();
    pair.a.offer(pair.topic.clone());
    pair.a.reconsider();
    pair.a.close();
}

#[test]
fn subscriber_that_leaves_is_no_subscriber_any_more() {
    let pair = pair(4, WhenFull::Wait, 4);
    publish(&pair.link, b"0", 0);
    let (lease, _) = pair.subscription.sample();
    pair.b.close();
    pair.topic.wait_until_left(0);
    assert_eq!(lease.bytes(), b"0");
    until("it has left", || pair.a.snapshot().peers == 0);
    assert_eq!(pair.a.snapshot().lost_connections, 0);
    let why = pair
        .subscription
        .scene
        .change(|state| match state.inlets[0].take() {
            Took::Ended(why) => text(why),
            _ => panic!("it has ended"),
        });
    assert!(why.contains("left its domain"), "{why}");
}

/// Each side sees the loss, by whichever end; what is leased stays leased, and new links are made.
#[test]
fn connection_that_was_lost_is_made_again_with_new_links() {
    let pair = pair(4, WhenFull::Wait, 4);
    publish(&pair.link, b"0", 0);
    publish(&pair.link, b"1", 1);
    let (lease, _) = pair.subscription.sample();
    let shut = |control: &mut crate::processes::control::Control| {
        control
            .peers
            .values()
            .for_each(|peer| peer.line.shut_down());
    };
    until("it is shut", || pair.a.core.with_control(shut).is_some());
    pair.topic.wait_until_left(0);
    let link = pair.topic.link(1);
    pair.subscription.inlets(2);
    publish(&link, b"2", 2);
    let mut ended = 0;
    loop {
        match pair.subscription.got() {
            // What the publisher took back when the link was over is not received.
            Got::Sample(lease, _) if lease.bytes() == b"2" => break,
            Got::Sample(lease, _) => assert_eq!(lease.bytes(), b"1"),
            Got::Ended(_) => ended += 1,
            Got::LeaseLimit => panic!("a limit"),
        }
    }
    if ended == 0 {
        pair.subscription.end();
    }
    assert_eq!(lease.bytes(), b"0");
    assert_eq!(pair.a.snapshot().lost_connections, 1);
    assert_eq!(pair.b.snapshot().lost_connections, 1);
}

#[test]
fn close_from_a_callback_of_the_watch_ends_the_node() {
    struct Closer {
        key: TopicKey,
        node: Weak<Processes>,
        scene: Scene<bool>,
    }
    impl Offered for Closer {
        fn key(&self) -> &TopicKey {
            &self.key
        }
        fn join(&self, _: Arc<dyn OutLink>) -> Result<SubscriptionId, Error> {
            self.node.upgrade().unwrap().close();
            self.scene.change(|closed| *closed = true);
            Err(Error::new(ErrorKind::Closed, "the node has ended"))
        }
        fn leave(&self, _: SubscriptionId) {}
    }
    let base = tempfile::tempdir().unwrap();
    let (a, b) = (node(base.path()), node(base.path()));
    let closer = Arc::new(Closer {
        key: key("numbers"),
        node: Arc::downgrade(&a),
        scene: Scene::default(),
    });
    a.offer(closer.clone());
    b.seek(FakeSubscription::new(key("numbers"), 4, WhenFull::Wait, 1));
    closer
        .scene
        .wait("the close", |closed| closed.then_some(()));
    until("it has left", || b.snapshot().peers == 0);
    assert_eq!(b.snapshot().lost_connections, 0);
}
