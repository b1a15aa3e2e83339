//! Publishers wait for room, for leases and for memory; subscribers for leases.

use super::*;

#[test]
fn listener_is_told_of_room_while_it_watches() {
    let pair = pair(2, WhenFull::Wait, 4);
    let listener = &pair.topic.listener;
    let told = || listener.told.load(SeqCst);
    for round in 0..200 {
        publish(&pair.link, b"0", 0);
        publish(&pair.link, b"1", 1);
        assert_eq!(
            push(&pair.link, b"2", &stamp(2), Arc::new(())),
            Carried::Full
        );
        pair.link.watch(true);
        assert_eq!(
            push(&pair.link, b"2", &stamp(2), Arc::new(())),
            Carried::Full
        );
        let before = told();
        let (lease, _) = pair.subscription.sample();
        until("it is told", || told() > before);
        let before = told();
        drop(lease);
        until("it is told of the lease", || told() > before);
        pair.link.watch(false);
        publish(&pair.link, b"2", round);
        for _ in 0..2 {
            pair.subscription.sample();
        }
    }
}

#[test]
fn guard_is_kept_until_the_lease_ends() {
    let pair = pair(2, WhenFull::Wait, 4);
    let guard: Guard = Arc::new(());
    push(&pair.link, b"0", &stamp(0), guard.clone());
    let (lease, _) = pair.subscription.sample();
    pair.link.sweep();
    assert_eq!(Arc::strong_count(&guard), 2);
    pair.link.watch(true);
    drop(lease);
    until("the bell thread has let go of it", || {
        Arc::strong_count(&guard) == 1
    });
}

#[test]
fn subscription_at_its_limit_of_leases_is_looked_at_when_one_ends() {
    let pair = pair(4, WhenFull::Wait, 1);
    for n in 0..50 {
        publish(&pair.link, b"first", n);
        publish(&pair.link, b"second", n);
        let (first, _) = pair.subscription.sample();
        assert!(matches!(pair.subscription.got(), Got::LeaseLimit));
        let subscription = pair.subscription.clone();
        let waiting = std::thread::spawn(move || {
            loop {
                match subscription.got() {
                    Got::Sample(lease, _) => return lease.bytes().to_vec(),
                    Got::LeaseLimit => std::thread::yield_now(),
                    Got::Ended(why) => panic!("{why}"),
                }
            }
        });
        drop(first);
        assert_eq!(waiting.join().unwrap(), b"second");
    }
}

/// All memory of a small topic.
fn all(link: &Arc<dyn OutLink>) -> Vec<Box<dyn OutLoan>> {
    let mut loans = Vec::new();
    loop {
        match link.outlet().loan(16_000) {
            Ok(loan) => loans.push(loan),
            Err(LoanRefusal::Short) => return loans,
            Err(LoanRefusal::Never(error)) => panic!("{error}"),
        }
    }
}

#[test]
fn who_waits_for_memory_is_woken_when_some_comes_back() {
    let pair = pair_with(64, WhenFull::Wait, 64, |options| {
        options.bytes_max = 200_000
    });
    let mut loans = all(&pair.link);
    assert!(!loans.is_empty());
    // In this process.
    let (woken, waker) = Woken::waker();
    let short = pair.link.outlet().poll_loan(16_000, &waker);
    assert!(matches!(short, Err(LoanRefusal::Short)));
    loans.pop();
    until("the waker is woken", || woken.count() == 1);
    let loan = pair.link.outlet().poll_loan(16_000, &waker);
    assert!(loan.is_ok());
    drop(loan);
    // From the other.
    drop(loans);
    let mut queued = 0;
    while let Ok(mut loan) = pair.link.outlet().loan(16_000) {
        loan.bytes_mut().fill(1);
        let carried = pair.link.push(&loan.freeze(), &stamp(0), Arc::new(()));
        assert_eq!(carried, Carried::Queued { evicted: false });
        queued += 1;
    }
    pair.link.ring();
    let leases: Vec<_> = (0..queued).map(|_| pair.subscription.sample().0).collect();
    let (woken, waker) = Woken::waker();
    let short = pair.link.outlet().poll_loan(16_000, &waker);
    assert!(matches!(short, Err(LoanRefusal::Short)));
    drop(leases);
    until("the waker is woken", || woken.count() == 1);
    assert!(pair.link.outlet().poll_loan(16_000, &waker).is_ok());
}

#[test]
fn memory_comes_back_from_a_subscription_that_has_left() {
    let pair = pair_with(64, WhenFull::Wait, 64, |options| {
        options.bytes_max = 200_000
    });
    let keeper = FakeSubscription::new(key("numbers"), 4, WhenFull::Wait, 1);
    pair.b.seek(keeper.clone());
    pair.topic.link(1);
    let count = all(&pair.link).len();
    for n in 0..count {
        publish(&pair.link, &[7; 16_000], n as u64);
    }
    let leases: Vec<_> = (0..count).map(|_| pair.subscription.sample().0).collect();
    pair.b.forget(pair.subscription.id);
    pair.subscription.scene.change(|state| state.inlets.clear());
    pair.topic.wait_until_left(0);
    let (woken, waker) = Woken::waker();
    let short = pair.link.outlet().poll_loan(16_000, &waker);
    assert!(matches!(short, Err(LoanRefusal::Short)));
    assert_eq!(leases[0].bytes(), [7; 16_000]);
    drop(leases);
    until("the waker is woken", || woken.count() >= 1);
    assert!(pair.link.outlet().poll_loan(16_000, &waker).is_ok());
}

#[test]
fn too_large_a_sample_is_never() {
    let pair = pair_with(4, WhenFull::Wait, 4, |options| options.bytes_max = 200_000);
    match pair.link.outlet().loan(1 << 20) {
        Err(LoanRefusal::Never(error)) => {
            let text = error.to_string();
            assert!(
                text.contains("1048576 bytes") && text.contains("200000"),
                "{text}"
            );
        }
        Err(LoanRefusal::Short) => panic!("no waiting helps"),
        Ok(_) => panic!("there is no room"),
    }
}

/// The control answers, whatever the receivers do.
#[test]
fn memory_of_other_sizes_comes_back_from_receivers_that_do_not_look() {
    let pair = pair_with(64, WhenFull::Wait, 1, |options| {
        options.bytes_max = LARGE_BYTES
    });
    fill_with_small(&pair.link);
    let other = FakeSubscription::new(key("numbers"), 64, WhenFull::Wait, 1);
    pair.b.seek(other.clone());
    let links = [pair.link.clone(), pair.topic.link(1)];
    other.inlets(1);
    for round in 0..20 {
        let mut loan = wait_for(&pair.link, LARGE);
        loan.bytes_mut().fill(round as u8);
        let large = loan.freeze();
        for link in &links {
            let carried = link.push(&large, &stamp(round), Arc::new(()));
            assert_eq!(carried, Carried::Queued { evicted: false });
            link.ring();
        }
        drop(large);
        for subscription in [&pair.subscription, &other] {
            let (lease, gap) = subscription.sample();
            assert_eq!((lease.bytes(), gap), (&[round as u8; LARGE][..], 0));
        }
        // And small ones again, which lie in other memory under the same numbers.
        links.iter().for_each(|link| link.sweep());
        let mut loan = wait_for(&pair.link, SMALL);
        loan.bytes_mut().fill(!round as u8);
        let small = loan.freeze();
        let carried = links[0].push(&small, &stamp(round), Arc::new(()));
        assert_eq!(carried, Carried::Queued { evicted: false });
        links[0].ring();
        drop(small);
        let (lease, _) = pair.subscription.sample();
        assert_eq!(lease.bytes(), [!round as u8; SMALL]);
    }
}
