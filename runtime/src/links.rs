//! Links: processors that end together.
//!
//! A link is two watches, one at each end, that end the other processor instead of telling it.

use crate::address::Address;
use crate::cell::{AnyCell as _, Cell, Watcher};
use crate::context::Cx;
use crate::ended::next_watch;
use crate::exit::{Down, Exit};
use crate::processor::Processor;
use std::sync::{Arc, Weak};

/// Which link, to end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkId {
    /// The watch of this processor at the other.
    at_other: u64,
    /// The watch of the other at this processor.
    at_me: u64,
}

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// Links this processor and the other: if one ends otherwise than in order, the other ends as well, with
    /// [`Exit::Linked`], as soon as its handler returns. If the other has ended like that already, this one ends after this
    /// handler.
    ///
    /// [`Exit::Stopped`] is an end in order: then the other goes on, as in Erlang, where an exit with the reason `normal`
    /// does not end those who are linked (reference manual, "Processes", "Links"). [`Exit::Killed`] is not, as there. That
    /// one ends with the other may end a third, and so on.
    ///
    /// A restart by a supervisor is no end, so it ends nobody. What is ended by a link is restarted if its supervisor
    /// restarts it after failures, and its `started` makes its links again: those that an incarnation made end with it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Address, Closure, Cx, Exit, Outcome, Processor, Runtime, closure};
    /// struct Display { camera: Address<Closure<(), ()>> }
    /// impl Processor for Display {
    ///     fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         cx.link(&self.camera);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let camera = node.spawn_thread("camera", closure(|(): (), _cx| ()))?;
    /// let display = node.spawn_thread("display", Display { camera: camera.clone() })?;
    /// node.settle();
    /// camera.kill();
    /// let down = display.ended().wait()?;
    /// assert_eq!(down.exit.to_string(), "ended with \"camera\": killed");
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn link<Q: Processor>(&mut self, other: &Address<Q>) -> LinkId {
        let id = LinkId {
            at_other: next_watch(),
            at_me: next_watch(),
        };
        let (me, they) = (self.cell(), other.cell());
        let incarnation = me.note_watch(they, id.at_other);
        me.note_watch(me, id.at_me);
        me.watch(Watcher {
            number: id.at_me,
            tell: ends(Arc::downgrade(they), None),
        });
        they.watch(Watcher {
            number: id.at_other,
            tell: ends(Arc::downgrade(me), Some(incarnation)),
        });
        id
    }

    /// Ends a link. Nothing happens if it has ended.
    pub fn unlink<Q: Processor>(&mut self, other: &Address<Q>, link: LinkId) {
        let me = self.cell();
        me.forget_watch(link.at_other);
        me.forget_watch(link.at_me);
        other.unwatch(link.at_other);
        me.unwatch(link.at_me);
    }
}

/// What ends `linked` with the processor that it is told of; only if it is still this incarnation, where that is known.
fn ends<P: Processor>(
    linked: Weak<Cell<P>>,
    incarnation: Option<u64>,
) -> Box<dyn FnOnce(Down) + Send> {
    Box::new(move |down| {
        if matches!(down.exit, Exit::Stopped) {
            return;
        }
        let Some(linked) = linked.upgrade() else {
            return;
        };
        if incarnation.is_none_or(|i| linked.is_incarnation(i)) {
            linked.end_with(Exit::Linked {
                name: down.name,
                exit: Arc::new(down.exit),
            });
        }
    })
}
