//! Messages between processors: there and back, and as many as possible.

use super::figures::{RoundTrip, histogram};
use crate::failure::{Code, Failure, Outcome};
use hdrhistogram::Histogram;
use mproc::{Address, Cx, Handle, Node, Outcome as Handled, Processor};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// For what happens at once if anything works.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends the ball, and notes how long it was away.
struct Ping {
    pong: Address<Pong>,
    sent: Instant,
    end: Instant,
    sequence: u64,
    times: Histogram<u64>,
    tell: Sender<Result<Histogram<u64>, String>>,
}

struct Pong;

struct Begin;
struct Ball {
    sequence: u64,
    ping: Address<Ping>,
}
struct Back(u64);

impl Processor for Ping {}
impl Processor for Pong {}

impl Ping {
    fn throw(&mut self, ping: Address<Ping>) -> Handled<()> {
        self.sequence += 1;
        self.sent = Instant::now();
        self.pong.send(Ball {
            sequence: self.sequence,
            ping,
        })?;
        Ok(())
    }
}

impl Handle<Begin> for Ping {
    type Reply = ();

    fn handle(&mut self, _: Begin, cx: &mut Cx<'_, Self>) -> Handled<()> {
        let ping = cx.me();
        self.throw(ping)
    }
}

impl Handle<Back> for Ping {
    type Reply = ();

    fn handle(&mut self, Back(sequence): Back, cx: &mut Cx<'_, Self>) -> Handled<()> {
        let now = Instant::now();
        let ns = now.duration_since(self.sent).as_nanos();
        self.times
            .saturating_record(u64::try_from(ns).unwrap_or(u64::MAX));
        let result = if sequence != self.sequence {
            Err(format!(
                "message {sequence} came back, {} was sent",
                self.sequence
            ))
        } else if now >= self.end {
            Ok(std::mem::replace(&mut self.times, histogram()))
        } else {
            let ping = cx.me();
            return self.throw(ping);
        };
        // Whoever asked may have given up.
        let _ = self.tell.send(result);
        Ok(())
    }
}

impl Handle<Ball> for Pong {
    type Reply = ();

    fn handle(&mut self, ball: Ball, _: &mut Cx<'_, Self>) -> Handled<()> {
        ball.ping.send(Back(ball.sequence))?;
        Ok(())
    }
}

/// A message there and one back, between two processors.
pub(crate) fn there_and_back(is_one_driver: bool, time: Duration) -> Outcome<RoundTrip> {
    let node = Node::with_options(mproc::Options::default());
    let (tell, told) = channel();
    let ping = |pong| Ping {
        pong,
        sent: Instant::now(),
        end: Instant::now() + time,
        sequence: 0,
        times: histogram(),
        tell,
    };
    let ping = if is_one_driver {
        let driver = node.driver("both")?;
        let pong = driver.spawn("pong", Pong).map_err(mproc::Error::from)?;
        driver
            .spawn("ping", ping(pong))
            .map_err(mproc::Error::from)?
    } else {
        let pong = node
            .spawn_thread("pong", Pong)
            .map_err(mproc::Error::from)?;
        node.spawn_thread("ping", ping(pong))
            .map_err(mproc::Error::from)?
    };
    ping.send(Begin).map_err(mproc::Error::from)?;
    let times = told
        .recv_timeout(time + LIMIT)
        .map_err(|_| Failure::new(Code::Failed, "a message did not come back"))?;
    let times = times.map_err(|text| Failure::new(Code::Failed, text))?;
    Ok(RoundTrip::of(&times))
}

/// Counts what it gets, and checks that nothing is missing.
#[derive(Default)]
struct Counter {
    count: u64,
    wrong: u64,
}

struct Number(u64);
struct Count;

impl Processor for Counter {}

impl Handle<Number> for Counter {
    type Reply = ();

    fn handle(&mut self, Number(n): Number, _: &mut Cx<'_, Self>) -> Handled<()> {
        self.count += 1;
        self.wrong += u64::from(n != self.count);
        Ok(())
    }
}

impl Handle<Count> for Counter {
    type Reply = (u64, u64);

    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, (u64, u64)>) -> Handled<(u64, u64)> {
        Ok((self.count, self.wrong))
    }
}

/// A call of a processor, from a thread that waits for the reply.
pub(crate) fn call(time: Duration) -> Outcome<RoundTrip> {
    let node = Node::with_options(mproc::Options::default());
    let counter = node
        .spawn_thread("counter", Counter::default())
        .map_err(mproc::Error::from)?;
    let mut times = histogram();
    let end = Instant::now() + time;
    // At least once, however little time the thread is given.
    loop {
        let began = Instant::now();
        let (count, _) = counter.call(Count).wait().map_err(mproc::Error::from)?;
        let ns = began.elapsed().as_nanos();
        times.saturating_record(u64::try_from(ns).unwrap_or(u64::MAX));
        if count != 0 {
            return Err(Failure::new(Code::Failed, "a call has a wrong reply"));
        }
        if Instant::now() >= end {
            break;
        }
    }
    Ok(RoundTrip::of(&times))
}

/// How many messages a second a thread can send to one processor, all of them handled.
pub(crate) fn send(time: Duration) -> Outcome<u64> {
    let node = Node::with_options(mproc::Options::default());
    let counter = node
        .spawn_thread("counter", Counter::default())
        .map_err(mproc::Error::from)?;
    let began = Instant::now();
    let mut sent = 0u64;
    // The clock is asked once for many, and first after some.
    loop {
        for _ in 0..100 {
            sent += 1;
            counter.send(Number(sent)).map_err(mproc::Error::from)?;
        }
        if began.elapsed() >= time {
            break;
        }
    }
    let (count, wrong) = counter.call(Count).wait().map_err(mproc::Error::from)?;
    let seconds = began.elapsed().as_secs_f64();
    if count != sent || wrong != 0 {
        let text = format!("{sent} messages were sent, {count} came, {wrong} of them out of order");
        return Err(Failure::new(Code::Failed, text));
    }
    Ok((sent as f64 / seconds) as u64)
}
