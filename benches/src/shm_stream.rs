//! `shm_stream`: what does a message between two processes cost, if there are many?
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *Messages are dropped, which is fast*: publishing waits for room (1024 messages of 64 bytes, 16 of 1 MiB),
//!   and the other process checks number, order and the sum of every payload.
//! - *Publishing is measured, and delivery is not*: the other process measures, from the first message after
//!   the warm-up to the last. What is queued at the beginning is missing at the end alike.
//! - *New memory is measured*: a tenth of the messages, and at least 64, go before the first that counts.
//! - *The payload is not touched*: every word is written, and every word is read. At 1 MiB it is written where it
//!   will be read (`in_place`), or it stands elsewhere and is copied (`copied`). Peers that copy, and so
//!   cannot write in place, are in `copied`.
//! - *A batch of the peer's own making*: each message is handed over by itself, as it comes.
//!
//! `limit` is, for 64 bytes, a bare ring in shared memory, and for 1 MiB the time of copying that much within
//! a process, to memory that is there.

use std::{error::Error, hint::black_box, time::Duration};

use mproc::{Cx, Outcome, Processor, Topic, Topics as _};

use crate::{
    check::{self, END, LIMIT, Report},
    harness::{Answer, Measured, Question, Stopwatch, Workload},
    payload::{self, Fill, Mode, Setting, Writer},
    processes::{Here, Side, There},
    report::{LIMIT as LIMIT_NAME, MPROC},
    shm_ping::{End, node},
};

/// One publisher, one subscriber.
pub const SHM_STREAM: Question = Question {
    name: "shm_stream",
    about: "1 process publishes to 1 process, nothing lost; ns per message",
};

/// Small messages.
pub const SMALL: Setting = Setting {
    bytes: 64,
    fill: Fill::Written,
    mode: Mode::Spinning,
    room: 1024,
};

/// Large messages.
pub const LARGE: Setting = Setting {
    bytes: 1 << 20,
    fill: Fill::Copied,
    mode: Mode::Spinning,
    room: 16,
};

/// Messages of a run of large ones.
pub const LARGE_COUNT: u64 = 400;

/// Makes an answer: `setting` in the given mode and fill.
#[macro_export]
macro_rules! shm_stream_workload {
    ($who:expr, $variant:literal, $n:expr, $setting:path, $mode:path, $fill:path, $run:path) => {
        $crate::harness::Workload {
            question: &$crate::shm_stream::SHM_STREAM,
            who: $who,
            variant: $variant,
            n: $n,
            run: |n| {
                $run(
                    n,
                    $crate::payload::Setting {
                        mode: $mode,
                        fill: $fill,
                        ..$setting
                    },
                )
            },
        }
    };
}

/// Returns the answers of `mproc`, and the limit of large messages.
pub fn workloads() -> Vec<Workload> {
    use Fill::{Copied, Written};
    use Mode::{SpinThenPark, Spinning};
    const N: u64 = LARGE_COUNT;
    vec![
        shm_stream_workload!(
            MPROC,
            "64 B spinning",
            200_000,
            SMALL,
            Spinning,
            Written,
            mproc
        ),
        shm_stream_workload!(
            MPROC,
            "64 B waiting",
            200_000,
            SMALL,
            SpinThenPark,
            Written,
            mproc
        ),
        shm_stream_workload!(
            MPROC,
            "1 MiB copied spinning",
            N,
            LARGE,
            Spinning,
            Copied,
            mproc
        ),
        shm_stream_workload!(
            MPROC,
            "1 MiB copied waiting",
            N,
            LARGE,
            SpinThenPark,
            Copied,
            mproc
        ),
        shm_stream_workload!(
            MPROC,
            "1 MiB in_place spinning",
            N,
            LARGE,
            Spinning,
            Written,
            mproc
        ),
        shm_stream_workload!(
            MPROC,
            "1 MiB in_place waiting",
            N,
            LARGE,
            SpinThenPark,
            Written,
            mproc
        ),
        copying("1 MiB copied spinning"),
        copying("1 MiB copied waiting"),
        copying("1 MiB in_place spinning"),
        copying("1 MiB in_place waiting"),
    ]
}

/// The other sides of `mproc`.
pub fn sides() -> Vec<Side> {
    vec![Side {
        name: MPROC_SIDE,
        run: mproc_there,
    }]
}

const SAMPLES: Topic<[u8]> = Topic::slices("bench/samples");
const MPROC_SIDE: &str = "mproc/stream";

/// A plain thread publishes.
fn mproc(n: u64, setting: Setting) -> Answer {
    let mut there = There::start(MPROC_SIDE, &setting.arguments_with(warm(n)))?;
    let node = node(there.place(), setting.mode)?;
    let publisher = node.publisher(&SAMPLES)?;
    let writer = Writer::new(setting);
    there.say("open")?;
    publisher.wait_for_subscribers(1, LIMIT)?;
    there.expect("ready")?;
    let measured = publish(n, &mut there, |number| {
        let mut loan = publisher.loan(setting.bytes)?;
        writer.write(&mut loan, number);
        loan.publish().map_err(mproc::Error::from)?;
        Ok(())
    })?;
    // Both are done with what they have in common before it is removed.
    drop(node);
    there.end()?;
    Ok(measured)
}

/// The subscriber of `mproc`: a processor on a driver of its own.
struct Subscriber {
    setting: Setting,
    arrivals: Arrivals,
    report: Report<Result<Arrived, String>>,
}

impl Processor for Subscriber {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let setting = self.setting;
        cx.subscribe(&SAMPLES)
            .capacity(setting.room)
            .call(move |me, sample, _| {
                let number = payload::read(setting, &sample);
                match number.and_then(|number| me.arrivals.next(number)) {
                    Ok(None) => {}
                    Ok(Some(arrived)) => me.report.give(Ok(arrived)),
                    Err(error) => me.report.give(Err(error)),
                }
                Ok(())
            })?;
        Ok(())
    }
}

fn mproc_there(here: &mut Here) -> Result<(), Box<dyn Error>> {
    let setting = Setting::of(here)?;
    here.expect("open")?;
    let (report, outcome) = check::report();
    let node = node(here.place(), setting.mode)?;
    let _subscriber = node.spawn_thread(
        "subscriber",
        Subscriber {
            setting,
            arrivals: Arrivals::of(here)?,
            report,
        },
    )?;
    here.say("ready")?;
    outcome.wait()??.tell(here)?;
    here.expect("end")
}

/// Copies within this process: what large messages cannot cost less than, if they are copied.
fn copying(variant: &'static str) -> Workload {
    Workload {
        question: &SHM_STREAM,
        who: LIMIT_NAME,
        variant,
        n: LARGE_COUNT,
        run: |n| {
            let source = vec![1_u8; LARGE.bytes];
            let mut target = vec![0_u8; LARGE.bytes];
            let stopwatch = Stopwatch::start();
            for _ in 0..n {
                black_box(&mut target[..]).copy_from_slice(black_box(&source));
            }
            let measured = stopwatch.stop();
            if target != source {
                return Err("it was not copied".into());
            }
            Ok(measured)
        },
    }
}

/// Messages before the first that counts.
fn warm(n: u64) -> u64 {
    (n / 10).max(64)
}

/// What the other process checks and measures.
#[derive(Debug)]
struct Arrivals {
    due: u64,
    warm: u64,
    stopwatch: Option<Stopwatch>,
}

/// What it saw.
#[derive(Debug)]
struct Arrived {
    count: u64,
    measured: Measured,
}

impl Arrivals {
    fn new(warm: u64) -> Self {
        Self {
            due: 0,
            warm,
            stopwatch: None,
        }
    }

    fn of(here: &Here) -> Result<Self, Box<dyn Error>> {
        Ok(Self::new(here.argument(Setting::ARGUMENTS)?))
    }

    #[inline]
    fn next(&mut self, number: u64) -> Result<Option<Arrived>, String> {
        if number != self.due {
            let stopwatch = self.stopwatch.take().filter(|_| number == END);
            return match stopwatch {
                Some(stopwatch) => Ok(Some(Arrived {
                    count: self.due,
                    measured: stopwatch.stop(),
                })),
                None => Err(format!("{number} came, {} was due", self.due)),
            };
        }
        if number == self.warm {
            self.stopwatch = Some(Stopwatch::start());
        }
        self.due += 1;
        Ok(None)
    }
}

impl Arrived {
    fn tell(&self, here: &Here) -> Result<(), Box<dyn Error>> {
        let Measured { wall, cpu, .. } = self.measured;
        here.say(format_args!(
            "{} {} {}",
            self.count,
            wall.as_nanos(),
            cpu.as_nanos()
        ))?;
        Ok(())
    }
}

/// Publishes what does not count, then `n` messages that do.
fn publish(
    n: u64,
    there: &mut There,
    mut send: impl FnMut(u64) -> Result<(), Box<dyn Error>>,
) -> Answer {
    let warm = warm(n);
    for number in 0..warm {
        send(number)?;
    }
    let stopwatch = Stopwatch::start();
    for number in warm..warm + n {
        send(number)?;
    }
    let here = stopwatch.stop();
    send(END)?;
    let [count, wall_ns, cpu_ns] = there.numbers()?;
    if count != warm + n {
        return Err(format!("{count} messages came of {}", warm + n).into());
    }
    Ok(Measured {
        wall: Duration::from_nanos(wall_ns),
        cpu: here.cpu + Duration::from_nanos(cpu_ns),
        ..Measured::default()
    })
}

/// Publishes from the calling thread to one of the other process, which is the side of that name.
///
/// # Errors
///
/// If a message was lost or came out of order.
pub fn stream<E: End>(side: &str, n: u64, setting: Setting) -> Answer {
    let mut there = There::start(side, &setting.arguments_with(warm(n)))?;
    let mut end = E::create(there.place(), setting)?;
    there.say("open")?;
    there.expect("ready")?;
    end.joined()?;
    let measured = publish(n, &mut there, |number| end.send(number))?;
    drop(end);
    there.end()?;
    Ok(measured)
}

/// The other side of [`stream`].
///
/// # Errors
///
/// If a message was lost or came out of order.
pub fn take<E: End>(here: &mut Here) -> Result<(), Box<dyn Error>> {
    let setting = Setting::of(here)?;
    here.expect("open")?;
    let mut arrivals = Arrivals::of(here)?;
    let mut end = E::join(here.place(), setting)?;
    here.say("ready")?;
    loop {
        if let Some(arrived) = arrivals.next(end.receive()?)? {
            arrived.tell(here)?;
            return here.expect("end");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_counted_and_must_be_in_order() {
        let mut arrivals = Arrivals::new(1);
        for number in 0..3 {
            assert!(arrivals.next(number).unwrap().is_none());
        }
        assert_eq!(arrivals.next(END).unwrap().unwrap().count, 3);
        assert!(Arrivals::new(1).next(1).is_err());
        assert!(Arrivals::new(1).next(END).is_err());
    }
}
