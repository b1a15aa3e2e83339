//! Order and conservation under many seeds, in virtual time.

use super::*;
use mproc::{Cx, Handle, MailboxOptions, Outcome, Processor, ServeOptions};
use std::sync::Mutex;

/// Calls `count` times, gives some up, and writes down what became of each.
struct Caller {
    number: u32,
    client: Client<(u32, u32), u32>,
    fates: Arc<Mutex<Vec<(u32, u32, Fate)>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Failed,
    TimedOut,
    GivenUp,
}

struct Go(u32);

impl Processor for Caller {}

impl Handle<Go> for Caller {
    type Reply = ();
    fn handle(&mut self, Go(count): Go, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        for n in 0..count {
            let mut call = self.client.call((self.number, n));
            if n % 7 == 3 {
                call.begin();
                drop(call);
                self.note(n, Fate::GivenUp);
                continue;
            }
            let limit = Duration::from_millis(if n % 5 == 1 { 3 } else { 60_000 });
            call.limit(limit).then(cx, move |me, result, _| {
                me.note(
                    n,
                    match result {
                        Ok(reply) => {
                            assert_eq!(reply, n);
                            Fate::Answered
                        }
                        Err(ServiceError::Timeout) => Fate::TimedOut,
                        Err(ServiceError::Failed(_)) => Fate::Failed,
                        Err(other) => panic!("{other:?}"),
                    },
                );
                Ok(())
            });
        }
        Ok(())
    }
}

impl Caller {
    fn note(&self, n: u32, fate: Fate) {
        self.fates.lock().unwrap().push((self.number, n, fate));
    }
}

/// What was handled, in order, and what became of each call.
type Ran = (Vec<(u32, u32)>, Vec<(u32, u32, Fate)>);

fn run(seed: u64) -> Ran {
    let node = Node::simulated_with(seed, Options::default());
    let handled = Arc::new(Mutex::new(Vec::new()));
    let log = handled.clone();
    let two = ServeOptions::new().mailbox(MailboxOptions::bounded(2));
    let world = node.clone();
    let served = node.serve_with("log", two, move |(caller, n): (u32, u32), _| {
        log.lock().unwrap().push((caller, n));
        // Takes virtual time, so that some callers give up meanwhile.
        world.park(Some(world.now() + Duration::from_millis(1)));
        if n % 11 == 5 {
            return Err(mproc::Fault::new("five"));
        }
        Ok(n)
    });
    let _server = served.unwrap();
    let fates = Arc::new(Mutex::new(Vec::new()));
    for number in 0..3 {
        let caller = Caller {
            number,
            client: node.client("log").unwrap(),
            fates: fates.clone(),
        };
        let caller = node
            .spawn_thread(&format!("caller-{number}"), caller)
            .unwrap();
        caller.send(Go(40)).unwrap();
    }
    node.advance(Duration::from_secs(120));
    let counts = snapshot(&node, "log");
    let fates = fates.lock().unwrap().clone();
    let handled = handled.lock().unwrap().clone();
    assert_eq!(fates.len(), 120, "seed {seed}: each call has one fate");
    let of = |fate| fates.iter().filter(|(.., f)| *f == fate).count() as u64;
    assert_eq!(counts.answered, of(Fate::Answered), "seed {seed}");
    assert_eq!(counts.failed, of(Fate::Failed), "seed {seed}");
    assert_eq!(
        counts.calls,
        counts.answered + counts.failed + counts.cancelled,
        "seed {seed}: {counts:?}"
    );
    (handled, fates)
}

#[test]
fn each_call_has_one_fate_and_requests_of_one_caller_keep_their_order() {
    let mut timed_out = 0;
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let (handled, fates) = run(seed);
        for caller in 0..3 {
            let its: Vec<_> = handled.iter().filter(|(c, _)| *c == caller).collect();
            assert!(
                its.is_sorted() && its.windows(2).all(|w| w[0] != w[1]),
                "seed {seed}: {its:?}"
            );
        }
        for (caller, n, fate) in fates {
            let was_handled = handled.contains(&(caller, n));
            match fate {
                Fate::Answered | Fate::Failed => assert!(was_handled, "seed {seed}"),
                Fate::TimedOut => timed_out += 1,
                Fate::GivenUp => {}
            }
        }
        orders.insert(handled);
    }
    assert!(timed_out > 0, "some were given up while they waited");
    assert!(orders.len() > 10, "seeds make different orders");
    assert_eq!(run(7), run(7), "a seed replays");
}
