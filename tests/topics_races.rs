//! Topics while things change under them: who joins, leaves, closes or holds on at an awkward moment.

use mproc::prelude::*;
use mproc::{
    Control, DropCause, ErrorKind, Fault, Msg, Options, Outcome, PublishError, PublisherOptions,
    RecvError, closure,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};

const NUMBERS: Topic<u32> = Topic::new("numbers");
const OTHERS: Topic<u32> = Topic::new("others");
const SECOND: Duration = Duration::from_secs(1);

fn options() -> SubscriptionOptions<u32> {
    SubscriptionOptions::new()
}

/// A node whose queues have their ordinary room whatever `MPROC_CAPACITY` says: for claims that need several places.
fn roomy(seed: u64) -> Node {
    Node::simulated_with(seed, Options::default())
}

fn subscription(node: &Node, capacity: usize) -> Subscription<u32> {
    let o = options().capacity(capacity);
    node.subscription_with(&NUMBERS, o).unwrap()
}

fn values(subscription: &Subscription<u32>) -> Vec<u32> {
    subscription.try_iter().map(|n| *n).collect()
}

/// Publishes what it is sent, and keeps the faults that it is told.
struct Pusher(Publisher<u32>, mpsc::Sender<String>);
struct Push(u32, Duration);
impl Processor for Pusher {
    fn on_error(&mut self, fault: Fault, _: &mut Cx<'_, Self>) {
        self.1.send(fault.to_string()).unwrap();
    }
}
impl Handle<Push> for Pusher {
    type Reply = ();
    fn handle(&mut self, Push(n, limit): Push, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.0.publish_timeout(n, limit)?;
        Ok(())
    }
}

fn pusher(node: &Node, p: &Publisher<u32>) -> (impl Fn(u32, Duration), mpsc::Receiver<String>) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("pusher-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let (tell, told) = mpsc::channel();
    let pusher = node.spawn_thread(&name, Pusher(p.clone(), tell)).unwrap();
    let node = node.clone();
    let push = move |n, limit| {
        pusher.send(Push(n, limit)).unwrap();
        node.settle();
    };
    (push, told)
}

// ---- who joins while a publish waits

/// A publish that waited took whoever joined to have the largest id. A connection brings older subscriptions: they were
/// passed over.
#[test]
fn an_older_subscription_that_joins_while_a_publish_waits_gets_the_value() {
    let node = Node::simulated(1);
    let older = node.subscription(&OTHERS).unwrap();
    let full = subscription(&node, 1);
    let p = node.publisher(&NUMBERS).unwrap();
    p.publish(1).unwrap();
    let (push, _faults) = pusher(&node, &p);
    push(2, SECOND);
    node.connect("numbers", "others").unwrap();
    assert_eq!(values(&full), [1]);
    node.settle();
    assert_eq!((values(&full), values(&older)), (vec![2], vec![2]));
}

#[test]
fn a_publish_gives_larger_places_back_while_it_waits_for_a_smaller_one() {
    const WIDE: Topic<u32> = Topic::new("wide/numbers");
    const WIDE_TOO: Topic<u32> = Topic::new("wide/others");
    let node = roomy(1);
    let one = || options().capacity(1);
    let smallest = node.subscription_with(&OTHERS, one()).unwrap();
    let middle = node.subscription_matching("wide/*", one()).unwrap();
    let largest = node.subscription_with(&WIDE, one()).unwrap();
    let others = node.publisher(&OTHERS).unwrap();
    others.publish(10).unwrap();
    let p = node.publisher(&WIDE).unwrap();
    p.publish(1).unwrap();
    assert_eq!(values(&middle), [1]);
    let (push, faults) = pusher(&node, &p);
    push(2, SECOND);
    // It holds the middle one's place and waits for the largest's.
    let too = node.publisher(&WIDE_TOO).unwrap();
    assert!(too.try_publish(20).is_err());
    node.connect("wide/numbers", "others").unwrap();
    assert_eq!(values(&largest), [1]);
    node.settle();
    // Now it waits for the smallest's, and holds nothing that others could wait for.
    too.try_publish(20).unwrap();
    assert_eq!((values(&smallest), values(&largest)), (vec![10], vec![]));
    node.settle();
    assert_eq!(values(&middle), [20]);
    node.settle();
    for s in [&smallest, &middle, &largest] {
        assert_eq!(values(s), [2]);
        let shot = s.snapshot();
        assert_eq!((shot.queued, shot.offered), (0, shot.taken));
    }
    // No place was lost on the way.
    p.try_publish(3).unwrap();
    assert!(faults.try_recv().is_err());
}

#[test]
fn a_subscription_that_is_disconnected_while_a_publish_waits_gets_its_place_back_and_no_value() {
    let node = Node::simulated(1);
    node.connect("numbers", "others").unwrap();
    let o = options().capacity(1);
    let connected = node.subscription_with(&OTHERS, o).unwrap();
    let full = subscription(&node, 1);
    let p = node.publisher(&NUMBERS).unwrap();
    p.publish(1).unwrap();
    assert_eq!(values(&connected), [1]);
    let (push, _faults) = pusher(&node, &p);
    push(2, SECOND);
    assert!(node.disconnect("numbers", "others"));
    assert_eq!(values(&full), [1]);
    node.settle();
    assert_eq!((values(&full), values(&connected)), (vec![2], vec![]));
    let others = node.publisher(&OTHERS).unwrap();
    others.try_publish(3).unwrap();
    assert_eq!(values(&connected), [3]);
}

// ---- the user's code and locks

/// The filter of a subscription that joins was asked about history under the locks of the topic and of the wiring.
#[test]
fn a_filter_is_asked_about_history_with_no_lock_held_and_misses_nothing_published_meanwhile() {
    let (tell, told) = mpsc::channel();
    // A filter that meets a held lock never returns, so it runs where nobody waits for it for ever.
    std::thread::spawn(move || {
        let node = Node::with_options(Options::default());
        let o = PublisherOptions::new().history(10);
        let p = Mutex::new(node.publisher_with(&NUMBERS, o).unwrap());
        (0..4).for_each(|n| drop(p.lock().unwrap().publish(n).unwrap()));
        let graph = node.clone();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let asks = asked.clone();
        let o = options().filter(move |n| {
            asks.lock().unwrap().push(*n);
            graph.subscription(&OTHERS).unwrap().unsubscribe();
            if *n < 2 {
                let publish = || p.lock().unwrap().publish(n + 4).map(drop);
                std::thread::scope(|scope| scope.spawn(publish).join().unwrap().unwrap());
            }
            assert_eq!(p.lock().unwrap().subscriber_count(), 0);
            n % 2 == 0
        });
        let s = node.subscription_with(&NUMBERS, o).unwrap();
        asked.lock().unwrap().sort_unstable();
        tell.send((values(&s), asked.lock().unwrap().clone()))
            .unwrap();
    });
    let (got, asked) = told.recv_timeout(SECOND * 20).expect("no deadlock");
    assert_eq!(got, [0, 2, 4]);
    assert_eq!(asked, [0, 1, 2, 3, 4, 5], "each is asked about once");
}

#[test]
fn a_subscription_whose_filter_panics_on_history_has_not_joined() {
    let node = Node::simulated(1);
    let o = PublisherOptions::new().history(1);
    let p = node.publisher_with(&NUMBERS, o).unwrap();
    p.publish(1).unwrap();
    let o = options().filter(|_| panic!("the filter fails"));
    let join = || node.subscription_with(&NUMBERS, o).map(drop);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(join)).is_err());
    assert_eq!(p.publish(2).unwrap().count, 0);
    let topics = node.snapshot().topics;
    assert!(topics.iter().all(|t| t.subscriptions.is_empty()));
}

/// The publisher of a value whose publish failed panicked if a filter had kept the message that it saw.
#[test]
fn a_filter_that_keeps_its_message_keeps_the_value_and_the_publisher_is_told() {
    const COUNT: Topic<u32> = Topic::with_id(TopicId::new(20, 1));
    struct Listener(Option<SubscriptionOptions<Msg>>);
    impl Processor for Listener {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            let options = self.0.take().unwrap();
            let control = cx.subscribe_mid(20).options(options).call(|_, _, _| Ok(()));
            control?.pause();
            Ok(())
        }
    }
    for history in [0, 1] {
        let node = Node::simulated(1);
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = kept.clone();
        let o = SubscriptionOptions::new()
            .capacity(1)
            .filter(move |m: &Msg| {
                keep.lock().unwrap().push(m.dup());
                true
            });
        node.spawn_thread("listener", Listener(Some(o))).unwrap();
        node.settle();
        let o = PublisherOptions::new().history(history);
        let p = node.publisher_with(&COUNT, o).unwrap();
        p.publish(1).unwrap();
        let error = p.try_publish(2).unwrap_err();
        let PublishError::Kept { error: why } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(why.kind(), ErrorKind::NotDelivered);
        let text = error.to_string();
        assert!(
            text.contains("listener") && text.contains("filter"),
            "{text}"
        );
        assert_eq!(error.into_inner(), None);
        let seen: Vec<u32> = kept
            .lock()
            .unwrap()
            .iter()
            .map(|m| *m.data.downcast_ref().unwrap())
            .collect();
        assert_eq!(seen, [1, 2]);
    }
}

// ---- ends of subscriptions

/// Two receivers wait, one sample is queued for the first, and the subscription is disconnected: the second was woken,
/// found the sample still there, and was never woken again.
#[test]
fn a_receiver_is_told_when_the_last_sample_of_a_closed_subscription_is_taken() {
    #[derive(Default)]
    struct Woken(AtomicUsize);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let node = Node::simulated(1);
    let o = options().capacity(1).when_full(WhenFull::Disconnect);
    let s = node.subscription_with(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    let woken = Arc::new(Woken::default());
    let (mut first, mut second) = (s.recv(), s.recv());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    let mut unwatched = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut first).poll(&mut unwatched).is_pending());
    assert!(Pin::new(&mut second).poll(&mut cx).is_pending());
    p.publish(1).unwrap();
    p.publish(2).unwrap(); // full: it is closed
    assert!(Pin::new(&mut second).poll(&mut cx).is_pending());
    let before = woken.0.load(Ordering::SeqCst);
    assert!(Pin::new(&mut first).poll(&mut unwatched).is_ready());
    assert!(woken.0.load(Ordering::SeqCst) > before);
    let Poll::Ready(Err(error)) = Pin::new(&mut second).poll(&mut cx) else {
        panic!("it is closed and empty");
    };
    assert_eq!(error, RecvError::Disconnected);
}

/// What was queued when a subscription was disconnected stayed queued after it was unsubscribed, with its leases.
#[test]
fn unsubscribing_gives_back_what_a_disconnected_subscription_was_still_to_read() {
    let node = Node::simulated(1);
    let o = options().capacity(2).when_full(WhenFull::Disconnect);
    let (tell, told) = mpsc::channel();
    let subscribe = closure(move |(): (), cx: &mut Cx<'_, _>| {
        let o = options().capacity(2).when_full(WhenFull::Disconnect);
        let subscribing = cx.subscribe(&NUMBERS).options(o);
        let control = subscribing.call(|_, _, _| Ok(()))?;
        control.pause();
        tell.send(control)?;
        Ok::<_, Fault>(())
    });
    let subscriber = node.spawn_thread("subscriber", subscribe).unwrap();
    subscriber.send(()).unwrap();
    node.settle();
    let control: Control = told.try_recv().unwrap();
    let pulled = node.subscription_with(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..2).for_each(|n| drop(p.publish(n).unwrap()));
    assert_eq!(p.publish(2).unwrap().refused.len(), 2);
    assert_eq!(p.snapshot().outstanding, 2);
    let first = pulled.try_recv().unwrap();
    let mut rest = pulled.recv(); // it keeps the queue, not what is in it
    drop((first, pulled));
    control.unsubscribe();
    let shot = control.snapshot().unwrap();
    assert_eq!(shot.dropped.by(DropCause::Unsubscribed), 2);
    assert_eq!((shot.queued, p.snapshot().outstanding), (0, 0));
    let mut cx = Context::from_waker(Waker::noop());
    let closed = Pin::new(&mut rest).poll(&mut cx);
    assert!(matches!(closed, Poll::Ready(Err(RecvError::Closed))));
}

/// A batch that was already taken from the queue was still delivered, and the callback lived as long as its processor.
#[test]
fn a_callback_that_unsubscribes_itself_is_not_called_again_and_is_dropped() {
    let node = roomy(1);
    let kept = Arc::new(());
    let mine = kept.clone();
    let mut script = node.script().unwrap().with((0, None::<Control>));
    let control = script.on(&NUMBERS, move |(calls, control), _, _| {
        let _ = &mine;
        *calls += 1;
        if let Some(control) = control {
            control.unsubscribe();
        }
    });
    let control = control.unwrap();
    script
        .state(|state| state.1 = Some(control.clone()))
        .unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..5).for_each(|n| drop(p.publish(n).unwrap()));
    script.spin_some(100).unwrap();
    assert_eq!(script.state(|state| state.0).unwrap(), 1);
    assert_eq!((Arc::strong_count(&kept), control.snapshot()), (1, None));
    assert_eq!(p.snapshot().outstanding, 0);
}

#[test]
fn the_rest_of_a_batch_is_given_back_when_its_subscription_ends() {
    let node = roomy(1);
    let calls = Arc::new(AtomicUsize::new(0));
    let control = Arc::new(OnceLock::<Control>::new());
    let (counted, ends) = (calls.clone(), control.clone());
    let subscribed = node.subscribe(&NUMBERS, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        ends.get().unwrap().unsubscribe();
    });
    let subscribed = subscribed.unwrap();
    control.set(subscribed.control().clone()).unwrap();
    // All five come in one batch.
    subscribed.control().pause();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..5).for_each(|n| drop(p.publish(n).unwrap()));
    subscribed.control().resume();
    node.settle();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    p.flush(Duration::ZERO).unwrap();
    assert_eq!(subscribed.control().snapshot(), None);
}

#[test]
fn a_paused_subscription_that_ends_leaves_nothing_in_its_processor() {
    let node = Node::simulated(1);
    let kept = Arc::new(());
    let (mine, also_mine) = (kept.clone(), kept.clone());
    let mut script = node.script().unwrap();
    let (tell, told) = mpsc::channel();
    let subscribe = closure(move |(): (), cx: &mut Cx<'_, _>| {
        let (mine, also_mine) = (mine.clone(), also_mine.clone());
        let silent = move || drop(also_mine.clone());
        let subscribing = cx.subscribe(&NUMBERS).silence(SECOND, silent);
        let control = subscribing.call(move |_, _, _| {
            let _ = &mine;
            Ok(())
        })?;
        control.pause();
        tell.send(control)?;
        Ok::<_, Fault>(())
    });
    let subscriber = script.spawn("subscriber", subscribe).unwrap();
    let before = Arc::strong_count(&kept);
    subscriber.send(()).unwrap();
    script.spin_some(10).unwrap();
    let control = told.try_recv().unwrap();
    assert_eq!(Arc::strong_count(&kept), before + 2);
    control.unsubscribe();
    script.spin_some(10).unwrap();
    // The watch over its silences goes with it.
    assert_eq!(Arc::strong_count(&kept), before);
    assert_eq!(script.spin_once(SECOND * 60).unwrap(), mproc::Spun::Idle);
}

/// The thread's processor went on, subscribed, with nobody to end it.
#[test]
fn a_subscriber_that_does_not_start_in_time_is_ended() {
    let o = Options::default().send_limit(Duration::ZERO);
    let node = Node::simulated_with(1, o);
    let error = node.subscribe(&NUMBERS, drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    node.settle();
    assert!(node.snapshot().processors.is_empty());
    let p = node.publisher(&NUMBERS).unwrap();
    assert_eq!(p.subscriber_count(), 0);
}

// ---- ends of publishers

/// A publish that was under way when its publisher was closed came after all, and its value stayed in history for ever.
#[test]
fn a_publisher_that_is_closed_during_a_publish_publishes_nothing_and_leaves_no_history() {
    let node = Node::simulated(1);
    let o = PublisherOptions::new().history(1);
    let p = node.publisher_with(&NUMBERS, o).unwrap();
    let closes = p.clone();
    let o = options().filter(move |_| {
        closes.close();
        true
    });
    let s = node.subscription_with(&NUMBERS, o).unwrap();
    assert!(matches!(p.publish(1), Err(PublishError::Closed(1))));
    assert_eq!(values(&s), []);
    assert_eq!(node.snapshot().topics[0].history, 0);
}

#[test]
fn a_publisher_that_is_closed_while_a_publish_waits_gives_the_places_back() {
    let node = Node::simulated(1);
    let full = subscription(&node, 1);
    let p = node.publisher(&NUMBERS).unwrap();
    let (closes, asked) = (p.clone(), AtomicUsize::new(0));
    let o = options().capacity(1).filter(move |n| {
        // First on the quick way; then when it has got the other's place.
        if *n == 2 && asked.fetch_add(1, Ordering::SeqCst) > 0 {
            closes.close();
        }
        *n > 1
    });
    let filtered = node.subscription_with(&NUMBERS, o).unwrap();
    p.publish(1).unwrap();
    let (push, faults) = pusher(&node, &p);
    push(2, SECOND * 60);
    assert_eq!(values(&full), [1]);
    node.settle();
    assert_eq!((values(&full), values(&filtered)), (vec![], vec![]));
    let fault = faults.try_recv().unwrap();
    assert!(fault.contains("closed"), "{fault}");
    let other = node.publisher(&NUMBERS).unwrap();
    other.try_publish(3).unwrap();
    assert_eq!((values(&full), values(&filtered)), (vec![3], vec![3]));
}

/// Only those who waited at the publisher's own gate were woken, and the fault named nobody: "no room at ".
#[test]
fn closing_a_publisher_ends_its_publishes_that_wait_whatever_for() {
    for waits_for in ["node", "publisher", "room", "in flight"] {
        let node = Node::simulated(1);
        let s = subscription(&node, 1);
        let o = PublisherOptions::new();
        let o = match waits_for {
            "in flight" => o.in_flight(1),
            _ => o,
        };
        let p = node.publisher_with(&NUMBERS, o).unwrap();
        let mut held = None;
        match waits_for {
            "node" => node.pause(),
            "publisher" => p.pause(),
            "room" => drop(p.publish(0).unwrap()),
            _ => {
                p.publish(0).unwrap();
                held = Some(s.try_recv().unwrap());
            }
        }
        let (push, faults) = pusher(&node, &p);
        push(1, SECOND * 60);
        assert!(faults.try_recv().is_err(), "{waits_for}");
        let before = node.now();
        p.close();
        node.settle();
        assert_eq!(node.now(), before);
        let letters = node.dead_letters().recent();
        assert_eq!(letters.len(), 1, "{waits_for}");
        assert_eq!(letters[0].cause, DropCause::TargetEnded);
        let fault = faults.try_recv().unwrap();
        assert!(
            fault.ends_with("\"numbers\": its publisher was closed"),
            "{fault}"
        );
        drop(held);
    }
}

#[test]
fn a_deferred_publish_that_waited_behind_another_says_so_when_it_is_given_up() {
    let node = Node::simulated(1);
    let _s = subscription(&node, 1);
    let p = node.publisher(&NUMBERS).unwrap();
    p.publish(0).unwrap();
    let (tell, told) = mpsc::channel();
    struct Twice(Publisher<u32>, mpsc::Sender<String>);
    impl Processor for Twice {
        fn started(&mut self, _: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0.publish_timeout(1, SECOND * 60)?;
            self.0.publish_timeout(2, SECOND)?;
            Ok(())
        }
        fn on_error(&mut self, fault: Fault, _: &mut Cx<'_, Self>) {
            self.1.send(fault.to_string()).unwrap();
        }
    }
    node.spawn_thread("twice", Twice(p, tell)).unwrap();
    node.advance(SECOND * 2);
    let fault = told.try_recv().unwrap();
    assert!(fault.contains("published before"), "{fault}");
}

// ---- leases

/// Each sample that was let go of rang a bell that was rung already, and the lane got two turns where others had one.
#[test]
fn a_lane_that_is_bound_in_its_leases_shares_its_turns_with_others() {
    let node = roomy(1);
    let mut script = node.script().unwrap().with(String::new());
    let one = options().max_leases(1);
    script
        .on_with(&NUMBERS, one, |turns, _, _| turns.push('n'))
        .unwrap();
    script.on(&OTHERS, |turns, _, _| turns.push('o')).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    let others = node.publisher(&OTHERS).unwrap();
    for n in 0..60 {
        numbers.publish(n).unwrap();
        others.publish(n).unwrap();
    }
    script.spin_some(60).unwrap();
    let turns = script.state(|turns| turns.clone()).unwrap();
    let of_others = turns.matches('o').count();
    assert!((29..=31).contains(&of_others), "{turns}");
}

#[test]
fn a_channel_bound_in_its_leases_lets_no_more_be_held() {
    let node = Node::simulated(1);
    let o = options().capacity(5).max_leases(2);
    let c = node.channel(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..2).for_each(|n| drop(p.try_publish(n).unwrap()));
    assert!(p.try_publish(2).is_err());
    let held: Vec<_> = c.try_iter().collect();
    assert_eq!(
        (held.len(), c.snapshot().held, c.snapshot().capacity),
        (2, 2, 2)
    );
    assert!(p.try_publish(2).is_err());
    drop(held);
    assert_eq!(c.snapshot().held, 0);
    p.try_publish(2).unwrap();
    assert_eq!(c.try_iter().map(|n| *n).collect::<Vec<_>>(), [2]);
}
