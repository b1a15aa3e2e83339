//! What is known of nodes as a whole: of this one, and of the others of its domain.
//!
//! A *survey* ([`Graph::survey`](crate::Graph::survey)) asks every other node of the domain for a *report*: who it is, and its
//! [`Snapshot`]. Who answers, and how, stands in `processes/surveying.rs` and `processes/inspector.rs`; this folder has what is
//! asked and answered, and knows of no connection.

mod ask;
mod options;
mod patterns;
mod report;
mod snapshot;
mod survey;

pub(crate) use ask::{Ask, Asking};
pub use options::SurveyOptions;
pub(crate) use options::WATCH_MAX;
pub use patterns::{ConnectionSnapshot, PatternSnapshot};
pub use report::{NodeInfo, NodeReport, SilentNode, Survey};
pub(crate) use report::{REPORT_BYTES_MAX, check_bytes, decode, encode};
pub use snapshot::{SendsSnapshot, Snapshot};

/// 16 bytes as 32 hexadecimal digits: how nodes are named in snapshots and reports.
pub(crate) fn hex(id: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}
