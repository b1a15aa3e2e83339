//! The bytes of a value that is being published, for the links that need them.
//!
//! They are made once for all links that share an outlet, before any lock is taken: encoding runs the user's code, and memory
//! may have to be waited for.

use crate::codec::{Codec, CodecError, WriteError};
use crate::leases::Outstanding;
use crate::parts;
use crate::sample::Body;
use crate::transport::{Filled, LoanRefusal, OutLoan, Outlet};
use mproc_runtime::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Waker;

/// About how many bytes a value has of which nothing is known.
pub(crate) const FIRST_HINT: usize = 240;

/// A value's bytes, by outlet.
#[derive(Default)]
pub(crate) struct Prepared {
    filled: Vec<(Arc<dyn Outlet>, Arc<dyn Filled>)>,
    /// The value is out as long as a link has this.
    outstanding: Option<Arc<Outstanding>>,
}

/// Why there are no bytes.
pub(crate) enum Unprepared {
    /// Memory is short: some will come back.
    Short,
    /// There never will be: the value cannot be encoded, or is too large.
    Failed(Error),
}

impl Prepared {
    pub(crate) fn of(&self, outlet: &Arc<dyn Outlet>) -> Option<&Arc<dyn Filled>> {
        let mut all = self.filled.iter();
        all.find_map(|(of, filled)| Arc::ptr_eq(of, outlet).then_some(filled))
    }

    pub(crate) fn outstanding(&self) -> Option<&Arc<Outstanding>> {
        self.outstanding.as_ref()
    }

    /// Makes the bytes of `body` for the links of `outlet`, unless that was done. If memory is short, `waker` is woken when
    /// some came back. `hint` is about how many bytes a value has.
    pub(crate) fn fill<T: ?Sized + Send + Sync + 'static>(
        &mut self,
        outlet: &Arc<dyn Outlet>,
        codec: &Codec<T>,
        body: &Arc<dyn Body<T>>,
        hint: &AtomicUsize,
        waker: Option<&Waker>,
    ) -> Result<(), Unprepared> {
        if self.of(outlet).is_some() {
            return Ok(());
        }
        if self.outstanding.is_none() {
            let outstanding = body.header().outstanding.as_ref();
            self.outstanding = outstanding.map(|one| Arc::new(one.again()));
        }
        let filled = match body.filled() {
            Some((of, filled)) if Arc::ptr_eq(of, outlet) => filled.clone(),
            _ => encode(outlet, codec, body, hint, waker)?,
        };
        self.filled.push((outlet.clone(), filled));
        Ok(())
    }
}

fn encode<T: ?Sized + Send + Sync + 'static>(
    outlet: &Arc<dyn Outlet>,
    codec: &Codec<T>,
    body: &Arc<dyn Body<T>>,
    hint: &AtomicUsize,
    waker: Option<&Waker>,
) -> Result<Arc<dyn Filled>, Unprepared> {
    if let Some(bytes) = body.wire() {
        // They came as they are to go.
        let mut loan = lend(outlet, bytes.len(), waker)?;
        loan.bytes_mut().copy_from_slice(bytes);
        return Ok(loan.freeze());
    }
    let more = &body.header().parts;
    let added = if more.is_empty() {
        0
    } else {
        parts::added(more)
    };
    let failed = |error: CodecError| Unprepared::Failed(Error::from(error));
    // What is read in place has an exact size; the size of the rest is known when it is written.
    let guess = match codec.in_place() {
        Some(_) => codec.measure(body.value()).map_err(failed)?,
        // Relaxed: a guess.
        None => hint.load(Relaxed),
    };
    let mut loan = match lend(outlet, guess + added, waker) {
        // For a guess that was too large there may be no memory although there is for the value.
        Err(refused) if codec.in_place().is_none() => {
            let exact = codec.measure(body.value()).map_err(failed)?;
            if exact >= guess {
                return Err(refused);
            }
            lend(outlet, exact + added, waker)?
        }
        lent => lent?,
    };
    let length = match codec.write(body.value(), loan.bytes_mut()) {
        Ok(length) if length + added <= loan.bytes().len() => {
            // One large value does not make all that follow take as much: the guess comes down in steps.
            let fits = (length + length / 8).max(FIRST_HINT);
            if codec.in_place().is_none() && fits < guess / 2 {
                hint.store(guess - (guess - fits) / 4, Relaxed);
            }
            length
        }
        Ok(_) | Err(WriteError::NoRoom) => {
            drop(loan);
            let exact = codec.measure(body.value()).map_err(failed)?;
            loan = lend(outlet, exact + added, waker)?;
            // A little more, so that the next one, which may be a little larger, fits.
            hint.store(exact + exact / 8, Relaxed);
            match codec.write(body.value(), loan.bytes_mut()) {
                Ok(length) if length + added <= loan.bytes().len() => length,
                Ok(_) | Err(WriteError::NoRoom) => {
                    let text = "a value has another size each time that it is encoded";
                    return Err(Unprepared::Failed(Error::new(ErrorKind::Codec, text)));
                }
                Err(WriteError::Codec(error)) => return Err(failed(error)),
            }
        }
        Err(WriteError::Codec(error)) => return Err(failed(error)),
    };
    let length = if more.is_empty() {
        length
    } else {
        parts::write(length, more, loan.bytes_mut()).unwrap_or(length)
    };
    loan.truncate(length);
    Ok(loan.freeze())
}

fn lend(
    outlet: &Arc<dyn Outlet>,
    bytes: usize,
    waker: Option<&Waker>,
) -> Result<Box<dyn OutLoan>, Unprepared> {
    let lent = match waker {
        Some(waker) => outlet.poll_loan(bytes, waker),
        None => outlet.loan(bytes),
    };
    lent.map_err(|refusal| match refusal {
        LoanRefusal::Short => Unprepared::Short,
        LoanRefusal::Never(error) => Unprepared::Failed(error),
    })
}
