//! Futures that look for a tokio runtime around them.

use crate::support::*;
use mproc::prelude::*;
use mproc::{CallError, Options};
use std::io::{Read as _, Write as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn inside(tokio: &tokio::runtime::Runtime) -> Options {
    let handle = tokio.handle().clone();
    Options::default().polls_inside(move |poll| {
        let _inside = handle.enter();
        poll();
    })
}

fn tokio() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// Asks a server on this machine, after a tokio timer, by a tokio socket.
fn asks(address: std::net::SocketAddr) -> Do {
    Do::new(move |_, cx| {
        let me = cx.async_handle();
        async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.write_all(&[20]).await?;
            let mut answer = [0];
            stream.read_exact(&mut answer).await?;
            let n = u32::from(answer[0]);
            me.update(move |me, _| me.note(format!("got {n}"))).await?;
            Ok(n)
        }
    })
}

#[test]
fn timers_and_sockets_of_tokio_work_in_handlers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    if let Err(error) = std::net::TcpStream::connect(address) {
        println!("skipped: no loopback: {error}");
        return;
    }
    // What was just tried.
    drop(listener.accept().unwrap());
    let server = std::thread::spawn(move || {
        for _ in 0..6 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&[asked[0] + 1]).unwrap();
        }
    });
    let tokio = tokio();
    let node = Node::with_options(inside(&tokio));
    let pool = node.pool("pool", 2).unwrap();
    let places = [
        node.spawn_thread("own", Worker::default()).unwrap(),
        node.driver("d")
            .unwrap()
            .spawn("shared", Worker::default())
            .unwrap(),
        pool.spawn("pooled", Worker::default()).unwrap(),
    ];
    for worker in &places {
        for _ in 0..2 {
            assert_eq!(worker.call(asks(address)).limit(LONG).wait().unwrap(), 21);
        }
        assert_eq!(worker.call(Log).wait().unwrap(), ["got 21"; 2]);
    }
    server.join().unwrap();
}

/// Dropped inside, too: a timer that is under way looks for its runtime once more.
#[test]
fn a_processor_may_end_while_its_future_waits_for_a_timer_of_tokio() {
    let tokio = tokio();
    let node = Node::with_options(inside(&tokio));
    let worker = node.spawn_thread("worker", Worker::default()).unwrap();
    let (gate, drops) = (Gate::default(), Drops::default());
    let (at_gate, guard) = (gate.clone(), drops.guard());
    let mut call = worker.call(Do::new(move |_, _| async move {
        let _guard = guard;
        let timer = tokio::time::sleep(Duration::from_secs(3600));
        tokio::select! {
            () = timer => Ok(1),
            () = at_gate.passed() => Ok(2),
        }
    }));
    call.begin();
    gate.wait_for_waiting(1);
    worker.stop();
    assert!(matches!(call.wait(), Err(CallError::Stopped(_))));
    worker.ended().wait().unwrap();
    assert_eq!(drops.count(), 1);
}

/// Without the option there is no runtime, and tokio says so by a panic, which the caller is told.
#[test]
fn without_the_option_there_is_no_tokio_around_a_future() {
    let tokio = tokio();
    let _inside = tokio.enter();
    let node = Node::with_options(Options::default());
    let worker = node.spawn_thread("worker", Worker::default()).unwrap();
    let call = worker.call(Do::new(|_, _| async {
        match std::panic::catch_unwind(|| tokio::time::sleep(Duration::ZERO)) {
            Ok(_) => Ok(0),
            Err(_) => Ok(1),
        }
    }));
    assert_eq!(call.wait().unwrap(), 1);
}
