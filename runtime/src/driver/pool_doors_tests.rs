//! What a processor on a pool may keep.

use super::*;
use crate::{
    AfterPanic, CallError, Cx, Error, ErrorKind, Handle, LaneBell, LaneSource, Options, Outcome,
    Runtime,
};
use std::rc::Rc;

struct Pool {
    pool: super::Pool,
    core: Arc<DriverCore>,
    node: Runtime,
}

impl Pool {
    fn new() -> Self {
        let node = Runtime::simulated_with(1, Options::default());
        let pool = node.pool("workers", 2).unwrap();
        let core = pool.core().clone();
        Self { pool, core, node }
    }

    fn spawn<P: Processor + Send>(&self, name: &str, processor: P) -> Address<P> {
        self.pool.spawn(name, processor).unwrap()
    }

    fn run(&self) {
        self.node.settle();
    }
}

/// Does what it is told, and keeps what came of it.
#[derive(Default)]
struct Keeper {
    panics: Vec<String>,
    errors: Vec<Error>,
    ran: u32,
}

type Try = fn(&mut Keeper, &mut Cx<'_, Keeper>);

struct Ran;
struct Report;

impl Processor for Keeper {
    fn on_panic(&mut self, message: &str) -> AfterPanic {
        self.panics.push(message.to_owned());
        AfterPanic::GoOn
    }
}

impl Handle<Try> for Keeper {
    type Reply = ();
    fn handle(&mut self, what: Try, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        what(self, cx);
        Ok(())
    }
}

impl Handle<Ran> for Keeper {
    type Reply = ();
    fn handle(&mut self, _: Ran, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ran += 1;
        Ok(())
    }
}

impl Handle<Report> for Keeper {
    type Reply = Keeper;
    fn handle(&mut self, _: Report, _: &mut Cx<'_, Self, Keeper>) -> Outcome<Keeper> {
        Ok(std::mem::take(self))
    }
}

/// A lane that has one item.
struct One<T>(Option<T>);

impl<T: 'static> LaneSource<Keeper> for One<T> {
    fn serve(&mut self, keeper: &mut Keeper, cx: &mut Cx<'_, Keeper>) -> bool {
        let one = self.0.take();
        if one.is_some() {
            cx.handle_now(keeper, Ran);
        }
        one.is_some()
    }
    fn head(&self) -> Option<u64> {
        None
    }
    fn item_type(&self) -> fn() -> &'static str {
        std::any::type_name::<T>
    }
    fn drain(&mut self) {}
    fn end(&mut self) {}
}

fn told(pool: &Pool, tries: &[Try]) -> Keeper {
    let keeper = pool.spawn("keeper", Keeper::default());
    for what in tries {
        keeper.try_send(*what).unwrap();
    }
    pool.run();
    let mut report = keeper.call(Report);
    report.begin();
    pool.run();
    report.wait().unwrap()
}

#[test]
fn a_pool_refuses_to_keep_what_is_not_send() {
    let pool = Pool::new();
    let keeper = told(
        &pool,
        &[
            |_, cx| {
                cx.every_local(Duration::ZERO, |_| Ran);
            },
            |_, cx| {
                cx.every_with_local(Duration::ZERO, |_, _, _| ());
            },
            |_, cx| {
                cx.after_local(Duration::ZERO, Ran);
            },
            |_, cx| {
                cx.after_with_local(Duration::ZERO, |_, _| ());
            },
            |_, cx| cx.me().call(Report).then_local(cx, |_, _, _| Ok(())),
            |me, cx| {
                let lane = |_: LaneBell| -> Box<dyn LaneSource<Keeper>> { panic!("not asked") };
                me.errors.extend(cx.add_lane_local(lane).err());
            },
        ],
    );
    let text = "processor \"keeper\" goes from thread to thread on pool \"workers\", so it keeps only what is `Send`: use the \
                method without `_local`";
    assert_eq!(keeper.panics, [text; 5]);
    let kinds: Vec<_> = keeper.errors.iter().map(Error::kind).collect();
    assert_eq!(kinds, [ErrorKind::Refused]);
    assert_eq!(keeper.errors[0].to_string(), text);
    assert_eq!(keeper.ran, 0);
}

#[test]
fn a_pool_keeps_what_is_send() {
    let pool = Pool::new();
    let keeper = told(
        &pool,
        &[
            |_, cx| {
                cx.after(Duration::ZERO, Ran);
            },
            |_, cx| {
                cx.after_with(Duration::ZERO, |me, cx| cx.handle_now(me, Ran));
            },
            |_, cx| {
                let never = cx.me().reserve().limit(Duration::ZERO);
                never.then(cx, |me, _, cx| {
                    cx.handle_now(me, Ran);
                    Ok(())
                });
            },
            |_, cx| {
                cx.add_lane(|bell| {
                    bell.ring();
                    Box::new(One(Some(7)))
                });
            },
        ],
    );
    assert_eq!(keeper.panics, Vec::<String>::new());
    assert_eq!(keeper.ran, 4);
}

#[test]
fn on_a_pool_nothing_is_spawned_here() {
    struct NotSend(#[expect(dead_code, reason = "keeps it from being `Send`")] Rc<()>);
    impl Processor for NotSend {}

    let pool = Pool::new();
    let keeper = told(
        &pool,
        &[|me, cx| {
            let refused = cx.spawn_here("beside", NotSend(Rc::default())).unwrap_err();
            assert!(matches!(&refused, SpawnError::OnPool(name, pool)
                if name.as_str() == "beside" && pool.as_str() == "workers"));
            me.errors.push(refused.into());
        }],
    );
    assert_eq!(keeper.panics, Vec::<String>::new());
    assert_eq!(keeper.errors[0].kind(), ErrorKind::Refused);
    assert_eq!(
        keeper.errors[0].to_string(),
        "cannot spawn \"beside\" here: \"workers\" is a pool, and \"here\" is no one thread; spawn it on the pool"
    );
    // The name is free.
    pool.spawn("beside", Keeper::default());
}

/// On a driver of one thread it would be leaked: its state might not be `Send`.
#[test]
fn a_cell_of_a_pool_is_dropped_by_any_thread_in_every_part() {
    #[derive(Default)]
    struct Held(Option<Arc<()>>);
    struct Holder(Arc<()>);
    impl Processor for Holder {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.extensions().get_or_default::<Held>().0 = Some(self.0.clone());
            Ok(())
        }
    }
    let pool = Pool::new();
    let held = Arc::new(());
    let holder = pool.spawn("holder", Holder(held.clone()));
    pool.run();
    assert_eq!(Arc::strong_count(&held), 3);
    // As if its driver had lost it: the address is the last that has it.
    pool.core.disown(&**holder.cell());
    std::thread::scope(|threads| {
        threads.spawn(|| drop(holder));
    });
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn a_call_that_a_pool_refuses_to_keep_is_cancelled() {
    struct Caller(Option<Address<Keeper>>);
    struct Ask;
    impl Processor for Caller {
        fn on_panic(&mut self, _: &str) -> AfterPanic {
            AfterPanic::GoOn
        }
    }
    impl Handle<Ask> for Caller {
        type Reply = ();
        fn handle(&mut self, _: Ask, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            if let Some(keeper) = &self.0 {
                keeper.call(Report).then_local(cx, |_, _, _| Ok(()));
            }
            Ok(())
        }
    }
    let pool = Pool::new();
    let keeper = pool.spawn("keeper", Keeper::default());
    let caller = pool.spawn("caller", Caller(Some(keeper.clone())));
    let mut asked = caller.call(Ask);
    asked.begin();
    pool.run();
    assert!(matches!(asked.wait(), Err(CallError::Panicked(_))));
    assert_eq!(keeper.snapshot().received, 0);
}
