//! Whatever futures need around them: a runtime's context.

use crate::runtime::Options;
use std::fmt;
use std::sync::Arc;

type Hook = dyn Fn(&mut dyn FnMut()) + Send + Sync;

/// See [`Options::polls_inside`].
#[derive(Clone, Default)]
pub(crate) struct PollsInside(Option<Arc<Hook>>);

impl PollsInside {
    /// Runs `work` inside of what was asked for. `None` if the hook did not run it.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let Some(hook) = &self.0 else {
            return Some(work());
        };
        let (mut work, mut result) = (Some(work), None);
        hook(&mut || {
            if let Some(work) = work.take() {
                result = Some(work());
            }
        });
        result
    }
}

impl fmt::Debug for PollsInside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(..)" } else { "None" })
    }
}

impl Options {
    /// Has every future of the node's processors and drivers polled, and dropped, inside `hook`, which must call what it is
    /// given, once. For futures that look for a runtime around them, as the timers and sockets of tokio do; then `hook` is
    /// `move |poll| { let _inside = handle.enter(); poll() }`, where `handle` is a `tokio::runtime::Handle`.
    ///
    /// A poll that is left out counts as one that found the future waiting. What a handler does before its future is polled is
    /// outside. A panic of `hook` is the future's.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Closure, Cx, Fault, Options, Runtime, closure};
    /// use std::cell::Cell;
    /// thread_local!(static INSIDE: Cell<bool> = const { Cell::new(false) });
    ///
    /// let options = Options::default().polls_inside(|poll| {
    ///     INSIDE.set(true);
    ///     poll();
    ///     INSIDE.set(false);
    /// });
    /// let node = Runtime::simulated_with(1, options);
    /// let asks = node.spawn_thread("asks", closure(|(), cx: &mut Cx<'_, Closure<(), bool>, bool>| {
    ///     assert!(!INSIDE.get());
    ///     cx.reply_async(async { Ok::<_, Fault>(INSIDE.get()) })
    /// }))?;
    /// assert!(asks.call(()).wait()?);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn polls_inside(mut self, hook: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static) -> Self {
        self.polls_inside = PollsInside(Some(Arc::new(hook)));
        self
    }
}
