//! Closures that another closure takes the place of.

use super::{Where, assert_conserved, simulated};
use mproc::prelude::*;
use mproc::{Behaviour, Fault, behaviour};

enum Ask {
    Open,
    Close,
    Enter(u32),
}

type Door<'a> = Cx<'a, Behaviour<Ask, u32>, u32>;

/// Whoever comes waits until it is open.
fn shut(ask: Ask, cx: &mut Door<'_>) -> Result<u32, Fault> {
    match ask {
        Ask::Open => {
            let mut entered = 0;
            cx.become_(move |ask, cx: &mut Door<'_>| open(&mut entered, ask, cx));
            Ok(cx.unstash_all() as u32)
        }
        Ask::Close => Ok(0),
        enter @ Ask::Enter(_) => cx.stash(enter)?,
    }
}

/// It keeps a state of its own.
fn open(entered: &mut u32, ask: Ask, cx: &mut Door<'_>) -> Result<u32, Fault> {
    match ask {
        Ask::Open => Ok(0),
        Ask::Close => {
            cx.become_(shut);
            Ok(*entered)
        }
        Ask::Enter(n) => {
            assert_ne!(n, 13, "nobody of this number");
            *entered += 1;
            Ok(100 + n)
        }
    }
}

#[test]
fn a_behaviour_becomes_another_and_keeps_what_the_last_one_set_aside() {
    for seed in 0..30 {
        let node = simulated(seed);
        let door = Where::of(seed, &node).spawn("door", behaviour(shut));
        let mut early: Vec<_> = (0..3).map(|n| door.call(Ask::Enter(n))).collect();
        early.iter_mut().for_each(|call| call.begin());
        assert_eq!(door.call(Ask::Open).wait().unwrap(), 3);
        for (call, n) in early.into_iter().zip(100..) {
            assert_eq!(call.wait().unwrap(), n, "seed {seed}");
        }
        assert_eq!(door.call(Ask::Enter(7)).wait().unwrap(), 107);
        assert_eq!(door.call(Ask::Close).wait().unwrap(), 4);
        let mut late = door.call(Ask::Enter(8));
        late.begin();
        assert_eq!(door.call(Ask::Open).wait().unwrap(), 1);
        assert_eq!(late.wait().unwrap(), 108);
        // The state begins anew with each.
        assert_eq!(door.call(Ask::Close).wait().unwrap(), 1);
        assert_conserved(&node, seed);
    }
}

#[test]
fn a_handler_that_panics_becomes_nothing() {
    let node = simulated(1);
    let first = |fails: bool, cx: &mut Cx<'_, Behaviour<bool, &'static str>, &'static str>| {
        cx.become_(|_, _cx| Ok::<_, Fault>("second"));
        assert!(!fails, "as it was told");
        Ok::<_, Fault>("first")
    };
    let changes = node.spawn_thread("changes", behaviour(first)).unwrap();
    assert!(changes.call(true).wait().is_err());
    assert_eq!(changes.call(false).wait().unwrap(), "first");
    assert_eq!(changes.call(true).wait().unwrap(), "second");
}

#[test]
fn what_a_behaviour_keeps_is_dropped_when_another_takes_its_place() {
    let node = simulated(1);
    let alive = std::sync::Arc::new(());
    let kept = alive.clone();
    let first = move |(): (), cx: &mut Cx<'_, Behaviour<(), usize>, usize>| {
        cx.become_(|(), _cx| Ok::<_, Fault>(0));
        Ok::<_, Fault>(std::sync::Arc::strong_count(&kept))
    };
    let changes = node.spawn_thread("changes", behaviour(first)).unwrap();
    assert_eq!(changes.call(()).wait().unwrap(), 2);
    assert_eq!(changes.call(()).wait().unwrap(), 0);
    assert_eq!(std::sync::Arc::strong_count(&alive), 1);
}
