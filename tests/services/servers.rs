//! Who may serve a name, and who is called.

use super::calls::{Add, gated};
use super::*;
use mproc::{ErrorKind, ServeOptions};

#[test]
fn a_second_server_is_refused_and_told_who_serves() {
    both(|pair| {
        let first = pair.serve.serve("one", |n: u32| Ok(n)).unwrap();
        let _client = pair.client::<u32, u32>("one", 1);
        let refused = pair.call.serve("one", |n: u32| Ok(n + 1)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NameTaken);
        let text = refused.to_string();
        let who = if pair.is_between() {
            "process "
        } else {
            "processor \"server-"
        };
        assert!(text.contains("\"one\"") && text.contains(who), "{text}");
        // Also if only one of them is shared.
        let shared = ServeOptions::new().shared();
        let refused = pair.call.serve_with("one", shared, |n: u32, _| Ok(n));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NameTaken);
        assert!(first.is_serving());
        first.unserve();
        until("it is free", || {
            pair.called("one").servers_elsewhere + pair.called("one").servers == 0
        });
        let _second = pair.call.serve("one", |n: u32| Ok(n + 1)).unwrap();
    });
}

#[test]
fn of_several_that_share_a_name_the_least_busy_is_called() {
    both(|pair| {
        let shared = || ServeOptions::new().shared();
        let a = gated(&pair.serve, "shared", shared());
        let b = gated(&pair.serve, "shared", shared());
        let client = pair.client::<u32, u32>("shared", 2);
        let first = begun(&client, 1);
        let second = begun(&client, 2);
        // Each has one, and the one that has answered gets the third.
        let at_a = a.begins.recv_timeout(LONG).unwrap();
        let at_b = b.begins.recv_timeout(LONG).unwrap();
        assert_eq!((at_a + at_b, at_a * at_b), (3, 2));
        b.go.send(()).unwrap();
        let (done, waits) = if at_b == 1 {
            (first, second)
        } else {
            (second, first)
        };
        assert_eq!(get(done), Ok(at_b + 1));
        let third = begun(&client, 3);
        assert_eq!(b.begins.recv_timeout(LONG), Ok(3));
        b.go.send(()).unwrap();
        a.go.send(()).unwrap();
        assert_eq!((get(waits), get(third)), (Ok(at_a + 1), Ok(4)));
        // One that goes leaves the other.
        drop((a.server, a.go));
        until("one is left", || client.server_count() == 1);
        b.go.send(()).unwrap();
        assert_eq!(get(client.call(4)), Ok(5));
    });
}

#[test]
fn another_type_is_refused_naming_both() {
    both(|pair| {
        let _server = pair.serve.serve("typed", |n: u32| Ok(n)).unwrap();
        let right = pair.client::<u32, u32>("typed", 1);
        assert_eq!(get(right.call(5)), Ok(5));
        let refused = pair.call.client::<Add, u32>("typed").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TypeConflict);
        let text = refused.to_string();
        assert!(
            text.contains("u32 -> u32") && text.contains("Add -> u32"),
            "{text}"
        );
        let refused = pair
            .call
            .serve("typed", |n: u32| Ok(n.to_string()))
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TypeConflict);
    });
}

#[test]
fn a_client_that_was_there_first_learns_of_another_type_when_it_calls() {
    let pair = Pair::between();
    let client = pair.call.client::<u32, String>("clash").unwrap();
    let _server = pair.serve.serve("clash", |n: u32| Ok(n)).unwrap();
    let waited = client.available().wait_timeout(LONG);
    let Err(ServiceError::TypeConflict(text)) = waited else {
        panic!("{waited:?}");
    };
    assert!(
        text.contains("u32 -> u32") && text.contains("u32 -> alloc::string::String"),
        "{text}"
    );
    assert!(matches!(
        client.call(1).wait(),
        Err(ServiceError::TypeConflict(_))
    ));
}

#[test]
fn names_are_checked_and_a_node_that_has_ended_serves_nothing() {
    let node = Node::with_options(Options::default());
    let refused = node.serve("", |n: u32| Ok(n)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidName);
    let own = node.serve("mproc/x", |n: u32| Ok(n)).unwrap_err();
    assert_eq!(own.kind(), ErrorKind::InvalidName);
    let own = node.client::<u32, u32>("mproc/task/x").unwrap_err();
    assert_eq!(own.kind(), ErrorKind::InvalidName);
    let client = node.client::<u32, u32>("x").unwrap();
    assert!(node.shutdown(LONG).is_clean());
    assert_eq!(client.call(1).wait(), Err(ServiceError::Closed));
    assert_eq!(
        node.client::<u32, u32>("x").unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(
        node.serve("x", |n: u32| Ok(n)).unwrap_err().kind(),
        ErrorKind::Closed
    );
}

#[test]
fn internal_links_are_no_topics() {
    let pair = Pair::between();
    let _server = pair.serve.serve("hidden", |n: u32| Ok(n)).unwrap();
    let client = pair.client::<u32, u32>("hidden", 1);
    assert_eq!(get(client.call(5)), Ok(5));
    assert_eq!(pair.call.snapshot().topics, []);
    let everything = pair
        .call
        .subscription_matching::<u32>("mproc/**", SubscriptionOptions::new());
    let everything = everything.unwrap();
    assert_eq!(get(client.call(6)), Ok(6));
    assert!(everything.try_recv().is_err());
}
