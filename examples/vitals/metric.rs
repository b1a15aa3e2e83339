//! What is measured: each metric with its kind, its unit and its name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a value is a value of. The order is the order of the rows of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Metric {
    Cpu,
    Memory,
    Swap,
    NetReceived { interface: String },
    NetSent { interface: String },
    DiskRead { device: String },
    DiskWritten { device: String },
    DiskBusy { device: String },
    ProcessCpu { pid: u32, comm: String },
    ProcessMemory { pid: u32, comm: String },
    Core { index: u32 },
}

impl Metric {
    pub(crate) fn kind(&self) -> MetricKind {
        match self {
            Self::Cpu => MetricKind::Cpu,
            Self::Memory => MetricKind::Memory,
            Self::Swap => MetricKind::Swap,
            Self::NetReceived { .. } => MetricKind::NetReceived,
            Self::NetSent { .. } => MetricKind::NetSent,
            Self::DiskRead { .. } => MetricKind::DiskRead,
            Self::DiskWritten { .. } => MetricKind::DiskWritten,
            Self::DiskBusy { .. } => MetricKind::DiskBusy,
            Self::ProcessCpu { .. } => MetricKind::ProcessCpu,
            Self::ProcessMemory { .. } => MetricKind::ProcessMemory,
            Self::Core { .. } => MetricKind::Core,
        }
    }

    pub(crate) fn unit(&self) -> Unit {
        match self {
            Self::Cpu
            | Self::Memory
            | Self::Swap
            | Self::DiskBusy { .. }
            | Self::ProcessCpu { .. }
            | Self::Core { .. } => Unit::Percent,
            Self::NetReceived { .. }
            | Self::NetSent { .. }
            | Self::DiskRead { .. }
            | Self::DiskWritten { .. } => Unit::BytesPerSecond,
            Self::ProcessMemory { .. } => Unit::Bytes,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Memory => f.write_str("memory"),
            Self::Swap => f.write_str("swap"),
            Self::NetReceived { interface } => write!(f, "net {interface} received"),
            Self::NetSent { interface } => write!(f, "net {interface} sent"),
            Self::DiskRead { device } => write!(f, "disk {device} read"),
            Self::DiskWritten { device } => write!(f, "disk {device} written"),
            Self::DiskBusy { device } => write!(f, "disk {device} busy"),
            Self::ProcessCpu { pid, comm } => write!(f, "process cpu {comm} ({pid})"),
            Self::ProcessMemory { pid, comm } => write!(f, "process memory {comm} ({pid})"),
            Self::Core { index } => write!(f, "core {index}"),
        }
    }
}

/// All metrics of one sort, whatever the device; thresholds are set for a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum MetricKind {
    Cpu,
    Memory,
    Swap,
    NetReceived,
    NetSent,
    DiskRead,
    DiskWritten,
    DiskBusy,
    ProcessCpu,
    ProcessMemory,
    Core,
}

impl MetricKind {
    /// Every kind, with its name on the command line.
    pub(crate) const NAMES: [(&'static str, Self); 11] = [
        ("cpu", Self::Cpu),
        ("memory", Self::Memory),
        ("swap", Self::Swap),
        ("net-received", Self::NetReceived),
        ("net-sent", Self::NetSent),
        ("disk-read", Self::DiskRead),
        ("disk-written", Self::DiskWritten),
        ("disk-busy", Self::DiskBusy),
        ("process-cpu", Self::ProcessCpu),
        ("process-memory", Self::ProcessMemory),
        ("core", Self::Core),
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Percent,
    Bytes,
    BytesPerSecond,
}
