//! Memory that this node lends, as the layer above sees it.

use super::outlet::Outlet;
use crate::transport::{self, OutLoan};
use mproc_shm::{Filled, Loan};
use std::any::Any;
use std::sync::Arc;

pub(super) struct LoanInShm {
    loan: Loan,
    outlet: Arc<Outlet>,
}

impl LoanInShm {
    pub(super) fn new(loan: Loan, outlet: Arc<Outlet>) -> Self {
        Self { loan, outlet }
    }
}

impl OutLoan for LoanInShm {
    fn bytes(&self) -> &[u8] {
        self.loan.payload()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let bytes = self.loan.len();
        let buffer = self.loan.buffer();
        // In a forked child there is none.
        let bytes = bytes.min(buffer.len());
        &mut buffer[..bytes]
    }

    fn truncate(&mut self, bytes: usize) {
        if bytes < self.loan.len() {
            self.loan.set_len(bytes);
        }
    }

    fn freeze(self: Box<Self>) -> Arc<dyn transport::Filled> {
        Arc::new(FilledInShm {
            filled: self.loan.freeze(),
            outlet: self.outlet,
        })
    }
}

pub(super) struct FilledInShm {
    filled: Filled,
    outlet: Arc<Outlet>,
}

impl FilledInShm {
    /// What is filled, if it is this outlet's.
    pub(super) fn of(&self, outlet: &Arc<Outlet>) -> Option<&Filled> {
        Arc::ptr_eq(&self.outlet, outlet).then_some(&self.filled)
    }
}

impl transport::Filled for FilledInShm {
    fn bytes(&self) -> &[u8] {
        self.filled.payload()
    }

    fn thaw(self: Arc<Self>) -> Result<Box<dyn OutLoan>, Arc<dyn transport::Filled>> {
        let Self { filled, outlet } =
            Arc::try_unwrap(self).map_err(|shared| -> Arc<dyn transport::Filled> { shared })?;
        match filled.thaw() {
            Ok(loan) => Ok(Box::new(LoanInShm { loan, outlet })),
            Err(filled) => Err(Arc::new(Self { filled, outlet })),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
