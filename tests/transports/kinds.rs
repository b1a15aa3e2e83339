//! Every kind of subscription receives from everywhere.

use super::*;
use mproc::{RecvError, TryRecvError, select};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};

const NUMBERS: Topic<u64> = Topic::new("numbers");
const OTHERS: Topic<u64> = Topic::new("others");

#[test]
fn a_closure_on_a_thread_of_its_own() {
    both(|pair| {
        let (tell, told) = channel();
        let subscriber = pair
            .subscribe
            .subscribe(&NUMBERS, move |n| tell.send(*n).unwrap())
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        for n in 0..200 {
            numbers.publish(n).unwrap();
        }
        let got: Vec<_> = (0..200).map(|_| told.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(got, (0..200).collect::<Vec<_>>());
        subscriber.unsubscribe();
    });
}

#[test]
fn a_channel() {
    both(|pair| {
        let channel = pair
            .subscribe
            .channel(&NUMBERS, options(4, WhenFull::Wait))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let publisher = std::thread::spawn(move || {
            for n in 0..300 {
                numbers.publish(n).unwrap();
            }
            numbers
        });
        for n in 0..300 {
            let sample = channel.recv_timeout(LONG).unwrap();
            assert_eq!((*sample, sample.number(), sample.gap()), (n, n, 0));
        }
        let numbers = publisher.join().unwrap();
        numbers.flush(LONG).unwrap();
        let snapshot = channel.snapshot();
        assert_eq!((snapshot.offered, snapshot.taken), (300, 300));
    });
}

#[test]
fn a_channel_that_loses_counts_exactly() {
    both(|pair| {
        let channel = pair
            .subscribe
            .channel(&NUMBERS, options(2, WhenFull::DropNewest))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let mut published = 0;
        while channel.len() < 2 || published < 20 {
            numbers.publish(published).unwrap();
            published += 1;
        }
        drop(channel.recv_timeout(LONG).unwrap());
        let mut last = None;
        let mut lost = 0;
        // What was published before the end arrives, or is in a gap.
        while last != Some(published - 1) {
            match channel.try_recv() {
                Ok(sample) => {
                    lost += sample.gap();
                    last = Some(*sample);
                    if *sample + 1 < published {
                        continue;
                    }
                }
                Err(_) => {
                    numbers.publish(published).unwrap();
                    published += 1;
                }
            }
        }
        let snapshot = channel.snapshot();
        assert_eq!(snapshot.taken + lost, published);
    });
}

#[test]
fn several_at_once() {
    both(|pair| {
        let a = pair.subscribe.subscription(&NUMBERS).unwrap();
        let b = pair.subscribe.subscription(&OTHERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let others = pair.publisher(&OTHERS, 1);
        let waits = std::thread::spawn(move || {
            let mut order = Vec::new();
            for _ in 0..2 {
                let at = select(&[&a, &b], None, LONG).unwrap();
                let subscription = [&a, &b][at];
                order.push((at, *subscription.try_recv().unwrap()));
            }
            order.sort();
            order
        });
        others.publish(2).unwrap();
        numbers.publish(1).unwrap();
        assert_eq!(waits.join().unwrap(), [(0, 1), (1, 2)]);
    });
}

#[test]
fn a_task_of_any_executor() {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    both(|pair| {
        let subscription = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let task = std::thread::spawn(move || {
            let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
            let mut got = Vec::new();
            while got.len() < 100 {
                let mut receives = Box::pin(async { subscription.recv().await });
                let sample = loop {
                    let mut context = Context::from_waker(&waker);
                    match receives.as_mut().poll(&mut context) {
                        Poll::Ready(sample) => break sample.unwrap(),
                        Poll::Pending => std::thread::park(),
                    }
                };
                got.push(*sample);
            }
            got
        });
        for n in 0..100 {
            numbers.publish(n).unwrap();
        }
        assert_eq!(task.join().unwrap(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn receivers_of_one_subscription_share_what_comes() {
    both(|pair| {
        let subscription = Arc::new(pair.subscribe.subscription(&NUMBERS).unwrap());
        let numbers = pair.publisher(&NUMBERS, 1);
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let subscription = subscription.clone();
                std::thread::spawn(move || {
                    let mut got = Vec::new();
                    loop {
                        match *recv(&subscription) {
                            u64::MAX => return got,
                            n => got.push(n),
                        }
                    }
                })
            })
            .collect();
        for n in 0..600 {
            numbers.publish(n).unwrap();
        }
        for _ in 0..3 {
            numbers.publish(u64::MAX).unwrap();
        }
        let mut all: Vec<_> = threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect();
        all.sort();
        assert_eq!(all, (0..600).collect::<Vec<_>>());
    });
}

#[test]
fn a_receive_that_is_given_up_loses_nothing() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        for n in 0..50 {
            assert_eq!(
                subscription.recv_timeout(Duration::ZERO).err(),
                Some(RecvError::Timeout)
            );
            drop(subscription.recv());
            numbers.publish(n).unwrap();
            assert_eq!(*recv(&subscription), n);
        }
        assert_eq!(subscription.try_recv().err(), Some(TryRecvError::Empty));
    });
}

#[test]
fn what_waits_before_an_iterator_is_there() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        for n in 0..10 {
            numbers.publish(n).unwrap();
        }
        let got: Vec<_> = subscription.iter().take(10).map(|n| *n).collect();
        assert_eq!(got, (0..10).collect::<Vec<_>>());
    });
}

/// The thread that moves what comes from other processes into the channel was thought to be at it for ever.
#[test]
fn a_channel_goes_on_after_a_filter_has_panicked() {
    let pair = Pair::between();
    let options = options(4, WhenFull::Wait).filter(|n: &u64| {
        assert!(!n.is_multiple_of(3), "a filter that panics");
        true
    });
    let channel = pair.subscribe.channel(&NUMBERS, options).unwrap();
    let numbers = pair.publisher(&NUMBERS, 1);
    for n in 1..50 {
        numbers.publish(n).unwrap();
        if n % 3 != 0 {
            assert_eq!(*channel.recv_timeout(LONG).unwrap(), n);
        }
    }
}
