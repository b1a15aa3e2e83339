//! The cells of one driver that are ready, in order. It belongs to the driver's thread, so it needs no lock.
//!
//! A cell that has run once has a *seat* here: a place that keeps a reference to it. What is queued then is the seat's
//! number, so that a message between two processors of one driver moves no reference count.
//!
//! | the cell                         | its reference is              | what the queue holds, if it is ready |
//! |----------------------------------|-------------------------------|--------------------------------------|
//! | has not run yet, or found no seat | in the queue                 | the reference                        |
//! | has a seat                       | in its seat                   | the seat's number, and the cell's id |
//! | has a seat, readied by another thread | in its seat, and in the queue | the reference                   |
//! | is running                       | with the driver               | nothing, or (released) the number    |
//! | has ended                        | nowhere                       | perhaps a number that leads nowhere  |

use crate::cell::{After, CellRef};
use crate::id::ProcessorId;
use std::collections::VecDeque;

/// There are no more seats than this: of a great many cells few are hot.
const SEATS_MAX: usize = 1024;
/// A queue with room for more than this is freed when it is empty.
const QUEUE_KEPT: usize = 1024;

/// See the module's documentation.
pub(crate) struct ReadyCells {
    queue: VecDeque<Entry>,
    seats: Vec<Option<CellRef>>,
    free: Vec<u32>,
}

enum Entry {
    Cell(CellRef),
    /// Of the cell with this id. A seat is used again after its cell has ended.
    Seat(u32, ProcessorId),
}

impl ReadyCells {
    pub(crate) const fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            seats: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Queues a cell.
    #[inline]
    pub(crate) fn push(&mut self, cell: CellRef) {
        self.queue.push_back(Entry::Cell(cell));
    }

    /// Queues a cell that has a seat here.
    #[inline]
    pub(crate) fn push_seated(&mut self, seat: u32, id: ProcessorId) {
        self.queue.push_back(Entry::Seat(seat, id));
    }

    /// Takes the first.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<CellRef> {
        loop {
            let Some(entry) = self.queue.pop_front() else {
                if self.queue.capacity() > QUEUE_KEPT {
                    // A burst is over.
                    self.queue = VecDeque::new();
                }
                return None;
            };
            if let Some(cell) = self.cell_of(entry) {
                return Some(cell);
            }
        }
    }

    /// Takes one out of turn, which `choose` picks from all.
    pub(crate) fn take(
        &mut self,
        choose: impl FnOnce(&mut dyn ExactSizeIterator<Item = &CellRef>) -> Option<usize>,
    ) -> Option<CellRef> {
        let seats = &self.seats;
        self.queue
            .retain(|entry| matches!(entry, Entry::Cell(_)) || seated(seats, entry).is_some());
        let mut cells = self.queue.iter().map(|entry| match entry {
            Entry::Cell(cell) => cell,
            Entry::Seat(..) => match seated(seats, entry) {
                Some(cell) => cell,
                None => unreachable!("those that lead nowhere have just been left out"),
            },
        });
        let index = choose(&mut cells)?;
        let entry = self.queue.remove(index)?;
        self.cell_of(entry)
    }

    #[inline]
    fn cell_of(&mut self, entry: Entry) -> Option<CellRef> {
        match entry {
            Entry::Cell(cell) => Some(cell),
            Entry::Seat(seat, id) => {
                let place = self.seats.get_mut(seat as usize)?;
                place.take_if(|cell| cell.id() == id)
            }
        }
    }

    /// Takes a cell back that has run. What is returned is to be dropped after the thread's own state is let go of.
    #[inline]
    pub(crate) fn put_back(&mut self, cell: CellRef, after: After) -> Option<CellRef> {
        let seat = cell.seat();
        match (after, seat.get()) {
            (After::Ended, None) => Some(cell),
            (After::Ended, Some(number)) => {
                // Whoever readies it from now on finds no seat, and no place in the inbox.
                seat.set(None);
                // Not the last reference: `cell` is another.
                self.seats[number as usize] = None;
                self.free.push(number);
                Some(cell)
            }
            (_, Some(number)) => {
                if after == After::Again {
                    self.push_seated(number, cell.id());
                }
                let place = &mut self.seats[number as usize];
                // Another thread readied it, and its seat was not empty.
                if place.is_some() {
                    Some(cell)
                } else {
                    *place = Some(cell);
                    None
                }
            }
            (_, None) if self.free.is_empty() && self.seats.len() >= SEATS_MAX => {
                if after == After::Again {
                    self.push(cell);
                    return None;
                }
                Some(cell)
            }
            (_, None) => {
                let number = self.free.pop().unwrap_or_else(|| {
                    self.seats.push(None);
                    (self.seats.len() - 1) as u32
                });
                seat.set(Some(number));
                if after == After::Again {
                    self.push_seated(number, cell.id());
                }
                self.seats[number as usize] = Some(cell);
                None
            }
        }
    }

    /// How many are queued, and perhaps some more that have ended.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// True if one of them has something to do; not all of them have. On the driver's own thread, outside of all handlers.
    pub(crate) fn has_work(&self) -> bool {
        let cells = self.queue.iter().filter_map(|e| seated(&self.seats, e));
        cells.into_iter().any(|cell| cell.head().is_some())
    }

    /// Everything that is here, for the end of the driver.
    pub(crate) fn take_all(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }
}

fn seated<'a>(seats: &'a [Option<CellRef>], entry: &'a Entry) -> Option<&'a CellRef> {
    match entry {
        Entry::Cell(cell) => Some(cell),
        Entry::Seat(seat, id) => seats
            .get(*seat as usize)?
            .as_ref()
            .filter(|cell| cell.id() == *id),
    }
}
