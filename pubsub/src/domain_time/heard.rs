//! Whom a node follows, of those it hears. There are two only for a moment: when two have begun at once, or one has died and
//! the next is heard before that is known.
//!
//! | what is heard                          | whom it follows from then on                                             |
//! |----------------------------------------|--------------------------------------------------------------------------|
//! | a state of whom it follows             | the same                                                                 |
//! | a state of another                     | who began first; the other is remembered                                 |
//! | whom it follows has ended              | the other, if there is one                                               |
//! | the other has ended                    | the same                                                                 |
//! | a publisher is gone, and some are left | the other, if there is one: it did not end, so it is not the one that went |
//! | a publisher is gone, and none is left  | nobody                                                                   |
//!
//! The last row but one may guess wrong: who gives up says that it ends, and that may be heard after its publisher is gone. Then
//! the third row takes it back.

use super::{ClockState, ENDED};
use std::time::Instant;

/// A state, and when it was said.
pub(super) type Said = (ClockState, Instant);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Heard {
    followed: Option<Said>,
    other: Option<Said>,
}

/// What is to be done with the clock.
#[derive(Debug, PartialEq)]
pub(super) enum Act {
    /// It goes as this says.
    Follow(Said),
    /// The one with this number does not drive it any more, and nobody else does.
    End(u64),
}

impl Heard {
    pub(super) fn followed(&self) -> Option<Said> {
        self.followed
    }

    pub(super) fn hear(&mut self, said: Said) -> Option<Act> {
        let has_ended = said.0.state == ENDED;
        let is = |known: &Option<Said>| {
            known
                .as_ref()
                .is_some_and(|(state, _)| state.driver == said.0.driver)
        };
        if is(&self.followed) {
            if has_ended {
                self.followed = self.other.take();
                return Some(self.follow_or_end(said.0.driver));
            }
            self.followed = Some(said);
            return Some(Act::Follow(said));
        }
        if has_ended {
            if is(&self.other) {
                self.other = None;
            }
            return None;
        }
        match self.followed {
            Some((followed, _)) if followed.order() < said.0.order() => {
                self.other = Some(said);
                None
            }
            before => {
                self.other = before
                    .or(self.other)
                    .filter(|other| other.0.driver != said.0.driver);
                self.followed = Some(said);
                Some(Act::Follow(said))
            }
        }
    }

    /// A publisher is gone, and so many are left.
    pub(super) fn publisher_gone(&mut self, left: usize) -> Option<Act> {
        if left == 0 {
            self.other = None;
            return self.followed.take().map(|(gone, _)| Act::End(gone.driver));
        }
        let other = self.other.take()?;
        self.other = self.followed.replace(other);
        Some(Act::Follow(other))
    }

    fn follow_or_end(&self, ended: u64) -> Act {
        match self.followed {
            Some(said) => Act::Follow(said),
            None => Act::End(ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::RUNS;
    use super::*;

    struct Teller(Instant);

    impl Teller {
        fn says(&self, driver: u64, sequence: u64, state: u16) -> Said {
            let said = ClockState {
                time_ns: 0,
                rate: 1.0,
                since_ns: driver * 100,
                driver,
                moves: 0,
                sequence,
                process: 7,
                state,
                begun: 0,
            };
            (said, self.0)
        }
    }

    fn follows(said: Said) -> Option<Act> {
        Some(Act::Follow(said))
    }

    #[test]
    fn who_began_first_is_followed_whoever_is_heard_first() {
        let t = Teller(Instant::now());
        let (first, second) = (t.says(1, 0, RUNS), t.says(2, 0, RUNS));
        let mut heard = Heard::default();
        assert_eq!(heard.hear(first), follows(first));
        assert_eq!(heard.hear(second), None);
        let mut heard = Heard::default();
        assert_eq!(heard.hear(second), follows(second));
        assert_eq!(heard.hear(first), follows(first));
        // The other gives up.
        assert_eq!(heard.hear(t.says(2, 0, ENDED)), None);
        assert_eq!(heard.publisher_gone(1), None);
        let later = t.says(1, 1, RUNS);
        assert_eq!(heard.hear(later), follows(later));
        assert_eq!(heard.hear(t.says(1, 1, ENDED)), Some(Act::End(1)));
        assert_eq!(heard.publisher_gone(0), None);
    }

    #[test]
    fn the_next_is_followed_when_one_has_died_in_whatever_order_that_is_heard() {
        let t = Teller(Instant::now());
        let (dead, next) = (t.says(1, 0, RUNS), t.says(2, 0, RUNS));
        let mut heard = Heard::default();
        heard.hear(dead);
        assert_eq!(heard.hear(next), None);
        assert_eq!(heard.publisher_gone(1), follows(next));
        let mut heard = Heard::default();
        heard.hear(dead);
        assert_eq!(heard.publisher_gone(0), Some(Act::End(1)));
        assert_eq!(heard.hear(next), follows(next));
    }

    #[test]
    fn a_wrong_guess_is_taken_back() {
        let t = Teller(Instant::now());
        let (first, gives_up) = (t.says(1, 0, RUNS), t.says(2, 0, RUNS));
        let mut heard = Heard::default();
        heard.hear(first);
        heard.hear(gives_up);
        assert_eq!(heard.publisher_gone(1), follows(gives_up));
        assert_eq!(heard.hear(t.says(2, 0, ENDED)), follows(first));
    }
}
