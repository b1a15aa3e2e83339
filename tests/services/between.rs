//! What only two nodes show.

use super::calls::{Gated, gated};
use super::*;
use mproc::{ErrorKind, MailboxOptions, ServeOptions};
use std::sync::mpsc::channel;

#[test]
fn values_of_every_size_come_and_those_for_which_there_is_no_memory_are_errors() {
    let directory = TempDir::new().unwrap();
    let small = |path: &Path| {
        let domain = DomainOptions::new("services").unwrap();
        let domain = domain.directory(path).topic_bytes(4 << 20);
        let builder = Node::builder().options(Options::default());
        builder.domain_with(domain).build().unwrap()
    };
    let (serve, call) = (small(directory.path()), small(directory.path()));
    let doubles = |text: String| Ok(text.clone() + &text);
    let _server = serve.serve("double", doubles).unwrap();
    let client = call.client::<String, String>("double").unwrap();
    client.wait_for_service(LONG).unwrap();
    for size in [0, 1, 1000, 100_000, 1_000_000, 5] {
        let reply = get(client.call("x".repeat(size))).unwrap();
        assert_eq!(reply.len(), 2 * size);
    }
    // The request fits and the reply does not; then neither does.
    for size in [3 << 20, 8 << 20] {
        let error = get(client.call("x".repeat(size))).unwrap_err();
        let ServiceError::NotSent(text) = &error else {
            panic!("{error:?}");
        };
        assert!(text.contains("shared memory"), "{text}");
        assert_eq!(mproc::Error::from(error).kind(), ErrorKind::Codec);
    }
    assert_eq!(get(client.call("ab".into())), Ok("abab".into()));
}

#[test]
fn the_end_of_a_servers_node_sends_what_was_answered_and_tells_the_rest() {
    let Pair {
        serve,
        call,
        directory: _directory,
    } = Pair::between();
    let gated = gated(&serve, "ends", ServeOptions::new());
    let client = call.client::<u32, u32>("ends").unwrap();
    client.wait_for_service(LONG).unwrap();
    let never = serve.serve_with("never", ServeOptions::new(), |(): (), cx| {
        cx.reply_later(|token: mproc::ReplyToken<u32>| std::mem::forget(token))
    });
    let promised = call.client::<(), u32>("never").unwrap();
    promised.wait_for_service(LONG).unwrap();
    let promised = begun(&promised, ());
    let running = begun(&client, 1);
    let queued = begun(&client, 2);
    assert_eq!(gated.begins.recv_timeout(LONG), Ok(1));
    until("all have come", || {
        snapshot(&serve, "ends").requests + snapshot(&serve, "never").requests == 3
    });
    let end = std::thread::spawn(move || serve.shutdown(LONG));
    gated.go.send(()).unwrap();
    gated.go.send(()).unwrap();
    assert!(end.join().unwrap().is_clean());
    // What was queued is handled before the end.
    assert_eq!((get(running), get(queued)), (Ok(2), Ok(3)));
    let gone = get(promised);
    assert!(matches!(gone, Err(ServiceError::Gone(_))), "{gone:?}");
    drop(never);
    until("nobody serves it", || client.server_count() == 0);
    drop(gated.server);
}

#[test]
fn the_end_of_a_callers_node_cancels_its_requests() {
    let Pair {
        serve,
        call,
        directory: _directory,
    } = Pair::between();
    let gated = gated(&serve, "left", ServeOptions::new());
    let client = call.client::<u32, u32>("left").unwrap();
    client.wait_for_service(LONG).unwrap();
    let waiting = begun(&client, 1);
    let queued = begun(&client, 2);
    assert_eq!(gated.begins.recv_timeout(LONG), Ok(1));
    until("the second is queued", || {
        snapshot(&serve, "left").requests == 2
    });
    assert!(call.shutdown(LONG).is_clean());
    // Its own waits end, too.
    assert_eq!(get(waiting), Err(ServiceError::Closed));
    assert_eq!(get(queued), Err(ServiceError::Closed));
    until("both are cancelled", || {
        snapshot(&serve, "left").requests_cancelled == 2
    });
    gated.go.send(()).unwrap();
    let own = serve.client::<u32, u32>("left").unwrap();
    gated.go.send(()).unwrap();
    assert_eq!(get(own.call(9)), Ok(10));
    assert_eq!(
        gated.begins.recv_timeout(LONG),
        Ok(9),
        "the second was never handled"
    );
    let served = snapshot(&serve, "left");
    assert_eq!((served.requests, served.replies), (2, 0));
}

#[test]
fn of_two_servers_that_were_made_before_their_nodes_had_met_the_older_stays() {
    let directory = TempDir::new().unwrap();
    let older = node_in(directory.path());
    let first = older
        .serve("claimed", |_: ()| Ok("older".to_owned()))
        .unwrap();
    // The subject: which one is older. What is made within a millisecond counts as equally old.
    std::thread::sleep(Duration::from_millis(3));
    let younger = node_in(directory.path());
    // Likely, but not surely, before the two have met: then it is refused at once, which is as good.
    let second = younger.serve("claimed", |_: ()| Ok("younger".to_owned()));
    let client = younger.client::<(), String>("claimed").unwrap();
    if let Ok(second) = &second {
        until("the younger made way", || !second.is_serving());
    }
    client.wait_for_service(LONG).unwrap();
    assert_eq!(get(client.call(())), Ok("older".into()));
    assert!(first.is_serving());
    let third = node_in(directory.path());
    let client = third.client::<(), String>("claimed").unwrap();
    client.wait_for_service(LONG).unwrap();
    assert_eq!(get(client.call(())), Ok("older".into()));
}

#[test]
fn servers_of_one_name_in_several_nodes_share_the_calls() {
    let pair = Pair::between();
    let shared = || ServeOptions::new().shared();
    let here = gated(&pair.call, "spread", shared());
    let there = gated(&pair.serve, "spread", shared());
    let client = pair.client::<u32, u32>("spread", 2);
    let calls = [begun(&client, 1), begun(&client, 2)];
    assert!(here.begins.recv_timeout(LONG).is_ok() && there.begins.recv_timeout(LONG).is_ok());
    here.go.send(()).unwrap();
    there.go.send(()).unwrap();
    let replies: Vec<_> = calls.into_iter().map(|call| get(call).unwrap()).collect();
    assert_eq!(replies, [2, 3]);
}

#[test]
fn many_callers_on_many_threads_get_each_their_own_replies() {
    let pair = Pair::between();
    let _server = pair.serve.serve("echo", |n: u64| Ok(n)).unwrap();
    let client = pair.client::<u64, u64>("echo", 1);
    let (told, done) = channel();
    for thread in 0..4_u64 {
        let (client, told) = (client.clone(), told.clone());
        std::thread::spawn(move || {
            let mut sum = 0;
            for round in 0..50 {
                let first = thread * 10_000 + round * 100;
                let mut calls: Vec<_> = (first..first + 100).map(|n| client.call(n)).collect();
                calls.iter_mut().for_each(|call| call.begin());
                for (n, call) in (first..).zip(calls) {
                    assert_eq!(get(call), Ok(n));
                    sum += 1;
                }
            }
            told.send(sum).unwrap();
        });
    }
    drop(told);
    assert_eq!(done.iter().sum::<u64>(), 4 * 50 * 100);
    let called = pair.called("echo");
    assert_eq!((called.calls, called.answered), (20_000, 20_000));
}

// Who stood in line for a server that was taken out asked it again, stood in a line that nobody serves any more, and heard
// nothing until its limit.
#[test]
fn whoever_stands_in_line_for_a_server_that_ends_goes_to_another_or_is_told() {
    let pair = Pair::between();
    let shared = || {
        let mailbox = MailboxOptions::bounded(1);
        ServeOptions::new().shared().mailbox(mailbox)
    };
    let first = gated(&pair.serve, "leaves", shared());
    let client = pair.client::<u32, u32>("leaves", 1);
    // One runs, one is queued, 64 are on their way: more than that stand in line at the caller.
    let calls: Vec<_> = (0..80).map(|n| client.call(n).start()).collect();
    assert_eq!(first.begins.recv_timeout(LONG), Ok(0));
    // What is on its way is there: else it would be refused, which leaves room in the line.
    until("the window is full", || {
        pair.served("leaves").requests >= 64
    });
    let Gated { server, go, .. } = first;
    let served = server.detach();
    assert!(served.unserve());
    until("it is not served", || client.server_count() == 0);
    let long = std::time::Instant::now() + LONG;
    let mut told = 0;
    let mut calls = calls;
    for call in calls.drain(70..) {
        let left = long.saturating_duration_since(std::time::Instant::now());
        let mut call = call;
        let error = call.wait_timeout(left).unwrap_err();
        assert_eq!(error, ServiceError::NoServer);
        told += 1;
    }
    assert_eq!(told, 10);
    drop(go);
    drop(calls);
}
